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
use seal::{Binding, Credential, DataKey, DerivedKey, Field, Keyring, Place, Plain, Sealed, WrappedDataKey, mac};
use store::{
    Tenant,
    credential::{SealedField, Stored},
    workspace::WrappedKey,
};

use crate::{App, Refusal};

/// How long an unwrapped data key stays in memory unused.
const KEY_REST: Duration = Duration::from_mins(10);
const MOST_KEYS: u64 = 10_000;

pub(crate) struct Custody {
    keyring: Keyring,
    environment: Environment,
    digests: DerivedKey,
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
}

fn closed(cause: impl std::error::Error + Send + Sync + 'static) -> DoesNotOpen {
    DoesNotOpen(Box::new(cause))
}

impl Custody {
    pub(crate) fn new(keyring: Keyring, environment: Environment, digests: DerivedKey) -> Self {
        let keys = Cache::builder().max_capacity(MOST_KEYS).time_to_idle(KEY_REST).build();
        let current = Cache::builder().max_capacity(MOST_KEYS).time_to_live(Duration::from_mins(1)).build();
        Self { keyring, environment, digests, keys, current }
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

    /// A new data key for a new workspace, as it is stored.
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
        if let Some(key) = self.keys.get(&(workspace, row.id)).await {
            return Ok(key);
        }
        let wrapped = WrappedDataKey { epoch: seal::EpochId::from_i64(row.epoch), bytes: row.wrapped };
        let key = Arc::new(wrapped.unwrap(&self.keyring, workspace, row.id).map_err(closed)?);
        self.keys.insert((workspace, row.id), Arc::clone(&key)).await;
        Ok(key)
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
        let sealed =
            seal::seal_credential(key, &binding, secret, hosts).map_err(|error| Refusal::internal("custody", error))?;
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
