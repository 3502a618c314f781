//! cargo-fuzz's entrance to [`keyholder_fuzz::language`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keyholder_fuzz::language::run(bytes));
