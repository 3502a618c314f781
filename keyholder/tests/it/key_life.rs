//! The life of keys: epochs that wait for every node, rotations that run beside acts, and what is destroyed at the end.
//!
//! Each test has a keyring of its own: an epoch that is made or destroyed here is nobody else's.

mod shred;
mod stale_keyring;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use domain::{clock::Clock, environment::Environment, id::NodeId, principal::Principal};
use futures_util::future::join_all;
use keyholder::{Instance, StartError, caller::Caller};
use seal::{EpochId, EpochState, Keyring, KeyringError, RootKey};
use serde_json::{Value, json};
use service::{
    epoch::{self, EpochError},
    rotation::{self, Order},
};
use sqlx::{AssertSqlSafe, PgConnection};
use store::rotation::{Kind, Standing, sealed};
use tempfile::TempDir;

use crate::{
    harness::{Entrusted, TestApp, eventually, home, ok, problem, text},
    serve::Operator,
};

/// A server with a keyring of its own, and that keyring as a command has it.
struct Scene {
    app: TestApp,
    folder: TempDir,
    keyring: Keyring,
    clock: Clock,
}

fn open(path: &Path) -> Keyring {
    let root = RootKey::from_text(home().keys().root_key()).unwrap();
    Keyring::open(path, &root, Environment::Local).unwrap()
}

impl Scene {
    async fn set() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keyring.json");
        std::fs::copy(home().keys().keyring(), &path).unwrap();
        let app = TestApp::start_with(|options| options.keyring.clone_from(&path)).await;
        let keyring = open(&path);
        Self { app, folder, keyring, clock: Clock::system() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keyring.json")
    }

    async fn node(&self) -> Instance {
        let path = self.path();
        self.app.second_node_with(|options| options.keyring = path).await
    }

    /// A start that must fail, with that keyring.
    async fn refused(&self, keyring: PathBuf) -> StartError {
        let place = keyholder::local::Place { database: &self.app.database, port: 0 };
        let mut options = place.options(home().keys(), None, &self.app.secret).unwrap();
        (options.connections, options.keyring) = (2, keyring);
        Instance::start(options).await.err().unwrap()
    }

    fn store(&self) -> &store::Store {
        &self.app.instance.app().store
    }

    async fn activate(&self, epoch: Option<EpochId>) -> Result<EpochId, EpochError> {
        epoch::activate(self.store(), &self.keyring, epoch).await
    }

    /// A new epoch, which wraps.
    async fn new_epoch(&self) -> EpochId {
        epoch::begin(self.store(), &self.keyring, &self.clock, Duration::from_mins(1)).await.unwrap()
    }

    async fn order(&self, kind: Kind, order: Order) {
        rotation::order(self.store(), &self.keyring, kind, order).await.unwrap();
    }

    async fn standing(&self, kind: Kind) -> Standing {
        let all = rotation::standing(self.store()).await.unwrap();
        all.into_iter().find(|standing| standing.kind == kind).unwrap()
    }

    /// Waits until the rotation is in that state, or in that phase of its work.
    async fn reaches(&self, kind: Kind, word: &str) {
        eventually(&format!("{} {word}", kind.as_str()), async || {
            let standing = self.standing(kind).await;
            standing.state == word || (standing.state == "running" && standing.phase == word)
        })
        .await;
    }

    async fn rewrap(&self) {
        self.order(Kind::Wraps, Order::Start).await;
        self.reaches(Kind::Wraps, "done").await;
    }

    async fn count(&self, from: &str) -> i64 {
        let mut owner = self.app.owner().await;
        let statement = format!("select count(*) from {from}");
        owner_sql(&mut owner).await;
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut owner).await.unwrap()
    }

    async fn sql(&self, statement: &str) {
        let mut owner = self.app.owner().await;
        owner_sql(&mut owner).await;
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut owner).await.unwrap();
    }

    /// What is sealed under a key that is not its workspace's newest.
    async fn under_old_keys(&self) -> i64 {
        let newest = "(select distinct on (workspace_id) workspace_id, id from data_keys order by workspace_id, generation desc) n";
        let mut left = 0;
        for (table, key) in [
            ("credentials", "data_key_id"),
            ("retired_credentials", "data_key_id"),
            ("connect_links", "verifier_key"),
            ("acts", "answer_key"),
        ] {
            left += self.count(&format!("{table} x join {newest} using (workspace_id) where x.{key} <> n.id")).await;
        }
        left
    }
}

async fn owner_sql(owner: &mut PgConnection) {
    sqlx::query("set search_path = keyholder").execute(owner).await.unwrap();
}

fn agent_at(node: &Instance, entrusted: &Entrusted) -> Caller {
    Caller::new(node.url(), None).with_key(entrusted.agent.key().unwrap())
}

async fn post(agent: &Caller, entrusted: &Entrusted, name: &str) -> Value {
    let key = name.replace(' ', "-");
    let reply = agent.act(&entrusted.mandate, "post.create", &json!({ "text": name }), Some(&key)).await.unwrap();
    ok(reply, 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_wraps_only_when_every_live_node_has_reported_it() {
    let scene = Scene::set().await;
    // A node whose copy of the keyring nobody has brought up to date.
    let copy = scene.folder.path().join("copy.json");
    std::fs::copy(scene.path(), &copy).unwrap();
    let behind = scene.app.second_node_with(|options| options.keyring = copy.clone()).await;
    let name = behind.app().node.to_string();
    eventually("both nodes have reported themselves", async || scene.count("nodes").await == 2).await;

    let second = epoch::announce(&scene.keyring, &scene.clock).unwrap();
    assert_eq!(epoch::announce(&scene.keyring, &scene.clock).unwrap(), second, "the one that waits is taken");
    let mine = scene.app.instance.app().node.to_string();
    eventually("the node beside the keyring has reported it", async || {
        let listed = epoch::list(scene.store(), &scene.keyring).await.unwrap();
        !listed.last().unwrap().unknown_to.iter().any(|node| node.starts_with(&mine))
    })
    .await;
    match scene.activate(None).await {
        Err(EpochError::NotReported { epoch, nodes }) => {
            assert_eq!((epoch, nodes.len()), (second, 1), "{nodes:?}");
            assert!(nodes[0].starts_with(&name), "{nodes:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(open(&scene.path()).current().get(), 1);

    std::fs::copy(scene.path(), &copy).unwrap();
    eventually("it is activated once the copy is up to date", async || scene.activate(None).await.is_ok()).await;
    assert_eq!(open(&scene.path()).current(), second);
    eventually("new workspaces are wrapped under it", async || {
        let operator = Principal::operator("test", scene.clock.now());
        service::workspace::create(scene.app.instance.app(), &operator, "Next").await.unwrap();
        scene.count("data_keys where epoch = 2").await > 0
    })
    .await;
    // The other node knows the epoch, and so opens what is wrapped under it, although its own copy does not say yet that it wraps.
    let standing = epoch::list(scene.store(), &scene.keyring).await.unwrap();
    assert!(standing.iter().all(|listed| listed.unknown_to.is_empty()), "{standing:?}");

    // A node that stops says so, and one that was killed is waited for no longer than half a minute.
    behind.stop().await;
    eventually("it has left the list", async || scene.count("nodes").await == 1).await;
    scene
        .sql(
            "insert into nodes (node_id, version, epochs, wrapping, seen_at) \
        values (gen_random_uuid(), '0', '{1}', 1, clock_timestamp() - interval '31 seconds')",
        )
        .await;
    let third = scene.new_epoch().await;
    assert_eq!((third.get(), open(&scene.path()).current()), (3, third));
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_while_acts_run_on_two_nodes() {
    let scene = Scene::set().await;
    let entrusted =
        scene.app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "month", "cap": 100_000 }])).await;
    let other = scene.app.connect("rival_brand", &["post.create"]).await;
    let second = scene.node().await;
    let agents = [entrusted.agent.clone(), agent_at(&second, &entrusted)];
    let first_answer = post(&agents[0], &entrusted, "before").await;
    // A link under way has a sealed verifier.
    let link = scene.app.link(&["post.create"]).await;
    let browser = scene.app.stranger.with_no_cookies();
    assert_eq!(browser.get(&link).await.unwrap().status, 200);
    let to = browser.submit(&link, &[("allow", "post.create")]).await.unwrap();
    let operator = Principal::operator("test", scene.clock.now());
    for number in 0..20 {
        service::workspace::create(scene.app.instance.app(), &operator, &format!("Crowd {number}")).await.unwrap();
    }
    let before = scene.count("data_keys").await;
    let epoch = scene.new_epoch().await;

    let stop = AtomicBool::new(false);
    let acts = agents.iter().enumerate().map(|(node, agent)| {
        let (stop, entrusted) = (&stop, &entrusted);
        async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                post(agent, entrusted, &format!("{node}-{number}")).await;
                number += 1;
            }
            number
        }
    });
    let rotate = async {
        scene.rewrap().await;
        assert_eq!(scene.count(&format!("data_keys where epoch <> {epoch}")).await, 0);
        assert_eq!(scene.standing(Kind::Wraps).await.done.renewed, before);

        scene.order(Kind::DataKeys, Order::Start).await;
        eventually("some have a new key", async || scene.count("data_keys where generation = 1").await > 0).await;
        scene.order(Kind::DataKeys, Order::Stop).await;
        let stranger = NodeId::new(&scene.clock);
        let claim = || scene.store().claim_rotation(stranger, epoch.get(), Duration::from_hours(1));
        assert!(claim().await.unwrap().is_none(), "what is stopped is nobody's work");
        assert!(rotation::order(scene.store(), &scene.keyring, Kind::DataKeys, Order::Start).await.is_err());
        // It goes on at a node that dies with the lease in its hand, and then at one that lives.
        scene.order(Kind::DataKeys, Order::Resume).await;
        eventually("the lease is to be had", async || claim().await.unwrap().is_some()).await;
        assert!(claim().await.unwrap().is_none(), "one node at a time");
        scene.sql("update rotations set leased_until = '-infinity'").await;
        scene.reaches(Kind::DataKeys, "retire").await;
        stop.store(true, Ordering::Relaxed);
    };
    let (done, ()) = tokio::join!(join_all(acts), rotate);
    assert!(done.iter().all(|acts| *acts > 0), "{done:?}");

    assert_eq!(scene.count("data_keys where generation = 1").await, before, "each workspace has a new key");
    // What was sealed under a key in memory meanwhile is found in the second round, which waits for a week.
    assert_eq!(scene.count("data_keys where idle_since is not null").await, before);
    scene.sql("update data_keys set idle_since = idle_since - interval '8 days' where idle_since is not null").await;
    eventually("all is under the new keys", async || scene.under_old_keys().await == 0).await;
    scene.sql("update data_keys set idle_since = idle_since - interval '8 days' where idle_since is not null").await;
    scene.reaches(Kind::DataKeys, "done").await;
    assert_eq!(scene.count("data_keys").await, before, "the old ones are deleted");
    let standing = scene.standing(Kind::DataKeys).await;
    assert_eq!((standing.done.unopened, standing.done.deleted_keys), (0, before));

    // Everything opens: at nodes that remember, and at one that has just come.
    let cold = scene.node().await;
    for (node, agent) in [&agents[0], &agents[1], &agent_at(&cold, &entrusted)].into_iter().enumerate() {
        post(agent, &entrusted, &format!("after-{node}")).await;
        let replayed = post(agent, &entrusted, "before").await;
        assert_eq!(replayed["body"], first_answer["body"]);
    }
    scene.app.sandbox.platform().open_account("third_brand", "Third");
    let back = scene.app.sandbox.platform().approve(to.header("location"), "third_brand").unwrap();
    let home = browser.get(&back).await.unwrap();
    assert!(home.header("location").contains("keyholder_code="), "{}", home.header("location"));
    ok(scene.app.admin.delete(&format!("/v1/connections/{other}")).await.unwrap(), 200);
    cold.stop().await;
    second.stop().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_overtakes_a_rotation_wins() {
    let scene = Scene::set().await;
    let entrusted = scene.app.entrust(&["post.create"], json!([])).await;
    let mut owner = scene.app.owner().await;
    owner_sql(&mut owner).await;
    // What a refresh does to the row: it is another version when the rotation comes to it.
    sqlx::query("begin").execute(&mut owner).await.unwrap();
    sqlx::query("update credentials set version = version + 1").execute(&mut owner).await.unwrap();
    scene.order(Kind::DataKeys, Order::Start).await;
    eventually("the rotation waits for the row", async || {
        scene.count("pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").await > 0
    })
    .await;
    sqlx::query("commit").execute(&mut owner).await.unwrap();
    scene.reaches(Kind::DataKeys, "retire").await;
    let standing = scene.standing(Kind::DataKeys).await;
    assert_eq!(standing.done.overtaken, 2, "{standing:?}");
    assert_eq!(scene.count("credentials where version = 2").await, 2);
    assert_eq!(scene.under_old_keys().await, 2, "what the refresh wrote stands");
    post(&entrusted.agent, &entrusted, "between").await;
    // It is looked at again, and its key is not deleted before it was.
    scene.sql("update data_keys set idle_since = idle_since - interval '8 days' where idle_since is not null").await;
    eventually("it was sealed anew", async || scene.under_old_keys().await == 0).await;
    assert_eq!(scene.count("data_keys").await, 2, "something was found under the old key just now");
    post(&entrusted.agent, &entrusted, "after").await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_keeps_its_key_and_stops_nothing() {
    let scene = Scene::set().await;
    let entrusted = scene.app.entrust(&["post.create"], json!([])).await;
    scene.app.connect("rival_brand", &["post.create"]).await;
    let damage = "update credentials set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) where field = 'access' \
        and connection_id = (select id from connections where account_name = 'rival_brand')";
    scene.sql(damage).await;
    scene.order(Kind::DataKeys, Order::Start).await;
    scene.reaches(Kind::DataKeys, "done").await;
    let standing = scene.standing(Kind::DataKeys).await;
    assert!(standing.done.unopened > 0, "{standing:?}");
    assert_eq!(scene.count("data_keys").await, 2, "its key is kept");
    assert_eq!(scene.under_old_keys().await, 1);
    post(&entrusted.agent, &entrusted, "the other one").await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_sealed_column_is_forgotten() {
    /// Hashes and digests, which nothing opens; wrapped keys, which the other rotation is for.
    const OTHERS: [(&str, &str); 10] = [
        ("api_keys", "hash"),
        ("connect_links", "code_hash"),
        ("connect_links", "cookie_hash"),
        ("connect_links", "state_hash"),
        ("connect_links", "token_hash"),
        ("connections", "provider_digest"),
        ("data_keys", "wrapped"),
        ("idempotency", "request_hash"),
        ("role_templates", "mac"),
        ("role_templates", "sha256"),
    ];
    let app = TestApp::start().await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select c.relname::text, a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid \
         where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') and a.atttypid = 'bytea'::regtype \
           and a.attnum > 0 and exists (select from pg_attribute w where w.attrelid = c.oid and w.attname = 'workspace_id')",
    )
    .fetch_all(&mut app.owner().await)
    .await
    .unwrap();
    assert!(columns.len() >= OTHERS.len() + sealed::COLUMNS.len());
    for (table, column) in &columns {
        let known = sealed::COLUMNS.iter().chain(&OTHERS).any(|known| *known == (table.as_str(), column.as_str()));
        assert!(known, "{table}.{column} is neither rotated nor known to be no sealed value");
    }
    // And by the keys: whatever points at a data key is walked.
    let pointing: Vec<String> = sqlx::query_scalar(
        "select distinct conrelid::regclass::text from pg_constraint where contype = 'f' and confrelid = 'keyholder.data_keys'::regclass",
    )
    .fetch_all(&mut app.owner().await)
    .await
    .unwrap();
    for table in pointing {
        let name = table.trim_start_matches("keyholder.");
        assert!(
            sealed::COLUMNS.iter().any(|(known, _)| *known == name),
            "{table} points at data keys and is not walked"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_destroyed_when_it_wraps_nothing_and_has_rested_for_thirty_days() {
    let scene = Scene::set().await;
    let first = scene.keyring.current();
    let destroy = async |epoch| epoch::destroy(scene.store(), &scene.keyring, epoch, false).await;
    let current = destroy(first).await;
    assert!(matches!(current, Err(EpochError::Keyring(KeyringError::CurrentEpoch(_)))), "{current:?}");
    let old = scene.folder.path().join("old.json");
    let second = scene.new_epoch().await;
    std::fs::copy(scene.path(), &old).unwrap();
    eventually("the node wraps under the new one", async || {
        scene.count(&format!("nodes where wrapping = {second}")).await == 1
    })
    .await;
    let in_use = destroy(first).await;
    assert!(matches!(in_use, Err(EpochError::InUse { data_keys: 1, .. })), "{in_use:?}");
    scene.rewrap().await;
    let too_soon = destroy(first).await;
    assert!(matches!(too_soon, Err(EpochError::TooSoon { .. })), "{too_soon:?}");
    scene.sql("update epochs set last_used_at = clock_timestamp() - interval '29 days 23 hours' where epoch = 1").await;
    assert!(matches!(destroy(first).await, Err(EpochError::TooSoon { .. })));

    scene.sql("update epochs set last_used_at = clock_timestamp() - interval '30 days 1 hour' where epoch = 1").await;
    let late = "insert into nodes (node_id, version, epochs, wrapping) values ('00000000-0000-0000-0000-000000000001', '0', '{1}', 1)";
    scene.sql(late).await;
    let wraps = destroy(first).await;
    assert!(matches!(wraps, Err(EpochError::StillWraps { .. })), "{wraps:?}");
    scene.sql("delete from nodes where wrapping = 1").await;
    assert_eq!(destroy(first).await.unwrap().unreadable_data_keys, 0);
    assert_eq!(destroy(first).await.unwrap().unreadable_data_keys, 0, "and once more changes nothing");
    assert_eq!(open(&scene.path()).epochs()[0].state, EpochState::Destroyed);

    // Nothing is wrapped under it any more, whoever tries; and the file from before is known to be that.
    let mut owner = scene.app.owner().await;
    owner_sql(&mut owner).await;
    let wrap = sqlx::query(
        "insert into data_keys (workspace_id, id, epoch, wrapped, generation, created_at) \
         select workspace_id, gen_random_uuid(), 1, wrapped, 9, created_at from data_keys",
    );
    let refused = wrap.execute(&mut owner).await.unwrap_err();
    assert!(refused.to_string().contains("epoch 1 is retired"), "{refused}");
    let refused = scene.refused(old).await;
    assert!(matches!(&refused, StartError::Keyring { source: KeyringError::RolledBack { .. }, .. }), "{refused:?}");
    assert_eq!(refused.exit_code(), 5);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_destroys_at_once_and_says_what_is_lost() {
    let scene = Scene::set().await;
    let entrusted = scene.app.entrust(&["post.create"], json!([])).await;
    let first = scene.keyring.current();
    let before = scene.folder.path().join("before.json");
    std::fs::copy(scene.path(), &before).unwrap();
    scene.new_epoch().await;
    let destroyed = epoch::destroy(scene.store(), &scene.keyring, first, true).await.unwrap();
    assert_eq!(destroyed.unreadable_data_keys, 1);
    let cold = scene.node().await;
    let agent = agent_at(&cold, &entrusted);
    let reply = agent.act(&entrusted.mandate, "post.create", &json!({ "text": "x" }), Some("x")).await.unwrap();
    assert_eq!(problem(&reply), (503, "credential-unavailable".to_owned()));
    cold.stop().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyring_that_is_not_this_databases_is_refused() {
    let scene = Scene::set().await;
    let behind = scene.folder.path().join("behind.json");
    std::fs::copy(scene.path(), &behind).unwrap();
    scene.new_epoch().await;
    scene.rewrap().await;
    let refused = scene.refused(behind).await;
    let StartError::Keyring { source: KeyringError::UnknownEpoch(epoch), .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(epoch.get(), 2);

    let root = RootKey::from_text(home().keys().root_key()).unwrap();
    let foreign = |name: &str, root: &RootKey, environment| {
        let path = scene.folder.path().join(name);
        Keyring::create(&path, root, environment, &scene.clock).unwrap();
        path
    };
    let refused = scene.refused(foreign("root.json", &RootKey::generate(), Environment::Local)).await;
    assert!(matches!(&refused, StartError::Keyring { source: KeyringError::OtherRootKey { .. }, .. }), "{refused:?}");
    let refused = scene.refused(foreign("staging.json", &root, Environment::Staging)).await;
    assert!(
        matches!(&refused, StartError::Keyring { source: KeyringError::OtherEnvironment { .. }, .. }),
        "{refused:?}"
    );
    // One that was made anew for this installation opens, and yet nothing is wrapped under an epoch 2 of it.
    let refused = scene.refused(foreign("anew.json", &root, Environment::Local)).await;
    assert!(matches!(&refused, StartError::Keyring { source: KeyringError::UnknownEpoch(_), .. }), "{refused:?}");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_lists_and_destroys_epochs_and_shreds() {
    let operator = Operator::new("keylife").await;
    operator.migrate();
    let list = || operator.with_logins(&["keyring", "list", "--json"]);
    assert_eq!(list()["epochs"].as_array().unwrap().len(), 1);
    let made = operator.with_logins(&["workspace", "create", "Acme", "--json"]);
    let workspace = text(&made, "/workspace").to_owned();
    let begun = operator.with_logins(&["keyring", "new-epoch", "--json"]);
    assert_eq!(begun, json!({ "epoch": 2, "state": "active" }));
    let listed = list();
    assert_eq!((&listed["epochs"][0]["data_keys"], &listed["epochs"][1]["current"]), (&json!(1), &json!(true)));
    let standing = operator.with_logins(&["keyring", "rotate", "--status", "--json"]);
    assert_eq!((text(&standing, "/rotations/0/kind"), text(&standing, "/rotations/0/state")), ("wraps", "running"));
    let stopped = operator.with_logins(&["keyring", "rotate", "--wraps", "--stop", "--json"]);
    assert_eq!(text(&stopped, "/rotations/0/state"), "stopped");
    let logins = operator.logins();
    let settings: Vec<_> = logins.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let refused = operator.run(&["keyring", "destroy", "1"], &settings);
    assert_eq!(refused.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1 data keys are wrapped under it"), "{refused:?}");

    let wrong = operator.run(&["workspace", "shred", &workspace, "--confirm", "Acne"], &settings);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("/confirm is not the name"), "{wrong:?}");
    let certificate = operator.with_logins(&["workspace", "shred", &workspace, "--confirm", "Acme", "--json"]);
    assert_eq!(certificate["data_keys"][0]["epoch"], 1);
    assert!(text(&certificate, "/backups").contains("until epoch 1 is destroyed"), "{certificate}");
    let again = operator.with_logins(&["workspace", "shred", &workspace, "--confirm", "Acme", "--json"]);
    assert_eq!(again, certificate);
    let destroyed = operator.with_logins(&["keyring", "destroy", "1", "--now", "--json"]);
    assert_eq!(destroyed, json!({ "epoch": 1, "unreadable_data_keys": 0 }));
}
