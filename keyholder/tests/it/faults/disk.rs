//! A disk that is full: the database's, and the one of the state folder. What cannot be made durable is refused, what was admitted ends,
//! and everything goes on when there is room again.
//!
//! A small file system of its own needs root. Where the tests do not run as root they say so, and under CI they fail.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Command,
};

use domain::clock::Clock;
use keyholder::home::Home;
use rustix::process::geteuid;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::{invariant, stage::Stage};
use crate::harness::{ACCOUNT, Ground, TestApp, cluster_options, in_the_end, ok, variable};

/// A small file system of its own. Unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    /// Nothing, where it cannot be made: which is said, and under CI fails.
    fn of_mib(size: u32) -> Option<Self> {
        if !geteuid().is_root() {
            let why = "NOT RUN: a full disk needs a file system of its own, and that needs root\n";
            std::io::stderr().write_all(why.as_bytes()).unwrap();
            assert_ne!(variable("CI").as_deref(), Some("true"), "{why}");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("keyholder-disk-").tempdir_in("/tmp").unwrap();
        let options = format!("size={size}m,mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status();
        assert!(mounted.unwrap().success(), "the file system was not made");
        Some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes until nothing more goes in.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Lets the databases that are made from now on lie on that disk.
async fn lie_on(disk: &Disk, ground: &Ground) {
    let space = disk.path().join("space");
    fs::create_dir(&space).unwrap();
    let mut owner = PgConnection::connect(&ground.owner_url("postgres")).await.unwrap();
    let data: String = sqlx::query_scalar("show data_directory").fetch_one(&mut owner).await.unwrap();
    let account = fs::metadata(data).unwrap();
    chown(&space, Some(account.uid()), Some(account.gid())).unwrap();
    let made = format!("create tablespace small location '{}'", space.display());
    owner.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(made))).await.unwrap();
    owner.execute("alter database keyholder set tablespace small").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_database_admits_nothing_that_is_not_durable_and_acts_go_on_afterwards() {
    let Some(disk) = Disk::of_mib(64) else { return };
    let home = Home::open(None, cluster_options(), &Clock::system()).await.unwrap();
    let ground = Ground::of(&home);
    lie_on(&disk, &ground).await;
    let app = TestApp::start_on(ground, |_| {}).await;
    let entrusted = app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "month", "cap": 1000 }])).await;
    disk.fill();
    let mut refused = Vec::new();
    let mut done = Vec::new();
    for number in 0..600 {
        let name = format!("post-{number}");
        let reply = entrusted.act("post.create", &json!({ "text": name }), Some(&name)).await;
        match reply.status.as_u16() {
            200 => done.push(name),
            503 => refused.push(name),
            other => panic!("{other}: {}", reply.json()),
        }
        if refused.len() == 3 {
            break;
        }
    }
    assert_eq!(refused.len(), 3, "the disk was never full: {} acts passed", done.len());
    let platform = app.sandbox.platform();
    for name in &refused {
        assert!(
            platform.posts_by(ACCOUNT).iter().all(|post| post.text != *name),
            "{name} was not admitted, and was sent"
        );
    }
    disk.empty();
    for name in refused.iter().chain(&done) {
        in_the_end("acts go on", async || {
            entrusted.act("post.create", &json!({ "text": name }), Some(name)).await.status == 200
        })
        .await;
    }
    let posts = platform.posts_by(ACCOUNT);
    for name in refused.iter().chain(&done) {
        assert_eq!(posts.iter().filter(|post| post.text == *name).count(), 1, "{name}");
    }
    let stage = Stage::after(app).await;
    invariant::every_act_has_ended(&stage, "disk full").await;
    invariant::no_budget_is_wrong(&stage, "disk full").await;
    stage.clear().await;
    home.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_state_folder_costs_a_refresh_its_second_copy_and_nothing_else() {
    let Some(disk) = Disk::of_mib(1) else { return };
    let app = TestApp::start_with(|options| options.state_dir = disk.path().to_owned()).await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    disk.fill();
    app.age("-1 second").await;
    let read = entrusted.act("profile.read", &json!({}), None).await;
    assert_eq!(ok(read, 200).pointer("/status").and_then(Value::as_u64), Some(200));
    assert_eq!((app.sandbox.platform().refreshes(), app.sandbox.platform().replays_punished()), (1, 0));
    // And a connection can be made: its grant is in the database, and only there.
    let other = app.connect("rival_brand", &["profile.read"]).await;
    let path = format!("/v1/connections/{other}");
    assert_eq!(ok(app.admin.get(&path).await.unwrap(), 200).pointer("/state").and_then(Value::as_str), Some("active"));
    disk.empty();
    app.age("-1 second").await;
    let second = app.second_node().await;
    let agent = keyholder::caller::Caller::new(second.url(), None).with_key(entrusted.agent.key().unwrap());
    ok(agent.act(&entrusted.mandate, "profile.read", &json!({}), None).await.unwrap(), 200);
    assert_eq!(app.sandbox.platform().refreshes(), 2);
    second.stop().await;
    app.stop().await;
}
