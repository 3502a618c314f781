//! PostgreSQL over TLS, on a server of its own: the certificate is checked, and whoever else answers is refused by name.
//!
//! Debian's PostgreSQL speaks TLS; the wheel does not. Where there is no such server the tests say so on standard error.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use domain::environment::Environment;
use keyholder::{
    Instance, StartError,
    cluster::{Binaries, Cluster, ClusterError, ClusterOptions, Download},
    local::Place,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustix::process::geteuid;
use seal::{Purpose, RootKey};
use sqlx::{Connection, PgConnection};
use store::{
    Address, ContextKey, Transport, Urls,
    migrate::{self, Installation, Login},
};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::harness::{eventually, home, spare_port, variable};

/// Whom a server's certificate is for, and until when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// This machine's loopback address, for a year.
    Right,
    /// Another name.
    OtherName,
    /// The right name, ended yesterday.
    Expired,
    /// The right name, for three days more.
    Ending,
    /// No TLS at all.
    Nothing,
}

/// An authority that signs the certificates of servers.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key, as PEM.
    fn issue(&self, shown: Shown) -> (String, String) {
        let name = if shown == Shown::OtherName { "other.internal" } else { "127.0.0.1" };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let now = domain::clock::Clock::system().now();
        params.not_before = now - time::Duration::days(30);
        params.not_after = match shown {
            Shown::Expired => now - time::Duration::days(1),
            Shown::Ending => now + time::Duration::days(3) + time::Duration::hours(1),
            _ => now + time::Duration::days(365),
        };
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A PostgreSQL with an installation in it, which listens on the loopback address once it is started.
pub(crate) struct Ground {
    base: TempDir,
    programs: PathBuf,
    password: String,
    port: u16,
    logins: Vec<Login>,
    running: Option<Child>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ground {
    /// Makes the cluster and the installation. `None` where this machine has no PostgreSQL that speaks TLS.
    pub(crate) async fn new() -> Option<Self> {
        let base = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
        let options = ClusterOptions {
            state_dir: Some(base.path().join("state")),
            runtime_dir: base.path().join("run"),
            binaries: Binaries::Search,
            download: Download::Never,
            search_path: variable("PATH").unwrap_or_default(),
            ..ClusterOptions::new(env!("CARGO_BIN_EXE_keyholder"), base.path().join("cache"))
        };
        let cluster = match Cluster::start(options).await {
            Ok(cluster) => cluster,
            Err(ClusterError::NoPrograms { .. }) if variable("CI").is_none() => {
                let mut out = std::io::stderr();
                writeln!(out, "not run: there is no PostgreSQL with TLS on this machine").unwrap();
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let key = RootKey::from_text(home().keys().root_key()).unwrap();
        let installation = Installation {
            name: keyholder::home::INSTALLATION,
            environment: Environment::Local,
            context_key: ContextKey::new(*key.derive(Purpose::Context, Environment::Local).as_bytes()),
            root_check: key.check_value(Environment::Local),
        };
        let owner: Address = cluster.superuser_url().parse().unwrap();
        migrate::migrate(&owner, &installation).await.unwrap();
        let logins = migrate::create_logins(&owner, installation.name).await.unwrap();
        let (programs, password) = (cluster.programs().to_path_buf(), cluster.password().to_owned());
        cluster.stop().await.unwrap();
        let port = spare_port();
        Some(Self { base, programs, password, port, logins, running: None })
    }

    fn data(&self) -> PathBuf {
        self.base.path().canonicalize().unwrap().join("state/data")
    }

    /// A file that is the server's own.
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let (path, owner) = (self.data().join(name), fs::metadata(self.data()).unwrap());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if geteuid().is_root() {
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        path
    }

    /// Starts the server with a certificate, with these rules of access and these settings, in the place of the one before.
    pub(crate) async fn start(&mut self, shown: Option<(&Authority, Shown)>, rules: &str, settings: &[&str]) {
        self.stop();
        let rules = self.put("rules.conf", &format!("local all all scram-sha-256\n{rules}\n"));
        let owner = fs::metadata(self.data()).unwrap();
        let mut command = Command::new(self.programs.join("postgres"));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command.arg("-D").arg(self.data()).arg("-k").arg(self.data()).arg("-p").arg(self.port.to_string());
        let mut set = |setting: String| {
            command.arg("-c").arg(setting);
        };
        set("listen_addresses=127.0.0.1".to_owned());
        set(format!("hba_file={}", rules.display()));
        if let Some((authority, shown)) = shown.filter(|(_, shown)| *shown != Shown::Nothing) {
            let (certificate, key) = authority.issue(shown);
            set("ssl=on".to_owned());
            set(format!("ssl_cert_file={}", self.put("server.crt", &certificate).display()));
            set(format!("ssl_key_file={}", self.put("server.key", &key).display()));
        }
        for setting in settings {
            set((*setting).to_owned());
        }
        self.running = Some(command.spawn().unwrap());
        let owner = self.by_socket("postgres", &self.password);
        eventually("the server is ready", async || PgConnection::connect(&owner).await.is_ok()).await;
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // An immediate end: what comes after recovers, and nothing here is worth a checkpoint.
            let _gone = rustix::process::kill_process(
                rustix::process::Pid::from_child(&running),
                rustix::process::Signal::QUIT,
            );
            let _reaped = running.wait();
        }
    }

    /// An address by the server's socket.
    pub(crate) fn by_socket(&self, login: &str, password: &str) -> String {
        let folder = self.data().display().to_string().replace('/', "%2F");
        format!("postgres://{login}:{password}@{folder}:{}/postgres", self.port)
    }

    /// The superuser, by the socket.
    pub(crate) async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.by_socket("postgres", &self.password)).await.unwrap()
    }

    /// The address of a group's login over TCP.
    pub(crate) fn by_tcp(&self, group: &str, parameters: &str) -> String {
        let login = self.logins.iter().find(|login| login.group == group).unwrap();
        format!("postgres://{}:{}@127.0.0.1:{}/postgres{parameters}", login.name, *login.password, self.port)
    }

    /// A group's login by the socket.
    pub(crate) fn login_by_socket(&self, group: &str) -> String {
        let login = self.logins.iter().find(|login| login.group == group).unwrap();
        self.by_socket(&login.name, &login.password)
    }

    /// Starts an instance there: whether it serves, and if not, what is said.
    async fn serve(&self, urls: Urls) -> Result<(), String> {
        let secret = Zeroizing::new("unused".to_owned());
        let mut options = Place { database: "postgres", port: 0 }.options(home().keys(), None, &secret).unwrap();
        options.urls = urls;
        match Box::pin(Instance::start(options)).await {
            Ok(instance) => {
                instance.stop().await;
                Ok(())
            }
            Err(StartError::Gate(faults)) => Err(faults.join("; ")),
            Err(error) => {
                let mut said = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    said = format!("{said}: {error}");
                    cause = error.source();
                }
                Err(said)
            }
        }
    }
}

/// The four logins' addresses, made by `address`.
fn urls(transport: &Transport, address: impl Fn(&str) -> String) -> Urls {
    let url = |group| Address::parse(&address(group), transport).unwrap();
    Urls { app: url("app"), ledger: url("ledger"), lookup: url("lookup"), loader: url("loader") }
}

const TLS_ALONE: &str = "hostssl all all 127.0.0.1/32 scram-sha-256";
const TLS_OR_NOT: &str = "host all all 127.0.0.1/32 scram-sha-256";

fn trusting(authority: &Authority) -> Transport {
    Transport { loopback_plaintext: false, roots: Some(authority.pem().into_bytes().into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_with_another_certificate_than_the_databases_is_refused_by_name() {
    let Some(mut ground) = Ground::new().await else { return };
    let (authority, stranger) = (Authority::new(), Authority::new());
    let table = [
        ("the right certificate", Shown::Right, &authority, None),
        ("another authority", Shown::Right, &stranger, Some("is of an unknown authority")),
        ("another name", Shown::OtherName, &authority, Some("is for another name")),
        ("an ended certificate", Shown::Expired, &authority, Some("has expired")),
        ("no TLS", Shown::Nothing, &authority, Some("offers no TLS")),
    ];
    for (case, shown, signer, refused) in table {
        ground.start(Some((signer, shown)), TLS_OR_NOT, &[]).await;
        let addresses = urls(&trusting(&authority), |group| ground.by_tcp(group, ""));
        let outcome = ground.serve(addresses).await;
        match refused {
            None => assert_eq!(outcome, Ok(()), "{case}"),
            Some(words) => {
                let said = outcome.expect_err(case);
                assert!(
                    said.starts_with("the app login is not sent: the server") && said.contains(words),
                    "{case}: {said}"
                );
                assert!(!said.contains("; "), "one message, and no more: {said}");
            }
        }
        eventually(&format!("{case}: nobody stays logged in"), async || {
            let seen = "select count(*) from pg_stat_activity where usename like 'keyholder%'";
            let seen: i64 = sqlx::query_scalar(seen).fetch_one(&mut ground.owner().await).await.unwrap();
            seen == 0
        })
        .await;
        let mut out = std::io::stderr();
        writeln!(out, "{case}: {}", refused.map_or("served", |_| "refused")).unwrap();
    }
    // The owner's way is the same, and so is what is said of it.
    ground.start(Some((&stranger, Shown::Right)), TLS_OR_NOT, &[]).await;
    let url = format!("postgres://postgres:{}@127.0.0.1:{}/postgres", ground.password, ground.port);
    let owner = Address::parse(&url, &trusting(&authority)).unwrap();
    let said = migrate::rotate_logins(&owner, keyholder::home::INSTALLATION).await.err().unwrap().to_string();
    assert!(said.contains("the owner's login is not sent") && said.contains("unknown authority"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_tls_alone_turns_a_plain_client_away() {
    let Some(mut ground) = Ground::new().await else { return };
    let authority = Authority::new();
    let lenient = Transport { loopback_plaintext: true, ..trusting(&authority) };
    ground.start(Some((&authority, Shown::Right)), TLS_ALONE, &[]).await;
    let plain = urls(&lenient, |group| ground.by_tcp(group, "?sslmode=disable"));
    let said = ground.serve(plain).await.expect_err("in the clear");
    assert!(said.contains("pg_hba.conf") && said.contains("no encryption"), "{said}");
    let checked = urls(&lenient, |group| ground.by_tcp(group, "?sslmode=verify-full"));
    assert_eq!(ground.serve(checked).await, Ok(()));

    // Where both sides allow it, this machine's loopback may be spoken to in the clear.
    ground.start(None, TLS_OR_NOT, &[]).await;
    assert_eq!(ground.serve(urls(&lenient, |group| ground.by_tcp(group, ""))).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_passes_on_in_the_clear_is_found_by_what_the_server_sees() {
    let Some(mut ground) = Ground::new().await else { return };
    ground.start(None, TLS_OR_NOT, &[]).await;
    let relay = relay::Relay::start(ground.port);
    let strict = Transport::default();
    let socket = urls(&strict, |group| ground.login_by_socket(group));
    assert_eq!(ground.serve(socket).await, Ok(()));
    let through = urls(&strict, |group| {
        let login = ground.by_tcp(group, "");
        let (login, _) = login.split_once('@').unwrap();
        format!("{login}@{}/postgres", relay.host())
    });
    let said = ground.serve(through).await.expect_err("a socket that leads over a network");
    for group in migrate::GROUPS {
        let fault = format!("the {group} login `keyholder_{group}_1` reaches the server over a network without TLS");
        assert!(said.contains(&fault), "{said}");
    }
}

/// What looks like a Unix socket of PostgreSQL's and leads over TCP.
mod relay {
    use std::{
        io,
        net::TcpStream,
        os::unix::net::{UnixListener, UnixStream},
        thread,
    };

    use tempfile::TempDir;

    const SOCKET: &str = ".s.PGSQL.5432";

    pub(super) struct Relay(TempDir);

    impl Relay {
        pub(super) fn start(port: u16) -> Self {
            let folder = TempDir::new().unwrap();
            let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
            thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    #[expect(clippy::disallowed_methods, reason = "a test's own relay")]
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                    pass_on(client, &server);
                }
            });
            Self(folder)
        }

        pub(super) fn host(&self) -> String {
            format!("{}:5432", self.0.path().display().to_string().replace('/', "%2F"))
        }
    }

    fn pass_on(client: UnixStream, server: &TcpStream) {
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let mut back = (server.try_clone().unwrap(), client);
        thread::spawn(move || {
            let _ended = io::copy(&mut from, &mut to);
            let _gone = to.shutdown(std::net::Shutdown::Write);
        });
        thread::spawn(move || {
            let _ended = io::copy(&mut back.0, &mut back.1);
            let _gone = back.1.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// Where the tests of other files put a file for a server's authority.
pub(crate) fn write_authority(folder: &Path, authority: &Authority) -> String {
    let path = folder.join("authority.pem");
    fs::write(&path, authority.pem()).unwrap();
    path.to_str().unwrap().to_owned()
}
