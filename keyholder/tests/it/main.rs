//! The integration tests: one binary, so that one database cluster and one build serve them all.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test builds on fails by panicking, as the test does"
)]

mod acts;
mod api;
mod budgets;
mod cluster;
mod connect;
mod demo;
mod disconnect;
mod gate;
mod harness;
mod hostile;
mod isolation;
mod logs;
mod mandates;
mod matrices;
mod node;
mod nodes;
mod proxy;
mod refresh;
mod scrub;
mod sealed;
mod serve;
mod snapshots;
mod sqlx_data;
