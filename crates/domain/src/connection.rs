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

/// Why only the owner can mend a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconnectReason {
    /// A refresh was interrupted after it may have reached the provider, whose rule forbids to repeat it.
    Interrupted,
    /// The provider said that the grant is spent, revoked or expired.
    Refused,
    /// The provider answered a refresh with something that holds no token, and has spent the old one.
    UnreadableAnswer,
    /// The access token has expired, and there is no refresh token.
    Expired,
}

impl ReconnectReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Interrupted, Self::Refused, Self::UnreadableAnswer, Self::Expired];

    /// The word in rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::UnreadableAnswer => "unreadable_answer",
            Self::Expired => "expired",
        }
    }

    /// The reason that a row names.
    pub fn from_row(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// What the owner is told of a connection that waits for him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// Why.
    pub reason: ReconnectReason,
    /// Since when.
    pub since: OffsetDateTime,
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
    /// Why only the owner can mend it, where that is so.
    pub reconnect: Option<Reconnect>,
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
    /// Tried with one harmless read within its life, and refused.
    Dead,
    /// Tried, and still accepted.
    Alive,
    /// The provider gave no usable answer, or there was nothing to try it with, or what it was tried with had expired by itself.
    RefusedToSay,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dead, Self::Alive, Self::RefusedToSay];

    /// The word in certificates and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Alive => "alive",
            Self::RefusedToSay => "refused_to_say",
        }
    }

    /// The verdict that a row names.
    pub fn from_row(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == word)
    }
}

/// The token that the provider was asked to revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presented {
    /// The refresh token: with it goes the grant (RFC 7009 §2.1).
    RefreshToken,
    /// The access token, for want of a refresh token that opens.
    AccessToken,
}

impl Presented {
    /// The word of RFC 7009 §2.1, `token_type_hint`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::AccessToken => "access_token",
        }
    }
}

/// How the provider met the old access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// With its account.
    Accepted,
    /// With 401.
    Refused,
    /// With nothing that says either, or not at all.
    Unclear,
}

/// What a disconnection saw at the provider. A certificate claims this and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What the provider was asked to revoke; nothing, where nothing could be shown to it.
    pub presented: Option<Presented>,
    /// Whether it acknowledged that.
    pub acknowledged: bool,
    /// Whether the grant has a refresh token, which opens or not.
    pub has_refresh_token: bool,
    /// How it met the old access token afterwards.
    pub met: Met,
    /// Whether that token was within its declared life when it was tried: a refusal of one that had expired shows nothing.
    pub within_life: bool,
}

impl Finding {
    /// Nothing could be shown to the provider.
    pub const NOTHING: Self =
        Self { presented: None, acknowledged: false, has_refresh_token: true, met: Met::Unclear, within_life: false };

    /// What the old access token could still do.
    pub fn old_token(&self) -> Verdict {
        match self.met {
            Met::Accepted => Verdict::Alive,
            Met::Refused if self.within_life => Verdict::Dead,
            Met::Refused | Met::Unclear => Verdict::RefusedToSay,
        }
    }

    /// Whether the grant may have outlived the deletion. It has not, where the provider acknowledged to have revoked the token that
    /// carries the grant, and does not take the old access token any more.
    pub fn grant_may_live(&self) -> bool {
        let carrier = match self.presented {
            Some(Presented::RefreshToken) => true,
            Some(Presented::AccessToken) => !self.has_refresh_token,
            None => false,
        };
        !(self.acknowledged && carrier) || self.met == Met::Accepted
    }
}

/// What became of the provider's side of a disconnection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The connection.
    pub connection: ConnectionId,
    /// Whether the provider acknowledged the revocation.
    pub revoked_at_provider: bool,
    /// Which token it was asked to revoke.
    #[serde(default)]
    pub presented: Option<Presented>,
    /// What the old access token could still do.
    pub old_token: Verdict,
    /// Whether the old access token was tried within its declared life.
    #[serde(default)]
    pub tried_within_life: bool,
    /// Whether the grant may live on at the provider, where nobody here can end it any more.
    #[serde(default = "unknown_is_yes")]
    pub grant_may_live: bool,
    /// When the credential was deleted here.
    #[serde(with = "time::serde::rfc3339")]
    pub deleted_at: OffsetDateTime,
}

fn unknown_is_yes() -> bool {
    true
}

impl Certificate {
    /// The certificate of what was found.
    pub fn of(connection: ConnectionId, finding: &Finding, deleted_at: OffsetDateTime) -> Self {
        Self {
            connection,
            revoked_at_provider: finding.acknowledged,
            presented: finding.presented,
            old_token: finding.old_token(),
            tried_within_life: finding.met != Met::Unclear && finding.within_life,
            grant_may_live: finding.grant_may_live(),
            deleted_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_claims_no_more_than_was_shown() {
        use Met::{Accepted, Refused, Unclear};
        use Presented::{AccessToken, RefreshToken};
        let table = [
            // presented, acknowledged, has a refresh token, met, within its life → verdict, may live
            (Some(RefreshToken), true, true, Refused, true, Verdict::Dead, false),
            (Some(RefreshToken), true, true, Refused, false, Verdict::RefusedToSay, false),
            (Some(RefreshToken), true, true, Accepted, true, Verdict::Alive, true),
            (Some(RefreshToken), true, true, Accepted, false, Verdict::Alive, true),
            (Some(RefreshToken), true, true, Unclear, true, Verdict::RefusedToSay, false),
            (Some(RefreshToken), false, true, Refused, true, Verdict::Dead, true),
            (Some(RefreshToken), false, true, Unclear, true, Verdict::RefusedToSay, true),
            // The access token is dead; the refresh token, which did not open, is not.
            (Some(AccessToken), true, true, Refused, true, Verdict::Dead, true),
            (Some(AccessToken), true, false, Refused, true, Verdict::Dead, false),
            (None, false, true, Unclear, true, Verdict::RefusedToSay, true),
        ];
        for (presented, acknowledged, has_refresh_token, met, within_life, verdict, may_live) in table {
            let finding = Finding { presented, acknowledged, has_refresh_token, met, within_life };
            assert_eq!((finding.old_token(), finding.grant_may_live()), (verdict, may_live), "{finding:?}");
        }
        assert!(Finding::NOTHING.grant_may_live());
    }

    #[test]
    fn a_verdict_is_written_and_read_as_one_word() {
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_row(verdict.as_str()), Some(verdict));
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.as_str());
        }
    }
}
