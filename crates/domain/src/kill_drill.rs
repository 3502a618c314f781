//! Kill drills: every connection of the installation, or of one provider, is ended because two persons said so.
//!
//! Owns the form of a drill and of its certificate, down to the bytes that its digest is taken over.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    connection::Verdict,
    id::{ConnectionId, KillDrillId, WorkspaceId},
};

/// Where a drill is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// One person has proposed it; another has to approve.
    Proposed,
    /// Nobody approved in time.
    Expired,
    /// Two persons agree, and the work goes on.
    Running,
    /// Done, and certified.
    Ended,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Proposed, Self::Expired, Self::Running, Self::Ended];

    /// The word in rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Expired => "expired",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }

    /// The state that a row names.
    pub fn from_row(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// A drill as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct KillDrill {
    /// Its id.
    pub id: KillDrillId,
    /// The provider whose connections are ended; nothing for all.
    pub provider: Option<String>,
    /// Why, in the words of whoever proposed it.
    pub reason: String,
    /// Where it is in its life.
    pub state: State,
    /// Who proposed it, by name.
    pub proposed_by: String,
    /// When.
    pub proposed_at: OffsetDateTime,
    /// When the proposal dies.
    pub expires_at: OffsetDateTime,
    /// Who approved it, by name.
    pub approved_by: Option<String>,
    /// When.
    pub approved_at: Option<OffsetDateTime>,
    /// From when on no act on any of its connections was admitted any more, at the latest.
    pub acts_stopped_at: Option<OffsetDateTime>,
    /// What became of it.
    pub certificate: Option<Certificate>,
}

/// How many connections a drill has come to, and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All that it stopped.
    pub connections: u64,
    /// Those of which nothing is left here.
    pub ended: u64,
    /// Old tokens that were refused within their life.
    pub dead: u64,
    /// Old tokens that were still accepted.
    pub alive: u64,
    /// Old tokens of which nothing was learned.
    pub refused_to_say: u64,
    /// Revocations that providers acknowledged.
    pub revoked_at_provider: u64,
    /// Grants that may live on at their providers.
    pub grants_may_live: u64,
}

/// What became of a drill as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// How many, and what was found.
    pub counts: Counts,
    /// No act on any of the connections was admitted after this.
    #[serde(with = "time::serde::rfc3339")]
    pub acts_stopped_at: OffsetDateTime,
    /// When the last connection was gone.
    #[serde(with = "time::serde::rfc3339")]
    pub ended_at: OffsetDateTime,
    /// SHA-256 over the canonical lines, in hexadecimal digits: see [`Digest`].
    pub digest: String,
}

/// What a drill found of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose it was.
    pub workspace: WorkspaceId,
    /// The connection.
    pub connection: ConnectionId,
    /// The provider file's name.
    pub provider: String,
    /// What was found, once it is gone.
    pub found: Option<Found>,
}

/// What was found of one connection, as its own certificate has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What the old access token could still do.
    pub old_token: Verdict,
    /// Whether the provider acknowledged the revocation.
    pub revoked_at_provider: bool,
    /// Whether the grant may live on there.
    pub grant_may_live: bool,
    /// When the credential was deleted here.
    pub deleted_at: OffsetDateTime,
}

/// Takes the digest of a drill and of its connections, and counts them.
///
/// The text is lines that end in `\n`, words apart by one space, times as RFC 3339 writes them in UTC. First
/// `kill-drill ID SCOPE PROPOSED_BY PROPOSED_AT APPROVED_BY APPROVED_AT ACTS_STOPPED_AT`, where `SCOPE` is a provider's name or `*`;
/// then for each connection, in the order of their ids,
/// `WORKSPACE CONNECTION PROVIDER OLD_TOKEN revoked|not_revoked ended|may_live DELETED_AT`.
pub struct Digest {
    context: Context,
    counts: Counts,
    last: Option<ConnectionId>,
}

/// What is not of the form that a digest is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The drill was not approved, or acts have not stopped yet.
    #[error("the drill has not come so far")]
    Unfinished,
    /// A connection is not gone yet.
    #[error("a connection is not gone yet")]
    Open,
    /// A connection comes out of its order, or twice.
    #[error("connections come in the order of their ids")]
    Order,
    /// A time has no text.
    #[error("a time cannot be written")]
    Time,
}

impl Digest {
    /// Begins with the drill itself.
    ///
    /// # Errors
    /// `Unfinished`.
    pub fn of(drill: &KillDrill) -> Result<Self, DigestError> {
        let (Some(by), Some(at), Some(stopped)) = (&drill.approved_by, drill.approved_at, drill.acts_stopped_at) else {
            return Err(DigestError::Unfinished);
        };
        let mut digest = Self { context: Context::new(&SHA256), counts: Counts::default(), last: None };
        let scope = drill.provider.as_deref().unwrap_or("*");
        let (proposed, approved, stopped) = (written(drill.proposed_at)?, written(at)?, written(stopped)?);
        digest.say(format_args!(
            "kill-drill {} {scope} {} {proposed} {by} {approved} {stopped}",
            drill.id, drill.proposed_by
        ));
        Ok(digest)
    }

    /// Adds a connection.
    ///
    /// # Errors
    /// `Open`, `Order`.
    pub fn add(&mut self, line: &Line) -> Result<(), DigestError> {
        let Line { workspace, connection, provider, found } = line;
        let Found { old_token, revoked_at_provider, grant_may_live, deleted_at } = found.ok_or(DigestError::Open)?;
        if self.last.is_some_and(|last| last >= *connection) {
            return Err(DigestError::Order);
        }
        self.last = Some(*connection);
        self.counts.connections += 1;
        self.counts.ended += 1;
        match old_token {
            Verdict::Dead => self.counts.dead += 1,
            Verdict::Alive => self.counts.alive += 1,
            Verdict::RefusedToSay => self.counts.refused_to_say += 1,
        }
        self.counts.revoked_at_provider += u64::from(revoked_at_provider);
        self.counts.grants_may_live += u64::from(grant_may_live);
        let (verdict, deleted) = (old_token.as_str(), written(deleted_at)?);
        let revoked = if revoked_at_provider { "revoked" } else { "not_revoked" };
        let grant = if grant_may_live { "may_live" } else { "ended" };
        self.say(format_args!("{workspace} {connection} {provider} {verdict} {revoked} {grant} {deleted}"));
        Ok(())
    }

    fn say(&mut self, words: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        let _infallible = writeln!(line, "{words}");
        self.context.update(line.as_bytes());
    }

    /// How many connections were added, and what was found.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The digest, in hexadecimal digits.
    pub fn finish(self) -> String {
        hex::encode(self.context.finish())
    }
}

fn written(time: OffsetDateTime) -> Result<String, DigestError> {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).map_err(|_| DigestError::Time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;
    use aws_lc_rs::digest;
    use uuid::Uuid;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn drill() -> KillDrill {
        KillDrill {
            id: KillDrillId::from_uuid(Uuid::nil()),
            provider: None,
            reason: "a rehearsal".to_owned(),
            state: State::Running,
            proposed_by: "first".to_owned(),
            proposed_at: at(0),
            expires_at: at(900),
            approved_by: Some("second".to_owned()),
            approved_at: Some(at(60)),
            acts_stopped_at: Some(at(61)),
            certificate: None,
        }
    }

    fn line(number: u128, old_token: Verdict) -> Line {
        let revoked_at_provider = old_token == Verdict::Dead;
        let found = Found { old_token, revoked_at_provider, grant_may_live: !revoked_at_provider, deleted_at: at(70) };
        Line {
            workspace: WorkspaceId::from_uuid(Uuid::nil()),
            connection: ConnectionId::from_uuid(Uuid::from_u128(number)),
            provider: "x".to_owned(),
            found: Some(found),
        }
    }

    #[test]
    fn the_digest_is_that_of_the_documented_text() {
        let mut digest = Digest::of(&drill()).unwrap();
        digest.add(&line(1, Verdict::Dead)).unwrap();
        digest.add(&line(2, Verdict::RefusedToSay)).unwrap();
        let counts = Counts {
            connections: 2,
            ended: 2,
            dead: 1,
            refused_to_say: 1,
            revoked_at_provider: 1,
            grants_may_live: 1,
            alive: 0,
        };
        assert_eq!(digest.counts(), counts);
        let zeros = "0".repeat(26);
        let text = format!(
            "kill-drill kd_{zeros} * first 1970-01-01T00:00:00Z second 1970-01-01T00:01:00Z 1970-01-01T00:01:01Z\n\
             ws_{zeros} con_{}1 x dead revoked ended 1970-01-01T00:01:10Z\n\
             ws_{zeros} con_{}2 x refused_to_say not_revoked may_live 1970-01-01T00:01:10Z\n",
            &zeros[1..],
            &zeros[1..]
        );
        let expected = digest::digest(&digest::SHA256, text.as_bytes());
        assert_eq!(digest.finish(), hex::encode(expected));
    }

    #[test]
    fn what_is_not_finished_or_out_of_order_has_no_digest() {
        let unapproved = KillDrill { approved_by: None, ..drill() };
        assert_eq!(Digest::of(&unapproved).err(), Some(DigestError::Unfinished));
        let acting = KillDrill { acts_stopped_at: None, ..drill() };
        assert_eq!(Digest::of(&acting).err(), Some(DigestError::Unfinished));
        let mut digest = Digest::of(&drill()).unwrap();
        assert_eq!(digest.add(&Line { found: None, ..line(1, Verdict::Dead) }), Err(DigestError::Open));
        digest.add(&line(2, Verdict::Dead)).unwrap();
        for number in [1, 2] {
            assert_eq!(digest.add(&line(number, Verdict::Dead)), Err(DigestError::Order), "{number}");
        }
    }

    #[test]
    fn a_state_is_written_and_read_as_one_word() {
        for state in State::ALL {
            assert_eq!(State::from_row(state.as_str()), Some(state));
        }
    }
}
