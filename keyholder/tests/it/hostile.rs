//! What a hostile client sends: to every row that takes it, and raw on the wire. It is answered by a structured problem or by the end
//! of the connection, never by a fault of ours, and every answer of the application has its security headers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::Method;
use keyholder::caller::{Caller, Reply};
use serde_json::{Value, json};
use server::{Route, SampleBody, Verb, routes::table};
use service::step::{Hook, Step};

use crate::{
    harness::{TestApp, ok, problem, text},
    matrices::{
        Stock, Values, by, everything, for_operators, guarded, is_guarded, operator, send, state_of, without_limits,
    },
};

mod origins;
mod proxies;
mod table;
mod wire;

/// Headers without which nothing leaves the application.
const SECURITY: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

#[track_caller]
fn assert_secured(what: &str, reply: &Reply) {
    for (name, value) in SECURITY {
        assert_eq!(reply.header(name), value, "{what}: {name}");
    }
    assert!(reply.header("content-security-policy").starts_with("default-src 'none';"), "{what}");
    assert!(reply.header("request-id").starts_with("req_"), "{what}");
}

/// Refused in the right form, or, where that may be, done; never a fault of ours.
#[track_caller]
fn assert_answered(what: &str, route: &Route, reply: &Reply) {
    let shown = String::from_utf8_lossy(&reply.body);
    assert_ne!(reply.status, 500, "{what}: {shown}");
    assert_ne!(reply.status, 503, "{what}: {shown}");
    assert_secured(what, reply);
    if reply.status.is_client_error() {
        if is_guarded(route) {
            problem(reply);
            assert_eq!(reply.json()["status"], reply.status.as_u16(), "{what}");
            assert_eq!(text(&reply.json(), "/request_id"), reply.header("request-id"), "{what}");
        } else {
            let form = reply.header("content-type");
            assert!(form == "application/problem+json" || form.starts_with("text/html"), "{what}: {form}");
        }
    }
}

/// A request like the sample's, with another body and content types.
async fn with_body(caller: &Caller, route: &Route, values: &Values, types: &[&str], body: Vec<u8>) -> Reply {
    let filled = route.sample.fill(route.path, values);
    let mut headers: Vec<_> = filled.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.retain(|(name, _)| *name != "content-type");
    headers.extend(types.iter().map(|value| ("content-type", *value)));
    let method = if route.method == Verb::Any { Method::POST } else { filled.method.parse().unwrap() };
    caller.send(method, &filled.target, &headers, body.into()).await.unwrap()
}

/// The rows that take JSON: those whose sample has it, and the proxy.
fn json_rows() -> Vec<&'static Route> {
    table()
        .iter()
        .filter(|route| matches!(route.sample.body, SampleBody::Json(_)) || route.method == Verb::Any)
        .collect()
}

const JSON: &str = "application/json";

/// What is wrong, the content types, the body; the status and the kind of its problem.
type BadBody = (&'static str, &'static [&'static str], Vec<u8>, u16, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_is_a_problem_at_every_row_that_takes_one() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let operator = operator(&app).await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(1_000), close.repeat(1_000)).into_bytes();
    let cases: Vec<BadBody> = vec![
        ("cut off", &[JSON], b"{\"a\":".to_vec(), 400, "invalid-json"),
        ("nothing, said to be JSON", &[JSON], Vec::new(), 400, "invalid-json"),
        ("two documents", &[JSON], b"{} {}".to_vec(), 400, "invalid-json"),
        ("a field twice", &[JSON], b"{\"a\":1,\"a\":1}".to_vec(), 400, "invalid-json"),
        ("a field twice, deep", &[JSON], b"{\"input\":{\"a\":1,\"\\u0061\":1}}".to_vec(), 400, "invalid-json"),
        ("bad UTF-8", &[JSON], b"{\"a\":\"\xff\xfe\"}".to_vec(), 400, "invalid-json"),
        ("half a surrogate pair", &[JSON], b"{\"a\":\"\\ud800\"}".to_vec(), 400, "invalid-json"),
        ("a raw NUL", &[JSON], b"{\"a\":\"\0\"}".to_vec(), 400, "invalid-json"),
        ("a byte order mark", &[JSON], b"\xef\xbb\xbf{}".to_vec(), 400, "invalid-json"),
        ("too deep a list", &[JSON], deep("[", "]"), 400, "invalid-json"),
        (
            "too deep an object",
            &[JSON],
            [deep("{\"a\":", ""), b"1".to_vec(), deep("", "}")].concat(),
            400,
            "invalid-json",
        ),
        ("not a number", &[JSON], b"{\"a\":NaN}".to_vec(), 400, "invalid-json"),
        ("no content type", &[], b"{}".to_vec(), 415, "unsupported-media-type"),
        ("a text", &["text/plain"], b"{}".to_vec(), 415, "unsupported-media-type"),
        ("a form", &["application/x-www-form-urlencoded"], b"a=1".to_vec(), 415, "unsupported-media-type"),
        ("another charset", &["application/json; charset=utf-16"], b"{}".to_vec(), 415, "unsupported-media-type"),
        ("two content types", &[JSON, "text/plain"], b"{}".to_vec(), 400, "malformed-request"),
    ];
    let mut walked = 0;
    // At the proxy, where a body may be.
    let values: Values = values.into_iter().chain([("path".to_owned(), "2/tweets".to_owned())]).collect();
    for route in json_rows() {
        walked += 1;
        for (what, types, body, status, kind) in &cases {
            if body.is_empty() && route.method == Verb::Any {
                continue; // Nothing is a body that a platform's route may have.
            }
            let what = format!("{route:?}: {what}");
            let reply =
                with_body(by(route, &app.admin, &operator, &app.stranger), route, &values, types, body.clone()).await;
            assert_eq!(problem(&reply), (*status, (*kind).to_owned()), "{what}: {}", reply.json());
            assert_answered(&what, route, &reply);
        }
    }
    assert!(walked >= 8, "{walked}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_where_none_is_taken_or_in_a_coding_is_refused() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let mut owner = app.owner().await;
    let before = state_of(&mut owner, app.workspace_uuid()).await;
    let mut walked = 0;
    for route in guarded() {
        walked += 1;
        let takes = !matches!(route.sample.body, SampleBody::Nothing) || route.method == Verb::Any;
        let reply = if takes {
            // The sample of a row that takes a body says its type; the proxy's has none.
            let more = [("content-encoding", "gzip"), ("content-type", JSON)];
            let more = if route.method == Verb::Any { &more[..] } else { &more[..1] };
            send(&app.admin, route, &values, more).await
        } else {
            with_body(&app.admin, route, &values, &[JSON], b"{}".to_vec()).await
        };
        let what = format!("{route:?}");
        // The proxy's sample is a GET without a body: there is nothing that a coding could be of.
        if route.method != Verb::Any {
            assert_eq!(problem(&reply), (415, "unsupported-media-type".to_owned()), "{what}");
        }
        assert_answered(&what, route, &reply);
    }
    assert_eq!(walked, guarded().count());
    let after = state_of(&mut owner, app.workspace_uuid()).await;
    let changed: Vec<_> =
        before.iter().zip(&after).filter(|(one, other)| one != other).map(|(one, _)| &one.0).collect();
    assert!(changed.iter().all(|table| ["acts", "budgets"].contains(&table.as_str())), "{changed:?}");
    app.stop().await;
}

/// A JSON value with one member at a pointer replaced.
fn replaced(body: &Value, pointer: &str, by: &Value) -> Value {
    let mut body = body.clone();
    *body.pointer_mut(pointer).unwrap() = by.clone();
    body
}

/// The pointers of all members, of all depths.
fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(place, item)| (place.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (name, member) in members {
        let pointer = format!("{at}/{name}");
        into.push(pointer.clone());
        pointers(member, &pointer, into);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_every_body_takes_only_what_it_must() {
    let app = TestApp::start_with(without_limits).await;
    let stock = Stock::of_admin(&app);
    let operator = operator(&app).await;
    let odd = [
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(u64::MAX),
        json!(true),
        json!([]),
        json!({}),
        json!([[]]),
        json!({ "a": { "b": 1 } }),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!("\u{202e}\u{feff}\u{1f600}"),
        json!("'; drop table keyholder.acts; --"),
        json!("../../etc/passwd"),
        json!("con_00000000000000000000000000"),
        json!("con_zzzzzzzzzzzzzzzzzzzzzzzzzz"),
        json!("key_7zzzzzzzzzzzzzzzzzzzzzzzzz"),
        json!("-999999-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:60Z"),
        json!("0001-01-01T00:00:00Z"),
        json!("javascript:alert(1)"),
        json!("http://[::1"),
        json!("x".repeat(200_000)),
        Value::Null,
    ];
    let mut tried = 0;
    // A statement is taken or refused as the whole that was signed: what is wrong with one is tried in `trust`.
    for route in json_rows().into_iter().filter(|route| !route.path.ends_with("/trust-statements")) {
        let (mut values, _) = stock.fill(route).await;
        let Ok(body) = serde_json::from_str::<Value>(&route.sample.fill(route.path, &values).body) else { continue };
        // An unknown field is named.
        let mut unknown = body.clone();
        unknown.as_object_mut().unwrap().insert("ad/min~".to_owned(), json!(true));
        let reply = with_body(
            by(route, &app.admin, &operator, &app.stranger),
            route,
            &values,
            &[JSON],
            unknown.to_string().into_bytes(),
        )
        .await;
        assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{route:?}");
        assert_eq!(text(&reply.json(), "/errors/0/pointer"), "/ad~1min~0", "{route:?}");
        // A body that is no object is one fault, and a hundred faults are not all told.
        for (body, most) in [(json!([]), 1), (json!("x"), 1), (many(500), 32)] {
            let reply = with_body(
                by(route, &app.admin, &operator, &app.stranger),
                route,
                &values,
                &[JSON],
                body.to_string().into_bytes(),
            )
            .await;
            assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{route:?}");
            assert!(reply.json()["errors"].as_array().unwrap().len() <= most, "{route:?}: {}", reply.json());
        }
        let mut places = Vec::new();
        pointers(&body, "", &mut places);
        for pointer in places {
            for value in &odd {
                tried += 1;
                // What has been used up by a request that went well is provided anew, so that the next is refused for its own fault.
                let body: Value = serde_json::from_str(&route.sample.fill(route.path, &values).body).unwrap();
                let sent = replaced(&body, &pointer, value).to_string();
                let shown: String = value.to_string().chars().take(40).collect();
                let what = format!("{route:?} {pointer} = {shown}");
                let reply = with_body(
                    by(route, &app.admin, &operator, &app.stranger),
                    route,
                    &values,
                    &[JSON],
                    sent.into_bytes(),
                )
                .await;
                assert_answered(&what, route, &reply);
                if reply.status.is_success() {
                    values = stock.fill(route).await.0;
                }
            }
        }
    }
    assert!(tried > 500, "{tried}");
    assert_eq!(app.admin.get("/v1/workspace").await.unwrap().status, 200);
    app.stop().await;
}

/// An object of so many unknown members.
fn many(count: usize) -> Value {
    (0..count).map(|number| (format!("m{number}"), json!(number))).collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_could_not_be_is_not_found() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let operator = operator(&app).await;
    let odd = [
        "%00",
        "%2e%2e",
        "..",
        "%2e%2e%2f%2e%2e",
        "con_",
        "con_ZZZZZZZZZZZZZZZZZZZZZZZZZZ",
        "%ff%fe",
        "%zz",
        "%",
        "a%20b",
        "con_00000000000000000000000000%00",
        "%F0%9F%98%80",
        "'%20or%201=1",
        "%3Cscript%3E",
        "null",
        "-1",
        "*",
    ];
    let long = "a".repeat(8_000);
    let mut tried = 0;
    for route in table().iter().filter(|route| route.path.contains('{')) {
        let captures: Vec<_> = route.path.split('/').filter(|part| part.starts_with('{')).collect();
        for capture in captures {
            for value in odd.iter().copied().chain([long.as_str()]) {
                tried += 1;
                let path = route.path.replace(capture, value);
                let target = route.sample.fill(&path, &values).target;
                let caller = by(route, &app.admin, &operator, &app.stranger);
                let method = route.sample.method.parse().unwrap();
                let headers: &[(&str, &str)] = match route.sample.body {
                    SampleBody::Form(_) => &[("sec-fetch-site", "same-origin")],
                    _ => &[],
                };
                let Ok(reply) = caller.send(method, &target, headers, Bytes::default()).await else {
                    continue; // The client itself refuses to send such an address.
                };
                let what = format!("{route:?} at {}", target.chars().take(80).collect::<String>());
                assert!(reply.status.is_client_error() || reply.status == 303, "{what}: {}", reply.status);
                assert_answered(&what, route, &reply);
                if is_guarded(route) && !capture.starts_with("{*") {
                    assert!([404, 405].contains(&reply.status.as_u16()), "{what}: {}", reply.status);
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_not_known_is_named() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let mut owner = app.owner().await;
    let mut walked = 0;
    for route in guarded().filter(|route| route.method != Verb::Any) {
        walked += 1;
        let before = state_of(&mut owner, app.workspace_uuid()).await;
        for (query, pointer) in [
            ("admin=true", "?admin"),
            ("x=1&x=2", "?x"),
            ("%00=%00", "?\u{0}"),
            ("%ff=%zz", "?\u{fffd}"),
            ("limit=1&limit=2", "?limit"),
        ] {
            let filled = route.sample.fill(route.path, &values);
            let joint = if filled.target.contains('?') { '&' } else { '?' };
            let target = format!("{}{joint}{query}", filled.target);
            let headers: Vec<_> = filled.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let method = filled.method.parse().unwrap();
            let reply = app.admin.send(method, &target, &headers, filled.body.into()).await.unwrap();
            let what = format!("{route:?}?{query}");
            assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{what}: {}", reply.json());
            let told = reply.json()["errors"].as_array().unwrap().iter().any(|fault| fault["pointer"] == pointer);
            assert!(told, "{what}: {}", reply.json());
            assert_answered(&what, route, &reply);
        }
        assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before, "{route:?} went on all the same");
    }
    assert_eq!(walked, guarded().count() - 1);
    for query in
        ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=99999999999999999999", "before=x", "before="]
    {
        let reply = app.admin.get(&format!("/v1/connections?{query}")).await.unwrap();
        assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{query}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_ones() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let mut owner = app.owner().await;
    let before = state_of(&mut owner, app.workspace_uuid()).await;
    let mut walked = 0;
    for route in table().iter().filter(|route| route.method != Verb::Any) {
        let here: Vec<_> =
            table().iter().filter(|other| other.path == route.path).map(|other| other.sample.method).collect();
        let target = route.sample.fill(route.path, &values).target;
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "PROPFIND"] {
            if here.contains(&method) {
                continue;
            }
            walked += 1;
            for caller in [&app.admin, &app.stranger] {
                let reply = caller.send(method.parse().unwrap(), &target, &[], Bytes::default()).await.unwrap();
                let what = format!("{method} {target}");
                assert_eq!(problem(&reply), (405, "method-not-allowed".to_owned()), "{what}");
                for allowed in &here {
                    assert!(
                        reply.header("allow").split(',').any(|word| word.trim() == *allowed),
                        "{what}: {:?}",
                        reply.headers
                    );
                }
                assert_secured(&what, &reply);
            }
        }
    }
    assert!(walked > 150, "{walked}");
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/workspace",
        "/v1/workspace/",
        "//v1/workspace",
        "/v1/%77orkspace",
        "/v1/workspace;a=b",
        "/admin",
        "/.env",
        "/v1/proxy",
        "/health",
        "/connect",
        "/metrics",
        "/%00",
        "/v1/../v1/workspace",
    ] {
        let reply = app.admin.get(path).await.unwrap();
        assert_eq!(problem(&reply), (404, "not-found".to_owned()), "{path}");
        assert_secured(path, &reply);
    }
    assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_uses_nothing_up() {
    let app = TestApp::start().await;
    let link = app.link(&["profile.read"]).await;
    let preview = app.stranger.send(Method::HEAD, &link, &[], Bytes::default()).await.unwrap();
    assert_eq!((preview.status.as_u16(), preview.header("set-cookie")), (405, ""));
    assert_eq!(
        app.stranger.with_no_cookies().get(&link).await.unwrap().status,
        200,
        "the owner is the first to open it"
    );
    let head = app.admin.send(Method::HEAD, "/v1/connections", &[], Bytes::default()).await.unwrap();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_origin_is_refused_before_any_effect() {
    let app = TestApp::start_with(without_limits).await;
    let stock = Stock::of_admin(&app);
    let operator = operator(&app).await;
    let mut owner = app.owner().await;
    let mut walked = 0;
    for route in table().iter().filter(|route| is_guarded(route) || !matches!(route.sample.body, SampleBody::Nothing)) {
        walked += 1;
        let (values, browser) = stock.fill(route).await;
        let calls = app.sandbox.platform().requests().len();
        let before = state_of(&mut owner, app.workspace_uuid()).await;
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1"] {
            let what = format!("{route:?} from {origin}");
            let reply = if is_guarded(route) {
                send(by(route, &app.admin, &operator, &browser), route, &values, &[("origin", origin)]).await
            } else {
                let filled = route.sample.fill(route.path, &values);
                let headers = [
                    ("content-type", "application/x-www-form-urlencoded"),
                    ("sec-fetch-site", "cross-site"),
                    ("origin", origin),
                ];
                browser.send(Method::POST, &filled.target, &headers, filled.body.into()).await.unwrap()
            };
            assert_eq!(reply.status, 403, "{what}");
            assert_answered(&what, route, &reply);
            assert_eq!(reply.header("access-control-allow-origin"), "", "{what}");
        }
        assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before, "{route:?} had an effect");
        assert_eq!(app.sandbox.platform().requests().len(), calls, "{route:?} called the platform");
        // The same request from nowhere else is good.
        let caller = by(route, &app.admin, &operator, &browser);
        let good = send(caller, route, &values, &[]).await.status;
        assert!(good.is_success() || good == 303, "{route:?}: {good}");
    }
    assert_eq!(walked, guarded().count() + for_operators().count() + 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_problem_and_the_next_request_is_served() {
    let armed = Arc::new(AtomicBool::new(false));
    let trap = Arc::clone(&armed);
    let app = TestApp::start_with(|options| {
        options.hook = Hook::new(move |step| {
            assert!(
                !(step == Step::Identify && trap.swap(false, Ordering::SeqCst)),
                "on purpose, with a secret: hunter2"
            );
        });
    })
    .await;
    armed.store(true, Ordering::SeqCst);
    let reply = app.admin.get("/v1/workspace").await.unwrap();
    assert_eq!(problem(&reply), (500, "internal".to_owned()));
    assert_secured("a panic", &reply);
    assert!(!String::from_utf8_lossy(&reply.body).contains("hunter2"));
    ok(app.admin.get("/v1/workspace").await.unwrap(), 200);
    app.stop().await;
}
