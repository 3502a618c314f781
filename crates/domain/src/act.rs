//! Acts: what was done on a connection, and what became of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    budget::{Limit, Unit},
    id::{ActId, ConnectionId, MandateId},
};

/// How long an admitted act may wait before its first byte leaves.
pub const SEND_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Where an act is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Durable, its units taken; not yet known to be done.
    Admitted,
    /// The provider answered.
    Settled,
    /// It surely had no effect: said only by the node that owned it. Its units were given back.
    NotSent,
    /// Nobody can say whether it had an effect. Its units stay taken.
    Ambiguous,
}

impl State {
    /// The word in rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Settled => "settled",
            Self::NotSent => "not_sent",
            Self::Ambiguous => "ambiguous",
        }
    }

    /// The state that a row names.
    pub fn from_row(word: &str) -> Option<Self> {
        [Self::Admitted, Self::Settled, Self::NotSent, Self::Ambiguous].into_iter().find(|state| state.as_str() == word)
    }
}

/// A caller's own name for a request, so that a retry is recognised: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("1 to 128 visible ASCII characters")
        }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An act as the ledger shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// The act's id.
    pub id: ActId,
    /// Who acted: a principal's reference.
    pub principal: String,
    /// Under which mandate.
    pub mandate: MandateId,
    /// On which connection.
    pub connection: ConnectionId,
    /// Which action.
    pub action: String,
    /// Where it is.
    pub state: State,
    /// The provider's status, once settled.
    pub status: Option<u16>,
    /// When it was admitted.
    pub admitted_at: OffsetDateTime,
    /// When it was settled, given up, or found ambiguous.
    pub ended_at: Option<OffsetDateTime>,
}

/// A budget that had no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Whom the budget binds: `mandate`, `connection`, `principal`, `workspace`, `installation`.
    pub scope: &'static str,
    /// What it allows.
    pub limit: Limit,
    /// What is left of it in this window.
    pub remaining: u64,
    /// What the act wanted.
    pub wanted: u64,
    /// When its window ends.
    pub resets_at: OffsetDateTime,
}

/// Units that an act takes.
pub type Units = Vec<(Unit, u64)>;
