//! The trust page as data: `/trust.json`, and what the page itself is rendered from. One is not more than the other.

use std::collections::BTreeMap;

use domain::{
    blueprint::{Attestation, lock_sha256},
    sabotaged,
    statement::{Build, Evidence, Scope, Statement, missing_words},
    trust_page::{self, Entry, Known, Shown, Validity},
};
use serde::{Serialize, Serializer};
use service::{
    App,
    trust::{Claims, View},
};
use time::{Date, OffsetDateTime};
use utoipa::ToSchema;

/// Everything that an installation claims of its security, and how each claim stands.
#[derive(Serialize, ToSchema)]
#[schema(as = TrustPage)]
pub(crate) struct TrustView {
    /// The operator's name.
    pub(super) operator: String,
    /// The origin at which browsers reach the installation.
    pub(super) installation: String,
    /// The system whose claims these are; null where nothing is claimed.
    pub(super) blueprint: Option<BlueprintView>,
    /// What serves this page.
    pub(super) serves: ServesView,
    /// The newest statement; null where none was published.
    pub(super) statement: Option<StatementView>,
    /// The newest statement of a run of every probe, where that is another one.
    pub(super) whole_statement: Option<StatementView>,
    /// What is wrong with the statements, in words.
    pub(super) warnings: Vec<String>,
    /// How many claims are shown how; every way is there.
    pub(super) counts: BTreeMap<&'static str, usize>,
    /// When a person last looked at all claims; null where nobody has.
    pub(super) review: Option<ReviewView>,
    /// Certificates that buyers ask for and that are not held.
    pub(super) not_held: Vec<String>,
    /// What people stand behind, expired ones too.
    pub(super) attestations: Vec<AttestationView>,
    /// The claims.
    pub(super) claims: Vec<ClaimView>,
    /// When this was looked at.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) at: OffsetDateTime,
}

/// A system.
#[derive(Serialize, ToSchema)]
#[schema(as = TrustBlueprint)]
pub(crate) struct BlueprintView {
    /// Its name.
    pub(super) name: String,
    /// Its name for people.
    pub(super) title: String,
    /// What it is.
    pub(super) summary: String,
}

/// What serves.
#[derive(Serialize, ToSchema)]
#[schema(as = TrustServes)]
pub(crate) struct ServesView {
    /// The program's version.
    pub(super) version: &'static str,
    /// SHA-256 of the program that runs, in hexadecimal; null where it could not be read.
    pub(super) binary_sha256: Option<String>,
    /// SHA-256 of the lock file that it was built from, in hexadecimal.
    pub(super) lock_sha256: &'static str,
    /// The database's product and version, as its connection says.
    pub(super) database: String,
}

/// A signed statement.
#[derive(Serialize, ToSchema)]
#[schema(as = TrustStatement)]
pub(crate) struct StatementView {
    /// Its number.
    pub(super) sequence: u64,
    /// `whole`, or `production-safe` where only the probes ran that may run beside customers.
    pub(super) scope: &'static str,
    /// `current`, or why it proves nothing here: `expired`, `other-build`, `other-blueprint`, `other-installation`, `untrusted`.
    #[schema(value_type = String)]
    pub(super) validity: Validity,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) issued_at: OffsetDateTime,
    /// When it says nothing any more.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) expires_at: OffsetDateTime,
    /// The build that was tried: version, commit, and digests of the program and of its sabotage build.
    #[schema(value_type = Object)]
    pub(super) build: Build,
    /// Where its bytes are, for whoever verifies the signature.
    pub(super) address: &'static str,
}

/// When a person last looked at all claims.
#[derive(Serialize, ToSchema)]
#[schema(as = TrustReview)]
pub(crate) struct ReviewView {
    /// Who.
    pub(super) by: String,
    /// When.
    #[serde(serialize_with = "iso")]
    #[schema(value_type = String, format = Date)]
    pub(super) on: Date,
    /// When it is to be done again.
    #[serde(serialize_with = "iso")]
    #[schema(value_type = String, format = Date)]
    pub(super) due: Date,
    /// Whether that day is over.
    pub(super) overdue: bool,
}

/// Somebody's word for claims.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = TrustAttestation)]
pub(crate) struct AttestationView {
    /// The claims.
    pub(super) ids: Vec<String>,
    /// Who.
    pub(super) by: String,
    /// Since when.
    #[serde(serialize_with = "iso")]
    #[schema(value_type = String, format = Date)]
    pub(super) on: Date,
    /// The last day on which it counts.
    #[serde(serialize_with = "iso")]
    #[schema(value_type = String, format = Date)]
    pub(super) until: Date,
    /// Whether that day is over.
    pub(super) expired: bool,
    /// What is said.
    pub(super) words: String,
    /// What was compared with an advisory database, where that is what is said.
    pub(super) audit: Option<AuditView>,
}

/// What somebody compared with an advisory database.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = TrustAudit)]
pub(crate) struct AuditView {
    /// SHA-256 of the lock file that was looked at, in hexadecimal.
    pub(super) lock_sha256: String,
    /// The database; or that none could be reached.
    pub(super) database: String,
    /// Whether the program that serves is built from another lock file: then the attestation does not count.
    pub(super) of_another_build: bool,
}

/// A claim.
#[derive(Serialize, ToSchema)]
#[schema(as = TrustClaim)]
pub(crate) struct ClaimView {
    /// Its ids.
    pub(super) ids: Vec<String>,
    /// The section that it stands in.
    pub(super) section: &'static str,
    /// `kept`, `attested`, `under_review`, `lapsed`, `broken`, `unproven`, `planned`.
    #[schema(value_type = String)]
    pub(super) state: Shown,
    /// What must be true.
    pub(super) words: String,
    /// What it takes: `live`, `build`, `deploy`, `policy`.
    pub(super) kinds: Vec<&'static str>,
    /// Against whom.
    pub(super) against: &'static str,
    /// Who stands behind it, where somebody does.
    pub(super) attestation: Option<AttestationView>,
    /// What is missing, where it is planned.
    pub(super) missing: Vec<String>,
    /// The run of its probe that decides, or the last one before `failed_in` that is at hand; null where there was none.
    pub(super) proof: Option<ProofView>,
    /// The number of the statement by which a run beside customers did not show this; null where there is none, or a run has shown it since.
    pub(super) failed_in: Option<u64>,
}

/// A run of a probe.
#[derive(Serialize, ToSchema)]
#[schema(as = TrustProof)]
pub(crate) struct ProofView {
    /// The probe's name.
    pub(super) probe: String,
    /// What it tries to get, or to do.
    pub(super) tries: String,
    /// `production-safe`, `rehearsal` or `build`: where it ran.
    pub(super) mode: &'static str,
    /// When it came to its end.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) at: OffsetDateTime,
    /// The number of the statement that tells of it.
    pub(super) statement: u64,
    /// The commit that was tried, where it is known.
    pub(super) commit: Option<String>,
    /// SHA-256 of the program that was tried.
    pub(super) binary_sha256: String,
    /// Whether it noticed that its control was switched off; null where that was not run.
    pub(super) sabotage_caught: Option<bool>,
    /// What it tried and what came back.
    #[schema(value_type = Option<Object>)]
    pub(super) evidence: Option<Evidence>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn iso<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(date)
}

impl TrustView {
    pub(super) fn of(app: &App, view: &View) -> Self {
        let mut page = Self {
            operator: app.operator.clone(),
            installation: app.public_url.origin().ascii_serialization(),
            blueprint: None,
            serves: serves(view),
            statement: view.known.first().map(|known| statement(known, "/trust/statement.json")),
            whole_statement: newest_whole(view)
                .filter(|place| *place > 0)
                .and_then(|place| view.known.get(place))
                .map(|known| statement(known, "/trust/statement.json?scope=whole")),
            warnings: warnings(view),
            counts: BTreeMap::new(),
            review: None,
            not_held: Vec::new(),
            attestations: Vec::new(),
            claims: Vec::new(),
            at: view.now,
        };
        match app.claims() {
            None => {
                page.warnings
                    .push("This installation claims nothing: its configuration names no blueprint.".to_owned());
            }
            Some(claims) => page.tell(claims, view),
        }
        page
    }

    fn tell(&mut self, Claims { ledger, blueprint }: &Claims, view: &View) {
        self.blueprint = Some(BlueprintView {
            name: blueprint.name.clone(),
            title: blueprint.title.clone(),
            summary: blueprint.summary.clone(),
        });
        let entries = trust_page::entries(ledger, blueprint, &view.known, view.now);
        self.counts = trust_page::counts(&entries).into_iter().map(|(shown, ids)| (shown.as_str(), ids)).collect();
        // Where these are sabotaged, a review that is overdue passes for a good one, and nobody is told what is not held.
        let overdue = |overdue: bool| overdue && !sabotaged!(ReviewDate);
        self.review = blueprint.review.as_ref().map(|review| ReviewView {
            by: review.by.clone(),
            on: review.on,
            due: review.due(),
            overdue: overdue(review.is_overdue(view.now)),
        });
        if !sabotaged!(CertificatesNamed) {
            self.not_held.clone_from(&blueprint.not_held);
        }
        self.attestations = blueprint.attestations.iter().map(|word| attestation(word, view.now)).collect();
        self.claims = entries.iter().map(|entry| claim(entry, view.now)).collect();
    }
}

fn serves(view: &View) -> ServesView {
    // Where this is sabotaged, the page shows what somebody once wrote down.
    let database = if sabotaged!(DatabaseVersion) { "PostgreSQL".to_owned() } else { view.product.to_string() };
    ServesView {
        version: env!("CARGO_PKG_VERSION"),
        binary_sha256: view.binary_sha256.clone(),
        lock_sha256: lock_sha256(),
        database,
    }
}

fn statement(Known { statement, validity, .. }: &Known, address: &'static str) -> StatementView {
    let Statement { sequence, scope, issued_at, expires_at, build, .. } = &**statement;
    StatementView {
        sequence: *sequence,
        scope: scope.as_str(),
        validity: *validity,
        issued_at: *issued_at,
        expires_at: *expires_at,
        build: build.clone(),
        address,
    }
}

/// Where the newest statement of a whole run stands among those at hand.
fn newest_whole(view: &View) -> Option<usize> {
    view.known.iter().position(|known| known.statement.scope == Scope::Whole)
}

fn warnings(view: &View) -> Vec<String> {
    let mut warnings = Vec::new();
    if view.known.is_empty() {
        warnings.push("No statement has been published: nothing on this page is shown as kept.".to_owned());
    }
    for (place, Known { statement, validity, .. }) in view.known.iter().enumerate() {
        let which = match place {
            0 => "The newest statement",
            _ if newest_whole(view) == Some(place) => "The newest statement of a whole run",
            _ => "An older statement, of this build,",
        };
        let day = statement.expires_at.date();
        let why = match validity {
            Validity::Current => continue,
            Validity::Expired => format!("expired on {day}: it proves nothing any more"),
            Validity::OtherBuild => {
                "is of another build than the one that serves this page: it proves nothing about this one".to_owned()
            }
            Validity::OtherBlueprint => "is of another system than this page's: it proves nothing here".to_owned(),
            Validity::OtherInstallation => "was made for another installation: it proves nothing here".to_owned(),
            Validity::Untrusted => "is not signed by a key that is trusted here: nothing of it is shown".to_owned(),
        };
        warnings.push(format!("{which} {why}."));
    }
    warnings
}

fn attestation(word: &Attestation, now: OffsetDateTime) -> AttestationView {
    AttestationView {
        ids: word.ids.iter().map(ToString::to_string).collect(),
        by: word.by.clone(),
        on: word.on,
        until: word.until,
        expired: word.is_expired(now),
        words: word.words.clone(),
        audit: word.audit.as_ref().map(|audit| AuditView {
            lock_sha256: audit.lock_sha256.clone(),
            database: audit.database.clone(),
            of_another_build: word.is_of_another_build(),
        }),
    }
}

fn claim(entry: &Entry<'_>, now: OffsetDateTime) -> ClaimView {
    ClaimView {
        ids: entry.ids.iter().map(ToString::to_string).collect(),
        section: entry.section.title(),
        state: entry.shown,
        words: entry.words.to_owned(),
        kinds: entry.kinds.iter().map(|kind| kind.as_str()).collect(),
        against: entry.against.title(),
        attestation: entry.attestation.as_ref().map(|word| attestation(word, now)),
        missing: entry.missing.iter().map(missing_words).collect(),
        failed_in: entry.failed_in,
        proof: entry.behind.map(|behind| {
            let (probed, build) = (behind.probed, &behind.known.statement.build);
            ProofView {
                probe: probed.name.clone(),
                tries: probed.tries.clone(),
                mode: probed.mode.as_str(),
                at: probed.at,
                statement: behind.known.statement.sequence,
                commit: build.commit.clone(),
                binary_sha256: build.binary_sha256.clone(),
                sabotage_caught: behind.sabotage_caught,
                evidence: probed.evidence.clone(),
            }
        }),
    }
}
