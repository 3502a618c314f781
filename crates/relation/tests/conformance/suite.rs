//! OpenFGA's own cases, executed against this engine. The test and the report (`examples/conformance.rs`) run the same.

#[path = "language.rs"]
pub(crate) mod language;
#[path = "stores.rs"]
pub(crate) mod stores;
#[path = "material.rs"]
pub(crate) mod material;

use std::collections::BTreeMap;

/// What came of the cases, by kind.
#[derive(Debug, Default)]
pub(crate) struct Report {
    kinds: BTreeMap<String, Tally>,
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

    pub(crate) fn failures(&self) -> Vec<&str> {
        self.kinds.values().flat_map(|tally| &tally.failed).map(String::as_str).collect()
    }

    pub(crate) fn executed(&self) -> BTreeMap<&str, usize> {
        self.kinds().map(|(kind, tally)| (kind, tally.executed())).collect()
    }
}

/// Whether two things are the same, told if not.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(got: &T, expected: &T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("\n  got      {got:?}\n  expected {expected:?}")) }
}
