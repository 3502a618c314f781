//! `keyring …`: epochs made, activated and destroyed; rotations asked for, stopped and watched.
//!
//! Changes the keyring's file and says to the database what the nodes are to do. Starts no server, and opens no data key.

use std::{fmt::Write as _, process::ExitCode, sync::Arc, time::Duration};

use domain::{clock::Clock, id::NodeId};
use seal::{EpochId, Keyring, Purpose};
use serde::Serialize;
use service::{
    epoch::{self, EpochError, Listed},
    rotation::{self, Order, RotationError},
};
use store::{
    ContextKey, Store, StoreOptions,
    gate::{self, Expectation},
    rotation::{Kind, Standing},
};
use time::OffsetDateTime;

use super::{
    args::{ConfigArgs, KeyringCommand, RotateArgs},
    failure::{Exit, Failure},
    observe,
    output::{Progress, Voice},
    sources,
};
use crate::{StartError, config::Config, instance::template_key, telemetry::Writer};

/// Does what the command says.
pub(super) async fn run(command: KeyringCommand, voice: Voice) -> Result<ExitCode, Failure> {
    match command {
        KeyringCommand::NewEpoch { announce, wait, config } => {
            let desk = Desk::open(&config).await?;
            let made = new_epoch(&desk, announce, Duration::from_secs(wait), voice).await;
            desk.close(made).await
        }
        KeyringCommand::List { config } => {
            let desk = Desk::open(&config).await?;
            let listed = list(&desk, voice).await;
            desk.close(listed).await
        }
        KeyringCommand::Activate { epoch, config } => {
            let desk = Desk::open(&config).await?;
            let activated = activate(&desk, epoch, voice).await;
            desk.close(activated).await
        }
        KeyringCommand::Destroy { epoch, now, config } => {
            let desk = Desk::open(&config).await?;
            let destroyed = destroy(&desk, EpochId::from_i64(epoch), now, voice).await;
            desk.close(destroyed).await
        }
        KeyringCommand::Rotate(args) => {
            let desk = Desk::open(&args.config).await?;
            let rotated = rotate(&desk, &args, voice).await;
            desk.close(rotated).await
        }
    }
}

/// What these commands work on: keyring and database, each found to be the other's.
struct Desk {
    store: Store,
    keyring: Keyring,
    clock: Clock,
}

impl Desk {
    async fn open(args: &ConfigArgs) -> Result<Self, Failure> {
        let (mut config, urls) = Config::for_serving(&sources(args)?)?;
        observe(config.log.clone(), &std::mem::take(&mut config.secrets), Writer::Stderr)?;
        let keyring = Keyring::open(&config.keyring, &config.root_key, config.environment)
            .map_err(|source| StartError::Keyring { path: config.keyring.clone(), source })?;
        let clock = Clock::system();
        let store = Store::open(StoreOptions {
            urls,
            context_key: ContextKey::new(*config.root_key.derive(Purpose::Context, config.environment).as_bytes()),
            node: NodeId::new(&clock),
            clock: clock.clone(),
            connections: 1,
            model: relation::permission::own(),
            template_key: template_key(&config.root_key, config.environment),
            plans: Arc::default(),
        });
        #[cfg(feature = "sabotage")]
        crate::sabotage::confine(&store, &[]).await?;
        let expected = Expectation {
            installation: &config.installation,
            environment: config.environment,
            root_check: config.root_key.check_value(config.environment),
        };
        let faults = gate::check(&store, &expected).await.map_err(|error| StartError::Database("the gate", error))?;
        if !faults.is_empty() {
            return Err(StartError::Gate(faults).into());
        }
        Ok(Self { store, keyring, clock })
    }

    async fn close(self, outcome: Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
        self.store.close().await;
        outcome
    }

    /// Asks for the re-wrapping that an epoch which has just begun to wrap is for.
    async fn rewrap(&self) -> Result<(), Failure> {
        match rotation::order(&self.store, &self.keyring, Kind::Wraps, Order::Start).await {
            Err(RotationError::UnderWay) => Ok(()),
            ordered => ordered.map_err(not_ordered),
        }
    }
}

#[derive(Serialize)]
struct Begun {
    epoch: i64,
    state: &'static str,
}

async fn new_epoch(desk: &Desk, only_announce: bool, wait: Duration, voice: Voice) -> Result<ExitCode, Failure> {
    if only_announce {
        let epoch = epoch::announce(&desk.keyring, &desk.clock).map_err(refused)?;
        let words = format!(
            "Epoch {epoch} is announced. Copy the keyring to every machine that serves, then: keyholder keyring activate {epoch}"
        );
        voice.say(&Begun { epoch: epoch.get(), state: "announced" }, &words);
        return Ok(Exit::Done.into());
    }
    let progress = Progress::begin("waiting until every node has reported the epoch");
    let begun = epoch::begin(&desk.store, &desk.keyring, &desk.clock, wait).await;
    progress.end();
    say_begun(desk, begun.map_err(refused)?, voice).await
}

async fn activate(desk: &Desk, epoch: Option<i64>, voice: Voice) -> Result<ExitCode, Failure> {
    let epoch = epoch.map(EpochId::from_i64);
    let activated = epoch::activate(&desk.store, &desk.keyring, epoch).await.map_err(refused)?;
    say_begun(desk, activated, voice).await
}

async fn say_begun(desk: &Desk, epoch: EpochId, voice: Voice) -> Result<ExitCode, Failure> {
    desk.rewrap().await?;
    let words = format!(
        "Epoch {epoch} wraps from now on, and the nodes wrap all data keys under it anew (keyholder keyring rotate --status). \
         Keep a copy of the keyring with the root key, and never in the database's backups."
    );
    voice.say(&Begun { epoch: epoch.get(), state: "active" }, &words);
    Ok(Exit::Done.into())
}

#[derive(Serialize)]
struct Epochs {
    epochs: Vec<ListedEpoch>,
}

#[derive(Serialize)]
struct ListedEpoch {
    epoch: i64,
    state: &'static str,
    current: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    data_keys: i64,
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    unknown_to: Vec<String>,
}

impl From<Listed> for ListedEpoch {
    fn from(listed: Listed) -> Self {
        Self {
            epoch: listed.epoch.id.get(),
            state: listed.epoch.state.as_str(),
            current: listed.current,
            created_at: listed.epoch.created_at,
            data_keys: listed.data_keys,
            last_used_at: listed.last_used_at,
            unknown_to: listed.unknown_to,
        }
    }
}

async fn list(desk: &Desk, voice: Voice) -> Result<ExitCode, Failure> {
    let listed = epoch::list(&desk.store, &desk.keyring).await.map_err(refused)?;
    let epochs: Vec<ListedEpoch> = listed.into_iter().map(ListedEpoch::from).collect();
    let mut words = String::new();
    for epoch in &epochs {
        let wraps = if epoch.current { ", wraps" } else { "" };
        // Writing to a string does not fail, here and below.
        let _ = write!(
            words,
            "{}epoch {}: {}{wraps}, made {}, {} data keys",
            if words.is_empty() { "" } else { "\n" },
            epoch.epoch,
            epoch.state,
            epoch.created_at,
            epoch.data_keys
        );
        if let Some(at) = epoch.last_used_at {
            let _ = write!(words, ", last of use {at}");
        }
        for node in &epoch.unknown_to {
            let _ = write!(words, "\n  not reported by {node}");
        }
    }
    voice.say(&Epochs { epochs }, &words);
    Ok(Exit::Done.into())
}

#[derive(Serialize)]
struct Ended {
    epoch: i64,
    unreadable_data_keys: i64,
}

async fn destroy(desk: &Desk, epoch: EpochId, now: bool, voice: Voice) -> Result<ExitCode, Failure> {
    let destroyed = epoch::destroy(&desk.store, &desk.keyring, epoch, now).await.map_err(refused)?;
    let words = match destroyed.unreadable_data_keys {
        0 => format!("Epoch {epoch} is destroyed: no backup from its time opens any more."),
        keys => format!(
            "Epoch {epoch} is destroyed. {keys} data keys were wrapped under it: what they sealed (credentials, kept answers) opens no \
             more, here and in every backup. The owners of these accounts must connect again."
        ),
    };
    let care = "Copies of the keyring from before still hold its key: overwrite them with this one.";
    voice.say(
        &Ended { epoch: epoch.get(), unreadable_data_keys: destroyed.unreadable_data_keys },
        &format!("{words}\n{care}"),
    );
    Ok(Exit::Done.into())
}

#[derive(Serialize)]
struct Rotations {
    rotations: Vec<Rotation>,
}

#[derive(Serialize)]
struct Rotation {
    kind: &'static str,
    state: String,
    phase: String,
    target: i64,
    renewed: i64,
    overtaken: i64,
    unopened: i64,
    deleted_keys: i64,
    #[serde(with = "time::serde::rfc3339")]
    asked_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    moved_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

impl From<Standing> for Rotation {
    fn from(standing: Standing) -> Self {
        Self {
            kind: standing.kind.as_str(),
            state: standing.state,
            phase: standing.phase,
            target: standing.target,
            renewed: standing.done.renewed,
            overtaken: standing.done.overtaken,
            unopened: standing.done.unopened,
            deleted_keys: standing.done.deleted_keys,
            asked_at: standing.asked_at,
            moved_at: standing.moved_at,
            finished_at: standing.finished_at,
        }
    }
}

async fn rotate(desk: &Desk, args: &RotateArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let order = match (args.stop, args.resume) {
        (true, _) => Order::Stop,
        (_, true) => Order::Resume,
        _ => Order::Start,
    };
    for (wanted, kind) in [(args.wraps, Kind::Wraps), (args.data_keys, Kind::DataKeys)] {
        if wanted {
            rotation::order(&desk.store, &desk.keyring, kind, order).await.map_err(not_ordered)?;
        }
    }
    let standing = rotation::standing(&desk.store).await.map_err(not_ordered)?;
    let rotations: Vec<Rotation> = standing.into_iter().map(Rotation::from).collect();
    let lines: Vec<_> = rotations.iter().map(in_words).collect();
    let words = if lines.is_empty() { "No rotation was asked for yet.".to_owned() } else { lines.join("\n") };
    voice.say(&Rotations { rotations }, &words);
    Ok(Exit::Done.into())
}

fn in_words(rotation: &Rotation) -> String {
    let Rotation { kind, state, phase, target, renewed, overtaken, unopened, deleted_keys, .. } = rotation;
    let what = match *kind {
        "wraps" => format!("wraps, under epoch {target}"),
        _ => format!("data keys, generation {target}, {phase}"),
    };
    format!(
        "{what}: {state}; {renewed} renewed, {overtaken} overtaken and looked at again, {unopened} that do not open, {deleted_keys} old keys \
         deleted; asked for {}, last moved {}",
        rotation.asked_at, rotation.moved_at
    )
}

fn refused(error: EpochError) -> Failure {
    match error {
        EpochError::Store(error) => StartError::Database("its epochs", error).into(),
        error @ EpochError::Keyring(_) => Failure::because(Exit::Key, "the epoch is as it was", error),
        error => Failure::said(Exit::Key, error.to_string()),
    }
}

fn not_ordered(error: RotationError) -> Failure {
    match error {
        RotationError::Store(error) => StartError::Database("its rotations", error).into(),
        error => Failure::said(Exit::Other, error.to_string()),
    }
}
