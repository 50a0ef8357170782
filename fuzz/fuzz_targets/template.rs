//! See `hostile::template`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::template(bytes));
