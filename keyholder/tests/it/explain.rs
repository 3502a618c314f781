//! Why somebody may do something, and what he lacks: over HTTP, at the machine, and of a store file.

use std::{fs, process::Command};

use keyholder::caller::Caller;
use serde_json::{Value, json};
use service::Refusal;
use tempfile::TempDir;

use crate::harness::{TestApp, ok, problem, text};

async fn asked(caller: &Caller, question: &Value) -> Value {
    ok(caller.post("/v1/permissions/explain", question).await.unwrap(), 200)
}

async fn key_of(app: &TestApp, role: &str) -> (Caller, String) {
    let made = app.admin.post("/v1/api-keys", &json!({ "label": role, "role": role })).await.unwrap();
    let made = ok(made, 201);
    (app.stranger.with_key(text(&made, "/key")), text(&made, "/id").to_owned())
}

/// The tuples of a way, from the object to the user.
fn tuples(path: &Value, all: &mut Vec<String>) {
    let text = |part: &str| path["tuple"][part].as_str().unwrap_or_default().to_owned();
    if path["tuple"].is_object() {
        all.push(format!("{} {} {}", text("object"), text("relation"), text("user")));
    }
    if path["next"].is_object() {
        tuples(&path["next"], all);
    }
    for step in path["all"].as_array().into_iter().flatten() {
        tuples(step, all);
    }
}

fn way(explanation: &Value) -> Vec<String> {
    let mut all = Vec::new();
    tuples(&explanation["path"], &mut all);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_shows_its_tuples_and_a_no_what_would_have_been_needed() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let (connection, mandate) = (entrusted.connection.clone(), entrusted.mandate.clone());
    let (service, key) = key_of(&app, "service").await;
    let workspace = app.first.workspace.to_string();

    let said = asked(&app.admin, &json!({ "permission": "connection.read", "object": connection })).await;
    assert_eq!(said["allowed"], true);
    let admin = format!("api_key:{}", app.first.key);
    assert_eq!((text(&said, "/user"), text(&said, "/relation")), (admin.as_str(), "can_read"));
    assert_eq!(
        way(&said),
        [
            format!("connection:{connection} workspace workspace:{workspace}"),
            format!("workspace:{workspace} admin {admin}")
        ]
    );

    // Of somebody else, a no: whatever is named would be enough, and is not there yet.
    let question = json!({ "user": key, "permission": "connection.read", "object": connection });
    let said = asked(&app.admin, &question).await;
    assert_eq!((said["allowed"].clone(), said["complete"].clone()), (json!(false), json!(true)));
    let needed: Vec<Value> = said["needed"].as_array().unwrap().clone();
    let grantee =
        json!([{ "object": format!("mandate:{mandate}"), "relation": "grantee", "user": format!("api_key:{key}") }]);
    assert!(needed.contains(&grantee), "{said}");
    let support = json!([{ "object": format!("workspace:{workspace}"), "relation": "support_agent", "user": format!("api_key:{key}") }]);
    assert!(needed.contains(&support), "{said}");

    // And it is so: with a mandate of its own it may, by just that.
    let terms = json!({ "connection": connection, "grantee": key, "actions": ["profile.read"] });
    let own = text(&ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201), "/id").to_owned();
    let said = asked(&service, &json!({ "permission": "connection.read", "object": connection })).await;
    assert_eq!(said["allowed"], true);
    assert!(way(&said).contains(&format!("mandate:{own} grantee api_key:{key}")), "{said}");

    // What only Keyholder itself may do is nobody's, whatever is written.
    let said = asked(&app.admin, &json!({ "permission": "credential.refresh", "object": connection })).await;
    assert_eq!(
        (said["allowed"].clone(), said["relation"].clone(), said["needed"].clone()),
        (json!(false), Value::Null, json!([]))
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask_about_whom_and_of_what() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let (service, key) = key_of(&app, "service").await;
    let (support, _) = key_of(&app, "support_agent").await;
    let admin_key = app.first.key.to_string();
    let refused = async |caller: &Caller, question: Value| {
        problem(&caller.post("/v1/permissions/explain", &question).await.unwrap())
    };
    let of_admin = json!({ "user": admin_key, "permission": "workspace.read" });
    assert_eq!(refused(&service, of_admin.clone()).await, (403, "forbidden".to_owned()));
    for caller in [&app.admin, &support] {
        assert_eq!(asked(caller, &of_admin).await["allowed"], true);
        assert_eq!(asked(caller, &json!({ "user": key, "permission": "api_key.list" })).await["allowed"], false);
    }
    // What the caller may not know of is not there: a connection and a mandate of others, another workspace's, the installation, nothing.
    let (con, man) = (entrusted.connection.clone(), entrusted.mandate.clone());
    for (permission, object) in [
        ("connection.read", json!(con)),
        ("mandate.read", json!(man)),
        ("workspace.read", json!(domain::id::WorkspaceId::new(&app.instance.app().clock))),
        ("kill_drill.propose", Value::Null),
        ("can_see", json!("feature:unheard-of")),
        ("can_see", json!("nothing:such")),
        ("can_use", json!("obj_00000000000000000000000000")),
    ] {
        let mut question = json!({ "permission": permission });
        if !object.is_null() {
            question["object"] = object;
        }
        assert_eq!(refused(&service, question.clone()).await, (404, "not-found".to_owned()), "{question}");
    }
    for question in [
        json!({ "permission": "connection.fly" }),
        json!({ "permission": "connection.read" }),
        json!({ "permission": "connection.read", "object": man }),
        json!({ "permission": "can_fly" }),
        json!({ "permission": "workspace.read", "user": "key_00000000000000000000000000" }),
        json!({ "permission": "workspace.read", "user": "workspace:w" }),
        json!({ "permission": "workspace.read", "user": "api_key:*" }),
        json!({ "permission": "workspace.read", "object": "zebra" }),
        json!({ "permission": "" }),
        json!({ "permission": "workspace.read", "more": 1 }),
        json!({}),
    ] {
        assert_eq!(refused(&app.admin, question.clone()).await, (422, "invalid-input".to_owned()), "{question}");
    }
    assert_eq!(refused(&app.stranger, json!({ "permission": "workspace.read" })).await.0, 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_from_an_answer_of_what_he_may_not_know() {
    let app = TestApp::start().await;
    let (service, key) = key_of(&app, "service").await;
    let above = crate::objects::object(&app.admin, "folder", "Board", None).await;
    let below = crate::objects::object(&app.admin, "folder", "Minutes", Some(&above)).await;
    assert_eq!(crate::objects::relate(&app.admin, &below, "viewer", &key).await.status, 201);
    // It knows of the folder, and not of the one above.
    assert_eq!(service.get(&format!("/v1/objects/{below}")).await.unwrap().status, 200);
    assert_eq!(service.get(&format!("/v1/objects/{above}")).await.unwrap().status, 404);
    let question = json!({ "user": key, "permission": "can_manage", "object": below });
    let said = asked(&service, &question).await;
    assert_eq!(said["allowed"], false);
    assert!(!said.to_string().contains(&above), "{said}");
    let manager = |folder: &str| json!([{ "object": format!("folder:{folder}"), "relation": "manager", "user": format!("api_key:{key}") }]);
    assert!(said["needed"].as_array().unwrap().contains(&manager(&below)), "{said}");
    // An admin, who knows of both, is told both.
    let told = asked(&app.admin, &question).await;
    for folder in [&below, &above] {
        assert!(told["needed"].as_array().unwrap().contains(&manager(folder)), "{told}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_ended_is_nobody_here_whatever_still_names_it() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let mut owner = app.owner().await;
    for end in ["revoked_at", "expires_at"] {
        let (_, key) = key_of(&app, "service").await;
        let terms = json!({ "connection": entrusted.connection, "grantee": key, "actions": ["profile.read"] });
        let mandate = text(&ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201), "/id").to_owned();
        let question = json!({ "user": key, "permission": "mandate.read", "object": mandate });
        assert_eq!(asked(&app.admin, &question).await["allowed"], true);
        let id = key.parse::<domain::id::KeyId>().unwrap();
        for statement in [
            "begin".to_owned(),
            "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'".to_owned(),
            format!("update keyholder.api_keys set {end} = now() - interval '1 second' where id = '{}'", domain::id::Id::uuid(id)),
            "commit".to_owned(),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut owner).await.unwrap();
        }
        // The next change tells the node that it does not know of this one.
        crate::objects::object(&app.admin, "folder", "Board", None).await;
        let said = app.admin.post("/v1/permissions/explain", &question).await.unwrap();
        assert_eq!((problem(&said).0, text(&said.json(), "/errors/0/pointer")), (422, "/user"), "{end}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_type_an_object_is_that_he_may_not_know_of_nobody_is_told() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let (service, _) = key_of(&app, "service").await;
    let folder = crate::objects::object(&app.admin, "folder", "Board", None).await;
    let clock = &app.instance.app().clock;
    let nowhere = domain::id::ObjectId::new(clock).to_string();
    for object in [&folder, &nowhere, &entrusted.connection, &domain::id::ConnectionId::new(clock).to_string()] {
        let question = json!({ "permission": "mandate.read", "object": object });
        let said = service.post("/v1/permissions/explain", &question).await.unwrap();
        assert_eq!(problem(&said), (404, "not-found".to_owned()), "{question}");
    }
    // Of what he knows, he is told what is wrong with the question.
    let question = json!({ "permission": "mandate.read", "object": folder });
    let said = app.admin.post("/v1/permissions/explain", &question).await.unwrap();
    assert_eq!((problem(&said).0, text(&said.json(), "/errors/0/pointer")), (422, "/object"));
    app.stop().await;
}

/// Every permission that a route names can be asked about, and the answer is what the route does.
#[tokio::test(flavor = "multi_thread")]
async fn every_permission_of_the_route_table_can_be_asked_about() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let mut asked_about = 0;
    for route in server::routes::table() {
        let server::Guard::ApiKey(permission) = route.guard else { continue };
        let object = match route.needs.unwrap().object {
            "workspace" => json!(null),
            "connection" => json!(entrusted.connection),
            "mandate" => json!(entrusted.mandate),
            "object" => continue,
            other => panic!("{route:?} is about a {other}"),
        };
        let mut question = json!({ "permission": permission });
        if !object.is_null() {
            question["object"] = object;
        }
        let said = asked(&app.admin, &question).await;
        assert_eq!(said["allowed"], permission != "act.perform", "{said}");
        asked_about += 1;
    }
    assert!(asked_about >= 25, "{asked_about}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_at_the_machine_asks_about_anybody() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let inner = app.instance.app();
    let host = domain::principal::Principal::operator("local", inner.clock.now());
    let ask = async |user: Option<&str>, permission: &str, object: &str| {
        let (user, permission) = (user.map(str::to_owned), permission.to_owned());
        let question = service::permission::Question { user, permission, object: Some(object.to_owned()) };
        service::permission::explain(inner, &host, app.first.workspace, &question).await
    };
    let key = app.first.key.to_string();
    let said = ask(Some(&key), "mandate.revoke", &entrusted.mandate).await.unwrap();
    assert_eq!(said.explanation.answer(), Some(true));
    let said = ask(Some(&key), "act.perform", &entrusted.mandate).await.unwrap();
    assert_eq!(said.explanation.answer(), Some(false));
    assert!(matches!(ask(None, "workspace.read", &app.first.workspace.to_string()).await, Err(Refusal::Invalid(_))));
    let nowhere = domain::id::ConnectionId::new(&inner.clock).to_string();
    assert!(matches!(ask(Some(&key), "connection.read", &nowhere).await, Err(Refusal::NotFound)));
    app.stop().await;
}

/// Runs the binary with these arguments.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_keyholder")).args(arguments).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_store_files_answer_is_explained_at_the_command_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.fga.yaml");
    let store = "model: |\n  model\n    schema 1.1\n  type user\n  type document\n    relations\n      define viewer: [user]\n\
                 tuples:\n  - user: user:anne\n    relation: viewer\n    object: document:1\ntests:\n  - name: anne\n    check:\n      - user: user:anne\n        object: document:1\n        assertions:\n          viewer: true\n";
    fs::write(&file, store).unwrap();
    let file = file.to_str().unwrap();
    let ask = |user: &str, more: &[&str]| {
        let mut arguments =
            vec!["permissions", "why", file, "--user", user, "--relation", "viewer", "--object", "document:1"];
        arguments.extend(more);
        run(&arguments)
    };
    let (code, said, _) = ask("user:anne", &[]);
    assert_eq!(code, Some(0));
    assert_eq!(said, "yes\n  document:1#viewer: [user]\n    by the tuple document:1 viewer user:anne\n");
    let (code, said, _) = ask("user:bob", &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let needed = json!([[{ "object": "document:1", "relation": "viewer", "user": "user:bob" }]]);
    let expected = json!({
        "allowed": false, "user": "user:bob", "relation": "viewer", "object": "document:1",
        "needed": needed, "hindrances": [], "complete": true,
    });
    assert_eq!((code, said), (Some(0), expected));
    assert_eq!(run(&["permissions", "why", file, "--user", "user:bob", "--relation", "viewer"]).0, Some(2));
    assert_eq!(run(&["permissions", "why", "--user", "user:bob", "--relation", "viewer"]).0, Some(2));
    let (code, _, told) = ask("nobody", &[]);
    assert_eq!(code, Some(7), "{told}");
}
