//! Authorization models in the terms of OpenFGA's schema: types, relations, the rewrites that define them, and conditions.
//!
//! Owns what a model is and how it reads and is written as JSON. A model that came in here is well-formed, no more: whether it
//! makes sense is for [`validate`] to say, and nothing is checked against a model before [`crate::Schema`] has taken it.

mod entry;
pub(crate) mod fault;
mod json;
mod kinds;
mod place;
mod reach;
pub(crate) mod tally;
mod validate;

use std::collections::BTreeMap;

pub(crate) use fault::Faults;
pub use fault::{Fault, FaultKind, Place, Span};
pub use json::JsonModelFault;
pub use kinds::{ParameterKind, ParameterType};
pub(crate) use place::{ConditionPlaces, LeafPlace, Places, RelationPlaces, RestrictionPlaces, TypePlaces};
pub(crate) use reach::Reach;
pub use validate::validate;
pub(crate) use validate::{naming_faults, validate_placed};

/// The schema versions that are understood. A modular model is one of version 1.2.
pub const SCHEMA_VERSIONS: [&str; 2] = ["1.1", "1.2"];

/// An authorization model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// `1.1`, or `1.2` for one that was put together from modules. Empty where nothing said so yet.
    pub schema_version: String,
    /// The types, in the order of their definition.
    pub types: Vec<TypeDefinition>,
    /// The conditions by their names.
    pub conditions: BTreeMap<String, Condition>,
}

/// One type of objects, and how users may stand to them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypeDefinition {
    /// As in `type document`.
    pub name: String,
    /// The relations by their names.
    pub relations: BTreeMap<String, Relation>,
    /// The module and the file that it came from.
    pub source: Source,
    /// Whether it adds to a type of another module (`extend type`).
    pub extends: bool,
}

/// One relation of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// What makes a user stand in it.
    pub rewrite: Rewrite,
    /// Who may be written into it directly: what stands between brackets.
    pub restrictions: Vec<Restriction>,
    /// The module and the file that it came from, where they are not its type's.
    pub source: Source,
}

/// What makes a user stand in a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// A tuple that says so.
    This,
    /// Standing in another relation to the same object.
    Computed(String),
    /// Standing in a relation to an object that a tuple names: `computed from tupleset`.
    From {
        /// The relation to the other object.
        computed: String,
        /// The relation of the tuples that name the other object.
        tupleset: String,
    },
    /// Any of these.
    Union(Vec<Rewrite>),
    /// All of these.
    Intersection(Vec<Rewrite>),
    /// The first, and not the second.
    Difference(Box<(Rewrite, Rewrite)>),
}

impl Rewrite {
    /// The leaves (what is no operator) in the order in which they are written.
    pub(crate) fn leaves(&self) -> Vec<&Rewrite> {
        let mut leaves = Vec::new();
        let mut open = vec![self];
        while let Some(rewrite) = open.pop() {
            tally::step(1);
            match rewrite {
                Self::This | Self::Computed(_) | Self::From { .. } => leaves.push(rewrite),
                Self::Union(children) | Self::Intersection(children) => open.extend(children.iter().rev()),
                Self::Difference(pair) => open.extend([&pair.1, &pair.0]),
            }
        }
        leaves
    }

    /// How many operators are inside each other.
    pub(crate) fn depth(&self) -> usize {
        let mut deepest = 0;
        let mut open = vec![(self, 1)];
        while let Some((rewrite, depth)) = open.pop() {
            deepest = deepest.max(depth);
            match rewrite {
                Self::This | Self::Computed(_) | Self::From { .. } => {}
                Self::Union(children) | Self::Intersection(children) => {
                    open.extend(children.iter().map(|child| (child, depth + 1)));
                }
                Self::Difference(pair) => open.extend([(&pair.0, depth + 1), (&pair.1, depth + 1)]),
            }
        }
        deepest
    }

    /// As the language writes a leaf; an operator has no such text.
    pub(crate) fn leaf_text(&self) -> Option<String> {
        match self {
            Self::Computed(relation) => Some(relation.clone()),
            Self::From { computed, tupleset } => Some(format!("{computed} from {tupleset}")),
            _ => None,
        }
    }
}

/// Who may be written into a relation directly.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Restriction {
    /// The type of the user.
    pub type_name: String,
    /// Which users of that type.
    pub shape: Shape,
    /// The condition that such a tuple must carry.
    pub condition: Option<String>,
}

/// The shape of a user: one object, all of a type, or those who stand in a relation to an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `user`
    Object,
    /// `user:*`
    Wildcard,
    /// `group#member`
    Userset(String),
}

impl Restriction {
    /// As the language writes it, without its condition.
    pub(crate) fn bare_text(&self) -> String {
        match &self.shape {
            Shape::Object => self.type_name.clone(),
            Shape::Wildcard => format!("{}:*", self.type_name),
            Shape::Userset(relation) => format!("{}#{relation}", self.type_name),
        }
    }

    /// As the language writes it.
    pub(crate) fn text(&self) -> String {
        match &self.condition {
            Some(condition) => format!("{} with {condition}", self.bare_text()),
            None => self.bare_text(),
        }
    }
}

/// What a tuple may be made to depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its name, which must be that under which the model keeps it.
    pub name: String,
    /// An expression in CEL.
    pub expression: String,
    /// What the expression is about: by name, the type.
    pub parameters: BTreeMap<String, ParameterType>,
    /// The module and the file that it came from.
    pub source: Source,
}

/// Where in a modular model something came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Source {
    /// The module's name.
    pub module: Option<String>,
    /// The file's name.
    pub file: Option<String>,
}

impl Source {
    /// Whether nothing is known of where it came from.
    pub fn is_unknown(&self) -> bool {
        self.module.is_none() && self.file.is_none()
    }
}

impl Model {
    /// The names of the modules that the model was put together from, sorted.
    pub fn modules(&self) -> Vec<String> {
        let of_types = self.types.iter().map(|kind| &kind.source);
        let of_relations = self.types.iter().flat_map(|kind| kind.relations.values().map(|relation| &relation.source));
        let of_conditions = self.conditions.values().map(|condition| &condition.source);
        let mut modules: Vec<String> =
            of_types.chain(of_relations).chain(of_conditions).filter_map(|source| source.module.clone()).collect();
        modules.sort();
        modules.dedup();
        modules
    }
}

#[cfg(test)]
mod tests;
