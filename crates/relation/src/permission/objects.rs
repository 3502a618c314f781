//! The types of objects: those of a customer's own things, which rows are kept of. The house has one; a blueprint adds others.
//!
//! What a type must have so that rows of it can be made, seen and managed is asked here once, when the model is put together.

use std::{collections::BTreeSet, sync::LazyLock};

use domain::object::{PARENT, SYSTEM, WORKSPACE};

use super::own;
use crate::{
    model::{Fault, FaultKind},
    schema::Schema,
};

/// The house's own type of objects.
const OWN_TYPES: [&str; 1] = ["folder"];
/// The relations by one of which an object stands somewhere. No caller writes one: a row's place says it.
pub const PLACES: [&str; 3] = [PARENT, WORKSPACE, SYSTEM];
/// What the actions on objects ask for.
const ASKED: [&str; 3] = ["can_see", "can_read", "can_manage"];

/// The names of the types of objects, in the model's order.
pub fn object_types(schema: &Schema) -> impl Iterator<Item = &str> {
    static HOUSE: LazyLock<BTreeSet<String>> =
        LazyLock::new(|| own().model().types.iter().map(|kind| kind.name.clone()).collect());
    let names = schema.model().types.iter().map(|kind| kind.name.as_str());
    names.filter(|name| OWN_TYPES.contains(name) || !HOUSE.contains(*name))
}

/// What a type of objects lacks: one that can stand somewhere and could not be seen or managed there would be nobody's.
pub(super) fn lacking(schema: &Schema) -> Vec<Fault> {
    let has = |kind: &str, relation: &str| schema.relation_of(kind, relation).is_ok();
    let placed = object_types(schema).filter(|kind| PLACES.iter().any(|place| has(kind, place)));
    placed
        .flat_map(|kind| {
            ASKED.iter().filter(move |relation| !has(kind, relation)).map(move |relation| (kind, relation))
        })
        .map(|(kind, relation)| Fault {
            message: format!("objects of the type `{kind}` can stand somewhere, and it has no relation `{relation}`"),
            kind: FaultKind::Module,
            place: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::with_addition;

    #[test]
    fn the_houses_own_types_hold_no_rows_but_the_folder() {
        assert_eq!(object_types(&own()).collect::<Vec<_>>(), ["folder"]);
        assert_eq!(lacking(&own()), []);
    }

    #[test]
    fn a_type_that_can_stand_somewhere_can_be_seen_and_managed_there() {
        let text = |more: &str| {
            format!(
                "module shop\n\ntype shelf\n  relations\n    define workspace: [workspace]\n    define can_read: member from workspace\n{more}"
            )
        };
        let whole = "    define can_see: can_read\n    define can_manage: admin from workspace\n";
        let schema = with_addition("shop.fga", &text(whole)).unwrap();
        assert_eq!(object_types(&schema).collect::<Vec<_>>(), ["folder", "shelf"]);
        let faults = with_addition("shop.fga", &text("")).unwrap_err();
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|fault| fault.contains("`shelf`")), "{said:?}");
    }
}
