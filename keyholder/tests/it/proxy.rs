//! The proxy: a client that was written for the platform's own API, and what of its requests reaches the platform.

use bytes::Bytes;
use domain::clock::Clock;
use http::Method;
use keyholder::caller::Reply;
use sandbox::{Call, EchoForm, EchoPlace, Quirk, Recorded, Route, Scope};
use serde_json::json;

use crate::{
    acts::{ALL, parent, reply_to},
    harness::{ACCOUNT, Entrusted, TestApp, ok, problem, text},
};

/// Bytes as they are, under the mandate.
async fn send(entrusted: &Entrusted, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let path = format!("/v1/proxy/{}{path}", entrusted.mandate);
    entrusted.agent.send(method, &path, headers, Bytes::from(body.to_owned())).await.unwrap()
}

/// The newest API call that reached the platform.
fn newest(app: &TestApp) -> Recorded {
    app.sandbox.platform().requests().into_iter().rfind(|request| request.call != Call::Refresh).unwrap()
}

/// How many calls reached the platform, whatever they were.
fn seen(app: &TestApp) -> usize {
    app.sandbox.platform().requests().len()
}

#[tokio::test]
async fn a_client_of_the_platform_finds_its_api_here() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;

    let body = json!({ "text": "Hello" });
    let created = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some("one")).await;
    assert_eq!(created.header("content-type"), "application/json; charset=utf-8");
    assert_eq!((created.header("keyholder-durable"), created.header("idempotency-replayed")), ("true", ""));
    assert_ne!(created.header("x-rate-limit-remaining"), "");
    let act = created.header("keyholder-act").to_owned();
    let id = text(&ok(created, 201), "/data/id").to_owned();
    let listed = ok(entrusted.agent.get(&format!("/v1/acts/{act}")).await.unwrap(), 200);
    assert_eq!((text(&listed, "/action"), text(&listed, "/state")), ("post.create", "settled"));

    let body = json!({ "reply": { "in_reply_to_tweet_id": parent }, "text": "On its way" });
    let replied = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some("two")).await;
    let act = replied.header("keyholder-act").to_owned();
    ok(replied, 201);
    let listed = ok(entrusted.agent.get(&format!("/v1/acts/{act}")).await.unwrap(), 200);
    assert_eq!(text(&listed, "/action"), "post.reply");

    let path = format!("/2/tweets/{parent}?tweet.fields=public_metrics");
    let metrics = entrusted.proxy(Method::GET, &path, None, None).await;
    assert_eq!((metrics.header("keyholder-act"), metrics.header("keyholder-durable")), ("", "true"));
    assert_eq!(ok(metrics, 200)["data"]["public_metrics"]["reply_count"], 1);
    let deleted = entrusted.proxy(Method::DELETE, &format!("/2/tweets/{id}"), None, Some("three")).await;
    assert_eq!(ok(deleted, 200), json!({ "data": { "deleted": true } }));
    let me = entrusted.proxy(Method::GET, "/2/users/me", None, None).await;
    assert_eq!(text(&ok(me, 200), "/data/username"), ACCOUNT);

    let texts: Vec<_> = platform.posts_by(ACCOUNT).into_iter().map(|post| (post.text, post.reply_to)).collect();
    assert_eq!(texts, [("On its way".to_owned(), Some(parent))]);
    app.stop().await;
}

#[tokio::test]
async fn a_retry_is_recognised_by_either_door() {
    let app = TestApp::start().await;
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;
    let body = json!({ "text": "Hello", "reply": { "in_reply_to_tweet_id": parent } });
    let first = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some("k")).await;
    let again = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some("k")).await;
    for name in ["keyholder-act", "content-type"] {
        assert_eq!(again.header(name), first.header(name));
    }
    assert_eq!((again.header("idempotency-replayed"), again.status, &again.body), ("true", first.status, &first.body));
    let named = entrusted.act("post.reply", &reply_to(&parent, "Hello"), Some("k")).await;
    assert_eq!(named.header("idempotency-replayed"), "true");
    assert_eq!(ok(named, 200)["answer"], first.json());
    let other = entrusted.proxy(Method::POST, "/2/tweets", Some(&json!({ "text": "Hello" })), Some("k")).await;
    assert_eq!(problem(&other), (422, "idempotency-key-reused".to_owned()));
    let keyless = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), None).await;
    assert_eq!(problem(&keyless), (400, "idempotency-key-required".to_owned()));
    let keyless = entrusted.proxy(Method::DELETE, &format!("/2/tweets/{parent}"), None, None).await;
    assert_eq!(problem(&keyless), (400, "idempotency-key-required".to_owned()));
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 1);
    app.stop().await;
}

#[tokio::test]
async fn what_the_platform_answers_is_passed_on() {
    let clock = Clock::set(Clock::system().now());
    let app = TestApp::start_with(|options| options.clock = clock.clone()).await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([])).await;
    let location = "https://api.x.com/2/users/me".to_owned();
    let quirks = [
        (Quirk::Status { code: 429, retry_after_s: Some(7) }, 429),
        (Quirk::Status { code: 503, retry_after_s: Some(7) }, 503),
        (Quirk::Status { code: 404, retry_after_s: None }, 404),
        (Quirk::Redirect { location }, 307),
    ];
    for (quirk, status) in quirks {
        let has_retry = matches!(quirk, Quirk::Status { retry_after_s: Some(_), .. });
        platform.switch(quirk, Scope::once(Route::Only(Call::CreatePost))).unwrap();
        let before = seen(&app);
        let body = json!({ "text": format!("{status}") });
        let reply = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some(&status.to_string())).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("retry-after"), if has_retry { "7" } else { "" }, "{status}");
        assert_eq!(reply.header("location"), "", "no client is sent elsewhere with what it holds");
        assert_eq!(seen(&app), before + 1);
        let again = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some(&status.to_string())).await;
        assert_eq!(
            (again.status, again.header("idempotency-replayed"), seen(&app)),
            (reply.status, "true", before + 1)
        );
        clock.advance(std::time::Duration::from_secs(8));
    }
    platform.switch(Quirk::LoseAnswer, Scope::once(Route::Only(Call::CreatePost))).unwrap();
    let body = json!({ "text": "lost" });
    let lost = entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some("lost")).await;
    assert_eq!(problem(&lost), (504, "upstream-timeout".to_owned()));
    assert_ne!(text(&lost.json(), "/act"), "");
    app.stop().await;
}

/// Method, path, headers, body; and the status and kind of the refusal.
type Case<'a> = (&'a str, String, &'a [(&'a str, &'a str)], &'a str, (u16, &'a str));

#[tokio::test]
async fn whatever_has_no_declared_meaning_is_refused_and_nothing_is_sent() {
    let app = TestApp::start().await;
    let id = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;
    let before = seen(&app);
    let json_type: &[(&str, &str)] = &[("content-type", "application/json"), ("idempotency-key", "k")];
    let none: &[(&str, &str)] = &[("idempotency-key", "k")];
    let plain: &[(&str, &str)] = &[("content-type", "text/plain"), ("idempotency-key", "k")];
    let form: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded"), ("idempotency-key", "k")];
    let coded: &[(&str, &str)] =
        &[("content-type", "application/json"), ("content-encoding", "gzip"), ("idempotency-key", "k")];
    let (outside, invalid) = ((403, "outside-mandate"), (422, "invalid-input"));
    let (not_json, media) = ((400, "invalid-json"), (415, "unsupported-media-type"));
    let tweet = format!("/2/tweets/{id}");
    let hello = "{\"text\":\"Hello\"}";
    let cases: Vec<Case<'_>> = vec![
        ("GET", "/2/users/by/username/x".into(), none, "", outside),
        ("GET", "/2/users/me/".into(), none, "", outside),
        ("GET", "/2/Users/me".into(), none, "", outside),
        ("GET", "//2/users/me".into(), none, "", outside),
        ("GET", "/https://api.x.com/2/users/me".into(), none, "", outside),
        ("GET", "/".into(), none, "", (404, "not-found")),
        ("GET", "/2%2Fusers/me".into(), none, "", invalid),
        ("GET", "/2/users%2fme".into(), none, "", invalid),
        ("GET", "/2/users%5Cme".into(), none, "", invalid),
        ("GET", "/2/./users/me".into(), none, "", invalid),
        ("GET", "/2/tweets/../users/me".into(), none, "", invalid),
        ("GET", "/2/tweets/%2e%2e/users/me".into(), none, "", invalid),
        ("GET", "/2/users/me%".into(), none, "", invalid),
        ("GET", "/2/users/me%00".into(), none, "", outside),
        ("GET", "/2/tweets/12x?tweet.fields=public_metrics".into(), none, "", outside),
        ("GET", format!("{tweet}?tweet.fields=author_id"), none, "", invalid),
        ("GET", format!("{tweet}?tweet.fields=public_metrics,author_id"), none, "", invalid),
        ("GET", format!("{tweet}?expansions=author_id"), none, "", invalid),
        ("GET", format!("{tweet}?tweet.fields=public_metrics&tweet.fields=public_metrics"), none, "", invalid),
        ("GET", "/2/users/me?access_token=a".into(), none, "", invalid),
        ("GET", "/2/users/me".into(), json_type, "{}", invalid),
        ("GET", "/2/users/me".into(), none, "{}", media),
        ("PUT", "/2/tweets".into(), json_type, hello, outside),
        ("PATCH", tweet.clone(), json_type, hello, outside),
        ("DELETE", "/2/tweets".into(), none, "", outside),
        ("DELETE", tweet.clone(), json_type, "{}", invalid),
        ("POST", "/2/tweets".into(), plain, hello, media),
        ("POST", "/2/tweets".into(), form, "text=Hello", media),
        ("POST", "/2/tweets".into(), coded, hello, media),
        ("POST", "/2/tweets".into(), none, hello, media),
        ("POST", "/2/tweets".into(), json_type, "", invalid),
        ("POST", "/2/tweets".into(), json_type, "{", not_json),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":\"a\",\"text\":\"b\"}", not_json),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":\"a\",\"\\u0074ext\":\"b\"}", not_json),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":\"a\"} {}", not_json),
        ("POST", "/2/tweets".into(), json_type, "[]", invalid),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":\"a\",\"poll\":{}}", invalid),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":\"a\",\"Text\":\"b\"}", invalid),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":\"a\",\"reply\":{}}", invalid),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":\"a\",\"reply\":null}", invalid),
        ("POST", "/2/tweets".into(), json_type, "{\"text\":1}", invalid),
        (
            "POST",
            "/2/tweets".into(),
            json_type,
            "{\"reply\":{\"in_reply_to_tweet_id\":\"1\",\"x\":1},\"text\":\"a\"}",
            invalid,
        ),
        ("POST", "/2/tweets?dry_run=1".into(), json_type, hello, invalid),
        ("POST", "/2/tweets/".into(), json_type, hello, outside),
        ("POST", "/2/oauth2/token".into(), json_type, hello, outside),
    ];
    for (method, path, headers, body, (status, kind)) in cases {
        let reply = send(&entrusted, method.parse().unwrap(), &path, headers, body).await;
        assert_eq!(problem(&reply), (status, kind.to_owned()), "{method} {path} {body}: {}", reply.json());
    }
    // A mandate's own limits, through the same door.
    let narrow = app.mandate(&entrusted.connection, &["post.reply"], json!([])).await;
    for (method, path, body) in [("POST", "/2/tweets", hello), ("GET", "/2/users/me", ""), ("DELETE", &*tweet, "")] {
        let headers = if body.is_empty() { none } else { json_type };
        let reply = send(&narrow, method.parse().unwrap(), path, headers, body).await;
        assert_eq!(problem(&reply), (403, "outside-mandate".to_owned()), "{method} {path}");
    }
    assert_eq!(seen(&app), before, "nothing of this has reached the platform");
    assert_eq!(ok(entrusted.agent.get("/v1/acts").await.unwrap(), 200)["data"], json!([]));
    app.stop().await;
}

#[tokio::test]
async fn the_proxy_is_for_the_grantee_of_its_mandate() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let other = app.mandate(&entrusted.connection, &ALL, json!([])).await;
    let path = format!("/v1/proxy/{}/2/users/me", entrusted.mandate);
    let before = seen(&app);
    for (caller, status, kind) in
        [(&app.stranger, 401, "unauthenticated"), (&other.agent, 404, "not-found"), (&app.admin, 403, "forbidden")]
    {
        assert_eq!(problem(&caller.get(&path).await.unwrap()), (status, kind.to_owned()));
    }
    for path in ["/v1/proxy/man_00000000000000000000000000/2/users/me", "/v1/proxy/man_x/2/users/me", "/v1/proxy/"] {
        assert_eq!(problem(&entrusted.agent.get(path).await.unwrap()), (404, "not-found".to_owned()), "{path}");
    }
    assert_eq!(seen(&app), before);
    ok(entrusted.agent.get(&path).await.unwrap(), 200);
    app.stop().await;
}

#[tokio::test]
async fn nothing_of_a_request_is_forwarded_but_its_meaning() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let parent = parent(&app);
    let connection = app.connect(ACCOUNT, &ALL).await;
    let made = ok(app.admin.post("/v1/api-keys", &json!({ "label": "agent", "role": "service" })).await.unwrap(), 201);
    let terms = json!({ "connection": connection, "grantee": made["id"], "actions": ALL });
    let mandate = ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201);
    let key = text(&made, "/key");
    let entrusted = Entrusted {
        connection,
        mandate: text(&mandate, "/id").to_owned(),
        agent: app.stranger.with_key(key),
        agent_key: text(&made, "/id").to_owned(),
    };
    let headers = [
        ("content-type", "Application/JSON; charset=UTF-8"),
        ("idempotency-key", "k"),
        ("cookie", "session=1"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-custom", "canary"),
        ("accept", "text/html"),
        ("accept-language", "de"),
        ("accept-encoding", "gzip, br"),
        ("user-agent", "canary"),
        ("referer", "https://canary.example/"),
        ("proxy-authorization", "Basic canary"),
        ("x-http-method-override", "DELETE"),
    ];
    let body = format!(
        " {{ \"text\" : \"\\u0047r\\u00f6\\/\\n\\ud83d\\ude00\",\n\t\"reply\":{{\"in_reply_to_tweet_id\":\"{parent}\"}} }} "
    );
    let echo = Quirk::EchoAuthorization { place: EchoPlace::Header, form: EchoForm::Plain, piecewise: false };
    platform.switch(echo, Scope::once(Route::Only(Call::Reply))).unwrap();
    let reply = send(&entrusted, Method::POST, "/2/tweets", &headers, &body).await;
    ok(reply, 201);
    let sent = newest(&app);
    assert_eq!(
        (sent.method.as_str(), sent.host.as_str(), sent.path.as_str(), sent.query),
        ("POST", "api.x.com", "/2/tweets", None)
    );
    let rendered = format!("{{\"reply\":{{\"in_reply_to_tweet_id\":\"{parent}\"}},\"text\":\"Grö/\\n😀\"}}");
    assert_eq!(String::from_utf8(sent.body).unwrap(), rendered);
    let mut ours =
        ["accept-encoding", "authorization", "content-length", "content-type", "host", "user-agent"].to_vec();
    ours.extend(sent.headers.iter().map(String::as_str).filter(|name| *name == "accept"));
    ours.sort_unstable();
    assert_eq!(sent.headers, ours);
    // What authorized the call was the account's token alone.
    let authorization = String::from_utf8(platform.last_echo().unwrap().to_vec()).unwrap();
    assert_eq!(authorization, format!("Bearer {}", platform.last_access_token(ACCOUNT).unwrap()));
    assert!(!authorization.contains(key));

    // A query is written anew as well: in the file's own escapes and order, and what never varies is added.
    let escaped = parent.chars().fold(String::new(), |path, digit| format!("{path}%3{digit}"));
    for path in [format!("/2/tweets/{parent}?tweet%2Efields=public%5Fmetrics"), format!("/2/tweets/{escaped}")] {
        let reply = send(&entrusted, Method::GET, &path, &[("x-custom", "canary")], "").await;
        ok(reply, 200);
        let sent = newest(&app);
        assert_eq!(sent.query.as_deref(), Some("tweet.fields=public_metrics"));
        assert_eq!(sent.path, format!("/2/tweets/{parent}"));
        assert!(!sent.headers.iter().any(|name| name.starts_with("x-")), "{:?}", sent.headers);
    }
    app.stop().await;
}
