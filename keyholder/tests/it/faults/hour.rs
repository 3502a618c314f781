//! A clock that is set by hours, forward and back, under a node that serves: nobody is locked out, nothing is sent late or twice, and
//! no window, permit or lease is stretched.

use domain::clock::Clock;
use keyholder::caller::Caller;
use serde_json::{Value, json};

use crate::harness::{ACCOUNT, Entrusted, TestApp, ok, problem};

const HOURS: i64 = 3_600;

/// One post, which the platform must have seen once.
async fn post(app: &TestApp, entrusted: &Entrusted, name: &str) {
    let input = json!({ "text": name });
    for replayed in [false, true] {
        let reply = entrusted.act("post.create", &input, Some(name)).await;
        assert_eq!(reply.header("idempotency-replayed") == "true", replayed, "{name}");
        assert_eq!(ok(reply, 200).pointer("/status").and_then(Value::as_u64), Some(201), "{name}");
    }
    let posts = app.sandbox.platform().posts_by(ACCOUNT);
    assert_eq!(posts.iter().filter(|post| post.text == name).count(), 1, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_by_hours_harms_no_act_and_no_count() {
    let clock = Clock::wrong();
    let app = TestApp::start_with(|options| options.clock = clock.clone()).await;
    let limits = json!([{ "unit": "posts", "per": "month", "cap": 6 }]);
    let entrusted = app.entrust(&["post.create", "profile.read"], limits).await;
    let second = app.second_node().await;
    post(&app, &entrusted, "right").await;
    for (name, hours) in [("ahead", 5), ("behind", -5), ("far-ahead", 24 * 40), ("far-behind", -24 * 40), ("back", 0)] {
        clock.set_wrong_by(hours * HOURS);
        post(&app, &entrusted, name).await;
        // What another node changes is heard, and what this one changes binds: leases and permits do not go by the hour.
        let read = entrusted.act("profile.read", &json!({}), None).await;
        assert_eq!(ok(read, 200).pointer("/status").and_then(Value::as_u64), Some(200), "{name}");
    }
    // The window is the database's, whatever hour the node thought it was: all six are in it.
    let over = entrusted.act("post.create", &json!({ "text": "seventh" }), Some("seventh")).await;
    assert_eq!(problem(&over), (429, "budget-exceeded".to_owned()));
    assert_eq!(app.sandbox.platform().posts_by(ACCOUNT).len(), 6);

    // Connections that are ended while the hour is wrong. To a node that is ahead the token had ended anyway: that it is refused proves
    // nothing, and the certificate does not say more than is known.
    for (hours, said) in [(7, "refused_to_say"), (-7, "dead")] {
        clock.set_wrong_by(0);
        let other = app.connect("rival_brand", &["profile.read"]).await;
        clock.set_wrong_by(hours * HOURS);
        let certificate = ok(app.admin.delete(&format!("/v1/connections/{other}")).await.unwrap(), 200);
        assert_eq!(certificate.pointer("/old_token").and_then(Value::as_str), Some(said), "{hours} hours");
    }
    // A link that is made while the hour is wrong lives as long as any other.
    for hours in [30, -30] {
        clock.set_wrong_by(hours * HOURS);
        app.connect("rival_brand", &["profile.read"]).await;
    }
    // A revocation at a node whose hour is right binds at one whose hour is wrong.
    let admin = Caller::new(second.url(), None).with_key(app.admin.key().unwrap());
    ok(admin.post(&format!("/v1/mandates/{}/revoke", entrusted.mandate), &json!({})).await.unwrap(), 200);
    let late = entrusted.act("post.create", &json!({ "text": "late" }), Some("late")).await;
    assert_eq!(problem(&late).0, 403);
    second.stop().await;
    app.stop().await;
}
