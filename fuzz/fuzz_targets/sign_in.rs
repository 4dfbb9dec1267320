//! Fuzzes `microsoft::fuzzing::sign_in`, which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| microsoft::fuzzing::sign_in(data));
