//! Plans as facts: what the configuration says of them, as tuples of every workspace.
//!
//! Which plan a workspace has is written in its own facts, and read here where nobody has said: then it has the default. Must never give a
//! workspace the features of two plans.

use domain::{
    id::WorkspaceId,
    plan::{FeatureName, Plans},
};

use crate::{
    facts::Facts,
    relationship::{Relationship, is_of_type},
    tuples::{Tuples as _, User},
};

/// The relation in which the members of a workspace stand to its plan.
pub const SUBSCRIBER: &str = "subscriber";

/// A plan as tuples write it.
pub fn plan_object(name: &str) -> String {
    format!("plan:{name}")
}

/// A feature as tuples write it.
pub fn feature_object(name: &str) -> String {
    format!("feature:{name}")
}

/// The relation in which a feature stands to a workspace, where a model has one: what a blueprint wants beside a role hangs on it.
fn gate(name: &FeatureName) -> String {
    name.as_str().replace('-', "_")
}

/// All members of a workspace, as the user of a tuple.
pub fn members(workspace: WorkspaceId) -> String {
    format!("workspace:{workspace}#member")
}

/// What is true of a workspace because of the configured plans, beside its own facts.
pub fn facts(plans: &Plans, workspace: WorkspaceId, own: &[Relationship]) -> Vec<Relationship> {
    let here = format!("workspace:{workspace}");
    let mut facts = Vec::new();
    for plan in plans.iter() {
        let object = plan_object(plan.name.as_str());
        facts.push(Relationship::new(object.clone(), "workspace", here.clone()));
        facts.extend(
            plan.features.iter().map(|name| Relationship::new(feature_object(name.as_str()), "plan", object.clone())),
        );
    }
    for name in plans.features() {
        let feature = feature_object(name.as_str());
        facts.push(Relationship::new(feature.clone(), "workspace", here.clone()));
        // A model that has no such relation does not know the tuple.
        facts.push(Relationship::new(here.clone(), gate(name), feature));
    }
    let is_said = own.iter().any(|tuple| tuple.relation == SUBSCRIBER && is_of_type(&tuple.object, "plan"));
    if !is_said && let Some(default) = plans.default_plan() {
        facts.push(Relationship::new(plan_object(default.name.as_str()), SUBSCRIBER, members(workspace)));
    }
    facts
}

/// The plan of the workspace whose facts these are; it may be one that is configured no longer, and then it opens nothing.
pub fn of_workspace(facts: &Facts) -> Option<&str> {
    let tuples = facts.tuples();
    let object = tuples.object(&format!("workspace:{}", facts.workspace())).ok()??;
    let mut plans = tuples.objects(User { object, relation: Some("member") }, SUBSCRIBER).ok()?;
    plans.find_map(|row| tuples.name(row.object).strip_prefix("plan:"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domain::{clock::Clock, plan::Plan};

    use super::*;
    use crate::permission;

    fn plans() -> Plans {
        let plan = |name: &str, features: &[&str], is_default| Plan {
            name: name.parse().unwrap(),
            features: features.iter().map(|name| name.parse().unwrap()).collect(),
            is_default,
        };
        Plans::new(vec![plan("FREE", &[], true), plan("PRO", &["sync"], false), plan("MAX", &["sync", "sso"], false)])
            .unwrap()
    }

    fn house(workspace: WorkspaceId, own: &[Relationship]) -> Facts {
        let mut tuples = own.to_vec();
        tuples.extend(facts(&plans(), workspace, own));
        Facts::new(&permission::own(), workspace, (1, 1, 1), tuples).unwrap()
    }

    #[test]
    fn a_plan_opens_its_features_to_the_members_of_its_workspace_and_to_nobody_else() {
        let workspace = WorkspaceId::new(&Clock::system());
        let here = format!("workspace:{workspace}");
        let with = |plan: Option<&str>| {
            let mut own = vec![
                Relationship::new(here.clone(), "admin", "api_key:admin"),
                Relationship::new(here.clone(), "service", "api_key:service"),
            ];
            own.extend(plan.map(|plan| Relationship::new(plan_object(plan), SUBSCRIBER, members(workspace))));
            house(workspace, &own)
        };
        for (plan, opens) in [
            (None, [false, false]),
            (Some("FREE"), [false; 2]),
            (Some("PRO"), [true, false]),
            (Some("MAX"), [true; 2]),
            (Some("GONE"), [false; 2]),
        ] {
            let facts = with(plan);
            assert_eq!(of_workspace(&facts), Some(plan.unwrap_or("FREE")));
            for (feature, opens) in ["sync", "sso"].into_iter().zip(opens) {
                let asks = |relation: &str, user: &str| facts.check(&feature_object(feature), relation, user).unwrap();
                assert_eq!(asks("can_use", "api_key:admin"), opens, "{plan:?} {feature}");
                assert_eq!(asks("can_use", "api_key:service"), opens, "{plan:?} {feature}");
                assert_eq!(asks("can_administer", "api_key:admin"), opens, "{plan:?} {feature}");
                assert!(!asks("can_administer", "api_key:service") && !asks("can_use", "api_key:stranger"));
                assert!(asks("can_see", "api_key:service") && !asks("can_see", "api_key:stranger"));
            }
        }
    }

    #[test]
    fn a_relation_of_a_blueprint_can_want_a_plan_beside_a_role() {
        let addition = "module sync\n\nextend type workspace\n  relations\n    define sync: [feature]\n    \
                        define can_manage_sync: admin and can_administer from sync\n";
        let schema = permission::with_addition("sync.fga", addition).unwrap();
        let workspace = WorkspaceId::new(&Clock::system());
        let here = format!("workspace:{workspace}");
        let may = |plan: &str, user: &str| {
            let mut own = vec![
                Relationship::new(here.clone(), "admin", "api_key:admin"),
                Relationship::new(here.clone(), "service", "api_key:service"),
                Relationship::new(plan_object(plan), SUBSCRIBER, members(workspace)),
            ];
            own.extend(facts(&plans(), workspace, &own));
            let facts = Facts::new(&Arc::clone(&schema), workspace, (1, 1, 1), own).unwrap();
            facts.check(&here, "can_manage_sync", user).unwrap()
        };
        assert!(may("PRO", "api_key:admin") && !may("FREE", "api_key:admin") && !may("PRO", "api_key:service"));
    }
}
