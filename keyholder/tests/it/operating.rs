//! What an operator does and watches: a node leaves, a contract step waits for old nodes, every metric is in the runbooks.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use keyholder::{caller::Caller, telemetry};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use store::migrate::{MigrateError, migrate};
use url::Url;

use crate::{
    harness::{ACCOUNT, TestApp, eventually, in_the_end, ok, text},
    serve::{Operator, Serving},
};

async fn is_ready(caller: &Caller) -> bool {
    // A node that is gone is not ready either.
    caller.get("/health/ready").await.is_ok_and(|reply| reply.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_under_load_breaks_no_act_and_leaves_none_open() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    let key = entrusted.agent.key().unwrap().to_owned();
    let leaving = app.second_node_with(|options| options.drain_delay = Duration::from_secs(5)).await;
    let slow = Quirk::SlowAnswer { ms: 150 };
    app.sandbox.platform().switch(slow, Scope::always(Route::Only(Call::CreatePost))).unwrap();
    let gone = AtomicBool::new(false);

    // Each caller looks which node is ready, as a load balancer does, and only then acts.
    let first = Caller::new(leaving.url(), None).with_key(&key);
    let second = Caller::new(app.instance.url(), None).with_key(&key);
    let callers = (0..6).map(|worker| {
        let (first, second, gone, mandate) = (&first, &second, &gone, &entrusted.mandate);
        async move {
            let (mut here, mut there) = (0, 0);
            while there < 3 || !gone.load(Ordering::Relaxed) {
                let (caller, count) = if is_ready(first).await { (first, &mut here) } else { (second, &mut there) };
                let name = format!("{worker}-{}", *count + if std::ptr::eq(caller, first) { 0 } else { 1000 });
                let reply = caller.act(mandate, "post.create", &json!({ "text": name }), Some(&name)).await;
                ok(reply.expect("a caller met a connection that broke"), 200);
                *count += 1;
            }
            (here, there)
        }
    });
    let stop = async {
        eventually("acts are under way", async || app.sandbox.platform().posts_by(ACCOUNT).len() >= 12).await;
        leaving.stop().await;
        gone.store(true, Ordering::Relaxed);
    };
    let late = async {
        // After it has said that it leaves, a node still serves whoever has not looked.
        eventually("the node is not ready any more", async || !is_ready(&first).await).await;
        let reply =
            first.act(&entrusted.mandate, "post.create", &json!({ "text": "late" }), Some("late")).await.unwrap();
        assert_eq!(reply.header("connection"), "close", "and asks him to come anew");
        ok(reply, 200);
    };
    let (counts, (), ()) = tokio::join!(join_all(callers), stop, late);
    assert!(counts.iter().all(|(here, there)| *here > 0 && *there >= 3), "{counts:?}");
    assert!(first.get("/health/live").await.is_err(), "nobody is there");

    let mut owner = app.owner().await;
    let open: i64 = sqlx::query_scalar("select count(*) from keyholder.acts where state <> 'settled'")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(open, 0, "nothing is ambiguous, nothing is unsettled");
    eventually("the node has taken its name off the list", async || {
        let nodes = sqlx::query_scalar("select count(*) from keyholder.nodes");
        let nodes: i64 = nodes.fetch_one(&mut app.owner().await).await.unwrap();
        nodes == 1
    })
    .await;
    app.sandbox.platform().clear();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let operator = Operator::new("hurried").await;
    operator.migrate();
    let mut command = operator.serving();
    command.env("KEYHOLDER_DRAIN_DELAY_S", "300").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Serving(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let stranger = Caller::new(&Url::parse(text(&ready, "/url")).unwrap(), None);
    assert!(is_ready(&stranger).await);
    let pid = Pid::from_child(&child.0);
    kill_process(pid, Signal::TERM).unwrap();
    eventually("it is not ready", async || !is_ready(&stranger).await).await;
    assert_eq!(stranger.get("/health/live").await.unwrap().status, 200, "it lives for the drain's delay");
    kill_process(pid, Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || child.0.wait().unwrap().code());
    assert_eq!(ended.await.unwrap(), Some(7), "broken off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_step_waits_until_no_node_runs_that_it_would_end() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    let address = app.ground.owner_url(&app.database).parse().unwrap();
    let keys = seal::RootKey::from_text(app.ground.keys.root_key()).unwrap();
    let environment = domain::environment::Environment::Local;
    let installation = store::migrate::Installation {
        name: keyholder::home::INSTALLATION,
        environment,
        context_key: store::ContextKey::new(*keys.derive(seal::Purpose::Context, environment).as_bytes()),
        root_check: keys.check_value(environment),
    };
    eventually("the node has reported itself", async || {
        let known = sqlx::query_scalar("select count(*) from keyholder.nodes where schema_version is not null");
        let known: i64 = known.fetch_one(&mut app.owner().await).await.unwrap();
        known == 1
    })
    .await;
    // Back to the schema from before versions were kept, with a node on it: for that one, the next step is a contract step.
    let back = "do $$ declare t regclass; begin \
          for t in select c.oid::regclass from pg_class c where c.relnamespace = 'keyholder'::regnamespace and c.relkind = 'r' \
            and c.oid > 'keyholder.provider_file_number(text)'::regprocedure loop execute 'drop table ' || t || ' cascade'; end loop; end $$; \
        drop index keyholder.one_plan, keyholder.audit_of_role_templates; alter table keyholder.workspaces drop column is_probe; \
        do $$ declare f regprocedure; begin \
          for f in select p.oid::regprocedure from pg_proc p where p.pronamespace = 'keyholder'::regnamespace \
            and p.oid > 'keyholder.provider_file_number(text)'::regprocedure loop execute 'drop function ' || f; end loop; end $$; \
        alter table keyholder.nodes drop column schema_version; \
        delete from keyholder._sqlx_migrations where version > 6";
    sqlx::raw_sql(AssertSqlSafe(back)).execute(&mut owner).await.unwrap();
    let refused = migrate(&address, &installation).await;
    let Err(MigrateError::NodesTooOld { wanted: 7, nodes }) = &refused else { panic!("{refused:?}") };
    assert!(nodes.contains("(of 6)"), "{nodes}");
    let version: i64 =
        sqlx::query_scalar("select max(version) from keyholder._sqlx_migrations").fetch_one(&mut owner).await.unwrap();
    assert_eq!(version, 6, "nothing was changed");

    sqlx::query("update keyholder.nodes set seen_at = clock_timestamp() - interval '1 minute'")
        .execute(&mut owner)
        .await
        .unwrap();
    // A server that has just started heard nobody lately, and counts whoever is on its list.
    in_the_end("the server has run for a while", async || {
        let for_a_while = "select pg_postmaster_start_time() < clock_timestamp() - interval '1 minute'";
        sqlx::query_scalar::<_, bool>(for_a_while).fetch_one(&mut app.owner().await).await.unwrap()
    })
    .await;
    // Its statements name a column that is not there: it cannot report itself before the schema is back.
    assert_eq!(migrate(&address, &installation).await.unwrap(), (6, store::migrate::newest()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_of_the_database_is_what_is_there() {
    let app = TestApp::start().await;
    let lookup = &app.instance.app().store.lookup;
    let calm = lookup.watch().await.unwrap();
    assert!(calm.oldest_deletion_s.abs() < f64::EPSILON);
    let offset = (calm.now - app.instance.app().clock.now()).whole_seconds();
    assert!(offset.abs() <= 5, "one machine has one hour: {offset} s");

    // A snapshot that somebody holds grows old by the transactions of others.
    let mut holder = app.owner().await;
    sqlx::raw_sql("begin isolation level repeatable read; select 1").execute(&mut holder).await.unwrap();
    let mut owner = app.owner().await;
    for _ in 0..20 {
        sqlx::query("select pg_current_xact_id()").execute(&mut owner).await.unwrap();
    }
    assert!(lookup.watch().await.unwrap().oldest_snapshot >= 20);
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();

    // A deletion that does not come to its end is as old as its beginning, however often it is put off.
    let job = "insert into keyholder.jobs (workspace_id, id, kind, subject, run_at, created_at) values ($1, gen_random_uuid(), \
        'disconnect', gen_random_uuid(), clock_timestamp() + interval '1 hour', clock_timestamp() - interval '2 hours')";
    sqlx::query(job).bind(app.workspace_uuid()).execute(&mut owner).await.unwrap();
    assert!(lookup.watch().await.unwrap().oldest_deletion_s >= 7200.0);
    sqlx::query("delete from keyholder.jobs").execute(&mut owner).await.unwrap();
    app.stop().await;
}

/// The sources of the product, each with its path.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = vec![root.join("keyholder/src")];
    folders.extend(fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src")));
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if !entry.to_str().unwrap().ends_with("tests.rs") {
                sources.push((entry.to_str().unwrap().to_owned(), fs::read_to_string(entry).unwrap()));
            }
        }
    }
    sources
}

/// Every metric's name in the sources of the product.
fn in_the_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, source) in sources() {
        for made in ["counter!(", "gauge!(", "histogram!("] {
            names.extend(source.split(made).skip(1).filter_map(|rest| {
                let name = rest.trim_start().strip_prefix('"')?.split('"').next()?;
                name.starts_with("keyholder_").then(|| name.to_owned())
            }));
        }
    }
    names
}

fn index_of_the_runbooks() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks/README.md")).unwrap()
}

/// The lines of the log in the table of the runbooks, in the pieces between `;` and `…`: some have a `;` of their own.
fn lines_in_the_runbooks() -> Vec<String> {
    let page = index_of_the_runbooks();
    let (_, table) = page.split_once("## By log line").unwrap();
    let rows =
        table.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split(" | ").next().unwrap().trim_start_matches("| "));
    let pieces = cells.flat_map(|cell| cell.split("; ")).map(|piece| piece.trim_end_matches(['…', ' ', ':', ',']));
    pieces.filter(|piece| !piece.is_empty()).map(str::to_owned).collect()
}

/// The last text in the parentheses of a macro, of which this is the rest: the line that it writes.
fn last_text(rest: &str) -> Option<String> {
    let (mut depth, mut last, mut open) = (1, None, None);
    let mut letters = rest.char_indices();
    while depth > 0 {
        let (at, letter) = letters.next()?;
        match (letter, open) {
            ('\\', Some(_)) => drop(letters.next()),
            ('"', Some(begin)) => (last, open) = (rest.get(begin..at), None),
            ('"', None) => open = Some(at + 1),
            ('(', None) => depth += 1,
            (')', None) => depth -= 1,
            _ => {}
        }
    }
    last.map(str::to_owned)
}

#[test]
fn every_warning_of_a_server_is_in_the_runbooks_and_every_line_there_is_written() {
    // What only a demonstration, a proof or the embedded cluster says, to whoever has started it at a terminal.
    const NO_SERVERS: [&str; 5] = ["/sandbox/", "/proof/", "/cluster", "/cli/local.rs", "/sabotage.rs"];
    let (sources, told) = (sources(), lines_in_the_runbooks());
    assert!(told.len() > 80, "{told:?}");
    let all: String = sources.iter().map(|(_, source)| source.replace("\\\n", "")).collect();
    let gone: Vec<_> = told.iter().filter(|line| !all.contains(line.as_str())).collect();
    assert!(gone.is_empty(), "in the runbooks, and written nowhere: {gone:?}");

    let mut warnings = BTreeSet::new();
    for (_, source) in sources.iter().filter(|(path, _)| !NO_SERVERS.iter().any(|part| path.contains(part))) {
        for level in ["tracing::warn!(", "tracing::error!("] {
            warnings.extend(source.split(level).skip(1).filter_map(last_text));
        }
    }
    assert!(warnings.len() > 80, "{warnings:?}");
    let untold: Vec<_> =
        warnings.iter().filter(|line| !told.iter().any(|piece| line.contains(piece.as_str()))).collect();
    assert!(untold.is_empty(), "written, and in no runbook: {untold:?}");
}

/// Every metric's name in the table of the runbooks.
fn in_the_runbooks() -> BTreeSet<String> {
    let page = index_of_the_runbooks();
    let rows = page.lines().filter(|line| line.starts_with("| `keyholder_"));
    let cells = rows.filter_map(|line| line.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    cells.map(|name| name.split('{').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_in_the_runbooks_and_every_one_there_is_measured() {
    let (measured, told) = (in_the_sources(), in_the_runbooks());
    assert!(measured.len() > 50, "{measured:?}");
    assert_eq!(measured.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "measured, and in no runbook");
    assert_eq!(told.difference(&measured).collect::<Vec<_>>(), Vec::<&String>::new(), "in a runbook, and not measured");

    let recorder = telemetry::metrics().unwrap();
    let app = TestApp::start_with(|options| options.render_metrics = Arc::new(move || recorder.render())).await;
    let entrusted = app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "day", "cap": 1 }])).await;
    ok(entrusted.act("post.create", &json!({ "text": "one" }), Some("one")).await, 200);
    let metrics = Caller::new(app.instance.metrics_url(), None);
    // What an operator must be able to watch from the first minute on, whatever has happened.
    let wanted = [
        "keyholder_acts_total",
        "keyholder_ambiguous_acts",
        "keyholder_clock_offset_seconds",
        "keyholder_ledger_batch_age_seconds",
        "keyholder_leaving",
        "keyholder_oldest_deletion_seconds",
        "keyholder_oldest_snapshot_transactions",
        "keyholder_oldest_unsettled_seconds",
        "keyholder_snapshot_lease_overdue_ms",
    ];
    eventually("everything is measured", async || {
        let page = metrics.get("/metrics").await.unwrap();
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        let scraped: BTreeSet<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .filter(|name| name.starts_with("keyholder_") && !name.starts_with("keyholder_test_"))
            .map(str::to_owned)
            .collect();
        assert_eq!(scraped.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "scraped, and in no runbook");
        wanted.iter().all(|name| scraped.contains(*name))
    })
    .await;
    app.stop().await;
}
