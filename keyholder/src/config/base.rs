//! The base: what holds where nobody says anything. Some of it depends on the environment.

use std::net::{Ipv4Addr, SocketAddr};

use domain::environment::Environment;

use super::Log;
use crate::telemetry::Format;

/// The installation's name, with which its database roles begin.
pub(super) const INSTALLATION: &str = "keyholder";
/// The keyring's file, in the folder of the root key or in the state folder.
pub(super) const KEYRING_FILE: &str = "keyring.json";
/// The most connections of the application's login.
pub(super) const CONNECTIONS: u32 = 16;
/// After how many days a login is overdue for its rotation.
pub(super) const LOGIN_DAYS: u32 = 90;
/// Where to serve.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where to serve metrics.
pub(super) const METRICS_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// What owners are shown on a developer's machine. Elsewhere there is no name that would be true.
pub(super) fn operator(environment: Environment) -> Option<&'static str> {
    (environment == Environment::Local).then_some("Local operator")
}

/// A person reads the log of a developer's machine, a program that of any other.
pub(super) fn log(environment: Option<Environment>) -> Log {
    let format = if environment == Some(Environment::Local) { Format::Pretty } else { Format::Json };
    Log { format, filter: "info".to_owned() }
}
