//! From what the probes of a blueprint came to, to a statement of its claims. Pure: whoever signs it calls this first.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::{
    Build, Came, Claimed, Evidence, FORM, Mode, PAYLOAD_BYTES_MAX, Probed, SHOWN_MAX, Scope, Standing, Statement,
    StatementError, TEXT_MAX, sequence_at,
};
use crate::{
    blueprint::{Blueprint, Missing, Outcome, state_before_proof},
    claim::{Claim, Ledger},
};

/// What a statement says beside its claims.
#[derive(Debug, Clone)]
pub struct Frame {
    /// How much was run.
    pub scope: Scope,
    /// When it is made. Its number follows from that.
    pub issued_at: OffsetDateTime,
    /// How long it is good for.
    pub life: Duration,
    /// The origin of the installation that it is for; `None` for a build that is not installed yet.
    pub audience: Option<String>,
    /// What was run.
    pub build: Build,
}

/// What one probe came to.
#[derive(Debug, Clone)]
pub struct Run {
    /// The probe's name.
    pub name: String,
    /// What it tries to get, or to do.
    pub tries: String,
    /// Where it ran.
    pub mode: Mode,
    /// When it came to its end.
    pub at: OffsetDateTime,
    /// Whether it noticed that its control was switched off; `None` where that was not run.
    pub sabotage_caught: Option<bool>,
    /// What it came to. Without evidence it has not passed.
    pub came: Came,
    /// What it tried and what came back, where it passed. It is shortened to what a statement may show.
    pub evidence: Option<Evidence>,
}

/// Says of every claim of a blueprint how it stands by these runs.
///
/// # Errors
/// [`StatementError`] where the parts do not make a statement: a digest that is none, a probe twice.
pub fn assemble(
    frame: Frame,
    ledger: &Ledger,
    blueprint: &Blueprint,
    runs: Vec<Run>,
) -> Result<Statement, StatementError> {
    let Frame { scope, issued_at, life, audience, build } = frame;
    let runs: Vec<Run> = runs.into_iter().map(shortened).collect();
    let by_name: BTreeMap<&str, &Run> = runs.iter().map(|run| (run.name.as_str(), run)).collect();
    let claims = ledger.of(&blueprint.prefix).map(|claim| {
        let run = claim.probe.as_deref().and_then(|name| by_name.get(name));
        claimed(claim, blueprint, run.copied().filter(|run| tells(scope, claim, run)), issued_at)
    });
    let mut statement = Statement {
        statement: FORM,
        blueprint: blueprint.name.clone(),
        scope,
        sequence: sequence_at(issued_at),
        issued_at,
        expires_at: issued_at.saturating_add(life),
        audience,
        build,
        claims: claims.collect(),
        probes: Vec::new(),
    };
    statement.probes = runs.into_iter().map(probed).collect();
    // The digests stand for everything; how much of it is also shown depends on the room that there is.
    for most in (0..SHOWN_MAX).rev() {
        if statement.to_bytes()?.len() <= PAYLOAD_BYTES_MAX {
            break;
        }
        let shown = statement.probes.iter_mut().filter_map(|probed| probed.evidence.as_mut());
        shown.for_each(|evidence| evidence.shown.truncate(most));
    }
    Ok(statement)
}

fn claimed(claim: &Claim, blueprint: &Blueprint, run: Option<&Run>, now: OffsetDateTime) -> Claimed {
    let outcome = run.map(|run| came(claim, run));
    // Only a probe that was seen to fail without its control shows that a claim is kept; that it passed is told all the same.
    let unseen = outcome == Some(Came::Passed) && run.is_some_and(|run| run.sabotage_caught != Some(true));
    let proven = outcome.filter(|_| !unseen).map_or(Outcome::NotProven, Outcome::from);
    let state = state_before_proof(claim, blueprint, now).after(proven);
    let missing = match &state {
        crate::blueprint::State::Planned { missing } => missing.iter().map(words).collect(),
        _ => Vec::new(),
    };
    Claimed {
        ids: claim.ids_of(&blueprint.prefix).cloned().collect(),
        words: claim.words.clone(),
        against: claim.against.as_str().to_owned(),
        state: Standing::from(&state),
        probe: run.map(|run| run.name.clone()),
        outcome,
        missing,
    }
}

/// Whether a run says anything of a claim. What could not be tried beside customers, by its nature or since the server was busy, was left to
/// the rehearsal: that is no fault, and what was said before expires by itself.
fn tells(scope: Scope, claim: &Claim, run: &Run) -> bool {
    let has_tried = run.evidence.as_ref().is_some_and(|evidence| has_tried(evidence, claim));
    scope == Scope::Whole || run.came == Came::Differs || (run.came == Came::Passed && has_tried)
}

fn has_tried(evidence: &Evidence, claim: &Claim) -> bool {
    claim.subjects.iter().all(|subject| evidence.tried.get(subject.as_str()).is_some_and(|times| *times > 0))
}

/// What a run came to for one claim: it has proven those alone whose every subject it tried, and nothing where it overlooked its sabotage.
fn came(claim: &Claim, run: &Run) -> Came {
    let has_tried = run.evidence.as_ref().is_some_and(|evidence| has_tried(evidence, claim));
    let proven = has_tried && run.sabotage_caught != Some(false);
    match run.came {
        Came::Passed if !proven => Came::NotProven,
        came => came,
    }
}

fn probed(run: Run) -> Probed {
    let Run { name, tries, mode, at, sabotage_caught, came, evidence } = run;
    Probed { name, tries, mode, at, sabotage_caught, evidence: evidence.filter(|_| came == Came::Passed) }
}

fn shortened(mut run: Run) -> Run {
    if let Some(evidence) = &mut run.evidence {
        evidence.shown.truncate(SHOWN_MAX);
        for seen in &mut evidence.shown {
            seen.tried = cut(&seen.tried);
            seen.came_back = cut(&seen.came_back);
        }
    }
    run.tries = cut(&run.tries);
    run
}

/// A text of at most as many characters as a statement takes, without U+0000, which nothing shows.
fn cut(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(TEXT_MAX).collect()
}

/// What is missing, in words.
pub fn words(missing: &Missing) -> String {
    match missing {
        Missing::Subject { words, .. } => words.clone(),
        Missing::Attestation => "Nobody stands behind it yet: an attestation is missing.".to_owned(),
        Missing::ExpiredAttestation { by, until } => format!("The attestation of {by} expired on {until}."),
        Missing::AttestationOfAnotherBuild { by, on } => {
            format!("What {by} looked at on {on} is not what this build is made of.")
        }
    }
}
