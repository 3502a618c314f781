//! The rule of two persons, attacked: over the API, and at the database with the application's own login.

use domain::id::{Id, InstallationId};
use keyholder::caller::{Caller, Reply};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{ACTION, DRILLS, approve, dismiss, person, proposed, state};
use crate::{
    harness::{TestApp, eventually, ok, problem, text},
    isolation::{backend, context, set_context},
};

/// What the installation's trail says of refused approvals, oldest first.
async fn refusals(app: &TestApp) -> Vec<String> {
    let why = "select detail ->> 'why' from keyholder.installation_audit where event = 'kill_drill.approval_refused' order by id";
    sqlx::query_scalar(why).fetch_all(&mut app.owner().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_is_one_person_whatever_he_shows() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&[ACTION], json!([])).await;
    let (first, first_key) = person(&app, "first").await;
    let (again, _) = person(&app, "first").await;
    let (second, second_key) = person(&app, "second").await;
    let (third, _) = person(&app, "third").await;
    let refused = async |by: &Caller, drill: &str| problem(&approve(by, drill).await).0;

    let drill = proposed(&first, None).await;
    assert_eq!(refused(&first, &drill).await, 403, "his own proposal");
    assert_eq!(refused(&again, &drill).await, 403, "his own proposal, by another key of his");
    let nowhere = format!("{DRILLS}/{}", domain::id::KillDrillId::new(&domain::clock::Clock::system()));
    assert_eq!(refused(&second, &nowhere).await, 404);
    assert_eq!(problem(&second.get(&nowhere).await.unwrap()).0, 404);
    assert_eq!(refused(&second, &format!("{DRILLS}/{}", entrusted.connection)).await, 404, "an id of another kind");
    // Whoever manages a workspace is nobody here, and nor is an agent, nor a stranger.
    for caller in [&app.admin, &entrusted.agent, &app.stranger] {
        assert_eq!(refused(caller, &drill).await, 401);
        assert_eq!(problem(&caller.post(DRILLS, &json!({ "reason": "x" })).await.unwrap()).0, 401);
        assert_eq!(problem(&caller.get(&drill).await.unwrap()).0, 401);
    }
    // And an operator is nobody in a workspace.
    for path in ["/v1/workspace", "/v1/connections", "/v1/audit"] {
        assert_eq!(problem(&first.get(path).await.unwrap()).0, 401, "{path}");
    }
    // A key that was ended is refused at once, on a node that has just seen it.
    assert_eq!(second.get(DRILLS).await.unwrap().status, 200);
    dismiss(&app, &second_key).await;
    assert_eq!(refused(&second, &drill).await, 401, "a revoked operator");
    // Too late is too late, by the database's clock.
    let old = "update keyholder.kill_drills set expires_at = clock_timestamp() where state = 'proposed'";
    sqlx::query(old).execute(&mut app.owner().await).await.unwrap();
    assert_eq!(text(&state(&first, &drill).await, "/state"), "expired");
    assert_eq!(refused(&third, &drill).await, 409, "an expired proposal");
    // Whoever has no key any more is not one of two; with another key he still is.
    let orphan = proposed(&first, None).await;
    dismiss(&app, &first_key).await;
    let still = proposed(&again, Some("generic-oauth")).await;
    ok(approve(&third, &orphan).await, 200);
    eventually("it ends", async || text(&state(&third, &orphan).await, "/state") == "ended").await;
    let again_key = again_key(&app).await;
    dismiss(&app, &again_key).await;
    assert_eq!(refused(&third, &still).await, 409, "the proposer is gone");
    // What was approved is spent, for everybody.
    assert_eq!(refused(&third, &orphan).await, 409, "a replay of the approval");

    let expected =
        ["same_person", "same_person", "unknown", "expired", "proposer_gone", "spent"].map(str::to_owned).to_vec();
    assert_eq!(refusals(&app).await, expected);
    app.stop().await;
}

/// The id of the one good key that `first` has left.
async fn again_key(app: &TestApp) -> String {
    let left = "select id from keyholder.operators where name = 'first' and revoked_at is null";
    let id: sqlx::types::Uuid = sqlx::query_scalar(left).fetch_one(&mut app.owner().await).await.unwrap();
    domain::id::OperatorId::from_uuid(id).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_ends_nothing_and_one_approval_of_many_counts() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&[ACTION], json!([])).await;
    let (first, _) = person(&app, "first").await;
    let (second, _) = person(&app, "second").await;
    for wrong in
        [json!({}), json!({ "reason": "" }), json!({ "reason": "a\nb" }), json!({ "reason": "x", "approve": true })]
    {
        assert_eq!(problem(&first.post(DRILLS, &wrong).await.unwrap()).0, 422, "{wrong}");
    }
    assert_eq!(problem(&first.post(DRILLS, &json!({ "reason": "x".repeat(501) })).await.unwrap()).0, 422);
    let drill = proposed(&first, None).await;
    assert_eq!(entrusted.act(ACTION, &json!({}), None).await.status, 200);
    let replies = futures_util::future::join_all((0..8).map(|_| approve(&second, &drill))).await;
    let went: Vec<u16> = replies.iter().map(|reply: &Reply| reply.status.as_u16()).collect();
    assert_eq!(went.iter().filter(|status| **status == 200).count(), 1, "{went:?}");
    assert!(went.iter().all(|status| [200, 409].contains(status)), "{went:?}");
    eventually("it ends", async || text(&state(&first, &drill).await, "/state") == "ended").await;
    // So many proposals may wait, and no more.
    for _ in 0..20 {
        proposed(&first, None).await;
    }
    assert_eq!(problem(&first.post(DRILLS, &json!({ "reason": "x" })).await.unwrap()).0, 409);
    app.stop().await;
}

/// A key that is being ended at the moment of the approval, that of either person: the approval waits, and is none.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_waits_for_a_revocation_that_is_under_way() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    for (number, (ended, status)) in [("approver", 401), ("proposer", 409)].into_iter().enumerate() {
        let names = [format!("proposer{number}"), format!("approver{number}")];
        let (first, _) = person(&app, &names[0]).await;
        let (second, _) = person(&app, &names[1]).await;
        let drill = proposed(&first, None).await;
        let mut revocation = owner.begin().await.unwrap();
        for statement in [
            "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'installation'",
            &format!("update keyholder.operators set revoked_at = clock_timestamp() where name = '{ended}{number}'"),
        ] {
            let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *revocation).await.unwrap();
            assert_eq!(done.rows_affected(), 1);
        }
        let commit = async {
            app.lock_is_waited_for(1).await;
            revocation.commit().await.unwrap();
        };
        let (reply, ()) = tokio::join!(approve(&second, &drill), commit);
        assert_eq!(problem(&reply).0, status, "the {ended} is gone");
    }
    let drills: Vec<String> =
        sqlx::query_scalar("select state from keyholder.kill_drills").fetch_all(&mut owner).await.unwrap();
    assert_eq!(drills, ["proposed", "proposed"]);
    assert_eq!(refusals(&app).await, ["approver_gone", "proposer_gone"]);
    app.stop().await;
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().to_string()
}

/// What the application's login is told when it tries.
async fn tried(sql: &mut PgConnection, statement: &str) -> Result<u64, String> {
    let mut transaction = sql.begin().await.unwrap();
    let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await;
    let said = done.map(|done| done.rows_affected()).map_err(|error| code(&error));
    transaction.rollback().await.unwrap();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_knows_two_persons() {
    let app = TestApp::start().await;
    let (first, _) = person(&app, "first").await;
    person(&app, "second").await;
    proposed(&first, None).await;
    let mut sql = app.login("app").await;
    let pid = backend(&mut sql).await;
    let approve = |by: &str| {
        format!(
            "update kill_drills set state = 'running', approved_by = '{by}', approved_at = now() where state = 'proposed'"
        )
    };
    // Without the installation's context there is nothing to be seen, nor in a workspace's.
    for seen in [String::new(), context("workspace", app.workspace_uuid(), pid, 20_000)] {
        set_context(&mut sql, &seen).await;
        for table in ["operators", "kill_drills", "installation_audit"] {
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
                .fetch_one(&mut sql)
                .await
                .unwrap();
            assert_eq!(rows, 0, "{table}");
        }
        assert_eq!(tried(&mut sql, &approve("second")).await, Ok(0));
    }
    set_context(&mut sql, &context("installation", InstallationId::ONE.uuid(), pid, 20_000)).await;
    assert_eq!(tried(&mut sql, &approve("second")).await, Ok(1), "the statement itself is a good one");
    assert_eq!(tried(&mut sql, &approve("first")).await, Err("23514".to_owned()), "the same person");
    let unapproved = "update kill_drills set state = 'running' where state = 'proposed'";
    assert_eq!(tried(&mut sql, unapproved).await, Err("23514".to_owned()), "nobody");
    let denied = Err("42501".to_owned());
    for statement in [
        "update kill_drills set proposed_by = 'second'",
        "update kill_drills set expires_at = now() + interval '1 day'",
        "delete from kill_drills",
        "update operators set name = 'third'",
        "delete from operators",
        "update installation_audit set principal = 'operator:third'",
        "delete from installation_audit",
        "truncate installation_audit",
    ] {
        assert_eq!(tried(&mut sql, statement).await, denied, "{statement}");
    }
    let unraised = "update operators set revoked_at = now() where name = 'second'";
    assert_eq!(tried(&mut sql, unraised).await, Err("KH001".to_owned()), "the head was not raised");
    app.stop().await;
}

/// While a drill runs, no connection comes into being or into use, whoever writes it.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_keeps_connections_out_while_a_drill_runs() {
    let app = TestApp::start().await;
    let connection = app.connect(crate::harness::ACCOUNT, &[ACTION]).await;
    let mut owner = app.owner().await;
    let drill = "insert into keyholder.kill_drills (id, provider, reason, state, proposed_by, approved_by, approved_at, fanned_out_at, \
         acts_stopped_at, released_at) values (gen_random_uuid(), $1, 'x', 'running', 'a', 'b', now(), now(), now(), now())";
    let raise =
        "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'";
    let revive = "update keyholder.connections set state = 'active' where state = 'inert'";
    let copy = "insert into keyholder.connections (workspace_id, id, provider, provider_digest, account_id, account_name, owner_id, \
         state, scopes, created_at) select workspace_id, gen_random_uuid(), provider, provider_digest, account_id, account_name, owner_id, \
         'inert', scopes, created_at from keyholder.connections";
    for (provider, expected) in [(None, Some("KH002")), (Some("x"), Some("KH002")), (Some("generic-oauth"), None)] {
        for statement in [copy, revive] {
            let mut transaction = owner.begin().await.unwrap();
            sqlx::query(raise).execute(&mut *transaction).await.unwrap();
            let inert = "update keyholder.connections set state = 'inert'";
            sqlx::query(inert).execute(&mut *transaction).await.unwrap();
            sqlx::query(drill).bind(provider).execute(&mut *transaction).await.unwrap();
            let done = sqlx::query(statement).execute(&mut *transaction).await;
            assert_eq!(done.err().map(|error| code(&error)).as_deref(), expected, "{provider:?}: {statement}");
            transaction.rollback().await.unwrap();
        }
    }
    assert_eq!(app.admin.get(&format!("/v1/connections/{connection}")).await.unwrap().status, 200);
    app.stop().await;
}
