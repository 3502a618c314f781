//! From what was proved to a signed statement of one blueprint.
//!
//! Owns what a statement takes from a report and what it leaves out: of a probe that found something its outcome goes out, and never what it
//! found. Never runs a probe, and never decides how a claim stands: that is `domain`.

use std::{collections::BTreeMap, io, path::Path};

use domain::{
    blueprint::Blueprint,
    statement::{self, Build, Came, EnvelopeError, Frame, Observation, Run, Scope, StatementError, assemble},
};
use proof::{Evidence, Failure, Mode, Outcome, PROBES};
use seal::signature::{SigningKey, sign as seal_statement};
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::{ProveError, Report, ledger};
use crate::program;

/// What a statement says beside its claims, and who signs it.
pub struct Signing {
    /// The keys; several while one takes the place of another.
    pub keys: Vec<SigningKey>,
    /// How long it is good for.
    pub life: Duration,
    /// The origin of the installation that it is for.
    pub audience: Option<String>,
    /// The commit that this program was built from, in hexadecimal.
    pub commit: Option<String>,
    /// What the sabotage build of the same commit came to.
    pub sabotaged: Option<Sabotaged>,
}

/// What a run of `prove --sabotage` came to, and which program ran it.
#[derive(Debug, Clone)]
pub struct Sabotaged {
    caught: BTreeMap<String, bool>,
    program_sha256: String,
}

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What should be the line of `prove --sabotage --json` is not.
    #[error("the report of the sabotage build is not what `prove --sabotage --json` prints")]
    Report(#[source] serde_json::Error),
    /// This program's own bytes could not be read.
    #[error("this program cannot read its own file, and so cannot say what was proved")]
    Program,
    /// The claims that come with the binary.
    #[error(transparent)]
    Claims(#[from] ProveError),
    /// The parts make no statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The statement fits into no envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

#[derive(Deserialize)]
struct SabotageReport {
    matrix: Vec<SabotageRow>,
}

#[derive(Deserialize)]
struct SabotageRow {
    sabotage: String,
    own_probe: bool,
}

impl Sabotaged {
    /// Reads the line that the sabotage build printed, and takes the digest of that build.
    ///
    /// # Errors
    /// `File`, `Report`.
    pub fn read(report: &Path, program: &Path) -> Result<Self, SigningError> {
        let file = |path: &Path| {
            let path = path.display().to_string();
            move |source| SigningError::File { path, source }
        };
        let text = std::fs::read(report).map_err(file(report))?;
        let read: SabotageReport = serde_json::from_slice(&text).map_err(SigningError::Report)?;
        let caught = read.matrix.into_iter().map(|row| (row.sabotage, row.own_probe)).collect();
        Ok(Self { caught, program_sha256: program::sha256_of(program).map_err(file(program))? })
    }
}

/// Signs what a report says of one blueprint: the envelope as it is published.
///
/// # Errors
/// [`SigningError`].
pub fn sign(
    report: &Report,
    blueprint: &Blueprint,
    (scope, now): (Scope, OffsetDateTime),
    signing: &Signing,
) -> Result<Vec<u8>, SigningError> {
    let now = now.replace_nanosecond(u32::from(now.millisecond()) * 1_000_000).unwrap_or(now);
    let build = Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: signing.commit.clone(),
        binary_sha256: program::sha256().ok_or(SigningError::Program)?,
        sabotage_sha256: signing.sabotaged.as_ref().map(|sabotaged| sabotaged.program_sha256.clone()),
    };
    let frame = Frame { scope, issued_at: now, life: signing.life, audience: signing.audience.clone(), build };
    let outcomes =
        report.outcomes.iter().filter(|(name, _)| *name == blueprint.name).flat_map(|(_, outcomes)| outcomes);
    let caught = |name: &str| signing.sabotaged.as_ref()?.caught.get(name).copied();
    let runs = outcomes.filter_map(|(name, outcome)| run(name, outcome, caught(name), now)).collect();
    let statement = assemble(frame, &ledger()?, blueprint, runs)?;
    Ok(seal_statement(statement.to_bytes()?, &signing.keys)?.to_json())
}

fn run(name: &str, outcome: &Outcome, sabotage_caught: Option<bool>, at: OffsetDateTime) -> Option<Run> {
    let probe = PROBES.iter().find(|probe| probe.name == name)?;
    let (came, evidence) = match outcome {
        Ok(evidence) => (Came::Passed, Some(told(evidence))),
        Err(Failure::Broken { .. }) => (Came::Differs, None),
        Err(Failure::Unproven(_)) => (Came::NotProven, None),
    };
    let mode = match probe.mode() {
        Mode::ProductionSafe => statement::Mode::ProductionSafe,
        Mode::Rehearsal => statement::Mode::Rehearsal,
        Mode::Build => statement::Mode::Build,
    };
    Some(Run { name: name.to_owned(), tries: probe.tries.to_owned(), mode, at, sabotage_caught, came, evidence })
}

fn told(evidence: &Evidence) -> statement::Evidence {
    let shown = evidence.shown.iter().map(|seen| Observation {
        tried: seen.tried.clone(),
        came_back: seen.came_back.clone(),
        sent_sha256: seen.sent_sha256.clone(),
        answer_sha256: seen.answer_sha256.clone(),
    });
    statement::Evidence {
        tried: evidence.tried.clone(),
        observations: evidence.observations,
        shown: shown.collect(),
        sha256: evidence.sha256.clone(),
    }
}
