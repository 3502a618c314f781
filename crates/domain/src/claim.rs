//! Claims: what the five systems promise about security, one by one, as data (`claims/*.toml`).
//!
//! Owns the form of a claim, the closed vocabularies in which one is written, and the ledger of all of them. Never says whether a
//! claim holds: that is for its blueprint ([`crate::blueprint`]), its attestations and its probe.

mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use crate::document::Fault;

/// The shipped files: file name and text. `subjects.toml` is the vocabulary, every other one a section.
const SHIPPED: [(&str, &str); 9] = [
    ("claims/acting.toml", include_str!("../../../claims/acting.toml")),
    ("claims/custody.toml", include_str!("../../../claims/custody.toml")),
    ("claims/edge.toml", include_str!("../../../claims/edge.toml")),
    ("claims/identity.toml", include_str!("../../../claims/identity.toml")),
    ("claims/life.toml", include_str!("../../../claims/life.toml")),
    ("claims/logs.toml", include_str!("../../../claims/logs.toml")),
    ("claims/subjects.toml", include_str!("../../../claims/subjects.toml")),
    ("claims/tenancy.toml", include_str!("../../../claims/tenancy.toml")),
    ("claims/webhooks.toml", include_str!("../../../claims/webhooks.toml")),
];

/// The id of a claim: two capitals for the system whose promise it is, two digits, at most one letter. `SA-04`, `CA-04b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(String);

/// The text is not the id of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a claim, such as SA-04 or CA-04b")]
pub struct ClaimIdError;

impl ClaimId {
    /// The system whose promise it is, as its blueprint has it: `SA`.
    pub fn prefix(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClaimId {
    type Err = ClaimIdError;
    fn from_str(text: &str) -> Result<Self, ClaimIdError> {
        let (prefix, rest) = text.split_once('-').ok_or(ClaimIdError)?;
        let (digits, letter) = rest.split_at_checked(2).ok_or(ClaimIdError)?;
        let fits = is_prefix(prefix)
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && letter.len() <= 1
            && letter.bytes().all(|byte| byte.is_ascii_lowercase());
        fits.then(|| Self(text.to_owned())).ok_or(ClaimIdError)
    }
}

/// Whether the text can be the prefix of a system's ids.
pub(crate) fn is_prefix(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether the text is a name in kebab case, of at most 48 characters, as subjects and probes have them.
pub(crate) fn is_kebab(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 48 && text.split('-').all(|word| !word.is_empty() && word.bytes().all(legal))
}

impl Serialize for ClaimId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ClaimId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What a claim is about and what a probe must have tried: a noun in kebab case, one of `claims/subjects.toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

/// The text is not the name of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a subject, such as api-routes")]
pub struct SubjectError;

impl Subject {
    /// The subject's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Subject {
    type Err = SubjectError;
    fn from_str(text: &str) -> Result<Self, SubjectError> {
        is_kebab(text).then(|| Self(text.to_owned())).ok_or(SubjectError)
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A closed list of words, each for one value: an enum whose variants are written in files and in answers.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal, $said:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that files and answers have.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The words for people.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $said,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// What it takes to stand behind a claim.
    Kind {
        /// A probe tries the running server and its database.
        Live = "live", "tried on the running server";
        /// A probe looks at the source, its history, the lock file, the binary or the schema.
        Build = "build", "checked in the build";
        /// A property of where it runs, which the operator attests.
        Deploy = "deploy", "attested of where it runs";
        /// Words that only people can stand behind, who attest them.
        Policy = "policy", "attested by people";
    }
}

impl Kind {
    /// Whether a probe decides it.
    pub fn is_probed(self) -> bool {
        matches!(self, Self::Live | Self::Build)
    }
}

words! {
    /// Against whom a claim holds: the actors of `docs/threat-model.md`, whose headings these are.
    Actor {
        /// Reaches the listener and has no credential.
        Stranger = "stranger", "A stranger on the network";
        /// Holds a service key, or is an agent that was fooled.
        Caller = "caller", "A caller with a service key";
        /// Holds an admin's key of a workspace.
        Admin = "admin", "An admin of a workspace (an admin key)";
        /// Owns a connected account.
        Owner = "owner", "An owner of a connected account";
        /// Is somebody else's customer.
        AnotherTenant = "another-tenant", "Another tenant";
        /// Sends links to victims, or has pages of his own that they open.
        SenderOfLinks = "sender-of-links", "A malicious sender of links";
        /// Is the platform that is called.
        Platform = "platform", "A malicious or broken platform";
        /// Writes a provider file.
        ProviderFileWriter = "provider-file-writer", "Whoever can write a provider file";
        /// Has one of the database's logins.
        DatabaseLogin = "database-login", "An attacker with a stolen login of the database";
        /// Has a copy of all that the database holds.
        DatabaseCopy = "database-copy", "An attacker with a full copy of the database";
        /// Writes the database as its owner.
        DatabaseOwner = "database-owner", "An attacker who can write the database as its owner";
        /// Has the root key or the keyring.
        KeyThief = "key-thief", "An attacker with the keyring or the root key";
        /// Has what a node keeps on its disk.
        StateFolderThief = "state-folder-thief", "A thief of a node's state folder";
        /// Works for the operator.
        Staff = "staff", "The operator's staff";
        /// Is root on the machine.
        Operator = "operator", "The operator, with root on the machine";
        /// Listens on the way, or answers in another's place.
        Eavesdropper = "eavesdropper", "An eavesdropper on the network";
        /// Knows or guesses a user's password, or holds a user's session.
        AccountThief = "account-thief", "A thief of a user's account";
        /// Reads logs, traces and reports of errors.
        LogReader = "log-reader", "A reader of the logs";
        /// Publishes what we depend on, or reads and changes our source.
        Supplier = "supplier", "A malicious supplier, or a reader of the source";
        /// Nobody wills it: a machine, a disk, a person's slip.
        Accident = "accident", "An accident";
    }
}

words! {
    /// The sections of the ledger, each a file of its name.
    Section {
        /// Who somebody is.
        Identity = "identity", "Identity";
        /// Who sees what.
        Tenancy = "tenancy", "Tenancy and authorization";
        /// How credentials are kept.
        Custody = "custody", "Custody of credentials";
        /// What is done with them.
        Acting = "acting", "Acting";
        /// What others call here.
        Webhooks = "webhooks", "Webhooks";
        /// What meets the network.
        Edge = "edge", "The application's edge";
        /// What is written down.
        Logs = "logs", "Logs, monitoring, evidence";
        /// How data begins and ends.
        Life = "life", "The data's life";
    }
}

/// One promise, under all the ids that share its words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Claim {
    /// Its ids, in the file's order. Never empty.
    pub ids: Vec<ClaimId>,
    /// The section that it stands in.
    pub section: Section,
    /// What must be true.
    pub words: String,
    /// What it takes, all of it. Never empty.
    pub kinds: BTreeSet<Kind>,
    /// What may stand in the place of the probed kinds where these cannot be had.
    pub or: Option<Kind>,
    /// Against whom.
    pub against: Actor,
    /// What must exist and be tried. Never empty where a probe decides.
    pub subjects: BTreeSet<Subject>,
    /// The probe that decides; `None` where none is written yet, or nothing can be probed.
    pub probe: Option<String>,
}

impl Claim {
    /// Its ids in one system.
    pub fn ids_of<'c>(&'c self, prefix: &'c str) -> impl Iterator<Item = &'c ClaimId> {
        self.ids.iter().filter(move |id| id.prefix() == prefix)
    }

    /// Whether a probe has a part in it.
    pub fn is_probed(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_probed())
    }

    /// Whether somebody's word has a part in it that no probe can take.
    pub fn is_attested(&self) -> bool {
        self.kinds.iter().any(|kind| !kind.is_probed())
    }
}

/// All claims, and the words in which they speak.
#[derive(Debug, Clone)]
pub struct Ledger {
    claims: Vec<Claim>,
    subjects: BTreeMap<Subject, String>,
    /// Where each id stands, for a rule that only claims and blueprints together can judge.
    places: BTreeMap<ClaimId, Fault>,
}

impl Ledger {
    /// The shipped claims.
    ///
    /// # Errors
    /// The faults of the shipped files: none, as the tests have it.
    pub fn embedded() -> Result<Self, Vec<Fault>> {
        Self::load(&SHIPPED)
    }

    /// Reads the files of a ledger, each given as name and text: `subjects.toml`, and one for each section.
    ///
    /// # Errors
    /// All faults of all files.
    pub fn load(files: &[(&str, &str)]) -> Result<Self, Vec<Fault>> {
        read::ledger(files)
    }

    /// All claims, by section and then in the files' order.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter()
    }

    /// The claim of an id.
    pub fn claim(&self, id: &ClaimId) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.ids.contains(id))
    }

    /// The claims of one system.
    pub fn of<'l>(&'l self, prefix: &'l str) -> impl Iterator<Item = &'l Claim> {
        self.claims.iter().filter(move |claim| claim.ids_of(prefix).next().is_some())
    }

    /// All ids with where each stands.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&ClaimId, &Fault)> {
        self.places.iter()
    }

    /// What a subject is, in words for people. `None` for one that nobody knows.
    pub fn subject(&self, subject: &Subject) -> Option<&str> {
        self.subjects.get(subject).map(String::as_str)
    }

    /// Every subject that claims can name.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.subjects.keys()
    }
}
