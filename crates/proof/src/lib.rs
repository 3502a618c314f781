//! Probes: code that attacks a running Keyholder from outside and returns evidence, or the difference.
//!
//! A probe sees Keyholder as an attacker, a caller or an auditor does: over HTTP, by a login of the database, by the files that a process
//! leaves, by the platform's side of the wire, by the source tree. It knows nothing of Keyholder's inside, and contains no
//! sabotage: that one notices a control that is switched off is shown by switching the control off, never the probe.
//!
//! The way of a probe: do the allowed thing and see it succeed, then attack, and count by subject what was tried. [`PROBES`] is the list;
//! [`probe::run`] runs one, so that its panic or its hanging is its own; [`verdict::judge`] makes claims of what came back.

pub mod answered;
pub mod answers;
pub mod belongings;
pub mod caller;
pub mod database;
pub mod document;
pub mod dump;
pub mod entrusted;
pub mod evidence;
pub mod existing;
pub mod ground;
pub mod held;
pub mod impostor;
pub mod owner;
pub mod probe;
mod probes;
pub mod roles;
pub mod routes;
mod rust_text;
pub mod schedule;
pub mod search;
mod secret_scan;
pub mod serving;
pub mod source;
pub mod stock;
pub mod tenancy;
pub mod undoing;
pub mod unsealing;
pub mod verdict;
pub mod wire;

pub use self::{
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, GroundOptions},
    probe::{Mode, Probe, Target},
    probes::PROBES,
    source::SourceTree,
};
