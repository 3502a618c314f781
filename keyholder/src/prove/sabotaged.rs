//! The diagonal: each control is switched off by itself, and its own probe must fail and name what it got hold of. A probe that is about several
//! controls has noticed when it noticed each of them.

use domain::{blueprint::Blueprint, claim::Ledger, clock::Clock, sabotage::Point};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use proof::{
    Failure, Outcome, PROBES, Probe, SourceTree, probe,
    probe::Attack,
    verdict::{self, Line},
};
use serde_json::Value;

use super::{
    ProveError, ProveOptions, Report, Row, SabotageBuild, ground::Grounds, known, ledger, run, source_tree, walk,
};
use crate::program;

/// How many controls of one probe are switched off at a time, each on an installation of its own: much of a probe's time is waiting.
const AT_ONCE: usize = 2;

/// Proves, then switches off one control after another.
pub(super) async fn run_all(options: ProveOptions, with_others: bool) -> Result<Report, ProveError> {
    let only = known(&options.only)?;
    let ledger = ledger()?;
    let source = source_tree(options.source.clone(), &options.cluster);
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
        // A claim that its probe decides is planned after a probe that passed, where an attestation is missing beside it.
        let passed =
            |line: &Line| line.probe.as_deref() == Some(probe.name) && matches!(line.state, "kept" | "planned");
        let mut clean = report.claims.iter().any(passed);
        if is_spare {
            let ground = grounds.lay(blueprint, None).await?;
            clean = run(probe, &ground, source.as_ref()).await.is_ok();
            ground.close().await;
        }
        let tries = stream::iter(probe.points).map(|point| {
            (options.on_progress)(format!("{}: without {point}", probe.name));
            without((probe, point), (blueprint, &grounds), source.as_ref(), with_others)
        });
        // Of two probes at a time one may look at what the other does in the cluster that they share.
        let at_once = if with_others { 1 } else { AT_ONCE };
        let mut rows: Vec<Row> = tries.buffered(at_once).try_collect().await?;
        demand_live(&mut rows);
        let caught = rows.iter().all(|row| row.own_probe);
        for line in report.claims.iter_mut().filter(|line| line.probe.as_deref() == Some(probe.name)) {
            line.sabotage_caught = Some(caught);
        }
        matrix.extend(rows.into_iter().map(|row| Row { clean, ..row }));
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

/// Runs a probe where one of its controls is switched off; then, where that is wanted, every other one.
async fn without(
    (probe, point): (&Probe, &'static str),
    (blueprint, grounds): (&Blueprint, &Grounds),
    source: Option<&SourceTree>,
    with_others: bool,
) -> Result<Row, ProveError> {
    let mut row = Row::of(point, probe.name);
    if Point::named(point).is_none() {
        "there is no such point".clone_into(&mut row.said);
        return Ok(row);
    }
    let planted = match (probe.attack, source) {
        (Attack::Built(_) | Attack::Audited(_), Some(tree)) => {
            match crate::sabotage::source::plant(point, tree, grounds.folder()).await {
                Ok(planted) => planted,
                Err(error) => {
                    row.said = format!("nothing could be planted: {error}");
                    return Ok(row);
                }
            }
        }
        _ => None,
    };
    let mut ground = grounds.lay(blueprint, Some(point)).await?;
    let said = if let Attack::Both { live, rehearsed } = probe.attack {
        let beside = probe::run(async { live(ground.target().await?).await }).await;
        row.live = Some(has_noticed(&beside));
        // Whatever the first part came to, the other is seen to fail as well where it can.
        let said = probe::run(rehearsed(&ground)).await;
        if has_noticed(&said) || row.live == Some(false) { said } else { beside }
    } else {
        run(probe, &ground, planted.as_ref().or(source)).await
    };
    row.own_probe = has_noticed(&said);
    row.said = match said {
        Ok(_) => "passed, although its control was switched off".to_owned(),
        Err(failure) => failure.to_string(),
    };
    if with_others {
        for other in PROBES.iter().filter(|other| other.name != probe.name) {
            match run(other, &ground, planted.as_ref().or(source)).await {
                Ok(_) => {}
                Err(Failure::Broken { .. }) => row.also.push(other.name.to_owned()),
                // What was broken off may have left something open.
                Err(Failure::Unproven(_)) => {
                    ground.close().await;
                    ground = grounds.lay(blueprint, Some(point)).await?;
                }
            }
        }
    }
    ground.close().await;
    Ok(row)
}

/// A part that is tried beside customers and notices none of its probe's controls shows nothing there.
fn demand_live(rows: &mut [Row]) {
    if rows.iter().any(|row| row.live.is_some()) && rows.iter().all(|row| row.live != Some(true)) {
        for row in rows {
            row.own_probe = false;
            row.said = format!("its part beside customers did not notice; the other: {}", row.said);
        }
    }
}

/// Whether a probe failed, and named what it got hold of.
fn has_noticed(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Failure::Broken { obtained, .. }) if is_something(obtained))
}

/// Whether an attacker who has this has something: a word, a number, a row. An answer by which a server says that it failed is nothing.
fn is_something(obtained: &Value) -> bool {
    match obtained {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(is_something),
        Value::Object(members) => {
            let failed = members.get("status").and_then(Value::as_u64).is_some_and(|status| status >= 500);
            !failed && members.values().any(is_something)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_beside_customers_must_notice_one_of_its_probes_controls() {
        let row = |live| Row { own_probe: true, live, ..Row::of("a-point", "a-probe") };
        let caught = |lives: &[Option<bool>]| {
            let mut rows: Vec<_> = lives.iter().map(|live| row(*live)).collect();
            demand_live(&mut rows);
            rows.iter().all(|row| row.own_probe)
        };
        assert!(caught(&[None, None]) && caught(&[Some(true)]) && caught(&[Some(false), Some(true)]));
        assert!(!caught(&[Some(false)]) && !caught(&[Some(false), Some(false)]));
    }

    #[test]
    fn a_failing_server_and_an_empty_answer_are_nothing_to_have_got_hold_of() {
        for nothing in [
            json!(null),
            json!(""),
            json!(" "),
            json!([]),
            json!({}),
            json!({ "row": null }),
            json!({ "status": 500, "answer": "x" }),
        ] {
            assert!(!is_something(&nothing), "{nothing}");
        }
        for something in
            [json!("con_1"), json!({ "status": 200, "row": "x" }), json!([null, 3]), json!({ "rows": [{ "id": "x" }] })]
        {
            assert!(is_something(&something), "{something}");
        }
    }
}
