//! Relation stores: what a workspace keeps for its own application in OpenFGA's terms.
//!
//! Owns the stores themselves; their models, tuples, changes and assertions have files of their own. Never decides a question: it reads
//! what one needs, each reading of one state. A store has a revision of its own that rises with each write of tuples, under the lock of
//! its row; the workspace's head is left alone, since no permit hangs on anything here.

pub mod assertion;
pub mod change;
pub mod model;
pub mod page;
pub mod tuple;

use domain::id::{Id, RelationModelId, RelationStoreId};
use relation::{
    Action,
    action::{ManageStores, PurgeStore, ReadStores, WriteTuples},
};
use time::OffsetDateTime;

use crate::{StoreError, Tenant};

/// The most stores that a workspace has.
pub const MOST_STORES: i64 = 1_000;

/// What reads a store, or more than reads it.
pub trait UsesStores: Action {}
impl UsesStores for ReadStores {}
impl UsesStores for WriteTuples {}
impl UsesStores for ManageStores {}

/// A store as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationStore {
    /// Its id.
    pub id: RelationStoreId,
    /// What its maker called it.
    pub name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When its tuples or models were last changed.
    pub updated_at: OffsetDateTime,
}

/// Where a store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The workspace's epoch and the store's revision: what was read at one such pair is one state. A revision alone may be there
    /// twice, once in a history that was lost when another database took over.
    pub at: (i64, i64),
    /// How many tuples it has.
    pub tuples: i64,
    /// Its newest model; none where none was written yet.
    pub newest: Option<RelationModelId>,
}

/// Makes a store, and answers it as it stands in lists.
///
/// # Errors
/// `Conflict` where the workspace has as many as it may; `Unavailable`.
pub async fn create(
    tenant: &mut Tenant<ManageStores>,
    id: RelationStoreId,
    name: &str,
) -> Result<RelationStore, StoreError> {
    let workspace = tenant.workspace().uuid();
    let row = sqlx::query!(
        "insert into fga_stores (workspace_id, id, name) select $1, $2, $3 \
         where (select count(*) from fga_stores s where s.workspace_id = $1 and s.deleted_at is null) < $4 \
         returning created_at, updated_at",
        workspace,
        id.uuid(),
        name,
        MOST_STORES,
    )
    .fetch_optional(tenant.sql())
    .await?;
    let row = row.ok_or(StoreError::Conflict)?;
    Ok(RelationStore { id, name: name.to_owned(), created_at: row.created_at, updated_at: row.updated_at })
}

/// The workspace's stores by their ids, which is the order in which they were made; only those of this name where there is one.
///
/// # Errors
/// `Unavailable`.
pub async fn list<A: UsesStores>(
    tenant: &mut Tenant<A>,
    name: Option<&str>,
    after: Option<RelationStoreId>,
    most: i64,
) -> Result<Vec<RelationStore>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select id, name, created_at, updated_at from fga_stores where workspace_id = $1 and deleted_at is null \
         and ($2::text is null or name = $2) and ($3::uuid is null or id > $3) order by id limit $4",
        workspace,
        name,
        after.map(Id::uuid),
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    let stores = rows.into_iter().map(|row| RelationStore {
        id: RelationStoreId::from_uuid(row.id),
        name: row.name,
        created_at: row.created_at,
        updated_at: row.updated_at,
    });
    Ok(stores.collect())
}

/// One store of the workspace.
///
/// # Errors
/// `NotFound`; `Unavailable`.
pub async fn find<A: UsesStores>(tenant: &mut Tenant<A>, id: RelationStoreId) -> Result<RelationStore, StoreError> {
    let workspace = tenant.workspace().uuid();
    let row = sqlx::query!(
        "select name, created_at, updated_at from fga_stores where workspace_id = $1 and id = $2 and deleted_at is null",
        workspace,
        id.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(RelationStore { id, name: row.name, created_at: row.created_at, updated_at: row.updated_at })
}

/// Where a store stands, as one statement sees it.
///
/// # Errors
/// `NotFound`; `Unavailable`.
pub async fn standing<A: UsesStores>(tenant: &mut Tenant<A>, id: RelationStoreId) -> Result<Standing, StoreError> {
    let (workspace, epoch) = (tenant.workspace().uuid(), tenant.epoch());
    let row = sqlx::query!(
        "select s.revision, s.tuples, (select m.id from fga_models m where m.workspace_id = $1 and m.store_id = $2 \
         order by m.number desc limit 1) as newest \
         from fga_stores s where s.workspace_id = $1 and s.id = $2 and s.deleted_at is null",
        workspace,
        id.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(Standing { at: (epoch, row.revision), tuples: row.tuples, newest: row.newest.map(RelationModelId::from_uuid) })
}

/// Marks a store as deleted: from the commit on it is not found. Its rows go afterwards, see [`purge`].
///
/// # Errors
/// `NotFound`; `Unavailable`.
pub async fn delete(tenant: &mut Tenant<ManageStores>, id: RelationStoreId) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let marked = sqlx::query!(
        "update fga_stores set deleted_at = clock_timestamp() where workspace_id = $1 and id = $2 and deleted_at is null",
        workspace,
        id.uuid(),
    )
    .execute(tenant.sql())
    .await?;
    if marked.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// How many rows a purge deletes in one transaction: one that deletes millions would outlast every time limit.
const ROWS: i64 = 5_000;

/// Deletes the next rows of a store that is marked as deleted, and the store with the last of them. `true`: nothing is left.
///
/// # Errors
/// `Unavailable`.
pub async fn purge(tenant: &mut Tenant<PurgeStore>, id: RelationStoreId) -> Result<bool, StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), id.uuid());
    let tuples = sqlx::query!(
        "delete from fga_tuples where workspace_id = $1 and ctid = any (array(select t.ctid from fga_tuples t \
         join fga_stores s on s.workspace_id = t.workspace_id and s.id = t.store_id and s.deleted_at is not null \
         where t.workspace_id = $1 and t.store_id = $2 limit $3))",
        workspace,
        id,
        ROWS,
    )
    .execute(tenant.sql())
    .await?;
    if tuples.rows_affected() > 0 {
        return Ok(false);
    }
    let changes = sqlx::query!(
        "delete from fga_changes where workspace_id = $1 and ctid = any (array(select t.ctid from fga_changes t \
         join fga_stores s on s.workspace_id = t.workspace_id and s.id = t.store_id and s.deleted_at is not null \
         where t.workspace_id = $1 and t.store_id = $2 limit $3))",
        workspace,
        id,
        ROWS,
    )
    .execute(tenant.sql())
    .await?;
    if changes.rows_affected() > 0 {
        return Ok(false);
    }
    // Models and assertions go with it: there are few.
    sqlx::query!(
        "delete from fga_stores where workspace_id = $1 and id = $2 and deleted_at is not null",
        workspace,
        id
    )
    .execute(tenant.sql())
    .await?;
    Ok(true)
}
