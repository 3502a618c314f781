//! Disconnecting: acts stop, the provider is told, the old token is tried once, and everything that could open it is deleted.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures_util::future::join_all;
use keyholder::{
    caller::{Caller, Reply},
    local,
};
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use service::step::{Hook, Step};
use sqlx::{Connection, PgConnection};

use crate::{
    acts::Door,
    harness::{ACCOUNT, Entrusted, TestApp, catalogue_with, eventually, ok, problem, text},
    refresh::{lease, renew_consent},
};

fn path(entrusted: &Entrusted) -> String {
    format!("/v1/connections/{}", entrusted.connection)
}

async fn count(owner: &mut PgConnection, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(owner).await.unwrap()
}

/// Nothing is left here that could open the account, or do anything with it.
async fn assert_gone(app: &TestApp, entrusted: &Entrusted, certificate: &Value) {
    let mut owner = app.owner().await;
    for statement in [
        "select count(*) from keyholder.credentials",
        "select count(*) from keyholder.refreshes",
        "select count(*) from keyholder.mandates where revoked_at is null",
        "select count(*) from keyholder.tuples where relation in ('grantee', 'ceiling')",
        "select count(*) from keyholder.jobs",
        "select count(*) from keyholder.connections where state <> 'disconnected'",
    ] {
        assert_eq!(count(&mut owner, statement).await, 0, "{statement}");
    }
    let calls = app.sandbox.platform().requests().len();
    let refused = entrusted.act("profile.read", &json!({}), None).await;
    assert_eq!(problem(&refused), (403, "forbidden".to_owned()));
    assert_eq!(app.sandbox.platform().requests().len(), calls);
    assert_eq!(problem(&app.admin.get(&path(entrusted)).await.unwrap()).0, 404);
    assert_eq!(problem(&app.admin.delete(&path(entrusted)).await.unwrap()).0, 404);
    let kept = app.admin.get(&format!("{}/certificate", path(entrusted))).await.unwrap();
    assert_eq!(ok(kept, 200), *certificate);
}

/// What the certificate says: whether the provider acknowledged, and what the old token could still do.
fn said(certificate: &Value) -> (bool, &str) {
    (certificate.pointer("/revoked_at_provider").and_then(Value::as_bool).unwrap(), text(certificate, "/old_token"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_account_is_dead_here_and_at_the_provider() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = app.entrust(&["post.create", "profile.read"], json!([])).await;
    let second = app.mandate(&entrusted.connection, &["profile.read"], json!([])).await;
    let early = app.admin.get(&format!("{}/certificate", path(&entrusted))).await.unwrap();
    assert_eq!(problem(&early).0, 404, "there is no certificate of what is not gone");
    let token = platform.last_access_token(ACCOUNT).unwrap();
    assert!(platform.is_live(&token));
    let reads = platform.calls(Call::ReadProfile);

    let certificate = ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
    assert_eq!(text(&certificate, "/connection"), entrusted.connection);
    assert_eq!(said(&certificate), (true, "dead"));
    assert!(platform.tokens(ACCOUNT).iter().all(|token| !token.live));
    assert_eq!(platform.revocations(), 1);
    assert_eq!(platform.calls(Call::ReadProfile), reads + 1, "one harmless read");
    assert_eq!(platform.refreshes(), 0, "a refresh could revive it");
    assert_gone(&app, &entrusted, &certificate).await;
    assert_eq!(second.act("profile.read", &json!({}), None).await.status, 403);

    let events = "select event from keyholder.audit where event like 'connection.disconnect%' order by at, id";
    let events: Vec<String> = sqlx::query_scalar(events).fetch_all(&mut app.owner().await).await.unwrap();
    assert_eq!(events, ["connection.disconnecting", "connection.disconnected"]);
    // The same account may be connected anew, and is another connection.
    assert_ne!(app.connect(ACCOUNT, &["profile.read"]).await, entrusted.connection);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_does_not_stop_the_deletion_and_the_certificate_says_so() {
    let down = Quirk::Status { code: 503, retry_after_s: None };
    let cases = [
        (down.clone(), Route::Revoke, (false, "alive")),
        (down, Route::Any, (false, "refused_to_say")),
        (Quirk::LoseAnswer, Route::Any, (false, "refused_to_say")),
        // The revocation had its effect; only its answer was lost, and the old token gives it away.
        (Quirk::LoseAnswer, Route::Revoke, (false, "dead")),
    ];
    for (quirk, route, expected) in cases {
        let app = TestApp::start().await;
        let entrusted = app.entrust(&["profile.read"], json!([])).await;
        app.sandbox.platform().switch(quirk.clone(), Scope::always(route)).unwrap();
        let certificate = ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
        assert_eq!(said(&certificate), expected, "{quirk:?}, {route:?}");
        assert_gone(&app, &entrusted, &certificate).await;
        app.stop().await;
    }
}

/// What is wrong, the quirks, whether the old token had expired → acknowledged, verdict, within its life, the grant may live on.
type Case = (&'static str, Vec<(Quirk, Scope)>, bool, (bool, &'static str, bool, bool));

/// What a certificate claims, as a table: how the platform behaves, and what may be said then.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_claims_no_more_than_was_seen() {
    let status = |code| Quirk::Status { code, retry_after_s: None };
    let profile = Route::Only(Call::ReadProfile);
    let down = || vec![(status(503), Scope::always(Route::Any))];
    let table: Vec<Case> = vec![
        ("nothing", vec![], false, (true, "dead", true, false)),
        ("it is down", down(), false, (false, "refused_to_say", false, true)),
        (
            "it acknowledges and does nothing",
            vec![(status(200), Scope::always(Route::Revoke))],
            false,
            (true, "alive", true, true),
        ),
        (
            "it acknowledges at the second time",
            vec![(status(503), Scope::once(Route::Revoke))],
            false,
            (true, "dead", true, false),
        ),
        (
            "it revokes at the second time",
            vec![(status(200), Scope::once(Route::Revoke))],
            false,
            (true, "dead", true, false),
        ),
        (
            "it forbids the read",
            vec![(status(403), Scope::always(profile))],
            false,
            (true, "refused_to_say", false, false),
        ),
        (
            "its answer is no account",
            vec![(status(200), Scope::always(profile))],
            false,
            (true, "refused_to_say", false, false),
        ),
        ("it is busy for a moment", vec![(status(429), Scope::once(profile))], false, (true, "dead", true, false)),
        ("the token had expired", vec![], true, (true, "refused_to_say", false, false)),
        // A refusal of what has expired looks like death; the grant lives, and the certificate must not deny it.
        (
            "the token had expired, and nothing is revoked",
            vec![(status(503), Scope::always(Route::Revoke))],
            true,
            (false, "refused_to_say", false, true),
        ),
    ];
    for (what, quirks, expired, expected) in table {
        let app = TestApp::start().await;
        let platform = app.sandbox.platform();
        let entrusted = app.entrust(&["profile.read"], json!([])).await;
        if expired {
            platform.expire_access_tokens(ACCOUNT);
            app.age("-1 minute").await;
        }
        for (quirk, scope) in quirks {
            platform.switch(quirk, scope).unwrap();
        }
        let certificate = ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
        let flag = |name: &str| certificate[name].as_bool().unwrap();
        let (verdict, acknowledged) = (text(&certificate, "/old_token"), flag("revoked_at_provider"));
        assert_eq!((acknowledged, verdict, flag("tried_within_life"), flag("grant_may_live")), expected, "{what}");
        assert_eq!(text(&certificate, "/presented"), "refresh_token", "{what}");
        assert_eq!(platform.refreshes(), 0, "{what}: a refresh could revive it");
        // The trail says the same, for whoever must end the grant at the provider.
        let said = "select detail from keyholder.audit where event = 'connection.disconnected'";
        let said: Value = sqlx::query_scalar(said).fetch_one(&mut app.owner().await).await.unwrap();
        assert_eq!((&said["grant_may_live"], &said["old_token"]), (&json!(expected.3), &json!(expected.1)), "{what}");
        assert_gone(&app, &entrusted, &certificate).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_revokes_nothing_is_asked_nothing_and_the_grant_is_said_to_live() {
    let revoke = "revoke_url = \"https://api.x.com/2/oauth2/revoke\"\n";
    let app = TestApp::start_with(|options| options.catalogue = catalogue_with(revoke, "")).await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let reads = app.sandbox.platform().calls(Call::ReadProfile);
    let certificate = ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
    assert_eq!((said(&certificate), &certificate["grant_may_live"]), ((false, "alive"), &json!(true)));
    assert_eq!(app.sandbox.platform().calls(Call::ReadProfile) - reads, 1, "to ask again could change nothing");
    assert_gone(&app, &entrusted, &certificate).await;
    app.stop().await;
}

/// What is deleted while nothing may be sent could never be revoked: the credential waits, and only it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_provider_is_waited_for_and_the_grant_is_ended_when_it_goes_on() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let token = platform.last_access_token(ACCOUNT).unwrap();
    let changed = catalogue_with("api.x.com/2/oauth2/revoke", "x.com/2/oauth2/revoke");
    let node = app.second_node_with(|options| options.catalogue = changed).await;
    let admin = Caller::new(node.url(), None).with_key(&app.first.text);
    let calls = platform.requests().len();
    let waits = admin.delete(&path(&entrusted)).await.unwrap();
    assert_eq!(problem(&waits), (503, "provider-not-migrated".to_owned()));
    assert!(text(&waits.json(), "/detail").starts_with("the disconnection has begun"));
    assert_eq!(platform.requests().len(), calls, "nothing is sent");
    let mut owner = app.owner().await;
    assert_eq!(count(&mut owner, "select count(*) from keyholder.credentials").await, 2, "the credential waits");
    let state = "select count(*) from keyholder.connections where state = 'disconnecting'";
    assert_eq!(count(&mut owner, state).await, 1);
    assert_eq!(problem(&entrusted.act("profile.read", &json!({}), None).await).0, 403, "acts have stopped");
    assert!(platform.is_live(&token));

    // The file is mended: only processes with the approved one are left.
    node.stop().await;
    sqlx::query("update keyholder.jobs set run_at = clock_timestamp()").execute(&mut owner).await.unwrap();
    let path = format!("{}/certificate", path(&entrusted));
    eventually("its job ends it", async || app.admin.get(&path).await.unwrap().status == 200).await;
    let certificate = ok(app.admin.get(&path).await.unwrap(), 200);
    assert_eq!((said(&certificate), &certificate["grant_may_live"]), ((true, "dead"), &json!(false)));
    assert!(!platform.is_live(&token));
    assert_gone(&app, &entrusted, &certificate).await;
    app.stop().await;
}

/// A renewed consent leaves the former grant, which is one of its own: the certificate speaks of that, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_renewed_consent_replaced_is_revoked_with_the_rest_or_said_to_live() {
    let opens = "select 1";
    let damaged = "update keyholder.retired_credentials set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)";
    for (damage, may_live) in [(opens, false), (damaged, true)] {
        let app = TestApp::start().await;
        let platform = app.sandbox.platform();
        let entrusted = app.entrust(&["profile.read"], json!([])).await;
        platform.switch(Quirk::Status { code: 503, retry_after_s: None }, Scope::once(Route::Revoke)).unwrap();
        renew_consent(&app, &entrusted).await;
        let live = || platform.tokens(ACCOUNT).iter().filter(|token| token.live).count();
        assert_eq!(live(), 4, "the provider did not take the former grant back");
        sqlx::query(damage).execute(&mut app.owner().await).await.unwrap();
        let certificate = ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
        assert_eq!((said(&certificate), &certificate["grant_may_live"]), ((true, "dead"), &json!(may_live)));
        assert_eq!(live(), if may_live { 2 } else { 0 });
        assert_gone(&app, &entrusted, &certificate).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connections_of_one_account_the_other_lives() {
    let app = TestApp::start().await;
    let gone = app.entrust(&["profile.read"], json!([])).await;
    let kept = app.entrust(&["profile.read"], json!([])).await;
    let certificate = ok(app.admin.delete(&path(&gone)).await.unwrap(), 200);
    assert_eq!(said(&certificate), (true, "dead"));
    assert_eq!(gone.act("profile.read", &json!({}), None).await.status, 403);
    assert_eq!(kept.act("profile.read", &json!({}), None).await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_is_no_reason_to_delete_what_could_still_be_revoked() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let token = app.sandbox.platform().last_access_token(ACCOUNT).unwrap();
    let mut owner = app.owner().await;
    // A node that does not have the data key in memory.
    let other = app.second_node().await;
    let admin = Caller::new(other.url(), None).with_key(&app.first.text);
    sqlx::query("revoke select on keyholder.data_keys from keyholder_app").execute(&mut owner).await.unwrap();
    assert_eq!(admin.delete(&path(&entrusted)).await.unwrap().status, 500);
    assert!(app.sandbox.platform().is_live(&token));
    assert!(count(&mut owner, "select count(*) from keyholder.credentials").await > 0);
    assert_eq!(problem(&admin.get(&format!("{}/certificate", path(&entrusted))).await.unwrap()).0, 404);
    sqlx::query("grant select on keyholder.data_keys to keyholder_app").execute(&mut owner).await.unwrap();
    let certificate = ok(admin.delete(&path(&entrusted)).await.unwrap(), 200);
    assert_eq!(said(&certificate), (true, "dead"));
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_does_not_open_is_deleted_all_the_same() {
    let damage = "update keyholder.credentials set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) where field = any ($1)";
    let cases: [(&[&str], (bool, &str)); 3] = [
        (&["access", "refresh"], (false, "refused_to_say")),
        (&["access"], (true, "refused_to_say")),
        // Without the refresh token, the access token can still be given back.
        (&["refresh"], (true, "dead")),
    ];
    for (fields, expected) in cases {
        let app = TestApp::start().await;
        let entrusted = app.entrust(&["profile.read"], json!([])).await;
        let calls = app.sandbox.platform().requests().len();
        sqlx::query(damage).bind(fields).execute(&mut app.owner().await).await.unwrap();
        let certificate = ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
        assert_eq!(said(&certificate), expected, "{fields:?}");
        if fields.len() == 2 {
            assert_eq!(app.sandbox.platform().requests().len(), calls);
        }
        assert_gone(&app, &entrusted, &certificate).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_disconnect_does_not() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let (unconcerned, _) = app.agent().await;
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let rival = app.stranger.with_key(&rival.text);
    let cases = [(&entrusted.agent, 403), (&unconcerned, 404), (&rival, 404), (&app.stranger, 401)];
    for (caller, status) in cases {
        assert_eq!(problem(&caller.delete(&path(&entrusted)).await.unwrap()).0, status);
    }
    assert_eq!(problem(&rival.get(&format!("{}/certificate", path(&entrusted))).await.unwrap()).0, 404);
    assert_eq!(app.sandbox.platform().calls(Call::Revoke), 0);
    assert_eq!(entrusted.act("profile.read", &json!({}), None).await.status, 200);
    ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
    assert_eq!(problem(&rival.get(&format!("{}/certificate", path(&entrusted))).await.unwrap()).0, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_leave_one_certificate_and_no_work() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let path = path(&entrusted);
    let replies = join_all((0..4).map(|_| app.admin.delete(&path))).await;
    let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    let certificates: Vec<_> = replies.iter().filter(|reply| reply.status == 200).map(Reply::json).collect();
    assert!(!certificates.is_empty());
    assert!(certificates.iter().all(|certificate| *certificate == certificates[0]), "{certificates:?}");
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!(problem(reply).0, 404);
    }
    assert_gone(&app, &entrusted, &certificates[0]).await;
    app.stop().await;
}

/// A hook that ends the work at this step, as a crash would.
fn crash_at(fatal: Step) -> (Hook, Arc<AtomicU32>) {
    let crashes = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&crashes);
    let hook = Hook::new(move |step| {
        if step == fatal {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("a crash at {}", step.as_str());
        }
    });
    (hook, crashes)
}

/// Makes what waits due, again and again, until the certificate is there. The limit keeps a failing test from hanging.
async fn certificate_by_the_job(app: &TestApp, owner: &mut PgConnection, entrusted: &Entrusted) -> Value {
    for _ in 0..3_000 {
        sqlx::query("update keyholder.jobs set run_at = clock_timestamp()").execute(&mut *owner).await.unwrap();
        let reply = app.admin.get(&format!("{}/certificate", path(entrusted))).await.unwrap();
        if reply.status == 200 {
            return reply.json();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("nobody finished the disconnection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnection_that_broke_off_is_finished_by_another_node() {
    for fatal in [Step::DisconnectRevoke, Step::DisconnectDelete] {
        let (hook, crashes) = crash_at(fatal);
        let app = TestApp::start_with(|options| options.hook = hook).await;
        let entrusted = app.entrust(&["profile.read"], json!([])).await;
        let broken = app.admin.delete(&path(&entrusted)).await.unwrap();
        assert_eq!(problem(&broken), (500, "internal".to_owned()), "{fatal:?}");
        assert_eq!(crashes.load(Ordering::SeqCst), 1);

        // Acts have stopped, and it is said what is going on; nothing is claimed that was not done.
        let refused = entrusted.act("profile.read", &json!({}), None).await;
        assert_eq!(problem(&refused), (403, "outside-mandate".to_owned()));
        assert_eq!(text(&ok(app.admin.get(&path(&entrusted)).await.unwrap(), 200), "/state"), "disconnecting");
        assert_eq!(problem(&app.admin.get(&format!("{}/certificate", path(&entrusted))).await.unwrap()).0, 404);
        let mut owner = app.owner().await;
        assert_eq!(count(&mut owner, "select count(*) from keyholder.jobs where run_at > clock_timestamp()").await, 1);

        // The first node crashes whenever it tries: what is finished now is finished by the second.
        let second = app.second_node().await;
        let certificate = certificate_by_the_job(&app, &mut owner, &entrusted).await;
        assert_eq!(said(&certificate), (true, "dead"), "{fatal:?}");
        assert_gone(&app, &entrusted, &certificate).await;
        second.stop().await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnection_that_broke_off_may_be_asked_for_again() {
    let (hook, _) = crash_at(Step::DisconnectDelete);
    let app = TestApp::start_with(|options| options.hook = hook).await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    assert_eq!(app.admin.delete(&path(&entrusted)).await.unwrap().status, 500);
    let second = app.second_node().await;
    let admin = Caller::new(second.url(), None).with_key(&app.first.text);
    let certificate = ok(admin.delete(&path(&entrusted)).await.unwrap(), 200);
    assert_eq!(said(&certificate), (true, "dead"));
    assert_gone(&app, &entrusted, &certificate).await;
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_on_its_way_does_not_bring_a_disconnected_account_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    app.age("55 seconds").await;
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    let disconnect = async {
        eventually("the platform is asked", async || platform.refreshes() > 0).await;
        let certificate = ok(app.admin.delete(&path(&entrusted)).await.unwrap(), 200);
        platform.clear();
        certificate
    };
    let nothing = json!({});
    let (late, certificate) = tokio::join!(entrusted.act("profile.read", &nothing, None), disconnect);
    assert_ne!(late.status, 200);
    assert_eq!(said(&certificate), (true, "dead"));
    assert!(platform.tokens(ACCOUNT).iter().all(|token| !token.live), "the late token lives");
    assert_gone(&app, &entrusted, &certificate).await;
    app.stop().await;
}

/// The lease's row comes first and the credentials after it, for everybody who changes them: whoever seals them anew meanwhile is waited for
/// before any of them is touched, so that neither waits for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnection_waits_for_a_reseal_before_it_holds_what_that_needs() {
    let (door, hook) = Door::new(Step::DisconnectDelete, || ());
    let app = TestApp::start_with(|options| options.hook = hook).await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    lease(&app, &entrusted, 1, "-1 second").await;
    door.set_shut(true);
    let path = path(&entrusted);
    let reseal = async {
        door.reached().await;
        let mut owner = app.owner().await;
        let mut reseal = owner.begin().await.unwrap();
        sqlx::query("select from keyholder.refreshes for update").execute(&mut *reseal).await.unwrap();
        door.set_shut(false);
        door.let_go();
        app.lock_is_waited_for(1).await;
        let fields = "select from keyholder.credentials for update nowait";
        assert_eq!(sqlx::query(fields).execute(&mut *reseal).await.unwrap().rows_affected(), 2);
        reseal.commit().await.unwrap();
    };
    let (certificate, ()) = tokio::join!(app.admin.delete(&path), reseal);
    assert_gone(&app, &entrusted, &ok(certificate.unwrap(), 200)).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_redeems_is_given_back_to_the_provider() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    let link = app.link(&["profile.read"]).await;
    app.consent(&app.stranger.with_no_cookies(), &link, ACCOUNT, &["profile.read"]).await;
    let token = app.sandbox.platform().last_access_token(ACCOUNT).unwrap();
    assert!(app.sandbox.platform().is_live(&token), "inert here, alive there");
    // A quarter of an hour passes.
    sqlx::query("update keyholder.jobs set run_at = now() where kind = 'abandon'").execute(&mut owner).await.unwrap();
    crate::harness::eventually("the grant is given back", async || !app.sandbox.platform().is_live(&token)).await;
    let gone = async || {
        let mut sql = app.owner().await;
        count(&mut sql, "select count(*) from keyholder.connections where state = 'disconnected'").await == 1
    };
    crate::harness::eventually("the connection is gone", gone).await;
    assert_eq!(count(&mut owner, "select count(*) from keyholder.credentials").await, 0);
    assert_eq!(count(&mut owner, "select count(*) from keyholder.jobs").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeemed_connection_is_kept() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    app.connect(ACCOUNT, &["profile.read"]).await;
    assert_eq!(count(&mut owner, "select count(*) from keyholder.jobs").await, 0, "the job went with the redemption");
    app.stop().await;
}

/// Its redemption and the job may meet: the job then finds nothing to take apart, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_too_late_for_a_redeemed_connection_ends_without_harm() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    app.connect(ACCOUNT, &["profile.read"]).await;
    let late = "insert into keyholder.jobs (workspace_id, id, kind, subject, run_at) \
                select workspace_id, gen_random_uuid(), 'abandon', id, now() from keyholder.connections";
    sqlx::query(late).execute(&mut owner).await.unwrap();
    let ended = async || count(&mut app.owner().await, "select count(*) from keyholder.jobs").await == 0;
    crate::harness::eventually("the job has ended", ended).await;
    assert_eq!(count(&mut owner, "select count(*) from keyholder.connections where state = 'active'").await, 1);
    app.stop().await;
}
