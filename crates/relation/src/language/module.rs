//! Modules put together into one model.
//!
//! All types first, then what other modules add to them, so that the order of the files decides nothing but the order of the types.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use super::{Parsed, parse};
use crate::model::{
    Fault, FaultKind, Faults, Model, Place, Places, TypeDefinition, TypePlaces, naming_faults, validate_placed,
};

/// How many files a model may be made of.
const FILES: usize = 1_000;

/// A file of a modular model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFile {
    /// As `fga.mod` names it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Puts modules together and validates the model.
///
/// # Errors
/// Everything that is wrong with the files and with how they fit together, and how things are named; or, where that is sound, with
/// the model.
pub fn combine(files: &[ModuleFile], schema_version: &str) -> Result<Model, Vec<Fault>> {
    if files.len() > FILES {
        let message = format!("there are more than {FILES} files");
        return Err(vec![Fault { message, kind: FaultKind::TooLarge, place: None }]);
    }
    let mut combination = Combination {
        model: Model { schema_version: schema_version.to_owned(), ..Model::default() },
        places: Places::default(),
        faults: Faults::default(),
        extensions: Vec::new(),
        by_name: HashMap::new(),
    };
    for file in files {
        combination.add(file);
    }
    for (file, extension, places) in std::mem::take(&mut combination.extensions) {
        combination.extend(&file, extension, &places);
    }
    let Combination { model, places, mut faults, .. } = combination;
    let more = if faults.is_empty() { validate_placed(&model, &places) } else { naming_faults(&model, &places) };
    for fault in more {
        faults.add(fault);
    }
    if faults.is_empty() { Ok(model) } else { Err(faults.into_list()) }
}

struct Combination {
    model: Model,
    places: Places,
    faults: Faults,
    extensions: Vec<(String, TypeDefinition, TypePlaces)>,
    /// Where in the model each type is.
    by_name: HashMap<String, usize>,
}

impl Combination {
    fn fault(&mut self, message: fmt::Arguments<'_>, file: &str, place: Option<Place>) {
        let place = place.map(|place| in_file(place, file));
        self.faults.tell(FaultKind::Module, place, message);
    }

    fn add(&mut self, file: &ModuleFile) {
        let name = &file.name;
        let parsed = match parse(&file.text) {
            Ok(parsed) => parsed,
            Err(faults) => {
                let with_file = |fault: Fault| Fault { place: fault.place.map(|place| in_file(place, name)), ..fault };
                for fault in faults {
                    self.faults.add(with_file(fault));
                }
                return;
            }
        };
        if parsed.module.is_none() {
            return self.fault(format_args!("file is not a module"), name, Some(Place::default()));
        }
        let Parsed { model, mut places, .. } = parsed;
        for mut kind in model.types {
            let mut of_type = places.types.remove(&kind.name).unwrap_or_default();
            of_type.name.file = Some(name.clone());
            for relation in of_type.relations.values_mut() {
                relation.set_file(name);
            }
            kind.source.file = Some(name.clone());
            if kind.extends {
                self.extensions.push((name.clone(), kind, of_type));
            } else if self.places.types.contains_key(&kind.name) {
                self.fault(format_args!("duplicate type definition {}", kind.name), name, Some(of_type.name));
            } else {
                self.places.types.insert(kind.name.clone(), of_type);
                self.by_name.insert(kind.name.clone(), self.model.types.len());
                self.model.types.push(kind);
            }
        }
        for (key, mut condition) in model.conditions {
            let mut of_condition = places.conditions.remove(&key).unwrap_or_default();
            of_condition.name.file = Some(name.clone());
            if self.model.conditions.contains_key(&key) {
                self.fault(format_args!("duplicate condition {key}"), name, Some(of_condition.name));
                continue;
            }
            condition.source.file = Some(name.clone());
            self.places.conditions.insert(key.clone(), of_condition);
            self.model.conditions.insert(key, condition);
        }
    }

    fn extend(&mut self, file: &str, extension: TypeDefinition, places: &TypePlaces) {
        let TypeDefinition { name, relations, source, .. } = extension;
        let at = self.by_name.get(&name).copied();
        let Some(at) = at else {
            return self.fault(format_args!("extended type {name} does not exist"), file, Some(places.name.clone()));
        };
        let mut added = BTreeMap::new();
        for (relation, mut definition) in relations {
            let of_relation = places.relations.get(&relation).cloned().unwrap_or_default();
            let taken = self.model.types.get(at).is_some_and(|kind| kind.relations.contains_key(&relation));
            if taken && !domain::sabotaged!(HouseModel) {
                let message = format_args!("relation {relation} already exists on type {name}");
                self.fault(message, file, Some(of_relation.name));
                continue;
            }
            definition.source = source.clone();
            if let Some(of_type) = self.places.types.get_mut(&name) {
                of_type.relations.insert(relation.clone(), of_relation);
            }
            added.insert(relation, definition);
        }
        if let Some(kind) = self.model.types.get_mut(at) {
            kind.relations.extend(added);
        }
    }
}

fn in_file(mut place: Place, file: &str) -> Place {
    place.file = Some(file.to_owned());
    place
}
