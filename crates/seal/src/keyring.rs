//! The keyring: the epoch keys, in a mutable file outside the database and its backups.
//!
//! Owns the life of an epoch: announced, active, destroyed. The newest active epoch wraps; every one that is not destroyed
//! opens. Destroying one is the only thing that ends what old backups can open, which is why its key must never be anywhere
//! but in this file, wrapped under the root key, and in the memory of the nodes.
//!
//! Does not decide *when*: that an epoch is activated only once every live node has reported it, and destroyed only when
//! nothing is wrapped under it any more, is known to the database and not here.

mod document;
mod file;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use domain::{clock::Clock, environment::Environment};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{key::KeyBytes, root_key::RootKey};
use document::{Authority, Document, Fault, Ring};

/// An epoch's number. The first is 1, and none is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochId(i64);

impl EpochId {
    /// The number that the database stored.
    pub fn from_i64(number: i64) -> Self {
        Self(number)
    }

    /// The number as the database stores it.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an epoch is in its life, which goes one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochState {
    /// It opens, but nothing is wrapped under it yet: some node may not know it.
    Announced,
    /// It opens, and the newest such one wraps.
    Active,
    /// Its key is gone. The entry stays, so that its number is not given again.
    Destroyed,
}

impl EpochState {
    /// The word in the file and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Active => "active",
            Self::Destroyed => "destroyed",
        }
    }
}

/// What may be told of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Epoch {
    /// Its number.
    pub id: EpochId,
    /// Where it is in its life.
    pub state: EpochState,
    /// When it was made, to the second.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Why the keyring cannot be used or changed. No message quotes the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no file.
    #[error("there is no keyring at {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A new keyring would take the place of one that is there.
    #[error("there is a keyring at {path} already")]
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// The path is a folder, a pipe or a device.
    #[error("{path} is not a file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The group or others may read or change it.
    #[error("the keyring {path} is open to others (mode {mode:03o}); only its owner may read it: chmod 600")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More than 1 MiB, which no keyring has.
    #[error("{path} is too large to be a keyring")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not the JSON of a keyring: broken, or with an unknown, missing or doubled field.
    #[error("{path} is not a keyring: malformed at line {line}, column {column}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Written by a version that this one does not know.
    #[error("the keyring {path} has format {format}, which this version does not know")]
    Format {
        /// The file.
        path: PathBuf,
        /// The number found.
        format: u64,
    },
    /// Made for another environment.
    #[error("the keyring {path} is of the environment {found}, and this installation is {wanted}")]
    OtherEnvironment {
        /// The file.
        path: PathBuf,
        /// The file's environment.
        found: Environment,
        /// The installation's.
        wanted: Environment,
    },
    /// Made under another root key.
    #[error("the keyring {path} was made under another root key than the one configured")]
    OtherRootKey {
        /// The file.
        path: PathBuf,
    },
    /// Made under this root key, and changed since by somebody else.
    #[error("the keyring {path} is damaged: its contents are not what was written")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// An older file was put back: an epoch vanished, or a destroyed one lives again.
    #[error("the keyring {path} was rolled back to an older state")]
    RolledBack {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {doing} the keyring at {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// There is no such epoch.
    #[error("the keyring has no epoch {0}")]
    UnknownEpoch(EpochId),
    /// The epoch was destroyed and cannot be activated.
    #[error("epoch {0} was destroyed")]
    DestroyedEpoch(EpochId),
    /// The epoch is the one that wraps: another must be activated first.
    #[error("epoch {0} is the current one; activate a newer one before destroying it")]
    CurrentEpoch(EpochId),
    /// It has as many epochs as it may.
    #[error("the keyring is full")]
    Full,
    /// The cryptographic library failed.
    #[error("the cipher failed")]
    Cipher,
}

/// An epoch that cannot be used, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingEpoch {
    Unknown,
    Destroyed,
}

/// The epoch keys, opened, and the file that they live in.
///
/// Reading takes no lock for longer than it takes to count a reference. Changes go to the file first, whole or not at all, one
/// at a time across all processes; other processes see them when they [`Keyring::reload`].
pub struct Keyring {
    path: PathBuf,
    authority: Authority,
    ring: RwLock<Arc<Ring>>,
    /// Held from reading the file until what it said is in `ring`, lest an older reading overtake a newer one.
    turn: Mutex<()>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("path", &self.path).field("epochs", &self.epochs()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Opens the keyring at the path.
    ///
    /// # Errors
    /// Where it is missing, open to others, of another environment or root key, or damaged.
    pub fn open(path: &Path, root: &RootKey, environment: Environment) -> Result<Self, KeyringError> {
        let authority = Authority::new(root, environment);
        let (_, ring) = read(path, &authority)?;
        Ok(Self::with(path, authority, ring))
    }

    /// Makes a keyring with one active epoch. Its folder must exist.
    ///
    /// # Errors
    /// `Exists` where there is one, whatever its state: a keyring that is overwritten takes all credentials with it.
    pub fn create(path: &Path, root: &RootKey, environment: Environment, clock: &Clock) -> Result<Self, KeyringError> {
        let authority = Authority::new(root, environment);
        let _lock = file::lock(path)?;
        // A link that leads nowhere is something that is there, too.
        if path.symlink_metadata().is_ok() {
            return Err(KeyringError::Exists { path: path.into() });
        }
        let mut document = Document::empty(&authority);
        document.add(&authority, EpochState::Active, clock.now())?;
        let ring = write(path, &authority, &mut document)?;
        Ok(Self::with(path, authority, ring))
    }

    /// Opens the keyring, or makes one where there is none: for `up`, `demo` and tests. A server whose keyring is missing must
    /// not start, since a new one opens nothing of what the database holds.
    ///
    /// # Errors
    /// As [`Keyring::open`] and [`Keyring::create`].
    pub fn open_or_create(
        path: &Path,
        root: &RootKey,
        environment: Environment,
        clock: &Clock,
    ) -> Result<Self, KeyringError> {
        match Self::open(path, root, environment) {
            Err(KeyringError::Missing { .. }) => {}
            outcome => return outcome,
        }
        match Self::create(path, root, environment, clock) {
            // Another process was faster.
            Err(KeyringError::Exists { .. }) => Self::open(path, root, environment),
            outcome => outcome,
        }
    }

    /// The environment that it was opened for.
    pub fn environment(&self) -> Environment {
        self.authority.environment
    }

    /// What to say of this keyring where others know of a later state than it has.
    pub fn rolled_back(&self) -> KeyringError {
        KeyringError::RolledBack { path: self.path.clone() }
    }

    /// The epoch that wraps: the newest active one.
    pub fn current(&self) -> EpochId {
        self.ring().current
    }

    /// All epochs by their numbers, destroyed ones included: what a node reports, what a command lists.
    pub fn epochs(&self) -> Vec<Epoch> {
        self.ring().epochs.values().map(|opened| opened.epoch).collect()
    }

    /// Reads the file again. Where that fails, what was known stays in use.
    ///
    /// # Errors
    /// As [`Keyring::open`], and `RolledBack`.
    pub fn reload(&self) -> Result<(), KeyringError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, ring) = self.read()?;
        self.adopt(ring);
        Ok(())
    }

    /// Announces a new epoch. Nothing is wrapped under it until [`Keyring::activate`], so that all nodes can learn of it
    /// before.
    ///
    /// # Errors
    /// As [`Keyring::reload`], and `Full`.
    pub fn new_epoch(&self, clock: &Clock) -> Result<EpochId, KeyringError> {
        self.change(|document| document.add(&self.authority, EpochState::Announced, clock.now()))
    }

    /// Lets an announced epoch wrap. Activating twice does nothing.
    ///
    /// # Errors
    /// As [`Keyring::reload`]; `UnknownEpoch`, `DestroyedEpoch`.
    pub fn activate(&self, epoch: EpochId) -> Result<(), KeyringError> {
        self.change(|document| document.activate(epoch))
    }

    /// Destroys the epoch's key: nothing that is wrapped under it ever opens again. Destroying twice does nothing.
    ///
    /// # Errors
    /// As [`Keyring::reload`]; `UnknownEpoch`, `CurrentEpoch`.
    pub fn destroy(&self, epoch: EpochId) -> Result<(), KeyringError> {
        self.change(|document| document.destroy(epoch))
    }

    /// The current epoch and its key, both of one moment.
    pub(crate) fn wrapping_key(&self) -> (EpochId, Arc<KeyBytes>) {
        let ring = self.ring();
        (ring.current, Arc::clone(&ring.wrapping))
    }

    pub(crate) fn opening_key(&self, epoch: EpochId) -> Result<Arc<KeyBytes>, MissingEpoch> {
        let ring = self.ring();
        let opened = ring.epochs.get(&epoch).ok_or(MissingEpoch::Unknown)?;
        opened.key.clone().ok_or(MissingEpoch::Destroyed)
    }

    fn with(path: &Path, authority: Authority, ring: Ring) -> Self {
        Self { path: path.into(), authority, ring: RwLock::new(Arc::new(ring)), turn: Mutex::new(()) }
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self) -> Result<(Document, Ring), KeyringError> {
        let (document, ring) = read(&self.path, &self.authority)?;
        if ring.follows(&self.ring()) { Ok((document, ring)) } else { Err(self.rolled_back()) }
    }

    fn adopt(&self, ring: Ring) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Changes the file as it is now, not as this process last saw it.
    fn change<T>(&self, change: impl FnOnce(&mut Document) -> Result<T, KeyringError>) -> Result<T, KeyringError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = file::lock(&self.path)?;
        let (mut document, _) = self.read()?;
        let outcome = change(&mut document)?;
        self.adopt(write(&self.path, &self.authority, &mut document)?);
        Ok(outcome)
    }
}

fn read(path: &Path, authority: &Authority) -> Result<(Document, Ring), KeyringError> {
    let bytes = file::read(path)?;
    let document = Document::parse(&bytes).map_err(|fault| at(path, authority, fault))?;
    let ring = document.open(authority).map_err(|fault| at(path, authority, fault))?;
    Ok((document, ring))
}

/// Opens what is about to be written before it is written, so that no file is left that would not open.
fn write(path: &Path, authority: &Authority, document: &mut Document) -> Result<Ring, KeyringError> {
    let io = |error| KeyringError::Io { doing: "write", path: path.into(), source: io::Error::from(error) };
    let bytes = document.write(authority).map_err(io)?;
    let ring = document.open(authority).map_err(|fault| at(path, authority, fault))?;
    file::replace(path, &bytes)?;
    Ok(ring)
}

fn at(path: &Path, authority: &Authority, fault: Fault) -> KeyringError {
    let path = path.to_owned();
    match fault {
        Fault::Malformed { line, column } => KeyringError::Malformed { path, line, column },
        Fault::Format(format) => KeyringError::Format { path, format },
        Fault::OtherEnvironment(found) => KeyringError::OtherEnvironment { path, found, wanted: authority.environment },
        Fault::OtherRootKey => KeyringError::OtherRootKey { path },
        Fault::Damaged => KeyringError::Damaged { path },
    }
}
