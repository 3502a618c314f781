//! OpenFGA's API under `/fga`, by its own words on the wire. What its real clients make of it is tried in `fga_clients`.

mod bounds;
mod large;
mod pages;
mod together;

use http::{Method, StatusCode};
use keyholder::{
    caller::{Caller, Reply},
    local,
};
use serde_json::{Value, json};

pub(crate) use self::bounds::Explosion;
use crate::harness::{TestApp, ok, text};

/// Folders in folders, groups in groups, and who is kept out.
pub(crate) fn model() -> Value {
    let direct = |types: Value| json!({ "directly_related_user_types": types });
    json!({
        "schema_version": "1.1",
        "type_definitions": [
            { "type": "user" },
            {
                "type": "group",
                "relations": { "member": { "this": {} } },
                "metadata": { "relations": {
                    "member": direct(json!([{ "type": "user" }, { "type": "user", "wildcard": {} }, { "type": "group", "relation": "member" }])),
                } },
            },
            {
                "type": "document",
                "relations": {
                    "blocked": { "this": {} },
                    "owner": { "this": {} },
                    "parent": { "this": {} },
                    "viewer": { "difference": {
                        "base": { "union": { "child": [
                            { "this": {} },
                            { "computedUserset": { "relation": "owner" } },
                            { "tupleToUserset": { "tupleset": { "relation": "parent" }, "computedUserset": { "relation": "viewer" } } },
                        ] } },
                        "subtract": { "computedUserset": { "relation": "blocked" } },
                    } },
                },
                "metadata": { "relations": {
                    "blocked": direct(json!([{ "type": "user" }])),
                    "owner": direct(json!([{ "type": "user" }])),
                    "parent": direct(json!([{ "type": "document" }])),
                    "viewer": direct(json!([
                        { "type": "user" },
                        { "type": "user", "condition": "in_time" },
                        { "type": "group", "relation": "member" },
                    ])),
                } },
            },
        ],
        "conditions": { "in_time": {
            "name": "in_time",
            "expression": "now < until",
            "parameters": {
                "now": { "type_name": "TYPE_NAME_TIMESTAMP" },
                "until": { "type_name": "TYPE_NAME_TIMESTAMP" },
            },
        } },
    })
}

/// A store with a model, as its admin's caller sees it.
pub(crate) struct Store {
    pub(crate) caller: Caller,
    pub(crate) id: String,
    pub(crate) model: String,
}

/// A tuple's key.
pub(crate) fn key(object: &str, relation: &str, user: &str) -> Value {
    json!({ "object": object, "relation": relation, "user": user })
}

impl Store {
    /// A new store of the caller's workspace, with the model of these tests.
    pub(crate) async fn new(admin: &Caller) -> Self {
        Self::with(admin, &model()).await
    }

    pub(crate) async fn with(admin: &Caller, model: &Value) -> Self {
        let made = ok(admin.post("/fga/stores", &json!({ "name": "of-a-test" })).await.unwrap(), 201);
        let mut store = Self { caller: admin.clone(), id: text(&made, "/id").to_owned(), model: String::new() };
        let written = ok(store.post("authorization-models", model).await, 201);
        text(&written, "/authorization_model_id").clone_into(&mut store.model);
        store
    }

    /// The same store by another caller.
    pub(crate) fn by(&self, caller: &Caller) -> Self {
        Self { caller: caller.clone(), id: self.id.clone(), model: self.model.clone() }
    }

    fn path(&self, rest: &str) -> String {
        format!("/fga/stores/{}/{rest}", self.id)
    }

    pub(crate) async fn post(&self, what: &str, body: &Value) -> Reply {
        self.caller.post(&self.path(what), body).await.unwrap()
    }

    pub(crate) async fn get(&self, what: &str) -> Reply {
        self.caller.get(&self.path(what)).await.unwrap()
    }

    pub(crate) async fn put(&self, what: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.caller.send(Method::PUT, &self.path(what), &headers, body.to_string().into()).await.unwrap()
    }

    /// Writes tuples, a hundred a call.
    pub(crate) async fn write(&self, tuples: &[Value]) {
        for part in tuples.chunks(100) {
            let written = self.post("write", &json!({ "writes": { "tuple_keys": part } })).await;
            assert_eq!(ok(written, 200), json!({}));
        }
    }

    pub(crate) async fn delete(&self, tuples: &[Value]) {
        let deleted = self.post("write", &json!({ "deletes": { "tuple_keys": tuples } })).await;
        assert_eq!(ok(deleted, 200), json!({}));
    }

    /// Whether the user views it.
    pub(crate) async fn views(&self, user: &str, document: &str) -> bool {
        let asked = json!({ "tuple_key": key(document, "viewer", user) });
        ok(self.post("check", &asked).await, 200)["allowed"].as_bool().unwrap()
    }

    /// The documents that a user views.
    pub(crate) async fn documents(&self, user: &str) -> Value {
        let asked = json!({ "type": "document", "relation": "viewer", "user": user });
        ok(self.post("list-objects", &asked).await, 200)["objects"].clone()
    }

    /// Those of a type who view it.
    pub(crate) async fn viewers(&self, document: &str) -> Value {
        let (kind, id) = document.split_once(':').unwrap();
        let asked =
            json!({ "object": { "type": kind, "id": id }, "relation": "viewer", "user_filters": [{ "type": "user" }] });
        ok(self.post("list-users", &asked).await, 200)["users"].clone()
    }
}

/// A store with something of everything in it: its id and its model's.
pub(crate) async fn stocked(admin: &Caller) -> (String, String) {
    let store = Store::new(admin).await;
    store.write(&[key("document:1", "viewer", "user:anne")]).await;
    let assertion = json!({ "tuple_key": key("document:1", "viewer", "user:anne"), "expectation": true });
    let path = format!("assertions/{}", store.model);
    assert_eq!(store.put(&path, &json!({ "assertions": [assertion] })).await.status, 204);
    (store.id, store.model)
}

/// The status and the code of a refusal in OpenFGA's form.
#[track_caller]
pub(crate) fn refused(reply: &Reply) -> (u16, String) {
    assert_eq!(reply.header("content-type"), "application/json", "{}", String::from_utf8_lossy(&reply.body));
    let body = reply.json();
    assert!(!text(&body, "/message").is_empty(), "{body}");
    assert_eq!(text(&body, "/request_id"), reply.header("request-id"), "{body}");
    (reply.status.as_u16(), text(&body, "/code").to_owned())
}

pub(crate) fn is(code: &str, status: u16) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_a_model_tuples_and_every_question() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    store
        .write(&[
            key("group:staff", "member", "user:anne"),
            key("group:all", "member", "user:*"),
            key("document:root", "viewer", "group:staff#member"),
            key("document:leaf", "parent", "document:root"),
            key("document:leaf", "owner", "user:bob"),
            key("document:leaf", "blocked", "user:carl"),
            key("document:open", "viewer", "group:all#member"),
        ])
        .await;
    for (user, document, expected) in [
        ("user:anne", "document:root", true),
        ("user:anne", "document:leaf", true),
        ("user:bob", "document:leaf", true),
        ("user:bob", "document:root", false),
        ("user:carl", "document:open", true),
        ("group:staff#member", "document:leaf", true),
    ] {
        assert_eq!(store.views(user, document).await, expected, "{user} {document}");
    }
    assert_eq!(store.documents("user:anne").await, json!(["document:leaf", "document:open", "document:root"]));
    assert_eq!(
        store.viewers("document:leaf").await,
        json!([{ "object": { "type": "user", "id": "anne" } }, { "object": { "type": "user", "id": "bob" } }])
    );
    assert_eq!(store.viewers("document:open").await, json!([{ "wildcard": { "type": "user" } }]));

    // What a question brings along counts for it, and for it alone.
    let brought = json!({ "tuple_keys": [key("group:staff", "member", "user:dora")] });
    let asked = json!({ "tuple_key": key("document:leaf", "viewer", "user:dora"), "contextual_tuples": brought });
    assert_eq!(ok(store.post("check", &asked).await, 200)["allowed"], true);
    assert!(!store.views("user:dora", "document:leaf").await);

    let streamed = json!({ "type": "document", "relation": "viewer", "user": "user:bob" });
    let streamed = store.post("streamed-list-objects", &streamed).await;
    assert_eq!(streamed.header("openfga-authorization-model-id"), store.model);
    let lines: Vec<Value> = std::str::from_utf8(&streamed.body)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["result"]["object"].clone())
        .collect();
    assert_eq!(lines, ["document:leaf", "document:open"]);

    let tree = store.post("expand", &json!({ "tuple_key": { "object": "document:leaf", "relation": "viewer" } })).await;
    let tree = ok(tree, 200);
    assert_eq!(text(&tree, "/tree/root/name"), "document:leaf#viewer");
    let parents = "/tree/root/difference/base/union/nodes/2/leaf/tupleToUserset";
    assert_eq!(text(&tree, &format!("{parents}/tupleset")), "document:leaf#parent");
    assert_eq!(text(&tree, &format!("{parents}/computed/0/userset")), "document:root#viewer");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_is_asked_with_what_the_tuple_and_the_question_say() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let mut tuple = key("document:1", "viewer", "user:anne");
    tuple["condition"] = json!({ "name": "in_time", "context": { "until": "2030-01-01T00:00:00Z" } });
    store.write(&[tuple.clone()]).await;
    let check = async |context: Value| {
        let asked = json!({ "tuple_key": key("document:1", "viewer", "user:anne"), "context": context });
        store.post("check", &asked).await
    };
    assert_eq!(ok(check(json!({ "now": "2029-01-01T00:00:00Z" })).await, 200)["allowed"], true);
    assert_eq!(ok(check(json!({ "now": "2031-01-01T00:00:00Z" })).await, 200)["allowed"], false);
    assert_eq!(refused(&check(json!({})).await), is("validation_error", 400));
    let read = ok(store.post("read", &json!({})).await, 200);
    assert_eq!(read["tuples"][0]["key"]["condition"], tuple["condition"]);

    // A tuple of the question stands in the place of the one that is kept, with its condition or without one.
    store.write(&[key("document:1", "viewer", "user:bob")]).await;
    let (anne, mut bob) = (key("document:1", "viewer", "user:anne"), key("document:1", "viewer", "user:bob"));
    bob["condition"] = json!({ "name": "in_time", "context": { "until": "2020-01-01T00:00:00Z" } });
    for (user, brought, allowed) in [("user:anne", anne, true), ("user:bob", bob, false)] {
        let mut asked =
            json!({ "tuple_key": key("document:1", "viewer", user), "context": { "now": "2031-01-01T00:00:00Z" } });
        assert_eq!(ok(store.post("check", &asked).await, 200)["allowed"], !allowed, "{user}");
        asked["contextual_tuples"] = json!({ "tuple_keys": [brought] });
        assert_eq!(ok(store.post("check", &asked).await, 200)["allowed"], allowed, "{user}");
    }

    // A condition that the model does not have, or that says what it is not about, is not written.
    for condition in
        [json!({ "name": "nowhere" }), json!({ "name": "in_time", "context": { "x": 1 } }), json!({ "name": "" })]
    {
        let mut wrong = key("document:2", "viewer", "user:anne");
        wrong["condition"] = condition;
        let written = store.post("write", &json!({ "writes": { "tuple_keys": [wrong] } })).await;
        assert_eq!(refused(&written), is("validation_error", 400));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_done_as_a_whole_or_not_at_all() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let (anne, bob) = (key("document:1", "viewer", "user:anne"), key("document:1", "viewer", "user:bob"));
    store.write(std::slice::from_ref(&anne)).await;
    let write = async |body: Value| store.post("write", &body).await;
    let failed = "write_failed_due_to_invalid_input";
    for (body, expected) in [
        (json!({ "writes": { "tuple_keys": [bob, anne] } }), is(failed, 400)),
        (
            json!({ "writes": { "tuple_keys": [bob] }, "deletes": { "tuple_keys": [key("document:9", "viewer", "user:x")] } }),
            is(failed, 400),
        ),
        (json!({ "writes": { "tuple_keys": [bob, bob] } }), is("cannot_allow_duplicate_tuples_in_one_request", 400)),
        (
            json!({ "writes": { "tuple_keys": [bob] }, "deletes": { "tuple_keys": [bob] } }),
            is("cannot_allow_duplicate_tuples_in_one_request", 400),
        ),
        (json!({}), is("invalid_write_input", 400)),
        (json!({ "writes": { "tuple_keys": [] } }), is("validation_error", 400)),
        (
            json!({ "writes": { "tuple_keys": [bob, key("document:1", "viewer", "robot:1")] } }),
            is("validation_error", 400),
        ),
        (
            json!({ "writes": { "tuple_keys": [bob, key("document:1", "nothing", "user:x")] } }),
            is("validation_error", 400),
        ),
        (
            json!({ "writes": { "tuple_keys": [bob] }, "authorization_model_id": "01K5W8V9S6F7Q8R9T0V1W2X3Y4" }),
            is("authorization_model_not_found", 400),
        ),
    ] {
        assert_eq!(refused(&write(body.clone()).await), expected, "{body}");
    }
    let many: Vec<Value> = (0..101).map(|at| key(&format!("document:{at}"), "viewer", "user:bob")).collect();
    assert_eq!(refused(&write(json!({ "writes": { "tuple_keys": many } })).await), is("exceeded_entity_limit", 400));
    assert!(!store.views("user:bob", "document:1").await, "nothing of a call that failed was written");

    // Passed over where that is wanted; but never a tuple that would be another.
    let ignore = json!({ "writes": { "tuple_keys": [anne, bob], "on_duplicate": "ignore" } });
    assert_eq!(ok(write(ignore.clone()).await, 200), json!({}));
    assert_eq!(ok(write(ignore).await, 200), json!({}));
    let mut other = anne.clone();
    other["condition"] = json!({ "name": "in_time", "context": { "until": "2030-01-01T00:00:00Z" } });
    let differs = json!({ "writes": { "tuple_keys": [other], "on_duplicate": "ignore" } });
    assert_eq!(refused(&write(differs).await), is("aborted", 409));
    let gone =
        json!({ "deletes": { "tuple_keys": [bob, key("document:9", "viewer", "user:x")], "on_missing": "ignore" } });
    assert_eq!(ok(write(gone).await, 200), json!({}));
    assert!(!store.views("user:bob", "document:1").await && store.views("user:anne", "document:1").await);

    // What happened stands in the changes, and nothing else.
    let changes = ok(store.get("changes").await, 200);
    let told: Vec<_> = changes["changes"].as_array().unwrap().iter().collect();
    let named: Vec<_> =
        told.iter().map(|change| (text(change, "/operation"), text(change, "/tuple_key/user"))).collect();
    assert_eq!(
        named,
        [
            ("TUPLE_OPERATION_WRITE", "user:anne"),
            ("TUPLE_OPERATION_WRITE", "user:bob"),
            ("TUPLE_OPERATION_DELETE", "user:bob")
        ]
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_an_answer_for_each_and_a_fault_is_of_its_own() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    store.write(&[key("document:1", "viewer", "user:anne")]).await;
    let item = |name: &str, tuple: Value| json!({ "tuple_key": tuple, "correlation_id": name });
    let checks = json!({ "checks": [
        item("yes", key("document:1", "viewer", "user:anne")),
        item("no", key("document:1", "viewer", "user:bob")),
        item("odd", key("document:1", "nothing", "user:bob")),
    ] });
    let result = ok(store.post("batch-check", &checks).await, 200)["result"].clone();
    assert_eq!((&result["yes"]["allowed"], &result["no"]["allowed"]), (&json!(true), &json!(false)));
    assert_eq!(text(&result, "/odd/error/input_error"), "validation_error");
    let many: Vec<Value> = (0..51).map(|at| item(&format!("c{at}"), key("document:1", "viewer", "user:x"))).collect();
    let twice = [item("a", key("document:1", "viewer", "user:x")), item("a", key("document:1", "viewer", "user:y"))];
    for wrong in [json!({ "checks": [] }), json!({ "checks": many }), json!({ "checks": twice }), json!({})] {
        assert_eq!(refused(&store.post("batch-check", &wrong).await), is("validation_error", 400));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_make_sense_is_refused() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let typed = |relation: Value, user: &str| {
        json!({ "schema_version": "1.1", "type_definitions": [{ "type": "user" }, {
            "type": "document",
            "relations": { "viewer": relation },
            "metadata": { "relations": { "viewer": { "directly_related_user_types": [{ "type": user }] } } },
        }] })
    };
    for (model, code) in [
        (typed(json!({ "this": {} }), "robot"), "invalid_authorization_model"),
        (typed(json!({ "computedUserset": { "relation": "nothing" } }), "user"), "invalid_authorization_model"),
        (typed(json!({ "that": {} }), "user"), "validation_error"),
        (json!({ "schema_version": "9.9", "type_definitions": [{ "type": "user" }] }), "invalid_authorization_model"),
        (json!({ "schema_version": "1.1" }), "validation_error"),
        (json!({ "schema_version": "1.1", "type_definitions": [{ "type": "user" }], "extra": 1 }), "validation_error"),
    ] {
        assert_eq!(refused(&store.post("authorization-models", &model).await), is(code, 400), "{model}");
    }
    // What is read can be written again.
    let read = ok(store.get(&format!("authorization-models/{}", store.model)).await, 200);
    assert_eq!(text(&read, "/authorization_model/id"), store.model);
    ok(store.post("authorization-models", &read["authorization_model"]).await, 201);
    let nowhere = store.get("authorization-models/01K5W8V9S6F7Q8R9T0V1W2X3Y4").await;
    assert_eq!(refused(&nowhere), is("authorization_model_not_found", 400));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn assertions_are_kept_with_their_model() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let path = format!("assertions/{}", store.model);
    let none = json!({ "authorization_model_id": store.model, "assertions": [] });
    assert_eq!(ok(store.get(&path).await, 200), none);
    let mut assertion = json!({ "tuple_key": key("document:1", "viewer", "user:anne"), "expectation": true });
    assertion["contextual_tuples"] = json!([key("document:1", "owner", "user:anne")]);
    assertion["context"] = json!({ "x": 1 });
    assert_eq!(store.put(&path, &json!({ "assertions": [assertion] })).await.status, 204);
    let kept = ok(store.get(&path).await, 200);
    assert_eq!(kept["assertions"][0]["tuple_key"], assertion["tuple_key"]);
    assert_eq!(kept["assertions"][0]["context"], json!({ "x": 1 }));
    assert_eq!(kept["assertions"][0]["contextual_tuples"][0]["relation"], "owner");
    let odd =
        json!({ "assertions": [{ "tuple_key": key("document:1", "nothing", "user:anne"), "expectation": true }] });
    assert_eq!(refused(&store.put(&path, &odd).await), is("validation_error", 400));
    assert_eq!(ok(store.get(&path).await, 200), kept, "what was refused changed nothing");
    assert_eq!(store.put(&path, &json!({ "assertions": [] })).await.status, 204);
    assert_eq!(ok(store.get(&path).await, 200), none);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_of_its_workspace_and_gone_when_it_is_deleted() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    store.write(&[key("document:1", "viewer", "user:anne")]).await;
    // Its model and its tuples are in memory when a stranger asks.
    assert!(store.views("user:anne", "document:1").await);
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let theirs = store.by(&app.stranger.with_key(&rival.text));
    let check = json!({ "tuple_key": key("document:1", "viewer", "user:anne") });
    let write = json!({ "writes": { "tuple_keys": [key("document:1", "viewer", "user:eve")] } });
    let nowhere = is("store_id_not_found", 404);
    for reply in [
        theirs.post("check", &check).await,
        theirs.post("write", &write).await,
        theirs.post("write", &json!({ "deletes": { "tuple_keys": [key("document:1", "viewer", "user:anne")] } })).await,
        theirs.post("read", &json!({})).await,
        theirs.get("changes").await,
        theirs.get(&format!("authorization-models/{}", store.model)).await,
        theirs.get("authorization-models").await,
        theirs.post("authorization-models", &model()).await,
        theirs.get(&format!("assertions/{}", store.model)).await,
        theirs.caller.get(&format!("/fga/stores/{}", store.id)).await.unwrap(),
        theirs.caller.delete(&format!("/fga/stores/{}", store.id)).await.unwrap(),
    ] {
        assert_eq!(refused(&reply), nowhere);
        assert!(!String::from_utf8_lossy(&reply.body).contains(&store.model));
    }
    assert_eq!(ok(theirs.caller.get("/fga/stores").await.unwrap(), 200)["stores"], json!([]));
    // Nor by a model of his own store with the id of the other's.
    let own = Store::new(&theirs.caller).await;
    let foreign =
        json!({ "tuple_key": key("document:1", "viewer", "user:anne"), "authorization_model_id": store.model });
    assert_eq!(refused(&own.post("check", &foreign).await), is("authorization_model_not_found", 400));
    assert!(!own.views("user:anne", "document:1").await);

    // A service asks and writes tuples; it makes and deletes nothing else.
    let (agent, _) = app.agent().await;
    let agents = store.by(&agent);
    agents.write(&[key("document:2", "viewer", "user:bob")]).await;
    assert!(agents.views("user:bob", "document:2").await);
    for reply in [
        agent.post("/fga/stores", &json!({ "name": "its own" })).await.unwrap(),
        agents.post("authorization-models", &model()).await,
        agents.put(&format!("assertions/{}", store.model), &json!({ "assertions": [] })).await,
        agent.delete(&format!("/fga/stores/{}", store.id)).await.unwrap(),
    ] {
        assert_eq!(refused(&reply), is("forbidden", 403));
    }
    assert_eq!(refused(&app.stranger.get("/fga/stores").await.unwrap()), is("unauthenticated", 401));
    assert_eq!(refused(&app.admin.get("/fga/nowhere").await.unwrap()), is("undefined_endpoint", 404));

    assert_eq!(app.admin.delete(&format!("/fga/stores/{}", store.id)).await.unwrap().status, StatusCode::NO_CONTENT);
    assert_eq!(refused(&store.post("check", &check).await), nowhere);
    assert_eq!(refused(&app.admin.get(&format!("/fga/stores/{}", store.id)).await.unwrap()), nowhere);
    let mut owner = app.owner().await;
    for table in ["fga_stores", "fga_models", "fga_tuples", "fga_changes", "fga_assertions"] {
        let left = format!("select count(*) from keyholder.{table} where workspace_id = $1");
        let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(left))
            .bind(app.workspace_uuid())
            .fetch_one(&mut owner)
            .await
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_in_a_word_is_a_fault_and_never_another_question() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let tuple = key("document:1", "viewer", "user:anne");
    for wrong in [
        json!({ "tuple_key": tuple, "contextual_tuple": { "tuple_keys": [tuple] } }),
        json!({ "tuple_key": tuple, "contextual_tuples": { "tuples": [tuple] } }),
        json!({ "tuple_key": { "object": "document:1", "relation": "viewer" } }),
        json!({ "tuple_key": { "object": "document:1", "relation": "viewer", "user": "user:anne", "condition": {} } }),
        json!({ "tuple_key": tuple, "context": [] }),
        json!({ "tuple_key": tuple, "consistency": "SOMETIMES" }),
        json!({ "tuple_key": tuple, "authorization_model_id": "latest" }),
        json!({ "tuple_key": tuple, "trace": "no" }),
    ] {
        assert_eq!(refused(&store.post("check", &wrong).await), is("validation_error", 400), "{wrong}");
    }
    // What clients send for nothing is nothing.
    let plain = json!({
        "tuple_key": tuple, "contextual_tuples": null, "context": null, "consistency": "HIGHER_CONSISTENCY",
        "authorization_model_id": "", "trace": false,
    });
    assert_eq!(ok(store.post("check", &plain).await, 200), json!({ "allowed": false, "resolution": "" }));
    app.stop().await;
}
