//! What is kept in memory of relation stores, and how much of the machine their questions may have.
//!
//! Everything is kept under the revision that it was read at, and the database is asked for the revision with each question: nothing here
//! is ever stale, and a write makes no node wait for a notification.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::id::{RelationModelId, RelationStoreId};
use moka::future::Cache;
use relation::{Schema, Snapshot};
use store::fga::page::{Line, Want};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::{gauge::count, tasks::BrokenOff};

/// The most that schemas, snapshots and pages weigh, in bytes, each about.
const SCHEMA_BYTES: u64 = 64 * 1024 * 1024;
const SNAPSHOT_BYTES: u64 = 128 * 1024 * 1024;
const PAGE_BYTES: u64 = 128 * 1024 * 1024;
/// For how long a page of a revision is kept that nobody asks for.
const IDLE: Duration = Duration::from_mins(2);
/// A store is read whole at once where it has no more tuples than this. A larger one must have been asked twice at its revision: what is
/// written all the time would else be read whole again and again.
const SMALL: i64 = 2_000;
const ASKED_BEFORE: u32 = 2;

/// What one question may take of a large store, and from where on a store is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most tuples that a store may have to be held in memory whole.
    pub held_tuples: i64,
    /// The most pages that one question reads.
    pub pages: usize,
    /// The most tuples on those pages together.
    pub lines: usize,
    /// How long a question may take.
    pub longest: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { held_tuples: 100_000, pages: 20_000, lines: 200_000, longest: Duration::from_secs(5) }
    }
}

/// A store in memory, as it was at a revision.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) revision: i64,
    pub(super) tuples: Snapshot,
}

/// A page as it is kept: of which store, at which revision, which one.
type PageKey = (RelationStoreId, i64, Want);

/// What is kept of all stores.
pub(crate) struct Relations {
    pub(super) bounds: Bounds,
    pub(super) schemas: Cache<(RelationStoreId, RelationModelId), (Arc<Schema>, u32)>,
    pub(super) pages: Cache<PageKey, Arc<[Line]>>,
    held: Cache<(RelationStoreId, i64), Arc<Held>>,
    /// The revision of what is held of a store: an older one goes when a newer one comes.
    newest: Cache<RelationStoreId, i64>,
    asked: Cache<(RelationStoreId, i64), Arc<AtomicU32>>,
    /// Who reads a store whole; the others wait for it.
    pub(super) turns: Cache<RelationStoreId, Arc<Mutex<()>>>,
    /// Places for questions that take long.
    heavy: Arc<Semaphore>,
    /// Places for transactions that stay open while a question goes on: the others need connections, too.
    pub(super) readers: Arc<Semaphore>,
}

impl Relations {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            bounds,
            schemas: Cache::builder().max_capacity(SCHEMA_BYTES).weigher(|_, (_, weight)| *weight).build(),
            pages: Cache::builder()
                .max_capacity(PAGE_BYTES)
                .weigher(|_, lines: &Arc<[Line]>| weight(256 + lines.iter().map(Line::bytes).sum::<usize>()))
                .time_to_idle(IDLE)
                .build(),
            held: Cache::builder()
                .max_capacity(SNAPSHOT_BYTES)
                .weigher(|_, held: &Arc<Held>| weight(held.tuples.bytes()))
                .build(),
            newest: Cache::builder().max_capacity(10_000).build(),
            asked: Cache::builder().max_capacity(10_000).time_to_idle(IDLE).build(),
            turns: Cache::builder().max_capacity(10_000).time_to_idle(IDLE).build(),
            // One core stays for everything else.
            heavy: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
            readers: Arc::new(Semaphore::new(4)),
        }
    }

    /// A store at a revision, if it is held.
    pub(super) async fn held(&self, store: RelationStoreId, revision: i64) -> Option<Arc<Held>> {
        self.held.get(&(store, revision)).await
    }

    /// Holds a store, in the place of what was held of it before.
    pub(super) async fn hold(&self, store: RelationStoreId, held: Arc<Held>) {
        if let Some(before) = self.newest.get(&store).await
            && before < held.revision
        {
            self.held.invalidate(&(store, before)).await;
        }
        self.newest.insert(store, held.revision).await;
        self.held.insert((store, held.revision), held).await;
        self.tell();
    }

    /// Whether a store is worth being read whole.
    pub(super) async fn is_worth_holding(&self, store: RelationStoreId, revision: i64, tuples: i64) -> bool {
        if tuples > self.bounds.held_tuples {
            return false;
        }
        let asked = self.asked.get_with((store, revision), async { Arc::default() }).await;
        tuples <= SMALL || asked.fetch_add(1, Ordering::Relaxed) >= ASKED_BEFORE
    }

    /// Sizes, as metrics.
    pub(super) fn tell(&self) {
        for (name, bytes) in [
            ("models", self.schemas.weighted_size()),
            ("stores", self.held.weighted_size()),
            ("pages", self.pages.weighted_size()),
        ] {
            metrics::gauge!("keyholder_relation_cache_bytes", "of" => name).set(count(bytes));
        }
    }

    /// Work that takes the processor and waits for nothing.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokenOff> {
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(|_| BrokenOff)
    }

    /// The same for work that may take long: few of it goes on at once, and its place is taken until it has ended, whoever still waits.
    pub(super) async fn heavy_work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokenOff> {
        let place: OwnedSemaphorePermit = Arc::clone(&self.heavy).acquire_owned().await.map_err(|_| BrokenOff)?;
        self.work(move || {
            let _place = place;
            work()
        })
        .await
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
