//! Blueprints: a system as one configuration of this server (`blueprints/*.toml`), with what it still lacks, who attests what, and
//! what it says of itself.
//!
//! Owns the form of a blueprint, and what a claim is in one before and after its probe has run. Judges no setting: those are the
//! configuration's, which reads them from the same text.

mod audit;
mod read;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use time::{Date, Duration, OffsetDateTime};

pub use self::{
    audit::{Audit, lock_sha256},
    state::{Before, Missing, Outcome, State, state_before_proof},
};
use crate::claim::{ClaimId, Ledger, Subject};
pub use crate::document::Fault;

/// The shipped files: blueprint, file name, text.
const SHIPPED: [(&str, &str, &str); 5] = [
    ("social-agent", "blueprints/social-agent.toml", include_str!("../../../blueprints/social-agent.toml")),
    ("media-workspace", "blueprints/media-workspace.toml", include_str!("../../../blueprints/media-workspace.toml")),
    ("chat-assistant", "blueprints/chat-assistant.toml", include_str!("../../../blueprints/chat-assistant.toml")),
    ("social-publisher", "blueprints/social-publisher.toml", include_str!("../../../blueprints/social-publisher.toml")),
    (
        "engineering-playbook",
        "blueprints/engineering-playbook.toml",
        include_str!("../../../blueprints/engineering-playbook.toml"),
    ),
];

/// A system as a configuration of this server. Only [`Blueprint::parse`] makes one.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Blueprint {
    /// Its name in commands and in the configuration: kebab case.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// With what the ids of its claims begin: two capitals.
    pub prefix: String,
    /// What it is, in a sentence or two.
    pub summary: String,
    /// The providers at which its accounts are connected.
    pub providers: BTreeSet<String>,
    /// What it configures: names and values as in the configuration file.
    pub settings: Map<String, Value>,
    /// What it adds to the model by which it is decided who may do what.
    pub model: Option<ModelText>,
    /// What it needs and is not built yet, with words for each.
    pub planned: BTreeMap<Subject, String>,
    /// What people stand behind.
    pub attestations: Vec<Attestation>,
    /// When a person last looked at all of it; `None` where nobody has.
    pub review: Option<Review>,
    /// Certificates that buyers ask for and that are not held.
    pub not_held: Vec<String>,
    /// What `security.txt` says.
    pub security: Option<Security>,
    #[serde(skip)]
    file: String,
    #[serde(skip)]
    text: String,
}

/// A module in the language of authorization models, as it stands in a blueprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelText {
    /// The module.
    pub text: String,
    /// The line of the file on which its first line stands.
    #[serde(skip)]
    pub line: usize,
}

/// Somebody's word for claims, with a name, a day and an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Attestation {
    /// The claims. Never empty.
    pub ids: Vec<ClaimId>,
    /// Who.
    pub by: String,
    /// Since when. Days are UTC's.
    #[serde(serialize_with = "iso")]
    pub on: Date,
    /// The last day on which it counts.
    #[serde(serialize_with = "iso")]
    pub until: Date,
    /// What is said.
    pub words: String,
    /// What was compared with an advisory database, where that is what is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
}

impl Attestation {
    /// Whether it counts now, for this build.
    pub fn is_valid(&self, now: OffsetDateTime) -> bool {
        self.on <= today(now) && !self.is_expired(now) && !self.is_of_another_build()
    }

    /// Whether it speaks of what another build is made of.
    pub fn is_of_another_build(&self) -> bool {
        self.audit.as_ref().is_some_and(|audit| !audit.is_of_this_build())
    }

    /// Whether it counts no more.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.until < today(now)
    }
}

/// When a person last looked at all claims of a system, and how often that is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Review {
    /// Who.
    pub by: String,
    /// When. Days are UTC's.
    #[serde(serialize_with = "iso")]
    pub on: Date,
    /// After how many days it is to be done again.
    pub every_days: u16,
}

impl Review {
    /// The last day on which it is not overdue.
    pub fn due(&self) -> Date {
        self.on.saturating_add(Duration::days(self.every_days.into()))
    }

    /// Whether it should have been done again. A review of a day to come is none, and is overdue.
    pub fn is_overdue(&self, now: OffsetDateTime) -> bool {
        self.due() < today(now) || self.on > today(now)
    }
}

/// What `security.txt` says (RFC 9116 §2.5); its `Canonical` follows from where it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Security {
    /// Where vulnerabilities are reported, the preferred way first: `mailto:` or `https:` addresses. Never empty.
    pub contact: Vec<String>,
    /// The last day on which the file is to be believed.
    #[serde(serialize_with = "iso")]
    pub expires: Date,
    /// Where those who reported are thanked.
    pub acknowledgments: Option<String>,
    /// Where the policy on disclosure is.
    pub policy: Option<String>,
    /// The languages of reports, as in RFC 5646, without an order.
    pub languages: Vec<String>,
    /// What a reporter should know, a line each: comments of the file.
    pub words: Vec<String>,
}

/// There is no shipped blueprint of a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no blueprint {name:?}; there are {}", shipped_names().collect::<Vec<_>>().join(", "))]
pub struct UnknownBlueprint {
    /// The name that was asked for.
    pub name: String,
}

/// The names of the shipped blueprints.
pub fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, ..)| *name)
}

/// File name and text of a shipped blueprint.
///
/// # Errors
/// `UnknownBlueprint`, which tells the names that there are.
pub fn shipped(name: &str) -> Result<(&'static str, &'static str), UnknownBlueprint> {
    let found = SHIPPED.iter().find(|(known, ..)| *known == name).map(|(_, file, text)| (*file, *text));
    found.ok_or_else(|| UnknownBlueprint { name: name.to_owned() })
}

/// The shipped blueprints, judged together with the shipped claims.
///
/// # Errors
/// All faults of all files: none, as the tests have it.
pub fn embedded() -> Result<Vec<Blueprint>, Vec<Fault>> {
    let ledger = Ledger::embedded()?;
    load(&ledger, SHIPPED.iter().map(|(_, file, text)| (*file, *text)))
}

/// Reads blueprints, each given as file name and text, that share a ledger between them.
///
/// # Errors
/// All faults of all files: also two of one name or prefix, and ids of the ledger that are in none of them.
pub fn load<'f>(
    ledger: &Ledger,
    files: impl IntoIterator<Item = (&'f str, &'f str)>,
) -> Result<Vec<Blueprint>, Vec<Fault>> {
    let (mut blueprints, mut faults) = (Vec::<Blueprint>::new(), Vec::new());
    for (file, text) in files {
        match Blueprint::parse(file, text, ledger) {
            Err(more) => faults.extend(more),
            Ok(blueprint) => {
                let meets = |other: &&Blueprint| other.name == blueprint.name || other.prefix == blueprint.prefix;
                if let Some(other) = blueprints.iter().find(meets) {
                    let message = format!("{} has the same name or prefix ({})", other.title, other.file);
                    faults.push(Fault { file: file.to_owned(), line: 1, column: 1, path: String::new(), message });
                }
                blueprints.push(blueprint);
            }
        }
    }
    if faults.is_empty() {
        let known: BTreeSet<&str> = blueprints.iter().map(|blueprint| blueprint.prefix.as_str()).collect();
        let orphans = ledger.places().filter(|(id, _)| !known.contains(id.prefix()));
        faults.extend(orphans.map(|(id, place)| {
            let message = format!("{id} is in no blueprint: there is none of the prefix {}", id.prefix());
            Fault { message, ..place.clone() }
        }));
    }
    faults.sort();
    if faults.is_empty() { Ok(blueprints) } else { Err(faults) }
}

impl Blueprint {
    /// Reads a blueprint. `file` is only for the faults. Its subjects and ids are the ledger's.
    ///
    /// # Errors
    /// All faults at once, in the order of their lines.
    pub fn parse(file: &str, text: &str, ledger: &Ledger) -> Result<Self, Vec<Fault>> {
        read::blueprint(file, text, ledger)
    }

    /// Takes in an operator's own file, in the place of the blueprint's own: `[[attestation]]` as in a blueprint, all of them, and where it
    /// has them `[review]`, `not_held` and `[security]`.
    ///
    /// # Errors
    /// All faults at once; then nothing was taken in.
    pub fn attest(&mut self, file: &str, text: &str, ledger: &Ledger) -> Result<(), Vec<Fault>> {
        let own = read::attestations(file, text, &self.prefix, ledger)?;
        self.attestations = own.attestations;
        self.review = own.review.or(self.review.take());
        self.security = own.security.or(self.security.take());
        if let Some(not_held) = own.not_held {
            self.not_held = not_held;
        }
        Ok(())
    }

    /// Whether it comes with this program, word for word, and is nobody's own.
    pub fn is_shipped(&self) -> bool {
        shipped(&self.name).is_ok_and(|(_, text)| text == self.text)
    }

    /// Drops what people stand behind in a shipped blueprint, and when it was looked at: examples, and no word of whoever runs it.
    pub fn drop_examples(&mut self) {
        if self.is_shipped() {
            self.attestations.clear();
            self.review = None;
        }
    }

    /// The file's name and what it says, for whoever reads the settings in it.
    pub fn source(&self) -> (&str, &str) {
        (&self.file, &self.text)
    }
}

fn today(now: OffsetDateTime) -> Date {
    now.to_offset(time::UtcOffset::UTC).date()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn iso<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(date)
}
