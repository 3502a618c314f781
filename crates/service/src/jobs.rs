//! Work that must happen though nobody waits for it: disconnections that were interrupted, and the ledger's housekeeping.

use std::{sync::Arc, time::Duration};

use domain::id::{ConnectionId, Id};
use store::job::Claimed;

use crate::{App, Refusal, connection};

/// The kind of a job that finishes a disconnection.
pub(crate) const DISCONNECT: &str = "disconnect";
/// The kind of a job that takes apart a connection whose code nobody redeemed.
pub(crate) const ABANDON: &str = "abandon";

const EVERY: Duration = Duration::from_secs(1);
/// For how long a claimed job is nobody else's.
const LEASE: Duration = Duration::from_mins(1);

/// Does what is due, for as long as the process lives.
pub(crate) async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = round(&app).await {
            tracing::debug!(%error, "a round of jobs was not finished");
        }
    }
}

async fn round(app: &App) -> Result<(), Refusal> {
    let swept = app.store.ledger.sweep().await?;
    if swept > 0 {
        metrics::counter!("keyholder_ambiguous_total").increment(swept as u64);
        tracing::warn!(acts = swept, "acts were not settled in time and are ambiguous");
    }
    app.store.ledger.expire().await?;
    metrics::gauge!("keyholder_snapshot_lease_overdue_ms").set(to_f64(app.store.snapshots.lease_overdue_ms()));
    for job in app.store.lookup.claim_jobs(&[DISCONNECT, ABANDON].map(str::to_owned), LEASE, 10).await? {
        if let Err(error) = run_one(app, &job).await {
            tracing::warn!(job = %job.job, kind = job.kind, attempts = job.attempts, %error, "a job failed and will be tried again");
        }
    }
    Ok(())
}

async fn run_one(app: &App, job: &Claimed) -> Result<(), Refusal> {
    let id = ConnectionId::from_uuid(job.subject);
    match job.kind.as_str() {
        DISCONNECT => connection::finish(app, job.workspace, id, None).await.map(drop),
        ABANDON => connection::abandon(app, job.workspace, id).await,
        _ => Ok(()),
    }
}

/// A gauge's value; past 2^53 its last digits are of no interest.
#[expect(clippy::cast_precision_loss, reason = "a gauge of milliseconds")]
fn to_f64(value: u64) -> f64 {
    value as f64
}
