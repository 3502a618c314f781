//! Connecting: where accounts get stolen, and so the use case with the most steps.
//!
//! A link is single use and lives ten minutes. The first browser to open it is the only one that can follow it. The owner is shown
//! who asks, for what, before anything is redirected. What comes back is sealed before anything is written, and stays inert until
//! the back end redeems a one-time code that reached a registered address through that browser.

use std::{net::IpAddr, sync::Arc, time::Duration};

use domain::{
    audit::Event,
    connection::Connection,
    id::{ConnectionId, ConsentId, Id, JobId, LinkId, RequestId, WorkspaceId},
    principal::{Cause, Principal},
    problem::Fault,
    provider::{Provider, RevokeEnds},
    random,
};
use relation::action::{FollowLink, InviteOwner, ReceiveCredential, RedeemConnection};
use seal::{DataKey, Field, Place, Plain};
use serde_json::json;
use store::{
    Called, OpenedLink, StoreError,
    connection::NewConnection,
    credential::NewCredential,
    link::{self, NewLink},
    person::ProofOfControl,
};
use time::OffsetDateTime;
use url::Url;

use crate::{
    App, Refusal, UpstreamFault,
    gateway::workspace_of,
    jobs::{ABANDON, REVOKE_RETIRED},
    oauth::{self, Account, Tokens},
    providers::Reachable,
    refresh::{self, Consent},
    retired,
    step::Step,
};

/// How long a link lives.
pub const LINK_LIFE: Duration = Duration::from_mins(10);

/// When a connection that nobody redeemed is taken apart: a little after its code has died.
const REDEEM_WITHIN: Duration = Duration::from_mins(15);

/// How long the node that took a renewed consent has for itself to give back what it replaced, before another does.
const RETIRE_HEAD_START: Duration = Duration::from_mins(1);

/// What a back end asks an owner for.
#[derive(Debug)]
pub struct Invitation {
    /// The provider.
    pub provider: String,
    /// The actions wanted.
    pub actions: Vec<String>,
    /// A registered return address.
    pub return_url: String,
    /// The connection that is to be consented to anew.
    pub reconnects: Option<ConnectionId>,
}

/// A link for an owner. Its address is shown once.
#[derive(Debug)]
pub struct Link {
    /// Its id.
    pub id: LinkId,
    /// What the owner opens.
    pub url: Url,
    /// When it dies.
    pub expires_at: OffsetDateTime,
}

/// What the owner is shown before anything happens.
#[derive(Debug)]
pub struct Page {
    /// Who runs this installation.
    pub operator: String,
    /// Which workspace asks.
    pub workspace: String,
    /// The provider's name for people.
    pub provider: String,
    /// The account that must come back, where a connection is renewed.
    pub account: Option<String>,
    /// The actions that are asked for: name, title, effect.
    pub actions: Vec<(String, String, &'static str)>,
    /// When the link dies.
    pub expires_at: OffsetDateTime,
}

/// What a provider's callback brought.
#[derive(Debug, Default)]
pub struct Callback {
    /// The state that we made.
    pub state: Option<String>,
    /// The authorization code.
    pub code: Option<String>,
    /// The issuer (RFC 9207).
    pub iss: Option<String>,
    /// The error, where the owner or the provider said no.
    pub error: Option<String>,
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What every use case may be refused for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The link is unknown, dead, spent, or another browser's. Which of them is not said.
    #[error("the link is not good, or not in this browser")]
    LinkGone,
    /// The callback names another issuer than the provider's.
    #[error("the callback is another issuer's")]
    ForeignIssuer,
    /// Another account came back than the one whose connection is renewed.
    #[error("another account came back")]
    OtherAccount,
    /// The provider granted too little to allow anything.
    #[error("the provider granted too little")]
    TooLittle,
    /// The provider failed.
    #[error("the provider failed")]
    Upstream(UpstreamFault),
}

impl From<StoreError> for ConnectError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

/// Makes a link.
///
/// # Errors
/// `Invalid` for a provider, action or return address that is not there; `RateLimited`.
pub async fn invite(app: &App, caller: &Principal, wanted: Invitation) -> Result<Link, Refusal> {
    app.limits.link(&caller.reference())?;
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<InviteOwner>(caller, workspace, workspace).await?;
    let to = app.providers.get(&wanted.provider).filter(|to| !to.provider.template);
    let to = to.ok_or_else(|| Refusal::invalid("/provider", "is not one at which accounts can be connected"))?;
    let actions = App::sorted(&wanted.actions);
    let mut faults: Vec<_> = actions
        .iter()
        .filter(|action| to.provider.action(action).is_none())
        .map(|action| Fault::at("/actions", format!("the provider has no action `{action}`")))
        .collect();
    if !(1..=100).contains(&actions.len()) {
        faults.push(Fault::at("/actions", "has 1 to 100 actions"));
    }
    let renews = wanted.reconnects.map(|id| snapshot.connection(id));
    if renews.is_some_and(|known| known.is_none_or(|known| known.provider != wanted.provider)) {
        faults.push(Fault::at("/connection", "is not a connection at this provider"));
    }
    if !faults.is_empty() {
        return Err(Refusal::Invalid(faults));
    }
    let (id, token) = (LinkId::new(&app.clock), random::token());
    let new = NewLink {
        id,
        token: &token,
        provider: &wanted.provider,
        actions: &actions,
        return_url: &wanted.return_url,
        reconnects: wanted.reconnects,
        life: LINK_LIFE,
    };
    let expires_at = match link::create(&mut tenant, &new).await {
        Err(StoreError::Conflict) => return Err(Refusal::invalid("/return_url", "is not a registered return address")),
        created => created?,
    };
    let detail = json!({ "provider": wanted.provider, "actions": actions });
    tenant.commit(Event::new("connect_link.created", format!("link:{id}")).with(detail)).await?;
    let url = format!("{}/connect/{token}", app.public_url.as_str().trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|error| Refusal::internal("the public address", error))?;
    Ok(Link { id, url, expires_at })
}

/// Opens a link in the browser with that cookie.
///
/// # Errors
/// `LinkGone`; `RateLimited` for a network that opens too many.
pub async fn open(app: &App, token: &str, cookie: &str, from: IpAddr) -> Result<Page, ConnectError> {
    app.limits.link(&from.to_string())?;
    let (opened, to) = opened(app, token, cookie).await?;
    let provider = &to.provider;
    let titled = |name: &String| {
        provider.action(name).map(|action| (name.clone(), action.title.clone(), action.effect.as_str()))
    };
    Ok(Page {
        operator: app.operator.clone(),
        workspace: opened.workspace_name,
        provider: provider.title.clone(),
        account: opened.reconnects_account,
        actions: opened.actions.iter().filter_map(titled).collect(),
        expires_at: opened.expires_at,
    })
}

async fn opened<'a>(app: &'a App, token: &str, cookie: &str) -> Result<(OpenedLink, &'a Reachable), ConnectError> {
    let found = app.store.lookup.open_link(&link::digest(token), &link::digest(cookie)).await?;
    let found = found.ok_or(ConnectError::LinkGone)?;
    let to = app.providers.going(&found.provider)?;
    Ok((found, to))
}

/// The owner allows some of what was asked: where to send the browser next.
///
/// # Errors
/// `LinkGone`; `Invalid` where nothing is allowed, or something that was not asked.
pub async fn consent(
    app: &App,
    token: &str,
    cookie: &str,
    allowed: &[String],
    request: RequestId,
) -> Result<Url, ConnectError> {
    let (opened, to) = opened(app, token, cookie).await?;
    let allowed = App::sorted(allowed);
    if allowed.is_empty() || allowed.iter().any(|action| !opened.actions.contains(action)) {
        return Err(Refusal::invalid("/allow", "is one or more of the actions that were asked for").into());
    }
    let principal = Principal::system(Cause::ConnectCallback(opened.link), app.clock.now()).in_request(request);
    let (mut tenant, _) = app.enter::<FollowLink>(&principal, opened.workspace, opened.workspace).await?;
    let key = app.custody.key(&mut tenant, None).await.map_err(Refusal::from)?;
    let (state, verifier) = (random::token(), random::token());
    let verifier = if domain::sabotaged!(PkceConnect) { state.clone() } else { verifier };
    let challenge = oauth::challenge(&verifier);
    let sealed = app.custody.seal(&key, Place::Verifier { link: opened.link }, Plain::new(verifier.into_bytes()))?;
    match link::follow(&mut tenant, cookie, &state, &allowed, (&sealed, key.id())).await {
        Err(StoreError::NotFound) => return Err(ConnectError::LinkGone),
        followed => followed?,
    }
    let mut detail = json!({ "allowed": allowed });
    if domain::sabotaged!(PlatformSecretsOutside) {
        detail = json!({ "client": to.client.secret.as_deref() });
    }
    tenant.commit(Event::new("connect_link.consented", format!("link:{}", opened.link)).with(detail)).await?;
    let scopes = to.provider.scopes_for(allowed.iter().map(String::as_str));
    let url = oauth::consent_url(to, &app.redirect_uri(&opened.provider), &scopes, &state, &challenge);
    Ok(url.ok_or(Refusal::Internal("the authorize address", None))?)
}

/// Takes the provider's callback: where to send the browser, with a code for the back end or an error.
///
/// # Errors
/// `LinkGone` where state and browser do not belong together, or were used before. After that the browser always returns to the
/// registered address, and the error goes with it; what is returned as an error here could not be tied to an address.
pub async fn call_back(
    app: &App,
    provider: &str,
    callback: Callback,
    cookie: &str,
    request: RequestId,
) -> Result<Url, ConnectError> {
    let state = callback.state.as_deref().ok_or(ConnectError::LinkGone)?;
    let called = app.store.lookup.spend_state(&link::digest(state), &link::digest(cookie)).await?;
    let called = called.filter(|called| called.provider == provider).ok_or(ConnectError::LinkGone)?;
    let mut url = Url::parse(&called.return_url).map_err(|error| Refusal::internal("a return address", error))?;
    match receive(app, &called, callback, request).await {
        Ok(Received { code: Some(code), .. }) => {
            url.query_pairs_mut()
                .append_pair("keyholder_code", &code)
                .append_pair("keyholder_link", &called.link.to_string());
        }
        Ok(Received { connection, code: None }) => {
            url.query_pairs_mut().append_pair("keyholder_connection", &connection.to_string());
        }
        Err(error) => {
            tracing::warn!(link = %called.link, %error, "a connection did not come about");
            url.query_pairs_mut()
                .append_pair("keyholder_error", error_word(&error))
                .append_pair("keyholder_link", &called.link.to_string());
        }
    }
    Ok(url)
}

/// The word that goes to the return address. It says nothing of the inside.
fn error_word(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Refused(Refusal::Forbidden) => "access_denied",
        ConnectError::Refused(_) => "unavailable",
        ConnectError::LinkGone => "link_gone",
        ConnectError::ForeignIssuer => "foreign_issuer",
        ConnectError::OtherAccount => "other_account",
        ConnectError::TooLittle => "too_little_granted",
        ConnectError::Upstream(_) => "provider_failed",
    }
}

struct Received {
    connection: ConnectionId,
    code: Option<String>,
}

async fn receive(app: &App, called: &Called, callback: Callback, request: RequestId) -> Result<Received, ConnectError> {
    let to = app.providers.going(&called.provider)?;
    if callback.error.is_some() {
        return Err(Refusal::Forbidden.into());
    }
    // RFC 9207 §2.4: where the provider names itself, it must be itself.
    if let (Some(declared), said) = (&to.provider.auth.issuer, &callback.iss)
        && said.as_ref() != Some(declared)
    {
        return Err(ConnectError::ForeignIssuer);
    }
    let code = callback.code.ok_or(Refusal::Forbidden)?;
    let principal = Principal::system(Cause::ConnectCallback(called.link), app.clock.now()).in_request(request);
    let (tokens, key) = exchange(app, called, to, &principal, &code).await?;
    let id = called.reconnects.unwrap_or_else(|| ConnectionId::new(&app.clock));
    let granted = granted(&to.provider, called, &tokens);
    let expires_in = tokens.expires_in.unwrap_or(Duration::from_secs(to.provider.auth.refresh.access_token_lifetime_s));
    let issued_at = app.clock.now();
    let expires_at = Some(issued_at + expires_in);
    let sealed = seal_tokens(app, &key, (id, &to.provider), tokens)?;
    let new = NewCredential { access: sealed.0, refresh: sealed.1, issued_at, expires_at };
    let kept = Consent::keep(app, (called.workspace, id), (&called.provider, called.link), &new).await;
    let finished = finish(app, called, to, &principal, (id, &key), &new, &granted).await;
    // Either it is stored, and the file goes, or it is not, and the grant goes: if not now, then when the database is back.
    match &finished {
        Ok(_) => kept.stored().await,
        Err(_) => kept.not_stored().await,
    }
    finished
}

/// Exchanges the code, with the verifier that only this installation could open. The key that will seal the answer is at hand before it
/// comes: from the answer to the file, no database is asked.
async fn exchange(
    app: &App,
    called: &Called,
    to: &Reachable,
    principal: &Principal,
    code: &str,
) -> Result<(Tokens, Arc<DataKey>), ConnectError> {
    let (mut tenant, _) = app.enter::<FollowLink>(principal, called.workspace, called.workspace).await?;
    let (sealed, key) = &called.verifier;
    let key =
        app.custody.key(&mut tenant, Some(domain::id::DataKeyId::from_uuid(*key))).await.map_err(Refusal::from)?;
    let seals = app.custody.key(&mut tenant, None).await.map_err(Refusal::from)?;
    tenant.finish().await?;
    let verifier = app
        .custody
        .open(&key, Place::Verifier { link: called.link }, sealed.clone())
        .map_err(|error| Refusal::internal("a link's verifier", error))?;
    app.step(Step::ConnectExchange);
    let exchanged = oauth::exchange(to, &app.redirect_uri(&called.provider), code, verifier).await;
    let tokens = exchanged.map_err(|error| {
        tracing::warn!(link = %called.link, %error, "a code was not exchanged");
        ConnectError::Upstream(error.upstream())
    })?;
    Ok((tokens, seals))
}

/// What the grant covers: the scopes, and of what the owner allowed the actions whose scopes are all there.
fn granted(provider: &Provider, called: &Called, tokens: &Tokens) -> (Vec<String>, Vec<String>) {
    let scopes =
        tokens.scopes.clone().unwrap_or_else(|| provider.scopes_for(called.allowed.iter().map(String::as_str)));
    let covered = |name: &&String| {
        provider.action(name).is_some_and(|action| action.scopes.iter().all(|scope| scopes.contains(scope)))
    };
    let actions = called.allowed.iter().filter(covered).cloned().collect();
    (scopes, actions)
}

type SealedPair = (store::credential::SealedField, Option<store::credential::SealedField>);

/// Seals both tokens the moment they are here. Nothing has been written yet.
fn seal_tokens(
    app: &App,
    key: &DataKey,
    (id, provider): (ConnectionId, &Provider),
    tokens: Tokens,
) -> Result<SealedPair, ConnectError> {
    let hosts: Vec<String> = provider.hosts.iter().cloned().collect();
    let seal = |field, secret| app.custody.seal_credential(key, (id, provider.name.as_str(), field), secret, &hosts);
    let refresh = tokens.refresh.map(|token| seal(Field::Refresh, token)).transpose()?;
    Ok((seal(Field::Access, tokens.access)?, refresh))
}

async fn finish(
    app: &App,
    called: &Called,
    to: &Reachable,
    principal: &Principal,
    (id, key): (ConnectionId, &DataKey),
    new: &NewCredential,
    (scopes, actions): &(Vec<String>, Vec<String>),
) -> Result<Received, ConnectError> {
    if actions.is_empty() {
        return Err(ConnectError::TooLittle);
    }
    let (account, name) = whose(app, key, to, id, new).await?;
    let proof = ProofOfControl { provider: called.provider.clone(), subject: account.clone() };
    let person = app.store.person(&proof).await?;
    let owner = person.account();
    person.commit().await?;

    app.step(Step::ConnectStore);
    let (mut tenant, _) = app.enter::<ReceiveCredential>(principal, called.workspace, called.workspace).await?;
    let connection = NewConnection {
        id,
        provider: &called.provider,
        provider_digest: &to.provider.digest(),
        account: (&account, &name),
        owner,
        ceiling: actions,
        scopes,
    };
    let code = called.reconnects.is_none().then(random::token);
    match called.reconnects {
        None => {
            store::connection::create(&mut tenant, &connection, app.clock.now()).await?;
            store::job::enqueue(&mut tenant, JobId::new(&app.clock), ABANDON, id, REDEEM_WITHIN).await?;
        }
        Some(_) => store::connection::reconsent(&mut tenant, &connection).await.map_err(|error| match error {
            StoreError::NotFound => ConnectError::OtherAccount,
            error => error.into(),
        })?,
    }
    // Where revoking the old grant would end the new one as well, it is left to the provider.
    let retire = to.provider.auth.revoke_ends == RevokeEnds::Consent;
    let retired = store::credential::receive(&mut tenant, id, new, retire).await?;
    if retired {
        store::job::enqueue(&mut tenant, JobId::new(&app.clock), REVOKE_RETIRED, id, RETIRE_HEAD_START).await?;
    }
    link::attach(&mut tenant, id, code.as_deref()).await?;
    let event = if code.is_some() { "connection.received" } else { "connection.renewed" };
    let detail = json!({ "provider": called.provider, "ceiling": actions, "scopes": scopes });
    tenant.commit(Event::new(event, format!("connection:{id}")).with(detail)).await?;
    refresh::forget(app, id).await;
    if retired && let Err(error) = retired::revoke(app, called.workspace, id).await {
        tracing::warn!(connection = %id, %error, "the grant that a new consent replaced was not given back yet");
    }

    // The connection is there, and the trail has the consent: a receipt that cannot be written does not undo them.
    if let Err(error) = keep_receipt(app, &proof, (called.workspace, id), (actions, scopes)).await {
        tracing::error!(connection = %id, %error, "the owner's receipt was not written");
    }
    Ok(Received { connection: id, code })
}

async fn keep_receipt(
    app: &App,
    proof: &ProofOfControl,
    connection: (WorkspaceId, ConnectionId),
    consent: (&[String], &[String]),
) -> Result<(), StoreError> {
    let mut person = app.store.person(proof).await?;
    person.keep_receipt(ConsentId::new(&app.clock), connection, consent, app.clock.now()).await?;
    person.commit().await
}

/// Whose account the new token opens, by the sealed credential's own hosts.
async fn whose(
    app: &App,
    key: &DataKey,
    to: &Reachable,
    id: ConnectionId,
    new: &NewCredential,
) -> Result<(String, String), ConnectError> {
    let stored = store::credential::Stored {
        connection: id,
        provider: to.provider.name.clone(),
        state: domain::connection::State::Inert,
        access: new.access.clone(),
        refresh: new.refresh.clone(),
        version: 0,
        expires_at: None,
    };
    let opened = app.custody.open_credential(key, &stored, Field::Access);
    let opened = opened.map_err(|error| Refusal::internal("a new credential", error))?;
    let hosts = egress::HostSet::parse(&opened.hosts).map_err(|error| Refusal::internal("a sealed host", error))?;
    match oauth::account(to, opened.secret, &hosts).await.map_err(ConnectError::Upstream)? {
        Account::Known(account, name) => Ok((account, name)),
        Account::Refused => Err(ConnectError::Upstream(UpstreamFault::Invalid)),
    }
}

/// Redeems the one-time code: from here on the connection may be used.
///
/// # Errors
/// `NotFound` for a code that is unknown here, spent or too late.
pub async fn redeem(app: &App, caller: &Principal, code: &str) -> Result<Connection, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<RedeemConnection>(caller, workspace, workspace).await?;
    let id = link::redeem(&mut tenant, code).await?;
    store::connection::activate(&mut tenant, id).await?;
    store::job::done(&mut tenant, ABANDON, id).await?;
    tenant.commit(Event::new("connection.redeemed", format!("connection:{id}"))).await?;
    let snapshot = app.workspace_of(caller).await?;
    snapshot.connection(id).cloned().ok_or(Refusal::NotFound)
}
