//! Mandates: made within the owner's ceiling, kept to while they hold, and ended for every node at once.

use std::time::Duration;

use domain::clock::Clock;
use futures_util::future::{join, join_all};
use keyholder::{caller::Caller, local};
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use service::step::Step;
use time::{Duration as Span, format_description::well_known::Rfc3339};

use crate::{
    acts::{ALL, Door, arrived, parent, reply_to},
    harness::{ACCOUNT, Entrusted, TestApp, ok, problem, text},
};

/// A clock that stands still at this hour of tomorrow, UTC, so that no context that it signs is over.
fn tomorrow_at(hour: u8) -> Clock {
    let midnight = Clock::system().now().date().midnight().assume_utc();
    Clock::set(midnight + Span::DAY + Span::hours(i64::from(hour)))
}

/// Ends a mandate: what was still on its way.
async fn revoke(admin: &Caller, mandate: &str, body: &Value) -> Vec<Value> {
    let said = ok(admin.post(&format!("/v1/mandates/{mandate}/revoke"), body).await.unwrap(), 200);
    said["in_flight"].as_array().unwrap().clone()
}

/// A mandate with these conditions, for a new agent.
async fn narrowed(app: &TestApp, connection: &str, more: Value) -> Entrusted {
    let (agent, agent_key) = app.agent().await;
    let mut terms = json!({ "connection": connection, "grantee": agent_key, "actions": ALL });
    let Value::Object(more) = more else { panic!("conditions are an object") };
    terms.as_object_mut().unwrap().extend(more);
    let made = ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201);
    Entrusted { connection: connection.to_owned(), mandate: text(&made, "/id").to_owned(), agent, agent_key }
}

#[tokio::test]
async fn a_mandate_is_made_within_the_ceiling_or_not_at_all() {
    let app = TestApp::start().await;
    let connection = app.connect(ACCOUNT, &["post.reply", "post.metrics"]).await;
    let (_, key) = app.agent().await;
    let other = local::create_workspace(app.instance.app(), "Other").await.unwrap();
    let limit = |cap: Value| json!({ "unit": "acts", "per": "day", "cap": cap });
    let cases = [
        (json!({ "actions": ["post.create"] }), (422, "invalid-input"), "/actions"),
        (json!({ "actions": ["post.reply", "post.nonsense"] }), (422, "invalid-input"), "/actions"),
        (json!({ "actions": [] }), (422, "invalid-input"), "/actions"),
        (json!({ "actions": "post.reply" }), (422, "invalid-input"), "/actions"),
        (json!({ "grantee": "key_00000000000000000000000000" }), (422, "invalid-input"), "/grantee"),
        (json!({ "grantee": other.key.to_string() }), (422, "invalid-input"), "/grantee"),
        (json!({ "grantee": "agent" }), (422, "invalid-input"), "/grantee"),
        (json!({ "expires_at": "2020-01-01T00:00:00Z" }), (422, "invalid-input"), "/expires_at"),
        (json!({ "expires_at": "tomorrow" }), (422, "invalid-input"), "/expires_at"),
        (json!({ "limits": [limit(json!(1)), limit(json!(2))] }), (422, "invalid-input"), "/limits/1"),
        (json!({ "limits": [limit(json!(-1))] }), (422, "invalid-input"), "/limits/0/cap"),
        (json!({ "limits": [limit(json!((1_u64 << 53) + 1))] }), (422, "invalid-input"), "/limits/0/cap"),
        (json!({ "conditions": { "fields": { "words": {} } } }), (422, "invalid-input"), "/conditions/fields/words"),
        (
            json!({ "conditions": { "hours": { "from": "25:00", "to": "1:00" } } }),
            (422, "invalid-input"),
            "/conditions/hours/from",
        ),
        (json!({ "conditions": { "days": [] } }), (422, "invalid-input"), "/conditions/days"),
        (json!({ "nonsense": 1 }), (422, "invalid-input"), "/nonsense"),
        (json!({ "guard": "strict" }), (422, "unsupported"), ""),
        (json!({ "approval": {} }), (422, "unsupported"), ""),
        (json!({ "connection": "con_00000000000000000000000000" }), (404, "not-found"), ""),
    ];
    let terms = json!({ "connection": connection, "grantee": key, "actions": ["post.reply"] });
    for (change, (status, kind), pointer) in cases {
        let mut wanted = terms.clone();
        wanted.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = app.admin.post("/v1/mandates", &wanted).await.unwrap();
        assert_eq!(problem(&refused), (status, kind.to_owned()), "{change}");
        assert_eq!(text(&refused.json(), "/errors/0/pointer"), pointer, "{change} {}", refused.json());
    }
    let list = ok(app.admin.get("/v1/mandates").await.unwrap(), 200);
    assert_eq!(list["data"], json!([]), "nothing of a refused mandate stays");
    ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201);

    let agents = app.mandate(&connection, &["post.reply"], json!([])).await;
    let refused = agents.agent.post("/v1/mandates", &terms).await.unwrap();
    assert_eq!(problem(&refused), (403, "forbidden".to_owned()), "an agent makes no mandate");
    app.stop().await;
}

#[tokio::test]
async fn a_mandate_ends_at_its_hour() {
    let clock = tomorrow_at(12);
    let app = TestApp::start_with(|options| options.clock = clock.clone()).await;
    let connection = app.connect(ACCOUNT, &ALL).await;
    let end = (clock.now() + Span::minutes(1)).format(&Rfc3339).unwrap();
    let ending = narrowed(&app, &connection, json!({ "expires_at": end })).await;
    let input = json!({ "text": "Hello" });
    ok(ending.act("post.create", &input, Some("a")).await, 200);
    clock.advance(Duration::from_secs(59));
    ok(ending.act("post.create", &input, Some("b")).await, 200);
    clock.advance(Duration::from_secs(1));
    for key in ["a", "c"] {
        let refused = ending.act("post.create", &input, Some(key)).await;
        assert_eq!(problem(&refused), (403, "outside-mandate".to_owned()));
        assert!(text(&refused.json(), "/detail").contains("expired"), "{}", refused.json());
    }
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 2);
    app.stop().await;
}

#[tokio::test]
async fn a_mandate_holds_under_its_conditions_only() {
    let clock = tomorrow_at(9);
    let app = TestApp::start_with(|options| options.clock = clock.clone()).await;
    let (chosen, other) = (parent(&app), parent(&app));
    let connection = app.connect(ACCOUNT, &ALL).await;
    let conditions = json!({
        "hours": { "from": "09:00", "to": "10:30" },
        "fields": { "text": { "max_length": 5 }, "in_reply_to_tweet_id": { "allowed": [chosen] } },
    });
    let narrow = narrowed(&app, &connection, json!({ "conditions": conditions })).await;
    let acts = [
        (reply_to(&chosen, "Größe"), ""),
        (reply_to(&chosen, "Länger"), "5 characters"),
        (reply_to(&other, "Größe"), "`in_reply_to_tweet_id`"),
    ];
    for (input, broken) in &acts {
        let reply = narrow.act("post.reply", input, Some("a")).await;
        if broken.is_empty() {
            ok(reply, 200);
            continue;
        }
        assert_eq!(problem(&reply), (403, "outside-mandate".to_owned()), "{input}");
        assert!(text(&reply.json(), "/detail").contains(broken), "{}", reply.json());
    }
    clock.advance(Duration::from_mins(89));
    ok(narrow.act("post.reply", &acts[0].0, Some("b")).await, 200);
    clock.advance(Duration::from_mins(1));
    let late = narrow.act("post.reply", &acts[0].0, Some("c")).await;
    assert_eq!(problem(&late), (403, "outside-mandate".to_owned()));
    assert!(text(&late.json(), "/detail").contains("hour"), "{}", late.json());
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 2);
    app.stop().await;
}

#[tokio::test]
async fn a_revocation_names_what_is_on_its_way_and_nothing_comes_after_it() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([])).await;
    let other = app.mandate(&entrusted.connection, &ALL, json!([])).await;
    let input = json!({ "text": "Hello" });
    platform.switch(Quirk::HoldAnswer, Scope::exactly(Route::Only(Call::CreatePost), 3)).unwrap();
    let held = join_all([
        entrusted.act("post.create", &input, Some("a")),
        entrusted.act("post.create", &input, Some("b")),
        other.act("post.create", &input, Some("c")),
    ]);
    let meanwhile = async {
        arrived(&platform, Call::CreatePost, 3).await;
        let refused = entrusted.agent.post(&format!("/v1/mandates/{}/revoke", entrusted.mandate), &json!({})).await;
        assert_eq!(problem(&refused.unwrap()), (403, "forbidden".to_owned()), "its grantee does not end it");
        let in_flight = revoke(&app.admin, &entrusted.mandate, &json!({})).await;
        for (key, action) in [("d", "post.create"), ("a", "post.create"), ("e", "profile.read")] {
            let refused = entrusted.act(action, &json!({ "text": "Hello" }), Some(key)).await;
            assert_eq!(problem(&refused), (403, "forbidden".to_owned()), "{action} {key}");
        }
        // The other mandate's act is let go with them; its revocation waits for it.
        let (others, ()) = join(revoke(&app.admin, &other.mandate, &json!({ "wait_ms": 30_000 })), async {
            // It waits for as long as the answer is held: nothing but this lets it go.
            arrived(&platform, Call::CreatePost, 3).await;
            platform.clear();
        })
        .await;
        (in_flight, others)
    };
    let (replies, (in_flight, others)) = join(held, meanwhile).await;
    let mut acts: Vec<_> = replies.iter().map(|reply| json!(reply.header("keyholder-act"))).collect();
    assert!(replies.iter().all(|reply| reply.status == 200), "what was admitted before is answered");
    acts.truncate(2);
    acts.sort_by_key(Value::to_string);
    assert_eq!((in_flight, others), (acts, vec![]));
    assert_eq!(platform.posts_written_by(ACCOUNT), 3);

    let again = app.admin.post(&format!("/v1/mandates/{}/revoke", entrusted.mandate), &json!({})).await.unwrap();
    assert_eq!(problem(&again), (404, "not-found".to_owned()), "it is ended already");
    let too_long =
        app.admin.post(&format!("/v1/mandates/{}/revoke", other.mandate), &json!({ "wait_ms": 30_001 })).await;
    assert_eq!(problem(&too_long.unwrap()).0, 422);
    app.stop().await;
}

#[tokio::test]
async fn a_revocation_binds_every_node_from_its_answer_on() {
    let app = TestApp::start().await;
    let second = app.second_node().await;
    let connection = app.connect(ACCOUNT, &ALL).await;
    let input = json!({ "text": "Hello" });
    for round in 0..5 {
        let made =
            ok(app.admin.post("/v1/api-keys", &json!({ "label": "agent", "role": "service" })).await.unwrap(), 201);
        let terms = json!({ "connection": connection, "grantee": made["id"], "actions": ALL });
        let mandate = ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201);
        let (mandate, key) = (text(&mandate, "/id"), text(&made, "/key"));
        let there = Caller::new(second.url(), None).with_key(key);
        ok(there.act(mandate, "post.create", &input, Some("a")).await.unwrap(), 200);
        revoke(&app.admin, mandate, &json!({})).await;
        let refused = there.act(mandate, "post.create", &input, Some("b")).await.unwrap();
        assert_eq!(problem(&refused), (403, "forbidden".to_owned()), "round {round}");
    }
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 5);
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_act_that_was_permitted_before_a_revocation_is_not_admitted_after_it() {
    let (door, hook) = Door::new(Step::Admit, || {});
    let app = TestApp::start_with(|options| options.hook = hook).await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let input = json!({ "text": "Hello" });
    door.set_shut(true);
    let held = async {
        door.reached().await;
        let in_flight = revoke(&app.admin, &entrusted.mandate, &json!({})).await;
        door.set_shut(false);
        door.let_go();
        in_flight
    };
    let (reply, in_flight) = join(entrusted.act("post.create", &input, Some("k")), held).await;
    assert_eq!(problem(&reply), (403, "forbidden".to_owned()));
    assert_eq!((in_flight, app.sandbox.platform().posts_written_by(ACCOUNT)), (vec![], 0));
    app.stop().await;
}

#[tokio::test]
async fn a_mandate_is_known_to_those_concerned() {
    let app = TestApp::start().await;
    let one = app.entrust(&ALL, json!([])).await;
    let two = app.mandate(&one.connection, &["post.reply"], json!([])).await;
    let other = local::create_workspace(app.instance.app(), "Other").await.unwrap();
    let other = app.stranger.with_key(&other.text);
    let ids = |list: &Value| -> Vec<String> {
        list["data"].as_array().unwrap().iter().map(|mandate| text(mandate, "/id").to_owned()).collect()
    };
    let (newer, older) = (two.mandate.clone(), one.mandate.clone());
    let lists = [
        (&app.admin, vec![newer.clone(), older.clone()]),
        (&one.agent, vec![older.clone()]),
        (&two.agent, vec![newer.clone()]),
        (&other, vec![]),
    ];
    for (caller, expected) in lists {
        assert_eq!(ids(&ok(caller.get("/v1/mandates").await.unwrap(), 200)), expected);
        for mandate in [&newer, &older] {
            let read = caller.get(&format!("/v1/mandates/{mandate}")).await.unwrap();
            if expected.contains(mandate) {
                assert_eq!(text(&ok(read, 200), "/id"), mandate);
            } else {
                assert_eq!(problem(&read), (404, "not-found".to_owned()));
                let revoked = caller.post(&format!("/v1/mandates/{mandate}/revoke"), &json!({})).await.unwrap();
                assert_eq!(problem(&revoked), (404, "not-found".to_owned()));
            }
        }
    }
    let page = ok(app.admin.get("/v1/mandates?limit=1").await.unwrap(), 200);
    assert_eq!((ids(&page), text(&page, "/next")), (vec![newer.clone()], newer.as_str()));
    let page = ok(app.admin.get(&format!("/v1/mandates?before={newer}")).await.unwrap(), 200);
    assert_eq!((ids(&page), &page["next"]), (vec![older.clone()], &Value::Null));

    let read = ok(two.agent.get(&format!("/v1/mandates/{newer}")).await.unwrap(), 200);
    assert_eq!((text(&read, "/grantee"), &read["actions"]), (two.agent_key.as_str(), &json!(["post.reply"])));
    let stranger = other.act(&older, "post.create", &json!({ "text": "Hello" }), Some("k")).await.unwrap();
    assert_eq!(problem(&stranger), (404, "not-found".to_owned()));
    revoke(&app.admin, &older, &json!({})).await;
    assert_eq!(ids(&ok(app.admin.get("/v1/mandates").await.unwrap(), 200)), [newer]);
    app.stop().await;
}

#[tokio::test]
async fn acts_pass_while_the_workspace_changes_under_them() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([{ "unit": "acts", "per": "month", "cap": 1000 }])).await;
    let acts = join_all((0..100).map(|number| {
        let entrusted = &entrusted;
        async move {
            let key = format!("k{number}");
            loop {
                let reply = entrusted.act("post.create", &json!({ "text": key }), Some(&key)).await;
                // Overtaken by changes for five seconds, a caller is told to come again: on a busy machine that is no fault.
                if reply.status != 409 || problem(&reply).1 != "stale" {
                    return reply;
                }
            }
        }
    }));
    let churn = async {
        for _ in 0..20 {
            let made = app.mandate(&entrusted.connection, &["post.reply"], json!([])).await;
            revoke(&app.admin, &made.mandate, &json!({})).await;
        }
    };
    let (replies, ()) = join(acts, churn).await;
    for reply in replies {
        assert_eq!(ok(reply, 200)["status"], 201);
    }
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 100);
    app.stop().await;
}
