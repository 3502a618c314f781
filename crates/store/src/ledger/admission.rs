//! Admissions: whoever waits at the moment is admitted by one call, and a workspace that is being changed keeps nobody else waiting.
//!
//! Never sends anything, and never leaves a caller without an answer: what may have been committed and was not answered is disowned.

use std::{collections::HashSet, time::Duration};

use domain::{
    act::SEND_WITHIN,
    id::{ActId, BudgetId, Id},
};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{BATCH, Ending, Entry, Inbox, Ledger, Outcome, Ticket, Verdict, code, columns::Acts};
use crate::StoreError;

/// How often a workspace may be busy before its act waits for the lock, on a connection of its own.
const SKIPS: u8 = 3;
/// How long past its call's own time limit an act may be unsettled before anybody may call it ambiguous.
const GRACE: Duration = Duration::from_secs(10);

/// What the ledger is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To admit the act.
    Admit,
    /// To say what is on record under its key.
    Recall,
}

/// An act that waits to be admitted.
pub(super) struct Waiting {
    entry: Entry,
    purpose: Purpose,
    since: Duration,
    skips: u8,
    /// Whether it has lost a race, alone, before.
    lost: bool,
    answer: oneshot::Sender<Result<Verdict, StoreError>>,
}

enum Answer {
    Said(Result<Verdict, StoreError>),
    Busy,
}

impl Waiting {
    pub(super) fn new(
        entry: Entry,
        purpose: Purpose,
        since: Duration,
        answer: oneshot::Sender<Result<Verdict, StoreError>>,
    ) -> Self {
        Self { entry, purpose, since, skips: 0, lost: false, answer }
    }
}

impl Ledger {
    /// Admits whoever comes; who was skipped too often is handed over to [`Ledger::admit_patiently`].
    pub(super) async fn admit_batches(&self, mut inbox: Inbox<Waiting>, patience: mpsc::Sender<Waiting>) {
        let mut held: Vec<Waiting> = Vec::new();
        loop {
            if held.is_empty() && inbox.next(&mut held).await == 0 {
                return;
            }
            while held.len() < BATCH
                && let Ok(next) = inbox.queue.try_recv()
            {
                held.push(next);
            }
            let (batch, later) = fold(std::mem::take(&mut held));
            held = later;
            for mut waiting in self.admit_batch(batch, false).await {
                metrics::counter!("keyholder_ledger_skips_total").increment(1);
                waiting.skips = waiting.skips.saturating_add(1);
                if waiting.skips < SKIPS {
                    held.push(waiting);
                } else if let Err(refused) = patience.try_send(waiting) {
                    drop(refused.into_inner().answer.send(Err(StoreError::Busy)));
                }
            }
        }
    }

    /// Admits those whose workspace was busy too often: they wait for its lock, a workspace at a time, on a connection beside the others'.
    pub(super) async fn admit_patiently(&self, mut queue: mpsc::Receiver<Waiting>) {
        let mut held: Vec<Waiting> = Vec::new();
        loop {
            if held.is_empty() && queue.recv_many(&mut held, BATCH).await == 0 {
                return;
            }
            while held.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                held.push(next);
            }
            let Some(first) = held.first().map(|waiting| waiting.entry.permit.workspace()) else { continue };
            let (now, others): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|waiting| waiting.entry.permit.workspace() == first);
            let (batch, later) = fold(now);
            // Behind the others: one workspace that is held for long must not keep them.
            held = others.into_iter().chain(later).collect();
            held.extend(self.admit_batch(batch, true).await);
        }
    }

    /// Admits a batch, and answers everybody but those whose workspace was busy: they are given back.
    async fn admit_batch(&self, batch: Vec<Waiting>, wait: bool) -> Vec<Waiting> {
        let mut busy = Vec::new();
        let mut halves = vec![batch];
        while let Some(mut half) = halves.pop() {
            if half.is_empty() {
                continue;
            }
            self.observe(&half);
            match self.call_admit(&half, wait).await {
                Ok(verdicts) => {
                    for (waiting, verdict) in half.into_iter().zip(verdicts) {
                        match verdict {
                            Answer::Said(verdict) => drop(waiting.answer.send(verdict)),
                            Answer::Busy => busy.push(waiting),
                        }
                    }
                }
                Err(error) if wait && is_lock_timeout(&error) => {
                    metrics::counter!("keyholder_ledger_lock_timeouts_total").increment(1);
                    self.refuse(half, true, &error, &mut busy);
                }
                // One bad act must not refuse its neighbours: the batch is halved until it stands alone.
                Err(StoreError::Database(_) | StoreError::Conflict) if half.len() > 1 => {
                    metrics::counter!("keyholder_ledger_bisections_total").increment(1);
                    let second = half.split_off(half.len() / 2);
                    halves.extend([second, half]);
                }
                // The server undid it for the sake of another, who has passed by now: it is worth one more turn.
                Err(error) if error.lost_a_race() && half.iter().all(|waiting| !waiting.lost) => {
                    metrics::counter!("keyholder_ledger_lost_races_total").increment(1);
                    busy.extend(half.into_iter().map(|waiting| Waiting { lost: true, ..waiting }));
                }
                Err(error) => self.refuse(half, false, &error, &mut busy),
            }
        }
        busy
    }

    fn observe(&self, batch: &[Waiting]) {
        let oldest = batch.iter().map(|waiting| waiting.since).min().unwrap_or_default();
        let age = self.clock.since_boot().saturating_sub(oldest);
        metrics::histogram!("keyholder_ledger_batch_age_seconds").record(age.as_secs_f64());
        metrics::histogram!("keyholder_ledger_batch_acts").record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
    }

    /// Answers those who were not admitted. With `patient`, who has waited less than an act may wait to be sent goes on waiting.
    fn refuse(&self, half: Vec<Waiting>, patient: bool, error: &StoreError, busy: &mut Vec<Waiting>) {
        let now = self.clock.since_boot();
        let (waits, refused): (Vec<_>, Vec<_>) =
            half.into_iter().partition(|waiting| patient && now.saturating_sub(waiting.since) < SEND_WITHIN);
        busy.extend(waits);
        if refused.is_empty() {
            return;
        }
        tracing::warn!(acts = refused.len(), %error, "a batch was not admitted");
        for waiting in refused {
            if waiting.purpose == Purpose::Admit {
                self.disown(&waiting.entry);
            }
            drop(waiting.answer.send(Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed))));
        }
    }

    /// A call that failed may have committed. Nothing of it was sent, and its owner says so as soon as the database listens again.
    fn disown(&self, entry: &Entry) {
        let ticket = Ticket { act: entry.act, workspace: entry.permit.workspace(), send_by: Duration::ZERO };
        // Where even this queue is full, the sweep will call the act ambiguous: its units stay taken, and nothing was sent.
        if self.endings.try_send(Ending::new(ticket, Outcome::NotSent, None)).is_err() {
            tracing::warn!(act = %entry.act, "an act that may have been admitted could not be disowned");
        }
    }

    async fn call_admit(&self, batch: &[Waiting], wait: bool) -> Result<Vec<Answer>, StoreError> {
        // The time limit counts from before the call: however long the call takes, an act is not sent after it.
        let send_by = self.clock.since_boot() + SEND_WITHIN;
        let acts = Acts::of(batch.iter().map(|waiting| (&waiting.entry, waiting.purpose)), SEND_WITHIN + GRACE);
        let rows = sqlx::query!(
            "select ord as \"ord!\", verdict as \"verdict!\", prior, budget, remaining, resets_at from \
             ledger_admit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            self.node.uuid(),
            wait,
            &acts.workspace,
            &acts.epoch,
            &acts.revision,
            &acts.installation,
            &acts.principal,
            &acts.key as &[Option<String>],
            &acts.hash,
            &acts.id,
            &acts.mandate,
            &acts.connection,
            &acts.action,
            &acts.effect,
            &acts.patience_ms,
            &acts.unit_act,
            &acts.unit_budget,
            &acts.unit_units,
        )
        .fetch_all(&self.pool)
        .await?;
        if rows.len() != batch.len() {
            return Err(StoreError::Corrupt("the ledger answers every act once"));
        }
        Ok(batch
            .iter()
            .zip(rows)
            .map(|(waiting, row)| {
                let entry = &waiting.entry;
                Answer::Said(match row.verdict.as_str() {
                    "busy" => return Answer::Busy,
                    "admitted" => {
                        Ok(Verdict::Admitted(Ticket { act: entry.act, workspace: entry.permit.workspace(), send_by }))
                    }
                    "replay" => prior(row.prior).map(Verdict::Replay),
                    "conflict" => Ok(Verdict::Conflict),
                    "stale" => Ok(Verdict::Stale),
                    "over" => over(row.budget, row.remaining, row.resets_at),
                    "unknown" => Err(StoreError::NotFound),
                    _ => Err(StoreError::Corrupt("a verdict of the ledger")),
                })
            })
            .collect())
    }
}

/// Of acts with the same key in one batch, the later waits for the first: the database can only replay what is there.
fn fold(waiting: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
    let mut seen = HashSet::new();
    waiting.into_iter().partition(|waiting| {
        let entry = &waiting.entry;
        entry.key.as_ref().is_none_or(|key| {
            seen.insert((entry.permit.workspace(), entry.permit.principal().reference(), key.clone()))
        })
    })
}

fn prior(act: Option<Uuid>) -> Result<ActId, StoreError> {
    act.map(ActId::from_uuid).ok_or(StoreError::Corrupt("a replay names its act"))
}

fn over(
    budget: Option<Uuid>,
    remaining: Option<i64>,
    resets_at: Option<OffsetDateTime>,
) -> Result<Verdict, StoreError> {
    let (Some(budget), Some(resets_at)) = (budget, resets_at) else {
        return Err(StoreError::Corrupt("a refusal names its budget"));
    };
    let remaining = remaining.and_then(|units| u64::try_from(units).ok()).unwrap_or(0);
    Ok(Verdict::Over { budget: BudgetId::from_uuid(budget), remaining, resets_at })
}

/// SQLSTATE 55P03, `lock_not_available`.
fn is_lock_timeout(error: &StoreError) -> bool {
    code(error).as_deref() == Some("55P03")
}
