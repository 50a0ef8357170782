//! See `hostile::leaf`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::leaf(bytes));
