//! From what probes came to, to what each claim is in its blueprint: the lines of a report, and their counts.

use std::collections::BTreeMap;

use domain::{
    blueprint::{self, Before, Blueprint, state_before_proof},
    claim::{Claim, Ledger},
};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    evidence::{Failure, Outcome},
    probe::Mode,
    probes,
};

/// What is said of one id.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The claim's id.
    pub id: String,
    /// The blueprint that makes it.
    pub blueprint: String,
    /// `kept`, `broken`, `unproven`, `planned`, `attested`.
    pub state: &'static str,
    /// The probe that decides, if one does.
    pub probe: Option<String>,
    /// How that probe is run.
    pub mode: Option<Mode>,
    /// What was tried and what came back; for a claim that is not kept, what is missing or differs.
    pub evidence: Value,
    /// Whether the probe failed when its control was switched off; null where that was not tried.
    pub sabotage_caught: Option<bool>,
}

/// How many ids are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Proven, and attested where that is needed beside.
    pub kept: usize,
    /// Proven not to be so.
    pub broken: usize,
    /// Not proven either way.
    pub unproven: usize,
    /// Not there yet.
    pub planned: usize,
    /// Somebody stands behind it.
    pub attested: usize,
}

/// What probes came to, by their names.
pub type Outcomes = BTreeMap<&'static str, Outcome>;

/// The names of the probes that decide a claim of the blueprint.
pub fn wanted<'l>(ledger: &'l Ledger, blueprint: &'l Blueprint, now: OffsetDateTime) -> Vec<&'l str> {
    let mut names: Vec<&str> = ledger
        .of(&blueprint.prefix)
        .filter(|claim| matches!(state_before_proof(claim, blueprint, now), Before::ToProve { .. }))
        .filter_map(|claim| claim.probe.as_deref())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Judges every claim of a blueprint.
pub fn judge(ledger: &Ledger, blueprint: &Blueprint, outcomes: &Outcomes, now: OffsetDateTime) -> Vec<Line> {
    let mut lines = Vec::new();
    for claim in ledger.of(&blueprint.prefix) {
        let before = state_before_proof(claim, blueprint, now);
        let to_prove = matches!(before, Before::ToProve { .. });
        let outcome = claim.probe.as_deref().and_then(|name| outcomes.get(name));
        let (judged, seen) = proven(claim, outcome);
        let state = before.after(judged);
        // What a claim lacks says more than what its probe would have come to.
        let evidence = match (&state, to_prove) {
            (blueprint::State::Planned { missing }, _) => json!({ "missing": missing }),
            (blueprint::State::Attested { attestation }, _) => json!({ "attestation": attestation }),
            (_, true) => seen,
            (_, false) => Value::Null,
        };
        let probe = claim.probe.as_deref().filter(|_| to_prove);
        for id in claim.ids_of(&blueprint.prefix) {
            lines.push(Line {
                id: id.to_string(),
                blueprint: blueprint.name.clone(),
                state: state.as_str(),
                probe: probe.map(str::to_owned),
                mode: probe.and_then(probes::named).map(crate::Probe::mode),
                evidence: evidence.clone(),
                sabotage_caught: None,
            });
        }
    }
    lines
}

/// What a probe's outcome says of a claim: a subject that the claim names and the probe did not try leaves it unproven.
fn proven(claim: &Claim, outcome: Option<&Outcome>) -> (blueprint::Outcome, Value) {
    match outcome {
        None => {
            let why = match &claim.probe {
                Some(name) if probes::named(name).is_none() => format!("there is no probe {name}"),
                Some(name) => format!("the probe {name} was not run"),
                None => "no probe is named".to_owned(),
            };
            (blueprint::Outcome::NotProven, json!({ "unproven": why }))
        }
        Some(Err(Failure::Unproven(why))) => (blueprint::Outcome::NotProven, json!({ "unproven": why })),
        Some(Err(Failure::Broken { difference, obtained })) => {
            (blueprint::Outcome::Differs, json!({ "difference": difference, "obtained": obtained }))
        }
        Some(Ok(evidence)) => {
            let untried: Vec<&str> = claim
                .subjects
                .iter()
                .map(domain::claim::Subject::as_str)
                .filter(|subject| evidence.tried.get(*subject).is_none_or(|count| *count == 0))
                .collect();
            if untried.is_empty() {
                (blueprint::Outcome::Passed, json!(evidence))
            } else {
                let why = format!("nothing of this was tried: {}", untried.join(", "));
                (blueprint::Outcome::NotProven, json!({ "unproven": why, "evidence": evidence }))
            }
        }
    }
}

/// Counts ids by state.
pub fn count(lines: &[Line]) -> Counts {
    let of = |state: &str| lines.iter().filter(|line| line.state == state).count();
    Counts {
        kept: of("kept"),
        broken: of("broken"),
        unproven: of("unproven"),
        planned: of("planned"),
        attested: of("attested"),
    }
}
