//! The ledger's housekeeping: what it does each second, whatever fails of it, and whoever is in its way.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::Mutex;

use crate::{
    acts::ALL,
    harness::{TestApp, eventually, ok},
};

/// The functions that are called each second, each with what it takes, what it answers, and such an answer.
const STEPS: [(&str, &str, &str, &str); 4] = [
    (
        "ledger_watch",
        "p_flushed bigint",
        "table (reason text, pending boolean, flushed bigint)",
        "query select null::text, false, 0::bigint",
    ),
    (
        "ledger_sweep",
        "p_most integer",
        "table (workspace_id uuid, id uuid)",
        "query select gen_random_uuid(), gen_random_uuid() where false",
    ),
    ("ledger_expire", "p_most integer", "integer", "0"),
    (
        "ledger_standing",
        "",
        "table (unsettled bigint, oldest_unsettled_s double precision, ambiguous bigint, indebted bigint)",
        "query select 0::bigint, 0::double precision, 0::bigint, 0::bigint",
    ),
];

/// Has a function note that it was called, or fail.
async fn replace(owner: &mut PgConnection, (name, takes, answers, answer): (&str, &str, &str, &str), fails: bool) {
    let does = if fails {
        "raise exception 'it does not come through'".to_owned()
    } else {
        format!("insert into keyholder.called values ('{name}'); return {answer}")
    };
    let statement = format!(
        "create or replace function keyholder.{name}({takes}) returns {answers} language plpgsql volatile security definer \
         as $$ begin {does}; end $$"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(owner).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_stops_no_other() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    for statement in ["create table keyholder.called (step text not null)", "grant all on keyholder.called to public"] {
        sqlx::query(statement).execute(&mut owner).await.unwrap();
    }
    for step in STEPS {
        replace(&mut owner, step, false).await;
    }
    let watcher = Mutex::new(app.owner().await);
    for broken in STEPS {
        replace(&mut owner, broken, true).await;
        sqlx::query("truncate keyholder.called").execute(&mut owner).await.unwrap();
        // Twice, since a round may have been under way that met no fault.
        eventually(&format!("without {} the others go on", broken.0), async || {
            let twice = "select count(*) from (select step from keyholder.called group by step having count(*) > 1) x where step <> $1";
            let mut sql = watcher.lock().await;
            let others: i64 = sqlx::query_scalar(twice).bind(broken.0).fetch_one(&mut *sql).await.unwrap();
            others == 3
        })
        .await;
        replace(&mut owner, broken, false).await;
    }
    app.stop().await;
}

/// The keys that are kept, by their names.
async fn keys(owner: &Mutex<PgConnection>) -> Vec<String> {
    let keys = sqlx::query_scalar("select key from keyholder.idempotency order by key");
    keys.fetch_all(&mut *owner.lock().await).await.unwrap()
}

/// An admission that uses an expired key again holds the key, and a settlement holds the act behind one: neither is waited for, and nothing
/// is held that they may want next.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_waits_for_nobody() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let owner = Mutex::new(app.owner().await);
    let held = [
        "select from keyholder.idempotency where key = 'b' for update",
        "select from keyholder.acts where id = (select act_id from keyholder.idempotency where key = 'b') for update",
    ];
    for hold in held {
        for key in ["a", "b", "c"] {
            ok(entrusted.act("post.create", &json!({ "text": key }), Some(key)).await, 200);
        }
        // Nothing is cleared away before the one is held.
        let mut other = app.owner().await;
        for statement in [
            "revoke execute on function keyholder.ledger_expire from public, keyholder_ledger",
            "update keyholder.idempotency set expires_at = clock_timestamp() - interval '1 second'",
            "begin",
            hold,
        ] {
            sqlx::query(statement).execute(&mut other).await.unwrap();
        }
        let allow = "grant execute on function keyholder.ledger_expire to keyholder_ledger";
        sqlx::query(allow).execute(&mut *owner.lock().await).await.unwrap();
        eventually("the others are cleared away", async || keys(&owner).await == ["b"]).await;
        // Whoever holds the one gets at the other.
        for next in held {
            assert_eq!(sqlx::query(next).execute(&mut other).await.unwrap().rows_affected(), 1);
        }
        sqlx::query("commit").execute(&mut other).await.unwrap();
        eventually("it is cleared away", async || keys(&owner).await.is_empty()).await;
    }
    drop(owner);
    app.stop_without_a_deadlock().await;
}
