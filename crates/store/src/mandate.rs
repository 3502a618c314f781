//! Mandates, and the facts and budgets that come and go with them.

use domain::{
    id::{ConnectionId, Id, MandateId},
    mandate::{Conditions, Mandate, Terms},
};
use relation::{
    Action,
    action::{CreateMandate, RevokeMandate},
};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{StoreError, Tenant, budget, tuple};

pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) connection_id: Uuid,
    pub(crate) grantee: String,
    pub(crate) actions: Vec<String>,
    pub(crate) conditions: Value,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) expires_at: Option<OffsetDateTime>,
    pub(crate) revoked_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Mandate {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let conditions: Conditions =
            serde_json::from_value(row.conditions).map_err(|_| StoreError::Corrupt("a mandate's conditions"))?;
        Ok(Self {
            id: MandateId::from_uuid(row.id),
            connection: ConnectionId::from_uuid(row.connection_id),
            grantee: row.grantee,
            actions: row.actions,
            conditions,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
    }
}

/// Makes a mandate on the permit's connection.
///
/// # Errors
/// `Conflict` where the connection has gone meanwhile; `Unavailable`.
pub async fn create(
    tenant: &mut Tenant<CreateMandate>,
    id: MandateId,
    terms: &Terms,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (workspace, connection) = (tenant.workspace(), tenant.object());
    let creator = tenant.principal().reference();
    let conditions =
        serde_json::to_value(&terms.conditions).map_err(|_| StoreError::Corrupt("a mandate's conditions"))?;
    sqlx::query!(
        "insert into mandates (workspace_id, id, connection_id, grantee, actions, conditions, created_by, created_at, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        workspace.uuid(),
        id.uuid(),
        connection.uuid(),
        terms.grantee,
        &terms.actions,
        conditions,
        creator,
        now,
        terms.expires_at,
    )
    .execute(tenant.sql())
    .await?;
    let object = format!("mandate:{id}");
    tuple::add(tenant, &object, "connection", &format!("connection:{connection}")).await?;
    tuple::add(tenant, &object, "grantee", &terms.grantee).await
}

/// Ends the permit's mandate. Its grantee stands as a former one: it may know that the mandate was, and do nothing with it.
///
/// # Errors
/// `NotFound` where it is ended already.
pub async fn revoke(tenant: &mut Tenant<RevokeMandate>, now: OffsetDateTime) -> Result<(), StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), tenant.object());
    let ended = sqlx::query!(
        "update mandates set revoked_at = $3 where workspace_id = $1 and id = $2 and revoked_at is null",
        workspace,
        id.uuid(),
        now
    )
    .execute(tenant.sql())
    .await?;
    if ended.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    end(tenant, &[id]).await
}

/// What ends with mandates: their grants, which stay as a memory of who had them, and their own budgets. An act of theirs that is still
/// under way finds no budget to give its units back to, and none is needed.
pub(crate) async fn end<A: Action>(tenant: &mut Tenant<A>, mandates: &[MandateId]) -> Result<(), StoreError> {
    for id in mandates {
        tuple::turn(tenant, &format!("mandate:{id}"), "grantee", "former_grantee").await?;
    }
    budget::remove_of_mandates(tenant, mandates).await
}
