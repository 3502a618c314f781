//! The installation's kill drills, and its trail. For the operator's persons, each by a key of his own.

use std::sync::Arc;

use axum::response::Response;
use domain::{
    connection::Verdict,
    id::{AuditId, ConnectionId, KillDrillId},
    kill_drill::{Certificate, Counts, KillDrill, Line},
};
use http::StatusCode;
use serde::Serialize;
use service::{
    App, Progress,
    action::{ApproveKillDrill, ProposeKillDrill, ReadInstallation, ReadKillDrill},
    installation, kill_drill,
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    api::audit,
    guard::Caller,
    input::{Input, Page, Reader, members::members},
    problem::Problem,
};

/// A drill that ends every connection of the installation, or of one provider.
#[derive(Serialize, ToSchema)]
#[schema(as = KillDrill)]
pub(crate) struct DrillView {
    /// Its id, `kd_…`.
    id: String,
    /// The provider whose connections are ended; null for all.
    provider: Option<String>,
    /// Why, in the words of whoever proposed it.
    reason: String,
    /// `proposed`, `expired`, `running` or `ended`.
    state: &'static str,
    /// Who proposed it.
    proposed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    proposed_at: OffsetDateTime,
    /// When the proposal dies, if nobody approves.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// Who approved it.
    approved_by: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339::option")]
    approved_at: Option<OffsetDateTime>,
    /// No act on any of its connections was admitted after this; null while some may be.
    #[serde(with = "time::serde::rfc3339::option")]
    acts_stopped_at: Option<OffsetDateTime>,
    /// How far it has come; not told in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    progress: Option<ProgressView>,
    /// What became of it, once it has ended.
    certificate: Option<CertificateView>,
}

/// How far a drill has come.
#[derive(Serialize, ToSchema)]
#[schema(as = KillDrillProgress)]
pub(crate) struct ProgressView {
    /// Workspaces that are in the queue to have their connections stopped.
    workspaces_left: u64,
    #[serde(flatten)]
    counts: CountsView,
}

/// How many connections, and what was found.
#[derive(Serialize, ToSchema)]
#[schema(as = KillDrillCounts)]
pub(crate) struct CountsView {
    /// All that were stopped.
    connections: u64,
    /// Those of which nothing is left here.
    ended: u64,
    /// Old tokens that were refused within their life.
    dead: u64,
    /// Old tokens that were still accepted.
    alive: u64,
    /// Old tokens of which nothing was learned.
    refused_to_say: u64,
    /// Revocations that providers acknowledged.
    revoked_at_provider: u64,
    /// Grants that may live on at their providers.
    grants_may_live: u64,
}

/// What became of a drill as a whole.
#[derive(Serialize, ToSchema)]
#[schema(as = KillDrillCertificate)]
pub(crate) struct CertificateView {
    #[serde(flatten)]
    counts: CountsView,
    /// No act on any of the connections was admitted after this.
    #[serde(with = "time::serde::rfc3339")]
    acts_stopped_at: OffsetDateTime,
    /// When the last connection was gone.
    #[serde(with = "time::serde::rfc3339")]
    ended_at: OffsetDateTime,
    /// SHA-256 over the canonical lines of drill and connections, in hexadecimal digits.
    digest: String,
}

/// What a drill found of one connection.
#[derive(Serialize, ToSchema)]
#[schema(as = KillDrillConnection)]
pub(crate) struct LineView {
    /// Whose it was.
    workspace: String,
    /// The connection.
    connection: String,
    /// The provider's name.
    provider: String,
    /// What the old token could still do: `dead`, `alive` or `refused_to_say`; null while it is being taken apart.
    #[schema(value_type = Option<String>)]
    old_token: Option<Verdict>,
    /// Whether the provider acknowledged the revocation.
    revoked_at_provider: Option<bool>,
    /// Whether the grant may live on there.
    grant_may_live: Option<bool>,
    /// When the credential was deleted here.
    #[serde(with = "time::serde::rfc3339::option")]
    deleted_at: Option<OffsetDateTime>,
}

fn counts(counts: Counts) -> CountsView {
    let Counts { connections, ended, dead, alive, refused_to_say, revoked_at_provider, grants_may_live } = counts;
    CountsView { connections, ended, dead, alive, refused_to_say, revoked_at_provider, grants_may_live }
}

fn certificate(certificate: Certificate) -> CertificateView {
    let Certificate { counts: found, acts_stopped_at, ended_at, digest } = certificate;
    CertificateView { counts: counts(found), acts_stopped_at, ended_at, digest }
}

fn view(drill: KillDrill, progress: Option<Progress>) -> DrillView {
    let progress = progress
        .map(|Progress { workspaces_left, counts: found }| ProgressView { workspaces_left, counts: counts(found) });
    DrillView {
        id: drill.id.to_string(),
        provider: drill.provider,
        reason: drill.reason,
        state: drill.state.as_str(),
        proposed_by: drill.proposed_by,
        proposed_at: drill.proposed_at,
        expires_at: drill.expires_at,
        approved_by: drill.approved_by,
        approved_at: drill.approved_at,
        acts_stopped_at: drill.acts_stopped_at,
        progress,
        certificate: drill.certificate.map(certificate),
    }
}

fn line(line: Line) -> LineView {
    let Line { workspace, connection, provider, found } = line;
    LineView {
        workspace: workspace.to_string(),
        connection: connection.to_string(),
        provider,
        old_token: found.map(|found| found.old_token),
        revoked_at_provider: found.map(|found| found.revoked_at_provider),
        grant_may_live: found.map(|found| found.grant_may_live),
        deleted_at: found.map(|found| found.deleted_at),
    }
}

members! {
    /// What is proposed.
    pub(crate) struct Proposal as NewKillDrill {
        /// Why: 1 to 500 characters. It is shown to whoever approves, and stays in the trail.
        reason: String,
        /// The provider whose connections are to be ended; all, where none is named.
        provider: Option<String>,
    }
}

/// One drill, by the path.
pub(crate) struct One(KillDrillId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

/// A page of one drill's connections.
pub(crate) struct PageOf(KillDrillId, Page<ConnectionId>);

impl Input for PageOf {
    const QUERY: crate::input::Query = <Page<ConnectionId> as Input>::QUERY;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let id = from.path("id");
        let page = Page::read(from);
        Some(Self(id?, page?))
    }
}

pub(crate) async fn propose(
    app: Arc<App>,
    caller: Caller<ProposeKillDrill>,
    input: Proposal,
) -> Result<Response, Problem> {
    let Proposal { reason, provider } = input;
    let (drill, progress) = kill_drill::propose(&app, caller.principal(), &reason, provider.as_deref()).await?;
    answer::json(StatusCode::CREATED, &view(drill, Some(progress)))
}

pub(crate) async fn approve(
    app: Arc<App>,
    caller: Caller<ApproveKillDrill>,
    One(id): One,
) -> Result<Response, Problem> {
    let (drill, progress) = kill_drill::approve(&app, caller.principal(), id).await?;
    answer::ok(&view(drill, Some(progress)))
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadKillDrill>, One(id): One) -> Result<Response, Problem> {
    let (drill, progress) = kill_drill::get(&app, caller.principal(), id).await?;
    answer::ok(&view(drill, Some(progress)))
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ReadInstallation>,
    Page { before, limit }: Page<KillDrillId>,
) -> Result<Response, Problem> {
    let found = kill_drill::list(&app, caller.principal(), before, answer::and_one(limit)).await?;
    answer::page(found, limit, |drill| drill.id.to_string(), |drill| view(drill, None))
}

pub(crate) async fn connections(
    app: Arc<App>,
    caller: Caller<ReadKillDrill>,
    PageOf(id, Page { before, limit }): PageOf,
) -> Result<Response, Problem> {
    let found = kill_drill::connections(&app, caller.principal(), id, before, answer::and_one(limit)).await?;
    answer::page(found, limit, |line| line.connection.to_string(), line)
}

pub(crate) async fn trail(
    app: Arc<App>,
    caller: Caller<ReadInstallation>,
    Page { before, limit }: Page<AuditId>,
) -> Result<Response, Problem> {
    let found = installation::trail(&app, caller.principal(), before, answer::and_one(limit)).await?;
    answer::page(found, limit, |entry| entry.id.to_string(), audit::view)
}
