//! Sealed rows, moved and damaged by the database's owner: the next act answers 503 and sends nothing; mended, it passes.

use domain::environment::Environment;
use keyholder::{
    Instance, InstanceOptions, StartError,
    caller::{Caller, Reply},
    local::{self, Place},
};
use seal::RootKey;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{ACCOUNT, Entrusted, RETURN, TestApp, home, ok, problem};

/// Two connections of the workspace, and one of another. The first has a mandate with a budget.
struct Scene {
    app: TestApp,
    first: Entrusted,
    owner: PgConnection,
}

/// The rows, as `other` and `foreign` call them: another connection of the same workspace, and another workspace's.
const ROLES: &str = "create temp table role as select c.workspace_id, c.id, \
     case when c.workspace_id <> $1 then 'foreign' when c.account_name = $2 then 'mine' else 'other' end as name \
     from keyholder.connections c";

impl Scene {
    async fn set() -> Self {
        let mut app = TestApp::start().await;
        let limits = json!([{ "unit": "posts", "per": "month", "cap": 1000 }]);
        let first = app.entrust(&["post.create"], limits).await;
        app.connect("rival_brand", &["post.create"]).await;
        let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
        let admin = std::mem::replace(&mut app.admin, app.stranger.with_key(&rival.text));
        ok(app.admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);
        app.connect(ACCOUNT, &["post.create"]).await;
        app.admin = admin;

        let mut owner = app.owner().await;
        sqlx::query(ROLES).bind(app.workspace_uuid()).bind(ACCOUNT).execute(&mut owner).await.unwrap();
        // Neither triggers nor foreign keys stand in the way of somebody who owns the database.
        for statement in [
            "set session_replication_role = replica",
            "set search_path = pg_temp, keyholder",
            "create temp table kept_credentials as select * from keyholder.credentials",
            "create temp table kept_keys as select * from keyholder.data_keys",
        ] {
            sqlx::query(statement).execute(&mut owner).await.unwrap();
        }
        let roles: i64 =
            sqlx::query_scalar("select count(distinct name) from role").fetch_one(&mut owner).await.unwrap();
        assert_eq!(roles, 3);
        Self { app, first, owner }
    }

    async fn damage(&mut self, statements: &str) {
        for statement in statements.split(';') {
            let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut self.owner).await.unwrap();
            assert!(done.rows_affected() > 0, "nothing was changed by {statement}");
        }
    }

    /// Everything as it was.
    async fn mend(&mut self) {
        for statement in [
            "delete from keyholder.credentials",
            "delete from keyholder.data_keys",
            "insert into keyholder.data_keys select * from kept_keys",
            "insert into keyholder.credentials select * from kept_credentials",
            "update keyholder.connections set provider = 'x'",
        ] {
            sqlx::query(statement).execute(&mut self.owner).await.unwrap();
        }
    }

    /// How many units are taken, and the states of the acts.
    async fn ledger(&mut self) -> (i64, Vec<String>) {
        let used = sqlx::query_scalar("select sum(used)::bigint from keyholder.budgets");
        let used = used.fetch_one(&mut self.owner).await.unwrap();
        let states = sqlx::query_scalar("select state from keyholder.acts order by admitted_at, id");
        (used, states.fetch_all(&mut self.owner).await.unwrap())
    }

    /// An act that is told from others by its text.
    async fn act(&self, agent: &Caller, text: &str) -> Reply {
        let key = hex::encode(text);
        agent.act(&self.first.mandate, "post.create", &json!({ "text": text }), Some(&key)).await.unwrap()
    }

    /// An act that must fail for want of a credential, with nothing sent and nothing taken; then the same one, mended.
    async fn try_out(&mut self, agent: &Caller, what: &str, statements: &str) {
        let calls = self.app.sandbox.platform().requests().len();
        let (used, mut states) = self.ledger().await;
        self.damage(statements).await;
        let refused = self.act(agent, what).await;
        assert_eq!(problem(&refused), (503, "credential-unavailable".to_owned()), "{what}");
        assert_eq!(self.app.sandbox.platform().requests().len(), calls, "{what}: the platform was called");
        states.push("not_sent".to_owned());
        assert_eq!(self.ledger().await, (used, states), "{what}");
        self.mend().await;
        assert_eq!(self.act(agent, what).await.status, 200, "{what}, mended");
        assert_eq!(self.app.sandbox.platform().requests().len(), calls + 1, "{what}, mended");
    }

    fn agent_at(&self, node: &Instance) -> Caller {
        Caller::new(node.url(), None).with_key(self.first.agent.key().unwrap())
    }
}

/// `sealed` of a role's field, put in the place of mine.
fn put(from: &str, field: &str) -> String {
    format!(
        "update credentials c set sealed = f.sealed from kept_credentials f join role r on r.id = f.connection_id \
         where r.name = '{from}' and f.field = '{field}' and c.field = 'access' \
         and c.connection_id = (select id from role where name = 'mine')"
    )
}

/// A change of my sealed access token.
fn alter(change: &str) -> String {
    format!(
        "update credentials set {change} where field = 'access' and connection_id = (select id from role where name = 'mine')"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_row_that_was_moved_or_changed_does_not_open_and_moved_back_it_does() {
    let mut scene = Box::pin(Scene::set()).await;
    let foreign_key = "data_key_id = (select id from data_keys where workspace_id = (select workspace_id from role where name = 'foreign'))";
    let cases = [
        ("another connection's, in its place", put("other", "access")),
        ("its own refresh token, in its place", put("mine", "refresh")),
        ("another workspace's, in its place", put("foreign", "access")),
        ("another workspace's with its key", format!("{};{}", put("foreign", "access"), alter(foreign_key))),
        ("under another workspace's key", alter(foreign_key)),
        (
            "the row of another connection",
            "delete from credentials c using role r where r.id = c.connection_id and r.name = 'mine';\
            update credentials c set connection_id = (select id from role where name = 'mine') \
            from role r where r.id = c.connection_id and r.name = 'other'"
                .to_owned(),
        ),
        (
            "the row of another workspace",
            "delete from credentials c using role r where r.id = c.connection_id and r.name = 'mine';\
            update credentials c set connection_id = m.id, workspace_id = m.workspace_id \
            from role r, role m where r.id = c.connection_id and r.name = 'foreign' and m.name = 'mine'"
                .to_owned(),
        ),
        (
            "access and refresh exchanged",
            "update credentials c set sealed = f.sealed from kept_credentials f \
            where f.connection_id = c.connection_id and f.field <> c.field"
                .to_owned(),
        ),
        ("the format's byte", alter("sealed = set_byte(sealed, 0, get_byte(sealed, 0) # 1)")),
        ("the nonce's first bit", alter("sealed = set_byte(sealed, 1, get_byte(sealed, 1) # 128)")),
        (
            "a bit in the middle",
            alter("sealed = set_byte(sealed, length(sealed) / 2, get_byte(sealed, length(sealed) / 2) # 1)"),
        ),
        (
            "the tag's last bit",
            alter("sealed = set_byte(sealed, length(sealed) - 1, get_byte(sealed, length(sealed) - 1) # 1)"),
        ),
        ("one byte less", alter("sealed = substring(sealed from 1 for length(sealed) - 1)")),
        ("one byte more", alter("sealed = sealed || '\\x00'")),
        ("nothing", alter("sealed = ''")),
        (
            "another provider's",
            "update connections set provider = 'generic-oauth' where id = (select id from role where name = 'mine')"
                .to_owned(),
        ),
    ];
    let cold = scene.app.second_node().await;
    let agents = [scene.first.agent.clone(), scene.agent_at(&cold)];
    for (place, agent) in ["warm", "cold"].into_iter().zip(&agents) {
        assert_eq!(scene.act(agent, &format!("before, {place}")).await.status, 200);
        for (what, statements) in &cases {
            scene.try_out(agent, &format!("{what}, {place}"), statements).await;
        }
    }
    cold.stop().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_data_key_that_was_moved_or_changed_opens_nothing() {
    let mut scene = Box::pin(Scene::set()).await;
    let mine = "workspace_id = (select workspace_id from role where name = 'mine')";
    let cases = [
        (
            "exchanged between workspaces",
            "update data_keys k set wrapped = o.wrapped from kept_keys o where o.id <> k.id".to_owned(),
        ),
        (
            "one bit",
            format!(
                "update data_keys set wrapped = set_byte(wrapped, length(wrapped) - 1, get_byte(wrapped, length(wrapped) - 1) # 1) where {mine}"
            ),
        ),
        (
            "one byte less",
            format!("update data_keys set wrapped = substring(wrapped from 1 for length(wrapped) - 1) where {mine}"),
        ),
        ("an epoch that never was", format!("update data_keys set epoch = epoch + 1000 where {mine}")),
        ("gone", format!("delete from data_keys where {mine}")),
    ];
    for (what, statements) in &cases {
        // A node that has unwrapped the key holds it for a while: only a new one sees what became of it.
        let node = scene.app.second_node().await;
        let agent = scene.agent_at(&node);
        scene.try_out(&agent, what, statements).await;
        node.stop().await;
    }
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_is_not_refreshed_either_and_mended_it_is() {
    let mut scene = Box::pin(Scene::set()).await;
    let expired = "update credentials set issued_at = clock_timestamp() - interval '2 hours', expires_at = clock_timestamp() + interval '30 seconds'";
    let mine = "(select id from role where name = 'mine')";
    let cases = [
        (
            "changed",
            format!(
                "update credentials set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) where field = 'refresh' and connection_id = {mine}"
            ),
        ),
        (
            "the access token in its place",
            format!(
                "update credentials c set sealed = f.sealed from kept_credentials f where f.connection_id = c.connection_id and f.field = 'access' and c.connection_id = {mine}"
            ),
        ),
        (
            "a wrapped key that was changed",
            "update data_keys set wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)".to_owned(),
        ),
        ("a data key that is gone", "delete from data_keys".to_owned()),
    ];
    let platform = scene.app.sandbox.platform().clone();
    for (number, (what, statements)) in (0..).zip(&cases) {
        let node = scene.app.second_node().await;
        let agent = scene.agent_at(&node);
        let calls = platform.requests().len();
        scene.damage(&format!("{statements};{expired}")).await;
        for _ in 0..2 {
            let refused = scene.act(&agent, what).await;
            assert_eq!(problem(&refused), (503, "credential-unavailable".to_owned()), "{what}");
        }
        assert_eq!(platform.requests().len(), calls, "{what}: the platform was called");
        scene.mend().await;
        scene.damage(expired).await;
        // The lease was given back: it was no interruption, and the owner need not be asked.
        assert_eq!(scene.act(&agent, what).await.status, 200, "{what}, mended");
        assert_eq!((platform.refreshes(), platform.replays_punished()), (number + 1, 0), "{what}, mended");
        // What was refreshed is what must be mended next time.
        for statement in
            ["delete from kept_credentials", "insert into kept_credentials select * from keyholder.credentials"]
        {
            sqlx::query(statement).execute(&mut scene.owner).await.unwrap();
        }
        node.stop().await;
    }
    scene.app.stop().await;
}

/// A start that must fail.
async fn refused(app: &TestApp, change: impl FnOnce(&mut InstanceOptions)) -> StartError {
    let place = Place { database: &app.database, port: 0 };
    let mut options = place.options(home().keys(), None, &app.secret).unwrap();
    options.connections = 2;
    change(&mut options);
    Instance::start(options).await.err().unwrap()
}

#[track_caller]
fn faults(error: &StartError) -> &[String] {
    match error {
        StartError::Gate(faults) => faults,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_environment_or_root_key_is_refused_at_the_start() {
    let app = TestApp::start().await;
    let error = refused(&app, |options| options.environment = Environment::Staging).await;
    let environment = "the database is of the environment `local`, this process of `staging`";
    assert!(faults(&error).iter().any(|fault| fault == environment), "{error}");
    let error = refused(&app, |options| options.root_key = RootKey::generate()).await;
    assert_eq!(faults(&error), ["the database was made under another root key"]);

    // Even where the database says otherwise, the keys are of the environment in which they were made.
    let check = RootKey::from_text(home().keys().root_key()).unwrap().check_value(Environment::Staging);
    let mut owner = PgConnection::connect(&home().owner_url(&app.database)).await.unwrap();
    sqlx::query("update keyholder.installation set environment = 'staging', root_check = $1")
        .bind(check.as_slice())
        .execute(&mut owner)
        .await
        .unwrap();
    let error = refused(&app, |options| options.environment = Environment::Staging).await;
    assert!(matches!(error, StartError::Keyring { .. }), "{error}");
    app.stop().await;
}

/// Not a case of its own: what the cases above rely on.
#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_row_opens_and_its_act_is_settled() {
    let mut scene = Box::pin(Scene::set()).await;
    let (used, states) = scene.ledger().await;
    assert_eq!((used, states), (0, Vec::<String>::new()));
    let done: Value = ok(scene.act(&scene.first.agent, "hello").await, 200);
    assert_eq!(done["status"], 201);
    assert_eq!(scene.ledger().await, (1, vec!["settled".to_owned()]));
    scene.app.stop().await;
}
