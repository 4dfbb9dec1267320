//! Fuzzes `microsoft::fuzzing::retry_after`, which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| microsoft::fuzzing::retry_after(data));
