//! Epochs: made, activated and destroyed by the operator, learnt by the nodes.
//!
//! The keyring says what an epoch's state is, and the database says what may become of it: an epoch wraps only when every live node has
//! reported it, and is destroyed only when nothing is wrapped under it and it has been of no use for thirty days. Every node reads the
//! keyring again every few seconds, and reports what it then knows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::clock::Clock;
use seal::{Epoch, EpochId, EpochState, Keyring, KeyringError};
use store::{
    Store, StoreError,
    epoch::{EpochUse, LiveNode, Report, Retired},
};
use time::OffsetDateTime;

use crate::App;

/// How often a node reads the keyring and reports itself.
pub const EVERY: Duration = Duration::from_secs(2);
/// A node that has not reported itself for so long does not count as alive.
pub const ALIVE: Duration = Duration::from_secs(30);
/// For how long an epoch must have been of no use before it is destroyed: backups from before are gone by then, or should be.
pub const REST: Duration = Duration::from_hours(30 * 24);
/// An epoch that wraps for longer than this is told of.
pub const MONTH: Duration = Duration::from_hours(31 * 24);
/// How often it is told of.
const REMINDER: Duration = Duration::from_hours(24);

/// Why an epoch was not made, activated or destroyed.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The keyring.
    #[error("the keyring cannot be used")]
    Keyring(#[from] KeyringError),
    /// The database.
    #[error("the database cannot be asked")]
    Store(#[from] StoreError),
    /// There is no epoch that waits for its activation.
    #[error("no epoch waits to be activated; `keyholder keyring new-epoch` makes one")]
    NoneAnnounced,
    /// Some node would not open what is wrapped under it.
    #[error("epoch {epoch} is not activated, because not every live node has reported it: {}", .nodes.join(", "))]
    NotReported {
        /// The epoch.
        epoch: EpochId,
        /// The nodes, each with the time at which it was last seen.
        nodes: Vec<String>,
    },
    /// Data keys are wrapped under it.
    #[error(
        "epoch {epoch} is not destroyed: {data_keys} data keys are wrapped under it; `keyholder keyring rotate --wraps` moves them"
    )]
    InUse {
        /// The epoch.
        epoch: EpochId,
        /// How many.
        data_keys: i64,
    },
    /// It was of use not long enough ago.
    #[error(
        "epoch {epoch} is not destroyed: it was last of use at {last_used_at}, and backups from before may still need it; it can be destroyed from {from}"
    )]
    TooSoon {
        /// The epoch.
        epoch: EpochId,
        /// When it was.
        last_used_at: OffsetDateTime,
        /// When it can be.
        from: OffsetDateTime,
    },
    /// Some node still wraps under it.
    #[error("epoch {epoch} is not destroyed, because a live node still wraps under it: {}", .nodes.join(", "))]
    StillWraps {
        /// The epoch.
        epoch: EpochId,
        /// The nodes.
        nodes: Vec<String>,
    },
}

/// An epoch as the keyring and the database know it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What the keyring says.
    pub epoch: Epoch,
    /// Whether it is the one that wraps.
    pub current: bool,
    /// How many data keys are wrapped under it.
    pub data_keys: i64,
    /// When it was last of use.
    pub last_used_at: Option<OffsetDateTime>,
    /// The live nodes that have not reported it.
    pub unknown_to: Vec<String>,
}

/// What was destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destroyed {
    /// The epoch.
    pub epoch: EpochId,
    /// How many data keys, with everything that is sealed under them, open no more: none, but in an emergency.
    pub unreadable_data_keys: i64,
}

/// All epochs, destroyed ones included, by their numbers.
///
/// # Errors
/// `Keyring`, `Store`.
pub async fn list(store: &Store, keyring: &Keyring) -> Result<Vec<Listed>, EpochError> {
    keyring.reload()?;
    let mut uses: BTreeMap<i64, EpochUse> =
        store.epoch_uses().await?.into_iter().map(|known| (known.epoch, known)).collect();
    let nodes = store.live_nodes(ALIVE).await?;
    let current = keyring.current();
    let listed = |epoch: Epoch| {
        let known = uses.remove(&epoch.id.get());
        Listed {
            epoch,
            current: epoch.id == current,
            data_keys: known.as_ref().map_or(0, |known| known.data_keys),
            last_used_at: known.and_then(|known| known.last_used_at),
            unknown_to: match epoch.state {
                EpochState::Destroyed => Vec::new(),
                EpochState::Announced | EpochState::Active => without(&nodes, epoch.id),
            },
        }
    };
    Ok(keyring.epochs().into_iter().map(listed).collect())
}

/// Lets an announced epoch wrap: the newest, where none is named.
///
/// # Errors
/// `NotReported` with the nodes that do not know it; `NoneAnnounced`; `Keyring`, `Store`.
pub async fn activate(store: &Store, keyring: &Keyring, epoch: Option<EpochId>) -> Result<EpochId, EpochError> {
    keyring.reload()?;
    let announced = || keyring.epochs().into_iter().rev().find(|known| known.state == EpochState::Announced);
    let epoch = match epoch {
        Some(epoch) => epoch,
        None => announced().ok_or(EpochError::NoneAnnounced)?.id,
    };
    let nodes = without(&store.live_nodes(ALIVE).await?, epoch);
    if !nodes.is_empty() {
        return Err(EpochError::NotReported { epoch, nodes });
    }
    keyring.activate(epoch)?;
    Ok(epoch)
}

/// Makes an epoch, and activates it as soon as every live node has reported it, for which it waits at most so long. An epoch that waits
/// already, from an attempt before, is taken instead of a further one.
///
/// # Errors
/// As [`activate`]. The epoch stays announced then, and can be activated later.
pub async fn begin(store: &Store, keyring: &Keyring, clock: &Clock, patience: Duration) -> Result<EpochId, EpochError> {
    let epoch = announce(keyring, clock)?;
    let give_up = clock.since_boot() + patience;
    loop {
        match activate(store, keyring, Some(epoch)).await {
            Err(EpochError::NotReported { .. }) if clock.since_boot() < give_up => {
                tokio::time::sleep(EVERY / 4).await;
            }
            outcome => return outcome,
        }
    }
}

/// Makes an epoch under which nothing is wrapped yet; or finds the one that was announced and waits.
///
/// # Errors
/// `Keyring`.
pub fn announce(keyring: &Keyring, clock: &Clock) -> Result<EpochId, EpochError> {
    keyring.reload()?;
    let current = keyring.current();
    let waits = |known: &Epoch| known.state == EpochState::Announced && known.id > current;
    match keyring.epochs().into_iter().rev().find(waits) {
        Some(epoch) => Ok(epoch.id),
        None => Ok(keyring.new_epoch(clock)?),
    }
}

/// Destroys an epoch's key, for good. In an emergency it does not ask what is lost with it, and says so afterwards.
///
/// The database retires it first, so that nothing can be wrapped under it any more; if the process dies then, the same command goes on.
///
/// # Errors
/// `InUse`, `TooSoon`, `StillWraps`, which an emergency passes by; `Keyring` for the epoch that wraps, always.
pub async fn destroy(
    store: &Store,
    keyring: &Keyring,
    epoch: EpochId,
    emergency: bool,
) -> Result<Destroyed, EpochError> {
    keyring.reload()?;
    if !keyring.epochs().iter().any(|known| known.id == epoch) {
        return Err(KeyringError::UnknownEpoch(epoch).into());
    }
    if keyring.current() == epoch {
        return Err(KeyringError::CurrentEpoch(epoch).into());
    }
    let wraps = |node: &&LiveNode| node.wrapping == epoch.get();
    let nodes: Vec<_> = store.live_nodes(ALIVE).await?.iter().filter(wraps).map(name).collect();
    if !nodes.is_empty() && !emergency {
        return Err(EpochError::StillWraps { epoch, nodes });
    }
    let unreadable_data_keys = match store.retire_epoch(epoch.get(), REST, emergency).await? {
        Retired::Yes { data_keys } => data_keys,
        Retired::InUse { data_keys } => return Err(EpochError::InUse { epoch, data_keys }),
        Retired::TooSoon { last_used_at } => {
            return Err(EpochError::TooSoon { epoch, last_used_at, from: last_used_at + REST });
        }
    };
    keyring.destroy(epoch)?;
    store.epoch_destroyed(epoch.get()).await?;
    Ok(Destroyed { epoch, unreadable_data_keys })
}

/// Whether the keyring is the one that belongs to the database at this time: it has every epoch that data keys are wrapped under, and
/// none that was destroyed lives in it again.
///
/// # Errors
/// `UnknownEpoch` for a copy that is too old, `RolledBack` for one from before a destruction; `Store`.
pub async fn check(store: &Store, keyring: &Keyring) -> Result<(), EpochError> {
    let epochs = keyring.epochs();
    for known in store.epoch_uses().await? {
        let id = EpochId::from_i64(known.epoch);
        let here = epochs.iter().find(|epoch| epoch.id == id);
        match here {
            Some(epoch) if known.destroyed_at.is_some() && epoch.state != EpochState::Destroyed => {
                return Err(keyring.rolled_back().into());
            }
            None if known.data_keys > 0 => return Err(KeyringError::UnknownEpoch(id).into()),
            _ => {}
        }
    }
    Ok(())
}

/// Reads the keyring and reports this node, for as long as the process lives.
pub(crate) async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        tick.tick().await;
        read_keyring(&app, &mut told);
        remind(&app, &mut told);
        if let Err(error) = report(&app).await {
            tracing::debug!(%error, "this node could not report itself");
        }
    }
}

/// What was told before, and need not be told every two seconds.
#[derive(Default)]
struct Told {
    unreadable: bool,
    age_at: Option<Duration>,
}

/// What was known stays in use where the file cannot be read: that a keyring was damaged must stop nothing that runs.
fn read_keyring(app: &App, told: &mut Told) {
    let keyring = app.custody.keyring();
    let before = keyring.current();
    let read = keyring.reload();
    metrics::gauge!("keyholder_keyring_unreadable").set(if read.is_ok() { 0.0 } else { 1.0 });
    match read {
        Ok(()) => {
            told.unreadable = false;
            if keyring.current() != before {
                tracing::info!(epoch = keyring.current().get(), "data keys are wrapped under a new epoch");
            }
        }
        Err(error) if !told.unreadable => {
            told.unreadable = true;
            tracing::warn!(%error, "the keyring cannot be read again; this node goes on with what it knows");
        }
        Err(_) => {}
    }
}

/// Says that the epoch which wraps is older than a month.
fn remind(app: &App, told: &mut Told) {
    let keyring = app.custody.keyring();
    let current = keyring.current();
    let Some(epoch) = keyring.epochs().into_iter().find(|known| known.id == current) else { return };
    let age = app.clock.now() - epoch.created_at;
    metrics::gauge!("keyholder_keyring_epoch_age_seconds").set(age.as_seconds_f64());
    let now = app.clock.since_boot();
    if age > MONTH && told.age_at.is_none_or(|at| now >= at + REMINDER) {
        told.age_at = Some(now);
        let days = age.whole_days();
        tracing::warn!(
            epoch = current.get(),
            days,
            "the epoch that wraps is older than a month: keyholder keyring new-epoch"
        );
    }
}

async fn report(app: &App) -> Result<(), StoreError> {
    let keyring = app.custody.keyring();
    let held = |known: &Epoch| known.state != EpochState::Destroyed;
    let epochs: Vec<i64> = keyring.epochs().iter().filter(|known| held(known)).map(|known| known.id.get()).collect();
    let wrapping = keyring.current().get();
    app.store
        .report_node(Report { node: app.node, version: env!("CARGO_PKG_VERSION"), epochs: &epochs, wrapping })
        .await
}

fn without(nodes: &[LiveNode], epoch: EpochId) -> Vec<String> {
    nodes.iter().filter(|node| !node.epochs.contains(&epoch.get())).map(name).collect()
}

fn name(node: &LiveNode) -> String {
    format!("{} (version {}, last seen {})", node.node, node.version, node.seen_at)
}
