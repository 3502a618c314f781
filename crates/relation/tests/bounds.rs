//! What strangers may send: any text, any model, tuples in any tangle. Nothing panics, nothing stays busy, nothing says yes by mistake.
#![expect(clippy::unwrap_used, reason = "what a test builds on fails by panicking, as the test does")]

mod told;

use std::cell::Cell;

use keyholder_relation::{
    Relationship, Schema, Snapshot, StopSign, TupleFault, batch_check, check, expand, language,
    language::{WriteOptions, parse, read_model, write},
    list_objects, list_users,
    model::{FaultKind, Model, validate},
    query::{Brought, CheckRequest, ExpandRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
    tuples::ReadError,
};
use proptest::{prelude::*, sample::select};
use serde_json::json;

use crate::told::{Reading, Told};

fn schema(text: &str) -> Schema {
    Schema::new(read_model(text).unwrap()).unwrap()
}

fn ask(schema: &Schema, tuples: &[Relationship], object: &str, relation: &str, user: &str) -> Result<bool, QueryError> {
    let request = CheckRequest { object, relation, user, brought: Brought::default() };
    check(schema, &Snapshot::new(tuples).unwrap(), request, &Limits::default())
}

const FOLDERS: &str = "
model
  schema 1.1
type user
type folder
  relations
    define parent: [folder]
    define viewer: [user] or viewer from parent
";

#[test]
fn a_chain_is_followed_to_the_bound_and_then_refused() {
    let schema = schema(FOLDERS.trim_start());
    let mut tuples: Vec<Relationship> =
        (1..60).map(|at| Relationship::new(format!("folder:{at}"), "parent", format!("folder:{}", at - 1))).collect();
    tuples.push(Relationship::new("folder:0", "viewer", "user:anne"));
    assert!(ask(&schema, &tuples, "folder:24", "viewer", "user:anne").unwrap());
    assert!(matches!(ask(&schema, &tuples, "folder:25", "viewer", "user:anne"), Err(QueryError::TooComplex)));
    assert!(matches!(ask(&schema, &tuples, "folder:59", "viewer", "user:bob"), Err(QueryError::TooComplex)));
    let stored = Snapshot::new(&tuples).unwrap();
    let request = ListUsersRequest {
        object: "folder:59",
        relation: "viewer",
        user_type: "user",
        user_relation: None,
        brought: Brought::default(),
    };
    assert!(matches!(list_users(&schema, &stored, request, &Limits::default()), Err(QueryError::TooComplex)));
    let request = ListObjectsRequest {
        object_type: "folder",
        relation: "viewer",
        user: "user:anne",
        brought: Brought::default(),
    };
    assert!(matches!(list_objects(&schema, &stored, request, &Limits::default()), Err(QueryError::TooComplex)));
}

/// Groups that all contain each other, in which membership takes two things.
fn tangle(rule: &str, groups: usize) -> (Schema, Vec<Relationship>) {
    let text = format!(
        "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define cleared: [user, group#member]\n    define member: {rule}\n"
    );
    let mut tuples = Vec::new();
    for one in 0..groups {
        for other in 0..groups {
            for relation in ["member", "cleared"] {
                tuples.push(Relationship::new(format!("group:{one}"), relation, format!("group:{other}#member")));
            }
        }
    }
    (schema(&text), tuples)
}

#[test]
fn an_explosion_ends_at_the_bound() {
    for rule in ["[user, group#member]", "[user, group#member] and cleared", "[user, group#member] but not cleared"] {
        let (schema, tuples) = tangle(rule, 20);
        match ask(&schema, &tuples, "group:0", "member", "user:anne") {
            Ok(said) => assert!(!said, "{rule}"),
            Err(error) => assert!(matches!(error, QueryError::TooComplex), "{rule}: {error}"),
        }
        let request =
            CheckRequest { object: "group:0", relation: "member", user: "user:anne", brought: Brought::default() };
        let few = Limits { steps: 10, ..Limits::default() };
        let outcome = check(&schema, &Snapshot::new(&tuples).unwrap(), request, &few);
        assert!(matches!(outcome, Err(QueryError::TooComplex)), "{rule}");
    }
    let (schema, tuples) = tangle("[user, group#member]", 60);
    assert!(!ask(&schema, &tuples, "group:0", "member", "user:anne").unwrap(), "a union is searched like a graph");
}

/// Tuples of which somebody is told before each reading.
type Left<'a> = Told<'a, &'a dyn Fn(Reading) -> Result<(), ReadError>>;

#[test]
fn a_question_ends_when_nobody_waits_for_it() {
    let (schema, mut tuples) = tangle("[user, group#member] and cleared", 20);
    tuples.push(Relationship::new("group:0", "member", "user:anne"));
    let kept = Snapshot::new(&tuples).unwrap();
    // Whoever asked is gone after so many readings.
    let ended = |before: usize, ask: &dyn Fn(&Left<'_>, Brought<'_>) -> Result<(), QueryError>| {
        let (stop, readings) = (StopSign::default(), Cell::new(0));
        let told = |_| {
            readings.set(readings.get() + 1);
            if readings.get() == before {
                stop.set();
            }
            Ok(())
        };
        let asked = ask(&Told { kept: &kept, told: &told }, Brought { stop: Some(&stop), ..Brought::default() });
        assert!(matches!(asked, Err(QueryError::Stopped)), "{asked:?}");
        assert!(readings.get() <= before + 2, "{} readings after {before}", readings.get());
    };
    let limits = Limits::default();
    for before in [1, 30, 100] {
        ended(before, &|left, brought| {
            let request = CheckRequest { object: "group:0", relation: "member", user: "user:bob", brought };
            check(&schema, left, request, &limits).map(|_| ())
        });
    }
    for before in [1, 10] {
        ended(before, &|left, brought| {
            let (object, relation, user_type) = ("group:0", "member", "user");
            let request = ListUsersRequest { object, relation, user_type, user_relation: None, brought };
            list_users(&schema, left, request, &limits).map(|_| ())
        });
        ended(before, &|left, brought| {
            let (object_type, relation, user) = ("group", "member", "user:anne");
            list_objects(&schema, left, ListObjectsRequest { object_type, relation, user, brought }, &limits)
                .map(|_| ())
        });
    }
    ended(1, &|left, brought| {
        expand(&schema, left, ExpandRequest { object: "group:0", relation: "member", brought }, &limits).map(|_| ())
    });
}

#[test]
fn a_tuple_costs_as_much_as_there_is_to_look_at() {
    let model = |width: usize| {
        let types: String = (0..width).map(|at| format!("type t{at}\n")).collect::<Vec<String>>().concat();
        let names: String = (0..width).map(|at| format!("t{at}, ")).collect::<Vec<String>>().concat();
        let group = format!(
            "type group\n  relations\n    define parent: [group]\n    define member: [{names}user, group#member]\n"
        );
        schema(&format!("model\n  schema 1.1\ntype user\n{types}{group}"))
    };
    let (narrow, wide) = (model(1), model(900));
    let tuples: Vec<Relationship> =
        (1..1_000).map(|at| Relationship::new("group:0", "member", format!("group:{at}#member"))).collect();
    let kept = Snapshot::new(&tuples).unwrap();
    let quick = Limits { steps: 20_000, ..Limits::default() };
    let brought = Brought::default();
    let request = CheckRequest { object: "group:0", relation: "member", user: "user:anne", brought };
    assert!(!check(&narrow, &kept, request, &quick).unwrap());
    assert!(matches!(check(&wide, &kept, request, &quick), Err(QueryError::TooComplex)));
    let (object, relation, user_type) = ("group:0", "member", "user");
    let request = ListUsersRequest { object, relation, user_type, user_relation: None, brought };
    assert!(list_users(&narrow, &kept, request, &quick).unwrap().is_empty());
    assert!(matches!(list_users(&wide, &kept, request, &quick), Err(QueryError::TooComplex)));
    let (object_type, user) = ("group", "group:1#member");
    let request = ListObjectsRequest { object_type, relation, user, brought };
    let few = Limits { steps: 90, ..quick };
    assert_eq!(list_objects(&narrow, &kept, request, &few).unwrap(), ["group:0", "group:1"]);
    assert!(matches!(list_objects(&wide, &kept, request, &few), Err(QueryError::TooComplex)));
    let request = ExpandRequest { object: "group:0", relation, brought };
    assert!(expand(&narrow, &kept, request, &quick).is_ok());
    assert!(matches!(expand(&wide, &kept, request, &quick), Err(QueryError::TooComplex)));
    // What a question brings along is looked at too.
    let brought: Vec<Relationship> = (0..100).map(|_| Relationship::new("group:x", "member", "user:bob")).collect();
    let request = CheckRequest {
        object: "group:x",
        relation,
        user: "user:anne",
        brought: Brought { tuples: &brought, ..Brought::default() },
    };
    let few = Limits { steps: 2_000, ..quick };
    assert!(!check(&narrow, &kept, request, &few).unwrap());
    assert!(matches!(check(&wide, &kept, request, &few), Err(QueryError::TooComplex)));
}

#[test]
fn few_words_make_no_model_of_very_many_ways() {
    let model = |types: usize, relations: usize| {
        let parents: Vec<String> = (0..types).map(|at| format!("t{at}")).collect();
        let kinds: String = parents
            .iter()
            .map(|name| format!("type {name}\n  relations\n    define x: [user]\n"))
            .collect::<Vec<String>>()
            .concat();
        let rules: String =
            (0..relations).map(|at| format!("    define r{at}: x from parent\n")).collect::<Vec<String>>().concat();
        let parents = parents.join(", ");
        format!("model\n  schema 1.1\ntype user\n{kinds}type d\n  relations\n    define parent: [{parents}]\n{rules}")
    };
    assert!(Schema::new(read_model(&model(300, 300)).unwrap()).is_ok());
    let model = model(500, 500);
    assert_eq!(read_model(&model).unwrap_err()[0].kind, FaultKind::TooLarge);
    let faults = Schema::new(parse(&model).unwrap().model().clone()).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(), [FaultKind::TooLarge]);
}

#[test]
fn the_patterns_of_a_model_are_bounded_together() {
    let model = |conditions: usize, pattern: &str| {
        let names: Vec<String> = (0..conditions).map(|at| format!("user with c{at}")).collect();
        let texts: String = (0..conditions)
            .map(|at| format!("condition c{at}(s: string) {{\n  s.matches('{pattern}')\n}}\n"))
            .collect::<Vec<String>>()
            .concat();
        let names = names.join(", ");
        let text = format!("model\n  schema 1.1\ntype user\ntype d\n  relations\n    define r: [{names}]\n{texts}");
        read_model(&text)
            .map_err(|faults| faults[0].kind)
            .and_then(|model| Schema::new(model).map_err(|faults| faults[0].kind))
    };
    assert!(model(50, "^[a-z]+@example$").is_ok());
    assert_eq!(model(200, "^[a-z]+@example$").err(), Some(FaultKind::TooLarge));
    // What each letter of must be looked up counts for more.
    assert!(model(10, "(?i)[^a]").is_ok());
    assert!(model(50, "(?i)[^a]").is_err());
}

#[test]
fn the_parameters_of_a_condition_count_even_where_they_are_missing() {
    let parameters: Vec<String> = (0..6_000).map(|at| format!("p{at}: int")).collect();
    let schema = schema(&format!(
        "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, group#member with c]\ncondition c({}) {{\n  p0 == 1\n}}\n",
        parameters.join(", ")
    ));
    let tuples: Vec<Relationship> = (1..=1_000)
        .map(|at| {
            Relationship::new("group:0", "member", format!("group:{at}#member")).under("c", serde_json::Map::new())
        })
        .collect();
    let tuples = Snapshot::new(&tuples).unwrap();
    let all: serde_json::Map<_, _> = (0..6_000).map(|at| (format!("p{at}"), json!(1))).collect();
    for context in [all, serde_json::Map::new()] {
        let brought = Brought { context: Some(&context), ..Brought::default() };
        let request = CheckRequest { object: "group:0", relation: "member", user: "user:anne", brought };
        let outcome = check(&schema, &tuples, request, &Limits::default());
        assert!(matches!(outcome, Err(QueryError::TooComplex)), "{outcome:?}");
    }
}

#[test]
fn a_question_brings_along_what_fits_and_not_too_much() {
    let schema = schema(FOLDERS.trim_start());
    let stored = Snapshot::default();
    let ask = |tuples: &[Relationship]| {
        let brought = Brought { tuples, ..Brought::default() };
        let request = CheckRequest { object: "folder:1", relation: "viewer", user: "user:anne", brought };
        check(&schema, &stored, request, &Limits::default())
    };
    assert!(ask(&[Relationship::new("folder:1", "viewer", "user:anne")]).unwrap());
    assert!(!ask(&[]).unwrap());
    assert_eq!(ask(&[Relationship::new("folder:1", "viewer", "folder:2")]).unwrap_err().code(), Some(2027));
    let many: Vec<Relationship> =
        (0..101).map(|at| Relationship::new("folder:1", "viewer", format!("user:{at}"))).collect();
    assert_eq!(ask(&many).unwrap_err().code(), Some(2000));
    let request =
        CheckRequest { object: "folder:1", relation: "viewer", user: "user:anne", brought: Brought::default() };
    assert!(batch_check(&schema, &stored, &[request; 51], &Limits::default()).is_err());
    assert_eq!(batch_check(&schema, &stored, &[request; 50], &Limits::default()).unwrap().len(), 50);
}

#[test]
fn a_tuple_against_the_model_is_refused() {
    let schema = schema(concat!(
        "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user]\n",
        "type document\n  relations\n    define viewer: [user, user with small, group#member]\n    define reader: viewer\n",
        "condition small(x: int) {\n  x < 10\n}\n"
    ));
    let tuple = Relationship::new;
    let small = |json: serde_json::Value| {
        tuple("document:1", "viewer", "user:a").under("small", json.as_object().unwrap().clone())
    };
    for admitted in [
        tuple("document:1", "viewer", "user:a"),
        tuple("document:1", "viewer", "group:1#member"),
        small(json!({})),
        small(json!({ "x": 1 })),
    ] {
        assert_eq!(schema.admit(&admitted), Ok(()), "{admitted:?}");
    }
    let not_allowed = |fault: &TupleFault| matches!(fault, TupleFault::NotAllowed { .. });
    for (refused, is_so) in [
        (
            tuple("document", "viewer", "user:a"),
            (|fault| matches!(fault, TupleFault::Object(_))) as fn(&TupleFault) -> bool,
        ),
        (tuple("document:*", "viewer", "user:a"), |fault| matches!(fault, TupleFault::Object(_))),
        (tuple("folder:1", "viewer", "user:a"), |fault| matches!(fault, TupleFault::Type(_))),
        (tuple("document:1", "owner", "user:a"), |fault| matches!(fault, TupleFault::Relation { .. })),
        (tuple("document:1", "viewer", "a"), |fault| matches!(fault, TupleFault::User(_))),
        (tuple("document:1", "viewer", "robot:a"), |fault| matches!(fault, TupleFault::Type(_))),
        (tuple("document:1", "viewer", "user:*"), not_allowed),
        (tuple("document:1", "viewer", "group:1"), not_allowed),
        (tuple("document:1", "reader", "user:a"), not_allowed),
        (tuple("document:1", "viewer", "document:1#viewer"), |fault| matches!(fault, TupleFault::Implicit(_))),
        (tuple("document:1", "viewer", "group:1#member").under("small", serde_json::Map::new()), not_allowed),
        (small(json!({ "x": "many" })), |fault| matches!(fault, TupleFault::Context(_))),
        (small(json!({ "y": 1 })), |fault| matches!(fault, TupleFault::Context(_))),
    ] {
        let fault = schema.admit(&refused).unwrap_err();
        assert!(is_so(&fault), "{refused:?}: {fault:?}");
    }
}

#[test]
fn a_relation_expands_by_one_level() {
    let schema = schema(concat!(
        "model\n  schema 1.1\ntype user\ntype folder\n  relations\n    define viewer: [user]\ntype document\n  relations\n",
        "    define parent: [folder]\n    define blocked: [user]\n    define viewer: ([user] or viewer from parent) but not blocked\n"
    ));
    let tuples = [
        Relationship::new("document:1", "viewer", "user:b"),
        Relationship::new("document:1", "viewer", "user:a"),
        Relationship::new("document:1", "parent", "folder:x"),
    ];
    let request = ExpandRequest { object: "document:1", relation: "viewer", brought: Brought::default() };
    let tree = expand(&schema, &Snapshot::new(&tuples).unwrap(), request, &Limits::default()).unwrap();
    let name = "document:1#viewer";
    let from = json!({ "tupleset": "document:1#parent", "computed": [{ "userset": "folder:x#viewer" }] });
    let union = json!([
        { "name": name, "leaf": { "users": { "users": ["user:a", "user:b"] } } },
        { "name": name, "leaf": { "tupleToUserset": from } },
    ]);
    let subtract = json!({ "name": name, "leaf": { "computed": { "userset": "document:1#blocked" } } });
    let difference = json!({ "base": { "name": name, "union": { "nodes": union } }, "subtract": subtract });
    assert_eq!(tree.to_json(), json!({ "name": name, "difference": difference }));
}

#[test]
fn a_snapshot_is_small() {
    let tuples: Vec<Relationship> = (0..10_000)
        .map(|at| {
            let user =
                if at % 4 == 0 { format!("group:{:08}#member", at % 500) } else { format!("user:{:08}", at % 3_000) };
            Relationship::new(format!("document:{:08}", at / 3), "viewer", user)
        })
        .collect();
    let snapshot = Snapshot::new(&tuples).unwrap();
    assert!(snapshot.bytes() <= 150 * snapshot.len(), "{} bytes for {}", snapshot.bytes(), snapshot.len());
    assert_eq!(Snapshot::new(tuples.iter().chain(&tuples)).unwrap().len(), snapshot.len());
}

#[test]
fn a_condition_that_makes_no_sense_is_refused_with_its_place() {
    let text = "model\n  schema 1.1\ntype user\ntype document\n  relations\n    define viewer: [user with small]\ncondition small(x: int) {\n  x < 10 &&\n    y > 1\n}\n";
    let faults = read_model(text).unwrap_err();
    let place = faults[0].place.clone().unwrap();
    assert_eq!((faults[0].kind, place.line.start, place.column.start), (FaultKind::InvalidCondition, 8, 4));
}

#[test]
fn texts_and_models_that_are_too_large_or_too_deep_are_refused() {
    let head = "model\n  schema 1.1\ntype user\ntype d\n  relations\n    define a: [user]\n";
    let too_long = format!("{head}{}", " ".repeat(language::TEXT_BYTES));
    assert_eq!(parse(&too_long).unwrap_err()[0].kind, FaultKind::TooLarge);
    for depth in [60, 300, 2_000, 100_000] {
        let text = format!("{head}    define b: {}a{}\n", "(".repeat(depth), ")".repeat(depth));
        let taken = read_model(&text);
        assert_eq!(taken.is_ok(), depth < 200, "{depth}");
    }
    let nested = (0..150).fold("a".to_owned(), |inner, _| format!("a or ({inner})"));
    let faults = read_model(&format!("{head}    define b: {nested}\n")).unwrap_err();
    assert_eq!(faults[0].kind, FaultKind::TooLarge);
    let wide = format!("{head}    define b: {}\n", vec!["a"; 20_000].join(" or "));
    assert!(read_model(&wide).is_err());
    let chain: Vec<String> = (0..6_000).map(|at| format!("    define r{at}: r{}", at + 1)).collect();
    let faults = read_model(&format!("{head}{}\n    define r6000: r0\n", chain.join("\n"))).unwrap_err();
    assert_eq!(faults.len(), 6_001);
    let mut json = json!({ "this": {} });
    for _ in 0..60 {
        json = json!({ "union": { "child": [json] } });
    }
    let model = |json: &serde_json::Value| {
        Model::from_json(
            &json!({ "schema_version": "1.1", "type_definitions": [{ "type": "d", "relations": { "r": json } }] }),
        )
    };
    assert!(model(&json).is_ok());
    for _ in 0..60 {
        json = json!({ "union": { "child": [json] } });
    }
    assert!(model(&json).is_err());
}

/// Pieces of the language, in any order.
fn soup() -> impl Strategy<Value = String> {
    let pieces = [
        "model",
        "schema",
        "1.1",
        "type",
        "user",
        "relations",
        "define",
        "viewer",
        ":",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "#",
        "*",
        ",",
        "<",
        ">",
        " ",
        "  ",
        "\n",
        "\n  ",
        "\n    ",
        "or",
        "and",
        "but not",
        "from",
        "with",
        "condition",
        "extend",
        "module",
        "string",
        "map",
        "list",
        "\"",
        "é",
        "\r\n",
        "\t",
        " #",
        "model\n  schema 1.1\ntype user\n",
        "type a\n  relations\n    define b: [user]",
    ];
    prop::collection::vec(select(pieces.to_vec()), 0..60).prop_map(|pieces| pieces.concat())
}

/// A sound model in which one piece is something else.
fn slip() -> impl Strategy<Value = String> {
    let sound = concat!(
        "module m\n\nextend type group\n  relations\n    define a: ([user, user:*, group#member with c] or b) but not (c and d from e)\n",
        "\ncondition c(x: map<string>, y: int) {\n  x[\"a\"] == \"}\" && y in [1, 2]\n}\n"
    );
    (0..sound.len(), 0..12_usize, soup()).prop_filter_map("between two letters", move |(from, length, other)| {
        let to = (from + length).min(sound.len());
        Some(format!("{}{}{}", sound.get(..from)?, other, sound.get(to..)?))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_with_places_that_are_in_it(text in prop_oneof![soup(), slip(), any::<String>()]) {
        match parse(&text) {
            Ok(parsed) => {
                let model = parsed.model();
                parsed.validate();
                validate(model);
                prop_assert_eq!(&Model::from_json(&model.to_json()).unwrap().to_json(), &model.to_json());
                if let Ok(written) = write(model, WriteOptions::default())
                    && !model.schema_version.is_empty()
                {
                    let again = parse(&written);
                    prop_assert_eq!(again.map(|parsed| parsed.model().to_json()), Ok(model.to_json()), "{}", written);
                }
            }
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                let lines = text.split('\n').count();
                for fault in faults {
                    let place = fault.place.unwrap();
                    prop_assert!(place.line.start < lines && place.line.start <= place.line.end, "{}", fault.message);
                }
            }
        }
    }

    #[test]
    fn any_text_is_an_expression_or_is_refused(expression in "[a-z0-9 .,()\\[\\]{}\"'!&|<>=+*/?:u-]{0,40}") {
        let condition = keyholder_relation::model::Condition {
            name: "c".to_owned(),
            expression,
            parameters: std::collections::BTreeMap::new(),
            source: keyholder_relation::model::Source::default(),
        };
        if let Ok(compiled) = keyholder_relation::condition::Compiled::new(&condition) {
            let _ = compiled.evaluate(None, None);
        }
    }
}
