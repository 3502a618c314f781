//! The journal of a refresh: an answer that was received whole is not lost, whatever ends in that moment, and one that nobody wants is
//! given back.

mod consent;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use domain::provider::Catalogue;
use keyholder::{Instance, InstanceOptions, caller::Caller};
use sandbox::{Call, Quirk, Route, Scope, SpentRule};
use serde_json::json;
use service::step::{Hook, Step};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::{
    harness::{ACCOUNT, Entrusted, TestApp, catalogue_with, eventually, ok, text},
    refresh::{
        about_to_expire, agent_at, assert_mended_by_the_owner_only, events, expired, lease, read, reconnect_required,
        refused, version,
    },
};

/// Ends the work at this step, as a crash would: what runs beside it goes on.
fn crash_at(fatal: Step) -> Hook {
    Hook::new(move |step| assert_ne!(step, fatal, "a crash at {}", step.as_str()))
}

/// A node with a state folder of its own.
async fn node_on(app: &TestApp, state: &Path, hook: Hook) -> Instance {
    let change = |options: &mut InstanceOptions| {
        state.clone_into(&mut options.state_dir);
        options.hook = hook;
    };
    app.second_node_with(change).await
}

/// The files that wait in a state folder, and those that were kept aside.
fn files(state: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(state.join("spill")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).filter(|path| !path.ends_with("lock")).collect()
}

/// A state folder with an answer in it that the database never heard of; its node is gone.
async fn spilled(app: &TestApp, entrusted: &Entrusted) -> TempDir {
    let state = tempfile::tempdir().unwrap();
    let victim = node_on(app, state.path(), crash_at(Step::RefreshStore)).await;
    assert_eq!(refused(&agent_at(&victim, entrusted), entrusted).await, (500, "internal".to_owned()));
    victim.stop().await;
    assert_eq!(version(&mut app.owner().await).await, 1);
    assert_eq!(files(state.path()).len(), 1);
    state
}

async fn settled(app: &TestApp, state: &Path) {
    eventually("the answer is settled", async || files(state).is_empty()).await;
    assert_eq!(app.sandbox.platform().replays_punished(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_survives_the_work_that_received_it() {
    let state = tempfile::tempdir().unwrap();
    let crashes = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&crashes);
    let hook = Hook::new(move |step| {
        assert!(step != Step::RefreshStore || counted.fetch_add(1, Ordering::SeqCst) > 0, "a crash");
    });
    let app = TestApp::start_with(|options| (options.hook, options.state_dir) = (hook, state.path().to_owned())).await;
    let entrusted = expired(&app).await;
    assert_eq!(refused(&entrusted.agent, &entrusted).await.0, 500);
    assert_eq!(crashes.load(Ordering::SeqCst), 1);
    // The next act does not show the spent token: it finds the answer first.
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!((app.sandbox.platform().refreshes(), version(&mut app.owner().await).await), (1, 2));
    settled(&app, state.path()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_survives_its_process_and_is_stored_by_the_next_one_in_its_folder() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let state = spilled(&app, &entrusted).await;
    let next = node_on(&app, state.path(), Hook::default()).await;
    settled(&app, state.path()).await;
    let mut owner = app.owner().await;
    assert_eq!((version(&mut owner).await, events(&mut owner, "credential.recovered").await), (2, 1));
    assert_eq!(read(&agent_at(&next, &entrusted), &entrusted).await, 200);
    assert_eq!(app.sandbox.platform().refreshes(), 1);
    next.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_shares_the_folder_takes_over_what_a_dead_one_left() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let victim = app.second_node_with(|options| options.hook = crash_at(Step::RefreshStore)).await;
    assert_eq!(refused(&agent_at(&victim, &entrusted), &entrusted).await.0, 500);
    victim.stop().await;
    // The lease is still the dead node's: whoever asks now waits, and not in vain.
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!((app.sandbox.platform().refreshes(), version(&mut app.owner().await).await), (1, 2));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_commit_leaves_a_file_that_does_no_harm() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = expired(&app).await;
    let state = tempfile::tempdir().unwrap();
    let victim = node_on(&app, state.path(), crash_at(Step::RefreshClear)).await;
    assert_eq!(refused(&agent_at(&victim, &entrusted), &entrusted).await.0, 500);
    victim.stop().await;
    assert_eq!((version(&mut app.owner().await).await, files(state.path()).len()), (2, 1));
    // Another refresh comes before the file is looked at: its pair is a parent of the one in use now.
    app.age("-1 second").await;
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!(version(&mut app.owner().await).await, 3);
    let next = node_on(&app, state.path(), Hook::default()).await;
    settled(&app, state.path()).await;
    assert_eq!((version(&mut app.owner().await).await, platform.calls(Call::Revoke)), (3, 0));
    assert_eq!(read(&agent_at(&next, &entrusted), &entrusted).await, 200);
    next.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_given_up_lives_again_when_the_answer_is_found() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = expired(&app).await;
    let state = spilled(&app, &entrusted).await;
    // Its lease runs out, and another node finds a refresh that it may not repeat.
    let mut owner = app.owner().await;
    sqlx::query("update keyholder.refreshes set leased_until = clock_timestamp()").execute(&mut owner).await.unwrap();
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());

    let next = node_on(&app, state.path(), Hook::default()).await;
    settled(&app, state.path()).await;
    let path = format!("/v1/connections/{}", entrusted.connection);
    let found = ok(app.admin.get(&path).await.unwrap(), 200);
    assert_eq!((text(&found, "/state"), text(&found, "/reconnect_reason")), ("active", ""));
    assert_eq!(events(&mut owner, "credential.recovered").await, 1);
    for agent in [&entrusted.agent, &agent_at(&next, &entrusted)] {
        assert_eq!(read(agent, &entrusted).await, 200);
    }
    assert_eq!((platform.refreshes(), version(&mut owner).await), (1, 2));
    next.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spilled_answer_holds_nothing_in_the_clear_and_a_changed_one_is_not_believed() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let state = spilled(&app, &entrusted).await;
    let path = files(state.path()).remove(0);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let file = fs::read(&path).unwrap();
    let tokens = app.sandbox.platform().tokens(ACCOUNT);
    assert_eq!(tokens.len(), 4);
    for token in tokens {
        assert!(!file.windows(token.text.len()).any(|part| part == token.text.as_bytes()));
    }
    let changed = String::from_utf8(file).unwrap().replace("\"version\":1", "\"version\":0");
    fs::write(&path, changed).unwrap();
    let next = node_on(&app, state.path(), Hook::default()).await;
    let aside = || files(state.path()).remove(0).to_string_lossy().into_owned();
    eventually("it is kept aside", async || aside().ends_with(".unreadable")).await;
    assert_eq!((version(&mut app.owner().await).await, app.sandbox.platform().calls(Call::Revoke)), (1, 0));
    next.stop().await;
    app.stop().await;
}

/// Closes the database to everybody, or opens it again.
async fn close(app: &TestApp, closed: bool) {
    let mut sql = PgConnection::connect(&app.ground.owner_url("postgres")).await.unwrap();
    let alter = format!("alter database {} with allow_connections {}", app.database, !closed);
    sqlx::query(sqlx::AssertSqlSafe(alter)).execute(&mut sql).await.unwrap();
    if closed {
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        sqlx::query(cut).bind(&app.database).execute(&mut sql).await.unwrap();
    }
}

/// Lets a refresh come as far as its answer's way into the database, and closes that to it.
async fn answered_without_a_database(prepare: impl FnOnce(&Path, &Entrusted)) -> (TestApp, Entrusted, TempDir) {
    let state = tempfile::tempdir().unwrap();
    let (at_store, arrived) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let hook = Hook::new(move |step| {
        if step == Step::RefreshStore && at_store.send(()).is_ok() {
            let _opened = tokio::task::block_in_place(|| gate.lock().unwrap().recv());
        }
    });
    let app = TestApp::start_with(|options| (options.hook, options.state_dir) = (hook, state.path().to_owned())).await;
    let entrusted = expired(&app).await;
    prepare(state.path(), &entrusted);
    let away = async {
        let arrived = tokio::task::spawn_blocking(move || arrived.recv()).await.unwrap();
        assert!(arrived.is_ok());
        close(&app, true).await;
        drop(go_on);
    };
    let (answer, ()) = tokio::join!(refused(&entrusted.agent, &entrusted), away);
    assert_eq!(answer.0, 503, "{answer:?}");
    (app, entrusted, state)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_survives_a_database_that_is_away_when_it_comes() {
    let (app, entrusted, state) = answered_without_a_database(|_, _| ()).await;
    assert_eq!(files(state.path()).len(), 1, "the answer is kept");
    close(&app, false).await;
    settled(&app, state.path()).await;
    assert_eq!(version(&mut app.owner().await).await, 2);
    eventually("acts pass again", async || entrusted.act("profile.read", &json!({}), None).await.status == 200).await;
    assert_eq!(app.sandbox.platform().refreshes(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_survives_a_database_and_a_disk_that_are_away_when_it_comes() {
    // What stands where its file would be written makes the disk refuse it.
    let block = |state: &Path, entrusted: &Entrusted| {
        fs::create_dir(state.join("spill/0").join(format!("{}.1.new", entrusted.connection))).unwrap();
    };
    let (app, entrusted, state) = answered_without_a_database(block).await;
    assert!(files(state.path()).iter().all(|path| path.is_dir()), "the answer is on no disk");
    close(&app, false).await;
    eventually("acts pass again", async || entrusted.act("profile.read", &json!({}), None).await.status == 200).await;
    assert_eq!(version(&mut app.owner().await).await, 2);
    assert_eq!((app.sandbox.platform().refreshes(), app.sandbox.platform().replays_punished()), (1, 0));
    app.stop().await;
}

/// What is in memory only has one more chance when its process stops.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_only_memory_holds_is_stored_when_its_process_stops() {
    let block = |state: &Path, entrusted: &Entrusted| {
        fs::create_dir(state.join("spill/0").join(format!("{}.1.new", entrusted.connection))).unwrap();
    };
    let (app, _, state) = answered_without_a_database(block).await;
    close(&app, false).await;
    let mut owner = app.owner().await;
    let TestApp { instance, sandbox, .. } = app;
    instance.stop().await;
    assert!(files(state.path()).iter().all(|path| path.is_dir()), "the answer is on no disk");
    assert_eq!((version(&mut owner).await, sandbox.platform().refreshes()), (2, 1));
    sandbox.shutdown().await;
}

/// The server undoes a transaction for the sake of another, which is over by then.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_transaction_lost_a_race_is_stored_at_once() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    for (times, sqlstate) in [(1_i64, "40001"), (2, "40P01")] {
        app.age("-1 second").await;
        app.lose_races("credentials", sqlstate, 1).await;
        // A node that has not looked at the credential yet.
        let node = app.second_node().await;
        assert_eq!(read(&agent_at(&node, &entrusted), &entrusted).await, 200, "{sqlstate}");
        let platform = app.sandbox.platform();
        assert_eq!((version(&mut app.owner().await).await, platform.refreshes()), (times + 1, times.unsigned_abs()));
        node.stop().await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_go_on_while_the_state_folder_cannot_be_used_and_the_token_still_lives() {
    let state = tempfile::tempdir().unwrap();
    let app = TestApp::start_with(|options| options.state_dir = state.path().to_owned()).await;
    let entrusted = about_to_expire(&app).await;
    fs::remove_dir_all(state.path().join("spill")).unwrap();
    for _ in 0..3 {
        assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    }
    assert_eq!(app.sandbox.platform().refreshes(), 0, "nobody knows whether an answer waits there");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_back_keeps_nobody_from_the_new_consent() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    platform.set_spent_rule(SpentRule::Forgotten);
    let entrusted = expired(&app).await;
    let state = spilled(&app, &entrusted).await;
    crate::refresh::renew_consent(&app, &entrusted).await;
    // The grant that the consent replaced goes back first: only the answer in the file is refused.
    eventually("the old grant is given back", async || {
        let left: i64 = sqlx::query_scalar("select count(*) from keyholder.retired_credentials")
            .fetch_one(&mut app.owner().await)
            .await
            .unwrap();
        left == 0
    })
    .await;
    platform.switch(Quirk::Status { code: 503, retry_after_s: None }, Scope::always(Route::Revoke)).unwrap();
    app.age("-1 second").await;
    let next = node_on(&app, state.path(), Hook::default()).await;
    assert_eq!(read(&agent_at(&next, &entrusted), &entrusted).await, 200);
    assert_eq!((platform.refreshes(), version(&mut app.owner().await).await), (2, 3));
    assert_eq!(files(state.path()).len(), 1, "it waits to be given back");
    platform.clear();
    settled(&app, state.path()).await;
    assert!(!platform.tokens(ACCOUNT)[3].live, "the refresh token of the spilled pair lives");
    next.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_with_its_workspace() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let state = spilled(&app, &entrusted).await;
    // An installation with the same keys that does not know the workspace.
    let other = TestApp::start().await;
    let next = node_on(&other, state.path(), Hook::default()).await;
    settled(&other, state.path()).await;
    assert_eq!(app.sandbox.platform().calls(Call::Revoke), 0);
    next.stop().await;
    other.stop().await;
    app.stop().await;
}

/// Sends an act whose refresh is held at the provider, does something meanwhile, and lets the answer go.
async fn meanwhile(app: &TestApp, agent: &Caller, entrusted: &Entrusted, done: impl AsyncFnOnce()) -> u16 {
    let platform = app.sandbox.platform().clone();
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    let act = async { agent.act(&entrusted.mandate, "profile.read", &json!({}), None).await.unwrap() };
    let other = async {
        eventually("the platform is asked", async || platform.refreshes() > 0).await;
        done().await;
        platform.clear();
    };
    let (reply, ()) = tokio::join!(act, other);
    reply.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_the_lease_was_taken_over_is_stored_if_nobody_was_quicker() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let status = meanwhile(&app, &entrusted.agent, &entrusted, async || {
        let taken = "update keyholder.refreshes set fence = fence + 1, leased_until = clock_timestamp()";
        assert_eq!(sqlx::query(taken).execute(&mut app.owner().await).await.unwrap().rows_affected(), 1);
    })
    .await;
    assert_eq!(status, 200);
    assert_eq!((app.sandbox.platform().refreshes(), version(&mut app.owner().await).await), (1, 2));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_another_was_stored_is_void_and_ends_nothing() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    let mut owner = app.owner().await;
    let sealed = "select sealed from keyholder.credentials order by field";
    let before: Vec<Vec<u8>> = sqlx::query_scalar(sealed).fetch_all(&mut owner).await.unwrap();
    let status = meanwhile(&app, &entrusted.agent, &entrusted, async || {
        let mut owner = app.owner().await;
        let taken = "update keyholder.refreshes set fence = fence + 1, leased_until = '-infinity'";
        sqlx::query(taken).execute(&mut owner).await.unwrap();
        let stored = "update keyholder.credentials set version = 2, expires_at = clock_timestamp() + interval '1 hour'";
        sqlx::query(stored).execute(&mut owner).await.unwrap();
    })
    .await;
    assert_eq!(status, 200);
    let after: Vec<Vec<u8>> = sqlx::query_scalar(sealed).fetch_all(&mut owner).await.unwrap();
    assert_eq!(before, after);
    let platform = app.sandbox.platform();
    assert_eq!((platform.refreshes(), platform.calls(Call::Revoke), platform.replays_punished()), (1, 0, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_new_consent_has_overtaken_is_given_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    // What was spent is forgotten here: to revoke the token before ends nothing that came from it.
    platform.set_spent_rule(SpentRule::Forgotten);
    let entrusted = expired(&app).await;
    let status = meanwhile(&app, &entrusted.agent, &entrusted, async || {
        crate::refresh::renew_consent(&app, &entrusted).await;
    })
    .await;
    assert_eq!(status, 200, "by the new consent");
    let live: Vec<_> = platform.tokens(ACCOUNT).into_iter().map(|token| token.live).collect();
    // The first consent's pair, the late answer's, and the new consent's.
    assert_eq!(live[2..], [false, false, true, true], "{live:?}");
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_disconnection_has_overtaken_is_given_back_and_dead() {
    let state = tempfile::tempdir().unwrap();
    let app = TestApp::start_with(|options| options.state_dir = state.path().to_owned()).await;
    let platform = app.sandbox.platform();
    platform.set_spent_rule(SpentRule::Forgotten);
    let entrusted = expired(&app).await;
    let status = meanwhile(&app, &entrusted.agent, &entrusted, async || {
        let path = format!("/v1/connections/{}", entrusted.connection);
        ok(app.admin.delete(&path).await.unwrap(), 200);
        let tokens = platform.tokens(ACCOUNT);
        assert!(tokens.iter().any(|token| token.live), "the late pair lives until it is given back");
    })
    .await;
    assert_ne!(status, 200);
    settled(&app, state.path()).await;
    let live: Vec<_> = platform.tokens(ACCOUNT).into_iter().map(|token| (token.kind, token.live)).collect();
    assert!(!live[3].1, "the late refresh token lives: {live:?}");
    let kept: i64 = sqlx::query_scalar("select count(*) from keyholder.credentials")
        .fetch_one(&mut app.owner().await)
        .await
        .unwrap();
    assert_eq!(kept, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_left_of_a_connection_that_is_gone_is_given_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    platform.set_spent_rule(SpentRule::Forgotten);
    let entrusted = expired(&app).await;
    let state = spilled(&app, &entrusted).await;
    ok(app.admin.delete(&format!("/v1/connections/{}", entrusted.connection)).await.unwrap(), 200);
    // The provider fails at first: the file stays until it has acknowledged.
    platform.switch(Quirk::Status { code: 503, retry_after_s: None }, Scope::once(Route::Revoke)).unwrap();
    let next = node_on(&app, state.path(), Hook::default()).await;
    settled(&app, state.path()).await;
    assert!(!platform.tokens(ACCOUNT)[3].live, "the refresh token of the spilled pair lives");
    next.stop().await;
    app.stop().await;
}

/// The provider files, with this rule for a refresh token that comes again.
fn ruled(word: &str) -> Catalogue {
    catalogue_with("replay = \"reuse_detected\"", &format!("replay = \"{word}\""))
}

/// A server whose provider treats a spent refresh token by this rule, in its file and in fact.
async fn under(word: &str, rule: SpentRule) -> TestApp {
    let catalogue = ruled(word);
    let app = TestApp::start_with(|options| options.catalogue = catalogue).await;
    app.sandbox.platform().set_spent_rule(rule);
    app
}

/// The token is spent at the platform, and the node that was answered is gone without a trace of the answer.
async fn interrupt(app: &TestApp, entrusted: &Entrusted) {
    let state = spilled(app, entrusted).await;
    fs::remove_file(files(state.path()).remove(0)).unwrap();
    let mut owner = app.owner().await;
    sqlx::query("update keyholder.refreshes set leased_until = clock_timestamp()").execute(&mut owner).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_refresh_is_not_repeated_where_that_would_be_theft() {
    let app = TestApp::start().await;
    let entrusted = expired(&app).await;
    interrupt(&app, &entrusted).await;
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());
    assert_eq!(app.sandbox.platform().refreshes(), 1);
    assert_mended_by_the_owner_only(&app, &entrusted, "interrupted").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_refresh_is_tried_once_more_where_a_spent_token_is_only_refused() {
    // The call never had its effect: the second try brings a new pair.
    let app = under("refused", SpentRule::Forgotten).await;
    let entrusted = expired(&app).await;
    lease(&app, &entrusted, 1, "-1 second").await;
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!(app.sandbox.platform().refreshes(), 1);
    app.stop().await;

    // It had: the second try is refused, and that is the end.
    let app = under("refused", SpentRule::Forgotten).await;
    let entrusted = expired(&app).await;
    interrupt(&app, &entrusted).await;
    assert_eq!(refused(&entrusted.agent, &entrusted).await, reconnect_required());
    assert_eq!(app.sandbox.platform().refreshes(), 2);
    assert_mended_by_the_owner_only(&app, &entrusted, "interrupted").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_refresh_is_repeated_where_the_answer_is_too() {
    let app = under("repeatable", SpentRule::Repeated).await;
    let platform = app.sandbox.platform();
    let entrusted = expired(&app).await;
    interrupt(&app, &entrusted).await;
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    assert_eq!((platform.refreshes(), version(&mut app.owner().await).await), (2, 2));

    // So is one whose answer was lost on the way, once the provider had its rest.
    app.age("-1 second").await;
    let fresh = app.second_node_with(|options| options.catalogue = ruled("repeatable")).await;
    platform.switch(Quirk::LoseAnswer, Scope::once(Route::Token)).unwrap();
    let agent = agent_at(&fresh, &entrusted);
    assert_eq!(refused(&agent, &entrusted).await.0, 504);
    eventually("it is repeated", async || {
        agent.act(&entrusted.mandate, "profile.read", &json!({}), None).await.unwrap().status == 200
    })
    .await;
    assert_eq!((platform.refreshes(), version(&mut app.owner().await).await), (4, 3));
    fresh.stop().await;
    app.stop().await;
}
