//! `prove`, from outside: what it prints, what it leaves behind, and how a build with sabotage is told from the ordinary one.
//!
//! That every probe passes, and fails without its control, is shown by CI's run of `prove --sabotage` itself.

mod beside_customers;
mod cut_short;
mod in_front;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use domain::{blueprint, claim::Ledger};
use proof::PROBES;
use serde_json::Value;

use crate::harness::{TestApp, ok, text, variable};

/// A probe that is quick and production-safe.
const QUICK: &str = "body-not-json";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keyholder"))
}

/// The build with sabotage, as `.ci/sabotage-build` leaves it. `None` where it was not built, which CI does not accept.
fn sabotage_build() -> Option<PathBuf> {
    let built = program().ancestors().nth(2).unwrap().join("sabotage/keyholder");
    if built.is_file() {
        return Some(built);
    }
    let said = "there is no build with sabotage: `.ci/sabotage-build` makes it, before the tests are built";
    assert_ne!(variable("CI").as_deref(), Some("true"), "{said}");
    // Past the harness, which would swallow the line of a test that passes.
    let mut out = std::io::stderr();
    writeln!(out, "NOT RUN: {said}").unwrap();
    None
}

fn keyholder(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Probes of controls that no claim is about by itself, and several rest on: they are run where every control is switched off in turn.
const OF_NO_CLAIM: [&str; 5] =
    ["concealed-explanations", "house-model", "relation-bounds", "relation-stores", "stale-permits"];

#[test]
fn every_claim_names_a_probe_that_exists_and_every_probe_decides_a_claim() {
    let (ledger, blueprints) = (Ledger::embedded().unwrap(), blueprint::embedded().unwrap());
    let named: BTreeSet<&str> = ledger.claims().filter_map(|claim| claim.probe.as_deref()).collect();
    let known: BTreeSet<&str> = PROBES.iter().map(|probe| probe.name).collect();
    assert_eq!(known.len(), PROBES.len(), "two probes have one name");
    let now = domain::clock::Clock::system().now();
    let wanted: BTreeSet<&str> =
        blueprints.iter().flat_map(|blueprint| proof::verdict::wanted(&ledger, blueprint, now)).collect();
    let missing: Vec<_> = wanted.difference(&known).collect();
    assert!(missing.is_empty(), "claims that could be kept name probes that do not exist: {missing:?}");
    let idle: Vec<_> = known.difference(&named).copied().collect();
    assert_eq!(idle, OF_NO_CLAIM, "probes that decide no claim");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_prints_one_line_of_claims_with_evidence() {
    let arguments = ["prove", "--blueprint", "engineering-playbook", "--only", QUICK, "--json"];
    let done = run(keyholder(program(), &arguments)).await;
    assert!(done.status.success(), "{}", said(&done));
    let lines: Vec<&str> = std::str::from_utf8(&done.stdout).unwrap().lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let report: Value = serde_json::from_str(lines[0]).unwrap();
    let claims = report["claims"].as_array().unwrap();
    assert!(!claims.is_empty());
    for claim in claims {
        let members: Vec<&str> = claim.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["blueprint", "evidence", "id", "mode", "probe", "sabotage_caught", "state"]);
        assert_eq!((text(claim, "/state"), text(claim, "/probe")), ("kept", QUICK), "{claim}");
        assert!(text(claim, "/id").starts_with("EP-") && claim["sabotage_caught"].is_null(), "{claim}");
        assert!(claim["evidence"]["observations"].as_u64().unwrap() > 0, "{claim}");
        assert_eq!(text(claim, "/evidence/sha256").len(), 64);
    }
    for (state, wanted) in [("kept", claims.len()), ("broken", 0), ("unproven", 0), ("planned", 0), ("attested", 0)] {
        assert_eq!(report[state], wanted, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_none_is_refused_with_those_that_are() {
    for (arguments, known) in
        [(["prove", "--only", "no-such-probe"], QUICK), (["prove", "--blueprint", "no-such-blueprint"], "social-agent")]
    {
        let done = run(keyholder(program(), &arguments)).await;
        assert_eq!(done.status.code(), Some(7), "{}", said(&done));
        assert!(said(&done).contains(known), "{}", said(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_production_safe_probes_pass_at_a_server_and_leave_nothing_there() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    };
    let inner = app.instance.app();
    let host = domain::principal::Principal::operator("local", inner.clock.now());
    let workspace = service::workspace::create_for_probes(inner, &host, "Probes").await.unwrap();
    let issued = service::workspace::issue_key(inner, &host, workspace, "probe", service::Role::Admin, None).await;
    let probe = issued.unwrap().1;
    let url = app.instance.url().to_string();
    let others = written("other.key", app.admin.key().unwrap());
    let refused =
        run(keyholder(program(), &["prove", "--target", &url, "--api-key-file", others.to_str().unwrap()])).await;
    assert!(!refused.status.success() && said(&refused).contains("--probe"), "{}", said(&refused));
    let key = written("probe.key", &probe);
    let arguments = ["prove", "--target", &url, "--api-key-file", key.to_str().unwrap(), "--json"];
    let elsewhere = [&arguments[..], &["--blueprint", "chat-assistant"]].concat();
    let refused = run(keyholder(program(), &elsewhere)).await;
    assert!(!refused.status.success() && said(&refused).contains("social-agent"), "{}", said(&refused));
    let done = run(keyholder(program(), &arguments)).await;
    assert!(done.status.success(), "{}", said(&done));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let ran: BTreeSet<&str> = report["claims"].as_array().unwrap().iter().map(|claim| text(claim, "/probe")).collect();
    let safe = PROBES.iter().filter(|probe| probe.live().is_some()).map(|probe| probe.name);
    assert!(!ran.is_empty() && ran.is_subset(&safe.collect()), "{report}");
    let claims = report["claims"].as_array().unwrap();
    assert!(claims.iter().all(|claim| text(claim, "/blueprint") == "social-agent"), "{report}");

    let admin = app.stranger.with_key(&probe);
    let keys = ok(admin.get("/v1/api-keys?limit=100").await.unwrap(), 200);
    let living = |key: &&Value| key["revoked_at"].is_null();
    assert_eq!(keys["data"].as_array().unwrap().iter().filter(living).count(), 1, "{keys}");
    for list in ["/v1/mandates", "/v1/connections", "/v1/budgets"] {
        let left = ok(admin.get(list).await.unwrap(), 200);
        assert_eq!(left["data"].as_array().unwrap().len(), 0, "{list}: {left}");
    }
    app.stop().await;
}

#[test]
fn a_build_with_sabotage_is_marked_and_the_ordinary_one_is_not() {
    const MARK: &[u8] = b"keyholder-sabotage-build:";
    let has_mark = |path: &Path| memchr::memmem::find(&fs::read(path).unwrap(), MARK).is_some();
    assert!(!has_mark(program()));
    if let Some(built) = sabotage_build() {
        assert!(has_mark(&built));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_probe_has_its_point_and_every_point_its_probe() {
    let Some(built) = sabotage_build() else { return };
    let done = run(keyholder(&built, &["--switched-off", "no-such-control", "provider", "list"])).await;
    assert!(!done.status.success());
    let said = said(&done);
    let points: BTreeSet<&str> = said.trim().rsplit(": ").next().unwrap().split(", ").collect();
    let listed: Vec<&str> = PROBES.iter().flat_map(|probe| probe.points).copied().collect();
    assert!(PROBES.iter().all(|probe| probe.points.first() == Some(&probe.name)));
    let known: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(known.len(), listed.len(), "a point is one probe's alone");
    assert_eq!(known, points);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ordinary_build_switches_nothing_off() {
    let refused = run(keyholder(program(), &["--switched-off", QUICK, "provider", "list"])).await;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let refused = run(keyholder(program(), &["prove", "--sabotage"])).await;
    assert!(!refused.status.success() && said(&refused).contains("--features sabotage"), "{}", said(&refused));
}
