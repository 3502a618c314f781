//! Circles and explosions: an error at the bound, and others are answered meanwhile.

use std::time::Duration;

use keyholder::caller::Caller;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Store, is, key, refused};
use crate::harness::TestApp;

/// Groups in which membership takes two things, each of which may be the membership of another group.
fn tangled(operator: &str) -> Value {
    let (this, cleared) = (json!({ "this": {} }), json!({ "computedUserset": { "relation": "cleared" } }));
    let member = match operator {
        "difference" => json!({ "difference": { "base": this, "subtract": cleared } }),
        _ => json!({ "intersection": { "child": [this, cleared] } }),
    };
    let types =
        json!({ "directly_related_user_types": [{ "type": "user" }, { "type": "group", "relation": "member" }] });
    json!({ "schema_version": "1.1", "type_definitions": [{ "type": "user" }, {
        "type": "group",
        "relations": { "cleared": { "this": {} }, "member": member },
        "metadata": { "relations": { "cleared": types, "member": types } },
    }] })
}

/// Everybody is a member of everybody else's group, by two relations.
fn everybody_of_everybody() -> Vec<Value> {
    let pairs = (0..24).flat_map(|one| (0..24).map(move |other| (one, other))).filter(|(one, other)| one != other);
    let both = |(one, other): (i32, i32)| {
        ["member", "cleared"].map(|relation| key(&format!("group:{one}"), relation, &format!("group:{other}#member")))
    };
    pairs.flat_map(both).collect()
}

/// A store in which a question about a group's members takes longer than anybody waits.
pub(crate) struct Explosion(Store);

impl Explosion {
    pub(crate) async fn new(admin: &Caller) -> Self {
        let store = Store::with(admin, &tangled("difference")).await;
        store.write(&everybody_of_everybody()).await;
        Self(store)
    }

    /// A batch of one check that is one: where it goes, and its body.
    pub(crate) fn batch(&self) -> (String, Value) {
        let check = json!({ "tuple_key": key("group:0", "member", "user:nobody"), "correlation_id": "one" });
        (self.0.path("batch-check"), json!({ "checks": [check] }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explosion_ends_at_the_bound_and_others_are_answered_meanwhile() {
    let app = TestApp::start_with(crate::matrices::without_limits).await;
    let tuples = everybody_of_everybody();
    let calm = Store::new(&app.admin).await;
    calm.write(&[key("document:1", "viewer", "user:anne")]).await;
    let (too_complex, mut given_up) = (is("authorization_model_resolution_too_complex", 400), 0);
    for operator in ["difference", "intersection"] {
        let store = Store::with(&app.admin, &tangled(operator)).await;
        store.write(&tuples).await;
        let heavy = json!({ "tuple_key": key("group:0", "member", "user:nobody") });
        let mut crowd = JoinSet::new();
        for _ in 0..8 {
            let (store, heavy) = (store.by(&app.admin), heavy.clone());
            crowd.spawn(async move { store.post("check", &heavy).await });
        }
        for _ in 0..20 {
            let asked = tokio::time::timeout(Duration::from_secs(5), calm.views("user:anne", "document:1"));
            assert!(asked.await.expect("nobody waits for another's explosion"));
        }
        for reply in crowd.join_all().await {
            // It has an answer, or it has none; it is never a yes.
            if reply.status == 200 {
                assert_eq!(reply.json()["allowed"], false);
                continue;
            }
            let refused = refused(&reply);
            given_up += usize::from(refused == too_complex);
            assert!(refused == too_complex || refused == is("throttled_timeout_error", 422), "{refused:?}");
        }
    }
    // Whoever waits long for his turn is out of time before that; who comes first is out of steps.
    assert!(given_up > 0, "nothing came to the bound on steps");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_is_no_and_what_lies_too_deep_has_no_answer() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let mut tuples = vec![
        key("document:a", "parent", "document:b"),
        key("document:b", "parent", "document:a"),
        key("document:0", "owner", "user:anne"),
    ];
    tuples.extend((1..40).map(|at| key(&format!("document:{at}"), "parent", &format!("document:{}", at - 1))));
    store.write(&tuples).await;
    assert!(!store.views("user:anne", "document:a").await);
    assert!(store.views("user:anne", "document:10").await);
    let deep = json!({ "tuple_key": key("document:39", "viewer", "user:anne") });
    assert_eq!(refused(&store.post("check", &deep).await), is("authorization_model_resolution_too_complex", 400));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tuple_has_a_context_of_so_many_bytes() {
    const MOST: usize = 32 * 1024;
    let app = TestApp::start().await;
    let reader = json!({ "directly_related_user_types": [{ "type": "user", "condition": "told" }] });
    let told = json!({
        "name": "told", "expression": "text != ''", "parameters": { "text": { "type_name": "TYPE_NAME_STRING" } },
    });
    let model = json!({
        "schema_version": "1.1",
        "type_definitions": [{ "type": "user" }, {
            "type": "document",
            "relations": { "reader": { "this": {} } },
            "metadata": { "relations": { "reader": reader } },
        }],
        "conditions": { "told": told },
    });
    let store = Store::with(&app.admin, &model).await;
    let tuple = |bytes: usize| {
        let context = json!({ "text": "a".repeat(bytes - r#"{"text":""}"#.len()) });
        let mut tuple = key("document:1", "reader", "user:anne");
        tuple["condition"] = json!({ "name": "told", "context": context });
        tuple
    };
    let longer = json!({ "writes": { "tuple_keys": [tuple(MOST + 1)] } });
    assert_eq!(refused(&store.post("write", &longer).await), is("validation_error", 400));
    store.write(&[tuple(MOST)]).await;
    app.stop().await;
}
