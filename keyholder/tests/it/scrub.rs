//! What a scrubbed answer looks like to its caller: the credential is gone, and everything else is there. That it is gone
//! everywhere, in every form, is the leak matrix's to show.

use http::Method;
use keyholder::caller::Reply;
use metrics_exporter_prometheus::PrometheusBuilder;
use sandbox::{EchoForm, EchoPlace, Quirk, Route, Scope};
use serde_json::{Value, json};
use service::HealthOptions;

use crate::{
    acts::{ALL, parent, reply_to},
    harness::{ACCOUNT, Entrusted, TestApp, ok, problem},
    leak::{Secret, Seeker, wire},
};

fn seeker(app: &TestApp) -> Seeker {
    Seeker::new(&[Secret::new("the token", app.sandbox.platform().last_access_token(ACCOUNT).unwrap())])
}

/// One reply to a post, by either door, under this key.
async fn request(entrusted: &Entrusted, by_name: bool, parent: &str, key: &str) -> Reply {
    if by_name {
        return entrusted.act("post.reply", &reply_to(parent, key), Some(key)).await;
    }
    let body = json!({ "text": key, "reply": { "in_reply_to_tweet_id": parent } });
    entrusted.proxy(Method::POST, "/2/tweets", Some(&body), Some(key)).await
}

/// The platform's status that a place comes with.
fn status(place: EchoPlace) -> u16 {
    match place {
        EchoPlace::ErrorPage => 500,
        EchoPlace::ErrorHeader => 400,
        EchoPlace::Location => 302,
        _ => 201,
    }
}

#[tokio::test]
async fn a_reply_shows_no_credential_wherever_and_however_it_is_echoed() {
    // Dozens of error pages in a row are the matter here.
    let app = TestApp::start_with(|options| options.health = HealthOptions::never_opening()).await;
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;
    let (platform, seeker) = (app.sandbox.platform(), seeker(&app));
    let mut number = 0;
    for place in EchoPlace::ALL {
        for form in EchoForm::ALL {
            for by_name in [true, false] {
                number += 1;
                let what = format!("{place:?} {form:?} by name: {by_name}");
                let key = format!("key-{number}");
                let quirk = Quirk::EchoAuthorization { place, form, piecewise: false };
                platform.switch(quirk, Scope::once(Route::Api)).unwrap();
                let fired = platform.fired();
                let reply = request(&entrusted, by_name, &parent, &key).await;
                assert_eq!(platform.fired(), fired + 1, "{what}");
                assert_eq!(seeker.find(&platform.last_echo().unwrap()).len(), 1, "{what}: the platform did echo it");
                assert!(seeker.find(&wire(&reply)).is_empty(), "{what}: {reply:?}");
                judge(&reply, place, by_name, &what);

                let again = request(&entrusted, by_name, &parent, &key).await;
                assert!(seeker.find(&wire(&again)).is_empty(), "{what}: {again:?}");
                if !place.is_compressed() {
                    assert_eq!(again.header("idempotency-replayed"), "true", "{what}");
                    assert_eq!(again.body, reply.body, "{what}: a replay is the first answer");
                }
            }
        }
    }
    app.stop().await;
}

/// What is no credential is there, in its form.
fn judge(reply: &Reply, place: EchoPlace, by_name: bool, what: &str) {
    if place.is_compressed() {
        assert_eq!(problem(reply), (502, "upstream-invalid".to_owned()), "{what}");
        return;
    }
    let (said, body) = if by_name {
        let view = ok(reply.clone(), 200);
        (view["status"].as_u64().unwrap(), view["answer"].clone())
    } else {
        (u64::from(reply.status.as_u16()), reply.json())
    };
    assert_eq!(said, u64::from(status(place)), "{what}");
    match place {
        EchoPlace::Body => {
            assert!(body.is_object() && body["data"]["id"].is_string(), "{what}: JSON stays JSON");
            assert!(body["echo"].as_str().unwrap().contains("[redacted]"), "{what}: {body}");
        }
        EchoPlace::Header | EchoPlace::EntityTag | EchoPlace::SetCookie => {
            assert!(body["data"]["id"].is_string() && body.get("echo").is_none(), "{what}: {body}");
        }
        EchoPlace::ErrorHeader => assert_eq!(body["title"], "Bad Request", "{what}"),
        EchoPlace::Location => assert_eq!(body, if by_name { json!("") } else { Value::Null }, "{what}"),
        EchoPlace::ErrorPage => {
            let page = String::from_utf8_lossy(&reply.body);
            assert!(page.contains("[redacted]") && page.contains("<h1>500</h1>"), "{what}: {page}");
        }
        _ => {}
    }
    for name in ["x-echo", "etag", "set-cookie", "location"] {
        assert_eq!(reply.header(name), "", "{what}");
    }
}

#[tokio::test]
async fn a_read_that_is_not_kept_is_scrubbed_too() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let seeker = seeker(&app);
    for form in EchoForm::ALL {
        let quirk = Quirk::EchoAuthorization { place: EchoPlace::Body, form, piecewise: false };
        app.sandbox.platform().switch(quirk, Scope::once(Route::Api)).unwrap();
        let reply = entrusted.act("profile.read", &json!({}), None).await;
        assert_eq!(reply.header("keyholder-act"), "");
        assert!(seeker.find(&wire(&reply)).is_empty(), "{form:?}: {reply:?}");
        assert_eq!(reply.json()["answer"]["data"]["username"], ACCOUNT, "what is no credential stays");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_was_scrubbed_is_counted_and_told() {
    // All of this server's work is on this thread: its recorder hears everything of this server, and nothing of another test's.
    let recorder = PrometheusBuilder::new().build_recorder();
    let measured = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let lines = crate::logs::log().capture(1_000_000);
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let quirk = Quirk::EchoAuthorization { place: EchoPlace::Body, form: EchoForm::Plain, piecewise: false };
    app.sandbox.platform().switch(quirk, Scope::once(Route::Api)).unwrap();
    let reply = entrusted.act("profile.read", &json!({}), None).await;
    assert!(reply.json()["answer"]["echo"].as_str().unwrap().contains("[redacted]"));
    assert!(measured.render().lines().any(|line| line.starts_with("keyholder_scrubbed_total{")
        && line.contains("provider=\"x\"")
        && line.contains("action=\"profile.read\"")));
    let request = reply.header("request-id").to_owned();
    let told = |line: &&std::sync::Arc<str>| line.contains("it was removed") && line.contains(&request);
    let lines = lines.lines();
    let line = lines.iter().find(told).unwrap();
    assert!(line.contains("\"provider\":\"x\"") && line.contains("\"action\":\"profile.read\""), "{line}");
    app.stop().await;
}
