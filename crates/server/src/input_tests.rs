use serde_json::json;

use super::*;
use crate::{route::Verb, routes};

fn posted(path: &str, body: Value) -> Result<(), Vec<(String, String)>> {
    read(path, &Arrived { body: Body::Json(body), ..Arrived::default() })
}

fn read(path: &str, arrived: &Arrived) -> Result<(), Vec<(String, String)>> {
    let route = routes::table().iter().find(|route| route.path == path && route.takes == Takes::Json).unwrap();
    (route.reads)(arrived).map_err(|problem| faults(&problem))
}

fn faults(problem: &Problem) -> Vec<(String, String)> {
    problem.faults().iter().map(|fault| (fault.pointer.clone(), fault.message.clone())).collect()
}

fn pointers(found: Result<(), Vec<(String, String)>>) -> Vec<String> {
    found.unwrap_err().into_iter().map(|(pointer, _)| pointer).collect()
}

#[test]
fn all_faults_are_told_at_once_each_with_its_place() {
    let body = json!({
        "connection": "con_x", "grantee": 7, "actions": ["a", 1], "extra": true, "a/b~c": 1, "expires_at": "tomorrow",
        "limits": [{ "unit": "acts", "per": "day", "cap": 1 }, { "unit": "stars", "per": "day", "cap": -1, "odd": 1 }, 5],
        "conditions": { "hours": { "from": "25:00", "to": "01:00" }, "fields": { "text": { "max": 1 }, "a/b": { "max_length": -1 } }, "odd": 1 },
    });
    let expected: BTreeSet<String> = [
        "/connection",
        "/grantee",
        "/actions/1",
        "/extra",
        "/a~1b~0c",
        "/expires_at",
        "/limits/1/unit",
        "/limits/1/cap",
        "/limits/1/odd",
        "/limits/2",
        "/conditions/hours/from",
        "/conditions/fields/text/max",
        "/conditions/fields/a~1b/max_length",
        "/conditions/odd",
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(pointers(posted("/v1/mandates", body)).into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(pointers(posted("/v1/mandates", json!({}))), ["/connection", "/grantee", "/actions"]);
    assert_eq!(pointers(posted("/v1/mandates", json!([]))), [""]);
}

#[test]
fn a_budget_of_the_workspace_has_no_subject_and_others_have_theirs() {
    let body = |scope: &str, subject: Value| json!({ "scope": scope, "subject": subject, "unit": "acts", "per": "day", "cap": 1 });
    assert!(posted("/v1/budgets", body("workspace", Value::Null)).is_ok());
    assert!(posted("/v1/budgets", body("connection", json!("con_01k5w8v9s6f7q8r9t0v1w2x3y4"))).is_ok());
    assert!(posted("/v1/budgets", body("principal", json!("key_01k5w8v9s6f7q8r9t0v1w2x3y4"))).is_ok());
    assert_eq!(pointers(posted("/v1/budgets", body("workspace", json!("x")))), ["/subject"]);
    assert_eq!(
        pointers(posted("/v1/budgets", body("principal", json!("con_01k5w8v9s6f7q8r9t0v1w2x3y4")))),
        ["/subject"]
    );
    assert_eq!(pointers(posted("/v1/budgets", body("installation", Value::Null))), ["/scope"]);
}

#[test]
fn an_idempotency_key_is_one_and_readable() {
    let act = || json!({ "mandate": "man_01k5w8v9s6f7q8r9t0v1w2x3y4", "action": "post.create" });
    let with = |values: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", http::HeaderValue::from_bytes(value).unwrap());
        }
        read("/v1/acts", &Arrived { headers, body: Body::Json(act()), ..Arrived::default() })
    };
    assert!(with(&[]).is_ok());
    assert!(with(&[b"a-key"]).is_ok());
    for bad in [&[b"a".as_slice(), b"b"] as &[&[u8]], &[b""], &[b"a b"], &[&[b'a'; 129]], &[b"\xff"]] {
        assert_eq!(pointers(with(bad)), ["Idempotency-Key"], "{bad:?}");
    }
}

#[test]
fn a_page_is_bounded_and_its_parameters_are_known() {
    let cases = [
        ("/v1/acts", true),
        ("/v1/acts?limit=100&before=act_01k5w8v9s6f7q8r9t0v1w2x3y4", true),
        ("/v1/acts?limit=101", false),
        ("/v1/acts?limit=0", false),
        ("/v1/acts?limit=-1", false),
        ("/v1/acts?limit=5&limit=6", false),
        ("/v1/acts?before=con_01k5w8v9s6f7q8r9t0v1w2x3y4", false),
        ("/v1/acts?after=x", false),
    ];
    for (target, passes) in cases {
        let arrived = Arrived { uri: target.parse().unwrap(), ..Arrived::default() };
        let read = Reader::read::<Page<domain::id::ActId>>(&arrived);
        assert_eq!(read.is_ok(), passes, "{target}");
    }
}

#[test]
fn an_id_that_cannot_exist_is_not_found() {
    let route = routes::table().iter().find(|route| route.path == "/v1/acts/{id}").unwrap();
    for bad in ["act_x", "con_01k5w8v9s6f7q8r9t0v1w2x3y4", "1", ""] {
        let path = BTreeMap::from([("id".to_owned(), bad.to_owned())]);
        let problem = (route.reads)(&Arrived { path, ..Arrived::default() }).unwrap_err();
        assert_eq!(problem.kind(), domain::problem::Kind::NotFound, "{bad}");
    }
}

#[test]
fn a_relation_in_the_query_is_a_name() {
    let route =
        routes::table().iter().find(|route| route.path.ends_with("/relationships") && route.method == Verb::Delete);
    let route = route.unwrap();
    let of = |relation: &str| {
        let target = format!("/v1/objects/x/relationships?relation={relation}&subject=key_01k5w8v9s6f7q8r9t0v1w2x3y4");
        let path = BTreeMap::from([("id".to_owned(), "obj_01k5w8v9s6f7q8r9t0v1w2x3y4".to_owned())]);
        let arrived = Arrived { uri: target.parse().unwrap(), path, ..Arrived::default() };
        (route.reads)(&arrived).map_err(|problem| faults(&problem))
    };
    assert!(of("viewer").is_ok());
    for bad in ["", "Viewer", "a%00", &"a".repeat(51)] {
        let found = pointers(of(bad));
        assert!(!found.is_empty() && found.iter().all(|pointer| pointer == "?relation"), "{bad}: {found:?}");
    }
}

#[test]
fn no_parameter_holds_what_no_text_of_the_database_can() {
    let route = routes::table().iter().find(|route| route.path == "/v1/objects" && route.method == Verb::Get).unwrap();
    let arrived = Arrived { uri: "/v1/objects?type=folder%00".parse().unwrap(), ..Arrived::default() };
    let problem = (route.reads)(&arrived).unwrap_err();
    assert!(faults(&problem).contains(&("?type".to_owned(), "holds U+0000".to_owned())));
}
