//! Custody: the one place that opens and seals. Data keys are unwrapped here and held for a while; credentials never are.

use std::{sync::Arc, time::Duration};

use domain::{
    clock::Clock,
    environment::Environment,
    id::{DataKeyId, WorkspaceId},
    principal::{Cause, Principal},
};
use moka::future::Cache;
use relation::{Action, action::SealAnswers};
use seal::{
    Binding, Credential, DataKey, DerivedKey, Field, Form, Keyring, Place, Plain, Sealed, UnwrapError, WrappedDataKey,
    mac,
};
use store::{
    Tenant,
    credential::{SealedField, Stored},
    rotation::sealed::{Found, SealedValue},
    workspace::WrappedKey,
};

use crate::{App, Refusal};

/// How long an unwrapped data key stays in memory, used or not. With the minute of `current` behind it, none outlives its workspace's
/// shredding by more than ten minutes: that is what the certificate says.
const KEY_LIFE: Duration = Duration::from_mins(9);
const MOST_KEYS: u64 = 10_000;

pub(crate) struct Custody {
    keyring: Keyring,
    environment: Environment,
    digests: DerivedKey,
    form: Form,
    clock: Clock,
    keys: Cache<(WorkspaceId, DataKeyId), Arc<DataKey>>,
    /// The newest key of a workspace, held for a minute: a new one is in use everywhere soon after.
    current: Cache<WorkspaceId, Arc<DataKey>>,
}

/// It does not open: changed, moved from another place, or sealed under a key that is gone.
#[derive(Debug, thiserror::Error)]
#[error("the sealed value does not open")]
pub struct DoesNotOpen(#[source] Box<dyn std::error::Error + Send + Sync>);

impl DoesNotOpen {
    /// It is not there, or its data key is not.
    pub(crate) fn gone() -> Self {
        Self("it is gone, or its data key is".into())
    }

    /// Whether this node's keyring lacks the epoch: it is stale, or cannot be read. Another node may have it; nothing is damaged.
    pub(crate) fn lacks_its_epoch(&self) -> bool {
        matches!(self.0.downcast_ref(), Some(UnwrapError::UnknownEpoch(_)))
    }
}

fn closed(cause: impl std::error::Error + Send + Sync + 'static) -> DoesNotOpen {
    DoesNotOpen(Box::new(cause))
}

impl Custody {
    pub(crate) fn new(
        keyring: Keyring,
        environment: Environment,
        digests: DerivedKey,
        (form, clock): (Form, Clock),
    ) -> Self {
        let keys = Cache::builder().max_capacity(MOST_KEYS).time_to_live(KEY_LIFE).build();
        let current = Cache::builder().max_capacity(MOST_KEYS).time_to_live(Duration::from_mins(1)).build();
        Self { keyring, environment, digests, form, clock, keys, current }
    }

    /// The digest of parts that are only ever compared, each behind its length. It is keyed: a copy of the database confirms no guess.
    pub(crate) fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut text = Vec::new();
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        mac::hmac_sha256(self.digests.as_bytes(), &[&text])
    }

    /// A new data key for a workspace, as it is stored: its first one, or that of a rotation.
    pub(crate) fn first_key(&self, workspace: WorkspaceId, clock: &Clock) -> Result<WrappedKey, Refusal> {
        let key = DataKey::generate(workspace, clock);
        let wrapped = key.wrap(&self.keyring).map_err(|error| Refusal::internal("custody", error))?;
        Ok(WrappedKey { id: key.id(), epoch: wrapped.epoch.get(), wrapped: wrapped.bytes })
    }

    /// The key that seals in the tenant's workspace, or the one with that id.
    pub(crate) async fn key<A: Action>(
        &self,
        tenant: &mut Tenant<A>,
        id: Option<DataKeyId>,
    ) -> Result<Arc<DataKey>, KeyError> {
        let workspace = tenant.workspace();
        if let Some(id) = id
            && let Some(key) = self.keys.get(&(workspace, id)).await
        {
            return Ok(key);
        }
        let row = store::data_key::get(tenant, id).await?;
        Ok(self.unwrap(workspace, row).await?)
    }

    /// The key of a row that was read in the workspace: the one in memory, or unwrapped now.
    pub(crate) async fn unwrap(&self, workspace: WorkspaceId, row: WrappedKey) -> Result<Arc<DataKey>, DoesNotOpen> {
        // Shredded: what this process still has in memory opens nothing any more.
        if row.wrapped.is_empty() {
            return Err(DoesNotOpen::gone());
        }
        if let Some(key) = self.keys.get(&(workspace, row.id)).await {
            return Ok(key);
        }
        let id = row.id;
        let key = Arc::new(self.unwrap_uncached(workspace, row)?);
        self.keys.insert((workspace, id), Arc::clone(&key)).await;
        Ok(key)
    }

    /// A node that slept while an epoch was made meets keys under it before it has read the keyring again: it reads it now.
    fn unwrap_uncached(&self, workspace: WorkspaceId, row: WrappedKey) -> Result<DataKey, DoesNotOpen> {
        let wrapped = WrappedDataKey { epoch: seal::EpochId::from_i64(row.epoch), bytes: row.wrapped };
        match wrapped.unwrap(&self.keyring, workspace, row.id) {
            Err(UnwrapError::UnknownEpoch(_)) if self.keyring.reload().is_ok() => {
                wrapped.unwrap(&self.keyring, workspace, row.id).map_err(closed)
            }
            unwrapped => unwrapped.map_err(closed),
        }
    }

    /// The epoch keys.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The same data key, wrapped under the current epoch.
    pub(crate) fn rewrap(&self, workspace: WorkspaceId, row: WrappedKey) -> Result<WrappedKey, DoesNotOpen> {
        let id = row.id;
        let wrapped = self.unwrap_uncached(workspace, row)?.wrap(&self.keyring).map_err(closed)?;
        Ok(WrappedKey { id, epoch: wrapped.epoch.get(), wrapped: wrapped.bytes })
    }

    /// The same value, sealed under another data key of its workspace, in its place.
    pub(crate) fn reseal(&self, old: &DataKey, new: &DataKey, value: &SealedValue) -> Result<Vec<u8>, DoesNotOpen> {
        let place = match &value.found {
            Found::Credential { connection, provider, field, .. } => {
                let field = field.parse::<Field>().map_err(closed)?;
                let place = Place::Credential { connection: *connection, provider, field };
                let binding = self.binding(old.workspace(), old.id(), place).map_err(closed)?;
                let sealed = Sealed::from_bytes(value.sealed.clone());
                let Credential { secret, hosts } = seal::open_credential(old, &binding, &sealed).map_err(closed)?;
                let sealed = self.seal_credential(new, (*connection, provider, field), secret, &hosts);
                return Ok(sealed.map_err(closed)?.sealed);
            }
            Found::Verifier(link) => Place::Verifier { link: *link },
            Found::Answer(act) => Place::Answer { act: *act },
        };
        let plain = self.open(old, place, value.sealed.clone())?;
        self.seal(new, place, plain).map_err(closed)
    }

    /// The key that seals in a workspace, for what is no credential.
    pub(crate) async fn sealing_key(&self, app: &App, workspace: WorkspaceId) -> Result<Arc<DataKey>, Refusal> {
        if let Some(key) = self.current.get(&workspace).await {
            return Ok(key);
        }
        let principal = Principal::system(Cause::Sweep, app.clock.now());
        let (mut tenant, _) = app.enter::<SealAnswers>(&principal, workspace, workspace).await?;
        let key = self.key(&mut tenant, None).await?;
        tenant.finish().await?;
        self.current.insert(workspace, Arc::clone(&key)).await;
        Ok(key)
    }

    /// Seals one field of a connection's credential, with the hosts that it may go to.
    pub(crate) fn seal_credential(
        &self,
        key: &DataKey,
        (connection, provider, field): (domain::id::ConnectionId, &str, Field),
        secret: Plain,
        hosts: &[String],
    ) -> Result<SealedField, Refusal> {
        let place = Place::Credential { connection, provider, field };
        let binding = self.binding(key.workspace(), key.id(), place)?;
        let sealed = seal::seal_credential_as(self.form, key, &binding, secret, hosts, self.clock.now())
            .map_err(|error| Refusal::internal("custody", error))?;
        Ok(SealedField { sealed: sealed.into_bytes(), key: key.id() })
    }

    /// Opens one field of a stored credential, for one call.
    pub(crate) fn open_credential(
        &self,
        key: &DataKey,
        stored: &Stored,
        field: Field,
    ) -> Result<Credential, DoesNotOpen> {
        let sealed = match field {
            Field::Access => Some(&stored.access),
            Field::Refresh => stored.refresh.as_ref(),
        };
        let sealed = sealed.ok_or_else(|| DoesNotOpen("there is no such field".into()))?;
        let place = Place::Credential { connection: stored.connection, provider: &stored.provider, field };
        let binding = self.binding(key.workspace(), key.id(), place).map_err(closed)?;
        seal::open_credential(key, &binding, &Sealed::from_bytes(sealed.sealed.clone())).map_err(closed)
    }

    /// Seals something that is kept for a while and is no credential.
    pub(crate) fn seal(&self, key: &DataKey, place: Place<'_>, plain: Plain) -> Result<Vec<u8>, Refusal> {
        let binding = self.binding(key.workspace(), key.id(), place)?;
        let sealed = seal::seal(key, &binding, plain).map_err(|error| Refusal::internal("custody", error))?;
        Ok(sealed.into_bytes())
    }

    /// Opens what [`Custody::seal`] sealed.
    pub(crate) fn open(&self, key: &DataKey, place: Place<'_>, sealed: Vec<u8>) -> Result<Plain, DoesNotOpen> {
        let binding = self.binding(key.workspace(), key.id(), place).map_err(closed)?;
        seal::open(key, &binding, &Sealed::from_bytes(sealed)).map_err(closed)
    }

    fn binding<'a>(&self, workspace: WorkspaceId, key: DataKeyId, place: Place<'a>) -> Result<Binding<'a>, Refusal> {
        Binding::new(self.environment, workspace, key, place).map_err(|error| Refusal::internal("custody", error))
    }
}

/// Why there is no data key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    Closed(#[from] DoesNotOpen),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => Self::from(error),
            KeyError::Closed(error) => Self::internal("custody", error),
        }
    }
}
