//! Connections: accounts at a provider that an owner has entrusted to a workspace.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::id::ConnectionId;

/// Where a connection is in its life. No act passes in any state but `Active`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The owner has consented; the back end has not yet redeemed its code.
    Inert,
    /// In use.
    Active,
    /// The provider no longer accepts the credential: only the owner can mend that, by consenting again.
    ReconnectRequired,
    /// Being taken apart: acts have stopped.
    Disconnecting,
    /// Gone. Only the certificate remains.
    Disconnected,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Inert, Self::Active, Self::ReconnectRequired, Self::Disconnecting, Self::Disconnected];

    /// The word in rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inert => "inert",
            Self::Active => "active",
            Self::ReconnectRequired => "reconnect_required",
            Self::Disconnecting => "disconnecting",
            Self::Disconnected => "disconnected",
        }
    }

    /// The state that a row names.
    pub fn from_row(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// A connection as it stands. Its credential is elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// The connection's id.
    pub id: ConnectionId,
    /// The provider file's name.
    pub provider: String,
    /// The account's id at the provider.
    pub account_id: String,
    /// The account's name at the provider, for people.
    pub account_name: String,
    /// Where it is in its life.
    pub state: State,
    /// What the owner allowed: no mandate can hold more.
    pub ceiling: Vec<String>,
    /// The scopes that the provider granted.
    pub scopes: Vec<String>,
    /// When the owner first consented.
    pub created_at: OffsetDateTime,
}

/// What the old access token could still do after the provider was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Tried with one harmless read, and refused.
    Dead,
    /// Tried, and still accepted.
    Alive,
    /// The provider gave no usable answer, or there was nothing to try it with.
    RefusedToSay,
}

/// What became of the provider's side of a disconnection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The connection.
    pub connection: ConnectionId,
    /// Whether the provider acknowledged the revocation.
    pub revoked_at_provider: bool,
    /// What the old access token could still do.
    pub old_token: Verdict,
    /// When the credential was deleted here.
    #[serde(with = "time::serde::rfc3339")]
    pub deleted_at: OffsetDateTime,
}
