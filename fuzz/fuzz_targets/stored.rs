//! See `hostile::stored`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::stored(bytes));
