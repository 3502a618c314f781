//! Links that let an owner connect an account.

use std::sync::Arc;

use axum::response::Response;
use domain::id::ConnectionId;
use http::StatusCode;
use serde::Serialize;
use service::{
    App,
    action::InviteOwner,
    connect::{self, Invitation},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{answer, guard::Caller, input::members::members, problem::Problem};

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

members! {
    /// What an owner is asked for.
    pub(crate) struct NewLink as NewConnectLink {
        /// The provider's name.
        provider: String,
        /// The actions wanted: the owner may allow fewer.
        actions: Vec<String>,
        /// A registered return address.
        return_url: String,
        /// The connection that is to be consented to anew.
        #[schema(value_type = Option<String>)]
        connection: Option<ConnectionId>,
    }
}

pub(crate) async fn create(app: Arc<App>, caller: Caller<InviteOwner>, input: NewLink) -> Result<Response, Problem> {
    let NewLink { provider, actions, return_url, connection: reconnects } = input;
    let invitation = Invitation { provider, actions, return_url, reconnects };
    let link = connect::invite(&app, caller.principal(), invitation).await?;
    let view = LinkView { id: link.id.to_string(), url: link.url.into(), expires_at: link.expires_at };
    answer::json(StatusCode::CREATED, &view)
}
