//! Store files: the project's own cases with what they come to, and OpenFGA's, which lie beside the project.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test builds on fails by panicking, as the test does"
)]

use std::path::{Path, PathBuf};

use keyholder_storefile::{Beside, Fault, Report, StoreFile};

fn case(name: &str) -> PathBuf {
    Path::new("tests/cases").join(name)
}

fn run(path: &Path) -> Report {
    let store = StoreFile::open(path, false).unwrap_or_else(|faults| panic!("{}", faults[0]));
    store.run()
}

fn faults(path: &Path) -> Vec<String> {
    StoreFile::open(path, false).unwrap_err().iter().map(Fault::to_string).collect()
}

#[test]
fn modules_files_of_every_form_and_conditions() {
    let report = run(&case("library/store.fga.yaml"));
    assert_eq!((report.passed, report.failures.as_slice()), (14, [].as_slice()));
}

#[test]
fn what_fails_is_told_with_what_was_expected() {
    let report = run(&case("failing.fga.yaml"));
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    let expected = [
        "some fail: check user:anne can_read document:1: expected false, got true",
        "some fail: check user:anne editor document:1: expected false, got no answer: \
         the relation 'editor' is not defined on the type 'document'",
        "some fail: check user:bea viewer document:1: expected false, got no answer: \
         the condition 'small' could not be evaluated: the context lacks the parameters size",
        "some fail: list_objects user:anne can_read document: expected [document:1, document:2], got [document:1]",
        "some fail: list_objects user:anne viewer folder: expected [], got no answer: the type 'folder' is not defined",
        "some fail: list_users user viewer document:1 with {\"size\":30}: \
         expected [user:anne, user:bea], got [user:anne]",
    ];
    assert_eq!((report.passed, failures.as_slice()), (3, expected.map(str::to_owned).as_slice()));
}

#[test]
fn every_fault_has_its_place() {
    let file = |name: &str| case("faulty").join(name).display().to_string();
    let at = |name: &str, rest: &str| format!("{}:{rest}", file(name));

    // The places of a model that stands in the file are the file's.
    let model = faults(&case("faulty/model.fga.yaml"));
    assert_eq!(model, [at("model.fga.yaml", "7:23: `usr` is not a valid type.")]);
    let quoted = faults(&case("faulty/quoted.fga.yaml"));
    assert_eq!(quoted, [at("quoted.fga.yaml", "1:8: `user` is not a valid type. (line 5 of the model)")]);

    let tuple = faults(&case("faulty/tuple.fga.yaml"));
    let expected = [
        "4:5: a tuple that the model does not allow: the relation 'owner' is not defined on the type 'document'",
        "7:5: the tuple of user:anne, viewer and document:1 is there already",
        "10:9: the tuple of user:anne, viewer and document:1 is there already",
        "12:9: a check has either user or users, and not both",
        "13:9: a check needs object or objects",
        "15:9: user_filter has no filter",
    ];
    assert_eq!(tuple, expected.map(|rest| at("tuple.fga.yaml", rest)));

    let files = faults(&case("faulty/files.fga.yaml"));
    let expected = [
        "2:13: the model file ./missing.fga: it cannot be read",
        "3:13: the tuple file ../library/tuples.yaml: it lies outside the store file's folder",
        "4:15: the tuple file ./store.txt: it cannot be read",
    ];
    for (fault, rest) in files.iter().zip(expected) {
        assert!(fault.starts_with(&at("files.fga.yaml", rest)), "{fault}");
    }
    // A store file is no list of tuples.
    assert!(files[3].starts_with(&at("tuple.fga.yaml", "1:1: ")), "{}", files[3]);
    assert_eq!(files.len(), 4);

    let key = faults(&case("faulty/key.fga.yaml"));
    assert_eq!(key.len(), 1);
    assert!(key[0].starts_with(&at("key.fga.yaml", "4:5: unknown field `chek`")), "{}", key[0]);
}

#[test]
fn what_is_no_store_file() {
    let nothing = Beside::nothing();
    let read = |text: &str| StoreFile::read("s", text, &nothing).unwrap_err()[0].to_string();
    assert_eq!(read(""), "s: the file is empty");
    assert_eq!(read("name: a\ntests: []\n"), "s: there is neither a model nor a model_file");
    assert_eq!(
        read("model_file: a.fga\ntests: []\n"),
        "s:1:13: the model file a.fga: there are no files beside this one"
    );
    assert_eq!(read("tests: []\ntests: []\n"), "s:2:1: duplicate mapping key `tests` is not allowed here");
    assert!(read("tests: []\n---\ntests: []\n").contains("only single YAML document"));
    assert!(read(&"#".repeat(9 * 1024 * 1024)).contains("longer than"));
    let model = "model: \"model\\n  schema 1.1\\ntype user\"\n";
    assert_eq!(read(model), "s: there are no tests");
    let many = "user:a, ".repeat(400);
    let check = format!("users: [{many}], objects: [{many}], assertions: {{ a: true }}");
    assert_eq!(
        read(&format!("{model}tests: [{{ check: [{{ {check} }}] }}]\n")),
        "s: the tests ask more than 100000 questions"
    );
}

/// The folder with OpenFGA's cases.
#[expect(clippy::disallowed_methods, reason = "a test asks whether it may leave something out")]
fn material() -> Option<PathBuf> {
    use std::io::Write as _;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/openfga/language/stores");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{} is not there", folder.display());
    let line = format!("NOT RUN: OpenFGA's store files; {} is not there\n", folder.display());
    std::io::stderr().write_all(line.as_bytes()).ok();
    None
}

#[test]
fn the_cases_of_openfga_come_to_what_they_should() {
    let Some(folder) = material() else { return };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert_eq!(cases.len(), 4, "all of them have an outcome here");
    for valid in &cases[..2] {
        let report = run(&valid.join("store.fga.yaml"));
        assert_eq!((report.passed, report.failed()), (3, 0), "{}", valid.display());
    }
    let missing = StoreFile::open(&cases[2].join("store.fga.yaml"), false).unwrap_err();
    assert_eq!(missing[0].message, "there is neither a model nor a model_file");
    // OpenFGA's schema tells both; what reads the file ends at the first.
    let additional = StoreFile::open(&cases[3].join("store.fga.yaml"), false).unwrap_err();
    assert_eq!(additional[0].place, Some((20, 9)), "{}", additional[0]);
    assert!(additional[0].message.starts_with("unknown field `unexpected_field`"), "{}", additional[0]);
}
