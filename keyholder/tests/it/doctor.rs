//! The doctor, by the binary, on installations of which each is broken in its own way: it names the fault, and nothing else.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, process::Output};

use domain::clock::Clock;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::gate;

use crate::{
    database_tls::{Authority, Ground, Shown, write_authority},
    harness::{TestApp, home},
    serve::{Operator, said},
};

/// The faults of a diagnosis: each with its name, what was found, and what to do. The exit code must agree.
fn faults(output: &Output) -> Vec<(String, String)> {
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)));
    let checks = diagnosis["checks"].as_array().unwrap();
    let text = |check: &Value, part: &str| check[part].as_str().unwrap_or_default().to_owned();
    let faults: Vec<_> = checks.iter().filter(|check| check["ok"] == false).collect();
    assert!(faults.iter().all(|check| !text(check, "remedy").is_empty()), "each says what to do: {faults:?}");
    assert_eq!(diagnosis["faults"].as_u64(), Some(faults.len() as u64));
    assert_eq!(output.status.code(), Some(i32::from(!faults.is_empty())), "{faults:?}");
    faults.into_iter().map(|check| (text(check, "name"), text(check, "detail"))).collect()
}

/// One line of the table: what is broken, and what the doctor names.
#[track_caller]
fn assert_named(broken: &str, found: &[(String, String)], wanted: &[(&str, &str)]) {
    let told: Vec<_> = found.iter().map(|(name, detail)| format!("{name}: {detail}")).collect();
    let mut out = std::io::stderr();
    writeln!(out, "{broken:<44} | {}", told.join(" | ")).unwrap();
    assert_eq!(found.len(), wanted.len(), "{broken}: {told:#?}");
    for (name, word) in wanted {
        let named = found.iter().any(|(found, detail)| found == name && detail.contains(word));
        assert!(named, "{broken}: no {name:?} with {word:?} in {told:#?}");
    }
}

/// What is broken, what the server shows, how it is set, and what the doctor names.
type Row = (&'static str, Shown, &'static [&'static str], &'static [(&'static str, &'static str)]);

fn diagnose(operator: &Operator, settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let logins = operator.logins();
    let logins = logins.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let unreplaced = logins.filter(|(name, _)| settings.iter().all(|(other, _)| other != name));
    let settings: Vec<_> = unreplaced.chain(settings.iter().copied()).collect();
    faults(&operator.run(&["doctor", "--json"], &settings))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_fault_of_six_broken_installations() {
    let operator = Operator::new("patient").await;
    operator.migrate();
    assert_named("nothing", &diagnose(&operator, &[]), &[]);

    operator.write("other.key", &seal::RootKey::generate().to_text());
    let (other, elsewhere) = (operator.path("other.key"), operator.path("elsewhere.json"));
    let keyring = operator.path("keyring.json");
    assert_named(
        "the root key is another",
        &diagnose(&operator, &[("KEYHOLDER_ENCRYPTION_KEY_FILE", &other)]),
        &[("keyring", "root key"), ("schema", "another root key")],
    );
    assert_named(
        "there is no keyring",
        &diagnose(&operator, &[("KEYHOLDER_KEYRING", &elsewhere)]),
        &[("keyring", "there is no keyring")],
    );
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o640)).unwrap();
    assert_named("the keyring is open to its group", &diagnose(&operator, &[]), &[("keyring", "mode 640")]);
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o600)).unwrap();

    let state = operator.path("open");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    assert_named(
        "the state folder is open to others",
        &diagnose(&operator, &[("KEYHOLDER_STATE_DIR", &state)]),
        &[("state folder", "mode 755")],
    );
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir_all(operator.path("open/spill/0")).unwrap();
    fs::write(operator.path("open/spill/0/left.unreadable"), "").unwrap();
    assert_named(
        "an answer in the state folder does not open",
        &diagnose(&operator, &[("KEYHOLDER_STATE_DIR", &state)]),
        &[("spilled answers", "1 do not open")],
    );

    operator.write("plain.url", "postgres://patient_app_1:x@127.0.0.1:5432/patient?sslmode=prefer");
    let plain = operator.path("plain.url");
    assert_named(
        "a login would not check the server",
        &diagnose(&operator, &[("KEYHOLDER_DATABASE_APP_URL_FILE", &plain)]),
        &[
            ("configuration", "KEYHOLDER_DATABASE_APP_URL_FILE: sslmode=prefer"),
            ("keyring, state folder, database", "not checked"),
        ],
    );

    // Broken in the database, and mended again.
    let mut cluster = PgConnection::connect(&home().owner_url("patient")).await.unwrap();
    let table = [
        (
            "a login has BYPASSRLS",
            "alter role patient_app_1 bypassrls".to_owned(),
            "alter role patient_app_1 nobypassrls".to_owned(),
            ("roles", "the app login `patient_app_1` has BYPASSRLS"),
        ),
        (
            "a login's commits are not durable",
            "alter role patient_ledger_1 set synchronous_commit = off".to_owned(),
            "alter role patient_ledger_1 reset all".to_owned(),
            ("durability", "synchronous_commit"),
        ),
        (
            "a table is without forced row-level security",
            "alter table keyholder.mandates no force row level security".to_owned(),
            "alter table keyholder.mandates force row level security".to_owned(),
            ("tables", "mandates"),
        ),
        (
            "a role template was written by hand",
            "begin; insert into keyholder.heads (kind, id) values ('workspace', '00000000-0000-7000-8000-000000000001'); \
             insert into keyholder.workspaces (workspace_id, name, created_at) \
               values ('00000000-0000-7000-8000-000000000001', 'Acme', now()); \
             insert into keyholder.role_templates (workspace_id, id, version, body, sha256, mac, created_by, changed_by) \
               select '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002', 1, b, \
                 sha256(convert_to(b, 'UTF8')), sha256('guessed'), 'x', 'x' \
               from (values ('{\"name\":\"Wide\",\"permissions\":[\"budget.manage\"]}')) t(b); commit"
                .to_owned(),
            "begin; update keyholder.heads set raised_in = pg_current_xact_id() where kind = 'workspace'; \
             delete from keyholder.workspaces; delete from keyholder.heads where kind = 'workspace'; commit"
                .to_owned(),
            ("role templates", "1 rewritten outside of Keyholder, granting nothing"),
        ),
        (
            "the schema is too old",
            // Migrations are put aside, each under a number of its own.
            format!(
                "update keyholder._sqlx_migrations set version = -version where version >= {}",
                store::schema::OLDEST
            ),
            "update keyholder._sqlx_migrations set version = -version where version < 0".to_owned(),
            ("schema", "keyholder migrate"),
        ),
    ];
    for (broken, spoil, mend, wanted) in table {
        sqlx::raw_sql(AssertSqlSafe(spoil)).execute(&mut cluster).await.unwrap();
        assert_named(broken, &diagnose(&operator, &[]), &[wanted]);
        sqlx::raw_sql(AssertSqlSafe(mend)).execute(&mut cluster).await.unwrap();
    }
    assert_named("nothing any more", &diagnose(&operator, &[]), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_is_wrong_with_a_database_across_a_network() {
    let Some(mut ground) = Ground::new().await else { return };
    let operator = Operator::new("remote").await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let roots = write_authority(folder.path(), &authority);
    operator.write("home.key", home().keys().root_key());
    let write = |group: &str| {
        operator.write(&format!("{group}.url"), &ground.by_tcp(group, ""));
        (format!("KEYHOLDER_DATABASE_{}_URL_FILE", group.to_uppercase()), operator.path(&format!("{group}.url")))
    };
    let mut settings = store::migrate::GROUPS.map(write).to_vec();
    for (name, value) in [
        ("KEYHOLDER_ENVIRONMENT", "local"),
        ("KEYHOLDER_INSTALLATION", keyholder::home::INSTALLATION),
        ("KEYHOLDER_ENCRYPTION_KEY_FILE", &operator.path("home.key")),
        ("KEYHOLDER_KEYRING", home().keys().keyring().to_str().unwrap()),
        ("KEYHOLDER_DATABASE_TLS_ROOTS", &roots),
    ] {
        settings.push((name.to_owned(), value.to_owned()));
    }
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let rules = "host all all 127.0.0.1/32 scram-sha-256";
    let table: [Row; 6] = [
        ("nothing, over TLS", Shown::Right, &[], &[]),
        ("the server's certificate has expired", Shown::Expired, &[], &[("database transport", "has expired")]),
        ("the server's certificate ends soon", Shown::Ending, &[], &[("database certificate", "3 days")]),
        ("the server's certificate is another's", Shown::OtherName, &[], &[("database transport", "another name")]),
        ("the server speaks no TLS", Shown::Nothing, &[], &[("database transport", "offers no TLS")]),
        (
            "the server forgets",
            Shown::Right,
            &["fsync=off", "full_page_writes=off"],
            &[("durability", "`fsync`"), ("durability", "`full_page_writes`")],
        ),
    ];
    for (broken, shown, server, wanted) in table {
        ground.start(Some((&authority, shown)), rules, server).await;
        assert_named(broken, &faults(&operator.run(&["doctor", "--json"], &settings)), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_the_databases_hour_is_away_is_measured() {
    let clock = Clock::wrong();
    let given = clock.clone();
    let app = TestApp::start_with(|options| options.clock = given).await;
    let store = &app.instance.app().store;
    for wrong_by in [0, 60, -60] {
        clock.set_wrong_by(wrong_by);
        let offset = gate::clock_offset(store).await.unwrap().whole_seconds();
        assert!((offset + wrong_by).abs() <= 5, "a clock that is wrong by {wrong_by} s measures {offset} s");
    }
    clock.set_wrong_by(0);
    app.stop().await;
}
