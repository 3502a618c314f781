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
/// The most tuples that all stores of a workspace hold together.
pub const MOST_TUPLES_TOGETHER: i64 = 10_000_000;
/// The most bytes that they take together, about: names and contexts of tuples and changes, models, assertions.
pub const MOST_BYTES_TOGETHER: i64 = 8 * 1024 * 1024 * 1024;

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

/// What all stores of a workspace hold together; those too whose rows are still being deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) tuples: i64,
    pub(crate) bytes: i64,
}

impl Held {
    /// Whether more bytes are held than may be.
    pub(crate) fn is_too_large(self) -> bool {
        self.bytes > MOST_BYTES_TOGETHER
    }
}

/// What all stores of the workspace hold, as far as it is committed or of this transaction. Those who write to other stores at the same time
/// do not see each other's: the bound may be passed by what is on its way, and by no more.
async fn held<A: UsesStores>(tenant: &mut Tenant<A>) -> Result<Held, StoreError> {
    if domain::sabotaged!(RelationRoom) {
        return Ok(Held { tuples: 0, bytes: 0 });
    }
    let workspace = tenant.workspace().uuid();
    let row = sqlx::query!(
        "select coalesce(sum(tuples), 0)::bigint as \"tuples!\", coalesce(sum(bytes), 0)::bigint as \"bytes!\" \
         from fga_stores where workspace_id = $1",
        workspace,
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(Held { tuples: row.tuples, bytes: row.bytes })
}

/// Counts bytes that were written to a store, and says what all stores of the workspace hold then.
async fn weigh<A: UsesStores>(tenant: &mut Tenant<A>, store: RelationStoreId, bytes: i64) -> Result<Held, StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "update fga_stores set bytes = greatest(bytes + $3, 0) where workspace_id = $1 and id = $2",
        workspace,
        store.uuid(),
        bytes,
    )
    .execute(tenant.sql())
    .await?;
    held(tenant).await
}

/// Has the statements of this transaction look up each key by the index, whatever the database believes of the tables' sizes: after a large
/// import it believes for a while what was true before, and would read a whole table for a few rows.
///
/// # Errors
/// `Unavailable`.
pub async fn by_index<A: UsesStores>(tenant: &mut Tenant<A>) -> Result<(), StoreError> {
    sqlx::query!(
        "select set_config('enable_seqscan', 'off', true) as one, set_config('enable_hashjoin', 'off', true) as two, \
         set_config('enable_mergejoin', 'off', true) as three",
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(())
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
    let most = if domain::sabotaged!(RelationStoreNumber) { i64::MAX } else { MOST_STORES };
    let row = sqlx::query!(
        "insert into fga_stores (workspace_id, id, name) select $1, $2, $3 \
         where (select count(*) from fga_stores s where s.workspace_id = $1 and s.deleted_at is null) < $4 \
         returning created_at, updated_at",
        workspace,
        id.uuid(),
        name,
        most,
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
    #[cfg(feature = "sabotage")]
    if domain::sabotaged!(RelationStores) {
        return crate::sabotage::anybodys_standing(tenant.epoch(), tenant.sql(), id).await;
    }
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
/// One deletes after the other: who found that all rows are being deleted by somebody else would take them for gone, and delete the store
/// with all that is left, at once.
///
/// # Errors
/// `Unavailable`.
pub async fn purge(tenant: &mut Tenant<PurgeStore>, id: RelationStoreId) -> Result<bool, StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), id.uuid());
    let turn = sqlx::query_scalar!(
        "select 1 as turn from fga_stores where workspace_id = $1 and id = $2 and deleted_at is not null for no key update",
        workspace,
        id,
    )
    .fetch_optional(tenant.sql())
    .await?;
    if turn.is_none() {
        return Ok(true);
    }
    let tuples = sqlx::query!(
        "delete from fga_tuples where workspace_id = $1 and ctid = any (array(select t.ctid from fga_tuples t \
         where t.workspace_id = $1 and t.store_id = $2 limit $3))",
        workspace,
        id,
        ROWS,
    );
    if tuples.execute(tenant.sql()).await?.rows_affected() > 0 {
        return Ok(false);
    }
    let changes = sqlx::query!(
        "delete from fga_changes where workspace_id = $1 and ctid = any (array(select t.ctid from fga_changes t \
         where t.workspace_id = $1 and t.store_id = $2 limit $3))",
        workspace,
        id,
        ROWS,
    );
    if changes.execute(tenant.sql()).await?.rows_affected() > 0 {
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
