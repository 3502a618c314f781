//! Fernet: credentials stored as tokens of that form, and accounts imported from a store that kept theirs so.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use domain::{
    id::{Id, WorkspaceId},
    principal::Principal,
};
use keyholder::{
    caller::Caller,
    local::{self, FirstKey, PROVIDER},
};
use sandbox::TokenKind;
use seal::{FernetKey, Form, Plain};
use serde_json::{Value, json};
use service::import::{self, Import, ImportFault, Imported};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::harness::{ACCOUNT, RETURN, TestApp, ok, problem, text};

async fn forms(owner: &mut PgConnection) -> Vec<(String, bool, i32)> {
    sqlx::query_as(
        "select field, substring(sealed from 1 for 5) = 'gAAAA'::bytea, get_byte(sealed, 0) from keyholder.credentials \
         order by connection_id, field",
    )
    .fetch_all(owner)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_lie_in_the_database_as_fernet_from_their_first_write_and_in_no_other_form() {
    let app = TestApp::start_with(|options| options.credential_form = Form::Fernet).await;
    let platform = app.sandbox.platform().clone();
    let mut owner = app.owner().await;
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    let all = |forms: &[(String, bool, i32)]| forms.iter().all(|(_, is_fernet, _)| *is_fernet);
    let first = forms(&mut owner).await;
    assert!(first.len() == 2 && all(&first), "{first:?}");
    ok(entrusted.act("post.create", &json!({ "text": "one" }), Some("one")).await, 200);

    // Refreshed pairs as well: a new node sees that the token is old.
    sqlx::query("update keyholder.credentials set expires_at = clock_timestamp()").execute(&mut owner).await.unwrap();
    let node = app.second_node_with(|options| options.credential_form = Form::Fernet).await;
    let key = entrusted.agent.key().unwrap();
    let act = |node: &keyholder::Instance, text: &'static str| {
        let caller = Caller::new(node.url(), None).with_key(key);
        let mandate = entrusted.mandate.clone();
        async move { caller.act(&mandate, "post.create", &json!({ "text": text }), Some(text)).await.unwrap() }
    };
    ok(act(&node, "two").await, 200);
    assert_eq!(platform.refreshes(), 1);
    let second = forms(&mut owner).await;
    assert!(second.len() == 2 && all(&second), "{second:?}");
    node.stop().await;

    // The setting says what is written; both forms are read, by whichever node.
    let node = app.second_node().await;
    ok(act(&node, "three").await, 200);
    sqlx::query("update keyholder.credentials set expires_at = clock_timestamp()").execute(&mut owner).await.unwrap();
    let other = app.second_node().await;
    ok(act(&other, "four").await, 200);
    assert!(forms(&mut owner).await.iter().all(|(_, is_fernet, format)| !is_fernet && *format == 1));
    ok(entrusted.act("post.create", &json!({ "text": "five" }), Some("five")).await, 200);
    node.stop().await;
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_token_opens_in_its_own_row_and_in_no_other() {
    let mut app = TestApp::start_with(|options| options.credential_form = Form::Fernet).await;
    let mine = app.entrust(&["post.create"], json!([])).await;
    app.connect("rival_brand", &["post.create"]).await;
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let admin = std::mem::replace(&mut app.admin, app.stranger.with_key(&rival.text));
    ok(app.admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);
    app.connect(ACCOUNT, &["post.create"]).await;
    app.admin = admin;

    let mut owner = app.owner().await;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "set session_replication_role = replica; set search_path = pg_temp, keyholder; \
         create temp table kept as select * from keyholder.credentials; \
         create temp table role as select c.workspace_id, c.id, case when c.workspace_id <> '{}' then 'foreign' \
           when c.account_name = '{ACCOUNT}' then 'mine' else 'other' end as name from keyholder.connections c",
        app.workspace_uuid()
    )))
    .execute(&mut owner)
    .await
    .unwrap();
    let put = |from: &str, field: &str| {
        format!(
            "update credentials c set sealed = k.sealed from kept k join role r on r.id = k.connection_id where r.name = '{from}' \
             and k.field = '{field}' and c.field = 'access' and c.connection_id = (select id from role where name = 'mine')"
        )
    };
    let own = "field = 'access' and connection_id = (select id from role where name = 'mine')";
    let cases = [
        ("another connection's", put("other", "access")),
        ("another field's", put("mine", "refresh")),
        ("another workspace's", put("foreign", "access")),
        // The other workspace's data key with it: then everything opens, but the place inside.
        (
            "another workspace's, key and all",
            format!(
                "{};update credentials set data_key_id = (select data_key_id from kept k join role r on r.id = k.connection_id \
                   where r.name = 'foreign' and k.field = 'access') where {own}",
                put("foreign", "access")
            ),
        ),
        (
            "a changed letter",
            format!("update credentials set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where {own}"),
        ),
    ];
    for (what, statements) in cases {
        for statement in statements.split(';') {
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut owner).await.unwrap();
        }
        let calls = app.sandbox.platform().requests().len();
        let said = mine.act("post.create", &json!({ "text": what }), Some(&hex::encode(what))).await;
        assert_eq!(problem(&said), (503, "credential-unavailable".to_owned()), "{what}");
        assert_eq!(app.sandbox.platform().requests().len(), calls, "{what}: the platform was called");
        sqlx::raw_sql("delete from credentials; insert into credentials select * from kept")
            .execute(&mut owner)
            .await
            .unwrap();
        let mended = mine.act("post.create", &json!({ "text": what }), Some(&hex::encode(what))).await;
        assert_eq!(mended.status, 200, "{what}, mended");
    }
    app.stop().await;
}

/// A workspace that accounts are brought along to, by the operator at the machine.
struct Scene {
    app: TestApp,
    target: FirstKey,
    admin: Caller,
    operator: Principal,
    /// The former store's keys: the newer first, as `MultiFernet` has them.
    keys: [String; 2],
}

impl Scene {
    async fn set() -> Self {
        let app = TestApp::start().await;
        let target = local::create_workspace(app.instance.app(), "Brought along").await.unwrap();
        let admin = app.stranger.with_key(&target.text);
        let operator = Principal::operator("local", app.instance.app().clock.now());
        let keys = [(); 2].map(|()| URL_SAFE.encode(domain::random::bytes::<32>()));
        Self { app, target, admin, operator, keys }
    }

    fn import(&self) -> Import {
        Import {
            keys: self.keys.iter().map(|key| FernetKey::from_text(key).unwrap()).collect(),
            ttl: None,
            workspace: self.target.workspace,
            provider: PROVIDER.to_owned(),
        }
    }

    /// A token as the former store kept it, under its older key.
    fn kept(&self, token: &str) -> String {
        let now = self.app.instance.app().clock.now();
        FernetKey::from_text(&self.keys[1]).unwrap().encrypt(Plain::from(token.to_owned()), now).unwrap()
    }

    /// The newest live pair of an account, as a line of the former store.
    fn line(&self, account: &str, actions: &[&str]) -> Value {
        let tokens = self.app.sandbox.platform().tokens(account);
        let last = |kind| tokens.iter().rfind(|token| token.kind == kind).unwrap().text.clone();
        let (access, refresh) = (last(TokenKind::Access), last(TokenKind::Refresh));
        let end = self.app.instance.app().clock.now() + std::time::Duration::from_hours(1);
        let end = end.format(&time::format_description::well_known::Rfc3339).unwrap();
        json!({ "access": self.kept(&access), "refresh": self.kept(&refresh), "actions": actions, "expires_at": end })
    }

    async fn try_line(&self, line: &Value) -> Result<Imported, ImportFault> {
        import::line(self.app.instance.app(), &self.operator, &self.import(), &line.to_string()).await
    }

    /// A grant that the former application has, and Keyholder does not know: one that was made here and forgotten.
    async fn granted_elsewhere(&self, account: &str) {
        let mut owner = self.app.owner().await;
        self.app.connect(account, &["post.create", "post.delete"]).await;
        sqlx::raw_sql(AssertSqlSafe(format!(
            "set session_replication_role = replica; \
             delete from keyholder.credentials where workspace_id = '{0}'; delete from keyholder.connections where workspace_id = '{0}'",
            self.app.workspace_uuid()
        )))
        .execute(&mut owner)
        .await
        .unwrap();
    }

    async fn rows(&self) -> (i64, i64) {
        sqlx::query_as(
            "select (select count(*) from keyholder.connections), (select count(*) from keyholder.credentials)",
        )
        .fetch_one(&mut self.app.owner().await)
        .await
        .unwrap()
    }

    /// An act under a new mandate on an imported connection.
    async fn act(&self, connection: &str, input: &str) {
        let made = self.admin.post("/v1/api-keys", &json!({ "label": "agent", "role": "service" })).await.unwrap();
        let made = ok(made, 201);
        let terms = json!({ "connection": connection, "grantee": text(&made, "/id"), "actions": ["post.create"], "limits": [] });
        let mandate = ok(self.admin.post("/v1/mandates", &terms).await.unwrap(), 201);
        let agent = self.app.stranger.with_key(text(&made, "/key"));
        let reply = agent
            .act(text(&mandate, "/id"), "post.create", &json!({ "text": input }), Some(&hex::encode(input)))
            .await
            .unwrap();
        let body = reply.json();
        assert_eq!((reply.status.as_u16(), body["status"].as_u64()), (200, Some(201)), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_another_store_is_tried_sealed_and_used_and_a_second_import_changes_nothing() {
    let scene = Scene::set().await;
    scene.granted_elsewhere(ACCOUNT).await;
    let platform = scene.app.sandbox.platform().clone();
    let line = scene.line(ACCOUNT, &["post.create"]);
    let Ok(Imported::New(id)) = scene.try_line(&line).await else { panic!("not imported") };
    let connection = ok(scene.admin.get(&format!("/v1/connections/{id}")).await.unwrap(), 200);
    assert_eq!(text(&connection, "/state"), "active");
    scene.act(&id.to_string(), "brought along").await;
    assert_eq!(platform.posts_by(ACCOUNT).len(), 1);

    let before = scene.rows().await;
    assert_eq!(before, (1, 2));
    assert_eq!(scene.try_line(&line).await.unwrap(), Imported::Known(id));
    assert_eq!(scene.rows().await, before, "what works is left alone");

    let mut owner = scene.app.owner().await;
    let (means, detail): (String, Value) =
        sqlx::query_as("select means, detail from keyholder.audit where event = 'connection.imported'")
            .fetch_one(&mut owner)
            .await
            .unwrap();
    assert_eq!((means.as_str(), &detail["ceiling"]), ("host", &json!(["post.create"])));
    let origins: Vec<(String, String)> = sqlx::query_as(
        "select c.origin, a.provider from keyholder.consents c join keyholder.accounts a using (account_id) where workspace_id = $1",
    )
    .bind(scene.target.workspace.uuid())
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(origins, [("imported".to_owned(), PROVIDER.to_owned())], "the receipt says that nobody consented");

    // Neither the tokens nor their former sealed form are anywhere in the database.
    let address = scene.app.ground.owner_url(&scene.app.database).parse().unwrap();
    let rows = store::owner::every_row(&address).await.unwrap();
    assert!(rows.iter().any(|(_, row)| row.contains(&id.uuid().to_string())), "the rows are looked at");
    for secret in platform.tokens(ACCOUNT).iter().map(|token| token.text.as_str()).chain([text(&line, "/access")]) {
        let (plain, digits) = (secret.to_owned(), hex::encode(secret));
        assert!(!rows.iter().any(|(_, row)| row.contains(&plain) || row.contains(&digits)));
    }
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_good_is_refused_and_nothing_of_it_is_written() {
    let scene = Scene::set().await;
    scene.granted_elsewhere(ACCOUNT).await;
    let platform = scene.app.sandbox.platform().clone();
    let good = scene.line(ACCOUNT, &["post.create"]);
    let with = |name: &str, value: Value| {
        let mut line = good.clone();
        line[name] = value;
        line
    };
    let stranger = FernetKey::from_text(&URL_SAFE.encode([7; 32])).unwrap();
    let foreign = stranger.encrypt(Plain::from("x".to_owned()), scene.operator.authenticated_at).unwrap();
    // What is wrong, the word for it, and whether the provider is asked.
    let cases = [
        (with("access", json!(scene.kept("no such token"))), "token-refused", 1),
        (with("access", json!(foreign)), "token-does-not-open", 0),
        (with("refresh", json!(foreign)), "token-does-not-open", 0),
        (with("access", json!("not a token")), "token-does-not-open", 0),
        (with("access", json!(scene.kept(""))), "token-does-not-open", 0),
        (with("actions", json!(["post.create", "no.such"])), "actions", 0),
        (with("actions", json!([])), "actions", 0),
        (with("scopes", json!(["users.read"])), "scopes", 0),
        (with("account_id", json!("another")), "other-account", 1),
        (with("owner", json!("somebody")), "malformed", 0),
    ];
    for (line, word, asked) in cases {
        let calls = platform.requests().len();
        let fault = scene.try_line(&line).await.unwrap_err();
        assert_eq!(fault.word(), word, "{fault}");
        assert_eq!(platform.requests().len() - calls, asked, "{word}");
        assert_eq!(scene.rows().await, (0, 0), "{word}");
        for secret in [text(&good, "/access"), text(&good, "/refresh"), &foreign] {
            assert!(!format!("{fault:?} {fault}").contains(secret));
        }
    }
    let mut import = scene.import();
    import.ttl = Some(std::time::Duration::ZERO);
    let old = scene.operator.authenticated_at - std::time::Duration::from_mins(2);
    let token = platform.last_access_token(ACCOUNT).unwrap();
    let token = FernetKey::from_text(&scene.keys[0]).unwrap().encrypt(Plain::from(token), old).unwrap();
    let line = json!({ "access": token, "actions": ["post.create"] }).to_string();
    let app = scene.app.instance.app();
    let fault = import::line(app, &scene.operator, &import, &line).await.unwrap_err();
    assert!(matches!(fault, ImportFault::Unopened), "older than it may be");

    // An API key imports nothing, and neither does anybody into a workspace that is not there.
    let agent = Principal::api_key(scene.target.key, scene.target.workspace, app.clock.now());
    let fault = import::line(app, &agent, &scene.import(), &good.to_string()).await.unwrap_err();
    assert!(matches!(fault, ImportFault::Refused(service::Refusal::Forbidden)), "{fault}");
    let nowhere = Import { workspace: WorkspaceId::new(&app.clock), ..scene.import() };
    assert!(matches!(import::begin(app, &scene.operator, &nowhere).await, Err(service::Refusal::NotFound)));
    assert_eq!(scene.rows().await, (0, 0));
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_takes_nothing_from_an_owner_that_he_decided_here() {
    let scene = Scene::set().await;
    scene.granted_elsewhere(ACCOUNT).await;
    let narrow = scene.line(ACCOUNT, &["post.create"]);
    let Ok(Imported::New(id)) = scene.try_line(&narrow).await else { panic!("not imported") };
    let mut owner = scene.app.owner().await;
    sqlx::raw_sql(
        "set session_replication_role = replica; update keyholder.connections set state = 'reconnect_required', \
         reconnect_reason = 'refused', reconnect_since = clock_timestamp()",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let wide = scene.line(ACCOUNT, &["post.create", "post.delete"]);
    assert_eq!(scene.try_line(&wide).await.unwrap(), Imported::Renewed(id));
    let why: (String, Option<String>, Option<time::OffsetDateTime>) =
        sqlx::query_as("select state, reconnect_reason, reconnect_since from keyholder.connections")
            .fetch_one(&mut owner)
            .await
            .unwrap();
    assert_eq!(why, ("active".to_owned(), None, None), "nothing is left of what it waited for");
    let ceiling: Vec<String> =
        sqlx::query_scalar("select subject from keyholder.tuples where relation = 'ceiling' and object = $1")
            .bind(format!("connection:{id}"))
            .fetch_all(&mut owner)
            .await
            .unwrap();
    assert_eq!(ceiling, ["action:post.create"], "no wider than it was");
    scene.act(&id.to_string(), "lives again").await;

    // The owner ends it; the same account comes with another grant, and stays out.
    ok(scene.admin.delete(&format!("/v1/connections/{id}")).await.unwrap(), 200);
    let fault = scene.try_line(&wide).await.unwrap_err();
    assert_eq!(fault.word(), "token-refused", "the disconnection has revoked it");
    scene.granted_elsewhere(ACCOUNT).await;
    let fault = scene.try_line(&scene.line(ACCOUNT, &["post.create"])).await.unwrap_err();
    assert_eq!(fault.word(), "disconnected-by-owner");
    scene.app.stop().await;
}
