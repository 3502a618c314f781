//! Acts by name: what the platform, the ledger and the caller have seen after each, also where something went wrong.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use bytes::Bytes;
use domain::clock::Clock;
use futures_util::future::{join, join_all};
use http::Method;
use keyholder::caller::Reply;
use sandbox::{Call, EchoForm, EchoPlace, Outcome, Platform, Quirk, Route, Scope};
use serde_json::{Value, json};
use service::step::{Hook, Step};

use crate::harness::{ACCOUNT, Entrusted, TestApp, catalogue_with, eventually, ok, problem, text};

/// Everything that X's file declares.
pub(crate) const ALL: [&str; 5] = ["profile.read", "post.create", "post.reply", "post.delete", "post.metrics"];

/// A post that is not the account's own, to be replied to.
pub(crate) fn parent(app: &TestApp) -> String {
    app.sandbox.platform().post_as("rival_brand", "Where is my parcel?").unwrap().id
}

/// The input of a reply to it.
pub(crate) fn reply_to(parent: &str, text: &str) -> Value {
    json!({ "text": text, "in_reply_to_tweet_id": parent })
}

/// An act's state, as its caller reads it.
async fn state(entrusted: &Entrusted, act: &str) -> String {
    let act = ok(entrusted.agent.get(&format!("/v1/acts/{act}")).await.unwrap(), 200);
    text(&act, "/state").to_owned()
}

/// The states of all acts that the caller may know of, newest first.
async fn states(entrusted: &Entrusted) -> Vec<String> {
    let list = ok(entrusted.agent.get("/v1/acts").await.unwrap(), 200);
    list["data"].as_array().unwrap().iter().map(|act| text(act, "/state").to_owned()).collect()
}

/// What is used of the newest budget of a scope.
pub(crate) async fn used(app: &TestApp, scope: &str) -> u64 {
    let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
    let budgets = list["data"].as_array().unwrap();
    budgets.iter().rfind(|budget| budget["scope"] == scope).unwrap()["used"].as_u64().unwrap()
}

/// A limit that nothing here reaches, so that what is taken can be read.
fn counted() -> Value {
    json!([{ "unit": "acts", "per": "month", "cap": 1000 }])
}

/// Holds acts at one of their steps, one at a time. For runtimes of several threads: the one that comes here stands still.
pub(crate) struct Door {
    shut: Arc<AtomicBool>,
    come: Mutex<mpsc::Receiver<()>>,
    go: mpsc::Sender<()>,
}

impl Door {
    /// A door that is open yet, and the hook that it hangs in. `then` is done by whoever has been let go.
    pub(crate) fn new(at: Step, then: impl Fn() + Send + Sync + 'static) -> (Self, Hook) {
        let ((here, come), (go, gone)) = (mpsc::channel(), mpsc::channel());
        let (shut, gone) = (Arc::new(AtomicBool::new(false)), Mutex::new(gone));
        let is_shut = Arc::clone(&shut);
        let hook = Hook::new(move |step| {
            if step == at && is_shut.load(Ordering::SeqCst) {
                here.send(()).unwrap();
                // What else this thread would have done is done by others meanwhile.
                tokio::task::block_in_place(|| gone.lock().unwrap().recv().unwrap());
                then();
            }
        });
        (Self { shut, come: Mutex::new(come), go }, hook)
    }

    pub(crate) fn set_shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::SeqCst);
    }

    /// Returns once an act stands before it.
    pub(crate) async fn reached(&self) {
        eventually("an act stands at the door", async || self.come.lock().unwrap().try_recv().is_ok()).await;
    }

    /// Lets one act through.
    pub(crate) fn let_go(&self) {
        self.go.send(()).unwrap();
    }
}

/// Waits until so many calls of a kind have had their effect at the platform.
pub(crate) async fn arrived(platform: &Platform, call: Call, count: u64) {
    eventually("the call arrives at the platform", async || platform.calls(call) >= count).await;
}

#[tokio::test]
async fn every_action_reaches_the_platform_once_and_is_read_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;
    let connecting = platform.calls(Call::ReadProfile);

    let reply = entrusted.act("post.reply", &reply_to(&parent, "On its way"), Some("one")).await;
    let act = reply.header("keyholder-act").to_owned();
    assert_eq!(reply.header("idempotency-replayed"), "");
    let said = ok(reply, 200);
    assert_eq!((text(&said, "/act"), text(&said, "/action")), (act.as_str(), "post.reply"));
    assert_eq!((text(&said, "/state"), &said["status"], &said["durable"]), ("settled", &json!(201), &json!(true)));
    assert_eq!(text(&said, "/content_type"), "application/json; charset=utf-8");
    let posts = platform.posts_by(ACCOUNT);
    assert_eq!((posts.len(), posts[0].text.as_str(), posts[0].reply_to.as_deref()), (1, "On its way", Some(&*parent)));
    assert_eq!(text(&said, "/answer/data/id"), posts[0].id);

    let said = ok(entrusted.act("post.create", &json!({ "text": "Hello" }), Some("two")).await, 200);
    let created = text(&said, "/answer/data/id").to_owned();
    let said = ok(entrusted.act("post.metrics", &json!({ "id": parent }), None).await, 200);
    assert_eq!(said["answer"]["data"]["public_metrics"]["reply_count"], 1);
    assert_eq!(said["act"], Value::Null, "a read that nothing binds has no act");
    let said = ok(entrusted.act("post.delete", &json!({ "id": created }), Some("three")).await, 200);
    assert_eq!(said["answer"], json!({ "data": { "deleted": true } }));
    let reply = entrusted.act("profile.read", &json!({}), None).await;
    assert_eq!(reply.header("keyholder-act"), "");
    assert_eq!(text(&ok(reply, 200), "/answer/data/username"), ACCOUNT);

    for call in [Call::Reply, Call::CreatePost, Call::ReadPost, Call::DeletePost] {
        assert_eq!(platform.calls_with(call, Outcome::Done), 1, "{call:?}");
    }
    assert_eq!(platform.calls(Call::ReadProfile) - connecting, 1);
    assert_eq!((platform.calls(Call::Unknown), platform.posts_by(ACCOUNT).len()), (0, 1));

    let read = ok(entrusted.agent.get(&format!("/v1/acts/{act}")).await.unwrap(), 200);
    assert_eq!((text(&read, "/state"), &read["status"]), ("settled", &json!(201)));
    assert_eq!((text(&read, "/mandate"), text(&read, "/connection")), (&*entrusted.mandate, &*entrusted.connection));
    assert_eq!(states(&entrusted).await, ["settled"; 3]);

    let other = app.mandate(&entrusted.connection, &ALL, json!([])).await;
    assert_eq!(states(&other).await, [""; 0], "an agent reads its own acts only");
    let foreign = other.agent.get(&format!("/v1/acts/{act}")).await.unwrap();
    assert_eq!(problem(&foreign), (404, "not-found".to_owned()));
    ok(app.admin.get(&format!("/v1/acts/{act}")).await.unwrap(), 200);
    app.stop().await;
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_principal() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, counted()).await;
    let input = reply_to(&parent, "first");

    let first = entrusted.act("post.reply", &input, Some("k")).await;
    let act = first.header("keyholder-act").to_owned();
    let first = ok(first, 200);
    // The same request in another order of its members.
    let same = json!({ "in_reply_to_tweet_id": parent, "text": "first" });
    let again = entrusted.act("post.reply", &same, Some("k")).await;
    assert_eq!((again.header("idempotency-replayed"), again.header("keyholder-act")), ("true", act.as_str()));
    assert_eq!(ok(again, 200), first);
    assert_eq!((platform.posts_written_by(ACCOUNT), used(&app, "mandate").await), (1, 1));

    // Another input, another action, another mandate of the same principal: another request.
    let terms = json!({ "connection": entrusted.connection, "grantee": entrusted.agent_key, "actions": ALL });
    let second = ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201);
    let others = [
        (entrusted.mandate.as_str(), "post.reply", reply_to(&parent, "other")),
        (entrusted.mandate.as_str(), "post.create", json!({ "text": "first" })),
        (entrusted.mandate.as_str(), "post.metrics", json!({ "id": parent })),
        (text(&second, "/id"), "post.reply", input.clone()),
    ];
    for (mandate, action, input) in others {
        let refused = entrusted.agent.act(mandate, action, &input, Some("k")).await.unwrap();
        assert_eq!(problem(&refused), (422, "idempotency-key-reused".to_owned()), "{mandate} {action} {input}");
    }
    assert_eq!((platform.posts_written_by(ACCOUNT), platform.calls(Call::ReadPost)), (1, 0));

    let other = app.mandate(&entrusted.connection, &ALL, json!([])).await;
    let independent = other.act("post.reply", &input, Some("k")).await;
    assert_eq!(independent.header("idempotency-replayed"), "");
    assert_ne!(text(&ok(independent, 200), "/act"), act);
    assert_eq!(platform.posts_written_by(ACCOUNT), 2);
    app.stop().await;
}

#[tokio::test]
async fn a_key_is_needed_to_write_and_may_be_given_to_read() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;
    let writes = [
        ("post.create", json!({ "text": "Hello" })),
        ("post.reply", reply_to(&parent, "Hello")),
        ("post.delete", json!({ "id": parent })),
    ];
    for (action, input) in &writes {
        let refused = entrusted.act(action, input, None).await;
        assert_eq!(problem(&refused), (400, "idempotency-key-required".to_owned()), "{action}");
    }
    let longest = "k".repeat(128);
    let too_long = "k".repeat(129);
    for key in ["", "a key", "schlüssel", &too_long] {
        let refused = entrusted.act("post.create", &writes[0].1, Some(key)).await;
        assert_eq!(problem(&refused), (422, "invalid-input".to_owned()), "{key}");
        assert_eq!(text(&refused.json(), "/errors/0/pointer"), "Idempotency-Key");
    }
    assert_eq!(platform.posts_written_by(ACCOUNT), 0);
    ok(entrusted.act("post.create", &writes[0].1, Some(&longest)).await, 200);

    let read = json!({ "id": parent });
    let first = ok(entrusted.act("post.metrics", &read, Some("r")).await, 200);
    assert_ne!(text(&first, "/act"), "");
    let again = entrusted.act("post.metrics", &read, Some("r")).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((ok(again, 200), platform.calls(Call::ReadPost)), (first, 1));
    app.stop().await;
}

#[tokio::test]
async fn an_act_under_way_is_not_sent_again_and_replays_when_it_has_ended() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([])).await;
    let input = json!({ "text": "Hello" });
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::CreatePost))).unwrap();
    let first = entrusted.act("post.create", &input, Some("k"));
    let meanwhile = async {
        arrived(&platform, Call::CreatePost, 1).await;
        let again = entrusted.act("post.create", &input, Some("k")).await;
        platform.clear();
        again
    };
    let (first, again) = join(first, meanwhile).await;
    let act = first.header("keyholder-act").to_owned();
    let first = ok(first, 200);
    assert_eq!(problem(&again), (409, "act-in-progress".to_owned()));
    assert_eq!((text(&again.json(), "/act"), again.header("retry-after")), (&*act, "1"));
    let again = entrusted.act("post.create", &input, Some("k")).await;
    assert_eq!((again.header("idempotency-replayed"), again.json()), ("true", first));
    assert_eq!(platform.posts_written_by(ACCOUNT), 1);
    app.stop().await;
}

#[tokio::test]
async fn many_requests_under_one_key_are_one_post() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, counted()).await;
    let input = json!({ "text": "Once" });
    let replies = join_all((0..50).map(|_| entrusted.act("post.create", &input, Some("k")))).await;
    let mut first = 0;
    for reply in &replies {
        match reply.status.as_u16() {
            200 => first += usize::from(reply.header("idempotency-replayed") != "true"),
            _ => assert_eq!(problem(reply), (409, "act-in-progress".to_owned())),
        }
    }
    assert_eq!((first, app.sandbox.platform().posts_written_by(ACCOUNT), used(&app, "mandate").await), (1, 1, 1));
    let acts: Vec<_> = replies.iter().map(|reply| text(&reply.json(), "/act").to_owned()).collect();
    assert!(acts.iter().all(|act| *act == acts[0]), "{acts:?}");
    app.stop().await;
}

#[tokio::test]
async fn an_act_whose_caller_hangs_up_is_settled() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, counted()).await;
    let input = json!({ "text": "Hello" });
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::CreatePost))).unwrap();
    tokio::select! {
        reply = entrusted.act("post.create", &input, Some("k")) => panic!("answered: {}", reply.status),
        () = arrived(&platform, Call::CreatePost, 1) => {}
    }
    assert_eq!(states(&entrusted).await, ["admitted"]);
    platform.clear();
    eventually("the act is settled", async || states(&entrusted).await == ["settled"]).await;
    let again = entrusted.act("post.create", &input, Some("k")).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(ok(again, 200)["status"], 201);
    assert_eq!((platform.posts_written_by(ACCOUNT), used(&app, "mandate").await), (1, 1));
    app.stop().await;
}

/// What goes wrong after the effect; what the caller is told, the act's state, and what a retry is told.
#[tokio::test]
async fn what_may_have_had_its_effect_is_never_sent_again() {
    let ambiguous = ("ambiguous", "act-ambiguous");
    let settled = ("settled", "conflict");
    let gzip = Quirk::EchoAuthorization { place: EchoPlace::GzipBody, form: EchoForm::Plain, piecewise: false };
    let cases = [
        (Some(Quirk::LoseAnswer), "Hello", (504, "upstream-timeout"), ambiguous),
        (Some(Quirk::HoldAnswer), "Hello", (504, "upstream-timeout"), ambiguous),
        (Some(Quirk::CutAnswer { after_bytes: 5 }), "Hello", (504, "upstream-timeout"), settled),
        (Some(gzip), "Hello", (502, "upstream-invalid"), settled),
        (None, &*"long ".repeat(50), (502, "upstream-invalid"), settled),
    ];
    let limits = "response_bytes = 262144\ntimeout_ms = 10000";
    let app = TestApp::start_with(|options| {
        options.catalogue = catalogue_with(limits, "response_bytes = 250\ntimeout_ms = 6000");
    })
    .await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, counted()).await;
    for (round, (quirk, words, told, (state_then, retried))) in (1..).zip(cases) {
        let what = format!("{quirk:?}");
        if let Some(quirk) = quirk {
            platform.switch(quirk, Scope::once(Route::Only(Call::CreatePost))).unwrap();
        }
        let (input, key) = (json!({ "text": words }), what.replace(' ', "_"));
        let reply = entrusted.act("post.create", &input, Some(&key)).await;
        assert_eq!(problem(&reply), (told.0, told.1.to_owned()), "{what}");
        let act = text(&reply.json(), "/act").to_owned();
        assert_eq!(state(&entrusted, &act).await, state_then, "{what}");
        for _ in 0..2 {
            let again = entrusted.act("post.create", &input, Some(&key)).await;
            assert_eq!(problem(&again), (409, retried.to_owned()), "{what}");
            assert_eq!(text(&again.json(), "/act"), act, "{what}");
        }
        platform.clear();
        assert_eq!((platform.calls(Call::CreatePost), used(&app, "mandate").await), (round, round), "{what}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_platform_that_cannot_be_reached_costs_nothing() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, counted()).await;
    let TestApp { sandbox, instance, admin, .. } = app;
    sandbox.shutdown().await;
    for tried in 1..=2 {
        let reply = entrusted.act("post.create", &json!({ "text": "Hello" }), Some("k")).await;
        assert_eq!(problem(&reply), (502, "upstream-unreachable".to_owned()));
        assert_eq!(reply.json()["act"], Value::Null, "nothing is left open");
        // The second try is an act of its own: the key was not consumed.
        assert_eq!(states(&entrusted).await, vec!["not_sent"; tried]);
        let budgets = ok(admin.get("/v1/budgets").await.unwrap(), 200);
        assert_eq!(budgets["data"][0]["used"], 0, "{budgets}");
    }
    let read = entrusted.act("profile.read", &json!({}), None).await;
    assert_eq!(problem(&read), (502, "upstream-unreachable".to_owned()));
    instance.stop().await;
}

#[tokio::test]
async fn an_act_that_is_held_up_past_its_time_is_not_sent_and_may_be_tried_again() {
    let clock = Clock::set(Clock::system().now() + std::time::Duration::from_hours(1));
    let late = Arc::new(AtomicBool::new(false));
    let (hand, is_late) = (clock.clone(), Arc::clone(&late));
    let app = TestApp::start_with(|options| {
        options.clock = clock.clone();
        options.hook = Hook::new(move |step| {
            if step == Step::Act && is_late.swap(false, Ordering::SeqCst) {
                hand.advance(domain::act::SEND_WITHIN + std::time::Duration::from_millis(1));
            }
        });
    })
    .await;
    let entrusted = app.entrust(&ALL, counted()).await;
    let input = json!({ "text": "Hello" });
    late.store(true, Ordering::SeqCst);
    let reply = entrusted.act("post.create", &input, Some("k")).await;
    assert_eq!(problem(&reply), (502, "upstream-unreachable".to_owned()));
    assert_eq!((states(&entrusted).await, used(&app, "mandate").await), (vec!["not_sent".to_owned()], 0));
    assert_eq!(app.sandbox.platform().calls(Call::CreatePost), 0);
    let reply = entrusted.act("post.create", &input, Some("k")).await;
    assert_eq!(reply.header("idempotency-replayed"), "");
    ok(reply, 200);
    assert_eq!((app.sandbox.platform().posts_written_by(ACCOUNT), used(&app, "mandate").await), (1, 1));
    app.stop().await;
}

#[tokio::test]
async fn whatever_the_platform_answers_is_passed_on_and_kept() {
    let clock = Clock::set(Clock::system().now());
    let app = TestApp::start_with(|options| options.clock = clock.clone()).await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([])).await;
    let status = |code| Quirk::Status { code, retry_after_s: (code == 429).then_some(7) };
    let location = "https://api.x.com/2/users/me".to_owned();
    let cases = [
        (status(400), 400),
        (status(401), 401),
        (status(403), 403),
        (status(404), 404),
        (status(429), 429),
        (Quirk::RateLimited { reset_after_s: 60 }, 429),
        (status(500), 500),
        (status(503), 503),
        (Quirk::MalformedJson, 201),
        (Quirk::Redirect { location }, 307),
    ];
    let reads = platform.calls(Call::ReadProfile);
    for (round, (quirk, status)) in (1..).zip(cases) {
        let malformed = quirk == Quirk::MalformedJson;
        platform.switch(quirk, Scope::once(Route::Only(Call::CreatePost))).unwrap();
        let input = json!({ "text": format!("number {round}") });
        let key = format!("k{round}");
        let said = ok(entrusted.act("post.create", &input, Some(&key)).await, 200);
        assert_eq!((&said["status"], text(&said, "/state")), (&json!(status), "settled"));
        assert_eq!(state(&entrusted, text(&said, "/act")).await, "settled");
        if malformed {
            assert_eq!(text(&said, "/content_type"), "application/json; charset=utf-8");
            assert_eq!(said["answer"], "{\"data\": {\"id\": \"1\", ", "what is no JSON is a text");
        }
        let again = entrusted.act("post.create", &input, Some(&key)).await;
        assert_eq!((again.header("idempotency-replayed"), again.json()), ("true", said));
        assert_eq!(platform.calls(Call::CreatePost), round, "{status}");
        // For as long as the platform has asked for, it is left alone.
        clock.advance(std::time::Duration::from_secs(62));
    }
    assert_eq!(platform.calls(Call::ReadProfile), reads, "a redirect is not followed");
    app.stop().await;
}

#[tokio::test]
async fn an_input_is_refused_with_the_place_of_each_fault() {
    let app = TestApp::start().await;
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, counted()).await;
    let deep = (0..20).fold(json!(1), |inner, _| json!({ "a": inner }));
    let cases: [(&str, Value, &[&str]); 11] = [
        ("post.reply", json!({}), &["/input/in_reply_to_tweet_id", "/input/text"]),
        ("post.create", json!({ "text": 1 }), &["/input/text"]),
        ("post.create", json!({ "text": deep }), &["/input/text"]),
        ("post.create", json!({ "text": null }), &["/input/text"]),
        ("post.create", json!({ "text": "" }), &["/input/text"]),
        ("post.create", json!({ "text": "a".repeat(281) }), &["/input/text"]),
        ("post.create", json!({ "text": "a", "media/~": {} }), &["/input/media~1~0"]),
        ("post.reply", reply_to("12x", "a"), &["/input/in_reply_to_tweet_id"]),
        ("post.delete", json!({ "id": "1/../2" }), &["/input/id"]),
        ("post.metrics", json!({ "id": parent, "tweet.fields": "author_id" }), &["/input/tweet.fields"]),
        ("profile.read", json!([]), &["/input"]),
    ];
    for (action, input, pointers) in cases {
        let refused = entrusted.act(action, &input, Some("k")).await;
        assert_eq!(problem(&refused), (422, "invalid-input".to_owned()), "{action} {input}");
        let body = refused.json();
        let mut told: Vec<_> =
            body["errors"].as_array().unwrap().iter().map(|fault| text(fault, "/pointer").to_owned()).collect();
        told.sort();
        assert_eq!(told, pointers, "{action} {input}");
    }
    assert_eq!(used(&app, "mandate").await, 0);
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 0);
    ok(entrusted.act("post.create", &json!({ "text": "a".repeat(280) }), Some("k")).await, 200);
    app.stop().await;
}

#[tokio::test]
async fn who_may_not_act_is_told_so_before_anything_else() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["post.create"], counted()).await;
    let stranger = app.mandate(&entrusted.connection, &["post.create"], json!([])).await;
    let wrong = json!({ "nonsense": true });
    let nowhere = "man_00000000000000000000000000";
    let nobody = app.stranger.with_key("kh_nonsense");
    let cases = [
        (&app.stranger, entrusted.mandate.as_str(), (401, "unauthenticated")),
        (&nobody, nowhere, (401, "unauthenticated")),
        (&stranger.agent, entrusted.mandate.as_str(), (404, "not-found")),
        (&entrusted.agent, nowhere, (404, "not-found")),
        (&app.admin, entrusted.mandate.as_str(), (403, "forbidden")),
        (&entrusted.agent, entrusted.mandate.as_str(), (422, "invalid-input")),
    ];
    for (caller, mandate, (status, kind)) in cases {
        let reply = caller.act(mandate, "post.create", &wrong, Some("k")).await.unwrap();
        assert_eq!(problem(&reply), (status, kind.to_owned()));
        // The faults of the rest of the body are told to nobody who may not act.
        let body = json!({ "mandate": mandate, "action": 1, "extra": 1 });
        let reply = caller.post("/v1/acts", &body).await.unwrap();
        assert_eq!(problem(&reply), (status, kind.to_owned()));
    }
    for action in ["post.delete", "post.nonsense"] {
        let reply = entrusted.act(action, &wrong, Some("k")).await;
        assert_eq!(problem(&reply), (403, "outside-mandate".to_owned()), "{action}");
    }
    let bodies: [(&str, &str, (u16, &str)); 5] = [
        ("application/json", "{", (400, "invalid-json")),
        ("application/json", "{\"mandate\":1,\"mandate\":2}", (400, "invalid-json")),
        ("application/json", &"[".repeat(100), (400, "invalid-json")),
        ("text/plain", "{}", (415, "unsupported-media-type")),
        ("application/json", "[]", (422, "invalid-input")),
    ];
    for (content_type, body, (status, kind)) in bodies {
        let headers = [("content-type", content_type)];
        let body = Bytes::from(body.to_owned());
        let reply: Reply = entrusted.agent.send(Method::POST, "/v1/acts", &headers, body).await.unwrap();
        assert_eq!(problem(&reply), (status, kind.to_owned()));
    }
    assert_eq!((used(&app, "mandate").await, app.sandbox.platform().calls(Call::CreatePost)), (0, 0));
    app.stop().await;
}
