//! Stores that are not held in memory: the same answers from pages, each of one state.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::task::JoinSet;

use super::{Store, is, key, model, refused};
use crate::harness::{TestApp, eventually, ok};

/// A server that holds no store whole.
async fn paging() -> TestApp {
    TestApp::start_with(|options| options.relations.held_tuples = 0).await
}

/// Groups in groups, folders in folders, and a few who are kept out.
fn tuples() -> Vec<Value> {
    let mut tuples = vec![
        key("group:1", "member", "user:anne"),
        key("group:0", "member", "group:1#member"),
        key("group:1", "member", "group:0#member"),
        key("group:all", "member", "user:*"),
        key("document:0", "viewer", "group:0#member"),
        key("document:3", "blocked", "user:anne"),
        key("document:5", "owner", "user:bob"),
        key("document:open", "viewer", "group:all#member"),
    ];
    tuples.extend((1..9).map(|at| key(&format!("document:{at}"), "parent", &format!("document:{}", at - 1))));
    tuples.extend((0..40).map(|at| key("group:1", "member", &format!("user:u{at}"))));
    tuples
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_answer_as_memory_does() {
    let (small, large) = (TestApp::start().await, paging().await);
    let (held, paged) = (Store::new(&small.admin).await, Store::new(&large.admin).await);
    let tuples = tuples();
    held.write(&tuples).await;
    paged.write(&tuples).await;
    // The second time the pages are kept.
    for _ in 0..2 {
        for user in ["user:anne", "user:bob", "user:u7", "user:nobody", "group:1#member", "user:*"] {
            for at in 0..9 {
                let document = format!("document:{at}");
                assert_eq!(paged.views(user, &document).await, held.views(user, &document).await, "{user} {document}");
            }
            assert_eq!(paged.documents(user).await, held.documents(user).await, "{user}");
        }
        for document in ["document:0", "document:4", "document:8", "document:open", "document:none"] {
            assert_eq!(paged.viewers(document).await, held.viewers(document).await, "{document}");
            let asked = json!({ "tuple_key": { "object": document, "relation": "viewer" } });
            assert_eq!(ok(paged.post("expand", &asked).await, 200), ok(held.post("expand", &asked).await, 200));
        }
    }
    // What is written is seen by the next question, whatever was kept.
    paged.delete(&[key("group:1", "member", "user:anne")]).await;
    assert!(!paged.views("user:anne", "document:0").await);
    paged.write(&[key("document:2", "owner", "user:anne")]).await;
    assert!(paged.views("user:anne", "document:2").await);
    assert_eq!(paged.documents("user:anne").await, json!(["document:2", "document:open"]));
    small.stop().await;
    large.stop().await;
}

/// A document moves from one folder to another, and its viewer with it, in one call, again and again: she views it in each state, and
/// would not in any mixture of two.
async fn never_two_states(app: TestApp) {
    let store = Arc::new(Store::new(&app.admin).await);
    let place = |folder: &str| [key("document:a", "parent", folder), key(folder, "owner", "user:anne")];
    store.write(&place("document:b")).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut writer = JoinSet::new();
    {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        writer.spawn(async move {
            let (mut here, mut there) = ("document:b", "document:c");
            for _ in 0..100 {
                let moved =
                    json!({ "writes": { "tuple_keys": place(there) }, "deletes": { "tuple_keys": place(here) } });
                ok(store.post("write", &moved).await, 200);
                std::mem::swap(&mut here, &mut there);
            }
            done.store(true, Ordering::Release);
        });
    }
    let mut asked = 0;
    while !done.load(Ordering::Acquire) {
        assert!(store.views("user:anne", "document:a").await, "an answer between two states");
        let tree = json!({ "tuple_key": { "object": "document:a", "relation": "parent" } });
        let users = ok(store.post("expand", &tree).await, 200)["tree"]["root"]["leaf"]["users"]["users"].clone();
        assert_eq!(users.as_array().unwrap().len(), 1, "{users}");
        asked += 1;
    }
    writer.join_all().await;
    assert!(asked > 5, "{asked}");
    drop(store);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_of_two_states_from_memory() {
    never_two_states(TestApp::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_of_two_states_from_pages() {
    never_two_states(paging().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_question_is_answered_by_one_model_while_models_change() {
    let app = TestApp::start().await;
    let store = Arc::new(Store::new(&app.admin).await);
    store.write(&[key("document:1", "owner", "user:anne"), key("document:1", "blocked", "user:bob")]).await;
    // In the one model owners view and who is blocked does not; in the other it is the other way round.
    let turned = |viewer: &str| {
        let mut model = model();
        model["type_definitions"][2]["relations"]["viewer"] = json!({ "computedUserset": { "relation": viewer } });
        let metadata = &mut model["type_definitions"][2]["metadata"]["relations"]["viewer"];
        metadata["directly_related_user_types"] = json!([]);
        model.as_object_mut().unwrap().remove("conditions");
        model
    };
    let models = [turned("owner"), turned("blocked")];
    ok(store.post("authorization-models", &models[0]).await, 201);
    let done = Arc::new(AtomicBool::new(false));
    let mut writer = JoinSet::new();
    {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        writer.spawn(async move {
            for at in 0..40 {
                ok(store.post("authorization-models", &models[at % 2]).await, 201);
            }
            done.store(true, Ordering::Release);
        });
    }
    let item =
        |name: &str, user: &str| json!({ "correlation_id": name, "tuple_key": key("document:1", "viewer", user) });
    let mut seen = std::collections::BTreeSet::new();
    while !done.load(Ordering::Acquire) {
        let batch = json!({ "checks": [item("anne", "user:anne"), item("bob", "user:bob")] });
        let result = ok(store.post("batch-check", &batch).await, 200)["result"].clone();
        let said = (result["anne"]["allowed"].as_bool().unwrap(), result["bob"]["allowed"].as_bool().unwrap());
        assert!([(true, false), (false, true)].contains(&said), "half of one model and half of another: {said:?}");
        seen.insert(said);
    }
    writer.join_all().await;
    assert_eq!(seen.len(), 2, "both models were seen: {seen:?}");
    drop(store);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_needs_more_pages_than_it_may_has_no_answer() {
    let app = TestApp::start_with(|options| {
        options.relations.held_tuples = 0;
        options.relations.pages = 30;
        options.relations.lines = 200;
    })
    .await;
    let store = Store::new(&app.admin).await;
    let many: Vec<Value> = (0..300).map(|at| key("group:large", "member", &format!("user:{at}"))).collect();
    store.write(&many).await;
    let chain: Vec<Value> = (0..50).map(|at| key("group:0", "member", &format!("group:x{at}#member"))).collect();
    store.write(&chain).await;
    store
        .write(&[key("document:1", "viewer", "group:large#member"), key("document:2", "viewer", "group:0#member")])
        .await;
    // A check looks for the one, and not through all: it is answered.
    assert!(store.views("user:299", "document:1").await);
    let complex = is("authorization_model_resolution_too_complex", 400);
    let listed = json!({ "object": { "type": "document", "id": "1" }, "relation": "viewer", "user_filters": [{ "type": "user" }] });
    assert_eq!(refused(&store.post("list-users", &listed).await), complex, "more tuples than it may read");
    let asked = json!({ "tuple_key": key("document:2", "viewer", "user:nobody") });
    assert_eq!(refused(&store.post("check", &asked).await), complex, "more pages than it may read");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_large_contexts_is_read_by_pages_and_no_question_reads_them_all() {
    let app = TestApp::start_with(|options| options.relations.bytes = 256 * 1024).await;
    let viewer = json!({ "directly_related_user_types": [{ "type": "user", "condition": "named" }] });
    let words = json!({ "type_name": "TYPE_NAME_LIST", "generic_types": [{ "type_name": "TYPE_NAME_STRING" }] });
    let model = json!({
        "schema_version": "1.1",
        "type_definitions": [
            { "type": "user" },
            { "type": "document", "relations": { "viewer": { "this": {} } }, "metadata": { "relations": { "viewer": viewer } } },
        ],
        "conditions": { "named": { "name": "named", "expression": "words.size() > 0", "parameters": { "words": words } } },
    });
    let store = Store::with(&app.admin, &model).await;
    let tuple = |document: &str, user: &str, letters: usize| {
        let mut tuple = key(document, "viewer", user);
        tuple["condition"] = json!({ "name": "named", "context": { "words": ["x".repeat(letters)] } });
        tuple
    };
    let large: Vec<Value> = (0..20).map(|at| tuple("document:1", &format!("user:{at}"), 30_000)).collect();
    for part in large.chunks(5) {
        store.write(part).await;
    }
    store.write(&[tuple("document:2", "user:anne", 1)]).await;
    let listed = json!({ "object": { "type": "document", "id": "1" }, "relation": "viewer", "user_filters": [{ "type": "user" }] });
    // Again and again: what was too large to be held is so, and pages that were kept count as those that were read.
    for _ in 0..4 {
        assert!(store.views("user:7", "document:1").await);
        assert!(!store.views("user:nobody", "document:1").await);
        assert_eq!(store.viewers("document:2").await, json!([{ "object": { "type": "user", "id": "anne" } }]));
        let complex = is("authorization_model_resolution_too_complex", 400);
        assert_eq!(refused(&store.post("list-users", &listed).await), complex);
    }
    app.stop().await;
}

/// Another database takes over, in which the store came to the same revision by another write.
async fn never_of_a_lost_history(app: TestApp) {
    let store = Store::new(&app.admin).await;
    store.write(&[key("document:1", "viewer", "user:anne")]).await;
    assert!(store.views("user:anne", "document:1").await);
    assert!(!store.views("user:bob", "document:1").await);
    let mut owner = app.owner().await;
    for statement in
        ["update keyholder.fga_tuples set subject = 'user:bob'", "update keyholder.heads set epoch = epoch + 1"]
    {
        assert!(sqlx::query(statement).execute(&mut owner).await.unwrap().rows_affected() > 0);
    }
    assert!(store.views("user:bob", "document:1").await);
    assert!(!store.views("user:anne", "document:1").await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_from_memory_is_of_a_history_that_was_lost() {
    never_of_a_lost_history(TestApp::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_from_pages_is_of_a_history_that_was_lost() {
    never_of_a_lost_history(paging().await).await;
}

async fn number(app: &TestApp, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(&mut app.owner().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_deleted_store_goes_by_a_job() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    store.write(&[key("document:1", "viewer", "user:anne")]).await;
    let many = "insert into keyholder.fga_tuples (workspace_id, store_id, object, relation, is_userset, subject, written_at) \
         select workspace_id, id, 'document:' || at, 'viewer', false, 'user:x', now() from keyholder.fga_stores, generate_series(2, 12000) at";
    let mut owner = app.owner().await;
    sqlx::query(many).execute(&mut owner).await.unwrap();
    // Its rows cannot be deleted at once.
    let mut holder = owner.begin().await.unwrap();
    sqlx::query("lock table keyholder.fga_tuples in share mode").execute(&mut *holder).await.unwrap();
    let path = format!("/fga/stores/{}", store.id);
    assert_eq!(app.admin.delete(&path).await.unwrap().status, 204);
    assert_eq!(
        refused(&app.admin.get(&path).await.unwrap()),
        is("store_id_not_found", 404),
        "it is gone for everybody"
    );
    assert_eq!(number(&app, "select count(*) from keyholder.jobs where kind = 'purge_store'").await, 1);
    holder.commit().await.unwrap();
    sqlx::query("update keyholder.jobs set run_at = clock_timestamp() where kind = 'purge_store'")
        .execute(&mut owner)
        .await
        .unwrap();
    eventually("the rows are gone, and the job", async || {
        number(&app, "select (select count(*) from keyholder.jobs) + (select count(*) from keyholder.fga_stores)").await
            == 0
    })
    .await;
    let rows = "select (select count(*) from keyholder.fga_tuples) + (select count(*) from keyholder.fga_changes)";
    assert_eq!(number(&app, rows).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_holds_so_many_tuples_and_remembers_so_many_changes() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let many: Vec<Value> = (0..250).map(|at| key(&format!("document:{at}"), "viewer", "user:anne")).collect();
    store.write(&many).await;
    let mut owner = app.owner().await;
    let full = "update keyholder.fga_stores set changes = 5000000";
    sqlx::query(full).execute(&mut owner).await.unwrap();
    store.write(&[key("document:x", "viewer", "user:bob")]).await;
    assert_eq!(number(&app, "select count(*) from keyholder.fga_changes").await, 51, "the oldest went");
    let first = ok(store.get("changes?page_size=1").await, 200);
    assert_eq!(first["changes"][0]["tuple_key"]["object"], "document:200");
    assert_eq!(number(&app, "select changes from keyholder.fga_stores").await, 5_000_000 + 1 - 200);

    sqlx::query("update keyholder.fga_stores set tuples = 5000000").execute(&mut owner).await.unwrap();
    let one = json!({ "writes": { "tuple_keys": [key("document:y", "viewer", "user:bob")] } });
    assert_eq!(refused(&store.post("write", &one).await), is("exceeded_entity_limit", 400));
    assert!(!store.views("user:bob", "document:y").await);
    store.delete(&[key("document:x", "viewer", "user:bob")]).await;
    store.write(&[key("document:y", "viewer", "user:bob")]).await;

    sqlx::query("update keyholder.fga_stores set models = 1000").execute(&mut owner).await.unwrap();
    assert_eq!(refused(&store.post("authorization-models", &model()).await), is("exceeded_entity_limit", 400));
    app.stop().await;
}
