//! A text of the modelling language: read, validated, and written again as the same model.

use relation::{
    Schema,
    language::{self, ModuleFile, WriteOptions},
    model::{Fault, Model},
};

/// Reads the bytes as a model, as a module and as an `fga.mod`.
///
/// # Panics
/// Where a sound model does not come back from its JSON or from its text; where a fault lies outside the text.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = language::read_mod_file(&text);
    let file = ModuleFile { name: "module.fga".to_owned(), text: text.clone().into_owned() };
    let _ = language::combine(&[file], "1.2");
    let parsed = match language::parse(&text) {
        Ok(parsed) => parsed,
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            return lie_within(&faults, &text);
        }
    };
    lie_within(&parsed.validate(), &text);
    lie_within(&parsed.validate_conditions(), &text);
    let Ok(model) = language::read_model(&text) else { return };
    assert!(Schema::new(model.clone()).is_ok(), "a model that validates is none that can be compiled");
    assert_eq!(Model::from_json(&model.to_json()).as_ref(), Ok(&model), "from JSON");
    if parsed.module().is_some() {
        return;
    }
    let Ok(written) = language::write(&model, WriteOptions::default()) else { return };
    let again = language::read_model(&written).unwrap_or_else(|faults| panic!("{written}\n{}", faults[0]));
    assert_eq!(again, model, "{written}");
    assert_eq!(language::write(&again, WriteOptions::default()).as_ref(), Ok(&written));
}

fn lie_within(faults: &[Fault], text: &str) {
    let lines = text.split('\n').count();
    for fault in faults {
        let Some(place) = &fault.place else { continue };
        assert!(place.line.start <= lines, "{fault} at {place:?} of {lines} lines");
    }
}
