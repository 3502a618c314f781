//! Platforms that fail, hang or ask to be left alone: what is refused then costs nothing, holds up nobody, and ends by itself.

use std::{sync::Arc, time::Duration};

use domain::clock::Clock;
use futures_util::future::{join, join_all};
use http::Method;
use keyholder::caller::{Caller, Reply};
use metrics_exporter_prometheus::PrometheusBuilder;
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};

use crate::{
    acts::{ALL, arrived},
    harness::{ACCOUNT, Entrusted, TestApp, catalogue_with, ok, problem, text},
};

/// The sandbox's other account.
const RIVAL: &str = "rival_brand";
const OPEN: (u16, &str) = (503, "provider-unavailable");
const LIMITED: (u16, &str) = (429, "provider-rate-limited");

/// A server whose time stands still until the test moves it.
async fn start() -> (TestApp, Clock) {
    let clock = Clock::set(Clock::system().now());
    let hand = clock.clone();
    (TestApp::start_with(|options| options.clock = clock).await, hand)
}

/// Two accounts, each with a mandate and a budget that counts.
async fn two(app: &TestApp) -> [Entrusted; 2] {
    let counted = json!([{ "unit": "acts", "per": "month", "cap": 1000 }]);
    let first = app.entrust(&ALL, counted.clone()).await;
    let other = app.connect(RIVAL, &ALL).await;
    [first, app.mandate(&other, &ALL, counted).await]
}

async fn post(entrusted: &Entrusted, key: &str) -> Reply {
    entrusted.act("post.create", &json!({ "text": key }), Some(key)).await
}

/// What is taken of all budgets.
async fn taken(app: &TestApp) -> u64 {
    let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
    list["data"].as_array().unwrap().iter().map(|budget| budget["used"].as_u64().unwrap()).sum()
}

/// How many acts the ledger has of a caller.
async fn acts(entrusted: &Entrusted) -> usize {
    let list = ok(entrusted.agent.get("/v1/acts").await.unwrap(), 200);
    list["data"].as_array().unwrap().len()
}

fn kind(reply: &Reply) -> (u16, String) {
    problem(reply)
}

fn is(expected: (u16, &str)) -> (u16, String) {
    (expected.0, expected.1.to_owned())
}

#[tokio::test]
async fn an_account_that_fails_is_left_alone_at_no_cost_until_one_act_has_tried_it() {
    let (app, clock) = start().await;
    let platform = app.sandbox.platform().clone();
    let [entrusted, other] = two(&app).await;
    platform
        .switch(Quirk::Status { code: 500, retry_after_s: None }, Scope::always(Route::Only(Call::CreatePost)))
        .unwrap();
    for round in 0..5 {
        let said = ok(post(&entrusted, &format!("k{round}")).await, 200);
        assert_eq!(said["status"], 500, "what the platform says is passed on");
    }
    let before = (platform.calls(Call::CreatePost), taken(&app).await, acts(&entrusted).await);
    let calls = before.0;
    for key in ["k5", "k6", "k5"] {
        let refused = post(&entrusted, key).await;
        assert_eq!(kind(&refused), is(OPEN));
        assert!(matches!(refused.header("retry-after"), "1" | "2"), "{}", refused.header("retry-after"));
    }
    assert_eq!(kind(&entrusted.act("profile.read", &json!({}), None).await), is(OPEN), "whatever it wants to do there");
    let proxied = entrusted.proxy(Method::GET, "/2/users/me", None, None).await;
    assert_eq!(kind(&proxied), is(OPEN), "by both doors");
    let after = (platform.calls(Call::CreatePost), taken(&app).await, acts(&entrusted).await);
    assert_eq!(after, before, "a refusal reaches nobody and takes nothing");

    // What was done before is answered as before, and its key is still its own.
    let again = post(&entrusted, "k0").await;
    assert_eq!((again.header("idempotency-replayed"), &ok(again.clone(), 200)["status"]), ("true", &json!(500)));
    let reused = entrusted.act("post.create", &json!({ "text": "else" }), Some("k0")).await;
    assert_eq!(kind(&reused), (422, "idempotency-key-reused".to_owned()));
    ok(other.act("profile.read", &json!({}), None).await, 200);

    platform.clear();
    clock.advance(Duration::from_secs(2));
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::CreatePost))).unwrap();
    let meanwhile = async {
        arrived(&platform, Call::CreatePost, calls + 1).await;
        let keys: Vec<_> = (0..8).map(|number| format!("m{number}")).collect();
        let others = join_all(keys.iter().map(|key| post(&entrusted, key))).await;
        platform.clear();
        others
    };
    let (probe, others) = join(post(&entrusted, "k5"), meanwhile).await;
    assert!(others.iter().all(|refused| kind(refused) == is(OPEN)), "one act is tried, and no other");
    assert_eq!(probe.header("idempotency-replayed"), "", "a refusal has spent no key");
    assert_eq!(ok(probe, 200)["status"], 201);
    assert_eq!(ok(post(&entrusted, "k6").await, 200)["status"], 201, "it is well again");
    assert_eq!(platform.calls(Call::CreatePost), calls + 2);
    app.stop().await;
}

#[tokio::test]
async fn a_probe_that_is_not_admitted_is_given_back() {
    let (app, clock) = start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([{ "unit": "posts", "per": "month", "cap": 5 }])).await;
    platform
        .switch(Quirk::Status { code: 500, retry_after_s: None }, Scope::always(Route::Only(Call::CreatePost)))
        .unwrap();
    for round in 0..5 {
        ok(post(&entrusted, &format!("k{round}")).await, 200);
    }
    assert_eq!(kind(&post(&entrusted, "k5").await), is(OPEN));
    platform.clear();
    clock.advance(Duration::from_secs(2));
    for _ in 0..3 {
        assert_eq!(kind(&post(&entrusted, "k5").await), (429, "budget-exceeded".to_owned()));
    }
    ok(entrusted.act("profile.read", &json!({}), None).await, 200);
    ok(entrusted.act("profile.read", &json!({}), None).await, 200);
    app.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_down_is_left_alone_by_each_node_that_has_seen_it() {
    let app = TestApp::start().await;
    let [entrusted, other] = two(&app).await;
    let second = app.second_node().await;
    let elsewhere = Caller::new(second.url(), None).with_key(entrusted.agent.key().unwrap());
    let TestApp { sandbox, instance, admin, .. } = app;
    sandbox.shutdown().await;
    for round in 0..10 {
        let reply = post(if round % 2 == 0 { &entrusted } else { &other }, &format!("k{round}")).await;
        assert_eq!(kind(&reply), (502, "upstream-unreachable".to_owned()));
        assert_eq!(text(&reply.json(), "/detail"), "nothing was sent; the call failed at connecting");
    }
    let rows = acts(&entrusted).await;
    for at in [&entrusted, &other] {
        assert_eq!(kind(&post(at, "k10").await), is(OPEN));
    }
    assert_eq!(acts(&entrusted).await, rows);
    let budgets = ok(admin.get("/v1/budgets").await.unwrap(), 200);
    assert!(budgets["data"].as_array().unwrap().iter().all(|budget| budget["used"] == 0), "{budgets}");
    let input = json!({ "text": "k11" });
    let reply = elsewhere.act(&entrusted.mandate, "post.create", &input, Some("k11")).await.unwrap();
    assert_eq!(kind(&reply), (502, "upstream-unreachable".to_owned()), "another node finds out by itself");
    second.stop().await;
    instance.stop().await;
}

#[tokio::test]
async fn a_platforms_own_limit_is_kept_without_asking_it_again() {
    let (app, clock) = start().await;
    let platform = app.sandbox.platform().clone();
    let [entrusted, other] = two(&app).await;
    let cases = [
        (Quirk::Status { code: 429, retry_after_s: Some(7) }, LIMITED, 7..=7),
        (Quirk::RateLimited { reset_after_s: 60 }, LIMITED, 58..=61),
        // A quarter of an hour is the most that is believed.
        (Quirk::Status { code: 429, retry_after_s: Some(86_400) }, LIMITED, 900..=900),
        (Quirk::Status { code: 503, retry_after_s: Some(7) }, OPEN, 7..=7),
    ];
    for (round, (quirk, told, seconds)) in cases.into_iter().enumerate() {
        let what = format!("{quirk:?}");
        let retry_after = match &quirk {
            Quirk::Status { retry_after_s: Some(seconds), .. } => seconds.to_string(),
            _ => String::new(),
        };
        platform.switch(quirk, Scope::once(Route::Only(Call::CreatePost))).unwrap();
        let first = post(&entrusted, &format!("first-{round}")).await;
        assert_eq!(first.header("retry-after"), retry_after, "{what}: the platform's own words are passed on");
        assert_eq!(ok(first, 200)["status"], told.0, "{what}");
        let before = (platform.calls(Call::CreatePost), taken(&app).await);
        let next = format!("next-{round}");
        for refused in [
            post(&entrusted, &next).await,
            entrusted.proxy(Method::POST, "/2/tweets", Some(&json!({ "text": next })), Some(&next)).await,
        ] {
            assert_eq!(kind(&refused), is(told), "{what}");
            let wait: u64 = refused.header("retry-after").parse().unwrap();
            assert!(seconds.contains(&wait), "{what}: {wait}");
            assert_eq!(refused.json()["retry_after"], wait);
        }
        assert_eq!((platform.calls(Call::CreatePost), taken(&app).await), before, "{what}");
        let again = post(&entrusted, &format!("first-{round}")).await;
        assert_eq!(again.header("idempotency-replayed"), "true", "{what}");
        // Another action of the account, and the same of another account, are not meant.
        ok(entrusted.act("profile.read", &json!({}), None).await, 200);
        ok(post(&other, &next).await, 200);

        clock.advance(Duration::from_secs(*seconds.end()));
        let then = post(&entrusted, &next).await;
        assert_eq!(then.header("idempotency-replayed"), "", "{what}: the refusal has spent no key");
        assert_eq!(ok(then, 200)["status"], 201, "{what}");
    }
    app.stop().await;
}

/// Callers of one account, more than it has turns, all of whom are never answered; another account is served meanwhile.
#[tokio::test]
async fn an_account_that_hangs_keeps_no_turn_from_another() {
    const CALLERS: usize = 200;
    let app = TestApp::start_with(|options| {
        // They hang for as long as the test takes on a busy machine.
        options.catalogue = catalogue_with("timeout_ms = 10000", "timeout_ms = 60000");
    })
    .await;
    let platform = app.sandbox.platform().clone();
    let [entrusted, other] = two(&app).await;
    platform.switch(Quirk::HoldAnswer, Scope::always(Route::Only(Call::CreatePost))).unwrap();
    let key: Vec<_> = (0..CALLERS).map(|number| format!("k{number}")).collect();
    let hanging = join_all(key.iter().map(|key| post(&entrusted, key)));
    let meanwhile = async {
        arrived(&platform, Call::CreatePost, 64).await;
        for _ in 0..20 {
            let served = other.act("profile.read", &json!({}), None).await;
            assert_eq!(ok(served, 200)["status"], 200);
        }
        let hung = platform.calls(Call::CreatePost);
        platform.clear();
        hung
    };
    let (replies, hung) = join(hanging, meanwhile).await;
    assert_eq!(hung, 64, "a quarter of the host's turns and no more");
    let done = replies.iter().filter(|reply| reply.status == 200).count();
    assert!(done >= 64, "{done}");
    // Whoever waited too long was not sent, and says so.
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!(kind(reply), (502, "upstream-unreachable".to_owned()));
    }
    assert_eq!(platform.posts_by(ACCOUNT).len(), done);
    app.stop().await;
}

#[tokio::test]
async fn operators_see_a_breaker_open_and_close() {
    // All of this server's work is on this thread: its recorder hears everything of this server, and nothing of another test's.
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let clock = Clock::set(Clock::system().now());
    let hand = clock.clone();
    let app = TestApp::start_with(|options| {
        options.clock = clock;
        options.render_metrics = Arc::new(move || metrics.render());
    })
    .await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([])).await;
    let value = async |line: &str| -> f64 {
        let scraper = Caller::new(app.instance.metrics_url(), None);
        let reply = scraper.get("/metrics").await.unwrap();
        let all = String::from_utf8_lossy(&reply.body).into_owned();
        all.lines().find_map(|it| it.strip_prefix(line)).map_or(0.0, |rest| rest.trim().parse().unwrap())
    };
    let refused = "keyholder_breaker_refused_total{provider=\"x\",level=\"connection\"}";
    let opened = "keyholder_breaker_transitions_total{provider=\"x\",level=\"connection\",to=\"open\"}";
    let closed = "keyholder_breaker_transitions_total{provider=\"x\",level=\"connection\",to=\"closed\"}";
    let before = (value(refused).await, value(opened).await, value(closed).await);
    platform.switch(Quirk::LoseAnswer, Scope::exactly(Route::Only(Call::ReadProfile), 5)).unwrap();
    let read = async || entrusted.act("profile.read", &json!({}), None).await;
    for _ in 0..5 {
        let reply = read().await;
        assert_eq!(kind(&reply), (504, "upstream-timeout".to_owned()));
        assert!(text(&reply.json(), "/detail").ends_with("waiting for the answer's first byte"), "{}", reply.json());
    }
    assert_eq!(kind(&read().await), is(OPEN));
    hand.advance(Duration::from_secs(2));
    ok(read().await, 200);
    let after: (f64, f64, f64) = (value(refused).await, value(opened).await, value(closed).await);
    assert!(after.0 > before.0 && after.1 > before.1 && after.2 > before.2, "{before:?} {after:?}");
    let Value::Object(_) = read().await.json() else { panic!("an act passes") };
    app.stop().await;
}
