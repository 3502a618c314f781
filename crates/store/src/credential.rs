//! Sealed credentials, one row a field, and the lease under which one node at a time refreshes them.
//!
//! Bytes in, bytes out: this module cannot open what it stores. A refresh raises no revision; it raises the credential's version.

use std::time::Duration;

use domain::{
    connection::State,
    id::{ConnectionId, DataKeyId, Id, NodeId},
};
use relation::{
    Action,
    action::{OpenForKillDrill, ReceiveCredential, Refresh},
};
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{StoreError, Tenant};

/// One sealed field, and the data key that opens it.
#[derive(Debug, Clone)]
pub struct SealedField {
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// The data key.
    pub key: DataKeyId,
}

/// A connection's credential, sealed.
#[derive(Debug)]
pub struct Stored {
    /// The connection.
    pub connection: ConnectionId,
    /// The provider file's name, to which the seal is bound.
    pub provider: String,
    /// The connection's state.
    pub state: State,
    /// The access token.
    pub access: SealedField,
    /// The refresh token, where the provider gave one.
    pub refresh: Option<SealedField>,
    /// How often it was refreshed.
    pub version: i64,
    /// When the access token dies.
    pub expires_at: Option<OffsetDateTime>,
}

/// A credential to be stored.
pub struct NewCredential {
    /// The access token.
    pub access: SealedField,
    /// The refresh token, where the provider gave one.
    pub refresh: Option<SealedField>,
    /// When the access token dies.
    pub expires_at: Option<OffsetDateTime>,
}

/// What may read a connection's sealed credential, by the permit's own object.
pub trait ReadsCredential: Action {}
impl ReadsCredential for Refresh {}
impl ReadsCredential for OpenForKillDrill {}

/// The sealed credential of the permit's connection.
///
/// # Errors
/// `NotFound` where it has none.
pub async fn of_connection<A: ReadsCredential<Object = ConnectionId>>(
    tenant: &mut Tenant<A>,
) -> Result<Stored, StoreError> {
    let connection = tenant.object().uuid();
    read(tenant, connection).await
}

async fn read<A: Action>(tenant: &mut Tenant<A>, connection: Uuid) -> Result<Stored, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select c.provider, c.state, d.field, d.data_key_id, d.sealed, d.version, d.expires_at \
         from credentials d join connections c on c.workspace_id = d.workspace_id and c.id = d.connection_id \
         where d.workspace_id = $1 and d.connection_id = $2",
        workspace,
        connection,
    )
    .fetch_all(tenant.sql())
    .await?;
    let field = |name: &str| {
        rows.iter()
            .find(|row| row.field == name)
            .map(|row| SealedField { sealed: row.sealed.clone(), key: DataKeyId::from_uuid(row.data_key_id) })
    };
    let first = rows.iter().find(|row| row.field == "access").ok_or(StoreError::NotFound)?;
    Ok(Stored {
        connection: ConnectionId::from_uuid(connection),
        provider: first.provider.clone(),
        state: State::from_row(&first.state).ok_or(StoreError::Corrupt("a connection's state"))?,
        access: field("access").ok_or(StoreError::NotFound)?,
        refresh: field("refresh"),
        version: first.version,
        expires_at: first.expires_at,
    })
}

/// Stores what an owner brought back from the provider, in place of what was there.
///
/// # Errors
/// `Unavailable`.
pub async fn receive(
    tenant: &mut Tenant<ReceiveCredential>,
    connection: ConnectionId,
    new: &NewCredential,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let version = sqlx::query_scalar!(
        "select coalesce(max(version), 0) + 1 as \"version!\" from credentials where workspace_id = $1 and connection_id = $2",
        workspace,
        connection.uuid()
    )
    .fetch_one(tenant.sql())
    .await?;
    sqlx::query!(
        "delete from credentials where workspace_id = $1 and connection_id = $2",
        workspace,
        connection.uuid()
    )
    .execute(tenant.sql())
    .await?;
    write(tenant, connection, new, version).await
}

async fn write<A: Action>(
    tenant: &mut Tenant<A>,
    connection: ConnectionId,
    new: &NewCredential,
    version: i64,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    for (name, field) in [("access", Some(&new.access)), ("refresh", new.refresh.as_ref())] {
        let Some(field) = field else { continue };
        sqlx::query!(
            "insert into credentials (workspace_id, connection_id, field, data_key_id, sealed, version, expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7)",
            workspace,
            connection.uuid(),
            name,
            field.key.uuid(),
            field.sealed,
            version,
            new.expires_at,
        )
        .execute(tenant.sql())
        .await?;
    }
    Ok(())
}

/// The right to refresh a connection's credential once. `interrupted` says that an earlier holder wrote down its intent for the
/// same version and never came back: its call may have reached the provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    fence: i64,
    version: i64,
    /// An earlier holder never came back.
    pub interrupted: bool,
}

/// Takes the lease, if nobody holds it: the intent is durable before the provider is called.
///
/// # Errors
/// `Unavailable`. That another node holds it is no error: there is no lease then.
pub async fn lease(
    tenant: &mut Tenant<Refresh>,
    version: i64,
    node: NodeId,
    term: Duration,
) -> Result<Option<Lease>, StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object().uuid());
    let term = PgInterval::try_from(term).map_err(|_| StoreError::Corrupt("a lease of whole microseconds"))?;
    // The row lock orders the nodes; the version is read under it.
    let prior = sqlx::query!(
        "insert into refreshes (workspace_id, connection_id, fence, version, node_id, leased_until) \
         values ($1, $2, 0, 0, $3, '-infinity') \
         on conflict (workspace_id, connection_id) do update set fence = refreshes.fence \
         returning fence, version, leased_until > clock_timestamp() as \"held!\", leased_until = '-infinity' as \"released!\"",
        workspace,
        connection,
        node.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?;
    let current = sqlx::query_scalar!(
        "select version from credentials where workspace_id = $1 and connection_id = $2 and field = 'access'",
        workspace,
        connection
    )
    .fetch_one(tenant.sql())
    .await?;
    // A lease over an older credential is void: what its holder brings is not stored.
    if (prior.held && prior.version == version) || current != version {
        return Ok(None);
    }
    let fence = prior.fence + 1;
    sqlx::query!(
        "update refreshes set fence = $3, version = $4, node_id = $5, leased_until = clock_timestamp() + $6 \
         where workspace_id = $1 and connection_id = $2",
        workspace,
        connection,
        fence,
        version,
        node.uuid(),
        term,
    )
    .execute(tenant.sql())
    .await?;
    Ok(Some(Lease { fence, version, interrupted: !prior.released && prior.version == version }))
}

/// Gives the lease back: the call surely had no effect, or the connection is beyond refreshing.
///
/// # Errors
/// `Unavailable`.
pub async fn release(tenant: &mut Tenant<Refresh>, lease: &Lease) -> Result<(), StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object().uuid());
    sqlx::query!(
        "update refreshes set leased_until = '-infinity' where workspace_id = $1 and connection_id = $2 and fence = $3",
        workspace,
        connection,
        lease.fence
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Puts the new credential in place of the old one, if nobody else has meanwhile: fence and version must be those of the lease.
///
/// # Errors
/// `Stale` where the lease was lost.
pub async fn replace(tenant: &mut Tenant<Refresh>, lease: &Lease, new: &NewCredential) -> Result<(), StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object());
    let held = sqlx::query!(
        "update refreshes set leased_until = '-infinity' where workspace_id = $1 and connection_id = $2 and fence = $3",
        workspace,
        connection.uuid(),
        lease.fence
    )
    .execute(tenant.sql())
    .await?;
    let gone = sqlx::query!(
        "delete from credentials where workspace_id = $1 and connection_id = $2 and version = $3",
        workspace,
        connection.uuid(),
        lease.version
    )
    .execute(tenant.sql())
    .await?;
    if held.rows_affected() == 0 || gone.rows_affected() == 0 {
        return Err(StoreError::Stale);
    }
    write(tenant, connection, new, lease.version + 1).await
}
