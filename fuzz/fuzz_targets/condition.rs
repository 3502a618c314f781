//! cargo-fuzz's entrance to [`keyholder_fuzz::condition`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keyholder_fuzz::condition::run(bytes));
