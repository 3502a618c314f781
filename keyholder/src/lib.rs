//! Keyholder, as a library: what the binary, the tests and the benches start.

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
pub mod program;
#[cfg(feature = "sandbox")]
pub mod prove;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod telemetry;

#[cfg(feature = "sandbox")]
pub use proof::caller;

pub use instance::{Instance, InstanceOptions, StartError};
