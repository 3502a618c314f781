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
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        let Row { id, at, principal, means, request, event, object, detail } = row;
        Self { id: AuditId::from_uuid(id), at, principal, means, request, event, object, detail }
    }
}

pub(crate) async fn append<A: Action>(tenant: &mut Tenant<A>, id: AuditId, event: &Event) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let principal = tenant.principal().clone();
    let detail = (!event.detail.is_null()).then(|| event.detail.clone());
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
        detail,
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
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query_as!(
        Row,
        "select id, at, principal, means, request, event, object, detail from audit \
         where workspace_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3",
        workspace,
        before.map(Id::uuid),
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows.into_iter().map(Entry::from).collect())
}
