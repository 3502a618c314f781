//! Snapshots: the facts of a workspace, held in memory for as long as the database's word that nothing changed can be trusted.
//!
//! Every change of facts announces itself by NOTIFY. The listener, on a connection of its own, also sends itself a nonce every
//! second: as long as the last one that came back was *sent* less than [`LEASE`] ago, every announcement before that has been
//! heard too, since one connection's notifications arrive in order. Past that, each use asks the database for the head.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    budget::Budget,
    clock::Clock,
    connection::Connection,
    id::{Id, KeyId, NodeId, WorkspaceId},
    mandate::Mandate,
};
use moka::future::Cache;
use relation::Facts;
use sqlx::{
    PgConnection,
    postgres::{PgListener, PgPoolOptions},
};
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard, watch};
use uuid::Uuid;

use crate::{Loader, StoreError, loader::answered};

/// How long after the send time of the last returned nonce snapshots are trusted.
const LEASE: Duration = Duration::from_secs(2);
const BEAT: Duration = Duration::from_secs(1);
/// A connection that has swallowed nonces for so long past the lease is dead, whatever its socket says.
const SILENCE_MS: u64 = 5_000;
const CHANNEL: &str = "keyholder_facts";
/// The most that all snapshots of a process weigh, roughly, in bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// A workspace at one revision.
#[derive(Debug)]
pub struct Snapshot {
    /// The workspace's name.
    pub name: String,
    /// Whether it is the probes' own: what is refused there was meant to be.
    pub is_probe: bool,
    /// What permission is decided from.
    pub facts: Facts,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// Its mandates that are not revoked.
    pub mandates: Vec<Mandate>,
    /// Its keys that are not revoked, with their ends.
    pub keys: Vec<(KeyId, Option<OffsetDateTime>)>,
    /// Its budgets, and the installation's.
    pub budgets: Vec<Budget>,
}

impl Snapshot {
    fn weight(&self) -> u32 {
        let rows = self.facts.bytes()
            + self.connections.len() * 600
            + self.mandates.len() * 600
            + (self.keys.len() + self.budgets.len()) * 120;
        u32::try_from(rows + 1024).unwrap_or(u32::MAX)
    }
}

/// Announces a change of facts, in the transaction that makes it. Never called by the ledger: it would serialise its commits.
pub(crate) async fn announce(sql: &mut PgConnection, workspace: WorkspaceId, revision: i64) -> Result<(), StoreError> {
    let word = format!("{} {revision}", workspace.uuid());
    sqlx::query!("select pg_notify('keyholder_facts', $1)", word).execute(sql).await?;
    Ok(())
}

/// Announces a change of the installation's own facts, which every snapshot holds.
pub(crate) async fn announce_installation(sql: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("select pg_notify('keyholder_facts', 'installation')").execute(sql).await?;
    Ok(())
}

/// The snapshots of this process.
#[derive(Clone)]
pub struct Snapshots {
    loader: Loader,
    clock: Clock,
    cache: Cache<WorkspaceId, Arc<Snapshot>>,
    /// Revisions that were announced, so that a load which began before an announcement does not outlive it.
    announced: Cache<WorkspaceId, i64>,
    readings: Cache<WorkspaceId, Arc<Mutex<Reading>>>,
    lease: Arc<Lease>,
    /// Says that the listening connection's login is another now.
    turns: watch::Receiver<()>,
}

/// The newest reading of a workspace's facts: its place in the order of all that happens here, and what it found.
#[derive(Default)]
struct Reading {
    began: u64,
    snapshot: Option<Arc<Snapshot>>,
}

/// Until when, in milliseconds since boot, snapshots are trusted.
struct Lease {
    /// Counts arrivals and readings, so that it can be said which came first.
    sequence: AtomicU64,
    until_ms: AtomicU64,
    installation_changes: AtomicU64,
    listening: AtomicBool,
}

impl Snapshots {
    /// Snapshots read through this loader. Nothing is trusted until [`Snapshots::listen`] runs.
    pub(crate) fn new(loader: Loader, clock: Clock, turns: watch::Receiver<()>) -> Self {
        let cache =
            Cache::builder().max_capacity(MOST_BYTES).weigher(|_, snapshot: &Arc<Snapshot>| snapshot.weight()).build();
        let announced = Cache::builder().max_capacity(100_000).time_to_live(Duration::from_mins(1)).build();
        let readings = Cache::builder().max_capacity(10_000).time_to_idle(Duration::from_secs(10)).build();
        let lease = Arc::new(Lease {
            sequence: AtomicU64::new(1),
            until_ms: AtomicU64::new(0),
            installation_changes: AtomicU64::new(0),
            listening: AtomicBool::new(false),
        });
        Self { loader, clock, cache, announced, readings, lease, turns }
    }

    /// The facts of a workspace: from memory while the lease holds, else as the database has them now.
    ///
    /// # Errors
    /// `NotFound` where there is no such workspace; `Unavailable`.
    pub async fn get(&self, workspace: WorkspaceId) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(snapshot) = self.cache.get(&workspace).await
            && self.is_trusted()
        {
            return Ok(snapshot);
        }
        // Whoever waits for a reading that begins after he came is answered by it: a crowd asks the database once.
        let arrived = self.lease.sequence.fetch_add(1, Ordering::AcqRel);
        let reading = self.readings.get_with(workspace, async { Arc::default() }).await;
        let mut last: MutexGuard<'_, Reading> = reading.lock().await;
        if last.began > arrived
            && let Some(snapshot) = &last.snapshot
        {
            return Ok(Arc::clone(snapshot));
        }
        last.began = self.lease.sequence.fetch_add(1, Ordering::AcqRel);
        last.snapshot = None;
        let snapshot = match self.cache.get(&workspace).await {
            Some(held) => self.newer(&held).await?.unwrap_or(held),
            None => self.load(workspace).await?,
        };
        last.snapshot = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Whether a workspace is the probes' own, as far as memory knows: nobody waits for the answer.
    pub async fn is_probes_own(&self, workspace: WorkspaceId) -> bool {
        self.cache.get(&workspace).await.is_some_and(|held| held.is_probe)
    }

    /// The facts of a workspace if they have moved on from the ones that are held. Asked before anybody is refused: memory may be a
    /// notification behind, and a no that was true a moment ago is no reason.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn newer(&self, held: &Snapshot) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let facts = &held.facts;
        let now = self.loader.head(facts.workspace()).await?.ok_or(StoreError::NotFound)?;
        if now == (facts.at().0, facts.at().1, facts.installation_revision()) {
            return Ok(None);
        }
        self.forget(held).await;
        self.load(facts.workspace()).await.map(Some)
    }

    /// A change that this process has just committed: it does not wait for its own announcement.
    pub(crate) async fn committed(&self, workspace: WorkspaceId, revision: i64) {
        self.announced.insert(workspace, revision).await;
        self.cache.invalidate(&workspace).await;
    }

    /// Forgets a workspace's facts, after the database said that those held are stale; newer ones that somebody has read meanwhile
    /// stay.
    pub async fn forget(&self, stale: &Snapshot) {
        let workspace = stale.facts.workspace();
        let same = |held: &Snapshot| {
            (held.facts.at(), held.facts.installation_revision())
                == (stale.facts.at(), stale.facts.installation_revision())
        };
        if self.cache.get(&workspace).await.is_some_and(|held| same(&held)) {
            self.cache.invalidate(&workspace).await;
        }
    }

    /// How old the trust is, in milliseconds past its end; zero while the lease holds.
    pub fn lease_overdue_ms(&self) -> u64 {
        self.now_ms().saturating_sub(self.lease.until_ms.load(Ordering::Acquire))
    }

    fn is_trusted(&self) -> bool {
        if domain::sabotaged!(SilentNotifications) {
            return true;
        }
        self.lease.listening.load(Ordering::Acquire) && self.lease_overdue_ms() == 0
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.since_boot().as_millis()).unwrap_or(u64::MAX)
    }

    async fn load(&self, workspace: WorkspaceId) -> Result<Arc<Snapshot>, StoreError> {
        let changes = self.lease.installation_changes.load(Ordering::Acquire);
        let snapshot = Arc::new(self.loader.snapshot(workspace).await?);
        let announced = self.announced.get(&workspace).await.unwrap_or(0);
        let current = self.lease.installation_changes.load(Ordering::Acquire) == changes;
        if self.lease.listening.load(Ordering::Acquire) && current && announced <= snapshot.facts.at().1 {
            self.cache.insert(workspace, Arc::clone(&snapshot)).await;
            // An announcement may have come between the question above and the insertion.
            if self.announced.get(&workspace).await.unwrap_or(0) > snapshot.facts.at().1 {
                self.cache.invalidate(&workspace).await;
            }
        }
        Ok(snapshot)
    }

    /// Listens for as long as the process lives, over as many connections as that takes.
    pub async fn listen(self, node: NodeId) {
        loop {
            if let Err(error) = self.listen_once(node).await {
                tracing::warn!(%error, "the listener lost its connection; facts are asked of the database until it is back");
            }
            self.lease.listening.store(false, Ordering::Release);
            self.cache.invalidate_all();
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn listen_once(&self, node: NodeId) -> Result<(), StoreError> {
        let beat_channel = format!("keyholder_beat_{}", node.uuid().simple());
        let mut turns = self.turns.clone();
        turns.mark_unchanged();
        // A pool of its own: a listener that has fallen silent keeps its place in one, and the readings need theirs.
        let own = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_millis(SILENCE_MS));
        let own = own.connect_lazy_with((*self.loader.pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.ignore_pool_close_event(true);
        let listens = tokio::time::timeout(
            Duration::from_millis(SILENCE_MS),
            listener.listen_all([CHANNEL, beat_channel.as_str()]),
        );
        listens.await.map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))??;
        self.cache.invalidate_all();
        self.lease.listening.store(true, Ordering::Release);
        let mut beat = tokio::time::interval(BEAT);
        let mut sent = (String::new(), 0);
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    if sent.1 > 0 && self.lease_overdue_ms() > SILENCE_MS {
                        return Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed));
                    }
                    sent = (Uuid::from_bytes(domain::random::bytes()).to_string(), self.now_ms());
                    let word = (beat_channel.as_str(), sent.0.as_str());
                    answered(&self.loader.pool, Duration::from_millis(SILENCE_MS), async |sql: &mut PgConnection| {
                        sqlx::query!("select pg_notify($1, $2)", word.0, word.1).execute(sql).await?;
                        Ok(())
                    })
                    .await?;
                }
                // Until the new connection listens, facts are asked of the database.
                Ok(()) = turns.changed() => return Ok(()),
                notification = listener.try_recv() => {
                    // None: the connection was lost, and with it whatever was said meanwhile.
                    let notification = notification?.ok_or(StoreError::Unavailable(sqlx::Error::WorkerCrashed))?;
                    if notification.channel() == CHANNEL {
                        self.hear(notification.payload()).await;
                    } else if notification.payload() == sent.0 {
                        let until = sent.1 + u64::try_from(LEASE.as_millis()).unwrap_or(0);
                        self.lease.until_ms.fetch_max(until, Ordering::AcqRel);
                    }
                }
            }
        }
    }

    async fn hear(&self, word: &str) {
        if domain::sabotaged!(RevocationAcrossNodes) {
            return;
        }
        if word == "installation" {
            self.lease.installation_changes.fetch_add(1, Ordering::AcqRel);
            self.cache.invalidate_all();
            return;
        }
        let parsed = word.split_once(' ').and_then(|(id, revision)| Some((id.parse().ok()?, revision.parse().ok()?)));
        if let Some((id, revision)) = parsed {
            let workspace = WorkspaceId::from_uuid(id);
            self.committed(workspace, revision).await;
        }
    }
}
