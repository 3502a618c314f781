//! All stores of a workspace together: how much they hold, and how what is deleted goes.

use serde_json::{Value, json};
use sqlx::Connection as _;

use super::{Store, is, key, model, refused};
use crate::harness::{TestApp, eventually};
use keyholder::local;

async fn number(app: &TestApp, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(&mut app.owner().await).await.unwrap()
}

async fn run(app: &TestApp, statement: &'static str) {
    sqlx::query(statement).execute(&mut app.owner().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_of_a_workspace_hold_so_much_together() {
    let app = TestApp::start().await;
    let (store, other) = (Store::new(&app.admin).await, Store::new(&app.admin).await);
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let theirs = Store::new(&app.stranger.with_key(&rival.text)).await;
    store.write(&[key("document:1", "viewer", "user:anne"), key("document:2", "viewer", "user:anne")]).await;
    other.write(&[key("document:1", "viewer", "user:anne")]).await;
    let full = is("exceeded_entity_limit", 400);
    let one = json!({ "writes": { "tuple_keys": [key("document:3", "viewer", "user:bob")] } });
    let assertion =
        json!({ "assertions": [{ "tuple_key": key("document:1", "viewer", "user:anne"), "expectation": true }] });

    // Another store of the workspace is as large as all may be together.
    run(&app, "update keyholder.fga_stores set tuples = 10000000 where tuples = 1").await;
    assert_eq!(refused(&store.post("write", &one).await), full);
    store.delete(&[key("document:2", "viewer", "user:anne")]).await;
    theirs.write(&[key("document:1", "viewer", "user:eve")]).await;

    run(&app, "update keyholder.fga_stores set tuples = 1, bytes = 8589934592 where tuples = 10000000").await;
    for reply in [
        store.post("write", &one).await,
        store.post("authorization-models", &model()).await,
        store.put(&format!("assertions/{}", store.model), &assertion).await,
    ] {
        assert_eq!(refused(&reply), full);
    }
    assert!(!store.views("user:bob", "document:3").await, "nothing of it was written");
    assert!(store.views("user:anne", "document:1").await, "what is there is answered");
    theirs.write(&[key("document:2", "viewer", "user:eve")]).await;
    // What is deleted makes room, also where the changes tell of it.
    store.delete(&[key("document:1", "viewer", "user:anne")]).await;
    run(&app, "update keyholder.fga_stores set bytes = 0").await;
    store.write(&[key("document:3", "viewer", "user:bob")]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_takes_is_counted() {
    const COUNTED: &str = "select sum(bytes)::bigint from keyholder.fga_stores";
    const THERE: &str = "select ((select coalesce(sum(keyholder.fga_row_bytes(object, relation, subject, context)), 0) from keyholder.fga_tuples) \
         + (select coalesce(sum(keyholder.fga_row_bytes(object, relation, subject, context)), 0) from keyholder.fga_changes) \
         + (select coalesce(sum(octet_length(model)), 0) from keyholder.fga_models) \
         + (select coalesce(sum(octet_length(assertions::text)), 0) from keyholder.fga_assertions))::bigint";
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    let counted = async |when: &str| {
        let there = number(&app, THERE).await;
        assert!(there > 0 && number(&app, COUNTED).await == there, "{when}: {there}");
        there
    };
    let empty = counted("a model").await;
    let mut bound = key("document:1", "viewer", "user:anne");
    bound["condition"] = json!({ "name": "in_time", "context": { "until": "2030-01-01T00:00:00Z" } });
    let many: Vec<Value> = (0..300).map(|at| key(&format!("document:{at}"), "owner", "user:bob")).collect();
    store.write(&[bound.clone()]).await;
    store.write(&many).await;
    let full = counted("writes").await;
    assert!(full > empty);
    store.delete(&many[..100]).await;
    store.delete(&many[100..200]).await;
    store.delete(&[key("document:1", "viewer", "user:anne")]).await;
    counted("deletes").await;
    let path = format!("assertions/{}", store.model);
    for expected in [json!([{ "tuple_key": key("document:1", "viewer", "user:anne"), "expectation": true }]), json!([])]
    {
        assert_eq!(store.put(&path, &json!({ "assertions": expected })).await.status, 204);
        counted("assertions").await;
    }
    // The oldest changes go, and what they took.
    run(&app, "update keyholder.fga_stores set changes = 5000000").await;
    store.write(&[key("document:x", "viewer", "user:bob")]).await;
    counted("changes that were forgotten").await;
    app.stop().await;
}

/// Writes down whether a store went while it had tuples: with them, all at once.
const WITNESS: [&str; 3] = [
    "create table keyholder.all_at_once (store uuid)",
    "create function keyholder.witness() returns trigger language plpgsql security definer as 'begin \
       if exists (select from keyholder.fga_tuples t where t.store_id = old.id) then insert into keyholder.all_at_once values (old.id); end if; \
       return old; end'",
    "create trigger witness before delete on keyholder.fga_stores for each row execute function keyholder.witness()",
];

#[tokio::test(flavor = "multi_thread")]
async fn two_who_delete_a_stores_rows_do_not_delete_all_of_it_at_once() {
    let app = TestApp::start().await;
    let store = Store::new(&app.admin).await;
    for statement in WITNESS {
        run(&app, statement).await;
    }
    run(
        &app,
        "insert into keyholder.fga_tuples (workspace_id, store_id, object, relation, is_userset, subject, written_at) \
         select workspace_id, id, 'document:' || lpad(at::text, 6, '0'), 'viewer', false, 'user:x', now() \
         from keyholder.fga_stores, generate_series(1, 6000) at",
    )
    .await;
    let mut owner = app.owner().await;
    // The call that deletes the store comes to none of its rows: they are left to the job.
    let mut holder = owner.begin().await.unwrap();
    sqlx::query("lock table keyholder.fga_tuples in share mode").execute(&mut *holder).await.unwrap();
    assert_eq!(app.admin.delete(&format!("/fga/stores/{}", store.id)).await.unwrap().status, 204);
    holder.commit().await.unwrap();
    // Somebody has just deleted the first of them as the job begins, in the way in which each does it.
    let mut first = owner.begin().await.unwrap();
    for statement in [
        "select from keyholder.fga_stores where deleted_at is not null for no key update",
        "delete from keyholder.fga_tuples where object < 'document:005991'",
    ] {
        sqlx::query(statement).execute(&mut *first).await.unwrap();
    }
    run(&app, "update keyholder.jobs set run_at = clock_timestamp() where kind = 'purge_store'").await;
    eventually("the job waits for the other", async || {
        number(
            &app,
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%fga_%'",
        )
        .await
            > 0
    })
    .await;
    first.commit().await.unwrap();
    eventually("all rows are gone", async || number(&app, "select count(*) from keyholder.fga_stores").await == 0)
        .await;
    assert_eq!(number(&app, "select count(*) from keyholder.all_at_once").await, 0, "it went with its rows");
    app.stop().await;
}
