//! What can go wrong at the database, as far as a use case needs to tell it apart.

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use tokio::sync::Notify;

/// Rung when the server turns a login away, for whoever can read its address again.
pub(crate) static LOGIN_REFUSED: Notify = Notify::const_new();

/// A failure of the store. None of these texts is shown to a client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The facts under which the permit was minted have changed, or the permit was carried too long: ask for another.
    #[error("the permit is not of the present revision")]
    Stale,
    /// The row is not there, or not in the state that the change needs.
    #[error("not found")]
    NotFound,
    /// A row with this name or this content is there already.
    #[error("in conflict with what is stored")]
    Conflict,
    /// A kill drill runs, and what it ends may not come into being meanwhile.
    #[error("a kill drill is running")]
    KillDrill,
    /// The workspace is being shredded, and nothing comes into being in it any more.
    #[error("the workspace is being shredded")]
    Shredding,
    /// A data key was wrapped under an epoch that is retired: the keyring at hand is an old one, and is to be read again.
    #[error("the epoch is retired: nothing is wrapped under it any more")]
    RetiredEpoch,
    /// A statement is published again, or after a newer one.
    #[error("a statement of this number or a greater one was published before")]
    OldStatement,
    /// A stored value is not one that this version writes.
    #[error("a stored value cannot be read: {0}")]
    Corrupt(&'static str),
    /// The database cannot be reached, or has no room for another connection.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A statement failed.
    #[error("a statement failed")]
    Database(#[source] sqlx::Error),
    /// More waits for the ledger than it will queue.
    #[error("the ledger's queue is full")]
    Busy,
}

impl StoreError {
    /// Whether the server undid the transaction for the sake of another, so that it may pass at once (40001, 40P01).
    pub fn lost_a_race(&self) -> bool {
        let Self::Database(sqlx::Error::Database(cause)) = self else { return false };
        matches!(cause.code().as_deref(), Some("40001" | "40P01"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Self::NotFound,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(cause) if cause.is_unique_violation() || cause.is_foreign_key_violation() => {
                Self::Conflict
            }
            // 28000 and 28P01: the login or its password is not, or no longer, one that gets in.
            sqlx::Error::Database(cause) if matches!(cause.code().as_deref(), Some("28000" | "28P01")) => {
                LOGIN_REFUSED.notify_waiters();
                Self::Unavailable(error)
            }
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some("KH002") => Self::KillDrill,
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some("KH004") => Self::RetiredEpoch,
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some("KH005") => Self::Shredding,
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some("KH006") => Self::OldStatement,
            // What ends the session is no fault of a statement: the server shuts down, has crashed, or takes no connections.
            sqlx::Error::Database(cause) if ends_the_session(&**cause) => Self::Unavailable(error),
            _ => Self::Database(error),
        }
    }
}

fn ends_the_session(cause: &dyn sqlx::error::DatabaseError) -> bool {
    let severity = cause.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
}
