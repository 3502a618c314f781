//! What the keyring's file says, and how it is known to be whole.
//!
//! Owns the format: JSON with a number of format, unknown fields refused, one code of authentication over everything. Each
//! epoch key in it is wrapped under a key of the root key's, so that the file alone opens nothing.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::environment::Environment;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Epoch, EpochId, EpochState, KeyringError};
use crate::{
    aead,
    frames::Frames,
    key::KeyBytes,
    mac,
    root_key::{DerivedKey, Purpose, RootKey},
};

const FORMAT: u8 = 1;

/// Eighty years of monthly epochs.
const EPOCHS_MAX: usize = 1000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    format: u8,
    environment: Environment,
    /// The root key's check value, hexadecimal.
    root_key: String,
    /// In the order of their ids.
    epochs: Vec<Entry>,
    /// HMAC-SHA256 over all the rest, hexadecimal.
    mac: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: EpochId,
    state: EpochState,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The epoch's key, wrapped, base64. A destroyed epoch has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// The one field by which any version recognises a file.
#[derive(Deserialize)]
struct Head {
    format: u64,
}

/// What the root key lends to one keyring in one environment.
pub(super) struct Authority {
    pub(super) environment: Environment,
    wrap: DerivedKey,
    mac: DerivedKey,
    check: String,
}

/// The keyring, opened.
pub(super) struct Ring {
    pub(super) current: EpochId,
    /// The current epoch's key.
    pub(super) wrapping: Arc<KeyBytes>,
    pub(super) epochs: BTreeMap<EpochId, Opened>,
}

pub(super) struct Opened {
    pub(super) epoch: Epoch,
    /// `None` where it was destroyed.
    pub(super) key: Option<Arc<KeyBytes>>,
}

/// Why a document is not a keyring of ours. The keyring adds the path.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    Malformed { line: usize, column: usize },
    Format(u64),
    OtherEnvironment(Environment),
    OtherRootKey,
    Damaged,
}

impl Authority {
    pub(super) fn new(root: &RootKey, environment: Environment) -> Self {
        let environment = if domain::sabotaged!(ForeignDatabases) { Environment::Local } else { environment };
        Self {
            environment,
            wrap: root.derive(Purpose::KeyringWrap, environment),
            mac: root.derive(Purpose::KeyringMac, environment),
            check: hex::encode(root.check_value(environment)),
        }
    }

    fn aad(&self, epoch: EpochId) -> Vec<u8> {
        Frames::new("keyholder/epoch-key", aead::FORMAT)
            .part(self.environment.as_str().as_bytes())
            .part(&epoch.get().to_be_bytes())
            .into_bytes()
    }

    fn unwrap(&self, entry: &Entry) -> Option<KeyBytes> {
        let bytes = STANDARD.decode(entry.key.as_ref()?).ok()?;
        KeyBytes::from_slice(&aead::open(self.wrap.key(), &self.aad(entry.id), &bytes).ok()?)
    }
}

impl Document {
    /// A keyring without an epoch, which is not yet one.
    pub(super) fn empty(authority: &Authority) -> Self {
        Self {
            format: FORMAT,
            environment: authority.environment,
            root_key: authority.check.clone(),
            epochs: Vec::new(),
            mac: String::new(),
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        // Of the parser's message only the place is kept: a wrong file may be a secret, and the message would quote it.
        let malformed = |error: serde_json::Error| Fault::Malformed { line: error.line(), column: error.column() };
        let Head { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != u64::from(FORMAT) {
            return Err(Fault::Format(format));
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }

    pub(super) fn write(&mut self, authority: &Authority) -> Result<Vec<u8>, serde_json::Error> {
        self.mac = hex::encode(mac::hmac_sha256(authority.mac.as_bytes(), &[&self.authenticated()]));
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Everything but the code itself.
    fn authenticated(&self) -> Vec<u8> {
        let head = Frames::new("keyholder/keyring", self.format)
            .part(self.environment.as_str().as_bytes())
            .part(self.root_key.as_bytes());
        let each = |frames: Frames, entry: &Entry| {
            frames
                .part(&entry.id.get().to_be_bytes())
                .part(entry.state.as_str().as_bytes())
                .part(&entry.created_at.unix_timestamp_nanos().to_be_bytes())
                .part(entry.key.as_deref().unwrap_or_default().as_bytes())
        };
        self.epochs.iter().fold(head, each).into_bytes()
    }

    /// Checks everything that the document says, and opens its keys.
    pub(super) fn open(&self, authority: &Authority) -> Result<Ring, Fault> {
        if self.environment != authority.environment {
            return Err(Fault::OtherEnvironment(self.environment));
        }
        if !mac::same(self.root_key.as_bytes(), authority.check.as_bytes()) {
            return Err(Fault::OtherRootKey);
        }
        let tag = hex::decode(&self.mac).map_err(|_| Fault::Damaged)?;
        if !mac::verify_hmac_sha256(authority.mac.as_bytes(), &[&self.authenticated()], &tag) {
            return Err(Fault::Damaged);
        }
        let (mut epochs, mut newest) = (BTreeMap::new(), None);
        for entry in &self.epochs {
            let key = match entry.state {
                EpochState::Destroyed => None,
                EpochState::Announced | EpochState::Active => {
                    Some(Arc::new(authority.unwrap(entry).ok_or(Fault::Damaged)?))
                }
            };
            if let (EpochState::Active, Some(key)) = (entry.state, &key) {
                newest = Some((entry.id, Arc::clone(key)));
            }
            let epoch = Epoch { id: entry.id, state: entry.state, created_at: entry.created_at };
            epochs.insert(entry.id, Opened { epoch, key });
        }
        let (current, wrapping) = newest.ok_or(Fault::Damaged)?;
        Ok(Ring { current, wrapping, epochs })
    }

    /// The newest epoch that is active.
    fn current(&self) -> Option<EpochId> {
        self.epochs.iter().rev().find(|entry| entry.state == EpochState::Active).map(|entry| entry.id)
    }

    /// Adds an epoch with a new key.
    pub(super) fn add(
        &mut self,
        authority: &Authority,
        state: EpochState,
        created_at: OffsetDateTime,
    ) -> Result<EpochId, KeyringError> {
        if self.epochs.len() >= EPOCHS_MAX {
            return Err(KeyringError::Full);
        }
        let id = EpochId::from_i64(self.epochs.last().map_or(0, |entry| entry.id.get()) + 1);
        let key = aead::seal(authority.wrap.key(), &authority.aad(id), KeyBytes::random().as_bytes());
        let key = Some(STANDARD.encode(key.map_err(|_| KeyringError::Cipher)?));
        self.epochs.push(Entry { id, state, created_at: created_at.truncate_to_second(), key });
        Ok(id)
    }

    pub(super) fn activate(&mut self, id: EpochId) -> Result<(), KeyringError> {
        let entry = self.entry(id)?;
        if entry.state == EpochState::Destroyed {
            return Err(KeyringError::DestroyedEpoch(id));
        }
        entry.state = EpochState::Active;
        Ok(())
    }

    pub(super) fn destroy(&mut self, id: EpochId) -> Result<(), KeyringError> {
        if self.current() == Some(id) {
            return Err(KeyringError::CurrentEpoch(id));
        }
        let entry = self.entry(id)?;
        entry.state = EpochState::Destroyed;
        entry.key = None;
        Ok(())
    }

    fn entry(&mut self, id: EpochId) -> Result<&mut Entry, KeyringError> {
        self.epochs.iter_mut().find(|entry| entry.id == id).ok_or(KeyringError::UnknownEpoch(id))
    }
}

impl Ring {
    /// Whether this could be what `known` became: no epoch vanished, and no destroyed one lives again.
    pub(super) fn follows(&self, known: &Self) -> bool {
        known
            .epochs
            .values()
            .all(|old| self.epochs.get(&old.epoch.id).is_some_and(|new| new.epoch.state >= old.epoch.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn document(authority: &Authority) -> Document {
        let mut document = Document::empty(authority);
        document.add(authority, EpochState::Active, NOON).ok().unwrap();
        document.add(authority, EpochState::Announced, NOON).ok().unwrap();
        document
    }

    #[test]
    fn a_wrapped_key_opens_under_its_own_number_and_environment_alone() {
        let root = RootKey::generate();
        let authority = Authority::new(&root, Environment::Local);
        let mut document = document(&authority);
        document.write(&authority).unwrap();
        assert!(document.open(&authority).is_ok());
        // The code over the whole is made anew, so that the wrapping alone is left to refuse.
        let (one, two) = (document.epochs[0].key.clone(), document.epochs[1].key.clone());
        (document.epochs[0].key, document.epochs[1].key) = (two, one);
        document.write(&authority).unwrap();
        assert!(matches!(document.open(&authority), Err(Fault::Damaged)));

        let staging = Authority::new(&root, Environment::Staging);
        assert_ne!(authority.aad(EpochId::from_i64(1)), staging.aad(EpochId::from_i64(1)));
        assert_ne!(authority.aad(EpochId::from_i64(1)), authority.aad(EpochId::from_i64(2)));
    }

    #[test]
    fn a_document_without_an_active_epoch_is_no_keyring() {
        let authority = Authority::new(&RootKey::generate(), Environment::Local);
        let mut document = document(&authority);
        document.epochs.remove(0);
        document.write(&authority).unwrap();
        assert!(matches!(document.open(&authority), Err(Fault::Damaged)));
    }

    #[test]
    fn the_number_of_epochs_is_bounded() {
        let authority = Authority::new(&RootKey::generate(), Environment::Local);
        let mut document = Document::empty(&authority);
        for _ in 0..EPOCHS_MAX {
            document.add(&authority, EpochState::Active, NOON).ok().unwrap();
        }
        let bytes = document.write(&authority).unwrap();
        assert!(bytes.len() < 1 << 19, "{} bytes leave room in the file", bytes.len());
        let refused = document.add(&authority, EpochState::Active, NOON);
        assert!(matches!(refused, Err(KeyringError::Full)));
        assert_eq!(document.open(&authority).ok().unwrap().current.get(), 1000);
    }
}
