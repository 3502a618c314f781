//! The API as its callers meet it: health, ids of requests, problems, the document, pages of lists, limits, keys, metrics.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use domain::{clock::Clock, environment::Environment, id::Id};
use http::Method;
use keyholder::{
    caller::{Caller, Reply},
    telemetry,
};
use serde_json::{Value, json};
use server::{Guard, ObjectFrom, Verb, openapi, routes::table};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::{Duration, format_description::well_known::Rfc3339};

use crate::{
    harness::{TestApp, eventually, home, ok, problem, text},
    matrices::{everything, guarded, is_guarded, without_limits},
};

const READ: &str = "profile.read";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_its_database_lives_and_is_not_ready() {
    let app = TestApp::start().await;
    assert_eq!(ok(app.stranger.get("/health/live").await.unwrap(), 200), json!({ "status": "live" }));
    assert_eq!(ok(app.stranger.get("/health/ready").await.unwrap(), 200), json!({ "status": "ready" }));
    let mut elsewhere = PgConnection::connect(&home().owner_url("postgres")).await.unwrap();
    let close = format!("alter database {} allow_connections false", app.database);
    sqlx::query(AssertSqlSafe(close)).execute(&mut elsewhere).await.unwrap();
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
    let _cut: i64 = sqlx::query_scalar(cut).bind(&app.database).fetch_one(&mut elsewhere).await.unwrap();

    let unready = app.stranger.get("/health/ready").await.unwrap();
    assert_eq!(problem(&unready), (503, "unavailable".to_owned()));
    assert_eq!(unready.header("retry-after"), "1");
    ok(app.stranger.get("/health/live").await.unwrap(), 200);
    for reply in [app.admin.get("/v1/workspace").await.unwrap(), app.agent_words().await] {
        assert_eq!(problem(&reply), (503, "unavailable".to_owned()), "no fault of ours");
        let said = String::from_utf8_lossy(&reply.body).to_lowercase();
        for inside in ["postgres", "sql", "socket", "database"] {
            assert!(!said.contains(inside), "{said}");
        }
    }

    let open = format!("alter database {} allow_connections true", app.database);
    sqlx::query(AssertSqlSafe(open)).execute(&mut elsewhere).await.unwrap();
    let back = async || app.stranger.get("/health/ready").await.unwrap().status == 200;
    eventually("it is ready again by itself", back).await;
    let served = async || app.admin.get("/v1/workspace").await.unwrap().status == 200;
    eventually("it serves again by itself", served).await;
    app.stop().await;
}

impl TestApp {
    /// A request that nobody's key in memory can answer: the look-up must be asked.
    async fn agent_words(&self) -> Reply {
        let unknown = domain::api_key::generate(Environment::Local).0;
        self.stranger.with_key(&unknown).get("/v1/workspace").await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_its_request_and_no_caller_chooses_the_name() {
    let app = TestApp::start().await;
    let mut ids = BTreeSet::new();
    let claimed = [("x-request-id", "req_00000000000000000000000000"), ("request-id", "mine")];
    for path in [
        "/v1/workspace",
        "/v1/nowhere",
        "/health/live",
        "/docs",
        "/openapi.json",
        "/connect/x",
        "/assets/keyholder.css",
    ] {
        for caller in [&app.admin, &app.stranger] {
            let reply = caller.send(Method::GET, path, &claimed, Bytes::default()).await.unwrap();
            let id = reply.header("request-id").to_owned();
            assert!(id.starts_with("req_") && id.len() == 30 && id != claimed[0].1, "{path}: {id}");
            if reply.header("content-type") == server::PROBLEM_JSON {
                assert_eq!(text(&reply.json(), "/request_id"), id);
                assert_eq!(text(&reply.json(), "/instance"), format!("urn:keyholder:request:{id}"));
            }
            assert!(ids.insert(id), "{path}: an id that was there before");
        }
    }
    let made = app.admin.post("/v1/api-keys", &json!({ "label": "traced", "role": "service" })).await.unwrap();
    let trail = ok(app.admin.get("/v1/audit?limit=1").await.unwrap(), 200);
    assert_eq!(text(&trail, "/data/0/request"), made.header("request-id"));
    assert_eq!(text(&trail, "/data/0/event"), "api_key.created");
    assert_eq!(text(&trail, "/data/0/principal"), format!("api_key:{}", app.first.key));
    assert_eq!(text(&trail, "/data/0/means"), "api_key");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_has_the_form_of_rfc_9457() {
    let app = TestApp::start().await;
    for (reply, status) in [
        (app.stranger.get("/v1/workspace").await.unwrap(), 401),
        (app.admin.get("/v1/nowhere").await.unwrap(), 404),
        (app.admin.send(Method::PUT, "/v1/workspace", &[], Bytes::default()).await.unwrap(), 405),
        (app.admin.post("/v1/api-keys", &json!({ "role": "king" })).await.unwrap(), 422),
    ] {
        assert_eq!(reply.status, status);
        problem(&reply);
        let body = reply.json();
        let known =
            ["type", "title", "status", "detail", "instance", "request_id", "errors", "retry_after", "budget", "act"];
        for (name, _) in body.as_object().unwrap() {
            assert!(known.contains(&name.as_str()), "{name}");
        }
        assert_eq!(body["status"], status);
        assert!(!text(&body, "/title").is_empty());
    }
    let faults = app.admin.post("/v1/api-keys", &json!({ "role": "king" })).await.unwrap().json();
    let pointers: Vec<_> = faults["errors"].as_array().unwrap().iter().map(|fault| text(fault, "/pointer")).collect();
    assert_eq!(pointers, ["/label", "/role"], "all faults at once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_has_every_row_and_the_reader_has_no_script() {
    let app = TestApp::start().await;
    let reply = app.stranger.get("/openapi.json").await.unwrap();
    assert_eq!(reply.header("content-type"), "application/json");
    let document = ok(reply, 200);
    assert!(text(&document, "/openapi").starts_with("3.1"), "{}", document["openapi"]);
    let mut operations = 0;
    for route in table() {
        let path = &document["paths"][route.path.replace("{*", "{")];
        let methods: &[&str] = match route.method {
            Verb::Get => &["get"],
            Verb::Post => &["post"],
            Verb::Put => &["put"],
            Verb::Delete => &["delete"],
            Verb::Any => &["get", "post", "put", "patch", "delete"],
        };
        for method in methods {
            operations += 1;
            let operation = &path[method];
            assert_eq!(text(operation, "/summary"), route.summary, "{route:?}");
            assert_eq!(operation["security"].is_array(), is_guarded(route), "{route:?}");
            assert!(operation["responses"].as_object().is_some_and(|all| all.len() >= 2), "{route:?}");
        }
    }
    let told: usize = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(told, operations, "and nothing that is no row");
    assert_references(&document, &document);
    assert_eq!(document, serde_json::to_value(openapi::document(table())).unwrap());

    let docs = app.stranger.get("/docs").await.unwrap();
    assert_eq!(docs.status, 200);
    assert!(docs.header("content-type").starts_with("text/html"));
    let policy = docs.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let html = String::from_utf8_lossy(&docs.body).to_lowercase();
    for forbidden in ["<script", "javascript:", "onclick", "style=", "src=\"http", "href=\"http"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    for route in table() {
        assert!(html.contains(&route.path.replace("{*", "{").to_lowercase()), "{route:?} is not in the reader");
    }
    app.stop().await;
}

/// Every reference within the document leads somewhere.
fn assert_references(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            for (name, member) in members {
                if let ("$ref", Some(to)) = (name.as_str(), member.as_str()) {
                    assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                }
                assert_references(document, member);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| assert_references(document, item)),
        _ => {}
    }
}

/// Walks a list in pages of two: all ids, in the order of the list.
async fn walk(caller: &Caller, list: &str) -> Vec<String> {
    let (mut ids, mut before) = (Vec::new(), String::new());
    loop {
        let page = ok(caller.get(&format!("/v1/{list}?limit=2{before}")).await.unwrap(), 200);
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 2, "{list}");
        ids.extend(data.iter().map(|item| text(item, "/id").to_owned()));
        match page["next"].as_str() {
            Some(next) => {
                assert_eq!((data.len(), ids.last().map(String::as_str)), (2, Some(next)), "{list}");
                before = format!("&before={next}");
            }
            None => return ids,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_comes_in_pages_newest_first_and_loses_nothing() {
    let app = TestApp::start().await;
    for _ in 0..5 {
        let connection = app.connect(crate::harness::ACCOUNT, &[READ]).await;
        let limits = json!([{ "unit": "acts", "per": "day", "cap": 5 }]);
        let entrusted = app.mandate(&connection, &[READ], limits).await;
        ok(entrusted.act(READ, &json!({}), None).await, 200);
    }
    let mut owner = app.owner().await;
    for (list, table) in [
        ("api-keys", "api_keys"),
        ("connections", "connections"),
        ("mandates", "mandates"),
        ("acts", "acts"),
        ("audit", "audit"),
    ] {
        let all = format!("select count(*) from keyholder.{table}");
        let all: i64 = sqlx::query_scalar(AssertSqlSafe(all)).fetch_one(&mut owner).await.unwrap();
        let ids = walk(&app.admin, list).await;
        assert!(all >= 5, "{list}");
        assert_eq!(i64::try_from(ids.len()).unwrap(), all, "{list}");
        let mut sorted = ids.clone();
        sorted.sort();
        sorted.dedup();
        sorted.reverse();
        assert_eq!(ids, sorted, "{list} is not newest first, or has something twice");
        let whole = ok(app.admin.get(&format!("/v1/{list}?limit=100")).await.unwrap(), 200);
        assert_eq!(whole["data"].as_array().unwrap().len(), ids.len().min(100), "{list}");
        // Another kind's id, and one that never was.
        let foreign = app.admin.get(&format!("/v1/{list}?before={}", app.first.workspace)).await.unwrap();
        assert_eq!(problem(&foreign), (422, "invalid-input".to_owned()), "{list}");
    }
    app.stop().await;
}

fn most(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[track_caller]
fn assert_limited(what: &str, reply: &Reply, quota: &str) {
    assert_eq!(problem(reply), (429, "rate-limited".to_owned()), "{what}");
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{what}: {wait}");
    assert_eq!(reply.header("ratelimit-limit"), quota, "{what}");
    assert_eq!(reply.header("ratelimit-remaining"), "0", "{what}");
    assert!(reply.header("ratelimit").contains("r=0"), "{what}");
    assert!(reply.header("ratelimit-policy").contains(&format!("q={quota};w=60")), "{what}");
    assert_eq!(reply.json()["retry_after"], wait, "{what}");
    assert_eq!(reply.header("x-content-type-options"), "nosniff", "{what}");
}

/// Asks until it is refused, at most so often.
async fn until_limited(ask: impl AsyncFn() -> Reply, at_most: usize) -> (usize, Reply) {
    for number in 0..at_most {
        let reply = ask().await;
        if reply.status == 429 {
            return (number, reply);
        }
    }
    panic!("never limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_asks_too_often_is_told_when_to_come_back() {
    let app = TestApp::start_with(|options| options.limits.principal_per_minute = most(20)).await;
    let (passed, limited) = until_limited(async || app.admin.get("/v1/workspace").await.unwrap(), 60).await;
    assert!((10..=25).contains(&passed), "{passed}");
    assert_limited("the principal", &limited, "20");
    // Another key of the same network is not concerned, and neither is who asks nothing of anybody.
    ok(app.stranger.get("/health/live").await.unwrap(), 200);
    let refused = app.stranger.with_key("kh_local_x").get("/v1/workspace").await.unwrap();
    assert_eq!(refused.status, 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_guesses_keys_is_told_to_wait_and_a_good_key_still_works() {
    let app = TestApp::start_with(|options| options.limits.failures_per_minute = most(5)).await;
    let guess = async || {
        let guessed = domain::api_key::generate(Environment::Local).0;
        app.stranger.with_key(&guessed).get("/v1/workspace").await.unwrap()
    };
    let (passed, limited) = until_limited(guess, 30).await;
    assert!((5..=8).contains(&passed), "{passed}");
    assert_limited("the guesses", &limited, "5");
    ok(app.admin.get("/v1/workspace").await.unwrap(), 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_asks_too_much_is_stopped_before_anything_else() {
    let app = TestApp::start_with(|options| options.limits.network_per_minute = most(30)).await;
    let (_, limited) = until_limited(async || app.stranger.get("/v1/nowhere").await.unwrap(), 90).await;
    assert_limited("the network", &limited, "30");
    let (_, limited) = until_limited(async || app.admin.get("/v1/workspace").await.unwrap(), 90).await;
    assert_limited("a good key", &limited, "30");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_stored_as_a_hash() {
    let app = TestApp::start().await;
    let made = ok(app.admin.post("/v1/api-keys", &json!({ "label": "once", "role": "service" })).await.unwrap(), 201);
    let (key, id) = (text(&made, "/key").to_owned(), text(&made, "/id").to_owned());
    assert!(key.starts_with("kh_local_"));
    let other = ok(app.admin.post("/v1/api-keys", &json!({ "label": "once", "role": "service" })).await.unwrap(), 201);
    assert_ne!(text(&other, "/key"), key);
    let secret = key.rsplit('_').next().unwrap();
    let lists = ["/v1/api-keys", "/v1/audit", "/v1/workspace", "/v1/mandates"];
    for path in lists {
        let said = app.admin.get(path).await.unwrap();
        assert!(!String::from_utf8_lossy(&said.body).contains(secret), "{path} shows a key");
    }
    assert!(app.admin.get("/v1/api-keys").await.unwrap().json().to_string().contains(&id));
    let owner = app.owner_address();
    let rows = store::owner::every_row(&owner).await.unwrap();
    assert!(rows.iter().any(|(table, row)| table == "api_keys" && row.contains("once")));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let hash = hex::encode(hash.as_ref());
    assert!(rows.iter().any(|(table, row)| table == "api_keys" && row.contains(&hash)), "stored as its SHA-256");
    for form in [secret.to_owned(), hex::encode(&key), hex::encode(secret)] {
        assert!(!rows.iter().any(|(_, row)| row.contains(&form)), "a key is in the database");
    }
    app.stop().await;
}

impl TestApp {
    fn owner_address(&self) -> store::Address {
        home().owner_url(&self.database).parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_at_once_here_and_at_another_node() {
    let app = TestApp::start().await;
    let node = app.second_node().await;
    let (agent, id) = app.agent().await;
    let there = Caller::new(node.url(), None).with_key(agent.key().unwrap());
    for caller in [&agent, &there] {
        ok(caller.get("/v1/workspace").await.unwrap(), 200);
        ok(caller.get("/v1/connections").await.unwrap(), 200);
    }
    assert_eq!(app.admin.delete(&format!("/v1/api-keys/{id}")).await.unwrap().status, 204);
    for path in ["/v1/workspace", "/v1/connections", "/v1/acts"] {
        assert_eq!(problem(&agent.get(path).await.unwrap()).0, 401, "{path}");
    }
    assert_eq!(problem(&there.get("/v1/workspace").await.unwrap()).0, 401, "at the other node");
    // Ended is ended: it cannot be ended again, and stays in the list as what it is.
    assert_eq!(problem(&app.admin.delete(&format!("/v1/api-keys/{id}")).await.unwrap()).0, 404);
    let keys = ok(app.admin.get("/v1/api-keys").await.unwrap(), 200);
    let listed = keys["data"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    assert!(listed["revoked_at"].is_string());
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_when_its_time_is_over() {
    // Ahead of the database's clock: it stands still, and what it signs must not expire under a slow test.
    let clock = Clock::set(Clock::system().now() + Duration::minutes(10));
    let hand = clock.clone();
    let app = TestApp::start_with(|options| options.clock = hand).await;
    let at = |after: Duration| (clock.now() + after).format(&Rfc3339).unwrap();
    let wanted = json!({ "label": "short", "role": "service", "expires_at": at(Duration::seconds(5)) });
    let made = ok(app.admin.post("/v1/api-keys", &wanted).await.unwrap(), 201);
    let short = app.stranger.with_key(text(&made, "/key"));
    for path in ["/v1/workspace", "/v1/connections"] {
        ok(short.get(path).await.unwrap(), 200);
    }
    clock.advance(std::time::Duration::from_secs(4));
    ok(short.get("/v1/workspace").await.unwrap(), 200);
    clock.advance(std::time::Duration::from_secs(1));
    for path in ["/v1/workspace", "/v1/connections"] {
        assert_eq!(problem(&short.get(path).await.unwrap()), (401, "unauthenticated".to_owned()), "{path}");
    }
    ok(app.admin.get("/v1/workspace").await.unwrap(), 200);
    let past = json!({ "label": "late", "role": "service", "expires_at": at(Duration::seconds(-1)) });
    assert_eq!(problem(&app.admin.post("/v1/api-keys", &past).await.unwrap()).0, 422);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_a_listener_of_their_own_and_name_nobody() {
    let handle = telemetry::metrics().unwrap();
    let app = TestApp::start_with(|options| {
        options.render_metrics = Arc::new(move || handle.render());
    })
    .await;
    let limits = json!([{ "unit": "acts", "per": "day", "cap": 1 }]);
    let entrusted = app.entrust(&[READ], limits).await;
    let done = ok(entrusted.act(READ, &json!({}), None).await, 200);
    assert_eq!(entrusted.act(READ, &json!({}), None).await.status, 429);
    let scraper = Caller::new(app.instance.metrics_url(), None);
    let reply = scraper.get("/metrics").await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"));
    let said = String::from_utf8_lossy(&reply.body);
    assert!(said.contains("keyholder_acts_total"), "{said}");
    let token = app.sandbox.platform().last_access_token(crate::harness::ACCOUNT).unwrap();
    let act = text(&done, "/act").to_owned();
    let (workspace, key) = (app.first.workspace.to_string(), app.first.text.to_string());
    let known = [&entrusted.mandate, &entrusted.connection, &entrusted.agent_key, &act, &workspace, &key, &token];
    for word in known {
        assert!(!said.contains(word.as_str()), "{word}");
    }
    for prefix in ["ws_0", "con_0", "man_0", "act_0", "key_0", "req_0", "kh_local_", crate::harness::ACCOUNT] {
        assert!(!said.contains(prefix), "{prefix}");
    }
    for path in ["/", "/health/live", "/v1/workspace", "/docs"] {
        assert_eq!(scraper.get(path).await.unwrap().status, 404, "{path} at the metrics' listener");
    }
    assert_eq!(app.stranger.get("/metrics").await.unwrap().status, 404);
    assert_eq!(app.admin.get("/metrics").await.unwrap().status, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_in_their_order() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let rival = keyholder::local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let rival = app.stranger.with_key(&rival.text);
    let (idle, _) = app.agent().await;
    let mut walked = 0;
    for route in guarded() {
        walked += 1;
        // Everything about the request is wrong but its place.
        let ask = async |caller: &Caller| {
            let filled = route.sample.fill(route.path, &values);
            let joint = if filled.target.contains('?') { '&' } else { '?' };
            let target = format!("{}{joint}unknown=1", filled.target);
            let json = [("content-type", "application/json")];
            let has_body = !filled.body.is_empty();
            let body = match route.object {
                ObjectFrom::Body(pointer) => {
                    let body: Value = serde_json::from_str(&filled.body).unwrap();
                    let name = pointer.trim_start_matches('/');
                    json!({ (name): body[name], "nonsense": 1 }).to_string()
                }
                _ if has_body => json!({ "nonsense": 1 }).to_string(),
                _ => String::new(),
            };
            let method: Method = filled.method.parse().unwrap();
            caller.send(method, &target, if has_body { &json } else { &[] }, body.into()).await.unwrap()
        };
        let what = format!("{route:?}");
        assert_eq!(problem(&ask(&app.stranger).await).0, 401, "{what}");
        let object = route.object != ObjectFrom::CallersWorkspace;
        if object {
            assert_eq!(problem(&ask(&rival).await).0, 404, "{what} of another workspace");
            assert_eq!(problem(&ask(&idle).await).0, 404, "{what} that is not for this key to see");
        } else if matches!(route.guard, Guard::ApiKey(name) if name.ends_with(".manage")) {
            assert_eq!(problem(&ask(&idle).await).0, 403, "{what}");
        }
        let faulty = ask(&app.admin).await;
        if route.method == Verb::Any {
            assert!(faulty.status.is_client_error(), "{what}");
        } else {
            assert_eq!(problem(&faulty).0, 422, "{what}: {}", faulty.json());
        }
    }
    assert_eq!(walked, guarded().count());
    // A path's id that is nowhere is not found by whoever may look, whatever else is wrong with the request.
    let nowhere = domain::id::ConnectionId::from_uuid(sqlx::types::Uuid::nil());
    assert_eq!(problem(&app.admin.get(&format!("/v1/connections/{nowhere}?unknown=1")).await.unwrap()).0, 404);
    app.stop().await;
}
