//! See `hostile::proof`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::proof(bytes));
