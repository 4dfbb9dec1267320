//! Fuzzes `microsoft::fuzzing::split_page`, which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| microsoft::fuzzing::split_page(data));
