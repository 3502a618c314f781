//! The audit trail, as admins read it.

use domain::{id::AuditId, principal::Principal};
use relation::action::ReadAudit;
use store::audit::Entry;

use crate::{App, Refusal, gateway::workspace_of};

/// The newest entries before a given one, newest first.
///
/// # Errors
/// As for any use case.
pub async fn list(app: &App, caller: &Principal, before: Option<AuditId>, most: i64) -> Result<Vec<Entry>, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadAudit>(caller, workspace, workspace).await?;
    let entries = store::audit::list(&mut tenant, before, most).await?;
    tenant.finish().await?;
    Ok(entries)
}
