//! The audit trail.

use std::sync::Arc;

use axum::response::Response;
use domain::id::AuditId;
use serde::Serialize;
use serde_json::Value;
use service::{App, Entry, action::ReadAudit, audit};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{answer, guard::Caller, input::Page, problem::Problem};

/// Something that happened.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct EntryView {
    /// Its id, `aud_…`.
    id: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Who.
    principal: String,
    /// How that was established.
    means: String,
    /// In which request.
    request: Option<String>,
    /// What happened.
    event: String,
    /// To what, as `type:id`.
    object: String,
    /// Facts for an auditor.
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
    /// Whether it happened in a workspace that is the probes' own: an attack there was ordered.
    probe: bool,
}

pub(crate) fn view(entry: Entry) -> EntryView {
    let Entry { id, at, principal, means, request, event, object, detail, is_probe: probe } = entry;
    EntryView { id: id.to_string(), at, principal, means, request, event, object, detail, probe }
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ReadAudit>,
    Page { before, limit }: Page<AuditId>,
) -> Result<Response, Problem> {
    let found = audit::list(&app, caller.principal(), before, answer::and_one(limit)).await?;
    answer::page(found, limit, |entry| entry.id.to_string(), view)
}
