//! What a claim is in a blueprint: before its probe has run, and by what the probe came to.
//!
//! Pure, and the only place where this is decided: the prover and the trust page both ask here.

use serde::Serialize;
use time::{Date, OffsetDateTime};

use super::{Attestation, Blueprint, iso};
use crate::claim::{Claim, Subject};

/// What keeps a claim from being more than planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Something that is not built yet.
    Subject {
        /// What.
        subject: Subject,
        /// What the blueprint says of it.
        words: String,
    },
    /// Nobody stands behind it.
    Attestation,
    /// Nobody stands behind it any more.
    ExpiredAttestation {
        /// Who did.
        by: String,
        /// Until when.
        #[serde(serialize_with = "iso")]
        until: Date,
    },
    /// Somebody stands behind another build: what he looked at is not what this one is made of.
    AttestationOfAnotherBuild {
        /// Who.
        by: String,
        /// Since when.
        #[serde(serialize_with = "iso")]
        on: Date,
    },
}

/// What a claim is in a blueprint before its probe has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// It is not kept, whatever a probe would say.
    Planned {
        /// Why. Never empty.
        missing: Vec<Missing>,
    },
    /// No probe has a part in it, and somebody stands behind it.
    Attested {
        /// Who.
        attestation: Attestation,
    },
    /// Its probe decides.
    ToProve {
        /// What it lacks beside the proof: an attestation, where one is needed and none is valid.
        needs_attestation: Option<Missing>,
        /// The valid attestation, where it needs one beside the proof.
        attestation: Option<Attestation>,
        /// The valid attestation that stands in the place of a probe which cannot run.
        instead: Option<Attestation>,
    },
}

/// What a probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passed, and every subject of the claim was tried at least once.
    Passed,
    /// It found a difference.
    Differs,
    /// It could not run, does not exist, or left a subject untried.
    NotProven,
}

/// What a claim is in a blueprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// Proven, and attested where that is needed beside.
    Kept {
        /// The attestation beside the proof.
        #[serde(skip_serializing_if = "Option::is_none")]
        attestation: Option<Attestation>,
    },
    /// Proven not to be so.
    Broken,
    /// Neither.
    Unproven,
    /// Somebody stands behind it.
    Attested {
        /// Who.
        attestation: Attestation,
    },
    /// Not there yet.
    Planned {
        /// Why. Never empty.
        missing: Vec<Missing>,
    },
}

impl State {
    /// The state's word: `kept`, `broken`, `unproven`, `attested`, `planned`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kept { .. } => "kept",
            Self::Broken => "broken",
            Self::Unproven => "unproven",
            Self::Attested { .. } => "attested",
            Self::Planned { .. } => "planned",
        }
    }
}

/// What a claim is in a blueprint before its probe has run. A claim that the blueprint does not make is judged like one of its own.
pub fn state_before_proof(claim: &Claim, blueprint: &Blueprint, now: OffsetDateTime) -> Before {
    let missing: Vec<Missing> = claim
        .subjects
        .iter()
        .filter_map(|subject| {
            let words = blueprint.planned.get(subject)?.clone();
            Some(Missing::Subject { subject: subject.clone(), words })
        })
        .collect();
    if !missing.is_empty() {
        return Before::Planned { missing };
    }
    let word = attested(claim, blueprint, now);
    if !claim.is_probed() {
        return match word {
            Ok(attestation) => Before::Attested { attestation },
            Err(lacking) => Before::Planned { missing: vec![lacking] },
        };
    }
    let instead = if claim.or.is_some() { word.clone().ok() } else { None };
    let (needs_attestation, attestation) = match word {
        _ if !claim.is_attested() => (None, None),
        Ok(attestation) => (None, Some(attestation)),
        Err(lacking) => (Some(lacking), None),
    };
    Before::ToProve { needs_attestation, attestation, instead }
}

/// The valid attestation of a claim that counts longest, or what there is instead of one.
fn attested(claim: &Claim, blueprint: &Blueprint, now: OffsetDateTime) -> Result<Attestation, Missing> {
    let of_claim = || {
        let all = blueprint.attestations.iter();
        all.filter(|attestation| claim.ids_of(&blueprint.prefix).any(|id| attestation.ids.contains(id)))
    };
    let valid = of_claim().filter(|attestation| attestation.is_valid(now)).max_by_key(|attestation| attestation.until);
    if let Some(attestation) = valid {
        return Ok(attestation.clone());
    }
    let of_another_build = |it: &&Attestation| it.is_of_another_build() && !it.is_expired(now);
    if let Some(attestation) = of_claim().filter(of_another_build).max_by_key(|it| it.until) {
        return Err(Missing::AttestationOfAnotherBuild { by: attestation.by.clone(), on: attestation.on });
    }
    let expired = of_claim().filter(|attestation| attestation.is_expired(now)).max_by_key(|it| it.until);
    Err(expired.map_or(Missing::Attestation, |attestation| Missing::ExpiredAttestation {
        by: attestation.by.clone(),
        until: attestation.until,
    }))
}

impl Before {
    /// What the claim is, by what its probe came to. A claim that no probe can change stays what it is.
    pub fn after(self, outcome: Outcome) -> State {
        match (self, outcome) {
            (Self::Planned { missing }, _) => State::Planned { missing },
            (Self::ToProve { .. }, Outcome::Differs) => State::Broken,
            (Self::Attested { attestation }, _)
            | (Self::ToProve { instead: Some(attestation), .. }, Outcome::NotProven) => State::Attested { attestation },
            (Self::ToProve { instead: None, .. }, Outcome::NotProven) => State::Unproven,
            (Self::ToProve { needs_attestation: Some(lacking), .. }, Outcome::Passed) => {
                State::Planned { missing: vec![lacking] }
            }
            (Self::ToProve { needs_attestation: None, attestation, .. }, Outcome::Passed) => {
                State::Kept { attestation }
            }
        }
    }
}
