//! Shredding: nothing of the workspace is left in any table, and what was copied before opens only until the epoch is destroyed.

use domain::{
    id::{ConnectionId, DataKeyId, Id, WorkspaceId},
    principal::Principal,
};
use keyholder::local;
use sandbox::{Call, Quirk, Route, Scope};
use seal::{Binding, Field, Keyring, Sealed, UnwrapError, WrappedDataKey};
use service::workspace::{ShredCertificate, shred};
use sqlx::{Connection as _, types::Uuid};

use super::*;
use crate::{
    harness::{ACCOUNT, RETURN, catalogue_with},
    isolation::{backend, code, context, set_context},
};

/// A credential and its wrapped data key, as a backup has them.
struct Copy {
    workspace: WorkspaceId,
    connection: ConnectionId,
    provider: String,
    sealed: Vec<u8>,
    key: DataKeyId,
    wrapped: WrappedDataKey,
}

impl Copy {
    async fn take(scene: &Scene, connection: &str) -> Self {
        let connection: ConnectionId = connection.parse().unwrap();
        let row: (Uuid, String, Vec<u8>, Uuid, i64, Vec<u8>) = sqlx::query_as(
            "select d.workspace_id, c.provider, d.sealed, k.id, k.epoch, k.wrapped from keyholder.credentials d \
             join keyholder.connections c on c.id = d.connection_id join keyholder.data_keys k on k.id = d.data_key_id \
             where d.connection_id = $1 and d.field = 'access'",
        )
        .bind(connection.uuid())
        .fetch_one(&mut scene.app.owner().await)
        .await
        .unwrap();
        Self {
            workspace: WorkspaceId::from_uuid(row.0),
            connection,
            provider: row.1,
            sealed: row.2,
            key: DataKeyId::from_uuid(row.3),
            wrapped: WrappedDataKey { epoch: EpochId::from_i64(row.4), bytes: row.5 },
        }
    }

    /// What somebody does who has the backup, the root key and this keyring.
    fn open(&self, keyring: &Keyring) -> Result<Vec<u8>, UnwrapError> {
        let key = self.wrapped.unwrap(keyring, self.workspace, self.key)?;
        let place =
            seal::Place::Credential { connection: self.connection, provider: &self.provider, field: Field::Access };
        let binding = Binding::new(Environment::Local, self.workspace, self.key, place).unwrap();
        let opened = seal::open_credential(&key, &binding, &Sealed::from_bytes(self.sealed.clone())).unwrap();
        Ok(opened.secret.into_exposed().to_vec())
    }
}

/// How many rows name the workspace, in every table of the catalogue.
async fn left(scene: &Scene, workspace: Uuid) -> Vec<(String, i64)> {
    let mut owner = scene.app.owner().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid \
         where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') and a.attname = 'workspace_id'",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    let mut found = Vec::new();
    let by = |table: String, column: &str| (format!("keyholder.{table}"), column.to_owned());
    let mut places: Vec<_> = tables.into_iter().map(|table| by(table, "workspace_id")).collect();
    places.push(by("heads".to_owned(), "id"));
    for (table, column) in places {
        let statement = format!("select count(*) from {table} where {column} = $1");
        let rows: i64 =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(workspace).fetch_one(&mut owner).await.unwrap();
        if rows > 0 {
            found.push((table, rows));
        }
    }
    found
}

async fn shred_it(scene: &Scene, workspace: WorkspaceId, name: &str) -> Result<ShredCertificate, service::Refusal> {
    let operator = Principal::operator("test", scene.clock.now());
    shred(scene.app.instance.app(), &operator, workspace, name, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_shredded_workspace_nothing_is_left_and_backups_die_with_their_epoch() {
    let mut scene = Scene::set().await;
    // A neighbour with the same account, which must notice nothing.
    let neighbour = local::create_workspace(scene.app.instance.app(), "Neighbour").await.unwrap();
    let admin = std::mem::replace(&mut scene.app.admin, scene.app.stranger.with_key(&neighbour.text));
    ok(scene.app.admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);
    let beside = scene.app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "day", "cap": 9 }])).await;
    scene.app.admin = admin;
    let mine = scene.app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "day", "cap": 9 }])).await;
    scene.app.connect("rival_brand", &["post.create"]).await;
    post(&mine.agent, &mine, "mine").await;
    post(&beside.agent, &beside, "beside").await;
    let workspace = scene.app.first.workspace;
    let copies = [Copy::take(&scene, &mine.connection).await, Copy::take(&scene, &beside.connection).await];
    let token = copies[0].open(&scene.keyring).unwrap();
    assert!(left(&scene, workspace.uuid()).await.len() > 10);
    let others = left(&scene, neighbour.workspace.uuid()).await;

    let wrong = shred_it(&scene, workspace, "Acme").await;
    assert!(matches!(wrong, Err(service::Refusal::Invalid(_))), "{wrong:?}");
    post(&mine.agent, &mine, "still").await;
    let certificate = shred_it(&scene, workspace, "Acme <b>Incorporated</b>").await.unwrap();
    assert_eq!((certificate.connections, certificate.revoked_at_provider, certificate.found_dead), (2, 2, 2));
    assert_eq!(certificate.data_keys.len(), 1);
    assert_eq!((certificate.data_keys[0].id, certificate.data_keys[0].epoch), (copies[0].key, 1));
    assert!(certificate.rows_deleted > 20, "{certificate:?}");
    assert_eq!(left(&scene, workspace.uuid()).await, []);
    assert_eq!(left(&scene, neighbour.workspace.uuid()).await, others, "another workspace is untouched");
    let gone = mine.agent.act(&mine.mandate, "post.create", &json!({ "text": "late" }), Some("late")).await.unwrap();
    assert!([401, 404].contains(&gone.status.as_u16()), "{}", gone.status);
    post(&beside.agent, &beside, "after").await;
    assert_eq!(shred_it(&scene, workspace, "whatever").await.unwrap(), certificate, "it is told again");
    assert_eq!(scene.count("shreddings where name is not null").await, 0);

    // The honest sentence: a backup opens until the epoch is gone.
    assert_eq!(copies[0].open(&scene.keyring).unwrap(), token);
    scene.new_epoch().await;
    scene.rewrap().await;
    let fresh = Copy::take(&scene, &beside.connection).await;
    scene.sql("update epochs set last_used_at = clock_timestamp() - interval '31 days' where epoch = 1").await;
    eventually("no node wraps under it", async || scene.count("nodes where wrapping = 1").await == 0).await;
    epoch::destroy(scene.store(), &scene.keyring, EpochId::from_i64(1), false).await.unwrap();
    for copy in &copies {
        assert_eq!(copy.open(&open(&scene.path())), Err(UnwrapError::DestroyedEpoch(EpochId::from_i64(1))));
    }
    assert!(fresh.open(&open(&scene.path())).is_ok(), "what lives was wrapped anew");
    post(&beside.agent, &beside, "at the end").await;
    scene.app.stop().await;
}

/// The first thing that a shredding takes from a data key is its wrapping: from then on the key that a node still has in memory is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_that_was_emptied_opens_nothing_though_nodes_have_it_in_memory() {
    let scene = Scene::set().await;
    let mine = scene.app.entrust(&["post.create"], json!([])).await;
    post(&mine.agent, &mine, "before").await;
    scene.sql("update data_keys set wrapped = ''").await;
    let calls = scene.app.sandbox.platform().requests().len();
    let refused = mine.agent.act(&mine.mandate, "post.create", &json!({ "text": "x" }), Some("x")).await.unwrap();
    assert_eq!(problem(&refused), (503, "credential-unavailable".to_owned()));
    assert_eq!(scene.app.sandbox.platform().requests().len(), calls, "nothing is sent");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shredding_goes_on_where_it_was_broken_off_and_no_provider_stops_it() {
    let scene = Scene::set().await;
    let mine = scene.app.entrust(&["post.create"], json!([])).await;
    post(&mine.agent, &mine, "mine").await;
    let workspace = scene.app.first.workspace;
    let copy = Copy::take(&scene, &mine.connection).await;
    // A provider that answers nothing is asked about three connections, and about no more.
    let platform = scene.app.sandbox.platform().clone();
    for handle in ["brand_0", "brand_1", "brand_2", "brand_3"] {
        platform.open_account(handle, handle);
        scene.app.connect(handle, &["post.create"]).await;
    }
    platform.switch(Quirk::Status { code: 503, retry_after_s: None }, Scope::always(Route::Any)).unwrap();
    let asked = platform.calls(Call::Revoke);
    // Broken off in the last part: the table that cannot be emptied stands for whatever ends the process.
    scene.sql("create function no() returns trigger language plpgsql as 'begin raise exception ''no''; end'").await;
    scene.sql("create trigger no before delete on data_keys for each row execute function no()").await;
    let broken = shred_it(&scene, workspace, "Acme <b>Incorporated</b>").await;
    assert!(broken.is_err(), "{broken:?}");
    assert!(platform.calls(Call::Revoke) > asked);
    // Acts have stopped and nothing opens; the rest is still there.
    let refused = mine.agent.act(&mine.mandate, "post.create", &json!({ "text": "x" }), Some("x")).await.unwrap();
    assert_eq!(refused.status, 401);
    let rows = scene.count("data_keys where wrapped = ''").await;
    assert_eq!((rows, scene.count("data_keys where wrapped <> ''").await), (1, 0));
    scene.sql("drop trigger no on data_keys").await;
    let certificate = shred_it(&scene, workspace, "Acme <b>Incorporated</b>").await.unwrap();
    let ShredCertificate { connections, revoked_at_provider, found_dead, .. } = &certificate;
    assert_eq!((*connections, *revoked_at_provider, *found_dead), (5, 0, 0));
    assert_eq!(certificate.data_keys.len(), 1);
    assert_eq!(certificate.data_keys[0].id, copy.key);
    assert_eq!(left(&scene, workspace.uuid()).await, []);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_provider_is_mended_before_its_grants_are_shredded() {
    let scene = Scene::set().await;
    let mine = scene.app.entrust(&["post.create"], json!([])).await;
    let (changed, path) = (catalogue_with("api.x.com/2/oauth2/revoke", "x.com/2/oauth2/revoke"), scene.path());
    let node = scene.app.second_node_with(|options| (options.catalogue, options.keyring) = (changed, path)).await;
    let operator = Principal::operator("test", scene.clock.now());
    let name = "Acme <b>Incorporated</b>";
    let refused = shred(node.app(), &operator, scene.app.first.workspace, name, |_| {}).await;
    assert!(matches!(refused, Err(service::Refusal::ProviderNotMigrated(_))), "{refused:?}");
    assert_eq!(scene.count("shreddings").await, 0);
    post(&mine.agent, &mine, "nothing has begun").await;
    node.stop().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_connected_while_a_workspace_is_shredded() {
    let scene = Scene::set().await;
    scene.app.connect(ACCOUNT, &["post.create"]).await;
    scene.app.link(&["post.create"]).await;
    // A finished step is as far as this one comes: the provider's answer is what it waits for.
    scene.sql("create function no() returns trigger language plpgsql as 'begin raise exception ''no''; end'").await;
    scene.sql("create trigger no before update on data_keys for each row execute function no()").await;
    let workspace = scene.app.first.workspace;
    assert!(shred_it(&scene, workspace, "Acme <b>Incorporated</b>").await.is_err());
    assert_eq!(scene.count("connect_links").await, 0, "no open link ends in a connection");
    let mut owner = scene.app.owner().await;
    owner_sql(&mut owner).await;
    for (statement, expected) in [
        ("update connections set state = 'active'", Some("KH005")),
        (
            "insert into connections (workspace_id, id, provider, provider_digest, account_id, account_name, owner_id, state, scopes, \
             created_at) select workspace_id, gen_random_uuid(), provider, provider_digest, account_id, account_name, owner_id, 'inert', \
             scopes, created_at from connections",
            Some("KH005"),
        ),
    ] {
        let mut transaction = owner.begin().await.unwrap();
        let raise =
            "update heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'";
        sqlx::query(raise).execute(&mut *transaction).await.unwrap();
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await;
        assert_eq!(done.err().and_then(|error| code(&error)).as_deref(), expected, "{statement}");
        transaction.rollback().await.unwrap();
    }
    scene.app.stop().await;
}

/// A workspace's own context, good as it is, cannot say that the workspace be shredded; nor is the head of another transaction enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_cannot_shred_itself() {
    let scene = Scene::set().await;
    scene.app.connect(ACCOUNT, &["post.create"]).await;
    let workspace = scene.app.workspace_uuid();
    let mut sql = scene.app.login("app").await;
    let pid = backend(&mut sql).await;
    let context = context("workspace", workspace, pid, 20_000);
    for asked in [false, true] {
        if asked {
            let mut owner = scene.app.owner().await;
            let row =
                "insert into keyholder.shreddings (id, name, begun_at, keys_deleted_at) values ($1, 'x', now(), now())";
            sqlx::query(row).bind(workspace).execute(&mut owner).await.unwrap();
        }
        for (statement, expected) in [
            ("insert into shreddings (id, name) values ($1, 'x')", "42501"),
            ("update shreddings set name = 'x' where id = $1", "42501"),
            ("select begin_shredding($1)", "KH003"),
            ("select shred_keys($1)", "KH003"),
            ("select * from shred_page($1, 10)", "KH003"),
        ] {
            let mut transaction = sql.begin().await.unwrap();
            set_context(&mut transaction, &context).await;
            if !asked {
                // Its head is raised: what lacks is the installation's word.
                let enter = sqlx::query("select epoch from keyholder.enter($1, 'workspace', $2, true)");
                enter.bind(&context).bind(workspace).execute(&mut *transaction).await.unwrap();
            }
            let refused =
                sqlx::query(AssertSqlSafe(statement.to_owned())).bind(workspace).execute(&mut *transaction).await;
            assert_eq!(refused.err().and_then(|error| code(&error)).as_deref(), Some(expected), "{asked}: {statement}");
            transaction.rollback().await.unwrap();
        }
    }
    assert_eq!(scene.count("connections").await, 1);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_a_context_shreds_and_rotates_nothing() {
    let scene = Scene::set().await;
    scene.app.connect(ACCOUNT, &["post.create"]).await;
    let workspace = scene.app.workspace_uuid();
    let mut sql = scene.app.login("app").await;
    let refused = sqlx::query("select * from shred_page($1, 10)").bind(workspace).execute(&mut sql).await.unwrap_err();
    assert!(refused.to_string().contains("not being shredded"), "{refused}");
    for (statement, nothing) in [
        ("select count(*) from epoch_data_keys()", 0_i64),
        ("select count(*) from workspaces_after(null, 10)", 0),
        ("select count(*) from workspaces_wrapped_before(99, null, 10)", 0),
        ("select count(*) from nodes", 0),
        ("select count(*) from epochs", 0),
        ("select count(*) from rotations", 0),
        ("select count(*) from shreddings", 0),
    ] {
        let seen: i64 = sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut sql).await.unwrap();
        assert_eq!(seen, nothing, "{statement}");
    }
    let forged =
        sqlx::query("insert into shreddings (id, name) values ($1, 'x')").bind(workspace).execute(&mut sql).await;
    assert!(forged.unwrap_err().to_string().contains("row-level security"));
    scene.app.stop().await;
}
