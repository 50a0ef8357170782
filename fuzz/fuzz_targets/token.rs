//! See `hostile::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::token(bytes));
