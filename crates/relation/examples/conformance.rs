//! The conformance report: passed and failed by kind, and what failed.
//!
//! `cargo run -p keyholder-relation --example conformance`
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a report on files that it cannot read ends"
)]

#[path = "../tests/conformance/suite/mod.rs"]
mod suite;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use suite::{Report, material};

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut clean = true;
    let own = [("own", Report::own())];
    let openfga = material::folder().map(|folder| ("OpenFGA", Report::openfga(&folder)));
    for (whose, report) in openfga.into_iter().chain(own) {
        let (mut passed, mut failed) = (0, 0);
        for (kind, tally) in report.kinds() {
            writeln!(out, "{kind:<45} {:>5} passed {:>5} failed", tally.passed, tally.failed.len())?;
            passed += tally.passed;
            failed += tally.failed.len();
        }
        writeln!(out, "{:<45} {passed:>5} passed {failed:>5} failed", format!("{whose}, all"))?;
        writeln!(out, "skipped, as upstream skips them: {}", report.skipped.len())?;
        for failure in report.failures() {
            writeln!(out, "{failure}")?;
        }
        let of = |kind: &str| kind.starts_with("own") == (whose == "own");
        for miscounted in report.miscounted(of) {
            writeln!(out, "{miscounted}")?;
            clean = false;
        }
        clean &= report.failures().is_empty();
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
