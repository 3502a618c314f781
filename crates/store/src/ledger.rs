//! The ledger's entrance: one task a node collects the acts that wait and admits them a batch in one call, and another settles.
//!
//! The ledger's role can call these functions and nothing else. What is true after an answer: `Admitted` is durable and its units
//! are taken; nothing else took anything.

use std::{collections::HashSet, sync::Arc, time::Duration};

use domain::{
    act::{IdempotencyKey, SEND_WITHIN},
    clock::Clock,
    id::{ActId, BudgetId, ConnectionId, DataKeyId, Id, NodeId, WorkspaceId},
};
use relation::{Permit, action::Perform};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use crate::StoreError;

mod columns;

use columns::{Acts, Endings};

/// The most acts of one call: past this a batch takes longer and gains nothing.
const BATCH: usize = 64;
/// The most acts that wait; the next is told that the ledger is busy.
const QUEUE: usize = 4096;
/// How often a workspace may be busy before its act waits for the lock, on a connection of its own.
const SKIPS: u8 = 3;
/// How long past its call's own time limit an act may be unsettled before anybody may call it ambiguous.
const GRACE: Duration = Duration::from_secs(10);
/// How long an outcome that could not be written rests before it is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// An act that asks to be admitted.
pub struct Entry {
    /// Who may act, on which mandate, by which revision.
    pub permit: Permit<Perform>,
    /// Its id.
    pub act: ActId,
    /// The connection.
    pub connection: ConnectionId,
    /// The action's name.
    pub action: String,
    /// The action's effect: `read`, `write`, `send`.
    pub effect: &'static str,
    /// The caller's own name for it.
    pub key: Option<IdempotencyKey>,
    /// What tells one request from another under the same key.
    pub request_hash: [u8; 32],
    /// How long the provider may take.
    pub timeout: Duration,
    /// What it takes from which budget.
    pub units: Vec<(BudgetId, u64)>,
}

/// The right to send one admitted act, once. Whoever holds it must settle it.
#[derive(Debug)]
pub struct Ticket {
    act: ActId,
    workspace: WorkspaceId,
    send_by: Duration,
}

impl Ticket {
    /// The act.
    pub fn act(&self) -> ActId {
        self.act
    }

    /// The workspace.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The moment, since boot, after which its first byte must not leave.
    pub fn send_by(&self) -> Duration {
        self.send_by
    }
}

/// What the ledger said.
#[derive(Debug)]
pub enum Verdict {
    /// Durable; its units are taken.
    Admitted(Ticket),
    /// The key is known, with the same request.
    Replay(ActId),
    /// The key is known, with another request.
    Conflict,
    /// The facts have changed: ask for another permit.
    Stale,
    /// A budget has no room.
    Over {
        /// Which.
        budget: BudgetId,
        /// What is left of it.
        remaining: u64,
        /// Until when.
        resets_at: OffsetDateTime,
    },
}

/// What became of an act.
#[derive(Debug)]
pub enum Outcome {
    /// The provider answered.
    Settled {
        /// Its status.
        status: u16,
        /// Its scrubbed answer, sealed, for a replay.
        answer: Option<(Vec<u8>, DataKeyId)>,
    },
    /// It surely had no effect.
    NotSent,
    /// Nobody can say.
    Ambiguous,
}

struct Waiting {
    entry: Entry,
    since: Duration,
    skips: u8,
    answer: oneshot::Sender<Result<Verdict, StoreError>>,
}

struct Ending {
    ticket: Ticket,
    outcome: Outcome,
    /// Who waits to hear; nobody, once it was told that the outcome is not written yet.
    answer: Option<oneshot::Sender<Result<bool, StoreError>>>,
}

impl Ending {
    fn told_to_wait(mut self) -> Self {
        if let Some(answer) = self.answer.take() {
            drop(answer.send(Err(StoreError::Busy)));
        }
        self
    }
}

/// The ledger, as a node reaches it.
#[derive(Clone)]
pub struct Ledger {
    pool: PgPool,
    node: NodeId,
    clock: Clock,
    admissions: mpsc::Sender<Waiting>,
    endings: mpsc::Sender<Ending>,
    queues: Arc<Mutex<Option<Queues>>>,
}

/// The ends of the queues that [`Ledger::run`] takes from.
struct Queues {
    waiting: mpsc::Receiver<Waiting>,
    ending: mpsc::Receiver<Ending>,
}

impl Ledger {
    pub(crate) fn new(pool: PgPool, node: NodeId, clock: Clock) -> Self {
        let (admissions, waiting) = mpsc::channel(QUEUE);
        let (endings, ending) = mpsc::channel(QUEUE);
        Self { pool, node, clock, admissions, endings, queues: Arc::new(Mutex::new(Some(Queues { waiting, ending }))) }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// The node that this ledger admits for.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Admits an act, with whatever else waits at the moment.
    ///
    /// # Errors
    /// `Busy` where too much waits; `Unavailable`, after which it is not known whether the act was admitted: it was not sent.
    pub async fn admit(&self, entry: Entry) -> Result<Verdict, StoreError> {
        if !entry.permit.is_live(&self.clock) {
            return Ok(Verdict::Stale);
        }
        let (answer, verdict) = oneshot::channel();
        let waiting = Waiting { entry, since: self.clock.since_boot(), skips: 0, answer };
        self.admissions.try_send(waiting).map_err(|_| StoreError::Busy)?;
        verdict.await.map_err(|_| StoreError::Busy)?
    }

    /// Ends an act. `false`: it had been ended by somebody else, who had waited long enough to call it ambiguous.
    ///
    /// # Errors
    /// `Unavailable`: the outcome is not written yet. It is kept in memory and written when the database is back.
    pub async fn settle(&self, ticket: Ticket, outcome: Outcome) -> Result<bool, StoreError> {
        let (answer, done) = oneshot::channel();
        self.endings.send(Ending { ticket, outcome, answer: Some(answer) }).await.map_err(|_| StoreError::Busy)?;
        done.await.map_err(|_| StoreError::Busy)?
    }

    /// Admits and settles for as long as the process lives. Runs once; a second call has nothing to do.
    pub async fn run(self) {
        let Some(Queues { waiting, ending }) = self.queues.lock().await.take() else { return };
        tokio::join!(self.admit_batches(waiting), self.settle_batches(ending));
    }

    async fn admit_batches(&self, mut queue: mpsc::Receiver<Waiting>) {
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
            let (patient, rest): (Vec<_>, Vec<_>) = held.drain(..).partition(|waiting| waiting.skips >= SKIPS);
            let (batch, later) = fold(rest);
            let (patient, last) = fold(patient);
            held = later.into_iter().chain(last).collect();
            // Those who were skipped too often wait for the lock beside the others, on a second connection.
            let (again, waited) = tokio::join!(self.admit_batch(batch, false), self.admit_batch(patient, true));
            held.extend(again.into_iter().chain(waited));
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
            match self.call_admit(&half, wait).await {
                Ok(verdicts) => {
                    for (mut waiting, verdict) in half.into_iter().zip(verdicts) {
                        match verdict {
                            Answer::Said(verdict) => drop(waiting.answer.send(verdict)),
                            Answer::Busy => {
                                waiting.skips = waiting.skips.saturating_add(1);
                                busy.push(waiting);
                            }
                        }
                    }
                }
                // One bad act must not refuse its neighbours: the batch is halved until it stands alone.
                Err(StoreError::Database(_) | StoreError::Conflict) if half.len() > 1 => {
                    let second = half.split_off(half.len() / 2);
                    halves.extend([second, half]);
                }
                Err(error) => self.refuse(half, wait, &error, &mut busy),
            }
        }
        busy
    }

    fn refuse(&self, half: Vec<Waiting>, wait: bool, error: &StoreError, busy: &mut Vec<Waiting>) {
        tracing::warn!(acts = half.len(), %error, "a batch was not admitted");
        for waiting in half {
            let patience = self.clock.since_boot().saturating_sub(waiting.since) < SEND_WITHIN;
            if wait && patience && is_lock_timeout(error) {
                busy.push(waiting);
            } else {
                self.disown(&waiting.entry);
                drop(waiting.answer.send(Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed))));
            }
        }
    }

    /// A call that failed may have committed. Nothing of it was sent, and its owner says so as soon as the database listens again.
    fn disown(&self, entry: &Entry) {
        let ticket = Ticket { act: entry.act, workspace: entry.permit.workspace(), send_by: Duration::ZERO };
        drop(self.endings.try_send(Ending { ticket, outcome: Outcome::NotSent, answer: None }));
    }

    async fn call_admit(&self, batch: &[Waiting], wait: bool) -> Result<Vec<Answer>, StoreError> {
        // The time limit counts from before the call: however long the call takes, an act is not sent after it.
        let send_by = self.clock.since_boot() + SEND_WITHIN;
        let acts = Acts::of(batch.iter().map(|waiting| &waiting.entry), SEND_WITHIN + GRACE);
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

    async fn settle_batches(&self, mut queue: mpsc::Receiver<Ending>) {
        let mut held: Vec<Ending> = Vec::new();
        loop {
            if held.is_empty() {
                if queue.recv_many(&mut held, BATCH).await == 0 {
                    return;
                }
            } else {
                // What could not be written waits for the database, together with whatever comes meanwhile.
                tokio::time::sleep(RETRY).await;
                while held.len() < QUEUE
                    && let Ok(next) = queue.try_recv()
                {
                    held.push(next);
                }
            }
            let mut kept = Vec::new();
            while !held.is_empty() {
                let batch: Vec<_> = held.drain(..held.len().min(BATCH)).collect();
                kept.extend(self.settle_batch(batch).await);
            }
            held = kept;
        }
    }

    /// Settles a batch; gives back what must be tried again.
    async fn settle_batch(&self, batch: Vec<Ending>) -> Vec<Ending> {
        let error = match self.call_settle(&batch).await {
            Ok(ended) => {
                for ending in batch {
                    let ended = ended.contains(&ending.ticket.act.uuid());
                    ending.answer.map(|answer| answer.send(Ok(ended)));
                }
                return Vec::new();
            }
            Err(error) => error,
        };
        tracing::warn!(acts = batch.len(), %error, "a batch was not settled yet");
        match error {
            StoreError::Unavailable(_) => batch.into_iter().map(Ending::told_to_wait).collect(),
            // One bad outcome must not hold its neighbours: each is tried by itself, and only that one is given up.
            _ if batch.len() > 1 => {
                let mut kept = Vec::new();
                for ending in batch {
                    kept.extend(Box::pin(self.settle_batch(vec![ending])).await);
                }
                kept
            }
            _ if may_pass(&error) => batch.into_iter().map(Ending::told_to_wait).collect(),
            _ => {
                for ending in batch {
                    ending.told_to_wait();
                }
                Vec::new()
            }
        }
    }

    async fn call_settle(&self, endings: &[Ending]) -> Result<HashSet<Uuid>, StoreError> {
        let columns = Endings::of(endings.iter().map(|ending| (&ending.ticket, &ending.outcome)));
        let ended = sqlx::query_scalar!(
            "select ended as \"ended!\" from ledger_settle($1, $2, $3, $4, $5, $6, $7) ended",
            self.node.uuid(),
            &columns.workspace,
            &columns.id,
            &columns.state,
            &columns.status as &[Option<i16>],
            &columns.answer as &[Option<Vec<u8>>],
            &columns.answer_key as &[Option<Uuid>],
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ended.into_iter().collect())
    }

    /// Calls acts ambiguous that nobody settled in time, on whichever node they were. Returns how many.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let swept = sqlx::query!("select workspace_id, id from ledger_sweep(1000)").fetch_all(&self.pool).await?;
        Ok(swept.len())
    }

    /// Forgets idempotency keys and stored answers that are older than seven days. Returns how many.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn expire(&self) -> Result<i32, StoreError> {
        Ok(sqlx::query_scalar!("select ledger_expire(1000)").fetch_one(&self.pool).await?.unwrap_or(0))
    }
}

enum Answer {
    Said(Result<Verdict, StoreError>),
    Busy,
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

/// Whether the same statement may succeed later: all but bad data (class 22), broken integrity (23), and what cannot be read.
fn may_pass(error: &StoreError) -> bool {
    match error {
        StoreError::Database(sqlx::Error::Database(cause)) => {
            cause.code().is_none_or(|code| !code.starts_with("22") && !code.starts_with("23"))
        }
        _ => false,
    }
}

/// SQLSTATE 55P03, `lock_not_available`.
fn is_lock_timeout(error: &StoreError) -> bool {
    match error {
        StoreError::Database(sqlx::Error::Database(cause)) => cause.code().as_deref() == Some("55P03"),
        _ => false,
    }
}
