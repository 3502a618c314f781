//! Data keys: one a workspace, which seals everything of that workspace.
//!
//! The database keeps them wrapped under an epoch key of the keyring. A wrapped key opens for its own workspace, id,
//! environment and epoch only. Deleting the row, or destroying the epoch, ends what it sealed.

use domain::{
    clock::Clock,
    environment::Environment,
    id::{DataKeyId, Id, WorkspaceId},
};

use crate::{
    aead::{self, FORMAT, Refusal},
    binding::Binding,
    frames::Frames,
    key::KeyBytes,
    keyring::{EpochId, Keyring, MissingEpoch},
};

/// A workspace's data key, opened: 32 bytes, overwritten on drop.
///
/// It is neither Clone nor Debug; share it by `Arc`.
/// ```compile_fail,E0277
/// # use domain::{clock::Clock, id::WorkspaceId};
/// let clock = Clock::system();
/// let text = format!("{:?}", keyholder_seal::DataKey::generate(WorkspaceId::new(&clock), &clock));
/// ```
pub struct DataKey {
    id: DataKeyId,
    workspace: WorkspaceId,
    key: KeyBytes,
}

/// A data key as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedDataKey {
    /// The epoch whose key opens it.
    pub epoch: EpochId,
    /// Format, nonce, ciphertext and tag: 61 bytes.
    pub bytes: Vec<u8>,
}

/// The cryptographic library failed while wrapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cipher failed")]
pub struct WrapError;

/// Why a wrapped data key did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// The keyring has never had this epoch: it was lost, or this node has not reloaded it.
    #[error("the keyring has no epoch {0}")]
    UnknownEpoch(EpochId),
    /// The epoch's key was destroyed, and with it everything under it.
    #[error("epoch {0} was destroyed, and what it wrapped is gone")]
    DestroyedEpoch(EpochId),
    /// Wrapped by a version that this one does not know.
    #[error("wrapped in format {0}, which this version does not know")]
    Format(u8),
    /// Changed bytes, another workspace, id, environment or epoch: it cannot be told which.
    #[error("does not open here: it was changed, or it belongs to another workspace, environment or epoch")]
    Refused,
}

impl DataKey {
    /// A new data key for the workspace.
    pub fn generate(workspace: WorkspaceId, clock: &Clock) -> Self {
        Self { id: DataKeyId::new(clock), workspace, key: KeyBytes::random() }
    }

    /// The key's name, stored with whatever it seals.
    pub fn id(&self) -> DataKeyId {
        self.id
    }

    /// The workspace that it is for.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// Wraps the key under the keyring's current epoch.
    ///
    /// # Errors
    /// Where the cipher fails.
    pub fn wrap(&self, keyring: &Keyring) -> Result<WrappedDataKey, WrapError> {
        let (epoch, key) = keyring.wrapping_key();
        let aad = aad(keyring.environment(), self.workspace, self.id, epoch);
        let bytes = if domain::sabotaged!(StolenDatabase) {
            self.key.as_bytes().to_vec()
        } else {
            aead::seal(&key, &aad, self.key.as_bytes()).map_err(|_| WrapError)?
        };
        Ok(WrappedDataKey { epoch, bytes })
    }

    pub(crate) fn key(&self) -> &KeyBytes {
        &self.key
    }

    /// Whether the binding names this key and its workspace.
    pub(crate) fn is_of(&self, binding: &Binding<'_>) -> bool {
        binding.workspace() == self.workspace && binding.data_key() == self.id
    }

    /// The same key material under other names, which only a forger would make.
    #[cfg(test)]
    pub(crate) fn renamed(&self, workspace: WorkspaceId, id: DataKeyId) -> Self {
        let key = KeyBytes::written_by(|key| key.copy_from_slice(self.key.as_bytes()));
        Self { id, workspace, key }
    }
}

impl WrappedDataKey {
    /// Opens the key for the workspace and the id that its row is found under.
    ///
    /// # Errors
    /// Where the epoch is unknown or destroyed, or the bytes do not belong there.
    pub fn unwrap(&self, keyring: &Keyring, workspace: WorkspaceId, id: DataKeyId) -> Result<DataKey, UnwrapError> {
        let aad = aad(keyring.environment(), workspace, id, self.epoch);
        let key = keyring.opening_key(self.epoch).map_err(|missing| match missing {
            MissingEpoch::Unknown => UnwrapError::UnknownEpoch(self.epoch),
            MissingEpoch::Destroyed => UnwrapError::DestroyedEpoch(self.epoch),
        })?;
        let bytes = if domain::sabotaged!(StolenDatabase) {
            zeroize::Zeroizing::new(self.bytes.clone())
        } else {
            aead::open(&key, &aad, &self.bytes).map_err(|refusal| match refusal {
                Refusal::Format(format) => UnwrapError::Format(format),
                Refusal::Short | Refusal::Tag => UnwrapError::Refused,
            })?
        };
        let key = KeyBytes::from_slice(&bytes).ok_or(UnwrapError::Refused)?;
        Ok(DataKey { id, workspace, key })
    }
}

fn aad(environment: Environment, workspace: WorkspaceId, id: DataKeyId, epoch: EpochId) -> Vec<u8> {
    Frames::new("keyholder/data-key", FORMAT)
        .part(environment.as_str().as_bytes())
        .part(workspace.uuid().as_bytes())
        .part(id.uuid().as_bytes())
        .part(&epoch.get().to_be_bytes())
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_key::RootKey;
    use tempfile::TempDir;

    fn keyring(folder: &TempDir, environment: Environment) -> Keyring {
        let path = folder.path().join(environment.as_str());
        Keyring::create(&path, &RootKey::generate(), environment, &Clock::system()).unwrap()
    }

    #[test]
    fn a_wrapped_key_opens_as_itself() {
        let (folder, clock) = (TempDir::new().unwrap(), Clock::system());
        let keyring = keyring(&folder, Environment::Local);
        let key = DataKey::generate(WorkspaceId::new(&clock), &clock);
        let wrapped = key.wrap(&keyring).unwrap();
        assert_eq!((wrapped.epoch, wrapped.bytes.len()), (keyring.current(), 61));
        let opened = wrapped.unwrap(&keyring, key.workspace(), key.id()).ok().unwrap();
        assert_eq!((opened.id(), opened.workspace()), (key.id(), key.workspace()));
        assert_eq!(opened.key.as_bytes(), key.key.as_bytes());
        assert_ne!(key.wrap(&keyring).unwrap().bytes, wrapped.bytes, "each wrap has its own nonce");
    }

    #[test]
    fn a_wrapped_key_moved_or_changed_does_not_open() {
        let (folder, clock) = (TempDir::new().unwrap(), Clock::system());
        let keyring = keyring(&folder, Environment::Local);
        let key = DataKey::generate(WorkspaceId::new(&clock), &clock);
        let (workspace, id) = (key.workspace(), key.id());
        let wrapped = key.wrap(&keyring).unwrap();
        let refused = |wrapped: &WrappedDataKey, workspace, id| wrapped.unwrap(&keyring, workspace, id).err();
        assert_eq!(refused(&wrapped, WorkspaceId::new(&clock), id), Some(UnwrapError::Refused));
        assert_eq!(refused(&wrapped, workspace, DataKeyId::new(&clock)), Some(UnwrapError::Refused));

        let next = keyring.new_epoch(&clock).unwrap();
        let moved = WrappedDataKey { epoch: next, ..wrapped.clone() };
        assert_eq!(refused(&moved, workspace, id), Some(UnwrapError::Refused));
        let unknown = WrappedDataKey { epoch: EpochId::from_i64(9), ..wrapped.clone() };
        assert_eq!(refused(&unknown, workspace, id), Some(UnwrapError::UnknownEpoch(EpochId::from_i64(9))));

        for bit in 0..wrapped.bytes.len() * 8 {
            let mut flipped = wrapped.clone();
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            let error = refused(&flipped, workspace, id).unwrap();
            assert_eq!(error != UnwrapError::Refused, bit < 8, "bit {bit}: {error}");
        }
        for length in 0..wrapped.bytes.len() {
            let short = WrappedDataKey { bytes: wrapped.bytes[..length].to_vec(), ..wrapped.clone() };
            assert_eq!(refused(&short, workspace, id), Some(UnwrapError::Refused));
        }
        assert_eq!(refused(&wrapped, workspace, id), None);
    }

    #[test]
    fn the_place_of_a_data_key_names_each_part() {
        let clock = Clock::system();
        let (workspace, id) = (WorkspaceId::new(&clock), DataKeyId::new(&clock));
        let [one, two] = [1, 2].map(EpochId::from_i64);
        let home = aad(Environment::Local, workspace, id, one);
        let moved = [
            aad(Environment::Staging, workspace, id, one),
            aad(Environment::Local, WorkspaceId::new(&clock), id, one),
            aad(Environment::Local, workspace, DataKeyId::new(&clock), one),
            aad(Environment::Local, workspace, id, two),
            aad(Environment::Local, WorkspaceId::from_uuid(id.uuid()), DataKeyId::from_uuid(workspace.uuid()), one),
        ];
        assert!(moved.iter().all(|aad| *aad != home));
    }

    #[test]
    fn another_installation_or_environment_opens_nothing() {
        let (folder, clock) = (TempDir::new().unwrap(), Clock::system());
        let (local, staging) = (keyring(&folder, Environment::Local), keyring(&folder, Environment::Staging));
        let key = DataKey::generate(WorkspaceId::new(&clock), &clock);
        let wrapped = key.wrap(&local).unwrap();
        assert_eq!(wrapped.unwrap(&staging, key.workspace(), key.id()).err(), Some(UnwrapError::Refused));
    }
}
