//! OpenFGA's own cases, and ours in the same forms, executed against this engine.
//!
//! The test (`main.rs`) and the report (`examples/conformance.rs`) run the same.

pub(crate) mod language;
pub(crate) mod material;
pub(crate) mod stores;

use std::{collections::BTreeMap, path::Path};

/// How many cases there are, by kind. A case that is not executed is a failure like any other.
const CASES: [(&str, usize); 36] = [
    ("abac, contextual: check", 116),
    ("abac, contextual: list objects", 70),
    ("abac, contextual: list users", 85),
    ("abac: check", 125),
    ("abac: list objects", 75),
    ("abac: list users", 91),
    ("abac: writes", 78),
    ("consolidated_1_1, contextual: check", 282),
    ("consolidated_1_1, contextual: list objects", 211),
    ("consolidated_1_1, contextual: list users", 245),
    ("consolidated_1_1: check", 360),
    ("consolidated_1_1: list objects", 270),
    ("consolidated_1_1: list users", 295),
    ("consolidated_1_1: writes", 494),
    ("language: JSON that has no text", 6),
    ("language: JSON to text", 29),
    ("language: JSON validation", 5),
    ("language: fga.mod", 9),
    ("language: modules that do not fit", 4),
    ("language: modules to JSON", 2),
    ("language: modules to text", 3),
    ("language: object ids", 23),
    ("language: semantics", 84),
    ("language: syntax", 81),
    ("language: text to JSON", 29),
    ("own, contextual: check", 27),
    ("own, contextual: list objects", 11),
    ("own, contextual: list users", 9),
    ("own: JSON to text", 1),
    ("own: check", 33),
    ("own: list objects", 14),
    ("own: list users", 13),
    ("own: semantics", 3),
    ("own: syntax", 6),
    ("own: text to JSON", 1),
    ("own: writes", 29),
];

/// What fails, by the beginning of its name, each with its reason.
const KNOWN_TO_FAIL: [(&str, &str); 0] = [];

/// What came of the cases, by kind.
#[derive(Debug, Default)]
pub(crate) struct Report {
    kinds: BTreeMap<String, Tally>,
    /// What upstream skips too.
    pub(crate) skipped: Vec<String>,
}

/// What came of the cases of one kind.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
}

impl Tally {
    pub(crate) fn executed(&self) -> usize {
        self.passed + self.failed.len()
    }
}

impl Report {
    /// OpenFGA's cases, in the folder that they are in.
    pub(crate) fn openfga(folder: &Path) -> Self {
        let mut report = Self::default();
        language::run(&folder.join("language"), &mut report);
        stores::run(&folder.join("consolidated_1_1_tests.yaml"), &mut report);
        stores::run(&folder.join("abac_tests.yaml"), &mut report);
        report
    }

    /// The project's own.
    pub(crate) fn own() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
        let mut report = Self::default();
        language::run_own(&folder, &mut report);
        stores::run(&folder.join("own_tests.yaml"), &mut report);
        report
    }

    pub(crate) fn note(&mut self, kind: &str, name: &str, outcome: Result<(), String>) {
        let tally = self.kinds.entry(kind.to_owned()).or_default();
        match outcome {
            Ok(()) => tally.passed += 1,
            Err(why) => tally.failed.push(format!("{kind}: {name}: {why}")),
        }
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, &Tally)> {
        self.kinds.iter().map(|(kind, tally)| (kind.as_str(), tally))
    }

    /// What failed and is not known to.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let known = |failure: &&String| !KNOWN_TO_FAIL.iter().any(|(name, _)| failure.starts_with(name));
        self.kinds.values().flat_map(|tally| &tally.failed).filter(known).map(String::as_str).collect()
    }

    /// Kinds of which not just as many were executed as there are.
    pub(crate) fn miscounted(&self, of: impl Fn(&str) -> bool) -> Vec<String> {
        let executed = |kind: &str| self.kinds.get(kind).map_or(0, Tally::executed);
        let known = CASES.iter().filter(|(kind, _)| of(kind)).map(|(kind, count)| (*kind, *count));
        let unknown = self.kinds.keys().filter(|kind| !CASES.iter().any(|(known, _)| known == kind));
        known
            .chain(unknown.map(|kind| (kind.as_str(), 0)))
            .filter(|(kind, count)| executed(kind) != *count)
            .map(|(kind, count)| format!("{kind}: {} executed, there are {count}", executed(kind)))
            .collect()
    }
}

/// Whether two things are the same, told if not.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(got: &T, expected: &T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("\n  got      {got:?}\n  expected {expected:?}")) }
}
