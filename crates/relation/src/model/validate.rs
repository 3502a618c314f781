//! Whether a model makes sense, said as OpenFGA's own tools say it.
//!
//! Names first; if they are sound, every reference; if those are sound too, whether anybody can ever stand in each relation. What
//! is written twice, and conditions that nobody uses, are told in any case. Once the names are sound the model is measured, and one that
//! is too large is looked into no further; what is then done grows with the model and the ways in it, and not faster: no model,
//! however tangled, keeps this busy.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Fault, FaultKind, Faults, Model, Place, Places, Reach, Relation, Rewrite, SCHEMA_VERSIONS, Shape, TypeDefinition,
    entry::impossible,
    place::{LeafPlace, RelationPlaces},
    tally,
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
    let mut validation = Validation::new(model, places);
    validation.names();
    if validation.faults.is_empty() {
        validation.meaning();
    }
    validation.faults.into_list()
}

/// What naming faults a model has, whatever else is wrong with it.
pub(crate) fn naming_faults(model: &Model, places: &Places) -> Vec<Fault> {
    let mut validation = Validation::new(model, places);
    validation.names();
    validation.faults.into_list()
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
    /// By its name, the first definition of each.
    types: HashMap<&'a str, &'a TypeDefinition>,
    faults: Faults,
}

impl<'a> Validation<'a> {
    fn new(model: &'a Model, places: &'a Places) -> Self {
        let mut types = HashMap::new();
        for kind in &model.types {
            types.entry(kind.name.as_str()).or_insert(kind);
        }
        Self { model, places, types, faults: Faults::default() }
    }

    /// What is asked of a model whose names are sound.
    fn meaning(&mut self) {
        let mut reach = Reach::new(self.model);
        if let Some(message) = reach.too_large(self.model) {
            return self.faults.tell(FaultKind::TooLarge, None, format_args!("{message}"));
        }
        self.references(&mut reach);
        if self.faults.is_empty() {
            self.entries(&mut reach);
        }
        self.duplicates();
        self.conditions();
    }

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

    fn names(&mut self) {
        for kind in &self.model.types {
            let type_name = &kind.name;
            let places = self.places.types.get(type_name);
            let place = places.map(|places| places.name.clone());
            if is_reserved(type_name) {
                let message = format_args!("a type cannot be named 'self' or 'this'.");
                self.faults.tell(FaultKind::ReservedTypeKeyword, place, message);
            } else if !is_name(type_name, TYPE_NAME) {
                self.faults.tell(
                    FaultKind::InvalidName,
                    place,
                    format_args!("type '{type_name}' does not match naming rule: '^[^:#@\\*\\s]{{1,{TYPE_NAME}}}$'."),
                );
            }
            for (name, relation) in self.relations(kind) {
                let place = places.and_then(|places| places.relations.get(name)).map(|places| places.name.clone());
                self.relation_name(type_name, name, relation, place);
            }
        }
    }

    fn relation_name(&mut self, type_name: &str, name: &str, relation: &Relation, place: Option<Place>) {
        if is_reserved(name) {
            let message = format_args!("a relation cannot be named 'self' or 'this'.");
            self.faults.tell(FaultKind::ReservedRelationKeyword, place, message);
        } else if !is_name(name, RELATION_NAME) {
            self.faults.tell(
                FaultKind::InvalidName,
                place,
                format_args!(
                    "relation '{name}' of type '{type_name}' does not match naming rule: '^[^:#@\\*\\s]{{1,{RELATION_NAME}}}$'."
                ),
            );
        } else if relation.rewrite.depth() > DEPTH {
            let message = format_args!("`{name}` of `{type_name}` has more than {DEPTH} operators inside each other.");
            self.faults.tell(FaultKind::TooLarge, place, message);
        }
    }

    fn references(&mut self, reach: &mut Reach<'a>) {
        let model = self.model;
        for kind in &model.types {
            let tuplesets = tuplesets(kind);
            for (name, relation) in self.relations(kind) {
                self.relation_references((kind, &tuplesets), name, relation, reach);
            }
        }
    }

    fn relation_references(
        &mut self,
        (kind, tuplesets): (&'a TypeDefinition, &HashSet<&str>),
        name: &str,
        relation: &'a Relation,
        reach: &mut Reach<'a>,
    ) {
        let places = self.places.relation(&kind.name, name);
        let mut direct = false;
        for (at, leaf) in relation.rewrite.leaves().into_iter().enumerate() {
            let place = places.and_then(|places| places.leaves.get(at));
            match leaf {
                Rewrite::Computed(computed) if !kind.relations.contains_key(computed) => {
                    let message = format_args!("the relation `{computed}` does not exist.");
                    self.faults.tell(FaultKind::MissingDefinition, place.map(|place| place.whole.clone()), message);
                }
                Rewrite::From { computed, tupleset } => {
                    let may_be_tupleset = tuplesets.contains(tupleset.as_str());
                    self.references_through((kind, may_be_tupleset), (computed, tupleset), place, reach);
                }
                // However often it is written, it is one and the same.
                Rewrite::This if !std::mem::replace(&mut direct, true) => self.restriction_references(relation, places),
                _ => {}
            }
        }
    }

    fn references_through(
        &mut self,
        (kind, may_be_tupleset): (&'a TypeDefinition, bool),
        (computed, tupleset): (&str, &str),
        place: Option<&LeafPlace>,
        reach: &mut Reach<'a>,
    ) {
        let whole = || place.map(|place| place.whole.clone());
        let Some(through) = kind.relations.get(tupleset) else {
            let message = format_args!("`{tupleset}` is not a valid relation for `{}`.", kind.name);
            return self.faults.tell(FaultKind::InvalidRelationType, whole(), message);
        };
        if !may_be_tupleset {
            let message = format_args!("`{tupleset}` relation used inside from allows only direct relation.");
            let place = place.and_then(|place| place.tupleset.clone());
            return self.faults.tell(FaultKind::TuplesetNotDirect, place, message);
        }
        let has = |reached: &&str| self.types.get(reached).is_some_and(|kind| kind.relations.contains_key(computed));
        if reach.types(through, computed).iter().any(has) {
            return;
        }
        for restriction in &through.restrictions {
            tally::step(1);
            // Each leaf may tell as much as the model is long.
            if self.faults.is_full() {
                return;
            }
            self.faults.tell(
                FaultKind::InvalidRelationOnTupleset,
                whole(),
                format_args!(
                    "the `{computed}` relation definition on type `{}` is not valid: `{computed}` does not exist on `{tupleset}`, which is of type `{}`.",
                    kind.name, restriction.type_name
                ),
            );
        }
    }

    fn restriction_references(&mut self, relation: &'a Relation, places: Option<&RelationPlaces>) {
        for (at, restriction) in relation.restrictions.iter().enumerate() {
            tally::step(1);
            let place = places.and_then(|places| places.restrictions.get(at));
            let whole = || place.map(|place| place.whole.clone());
            let type_name = &restriction.type_name;
            match (self.types.get(type_name.as_str()), &restriction.shape) {
                (None, _) => {
                    let message = format_args!("`{type_name}` is not a valid type.");
                    self.faults.tell(FaultKind::InvalidType, whole(), message);
                }
                (Some(kind), Shape::Userset(relation)) if !kind.relations.contains_key(relation) => {
                    let message = format_args!("`{relation}` is not a valid relation for `{type_name}`.");
                    self.faults.tell(FaultKind::InvalidRelationType, whole(), message);
                }
                _ => {}
            }
            if let Some(condition) = &restriction.condition
                && !self.model.conditions.contains_key(condition)
            {
                let message = format_args!("`{condition}` is not a defined condition in the model.");
                let place = place.and_then(|place| place.condition.clone());
                self.faults.tell(FaultKind::ConditionNotDefined, place, message);
            }
        }
    }

    fn entries(&mut self, reach: &mut Reach<'a>) {
        let model = self.model;
        let found: HashMap<_, _> =
            impossible(model, reach).into_iter().map(|one| ((one.type_name, one.relation), one.is_loop)).collect();
        for kind in &model.types {
            for (name, _) in self.relations(kind) {
                let Some(is_loop) = found.get(&(kind.name.as_str(), name.as_str())) else { continue };
                let place = self.places.relation(&kind.name, name).map(|places| places.name.clone());
                let why = if *is_loop { "potential loop" } else { "no entrypoint" };
                let message = format_args!("`{name}` is an impossible relation for `{}` ({why}).", kind.name);
                self.faults.tell(FaultKind::RelationNoEntryPoint, place, message);
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
                let message = format_args!("the type `{}` is a duplicate.", kind.name);
                self.faults.tell(FaultKind::Duplicated, self.places.type_name(&kind.name), message);
            }
        }
    }

    fn relation_duplicates(&mut self, kind: &TypeDefinition, name: &str, relation: &Relation) {
        let places = self.places.relation(&kind.name, name);
        let mut first: BTreeMap<String, usize> = BTreeMap::new();
        for (at, restriction) in relation.restrictions.iter().enumerate() {
            tally::step(1);
            if let Some(at) = first.insert(restriction.text(), at) {
                let place = places.and_then(|places| places.restrictions.get(at)).map(|place| place.whole.clone());
                let text = restriction.bare_text();
                let message = format_args!("the type restriction `{text}` is a duplicate in the relation `{name}`.");
                self.faults.tell(FaultKind::Duplicated, place, message);
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
                    self.faults.tell(
                        FaultKind::Duplicated,
                        place,
                        format_args!(
                            "the partial relation definition `{text}` is a duplicate in the relation `{name}`."
                        ),
                    );
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
                let message = format_args!("condition key is `{key}` but nested name property is {}", condition.name);
                self.faults.tell(FaultKind::DifferentNestedConditionName, None, message);
            }
            if !used.contains(key.as_str()) {
                let message = format_args!("`{key}` condition is not used in the model.");
                self.faults.tell(FaultKind::ConditionNotUsed, place, message);
            }
        }
        self.modules();
    }

    /// A file must be of one module alone.
    fn modules(&mut self) {
        let model = self.model;
        let mut modules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut seen = HashSet::new();
        let of_types = model.types.iter().flat_map(|kind| {
            std::iter::once(&kind.source).chain(kind.relations.values().map(|relation| &relation.source))
        });
        for source in of_types.chain(model.conditions.values().map(|condition| &condition.source)) {
            tally::step(1);
            if let (Some(file), Some(module)) = (&source.file, &source.module)
                && seen.insert((file, module))
            {
                modules.entry(file).or_default().push(module);
            }
        }
        for (file, modules) in modules.into_iter().filter(|(_, modules)| modules.len() > 1) {
            self.faults.tell(
                FaultKind::MultipleModulesInFile,
                None,
                format_args!(
                    "file {file} would contain multiple module definitions ({}) when transforming to DSL. Only one module can be defined per file.",
                    modules.join(", ")
                ),
            );
        }
    }
}

fn is_reserved(name: &str) -> bool {
    matches!(name, "self" | "this")
}

/// The relations of a type that may stand after `from`: objects that are written directly, and nothing else.
fn tuplesets(kind: &TypeDefinition) -> HashSet<&str> {
    let may_be = |relation: &Relation| {
        tally::step(1 + relation.restrictions.len());
        matches!(relation.rewrite, Rewrite::This)
            && relation.restrictions.iter().all(|restriction| restriction.shape == Shape::Object)
    };
    kind.relations.iter().filter(|(_, relation)| may_be(relation)).map(|(name, _)| name.as_str()).collect()
}
