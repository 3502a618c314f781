//! Conformance: every case of OpenFGA's files, and ours in the same forms.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test builds on fails by panicking, as the test does"
)]

mod suite;

use suite::{Report, material};

fn passes(report: &Report, of: impl Fn(&str) -> bool) {
    let failures = report.failures();
    let kinds = report.kinds().map(|(kind, tally)| format!("{kind}: {} of {}", tally.failed.len(), tally.executed()));
    let kinds: Vec<String> = kinds.collect();
    assert!(failures.is_empty(), "failed: {}\n{}", kinds.join(", "), failures.join("\n"));
    let miscounted = report.miscounted(of);
    assert!(miscounted.is_empty(), "{}", miscounted.join("\n"));
}

#[test]
fn openfgas_cases_pass() {
    if let Some(folder) = material::folder() {
        let report = Report::openfga(&folder);
        passes(&report, |kind| !kind.starts_with("own"));
        assert_eq!(report.skipped.len(), 7, "{:?}", report.skipped);
    }
}

#[test]
fn our_own_cases_pass() {
    passes(&Report::own(), |kind| kind.starts_with("own"));
}
