//! The model of a store file: written in it, or in a file beside it in any of the forms that OpenFGA's tools know.

use std::path::Path;

use relation::{
    Schema,
    language::{self, ModuleFile},
    model::{Fault as ModelFault, FaultKind, Model, Place},
};
use serde_saphyr::Spanned;

use crate::{beside::Beside, fault::Fault, store::beside_name, yaml};

/// The longest model as JSON, in bytes: OpenFGA takes 256 KiB in its own, shorter form.
const JSON_BYTES: u64 = 4 * 1024 * 1024;
/// The longest text, a byte more than the language's reader takes, so that it is that one's message that is seen.
const TEXT_BYTES: u64 = language::TEXT_BYTES as u64 + 1;

type Read<T> = Result<T, Vec<Fault>>;

/// The model that stands in a store file.
///
/// # Errors
/// Everything that is wrong with it, with its place in the store file.
pub(crate) fn inline(file: &str, text: &str, model: &Spanned<String>) -> Read<Schema> {
    let begin = begin_of_block(text, model);
    of_text(&model.value, |fault| {
        let own = yaml::place(model.referenced);
        let place = match (begin, &fault.place) {
            (Some((line, column)), Some(place)) => Some((line + at(place).0, column + at(place).1)),
            _ => own,
        };
        let message = match (begin, &fault.place) {
            (None, Some(place)) => format!("{} (line {} of the model)", fault.message, at(place).0 + 1),
            _ => fault.message,
        };
        Fault::new(file, place, message)
    })
}

/// Where the first line of a block (`model: |`) stands. In a text between quotes, and in a folded one, lines are not the file's.
fn begin_of_block(text: &str, model: &Spanned<String>) -> Option<(u64, u64)> {
    let begin = usize::try_from(model.defined.span().byte_offset()?).ok()?;
    let written = text.get(begin..)?.lines().map(str::trim);
    let same = model.value.lines().zip(written).all(|(line, written)| line.trim() == written);
    if same { yaml::place(model.defined) } else { None }
}

/// A place's line and column, from 0.
fn at(place: &Place) -> (u64, u64) {
    (place.line.start as u64, place.column.start as u64)
}

/// The model in a file: `.json`, `fga.mod` with its modules, or the language.
///
/// # Errors
/// Everything that is wrong with it; where it cannot be read, at the place that names it.
pub(crate) fn of_file(beside: &Beside, name: &str, shown: &str, named: impl Fn(String) -> Fault) -> Read<Schema> {
    let unreadable = |error| vec![named(format!("the model file {name}: {error}"))];
    let last = Path::new(name).file_name().and_then(|last| last.to_str()).unwrap_or_default();
    if last == "fga.mod" {
        let text = beside.read(name, TEXT_BYTES).map_err(unreadable)?;
        return of_modules(beside, name, shown, &text);
    }
    if Path::new(last).extension().is_some_and(|extension| extension == "json") {
        let text = beside.read(name, JSON_BYTES).map_err(unreadable)?;
        return of_json(shown, &text);
    }
    let text = beside.read(name, TEXT_BYTES).map_err(unreadable)?;
    of_text(&text, |fault| in_file(shown, fault))
}

fn in_file(file: &str, fault: ModelFault) -> Fault {
    let place = fault.place.as_ref().map(|place| (at(place).0 + 1, at(place).1 + 1));
    Fault::new(file, place, fault.message)
}

fn of_text(text: &str, placed: impl Fn(ModelFault) -> Fault) -> Read<Schema> {
    let placed = |faults: Vec<ModelFault>| faults.into_iter().map(&placed).collect::<Vec<_>>();
    let parsed = language::parse(text).map_err(&placed)?;
    let mut faults = parsed.validate();
    // OpenFGA's server takes a model with a condition that nobody uses.
    faults.retain(|fault| fault.kind != FaultKind::ConditionNotUsed);
    faults.extend(parsed.validate_conditions());
    if !faults.is_empty() {
        return Err(placed(faults));
    }
    Schema::new(parsed.model().clone()).map_err(placed)
}

fn of_json(file: &str, text: &str) -> Read<Schema> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let place = (error.line() > 0).then(|| (error.line() as u64, error.column() as u64));
        vec![Fault::new(file, place, format!("the model is no JSON: {error}"))]
    })?;
    let model = Model::from_json(&json).map_err(|fault| vec![Fault::new(file, None, fault.to_string())])?;
    Schema::new(model).map_err(|faults| faults.into_iter().map(|fault| in_file(file, fault)).collect())
}

fn of_modules(beside: &Beside, name: &str, shown: &str, text: &str) -> Read<Schema> {
    let of_mod_file =
        |faults: Vec<ModelFault>| faults.into_iter().map(|fault| in_file(shown, fault)).collect::<Vec<_>>();
    let listed = language::read_mod_file(text).map_err(of_mod_file)?;
    let (mut files, mut faults, mut bytes) = (Vec::new(), Vec::new(), 0);
    for module in &listed.contents.value {
        let place = Some((at(&module.place).0 + 1, at(&module.place).1 + 1));
        match beside.read(&beside_name(name, &module.value), TEXT_BYTES) {
            Ok(text) => {
                bytes += text.len();
                files.push(ModuleFile { name: module.value.clone(), text });
            }
            Err(error) => faults.push(Fault::new(shown, place, format!("the module {}: {error}", module.value))),
        }
        if bytes > language::TEXT_BYTES {
            let message = format!("the modules together are longer than {} bytes", language::TEXT_BYTES);
            return Err(vec![Fault::new(shown, place, message)]);
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let of_module = |faults: Vec<ModelFault>| {
        let one = |fault: ModelFault| {
            let file = fault.place.as_ref().and_then(|place| place.file.as_ref());
            in_file(&file.map_or_else(|| shown.to_owned(), |file| beside_name(shown, file)), fault)
        };
        faults.into_iter().map(one).collect::<Vec<_>>()
    };
    let model = language::combine(&files, &listed.schema.value).map_err(of_module)?;
    Schema::new(model).map_err(of_module)
}
