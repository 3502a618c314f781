//! The demonstration, as a newcomer runs it: the binary itself, once told to a person and once to a program.

use std::process::Command;

use serde_json::Value;

use crate::harness::variable;

fn demo(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyholder"));
    command.arg("demo").args(arguments);
    if let Some(postgres) = variable("KEYHOLDER_POSTGRES_BIN") {
        command.args(["--postgres", &postgres]);
    }
    command.output().unwrap()
}

#[test]
fn a_program_is_told_one_line() {
    let told = demo(&["--json"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let failed: Vec<_> = steps.iter().filter(|step| step["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!((report["passed"].as_u64(), report["failed"].as_u64()), (Some(steps.len() as u64), Some(0)));
    assert!(steps.len() >= 11);
    assert!(told.status.success());
}

#[test]
fn a_person_is_told_a_story() {
    let told = demo(&[]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(text.lines().last(), Some("11 passed, 0 failed"), "{text}");
    assert!(told.status.success());
}

/// A short soak: some of the faults, all of the counts. Which faults come, the seed decides.
#[test]
fn a_soak_accounts_for_every_act_budget_and_token() {
    let told = demo(&["--soak", "15", "--seed", "4", "--json"]);
    let complaints = String::from_utf8_lossy(&told.stderr).into_owned();
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}{complaints}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name}: {report}"));
    for none in [
        "effects_repeated",
        "budget_overspent",
        "tokens_lost",
        "unfinished",
        "effects_missing",
        "effects_unsaid",
        "given_up",
        "replays_punished",
    ] {
        assert_eq!(count(none), 0, "{none}: {report}");
    }
    assert_eq!(count("acts"), count("settled") + count("not_sent") + count("ambiguous"), "{report}");
    assert_eq!(report["budget_drift"], 0, "{report}");
    assert_eq!(count("narrow_used"), count("narrow_cap"), "the small budget is spent to its last unit: {report}");
    assert!(count("narrow_effects") <= count("narrow_cap"), "{report}");
    assert!(count("effects") > 0 && count("effects") <= count("acts"), "{report}");
    // Memory and the time for which an act is stuck depend on the machine, and are judged by the long soak.
    assert!(count("faults") >= 1 && count("rss_first_mib") > 0 && count("rss_last_mib") > 0, "{report}");
    assert_eq!(report["complaints"], serde_json::json!([]), "{report}");
}

#[test]
fn a_soak_is_no_story_that_is_kept() {
    let told = demo(&["--soak", "1", "--keep"]);
    assert_eq!(told.status.code(), Some(2));
    let told = demo(&["--seed", "1"]);
    assert_eq!(told.status.code(), Some(2));
}
