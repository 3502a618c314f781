//! The trust page: statements that the operator's persons publish, and what may be shown of them.
//!
//! A statement is signed with a key that no server process holds; this one only verifies, keeps and shows it. Nothing is believed that no
//! trusted key has signed, also not a row of the database: signatures are verified again when a statement is read into memory.

use std::{collections::BTreeSet, iter, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    audit::Event,
    blueprint::{Blueprint, Security},
    claim::{ClaimId, Ledger},
    id::InstallationId,
    principal::Principal,
    statement::{Envelope, EnvelopeError, Failures, Scope, Statement, StatementError},
    trust_page::{self, Here, Known, Shown, Validity},
};
use relation::action::PublishStatement;
use seal::signature::{VerifyingKey, verify};
use serde_json::json;
use store::{StoreError, trust_statement::Stored};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, OnceCell};

use crate::{App, Refusal, installation};

/// How old what is held may be before the database is asked again. However many ask for the page, it is asked once in that time.
const RECHECK: Duration = Duration::from_secs(1);
/// How long the database may take. Whoever comes meanwhile is shown what is held.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the metrics are brought up to date.
const EVERY: Duration = Duration::from_secs(15);

/// What the trust page shows, and whom it believes.
#[derive(Debug, Clone)]
pub struct TrustOptions {
    /// The keys whose statements count; several while one takes the place of another.
    pub keys: Vec<VerifyingKey>,
    /// The claims and the blueprint that makes them; `None` where this installation claims nothing.
    pub claims: Option<Claims>,
    /// What `security.txt` says; `None` where nobody has named a way to report.
    pub security: Option<Security>,
    /// SHA-256 of the program that serves, in hexadecimal. It may take a second, and is asked once.
    pub program: fn() -> Option<String>,
}

impl Default for TrustOptions {
    fn default() -> Self {
        Self { keys: Vec::new(), claims: None, security: None, program: || None }
    }
}

/// What an installation claims.
#[derive(Debug, Clone)]
pub struct Claims {
    /// All claims.
    pub ledger: Ledger,
    /// The blueprint whose claims are shown, with the operator's own attestations.
    pub blueprint: Blueprint,
}

/// The trust page's part of the application.
pub(crate) struct Trust {
    options: TrustOptions,
    program: OnceCell<Option<String>>,
    /// Never locked while somebody waits for the database.
    held: Mutex<Held>,
    /// Whoever has it asks the database.
    asking: Mutex<()>,
    /// Rung when a statement was published here.
    published: Notify,
}

/// What is held of the database.
#[derive(Default)]
struct Held {
    /// When the database was asked; `None` where it must be before anything is shown: at first, and when a statement was published here.
    asked_at: Option<Duration>,
    /// How many statements were published here.
    published: u64,
    newest: Option<u64>,
    statements: Arc<[Verified]>,
    product: Option<Arc<str>>,
}

/// A statement that was read into memory.
struct Verified {
    statement: Arc<Statement>,
    envelope: Bytes,
    kept_once: BTreeSet<ClaimId>,
    failures: Failures,
    is_trusted: bool,
}

impl Verified {
    fn known(&self, here: Here<'_>, now: OffsetDateTime) -> Known {
        Known {
            validity: if self.is_trusted { Validity::of(&self.statement, here, now) } else { Validity::Untrusted },
            statement: Arc::clone(&self.statement),
            kept_once: self.kept_once.clone(),
            failures: self.failures.clone(),
        }
    }
}

impl Trust {
    pub(crate) fn new(options: TrustOptions) -> Self {
        Self {
            options,
            program: OnceCell::new(),
            held: Mutex::default(),
            asking: Mutex::default(),
            published: Notify::new(),
        }
    }

    /// The digest of the program, worked out where it holds nobody else up.
    async fn program(&self) -> Option<&str> {
        let work = async || tokio::task::spawn_blocking(self.options.program).await.ok().flatten();
        self.program.get_or_init(work).await.as_deref()
    }

    fn read(&self, stored: Stored) -> Option<Verified> {
        let read = Envelope::parse(&stored.envelope).map_err(|error| error.to_string()).and_then(|envelope| {
            Ok((Statement::parse(envelope.payload()).map_err(|error| error.to_string())?, envelope))
        });
        let (statement, envelope) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(
                    sequence = stored.sequence,
                    error,
                    "a stored trust statement cannot be read, and is not shown"
                );
                return None;
            }
        };
        let is_trusted = verify(&envelope, &self.options.keys).is_some() && statement.sequence == stored.sequence;
        if !is_trusted {
            tracing::error!(
                sequence = stored.sequence,
                "a stored trust statement is not signed by a trusted key, and proves nothing"
            );
        }
        let Stored { envelope, kept: kept_once, failures, .. } = stored;
        Some(Verified { statement: Arc::new(statement), envelope: envelope.into(), kept_once, failures, is_trusted })
    }
}

/// What there is to be shown at one moment.
pub struct View {
    /// The statements at hand, the newest first: that one and the newest of a whole run, each of all and of the program that serves.
    pub known: Vec<Known>,
    /// The database's product and version, as the connection says.
    pub product: Arc<str>,
    /// SHA-256 of the program that serves; `None` where it could not be read.
    pub binary_sha256: Option<String>,
    /// When this was looked at.
    pub now: OffsetDateTime,
}

impl View {
    /// Whether the newest statement counts; `None` where there is none.
    pub fn validity(&self) -> Option<Validity> {
        self.known.first().map(|known| known.validity)
    }
}

impl App {
    /// What this installation claims; `None` where it claims nothing.
    pub fn claims(&self) -> Option<&Claims> {
        self.trust.options.claims.as_ref()
    }

    /// What `security.txt` says; `None` where nobody has named a way to report.
    pub fn security(&self) -> Option<&Security> {
        self.trust.options.security.as_ref()
    }
}

/// What there is to be shown now.
///
/// # Errors
/// `Unavailable` where the database does not answer and nothing is held.
pub async fn view(app: &App) -> Result<View, Refusal> {
    let (statements, product) = held(app).await?;
    let binary_sha256 = app.trust.program().await.map(str::to_owned);
    let origin = app.public_url.origin().ascii_serialization();
    let blueprint = app.claims().map_or("", |claims| claims.blueprint.name.as_str());
    let here = Here { blueprint, binary_sha256: binary_sha256.as_deref(), origin: &origin };
    let now = app.clock.now();
    let known = statements.iter().map(|verified| verified.known(here, now)).collect();
    Ok(View { known, product, binary_sha256, now })
}

/// The newest statement's bytes as they were published; with `whole`, the newest one's of a whole run.
///
/// # Errors
/// `NotFound` where there is none; `Unavailable`.
pub async fn envelope(app: &App, whole: bool) -> Result<Bytes, Refusal> {
    let (statements, _) = held(app).await?;
    let found = statements.iter().find(|verified| !whole || verified.statement.scope == Scope::Whole);
    found.map(|verified| verified.envelope.clone()).ok_or(Refusal::NotFound)
}

/// What is held, asked for again where it is older than a second. While the database is away, or slow, what is held is shown: one asks, and
/// nobody waits for him but who has nothing to show, or has just published.
async fn held(app: &App) -> Result<(Arc<[Verified]>, Arc<str>), Refusal> {
    let trust = &app.trust;
    let is_fresh =
        |held: &Held| held.asked_at.is_some_and(|asked| app.clock.since_boot().saturating_sub(asked) < RECHECK);
    let (fresh, must_wait) = {
        let held = trust.held.lock().await;
        (is_fresh(&held), held.asked_at.is_none() || held.product.is_none())
    };
    if !fresh {
        let asking = if must_wait { Some(trust.asking.lock().await) } else { trust.asking.try_lock().ok() };
        // Somebody may have asked while this one waited.
        let fresh = {
            let held = trust.held.lock().await;
            is_fresh(&held)
        };
        if asking.is_some() && !fresh {
            ask(app).await?;
        }
    }
    let held = trust.held.lock().await;
    // Whoever comes between a failure and the next try is told at once.
    let product = held.product.clone().ok_or(Refusal::Unavailable(None))?;
    Ok((Arc::clone(&held.statements), product))
}

/// Asks the database, for two seconds at most. Only whoever has `asking` calls it.
async fn ask(app: &App) -> Result<(), Refusal> {
    let (newest, published) = {
        let held = app.trust.held.lock().await;
        (held.newest, held.published)
    };
    let program = app.trust.program().await;
    let answer = tokio::time::timeout(PATIENCE, app.store.lookup.published(newest, program)).await;
    let mut held = app.trust.held.lock().await;
    // What was published meanwhile need not be in the answer: then the next one asks again.
    held.asked_at = (held.published == published).then(|| app.clock.since_boot());
    match answer {
        Ok(Ok(published)) => {
            if published.newest != held.newest {
                let read = published.statements.into_iter().filter_map(|stored| app.trust.read(stored));
                held.statements = read.collect();
                held.newest = published.newest;
            }
            held.product = Some(published.product.into());
        }
        Ok(Err(error)) if held.product.is_none() => return Err(error.into()),
        Ok(Err(error)) => tracing::debug!(%error, "the trust statements cannot be read again"),
        Err(late) => tracing::debug!(error = %late, "the trust statements cannot be read again"),
    }
    Ok(())
}

/// What became of a statement that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub sequence: u64,
    /// When it says nothing any more.
    pub expires_at: OffsetDateTime,
    /// The claims that were kept before and are not now.
    pub kept_no_longer: BTreeSet<ClaimId>,
    /// Whether it is of the build that serves here.
    pub is_of_this_build: bool,
}

/// Why a statement is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A refusal that every use case shares.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The bytes are no envelope.
    #[error("{0}")]
    Envelope(#[from] EnvelopeError),
    /// What was signed is no statement.
    #[error("{0}")]
    Statement(#[from] StatementError),
    /// The installation has no blueprint, or trusts no key.
    #[error("this installation shows no statements: its configuration sets no blueprint, or no trust.key")]
    NotShown,
    /// No trusted key has signed it.
    #[error("it is not signed by a key that this installation trusts (trust.key)")]
    Signature,
    /// It is of another blueprint.
    #[error("it is of another blueprint than this installation's")]
    Blueprint,
    /// It was made for another installation.
    #[error("it was made for another installation")]
    Audience,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// It was made in the future.
    #[error("it is from the future, as this server's clock has it")]
    NotYet,
    /// One of its number or a greater one was published before.
    #[error("a statement of its number, or a newer one, was published before")]
    Replayed,
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OldStatement => Self::Replayed,
            other => Self::Refusal(other.into()),
        }
    }
}

/// Takes a statement: verifies it, remembers what was kept, and shows it from now on.
///
/// # Errors
/// [`PublishError`]; then nothing was changed.
pub async fn publish(app: &App, caller: &Principal, envelope: &Bytes) -> Result<Published, PublishError> {
    let (statement, validity) = verified(app, envelope).await?;
    let (at_hand, _) = held(app).await?;
    let mut opened = installation::enter::<PublishStatement>(app, caller, InstallationId::ONE).await?;
    let before = store::trust_statement::remembered(&mut opened, &statement.build.binary_sha256).await?;
    let failures = before.failures.after(&statement);
    // Another blueprint's claims are other claims: nothing of them is lost.
    let kept = before.kept.filter(|before| before.blueprint == statement.blueprint).map(|before| before.kept);
    let shown = kept_by(app, (&statement, &failures), &at_hand);
    let (kept_once, lost) = statement.remember(&kept.unwrap_or_default(), &shown);
    store::trust_statement::publish(&mut opened, &statement, envelope, &kept_once, &failures).await?;
    let facts = json!({
        "sequence": statement.sequence, "blueprint": statement.blueprint, "scope": statement.scope.as_str(), "kept_no_longer": lost,
    });
    opened.commit(Event::new("trust_statement.published", installation::reference()).with(facts)).await?;
    {
        let mut held = app.trust.held.lock().await;
        held.published = held.published.wrapping_add(1);
        held.asked_at = None;
    }
    app.trust.published.notify_one();
    if lost.is_empty() {
        tracing::info!(sequence = statement.sequence, "a trust statement was published");
    } else {
        let claims = lost.iter().map(ClaimId::as_str).collect::<Vec<_>>().join(", ");
        tracing::error!(sequence = statement.sequence, claims, "claims that were kept are not any more");
    }
    Ok(Published {
        sequence: statement.sequence,
        expires_at: statement.expires_at,
        kept_no_longer: lost,
        is_of_this_build: validity == Validity::Current,
    })
}

/// What the page will show as kept by a statement, on the build that it is of: with what the operator attests, with what was published
/// before, and without what is open.
fn kept_by(app: &App, (statement, failures): (&Statement, &Failures), at_hand: &[Verified]) -> BTreeSet<ClaimId> {
    let Some(Claims { ledger, blueprint }) = app.claims() else { return BTreeSet::new() };
    let (origin, now) = (app.public_url.origin().ascii_serialization(), app.clock.now());
    let program = Some(statement.build.binary_sha256.as_str());
    let here = Here { blueprint: &blueprint.name, binary_sha256: program, origin: &origin };
    let newest = Known {
        statement: Arc::new(statement.clone()),
        validity: Validity::Current,
        kept_once: BTreeSet::new(),
        failures: failures.clone(),
    };
    let known: Vec<Known> =
        iter::once(newest).chain(at_hand.iter().map(|verified| verified.known(here, now))).collect();
    trust_page::kept(&trust_page::entries(ledger, blueprint, &known, now))
}

/// A statement that a trusted key has signed, for this installation and this hour. The signature comes first: nothing of what nobody
/// trusted has signed is read.
async fn verified(app: &App, bytes: &Bytes) -> Result<(Statement, Validity), PublishError> {
    let Some(claims) = app.claims().filter(|_| !app.trust.options.keys.is_empty()) else {
        return Err(PublishError::NotShown);
    };
    let envelope = Envelope::parse(bytes)?;
    if verify(&envelope, &app.trust.options.keys).is_none() && !domain::sabotaged!(StatementSignatures) {
        return Err(PublishError::Signature);
    }
    let statement = Statement::parse(envelope.payload())?;
    let (origin, now) = (app.public_url.origin().ascii_serialization(), app.clock.now());
    let here = Here { blueprint: &claims.blueprint.name, binary_sha256: app.trust.program().await, origin: &origin };
    match Validity::of(&statement, here, now) {
        Validity::OtherBlueprint => Err(PublishError::Blueprint),
        Validity::OtherInstallation if !domain::sabotaged!(StatementAudience) => Err(PublishError::Audience),
        Validity::Expired => Err(PublishError::Expired),
        _ if statement.is_early(now) => Err(PublishError::NotYet),
        // A statement of the next build may come before that build, and one of this build in the middle of an upgrade.
        validity => Ok((statement, validity)),
    }
}

/// Keeps the metrics of the page, and says once when a statement comes to say nothing any more.
pub(crate) async fn watch(app: Arc<App>) {
    let Some(claims) = app.claims() else { return };
    let mut told = None;
    loop {
        match view(&app).await {
            Ok(view) => {
                measure(&view, claims, app.security());
                let newest = view.known.first().map(|known| (known.statement.sequence, known.validity));
                if newest != told {
                    told = newest;
                    tell(&view);
                }
            }
            Err(error) => tracing::debug!(%error, "the trust statements cannot be watched"),
        }
        let _published = tokio::time::timeout(EVERY, app.trust.published.notified()).await;
    }
}

fn measure(view: &View, claims: &Claims, security: Option<&Security>) {
    let entries = trust_page::entries(&claims.ledger, &claims.blueprint, &view.known, view.now);
    for (shown, ids) in trust_page::counts(&entries) {
        metrics::gauge!("keyholder_trust_claims", "state" => Shown::as_str(shown)).set(crate::gauge::count(ids));
    }
    if let Some(Known { statement, .. }) = view.known.first() {
        metrics::gauge!("keyholder_trust_statement_age_seconds").set((view.now - statement.issued_at).as_seconds_f64());
        let left = (statement.expires_at - view.now).as_seconds_f64();
        metrics::gauge!("keyholder_trust_statement_expires_seconds").set(left);
    }
    let overdue = claims.blueprint.review.as_ref().is_some_and(|review| review.is_overdue(view.now));
    metrics::gauge!("keyholder_trust_review_overdue").set(f64::from(u8::from(overdue)));
    if let Some(security) = security {
        let left = (domain::security_txt::expires_at(security) - view.now).as_seconds_f64();
        metrics::gauge!("keyholder_security_txt_expires_seconds").set(left);
    }
}

fn tell(view: &View) {
    let Some(Known { statement, validity, .. }) = view.known.first() else { return };
    let sequence = statement.sequence;
    match validity {
        Validity::Current => tracing::info!(sequence, "the trust statement is in force"),
        Validity::Expired => {
            tracing::warn!(sequence, "the trust statement has expired: nothing is shown as kept by it");
        }
        Validity::OtherBuild => {
            tracing::warn!(sequence, "the trust statement is of another build: nothing is shown as kept by it");
        }
        Validity::OtherBlueprint | Validity::OtherInstallation | Validity::Untrusted => {
            tracing::error!(sequence, "the trust statement is not of this installation: nothing of it is shown");
        }
    }
}
