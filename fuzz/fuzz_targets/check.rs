//! cargo-fuzz's entrance to [`keyholder_fuzz::check`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keyholder_fuzz::check::run(bytes));
