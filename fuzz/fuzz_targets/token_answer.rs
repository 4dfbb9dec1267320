//! Fuzzes `microsoft::fuzzing::token_answer`, which says what must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| microsoft::fuzzing::token_answer(data));
