//! Refresh: one call to the provider for any number of callers, and never the same token twice, whatever is lost on the way.
//!
//! Here are the callers; what is on the disk and in the journal has a file of its own. A test makes a credential old by telling the
//! database so, before any node has looked at it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::id::{ConnectionId, Id};
use futures_util::future::join_all;
use keyholder::{
    Instance,
    caller::Caller,
    local::{self, PROVIDER, Place},
};
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use service::step::{Hook, Step};
use sqlx::{PgConnection, types::Uuid};
use url::Url;

use crate::harness::{ACCOUNT, Entrusted, RETURN, TestApp, catalogue_with, eventually, home, ok, problem, query, text};

const SOON: u64 = 30;
const LATER: u64 = 7200;

/// A connection whose token is dead as far as Keyholder knows, and soon at the platform too; the next one lives long.
pub(crate) async fn expired(app: &TestApp) -> Entrusted {
    app.sandbox.platform().set_token_lifetime(SOON);
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    app.sandbox.platform().set_token_lifetime(LATER);
    app.age("-1 second").await;
    entrusted
}

/// A connection whose token lives and ought to be refreshed.
pub(crate) async fn about_to_expire(app: &TestApp) -> Entrusted {
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    app.age("55 seconds").await;
    entrusted
}

/// The agent, at another node.
pub(crate) fn agent_at(node: &Instance, entrusted: &Entrusted) -> Caller {
    Caller::new(node.url(), None).with_key(entrusted.agent.key().unwrap())
}

/// How many callers are sent at once where all must be waiting when the provider is called.
const CROWD: usize = 20;

/// A hook that counts the acts that came as far as their refresh, at whichever node.
fn counting() -> (Hook, Arc<AtomicUsize>) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&waiting);
    let hook = Hook::new(move |step| {
        if step == Step::Inspect {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (hook, waiting)
}

/// Another node, with a hook of its own or a shared one.
async fn node_with(app: &TestApp, hook: Hook) -> Instance {
    let place = Place { database: &app.database, port: 0 };
    let mut options = place.options(home().keys(), Some(local::route(&app.sandbox)), &app.secret).unwrap();
    options.connections = 8;
    options.hook = hook;
    Instance::start(options).await.unwrap()
}

/// The answers to a crowd at two nodes, of which one makes the call. The lease is somebody else's until all are waiting for it.
async fn crowd(app: &TestApp, (hook, waiting): (Hook, Arc<AtomicUsize>), entrusted: &Entrusted) -> Vec<(u16, String)> {
    let second = node_with(app, hook).await;
    let agents = [entrusted.agent.clone(), agent_at(&second, entrusted)];
    let mut owner = app.owner().await;
    lease(app, entrusted, version(&mut owner).await, "1 hour").await;
    let calls = join_all((0..CROWD).map(|number| refused(&agents[number % 2], entrusted)));
    let release = async {
        eventually("all of them wait", async || waiting.load(Ordering::SeqCst) >= CROWD).await;
        let free = "update keyholder.refreshes set leased_until = '-infinity'";
        sqlx::query(free).execute(&mut owner).await.unwrap();
    };
    let (answers, ()) = tokio::join!(calls, release);
    second.stop().await;
    answers
}

/// The provider's status for an act that passes.
pub(crate) async fn read(agent: &Caller, entrusted: &Entrusted) -> u64 {
    let reply = agent.act(&entrusted.mandate, "profile.read", &json!({}), None).await.unwrap();
    ok(reply, 200).pointer("/status").and_then(Value::as_u64).unwrap()
}

/// The problem of an act that does not.
pub(crate) async fn refused(agent: &Caller, entrusted: &Entrusted) -> (u16, String) {
    problem(&agent.act(&entrusted.mandate, "profile.read", &json!({}), None).await.unwrap())
}

pub(crate) fn reconnect_required() -> (u16, String) {
    (503, "reconnect-required".to_owned())
}

fn connection(entrusted: &Entrusted) -> Uuid {
    entrusted.connection.parse::<ConnectionId>().unwrap().uuid()
}

pub(crate) async fn version(owner: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select max(version) from keyholder.credentials").fetch_one(owner).await.unwrap()
}

pub(crate) async fn events(owner: &mut PgConnection, event: &str) -> i64 {
    sqlx::query_scalar("select count(*) from keyholder.audit where event = $1")
        .bind(event)
        .fetch_one(owner)
        .await
        .unwrap()
}

/// The owner consents to the connection anew.
pub(crate) async fn renew_consent(app: &TestApp, entrusted: &Entrusted) {
    let wanted = json!({ "provider": PROVIDER, "actions": ["profile.read"], "return_url": RETURN,
        "connection": entrusted.connection });
    let link = ok(app.admin.post("/v1/connect-links", &wanted).await.unwrap(), 201);
    let link = Url::parse(text(&link, "/url")).unwrap().path().to_owned();
    let back = app.consent(&app.stranger.with_no_cookies(), &link, ACCOUNT, &["profile.read"]).await;
    assert_eq!(query(&back, "keyholder_connection").as_deref(), Some(entrusted.connection.as_str()));
}

/// Everybody is told that only the owner can mend it, and why; the provider is not asked again; and the owner can.
pub(crate) async fn assert_mended_by_the_owner_only(app: &TestApp, entrusted: &Entrusted, reason: &str) {
    let platform = app.sandbox.platform();
    let before = platform.refreshes();
    let path = format!("/v1/connections/{}", entrusted.connection);
    let waiting = ok(app.admin.get(&path).await.unwrap(), 200);
    assert_eq!((text(&waiting, "/state"), text(&waiting, "/reconnect_reason")), ("reconnect_required", reason));
    assert!(!text(&waiting, "/reconnect_since").is_empty());
    let mut owner = app.owner().await;
    let told = "select detail ->> 'reason' from keyholder.audit where event = 'connection.reconnect_required'";
    let told: Option<String> = sqlx::query_scalar(told).fetch_one(&mut owner).await.unwrap();
    assert_eq!(told.as_deref(), Some(reason));
    assert_eq!(events(&mut owner, "connection.reconnect_required").await, 1);
    let second = app.second_node().await;
    for agent in [&entrusted.agent, &agent_at(&second, entrusted)] {
        assert_eq!(refused(agent, entrusted).await, reconnect_required());
    }
    assert_eq!(platform.refreshes(), before, "the provider was asked again");
    let (_, key) = app.agent().await;
    let terms = json!({ "connection": entrusted.connection, "grantee": key, "actions": ["profile.read"] });
    assert_eq!(problem(&app.admin.post("/v1/mandates", &terms).await.unwrap()).0, 409);

    renew_consent(app, entrusted).await;
    let mended = ok(app.admin.get(&path).await.unwrap(), 200);
    assert_eq!((text(&mended, "/state"), text(&mended, "/reconnect_reason")), ("active", ""));
    for agent in [&entrusted.agent, &agent_at(&second, entrusted)] {
        assert_eq!(read(agent, entrusted).await, 200);
    }
    assert_eq!((platform.refreshes(), platform.replays_punished()), (before, 0));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_callers_at_two_nodes_make_one_refresh() {
    const CALLERS: usize = 200;
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = expired(&app).await;
    let second = app.second_node().await;
    let agents = [entrusted.agent.clone(), agent_at(&second, &entrusted)];
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    let calls = join_all((0..CALLERS).map(|number| read(&agents[number % 2], &entrusted)));
    // The answer is held until the other node has asked for the lease too, which writes the lease's row anew.
    let release = async {
        eventually("the platform is asked", async || platform.refreshes() > 0).await;
        app.another_asks_for_the_lease().await;
        platform.clear();
    };
    let (statuses, ()) = tokio::join!(calls, release);
    assert_eq!(statuses, vec![200; CALLERS]);
    assert_eq!((platform.refreshes(), platform.replays_punished()), (1, 0));
    assert_eq!(version(&mut app.owner().await).await, 2);
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refreshed_token_replaces_the_old_one_and_raises_no_revision() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = expired(&app).await;
    let mut owner = app.owner().await;
    let heads = "select revision from keyholder.heads where kind = 'workspace'";
    let before: i64 = sqlx::query_scalar(heads).fetch_one(&mut owner).await.unwrap();
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    // The old token dies while the provider takes its time: an act that still used it would see 401.
    let outlived = async {
        eventually("the platform is asked", async || platform.refreshes() > 0).await;
        platform.pass_time(Duration::from_secs(SOON + 1));
        platform.clear();
    };
    let (status, ()) = tokio::join!(read(&entrusted.agent, &entrusted), outlived);
    assert_eq!(status, 200);
    assert_eq!(platform.refreshes(), 1);
    let after: i64 = sqlx::query_scalar(heads).fetch_one(&mut owner).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(version(&mut owner).await, 2);
    assert_eq!(events(&mut owner, "credential.refreshed").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refresh_presents_the_token_of_the_one_before() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = expired(&app).await;
    for number in 1..=4 {
        let node = app.second_node().await;
        assert_eq!(read(&agent_at(&node, &entrusted), &entrusted).await, 200);
        assert_eq!((platform.refreshes(), platform.replays_punished()), (number, 0));
        app.age("-1 second").await;
        node.stop().await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lives_shortly_is_not_refreshed_at_every_act() {
    let app = TestApp::start().await;
    app.sandbox.platform().set_token_lifetime(50);
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    for _ in 0..5 {
        assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    }
    assert_eq!(app.sandbox.platform().refreshes(), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_the_provider_has_ended_is_the_owners_to_mend() {
    let counted = counting();
    let app = TestApp::start_with(|options| options.hook = counted.0.clone()).await;
    let entrusted = expired(&app).await;
    // Half a year without a refresh ends the grant at the platform.
    app.sandbox.platform().pass_time(Duration::from_hours(24 * 181));
    assert_eq!(crowd(&app, counted, &entrusted).await, vec![reconnect_required(); CROWD]);
    assert_eq!(app.sandbox.platform().refreshes(), 1, "the provider said no once");
    assert_mended_by_the_owner_only(&app, &entrusted, "refused").await;
    app.stop().await;
}

/// A token endpoint that answers no refresh, and may say for how long.
fn down(app: &TestApp, retry_after_s: Option<u64>) {
    let quirk = Quirk::Status { code: 503, retry_after_s };
    app.sandbox.platform().switch(quirk, Scope::always(Route::Only(Call::Refresh))).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_go_on_while_the_provider_cannot_refresh_and_the_token_still_lives() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = about_to_expire(&app).await;
    down(&app, Some(600));
    for _ in 0..20 {
        assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    }
    assert_eq!(platform.refreshes(), 1, "its failure is remembered");

    // Once the token is dead, the caller is told that it is the provider that fails, and nothing is lost by it.
    app.age("-1 second").await;
    let second = app.second_node().await;
    let (status, kind) = refused(&agent_at(&second, &entrusted), &entrusted).await;
    assert_eq!((status, kind.as_str()), (502, "upstream-invalid"));
    platform.clear();
    let third = app.second_node().await;
    assert_eq!(read(&agent_at(&third, &entrusted), &entrusted).await, 200);
    assert_eq!((platform.refreshes(), platform.replays_punished()), (3, 0));
    second.stop().await;
    third.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_callers_at_a_token_endpoint_that_is_down_make_one_call_a_node() {
    const CALLERS: usize = 200;
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    down(&app, Some(600));
    let told = (502, "upstream-invalid".to_owned());
    let answers = join_all((0..CALLERS).map(|_| refused(&entrusted.agent, &entrusted))).await;
    assert_eq!(answers, vec![told.clone(); CALLERS]);
    assert_eq!(app.sandbox.platform().refreshes(), 1);

    let second = app.second_node().await;
    let agents = [entrusted.agent.clone(), agent_at(&second, &entrusted)];
    let answers = join_all((0..CALLERS).map(|number| refused(&agents[number % 2], &entrusted))).await;
    assert_eq!(answers, vec![told; CALLERS]);
    assert_eq!(app.sandbox.platform().refreshes(), 2, "the other node asked once for itself");
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_is_back_is_asked_again_by_the_node_that_it_failed() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    down(&app, None);
    assert_eq!(refused(&entrusted.agent, &entrusted).await.0, 502);
    app.sandbox.platform().clear();
    eventually("it is asked again", async || {
        let reply = entrusted.act("profile.read", &json!({}), None).await;
        reply.status == 200
    })
    .await;
    assert_eq!(app.sandbox.platform().refreshes(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_whose_token_lives_waits_for_a_refresh_that_hangs() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = about_to_expire(&app).await;
    let second = app.second_node().await;
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    let others = async {
        eventually("the platform is asked", async || platform.refreshes() > 0).await;
        // They are answered while the provider still holds its answer: here, and at a node that has not looked before.
        for agent in [&entrusted.agent, &agent_at(&second, &entrusted)] {
            assert_eq!(join_all((0..20).map(|_| read(agent, &entrusted))).await, vec![200; 20]);
        }
        assert_eq!(platform.refreshes(), 1);
        assert_eq!(version(&mut app.owner().await).await, 1);
        platform.clear();
    };
    let (first, ()) = tokio::join!(read(&entrusted.agent, &entrusted), others);
    assert_eq!(first, 200);
    assert_eq!(version(&mut app.owner().await).await, 2);
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_provider_refuses_is_refreshed_before_the_next_act_and_once() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let second = app.second_node().await;
    let agents = [entrusted.agent.clone(), agent_at(&second, &entrusted)];
    platform.expire_access_tokens(ACCOUNT);
    assert_eq!(read(&agents[0], &entrusted).await, 401);
    assert_eq!(platform.refreshes(), 0, "the answer is the act's; it is not sent twice");
    assert_eq!(read(&agents[0], &entrusted).await, 200);
    assert_eq!(read(&agents[1], &entrusted).await, 200);
    assert_eq!(platform.refreshes(), 1);

    // A provider that always says 401 does not cause a refresh per act: at neither node.
    let always = Quirk::Status { code: 401, retry_after_s: None };
    platform.switch(always, Scope::always(Route::Api)).unwrap();
    for number in 0..10 {
        assert_eq!(read(&agents[number % 2], &entrusted).await, 401);
    }
    assert_eq!((platform.refreshes(), platform.replays_punished()), (1, 0));
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_believed_to_live_for_ever() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    platform.set_token_lifetime(u64::MAX);
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let years = "select max(extract(days from expires_at - clock_timestamp()))::bigint from keyholder.credentials";
    let mut owner = app.owner().await;
    assert_eq!(sqlx::query_scalar::<_, i64>(years).fetch_one(&mut owner).await.unwrap(), 364);
    app.age("-1 second").await;
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!(version(&mut owner).await, 2);
    assert_eq!(sqlx::query_scalar::<_, i64>(years).fetch_one(&mut owner).await.unwrap(), 364);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_answer_is_lost_is_not_repeated() {
    // The platform has spent the token in each of these. To show it again would end the grant as theft.
    let cases = [
        (Quirk::LoseAnswer, "interrupted"),
        (Quirk::CutAnswer { after_bytes: 20 }, "interrupted"),
        (Quirk::MalformedJson, "unreadable_answer"),
    ];
    for (quirk, reason) in cases {
        let counted = counting();
        let app = TestApp::start_with(|options| options.hook = counted.0.clone()).await;
        let platform = app.sandbox.platform();
        let entrusted = expired(&app).await;
        platform.switch(quirk.clone(), Scope::once(Route::Token)).unwrap();
        assert_eq!(crowd(&app, counted, &entrusted).await, vec![reconnect_required(); CROWD], "{quirk:?}");
        assert_eq!((platform.refreshes(), platform.replays_punished()), (1, 0), "{quirk:?}");
        assert_mended_by_the_owner_only(&app, &entrusted, reason).await;
        app.stop().await;
    }
}

/// A lease as a node would have written it, over what version of the credential and until when.
pub(crate) async fn lease(app: &TestApp, entrusted: &Entrusted, version: i64, until: &str) {
    sqlx::query(
        "insert into keyholder.refreshes (workspace_id, connection_id, fence, version, node_id, leased_until) \
         select workspace_id, id, 1, $2, gen_random_uuid(), clock_timestamp() + $3::text::interval \
         from keyholder.connections where id = $1",
    )
    .bind(connection(entrusted))
    .bind(version)
    .bind(until)
    .execute(&mut app.owner().await)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_a_dead_node_had_begun_is_not_repeated() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    lease(&app, &entrusted, version(&mut app.owner().await).await, "-1 second").await;
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());
    assert_eq!(app.sandbox.platform().refreshes(), 0, "the spent token was shown");
    assert_mended_by_the_owner_only(&app, &entrusted, "interrupted").await;
    app.stop().await;
}

/// What the lease's row says: whether the version's refresh was interrupted, and whether the lease was given back.
async fn noted(owner: &mut PgConnection) -> (bool, bool) {
    let row = "select interrupted, leased_until = '-infinity' from keyholder.refreshes";
    sqlx::query_as(row).fetch_one(owner).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_is_not_forgotten_when_its_finder_cannot_say_so() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let mut owner = app.owner().await;
    lease(&app, &entrusted, version(&mut owner).await, "-1 second").await;
    // The finder holds the lease, and the database fails it before the owner is told.
    let fails =
        "create function keyholder.fails() returns trigger language plpgsql as 'begin raise exception ''no''; end'";
    sqlx::query(fails).execute(&mut owner).await.unwrap();
    let trigger =
        "create trigger fails before update on keyholder.connections for each row execute function keyholder.fails()";
    sqlx::query(trigger).execute(&mut owner).await.unwrap();
    assert_eq!(refused(&entrusted.agent, &entrusted).await, (500, "internal".to_owned()));
    sqlx::query("drop function keyholder.fails cascade").execute(&mut owner).await.unwrap();
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());
    assert_eq!(app.sandbox.platform().refreshes(), 0, "the spent token was shown");
    assert_mended_by_the_owner_only(&app, &entrusted, "interrupted").await;
    assert_eq!(noted(&mut owner).await, (false, true), "a new consent was not interrupted");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_is_not_forgotten_when_its_finder_gives_the_lease_back() {
    // The finder may show the token once more, and the provider fails him; the next node may not.
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let mut owner = app.owner().await;
    lease(&app, &entrusted, version(&mut owner).await, "-1 second").await;
    let lenient = catalogue_with("replay = \"reuse_detected\"", "replay = \"refused\"");
    let finder = app.second_node_with(|options| options.catalogue = lenient).await;
    down(&app, None);
    assert_eq!(refused(&agent_at(&finder, &entrusted), &entrusted).await.0, 502);
    assert_eq!(noted(&mut owner).await, (true, true));
    app.sandbox.platform().clear();
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());
    assert_eq!(app.sandbox.platform().refreshes(), 1, "the token was shown again");
    assert_mended_by_the_owner_only(&app, &entrusted, "interrupted").await;
    finder.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_over_an_older_credential_is_no_interruption() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    lease(&app, &entrusted, 0, "-1 second").await;
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!(app.sandbox.platform().refreshes(), 1);
    app.stop().await;
}
