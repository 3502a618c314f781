//! The operator's key that publishes statements: it does that, and of every other row of the table it is refused, whatever its name is.

use domain::{id::OperatorId, operator::Purpose, principal::Principal};
use keyholder::caller::Caller;
use server::{Guard, ObjectFrom};
use service::Refusal;
use sqlx::Row;

use crate::{
    harness::{TestApp, problem},
    matrices::{everything, for_operators, guarded, send, state_of, without_limits},
};

fn host(app: &TestApp) -> Principal {
    Principal::operator("local", app.instance.app().clock.now())
}

/// What publishes statements, by a key of its own.
pub(crate) async fn publisher(app: &TestApp, name: &str) -> (Caller, OperatorId) {
    let (id, key) = service::operator::create(app.instance.app(), &host(app), (name, Purpose::Publish)).await.unwrap();
    (app.stranger.with_key(&key), id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_publishes_statements_does_nothing_else_on_any_row() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let inner = app.instance.app();
    // A super-admin of the very name: the key is none of his.
    service::operator::create(inner, &host(&app), ("ada", Purpose::Person)).await.unwrap();
    service::operator::appoint_super_admin(inner, &host(&app), "ada").await.unwrap();
    let (prover, id) = publisher(&app, "ada").await;
    let mut owner = app.owner().await;
    let before = state_of(&mut owner, app.workspace_uuid()).await;
    let trail = "select principal, means, session, event from keyholder.installation_audit \
                 where principal like 'statement_publisher:%' order by id";
    let mut published = 0;
    for route in for_operators() {
        let reply = send(&prover, route, &values, &[]).await;
        let what = format!("{route:?}");
        match (route.guard, route.object) {
            (Guard::Operator("trust_statement.publish"), _) => {
                published += 1;
                assert_eq!(reply.status, 201, "{what}: {}", reply.json());
            }
            // It knows of no workspace, and so not that this one is there.
            (_, ObjectFrom::Path("workspace")) => {
                assert_eq!(problem(&reply), (404, "not-found".to_owned()), "{what}");
            }
            _ => assert_eq!(problem(&reply), (403, "forbidden".to_owned()), "{what}"),
        }
    }
    assert_eq!(published, 1, "it publishes");
    for route in guarded() {
        let reply = send(&prover, route, &values, &[]).await;
        assert_eq!(problem(&reply), (401, "unauthenticated".to_owned()), "{route:?}");
    }
    assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before, "something of a tenant was changed");
    let left = sqlx::query(trail).fetch_all(&mut owner).await.unwrap();
    let [entry] = left.as_slice() else { panic!("{} entries", left.len()) };
    let said = ["principal", "means", "session", "event"].map(|column| entry.get::<String, _>(column));
    let id_text = id.to_string();
    assert_eq!(said, ["statement_publisher:ada", "operator_key", &id_text, "trust_statement.published"]);

    service::operator::revoke(inner, &host(&app), id).await.unwrap();
    for route in for_operators() {
        let reply = send(&prover, route, &values, &[]).await;
        assert_eq!(problem(&reply), (401, "unauthenticated".to_owned()), "{route:?} with a revoked key");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_publishes_is_no_person_and_lends_nobody_its_key() {
    let app = TestApp::start().await;
    let inner = app.instance.app();
    let (prover, publishing) = publisher(&app, "ada").await;
    // Nobody is a person by it.
    let refused = service::operator::appoint_super_admin(inner, &host(&app), "ada").await;
    assert!(matches!(refused, Err(Refusal::NotFound)), "{refused:?}");
    let by_key = Principal::statement_publisher("ada".to_owned(), publishing, inner.clock.now());
    for refused in [
        service::operator::create(inner, &by_key, ("eve", Purpose::Person)).await.map(drop),
        service::operator::create(inner, &by_key, ("eve", Purpose::Publish)).await.map(drop),
        service::operator::list(inner, &by_key).await.map(drop),
        service::operator::appoint_super_admin(inner, &by_key, "ada").await,
    ] {
        assert!(matches!(refused, Err(Refusal::Forbidden)), "{refused:?}");
    }
    // Nor does it keep one who has lost his own keys.
    let (person, _) = service::operator::create(inner, &host(&app), ("ada", Purpose::Person)).await.unwrap();
    service::operator::appoint_super_admin(inner, &host(&app), "ada").await.unwrap();
    service::operator::revoke(inner, &host(&app), person).await.unwrap();
    assert_eq!(service::operator::super_admins(inner, &host(&app)).await.unwrap(), Vec::<String>::new());
    // A binary from before does not know the key, and takes it for nobody's.
    let hash = domain::operator::parse(prover.key().unwrap(), inner.environment).unwrap();
    let mut owner = app.owner().await;
    for (function, known) in [("lookup_operator", 0_i64), ("lookup_operator_key", 1)] {
        let statement = sqlx::AssertSqlSafe(format!("select count(*) from keyholder.{function}($1)"));
        let found: i64 = sqlx::query_scalar(statement).bind(hash.0.as_slice()).fetch_one(&mut owner).await.unwrap();
        assert_eq!(found, known, "{function}");
    }
    let listed = service::operator::list(inner, &host(&app)).await.unwrap();
    let listed: Vec<_> =
        listed.iter().map(|key| (key.name.as_str(), key.purpose.as_str(), key.revoked_at.is_some())).collect();
    assert_eq!(listed, [("ada", "publish", false), ("ada", "person", true)]);
    app.stop().await;
}
