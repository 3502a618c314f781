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
