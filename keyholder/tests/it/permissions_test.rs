//! `permissions test`: what it says of store files, to a person and to a program, and with which exit code.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};

use crate::harness::variable;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/storefile/tests/cases").join(name)
}

fn run(arguments: &[&str], files: &[PathBuf]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keyholder"));
    // No configuration, no database: the command asks for neither.
    command.env_clear().args(["permissions", "test"]).args(arguments).args(files).output().unwrap()
}

fn json_of(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().count(), 1, "{said}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn each_file_is_told_and_the_exit_code_is_the_whole() {
    let library = case("library/store.fga.yaml");
    let good = run(&[], std::slice::from_ref(&library));
    assert_eq!(good.status.code(), Some(0));
    let said = String::from_utf8_lossy(&good.stdout).replace(&library.display().to_string(), "FILE");
    assert_eq!(said, "FILE: 14 passed, 0 failed\n14 passed, 0 failed\n");

    let failing = case("failing.fga.yaml");
    let faulty = case("faulty/model.fga.yaml");
    let files = [library.clone(), failing.clone(), faulty.clone()];
    let mixed = run(&["--json"], &files);
    assert_eq!(mixed.status.code(), Some(1));
    let mut report = json_of(&mixed);
    let failures = report["files"][1]["failures"].take();
    assert_eq!(failures.as_array().map(Vec::len), Some(6));
    assert_eq!(failures[0], "some fail: check user:anne can_read document:1: expected false, got true");
    let fault = format!("{}:7:23: `usr` is not a valid type.", faulty.display());
    let expected = json!({
        "files": [
            { "file": library, "passed": 14, "failed": 0, "failures": [] },
            { "file": failing, "passed": 3, "failed": 6, "failures": null },
            { "file": faulty, "passed": 0, "failed": 1, "failures": [fault] },
        ],
        "passed": 17,
        "failed": 7,
    });
    assert_eq!(report, expected);

    let words = run(&[], &files);
    assert_eq!(words.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&words.stdout).ends_with("\n17 passed, 7 failed\n"));
}

#[test]
fn files_outside_the_folder_are_read_only_when_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    std::fs::write(folder.path().join("model.fga"), "model\n  schema 1.1\ntype user\n").unwrap();
    let store = folder.path().join("tests/store.fga.yaml");
    std::fs::write(&store, "model_file: ../model.fga\ntests: []\n").unwrap();
    let files = [store];
    let refused = run(&["--json"], &files);
    assert_eq!(refused.status.code(), Some(1));
    let why = json_of(&refused)["files"][0]["failures"][0].to_string();
    assert!(why.contains("store.fga.yaml:1:13: the model file ../model.fga: it lies outside"), "{why}");
    assert_eq!(run(&["--allow-external-files"], &files).status.code(), Some(0));
    assert_eq!(run(&[], &[folder.path().join("missing")]).status.code(), Some(1));
    assert_eq!(run(&[], &[]).status.code(), Some(2));
}

/// A file that unfolds to gigabytes, and one that is nested without end, are refused and no more.
#[test]
fn a_hostile_file_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let laugh =
        |at: usize| format!("tests{at}: &a{at} [{}]", vec![format!("*a{}", at.saturating_sub(1)); 10].join(", "));
    let first = "name: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned();
    let laughs = [first].into_iter().chain((1..12).map(laugh)).collect::<Vec<_>>().join("\n");
    let texts = [laughs, "[".repeat(1_000_000), "tests: ".to_owned() + &"{check: ".repeat(100_000), "\u{0}".repeat(64)];
    let files: Vec<PathBuf> = (0..)
        .zip(&texts)
        .map(|(at, text)| {
            let file = folder.path().join(format!("{at}.fga.yaml"));
            std::fs::write(&file, text).unwrap();
            file
        })
        .collect();
    let output = run(&["--json"], &files);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json_of(&output);
    assert_eq!((report["passed"].clone(), report["failed"].clone()), (json!(0), json!(4)), "{report}");
}

#[test]
fn the_store_files_of_openfga_come_to_what_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/openfga/language/stores");
    if !folder.is_dir() {
        assert_ne!(variable("CI").as_deref(), Some("true"), "{} is not there", folder.display());
        writeln!(std::io::stderr(), "NOT RUN: OpenFGA's store files, which are not at {}", folder.display()).unwrap();
        return;
    }
    let outcomes = [
        ("00-valid-model", 3, 0),
        ("01-valid-model-file", 3, 0),
        ("02-missing-model", 0, 1),
        ("03-additional-properties", 0, 1),
    ];
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), outcomes.len());
    let files = outcomes.map(|(name, ..)| folder.join(name).join("store.fga.yaml"));
    let report = json_of(&run(&["--json"], &files));
    for (file, (name, passed, failed)) in report["files"].as_array().unwrap().iter().zip(outcomes) {
        assert_eq!((&file["passed"], &file["failed"]), (&json!(passed), &json!(failed)), "{name}: {file}");
    }
    let faults = [&report["files"][2]["failures"][0], &report["files"][3]["failures"][0]].map(Value::to_string);
    assert!(faults[0].contains("there is neither a model nor a model_file"), "{}", faults[0]);
    assert!(faults[1].contains(":20:9: unknown field `unexpected_field`"), "{}", faults[1]);
}
