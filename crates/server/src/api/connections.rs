//! Connections: read, redeemed, taken apart.

use std::sync::Arc;

use axum::response::Response;
use domain::{connection, id::ConnectionId};
use serde::Serialize;
use service::{
    App,
    action::{Disconnect, ListWorkspace, ReadConnection, RedeemConnection},
    connect, connection as connections,
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{Input, Page, Reader, members::members},
    problem::Problem,
};

/// An account that an owner has entrusted to the workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Connection)]
pub(crate) struct ConnectionView {
    /// Its id, `con_…`.
    id: String,
    /// The provider's name.
    provider: String,
    /// The account at the provider.
    account: AccountView,
    /// `inert`, `active`, `reconnect_required`, `disconnecting` or `disconnected`.
    state: &'static str,
    /// Why only the owner can mend it, by consenting again, where its state is `reconnect_required`: `interrupted` (a refresh was cut
    /// off after it may have reached the provider), `refused` (the provider ended the grant), `unreadable_answer` or `expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconnect_reason: Option<&'static str>,
    /// Since when it is so.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    reconnect_since: Option<OffsetDateTime>,
    /// The actions that the owner allowed: no mandate can hold more.
    ceiling: Vec<String>,
    /// The scopes that the provider granted.
    scopes: Vec<String>,
    /// When the owner first consented.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// An account at a provider.
#[derive(Serialize, ToSchema)]
#[schema(as = ConnectedAccount)]
pub(crate) struct AccountView {
    /// Its lasting id there.
    id: String,
    /// Its name for people.
    name: String,
}

/// What became of the provider's side of a disconnection.
#[derive(Serialize, ToSchema)]
#[schema(as = Certificate)]
pub(crate) struct CertificateView {
    /// The connection.
    connection: String,
    /// Whether the provider acknowledged the revocation.
    revoked_at_provider: bool,
    /// Which token it was asked to revoke, `refresh_token` or `access_token`; null where none could be shown to it.
    #[schema(value_type = Option<String>)]
    presented: Option<connection::Presented>,
    /// What the old access token could still do: `dead` (tried within its life, and refused), `alive`, or `refused_to_say`.
    #[schema(value_type = String)]
    old_token: connection::Verdict,
    /// Whether the old access token was tried within its declared life: what has expired by itself shows nothing by being refused.
    tried_within_life: bool,
    /// Whether the grant may live on at the provider. Nothing here can end it any more: its owner can, on the provider's own pages.
    grant_may_live: bool,
    /// When the credential was deleted here.
    #[serde(with = "time::serde::rfc3339")]
    deleted_at: OffsetDateTime,
}

fn view(connection: connection::Connection) -> ConnectionView {
    let connection::Connection {
        id,
        provider,
        account_id,
        account_name,
        state,
        reconnect,
        ceiling,
        scopes,
        created_at,
    } = connection;
    ConnectionView {
        id: id.to_string(),
        provider,
        account: AccountView { id: account_id, name: account_name },
        state: state.as_str(),
        reconnect_reason: reconnect.map(|reconnect| reconnect.reason.as_str()),
        reconnect_since: reconnect.map(|reconnect| reconnect.since),
        ceiling,
        scopes,
        created_at,
    }
}

fn certificate_view(certificate: &connection::Certificate) -> CertificateView {
    let connection::Certificate {
        connection,
        revoked_at_provider,
        presented,
        old_token,
        tried_within_life,
        grant_may_live,
        deleted_at,
    } = *certificate;
    let connection = connection.to_string();
    CertificateView {
        connection,
        revoked_at_provider,
        presented,
        old_token,
        tried_within_life,
        grant_may_live,
        deleted_at,
    }
}

/// One connection, by the path.
pub(crate) struct One(ConnectionId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ListWorkspace>,
    Page { before, limit }: Page<ConnectionId>,
) -> Result<Response, Problem> {
    let found = connections::list(&app, caller.principal(), before, limit.saturating_add(1)).await?;
    answer::page(found, limit, |connection| connection.id.to_string(), view)
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadConnection>, One(id): One) -> Result<Response, Problem> {
    answer::ok(&view(connections::get(&app, caller.principal(), id).await?))
}

pub(crate) async fn certificate(
    app: Arc<App>,
    caller: Caller<ReadConnection>,
    One(id): One,
) -> Result<Response, Problem> {
    answer::ok(&certificate_view(&connections::certificate(&app, caller.principal(), id).await?))
}

/// Goes on to its end though the caller hangs up: what was begun is not left to the job that mends interruptions.
pub(crate) async fn disconnect(app: Arc<App>, caller: Caller<Disconnect>, One(id): One) -> Result<Response, Problem> {
    let work = {
        let app = Arc::clone(&app);
        async move { connections::disconnect(&app, caller.principal(), id).await }
    };
    let certificate = app.tasks.finish(work).await.map_err(service::Refusal::from)??;
    answer::ok(&certificate_view(&certificate))
}

members! {
    /// The one-time code of a new connection.
    pub(crate) struct Redemption as Redemption {
        /// As it came to the return address in `keyholder_code`.
        code: String,
    }
}

pub(crate) async fn redeem(
    app: Arc<App>,
    caller: Caller<RedeemConnection>,
    input: Redemption,
) -> Result<Response, Problem> {
    answer::ok(&view(connect::redeem(&app, caller.principal(), &input.code).await?))
}
