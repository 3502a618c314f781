//! Provider files under approval: a changed host or endpoint sends tokens elsewhere, so it stops its provider until the operator, at
//! the machine, has approved it.
//!
//! What counts are the *terms* of a file: its hosts, its endpoints and its issuer. Actions, units and limits may change freely: they
//! redirect nothing. Hosts are also sealed inside every credential, and a call goes only where both allow; so an approval seals all
//! credentials of the provider anew. No transaction is open between two of them, and what was interrupted is simply begun again.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    audit::Event,
    clock::Clock,
    connection::State,
    id::{ConnectionId, Id, InstallationId, WorkspaceId},
    json,
    principal::{Cause, Principal},
    provider::Provider,
};
use relation::{
    Facts,
    action::{ApproveProviderFile, ResealCredential},
    authorize,
};
use seal::{Credential, Field, mac};
use serde_json::{Value, json};
use store::{
    Store, StoreError,
    credential::{self, SealedField, Stored},
    provider_file::{self, Anew, Approval, Approved, Resealed, RetiredField},
};

use crate::{App, Providers, Refusal, custody::DoesNotOpen, jobs::DISCONNECT, providers::Stop};

/// How often a process asks whether its provider files are still the approved ones.
const WATCH: Duration = Duration::from_secs(2);
/// After this, every process has asked since an approval was written.
const HEARD: Duration = Duration::from_secs(12);
const PAGE: i32 = 500;
/// How often all credentials are looked through until a look finds nothing left to do.
const PASSES: usize = 20;
/// How long a refresh may take, at most, that is under way when its credential's turn comes.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is said to the one of two operators whose file was overtaken.
const OUTDATED: &str = "another file was approved for the provider meanwhile";
const POLL: Duration = Duration::from_millis(100);

/// What of a provider's file redirects tokens.
pub fn terms(provider: &Provider) -> Value {
    json!({
        "hosts": provider.hosts,
        "authorize_url": provider.auth.authorize_url,
        "token_url": provider.auth.token_url,
        "revoke_url": provider.auth.revoke_url,
        "issuer": provider.auth.issuer,
    })
}

fn digest(terms: &Value) -> [u8; 32] {
    mac::sha256(&[b"keyholder provider terms 1\n".as_slice(), &json::canonical(terms)].concat())
}

/// How a provider's file stands to what was approved.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Nothing was approved for it yet.
    New,
    /// It is the approved one.
    Approved,
    /// It is the approved one, and not every credential has been sealed with its hosts yet.
    Resealing,
    /// It has other terms than the approved one.
    Changed(Vec<Change>),
}

/// One term that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which: `hosts`, `authorize_url`, `token_url`, `revoke_url`, `issuer`.
    pub term: String,
    /// As it was approved, in JSON.
    pub approved: String,
    /// As the file has it, in JSON.
    pub file: String,
}

/// Compares a provider's file with what was last approved of each.
pub fn standing(approved: &[Approved], provider: &Provider) -> Standing {
    let terms = terms(provider);
    match approved.iter().find(|approved| approved.name == provider.name) {
        None => Standing::New,
        Some(known) if known.digest != digest(&terms) => Standing::Changed(changes(&known.terms, &terms)),
        Some(known) if !known.resealed => Standing::Resealing,
        Some(_) => Standing::Approved,
    }
}

fn changes(approved: &Value, file: &Value) -> Vec<Change> {
    let names: BTreeSet<&String> =
        [approved, file].into_iter().filter_map(Value::as_object).flat_map(|terms| terms.keys()).collect();
    let text = |terms: &Value, name: &str| terms.get(name).unwrap_or(&Value::Null).to_string();
    let change = |name: &String| Change { term: name.clone(), approved: text(approved, name), file: text(file, name) };
    names.into_iter().map(change).filter(|change| change.approved != change.file).collect()
}

/// Stops every provider whose file is not the approved one, and lets the others go. A provider of which nothing was approved yet is
/// written down as it is.
///
/// # Errors
/// `Unavailable`: then everything is as before.
pub async fn check(store: &Store, providers: &Providers, clock: &Clock) -> Result<(), Refusal> {
    let began = providers.watch();
    let approved = store.approved_provider_files().await?;
    let mut stopped = 0_u32;
    for provider in providers.in_use() {
        let stop = match standing(&approved, provider) {
            Standing::Approved => None,
            Standing::New => first_use(store, clock, provider).await?,
            Standing::Resealing => Some(Stop::Resealing),
            Standing::Changed(_) => Some(Stop::Changed),
        };
        stopped += u32::from(stop.is_some());
        if providers.stop(&provider.name, stop) {
            match stop {
                Some(Stop::Changed) => tracing::error!(
                    provider = provider.name,
                    "the provider's hosts or endpoints are not the approved ones: it is stopped until `keyholder provider migrate`"
                ),
                Some(Stop::Resealing) => {
                    tracing::warn!(
                        provider = provider.name,
                        "the provider is stopped while its credentials are sealed anew"
                    );
                }
                None => tracing::info!(provider = provider.name, "the provider goes on"),
            }
        }
    }
    providers.compared(began);
    metrics::gauge!("keyholder_providers_stopped").set(f64::from(stopped));
    Ok(())
}

/// Approves what is there when a provider is used for the first time: no credential exists yet that could go astray.
async fn first_use(store: &Store, clock: &Clock, provider: &Provider) -> Result<Option<Stop>, Refusal> {
    let principal = Principal::system(Cause::Configuration, clock.now());
    match approve(store, clock, &principal, provider, 1, true).await {
        // Another process was quicker, perhaps with another file: the next look tells.
        Err(Refusal::Conflict(_)) => Ok(Some(Stop::Resealing)),
        approved => approved.map(|()| None),
    }
}

async fn approve(
    store: &Store,
    clock: &Clock,
    principal: &Principal,
    provider: &Provider,
    number: i32,
    resealed: bool,
) -> Result<(), Refusal> {
    let terms = terms(provider);
    let permit = authorize::<ApproveProviderFile>(&of_nobody(store), principal, InstallationId::ONE, clock)?;
    let mut installation = store.installation(permit).await?;
    let approval = Approval { name: &provider.name, number, digest: &digest(&terms), terms: &terms, resealed };
    provider_file::approve(&mut installation, &approval).await?;
    let event = if number == 1 { "provider_file.recorded" } else { "provider_file.approved" };
    let detail = json!({ "number": number, "terms": terms });
    installation.commit(Event::new(event, format!("provider:{}", provider.name)).with(detail)).await?;
    Ok(())
}

/// The installation is in no workspace, and no fact of one decides about it.
fn of_nobody(store: &Store) -> Facts {
    Facts::none_yet(store.model(), WorkspaceId::from_uuid(InstallationId::ONE.uuid()))
}

/// Asks again and again, for as long as the process lives: an approval comes from another process.
pub async fn watch(app: std::sync::Arc<App>) {
    let mut tick = tokio::time::interval(WATCH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_well = true;
    loop {
        tick.tick().await;
        while let Err(error) = compare_in_time(&app).await {
            metrics::counter!("keyholder_provider_check_failures_total").increment(1);
            if was_well {
                tracing::warn!(%error, "the approved provider files are not read: soon nothing goes out to any provider");
            }
            was_well = false;
            tokio::time::sleep(POLL).await;
        }
        if !was_well {
            tracing::info!("the approved provider files are read again");
        }
        was_well = true;
    }
}

async fn compare_in_time(app: &App) -> Result<(), Refusal> {
    let compared = check(&app.store, &app.providers, &app.clock);
    tokio::time::timeout(WATCH, compared).await.unwrap_or(Err(Refusal::Unavailable(None)))
}

/// How the file of a provider in use stands.
///
/// # Errors
/// `NotFound` where no client is configured for it; `Unavailable`.
pub async fn look(app: &App, name: &str) -> Result<Standing, Refusal> {
    let provider = app.providers.in_use().find(|provider| provider.name == name).ok_or(Refusal::NotFound)?;
    Ok(standing(&app.store.approved_provider_files().await?, provider))
}

/// What a migration did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Credentials that were sealed with the new hosts.
    pub resealed: u64,
    /// Those that do not open, and stay as they are: their acts are refused as before.
    pub unopened: u64,
}

/// Approves the provider's file as it is, and seals every credential of it with its hosts. Done again, it goes on where it was
/// interrupted. `seen` hears how many connections have been looked at.
///
/// # Errors
/// `NotFound` where no client is configured for it; `Conflict` where some credential is refreshed again and again (run it once more), or
/// where another file was approved meanwhile.
pub async fn migrate(app: &App, operator: &Principal, name: &str, seen: impl Fn(u64)) -> Result<Migrated, Refusal> {
    let provider = app.providers.in_use().find(|provider| provider.name == name).ok_or(Refusal::NotFound)?;
    let approved = app.store.approved_provider_files().await?;
    let mut number = approved.iter().find(|known| known.name == name).map_or(0, |known| known.number);
    if matches!(standing(&approved, provider), Standing::New | Standing::Changed(_)) {
        number += 1;
        approve(&app.store, &app.clock, operator, provider, number, false).await?;
        // Processes with the former file stop at this; what they had begun is then no longer in the way.
        tokio::time::sleep(HEARD).await;
    }
    let hosts: Vec<String> = provider.hosts.iter().cloned().collect();
    let mut done = Migrated::default();
    let mut passes = 0..=PASSES;
    let waiting = loop {
        if passes.next().is_none() {
            return Err(Refusal::Conflict("some credential was sealed with other hosts again and again"));
        }
        let (look, waiting) = reseal_all(app, operator, name, (number, &hosts), &seen).await?;
        done = Migrated { resealed: done.resealed + look.resealed, unopened: look.unopened };
        if look.resealed == 0 {
            break waiting;
        }
    };
    let facts = of_nobody(&app.store);
    let permit = authorize::<ApproveProviderFile>(&facts, operator, InstallationId::ONE, &app.clock)?;
    let mut installation = app.store.installation(permit).await?;
    match provider_file::resealed(&mut installation, name, number).await {
        Err(StoreError::Conflict) => return Err(Refusal::Conflict(OUTDATED)),
        written => written?,
    }
    let detail = json!({ "number": number, "resealed": done.resealed, "unopened": done.unopened });
    installation.commit(Event::new("provider_file.migrated", format!("provider:{name}")).with(detail)).await?;
    check(&app.store, &app.providers, &app.clock).await?;
    hurry(app, operator, &waiting).await;
    Ok(done)
}

/// Lets the disconnections that waited for the provider go on as soon as every process has heard that it does. One that is not told rests
/// for as long as it would have.
async fn hurry(app: &App, operator: &Principal, waiting: &[(WorkspaceId, ConnectionId)]) {
    for (workspace, connection) in waiting {
        let hurried = async {
            let (mut tenant, _) = app.enter::<ResealCredential>(operator, *workspace, *connection).await?;
            store::job::hurry(&mut tenant, DISCONNECT, *connection, 2 * WATCH).await?;
            tenant.finish().await?;
            Ok::<_, Refusal>(())
        };
        if let Err(error) = hurried.await {
            tracing::warn!(%connection, %error, "a disconnection that waited for its provider rests a while longer");
        }
    }
}

/// Looks at every connection once. Besides what was done, those whose disconnection waits for the provider to go on.
async fn reseal_all(
    app: &App,
    operator: &Principal,
    name: &str,
    (number, hosts): (i32, &[String]),
    seen: &impl Fn(u64),
) -> Result<(Migrated, Vec<(WorkspaceId, ConnectionId)>), Refusal> {
    let (mut passed, mut waiting, mut after, mut count) = (Migrated::default(), Vec::new(), None, 0);
    loop {
        let page = app.store.lookup.connections_of(name, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok((passed, waiting)) };
        after = Some(*last);
        for (workspace, connection) in page {
            match reseal(app, operator, (workspace, connection), (number, hosts)).await {
                Ok(Looked::Resealed) => passed.resealed += 1,
                Ok(Looked::IsTakenApart) => waiting.push((workspace, connection)),
                Ok(Looked::NothingToDo) | Err(ResealError::Refused(Refusal::NotFound)) => {}
                Err(ResealError::Unopened(error)) => {
                    tracing::error!(%connection, %error, "a credential does not open and keeps its former hosts");
                    passed.unopened += 1;
                }
                Err(ResealError::Refused(refusal)) => return Err(refusal),
            }
            count += 1;
            seen(count);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ResealError {
    #[error(transparent)]
    Unopened(#[from] DoesNotOpen),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<StoreError> for ResealError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

/// What a look at one connection came to.
enum Looked {
    Resealed,
    NothingToDo,
    /// It ends with the hosts that it had.
    IsTakenApart,
}

/// Seals one connection's credential with these hosts, and what of it is still to be revoked.
async fn reseal(
    app: &App,
    operator: &Principal,
    (workspace, connection): (WorkspaceId, ConnectionId),
    (number, hosts): (i32, &[String]),
) -> Result<Looked, ResealError> {
    let give_up = app.clock.since_boot() + PATIENCE;
    loop {
        let (mut tenant, _) = app.enter::<ResealCredential>(operator, workspace, connection).await?;
        let was = credential::of_connection(&mut tenant).await?;
        if matches!(was.state, State::Disconnecting | State::Disconnected) {
            return Ok(Looked::IsTakenApart);
        }
        let access = anew(app, &mut tenant, &was, Field::Access, hosts).await?;
        let refresh = match &was.refresh {
            Some(_) => anew(app, &mut tenant, &was, Field::Refresh, hosts).await?,
            None => None,
        };
        let mut retired = Vec::new();
        for field in provider_file::retired(&mut tenant).await? {
            // One that does not open cannot be revoked either: the job that would do it says so.
            if let Some(sealed) = retired_anew(app, &mut tenant, &was, &field, hosts).await? {
                retired.push((field, sealed));
            }
        }
        if access.is_none() && refresh.is_none() && retired.is_empty() {
            return Ok(Looked::NothingToDo);
        }
        let anew = Anew { number, was: &was, access: access.as_ref(), refresh: refresh.as_ref(), retired: &retired };
        match provider_file::reseal(&mut tenant, &anew).await? {
            Resealed::Done => {
                let event = Event::new("credential.resealed", format!("connection:{connection}"));
                tenant.commit(event.with(json!({ "hosts": hosts }))).await?;
                return Ok(Looked::Resealed);
            }
            Resealed::Outdated => return Err(Refusal::Conflict(OUTDATED).into()),
            Resealed::BeingRefreshed | Resealed::Changed if app.clock.since_boot() < give_up => {
                drop(tenant);
                tokio::time::sleep(POLL).await;
            }
            Resealed::BeingRefreshed | Resealed::Changed => {
                return Err(Refusal::Conflict("a credential is being refreshed all the time").into());
            }
        }
    }
}

/// The field, sealed with these hosts under the newest key. Nothing, where it has these hosts already.
async fn anew(
    app: &App,
    tenant: &mut store::Tenant<ResealCredential>,
    stored: &Stored,
    field: Field,
    hosts: &[String],
) -> Result<Option<SealedField>, ResealError> {
    let opened = open(app, tenant, stored, field).await?;
    if same(&opened.hosts, hosts) {
        return Ok(None);
    }
    let key = app.custody.key(tenant, None).await.map_err(Refusal::from)?;
    let place = (stored.connection, stored.provider.as_str(), field);
    Ok(Some(app.custody.seal_credential(&key, place, opened.secret, hosts)?))
}

/// The same of a token that is still to be revoked; nothing, too, where it does not open.
async fn retired_anew(
    app: &App,
    tenant: &mut store::Tenant<ResealCredential>,
    was: &Stored,
    retired: &RetiredField,
    hosts: &[String],
) -> Result<Option<SealedField>, ResealError> {
    let Ok(field) = retired.field.parse::<Field>() else { return Ok(None) };
    let stored = Stored {
        connection: was.connection,
        provider: was.provider.clone(),
        state: was.state,
        access: retired.sealed.clone(),
        refresh: (field == Field::Refresh).then(|| retired.sealed.clone()),
        version: retired.version,
        expires_at: None,
    };
    match anew(app, tenant, &stored, field, hosts).await {
        Err(ResealError::Unopened(error)) => {
            tracing::warn!(connection = %was.connection, %error, "a token that is to be revoked does not open and keeps its former hosts");
            Ok(None)
        }
        sealed => sealed,
    }
}

async fn open(
    app: &App,
    tenant: &mut store::Tenant<ResealCredential>,
    stored: &Stored,
    field: Field,
) -> Result<Credential, ResealError> {
    let sealed = if field == Field::Access { Some(&stored.access) } else { stored.refresh.as_ref() };
    let key = match app.custody.key(tenant, sealed.map(|sealed| sealed.key)).await {
        Ok(key) => key,
        Err(crate::custody::KeyError::Closed(error)) => return Err(error.into()),
        Err(crate::custody::KeyError::Store(StoreError::NotFound)) => return Err(DoesNotOpen::gone().into()),
        Err(crate::custody::KeyError::Store(error)) => return Err(error.into()),
    };
    Ok(app.custody.open_credential(&key, stored, field)?)
}

fn same(one: &[String], other: &[String]) -> bool {
    one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::provider::Catalogue;
    use time::OffsetDateTime;

    fn x_with(changes: &[(&str, &str)]) -> Provider {
        let (_, text) = Catalogue::shipped_files().find(|(file, _)| file.ends_with("/x.toml")).unwrap();
        let edited = changes.iter().fold(text.to_owned(), |text, (part, by)| {
            assert!(text.contains(part), "{part}");
            text.replacen(part, by, 1)
        });
        Provider::parse("x.toml", &edited).unwrap()
    }

    #[test]
    fn hosts_and_endpoints_must_be_approved_and_nothing_else() {
        let shipped = x_with(&[]);
        let terms = terms(&shipped);
        let approved = [Approved {
            name: "x".to_owned(),
            number: 1,
            digest: digest(&terms).to_vec(),
            terms,
            approved_by: "system:configuration".to_owned(),
            approved_at: OffsetDateTime::UNIX_EPOCH,
            resealed: true,
        }];
        // A host that is declared is one that something is sent to.
        let another_host = [
            (r#"hosts = ["api.x.com", "x.com"]"#, r#"hosts = ["api.x.com", "x.com", "upload.x.com"]"#),
            ("host = \"api.x.com\"", "host = \"upload.x.com\""),
        ];
        let redirecting: [(&[(&str, &str)], &str); 5] = [
            (&another_host, "hosts"),
            (&[("https://x.com/i/oauth2/authorize", "https://x.com/i/oauth3/authorize")], "authorize_url"),
            (&[("https://api.x.com/2/oauth2/token", "https://x.com/2/oauth2/token")], "token_url"),
            (&[("https://api.x.com/2/oauth2/revoke", "https://x.com/2/oauth2/revoke")], "revoke_url"),
            (&[("pkce = \"S256\"", "pkce = \"S256\"\nissuer = \"https://x.com\"")], "issuer"),
        ];
        for (changes, term) in redirecting {
            let Standing::Changed(changes) = standing(&approved, &x_with(changes)) else { panic!("{term}") };
            let terms: Vec<_> = changes.iter().map(|change| change.term.as_str()).collect();
            assert_eq!(terms, [term]);
        }
        let free = [
            ("title = \"X\"", "title = \"X, formerly\""),
            ("timeout_ms = 10000", "timeout_ms = 9000"),
            ("access_token_lifetime_s = 7200", "access_token_lifetime_s = 3600"),
        ];
        for (part, by) in free {
            assert_eq!(standing(&approved, &x_with(&[(part, by)])), Standing::Approved, "{part}");
        }
        assert_eq!(standing(&[], &shipped), Standing::New);
        let under_way = [Approved { resealed: false, ..approved[0].clone() }];
        assert_eq!(standing(&under_way, &shipped), Standing::Resealing);
    }
}
