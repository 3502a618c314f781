//! What can go wrong at the database, as far as a use case needs to tell it apart.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Self::NotFound,
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(error)
            }
            sqlx::Error::Database(cause) if cause.is_unique_violation() || cause.is_foreign_key_violation() => {
                Self::Conflict
            }
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
