//! Tenancy at the level of SQL, with the application out of the way: every tenant table that the catalogue knows, from another
//! tenant's signed context, from no context, and from contexts that are forged, stolen or too old.

use domain::{environment::Environment, id::Id};
use keyholder::local;
use seal::{Purpose, RootKey, mac};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, types::Uuid};

use crate::harness::{TestApp, home};

/// The functions that read sealed credentials for acts: those that binaries from before call, and the present one.
const OPENS: [&str; 3] = ["credentials_for_acts", "sealed_for_acts", "sealed_at_head"];

/// The context of a workspace for a backend, signed as the application signs it.
pub(crate) fn context(kind: &str, subject: Uuid, backend: i32, life_ms: i128) -> String {
    let root = RootKey::from_text(home().keys().root_key()).unwrap();
    let key = root.derive(Purpose::Context, Environment::Local);
    let expires = domain::clock::Clock::system().now().unix_timestamp_nanos() / 1_000_000 + life_ms;
    let claim = format!("{kind}|{subject}|{expires}");
    let mac = mac::hmac_sha256(key.as_bytes(), &[format!("{claim}|{backend}").as_bytes()]);
    format!("{claim}|{}", hex::encode(mac))
}

pub(crate) async fn backend(sql: &mut PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(sql).await.unwrap()
}

pub(crate) async fn set_context(sql: &mut PgConnection, context: &str) {
    sqlx::query("select set_config('keyholder.context', $1, false)").bind(context).execute(sql).await.unwrap();
}

/// Every table of the schema that has a workspace.
async fn tenant_tables(owner: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid \
         where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') and a.attname = 'workspace_id' order by 1",
    )
    .fetch_all(owner)
    .await
    .unwrap()
}

/// How many rows of a workspace a login sees; nothing, where the table is closed to it altogether.
async fn seen(sql: &mut PgConnection, table: &str, workspace: Uuid) -> Option<i64> {
    let statement = format!("select count(*) from keyholder.{table} where workspace_id = $1");
    match sqlx::query_scalar(AssertSqlSafe(statement)).bind(workspace).fetch_one(sql).await {
        Ok(count) => Some(count),
        Err(error) => {
            assert_eq!(code(&error).as_deref(), Some("42501"), "{table}: {error}");
            None
        }
    }
}

pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(|code| code.to_string())
}

/// A workspace with at least one row in every tenant table, and a second one.
async fn two_workspaces(app: &TestApp) -> (Uuid, Uuid) {
    let entrusted = app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "day", "cap": 5 }])).await;
    let done = entrusted.act("post.create", &json!({ "text": "mine" }), Some("one")).await;
    assert_eq!(done.status, 200);
    crate::fga::stocked(&app.admin).await;
    let folder = crate::objects::object(&app.admin, "folder", "Launch", None).await;
    assert_eq!(crate::objects::relate(&app.admin, &folder, "viewer", &entrusted.agent_key).await.status, 201);
    crate::role_templates::template(app, "Auditor", &["audit.read"], &[&entrusted.agent_key]).await;
    let other = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let mut owner = app.owner().await;
    let (mine, other) = (app.workspace_uuid(), other.workspace.uuid());
    // What comes and goes by itself is put there by hand.
    sqlx::query(
        "insert into keyholder.jobs (workspace_id, id, kind, subject, run_at) values ($1, $1, 'test', $1, 'infinity')",
    )
    .bind(mine)
    .execute(&mut owner)
    .await
    .unwrap();
    sqlx::query(
        "insert into keyholder.refreshes (workspace_id, connection_id, fence, version, node_id, leased_until) \
         select workspace_id, id, 1, 0, id, '-infinity' from keyholder.connections where workspace_id = $1",
    )
    .bind(mine)
    .execute(&mut owner)
    .await
    .unwrap();
    sqlx::query(
        "insert into keyholder.retired_credentials (workspace_id, connection_id, version, field, data_key_id, sealed) \
         select workspace_id, connection_id, 0, field, data_key_id, sealed from keyholder.credentials \
         where workspace_id = $1 and field = 'access'",
    )
    .bind(mine)
    .execute(&mut owner)
    .await
    .unwrap();
    sqlx::query(
        "with drill as (insert into keyholder.kill_drills (id, reason, proposed_by) values (gen_random_uuid(), 'x', 'a') returning id) \
         insert into keyholder.kill_drill_connections (workspace_id, drill_id, connection_id, provider) \
         select c.workspace_id, drill.id, c.id, c.provider from keyholder.connections c, drill where c.workspace_id = $1",
    )
    .bind(mine)
    .execute(&mut owner)
    .await
    .unwrap();
    (mine, other)
}

async fn finish(app: TestApp) {
    let mut owner = app.owner().await;
    sqlx::query("delete from keyholder.jobs where kind = 'test'").execute(&mut owner).await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tenant_table_is_closed_to_everybody_else() {
    let app = TestApp::start().await;
    let (mine, other) = two_workspaces(&app).await;
    let mut owner = app.owner().await;
    let tables = tenant_tables(&mut owner).await;
    assert!(tables.len() >= 23, "{tables:?}");
    for login in ["app", "loader"] {
        let mut sql = app.login(login).await;
        let pid = backend(&mut sql).await;
        for table in &tables {
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
                "select count(*) from keyholder.{table} where workspace_id = $1"
            )))
            .bind(mine)
            .fetch_one(&mut owner)
            .await
            .unwrap();
            assert!(rows > 0, "{table} has no row to be stolen: it was not tried");

            set_context(&mut sql, &context("workspace", mine, pid, 20_000)).await;
            let own = seen(&mut sql, table, mine).await;
            assert!(own.is_none_or(|own| own == rows), "{login} sees {own:?} of its own {rows} rows in {table}");
            set_context(&mut sql, &context("workspace", other, pid, 20_000)).await;
            assert_eq!(seen(&mut sql, table, mine).await.unwrap_or(0), 0, "{login} sees another tenant's {table}");
            set_context(&mut sql, "").await;
            assert_eq!(seen(&mut sql, table, mine).await.unwrap_or(0), 0, "{login} sees {table} without a context");
        }
    }
    // What no context opens for the application at all, named: the ledger's own table of keys.
    let mut sql = app.login("app").await;
    let pid = backend(&mut sql).await;
    set_context(&mut sql, &context("workspace", mine, pid, 20_000)).await;
    let mut closed = Vec::new();
    for table in &tables {
        if seen(&mut sql, table, mine).await.is_none() {
            closed.push(table.as_str());
        }
    }
    assert_eq!(closed, ["idempotency"]);
    finish(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_read_for_an_act_under_its_own_workspaces_context_alone() {
    let app = TestApp::start().await;
    let (mine, other) = two_workspaces(&app).await;
    let mandate: Uuid = sqlx::query_scalar("select id from keyholder.mandates where workspace_id = $1")
        .bind(mine)
        .fetch_one(&mut app.owner().await)
        .await
        .unwrap();
    let mut sql = app.login("app").await;
    let pid = backend(&mut sql).await;
    let own = context("workspace", mine, pid, 20_000);
    let foreign = context("workspace", other, pid, 20_000);
    let moved = own.replace(&mine.to_string(), &other.to_string());
    let tries = [
        ("its own", vec![own.clone()], vec![1]),
        ("another's", vec![foreign.clone()], vec![]),
        ("another's, then its own", vec![foreign.clone(), own.clone()], vec![2]),
        ("its own, then another's", vec![own.clone(), foreign], vec![1]),
        ("its own, then none", vec![own.clone(), String::new()], vec![1]),
        ("another backend's", vec![context("workspace", mine, pid + 1, 20_000)], vec![]),
        ("one that is over", vec![context("workspace", mine, pid, -1_000)], vec![]),
        ("an account's", vec![context("account", mine, pid, 20_000)], vec![]),
        ("one for another with its own signature", vec![moved], vec![]),
        ("none", vec![String::new()], vec![]),
    ];
    for function in OPENS {
        for (whose, contexts, expected) in &tries {
            let places: Vec<i32> = (1..).take(contexts.len()).collect();
            let read = format!("select ord from keyholder.{function}($1, $2, $2, $3)");
            let found: Vec<i32> = sqlx::query_scalar(AssertSqlSafe(read))
                .bind(contexts)
                .bind(&places)
                .bind(vec![mandate; contexts.len()])
                .fetch_all(&mut sql)
                .await
                .unwrap();
            assert_eq!(&found, expected, "{function} under {whose}");
        }
    }
    finish(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_can_be_written_for_another_tenant_nor_moved_to_one() {
    let app = TestApp::start().await;
    let (mine, other) = two_workspaces(&app).await;
    let mut owner = app.owner().await;
    let mut sql = app.login("app").await;
    let pid = backend(&mut sql).await;
    let (mut tried, tables) = (0, tenant_tables(&mut owner).await);
    for table in &tables {
        let own = context("workspace", mine, pid, 20_000);
        let foreign = context("workspace", other, pid, 20_000);
        // What the login may write at all: where it may write nothing, its insertion names no column and is refused.
        let columns: String = sqlx::query_scalar(
            "select coalesce(string_agg(quote_ident(a.attname), ', ' order by a.attnum), '') from pg_attribute a \
             where a.attrelid = ('keyholder.' || $1)::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' \
               and has_column_privilege(a.attrelid, a.attnum, 'insert')",
        )
        .bind(table)
        .fetch_one(&mut sql)
        .await
        .unwrap();
        // A copy of one of my rows, kept where the application's login can read it whatever its context.
        let loot = format!(
            "drop table if exists public.loot; \
             create table public.loot as select * from keyholder.{table} where workspace_id = '{mine}' limit 1; \
             grant select on public.loot to public"
        );
        sqlx::raw_sql(AssertSqlSafe(loot)).execute(&mut owner).await.unwrap();
        let statements = [
            (&foreign, format!("insert into keyholder.{table} ({columns}) select {columns} from public.loot")),
            (
                &foreign,
                format!("update keyholder.{table} set workspace_id = workspace_id where workspace_id = '{mine}'"),
            ),
            (&foreign, format!("delete from keyholder.{table} where workspace_id = '{mine}'")),
            (&own, format!("update keyholder.{table} set workspace_id = '{other}' where workspace_id = '{mine}'")),
        ];
        for (context, statement) in statements {
            tried += 1;
            let mut transaction = sql.begin().await.unwrap();
            set_context(&mut transaction, context).await;
            if let Ok(done) = sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await {
                assert_eq!(done.rows_affected(), 0, "{statement}");
            }
            transaction.rollback().await.unwrap();
        }
    }
    assert_eq!(tried, tables.len() * 4);
    finish(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_good_for_one_backend_one_tenant_and_a_few_seconds() {
    let app = TestApp::start().await;
    let (mine, other) = two_workspaces(&app).await;
    let mut sql = app.login("app").await;
    let mut elsewhere = app.login("app").await;
    let pid = backend(&mut sql).await;
    let good = context("workspace", mine, pid, 20_000);
    let visible = async |sql: &mut PgConnection, context: &str| {
        set_context(sql, context).await;
        seen(sql, "connections", mine).await.unwrap()
    };
    assert_eq!(visible(&mut sql, &good).await, 1, "the good one opens");
    let swapped = good.replace(&mine.to_string(), &other.to_string());
    assert_eq!(visible(&mut sql, &swapped).await, 0, "another subject under the same MAC");
    set_context(&mut sql, &swapped).await;
    assert_eq!(seen(&mut sql, "connections", other).await, Some(0));
    assert_eq!(visible(&mut elsewhere, &good).await, 0, "the same context on another backend");
    assert_eq!(visible(&mut sql, &context("workspace", mine, pid, -1)).await, 0, "one that has expired");
    assert_eq!(visible(&mut sql, &context("account", mine, pid, 20_000)).await, 0, "one of another kind");
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    assert_eq!(visible(&mut sql, &flipped).await, 0, "one flipped digit");
    for broken in ["workspace", "workspace|x|y|z", "|||", "a|b|c|d|e"] {
        assert_eq!(visible(&mut sql, broken).await, 0, "{broken}");
    }
    // The key itself is out of reach for every login that serves.
    for login in ["app", "ledger", "lookup", "loader"] {
        let mut sql = app.login(login).await;
        let refused = sqlx::query("select * from keyholder.context_keys").fetch_all(&mut sql).await.unwrap_err();
        assert_eq!(code(&refused).as_deref(), Some("42501"), "{login}");
    }
    finish(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_change_only_under_a_raised_head() {
    let app = TestApp::start().await;
    let (mine, _) = two_workspaces(&app).await;
    let mut sql = app.login("app").await;
    let pid = backend(&mut sql).await;
    let add = "insert into keyholder.tuples (workspace_id, object, relation, subject) values ($1, 'a:b', 'c', 'd:e')";
    let mut transaction = sql.begin().await.unwrap();
    set_context(&mut transaction, &context("workspace", mine, pid, 20_000)).await;
    let refused = sqlx::query(add).bind(mine).execute(&mut *transaction).await.unwrap_err();
    assert_eq!(code(&refused).as_deref(), Some("KH001"), "{refused}");
    transaction.rollback().await.unwrap();

    let mut transaction = sql.begin().await.unwrap();
    let head = sqlx::query("select epoch, revision from keyholder.enter($1, 'workspace', $2, true)")
        .bind(context("workspace", mine, pid, 20_000))
        .bind(mine)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert!(head.get::<i64, _>("revision") > 1);
    sqlx::query(add).bind(mine).execute(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    finish(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_login_can_do_its_own_work_and_no_other() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    let relations: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p')",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(relations.len() >= 20);
    for group in ["app", "ledger", "lookup", "loader"] {
        for table in &relations {
            let rights: Vec<String> = sqlx::query_scalar(
                "select p from unnest(array['SELECT','INSERT','UPDATE','DELETE','TRUNCATE','REFERENCES','TRIGGER']) p \
                 where has_table_privilege('keyholder_' || $1, 'keyholder.' || quote_ident($2), p)",
            )
            .bind(group)
            .bind(table)
            .fetch_all(&mut owner)
            .await
            .unwrap();
            let forbidden = |right: &String| match group {
                "ledger" | "lookup" => true,
                "loader" => right != "SELECT" || matches!(table.as_str(), "credentials" | "data_keys" | "accounts"),
                _ => matches!(right.as_str(), "TRUNCATE" | "REFERENCES" | "TRIGGER"),
            };
            let wrong: Vec<_> = rights.iter().filter(|right| forbidden(right)).collect();
            assert!(wrong.is_empty(), "{group} has {wrong:?} on {table}");
        }
        let functions: Vec<String> = sqlx::query_scalar(
            "select p.proname::text from pg_proc p where p.pronamespace = 'keyholder'::regnamespace \
             and has_function_privilege('keyholder_' || $1, p.oid, 'EXECUTE') order by 1",
        )
        .bind(group)
        .fetch_all(&mut owner)
        .await
        .unwrap();
        let prefix = match group {
            "ledger" => "ledger_",
            "lookup" => "lookup_",
            _ => "",
        };
        assert!(!functions.is_empty());
        assert!(functions.iter().all(|name| name.starts_with(prefix)), "{group}: {functions:?}");
        if prefix.is_empty() {
            let reads = [
                "context_subject",
                "current_account",
                "current_installation",
                "current_workspace",
                "enter",
                // Asks for a signed context as well, and tells of that workspace alone.
                "role_template_trail",
            ];
            let (opens, others): (Vec<_>, Vec<_>) =
                functions.iter().map(String::as_str).partition(|name| OPENS.contains(name));
            // What looks across workspaces, or ends one, and asks for a signed context of its own first; and what reads no row at all.
            let keys = [
                "begin_shredding",
                "epoch_data_keys",
                "fga_row_bytes",
                "provider_file_number",
                "role_templates_after",
                "shred_keys",
                "shred_page",
                "workspaces_after",
                "workspaces_with_idle_keys",
                "workspaces_wrapped_before",
            ];
            let (across, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|name| keys.contains(name));
            assert_eq!(across.len(), if group == "app" { keys.len() } else { 0 }, "{group}: {across:?}");
            assert_eq!(others, reads);
            assert_eq!(
                opens.len(),
                if group == "app" { OPENS.len() } else { 0 },
                "the application alone opens credentials"
            );
        }
    }
    app.stop().await;
}

/// The harness runs one home for all tests; each has its own database, and what one does the next does not see.
#[tokio::test(flavor = "multi_thread")]
async fn tests_do_not_share_rows() {
    let one = TestApp::start().await;
    let two = TestApp::start().await;
    assert_ne!(one.database, two.database);
    let mut owner = two.owner().await;
    let workspaces: i64 =
        sqlx::query_scalar("select count(*) from keyholder.workspaces").fetch_one(&mut owner).await.unwrap();
    assert_eq!(workspaces, 1);
    one.stop().await;
    two.stop().await;
}
