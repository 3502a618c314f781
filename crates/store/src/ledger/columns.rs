//! Batches as the ledger's functions take them: one array a column.

use std::time::Duration;

use domain::{act::State, id::Id};
use uuid::Uuid;

use super::{Entry, Outcome, Ticket, admission::Purpose};

/// No workspace's epoch: who names it is told what is on record under his key, and is never admitted.
const NO_EPOCH: i64 = -1;

#[derive(Default)]
pub(super) struct Acts {
    pub(super) workspace: Vec<Uuid>,
    pub(super) epoch: Vec<i64>,
    pub(super) revision: Vec<i64>,
    pub(super) installation: Vec<i64>,
    pub(super) principal: Vec<String>,
    pub(super) key: Vec<Option<String>>,
    pub(super) hash: Vec<Vec<u8>>,
    pub(super) id: Vec<Uuid>,
    pub(super) mandate: Vec<Uuid>,
    pub(super) connection: Vec<Uuid>,
    pub(super) action: Vec<String>,
    pub(super) effect: Vec<String>,
    pub(super) patience_ms: Vec<i32>,
    pub(super) unit_act: Vec<i32>,
    pub(super) unit_budget: Vec<Uuid>,
    pub(super) unit_units: Vec<i64>,
}

impl Acts {
    /// `beyond` is added to each act's own time limit before anybody may give it up.
    pub(super) fn of<'a>(entries: impl Iterator<Item = (&'a Entry, Purpose)>, beyond: Duration) -> Self {
        let mut columns = Self::default();
        for (ordinal, (entry, purpose)) in (1..).zip(entries) {
            let (epoch, revision) = entry.permit.at();
            columns.workspace.push(entry.permit.workspace().uuid());
            columns.epoch.push(if purpose == Purpose::Admit { epoch } else { NO_EPOCH });
            columns.revision.push(revision);
            columns.installation.push(entry.permit.installation_revision());
            columns.principal.push(entry.permit.principal().reference());
            columns.key.push(entry.key.as_ref().map(ToString::to_string));
            columns.hash.push(entry.request_hash.to_vec());
            columns.id.push(entry.act.uuid());
            columns.mandate.push(entry.permit.object().uuid());
            columns.connection.push(entry.connection.uuid());
            columns.action.push(entry.action.clone());
            columns.effect.push(entry.effect.to_owned());
            columns.patience_ms.push(i32::try_from((entry.timeout + beyond).as_millis()).unwrap_or(i32::MAX));
            // Who only asks what his key stands for locks no budget.
            for (budget, units) in entry.units.iter().filter(|_| purpose == Purpose::Admit) {
                columns.unit_act.push(ordinal);
                columns.unit_budget.push(budget.uuid());
                columns.unit_units.push(i64::try_from(*units).unwrap_or(i64::MAX));
            }
        }
        columns
    }
}

#[derive(Default)]
pub(super) struct Endings {
    pub(super) workspace: Vec<Uuid>,
    pub(super) id: Vec<Uuid>,
    pub(super) state: Vec<String>,
    pub(super) status: Vec<Option<i16>>,
    pub(super) answer: Vec<Option<Vec<u8>>>,
    pub(super) answer_key: Vec<Option<Uuid>>,
    pub(super) used_act: Vec<i32>,
    pub(super) used_budget: Vec<Uuid>,
    pub(super) used_units: Vec<i64>,
}

impl Endings {
    pub(super) fn of<'a>(endings: impl Iterator<Item = (&'a Ticket, &'a Outcome)>) -> Self {
        let mut columns = Self::default();
        for (ordinal, (ticket, outcome)) in (1..).zip(endings) {
            let (state, status, answer) = match outcome {
                Outcome::Settled { status, answer, used } => {
                    for (budget, units) in used {
                        columns.used_act.push(ordinal);
                        columns.used_budget.push(budget.uuid());
                        columns.used_units.push(i64::try_from(*units).unwrap_or(i64::MAX));
                    }
                    (State::Settled, i16::try_from(*status).ok(), answer.as_ref())
                }
                Outcome::NotSent => (State::NotSent, None, None),
                Outcome::Ambiguous => (State::Ambiguous, None, None),
            };
            columns.workspace.push(ticket.workspace.uuid());
            columns.id.push(ticket.act.uuid());
            columns.state.push(state.as_str().to_owned());
            columns.status.push(status);
            columns.answer.push(answer.map(|(sealed, _)| sealed.clone()));
            columns.answer_key.push(answer.map(|(_, key)| key.uuid()));
        }
        columns
    }
}
