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

#[test]
fn checks_and_lists_are_openfgas() {
    let Some(folder) = suite::material::folder() else { return };
    let mut report = suite::Report::default();
    suite::stores::run(&folder.join("consolidated_1_1_tests.yaml"), &mut report);
    suite::stores::run(&folder.join("abac_tests.yaml"), &mut report);
    assert!(report.failures().is_empty(), "{} failed:\n{}\n{:#?}", report.failures().len(), report.failures().join("\n"), report.executed());
    println!("{:#?}", report.executed());
}
