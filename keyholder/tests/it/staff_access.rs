//! What the operator does in a workspace: it is in the workspace's trail and in the installation's, or it is not done.

use domain::principal::Principal;
use keyholder::caller::{Caller, Reply};
use serde_json::{Value, json};
use service::{
    Refusal,
    permission::{Question, explain},
};
use sqlx::AssertSqlSafe;

use crate::{
    harness::{TestApp, ok, problem, text},
    plans::chief,
};

/// The entries of an event in the workspace's trail, and in the installation's.
async fn in_both(app: &TestApp, chief: &Caller, event: &str) -> [Vec<Value>; 2] {
    let trails = [
        app.admin.get("/v1/audit?limit=100").await.unwrap(),
        chief.get("/v1/installation/audit?limit=100").await.unwrap(),
    ];
    trails.map(|trail| {
        let entries = ok(trail, 200)["data"].as_array().unwrap().clone();
        entries.into_iter().filter(|entry| text(entry, "/event") == event).collect()
    })
}

/// Whether the installation's trail takes an entry of this event.
async fn take(app: &TestApp, event: &str, takes: bool) {
    let change = if takes {
        "drop constraint refused".to_owned()
    } else {
        format!("add constraint refused check (event <> '{event}') not valid")
    };
    let statement = format!("alter table keyholder.installation_audit {change}");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut app.owner().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_does_in_a_workspace_is_in_both_trails_or_is_not_done() {
    let app = TestApp::start().await;
    let chief = chief(&app, "chief").await;
    let at = format!("/v1/installation/workspaces/{}", app.first.workspace);
    let (plan, objects) = (format!("{at}/plan"), format!("{at}/objects"));
    let handbook = json!({ "type": "folder", "name": "Handbook" });
    let made = ok(chief.post(&objects, &handbook).await.unwrap(), 201);
    let one = format!("{objects}/{}", text(&made, "/id"));
    let had = ok(app.admin.get("/v1/plan").await.unwrap(), 200)["plan"].clone();
    let other = if had == "PRO" { json!({ "plan": "FREE" }) } else { json!({ "plan": "PRO" }) };

    let attempt = async |event: &str| -> Reply {
        match event {
            "plan.set" => chief.post(&plan, &other).await.unwrap(),
            "system_object.created" => chief.post(&objects, &handbook).await.unwrap(),
            _ => chief.delete(&one).await.unwrap(),
        }
    };
    let state = async || {
        let plan = ok(app.admin.get("/v1/plan").await.unwrap(), 200)["plan"].clone();
        let objects = ok(app.admin.get("/v1/objects").await.unwrap(), 200)["data"].as_array().unwrap().len();
        (plan, objects)
    };
    for (event, after) in [
        ("plan.set", (other["plan"].clone(), 1)),
        ("system_object.created", (other["plan"].clone(), 2)),
        ("system_object.removed", (other["plan"].clone(), 1)),
    ] {
        let (before, entries) = (state().await, in_both(&app, &chief, event).await);
        take(&app, event, false).await;
        assert_eq!(problem(&attempt(event).await).0, 500, "{event}");
        assert_eq!(state().await, before, "{event} was not done");
        assert_eq!(in_both(&app, &chief, event).await, entries, "{event} is in neither trail");
        take(&app, event, true).await;
        assert!(attempt(event).await.status.is_success(), "{event}");
        assert_eq!(state().await, after, "{event}");
        for (trail, former) in in_both(&app, &chief, event).await.iter().zip(entries) {
            assert_eq!(trail.len(), former.len() + 1, "{event}");
            assert_eq!(text(&trail[0], "/principal"), "operator:chief");
        }
    }
    // A copy names the workspace, which is not to be seen from where it stands.
    let [_, installation] = in_both(&app, &chief, "system_object.removed").await;
    assert_eq!(installation[0]["detail"], json!({ "objects": 1, "workspace": app.first.workspace }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_at_the_machine_about_a_workspace_is_in_both_trails_before_he_is_answered() {
    let app = TestApp::start().await;
    let chief = chief(&app, "chief").await;
    let inner = app.instance.app();
    let host = Principal::operator("ada", inner.clock.now());
    let key = app.first.key.to_string();
    let question = |user: Option<&str>, permission: &str| Question {
        user: user.map(str::to_owned),
        permission: permission.to_owned(),
        object: None,
    };
    let ask = async |question: &Question| explain(inner, &host, app.first.workspace, question).await;

    let said = ask(&question(Some(&key), "audit.read")).await.unwrap();
    assert_eq!(said.explanation.answer(), Some(true));
    let expected = json!({ "user": key, "permission": "audit.read", "object": null });
    for trail in in_both(&app, &chief, "permission.explained").await {
        assert_eq!(trail.len(), 1);
        assert_eq!((text(&trail[0], "/principal"), &trail[0]["detail"]), ("operator:ada", &expected));
        assert_eq!(text(&trail[0], "/object"), format!("workspace:{}", app.first.workspace));
    }
    // Also where he is told that there is nothing to be told, which tells something too; and never more than a part of what he typed.
    assert!(matches!(ask(&question(None, "audit.read")).await, Err(Refusal::Invalid(_))));
    assert!(matches!(ask(&question(Some(&"x".repeat(5_000)), "audit.read")).await, Err(Refusal::Invalid(_))));
    for trail in in_both(&app, &chief, "permission.explained").await {
        assert_eq!(trail.len(), 3);
        assert_eq!(text(&trail[0], "/detail/user"), "x".repeat(300));
    }
    // What cannot be written is not answered.
    take(&app, "permission.explained", false).await;
    assert!(ask(&question(Some(&key), "audit.read")).await.is_err());
    take(&app, "permission.explained", true).await;
    // A member's question is no access of the operator's.
    ok(app.admin.post("/v1/permissions/explain", &json!({ "permission": "audit.read" })).await.unwrap(), 200);
    for trail in in_both(&app, &chief, "permission.explained").await {
        assert_eq!(trail.len(), 3);
    }
    app.stop().await;
}
