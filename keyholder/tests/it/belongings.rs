//! What probes make for themselves in their workspace: it ends with the probe, however that ends, or with the next one.

use std::panic::panic_any;

use proof::{Evidence, Failure, Outcome, belongings::Belongings, caller::Caller};
use serde_json::{Value, json};

use crate::harness::{TestApp, ok, text};

/// How a probe's work ends.
type Work = fn() -> Outcome;

/// Every thing that is there: its kind, and its id.
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

#[tokio::test(flavor = "multi_thread")]
async fn what_a_probe_makes_for_itself_is_ended_whatever_its_work_comes_to() {
    let app = TestApp::start().await;
    let before = there(&app.admin).await;
    let ends: [(&str, Work); 3] = [
        ("good", || Ok(Evidence::new())),
        ("a difference", || Err(Failure::broken("x", "y"))),
        ("a panic", || panic_any("on purpose")),
    ];
    for (end, work) in ends {
        let own = Belongings::make(&app.admin).await.unwrap();
        assert_eq!(there(&app.admin).await.len(), before.len() + 5, "{end}");
        let outcome = own.lent_to(async { work() }).await;
        assert_eq!(there(&app.admin).await, before, "{end}");
        let came = match outcome {
            Ok(_) => "good",
            Err(Failure::Broken { .. }) => "a difference",
            Err(Failure::Unproven(_)) => "a panic",
        };
        assert_eq!(came, end);
    }
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
    let is_among = |id: &str, there: &[String]| there.iter().any(|address| address.ends_with(&format!("/{id}")));
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
