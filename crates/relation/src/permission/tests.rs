//! What the house's own model says, role by role, and that nothing which is added to it says more.

use domain::{
    clock::Clock,
    id::{AccountId, ConnectionId, InstallationId, KeyId, MandateId, OperatorId, WorkspaceId},
    principal::Principal,
};

use super::*;
use crate::{
    Denied, Facts, Relationship,
    action::{self, Action},
    authorize,
    permit::type_of,
};

/// What no action of the house needs: blueprints and back ends build on it, and MCP will.
const BUILT_ON: [(&str, &str); 3] = [("mcp", "can_use"), ("feature", "can_use"), ("feature", "can_administer")];

#[test]
fn every_actions_relation_is_in_the_model() {
    let schema = own();
    for action in action::ALL {
        // What a blueprint's objects must have, its compilation asks of them.
        if let Some(relation) = action.relation.filter(|_| action.object != "object") {
            assert!(schema.relation_of(action.object, relation).is_ok(), "{action:?}");
            assert!(schema.relation_of(action.object, "can_see").is_ok(), "{action:?}");
        }
    }
    let mut names: Vec<_> = action::ALL.iter().map(|action| action.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), action::ALL.len(), "a name stands for two actions");
    // And nothing is in it that no action needs.
    for kind in &schema.model().types {
        for relation in kind.relations.keys().filter(|name| name.starts_with("can_") && *name != "can_see") {
            let is_needed = action::ALL.iter().any(|it| it.object == kind.name && it.relation == Some(relation));
            let leads_on = schema.model().types.iter().flat_map(|kind| kind.relations.values()).any(|other| {
                other.rewrite.leaves().into_iter().any(|leaf| match leaf {
                    crate::model::Rewrite::Computed(name) => name == relation,
                    crate::model::Rewrite::From { computed, .. } => computed == relation,
                    _ => false,
                })
            });
            assert!(
                is_needed || leads_on || BUILT_ON.contains(&(&kind.name, relation)),
                "{}#{relation} is needed by nothing",
                kind.name
            );
        }
    }
}

/// A workspace in which everybody is.
struct House {
    clock: Clock,
    facts: Facts,
    workspace: WorkspaceId,
    connection: ConnectionId,
    mandate: MandateId,
    keys: [Principal; 4],
    grantees: [Principal; 4],
    owner: Principal,
    assigned: Principal,
}

const ROLES: [&str; 4] = ["admin", "support_agent", "user", "service"];

fn house(model: &Arc<Schema>) -> House {
    let clock = Clock::system();
    let (workspace, connection) = (WorkspaceId::new(&clock), ConnectionId::new(&clock));
    let mandate = MandateId::new(&clock);
    let key = |_| Principal::api_key(KeyId::new(&clock), workspace, clock.now());
    let (keys, grantees, assigned) = (ROLES.map(key), ROLES.map(key), key(""));
    let mut owner = key("");
    owner.identity = domain::principal::Identity::Account(AccountId::new(&clock));
    let in_workspace = format!("workspace:{workspace}");
    let (of_connection, of_mandate) = (format!("connection:{connection}"), format!("mandate:{mandate}"));
    let mut tuples = vec![
        Relationship::new(&of_connection, "workspace", &in_workspace),
        Relationship::new(&of_connection, "owner", owner.reference()),
        Relationship::new(&of_connection, "ceiling", "action:post.create"),
        Relationship::new(&of_mandate, "connection", &of_connection),
        Relationship::new(&in_workspace, "service", assigned.reference()),
        Relationship::new("role:auditor", "assignee", assigned.reference()),
        Relationship::new(&in_workspace, "can_read_audit", "role:auditor#assignee"),
        Relationship::new(format!("installation:{}", InstallationId::ONE), "super_admin", "operator:ada"),
    ];
    for ((role, key), grantee) in ROLES.iter().zip(&keys).zip(&grantees) {
        tuples.push(Relationship::new(&in_workspace, *role, key.reference()));
        tuples.push(Relationship::new(&in_workspace, *role, grantee.reference()));
        tuples.push(Relationship::new(&of_mandate, "grantee", grantee.reference()));
    }
    for tuple in &tuples {
        assert_eq!(model.admit(tuple), Ok(()), "{tuple:?}");
    }
    let facts = Facts::new(model, workspace, (1, 7, 1), tuples).unwrap();
    House { clock, facts, workspace, connection, mandate, keys, grantees, owner, assigned }
}

impl House {
    fn may<A: Action>(&self, principal: &Principal, object: A::Object) -> char {
        match authorize::<A>(&self.facts, principal, object, &self.clock) {
            Ok(_) => '+',
            Err(Denied::NotAllowed) => '-',
            Err(Denied::NotVisible) => '.',
        }
    }

    /// What somebody may in the workspace, on the connection, and under the mandate.
    fn all(&self, who: &Principal) -> [String; 3] {
        use action::*;
        let (w, c, m) = (self.workspace, self.connection, self.mandate);
        let of_workspace = [
            self.may::<ReadWorkspace>(who, w),
            self.may::<ListWorkspace>(who, w),
            self.may::<ReadBudgets>(who, w),
            self.may::<ReadActs>(who, w),
            self.may::<ReadAudit>(who, w),
            self.may::<ListKeys>(who, w),
            self.may::<ReadAllActs>(who, w),
            self.may::<ReadAllBudgets>(who, w),
            self.may::<InviteOwner>(who, w),
            self.may::<RedeemConnection>(who, w),
            self.may::<ManageBudgets>(who, w),
            self.may::<ManageReturnAddresses>(who, w),
            self.may::<ManageKeys>(who, w),
            self.may::<IssueKey>(who, w),
            self.may::<CreateWorkspace>(who, w),
            self.may::<ImportCredential>(who, w),
            self.may::<ShredWorkspace>(who, w),
        ];
        let of_connection = [
            self.may::<ReadConnection>(who, c),
            self.may::<Disconnect>(who, c),
            self.may::<CreateMandate>(who, c),
            self.may::<ResealCredential>(who, c),
        ];
        let of_mandate = [
            self.may::<ReadMandate>(who, m),
            self.may::<RevokeMandate>(who, m),
            self.may::<Perform>(who, m),
            self.may::<OpenForAct>(who, m),
        ];
        [of_workspace.iter().collect(), of_connection.iter().collect(), of_mandate.iter().collect()]
    }
}

#[test]
fn each_role_may_what_it_is_for_and_nothing_else() {
    let h = house(&own());
    let now = h.clock.now();
    let [admin, support, user, service] = &h.keys;
    let [admin_grantee, support_grantee, user_grantee, service_grantee] = &h.grantees;
    let host = Principal::operator("ada", now);
    let named = |name: &str| Principal::named_operator(name.to_owned(), OperatorId::new(&h.clock), now);
    let stranger = Principal::api_key(KeyId::new(&h.clock), h.workspace, now);
    let publisher = Principal::statement_publisher("ada".to_owned(), OperatorId::new(&h.clock), now);
    let table: [(&str, &Principal, [&str; 3]); 15] = [
        ("admin", admin, ["+++++++++++++----", "+++-", "++--"]),
        ("admin with the mandate", admin_grantee, ["+++++++++++++----", "+++-", "++++"]),
        ("support agent", support, ["++++++++---------", "+---", "+---"]),
        // Whoever may change nothing does not act either, whatever was granted to him.
        ("support agent with the mandate", support_grantee, ["++++++++---------", "+---", "+---"]),
        ("user", user, ["++++----+--------", "....", "...."]),
        ("user with the mandate", user_grantee, ["++++----+--------", "+---", "+-++"]),
        ("service", service, ["++++-------------", "....", "...."]),
        ("service with the mandate", service_grantee, ["++++-------------", "+---", "+-++"]),
        ("service with a role of the house's making", &h.assigned, ["+++++------------", "....", "...."]),
        ("owner", &h.owner, [".................", "+++-", "++--"]),
        ("stranger", &stranger, [".................", "....", "...."]),
        ("host", &host, ["-------------++++", "...+", "...."]),
        ("operator by key", &named("bob"), ["-----------------", "....", "...."]),
        ("super-admin by key", &named("ada"), ["-----------------", "....", "...."]),
        ("what publishes statements, of a super-admin's name", &publisher, [".................", "....", "...."]),
    ];
    for (what, who, expected) in table {
        assert_eq!(h.all(who), expected.map(str::to_owned), "{what}");
    }
}

#[test]
fn a_super_admin_is_one_by_a_tuple_and_by_his_own_key() {
    let h = house(&own());
    let installation = format!("installation:{}", InstallationId::ONE);
    let workspace = format!("workspace:{}", h.workspace);
    for (user, expected) in [
        ("operator:ada", true),
        ("operator:bob", false),
        ("host:here", false),
        ("api_key:ada", false),
        ("statement_publisher:ada", false),
    ] {
        for object in [&installation, &workspace] {
            assert_eq!(h.facts.check(object, "super_admin", user).unwrap(), expected, "{user} of {object}");
        }
    }
    let nobody = Facts::none_yet(&own(), h.workspace);
    assert!(!nobody.check(&installation, "super_admin", "operator:ada").unwrap(), "no tuple, no super-admin");
}

/// Every action on the installation, so that one which comes later is in it.
#[test]
fn what_publishes_statements_does_that_and_nothing_else() {
    let h = house(&own());
    let (installation, workspace) =
        (format!("installation:{}", InstallationId::ONE), format!("workspace:{}", h.workspace));
    let (publisher, person) = ("statement_publisher:prover", "operator:bob");
    let may = |object: &str, relation: &str, user: &str| h.facts.check(object, relation, user).unwrap();
    let mut times = 0;
    for action in action::ALL.iter().filter(|action| action.object != "object") {
        let Some(relation) = action.relation else { continue };
        let object = match action.object {
            "installation" => installation.clone(),
            "connection" => format!("connection:{}", h.connection),
            "mandate" => format!("mandate:{}", h.mandate),
            _ => workspace.clone(),
        };
        let is_publishing = action.name == "trust_statement.publish";
        assert_eq!(may(&object, relation, publisher), is_publishing, "{action:?}");
        times += usize::from(is_publishing);
    }
    assert_eq!(times, 1);
    assert!(may(&installation, "can_publish_statements", person), "a person publishes as well");
    assert!(may(&installation, "can_see", publisher), "it is refused there, and not told of nothing");
    assert!(!may(&workspace, "can_see", publisher), "it knows of no workspace");
}

#[test]
fn facts_of_elsewhere_count_for_nothing_here() {
    let h = house(&own());
    let elsewhere = Facts::none_yet(&own(), WorkspaceId::new(&h.clock));
    for key in h.keys.iter().chain(&h.grantees) {
        let denied = authorize::<action::ReadWorkspace>(&elsewhere, key, h.workspace, &h.clock).unwrap_err();
        assert_eq!(denied, Denied::NotVisible);
    }
    assert_eq!(type_of::<WorkspaceId>(), "workspace");
}

const ADDED: &str = "module playbook\n\ntype organisation\n  relations\n    define workspace: [workspace]\n    define member: [api_key]\n    \
                     define can_edit: member and admin from workspace\n    \
                     define can_see: member\n    define can_read: member\n    define can_manage: can_edit\n\nextend type workspace\n  relations\n    define editor: [api_key] or admin\n";

#[test]
fn an_addition_has_types_and_relations_of_its_own_and_the_house_says_what_it_said() {
    let added = with_addition("mine.toml", ADDED).unwrap();
    let (with, without) = (house(&added), house(&own()));
    for at in 0..ROLES.len() {
        assert_eq!(with.all(&with.keys[at]), without.all(&without.keys[at]));
        assert_eq!(with.all(&with.grantees[at]), without.all(&without.grantees[at]));
    }
    let [admin, service] = ["admin", "service"];
    let (workspace, organisation) = (format!("workspace:{}", with.workspace), "organisation:1".to_owned());
    let mut tuples = vec![
        Relationship::new(&organisation, "workspace", &workspace),
        Relationship::new(&workspace, "editor", "api_key:editor"),
        // The house's own relation has no room for what is added, whatever a row says.
        Relationship::new(&workspace, admin, "organisation:1#member"),
    ];
    for (key, role) in [("api_key:a", admin), ("api_key:b", service)] {
        tuples.push(Relationship::new(&workspace, role, key));
        tuples.push(Relationship::new(&organisation, "member", key));
    }
    let facts = Facts::new(&added, with.workspace, (1, 1, 1), tuples).unwrap();
    for (object, relation, user, expected) in [
        (organisation.as_str(), "can_edit", "api_key:a", true),
        (organisation.as_str(), "can_edit", "api_key:b", false),
        (workspace.as_str(), "editor", "api_key:a", true),
        (workspace.as_str(), "editor", "api_key:editor", true),
        (workspace.as_str(), admin, "api_key:editor", false),
        (workspace.as_str(), admin, "api_key:b", false),
        (workspace.as_str(), "can_see", "api_key:editor", false),
    ] {
        assert_eq!(facts.check(object, relation, user).unwrap(), expected, "{user} {relation} {object}");
    }
}

#[test]
fn an_addition_that_is_wrong_or_says_what_is_the_houses_is_refused_with_its_place() {
    for (text, line, column, words) in [
        ("", 1, 1, ""),
        ("model\n  schema 1.1\ntype organisation\n", 1, 1, "not a module"),
        ("module a\n\ntype organisation\n  relations\n    define member: [nobody]\n", 5, 21, "nobody"),
        ("module a\n\ntype organisation\n  relations\n    defin member: [api_key]\n", 5, 5, ""),
        ("module a\nextend type workspace\n  relations\n    define admin: [api_key, app]\n", 4, 12, "already exists"),
        ("module a\nextend type workspace\n  relations\n    define can_manage_keys: member\n", 4, 12, "already exists"),
        (
            "module a\nextend type installation\n  relations\n    define super_admin: operator\n",
            4,
            12,
            "already exists",
        ),
        ("module a\ntype workspace\n  relations\n    define admin: [api_key]\n", 2, 6, "duplicate type"),
        ("module a\nextend type nothing\n  relations\n    define member: [api_key]\n", 2, 13, "does not exist"),
    ] {
        let faults = with_addition("mine.toml", text).unwrap_err();
        let first = faults.first().unwrap_or_else(|| panic!("{text}"));
        assert_eq!(first.at, Some((line, column)), "{text}: {faults:?}");
        assert!(first.message.contains(words), "{text}: {first}");
    }
}

#[test]
fn a_model_that_says_otherwise_what_the_house_says_is_found_out() {
    let house = own();
    for (kind, relation) in [("workspace", "can_manage_keys"), ("installation", "super_admin"), ("mandate", "can_act")]
    {
        let mut whole = house.model().clone();
        let of_kind = whole.types.iter_mut().find(|it| it.name == kind).unwrap();
        of_kind.relations.get_mut(relation).unwrap().rewrite = crate::model::Rewrite::Computed("can_see".to_owned());
        let found = widened(house.model(), &whole);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains(relation), "{found:?}");
    }
    assert_eq!(widened(house.model(), house.model()), []);
}
