//! Database logins, rotated while acts run: no act fails, and nothing of the former logins is left.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use domain::environment::Environment;
use keyholder::caller::Caller;
use rustix::process::{Pid, Signal, kill_process};
use seal::{Purpose, RootKey};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::{
    ContextKey, Urls,
    gate::Expectation,
    migrate::{self, Installation, Login, Retired},
};
use url::Url;

use crate::{
    harness::{TestApp, eventually, home, ok, text},
    serve::{Operator, Serving, said},
};

/// An installation of its own in the run's cluster: its roles are nobody else's.
struct Ground {
    name: &'static str,
    logins: Mutex<Vec<Login>>,
}

impl Ground {
    async fn new(name: &'static str) -> Self {
        home().create_database(name, None).await.unwrap();
        let key = RootKey::from_text(home().keys().root_key()).unwrap();
        let installation = Installation {
            name,
            environment: Environment::Local,
            context_key: ContextKey::new(*key.derive(Purpose::Context, Environment::Local).as_bytes()),
            root_check: key.check_value(Environment::Local),
        };
        let owner = home().owner(name).unwrap();
        migrate::migrate(&owner, &installation).await.unwrap();
        let logins = migrate::create_logins(&owner, name).await.unwrap();
        Self { name, logins: Mutex::new(logins) }
    }

    /// The addresses of the logins that were made last.
    fn urls(&self) -> Urls {
        self.urls_into(|_| self.name)
    }

    /// The same, each into a database of its group's own.
    fn urls_into(&self, database: impl Fn(&str) -> &'static str) -> Urls {
        let logins = self.logins.lock().unwrap();
        let url = |group: &str| {
            let login = logins.iter().rfind(|login| login.group == group).unwrap();
            let mut url = home().owner_url(database(group)).to_string();
            let user = format!("{}:{}", login.name, *login.password);
            let (scheme, rest) = url.split_once("://").unwrap();
            url = match rest.split_once('@') {
                Some((_, place)) => format!("{scheme}://{user}@{place}"),
                None => panic!("an owner's address without a login"),
            };
            url.parse().unwrap()
        };
        Urls { app: url("app"), ledger: url("ledger"), lookup: url("lookup"), loader: url("loader") }
    }

    async fn rotate(&self) {
        let made = migrate::rotate_logins(&home().owner(self.name).unwrap(), self.name).await.unwrap();
        self.logins.lock().unwrap().extend(made);
    }

    async fn retire(&self) -> Retired {
        migrate::retire_logins(&home().owner(self.name).unwrap(), self.name).await.unwrap()
    }

    /// The logins that have sessions.
    async fn in_use(&self) -> Vec<String> {
        let mut sql = PgConnection::connect(&home().owner_url("postgres")).await.unwrap();
        sqlx::query_scalar("select distinct usename::text from pg_stat_activity where usename::text ~ $1 order by 1")
            .bind(format!("^{}_[a-z]+_[0-9]+$", self.name))
            .fetch_all(&mut sql)
            .await
            .unwrap()
    }

    /// Whether nothing but logins of this generation has sessions.
    async fn only(&self, generation: u32) -> bool {
        let in_use = self.in_use().await;
        !in_use.is_empty() && in_use.iter().all(|login| login.ends_with(&format!("_{generation}")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_rotated_twice_under_load_and_no_act_fails() {
    let ground = Arc::new(Ground::new("rotating").await);
    let reader = Arc::clone(&ground);
    let app = TestApp::start_with(|options| {
        options.installation = ground.name.to_owned();
        options.urls = ground.urls();
        options.reread_logins = Some(Arc::new(move || Some(reader.urls())));
    })
    .await;
    let entrusted = app.entrust(&["post.create", "profile.read"], json!([])).await;
    let (stop, acts) = (AtomicBool::new(false), AtomicU64::new(0));
    let worker = |number: u64| {
        let (entrusted, stop, acts) = (&entrusted, &stop, &acts);
        async move {
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let done = acts.fetch_add(1, Ordering::Relaxed);
                let reply = if number.is_multiple_of(2) {
                    let key = format!("{number}-{done}");
                    entrusted.act("post.create", &json!({ "text": key }), Some(&key)).await
                } else {
                    entrusted.act("profile.read", &json!({}), None).await
                };
                if reply.status != 200 {
                    failed.push((reply.status, reply.json()));
                }
            }
            failed
        }
    };
    let some_more = async |more: u64| {
        let goal = acts.load(Ordering::Relaxed) + more;
        eventually("acts go on", async || acts.load(Ordering::Relaxed) >= goal).await;
    };
    let rotations = async {
        some_more(20).await;
        for generation in 2..4 {
            ground.rotate().await;
            let refused = migrate::rotate_logins(&home().owner(ground.name).unwrap(), ground.name).await;
            assert!(matches!(refused, Err(migrate::MigrateError::TwoAlive(_))), "a third generation");
            some_more(20).await;
            let early = ground.retire().await;
            if early.dropped.len() < 4 {
                assert!(
                    early
                        .in_use
                        .iter()
                        .all(|(login, sessions)| login.ends_with(&format!("_{}", generation - 1)) && *sessions > 0)
                );
            }
            assert_eq!(early.kept.len(), 4, "the newest are never dropped");
            app.instance.reread_logins();
            eventually("the former logins are used no more", async || ground.only(generation).await).await;
            some_more(20).await;
            let retired = ground.retire().await;
            assert_eq!((early.dropped.len() + retired.dropped.len(), retired.in_use), (4, vec![]));
            some_more(20).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let workers = futures_util::future::join_all((0..4).map(worker));
    let (failed, ()) = tokio::join!(workers, rotations);
    assert_eq!(failed.concat(), [], "of {}", acts.load(Ordering::Relaxed));

    let mut sql = PgConnection::connect(&home().owner_url("postgres")).await.unwrap();
    let left: Vec<String> =
        sqlx::query_scalar("select rolname::text from pg_roles where rolname ~ '^rotating_[a-z]+_[0-9]+$' order by 1")
            .fetch_all(&mut sql)
            .await
            .unwrap();
    assert_eq!(left, ["rotating_app_3", "rotating_ledger_3", "rotating_loader_3", "rotating_lookup_3"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_gate_would_refuse_is_not_adopted() {
    let ground = Arc::new(Ground::new("refusing").await);
    let app = TestApp::start_with(|options| {
        options.installation = ground.name.to_owned();
        options.urls = ground.urls();
    })
    .await;
    let store = &app.instance.app().store;
    ground.rotate().await;
    let mut sql = PgConnection::connect(&home().owner_url("postgres")).await.unwrap();
    sqlx::raw_sql("alter role refusing_app_2 createrole").execute(&mut sql).await.unwrap();
    let found = store.lookup.installation().await.unwrap();
    let expected = Expectation {
        installation: ground.name,
        environment: app.instance.app().environment,
        root_check: found.root_check.clone().try_into().unwrap(),
    };
    // Another root key's mark stands for the database of another installation.
    let foreign = Expectation { root_check: [7; 32], ..expected.clone() };
    let faults = store.log_in_anew(&ground.urls(), &foreign).await.unwrap();
    assert!(faults.contains(&"the database was made under another root key".to_owned()), "{faults:?}");
    eventually("those in use stay", async || ground.only(1).await).await;
    // One that gets in, and into another database than the others: acts would be counted where nobody looks.
    sqlx::raw_sql("alter role refusing_app_2 nocreaterole").execute(&mut sql).await.unwrap();
    home().create_database("refusing_elsewhere", None).await.unwrap();
    for astray in ["ledger", "loader"] {
        let urls = ground.urls_into(|group| if group == astray { "refusing_elsewhere" } else { ground.name });
        let faults = store.log_in_anew(&urls, &expected).await.unwrap();
        assert_eq!(faults, [format!("the {astray} login leads to another database than the logins before it")]);
        eventually("those in use stay", async || ground.only(1).await).await;
    }
    sqlx::raw_sql("alter role refusing_app_2 createrole").execute(&mut sql).await.unwrap();
    let faults = store.log_in_anew(&ground.urls(), &expected).await.unwrap();
    assert_eq!(faults, ["the app login `refusing_app_2` has CREATEROLE"]);
    eventually("those in use stay", async || ground.only(1).await).await;
    sqlx::raw_sql("alter role refusing_app_2 nocreaterole nologin").execute(&mut sql).await.unwrap();
    store.log_in_anew(&ground.urls(), &expected).await.unwrap_err();
    eventually("those in use stay", async || ground.only(1).await).await;
    let ages = store.login_ages().await.unwrap();
    let now = app.instance.app().clock.now();
    assert!(ages.iter().all(|login| login.days(now) == Some(0) && !login.is_overdue(now, 1)), "{ages:?}");
    let later = now + std::time::Duration::from_hours(24 * 91);
    assert!(ages.iter().all(|login| login.is_overdue(later, 90)), "{ages:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serving_process_takes_new_logins_from_their_files_on_a_signal() {
    let operator = Operator::new("turning").await;
    operator.migrate();
    let mut child = Serving(operator.serving().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let stranger = Caller::new(&Url::parse(text(&ready, "/url")).unwrap(), None);
    assert_eq!(stranger.get("/health/ready").await.unwrap().status, 200);

    let owner = operator.path("owner.url");
    let as_owner = |arguments: &[&str]| operator.run(arguments, &[("KEYHOLDER_DATABASE_OWNER_URL_FILE", &owner)]);
    let folder = operator.path("logins");
    let made = as_owner(&["migrate", "--json", "--rotate-logins", &folder]);
    assert!(made.status.success(), "{}", said(&made));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(made.pointer("/logins/0/name"), Some(&json!("turning_app_2")));
    let third = as_owner(&["migrate", "--rotate-logins", &folder]);
    assert_eq!(third.status.code(), Some(4), "{}", said(&third));
    let early = as_owner(&["migrate", "--json", "--retire-logins"]);
    let early_said: Value = serde_json::from_slice(&early.stdout).unwrap();
    if early_said["in_use"] != json!([]) {
        assert_eq!(early.status.code(), Some(1), "{early_said}");
    }

    kill_process(Pid::from_child(&child.0), Signal::HUP).unwrap();
    eventually("the former logins are gone", async || {
        let retired = as_owner(&["migrate", "--json", "--retire-logins"]);
        retired.status.success()
    })
    .await;
    let mut sql = PgConnection::connect(&home().owner_url("postgres")).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar(AssertSqlSafe(
        "select rolname::text from pg_roles where rolname ~ '^turning_[a-z]+_[0-9]+$' order by 1".to_owned(),
    ))
    .fetch_all(&mut sql)
    .await
    .unwrap();
    assert_eq!(left, ["turning_app_2", "turning_ledger_2", "turning_loader_2", "turning_lookup_2"]);
    assert_eq!(stranger.get("/health/ready").await.unwrap().status, 200);
    let made = operator.with_logins(&["workspace", "create", "After the turn", "--json"]);
    assert!(text(&made, "/workspace").starts_with("ws_"));
    ok(stranger.get("/health/live").await.unwrap(), 200);
    let doctor = operator.with_logins(&["doctor", "--json"]);
    let logins = doctor["checks"].as_array().unwrap().iter().filter(|check| check["name"] == "login");
    assert_eq!(logins.filter(|check| check["ok"] == true).count(), 4, "{doctor}");
}
