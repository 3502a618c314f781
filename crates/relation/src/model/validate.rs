//! Whether a model makes sense, said as OpenFGA's own tools say it.
//!
//! Names first; if they are sound, every reference; if those are sound too, whether anybody can ever stand in each relation. What
//! is written twice, and conditions that nobody uses, are told in any case. The work grows with the model and not faster: no
//! model, however tangled, keeps this busy.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Fault, FaultKind, Model, Place, Places, Relation, Rewrite, SCHEMA_VERSIONS, Shape, TypeDefinition,
    entry::impossible, place::RelationPlaces,
};

/// The longest names, in characters, as OpenFGA has them.
const TYPE_NAME: usize = 254;
const RELATION_NAME: usize = 50;
/// How deep operators may be inside each other.
const DEPTH: usize = 100;

/// Everything that is wrong with a model.
pub fn validate(model: &Model) -> Vec<Fault> {
    let mut faults = validate_placed(model, &Places::default());
    for fault in &mut faults {
        fault.place = None;
    }
    faults
}

/// Everything that is wrong with a model, with the places in its text.
pub(crate) fn validate_placed(model: &Model, places: &Places) -> Vec<Fault> {
    if model.schema_version.is_empty() {
        let message = "schema version required".to_owned();
        return vec![Fault { message, kind: FaultKind::SchemaVersionRequired, place: Some(Place::default()) }];
    }
    if !SCHEMA_VERSIONS.contains(&model.schema_version.as_str()) {
        let message = format!("invalid schema {}", model.schema_version);
        return vec![Fault { message, kind: FaultKind::InvalidSchema, place: places.schema.clone() }];
    }
    let mut validation = Validation { model, places, types: HashMap::new(), faults: Vec::new() };
    for kind in &model.types {
        validation.types.entry(kind.name.as_str()).or_insert(kind);
    }
    validation.names();
    if validation.faults.is_empty() {
        validation.references();
        if validation.faults.is_empty() {
            validation.entries();
        }
        validation.duplicates();
        validation.conditions();
    }
    validation.faults
}

/// What naming faults a model has, whatever else is wrong with it.
pub(crate) fn naming_faults(model: &Model, places: &Places) -> Vec<Fault> {
    let mut validation = Validation { model, places, types: HashMap::new(), faults: Vec::new() };
    validation.names();
    validation.faults
}

/// Whether a name keeps to the rule: not empty, not too long, none of `: # @ *`, no spaces.
pub(crate) fn is_name(name: &str, longest: usize) -> bool {
    !name.is_empty()
        && name.chars().count() <= longest
        && !name.contains(|letter: char| matches!(letter, ':' | '#' | '@' | '*') || letter.is_whitespace())
}

struct Validation<'a> {
    model: &'a Model,
    places: &'a Places,
    types: HashMap<&'a str, &'a TypeDefinition>,
    faults: Vec<Fault>,
}

impl<'a> Validation<'a> {
    /// The relations of a type as they are written: in its own file first. Without a text, by name.
    fn relations(&self, kind: &'a TypeDefinition) -> Vec<(&'a String, &'a Relation)> {
        let mut relations: Vec<(&String, &Relation)> = kind.relations.iter().collect();
        if let Some(of_type) = self.places.types.get(&kind.name) {
            relations.sort_by_key(|(name, _)| {
                let place = of_type.relations.get(*name).map(|places| &places.name);
                let elsewhere = place.is_some_and(|place| place.file != of_type.name.file);
                (elsewhere, place.map(|place| (&place.file, place.line.start, place.column.start)))
            });
        }
        relations
    }

    fn fault(&mut self, kind: FaultKind, place: Option<Place>, message: String) {
        self.faults.push(Fault { message, kind, place });
    }

    fn names(&mut self) {
        for kind in &self.model.types {
            let type_name = &kind.name;
            let place = self.places.type_name(type_name);
            if is_reserved(type_name) {
                let message = "a type cannot be named 'self' or 'this'.".to_owned();
                self.fault(FaultKind::ReservedTypeKeyword, place, message);
            } else if !is_name(type_name, TYPE_NAME) {
                let message =
                    format!("type '{type_name}' does not match naming rule: '^[^:#@\\*\\s]{{1,{TYPE_NAME}}}$'.");
                self.fault(FaultKind::InvalidName, place, message);
            }
            for (name, relation) in self.relations(kind) {
                let place = self.places.relation(type_name, name).map(|places| places.name.clone());
                if is_reserved(name) {
                    let message = "a relation cannot be named 'self' or 'this'.".to_owned();
                    self.fault(FaultKind::ReservedRelationKeyword, place, message);
                } else if !is_name(name, RELATION_NAME) {
                    let message = format!(
                        "relation '{name}' of type '{type_name}' does not match naming rule: '^[^:#@\\*\\s]{{1,{RELATION_NAME}}}$'."
                    );
                    self.fault(FaultKind::InvalidName, place, message);
                } else if relation.rewrite.depth() > DEPTH {
                    let message =
                        format!("`{name}` of `{type_name}` has more than {DEPTH} operators inside each other.");
                    self.fault(FaultKind::TooLarge, place, message);
                }
            }
        }
    }

    fn references(&mut self) {
        let model = self.model;
        for kind in &model.types {
            for (name, relation) in self.relations(kind) {
                self.relation_references(kind, name, relation);
            }
        }
    }

    fn relation_references(&mut self, kind: &'a TypeDefinition, name: &str, relation: &'a Relation) {
        let places = self.places.relation(&kind.name, name);
        for (at, leaf) in relation.rewrite.leaves().into_iter().enumerate() {
            let place = places.and_then(|places| places.leaves.get(at));
            let whole = place.map(|place| place.whole.clone());
            match leaf {
                Rewrite::Computed(computed) if !kind.relations.contains_key(computed) => {
                    let message = format!("the relation `{computed}` does not exist.");
                    self.fault(FaultKind::MissingDefinition, whole, message);
                }
                Rewrite::From { computed, tupleset } => {
                    let tupleset_place = place.and_then(|place| place.tupleset.clone());
                    self.references_through(kind, (computed, tupleset), whole, tupleset_place);
                }
                Rewrite::This => self.restriction_references(relation, places),
                _ => {}
            }
        }
    }

    fn references_through(
        &mut self,
        kind: &'a TypeDefinition,
        (computed, tupleset): (&str, &str),
        whole: Option<Place>,
        tupleset_place: Option<Place>,
    ) {
        let Some(through) = kind.relations.get(tupleset) else {
            let message = format!("`{tupleset}` is not a valid relation for `{}`.", kind.name);
            return self.fault(FaultKind::InvalidRelationType, whole, message);
        };
        let direct = matches!(through.rewrite, Rewrite::This)
            && through.restrictions.iter().all(|restriction| restriction.shape == Shape::Object);
        if !direct {
            let message = format!("`{tupleset}` relation used inside from allows only direct relation.");
            return self.fault(FaultKind::TuplesetNotDirect, tupleset_place, message);
        }
        let reached = through.restrictions.iter().map(|restriction| restriction.type_name.as_str());
        let lacking: Vec<&str> = reached
            .filter(|reached| !self.types.get(reached).is_some_and(|kind| kind.relations.contains_key(computed)))
            .collect();
        if lacking.len() < through.restrictions.len() {
            return;
        }
        for reached in lacking {
            let message = format!(
                "the `{computed}` relation definition on type `{}` is not valid: `{computed}` does not exist on `{tupleset}`, which is of type `{reached}`.",
                kind.name
            );
            self.fault(FaultKind::InvalidRelationOnTupleset, whole.clone(), message);
        }
    }

    fn restriction_references(&mut self, relation: &'a Relation, places: Option<&RelationPlaces>) {
        for (at, restriction) in relation.restrictions.iter().enumerate() {
            let place = places.and_then(|places| places.restrictions.get(at));
            let whole = place.map(|place| place.whole.clone());
            let type_name = &restriction.type_name;
            match (self.types.get(type_name.as_str()), &restriction.shape) {
                (None, _) => {
                    self.fault(FaultKind::InvalidType, whole, format!("`{type_name}` is not a valid type."));
                }
                (Some(kind), Shape::Userset(relation)) if !kind.relations.contains_key(relation) => {
                    let message = format!("`{relation}` is not a valid relation for `{type_name}`.");
                    self.fault(FaultKind::InvalidRelationType, whole, message);
                }
                _ => {}
            }
            if let Some(condition) = &restriction.condition
                && !self.model.conditions.contains_key(condition)
            {
                let message = format!("`{condition}` is not a defined condition in the model.");
                self.fault(FaultKind::ConditionNotDefined, place.and_then(|place| place.condition.clone()), message);
            }
        }
    }

    fn entries(&mut self) {
        let model = self.model;
        let found: HashMap<_, _> =
            impossible(model).into_iter().map(|one| ((one.type_name, one.relation), one.is_loop)).collect();
        for kind in &model.types {
            for (name, _) in self.relations(kind) {
                let Some(is_loop) = found.get(&(kind.name.as_str(), name.as_str())) else { continue };
                let place = self.places.relation(&kind.name, name).map(|places| places.name.clone());
                let why = if *is_loop { "potential loop" } else { "no entrypoint" };
                let message = format!("`{name}` is an impossible relation for `{}` ({why}).", kind.name);
                self.fault(FaultKind::RelationNoEntryPoint, place, message);
            }
        }
    }

    fn duplicates(&mut self) {
        let model = self.model;
        let mut seen = HashSet::new();
        for kind in &model.types {
            for (name, relation) in self.relations(kind) {
                self.relation_duplicates(kind, name, relation);
            }
            if !seen.insert(&kind.name) {
                let message = format!("the type `{}` is a duplicate.", kind.name);
                self.fault(FaultKind::Duplicated, self.places.type_name(&kind.name), message);
            }
        }
    }

    fn relation_duplicates(&mut self, kind: &TypeDefinition, name: &str, relation: &Relation) {
        let places = self.places.relation(&kind.name, name);
        let mut first: BTreeMap<String, usize> = BTreeMap::new();
        for (at, restriction) in relation.restrictions.iter().enumerate() {
            if let Some(at) = first.insert(restriction.text(), at) {
                let place = places.and_then(|places| places.restrictions.get(at)).map(|place| place.whole.clone());
                let text = restriction.bare_text();
                let message = format!("the type restriction `{text}` is a duplicate in the relation `{name}`.");
                self.fault(FaultKind::Duplicated, place, message);
            }
        }
        let mut leaf = 0;
        let mut open = vec![&relation.rewrite];
        while let Some(rewrite) = open.pop() {
            let children: Vec<&Rewrite> = match rewrite {
                Rewrite::Union(children) | Rewrite::Intersection(children) => children.iter().collect(),
                Rewrite::Difference(pair) => vec![&pair.0, &pair.1],
                _ => {
                    leaf += 1;
                    continue;
                }
            };
            let mut at = leaf;
            let mut first: HashMap<String, usize> = HashMap::new();
            for child in &children {
                if let Some(text) = child.leaf_text()
                    && let Some(at) = first.insert(text.clone(), at)
                {
                    let place = places.and_then(|places| places.leaves.get(at)).map(|place| place.whole.clone());
                    let message =
                        format!("the partial relation definition `{text}` is a duplicate in the relation `{name}`.");
                    self.fault(FaultKind::Duplicated, place, message);
                }
                at += child.leaves().len();
            }
            open.extend(children.into_iter().rev());
        }
    }

    fn conditions(&mut self) {
        let model = self.model;
        let relations = || model.types.iter().flat_map(|kind| kind.relations.values());
        let used: HashSet<&str> = relations()
            .flat_map(|relation| &relation.restrictions)
            .filter_map(|restriction| restriction.condition.as_deref())
            .collect();
        for (key, condition) in &model.conditions {
            let place = self.places.conditions.get(key).map(|places| places.name.clone());
            if *key != condition.name {
                let message = format!("condition key is `{key}` but nested name property is {}", condition.name);
                self.fault(FaultKind::DifferentNestedConditionName, None, message);
            }
            if !used.contains(key.as_str()) {
                let message = format!("`{key}` condition is not used in the model.");
                self.fault(FaultKind::ConditionNotUsed, place, message);
            }
        }
        let mut modules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let of_types = model.types.iter().flat_map(|kind| {
            std::iter::once(&kind.source).chain(kind.relations.values().map(|relation| &relation.source))
        });
        for source in of_types.chain(model.conditions.values().map(|condition| &condition.source)) {
            if let (Some(file), Some(module)) = (&source.file, &source.module) {
                let of_file = modules.entry(file).or_default();
                if !of_file.contains(&module.as_str()) {
                    of_file.push(module);
                }
            }
        }
        for (file, modules) in modules.into_iter().filter(|(_, modules)| modules.len() > 1) {
            let message = format!(
                "file {file} would contain multiple module definitions ({}) when transforming to DSL. Only one module can be defined per file.",
                modules.join(", ")
            );
            self.fault(FaultKind::MultipleModulesInFile, None, message);
        }
    }
}

fn is_reserved(name: &str) -> bool {
    matches!(name, "self" | "this")
}
