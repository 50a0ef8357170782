//! See `hostile::oauth`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::oauth(bytes));
