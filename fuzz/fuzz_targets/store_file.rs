//! cargo-fuzz's entrance to [`keyholder_fuzz::store_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keyholder_fuzz::store_file::run(bytes));
