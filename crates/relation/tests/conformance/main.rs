//! The conformance test: every case of OpenFGA's files, and how many there are.

mod suite;

#[test]
fn the_language_is_openfgas() {
    let Some(folder) = suite::material::folder() else { return };
    let mut report = suite::Report::default();
    suite::language::run(&folder, &mut report);
    assert!(report.failures().is_empty(), "{} failed:\n{}\n{:#?}", report.failures().len(), report.failures().join("\n"), report.executed());
    println!("{:#?}", report.executed());
}
