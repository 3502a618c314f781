//! The ledger's semantics: windows, what acts really used and what they owe then, replays, seven days, revocations that wait.

use std::time::Duration;

use domain::{budget::Period, clock::Clock};
use futures_util::future::join;
use http::Method;
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{OffsetDateTime, macros::datetime};

use crate::{
    acts::{ALL, arrived, parent, reply_to},
    harness::{ACCOUNT, Entrusted, TestApp, catalogue_with, eventually, ok, problem, text},
};

/// What the database says of the window that holds a moment: its beginning, its end, and the windows since another one's beginning.
async fn window(sql: &mut PgConnection, period: Period, at: OffsetDateTime) -> (OffsetDateTime, OffsetDateTime) {
    sqlx::query_as("select keyholder.window_of($1, $2), keyholder.window_end($1, keyholder.window_of($1, $2))")
        .bind(period.as_str())
        .bind(at)
        .fetch_one(sql)
        .await
        .unwrap()
}

#[tokio::test]
async fn windows_are_the_calendars_in_utc() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    sqlx::query("set timezone = 'Pacific/Auckland'").execute(&mut owner).await.unwrap();
    let cases = [
        (
            Period::Minute,
            datetime!(2026-03-29 01:59:59.999 UTC),
            datetime!(2026-03-29 1:59 UTC),
            datetime!(2026-03-29 2:00 UTC),
        ),
        (
            Period::Minute,
            datetime!(2026-03-29 02:00 UTC),
            datetime!(2026-03-29 2:00 UTC),
            datetime!(2026-03-29 2:01 UTC),
        ),
        (
            Period::Hour,
            datetime!(2026-10-25 23:30 UTC),
            datetime!(2026-10-25 23:00 UTC),
            datetime!(2026-10-26 0:00 UTC),
        ),
        (
            Period::Hour,
            datetime!(1999-12-31 23:59:59 UTC),
            datetime!(1999-12-31 23:00 UTC),
            datetime!(2000-01-01 0:00 UTC),
        ),
        (
            Period::Day,
            datetime!(2026-02-28 23:59:59 UTC),
            datetime!(2026-02-28 0:00 UTC),
            datetime!(2026-03-01 0:00 UTC),
        ),
        (Period::Day, datetime!(2028-02-28 12:00 UTC), datetime!(2028-02-28 0:00 UTC), datetime!(2028-02-29 0:00 UTC)),
        (Period::Day, datetime!(2026-09-27 12:00 +13), datetime!(2026-09-26 0:00 UTC), datetime!(2026-09-27 0:00 UTC)),
        (Period::Month, datetime!(2026-01-01 0:00 UTC), datetime!(2026-01-01 0:00 UTC), datetime!(2026-02-01 0:00 UTC)),
        (
            Period::Month,
            datetime!(2026-02-14 12:00 UTC),
            datetime!(2026-02-01 0:00 UTC),
            datetime!(2026-03-01 0:00 UTC),
        ),
        (
            Period::Month,
            datetime!(2028-02-29 23:59 UTC),
            datetime!(2028-02-01 0:00 UTC),
            datetime!(2028-03-01 0:00 UTC),
        ),
        (
            Period::Month,
            datetime!(2026-04-30 23:59 UTC),
            datetime!(2026-04-01 0:00 UTC),
            datetime!(2026-05-01 0:00 UTC),
        ),
        (
            Period::Month,
            datetime!(2026-12-31 23:59:59 UTC),
            datetime!(2026-12-01 0:00 UTC),
            datetime!(2027-01-01 0:00 UTC),
        ),
        (Period::Month, datetime!(2026-01-01 0:30 +1), datetime!(2025-12-01 0:00 UTC), datetime!(2026-01-01 0:00 UTC)),
    ];
    for (period, at, begins, ends) in cases {
        assert_eq!(window(&mut owner, period, at).await, (begins, ends), "{period:?} at {at}");
        assert_eq!(period.ends(at), ends, "{period:?} at {at}, in memory");
    }
    // Every window of two years, a leap year among them, ends where the next begins, and they count up by one.
    for period in [Period::Day, Period::Month] {
        let first = datetime!(2027-01-01 0:00 UTC);
        let (mut at, mut count) = (first, 0_i64);
        while at < datetime!(2029-01-01 0:00 UTC) {
            let (begins, ends) = window(&mut owner, period, at + time::Duration::hours(7)).await;
            assert_eq!((begins, ends), (at, period.ends(at)), "{period:?}");
            let passed: i64 = sqlx::query_scalar("select keyholder.windows_passed($1, $2, $3)")
                .bind(period.as_str())
                .bind(first)
                .bind(begins)
                .fetch_one(&mut owner)
                .await
                .unwrap();
            assert_eq!(passed, count, "{period:?} {at}");
            (at, count) = (ends, count + 1);
        }
        assert_eq!(count, if period == Period::Day { 731 } else { 24 });
    }
    app.stop().await;
}

/// A server where reading a post's metrics takes tokens: ten are reserved, and the number of its replies is what was used.
async fn metered() -> (TestApp, Entrusted, String) {
    let part = "query = { \"tweet.fields\" = \"public_metrics\" }";
    let by = format!("{part}\nunits = {{ tokens = {{ max = 5, used = \"/data/public_metrics/reply_count\" }} }}");
    let app = TestApp::start_with(|options| options.catalogue = catalogue_with(part, &by)).await;
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([{ "unit": "tokens", "per": "month", "cap": 10 }])).await;
    (app, entrusted, parent)
}

async fn read(entrusted: &Entrusted, parent: &str) -> keyholder::caller::Reply {
    entrusted.act("post.metrics", &json!({ "id": parent }), None).await
}

async fn reply(entrusted: &Entrusted, parent: &str, times: usize) {
    for _ in 0..times {
        let key = domain::random::token();
        ok(entrusted.act("post.reply", &reply_to(parent, &key), Some(&key)).await, 200);
    }
}

/// Used and owed of the mandate's tokens.
async fn tokens(app: &TestApp) -> (u64, u64) {
    let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
    let of = |budget: &&Value| budget["unit"] == "tokens" && budget["scope"] == "mandate";
    let budget = list["data"].as_array().unwrap().iter().find(of).unwrap();
    (budget["used"].as_u64().unwrap(), budget["debt"].as_u64().unwrap())
}

async fn shift(owner: &mut PgConnection, by: &str) {
    sqlx::query("update keyholder.budgets set window_start = window_start + $1::interval")
        .bind(by)
        .execute(owner)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_reserved_and_not_used_goes_back_and_what_was_used_beyond_it_is_owed() {
    let (app, entrusted, parent) = metered().await;
    let mut owner = app.owner().await;
    reply(&entrusted, &parent, 2).await;
    ok(read(&entrusted, &parent).await, 200);
    assert_eq!(tokens(&app).await, (2, 0), "three of five went back");
    reply(&entrusted, &parent, 10).await;
    ok(read(&entrusted, &parent).await, 200);
    assert_eq!(tokens(&app).await, (14, 4), "twelve were used, and four of them were not there");
    let over = read(&entrusted, &parent).await;
    assert_eq!(problem(&over), (429, "budget-exceeded".to_owned()));
    assert_eq!((&over.json()["budget"]["remaining"], &over.json()["budget"]["wanted"]), (&json!(0), &json!(5)));

    // The debt is carried into the next window: of its ten, four are gone.
    shift(&mut owner, "-1 month").await;
    ok(read(&entrusted, &parent).await, 200);
    assert_eq!(tokens(&app).await, (16, 6));
    // Each window that passes unused pays one cap of it.
    shift(&mut owner, "-2 months").await;
    ok(read(&entrusted, &parent).await, 200);
    assert_eq!(tokens(&app).await, (12, 2));
    shift(&mut owner, "-1 month").await;
    assert_eq!(
        problem(&{
            let tight = json!({ "scope": "workspace", "unit": "tokens", "per": "month", "cap": 4 });
            ok(app.admin.post("/v1/budgets", &tight).await.unwrap(), 200);
            read(&entrusted, &parent).await
        }),
        (429, "budget-exceeded".to_owned())
    );
    assert_eq!(tokens(&app).await, (12, 2), "a refusal moves nothing");
    let held: Vec<i64> =
        sqlx::query_scalar("select held_units[1] from keyholder.acts where action = 'post.metrics' order by id")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    assert_eq!(held, [2, 12, 12, 12], "acts say what they used");
    app.stop().await;
}

#[tokio::test]
async fn what_is_told_after_the_window_goes_back_to_no_other_and_is_owed_all_the_same() {
    let (app, entrusted, parent) = metered().await;
    let mut owner = app.owner().await;
    let platform = app.sandbox.platform().clone();
    for (replies, used) in [(1, (5, 0)), (8, (5 + 9 - 5, 0)), (10, (9 + 19 - 5, 13))] {
        reply(&entrusted, &parent, replies).await;
        platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::ReadPost))).unwrap();
        let calls = platform.calls(Call::ReadPost);
        let meanwhile = async {
            arrived(&platform, Call::ReadPost, calls + 1).await;
            // The budget's window moves on while the answer is on its way.
            shift(&mut owner, "1 month").await;
            platform.clear();
        };
        let (said, ()) = join(read(&entrusted, &parent), meanwhile).await;
        ok(said, 200);
        assert_eq!(tokens(&app).await, used);
        // As if what was reserved had been another act's of this window.
        sqlx::query("update keyholder.budgets set used = used - 5 where used > 5 and debt = 0")
            .execute(&mut owner)
            .await
            .unwrap();
        if used.0 == 5 {
            sqlx::query("update keyholder.budgets set used = 0").execute(&mut owner).await.unwrap();
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn bytes_are_those_of_the_answer_where_the_file_says_so() {
    let bytes = "units = { posts = 1, bytes = { max = 2000, used = \"answer\" } }";
    let app = TestApp::start_with(|options| options.catalogue = catalogue_with("units = { posts = 1 }", bytes)).await;
    let entrusted = app.entrust(&ALL, json!([{ "unit": "bytes", "per": "day", "cap": 4000 }])).await;
    let reply = entrusted.proxy(Method::POST, "/2/tweets", Some(&json!({ "text": "Hello" })), Some("a")).await;
    assert_eq!(reply.status, 201);
    let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
    assert_eq!(list["data"][0]["used"].as_u64().unwrap(), reply.body.len() as u64);
    // What was never answered keeps what it reserved.
    app.sandbox.platform().switch(Quirk::LoseAnswer, Scope::once(Route::Only(Call::CreatePost))).unwrap();
    let unanswered = entrusted.act("post.create", &json!({ "text": "Hello" }), Some("b")).await;
    assert_eq!(problem(&unanswered), (504, "upstream-timeout".to_owned()));
    let list = ok(app.admin.get("/v1/budgets").await.unwrap(), 200);
    assert_eq!(list["data"][0]["used"].as_u64().unwrap(), reply.body.len() as u64 + 2000);
    app.stop().await;
}

#[tokio::test]
async fn a_replay_has_the_headers_of_the_first_answer() {
    let clock = Clock::set(Clock::system().now());
    let app = TestApp::start_with(|options| options.clock = clock.clone()).await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([])).await;
    let input = json!({ "text": "Hello" });
    let cases = [
        (Quirk::Status { code: 429, retry_after_s: Some(7) }, "retry-after"),
        (Quirk::RateLimited { reset_after_s: 60 }, "x-rate-limit-reset"),
    ];
    for (quirk, header) in cases {
        platform.switch(quirk.clone(), Scope::once(Route::Only(Call::CreatePost))).unwrap();
        let first = entrusted.act("post.create", &input, Some(header)).await;
        let again = entrusted.act("post.create", &input, Some(header)).await;
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(first.header("retry-after"), again.header("retry-after"));
        assert_eq!(first.header("retry-after"), if header == "retry-after" { "7" } else { "" });
        let (first, again) = (ok(first, 200), ok(again, 200));
        assert_eq!(first, again);
        assert_ne!(text(&first, &format!("/headers/{header}")), "", "{first}");
        clock.advance(Duration::from_secs(62));

        platform.switch(quirk, Scope::once(Route::Only(Call::CreatePost))).unwrap();
        let key = format!("proxy-{header}");
        let first = entrusted.proxy(Method::POST, "/2/tweets", Some(&input), Some(&key)).await;
        let again = entrusted.proxy(Method::POST, "/2/tweets", Some(&input), Some(&key)).await;
        assert_eq!((first.status.as_u16(), again.status.as_u16()), (429, 429));
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_ne!(first.header(header), "");
        assert_eq!(first.header(header), again.header(header));
        clock.advance(Duration::from_secs(62));
    }
    app.stop().await;
}

#[tokio::test]
async fn a_key_and_its_answer_end_after_seven_days() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let mut owner = app.owner().await;
    let input = json!({ "text": "Hello" });
    let first = ok(entrusted.act("post.create", &input, Some("k")).await, 200);
    let kept: bool = sqlx::query_scalar(
        "select i.expires_at - a.admitted_at = interval '7 days' and a.answer is not null \
         from keyholder.idempotency i join keyholder.acts a on a.id = i.act_id",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert!(kept);
    let age = "update keyholder.idempotency set expires_at = expires_at - interval '7 days 1 second'";
    // Used again in the very moment, before anything was cleared away: it is a new request, and the old answer is gone.
    sqlx::query(age).execute(&mut owner).await.unwrap();
    let second = entrusted.act("post.create", &input, Some("k")).await;
    assert_eq!(second.header("idempotency-replayed"), "");
    assert_ne!(text(&ok(second, 200), "/act"), text(&first, "/act"));
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), 2);
    let kept = async |expected: (i64, i64)| {
        let mut sql = app.owner().await;
        let counts: (i64, i64) = sqlx::query_as(
            "select (select count(*) from keyholder.idempotency), (select count(*) from keyholder.acts where answer is not null)",
        )
        .fetch_one(&mut sql)
        .await
        .unwrap();
        counts == expected
    };
    assert!(kept((1, 1)).await);
    sqlx::query(age).execute(&mut owner).await.unwrap();
    eventually("keys and answers are cleared away", async || kept((0, 0)).await).await;
    app.stop().await;
}

#[tokio::test]
async fn a_revocation_that_waits_names_what_has_ended_and_how() {
    let app = TestApp::start_with(|options| {
        options.catalogue = catalogue_with("timeout_ms = 10000", "timeout_ms = 6000");
    })
    .await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&ALL, json!([])).await;
    // One is answered while the revocation waits, one is not answered in time, and one has ended before.
    ok(entrusted.act("post.create", &json!({ "text": "before" }), Some("before")).await, 200);
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::CreatePost))).unwrap();
    platform.switch(Quirk::SlowAnswer { ms: 100 }, Scope::once(Route::Only(Call::DeletePost))).unwrap();
    let id = platform.posts_by(ACCOUNT)[0].id.clone();
    let (held, slow) = (json!({ "text": "held" }), json!({ "id": id }));
    let acts = join(entrusted.act("post.create", &held, Some("held")), async {
        arrived(&platform, Call::CreatePost, 2).await;
        entrusted.act("post.delete", &slow, Some("slow")).await
    });
    let revocation = async {
        arrived(&platform, Call::DeletePost, 1).await;
        let path = format!("/v1/mandates/{}/revoke", entrusted.mandate);
        ok(app.admin.post(&path, &json!({ "wait_ms": 30_000 })).await.unwrap(), 200)
    };
    let ((held, slow), revoked) = join(acts, revocation).await;
    assert_eq!(problem(&held), (504, "upstream-timeout".to_owned()));
    let slow = slow.header("keyholder-act").to_owned();
    let mut ended: Vec<_> = revoked["ended"].as_array().unwrap().clone();
    ended.sort_by_key(|act| text(act, "/state").to_owned());
    assert_eq!(revoked["in_flight"], json!([]));
    let wanted = json!([{ "act": held.json()["act"], "state": "ambiguous" }, { "act": slow, "state": "settled" }]);
    // The quicker of the two may have ended before the revocation committed.
    assert!(json!(ended) == wanted || json!(ended) == json!([wanted[0]]), "{revoked}");
    platform.clear();
    app.stop().await;
}
