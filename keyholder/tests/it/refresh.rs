//! Refresh: one call to the provider for any number of callers, and never the same token twice, whatever is lost on the way.
//!
//! A token that is given 30 s to live is about to expire from its first moment.

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
use sandbox::{Call, Platform, Quirk, Route, Scope};
use serde_json::{Value, json};
use service::step::{Hook, Step};
use sqlx::{PgConnection, types::Uuid};
use url::Url;

use crate::harness::{ACCOUNT, Entrusted, RETURN, TestApp, home, ok, problem, query, text};

const SOON: u64 = 30;
const LATER: u64 = 7200;

/// A connection whose token is about to expire; the next one is not.
async fn about_to_expire(app: &TestApp) -> Entrusted {
    app.sandbox.platform().set_token_lifetime(SOON);
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    app.sandbox.platform().set_token_lifetime(LATER);
    entrusted
}

/// The agent, at another node.
fn agent_at(node: &Instance, entrusted: &Entrusted) -> Caller {
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
        while waiting.load(Ordering::SeqCst) < CROWD {
            tokio::task::yield_now().await;
        }
        let free = "update keyholder.refreshes set leased_until = '-infinity'";
        sqlx::query(free).execute(&mut owner).await.unwrap();
    };
    let (answers, ()) = tokio::join!(calls, release);
    second.stop().await;
    answers
}

/// The provider's status for an act that passes.
async fn read(agent: &Caller, entrusted: &Entrusted) -> u64 {
    let reply = agent.act(&entrusted.mandate, "profile.read", &json!({}), None).await.unwrap();
    ok(reply, 200).pointer("/status").and_then(Value::as_u64).unwrap()
}

/// The problem of an act that does not.
async fn refused(agent: &Caller, entrusted: &Entrusted) -> (u16, String) {
    problem(&agent.act(&entrusted.mandate, "profile.read", &json!({}), None).await.unwrap())
}

fn reconnect_required() -> (u16, String) {
    (503, "reconnect-required".to_owned())
}

fn connection(entrusted: &Entrusted) -> Uuid {
    entrusted.connection.parse::<ConnectionId>().unwrap().uuid()
}

async fn version(owner: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select max(version) from keyholder.credentials").fetch_one(owner).await.unwrap()
}

async fn events(owner: &mut PgConnection, event: &str) -> i64 {
    sqlx::query_scalar("select count(*) from keyholder.audit where event = $1")
        .bind(event)
        .fetch_one(owner)
        .await
        .unwrap()
}

/// Everybody is told that only the owner can mend it; the provider is not asked again; and the owner can.
async fn assert_mended_by_the_owner_only(app: &TestApp, entrusted: &Entrusted) {
    let platform = app.sandbox.platform();
    let before = platform.refreshes();
    let path = format!("/v1/connections/{}", entrusted.connection);
    assert_eq!(text(&ok(app.admin.get(&path).await.unwrap(), 200), "/state"), "reconnect_required");
    let mut owner = app.owner().await;
    assert_eq!(events(&mut owner, "connection.reconnect_required").await, 1);
    let second = app.second_node().await;
    for agent in [&entrusted.agent, &agent_at(&second, entrusted)] {
        assert_eq!(refused(agent, entrusted).await, reconnect_required());
    }
    assert_eq!(platform.refreshes(), before, "the provider was asked again");
    let (_, key) = app.agent().await;
    let terms = json!({ "connection": entrusted.connection, "grantee": key, "actions": ["profile.read"] });
    assert_eq!(problem(&app.admin.post("/v1/mandates", &terms).await.unwrap()).0, 409);

    let wanted = json!({ "provider": PROVIDER, "actions": ["profile.read"], "return_url": RETURN,
        "connection": entrusted.connection });
    let link = ok(app.admin.post("/v1/connect-links", &wanted).await.unwrap(), 201);
    let link = Url::parse(text(&link, "/url")).unwrap().path().to_owned();
    let back = app.consent(&app.stranger.with_no_cookies(), &link, ACCOUNT, &["profile.read"]).await;
    assert_eq!(query(&back, "keyholder_connection").as_deref(), Some(entrusted.connection.as_str()));
    assert_eq!(text(&ok(app.admin.get(&path).await.unwrap(), 200), "/state"), "active");
    for agent in [&entrusted.agent, &agent_at(&second, entrusted)] {
        assert_eq!(read(agent, entrusted).await, 200);
    }
    assert_eq!((platform.refreshes(), platform.replays_punished()), (before, 0));
    second.stop().await;
}

/// Which transaction wrote the lease's row last.
async fn writer_of_the_lease(owner: &mut PgConnection) -> String {
    sqlx::query_scalar("select xmin::text from keyholder.refreshes").fetch_one(owner).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_callers_at_two_nodes_make_one_refresh() {
    const CALLERS: usize = 200;
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = about_to_expire(&app).await;
    let second = app.second_node().await;
    let agents = [entrusted.agent.clone(), agent_at(&second, &entrusted)];
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    let calls = join_all((0..CALLERS).map(|number| read(&agents[number % 2], &entrusted)));
    // The answer is held until the other node has asked for the lease too, which writes the lease's row anew.
    let release = async {
        while platform.refreshes() == 0 {
            tokio::task::yield_now().await;
        }
        let mut owner = app.owner().await;
        let first = writer_of_the_lease(&mut owner).await;
        while writer_of_the_lease(&mut owner).await == first {}
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
    let entrusted = about_to_expire(&app).await;
    let mut owner = app.owner().await;
    let heads = "select revision from keyholder.heads where kind = 'workspace'";
    let before: i64 = sqlx::query_scalar(heads).fetch_one(&mut owner).await.unwrap();
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    // The old token dies while the provider takes its time: an act that still used it would see 401.
    let outlived = async {
        while platform.refreshes() == 0 {
            tokio::task::yield_now().await;
        }
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
    let entrusted = about_to_expire(&app).await;
    platform.set_token_lifetime(SOON);
    let second = app.second_node().await;
    let agents = [entrusted.agent.clone(), agent_at(&second, &entrusted)];
    for number in 0..6 {
        assert_eq!(read(&agents[number % 2], &entrusted).await, 200);
    }
    assert_eq!((platform.refreshes(), platform.replays_punished()), (6, 0));
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_the_provider_has_ended_is_the_owners_to_mend() {
    let counted = counting();
    let app = TestApp::start_with(|options| options.hook = counted.0.clone()).await;
    let entrusted = about_to_expire(&app).await;
    // Half a year without a refresh ends the grant at the platform.
    app.sandbox.platform().pass_time(Duration::from_hours(24 * 181));
    assert_eq!(crowd(&app, counted, &entrusted).await, vec![reconnect_required(); CROWD]);
    assert_eq!(app.sandbox.platform().refreshes(), 1, "the provider said no once");
    assert_mended_by_the_owner_only(&app, &entrusted).await;
    app.stop().await;
}

/// Whether the provider is asked, by a node that has asked before and by one that has not.
async fn acts_go_on(platform: &Platform, agents: &[Caller], entrusted: &Entrusted) {
    for agent in agents {
        let before = platform.refreshes();
        assert_eq!(read(agent, entrusted).await, 200);
        assert_eq!(platform.refreshes(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_go_on_while_the_provider_cannot_refresh_and_the_token_still_lives() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    platform.set_token_lifetime(SOON);
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let (warm, cold) = (app.second_node().await, app.second_node().await);
    let agents = [agent_at(&warm, &entrusted), agent_at(&cold, &entrusted)];
    acts_go_on(platform, &agents[..1], &entrusted).await;
    platform
        .switch(Quirk::Status { code: 503, retry_after_s: None }, Scope::always(Route::Only(Call::Refresh)))
        .unwrap();
    acts_go_on(platform, &agents, &entrusted).await;

    // Once the token is dead, the caller is told that it is the provider that fails, and nothing is lost by it.
    let mut owner = app.owner().await;
    sqlx::query("update keyholder.credentials set expires_at = clock_timestamp()").execute(&mut owner).await.unwrap();
    for agent in &agents {
        let (status, kind) = refused(agent, &entrusted).await;
        assert_eq!((status, kind.as_str()), (502, "upstream-invalid"));
    }
    platform.clear();
    acts_go_on(platform, &agents, &entrusted).await;
    assert_eq!(platform.replays_punished(), 0);
    warm.stop().await;
    cold.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_answer_is_lost_is_not_repeated() {
    // The platform has spent the token in each of these. To show it again would end the grant as theft.
    for quirk in [Quirk::LoseAnswer, Quirk::CutAnswer { after_bytes: 20 }, Quirk::MalformedJson] {
        let counted = counting();
        let app = TestApp::start_with(|options| options.hook = counted.0.clone()).await;
        let platform = app.sandbox.platform();
        let entrusted = about_to_expire(&app).await;
        platform.switch(quirk.clone(), Scope::once(Route::Token)).unwrap();
        assert_eq!(crowd(&app, counted, &entrusted).await, vec![reconnect_required(); CROWD], "{quirk:?}");
        assert_eq!((platform.refreshes(), platform.replays_punished()), (1, 0), "{quirk:?}");
        assert_mended_by_the_owner_only(&app, &entrusted).await;
        app.stop().await;
    }
}

/// A lease as a node would have written it, over what version of the credential and until when.
async fn lease(app: &TestApp, entrusted: &Entrusted, version: i64, until: &str) {
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
    let entrusted = about_to_expire(&app).await;
    lease(&app, &entrusted, version(&mut app.owner().await).await, "-1 second").await;
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());
    assert_eq!(app.sandbox.platform().refreshes(), 0, "the spent token was shown");
    assert_mended_by_the_owner_only(&app, &entrusted).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_over_an_older_credential_is_no_interruption() {
    let app = TestApp::start().await;
    let entrusted = about_to_expire(&app).await;
    lease(&app, &entrusted, 0, "-1 second").await;
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!(app.sandbox.platform().refreshes(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_the_lease_was_taken_over_is_void() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = about_to_expire(&app).await;
    let mut owner = app.owner().await;
    let sealed = "select sealed from keyholder.credentials order by field";
    let before: Vec<Vec<u8>> = sqlx::query_scalar(sealed).fetch_all(&mut owner).await.unwrap();
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    let nothing = json!({});
    let late = entrusted.act("profile.read", &nothing, None);
    let taken_over = async {
        while platform.refreshes() == 0 {
            tokio::task::yield_now().await;
        }
        let taken = sqlx::query("update keyholder.refreshes set fence = fence + 1, leased_until = clock_timestamp()")
            .execute(&mut app.owner().await)
            .await
            .unwrap();
        assert_eq!(taken.rows_affected(), 1);
        platform.clear();
    };
    let (late, ()) = tokio::join!(late, taken_over);
    assert_ne!(late.status, 200);
    let after: Vec<Vec<u8>> = sqlx::query_scalar(sealed).fetch_all(&mut owner).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());
    assert_eq!((platform.refreshes(), platform.replays_punished()), (1, 0));
    app.stop().await;
}
