//! Links that let an owner connect an account.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use service::{
    App,
    action::InviteOwner,
    connect::{self, Invitation},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{BodySchema, Input, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// A link for an owner. Its address is shown once.
#[derive(Serialize, ToSchema)]
#[schema(as = ConnectLink)]
pub(crate) struct LinkView {
    /// Its id, `lnk_…`.
    id: String,
    /// What the owner opens, in one browser, within ten minutes.
    url: String,
    /// When it dies.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// What an owner is asked for.
#[derive(ToSchema)]
#[schema(as = NewConnectLink)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct InvitationBody {
    /// The provider's name.
    provider: String,
    /// The actions wanted: the owner may allow fewer.
    actions: Vec<String>,
    /// A registered return address.
    return_url: String,
    /// The connection that is to be consented to anew.
    connection: Option<String>,
}

/// An invitation, read.
pub(crate) struct NewLink(Invitation);

impl Input for NewLink {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("NewConnectLink", collect::<InvitationBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut body = from.body()?;
        let provider = body.required(from, "provider");
        let actions = body.required(from, "actions");
        let return_url = body.required(from, "return_url");
        let reconnects = body.optional(from, "connection");
        body.finish(from);
        Some(Self(Invitation { provider: provider?, actions: actions?, return_url: return_url?, reconnects }))
    }
}

pub(crate) async fn create(app: Arc<App>, caller: Caller<InviteOwner>, input: NewLink) -> Result<Response, Problem> {
    let link = connect::invite(&app, caller.principal(), input.0).await?;
    let view = LinkView { id: link.id.to_string(), url: link.url.into(), expires_at: link.expires_at };
    answer::json(StatusCode::CREATED, &view)
}
