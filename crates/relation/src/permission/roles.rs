//! What a role template may bundle: the permissions on a workspace whose relation lets the assignees of a role be written into it.
//!
//! Which these are is said in the model and nowhere else: a relation without `[role#assignee]` is out of every template's reach.

use crate::{action, relationship::Relationship, schema::Schema};

/// The type of the objects that a template's permissions are on.
const ON: &str = "workspace";

/// The permissions that templates may bundle, each with the relation to the workspace that it needs: actions of the house by their names,
/// and the relations that a blueprint adds, by their own.
pub fn grantable(schema: &Schema) -> impl Iterator<Item = (&str, &str)> {
    let relations = schema.model().types.iter().filter(|kind| kind.name == ON).flat_map(|kind| kind.relations.keys());
    relations.filter(|relation| admits_roles(schema, relation)).flat_map(|relation| {
        let mut names: Vec<_> = named(relation).collect();
        if names.is_empty() {
            names.push(relation.as_str());
        }
        names.into_iter().map(move |name| (name, relation.as_str()))
    })
}

/// The relation to the workspace that a permission of this name needs, where a template may bundle it.
pub fn granted_by<'s>(schema: &'s Schema, permission: &str) -> Option<&'s str> {
    grantable(schema).find(|(name, _)| *name == permission).map(|(_, relation)| relation)
}

/// The actions on a workspace that need a relation.
fn named(relation: &str) -> impl Iterator<Item = &'static str> {
    let of = move |listed: &&action::Listed| listed.object == ON && listed.relation == Some(relation);
    action::ALL.iter().filter(of).map(|listed| listed.name)
}

fn admits_roles(schema: &Schema, relation: &str) -> bool {
    schema.admit(&Relationship::new(format!("{ON}:any"), relation, "role:any#assignee")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::{own, with_addition};

    #[test]
    fn a_template_bundles_what_the_model_lets_roles_have_and_nothing_that_makes_keys_or_templates() {
        let schema = own();
        assert_eq!(granted_by(&schema, "audit.read"), Some("can_read_audit"));
        assert_eq!(granted_by(&schema, "budget.manage"), Some("can_manage_budgets"));
        for out_of_reach in [
            "api_key.manage",
            "role_template.manage",
            "system_object.manage",
            "api_key.issue",
            "workspace.shred",
            "workspace.read",
            "connection.read",
            "admin",
            "can_read_audit",
            "nonsense",
        ] {
            assert_eq!(granted_by(&schema, out_of_reach), None, "{out_of_reach}");
        }
    }

    #[test]
    fn what_a_blueprint_adds_is_bundled_by_its_own_name() {
        let text = "module shop\n\nextend type workspace\n  relations\n    define can_sell: [role#assignee] or admin\n    \
                    define can_close: admin\n";
        let schema = with_addition("shop.fga", text).unwrap();
        assert_eq!(granted_by(&schema, "can_sell"), Some("can_sell"));
        assert_eq!(granted_by(&schema, "can_close"), None);
    }
}
