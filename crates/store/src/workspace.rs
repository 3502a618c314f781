//! Workspaces: the tenants, from the first row to the last.

use domain::id::{ConnectionId, DataKeyId, Id, WorkspaceId};
use relation::{
    Permit,
    action::{CreateWorkspace, ShredWorkspace},
};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Store, StoreError, Tenant};

/// A data key as it is stored: wrapped under an epoch key, and useless without it.
pub struct WrappedKey {
    /// The key's id.
    pub id: DataKeyId,
    /// The epoch that it is wrapped under.
    pub epoch: i64,
    /// The wrapped bytes.
    pub wrapped: Vec<u8>,
}

/// Makes the workspace of the permit, with its first data key. `is_probe` marks it as the probes' own, for good.
///
/// # Errors
/// `Conflict`; `Unavailable`.
pub async fn create(
    tenant: &mut Tenant<CreateWorkspace>,
    (name, is_probe): (&str, bool),
    key: &WrappedKey,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let id = tenant.workspace().uuid();
    sqlx::query!(
        "insert into workspaces (workspace_id, name, is_probe, created_at) values ($1, $2, $3, $4)",
        id,
        name,
        is_probe,
        now
    )
    .execute(tenant.sql())
    .await?;
    sqlx::query!(
        "insert into data_keys (workspace_id, id, epoch, wrapped, created_at) values ($1, $2, $3, $4, $5)",
        id,
        key.id.uuid(),
        key.epoch,
        key.wrapped,
        now,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// How a shredding stands, or what it came to. The workspace's name is gone when the workspace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shredding {
    /// When acts stopped.
    pub begun_at: Option<OffsetDateTime>,
    /// When its data keys were deleted.
    pub keys_deleted_at: Option<OffsetDateTime>,
    /// The data keys that were deleted, each with the epoch that it was wrapped under.
    pub data_keys: Vec<(DataKeyId, i64)>,
    /// How many connections it had.
    pub connections: i64,
    /// Of how many the provider acknowledged the revocation.
    pub revoked: i64,
    /// Of how many the old access token was tried and found dead.
    pub dead: i64,
    /// How many rows were deleted.
    pub rows_deleted: i64,
    /// When the last of them was.
    pub finished_at: Option<OffsetDateTime>,
}

/// The name of the permit's workspace; nothing, where its rows are gone.
///
/// # Errors
/// `Unavailable`.
pub async fn name(tenant: &mut Tenant<ShredWorkspace>) -> Result<Option<String>, StoreError> {
    let workspace = tenant.workspace().uuid();
    Ok(sqlx::query_scalar!("select name from workspaces where workspace_id = $1", workspace)
        .fetch_optional(tenant.sql())
        .await?)
}

/// Begins to shred, where the installation has asked for it: from the commit on nothing is admitted, no key is accepted, no open link
/// ends in a connection, and every connection is being taken apart. Done again, it changes nothing more.
///
/// # Errors
/// `Database` where the installation has not asked; `Unavailable`.
pub async fn begin_shredding(mut tenant: Tenant<ShredWorkspace>) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!("select begin_shredding($1)", workspace).execute(tenant.sql()).await?;
    tenant.commit_shredding().await
}

/// The providers of the permit's workspace's connections that are not gone.
///
/// # Errors
/// `Unavailable`.
pub async fn providers(tenant: &mut Tenant<ShredWorkspace>) -> Result<Vec<String>, StoreError> {
    let workspace = tenant.workspace().uuid();
    Ok(sqlx::query_scalar!(
        "select distinct provider from connections where workspace_id = $1 and state <> 'disconnected' order by provider",
        workspace
    )
    .fetch_all(tenant.sql())
    .await?)
}

/// The next connections of the permit's workspace that are still to be taken apart, each with its provider's name.
///
/// # Errors
/// `Unavailable`.
pub async fn disconnecting(
    tenant: &mut Tenant<ShredWorkspace>,
    after: Option<ConnectionId>,
    most: i64,
) -> Result<Vec<(ConnectionId, String)>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select id, provider from connections where workspace_id = $1 and state = 'disconnecting' and ($2::uuid is null or id > $2) \
         order by id limit $3",
        workspace,
        after.map(Id::uuid),
        most
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows.into_iter().map(|row| (ConnectionId::from_uuid(row.id), row.provider)).collect())
}

/// Deletes the keys that everything of the permit's workspace is sealed under: from the commit on nothing of it opens here. Their rows
/// are emptied now and go with the others, since what they sealed still points at them.
///
/// # Errors
/// `Database` where the shredding has not begun; `Unavailable`.
pub async fn delete_keys(mut tenant: Tenant<ShredWorkspace>) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!("select shred_keys($1)", workspace).execute(tenant.sql()).await?;
    tenant.commit_shredding().await
}

/// Deletes the next so many rows of the permit's workspace, whose data keys are deleted. `true`: that was the last of it.
///
/// # Errors
/// `Database` where the keys are not deleted; `Unavailable`.
pub async fn shred_page(mut tenant: Tenant<ShredWorkspace>, most: i32) -> Result<bool, StoreError> {
    if domain::sabotaged!(WorkspaceGone) {
        return Ok(true);
    }
    let workspace = tenant.workspace().uuid();
    let finished = sqlx::query_scalar!("select finished as \"finished!\" from shred_page($1, $2)", workspace, most)
        .fetch_one(tenant.sql())
        .await?;
    tenant.commit_shredding().await?;
    Ok(finished)
}

impl Store {
    /// The installation's word that the permit's workspace may be shredded. In its own context, a workspace cannot say so of itself.
    ///
    /// # Errors
    /// `Stale` for a permit that was carried too long; `Unavailable`.
    pub async fn ask_shredding(&self, permit: &Permit<ShredWorkspace>, name: &str) -> Result<(), StoreError> {
        if !permit.is_live(&self.clock) {
            return Err(StoreError::Stale);
        }
        let mut transaction = self.begin_installation().await?;
        sqlx::query!(
            "insert into shreddings (id, name) values ($1, $2) on conflict (id) do nothing",
            permit.workspace().uuid(),
            name
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// How the shredding of a workspace stands, or what it came to; nothing, where none was begun.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt`.
    pub async fn shredding(&self, workspace: WorkspaceId) -> Result<Option<Shredding>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let row = sqlx::query!(
            "select begun_at, keys_deleted_at, data_keys, connections, revoked, dead, rows_deleted, finished_at from shreddings where id = $1",
            workspace.uuid()
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let key = |key: &Value| {
            let id: Uuid = key.get("id")?.as_str()?.parse().ok()?;
            Some((DataKeyId::from_uuid(id), key.get("epoch")?.as_i64()?))
        };
        let keys = row.data_keys.as_array().and_then(|keys| keys.iter().map(key).collect());
        Ok(Some(Shredding {
            begun_at: row.begun_at,
            keys_deleted_at: row.keys_deleted_at,
            data_keys: keys.ok_or(StoreError::Corrupt("a shredding's data keys"))?,
            connections: row.connections,
            revoked: row.revoked,
            dead: row.dead,
            rows_deleted: row.rows_deleted,
            finished_at: row.finished_at,
        }))
    }
}
