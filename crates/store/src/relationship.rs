//! Relationships to objects: who stands in which relation to which of them.
//!
//! Each end is a foreign key within the workspace, so that a relationship goes with whatever it names. Whether the model admits one is
//! asked before it comes here.

use std::collections::HashMap;

use domain::{
    id::{Id, KeyId, ObjectId, RoleTemplateId, WorkspaceId},
    object::{MOST_RELATIONSHIPS, Place, Subject},
};
use relation::{
    Relationship,
    action::{ListRelationships, ManageObject},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{StoreError, Tenant};

/// The columns of a subject: kind, id, relation.
fn columns(subject: &Subject) -> (&'static str, Uuid, &str) {
    match subject {
        Subject::Key(key) => ("api_key", key.uuid(), ""),
        Subject::Role(role) => ("role", role.uuid(), ""),
        Subject::Members(object, relation) => ("object", object.uuid(), relation),
    }
}

fn subject(kind: &str, id: Uuid, relation: String) -> Result<Subject, StoreError> {
    match kind {
        "api_key" => Ok(Subject::Key(KeyId::from_uuid(id))),
        "role" => Ok(Subject::Role(RoleTemplateId::from_uuid(id))),
        "object" => Ok(Subject::Members(ObjectId::from_uuid(id), relation)),
        _ => Err(StoreError::Corrupt("a relationship's subject")),
    }
}

/// Gives a subject a relation to the permit's object. `false`: the workspace has as many relationships as it may. One that is there stays.
///
/// # Errors
/// `Conflict` where the subject is not in this workspace (any more); `Unavailable`.
pub async fn add(tenant: &mut Tenant<ManageObject>, relation: &str, whom: &Subject) -> Result<bool, StoreError> {
    let (workspace, object) = (tenant.workspace().uuid(), tenant.object().uuid());
    let creator = tenant.principal().reference();
    let held =
        sqlx::query_scalar!("select count(*) as \"held!\" from relationships where workspace_id = $1", workspace)
            .fetch_one(tenant.sql())
            .await?;
    if held >= MOST_RELATIONSHIPS {
        return Ok(false);
    }
    let (kind, id, of) = columns(whom);
    sqlx::query!(
        "insert into relationships (workspace_id, object_id, relation, subject_kind, subject_id, subject_relation, created_by) \
         values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        workspace,
        object,
        relation,
        kind,
        id,
        of,
        creator,
    )
    .execute(tenant.sql())
    .await?;
    Ok(true)
}

/// Takes a relation to the permit's object from a subject.
///
/// # Errors
/// `NotFound` where it does not stand in it.
pub async fn remove(tenant: &mut Tenant<ManageObject>, relation: &str, whom: &Subject) -> Result<(), StoreError> {
    let (workspace, object) = (tenant.workspace().uuid(), tenant.object().uuid());
    let (kind, id, of) = columns(whom);
    let gone = sqlx::query!(
        "delete from relationships where workspace_id = $1 and object_id = $2 and relation = $3 \
           and subject_kind = $4 and subject_id = $5 and subject_relation = $6",
        workspace,
        object,
        relation,
        kind,
        id,
        of,
    )
    .execute(tenant.sql())
    .await?;
    if gone.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// The first relationships to the permit's object that come after a given one, by relation and subject.
///
/// # Errors
/// `Unavailable`; `Corrupt`.
pub async fn list(
    tenant: &mut Tenant<ListRelationships>,
    after: Option<&(String, Subject)>,
    most: i64,
) -> Result<Vec<(String, Subject)>, StoreError> {
    let (workspace, object) = (tenant.workspace().uuid(), tenant.object().uuid());
    // No relation is empty: before the first of them stands what comes before all.
    let (relation, (kind, id, of)) =
        after.map_or(("", ("", Uuid::nil(), "")), |(relation, whom)| (relation.as_str(), columns(whom)));
    let rows = sqlx::query!(
        "select relation, subject_kind, subject_id, subject_relation from relationships \
         where workspace_id = $1 and object_id = $2 and (relation, subject_kind, subject_id, subject_relation) > ($3, $4, $5, $6) \
         order by relation, subject_kind, subject_id, subject_relation limit $7",
        workspace,
        object,
        relation,
        kind,
        id,
        of,
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    rows.into_iter()
        .map(|row| Ok((row.relation, subject(&row.subject_kind, row.subject_id, row.subject_relation)?)))
        .collect()
}

/// The tuples of all objects of a workspace: where each stands, and who stands how to it.
///
/// # Errors
/// `Unavailable`; `Corrupt`.
pub(crate) async fn tuples(
    sql: &mut PgConnection,
    workspace: WorkspaceId,
    places: &[Place],
) -> Result<Vec<Relationship>, StoreError> {
    let mut tuples: Vec<_> = places
        .iter()
        .map(|place| {
            let (relation, user) = place.tuple(workspace);
            Relationship::new(place.reference(), relation, user)
        })
        .collect();
    let types: HashMap<ObjectId, &str> = places.iter().map(|place| (place.id, place.type_name.as_str())).collect();
    let type_of = |id: ObjectId| types.get(&id).map(|name| (*name).to_owned());
    let rows = sqlx::query!(
        "select object_id, relation, subject_kind, subject_id, subject_relation from relationships where workspace_id = $1 limit $2",
        workspace.uuid(),
        MOST_RELATIONSHIPS + 1
    )
    .fetch_all(sql)
    .await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST_RELATIONSHIPS {
        return Err(StoreError::Corrupt("more relationships than a workspace may have"));
    }
    for row in rows {
        let object = ObjectId::from_uuid(row.object_id);
        let user = subject(&row.subject_kind, row.subject_id, row.subject_relation)?.reference(type_of);
        if let Some((type_name, user)) = type_of(object).zip(user) {
            tuples.push(Relationship::new(format!("{type_name}:{object}"), row.relation, user));
        }
    }
    Ok(tuples)
}
