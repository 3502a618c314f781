//! The ledger's entrance: one task a node collects the acts that wait and admits them a batch in one call, and another settles.
//!
//! The ledger's role can call these functions and nothing else. What is true after an answer: `Admitted` is durable and its units
//! are taken; nothing else took anything. What was admitted is ended by this node, however long the database is away meanwhile:
//! `admission` and `settlement` hold the two halves, `epoch` what happens when the database turns out to be another one.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use domain::{
    act::IdempotencyKey,
    clock::Clock,
    id::{ActId, BudgetId, ConnectionId, DataKeyId, NodeId, WorkspaceId},
};
use relation::{Permit, action::Perform};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::StoreError;

mod admission;
mod columns;
mod epoch;
mod settlement;

use admission::{Purpose, Waiting};
pub use epoch::Raised;
use settlement::Ending;

/// The most acts of one call: past this a batch takes longer and gains nothing.
const BATCH: usize = 64;
/// The most acts that wait; the next is told that the ledger is busy.
const QUEUE: usize = 4096;

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
        /// What it really used of its budgets, where the provider said so; of the others it used what it reserved.
        used: Vec<(BudgetId, u64)>,
    },
    /// It surely had no effect.
    NotSent,
    /// Nobody can say.
    Ambiguous,
}

/// How the ledger stands, for those who watch it. Counts end at 10,000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Acts that are admitted and not ended.
    pub unsettled: i64,
    /// The age of the oldest of them, in seconds.
    pub oldest_unsettled_s: f64,
    /// Acts that were called ambiguous within the last day.
    pub ambiguous: i64,
    /// Budgets that owe something to their next window.
    pub indebted: i64,
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
    /// How much durable WAL this node has seen, in bytes; negative before it has looked.
    flushed: Arc<AtomicI64>,
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
        let queues = Arc::new(Mutex::new(Some(Queues { waiting, ending })));
        Self { pool, node, clock, admissions, endings, queues, flushed: Arc::new(AtomicI64::new(-1)) }
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
        self.ask(entry, Purpose::Admit).await
    }

    /// Asks for what is on record under the act's key, and admits nothing: `Replay`, `Conflict`, or `Stale` where nothing is.
    ///
    /// # Errors
    /// As for an admission; nothing was admitted in any case.
    pub async fn recall(&self, entry: Entry) -> Result<Verdict, StoreError> {
        self.ask(entry, Purpose::Recall).await
    }

    async fn ask(&self, entry: Entry, purpose: Purpose) -> Result<Verdict, StoreError> {
        if !entry.permit.is_live(&self.clock) {
            return Ok(Verdict::Stale);
        }
        let (answer, verdict) = oneshot::channel();
        let waiting = Waiting::new(entry, purpose, self.clock.since_boot(), answer);
        self.admissions.try_send(waiting).map_err(|_| StoreError::Busy)?;
        verdict.await.map_err(|_| StoreError::Busy)?
    }

    /// Ends an act. `false`: its row was not there to be ended, or had been ended by this node before.
    ///
    /// # Errors
    /// `Unavailable`: the outcome is not written yet. It is kept in memory and written when the database is back.
    pub async fn settle(&self, ticket: Ticket, outcome: Outcome) -> Result<bool, StoreError> {
        let (answer, done) = oneshot::channel();
        self.endings.send(Ending::new(ticket, outcome, Some(answer))).await.map_err(|_| StoreError::Busy)?;
        done.await.map_err(|_| StoreError::Busy)?
    }

    /// Admits and settles until `stopping` resolves; then what was handed over is still written, and it returns. Runs once; a second
    /// call has nothing to do.
    pub async fn run(self, stopping: impl Future<Output = ()>) {
        let Some(Queues { waiting, ending }) = self.queues.lock().await.take() else { return };
        let (tell, told) = watch::channel(false);
        let (patience, patient) = mpsc::channel(QUEUE);
        let (again, retried) = mpsc::channel(QUEUE);
        tokio::join!(
            async {
                stopping.await;
                tell.send_replace(true);
            },
            self.admit_batches(Inbox { queue: waiting, told: told.clone() }, patience),
            self.admit_patiently(patient),
            self.settle_batches(Inbox { queue: ending, told }, again),
            self.settle_again(retried),
        );
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

    /// How the ledger stands.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        Ok(sqlx::query_as!(
            Standing,
            "select unsettled as \"unsettled!\", oldest_unsettled_s as \"oldest_unsettled_s!\", ambiguous as \"ambiguous!\", \
             indebted as \"indebted!\" from ledger_standing()"
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

/// A queue whose reader is told when nothing more will come.
struct Inbox<T> {
    queue: mpsc::Receiver<T>,
    told: watch::Receiver<bool>,
}

impl<T> Inbox<T> {
    /// Waits for up to a batch. Nothing: the process stops, and what had been handed over was taken.
    async fn next(&mut self, held: &mut Vec<T>) -> usize {
        loop {
            if *self.told.borrow_and_update() {
                self.queue.close();
                return self.queue.recv_many(held, BATCH).await;
            }
            tokio::select! {
                taken = self.queue.recv_many(held, BATCH) => return taken,
                _ = self.told.changed() => {}
            }
        }
    }
}

/// The SQLSTATE of an error, where it has one.
fn code(error: &StoreError) -> Option<std::borrow::Cow<'_, str>> {
    match error {
        StoreError::Database(sqlx::Error::Database(cause)) => cause.code(),
        _ => None,
    }
}
