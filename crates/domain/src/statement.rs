//! Statements: what a run of the probes came to, of one blueprint, as it is signed, published and shown.
//!
//! Owns the form of a statement and of the envelope that carries it, and the bounds on both. Never signs or verifies: that is `seal`.
//!
//! The envelope is DSSE version 1 (Dead Simple Signing Envelope, secure-systems-lab): the payload's exact bytes in base64, and the
//! signatures of those bytes with their type and length in front. So nobody has to write a statement again in one canonical way before
//! it can be verified, and a signature made for another kind of document is none here.

mod assemble;
mod failures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{Duration, OffsetDateTime};

pub use self::{
    assemble::{Frame, Run, assemble, words as missing_words},
    failures::{Failure, Failures},
};
use crate::{
    blueprint::{Outcome, State},
    claim::{ClaimId, is_kebab},
    json::{self, JsonFault, Limits},
};

/// What an envelope says that it carries.
pub const PAYLOAD_TYPE: &str = "application/vnd.keyholder.trust-statement+json";
/// The longest envelope, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 256 * 1024;
/// The longest statement, in bytes: in base64 it fits into an envelope with its signatures.
pub const PAYLOAD_BYTES_MAX: usize = 188 * 1024;
/// The most signatures of an envelope.
pub const SIGNATURES_MAX: usize = 4;
/// The longest that a statement may be good for.
pub const LIFE_MAX: Duration = Duration::days(90);
/// How far ahead the clock of whoever made a statement may be.
pub const AHEAD_MAX: Duration = Duration::minutes(5);
/// The most observations that a statement shows of one probe; all of them are in the digest.
pub const SHOWN_MAX: usize = 6;
/// The most claims, and the most probes.
const ENTRIES_MAX: usize = 512;
/// The longest text of a statement, in characters.
const TEXT_MAX: usize = 600;
/// The version of the form.
const FORM: u64 = 1;

/// Why bytes are not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// More bytes than an envelope may have.
    #[error("a statement has at most {PAYLOAD_BYTES_MAX} bytes, and {ENVELOPE_BYTES_MAX} in its envelope")]
    TooLarge,
    /// Not JSON, or JSON that could be read in two ways.
    #[error("the envelope is not strict JSON")]
    Json(#[from] JsonFault),
    /// Not what an envelope looks like.
    #[error(
        "the envelope has payloadType, payload and 1 to {SIGNATURES_MAX} signatures, each of keyid and sig, and nothing else"
    )]
    Form,
    /// It carries something else.
    #[error("the envelope does not carry a trust statement ({PAYLOAD_TYPE})")]
    Type,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Which key it may be of: a hint that nobody believes.
    pub key: String,
    /// The signature.
    pub signature: Vec<u8>,
}

/// A statement's bytes with their signatures, none of which is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeForm {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<SignatureForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureForm {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// An envelope of these bytes.
    ///
    /// # Errors
    /// `TooLarge`; `Form` where there is no signature, or are too many.
    pub fn new(payload: Vec<u8>, signatures: Vec<Signature>) -> Result<Self, EnvelopeError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(EnvelopeError::TooLarge);
        }
        if signatures.is_empty() || signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::Form);
        }
        Ok(Self { payload, signatures })
    }

    /// Reads an envelope, strictly.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge);
        }
        let value = json::parse_strict(bytes, Limits::bytes(ENVELOPE_BYTES_MAX))?;
        let form: EnvelopeForm = serde_json::from_value(value).map_err(|_| EnvelopeError::Form)?;
        if form.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::Type);
        }
        let decoded = |text: &str| {
            // DSSE §4: either alphabet is taken.
            STANDARD
                .decode(text)
                .or_else(|_| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')))
                .map_err(|_| EnvelopeError::Form)
        };
        let signature = |found: &SignatureForm| {
            if found.keyid.len() > 128 {
                return Err(EnvelopeError::Form);
            }
            Ok(Signature { key: found.keyid.clone(), signature: decoded(&found.sig)? })
        };
        let signatures = form.signatures.iter().map(signature).collect::<Result<_, _>>()?;
        Self::new(decoded(&form.payload)?, signatures)
    }

    /// The envelope as it is written to a file and published.
    pub fn to_json(&self) -> Vec<u8> {
        let signatures: Vec<_> = self
            .signatures
            .iter()
            .map(|found| json!({ "keyid": found.key, "sig": STANDARD.encode(&found.signature) }))
            .collect();
        let payload = STANDARD.encode(&self.payload);
        json!({ "payloadType": PAYLOAD_TYPE, "payload": payload, "signatures": signatures }).to_string().into_bytes()
    }

    /// The bytes that were signed, without what is put in front of them.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signatures, as many as there are.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
}

/// What is signed in the place of a payload: its type and its length stand in front (DSSE's pre-authentication encoding).
pub fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A closed list of words of the document.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word in the document.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// How a claim stood when the statement was made.
    Standing {
        /// Its probe passed, tried every subject that it names, and was seen to fail without its control; and whoever must stand behind
        /// it beside does.
        Kept = "kept",
        /// Somebody stands behind it by name, until a date.
        Attested = "attested",
        /// What it needs is not there yet.
        Planned = "planned",
        /// Its probe could not be carried out, did not try every subject, or was not seen to fail without its control.
        Unproven = "unproven",
        /// Its probe found that it does not hold.
        Broken = "broken",
    }
}

words! {
    /// What the probe of a claim came to, as [`crate::blueprint::Outcome`] has it.
    Came {
        /// It passed, and every subject of the claim was tried.
        Passed = "passed",
        /// It found a difference.
        Differs = "differs",
        /// It could not be carried out, or left a subject untried.
        NotProven = "not-proven",
    }
}

words! {
    /// How much was run.
    Scope {
        /// Every probe of the blueprint's claims.
        Whole = "whole",
        /// The probes that may be run against a server which serves customers, and no others.
        ProductionSafe = "production-safe",
    }
}

words! {
    /// Where a probe ran.
    Mode {
        /// Against a server that serves, in a workspace of the probe's own.
        ProductionSafe = "production-safe",
        /// Against a scratch installation of the same binary.
        Rehearsal = "rehearsal",
        /// Against source, history, lock file and binary.
        Build = "build",
    }
}

impl From<Outcome> for Came {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::Passed,
            Outcome::Differs => Self::Differs,
            Outcome::NotProven => Self::NotProven,
        }
    }
}

impl From<Came> for Outcome {
    fn from(came: Came) -> Self {
        match came {
            Came::Passed => Self::Passed,
            Came::Differs => Self::Differs,
            Came::NotProven => Self::NotProven,
        }
    }
}

impl From<&State> for Standing {
    fn from(state: &State) -> Self {
        match state {
            State::Kept { .. } => Self::Kept,
            State::Attested { .. } => Self::Attested,
            State::Planned { .. } => Self::Planned,
            State::Unproven => Self::Unproven,
            State::Broken => Self::Broken,
        }
    }
}

/// What was run: the build that the statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The version of the program.
    pub version: String,
    /// The commit that it was built from, in hexadecimal; `None` where the prover does not know it.
    pub commit: Option<String>,
    /// SHA-256 of the program that was tried, in hexadecimal.
    pub binary_sha256: String,
    /// SHA-256 of the sabotage build of the same commit, in hexadecimal, where one was run.
    pub sabotage_sha256: Option<String>,
}

/// One thing that a probe tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// What it was, in words.
    pub tried: String,
    /// What came back, shortened.
    pub came_back: String,
    /// SHA-256 of what was sent, in hexadecimal.
    pub sent_sha256: String,
    /// SHA-256 of what came back, in hexadecimal.
    pub answer_sha256: String,
}

/// What a probe tried and what came back. Of a probe that found a difference there is none: a published page must not teach an attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// How many of each subject were tried.
    pub tried: BTreeMap<String, u64>,
    /// How many observations there were.
    pub observations: u64,
    /// The first of them.
    pub shown: Vec<Observation>,
    /// SHA-256 over the digests of all observations in their order, in hexadecimal.
    pub sha256: String,
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probed {
    /// The probe's name.
    pub name: String,
    /// What it tries to get, or to do.
    pub tries: String,
    /// Where it ran.
    pub mode: Mode,
    /// When it came to its end.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Whether it noticed that its control was switched off; `None` where that was not run.
    pub sabotage_caught: Option<bool>,
    /// What it tried and what came back, where it passed.
    pub evidence: Option<Evidence>,
}

/// How one claim stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claimed {
    /// Its ids in this blueprint.
    pub ids: Vec<ClaimId>,
    /// What must be true, in the words that were proven.
    pub words: String,
    /// Against whom it holds, as the threat model names him.
    pub against: String,
    /// How it stood.
    pub state: Standing,
    /// Its probe, where that was run.
    pub probe: Option<String>,
    /// What the probe came to; `None` where none was run, which says nothing of the claim.
    pub outcome: Option<Came>,
    /// What was missing, where it was planned.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The version of this form.
    pub statement: u64,
    /// The blueprint whose claims these are.
    pub blueprint: String,
    /// How much was run.
    pub scope: Scope,
    /// Its number: each statement of an installation has a greater one than those before. See [`sequence_at`].
    pub sequence: u64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
    /// From when on it says nothing any more.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// The installation that it was made for, by the origin at which browsers reach it; `None` for a build that is not installed yet.
    pub audience: Option<String>,
    /// What was run.
    pub build: Build,
    /// What came of each probe.
    pub probes: Vec<Probed>,
    /// How each claim stands.
    pub claims: Vec<Claimed>,
}

/// Why bytes are not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not JSON, or JSON that could be read in two ways.
    #[error("the statement is not strict JSON")]
    Json(#[from] JsonFault),
    /// A field is missing, unknown, or of another kind; in the reader's words.
    #[error("the statement does not have the form that this version reads: {0}")]
    Form(String),
    /// What it says does not fit together.
    #[error("the statement is not one: {0}")]
    Wrong(&'static str),
}

/// The number of a statement that is made now: milliseconds since 1970, so that whoever makes one needs to remember nothing.
pub fn sequence_at(now: OffsetDateTime) -> u64 {
    u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

impl Statement {
    /// The version of the form that is written here.
    pub const FORM: u64 = FORM;

    /// Reads a statement, and sees that it fits together.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let value = json::parse_strict(bytes, Limits::bytes(PAYLOAD_BYTES_MAX))?;
        if value.get("statement").is_some_and(|form| form.as_u64() != Some(FORM)) {
            return Err(StatementError::Wrong("it is of another form than this version reads"));
        }
        let statement: Self = serde_json::from_value(value).map_err(|error| StatementError::Form(error.to_string()))?;
        statement.check()?;
        Ok(statement)
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// [`StatementError`] for one that its own reader would not take.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        self.check()?;
        serde_json::to_vec(self).map_err(|error| StatementError::Form(error.to_string()))
    }

    /// What came of a probe.
    pub fn probed(&self, name: &str) -> Option<&Probed> {
        self.probes.iter().find(|probed| probed.name == name)
    }

    /// The claim of an id.
    pub fn claimed(&self, id: &ClaimId) -> Option<&Claimed> {
        self.claims.iter().find(|claimed| claimed.ids.contains(id))
    }

    /// Whether it was made in the future, by this clock, and by more than two clocks may differ.
    pub fn is_early(&self, now: OffsetDateTime) -> bool {
        self.issued_at > now + AHEAD_MAX
    }

    /// The ids that stood so.
    pub fn ids(&self, state: Standing) -> BTreeSet<ClaimId> {
        self.claims.iter().filter(|claimed| claimed.state == state).flat_map(|claimed| claimed.ids.clone()).collect()
    }

    /// What is remembered as kept after this statement, and what was kept before and is not now. `shown` is what the page shows as kept by
    /// it: also what the operator attests himself, and what an earlier statement says beside. A claim that this run did not try stays as
    /// it was. One that fails stays remembered, so that it is under review until it is kept again or openly given up.
    pub fn remember(
        &self,
        before: &BTreeSet<ClaimId>,
        shown: &BTreeSet<ClaimId>,
    ) -> (BTreeSet<ClaimId>, BTreeSet<ClaimId>) {
        let kept = self.ids(Standing::Kept).into_iter().chain(shown.iter().cloned()).collect::<BTreeSet<_>>();
        let is_remembered = |id: &&ClaimId| match self.claimed(id) {
            None => self.scope == Scope::ProductionSafe,
            Some(claimed) => match claimed.state {
                Standing::Kept | Standing::Broken | Standing::Unproven => true,
                Standing::Attested | Standing::Planned => false,
            },
        };
        let is_lost = |id: &&ClaimId| match self.claimed(id) {
            _ if kept.contains(*id) => false,
            None => self.scope == Scope::Whole,
            Some(claimed) => {
                let untried = claimed.outcome.is_none() && claimed.state == Standing::Unproven;
                !(untried && self.scope == Scope::ProductionSafe)
            }
        };
        let lost = before.iter().filter(is_lost).cloned().collect();
        (before.iter().filter(is_remembered).chain(&kept).cloned().collect(), lost)
    }

    fn check(&self) -> Result<(), StatementError> {
        let wrong = |is: bool, why: &'static str| if is { Err(StatementError::Wrong(why)) } else { Ok(()) };
        wrong(self.statement != FORM, "it is of another form than this version reads")?;
        wrong(!is_kebab(&self.blueprint), "a blueprint's name is in kebab case")?;
        wrong(self.sequence == 0 || i64::try_from(self.sequence).is_err(), "a sequence is from 1 to 2^63 - 1")?;
        // Else one statement could take a number that no later one rises above, and stay on the page for good.
        wrong(self.sequence != sequence_at(self.issued_at), "its number is not the millisecond at which it was made")?;
        wrong(self.expires_at <= self.issued_at, "it expires before it is made")?;
        wrong(self.expires_at - self.issued_at > LIFE_MAX, "it is good for more than 90 days")?;
        wrong(
            self.claims.len() > ENTRIES_MAX || self.probes.len() > ENTRIES_MAX,
            "it has more than 512 claims or probes",
        )?;
        wrong(!self.audience.iter().all(|origin| is_text(origin)), "its audience is no origin")?;
        self.build.check()?;
        let mut names = BTreeSet::new();
        for probed in &self.probes {
            wrong(!is_kebab(&probed.name) || !names.insert(probed.name.as_str()), "a probe has a name of its own")?;
            wrong(!is_text(&probed.tries), "a probe says in words what it tries")?;
            wrong(!probed.evidence.as_ref().is_none_or(Evidence::fits), "evidence is not in its form")?;
        }
        let mut ids = BTreeSet::new();
        for claimed in &self.claims {
            wrong(claimed.ids.is_empty() || !claimed.ids.iter().all(|id| ids.insert(id)), "an id stands in one claim")?;
            wrong(!is_text(&claimed.words) || !is_kebab(&claimed.against), "a claim has words, and an actor")?;
            wrong(
                claimed.missing.len() > 64 || !claimed.missing.iter().all(|text| is_text(text)),
                "what is missing is told in words",
            )?;
            let probed = claimed.probe.as_deref().map(|name| self.probed(name));
            wrong(matches!(probed, Some(None)), "a claim names a probe that did not run")?;
            let shown = probed.flatten().is_some_and(|probed| probed.evidence.is_some());
            let passed = claimed.outcome == Some(Came::Passed);
            wrong(passed && !shown, "a probe passed without evidence")?;
            let caught = probed.flatten().is_some_and(|probed| probed.sabotage_caught == Some(true));
            wrong(claimed.state == Standing::Kept && !(passed && caught), "a claim is kept that was not proven")?;
        }
        Ok(())
    }
}

impl Build {
    fn check(&self) -> Result<(), StatementError> {
        let commit = self.commit.iter().all(|commit| is_commit(commit));
        let digests = self.sabotage_sha256.iter().chain([&self.binary_sha256]).all(|digest| is_digest(digest));
        if commit && digests && is_text(&self.version) {
            Ok(())
        } else {
            Err(StatementError::Wrong("a build has a version, its commit and its digests in hexadecimal"))
        }
    }
}

impl Evidence {
    fn fits(&self) -> bool {
        let subjects = self.tried.len() <= 64 && self.tried.keys().all(|subject| is_kebab(subject));
        let shown = self.shown.iter().all(|seen| {
            is_text(&seen.tried)
                && seen.came_back.chars().count() <= TEXT_MAX
                && is_digest(&seen.sent_sha256)
                && is_digest(&seen.answer_sha256)
        });
        subjects && self.shown.len() <= SHOWN_MAX && shown && is_digest(&self.sha256)
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= TEXT_MAX && !text.contains('\0')
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a text is a commit as a statement names it, in full or in short: 7 to 64 small hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && is_hex(text)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}
