//! `migrate` and `serve` on an outside database, by the binary: an owner who is no superuser prepares it, four logins serve from it.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use keyholder::caller::Caller;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use url::Url;

use crate::harness::{home, ok, text, variable};

/// An operator's folder: root key, keyring, logins; and a database in the run's cluster that is nobody else's.
pub(crate) struct Operator {
    folder: TempDir,
    name: String,
}

impl Operator {
    pub(crate) async fn new(name: &str) -> Self {
        home().create_database(name, None).await.unwrap();
        let mut sql = PgConnection::connect(&home().owner_url("postgres")).await.unwrap();
        let statements = format!(
            "create role {name}_dba login createrole password 'dba'; alter database {name} owner to {name}_dba"
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut sql).await.unwrap();
        let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let operator = Self { folder, name: name.to_owned() };
        let url = home().owner_url(name);
        let (_, place) = url.split_once('@').unwrap();
        operator.write("owner.url", &format!("postgres://{name}_dba:dba@{place}"));
        let made = operator.run(&["root-key", "generate", "--out", &operator.path("root.key")], &[]);
        assert!(made.status.success(), "{}", said(&made));
        operator
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path: PathBuf = self.folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The binary, with nothing in its environment but what an operator would put there.
    pub(crate) fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyholder"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", variable("PATH").unwrap_or_default())
            .env("HOME", self.folder.path());
        command
            .env("KEYHOLDER_ENVIRONMENT", "staging")
            .env("KEYHOLDER_INSTALLATION", &self.name)
            .env("KEYHOLDER_OPERATOR", "Outside Limited")
            .env("KEYHOLDER_PUBLIC_URL", "https://keys.example.com")
            .env("KEYHOLDER_STATE_DIR", self.folder.path())
            .env("KEYHOLDER_ENCRYPTION_KEY_FILE", self.path("root.key"))
            .env("KEYHOLDER_LISTEN", "127.0.0.1:0")
            .env("KEYHOLDER_METRICS_LISTEN", "127.0.0.1:0");
        command.envs(settings.iter().copied());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        self.command(arguments, settings).output().unwrap()
    }

    /// Brings the database to this version and makes logins, as its owner.
    pub(crate) fn migrate(&self) -> Value {
        let owner = self.path("owner.url");
        let arguments = ["migrate", "--json", "--logins", &self.path("logins")];
        let done = self.run(&arguments, &[("KEYHOLDER_DATABASE_OWNER_URL_FILE", &owner)]);
        assert!(done.status.success(), "{}", said(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// The settings that name the four logins' files.
    pub(crate) fn logins(&self) -> Vec<(String, String)> {
        ["app", "ledger", "lookup", "loader"]
            .map(|group| {
                let name = format!("KEYHOLDER_DATABASE_{}_URL_FILE", group.to_uppercase());
                (name, self.path(&format!("logins/{group}.url")))
            })
            .to_vec()
    }

    pub(crate) fn serving(&self) -> Command {
        let logins = self.logins();
        let settings: Vec<_> = logins.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.command(&["serve", "--json"], &settings)
    }

    pub(crate) fn with_logins(&self, arguments: &[&str]) -> Value {
        let logins = self.logins();
        let settings: Vec<_> = logins.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let done = self.run(arguments, &settings);
        assert!(done.status.success(), "{}", said(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!("{:?}: {}", output.status.code(), String::from_utf8_lossy(&output.stderr))
}

pub(crate) struct Serving(pub(crate) Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outside_database_is_prepared_by_its_owner_and_served_by_four_logins() {
    let operator = Operator::new("outside").await;
    let first = operator.migrate();
    assert_eq!((first["schema_before"].as_i64(), first["schema"].as_i64()), (Some(0), Some(store::migrate::newest())));
    let again = operator.migrate();
    assert_eq!(again["schema_before"], again["schema"], "a second run changes nothing but the logins");

    let mut child = Serving(operator.serving().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let stranger = Caller::new(&Url::parse(text(&ready, "/url")).unwrap(), None);
    assert_eq!(stranger.get("/health/ready").await.unwrap().status, 200);

    let workspace = operator.with_logins(&["workspace", "create", "Outside workspace", "--json"]);
    let id =
        workspace.as_object().unwrap().values().filter_map(Value::as_str).find(|id| id.starts_with("ws_")).unwrap();
    let key = operator.with_logins(&[
        "api-key",
        "create",
        "--workspace",
        id,
        "--role",
        "admin",
        "--label",
        "back end",
        "--json",
    ]);
    let key =
        key.as_object().unwrap().values().filter_map(Value::as_str).find(|key| key.starts_with("kh_staging_")).unwrap();
    let seen = ok(stranger.with_key(key).get("/v1/workspace").await.unwrap(), 200);
    assert_eq!(text(&seen, "/name"), "Outside workspace");

    let doctor = operator.with_logins(&["doctor", "--json"]);
    assert!(!doctor.is_null());

    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0), "drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_has_its_message_and_its_exit_code() {
    let operator = Operator::new("faulty").await;
    operator.migrate();
    operator.write("other.key", &seal::RootKey::generate().to_text());
    operator.write("short.key", "c2hvcnQ");
    operator.write("nowhere.url", "postgres://a:b@127.0.0.1:1/none");
    let app = operator.path("logins/app.url");
    let spoiled = |name: &str, value: &str| {
        let mut command = operator.serving();
        command.env(name, value);
        let output = output_within(&mut command);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (nowhere, other, short) =
        (operator.path("nowhere.url"), operator.path("other.key"), operator.path("short.key"));
    let missing = operator.path("missing.key");
    let cases = [
        ("KEYHOLDER_DATABASE_APP_URL_FILE", nowhere.as_str(), 4, "reach"),
        ("KEYHOLDER_DATABASE_LEDGER_URL_FILE", app.as_str(), 4, "ledger login"),
        ("KEYHOLDER_ENCRYPTION_KEY_FILE", other.as_str(), 4, "another root key"),
        ("KEYHOLDER_ENCRYPTION_KEY_FILE", short.as_str(), 0, "32"),
        ("KEYHOLDER_ENCRYPTION_KEY_FILE", missing.as_str(), 0, "missing.key"),
        ("KEYHOLDER_NO_SUCH_SETTING", "1", 3, "KEYHOLDER_NO_SUCH_SETTING"),
        ("KEYHOLDER_LISTEN", "192.0.2.1:80", 3, "not answered in the clear"),
        ("KEYHOLDER_DATABASE_OWNER_URL_FILE", app.as_str(), 3, "OWNER"),
    ];
    for (name, value, code, word) in cases {
        let (exit, message) = spoiled(name, value);
        assert!(message.contains(word), "{name}={value}: {message}");
        assert!(!message.contains("panicked"), "{message}");
        match code {
            0 => assert!(matches!(exit, Some(3 | 5)), "{name}={value}: {exit:?} {message}"),
            code => assert_eq!(exit, Some(code), "{name}={value}: {message}"),
        }
    }
}

/// A command that is to end by itself; one that does not is a failure, not a hang.
pub(crate) fn output_within(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    receiver
        .recv_timeout(Duration::from_mins(1))
        .unwrap_or_else(|_| {
            let _gone = kill_process(pid, Signal::KILL);
            panic!("started, although it must not");
        })
        .unwrap()
}
