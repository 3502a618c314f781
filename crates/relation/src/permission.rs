//! Keyholder's own model: `permission/model.fga`, compiled, alone or with what a blueprint adds to it.
//!
//! What a blueprint adds is a module of the same language: types of its own, and relations of its own on types of the house. Nothing of
//! the house can be said anew or wider by it; where it tries, or is wrong otherwise, there is no model, and the process does not start.

mod objects;
mod roles;
mod standing;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use crate::{
    language::{ModuleFile, combine},
    model::{Fault, FaultKind, Model, Place},
    schema::Schema,
};

pub use self::{
    objects::{PLACES, object_types},
    roles::{grantable, granted_by},
    standing::{Example, ROLES, Standing},
};

/// The file of the house's own model, as places name it.
pub const OWN_FILE: &str = "model.fga";
const OWN: &str = include_str!("permission/model.fga");
/// Models that are put together from modules are of this version of the language.
const SCHEMA_VERSION: &str = "1.2";

/// What is wrong with an addition to the model, and where, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ModelFault {
    /// What.
    pub message: String,
    /// Where in the addition: line and column. None where it is no one place.
    pub at: Option<(usize, usize)>,
}

impl fmt::Display for ModelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{line}:{column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<Fault> for ModelFault {
    fn from(Fault { message, place, .. }: Fault) -> Self {
        let at = place.map(|Place { line, column, .. }| (line.start + 1, column.start + 1));
        Self { message, at }
    }
}

/// The house's own model, compiled once.
pub fn own() -> Arc<Schema> {
    // Where the text were not sound, nobody would be permitted anything; a test compiles it.
    static COMPILED: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(compile(&own_file()).unwrap_or_default()));
    Arc::clone(&COMPILED)
}

/// The house's own model with an addition: a text that begins with `module`.
///
/// # Errors
/// Everything that is wrong with the addition, in the order of its lines.
pub fn with_addition(name: &str, text: &str) -> Result<Arc<Schema>, Vec<ModelFault>> {
    let addition = ModuleFile { name: name.to_owned(), text: text.to_owned() };
    let [house] = own_file();
    let compiled = compile(&[house, addition]).and_then(|schema| {
        let mut faults = widened(own().model(), schema.model());
        if domain::sabotaged!(HouseModel) {
            faults.clear();
        }
        faults.extend(objects::lacking(&schema));
        if faults.is_empty() { Ok(schema) } else { Err(faults) }
    });
    compiled.map(Arc::new).map_err(|mut faults| {
        faults.sort_by(|one, other| one.place.cmp(&other.place));
        faults.into_iter().map(ModelFault::from).collect()
    })
}

fn own_file() -> [ModuleFile; 1] {
    [ModuleFile { name: OWN_FILE.to_owned(), text: OWN.to_owned() }]
}

fn compile(files: &[ModuleFile]) -> Result<Schema, Vec<Fault>> {
    combine(files, SCHEMA_VERSION).and_then(Schema::new)
}

/// What the house says and the whole says otherwise. Putting modules together lets none do that; this asks the result.
fn widened(house: &Model, whole: &Model) -> Vec<Fault> {
    let relations = house.types.iter().flat_map(|kind| kind.relations.iter().map(move |named| (&kind.name, named)));
    let changed = relations.filter(|(kind, (name, relation))| {
        let found = whole.types.iter().find(|other| other.name == **kind).and_then(|kind| kind.relations.get(*name));
        found.is_none_or(|found| (&found.rewrite, &found.restrictions) != (&relation.rewrite, &relation.restrictions))
    });
    changed
        .map(|(kind, (name, _))| Fault {
            message: format!("the relation `{name}` of `{kind}` is the house's own"),
            kind: FaultKind::Module,
            place: None,
        })
        .collect()
}
