//! Tuples: the relationship facts, written beside the row that they speak of and in the same transaction.

use domain::id::Id;
use relation::Action;

use crate::{StoreError, Tenant};

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
