//! What is kept in memory of relation stores, and how much of the machine their questions may have.
//!
//! Everything is kept under the epoch and the revision that it was read at, and the database is asked for both with each question: nothing
//! here is ever stale, and a write makes no node wait for a notification.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::id::{RelationModelId, RelationStoreId};
use moka::future::Cache;
use relation::{Schema, Snapshot, query::Limits};
use store::fga::page::{Line, Want};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

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
    /// The most bytes of memory, about, that a store may take to be held whole, and that the pages of one question take.
    pub bytes: usize,
    /// The most steps of a question that takes long.
    pub steps: usize,
    /// How long a question may take.
    pub longest: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            held_tuples: 100_000,
            pages: 20_000,
            lines: 200_000,
            bytes: 64 * 1024 * 1024,
            steps: Limits::default().steps,
            longest: Duration::from_secs(5),
        }
    }
}

/// A state of a store: the workspace's epoch, and the store's revision.
pub(super) type State = (i64, i64);

/// A store in memory, as it was in a state.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) at: State,
    pub(super) tuples: Snapshot,
}

/// A page as it is kept: of which store, in which state, which one.
type PageKey = (RelationStoreId, State, Want);

/// A model as it is kept: of which store, written in which epoch's history, which one.
type SchemaKey = (RelationStoreId, i64, RelationModelId);

/// A place for work that takes long. Whoever has it goes on, and gives it back when the last work on it has ended.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// What is kept of all stores.
pub(crate) struct Relations {
    pub(super) bounds: Bounds,
    pub(super) schemas: Cache<SchemaKey, (Arc<Schema>, u32)>,
    pub(super) pages: Cache<PageKey, Arc<[Line]>>,
    held: Cache<(RelationStoreId, State), Arc<Held>>,
    /// The state of what is held of a store: an older one goes when a newer one comes.
    newest: Cache<RelationStoreId, State>,
    asked: Cache<(RelationStoreId, State), Arc<AtomicU32>>,
    /// In which state a store was found to be too large to be held: it is not read whole again to find the same.
    too_large: Cache<RelationStoreId, State>,
    /// Who reads a store whole; the others wait for it.
    pub(super) turns: Cache<RelationStoreId, Arc<Mutex<()>>>,
    /// Places for questions that take long.
    heavy: Arc<Semaphore>,
    /// Places for making schemas of models.
    models: Arc<Semaphore>,
    /// Places for transactions that stay open while a question goes on: the others need connections, too.
    pub(super) readers: Arc<Semaphore>,
    /// Places for reading small stores whole. No question of a large store ever has one.
    loads: Semaphore,
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
            too_large: Cache::builder().max_capacity(10_000).time_to_idle(IDLE).build(),
            turns: Cache::builder().max_capacity(10_000).time_to_idle(IDLE).build(),
            // One core stays for everything else.
            heavy: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
            models: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
            readers: Arc::new(Semaphore::new(4)),
            loads: Semaphore::new(2),
        }
    }

    /// A store in a state, if it is held.
    pub(super) async fn held(&self, store: RelationStoreId, at: State) -> Option<Arc<Held>> {
        self.held.get(&(store, at)).await
    }

    /// Holds a store, in the place of what was held of it before.
    pub(super) async fn hold(&self, store: RelationStoreId, held: Arc<Held>) {
        if let Some(before) = self.newest.get(&store).await
            && before < held.at
        {
            self.held.invalidate(&(store, before)).await;
        }
        self.newest.insert(store, held.at).await;
        self.held.insert((store, held.at), held).await;
        self.tell();
    }

    /// Whether a store is worth being read whole.
    pub(super) async fn is_worth_holding(&self, store: RelationStoreId, at: State, tuples: i64) -> bool {
        if tuples > self.bounds.held_tuples || self.too_large.get(&store).await == Some(at) {
            return false;
        }
        let asked = self.asked.get_with((store, at), async { Arc::default() }).await;
        tuples <= SMALL || asked.fetch_add(1, Ordering::Relaxed) >= ASKED_BEFORE
    }

    /// Remembers that a store in this state takes more memory than one may.
    pub(super) async fn is_too_large(&self, store: RelationStoreId, at: State) {
        self.too_large.insert(store, at).await;
    }

    /// A place to read a store of so many tuples whole.
    pub(super) async fn loading(&self, tuples: i64) -> Result<SemaphorePermit<'_>, BrokenOff> {
        let places = if tuples <= SMALL { &self.loads } else { &*self.readers };
        places.acquire().await.map_err(|_| BrokenOff)
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

    /// A place for a question that may take long, of which few go on at once.
    pub(super) async fn heavy_place(&self) -> Result<Place, BrokenOff> {
        taken(&self.heavy).await
    }

    /// A place for making the schema of a model, of which few are made at once. Whoever waits for one has no transaction open.
    pub(super) async fn model_place(&self) -> Result<Place, BrokenOff> {
        taken(&self.models).await
    }

    /// Work at a place, which is taken until it has ended, whoever still waits.
    pub(super) async fn work_at<T: Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokenOff> {
        let place = Arc::clone(place);
        self.work(move || {
            let _place = place;
            work()
        })
        .await
    }
}

async fn taken(places: &Arc<Semaphore>) -> Result<Place, BrokenOff> {
    Ok(Arc::new(Arc::clone(places).acquire_owned().await.map_err(|_| BrokenOff)?))
}

pub(super) fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn small_stores_are_read_while_questions_of_large_ones_have_all_places() {
        let kept = Relations::new(Bounds::default());
        let _all = kept.readers.acquire_many(4).await.unwrap();
        let soon = Duration::from_millis(1);
        assert!(timeout(soon, kept.loading(SMALL + 1)).await.is_err());
        assert!(timeout(Duration::from_mins(1), kept.loading(SMALL)).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_place_is_taken_until_the_work_at_it_has_ended_and_not_until_nobody_waits() {
        let kept = Relations::new(Bounds::default());
        let free = kept.models.available_permits();
        let (ends, ended) = std::sync::mpsc::channel::<()>();
        let place = kept.model_place().await.unwrap();
        let waited = kept.work_at(&place, move || ended.recv());
        assert!(timeout(Duration::from_millis(1), waited).await.is_err());
        drop(place);
        assert_eq!(kept.models.available_permits(), free - 1);
        ends.send(()).unwrap();
        let all = kept.models.acquire_many(u32::try_from(free).unwrap());
        assert!(timeout(Duration::from_mins(1), all).await.unwrap().is_ok());
    }
}
