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
use crate::{
    config::{ConfigFaults, attest},
    program,
};

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
    /// What the operator attests.
    #[error(transparent)]
    Attestations(#[from] ConfigFaults),
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

/// A blueprint with nobody's words in it but the operator's: what a statement counts.
#[derive(Debug, Clone)]
pub struct OwnWords(Blueprint);

impl OwnWords {
    /// A blueprint without the examples that are shipped with it, and with what the operator attests in this file. A shipped example is
    /// nobody's word for anybody's installation, whichever one the statement is for.
    ///
    /// # Errors
    /// `Attestations`: everything that is wrong with the file.
    pub fn of(blueprint: &Blueprint, attestations: Option<&Path>) -> Result<Self, SigningError> {
        let mut blueprint = blueprint.clone();
        blueprint.drop_examples();
        if let Some(file) = attestations {
            attest(&mut blueprint, &file.display().to_string(), "--attestations".to_owned())?;
        }
        Ok(Self(blueprint))
    }
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
    OwnWords(blueprint): &OwnWords,
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

    use domain::statement::{Envelope, Standing, Statement};
    use proof::verdict::Outcomes;
    use time::Date;

    use super::*;
    use crate::{config::named_blueprint, prove::Walk};

    /// What is signed on a day of a run of two probes, which passed and were seen to fail without their controls.
    fn signed(words: &OwnWords, day: Date) -> Statement {
        let ledger = ledger().unwrap();
        let (mut outcomes, mut points) = (Outcomes::new(), BTreeMap::new());
        for probe in PROBES.iter().filter(|probe| ["certificates-named", "review-date"].contains(&probe.name)) {
            let mut evidence = Evidence::new();
            let decided = ledger.of("MW").filter(|claim| claim.probe.as_deref() == Some(probe.name));
            decided.flat_map(|claim| &claim.subjects).for_each(|subject| {
                evidence.tried(subject.as_str(), "a page", "asked", "answered");
            });
            outcomes.insert(probe.name, Ok(evidence));
            points.extend(probe.points.iter().map(|point| ((*point).to_owned(), true)));
        }
        let walk = Walk { blueprint: "media-workspace".to_owned(), outcomes, ended: BTreeMap::new() };
        let signing = Signing {
            keys: vec![SigningKey::generate()],
            life: Duration::DAY,
            audience: Some("https://keys.acme.dev".to_owned()),
            commit: None,
            sabotaged: Some(Sabotaged { points, program_sha256: "0a".repeat(32) }),
        };
        let report = Report::of(Vec::new(), vec![walk]);
        let envelope = sign(&report, words, (Scope::Whole, day.midnight().assume_utc()), &signing).unwrap();
        Statement::parse(Envelope::parse(&envelope).unwrap().payload()).unwrap()
    }

    #[test]
    fn a_statement_counts_the_operators_words_and_no_examples() {
        let blueprint = named_blueprint("media-workspace").unwrap();
        let example =
            |id: &str| blueprint.attestations.iter().find(|word| word.ids.contains(&id.parse().unwrap())).unwrap();
        // On this day the examples of both count.
        let day = example("MW-43").on.max(example("MW-42").on);
        let stands = |statement: &Statement, id: &str| statement.claimed(&id.parse().unwrap()).unwrap().state;
        let without = signed(&OwnWords::of(&blueprint, None).unwrap(), day);
        assert_eq!((stands(&without, "MW-43"), stands(&without, "MW-42")), (Standing::Planned, Standing::Planned));
        assert_eq!(without.claimed(&"MW-43".parse().unwrap()).unwrap().outcome, Some(Came::Passed));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("attestations.toml");
        let own = format!(
            "[[attestation]]\nids = [\"MW-43\"]\nby = \"Acme\"\non = {day}\nuntil = {}\nwords = \"None is held.\"\n",
            day + Duration::days(30)
        );
        fs::write(&file, own).unwrap();
        let with = signed(&OwnWords::of(&blueprint, Some(&file)).unwrap(), day);
        assert_eq!((stands(&with, "MW-43"), stands(&with, "MW-42")), (Standing::Kept, Standing::Planned));

        // What is wrong with the file is told before anything is proved.
        fs::write(&file, "attested = true\n").unwrap();
        let said = OwnWords::of(&blueprint, Some(&file)).unwrap_err().to_string();
        assert!(said.contains("attestations.toml:1") && said.contains("attested"), "{said}");
        let said = OwnWords::of(&blueprint, Some(Path::new("/nowhere"))).unwrap_err().to_string();
        assert!(said.contains("--attestations: /nowhere cannot be read"), "{said}");
    }

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
