use serde_json::json;

use super::*;
use crate::{language, query::Brought, tuples::Snapshot};

const MODEL: &str = "
model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
type folder
  relations
    define parent: [folder]
    define blocked: [user]
    define viewer: [user, user with by_day, group#member] or viewer from parent
    define reader: viewer but not blocked
    define auditor: [user]
    define both: reader and auditor

condition by_day(hour: int) {
  hour < 18
}
";

struct House {
    schema: Schema,
    tuples: Snapshot,
}

fn house(tuples: &[Relationship]) -> House {
    let schema = Schema::new(language::read_model(MODEL).unwrap()).unwrap();
    for tuple in tuples {
        schema.admit(tuple).unwrap();
    }
    House { schema, tuples: Snapshot::new(tuples).unwrap() }
}

impl House {
    fn ask(&self, object: &str, relation: &str, user: &str, context: &Json) -> Explanation {
        let brought = Brought { context: context.as_object(), ..Brought::default() };
        let request = CheckRequest { object, relation, user, brought };
        explain(&self.schema, &self.tuples, request, &Limits::default()).unwrap()
    }

    fn text(&self, object: &str, relation: &str, user: &str) -> String {
        self.ask(object, relation, user, &json!({})).to_string()
    }
}

fn tuple(object: &str, relation: &str, user: &str) -> Relationship {
    Relationship::new(object, relation, user)
}

#[test]
fn a_yes_shows_the_tuples_and_rules_that_gave_it() {
    let house = house(&[
        tuple("folder:b", "parent", "folder:a"),
        tuple("folder:a", "viewer", "group:x#member"),
        tuple("group:x", "member", "user:anne"),
        tuple("folder:b", "auditor", "user:anne"),
    ]);
    let expected = "\
yes
  folder:b#both: reader and auditor
    folder:b#both: reader
      folder:b#reader: viewer but not blocked
        folder:b#reader: viewer
          folder:b#viewer: [user, user with by_day, group#member] or viewer from parent
            over the tuple folder:b parent folder:a
            folder:a#viewer: [user, user with by_day, group#member] or viewer from parent
              over the tuple folder:a viewer group:x#member
              group:x#member: [user, group#member]
                by the tuple group:x member user:anne
        and does not stand in blocked
    folder:b#both: auditor
      folder:b#auditor: [user]
        by the tuple folder:b auditor user:anne
";
    let said = house.text("folder:b", "both", "user:anne");
    assert_eq!(said, expected, "{said}");
}

#[test]
fn a_no_shows_what_would_have_been_needed() {
    let house = house(&[
        tuple("folder:b", "parent", "folder:a"),
        tuple("folder:a", "viewer", "group:x#member"),
        tuple("group:y", "member", "user:bob"),
    ]);
    let Explanation::Lacks(lack) = house.ask("folder:b", "both", "user:bob", &json!({})) else { panic!() };
    assert!(lack.is_complete && lack.hindrances.is_empty(), "{lack:?}");
    let auditor = tuple("folder:b", "auditor", "user:bob");
    for viewer in [
        tuple("folder:b", "viewer", "user:bob"),
        tuple("folder:b", "viewer", "group:y#member"),
        tuple("folder:a", "viewer", "user:bob"),
        tuple("group:x", "member", "user:bob"),
        tuple("group:x", "member", "group:y#member"),
    ] {
        let found = lack.needed.iter().any(|set| set.len() == 2 && set.contains(&viewer) && set.contains(&auditor));
        assert!(found, "{viewer:?} is not in {:?}", lack.needed);
    }
    assert!(lack.needed.iter().all(|set| set.contains(&auditor)));
}

#[test]
fn what_is_nowhere_yet_is_made_up() {
    let model = "model\n  schema 1.1\ntype user\ntype team\n  relations\n    define member: [user]\ntype room\n  relations\n    define team: [team]\n    define guest: member from team\n";
    let schema = Schema::new(language::read_model(model).unwrap()).unwrap();
    let request = CheckRequest { object: "room:1", relation: "guest", user: "user:anne", brought: Brought::default() };
    let Explanation::Lacks(lack) = explain(&schema, &Snapshot::default(), request, &Limits::default()).unwrap() else {
        panic!()
    };
    let needed = [tuple("room:1", "team", "team:new"), tuple("team:new", "member", "user:anne")];
    assert_eq!(lack.needed, [needed]);
}

#[test]
fn what_is_taken_away_and_what_does_not_hold_is_named() {
    let house = house(&[
        tuple("folder:a", "viewer", "user:anne"),
        tuple("folder:a", "blocked", "user:anne"),
        tuple("folder:c", "viewer", "user:bob").under("by_day", serde_json::Map::new()),
    ]);
    let Explanation::Lacks(lack) = house.ask("folder:a", "reader", "user:anne", &json!({})) else { panic!() };
    assert!(lack.needed.is_empty(), "{lack:?}");
    let [Hindrance::Excluded { object, relation, by }] = lack.hindrances.as_slice() else { panic!("{lack:?}") };
    assert_eq!((object.as_str(), relation.as_str(), by.rule.as_str()), ("folder:a", "reader", "blocked"));

    let Explanation::Lacks(lack) = house.ask("folder:c", "reader", "user:bob", &json!({ "hour": 20 })) else {
        panic!()
    };
    assert!(matches!(lack.hindrances.as_slice(), [Hindrance::Condition { error: None, .. }]), "{lack:?}");
    assert!(lack.needed.contains(&vec![tuple("folder:c", "viewer", "user:bob")]), "{lack:?}");

    let withheld = house.ask("folder:c", "reader", "user:bob", &json!({}));
    let Explanation::Withheld { error: QueryError::Condition { .. }, hindrances } = &withheld else {
        panic!("{withheld:?}")
    };
    assert!(matches!(hindrances.as_slice(), [Hindrance::Condition { error: Some(_), .. }]), "{hindrances:?}");
    assert_eq!(withheld.to_json()["allowed"], Json::Null);
    assert_eq!(house.ask("folder:c", "reader", "user:bob", &json!({ "hour": 9 })).answer(), Some(true));
}

#[test]
fn a_question_that_is_none_is_refused_and_a_deep_one_is_withheld() {
    let chain: Vec<Relationship> =
        (1..60).map(|at| tuple(&format!("folder:{at}"), "parent", &format!("folder:{}", at - 1))).collect();
    let house = house(&chain);
    let request = |object, relation| CheckRequest { object, relation, user: "user:anne", brought: Brought::default() };
    let none = explain(&house.schema, &house.tuples, request("folder", "reader"), &Limits::default());
    assert!(matches!(none, Err(QueryError::Invalid(_))));
    let deep = house.ask("folder:59", "reader", "user:anne", &json!({}));
    assert!(matches!(deep, Explanation::Withheld { error: QueryError::TooComplex, .. }), "{deep:?}");
}

#[test]
fn a_wide_no_ends_within_its_bounds() {
    let mut tuples = Vec::new();
    for at in 0..300 {
        tuples.push(tuple("folder:a", "viewer", &format!("group:{at}#member")));
        tuples.extend(
            (0..10).map(|inner| tuple(&format!("group:{at}"), "member", &format!("group:{at}.{inner}#member"))),
        );
    }
    let house = house(&tuples);
    let Explanation::Lacks(lack) = house.ask("folder:a", "both", "user:anne", &json!({})) else { panic!() };
    assert!(!lack.is_complete && lack.needed.len() == TOLD_AT_MOST, "{}", lack.needed.len());
    assert_eq!(lack.needed[0].len(), 2);
}

#[test]
fn where_a_circle_runs_through_what_is_taken_away_something_else_may_help() {
    let text = "model\n  schema 1.1\ntype user\ntype document\n  relations\n    define parent: [document]\n    define all: [user:*]\n    \
                define odd: [user]\n    define apart: (odd or held) and (all from parent but not odd)\n    \
                define held: [user] but not apart\n";
    let schema = Schema::new(language::read_model(text).unwrap()).unwrap();
    let tuples = [
        tuple("document:1", "parent", "document:1"),
        tuple("document:1", "all", "user:*"),
        tuple("document:1", "held", "user:anne"),
    ];
    let house = House { schema, tuples: Snapshot::new(&tuples).unwrap() };
    let Explanation::Lacks(lack) = house.ask("document:1", "held", "user:anne", &json!({})) else { panic!() };
    let helps = [tuple("document:1", "odd", "user:anne")];
    let brought = Brought { tuples: &helps, ..Brought::default() };
    let request = CheckRequest { object: "document:1", relation: "held", user: "user:anne", brought };
    assert_eq!(crate::check(&house.schema, &house.tuples, request, &Limits::default()).ok(), Some(true));
    assert!(!lack.is_complete, "{lack:?}");
}

const TOLD_AT_MOST: usize = 8;
