//! See `hostile::directive`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::directive(bytes));
