//! What a part of a run found not to hold and no run has shown since: silence of later parts is no answer to it.
//!
//! Owns what is remembered of that beside statements. Never remembers what a run of every probe came to: its own statement tells that, and
//! stays at hand until the next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Came, Scope, Statement};
use crate::claim::ClaimId;

/// That a claim was not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What its probe came to.
    pub came: Came,
    /// The number of the statement that says so.
    pub sequence: u64,
}

/// The claims of one program that a part of a run did not show, and no run since, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failures(BTreeMap<ClaimId, Failure>);

impl Failures {
    /// What stays open after a statement of the same program, which is newer than all that these are of. A part that passed answers a part,
    /// and a whole run anything; what a whole run leaves out is openly given up, and what a part leaves out stays as it was.
    #[must_use]
    pub fn after(mut self, statement: &Statement) -> Self {
        for claimed in &statement.claims {
            match (claimed.outcome, statement.scope) {
                (Some(Came::Passed), _) | (None, Scope::Whole) => self.0.retain(|id, _| !claimed.ids.contains(id)),
                (Some(came), Scope::ProductionSafe) => {
                    let failure = Failure { came, sequence: statement.sequence };
                    self.0.extend(claimed.ids.iter().map(|id| (id.clone(), failure)));
                }
                (Some(_), Scope::Whole) | (None, Scope::ProductionSafe) => {}
            }
        }
        self
    }

    /// The one that is open of a claim of these ids.
    pub fn of(&self, ids: &[ClaimId]) -> Option<Failure> {
        ids.iter().find_map(|id| self.0.get(id)).copied()
    }
}
