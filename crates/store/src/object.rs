//! Objects of a workspace: rows, one under another. What permission makes of where they stand is told to facts by [`places`].
//!
//! That nothing stands under another tenant's object, and nothing outlives what it stands under, is the foreign keys' work, not this
//! module's.

use domain::{
    id::{Id, ObjectId, WorkspaceId},
    object::{MOST_DEPTH, MOST_OBJECTS, Object, Place},
};
use relation::{
    Action,
    action::{CreateObject, CreateObjectUnder, ListWorkspace, ManageObject, ManageSystemObjects, ReadObject},
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{StoreError, Tenant};

/// An object to be stored.
pub struct NewObject<'a> {
    /// Its id.
    pub id: ObjectId,
    /// Its type in the model.
    pub type_name: &'a str,
    /// What people call it.
    pub name: &'a str,
}

/// Why an object was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The workspace has as many as it may.
    Full,
    /// As many stand above it as may.
    Deep,
    /// What it was to stand under is gone, or one is the system's own and the other is not.
    Nowhere,
}

struct Row {
    id: Uuid,
    r#type: String,
    parent_id: Option<Uuid>,
    name: String,
    is_system: bool,
    created_at: OffsetDateTime,
}

impl From<Row> for Object {
    fn from(row: Row) -> Self {
        Self {
            id: ObjectId::from_uuid(row.id),
            type_name: row.r#type,
            parent: row.parent_id.map(ObjectId::from_uuid),
            name: row.name,
            is_system: row.is_system,
            created_at: row.created_at,
        }
    }
}

/// Stores an object at the top of the workspace.
///
/// # Errors
/// `Unavailable`.
pub async fn create(
    tenant: &mut Tenant<CreateObject>,
    new: &NewObject<'_>,
) -> Result<Result<Object, Refused>, StoreError> {
    insert(tenant, new, None, false).await
}

/// Stores an object under the permit's.
///
/// # Errors
/// `Unavailable`.
pub async fn create_under(
    tenant: &mut Tenant<CreateObjectUnder>,
    new: &NewObject<'_>,
) -> Result<Result<Object, Refused>, StoreError> {
    let parent = tenant.object();
    insert(tenant, new, Some(parent), false).await
}

/// Stores one of the system's own, at the top or under another of them.
///
/// # Errors
/// `Unavailable`.
pub async fn create_system(
    tenant: &mut Tenant<ManageSystemObjects>,
    new: &NewObject<'_>,
    parent: Option<ObjectId>,
) -> Result<Result<Object, Refused>, StoreError> {
    insert(tenant, new, parent, true).await
}

async fn insert<A: Action>(
    tenant: &mut Tenant<A>,
    new: &NewObject<'_>,
    parent: Option<ObjectId>,
    is_system: bool,
) -> Result<Result<Object, Refused>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let creator = tenant.principal().reference();
    if held(tenant).await? >= MOST_OBJECTS {
        return Ok(Err(Refused::Full));
    }
    let depth = match parent {
        None => 1,
        Some(parent) => {
            let above = sqlx::query_scalar!(
                "select depth from objects where workspace_id = $1 and id = $2 and is_system = $3",
                workspace,
                parent.uuid(),
                is_system
            );
            match above.fetch_optional(tenant.sql()).await? {
                None => return Ok(Err(Refused::Nowhere)),
                Some(depth) if depth >= MOST_DEPTH => return Ok(Err(Refused::Deep)),
                Some(depth) => depth + 1,
            }
        }
    };
    let row = sqlx::query_as!(
        Row,
        "insert into objects (workspace_id, id, type, parent_id, depth, name, is_system, created_by) \
         values ($1, $2, $3, $4, $5, $6, $7, $8) returning id, type, parent_id, name, is_system, created_at",
        workspace,
        new.id.uuid(),
        new.type_name,
        parent.map(Id::uuid),
        depth,
        new.name,
        is_system,
        creator,
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(Ok(row.into()))
}

/// The permit's object.
///
/// # Errors
/// `NotFound`.
pub async fn get(tenant: &mut Tenant<ReadObject>) -> Result<Object, StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), tenant.object().uuid());
    let row = sqlx::query_as!(
        Row,
        "select id, type, parent_id, name, is_system, created_at from objects where workspace_id = $1 and id = $2",
        workspace,
        id
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(row.into())
}

/// Which objects of a list.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Only those of this type.
    pub type_name: Option<String>,
    /// Only those right under this one.
    pub parent: Option<ObjectId>,
}

/// The newest objects before a given one, newest first; which of them the caller may know of is not asked here.
///
/// # Errors
/// `Unavailable`.
pub async fn list(
    tenant: &mut Tenant<ListWorkspace>,
    wanted: &Wanted,
    before: Option<ObjectId>,
    most: i64,
) -> Result<Vec<Object>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query_as!(
        Row,
        "select id, type, parent_id, name, is_system, created_at from objects \
         where workspace_id = $1 and ($2::text is null or type = $2) and ($3::uuid is null or parent_id = $3) \
           and ($4::uuid is null or id < $4) order by id desc limit $5",
        workspace,
        wanted.type_name,
        wanted.parent.map(Id::uuid),
        before.map(Id::uuid),
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows.into_iter().map(Object::from).collect())
}

/// Gives the permit's object another name.
///
/// # Errors
/// `NotFound`.
pub async fn rename(tenant: &mut Tenant<ManageObject>, name: &str) -> Result<Object, StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), tenant.object().uuid());
    let row = sqlx::query_as!(
        Row,
        "update objects set name = $3 where workspace_id = $1 and id = $2 and not is_system \
         returning id, type, parent_id, name, is_system, created_at",
        workspace,
        id,
        name
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(row.into())
}

/// Removes the permit's object and everything under it, with all relationships to any of them. Answers how many objects went.
///
/// # Errors
/// `NotFound`.
pub async fn remove(tenant: &mut Tenant<ManageObject>) -> Result<i64, StoreError> {
    let id = tenant.object();
    delete(tenant, id, false).await
}

/// Removes one of the system's own, and everything under it.
///
/// # Errors
/// `NotFound`.
pub async fn remove_system(tenant: &mut Tenant<ManageSystemObjects>, id: ObjectId) -> Result<i64, StoreError> {
    delete(tenant, id, true).await
}

async fn delete<A: Action>(tenant: &mut Tenant<A>, id: ObjectId, is_system: bool) -> Result<i64, StoreError> {
    let workspace = tenant.workspace().uuid();
    // The cascade tells nobody how many it took.
    let before = held(tenant).await?;
    let gone = sqlx::query!(
        "delete from objects where workspace_id = $1 and id = $2 and is_system = $3",
        workspace,
        id.uuid(),
        is_system
    )
    .execute(tenant.sql())
    .await?;
    if gone.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    Ok(before - held(tenant).await?)
}

async fn held<A: Action>(tenant: &mut Tenant<A>) -> Result<i64, StoreError> {
    let workspace = tenant.workspace().uuid();
    Ok(sqlx::query_scalar!("select count(*) as \"held!\" from objects where workspace_id = $1", workspace)
        .fetch_one(tenant.sql())
        .await?)
}

/// Where every object of a workspace stands.
///
/// # Errors
/// `Unavailable`; `Corrupt` where there are more than a workspace may have.
pub(crate) async fn places(sql: &mut PgConnection, workspace: WorkspaceId) -> Result<Vec<Place>, StoreError> {
    let rows = sqlx::query!(
        "select o.id, o.type, o.is_system, p.id as \"parent_id?\", p.type as \"parent_type?\" \
         from objects o left join objects p on p.workspace_id = o.workspace_id and p.id = o.parent_id \
         where o.workspace_id = $1 limit $2",
        workspace.uuid(),
        MOST_OBJECTS + 1
    )
    .fetch_all(sql)
    .await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST_OBJECTS {
        return Err(StoreError::Corrupt("more objects than a workspace may have"));
    }
    Ok(rows
        .into_iter()
        .map(|row| Place {
            id: ObjectId::from_uuid(row.id),
            type_name: row.r#type,
            parent: row.parent_type.zip(row.parent_id.map(ObjectId::from_uuid)),
            is_system: row.is_system,
        })
        .collect())
}
