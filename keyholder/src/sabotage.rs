//! A build in which controls can be switched off: what it says of itself, and where it refuses to run.
//!
//! Only with the feature `sabotage`. Such a process serves this machine alone, from the embedded cluster alone, and says at start what it is.

pub(crate) mod source;

use domain::sabotage::{MARK, Point};
use server::Listen;
use store::{Address, Store, StoreError};

use crate::StartError;

/// Switches off the control of this name for the life of the process.
///
/// # Errors
/// In words, where there is no such control, or another was switched off before.
pub fn choose(name: &str) -> Result<(), String> {
    let known = || Point::ALL.iter().map(|point| point.name()).collect::<Vec<_>>().join(", ");
    let point =
        Point::named(name).ok_or_else(|| format!("`{name}` is no control that can be switched off: {}", known()))?;
    if point.choose() { Ok(()) } else { Err("one control was switched off already".to_owned()) }
}

/// Says what this build is, and refuses to serve another machine or from a database that is not the embedded one.
pub(crate) async fn confine(store: &Store, listen: &[&Listen]) -> Result<(), StartError> {
    let off = Point::chosen().map_or("none", Point::name);
    tracing::warn!(
        build = MARK,
        switched_off = off,
        "this build is for rehearsals: controls can be switched off in it"
    );
    let is_here = |at: &&Listen| match at {
        Listen::Tcp(address) => address.ip().is_loopback(),
        Listen::Unix(_) => true,
    };
    if !listen.iter().all(is_here) {
        return Err(StartError::Gate(vec!["a build with sabotage serves this machine alone".to_owned()]));
    }
    embedded(store::sabotage::is_embedded(store).await)
}

/// Refuses to change a database that is not the embedded one.
pub(crate) async fn confine_owner(owner: &Address) -> Result<(), StartError> {
    embedded(store::sabotage::is_embedded_at(owner).await)
}

fn embedded(found: Result<bool, StoreError>) -> Result<(), StartError> {
    if found.map_err(|error| StartError::Database("the embedded cluster", error))? {
        return Ok(());
    }
    Err(StartError::Gate(vec!["a build with sabotage serves from the embedded cluster alone".to_owned()]))
}
