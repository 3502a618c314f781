//! What probes make for themselves in their workspace: it ends with the probe, however that ends, or with the next one.

use std::panic::panic_any;

use http::Method;
use proof::{Evidence, Failure, Outcome, belongings::Belongings, caller::Caller, undoing::Undoing};
use serde_json::{Value, json};

use crate::harness::{TestApp, ok, text};

/// How a probe's work ends.
type Work = fn() -> Outcome;

/// Every thing that is there, by its address.
async fn there(admin: &Caller) -> Vec<String> {
    let lists = [
        ("/v1/objects", "data"),
        ("/v1/role-templates", "data"),
        ("/fga/stores", "stores"),
        ("/v1/budgets", "data"),
        ("/v1/api-keys", "data"),
    ];
    let mut there = Vec::new();
    for (path, list) in lists {
        let listed = ok(admin.get(path).await.unwrap(), 200);
        // A key that was ended keeps its row.
        let alive =
            listed[list].as_array().unwrap().iter().filter(|it| it.get("revoked_at").is_none_or(Value::is_null));
        there.extend(alive.map(|it| format!("{path}/{}", text(it, "/id"))));
    }
    there
}

fn is_among(id: &str, there: &[String]) -> bool {
    there.iter().any(|address| address.ends_with(&format!("/{id}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_is_ended_whatever_the_work_comes_to() {
    let app = TestApp::start().await;
    let before = there(&app.admin).await;
    let ends: [(&str, Work); 3] = [
        ("good", || Ok(Evidence::new())),
        ("a difference", || Err(Failure::broken("x", "y"))),
        ("a panic", || panic_any("on purpose")),
    ];
    for (end, work) in ends {
        let own = Belongings::make(&app.admin).await.unwrap();
        let within = own.undoing.folder(Some(&own.object)).await.unwrap();
        let (key, id) = own.undoing.key("user").await.unwrap();
        ok(key.get("/v1/workspace").await.unwrap(), 200);
        let made = there(&app.admin).await;
        let known = [&own.key, &own.budget, &own.object, &own.template, &own.store, &id, &within];
        assert!(known.iter().all(|id| is_among(id, &made)), "{end}: {made:?}");
        assert_eq!(made.len(), before.len() + known.len(), "{end}: {made:?}");

        // With the outer folder goes what is in it: that it is there no more is no fault.
        let ended_by_the_work = async {
            ok(app.admin.delete(&format!("/v1/objects/{}", own.object)).await.unwrap(), 204);
            work()
        };
        let came = match own.undoing.after(ended_by_the_work).await {
            Ok(_) => "good",
            Err(Failure::Broken { .. }) => "a difference",
            Err(Failure::Unproven(_)) => "a panic",
        };
        assert_eq!((came, there(&app.admin).await), (end, before.clone()));
        assert_eq!(key.get("/v1/workspace").await.unwrap().status, 401, "{end}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ended_is_told_unless_the_work_has_more_to_tell() {
    let app = TestApp::start().await;
    let works: [(Work, &str); 2] =
        [(|| Ok(Evidence::new()), "/v1/workspace"), (|| Err(Failure::broken("a difference", "y")), "a difference")];
    for (work, told) in works {
        let undoing = Undoing::of(&app.admin);
        undoing.note(Method::DELETE, "/v1/workspace".to_owned());
        let came = undoing.after(async { work() }).await.unwrap_err().to_string();
        assert!(came.contains(told), "{came}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_before_something_could_not_be_made_is_ended() {
    let app = TestApp::start().await;
    let before = there(&app.admin).await;
    // The last of them is refused: there is room for no other model.
    let mut owner = app.owner().await;
    sqlx::raw_sql(
        "create function keyholder.full() returns trigger language plpgsql as $$ begin raise exception 'full'; end $$; \
         create trigger full_up before insert on keyholder.fga_models for each row execute function keyholder.full()",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    assert!(matches!(Belongings::make(&app.admin).await, Err(Failure::Unproven(_))));
    assert_eq!(there(&app.admin).await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_probe_left_is_ended_by_the_next_and_nothing_else_is() {
    let app = TestApp::start().await;
    let other = json!({ "type": "folder", "name": "of somebody else" });
    let other = ok(app.admin.post("/v1/objects", &other).await.unwrap(), 201);
    // Dropped, and never ended, as where the process is killed.
    let killed = Belongings::make(&app.admin).await.unwrap();
    let mut owner = app.owner().await;
    sqlx::raw_sql(
        "set session_replication_role = replica; set search_path = keyholder; \
         update objects set created_at = created_at - interval '11 minutes'; \
         update role_templates set created_at = created_at - interval '11 minutes'; \
         update fga_stores set created_at = created_at - interval '11 minutes'; \
         update api_keys set created_at = created_at - interval '11 minutes'",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let left = [&killed.object, &killed.template, &killed.store, &killed.budget];
    let before = there(&app.admin).await;
    assert!(left.iter().all(|id| is_among(id, &before)), "{before:?}");
    let next = Belongings::make(&app.admin).await.unwrap();
    let beside = Belongings::make(&app.admin).await.unwrap();
    let there = there(&app.admin).await;
    // Its key ends by itself.
    for left in left {
        assert!(!is_among(left, &there), "{left} in {there:?}");
    }
    for kept in
        [text(&other, "/id"), &next.object, &next.template, &next.store, &next.budget, &next.key, &beside.object]
    {
        assert!(is_among(kept, &there), "{kept} in {there:?}");
    }
    app.stop().await;
}
