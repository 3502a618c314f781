//! Snapshots and their lease: what one node commits binds the others at once, with notifications and without them.
//!
//! Whatever goes through the database (an act, metered or not, a change, most reads) is bound by the revision; what is answered from
//! memory alone, by the notification and, where none comes, by the end of the lease.

use std::time::Duration;

use domain::{
    clock::Clock,
    id::{Id, KeyId, MandateId},
};
use keyholder::{Instance, caller::Caller};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, types::Uuid};
use tokio::sync::Mutex;

use crate::harness::{Entrusted, TestApp, eventually, ok, problem};

const READ: &str = "profile.read";

/// A mandate that nothing meters, one that the ledger meters, and a second node that has their facts in memory.
struct Scene {
    app: TestApp,
    node: Instance,
    free: Entrusted,
    metered: Entrusted,
    owner: PgConnection,
    listener: i32,
}

/// A clock that stands still, ahead of the database's: what it signs must not expire under a slow test.
fn standing_clock() -> Clock {
    Clock::set(Clock::system().now() + Duration::from_mins(10))
}

/// The backends that listen, of this test's database.
async fn listeners(owner: &mut PgConnection) -> Vec<i32> {
    let listening =
        "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%' order by 1";
    sqlx::query_scalar(listening).fetch_all(owner).await.unwrap()
}

impl Scene {
    async fn set(clock: Option<Clock>) -> Self {
        let app = TestApp::start().await;
        let free = app.entrust(&[READ], json!([])).await;
        let limits = json!([{ "unit": "acts", "per": "month", "cap": 1_000_000 }]);
        let metered = app.mandate(&free.connection, &[READ], limits).await;
        let mut owner = app.owner().await;
        let before = listeners(&mut owner).await;
        let node = app
            .second_node_with(|options| {
                if let Some(clock) = clock {
                    options.clock = clock;
                }
            })
            .await;
        let found = new_listener(&app, &before).await;
        let scene = Self { app, node, free, metered, owner, listener: found };
        scene.warm().await;
        scene
    }

    /// The second node sees everything, and so has the facts in memory.
    async fn warm(&self) {
        for entrusted in [&self.free, &self.metered] {
            ok(self.act(entrusted).await, 200);
            ok(self.there(&entrusted.agent).get("/v1/mandates").await.unwrap(), 200);
        }
    }

    /// A caller, at the second node.
    fn there(&self, caller: &Caller) -> Caller {
        Caller::new(self.node.url(), None).with_key(caller.key().unwrap())
    }

    /// An act, at the second node.
    async fn act(&self, entrusted: &Entrusted) -> keyholder::caller::Reply {
        self.there(&entrusted.agent).act(&entrusted.mandate, READ, &json!({}), None).await.unwrap()
    }

    async fn revoke_mandate(&self, entrusted: &Entrusted) {
        let path = format!("/v1/mandates/{}/revoke", entrusted.mandate);
        ok(self.app.admin.post(&path, &json!({})).await.unwrap(), 200);
    }

    async fn revoke_key(&self, entrusted: &Entrusted) {
        let path = format!("/v1/api-keys/{}", entrusted.agent_key);
        assert_eq!(self.app.admin.delete(&path).await.unwrap().status, 204);
    }

    /// Changes facts as the database's owner, under a raised head, and says nothing of it to anybody.
    async fn change_in_silence(&mut self, statement: &str, id: Uuid) {
        let raise = "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'";
        for plain in ["begin", raise] {
            sqlx::query(AssertSqlSafe(plain.to_owned())).execute(&mut self.owner).await.unwrap();
        }
        let changed = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(id).execute(&mut self.owner).await.unwrap();
        assert_eq!(changed.rows_affected(), 1, "{statement}");
        sqlx::query("commit").execute(&mut self.owner).await.unwrap();
    }

    async fn stop(self) {
        self.node.stop().await;
        self.app.stop().await;
    }
}

async fn new_listener(app: &TestApp, before: &[i32]) -> i32 {
    let owner = Mutex::new(app.owner().await);
    let newest = async || listeners(&mut *owner.lock().await).await.into_iter().find(|pid| !before.contains(pid));
    eventually("there is a new listener", async || newest().await.is_some()).await;
    newest().await.unwrap()
}

/// A backend that is stopped until this is dropped: it hears and says nothing, and its connection stays.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: i32) -> Self {
        let pid = Pid::from_raw(pid).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _gone = kill_process(self.0, Signal::CONT);
    }
}

fn uuid_of(mandate: &str) -> Uuid {
    mandate.parse::<MandateId>().unwrap().uuid()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_at_one_node_binds_the_other_at_once() {
    let scene = Scene::set(None).await;
    scene.revoke_mandate(&scene.free).await;
    assert_eq!(scene.act(&scene.free).await.status, 403, "nothing meters it");
    scene.revoke_mandate(&scene.metered).await;
    assert_eq!(scene.act(&scene.metered).await.status, 403, "metered");

    let agent = scene.there(&scene.metered.agent);
    assert_eq!(agent.get("/v1/workspace").await.unwrap().status, 200);
    scene.revoke_key(&scene.metered).await;
    let refused = agent.get("/v1/workspace").await.unwrap();
    assert_eq!(problem(&refused), (401, "unauthenticated".to_owned()));
    // What is answered from memory alone follows its notification.
    scene.revoke_key(&scene.free).await;
    let agent = scene.there(&scene.free.agent);
    let gone = async || agent.get("/v1/mandates").await.unwrap().status == 401;
    eventually("the other node hears of the key", gone).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_allows_the_other_does_not_refuse() {
    let scene = Scene::set(None).await;
    // Each is used at the other node in the very next request: it must not be refused by what is in memory there.
    for _ in 0..20 {
        let made = scene.app.mandate(&scene.free.connection, &[READ], json!([])).await;
        assert_eq!(scene.act(&made).await.status, 200);
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_listener_is_cut_is_right_all_the_same() {
    let mut scene = Scene::set(None).await;
    for round in 0..3 {
        let made = scene.app.mandate(&scene.free.connection, &[READ], json!([])).await;
        let limits = json!([{ "unit": "acts", "per": "month", "cap": 1_000_000 }]);
        let metered = scene.app.mandate(&scene.free.connection, &[READ], limits).await;
        assert_eq!((scene.act(&made).await.status.as_u16(), scene.act(&metered).await.status.as_u16()), (200, 200));
        let cut: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
            .bind(scene.listener)
            .fetch_one(&mut scene.owner)
            .await
            .unwrap();
        assert!(cut);
        scene.revoke_mandate(&made).await;
        scene.revoke_mandate(&metered).await;
        assert_eq!(scene.act(&made).await.status, 403, "round {round}");
        assert_eq!(scene.act(&metered).await.status, 403, "round {round}, metered");
        scene.revoke_key(&made).await;
        assert_eq!(scene.there(&made.agent).get("/v1/workspace").await.unwrap().status, 401, "round {round}");
        let agent = scene.there(&made.agent);
        let gone = async || agent.get("/v1/mandates").await.unwrap().status == 401;
        eventually("the node forgets what it had in memory", gone).await;
        // It listens again, on another connection.
        let old = scene.listener;
        let own: Vec<_> = {
            let mut owner = scene.app.owner().await;
            let all = listeners(&mut owner).await;
            all.into_iter().filter(|pid| *pid != old).collect()
        };
        scene.listener = match own.as_slice() {
            [_, _] => own.into_iter().max().unwrap(),
            _ => new_listener(&scene.app, &own).await,
        };
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_announced_binds_acts_by_their_revision() {
    let mut scene = Scene::set(None).await;
    for which in ["free", "metered"] {
        let entrusted = if which == "free" { scene.free.clone() } else { scene.metered.clone() };
        let id = uuid_of(&entrusted.mandate);
        let stale = "select coalesce(sum(1), 0)::bigint from keyholder.acts";
        let acts: i64 = sqlx::query_scalar(stale).fetch_one(&mut scene.owner).await.unwrap();
        scene.change_in_silence("update keyholder.mandates set revoked_at = now() where id = $1", id).await;
        let refused = scene.act(&entrusted).await;
        assert_eq!(refused.status, 403, "{which}: {}", refused.json());
        let after: i64 = sqlx::query_scalar(stale).fetch_one(&mut scene.owner).await.unwrap();
        assert_eq!(after, acts, "{which}: admitted by what was in memory");
        scene.change_in_silence("update keyholder.mandates set revoked_at = null where id = $1", id).await;
        let passed = scene.act(&entrusted).await;
        assert_eq!(passed.status, 200, "{which}: {}", passed.json());
    }
    // A key's end, likewise, for what asks the database.
    let key = scene.free.agent_key.parse::<KeyId>().unwrap().uuid();
    scene.change_in_silence("update keyholder.api_keys set revoked_at = now() where id = $1", key).await;
    assert_eq!(scene.there(&scene.free.agent).get("/v1/workspace").await.unwrap().status, 401);
    scene.change_in_silence("update keyholder.api_keys set revoked_at = null where id = $1", key).await;
    assert_eq!(scene.there(&scene.free.agent).get("/v1/workspace").await.unwrap().status, 200);
    // A budget that was narrowed in silence binds the next act.
    let budget: Uuid = sqlx::query_scalar("select id from keyholder.budgets where scope = 'mandate'")
        .fetch_one(&mut scene.owner)
        .await
        .unwrap();
    scene.change_in_silence("update keyholder.budgets set cap = 0 where id = $1", budget).await;
    let over = scene.act(&scene.metered.clone()).await;
    assert_eq!(problem(&over), (429, "budget-exceeded".to_owned()));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_cap_binds_the_next_read_at_a_node_that_has_not_heard_of_it() {
    // The lease does not end while the clock stands: by its memory nothing would ever meter this mandate.
    let scene = Scene::set(Some(standing_clock())).await;
    let stopped = Stopped::new(scene.listener);
    let cap =
        json!({ "scope": "principal", "subject": scene.free.agent_key, "unit": "acts", "per": "month", "cap": 1 });
    ok(scene.app.admin.post("/v1/budgets", &cap).await.unwrap(), 200);
    let first = ok(scene.act(&scene.free).await, 200);
    assert!(first["act"].is_string(), "the ledger has it: {first}");
    assert_eq!(problem(&scene.act(&scene.free).await), (429, "budget-exceeded".to_owned()));
    drop(stopped);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_trusted_for_the_lease_and_not_a_moment_longer() {
    let clock = standing_clock();
    let mut scene = Scene::set(Some(clock.clone())).await;
    let agent = scene.there(&scene.free.agent);
    let lease = scene.node.app().store.snapshots.clone();
    assert_eq!(lease.lease_overdue_ms(), 0);
    // The node's listener hears nothing from here on, and no beat comes back to it; its connection looks alive.
    let stopped = Stopped::new(scene.listener);
    let key = scene.free.agent_key.parse::<KeyId>().unwrap().uuid();
    scene.change_in_silence("update keyholder.api_keys set revoked_at = now() where id = $1", key).await;
    assert_eq!(agent.get("/v1/mandates").await.unwrap().status, 200, "nobody told it: else this test shows nothing");
    // Within the lease it goes on; the clock stands, so the last beat cannot have been sent later than now.
    clock.advance(Duration::from_millis(1_900));
    assert_eq!(lease.lease_overdue_ms(), 0);
    clock.advance(Duration::from_millis(1_200));
    assert!(lease.lease_overdue_ms() > 0);
    let refused = agent.get("/v1/mandates").await.unwrap();
    assert_eq!(problem(&refused), (401, "unauthenticated".to_owned()), "past the lease it asks the database");
    assert_eq!(scene.act(&scene.metered).await.status, 200, "and serves on");
    drop(stopped);
    eventually("it trusts its memory again", async || lease.lease_overdue_ms() == 0).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_the_node_itself_does_not_wait_for_its_own_notification() {
    let clock = standing_clock();
    let scene = Scene::set(Some(clock)).await;
    let stopped = Stopped::new(scene.listener);
    let admin = scene.there(&scene.app.admin);
    let agent = scene.there(&scene.free.agent);
    assert_eq!(agent.get("/v1/mandates").await.unwrap().status, 200);
    assert_eq!(admin.delete(&format!("/v1/api-keys/{}", scene.free.agent_key)).await.unwrap().status, 204);
    assert_eq!(agent.get("/v1/mandates").await.unwrap().status, 401);
    drop(stopped);
    scene.stop().await;
}
