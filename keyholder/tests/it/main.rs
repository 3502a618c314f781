//! The integration tests: one binary, so that one database cluster and one build serve them all.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test builds on fails by panicking, as the test does")]

mod cluster;
