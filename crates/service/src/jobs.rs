//! Jobs: work that must happen though nobody waits for it, such as a disconnection that was interrupted.
//!
//! A few run at a time, so that a platform that hangs holds up one of them and not the others. A job that fails is tried again, ever more
//! rarely, until it is done: it is never dropped.

use std::{sync::Arc, time::Duration};

use domain::id::{ConnectionId, Id, KillDrillId, RelationStoreId};
use relation::{
    Action,
    action::{Disconnect, FinishDisconnect, OpenForKillDrill, PurgeStore, RevokeRetired, StopConnections},
};
use store::job::Claimed;

use crate::{App, Refusal, connection, fga, gauge::count, kill_drill, retired};

/// The kind of a job that finishes a disconnection.
pub(crate) const DISCONNECT: &str = "disconnect";
/// The kind of a job that takes apart a connection whose code nobody redeemed.
pub(crate) const ABANDON: &str = "abandon";
/// The kind of a job that stops acts on a workspace's connections, because two persons said so.
pub(crate) const KILL_DRILL: &str = "kill_drill";
/// The kind of a job that gives back what a renewed consent replaced.
pub(crate) const REVOKE_RETIRED: &str = "revoke_retired";

/// A kind of job with its guard: what the cause that it acts as is permitted, on the object that the job names and on no other.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The kind's name.
    pub name: &'static str,
    /// The permissions that its cause lists.
    pub permissions: &'static [&'static str],
}

/// The kinds that a node does. What is not among them is nobody's work.
pub const KINDS: [Kind; 5] = [
    Kind { name: DISCONNECT, permissions: &[OpenForKillDrill::NAME, RevokeRetired::NAME, FinishDisconnect::NAME] },
    Kind {
        name: ABANDON,
        permissions: &[Disconnect::NAME, OpenForKillDrill::NAME, RevokeRetired::NAME, FinishDisconnect::NAME],
    },
    Kind { name: KILL_DRILL, permissions: &[StopConnections::NAME] },
    Kind { name: REVOKE_RETIRED, permissions: &[RevokeRetired::NAME] },
    Kind { name: fga::PURGE, permissions: &[PurgeStore::NAME] },
];

/// How many run at a time on one node.
const WORKERS: usize = 4;
const EVERY: Duration = Duration::from_secs(1);
/// For how long a claimed job is nobody else's.
const LEASE: Duration = Duration::from_mins(3);
/// How long a job may take: it is broken off before somebody else could claim it. Two calls of a platform at its slowest fit in.
const LONGEST: Duration = Duration::from_secs(150);
/// How long a job rests after its first failure. Each further failure doubles it.
const REST: Duration = Duration::from_secs(10);
/// The longest that a job rests.
const LONGEST_REST: Duration = Duration::from_hours(1);
/// After so many failures somebody should look.
const OFTEN: i32 = 5;

/// Starts the workers, and what watches them.
pub(crate) fn start(app: &Arc<App>) {
    for _ in 0..WORKERS {
        app.tasks.background(work(Arc::clone(app)));
    }
    app.tasks.background(watch(Arc::clone(app)));
}

async fn work(app: Arc<App>) {
    let kinds = KINDS.map(|kind| kind.name.to_owned());
    loop {
        match app.store.lookup.claim_jobs(&kinds, LEASE, 1).await {
            Ok(claimed) if !claimed.is_empty() => {
                for job in claimed {
                    run(&app, &job).await;
                }
            }
            Ok(_) => tokio::time::sleep(EVERY).await,
            Err(error) => {
                tracing::debug!(%error, "no job could be claimed");
                tokio::time::sleep(EVERY).await;
            }
        }
    }
}

/// Does one job. What fails rests; should the node die meanwhile, the lease ends by itself.
async fn run(app: &App, job: &Claimed) {
    let error = match tokio::time::timeout(LONGEST, run_one(app, job)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => Refusal::Unavailable(None),
    };
    let Claimed { job: id, kind, attempts, .. } = job;
    let rest = rest(*attempts);
    metrics::counter!("keyholder_job_failures_total", "kind" => kind.clone()).increment(1);
    if *attempts >= OFTEN {
        tracing::error!(job = %id, kind, attempts, rest_s = rest.as_secs(), %error, "a job keeps failing");
    } else {
        tracing::warn!(job = %id, kind, attempts, rest_s = rest.as_secs(), %error, "a job failed and will be tried again");
    }
    if let Err(error) = app.store.lookup.postpone_job(job, rest).await {
        tracing::debug!(job = %id, %error, "a job rests until its lease ends");
    }
}

async fn run_one(app: &App, job: &Claimed) -> Result<(), Refusal> {
    let id = ConnectionId::from_uuid(job.subject);
    match job.kind.as_str() {
        DISCONNECT => connection::finish(app, job.workspace, id, None).await.map(drop),
        ABANDON => connection::abandon(app, job.workspace, id).await,
        REVOKE_RETIRED => retired::revoke(app, job.workspace, id).await,
        fga::PURGE => fga::purge(app, job.workspace, RelationStoreId::from_uuid(job.subject)).await,
        KILL_DRILL => kill_drill::stop(app, job.workspace, KillDrillId::from_uuid(job.subject)).await,
        _ => Ok(()),
    }
}

/// How long a job rests that was claimed so often.
fn rest(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    (REST * 2_u32.pow(doublings)).min(LONGEST_REST)
}

/// What waits, as metrics.
async fn watch(app: Arc<App>) {
    loop {
        match app.store.lookup.job_backlog(OFTEN).await {
            Ok(backlog) => {
                for Kind { name: kind, .. } in KINDS {
                    let of = backlog.iter().find(|waiting| waiting.kind == kind);
                    let (due, failing) = of.map_or((0, 0), |waiting| (waiting.due, waiting.failing));
                    metrics::gauge!("keyholder_jobs_due", "kind" => kind).set(count(due));
                    metrics::gauge!("keyholder_jobs_failing", "kind" => kind).set(count(failing));
                    let oldest = of.map_or(0.0, |waiting| waiting.oldest_s);
                    metrics::gauge!("keyholder_oldest_due_job_seconds", "kind" => kind).set(oldest);
                }
            }
            Err(error) => tracing::debug!(%error, "it cannot be told which jobs wait"),
        }
        tokio::time::sleep(EVERY * 10).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_rests_ever_longer_and_an_hour_at_most() {
        let seconds: Vec<_> = [0, 1, 2, 3, 8, 9, 10, i32::MAX].map(|attempts| rest(attempts).as_secs()).into();
        assert_eq!(seconds, [10, 10, 20, 40, 1280, 2560, 3600, 3600]);
    }
}
