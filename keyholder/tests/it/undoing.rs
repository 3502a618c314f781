//! What a probe notes to be ended is ended: also where its work ended it, found a difference, or broke off.

use std::panic::panic_any;

use http::Method;
use proof::{Evidence, Failure, Outcome, caller::Caller, undoing::Undoing};
use serde_json::{Value, json};

use crate::harness::{TestApp, ok, text};

/// How a probe's work ends.
type Work = fn() -> Outcome;

/// How many folders, role templates, budgets and living keys there are.
async fn there(admin: &Caller) -> Vec<usize> {
    let mut there = Vec::new();
    for path in ["/v1/objects", "/v1/role-templates", "/v1/budgets", "/v1/api-keys?limit=100"] {
        let listed = ok(admin.get(path).await.unwrap(), 200);
        let living = |it: &&Value| it.get("revoked_at").is_none_or(Value::is_null);
        there.push(listed["data"].as_array().unwrap().iter().filter(living).count());
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_is_ended_whatever_the_work_comes_to() {
    let app = TestApp::start().await;
    let before = there(&app.admin).await;
    let ends: [(&str, Work); 3] = [
        ("good", || Ok(Evidence::new())),
        ("a difference", || Err(Failure::broken("x", "y"))),
        ("a panic", || panic_any("on purpose")),
    ];
    for (end, work) in ends {
        let undoing = Undoing::of(&app.admin);
        let (key, id) = undoing.key("service").await.unwrap();
        ok(key.get("/v1/workspace").await.unwrap(), 200);
        let outer = undoing.folder(None).await.unwrap();
        undoing.folder(Some(&outer)).await.unwrap();
        undoing.template(&["audit.read"]).await.unwrap();
        let cap = json!({ "scope": "principal", "subject": id, "unit": "acts", "per": "month", "cap": 1 });
        ok(app.admin.post("/v1/budgets", &cap).await.unwrap(), 200);
        let budgets = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
        let budget = budgets["data"].as_array().unwrap().iter().find(|it| text(it, "/subject") == id).unwrap();
        undoing.note(Method::DELETE, format!("/v1/budgets/{}", text(budget, "/id")));
        let made: Vec<usize> = there(&app.admin).await.iter().zip(&before).map(|(is, was)| is - was).collect();
        assert_eq!(made, [2, 1, 1, 1], "{end}");

        // With the outer folder goes what is in it: that it is there no more is no fault.
        let ended_by_the_work = async {
            app.admin.delete(&format!("/v1/objects/{outer}")).await.unwrap();
            work()
        };
        let came = match undoing.after(ended_by_the_work).await {
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
async fn what_cannot_be_ended_is_told() {
    let app = TestApp::start().await;
    let undoing = Undoing::of(&app.admin);
    undoing.note(Method::DELETE, "/v1/workspace".to_owned());
    let told = undoing.after(async { Ok(Evidence::new()) }).await.unwrap_err();
    assert!(told.to_string().contains("/v1/workspace"), "{told}");
    app.stop().await;
}
