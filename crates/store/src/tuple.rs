//! Tuples: the relationship facts, written beside the row that they speak of and in the same transaction; and those of the installation.

use domain::id::{Id, WorkspaceId};
use relation::{Action, Relationship};
use sqlx::PgConnection;

use crate::{StoreError, Tenant};

/// The most tuples that one workspace's snapshot holds; a workspace beyond it is refused rather than half loaded.
const MOST: i64 = 200_000;
/// The most tuples of the installation: each names a person, and every snapshot holds them.
pub(crate) const MOST_OF_INSTALLATION: i64 = 100;

struct Row {
    object: String,
    relation: String,
    subject: String,
}

fn relationships(rows: Vec<Row>, most: i64) -> Result<Vec<Relationship>, StoreError> {
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > most {
        return Err(StoreError::Corrupt("more facts than a snapshot may hold"));
    }
    Ok(rows.into_iter().map(|row| Relationship::new(row.object, row.relation, row.subject)).collect())
}

/// The facts of a workspace.
///
/// # Errors
/// `Unavailable`; `Corrupt` for more than a snapshot may hold.
pub(crate) async fn of_workspace(
    sql: &mut PgConnection,
    workspace: WorkspaceId,
) -> Result<Vec<Relationship>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        "select object, relation, subject from tuples where workspace_id = $1 limit $2",
        workspace.uuid(),
        MOST + 1
    )
    .fetch_all(sql)
    .await?;
    relationships(rows, MOST)
}

/// The facts of the installation.
///
/// # Errors
/// `Unavailable`; `Corrupt` for more than a snapshot may hold.
pub(crate) async fn of_installation(sql: &mut PgConnection) -> Result<Vec<Relationship>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        "select object, relation, subject from installation_tuples limit $1",
        MOST_OF_INSTALLATION + 1
    )
    .fetch_all(sql)
    .await?;
    relationships(rows, MOST_OF_INSTALLATION)
}

/// Adds a fact; a fact that is there stays.
pub(crate) async fn add<A: Action>(
    tenant: &mut Tenant<A>,
    object: &str,
    relation: &str,
    subject: &str,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "insert into tuples (workspace_id, object, relation, subject) values ($1, $2, $3, $4) on conflict do nothing",
        workspace,
        object,
        relation,
        subject,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Removes every relation that the subject has to the object.
pub(crate) async fn remove_of_subject<A: Action>(
    tenant: &mut Tenant<A>,
    object: &str,
    subject: &str,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "delete from tuples where workspace_id = $1 and object = $2 and subject = $3",
        workspace,
        object,
        subject
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Removes every fact of the relation about the object.
pub(crate) async fn remove_of_relation<A: Action>(
    tenant: &mut Tenant<A>,
    object: &str,
    relation: &str,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "delete from tuples where workspace_id = $1 and object = $2 and relation = $3",
        workspace,
        object,
        relation
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Turns every fact of one relation about the object into one of another.
pub(crate) async fn turn<A: Action>(
    tenant: &mut Tenant<A>,
    object: &str,
    from: &str,
    into: &str,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "update tuples set relation = $4 where workspace_id = $1 and object = $2 and relation = $3",
        workspace,
        object,
        from,
        into
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}
