//! Origins from the configuration: their pages may call the API and read its answers, nobody else's may, and nothing that is sent
//! here changes who they are.

use bytes::Bytes;
use http::Method;
use keyholder::caller::{Caller, Reply};
use serde_json::{Value, json};
use server::{Route, Verb, routes::table};

use super::{assert_secured, pointers, replaced, with_body};
use crate::{
    harness::{TestApp, ok, problem},
    matrices::{Stock, by, is_guarded, operator, send, without_limits},
};

const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example";

async fn start() -> TestApp {
    TestApp::start_with(|options| {
        without_limits(options);
        options.edge.origins = vec![APP.parse().unwrap(), "http://localhost:3000".parse().unwrap()];
    })
    .await
}

#[track_caller]
fn assert_granted(what: &str, reply: &Reply, origin: &str) {
    assert_eq!(reply.header("access-control-allow-origin"), origin, "{what}");
    assert_eq!(reply.header("access-control-allow-credentials"), "", "{what}");
    assert_eq!(reply.header("vary"), "origin", "{what}");
    assert_secured(what, reply);
}

#[track_caller]
fn assert_not_granted(what: &str, reply: &Reply) {
    let granted = reply.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(granted, None, "{what}");
    assert_secured(what, reply);
}

/// A path with something in its captures.
fn target(route: &Route) -> String {
    let parts = route.path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

async fn asks(caller: &Caller, path: &str, origin: &str) -> Reply {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-anything"),
        ("access-control-request-private-network", "true"),
    ];
    caller.send(Method::OPTIONS, path, &headers, Bytes::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_told_what_the_place_takes_and_only_where_it_is_listed() {
    let app = start().await;
    let mut walked = 0;
    for route in table().iter().filter(|route| is_guarded(route)) {
        walked += 1;
        for origin in [APP, "http://localhost:3000"] {
            let (what, reply) = (format!("{route:?}"), asks(&app.stranger, &target(route), origin).await);
            assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0), "{what}");
            assert_granted(&what, &reply, origin);
            let lists =
                |name: &str, word: &str| reply.header(name).split(", ").any(|one| one.eq_ignore_ascii_case(word));
            let method = if route.method == Verb::Any { "PATCH" } else { route.sample.method };
            assert!(lists("access-control-allow-methods", method), "{what}: {:?}", reply.headers);
            assert!(lists("access-control-allow-headers", "authorization"), "{what}");
            assert!(!lists("access-control-allow-headers", "x-anything"), "{what} lets through what nobody reads");
            let is_act = route.path == "/v1/acts" || route.method == Verb::Any;
            assert_eq!(lists("access-control-allow-headers", "idempotency-key"), is_act, "{what}");
            assert_eq!(reply.header("access-control-max-age"), "600", "{what}");
            assert_eq!(reply.header("access-control-allow-private-network"), "", "{what}");
        }
        let reply = asks(&app.stranger, &target(route), EVIL).await;
        assert_eq!(problem(&reply), (403, "origin-not-allowed".to_owned()), "{route:?}");
        assert_not_granted(&format!("{route:?}"), &reply);
    }
    assert!(walked > 25, "{walked}");
    // A page is no place for a script, whoever's it is.
    for path in ["/docs", "/connect/x"] {
        let reply = asks(&app.stranger, path, APP).await;
        assert_eq!(reply.status, 403, "{path}");
        assert_not_granted(path, &reply);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_origin_reads_answers_and_refusals() {
    let app = start().await;
    let from = async |caller: &Caller, path: &str| {
        caller
            .send(Method::GET, path, &[("origin", APP), ("sec-fetch-site", "cross-site")], Bytes::new())
            .await
            .unwrap()
    };
    for (what, reply, status) in [
        ("an answer", from(&app.admin, "/v1/workspace").await, 200),
        ("no key", from(&app.stranger, "/v1/workspace").await, 401),
        ("nowhere", from(&app.admin, "/v1/nowhere").await, 404),
        ("no such method", from(&app.admin, "/v1/connect-links").await, 405),
        ("no such parameter", from(&app.admin, "/v1/workspace?x=1").await, 422),
        ("the document", from(&app.stranger, "/openapi.json").await, 200),
    ] {
        assert_eq!(reply.status, status, "{what}");
        assert_granted(what, &reply, APP);
        let exposed = reply.header("access-control-expose-headers").to_ascii_lowercase();
        for name in ["request-id", "ratelimit", "ratelimit-policy", "retry-after", "idempotency-replayed"] {
            assert!(exposed.split(", ").any(|one| one == name), "{what}: {name} in {exposed}");
        }
    }
    // Whoever is no browser has no use for it.
    assert_not_granted("no origin", &app.admin.get("/v1/workspace").await.unwrap());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_limit_stands_in_every_answer_of_the_api() {
    let app = TestApp::start().await;
    let left = |reply: &Reply| -> u64 { reply.header("ratelimit-remaining").parse().unwrap() };
    let (first, second) =
        (app.admin.get("/v1/workspace").await.unwrap(), app.admin.get("/v1/workspace").await.unwrap());
    assert_eq!(first.header("ratelimit-limit"), "60000");
    assert!(left(&first) < 60_000 && left(&second) < 60_000, "{:?}", second.headers);
    assert!(second.header("ratelimit").starts_with("\"requests\";r="), "{:?}", second.headers);
    assert_eq!(second.header("ratelimit-policy"), "\"requests\";q=60000;w=60;qu=\"requests\"");
    assert!(!second.header("ratelimit-reset").is_empty());
    let refused = app.stranger.get("/v1/workspace").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.header("ratelimit-limit")), (401, "60000"));
    for path in ["/docs", "/health/live", "/nowhere"] {
        assert_eq!(app.stranger.get(path).await.unwrap().header("ratelimit"), "", "{path}");
    }
    app.stop().await;
}

/// Asks for every row's sample with another origin in every text, in every header that might mean one, and in the query.
async fn plead(app: &TestApp, route: &'static Route, stock: &Stock<'_>, operator: &Caller) {
    let (values, browser) = stock.fill(route).await;
    let caller = by(route, &app.admin, operator, &browser);
    let headers = [
        ("access-control-allow-origin", EVIL),
        ("x-keyholder-origins", EVIL),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example"),
        ("referer", EVIL),
    ];
    send(caller, route, &values, &headers).await;
    let filled = route.sample.fill(route.path, &values);
    let joint = if filled.target.contains('?') { '&' } else { '?' };
    let path = format!("{}{joint}origins={EVIL}&origin={EVIL}", filled.target);
    caller.send(filled.method.parse().unwrap(), &path, &[], Bytes::new()).await.unwrap();
    let Ok(body) = serde_json::from_str::<Value>(&filled.body) else { return };
    let mut places = Vec::new();
    pointers(&body, "", &mut places);
    for pointer in places {
        let body = replaced(&body, &pointer, &json!(EVIL)).to_string().into_bytes();
        with_body(caller, route, &values, &["application/json"], body).await;
    }
    for name in ["origins", "origin", "allowed_origins", "edge"] {
        let mut more = body.clone();
        if let Some(members) = more.as_object_mut() {
            members.insert(name.to_owned(), json!([EVIL]));
        }
        with_body(caller, route, &values, &["application/json"], more.to_string().into_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_and_no_tenant_changes_the_list() {
    let app = start().await;
    let (stock, operator) = (Stock::of_admin(&app), operator(&app).await);
    // What a tenant may register is for browsers to be sent back to, and for nothing else.
    ok(app.admin.post("/v1/return-addresses", &json!({ "url": format!("{EVIL}/back") })).await.unwrap(), 201);
    let mut walked = 0;
    for route in table() {
        walked += 1;
        plead(&app, route, &stock, &operator).await;
        let evil = [("origin", EVIL)];
        let reply = app.admin.send(Method::GET, "/v1/workspace", &evil, Bytes::new()).await.unwrap();
        assert_eq!(problem(&reply), (403, "origin-not-allowed".to_owned()), "after {route:?}");
        assert_not_granted(&format!("{route:?}"), &reply);
        let reply = app.admin.send(Method::GET, "/v1/workspace", &[("origin", APP)], Bytes::new()).await.unwrap();
        assert_eq!(reply.status, 200, "after {route:?}");
        assert_granted(&format!("{route:?}"), &reply, APP);
    }
    assert_eq!(walked, table().len());
    // Another node of the installation has its own configuration's list.
    let other = app.second_node().await;
    let reply = Caller::new(other.url(), None).with_key(&app.first.text);
    let reply = reply.send(Method::GET, "/v1/workspace", &[("origin", APP)], Bytes::new()).await.unwrap();
    assert_eq!(problem(&reply), (403, "origin-not-allowed".to_owned()));
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_its_headers_whoever_made_it() {
    let app = TestApp::start_with(|options| {
        without_limits(options);
        options.public_url = Some("https://keys.example.com".parse().unwrap());
    })
    .await;
    let values =
        server::PLACEHOLDERS.iter().map(|(name, _, example)| ((*name).to_owned(), (*example).to_owned())).collect();
    let mut statuses = std::collections::BTreeSet::new();
    for route in table() {
        for caller in [&app.admin, &app.stranger.with_no_cookies()] {
            let reply = send(caller, route, &values, &[]).await;
            let what = format!("{route:?}: {}", reply.status);
            statuses.insert(reply.status.as_u16());
            assert_secured(&what, &reply);
            assert_eq!(reply.header("strict-transport-security"), "max-age=31536000; includeSubDomains", "{what}");
            assert!(reply.header("permissions-policy").contains("geolocation=()"), "{what}");
            // The same for everybody, and asked for by many.
            let cacheable = ["/assets/", "/trust", "/.well-known/"].iter().any(|path| route.path.starts_with(path));
            let kept = reply.status.is_success() && cacheable;
            assert_eq!(reply.header("cache-control") == "no-store", !kept, "{what}");
            assert_eq!(reply.header("server"), "", "{what}");
        }
    }
    assert!([200, 201, 401, 404].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    let metrics = Caller::new(app.instance.metrics_url(), None);
    for path in ["/metrics", "/nowhere"] {
        let reply = metrics.get(path).await.unwrap();
        for (name, value) in super::SECURITY {
            assert_eq!(reply.header(name), value, "{path} of the metrics: {name}");
        }
        assert!(reply.header("content-security-policy").starts_with("default-src 'none';"), "{path} of the metrics");
    }
    app.stop().await;
}
