//! The language: pairs of text and JSON, and everything that can be wrong with a text or a model.

use std::{fs, path::Path};

use keyholder_relation::{
    is_plain_object_id,
    language::{ModuleFile, WriteOptions, combine, parse, read_mod_file, write},
    model::{Fault, Model, Span, validate},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Report, material, same};

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    dsl: String,
    #[serde(default)]
    json: String,
    #[serde(default, rename = "modFile")]
    mod_file: String,
    #[serde(default)]
    skip: bool,
    object_id: Option<String>,
    valid: Option<bool>,
    error_message: Option<String>,
    expected_errors: Option<Vec<Expected>>,
}

#[derive(Deserialize, Clone)]
struct Expected {
    msg: String,
    file: Option<String>,
    line: Option<Lines>,
    column: Option<Lines>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize, Clone, Copy)]
struct Lines {
    start: usize,
    end: usize,
}

#[derive(Deserialize, Clone)]
struct Metadata {
    #[serde(rename = "errorType")]
    error_type: Option<String>,
}

/// A fault in comparable form: message, file, lines, columns, kind.
type Told = (String, Option<String>, Option<(Span, Span)>, Option<String>);

fn expected(case: &[Expected], with_kind: bool) -> Vec<Told> {
    let span = |lines: Lines| Span { start: lines.start, end: lines.end };
    let told: Vec<Told> = case
        .iter()
        .map(|error| {
            let kind = error.metadata.as_ref().and_then(|metadata| metadata.error_type.clone()).filter(|_| with_kind);
            (error.msg.clone(), error.file.clone(), error.line.map(span).zip(error.column.map(span)), kind)
        })
        .collect();

    told
}

fn told(faults: &[Fault], with_kind: bool) -> Vec<Told> {
    let told: Vec<Told> = faults
        .iter()
        .map(|fault| {
            let place = fault.place.clone();
            (
                fault.message.clone(),
                place.as_ref().and_then(|place| place.file.clone()),
                place.map(|place| (place.line, place.column)),
                with_kind.then(|| fault.kind.name().to_owned()),
            )
        })
        .collect();

    told
}

/// Runs everything in a folder like OpenFGA's `language`.
pub(crate) fn run(folder: &Path, report: &mut Report) {
    transformer(&folder.join("transformer"), "language", report);
    syntax(&folder.join("dsl-syntax-validation-cases.yaml"), "language", report);
    semantics(&folder.join("dsl-semantic-validation-cases.yaml"), "language", report);
    json_validation(&folder.join("json-validation-cases.yaml"), report);
    json_to_text(&folder.join("json-syntax-transformer-validation-cases.yaml"), report);
    object_ids(&folder.join("object-id-validation-cases.yaml"), report);
    mod_files(&folder.join("fga-mod-transformer-cases.yaml"), report);
    modules(&folder.join("transformer-module"), report);
}

/// Runs our own.
pub(crate) fn run_own(folder: &Path, report: &mut Report) {
    transformer(&folder.join("transformer"), "own", report);
    syntax(&folder.join("own-syntax-cases.yaml"), "own", report);
    semantics(&folder.join("own-semantic-cases.yaml"), "own", report);
}

fn model_of(json: &Value) -> Result<Model, String> {
    Model::from_json(json).map_err(|fault| fault.to_string())
}

fn messages(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{} at {:?}", fault.message, fault.place)).collect::<Vec<_>>().join("; ")
}

fn transformer(folder: &Path, whose: &str, report: &mut Report) {
    for pair in material::folders(folder) {
        let name = material::name(&pair);
        let text = material::text(&pair.join("authorization-model.fga"));
        let json = material::json(&pair.join("authorization-model.json"));
        let read = parse(&text)
            .map_err(|faults| messages(&faults))
            .and_then(|parsed| same(&completed(parsed.model().to_json()), &completed(json.clone())));
        report.note(&format!("{whose}: text to JSON"), &name, read);
        let written = model_of(&json)
            .and_then(|model| write(&model, WriteOptions::default()).map_err(|error| error.to_string()))
            .and_then(|written| same(&written, &text));
        report.note(&format!("{whose}: JSON to text"), &name, written);
    }
}

/// Without what means nothing: members that are null, and conditions that are none.
fn completed(mut json: Value) -> Value {
    if let Some(object) = json.as_object_mut() {
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        object.retain(|name, value| !value.is_null() && (name != "conditions" || !empty(value)));
    }
    if let Some(types) = json.get_mut("type_definitions").and_then(Value::as_array_mut) {
        for kind in types {
            kind.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
    }
    json
}

fn syntax(path: &Path, whose: &str, report: &mut Report) {
    for case in material::yaml::<Vec<Case>>(path) {
        let faults = parse(&case.dsl).err().unwrap_or_default();
        let errors = case.expected_errors.unwrap_or_default();
        report.note(&format!("{whose}: syntax"), &case.name, same(&told(&faults, false), &expected(&errors, false)));
    }
}

fn semantics(path: &Path, whose: &str, report: &mut Report) {
    for case in material::yaml::<Vec<Case>>(path) {
        if case.skip {
            report.skipped.push(case.name);
            continue;
        }
        let outcome = parse(&case.dsl).map_err(|faults| messages(&faults)).and_then(|parsed| {
            same(&told(&parsed.validate(), true), &expected(&case.expected_errors.unwrap_or_default(), true))
        });
        report.note(&format!("{whose}: semantics"), &case.name, outcome);
    }
}

fn json_validation(path: &Path, report: &mut Report) {
    for case in material::yaml::<Vec<Case>>(path) {
        let outcome = serde_json::from_str(&case.json).map_err(|error| error.to_string()).and_then(|json| {
            let mut faults = validate(&model_of(&json)?);
            for fault in &mut faults {
                fault.place = None;
            }
            same(&told(&faults, true), &expected(&case.expected_errors.unwrap_or_default(), true))
        });
        report.note("language: JSON validation", &case.name, outcome);
    }
}

fn json_to_text(path: &Path, report: &mut Report) {
    for case in material::yaml::<Vec<Case>>(path) {
        let valid = case.valid.unwrap_or(true);
        let written = serde_json::from_str(&case.json)
            .map_err(|error| error.to_string())
            .and_then(|json| write(&model_of(&json)?, WriteOptions::default()).map_err(|error| error.to_string()));
        let outcome = match (written, valid) {
            (Ok(text), true) => parse(&text).map(|_| ()).map_err(|faults| messages(&faults)),
            (Ok(text), false) => Err(format!("was written as {text}")),
            (Err(message), false) => same(&Some(message), &case.error_message),
            (Err(message), true) => Err(message),
        };
        report.note("language: JSON that has no text", &case.name, outcome);
    }
}

fn object_ids(path: &Path, report: &mut Report) {
    for case in material::yaml::<Vec<Case>>(path) {
        let valid = is_plain_object_id(case.object_id.as_deref().unwrap());
        report.note("language: object ids", &case.name, same(&Some(valid), &case.valid));
    }
}

fn mod_files(path: &Path, report: &mut Report) {
    for case in material::yaml::<Vec<Case>>(path) {
        let outcome = match (read_mod_file(&case.mod_file), case.expected_errors) {
            (Ok(read), None) => {
                let place = |place: &keyholder_relation::model::Place| {
                    serde_json::json!({
                        "line": { "start": place.line.start, "end": place.line.end },
                        "column": { "start": place.column.start, "end": place.column.end },
                    })
                };
                let placed = |value: Value, at: &keyholder_relation::model::Place| {
                    let mut json = place(at);
                    json["value"] = value;
                    json
                };
                let contents =
                    read.contents.value.iter().map(|file| placed(file.value.clone().into(), &file.place)).collect();
                let got = serde_json::json!({
                    "schema": placed(read.schema.value.into(), &read.schema.place),
                    "contents": placed(Value::Array(contents), &read.contents.place),
                });
                same(&got, &serde_json::from_str(&case.json).unwrap())
            }
            (Err(faults), Some(errors)) => same(&told(&faults, false), &expected(&errors, false)),
            (Ok(_), Some(_)) => Err("was taken".to_owned()),
            (Err(faults), None) => Err(messages(&faults)),
        };
        report.note("language: fga.mod", &case.name, outcome);
    }
}

fn modules(folder: &Path, report: &mut Report) {
    for case in material::folders(folder) {
        let name = material::name(&case);
        let combined = case.join("module").exists().then(|| combine(&module_files(&case.join("module")), "1.2"));
        let errors = case.join("expected_errors.json");
        if errors.exists() {
            let errors: Vec<Expected> = serde_json::from_str(&material::text(&errors)).unwrap();
            let faults = combined.clone().unwrap().err().unwrap_or_default();
            report.note(
                "language: modules that do not fit",
                &name,
                same(&told(&faults, false), &expected(&errors, false)),
            );
        }
        let model = case.join("authorization-model.json");
        if !model.exists() {
            continue;
        }
        let json = material::json(&model);
        if let Some(combined) = combined {
            let outcome = combined
                .map_err(|faults| messages(&faults))
                .and_then(|model| same(&sorted_types(model.to_json()), &sorted_types(json.clone())));
            report.note("language: modules to JSON", &name, outcome);
        }
        let written = model_of(&json).and_then(|model| {
            same(
                &model.modules(),
                &serde_json::from_value(material::json(&case.join("expected_modules.json"))).unwrap(),
            )?;
            for (file, with_source) in [("combined.fga", false), ("combined-sourceinfo.fga", true)] {
                if case.join(file).exists() {
                    let text = write(&model, WriteOptions { with_source }).map_err(|error| error.to_string())?;
                    same(&text, &material::text(&case.join(file)))?;
                }
            }
            Ok(())
        });
        report.note("language: modules to text", &name, written);
    }
}

fn module_files(folder: &Path) -> Vec<ModuleFile> {
    let mut files: Vec<ModuleFile> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| ModuleFile { name: material::name(&path), text: material::text(&path) })
        .collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

/// The order of the types is that of the files, which no case fixes.
fn sorted_types(json: Value) -> Value {
    let mut json = completed(json);
    let types = json["type_definitions"].as_array_mut().unwrap();
    types.sort_by_key(|kind| kind["type"].as_str().unwrap().to_owned());
    json
}
