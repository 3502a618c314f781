//! Plans: what they open, who gives one, and how soon a downgrade closes what it no longer opens.

use domain::{
    id::WorkspaceId,
    operator::Purpose,
    plan::{Plan, Plans},
    principal::Principal,
};
use keyholder::{InstanceOptions, caller::Caller};
use serde_json::{Value, json};
use tokio::{sync::Mutex, task::JoinSet};

use crate::harness::{TestApp, eventually, ok, problem, text};

fn plans(of: &[(&str, &[&str])]) -> Plans {
    let plan = |(at, (name, features)): (usize, &(&str, &[&str]))| Plan {
        name: name.parse().unwrap(),
        features: features.iter().map(|name| name.parse().unwrap()).collect(),
        is_default: at == 0,
    };
    Plans::new(of.iter().enumerate().map(plan).collect()).unwrap()
}

/// FREE opens nothing, PRO and ENTERPRISE the sync, ENTERPRISE single sign-on besides.
fn three(options: &mut InstanceOptions) {
    let sync: &[&str] = &["content-sync"];
    options.plans = plans(&[("FREE", &[]), ("PRO", sync), ("ENTERPRISE", &["content-sync", "single-sign-on"])]);
}

/// A person of the operator's who is super-admin.
pub(crate) async fn chief(app: &TestApp, name: &str) -> Caller {
    let host = Principal::operator("local", app.instance.app().clock.now());
    let (_, key) = service::operator::create(app.instance.app(), &host, (name, Purpose::Person)).await.unwrap();
    service::operator::appoint_super_admin(app.instance.app(), &host, name).await.unwrap();
    app.stranger.with_key(&key)
}

fn path(app: &TestApp) -> String {
    format!("/v1/installation/workspaces/{}/plan", app.first.workspace)
}

async fn status(caller: &Caller, feature: &str) -> u16 {
    caller.get(&format!("/v1/features/{feature}")).await.unwrap().status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_is_open_to_workspaces_whose_plan_opens_it_and_to_no_other() {
    let app = TestApp::start_with(three).await;
    let (chief, (member, key)) = (chief(&app, "chief").await, app.agent().await);
    let view = ok(app.admin.get("/v1/plan").await.unwrap(), 200);
    let sync = json!({ "name": "content-sync", "open": false, "plans": ["PRO", "ENTERPRISE"] });
    let sso = json!({ "name": "single-sign-on", "open": false, "plans": ["ENTERPRISE"] });
    assert_eq!(view, json!({ "plan": "FREE", "features": [sync, sso] }));

    let refused = app.admin.get("/v1/features/content-sync").await.unwrap();
    assert_eq!(problem(&refused), (403, "plan-required".to_owned()));
    assert_eq!(refused.json()["plans"], json!(["PRO", "ENTERPRISE"]));
    assert_eq!(problem(&app.admin.get("/v1/features/unheard-of").await.unwrap()).0, 404);

    for (plan, expected) in [("PRO", [200, 403]), ("ENTERPRISE", [200, 200]), ("PRO", [200, 403]), ("FREE", [403, 403])]
    {
        let set = ok(chief.post(&path(&app), &json!({ "plan": plan })).await.unwrap(), 200);
        assert_eq!(text(&set, "/plan"), plan);
        // At once, for every member, and the route of questions says the same.
        for caller in [&app.admin, &member] {
            let found = [status(caller, "content-sync").await, status(caller, "single-sign-on").await];
            assert_eq!(found, expected, "{plan}");
        }
        let question = json!({ "permission": "can_use", "object": "feature:content-sync", "user": key });
        let said = ok(app.admin.post("/v1/permissions/explain", &question).await.unwrap(), 200);
        assert_eq!(said["allowed"], expected[0] == 200, "{plan}: {said}");
        // Whoever administers it must be an admin besides.
        for (caller, may) in [(&app.admin, expected[0] == 200), (&member, false)] {
            let question = json!({ "permission": "can_administer", "object": "feature:content-sync" });
            let said = ok(caller.post("/v1/permissions/explain", &question).await.unwrap(), 200);
            assert_eq!(said["allowed"], may, "{plan}: {said}");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_super_admin_gives_a_plan_and_both_trails_have_it() {
    let app = TestApp::start_with(three).await;
    let host = Principal::operator("local", app.instance.app().clock.now());
    let (_, key) = service::operator::create(app.instance.app(), &host, ("somebody", Purpose::Person)).await.unwrap();
    let (somebody, chief) = (app.stranger.with_key(&key), chief(&app, "chief").await);
    let pro = json!({ "plan": "PRO" });
    assert_eq!(problem(&somebody.post(&path(&app), &pro).await.unwrap()), (403, "forbidden".to_owned()));
    for caller in [&app.admin, &app.stranger] {
        assert_eq!(problem(&caller.post(&path(&app), &pro).await.unwrap()).0, 401);
    }
    let nowhere = format!("/v1/installation/workspaces/{}/plan", WorkspaceId::new(&app.instance.app().clock));
    assert_eq!(problem(&chief.post(&nowhere, &pro).await.unwrap()).0, 404);
    for wrong in [json!({ "plan": "GOLD" }), json!({ "plan": "pro" }), json!({}), json!({ "plan": "PRO", "price": 1 })]
    {
        assert_eq!(problem(&chief.post(&path(&app), &wrong).await.unwrap()).0, 422, "{wrong}");
    }
    assert_eq!(status(&app.admin, "content-sync").await, 403);
    let before =
        ok(app.admin.post("/v1/permissions/explain", &json!({ "permission": "plan.read" })).await.unwrap(), 200);
    ok(chief.post(&path(&app), &pro).await.unwrap(), 200);
    let after =
        ok(app.admin.post("/v1/permissions/explain", &json!({ "permission": "plan.read" })).await.unwrap(), 200);
    assert!(after["revision"].as_i64() > before["revision"].as_i64(), "the revision is raised");
    service::operator::dismiss_super_admin(app.instance.app(), &host, "chief").await.unwrap();
    assert_eq!(problem(&chief.post(&path(&app), &pro).await.unwrap()), (403, "forbidden".to_owned()));

    let trails = [app.admin.get("/v1/audit").await.unwrap(), somebody.get("/v1/installation/audit").await.unwrap()];
    for trail in trails {
        let entries = ok(trail, 200);
        let found: Vec<&Value> =
            entries["data"].as_array().unwrap().iter().filter(|entry| text(entry, "/event") == "plan.set").collect();
        assert_eq!(found.len(), 1, "{entries}");
        assert_eq!(text(found[0], "/principal"), "operator:chief");
        assert_eq!(found[0]["detail"], json!({ "plan": "PRO", "before": "FREE" }));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_dismissed_while_his_change_waits_for_the_workspace_changes_nothing() {
    let app = TestApp::start_with(three).await;
    let chief = chief(&app, "chief").await;
    let host = Principal::operator("local", app.instance.app().clock.now());
    // Somebody else is about to change the workspace, and in the end does not.
    let mut owner = app.owner().await;
    sqlx::query("begin").execute(&mut owner).await.unwrap();
    let holds = "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where id = $1";
    sqlx::query(holds).bind(app.workspace_uuid()).execute(&mut owner).await.unwrap();
    let holder: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut owner).await.unwrap();
    let (caller, at) = (chief.clone(), path(&app));
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { caller.post(&at, &json!({ "plan": "PRO" })).await.unwrap() });
    let looking = Mutex::new(app.owner().await);
    eventually("the change waits for the workspace's head", async || {
        let waits = "select exists (select from pg_locks where not granted and $1 = any(pg_blocking_pids(pid)))";
        let mut sql = looking.lock().await;
        sqlx::query_scalar(waits).bind(holder).fetch_one(&mut *sql).await.unwrap()
    })
    .await;
    service::operator::dismiss_super_admin(app.instance.app(), &host, "chief").await.unwrap();
    sqlx::query("rollback").execute(&mut owner).await.unwrap();
    assert_eq!(problem(&waiting.join_next().await.unwrap().unwrap()), (403, "forbidden".to_owned()));
    assert_eq!(text(&ok(app.admin.get("/v1/plan").await.unwrap(), 200), "/plan"), "FREE");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_closes_on_the_second_node_within_one_notification() {
    let app = TestApp::start_with(three).await;
    let chief = chief(&app, "chief").await;
    let node = app.second_node_with(three).await;
    let there = Caller::new(node.url(), None).with_key(app.admin.key().unwrap());
    ok(chief.post(&path(&app), &json!({ "plan": "PRO" })).await.unwrap(), 200);
    eventually("the other node opens it", async || status(&there, "content-sync").await == 200).await;
    ok(chief.post(&path(&app), &json!({ "plan": "FREE" })).await.unwrap(), 200);
    eventually("the other node closes it", async || status(&there, "content-sync").await == 403).await;
    // Who is refused was never refused by old facts: an upgrade is known at once, also where the notification has yet to come.
    ok(chief.post(&path(&app), &json!({ "plan": "ENTERPRISE" })).await.unwrap(), 200);
    assert_eq!(status(&there, "single-sign-on").await, 200);
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_has_one_plan_and_one_that_is_configured_no_longer_opens_nothing() {
    let app = TestApp::start_with(three).await;
    let chief = chief(&app, "chief").await;
    ok(chief.post(&path(&app), &json!({ "plan": "PRO" })).await.unwrap(), 200);
    // The database itself takes no second one, whoever writes it.
    let mut owner = app.owner().await;
    let mut change = sqlx::Connection::begin(&mut owner).await.unwrap();
    sqlx::query("update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where id = $1")
        .bind(app.workspace_uuid())
        .execute(&mut *change)
        .await
        .unwrap();
    let second = sqlx::query(
        "insert into keyholder.tuples (workspace_id, object, relation, subject) values ($1, 'plan:ENTERPRISE', 'subscriber', $2)",
    );
    let members = format!("workspace:{}#member", app.first.workspace);
    let refused = second.bind(app.workspace_uuid()).bind(members).execute(&mut *change).await;
    drop(change);
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("one_plan"), "{said}");

    let other = |options: &mut InstanceOptions| options.plans = plans(&[("BASIC", &[]), ("PLUS", &["content-sync"])]);
    let node = app.second_node_with(other).await;
    let there = Caller::new(node.url(), None).with_key(app.admin.key().unwrap());
    let view = ok(there.get("/v1/plan").await.unwrap(), 200);
    assert_eq!(
        view,
        json!({ "plan": "PRO", "features": [{ "name": "content-sync", "open": false, "plans": ["PLUS"] }] })
    );
    assert_eq!(problem(&there.get("/v1/features/content-sync").await.unwrap()), (403, "plan-required".to_owned()));
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_without_plans_has_none() {
    let app = TestApp::start_with(|options| options.plans = Plans::default()).await;
    assert_eq!(ok(app.admin.get("/v1/plan").await.unwrap(), 200), json!({ "plan": null, "features": [] }));
    assert_eq!(status(&app.admin, "content-sync").await, 404);
    app.stop().await;
}
