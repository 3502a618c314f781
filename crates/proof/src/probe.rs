//! What a probe is, and how one is run: alone, within a bound, its panic caught.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use domain::blueprint::Blueprint;
use futures_util::{FutureExt, future::BoxFuture};
use serde::Serialize;

use crate::{
    caller::Caller,
    evidence::{Failure, Outcome},
    ground::Ground,
    routes::Table,
    source::SourceTree,
};

/// How long one probe may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// Where a probe may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Against a server that serves customers, in a workspace of its own.
    ProductionSafe,
    /// Against a scratch installation of the same binary, which it may break.
    Rehearsal,
    /// Against the source tree, its history, the lock file, the binary.
    Build,
}

/// What a production-safe probe is given: a server, and a workspace there that is the probe's own.
#[derive(Clone)]
pub struct Target {
    /// An admin of the probe's workspace.
    pub admin: Caller,
    /// Somebody without a credential.
    pub stranger: Caller,
    /// The route table of the program.
    pub table: Table,
    /// The blueprint by which it is judged.
    pub blueprint: Blueprint,
}

/// What is done over HTTP alone, and harms nobody.
pub type Live = for<'t> fn(&'t Target) -> BoxFuture<'t, Outcome>;

/// What is done to a scratch installation.
pub type Rehearsed = for<'g> fn(&'g Ground) -> BoxFuture<'g, Outcome>;

/// What a probe does.
#[derive(Clone, Copy)]
pub enum Attack {
    /// Over HTTP alone.
    Live(Live),
    /// Over HTTP alone; and on a scratch installation, what cannot be tried beside customers.
    Both {
        /// What is tried at any server. It notices by itself where one of the probe's controls is switched off.
        live: Live,
        /// What is tried on a scratch installation, after that.
        rehearsed: Rehearsed,
    },
    /// On a scratch installation.
    Rehearsed(Rehearsed),
    /// On a scratch installation, with the source tree at hand.
    Audited(for<'g> fn(&'g Ground, &'g SourceTree) -> BoxFuture<'g, Outcome>),
    /// On the source tree.
    Built(for<'s> fn(&'s SourceTree) -> BoxFuture<'s, Outcome>),
}

/// One probe.
#[derive(Clone, Copy)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// The points at which its controls can be switched off, each by itself: the first has the probe's own name, and no other probe has one
    /// of them.
    pub points: &'static [&'static str],
    /// What it tries to get, or to do, in words.
    pub tries: &'static str,
    /// What it does.
    pub attack: Attack,
}

impl Probe {
    /// Where the whole of it may be run.
    pub fn mode(&self) -> Mode {
        match self.attack {
            Attack::Live(_) => Mode::ProductionSafe,
            Attack::Both { .. } | Attack::Rehearsed(_) | Attack::Audited(_) => Mode::Rehearsal,
            Attack::Built(_) => Mode::Build,
        }
    }

    /// What of it may be run beside customers.
    pub fn live(&self) -> Option<Live> {
        match self.attack {
            Attack::Live(live) | Attack::Both { live, .. } => Some(live),
            Attack::Rehearsed(_) | Attack::Audited(_) | Attack::Built(_) => None,
        }
    }
}

/// Runs a probe to its end, which a panic or a bound may be.
///
/// # Errors
/// The probe's own; `Unproven` where it panicked or took too long.
pub async fn run(attack: impl Future<Output = Outcome>) -> Outcome {
    let caught = AssertUnwindSafe(tokio::time::timeout(PATIENCE, attack)).catch_unwind().await;
    match caught {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Failure::unproven(format!("it took longer than {} s", PATIENCE.as_secs()))),
        Err(panic) => Err(Failure::unproven(format!("the probe itself failed: {}", words(&*panic)))),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
