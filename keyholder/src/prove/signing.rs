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
    /// Whether each point was noticed, by its name.
    points: BTreeMap<String, bool>,
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
    /// It speaks for another program than the one that is given with it.
    #[error("the report of the sabotage build is of another program than --sabotage-program")]
    OtherProgram,
    /// No control can be switched off in the program that is given.
    #[error("--sabotage-program is no sabotage build: no control can be switched off in it")]
    Unmarked,
    /// It is not known to be of the commit that the statement is of.
    #[error("the sabotage build is of {}, and this program of {}: its report says nothing of this one", or_unknown(.there.as_deref()), or_unknown(.here.as_deref()))]
    OtherCommit {
        /// The commit of the sabotage build.
        there: Option<String>,
        /// The commit of this program.
        here: Option<String>,
    },
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
    program_sha256: Option<String>,
    commit: Option<String>,
}

#[derive(Deserialize)]
struct SabotageRow {
    sabotage: String,
    own_probe: bool,
    clean: bool,
}

fn or_unknown(commit: Option<&str>) -> &str {
    commit.unwrap_or("an unknown commit")
}

impl Sabotaged {
    /// Reads the line that the sabotage build printed, and takes the digest of that build. A probe has noticed where it failed without its
    /// control and passed with it.
    ///
    /// # Errors
    /// `File`, `Report`; `OtherProgram`, `Unmarked` and `OtherCommit` where the report says nothing of the program that is built from this
    /// commit.
    pub fn read(report: &Path, program: &Path, commit: Option<&str>) -> Result<Self, SigningError> {
        let file = |path: &Path| {
            let path = path.display().to_string();
            move |source| SigningError::File { path, source }
        };
        let text = std::fs::read(report).map_err(file(report))?;
        let read: SabotageReport = serde_json::from_slice(&text).map_err(SigningError::Report)?;
        let program_sha256 = program::sha256_of(program).map_err(file(program))?;
        if read.program_sha256.as_ref() != Some(&program_sha256) {
            return Err(SigningError::OtherProgram);
        }
        // Not in one piece: this build has the mark of the other one nowhere.
        let mark = "keyholder-sabotage_build:".replace('_', "-");
        if !program::has(program, mark.as_bytes()).map_err(file(program))? {
            return Err(SigningError::Unmarked);
        }
        // A commit may be given in short.
        let is_same = matches!((&read.commit, commit), (Some(there), Some(here)) if there.starts_with(here));
        if !is_same {
            return Err(SigningError::OtherCommit { there: read.commit, here: commit.map(str::to_owned) });
        }
        let points = read.matrix.into_iter().map(|row| (row.sabotage, row.own_probe && row.clean)).collect();
        Ok(Self { points, program_sha256 })
    }

    /// Whether a probe has noticed each of its controls that was switched off; `None` where not each of them was.
    fn caught(&self, points: &[&str]) -> Option<bool> {
        let noticed: Option<Vec<bool>> = points.iter().map(|point| self.points.get(*point).copied()).collect();
        noticed.map(|noticed| noticed.iter().all(|it| *it))
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
    let walks = report.walks.iter().filter(|walk| walk.blueprint == blueprint.name);
    let outcomes = walks.flat_map(|walk| walk.outcomes.iter().map(move |(name, outcome)| (name, outcome, walk)));
    let runs = outcomes
        .filter_map(|(name, outcome, walk)| {
            let at = walk.ended.get(name).copied().unwrap_or(now);
            run(name, outcome, (scope, signing.sabotaged.as_ref()), at)
        })
        .collect();
    let statement = assemble(frame, &ledger()?, blueprint, runs)?;
    Ok(seal_statement(statement.to_bytes()?, &signing.keys)?.to_json())
}

fn run(
    name: &str,
    outcome: &Outcome,
    (scope, sabotaged): (Scope, Option<&Sabotaged>),
    at: OffsetDateTime,
) -> Option<Run> {
    let probe = PROBES.iter().find(|probe| probe.name == name)?;
    let sabotage_caught = sabotaged.and_then(|sabotaged| sabotaged.caught(probe.points));
    let (came, evidence) = match outcome {
        Ok(evidence) => (Came::Passed, Some(told(evidence))),
        Err(Failure::Broken { .. }) => (Came::Differs, None),
        Err(Failure::Unproven(_)) => (Came::NotProven, None),
    };
    let mode = match (scope, probe.mode()) {
        (Scope::ProductionSafe, _) => statement::Mode::ProductionSafe,
        (Scope::Whole, Mode::Build) => statement::Mode::Build,
        // A whole run is made of scratch installations, also for what may run beside customers.
        (Scope::Whole, Mode::ProductionSafe | Mode::Rehearsal) => statement::Mode::Rehearsal,
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_report_speaks_for_its_own_program_and_commit_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (report, program) = (folder.path().join("report.json"), folder.path().join("program"));
        fs::write(&program, b"\x7fELF keyholder-sabotage-build:controls").unwrap();
        let digest = program::sha256_of(&program).unwrap();
        let row = |name: &str, own_probe: bool, clean: bool| serde_json::json!({ "sabotage": name, "own_probe": own_probe, "clean": clean });
        let rows = [row("a", true, true), row("b", false, true), row("c", true, false)];
        let told = |digest: &str, commit: Option<&str>| {
            let said = serde_json::json!({ "matrix": rows, "program_sha256": digest, "commit": commit, "kept": 3 });
            fs::write(&report, said.to_string()).unwrap();
        };
        told(&digest, Some("0123456789abcdef"));
        for commit in ["0123456789abcdef", "0123456"] {
            let read = Sabotaged::read(&report, &program, Some(commit)).unwrap();
            // A probe that did not pass with its control either has noticed nothing.
            assert_eq!(read.points.values().copied().collect::<Vec<_>>(), [true, false, false]);
            // A probe of several controls has noticed when it noticed each, and nothing is known where one was not switched off.
            for (points, caught) in [(&["a"][..], Some(true)), (&["a", "b"], Some(false)), (&["a", "d"], None)] {
                assert_eq!(read.caught(points), caught, "{points:?}");
            }
        }
        for commit in [None, Some("fedcba9")] {
            let read = Sabotaged::read(&report, &program, commit);
            assert!(matches!(read, Err(SigningError::OtherCommit { .. })), "{read:?}");
        }
        told(&digest, None);
        let read = Sabotaged::read(&report, &program, Some("0123456"));
        assert!(matches!(read, Err(SigningError::OtherCommit { .. })), "{read:?}");
        told(&"0a".repeat(32), Some("0123456"));
        let read = Sabotaged::read(&report, &program, Some("0123456"));
        assert!(matches!(read, Err(SigningError::OtherProgram)), "{read:?}");
        fs::write(&program, b"\x7fELF").unwrap();
        told(&program::sha256_of(&program).unwrap(), Some("0123456"));
        let read = Sabotaged::read(&report, &program, Some("0123456"));
        assert!(matches!(read, Err(SigningError::Unmarked)), "{read:?}");
    }
}
