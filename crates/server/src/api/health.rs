//! Whether the process lives, and whether it can serve.

use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;
use service::{App, Refusal};
use utoipa::ToSchema;

use crate::{answer, problem::Problem, route::Visit};

/// How it is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `live` or `ready`.
    status: &'static str,
}

pub(crate) async fn live(_app: Arc<App>, _visit: Visit<()>) -> Result<Response, Problem> {
    answer::ok(&Health { status: "live" })
}

/// Ready: the database answers, and the process is not about to stop: whoever spreads requests over nodes looks here. The keyring needs no
/// asking: there is no [`App`] without one.
pub(crate) async fn ready(app: Arc<App>, _visit: Visit<()>) -> Result<Response, Problem> {
    if app.is_leaving() {
        return Err(Refusal::Unavailable(None).into());
    }
    app.store.ping().await.map_err(|error| Refusal::Unavailable(Some(error)))?;
    answer::ok(&Health { status: "ready" })
}
