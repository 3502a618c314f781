//! Keyholder, as a library: what the binary, the tests and the benches start.

#[cfg(feature = "sandbox")]
pub mod caller;
pub mod cli;
pub mod cluster;
pub mod config;
#[cfg(feature = "sandbox")]
pub mod demo;
pub mod home;
pub mod instance;
#[cfg(feature = "sandbox")]
pub mod local;
#[cfg(feature = "sandbox")]
pub mod node;
pub mod telemetry;

pub use instance::{Instance, InstanceOptions, StartError};
