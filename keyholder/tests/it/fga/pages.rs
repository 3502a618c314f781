//! Lists a page at a time: everything once, and no page that looks through all there is.

use serde_json::{Value, json};

use super::{Store, is, key, refused};
use crate::harness::{TestApp, ok, text};

#[tokio::test(flavor = "multi_thread")]
async fn tuples_come_page_by_page_and_each_once() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    store.write(&two_of_each(25)).await;
    for (filter, expected) in [
        (Value::Null, 50),
        (json!({}), 50),
        (json!({ "object": "document:03" }), 2),
        (json!({ "object": "document:03", "relation": "owner" }), 1),
        (json!({ "object": "document:03", "user": "user:anne" }), 1),
        (json!({ "object": "document:", "user": "user:anne" }), 25),
        (json!({ "object": "document:", "user": "user:bob", "relation": "viewer" }), 0),
        (json!({ "object": "group:", "user": "user:anne" }), 0),
    ] {
        let mut seen = std::collections::BTreeSet::new();
        let mut token = String::new();
        loop {
            let asked = json!({ "tuple_key": filter, "page_size": 7, "continuation_token": token });
            let page = ok(store.post("read", &asked).await, 200);
            let all = page["tuples"].as_array().unwrap();
            assert!(all.len() <= 7);
            for tuple in all {
                assert!(seen.insert(tuple["key"].to_string()), "{tuple} came twice");
                assert!(text(tuple, "/timestamp").ends_with('Z'));
            }
            text(&page, "/continuation_token").clone_into(&mut token);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), expected, "{filter}");
    }
    for wrong in [json!({ "user": "user:anne" }), json!({ "object": "document:" }), json!({ "object": "nonsense" })] {
        assert_eq!(refused(&store.post("read", &json!({ "tuple_key": wrong })).await), is("validation_error", 400));
    }
    let odd = store.post("read", &json!({ "continuation_token": "x" })).await;
    assert_eq!(refused(&odd), is("invalid_continuation_token", 400));
    app.stop().await;
}

/// A viewer and an owner of each of so many documents.
fn two_of_each(documents: usize) -> Vec<Value> {
    let both = |at: usize| {
        let document = format!("document:{at:02}");
        [key(&document, "viewer", "user:anne"), key(&document, "owner", "user:bob")]
    };
    (0..documents).flat_map(both).collect()
}

/// A page of changes, and its token as an address has it.
async fn changes(store: &Store, of: &str, token: &str) -> (Vec<Value>, String) {
    let page = ok(store.get(&format!("changes?{of}&continuation_token={token}")).await, 200);
    let next = url::form_urlencoded::byte_serialize(text(&page, "/continuation_token").as_bytes()).collect();
    (page["changes"].as_array().unwrap().clone(), next)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_page_by_page_and_each_once() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    store.write(&two_of_each(25)).await;
    let (mut token, mut told) = (String::new(), 0);
    loop {
        let (page, next) = changes(&store, "type=document&page_size=20", &token).await;
        told += page.len();
        if page.is_empty() {
            assert_eq!(next, token, "where nothing has come the token stays");
            break;
        }
        token = next;
    }
    assert_eq!(told, 50);
    let other = store.get(&format!("changes?type=group&continuation_token={token}")).await;
    assert_eq!(refused(&other), is("query_string_type_continuation_token_mismatch", 400));
    let later = ok(store.get("changes?start_time=2999-01-01T00:00:00Z").await, 200);
    assert_eq!(later["changes"], json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_changes_looks_through_all_of_them() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let many = "insert into keyholder.fga_changes (workspace_id, store_id, revision, place, is_write, object, relation, subject, principal, at) \
         select workspace_id, id, at, 0, true, case when at % 25000 = 0 then 'group:' else 'document:' end || at, 'owner', 'user:x', \
           'a test', '2030-01-01T00:00:00Z'::timestamptz + at * interval '1 second' from keyholder.fga_stores, generate_series(1, 50000) at";
    let mut owner = app.owner().await;
    sqlx::query(many).execute(&mut owner).await.unwrap();
    // Two groups are among them: the first page looks for a while and finds none, and says how far it came.
    let (mut token, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let (page, next) = changes(&store, "type=group", &token).await;
        assert!(pages > 0 || page.is_empty(), "the first page looked through 25000 changes");
        found.extend(page.iter().map(|change| text(change, "/tuple_key/object").to_owned()));
        if next == token {
            break;
        }
        (token, pages) = (next, pages + 1);
    }
    assert_eq!(found, ["group:25000", "group:50000"]);
    assert!(pages <= 5, "{pages} pages");
    // What was long ago is not looked through for what is since.
    let (page, _) = changes(&store, "type=group&start_time=2030-01-01T13:53:19Z", "").await;
    assert_eq!(page.len(), 1, "13:53:19 is 49999 seconds after the first");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_stores_come_page_by_page() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    store.write(&two_of_each(4)).await;
    // Models: the newest first, and a question by an older one is answered by that.
    let older = store.model.clone();
    let newer = json!({ "schema_version": "1.1", "type_definitions": [{ "type": "user" }] });
    let newer = text(&ok(store.post("authorization-models", &newer).await, 201), "/authorization_model_id").to_owned();
    let first = ok(store.get("authorization-models?page_size=1").await, 200);
    assert_eq!(text(&first, "/authorization_models/0/id"), newer);
    let rest = format!("authorization-models?continuation_token={}", text(&first, "/continuation_token"));
    let rest = ok(store.get(&rest).await, 200);
    assert_eq!((text(&rest, "/authorization_models/0/id"), text(&rest, "/continuation_token")), (older.as_str(), ""));
    let asked = json!({ "tuple_key": key("document:03", "viewer", "user:anne") });
    assert_eq!(refused(&store.post("check", &asked).await), is("validation_error", 400));
    let asked = json!({ "tuple_key": key("document:03", "viewer", "user:anne"), "authorization_model_id": older });
    assert_eq!(ok(store.post("check", &asked).await, 200)["allowed"], true);

    // Stores, by name and page by page.
    for _ in 0..3 {
        ok(app.admin.post("/fga/stores", &json!({ "name": "another" })).await.unwrap(), 201);
    }
    let (mut token, mut names) = (String::new(), Vec::new());
    loop {
        let page = format!("/fga/stores?page_size=2&continuation_token={token}");
        let page = ok(app.admin.get(&page).await.unwrap(), 200);
        names.extend(page["stores"].as_array().unwrap().iter().map(|store| text(store, "/name").to_owned()));
        text(&page, "/continuation_token").clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["of-a-test", "another", "another", "another"]);
    let of_one = ok(app.admin.get("/fga/stores?name=of-a-test").await.unwrap(), 200);
    assert_eq!(of_one["stores"].as_array().unwrap().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_question_reads_a_whole_store_because_the_database_takes_it_for_small() {
    let app = TestApp::start_with(|options| options.relations.held_tuples = 0).await;
    let store = Store::new(&app.admin).await;
    store.write(&[key("group:1", "member", "user:anne")]).await;
    let viewers: Vec<Value> = (1..=200).map(|at| key("document:1", "viewer", &format!("group:{at}#member"))).collect();
    let mut owner = app.owner().await;
    // What is there now is what the database knows of; then a large import comes. Whoever reads a row of the trap has read all.
    for statement in [
        "alter table keyholder.fga_tuples set (autovacuum_enabled = false)",
        "analyze keyholder.fga_tuples",
        "insert into keyholder.fga_tuples (workspace_id, store_id, object, relation, is_userset, subject, written_at) \
           select workspace_id, id, 'group:' || at, 'member', false, 'user:x' || more, now() \
           from keyholder.fga_stores, generate_series(2, 300) at, generate_series(1, 40) more",
        "insert into keyholder.fga_tuples (workspace_id, store_id, object, relation, is_userset, subject, written_at) \
           select workspace_id, id, 'trap:1', 'member', false, 'user:trap', now() from keyholder.fga_stores",
        "create function keyholder.not_trapped(text) returns boolean language plpgsql as \
           'begin if $1 = ''trap:1'' then raise exception ''the whole table was read''; end if; return true; end'",
        "grant execute on function keyholder.not_trapped(text) to public",
        "create policy trap on keyholder.fga_tuples as restrictive for select to public using (keyholder.not_trapped(object))",
    ] {
        sqlx::query(statement).execute(&mut owner).await.unwrap();
    }
    store.write(&viewers).await;
    assert!(store.views("user:x7", "document:1").await);
    assert!(!store.views("user:nobody", "document:1").await);
    app.stop().await;
}
