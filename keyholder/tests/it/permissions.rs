//! Who may do what, from outside: every route by a key of every role, who is super-admin, and how soon a role ends on another node.

use std::collections::BTreeMap;

use domain::{id::OperatorId, operator::Purpose, principal::Principal};
use keyholder::caller::Caller;
use relation::permission::{Example, ROLES, Standing};
use serde_json::json;
use server::Guard;
use service::Refusal;
use sqlx::Row;

use crate::{
    harness::{TestApp, eventually, ok, problem, text},
    matrices::{Stock, guarded, send, state_of, without_limits},
    node::Node,
};

/// A key of a role, by the admin's hand.
async fn key_of(app: &TestApp, role: &str) -> (Caller, String) {
    let made = app.admin.post("/v1/api-keys", &json!({ "label": role, "role": role })).await.unwrap();
    let made = ok(made, 201);
    (app.stranger.with_key(text(&made, "/key")), text(&made, "/id").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_a_key_of_each_role_as_the_model_says() {
    let app = TestApp::start_with(without_limits).await;
    let example = Example::new(&relation::permission::own());
    let stock = Stock::of_admin(&app);
    let mut owner = app.owner().await;
    let mut callers = BTreeMap::new();
    for role in ROLES.into_iter().filter(|role| *role != "admin") {
        callers.insert(role, key_of(&app, role).await.0);
    }
    let mut met = BTreeMap::<_, usize>::new();
    for route in guarded() {
        let (Guard::ApiKey(_), Some(needs)) = (route.guard, route.needs) else { continue };
        for (role, caller) in &callers {
            let (values, _) = stock.fill(route).await;
            let before = state_of(&mut owner, app.workspace_uuid()).await;
            let reply = send(caller, route, &values, &[]).await;
            let what = format!("{route:?} by a {role}");
            let mut standing = example.standing(role, &needs).unwrap();
            // Whose act it is decides besides: it is the admin's.
            if values.contains_key("act") && standing == Standing::May {
                let all = relation::action::ALL.iter().find(|it| it.name == "act.read_all").unwrap();
                standing = match example.standing(role, all).unwrap() {
                    Standing::May => Standing::May,
                    _ => Standing::Unseen,
                };
            }
            *met.entry((*role, standing.as_str())).or_default() += 1;
            match standing {
                Standing::May => assert!(reply.status.is_success(), "{what}: {} {}", reply.status, reply.json()),
                // Below /fga a refusal has the form that OpenFGA's clients read.
                Standing::Refused if route.path.starts_with("/fga") => assert_eq!(reply.status, 403, "{what}"),
                Standing::Refused => assert_eq!(problem(&reply), (403, "forbidden".to_owned()), "{what}"),
                Standing::Unseen => assert_eq!(problem(&reply), (404, "not-found".to_owned()), "{what}"),
            }
            if standing != Standing::May || *role == "support_agent" {
                assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before, "{what} changed something");
            }
        }
    }
    // Nothing here is empty: each role was let in somewhere, and refused somewhere.
    for role in callers.keys() {
        assert!(met.get(&(*role, "may")).is_some_and(|times| *times >= 4), "{met:?}");
        assert!(met.get(&(*role, "refused")).is_some_and(|times| *times >= 4), "{met:?}");
    }
    assert_eq!(met.get(&("support_agent", "unseen")), None, "{met:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_agent_sees_what_an_admin_sees_and_a_user_what_concerns_him() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    ok(entrusted.act("profile.read", &json!({}), Some("one")).await, 200);
    let (support, _) = key_of(&app, "support_agent").await;
    let (user, user_key) = key_of(&app, "user").await;
    for list in ["connections", "mandates", "acts", "budgets", "api-keys", "audit"] {
        let path = format!("/v1/{list}");
        let (admins, supports) = (app.admin.get(&path).await.unwrap(), support.get(&path).await.unwrap());
        assert_eq!(ok(supports, 200)["data"], ok(admins, 200)["data"], "{list}");
    }
    for list in ["connections", "mandates", "acts"] {
        let path = format!("/v1/{list}");
        assert_eq!(ok(user.get(&path).await.unwrap(), 200)["data"], json!([]), "{list}");
    }
    // What is granted to him concerns him, and he may use it. To a support agent, who only looks on, nothing is granted.
    let mandate =
        |key: String| json!({ "connection": entrusted.connection, "grantee": key, "actions": ["profile.read"] });
    let granted = ok(app.admin.post("/v1/mandates", &mandate(user_key)).await.unwrap(), 201);
    ok(user.act(text(&granted, "/id"), "profile.read", &json!({}), None).await.unwrap(), 200);
    let seen = ok(user.get("/v1/connections").await.unwrap(), 200);
    assert_eq!(text(&seen, "/data/0/id"), entrusted.connection);
    let (_, support_key) = key_of(&app, "support_agent").await;
    let refused = app.admin.post("/v1/mandates", &mandate(support_key)).await.unwrap();
    assert_eq!(problem(&refused), (422, "invalid-input".to_owned()));
    // A user leads an owner to the platform; that the account comes into use is an admin's to say.
    let link = json!({ "provider": "x", "actions": ["profile.read"], "return_url": crate::harness::RETURN });
    ok(user.post("/v1/connect-links", &link).await.unwrap(), 201);
    let refused = user.post("/v1/connections/redeem", &json!({ "code": "any" })).await.unwrap();
    assert_eq!(problem(&refused), (403, "forbidden".to_owned()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_ends_is_refused_on_the_second_node_within_one_notification() {
    let app = TestApp::start().await;
    let (second, _) = key_of(&app, "admin").await;
    let made = ok(second.get("/v1/api-keys").await.unwrap(), 200);
    let id = text(&made, "/data/0/id").to_owned();
    let node = Node::start(&app);
    let there = node.caller(second.key().unwrap());
    // The node holds the facts by which this is right, and what it holds is trusted.
    ok(there.get("/v1/api-keys").await.unwrap(), 200);
    ok(there.get("/v1/audit").await.unwrap(), 200);
    assert_eq!(app.admin.delete(&format!("/v1/api-keys/{id}")).await.unwrap().status, 204);
    eventually("the other node refuses", async || there.get("/v1/api-keys").await.unwrap().status == 401).await;
    // And whatever it would still hold, no change is made by it.
    let refused = there.post("/v1/api-keys", &json!({ "label": "late", "role": "admin" })).await.unwrap();
    assert_eq!(problem(&refused), (401, "unauthenticated".to_owned()));
    drop(node);
    app.stop().await;
}

/// A person of the operator's with a key of his own.
async fn person(app: &TestApp, name: &str) -> (Caller, OperatorId) {
    let host = host(app);
    let (id, key) = service::operator::create(app.instance.app(), &host, (name, Purpose::Person)).await.unwrap();
    (app.stranger.with_key(&key), id)
}

fn host(app: &TestApp) -> Principal {
    Principal::operator("local", app.instance.app().clock.now())
}

/// Whether the facts call somebody super-admin, as every snapshot holds it.
async fn is_super_admin(app: &TestApp, name: &str) -> bool {
    let facts = app.instance.app().store.loader.installation().await.unwrap();
    let installation = format!("installation:{}", domain::id::InstallationId::ONE);
    facts.check(&installation, "super_admin", &format!("operator:{name}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_super_admin_is_made_at_the_machine_by_name_and_never_otherwise() {
    let app = TestApp::start().await;
    let inner = app.instance.app();
    let none = service::operator::appoint_super_admin(inner, &host(&app), "ada").await;
    assert!(matches!(none, Err(Refusal::NotFound)), "nobody of that name has a key: {none:?}");
    let (ada, first_key) = person(&app, "ada").await;
    let (_, second_key) = person(&app, "ada").await;
    assert!(!is_super_admin(&app, "ada").await, "the first of the operator's persons is none");
    // No key makes one: neither a person's own, nor an API key.
    let by_key = Principal::named_operator("ada".to_owned(), first_key, inner.clock.now());
    let refused = service::operator::appoint_super_admin(inner, &by_key, "ada").await;
    assert!(matches!(refused, Err(Refusal::Forbidden)), "{refused:?}");
    let key: domain::id::KeyId = app.first.key;
    let by_admin = Principal::api_key(key, app.first.workspace, inner.clock.now());
    let refused = service::operator::appoint_super_admin(inner, &by_admin, "ada").await;
    assert!(matches!(refused, Err(Refusal::NotFound)), "{refused:?}");
    assert!(!is_super_admin(&app, "ada").await);

    service::operator::appoint_super_admin(inner, &host(&app), "ada").await.unwrap();
    assert!(is_super_admin(&app, "ada").await && !is_super_admin(&app, "bob").await);
    let again = service::operator::appoint_super_admin(inner, &host(&app), "ada").await;
    assert!(matches!(again, Err(Refusal::Conflict(_))), "{again:?}");
    // As long as one of his keys is good, he is the one who was named.
    service::operator::revoke(inner, &host(&app), first_key).await.unwrap();
    assert!(is_super_admin(&app, "ada").await);
    assert_eq!(problem(&ada.get("/v1/installation/audit").await.unwrap()).0, 401);
    service::operator::revoke(inner, &host(&app), second_key).await.unwrap();
    assert!(!is_super_admin(&app, "ada").await, "whoever is given a key of that name next is another");
    person(&app, "ada").await;
    assert!(!is_super_admin(&app, "ada").await);

    let (bob, _) = person(&app, "bob").await;
    service::operator::appoint_super_admin(inner, &host(&app), "bob").await.unwrap();
    service::operator::dismiss_super_admin(inner, &host(&app), "bob").await.unwrap();
    assert!(!is_super_admin(&app, "bob").await);
    let trail = ok(bob.get("/v1/installation/audit?limit=100").await.unwrap(), 200);
    let events: Vec<_> =
        trail["data"].as_array().unwrap().iter().map(|entry| text(entry, "/event").to_owned()).collect();
    let count = |event: &str| events.iter().filter(|known| *known == event).count();
    assert_eq!((count("super_admin.appointed"), count("super_admin.dismissed")), (2, 1), "{events:?}");
    let revoked: Vec<_> =
        trail["data"].as_array().unwrap().iter().filter(|it| it["event"] == "operator.revoked").collect();
    assert!(revoked.iter().any(|entry| entry["detail"]["dismissed_super_admin"] == json!(["ada"])), "{revoked:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_super_admin_by_the_name_of_one_whose_keys_an_older_version_ended() {
    let app = TestApp::start().await;
    let inner = app.instance.app();
    let (_, key) = person(&app, "ada").await;
    service::operator::appoint_super_admin(inner, &host(&app), "ada").await.unwrap();
    let mut owner = app.owner().await;
    for statement in [
        "begin".to_owned(),
        "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'installation'".to_owned(),
        format!("update keyholder.operators set revoked_at = now() where id = '{}'", domain::id::Id::uuid(key)),
        "commit".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut owner).await.unwrap();
    }
    assert!(is_super_admin(&app, "ada").await, "the older version leaves what hangs on the key");
    let (ada, _) = person(&app, "ada").await;
    assert!(!is_super_admin(&app, "ada").await);
    let path = format!("/v1/installation/workspaces/{}/objects", app.first.workspace);
    let refused = ada.post(&path, &json!({ "type": "folder", "name": "Handbook" })).await.unwrap();
    assert_eq!(problem(&refused), (403, "forbidden".to_owned()));
    let trail = ok(ada.get("/v1/installation/audit?limit=1").await.unwrap(), 200);
    let made = json!({ "name": "ada", "dismissed_super_admin": ["ada"] });
    assert_eq!((text(&trail, "/data/0/event"), &trail["data"][0]["detail"]), ("operator.created", &made));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_super_admin_no_longer_is_refused_by_every_node_from_that_moment() {
    let app = TestApp::start().await;
    let inner = app.instance.app();
    let node = Node::start(&app);
    let path = format!("/v1/installation/workspaces/{}/objects", app.first.workspace);
    let wanted = json!({ "type": "folder", "name": "Handbook" });
    let (ada, _) = person(&app, "ada").await;
    let there = node.caller(ada.key().unwrap());
    for caller in [&ada, &there] {
        let refused = caller.post(&path, &wanted).await.unwrap();
        assert_eq!(problem(&refused), (403, "forbidden".to_owned()), "an operator who is none");
    }
    service::operator::appoint_super_admin(inner, &host(&app), "ada").await.unwrap();
    for caller in [&ada, &there] {
        ok(caller.post(&path, &wanted).await.unwrap(), 201);
    }
    // Both hold the workspace as it is now.
    for admin in [app.admin.clone(), node.caller(app.admin.key().unwrap())] {
        ok(admin.get("/v1/objects").await.unwrap(), 200);
    }
    // Nobody is told: what both nodes hold still calls him super-admin, and the database is asked before one of the operator's persons is
    // let do something.
    let mut owner = app.owner().await;
    for statement in [
        "begin",
        "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'installation'",
        "delete from keyholder.installation_tuples where subject = 'operator:ada'",
        "commit",
    ] {
        sqlx::query(statement).execute(&mut owner).await.unwrap();
    }
    for caller in [&there, &ada] {
        let refused = caller.post(&path, &wanted).await.unwrap();
        assert_eq!(problem(&refused), (403, "forbidden".to_owned()), "who is super-admin no longer");
    }
    let made: i64 = sqlx::query_scalar("select count(*) from keyholder.objects").fetch_one(&mut owner).await.unwrap();
    assert_eq!(made, 2, "nothing was made by who is refused");
    // An API key is no operator's, whatever it is in its workspace.
    assert_eq!(problem(&app.admin.post(&path, &wanted).await.unwrap()).0, 401);
    drop(node);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_installations_facts_change_only_under_its_raised_head() {
    let app = TestApp::start().await;
    let mut sql = app.login("app").await;
    let tuple = "insert into keyholder.installation_tuples (object, relation, subject) values ('installation:x', 'super_admin', 'operator:eve')";
    let refused = sqlx::query(tuple).execute(&mut sql).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("KH001"), "without the head");
    let mut owner = app.owner().await;
    let refused = sqlx::query(tuple).execute(&mut owner).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("KH001"), "the owner neither");
    for (group, may_read) in [("loader", true), ("ledger", false), ("lookup", false)] {
        let mut sql = app.login(group).await;
        let read = sqlx::query("select count(*) as many from keyholder.installation_tuples").fetch_one(&mut sql).await;
        assert_eq!(read.is_ok(), may_read, "{group}");
        // Whoever may read sees nothing without a signed context.
        assert!(read.is_err() || read.unwrap().get::<i64, _>("many") == 0);
        assert!(sqlx::query(tuple).execute(&mut sql).await.is_err(), "{group}");
    }
    app.stop().await;
}

#[test]
fn the_guides_table_says_what_the_model_says() {
    let example = Example::new(&relation::permission::own());
    let asked: BTreeMap<_, _> = guarded().filter_map(|route| route.needs).map(|needs| (needs.name, needs)).collect();
    let mut table = "| permission | admin | support agent | user | service |\n|---|---|---|---|---|\n".to_owned();
    for (name, needs) in asked {
        let said = ROLES.map(|role| match (example.standing(role, &needs), example.granted(role, &needs)) {
            (Ok(Standing::May), _) => "yes",
            (_, Ok(Standing::May)) => "where granted",
            _ => "–",
        });
        table.extend(["| `", name, "` | ", &said.join(" | "), " |\n"]);
    }
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/roles.md")).unwrap();
    assert!(guide.contains(&table), "docs/guides/roles.md wants this table:\n{table}");
}
