//! Jobs: work that must follow a commit, enqueued in the transaction of its cause. The outbox is nothing else: a side effect is
//! a job whose kind names it.

use std::time::Duration;

use domain::id::{Id, JobId, WorkspaceId};
use relation::Action;
use uuid::Uuid;

use crate::{StoreError, Tenant, epoch::interval};

/// A job that this process holds for the length of its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: String,
    /// What it is about.
    pub subject: Uuid,
    /// How often it was claimed, this time included.
    pub attempts: i32,
}

/// What waits of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Backlog {
    /// The kind.
    pub kind: String,
    /// How many are due and unclaimed.
    pub due: i64,
    /// How many have been claimed so often that somebody should look.
    pub failing: i64,
    /// For how many seconds the oldest of those that are due has been so.
    pub oldest_s: f64,
}

/// Enqueues a job, to run no sooner than so long from now by the database's clock: whoever claims it asks that one, too.
///
/// # Errors
/// `Unavailable`.
pub async fn enqueue<A: Action>(
    tenant: &mut Tenant<A>,
    id: JobId,
    kind: &str,
    subject: impl Id,
    after: Duration,
) -> Result<(), StoreError> {
    let after = interval(after)?;
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "insert into jobs (workspace_id, id, kind, subject, run_at) values ($1, $2, $3, $4, clock_timestamp() + $5::interval)",
        workspace,
        id.uuid(),
        kind,
        subject.uuid(),
        after,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Lets the jobs of a kind about a subject be due so long from now, where they would rest for longer: what they waited for has come. What is
/// due within the three minutes of a claim may be running, and is left.
///
/// # Errors
/// `Unavailable`.
pub async fn hurry<A: Action>(
    tenant: &mut Tenant<A>,
    kind: &str,
    subject: impl Id,
    after: Duration,
) -> Result<(), StoreError> {
    let after = interval(after)?;
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "update jobs set run_at = least(run_at, clock_timestamp() + $4::interval) \
         where workspace_id = $1 and kind = $2 and subject = $3 and run_at > clock_timestamp() + interval '3 minutes'",
        workspace,
        kind,
        subject.uuid(),
        after,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Removes the jobs of a kind about a subject: they are done.
///
/// # Errors
/// `Unavailable`.
pub async fn done<A: Action>(tenant: &mut Tenant<A>, kind: &str, subject: impl Id) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "delete from jobs where workspace_id = $1 and kind = $2 and subject = $3",
        workspace,
        kind,
        subject.uuid()
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}
