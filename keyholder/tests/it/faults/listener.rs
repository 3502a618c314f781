//! The listening connection is cut, or swallows everything without being closed: a revocation at another node binds all the same.
//!
//! Between the loader's login and the database stands a proxy that can stop forwarding. It closes nothing: neither side is told.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use keyholder::caller::Caller;
use serde_json::json;
use tempfile::TempDir;
use url::form_urlencoded;

use crate::harness::{ACCOUNT, Ground, TestApp, eventually, in_the_end, ok};

/// The name of PostgreSQL's socket on its usual port.
const SOCKET: &str = ".s.PGSQL.5432";

/// Which connections swallow: those that were accepted before so many others.
#[derive(Clone, Default)]
struct Swallow(Arc<AtomicUsize>);

/// A proxy before the database's socket.
struct Proxy {
    folder: TempDir,
    swallow: Swallow,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    fn before(database: PathBuf) -> Self {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let proxy = Self { folder, swallow: Swallow::default(), accepted: Arc::default() };
        let (swallow, accepted) = (proxy.swallow.clone(), Arc::clone(&proxy.accepted));
        thread::spawn(move || {
            for client in listener.incoming() {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&database)) else { continue };
                let copies = (client.try_clone().unwrap(), server.try_clone().unwrap());
                for (from, to) in [(client, server), (copies.1, copies.0)] {
                    let swallow = swallow.clone();
                    thread::spawn(move || forward(from, to, number, &swallow));
                }
            }
        });
        proxy
    }

    /// From now on nothing passes on the connections that there are; those to come are not touched.
    fn swallow(&self) {
        self.swallow.0.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn swallow_all(&self) {
        self.swallow.0.store(usize::MAX, Ordering::SeqCst);
    }
}

/// Passes on what comes, or takes it and says nothing.
fn forward(mut from: UnixStream, mut to: UnixStream, number: usize, swallow: &Swallow) {
    let mut piece = [0; 8192];
    while let Ok(read) = from.read(&mut piece) {
        let swallowed = number < swallow.0.load(Ordering::SeqCst);
        if read == 0 && !swallowed {
            drop(to.shutdown(std::net::Shutdown::Both));
        }
        if read == 0 || (!swallowed && to.write_all(&piece[..read]).is_err()) {
            return;
        }
    }
}

/// A login's address by way of a proxy before the socket that it names.
fn through(url: &str) -> (Proxy, String) {
    let (login, rest) = url.split_once('@').unwrap();
    let (host, rest) = rest.split_once(':').unwrap();
    let folder = form_urlencoded::parse(format!("folder={host}").as_bytes()).next().unwrap().1.into_owned();
    let proxy = Proxy::before(Path::new(&folder).join(SOCKET));
    let host: String = form_urlencoded::byte_serialize(proxy.folder.path().to_str().unwrap().as_bytes()).collect();
    let through = format!("{login}@{host}:{rest}");
    (proxy, through)
}

/// A test's server whose facts come through a proxy, and a caller of a second one whose facts do not.
async fn behind_a_proxy() -> (TestApp, Proxy, keyholder::Instance) {
    let shared = Ground::shared();
    let mut keys = serde_json::to_value(&shared.keys).unwrap();
    let logins = keys["logins"].as_array_mut().unwrap();
    let loader = logins.iter_mut().find(|login| login[0] == "loader").unwrap();
    let (proxy, stem) = through(loader[1].as_str().unwrap());
    loader[1] = stem.into();
    let ground = Ground { keys: serde_json::from_value(keys).unwrap(), ..shared.clone() };
    let mut app = TestApp::start_on(ground, |_| {}).await;
    app.ground = shared;
    let second = app.second_node().await;
    (app, proxy, second)
}

/// Revokes at the second server, and asks the first until it says no: no act may be admitted after the revocation was answered.
async fn assert_a_revocation_binds(app: &TestApp, second: &keyholder::Instance, entrusted: &crate::harness::Entrusted) {
    let admin = Caller::new(second.url(), None).with_key(app.admin.key().unwrap());
    let path = format!("/v1/mandates/{}/revoke", entrusted.mandate);
    // Where its own connections were ended too, its first question on each fails.
    eventually("the mandate is revoked", async || admin.post(&path, &json!({})).await.unwrap().status == 200).await;
    let before = app.sandbox.platform().posts_written_by(ACCOUNT);
    for number in 0..20 {
        let name = format!("late-{number}");
        let reply = entrusted.act("post.create", &json!({ "text": name }), Some(&name)).await;
        assert!(matches!(reply.status.as_u16(), 403 | 503), "{}: {}", reply.status, reply.json());
        if reply.status == 403 {
            break;
        }
    }
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), before, "a stale yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_binds_though_the_listening_connection_swallows_it() {
    let (app, proxy, second) = behind_a_proxy().await;
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    ok(entrusted.act("post.create", &json!({ "text": "early" }), Some("early")).await, 200);
    proxy.swallow();
    assert_a_revocation_binds(&app, &second, &entrusted).await;
    // The node notices by itself that nothing comes any more, and listens again: the next thing is heard.
    let snapshots = &app.instance.app().store.snapshots;
    in_the_end("the listener is back", async || snapshots.lease_overdue_ms() == 0).await;
    let again = app.mandate(&entrusted.connection, &["post.create"], json!([])).await;
    ok(again.act("post.create", &json!({ "text": "again" }), Some("again")).await, 200);
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_can_ask_nobody_for_facts_says_no_and_comes_back() {
    let (app, proxy, second) = behind_a_proxy().await;
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    ok(entrusted.act("post.create", &json!({ "text": "early" }), Some("early")).await, 200);
    proxy.swallow_all();
    let snapshots = &app.instance.app().store.snapshots;
    in_the_end("the lease has run out", async || snapshots.lease_overdue_ms() > 0).await;
    let before = app.sandbox.platform().posts_written_by(ACCOUNT);
    let reply = entrusted.act("post.create", &json!({ "text": "blind" }), Some("blind")).await;
    assert_eq!(reply.status, 503, "{}", reply.json());
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), before);
    // Whoever can ask goes on.
    let agent = Caller::new(second.url(), None).with_key(entrusted.agent.key().unwrap());
    ok(agent.act(&entrusted.mandate, "post.create", &json!({ "text": "other" }), Some("other")).await.unwrap(), 200);
    proxy.swallow();
    in_the_end("acts go on", async || {
        entrusted.act("post.create", &json!({ "text": "blind" }), Some("blind")).await.status == 200
    })
    .await;
    assert_eq!(app.sandbox.platform().posts_written_by(ACCOUNT), before + 2);
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_connection_is_ended_comes_back_and_says_no_stale_yes_meanwhile() {
    let app = TestApp::start().await;
    let second = app.second_node().await;
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where datname = current_database() and usename like '%loader%' and pid <> pg_backend_pid()";
    let ended: i64 = sqlx::query_scalar(ended).fetch_one(&mut app.owner().await).await.unwrap();
    assert!(ended >= 2, "{ended} connections were ended");
    assert_a_revocation_binds(&app, &second, &entrusted).await;
    for snapshots in [&app.instance.app().store.snapshots, &second.app().store.snapshots] {
        eventually("the listener is back", async || snapshots.lease_overdue_ms() == 0).await;
    }
    let again = app.mandate(&entrusted.connection, &["post.create"], json!([])).await;
    ok(again.act("post.create", &json!({ "text": "again" }), Some("again")).await, 200);
    second.stop().await;
    app.stop().await;
}
