//! The diagonal: each control is switched off by itself, and its own probe must fail and name what it got hold of.

use domain::{blueprint::Blueprint, claim::Ledger, clock::Clock, sabotage::Point};
use proof::{
    Failure, PROBES, Probe, SourceTree,
    probe::Attack,
    verdict::{self, Line},
};

use super::{ProveError, ProveOptions, Report, Row, SabotageBuild, ground::Grounds, known, ledger, run, tree, walk};
use crate::program;

/// Proves, then switches off one control after another.
pub(super) async fn run_all(options: ProveOptions, with_others: bool) -> Result<Report, ProveError> {
    let only = known(&options.only)?;
    let ledger = ledger()?;
    let source = tree(options.source.clone(), &options.cluster);
    let grounds = Grounds::open(options.cluster).await?;
    let mut report = {
        let (mut claims, mut all) = (Vec::new(), Vec::new());
        for blueprint in &options.blueprints {
            let (lines, walked) =
                walk(&ledger, blueprint, &grounds, (&only, source.as_ref()), &*options.on_progress).await?;
            claims.extend(lines);
            all.push(walked);
        }
        Report::of(claims, all)
    };
    let (mut matrix, all) = (Vec::new(), super::blueprints(None)?);
    for probe in PROBES.iter().filter(|probe| only.is_empty() || only.contains(&probe.name)) {
        let decides = deciding(&ledger, &options.blueprints, probe);
        // What decides no claim anywhere, because its claims still lack something else, is a control of ours all the same.
        let is_spare = deciding(&ledger, &all, probe).is_none();
        let spare = options.blueprints.first().filter(|_| is_spare);
        let Some(blueprint) = decides.or(spare) else { continue };
        (options.on_progress)(format!("without its control: {}", probe.name));
        // A claim that its probe decides is planned after a probe that passed, where an attestation is missing beside it.
        let passed =
            |line: &Line| line.probe.as_deref() == Some(probe.name) && matches!(line.state, "kept" | "planned");
        let mut clean = report.claims.iter().any(passed);
        if is_spare {
            let ground = grounds.lay(blueprint, None).await?;
            clean = run(probe, &ground, source.as_ref()).await.is_ok();
            ground.close().await;
        }
        let mut row = without(probe, (blueprint, &grounds), source.as_ref(), with_others).await?;
        row.clean = clean;
        for line in report.claims.iter_mut().filter(|line| line.probe.as_deref() == Some(probe.name)) {
            line.sabotage_caught = Some(row.own_probe);
        }
        matrix.push(row);
    }
    grounds.close().await?;
    report.matrix = Some(matrix);
    report.sabotage_build = Some(SabotageBuild { program_sha256: program::sha256(), commit: program::commit() });
    Ok(report)
}

/// A blueprint in which the probe decides a claim: its sabotage is the same in each.
fn deciding<'b>(ledger: &Ledger, blueprints: &'b [Blueprint], probe: &Probe) -> Option<&'b Blueprint> {
    let now = Clock::system().now();
    blueprints.iter().find(|blueprint| verdict::wanted(ledger, blueprint, now).contains(&probe.name))
}

/// Runs a probe where its control is switched off; then, where that is wanted, every other one.
async fn without(
    probe: &Probe,
    (blueprint, grounds): (&Blueprint, &Grounds),
    source: Option<&SourceTree>,
    with_others: bool,
) -> Result<Row, ProveError> {
    let mut row =
        Row { sabotage: probe.name.to_owned(), own_probe: false, said: String::new(), clean: false, also: Vec::new() };
    if Point::named(probe.name).is_none() {
        "there is no such point".clone_into(&mut row.said);
        return Ok(row);
    }
    let planted = match (probe.attack, source) {
        (Attack::Built(_), Some(tree)) => {
            match crate::sabotage::source::plant(probe.name, tree, grounds.folder()).await {
                Ok(planted) => Some(planted),
                Err(error) => {
                    row.said = format!("nothing could be planted: {error}");
                    return Ok(row);
                }
            }
        }
        _ => None,
    };
    let mut ground = grounds.lay(blueprint, Some(probe.name)).await?;
    match run(probe, &ground, planted.as_ref().or(source)).await {
        Ok(_) => "passed, although its control was switched off".clone_into(&mut row.said),
        Err(failure) => {
            row.own_probe = matches!(&failure, Failure::Broken { obtained, .. } if !obtained.is_null());
            row.said = failure.to_string();
        }
    }
    if with_others {
        for other in PROBES.iter().filter(|other| other.name != probe.name) {
            match run(other, &ground, planted.as_ref().or(source)).await {
                Ok(_) => {}
                Err(Failure::Broken { .. }) => row.also.push(other.name.to_owned()),
                // What was broken off may have left something open.
                Err(Failure::Unproven(_)) => {
                    ground.close().await;
                    ground = grounds.lay(blueprint, Some(probe.name)).await?;
                }
            }
        }
    }
    ground.close().await;
    Ok(row)
}
