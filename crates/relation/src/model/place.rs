//! Where in a text the parts of a model stand, for the faults that are found in it later.
//!
//! Kept beside the model and never in it: two texts that say the same are the same model.

use std::collections::HashMap;

use super::fault::Place;

/// Where everything stands. What was written twice has the place of its first writing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    pub(crate) schema: Option<Place>,
    pub(crate) types: HashMap<String, TypePlaces>,
    pub(crate) conditions: HashMap<String, ConditionPlaces>,
    /// Types that were defined again after their first definition.
    pub(crate) repeated_types: Vec<String>,
}

/// Where a type's name stands, and its relations.
#[derive(Debug, Clone, Default)]
pub(crate) struct TypePlaces {
    pub(crate) name: Place,
    pub(crate) relations: HashMap<String, RelationPlaces>,
}

/// Where a relation's name stands, and the parts of its definition.
#[derive(Debug, Clone, Default)]
pub(crate) struct RelationPlaces {
    pub(crate) name: Place,
    pub(crate) restrictions: Vec<RestrictionPlaces>,
    /// One for each leaf of the rewrite, in the order in which they are written.
    pub(crate) leaves: Vec<LeafPlace>,
}

/// Where a type restriction stands, and the condition in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RestrictionPlaces {
    pub(crate) whole: Place,
    pub(crate) condition: Option<Place>,
}

/// Where a leaf of a definition stands, and the relation after its `from`.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeafPlace {
    pub(crate) whole: Place,
    pub(crate) tupleset: Option<Place>,
}

/// Where a condition's name stands, and the beginning of its expression.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConditionPlaces {
    pub(crate) name: Place,
    pub(crate) expression: Place,
}

impl Places {
    pub(crate) fn type_name(&self, name: &str) -> Option<Place> {
        self.types.get(name).map(|places| places.name.clone())
    }

    pub(crate) fn relation(&self, type_name: &str, relation: &str) -> Option<&RelationPlaces> {
        self.types.get(type_name)?.relations.get(relation)
    }
}

impl RelationPlaces {
    /// Says of everything that it stands in that file.
    pub(crate) fn set_file(&mut self, file: &str) {
        let of_restrictions = self
            .restrictions
            .iter_mut()
            .flat_map(|restriction| std::iter::once(&mut restriction.whole).chain(&mut restriction.condition));
        let of_leaves =
            self.leaves.iter_mut().flat_map(|leaf| std::iter::once(&mut leaf.whole).chain(&mut leaf.tupleset));
        for place in std::iter::once(&mut self.name).chain(of_restrictions).chain(of_leaves) {
            place.file = Some(file.to_owned());
        }
    }
}
