//! Budgets of every rank: spent to the last unit and not beyond, in their windows, and given back only to these.

use domain::{
    budget::{Limit, Period, Unit},
    clock::Clock,
};
use futures_util::future::join_all;
use keyholder::{caller::Reply, local};
use serde_json::json;
use service::step::Step;
use sqlx::PgConnection;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    acts::{ALL, Door, parent, reply_to, used},
    harness::{ACCOUNT, Entrusted, RETURN, TestApp, catalogue_with, ok, problem, text},
};

/// Sets a budget of the workspace.
async fn set(app: &TestApp, scope: &str, subject: Option<&str>, unit: &str, per: &str, cap: u64) {
    let mut wanted = json!({ "scope": scope, "unit": unit, "per": per, "cap": cap });
    if let Some(subject) = subject {
        wanted["subject"] = json!(subject);
    }
    ok(app.admin.post("/v1/budgets", &wanted).await.unwrap(), 200);
}

/// A post under a key of its own.
async fn post(entrusted: &Entrusted, key: impl ToString) -> Reply {
    let key = key.to_string();
    entrusted.act("post.create", &json!({ "text": key }), Some(&key)).await
}

/// What a refusal says of its budget: scope, cap, what is left and what was wanted.
fn refused(reply: &Reply) -> (String, u64, u64, u64) {
    assert_eq!(problem(reply), (429, "budget-exceeded".to_owned()));
    let body = reply.json();
    let number = |name: &str| body["budget"][name].as_u64().unwrap();
    (text(&body, "/budget/scope").to_owned(), number("cap"), number("remaining"), number("wanted"))
}

fn resets_at(reply: &Reply) -> OffsetDateTime {
    OffsetDateTime::parse(text(&reply.json(), "/budget/resets_at"), &Rfc3339).unwrap()
}

/// Moves the windows of a scope's budgets, as the owner of the database.
async fn shift(owner: &mut PgConnection, scope: &str, by: &str) {
    let moved = sqlx::query("update keyholder.budgets set window_start = window_start + $2::interval where scope = $1")
        .bind(scope)
        .bind(by)
        .execute(owner)
        .await
        .unwrap();
    assert!(moved.rows_affected() > 0);
}

/// Used, and whether the window is the present one (UTC).
async fn stored(owner: &mut PgConnection, scope: &str) -> (i64, bool) {
    let present = "select used, window_start = date_trunc(period, clock_timestamp(), 'UTC') from keyholder.budgets where scope = $1";
    sqlx::query_as(present).bind(scope).fetch_one(owner).await.unwrap()
}

/// Whose budget refuses, and how a client reads it.
fn assert_headers(reply: &Reply, scope: &str, unit: &str, cap: u64) {
    let seconds: u64 = reply.header("retry-after").parse().unwrap();
    assert!(seconds >= 1);
    assert_eq!(reply.header("ratelimit-limit"), cap.to_string());
    assert_eq!(reply.header("ratelimit-remaining"), "0");
    assert_eq!(reply.header("ratelimit-reset"), seconds.to_string());
    assert_eq!(reply.header("ratelimit"), format!("\"{scope}-{unit}-month\";r=0;t={seconds}"));
}

#[tokio::test]
async fn each_rank_refuses_at_its_cap_and_says_which_and_until_when() {
    let app = TestApp::start().await;
    let parent = parent(&app);
    let connection = app.connect(ACCOUNT, &ALL).await;
    let mut posts = 0;
    for unit in ["acts", "posts"] {
        for scope in ["mandate", "connection", "principal", "workspace"] {
            let what = format!("{scope} {unit}");
            let own = json!([{ "unit": unit, "per": "month", "cap": 3 }]);
            let entrusted = app.mandate(&connection, &ALL, if scope == "mandate" { own } else { json!([]) }).await;
            let subject = match scope {
                "connection" => Some(&*connection),
                "principal" => Some(&*entrusted.agent_key),
                _ => None,
            };
            if scope != "mandate" {
                set(&app, scope, subject, unit, "month", 3).await;
            }
            for act in 0..3 {
                ok(post(&entrusted, act).await, 200);
            }
            posts += 3;
            let over = post(&entrusted, "over").await;
            assert_eq!(refused(&over), (scope.to_owned(), 3, 0, 1), "{what}");
            assert_eq!(
                (&over.json()["budget"]["unit"], &over.json()["budget"]["per"]),
                (&json!(unit), &json!("month"))
            );
            assert_eq!(resets_at(&over), Period::Month.ends(Clock::system().now()), "{what}");
            assert_headers(&over, scope, unit, 3);
            // A refusal consumes no key, and a replay no units.
            assert_eq!(refused(&post(&entrusted, "over").await).0, scope, "{what}");
            assert_eq!(post(&entrusted, 1).await.header("idempotency-replayed"), "true", "{what}");
            // A read is an act, and no post.
            let read = entrusted.act("post.metrics", &json!({ "id": parent }), None).await;
            if unit == "acts" {
                assert_eq!(refused(&read).0, scope);
            } else {
                ok(read, 200);
            }
            assert_eq!(used(&app, scope).await, 3, "{what}");
            let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
            for budget in list["data"].as_array().unwrap().iter().filter(|budget| budget["scope"] != "mandate") {
                let gone = app.admin.delete(&format!("/v1/budgets/{}", text(budget, "/id"))).await.unwrap();
                assert_eq!(gone.status, 204);
            }
            if scope == "mandate" {
                ok(
                    app.admin.post(&format!("/v1/mandates/{}/revoke", entrusted.mandate), &json!({})).await.unwrap(),
                    200,
                );
            } else {
                ok(post(&entrusted, "over").await, 200);
                posts += 1;
            }
        }
    }
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), posts);
    app.stop().await;
}

#[tokio::test]
async fn the_installations_budget_binds_every_workspace() {
    let mut app = TestApp::start_with(|options| {
        options.budgets = vec![
            Limit { unit: Unit::Acts, per: Period::Month, cap: 9 },
            Limit { unit: Unit::Posts, per: Period::Month, cap: 4 },
        ];
    })
    .await;
    let entrusted = app.entrust(&ALL, json!([{ "unit": "posts", "per": "month", "cap": 100 }])).await;
    for act in 0..4 {
        ok(post(&entrusted, act).await, 200);
    }
    let over = post(&entrusted, "over").await;
    assert_eq!(refused(&over), ("installation".to_owned(), 4, 0, 1));
    assert_eq!(resets_at(&over), Period::Month.ends(Clock::system().now()));
    assert_eq!(used(&app, "mandate").await, 4, "what the mandate gave to a refused act is back");
    let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "the installation's budgets are not the workspace's");
    for _ in 0..5 {
        ok(entrusted.act("profile.read", &json!({}), None).await, 200);
    }
    let over = entrusted.act("profile.read", &json!({}), None).await;
    assert_eq!(refused(&over), ("installation".to_owned(), 9, 0, 1));

    let other = local::create_workspace(app.instance.app(), "Other").await.unwrap();
    app.admin = app.stranger.with_key(&other.text);
    ok(app.admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);
    let elsewhere = app.entrust(&ALL, json!([])).await;
    assert_eq!(refused(&post(&elsewhere, "elsewhere").await).0, "installation");
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 4);
    app.stop().await;
}

#[tokio::test]
async fn the_smallest_binds_and_a_refused_act_takes_nothing_anywhere() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([{ "unit": "acts", "per": "month", "cap": 100 }])).await;
    let (connection, key) = (Some(&*entrusted.connection), Some(&*entrusted.agent_key));
    set(&app, "connection", connection, "acts", "month", 2).await;
    set(&app, "principal", key, "posts", "month", 50).await;
    set(&app, "workspace", None, "acts", "month", 50).await;
    let mut number = 0;
    let mut spent = 0;
    // Which rank is the smallest, and what it lets through now: raised and lowered, it binds from the next act on.
    for (scope, subject, unit, more) in [
        ("connection", connection, "acts", 2),
        ("workspace", None, "acts", 1),
        ("principal", key, "posts", 2),
        ("connection", connection, "acts", 0),
    ] {
        for (each, subject, unit) in
            [("connection", connection, "acts"), ("principal", key, "posts"), ("workspace", None, "acts")]
        {
            set(&app, each, subject, unit, "month", 50).await;
        }
        set(&app, scope, subject, unit, "month", spent + more).await;
        for _ in 0..more {
            number += 1;
            ok(post(&entrusted, number).await, 200);
        }
        spent += more;
        for _ in 0..2 {
            number += 1;
            assert_eq!(refused(&post(&entrusted, number).await), (scope.to_owned(), spent, 0, 1));
        }
        for scope in ["mandate", "connection", "principal", "workspace"] {
            assert_eq!(used(&app, scope).await, spent, "{scope}");
        }
    }
    // Below what is used, nothing is left; and nothing is less than that.
    set(&app, "workspace", None, "acts", "month", 1).await;
    set(&app, "connection", connection, "acts", "month", 50).await;
    assert_eq!(refused(&post(&entrusted, "below").await), ("workspace".to_owned(), 1, 0, 1));
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), spent);
    app.stop().await;
}

#[tokio::test]
async fn only_an_admin_sets_budgets_and_only_of_what_is_there() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([{ "unit": "acts", "per": "month", "cap": 1 }])).await;
    let budget = json!({ "scope": "workspace", "unit": "acts", "per": "month", "cap": 1 });
    let by_agent = entrusted.agent.post("/v1/budgets", &budget).await.unwrap();
    assert_eq!(problem(&by_agent), (403, "forbidden".to_owned()));
    let nobody = "key_00000000000000000000000000";
    let cases = [
        (json!({ "scope": "mandate", "subject": entrusted.mandate }), "/scope"),
        (json!({ "scope": "installation" }), "/scope"),
        (json!({ "scope": "workspace", "subject": nobody }), "/subject"),
        (json!({ "scope": "principal", "subject": nobody }), "/subject"),
        (json!({ "scope": "connection", "subject": entrusted.agent_key }), "/subject"),
        (json!({ "unit": "wishes" }), "/unit"),
        (json!({ "per": "year" }), "/per"),
        (json!({ "cap": 1.5 }), "/cap"),
        (json!({ "cap": (1_u64 << 53) + 1 }), "/cap"),
    ];
    for (change, pointer) in cases {
        let mut wanted = budget.clone();
        wanted.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = app.admin.post("/v1/budgets", &wanted).await.unwrap();
        assert_eq!(problem(&refused), (422, "invalid-input".to_owned()), "{change}");
        assert_eq!(text(&refused.json(), "/errors/0/pointer"), pointer, "{change}");
    }
    let list = ok(entrusted.agent.get("/v1/budgets").await.unwrap(), 200);
    let own = text(&list, "/data/0/id").to_owned();
    assert_eq!((list["data"].as_array().unwrap().len(), text(&list, "/data/0/subject")), (1, &*entrusted.mandate));
    let removed = app.admin.delete(&format!("/v1/budgets/{own}")).await.unwrap();
    assert_eq!(problem(&removed), (409, "conflict".to_owned()), "a mandate's budget ends with it");
    app.stop().await;
}

#[tokio::test]
async fn a_service_sees_the_budgets_that_concern_it_and_an_admin_all() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "day", "cap": 5 }])).await;
    let (idle, idle_key) = app.agent().await;
    set(&app, "workspace", None, "acts", "month", 1000).await;
    set(&app, "connection", Some(&entrusted.connection), "acts", "month", 100).await;
    set(&app, "principal", Some(&entrusted.agent_key), "acts", "month", 50).await;
    set(&app, "principal", Some(&idle_key), "acts", "month", 40).await;
    let (workspace, mandate, connection) = (("workspace", 1000), ("mandate", 5), ("connection", 100));
    for (caller, expected) in [
        (&app.admin, vec![connection, mandate, ("principal", 40), ("principal", 50), workspace]),
        (&entrusted.agent, vec![connection, mandate, ("principal", 50), workspace]),
        (&idle, vec![("principal", 40), workspace]),
    ] {
        let listed = ok(caller.get("/v1/budgets").await.unwrap(), 200);
        let listed = listed["data"].as_array().unwrap();
        let mut seen: Vec<_> = listed.iter().map(|it| (text(it, "/scope"), it["cap"].as_u64().unwrap())).collect();
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_window_rolls_when_it_is_over_and_never_moves_back() {
    let app = TestApp::start().await;
    let connection = app.connect(ACCOUNT, &ALL).await;
    let mut owner = app.owner().await;
    for (per, interval) in [("minute", "1 minute"), ("hour", "1 hour"), ("day", "1 day"), ("month", "1 month")] {
        let entrusted = app.mandate(&connection, &ALL, json!([{ "unit": "acts", "per": per, "cap": 1 }])).await;
        ok(post(&entrusted, "a").await, 200);
        shift(&mut owner, "mandate", &format!("-{interval}")).await;
        ok(post(&entrusted, "b").await, 200);
        let (used, present) = stored(&mut owner, "mandate").await;
        // A minute may have ended between the act and the question.
        assert!(used == 1 && (present || per == "minute"), "{per}: the new window holds what it took, {used}");
        // As after a clock that was set back: the window that is there holds until it is over.
        shift(&mut owner, "mandate", &format!("100 {per}s")).await;
        let over = post(&entrusted, "c").await;
        assert_eq!(refused(&over), ("mandate".to_owned(), 1, 0, 1), "{per}");
        assert!(resets_at(&over) > Clock::system().now() + time::Duration::minutes(90), "{per}");
        assert_eq!(stored(&mut owner, "mandate").await, (1, false), "{per}");
        // The budget of an ended mandate stays; the next round must see its own alone.
        forget_budgets(&app, &mut owner).await;
    }
    app.stop().await;
}

/// Takes all budgets of the test's workspace away, under a raised head as the database demands.
async fn forget_budgets(app: &TestApp, owner: &mut PgConnection) {
    let mut transaction = sqlx::Connection::begin(owner).await.unwrap();
    sqlx::query("update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where id = $1")
        .bind(app.workspace_uuid())
        .execute(&mut *transaction)
        .await
        .unwrap();
    sqlx::query("delete from keyholder.budgets").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn one_act_takes_all_its_units_or_none() {
    let app = TestApp::start_with(|options| {
        let dear = "units = { posts = 1, cents = 5, bytes = { bytes = \"text\" } }";
        options.catalogue = catalogue_with("units = { posts = 1 }", dear);
    })
    .await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let caps = [("acts", 100), ("posts", 100), ("cents", 12), ("bytes", 1000)];
    for (unit, cap) in caps {
        set(&app, "workspace", None, unit, "month", cap).await;
    }
    let standing = async || -> Vec<u64> {
        let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
        let of = |unit: &str| list["data"].as_array().unwrap().iter().find(|budget| budget["unit"] == unit).cloned();
        caps.iter().map(|(unit, _)| of(unit).unwrap()["used"].as_u64().unwrap()).collect()
    };
    let said = entrusted.act("post.create", &json!({ "text": "größe" }), Some("g")).await;
    ok(said, 200);
    assert_eq!(standing().await, [1, 1, 5, 7]);
    ok(post(&entrusted, "12").await, 200);
    assert_eq!(standing().await, [2, 2, 10, 9]);
    assert_eq!(refused(&post(&entrusted, "34").await), ("workspace".to_owned(), 12, 2, 5));
    assert_eq!(standing().await, [2, 2, 10, 9]);
    set(&app, "workspace", None, "cents", "month", 1000).await;
    set(&app, "workspace", None, "bytes", "month", 10).await;
    assert_eq!(refused(&post(&entrusted, "56").await), ("workspace".to_owned(), 10, 1, 2));
    ok(post(&entrusted, "7").await, 200);
    assert_eq!(standing().await, [3, 3, 15, 10]);
    let parent = parent(&app);
    ok(entrusted.act("post.reply", &reply_to(&parent, "no bytes, no cents"), Some("r")).await, 200);
    assert_eq!(standing().await, [4, 4, 15, 10], "another action takes other units");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_not_sent_is_given_back_to_its_own_window_only() {
    let clock = Clock::set(Clock::system().now() + std::time::Duration::from_hours(1));
    let hand = clock.clone();
    let late = domain::act::SEND_WITHIN + std::time::Duration::from_millis(1);
    let (door, hook) = Door::new(Step::Act, move || hand.advance(late));
    let app = TestApp::start_with(|options| {
        options.clock = clock.clone();
        options.hook = hook;
    })
    .await;
    let entrusted = app.entrust(&ALL, json!([{ "unit": "acts", "per": "month", "cap": 9 }])).await;
    set(&app, "workspace", None, "posts", "month", 9).await;
    let mut owner = app.owner().await;
    ok(post(&entrusted, "sent").await, 200);
    door.set_shut(true);
    // The mandate's window ends while the second act is held; the workspace's does not.
    for (shifted, (mandates, workspaces)) in [(false, (1, 1)), (true, (2, 1))] {
        let held = async {
            door.reached().await;
            assert_eq!((used(&app, "mandate").await, used(&app, "workspace").await), (2, 2), "both are taken");
            if shifted {
                shift(&mut owner, "mandate", "1 month").await;
            }
            door.let_go();
        };
        let (reply, ()) = futures_util::future::join(post(&entrusted, "held"), held).await;
        assert_eq!(problem(&reply), (502, "upstream-unreachable".to_owned()));
        assert_eq!((used(&app, "mandate").await, used(&app, "workspace").await), (mandates, workspaces), "{shifted}");
    }
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 1);
    app.stop().await;
}

#[tokio::test]
async fn a_crowd_spends_a_budget_to_its_last_unit_and_not_beyond() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([{ "unit": "posts", "per": "month", "cap": 20 }])).await;
    set(&app, "workspace", None, "acts", "month", 1000).await;
    let replies = join_all((0..64).map(|number| post(&entrusted, number))).await;
    let (sent, over): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(sent.len(), 20);
    assert!(over.iter().all(|reply| refused(reply) == ("mandate".to_owned(), 20, 0, 1)));
    assert!(sent.iter().all(|reply| reply.json()["status"] == 201));
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 20);
    assert_eq!((used(&app, "mandate").await, used(&app, "workspace").await), (20, 20));
    app.stop().await;
}

#[tokio::test]
async fn what_a_refused_act_took_is_not_kept_from_its_neighbours() {
    let app = TestApp::start().await;
    let connection = app.connect(ACCOUNT, &ALL).await;
    // Made before the mandates' own, so that a refused act has met these first.
    set(&app, "workspace", None, "acts", "month", 1000).await;
    set(&app, "connection", Some(&connection), "posts", "month", 45).await;
    let poor = app.mandate(&connection, &ALL, json!([{ "unit": "acts", "per": "month", "cap": 5 }])).await;
    let rich = app.mandate(&connection, &ALL, json!([{ "unit": "acts", "per": "month", "cap": 1000 }])).await;
    let replies = join_all((0..80).map(|number| post(if number % 2 == 0 { &poor } else { &rich }, number))).await;
    for (number, reply) in replies.iter().enumerate().filter(|(_, reply)| reply.status != 200) {
        // Whoever comes once all is spent may meet the connection's budget first.
        let (scope, ..) = refused(reply);
        assert!(number % 2 == 0 && ["mandate", "connection"].contains(&scope.as_str()), "{number}: {scope}");
    }
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 45);
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 45);
    assert_eq!((used(&app, "workspace").await, used(&app, "connection").await), (45, 45));
    app.stop().await;
}
