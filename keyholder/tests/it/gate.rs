//! The start-up gate: a database that is not as it must be is refused, and what is wrong with it is named.

use keyholder::{Instance, StartError, local::Place};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use zeroize::Zeroizing;

use crate::harness::{fresh_database, home};

/// Starts a server on a database that the test has spoiled; what the gate says of it.
async fn refused(database: &str, change: impl FnOnce(&mut keyholder::InstanceOptions)) -> Vec<String> {
    let secret = Zeroizing::new("unused".to_owned());
    let mut options = Place { database, port: 0 }.options(home().keys(), None, &secret).unwrap();
    change(&mut options);
    match Instance::start(options).await {
        Err(StartError::Gate(faults)) => faults,
        Err(other) => panic!("refused for another reason: {other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

async fn owner(database: &str) -> PgConnection {
    PgConnection::connect(&home().owner_url(database)).await.unwrap()
}

async fn run(sql: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(sql).await.unwrap();
}

/// A login of the test's own, in the place of one group's: roles belong to the whole cluster, so nobody else's is spoiled.
async fn login(database: &str, name: &str, made: &str) -> store::Address {
    let mut sql = owner(database).await;
    run(&mut sql, &format!("create role {name} login password 'gate'; {made}")).await;
    let url = home().keys().url("app", database);
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{name}:gate@{place}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_too_strong_is_refused_by_name() {
    let database = fresh_database().await;
    let cases = [
        ("gate_super", "alter role gate_super superuser; grant keyholder_app to gate_super", "is a superuser"),
        ("gate_create", "alter role gate_create createrole; grant keyholder_app to gate_create", "has CREATEROLE"),
        ("gate_bypass", "alter role gate_bypass bypassrls; grant keyholder_app to gate_bypass", "has BYPASSRLS"),
        (
            "gate_owner",
            "grant keyholder_app, keyholder_owner to gate_owner",
            "owns what it serves (through its membership in `keyholder_owner`)",
        ),
        ("gate_two", "grant keyholder_app, keyholder_ledger to gate_two", "must not be a member of `keyholder_ledger`"),
        ("gate_none", "grant keyholder_lookup to gate_none", "is not a member of `keyholder_app`"),
    ];
    for (name, made, said) in cases {
        let address = login(&database, name, made).await;
        let faults = refused(&database, |options| options.urls.app = address).await;
        let named =
            faults.iter().any(|fault| fault.contains(&format!("the app login `{name}`")) && fault.contains(said));
        assert!(named, "{name}: {faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_has_its_own_login() {
    let database = fresh_database().await;
    let faults = refused(&database, |options| {
        (options.urls.ledger, options.urls.loader) = (options.urls.loader.clone(), options.urls.ledger.clone());
    })
    .await;
    for said in [
        "the ledger login",
        "the loader login",
        "is not a member of `keyholder_ledger`",
        "is not a member of `keyholder_loader`",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(said)), "{said}: {faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprotected_table_is_refused_by_name() {
    for (spoil, table) in [
        ("alter table keyholder.mandates no force row level security", "mandates"),
        ("alter table keyholder.credentials disable row level security", "credentials"),
        ("create table keyholder.new_table (workspace_id uuid)", "new_table"),
    ] {
        let database = fresh_database().await;
        run(&mut owner(&database).await, spoil).await;
        let faults = refused(&database, |_| {}).await;
        assert_eq!(faults, [format!("the table `{table}` has no forced row-level security")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_somebody_else_is_refused() {
    let database = fresh_database().await;
    let faults = refused(&database, |options| options.root_key = seal::RootKey::generate()).await;
    assert_eq!(faults, ["the database was made under another root key"]);

    run(&mut owner(&database).await, "update keyholder.installation set environment = 'production'").await;
    let faults = refused(&database, |_| {}).await;
    assert_eq!(faults, ["the database is of the environment `production`, this process of `local`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_version_is_refused() {
    let database = fresh_database().await;
    let mut sql = owner(&database).await;
    run(&mut sql, "insert into keyholder._sqlx_migrations (version, description, success, checksum, execution_time) values (999, 'of a newer binary', true, '', 0)").await;
    let faults = refused(&database, |_| {}).await;
    assert!(faults.len() == 1 && faults[0].contains("999") && faults[0].contains("too old"), "{faults:?}");
    let newest = store::migrate::newest();
    let word = format!("insert into keyholder.schema_versions values (999, {})", newest + 1);
    run(&mut sql, &word).await;
    let faults = refused(&database, |_| {}).await;
    let wanted = format!("wants binaries of at least {}", newest + 1);
    assert!(faults.len() == 1 && faults[0].contains(&wanted), "{faults:?}");

    run(&mut sql, &format!("delete from keyholder._sqlx_migrations where version >= {}", store::schema::OLDEST)).await;
    let faults = refused(&database, |_| {}).await;
    assert!(faults.len() == 1 && faults[0].contains("keyholder migrate"), "{faults:?}");

    let empty = format!("{database}_empty");
    home().create_database(&empty, None).await.unwrap();
    let faults = refused(&empty, |_| {}).await;
    assert!(faults.iter().any(|fault| fault.contains("keyholder migrate")), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_that_lets_this_binary_run_is_served_and_not_migrated() {
    let database = fresh_database().await;
    let newest = store::migrate::newest();
    let newer = format!(
        "insert into keyholder._sqlx_migrations (version, description, success, checksum, execution_time) \
           values (999, 'of a newer binary', true, '', 0); \
         insert into keyholder.schema_versions values (999, {newest})"
    );
    run(&mut owner(&database).await, &newer).await;
    let secret = Zeroizing::new("unused".to_owned());
    let options = Place { database: &database, port: 0 }.options(home().keys(), None, &secret).unwrap();
    Instance::start(options).await.unwrap().stop().await;

    let address = home().owner_url(&database).parse().unwrap();
    let installation = store::migrate::Installation {
        name: keyholder::home::INSTALLATION,
        environment: domain::environment::Environment::Local,
        context_key: store::ContextKey::new([0; 32]),
        root_check: [0; 32],
    };
    let refused = store::migrate::migrate(&address, &installation).await;
    assert!(matches!(refused, Err(store::migrate::MigrateError::Newer { found: 999, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_commits_is_refused() {
    let database = fresh_database().await;
    let made = "grant keyholder_loader to gate_async; alter role gate_async set synchronous_commit = off";
    let address = login(&database, "gate_async", made).await;
    let faults = refused(&database, |options| options.urls.loader = address).await;
    assert_eq!(faults, ["the server has `synchronous_commit` off: a commit would not be durable"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let database = fresh_database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let secret = Zeroizing::new("unused".to_owned());
    let mut options = Place { database: &database, port: 0 }.options(home().keys(), None, &secret).unwrap();
    options.listen = taken.local_addr().unwrap().into();
    let Err(error) = Instance::start(options).await else { panic!("started on a port that is taken") };
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    assert_eq!(error.exit_code(), 6);
}
