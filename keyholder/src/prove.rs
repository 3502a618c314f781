//! `prove`: probes are run on scratch installations of this binary, or against a server, and claims are judged by what came back.
//!
//! Owns what probes stand on and the order in which they run: blueprint by blueprint, each with a database of its own on one throwaway
//! cluster. Never judges a probe: that is `proof`. Whatever ends this process ends everything that it started.

mod ground;
#[cfg(feature = "sabotage")]
mod sabotaged;
pub mod signing;
pub mod tree;

use std::{collections::BTreeMap, path::PathBuf};

use domain::{
    blueprint::{self, Blueprint},
    claim::Ledger,
    clock::Clock,
};
use proof::{
    Evidence, Failure, Ground, Mode, PROBES, Probe, SourceTree, Target,
    caller::{CallError, Caller},
    probe,
    probe::Attack,
    verdict::{self, Counts, Line, Outcomes},
};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use self::ground::Grounds;
use crate::{
    StartError,
    cluster::ClusterOptions,
    config::{ConfigFaults, named_blueprint},
};

/// What is to be proved, and how.
pub struct ProveOptions {
    /// The cluster of the scratch installations.
    pub cluster: ClusterOptions,
    /// The blueprints, in their order.
    pub blueprints: Vec<Blueprint>,
    /// These probes alone; all that decide a claim, where there is none.
    pub only: Vec<String>,
    /// The checkout for the checks of a build.
    pub source: Option<PathBuf>,
    /// Hears what is being done.
    pub on_progress: Box<dyn Fn(String) + Send + Sync>,
}

/// What was proved.
#[derive(Debug, Serialize)]
pub struct Report {
    /// A line for each id of each blueprint.
    pub claims: Vec<Line>,
    /// How many ids are in each state.
    #[serde(flatten)]
    pub counts: Counts,
    /// What each sabotage came to; only where controls were switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Vec<Row>>,
    /// Which program switched controls off, and from which commit it was built; only beside `matrix`, which speaks for that build alone.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub sabotage_build: Option<SabotageBuild>,
    /// What the probes came to, by blueprint: for a statement.
    #[serde(skip)]
    pub walks: Vec<Walk>,
}

/// The build in which controls were switched off.
#[derive(Debug, Clone, Serialize)]
pub struct SabotageBuild {
    /// SHA-256 of its program, in hexadecimal; `None` where that could not be read.
    pub program_sha256: Option<String>,
    /// The commit that it was built from, in hexadecimal; `None` where that could not be known.
    pub commit: Option<&'static str>,
}

/// What the probes came to in one blueprint.
#[derive(Debug)]
pub struct Walk {
    /// Its name.
    pub blueprint: String,
    /// What each probe came to.
    pub outcomes: Outcomes,
    /// When each came to its end.
    pub ended: BTreeMap<&'static str, OffsetDateTime>,
}

/// What one sabotage came to.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The control that was switched off, by the name of its point.
    pub sabotage: &'static str,
    /// The probe that is to notice.
    pub probe: &'static str,
    /// Whether that probe failed, and named what it got hold of.
    pub own_probe: bool,
    /// Whether the part of it noticed by itself that is tried beside customers, where it has one and more than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
    /// What the probe said.
    pub said: String,
    /// Whether the same probe passes where nothing is switched off.
    pub clean: bool,
    /// Which other probes notice; empty where that was not tried.
    pub also: Vec<String>,
}

/// Why nothing could be proved at all.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The scratch installation did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The file of the program was replaced while it was proved: nobody knows which of the two was tried.
    #[error("{} is not the program any more that was started as such: what was tried is not known to be this one", .path.display())]
    Replaced {
        /// Where it was.
        path: PathBuf,
    },
    /// The claims or the blueprints that come with the binary.
    #[error("the claims are not valid: {0}")]
    Claims(String),
    /// The server is not one at which these probes may be run.
    #[error("nothing is tried at the server: {why}")]
    Server {
        /// Why.
        why: String,
    },
    /// The blueprint that was named, or its file.
    #[error(transparent)]
    Blueprint(#[from] ConfigFaults),
    /// A probe was named that does not exist.
    #[error("there is no probe `{name}`; there are {}", PROBES.iter().map(|probe| probe.name).collect::<Vec<_>>().join(", "))]
    UnknownProbe {
        /// The name.
        name: String,
    },
}

#[cfg(feature = "sabotage")]
impl Row {
    /// Nothing noticed yet.
    fn of(sabotage: &'static str, probe: &'static str) -> Self {
        Self { sabotage, probe, own_probe: false, live: None, said: String::new(), clean: false, also: Vec::new() }
    }
}

impl Report {
    fn of(claims: Vec<Line>, walks: Vec<Walk>) -> Self {
        Self { counts: verdict::count(&claims), claims, matrix: None, sabotage_build: None, walks }
    }

    /// Whether everything that was tried is as it must be.
    pub fn holds(&self) -> bool {
        let caught = self.matrix.iter().flatten().all(|row| row.own_probe && row.clean);
        self.counts.broken == 0 && self.counts.unproven == 0 && caught
    }
}

/// The ledger of claims that comes with the binary.
pub(crate) fn ledger() -> Result<Ledger, ProveError> {
    Ledger::embedded().map_err(|faults| invalid(&faults))
}

/// The blueprints to walk: the one of a name or in a file, or all that come with the binary.
///
/// # Errors
/// `Blueprint` where there is none of that name, or the file has faults.
pub fn blueprints(name: Option<&str>) -> Result<Vec<Blueprint>, ProveError> {
    match name {
        None => blueprint::embedded().map_err(|faults| invalid(&faults)),
        Some(name) => Ok(vec![named_blueprint(name)?]),
    }
}

fn invalid(faults: &[domain::claim::Fault]) -> ProveError {
    ProveError::Claims(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// Proves on scratch installations.
///
/// # Errors
/// Where nothing can be tried at all. A probe that fails is in the report.
pub async fn rehearse(options: ProveOptions) -> Result<Report, ProveError> {
    let only = known(&options.only)?;
    let ledger = ledger()?;
    let source = source_tree(options.source.clone(), &options.cluster);
    let grounds = Grounds::open(options.cluster).await?;
    let (mut claims, mut all) = (Vec::new(), Vec::new());
    for blueprint in &options.blueprints {
        let (lines, walked) =
            walk(&ledger, blueprint, &grounds, (&only, source.as_ref()), &*options.on_progress).await?;
        claims.extend(lines);
        all.push(walked);
    }
    grounds.close().await?;
    Ok(Report::of(claims, all))
}

/// Proves on scratch installations, then switches off one control after another and looks whether its probe notices.
///
/// # Errors
/// As [`rehearse`].
#[cfg(feature = "sabotage")]
pub async fn sabotage(options: ProveOptions, with_others: bool) -> Result<Report, ProveError> {
    Box::pin(sabotaged::run_all(options, with_others)).await
}

/// The blueprint by which a server is set up, out of these: it is judged by no other. Asked before anything is written there, together
/// with whose workspace the key is for: probes make and end keys, and what they are refused is an alarm in any but their own.
///
/// # Errors
/// `Server`.
pub async fn at_server(
    (admin, stranger): (&Caller, &Caller),
    blueprints: Vec<Blueprint>,
) -> Result<Blueprint, ProveError> {
    let refused = |why: &str| ProveError::Server { why: why.to_owned() };
    let silent = |error: CallError| refused(&format!("it does not answer: {error}"));
    let trail = admin.get("/v1/audit?limit=1").await.map_err(silent)?.json();
    if trail.pointer("/data/0/probe") != Some(&Value::Bool(true)) {
        return Err(refused("the key is not an admin's of a workspace that was made with `--probe`"));
    }
    let page = stranger.get("/trust.json").await.map_err(silent)?.json();
    let name = page.pointer("/blueprint/name").and_then(Value::as_str).unwrap_or_default();
    let its = blueprints.into_iter().find(|blueprint| blueprint.name == name);
    its.ok_or_else(|| refused(&format!("its blueprint is `{name}`, which is not the one to be judged")))
}

/// Runs the production-safe probes against a server, and judges the claims that they decide.
///
/// # Errors
/// `Claims`, `UnknownProbe`.
pub async fn live(target: &Target, only: &[String]) -> Result<Report, ProveError> {
    let only = known(only)?;
    let (ledger, clock) = (ledger()?, Clock::system());
    let now = clock.now();
    let (mut outcomes, mut ended) = (Outcomes::new(), BTreeMap::new());
    for probe in PROBES.iter().filter(|probe| only.is_empty() || only.contains(&probe.name)) {
        if let Some(attack) = probe.live() {
            outcomes.insert(probe.name, probe::run(attack(target)).await);
            ended.insert(probe.name, clock.now());
        }
    }
    let mut claims: Vec<Line> = verdict::judge(&ledger, &target.blueprint, &outcomes, now);
    // What only a rehearsal or the source could say is not said at all.
    claims.retain_mut(|line| {
        line.mode = Some(Mode::ProductionSafe);
        let outcome = line.probe.as_deref().and_then(|name| outcomes.get(name));
        outcome.is_some_and(|outcome| outcome.is_err() || line.state != "unproven")
    });
    Ok(Report::of(claims, vec![Walk { blueprint: target.blueprint.name.clone(), outcomes, ended }]))
}

fn known(only: &[String]) -> Result<Vec<&'static str>, ProveError> {
    let find = |name: &String| PROBES.iter().map(|probe| probe.name).find(|known| known == name);
    only.iter().map(|name| find(name).ok_or_else(|| ProveError::UnknownProbe { name: name.clone() })).collect()
}

fn source_tree(root: Option<PathBuf>, cluster: &ClusterOptions) -> Option<SourceTree> {
    Some(SourceTree { root: root?, program: cluster.launcher.clone() })
}

/// Runs the probes that decide claims of a blueprint, and judges all of its claims.
async fn walk(
    ledger: &Ledger,
    blueprint: &Blueprint,
    grounds: &Grounds,
    (only, source): (&[&'static str], Option<&SourceTree>),
    on_progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(Vec<Line>, Walk), ProveError> {
    let clock = Clock::system();
    let now = clock.now();
    let wanted = verdict::wanted(ledger, blueprint, now);
    let mut ground = grounds.lay(blueprint, None).await?;
    let (mut outcomes, mut ended) = (Outcomes::new(), BTreeMap::new());
    for probe in PROBES.iter().filter(|probe| wanted.contains(&probe.name)) {
        if only.is_empty() || only.contains(&probe.name) {
            on_progress(format!("{}: {}", blueprint.name, probe.name));
            let outcome = run(probe, &ground, source).await;
            // One that was broken off may have left open what it had opened: no other stands on that ground.
            if matches!(outcome, Err(Failure::Unproven(_))) {
                ground.close().await;
                ground = grounds.lay(blueprint, None).await?;
            }
            outcomes.insert(probe.name, outcome);
            ended.insert(probe.name, clock.now());
        }
    }
    ground.close().await;
    let mut lines = verdict::judge(ledger, blueprint, &outcomes, now);
    if !only.is_empty() {
        lines.retain(|line| line.probe.as_deref().is_some_and(|name| outcomes.contains_key(name)));
    }
    Ok((lines, Walk { blueprint: blueprint.name.clone(), outcomes, ended }))
}

/// Runs one probe on a ground.
async fn run(probe: &Probe, ground: &Ground, source: Option<&SourceTree>) -> Result<Evidence, Failure> {
    match (probe.attack, source) {
        (Attack::Live(attack), _) => probe::run(async { attack(ground.target().await?).await }).await,
        (Attack::Both { live, rehearsed }, _) => {
            let seen = probe::run(async { live(ground.target().await?).await }).await?;
            Ok(seen.join(probe::run(rehearsed(ground)).await?))
        }
        (Attack::Rehearsed(attack), _) => probe::run(attack(ground)).await,
        (Attack::Audited(attack), Some(tree)) => probe::run(attack(ground, tree)).await,
        (Attack::Built(attack), Some(tree)) => probe::run(attack(tree)).await,
        (Attack::Audited(_) | Attack::Built(_), None) => {
            Err(Failure::unproven("the source tree is not at hand: run it in a checkout, or name one with --source"))
        }
    }
}
