//! The caller's workspace.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use service::{
    App,
    action::{ManageReturnAddresses, ReadWorkspace},
    workspace,
};
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{Input, Query, Reader, members::members},
    problem::Problem,
};

/// A workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Workspace)]
pub(crate) struct WorkspaceView {
    /// Its id, `ws_…`.
    id: String,
    /// Its name, as owners are shown it.
    name: String,
    /// Where browsers may be sent back to.
    return_addresses: Vec<String>,
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadWorkspace>, (): ()) -> Result<Response, Problem> {
    let workspace::Workspace { id, name, return_addresses } = workspace::get(&app, caller.principal()).await?;
    answer::ok(&WorkspaceView { id: id.to_string(), name, return_addresses })
}

members! {
    /// An address to which a browser may be sent with the one-time code of a new connection.
    #[derive(Serialize)]
    pub(crate) struct ReturnAddress as ReturnAddress {
        /// `https`, or `http` on localhost; without credentials and without a fragment.
        url: String,
    }
}

pub(crate) async fn register_return_address(
    app: Arc<App>,
    caller: Caller<ManageReturnAddresses>,
    input: ReturnAddress,
) -> Result<Response, Problem> {
    let url = workspace::register_return_address(&app, caller.principal(), &input.url).await?;
    answer::json(StatusCode::CREATED, &ReturnAddress { url })
}

/// The address to be removed, by the query: it has no id.
pub(crate) struct Named(String);

impl Input for Named {
    const QUERY: Query = Query::Known(&[("url", "The address, as it was registered.")]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let url = from.query("url").map(str::to_owned);
        if url.is_none() {
            from.fault("?url", "is required");
        }
        url.map(Self)
    }
}

pub(crate) async fn remove_return_address(
    app: Arc<App>,
    caller: Caller<ManageReturnAddresses>,
    Named(url): Named,
) -> Result<Response, Problem> {
    workspace::remove_return_address(&app, caller.principal(), &url).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
