//! Imports: accounts that a team has connected before, brought along with the tokens of its own store.
//!
//! Nobody consents here. The operator, at the machine that holds the root key, says which actions a connection may ever be used for;
//! the provider says, by one harmless read, whose account a token opens; and receipt and trail say *imported*. The owner is whoever
//! controls that account at the provider, as with every connection. An import adds: it takes nothing from an owner that he has
//! decided here, and never replaces a credential that works. So the same line, imported again, changes nothing.

use std::time::Duration;

use domain::{
    audit::Event,
    connection::State,
    id::{ConnectionId, ConsentId, WorkspaceId},
    principal::Principal,
    provider::Provider,
};
use relation::action::ImportCredential;
use seal::{Age, FernetKey, Field, Plain};
use serde::Deserialize;
use serde_json::json;
use store::{
    StoreError, Tenant, connection,
    connection::NewConnection,
    credential::{self, NewCredential},
    import,
    person::ProofOfControl,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    App, Refusal, UpstreamFault,
    oauth::{self, Account},
    providers::Reachable,
    refresh,
};

/// The longest line: two tokens of the greatest size, and what is said of them.
pub const LINE_BYTES_MAX: usize = 2 * seal::TOKEN_BYTES_MAX + 64 * 1024;
/// The most actions that one line allows.
const ACTIONS_MAX: usize = 100;

/// Where an import comes from, and where it goes.
pub struct Import {
    /// The keys of the former store: a token is opened by the first that signed it.
    pub keys: Vec<FernetKey>,
    /// The oldest that a token may be, where that matters.
    pub ttl: Option<Duration>,
    /// The workspace that the connections will be in.
    pub workspace: WorkspaceId,
    /// The provider's name.
    pub provider: String,
}

/// One line: an account, its tokens as Fernet, and what they may be used for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The account's id at the provider. Where it is given, no other is taken.
    #[serde(default)]
    account_id: Option<String>,
    access: Zeroizing<String>,
    #[serde(default)]
    refresh: Option<Zeroizing<String>>,
    /// When the access token dies. Where it is not given, a refresh before the first act finds out.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    actions: Vec<String>,
    /// The scopes that were granted; where they are not given, those that the actions need.
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// A new connection.
    New(ConnectionId),
    /// A connection that waited for its owner lives again. What its owner allowed stays as it was.
    Renewed(ConnectionId),
    /// The account is connected already, and its credential is left alone.
    Known(ConnectionId),
}

/// Why a line was not imported. No message holds any part of the line.
#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    /// Not JSON of the form that the guide tells.
    #[error("the line is not of the form that is imported")]
    Malformed,
    /// A token does not open: another key, changed, or too old.
    #[error("a token does not open under any of the keys, or is too old")]
    Unopened,
    /// An action that the provider does not have, or none at all.
    #[error("the actions are not 1 to {ACTIONS_MAX} of the provider's")]
    Actions,
    /// The scopes do not cover the actions.
    #[error("the scopes do not cover the actions")]
    Scopes,
    /// The provider does not accept the access token.
    #[error("the provider does not accept the token")]
    TokenRefused,
    /// The token opens another account than the line says.
    #[error("the token opens another account than the line says")]
    OtherAccount,
    /// The owner took this connection apart here: only he can bring it back.
    #[error("the owner has disconnected this account")]
    Disconnected,
    /// The account is being connected or taken apart at this moment.
    #[error("the account is being connected or disconnected")]
    UnderWay,
    /// The provider could not be asked.
    #[error("the provider could not be asked")]
    Upstream(UpstreamFault),
    /// What every use case may be refused for: the lines that follow would fare no better.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ImportFault {
    /// The stable word in reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unopened => "token-does-not-open",
            Self::Actions => "actions",
            Self::Scopes => "scopes",
            Self::TokenRefused => "token-refused",
            Self::OtherAccount => "other-account",
            Self::Disconnected => "disconnected-by-owner",
            Self::UnderWay => "under-way",
            Self::Upstream(_) => "provider-failed",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<StoreError> for ImportFault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

/// Whether an import can begin: the workspace is there, and accounts can be connected at the provider.
///
/// # Errors
/// `NotFound`, `Invalid`, `ProviderNotMigrated`.
pub async fn begin(app: &App, operator: &Principal, import: &Import) -> Result<(), Refusal> {
    let to = app.providers.going(&import.provider);
    if matches!(to, Err(Refusal::Unavailable(None))) {
        return Err(Refusal::invalid("/provider", "is not one at which accounts can be connected"));
    }
    to?;
    app.permit::<ImportCredential>(operator, import.workspace, import.workspace).await.map(drop)
}

/// Imports one line.
///
/// # Errors
/// [`ImportFault`]. After `Refused` there is no sense in going on; after any other there is.
pub async fn line(app: &App, operator: &Principal, import: &Import, text: &str) -> Result<Imported, ImportFault> {
    if text.len() > LINE_BYTES_MAX {
        return Err(ImportFault::Malformed);
    }
    let line: Line = serde_json::from_str(text).map_err(|_| ImportFault::Malformed)?;
    let to = app.providers.going(&import.provider)?;
    let (actions, scopes) = terms(&to.provider, &line)?;
    // Opened before anything is asked of the provider: a line that could not be kept is not tried out either.
    let refresh = line.refresh.as_ref().map(|token| open(app, import, token)).transpose()?;
    let (account, name) = try_out(to, open(app, import, &line.access)?).await?;
    if line.account_id.as_ref().is_some_and(|said| *said != account) {
        return Err(ImportFault::OtherAccount);
    }
    let proof = ProofOfControl { provider: import.provider.clone(), subject: account.clone() };
    let person = app.store.person(&proof).await?;
    let owner = person.account();
    person.commit().await?;

    let (mut tenant, _) = app.enter::<ImportCredential>(operator, import.workspace, import.workspace).await?;
    let known = import::known(&mut tenant, &import.provider, &account).await?;
    let (id, renewed) = match known {
        None => (ConnectionId::new(&app.clock), false),
        Some((id, State::Active)) => return Ok(Imported::Known(id)),
        Some((id, State::ReconnectRequired)) => (id, true),
        Some((_, State::Disconnected)) => return Err(ImportFault::Disconnected),
        Some((_, State::Inert | State::Disconnecting)) => return Err(ImportFault::UnderWay),
    };
    let issued_at = app.clock.now();
    let expires_at = line.expires_at.or(refresh.is_some().then_some(issued_at));
    let access = open(app, import, &line.access)?;
    let new = seal(app, &mut tenant, to, id, (access, refresh), (issued_at, expires_at)).await?;
    if !renewed {
        let connection = NewConnection {
            id,
            provider: &import.provider,
            provider_digest: &to.provider.digest(),
            account: (&account, &name),
            owner,
            ceiling: &actions,
            scopes: &scopes,
        };
        connection::create(&mut tenant, &connection, issued_at).await?;
    }
    credential::receive(&mut tenant, id, &new, false).await?;
    import::put_in_use(&mut tenant, id).await?;
    let event = if renewed { "connection.import_renewed" } else { "connection.imported" };
    let detail = json!({ "provider": import.provider, "form": "fernet", "ceiling": actions, "scopes": scopes });
    tenant.commit(Event::new(event, format!("connection:{id}")).with(detail)).await?;
    refresh::forget(app, id).await;
    if renewed {
        return Ok(Imported::Renewed(id));
    }
    keep_receipt(app, &proof, (import.workspace, id), (&actions, &scopes)).await;
    Ok(Imported::New(id))
}

/// The actions that are allowed, and the scopes that cover them.
fn terms(provider: &Provider, line: &Line) -> Result<(Vec<String>, Vec<String>), ImportFault> {
    let actions = App::sorted(&line.actions);
    if !(1..=ACTIONS_MAX).contains(&actions.len()) {
        return Err(ImportFault::Actions);
    }
    let needed = provider.scopes_for(actions.iter().map(String::as_str));
    let scopes = line.scopes.clone().unwrap_or(needed);
    for action in &actions {
        let action = provider.action(action).ok_or(ImportFault::Actions)?;
        if !action.scopes.iter().all(|scope| scopes.contains(scope)) {
            return Err(ImportFault::Scopes);
        }
    }
    Ok((actions, scopes))
}

/// Opens a token of the former store.
fn open(app: &App, import: &Import, token: &str) -> Result<Plain, ImportFault> {
    let age = import.ttl.map(|ttl| Age { now: app.clock.now(), ttl });
    let opened = FernetKey::decrypt_with_any(&import.keys, token.as_bytes(), age);
    opened.ok().filter(|token| !token.is_empty()).ok_or(ImportFault::Unopened)
}

/// Asks the provider whose account the token opens: a bad one is refused before it is ever written.
async fn try_out(to: &Reachable, access: Plain) -> Result<(String, String), ImportFault> {
    match oauth::account(to, access, &to.hosts).await {
        Ok(Account::Known(account, name)) => Ok((account, name)),
        Ok(Account::Refused) => Err(ImportFault::TokenRefused),
        Err(fault) => Err(ImportFault::Upstream(fault)),
    }
}

async fn seal(
    app: &App,
    tenant: &mut Tenant<ImportCredential>,
    to: &Reachable,
    id: ConnectionId,
    (access, refresh): (Plain, Option<Plain>),
    (issued_at, expires_at): (OffsetDateTime, Option<OffsetDateTime>),
) -> Result<NewCredential, ImportFault> {
    let key = app.custody.key(tenant, None).await.map_err(Refusal::from)?;
    let hosts: Vec<String> = to.provider.hosts.iter().cloned().collect();
    let name = to.provider.name.as_str();
    let seal = |field, secret| app.custody.seal_credential(&key, (id, name, field), secret, &hosts);
    let refresh = refresh.map(|token| seal(Field::Refresh, token)).transpose()?;
    Ok(NewCredential { access: seal(Field::Access, access)?, refresh, issued_at, expires_at })
}

/// The owner's receipt, which says that nobody consented here. The trail has the import: a receipt that cannot be written does not
/// undo it.
async fn keep_receipt(
    app: &App,
    proof: &ProofOfControl,
    connection: (WorkspaceId, ConnectionId),
    terms: (&[String], &[String]),
) {
    let kept = async {
        let mut person = app.store.person(proof).await?;
        person.keep_import_receipt(ConsentId::new(&app.clock), connection, terms, app.clock.now()).await?;
        person.commit().await
    };
    if let Err(error) = kept.await {
        tracing::error!(connection = %connection.1, %error, "the receipt of an import was not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_form() {
        let read = |text: &str| serde_json::from_str::<Line>(text);
        let line =
            read(r#"{"access":"gAAAAA","actions":["post.create"],"expires_at":"2026-01-02T03:04:05Z"}"#).unwrap();
        assert_eq!(line.expires_at, Some(time::macros::datetime!(2026-01-02 03:04:05 UTC)));
        for text in [
            "",
            "[]",
            r#"{"access":"gAAAAA"}"#,
            r#"{"actions":["post.create"]}"#,
            r#"{"access":"gAAAAA","actions":["post.create"],"owner":"me"}"#,
            r#"{"access":"gAAAAA","access":"gAAAAB","actions":["post.create"]}"#,
            r#"{"access":"gAAAAA","actions":"post.create"}"#,
            r#"{"access":"gAAAAA","actions":["post.create"],"expires_at":1767323045}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
