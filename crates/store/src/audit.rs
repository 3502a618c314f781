//! The audit trail: appended in the transaction of its cause, read by admins.

use domain::{
    audit::Event,
    id::{AuditId, Id},
};
use relation::{Action, action::ReadAudit};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{StoreError, Tenant};

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its id; entries sort by it in the order in which they were made.
    pub id: AuditId,
    /// When.
    pub at: OffsetDateTime,
    /// Who.
    pub principal: String,
    /// How that was established.
    pub means: String,
    /// In which request.
    pub request: Option<String>,
    /// What happened.
    pub event: String,
    /// To what.
    pub object: String,
    /// Facts for an auditor.
    pub detail: Option<Value>,
    /// Whether it happened in a workspace that is the probes' own.
    pub is_probe: bool,
}

/// A row of this trail, or of the installation's.
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) at: OffsetDateTime,
    pub(crate) principal: String,
    pub(crate) means: String,
    pub(crate) request: Option<String>,
    pub(crate) event: String,
    pub(crate) object: String,
    pub(crate) detail: Option<Value>,
    pub(crate) is_probe: bool,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        let Row { id, at, principal, means, request, event, object, detail, is_probe } = row;
        Self { id: AuditId::from_uuid(id), at, principal, means, request, event, object, detail, is_probe }
    }
}

pub(crate) async fn append<A: Action>(tenant: &mut Tenant<A>, id: AuditId, event: &Event) -> Result<(), StoreError> {
    if domain::sabotaged!(AuditedRoutes) {
        return Ok(());
    }
    let workspace = tenant.workspace().uuid();
    let principal = tenant.principal().clone();
    sqlx::query!(
        "insert into audit (workspace_id, id, principal, means, session, request, event, object, detail) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        workspace,
        id.uuid(),
        principal.reference(),
        principal.means.as_str(),
        principal.session,
        principal.request.map(|request| request.to_string()),
        event.name,
        event.object,
        event.detail.as_ref(),
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// The newest entries before a given one, newest first.
///
/// # Errors
/// `Unavailable`.
pub async fn list(
    tenant: &mut Tenant<ReadAudit>,
    before: Option<AuditId>,
    most: i64,
) -> Result<Vec<Entry>, StoreError> {
    #[cfg(feature = "sabotage")]
    if domain::sabotaged!(ScopedQueries) {
        return crate::sabotage::everybodys_entries(tenant.sql(), most).await;
    }
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query_as!(
        Row,
        "select a.id, a.at, a.principal, a.means, a.request, a.event, a.object, a.detail, w.is_probe \
         from audit a join workspaces w using (workspace_id) \
         where a.workspace_id = $1 and ($2::uuid is null or a.id < $2) order by a.id desc limit $3",
        workspace,
        before.map(Id::uuid),
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows.into_iter().map(Entry::from).collect())
}
