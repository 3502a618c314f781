//! Keyholder, as a library: what the binary, the tests and the benches start.

pub mod cluster;
