//! The cluster's state folder: what lies in it, and who may touch it.
//!
//! Owns the lock, the superuser's password, the data folder's making, the access rules file and the log. The folder belongs to this
//! process's account and only the data within to PostgreSQL's, so that the database cannot rewrite what governs it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock, syncfs},
    process::geteuid,
};
use tempfile::{NamedTempFile, TempDir};
use zeroize::Zeroizing;

use super::{
    ClusterError, SUPERUSER,
    account::Account,
    error::{Attempt, tail},
    launch::{self, End},
    postmaster,
    programs::{Programs, leading_number},
};

/// How large the log may be when PostgreSQL starts; a larger one is set aside as `postgres.log.1`, over the one before.
const LOG_LIMIT: u64 = 1024 * 1024;

/// The most of a log that is read for an error message.
const LOG_TAIL: u64 = 16 * 1024;

/// How throwaway folders are called, before the random part.
const THROWAWAY: &str = "keyholder-throwaway-";
/// The file that says whose a folder is, and its name before it does.
const LOCK: &str = "lock";
const LOCK_IN_THE_MAKING: &str = "lock.new";

/// Everybody by password, over the socket only; no line for TCP, and none for replication.
const ACCESS_RULES: &str = "local all all scram-sha-256\n";

/// A state folder that this process has for itself.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Held until the folder is dropped; the kernel lets go of it when the process dies.
    _lock: File,
    /// Present for a throwaway folder: removes it on drop.
    throwaway: Option<TempDir>,
}

impl Folder {
    /// Opens the folder at `path`, made if absent, and locks it.
    pub(super) fn keep(path: &Path) -> Result<Self, ClusterError> {
        create_passable(path, folder_mode()).attempt("create", path)?;
        let root = path.canonicalize().attempt("reach", path)?;
        let lock = lock(&root, LOCK)?;
        Ok(Self { root, _lock: lock, throwaway: None })
    }

    /// Makes a folder below `base` that is removed when it is dropped, and clears away those whose Keyholder was killed.
    pub(super) fn throw_away(base: &Path) -> Result<Self, ClusterError> {
        create_passable(base, 0o711).attempt("create", base)?;
        let base = base.canonicalize().attempt("reach", base)?;
        clear_abandoned(&base);
        let folder = tempfile::Builder::new()
            .prefix(THROWAWAY)
            .permissions(Permissions::from_mode(folder_mode()))
            .tempdir_in(&base);
        let folder = folder.attempt("create", &base)?;
        let root = folder.path().to_path_buf();
        // Whoever clears away takes a folder whose lock nobody holds for abandoned: it has that name only once it is held.
        let lock = lock(&root, LOCK_IN_THE_MAKING)?;
        fs::rename(root.join(LOCK_IN_THE_MAKING), root.join(LOCK)).attempt("lock", &root)?;
        fs::set_permissions(&root, Permissions::from_mode(folder_mode())).attempt("set the permissions of", &root)?;
        Ok(Self { root, _lock: lock, throwaway: Some(folder) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_throwaway(&self) -> bool {
        self.throwaway.is_some()
    }

    /// How the programs that work in it end when this process dies.
    pub(super) fn end(&self) -> End {
        if self.is_throwaway() { End::Immediate } else { End::Fast }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    pub(super) fn access_rules(&self) -> PathBuf {
        self.root.join("pg_hba.conf")
    }

    fn password_file(&self) -> PathBuf {
        self.root.join("superuser.password")
    }

    /// The major version that wrote the data; `None` where there is no data yet.
    pub(super) fn recorded_major(&self) -> Result<Option<u32>, ClusterError> {
        let data = self.data();
        if !data.exists() {
            return Ok(None);
        }
        let recorded = fs::read_to_string(data.join("PG_VERSION"))
            .map_err(|cause| ClusterError::NoMajor { data: data.clone(), source: Some(cause) })?;
        leading_number(&recorded).map(Some).ok_or(ClusterError::NoMajor { data, source: None })
    }

    /// The superuser's password. Made once, before the data that it opens.
    pub(super) fn password(&self) -> Result<Zeroizing<String>, ClusterError> {
        let file = self.password_file();
        match fs::read_to_string(&file) {
            Ok(known) => Ok(Zeroizing::new(known)),
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause).attempt("read", file),
            Err(_) if self.data().exists() => Err(ClusterError::NoPassword { file }),
            Err(_) => {
                let made = Zeroizing::new(domain::random::token());
                let mut draft = NamedTempFile::new_in(&self.root).attempt("create", &file)?;
                draft.write_all(made.as_bytes()).and_then(|()| draft.as_file().sync_all()).attempt("write", &file)?;
                draft.persist(&file).map_err(|refused| refused.error).attempt("create", &file)?;
                self.sync()?;
                Ok(made)
            }
        }
    }

    /// Makes the data folder if there is none. It gets its name when it is whole, so that a making that was killed leaves nothing
    /// that could be taken for data.
    pub(super) fn initialise(
        &self,
        programs: &Programs,
        account: &Account,
        launcher: &Path,
        password: &str,
    ) -> Result<(), ClusterError> {
        let draft = self.root.join("data.unfinished");
        if draft.exists() {
            fs::remove_dir_all(&draft).attempt("remove", &draft)?;
        }
        DirBuilder::new().mode(0o700).create(&draft).attempt("create", &draft)?;
        account.give(&draft).attempt("give away", &draft)?;
        let mut secret = NamedTempFile::new_in(&self.root).attempt("create", &self.root)?;
        secret.write_all(password.as_bytes()).attempt("write", secret.path())?;
        account.give(secret.path()).attempt("give away", secret.path())?;

        let mut initdb = launch::command(launcher, account, (&programs.initdb, self.end()));
        initdb.arg("-D").arg(&draft).arg("--pwfile").arg(secret.path()).args(["--username", SUPERUSER]);
        initdb.args(["--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--no-instructions"]);
        // The C locale sorts alike on every machine and version: an index outlives an upgrade of the system's library.
        initdb.args(["--locale=C", "--locale-provider=libc"]);
        // Its own sync is one call a file, and takes seconds where one call for the file system takes none.
        initdb.arg("--no-sync");
        let ended = initdb.output().attempt("start", &programs.initdb)?;
        if !ended.status.success() {
            let said = tail(&String::from_utf8_lossy(&ended.stderr));
            return Err(ClusterError::InitDb { status: ended.status.to_string(), said });
        }
        if !self.is_throwaway() {
            File::open(&draft).and_then(|folder| Ok(syncfs(folder)?)).attempt("sync", &draft)?;
        }
        fs::rename(&draft, self.data()).attempt("create", self.data())?;
        self.sync()
    }

    /// Writes the access rules anew, where the database may read them and not write.
    pub(super) fn write_access_rules(&self) -> Result<(), ClusterError> {
        let file = self.access_rules();
        fs::write(&file, ACCESS_RULES).attempt("write", &file)?;
        fs::set_permissions(&file, Permissions::from_mode(0o644)).attempt("set the permissions of", &file)
    }

    /// Opens the log for PostgreSQL to append to, the former one set aside if it has grown.
    pub(super) fn open_log(&self) -> Result<File, ClusterError> {
        let file = self.log();
        if fs::metadata(&file).is_ok_and(|found| found.len() > LOG_LIMIT) {
            fs::rename(&file, self.root.join("postgres.log.1")).attempt("rename", &file)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&file).attempt("open", file)
    }

    /// The log's last lines.
    pub(super) fn log_tail(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(self.log()).and_then(|mut log| {
            let skipped = log.metadata()?.len().saturating_sub(LOG_TAIL);
            io::Seek::seek(&mut log, io::SeekFrom::Start(skipped))?;
            log.take(LOG_TAIL).read_to_end(&mut text)
        });
        match read {
            Ok(_) => tail(&String::from_utf8_lossy(&text)),
            Err(cause) => format!("(unreadable: {cause})"),
        }
    }

    /// Makes the names in the folder durable.
    fn sync(&self) -> Result<(), ClusterError> {
        if self.is_throwaway() {
            return Ok(());
        }
        File::open(&self.root).and_then(|folder| folder.sync_all()).attempt("sync", &self.root)
    }
}

/// A root process lets its cluster's account pass through; any other keeps the folder to itself.
fn folder_mode() -> u32 {
    if geteuid().is_root() { 0o711 } else { 0o700 }
}

/// Makes the folders of `path` that are missing, with exactly this mode: the umask of a careful root would close them to PostgreSQL.
pub(super) fn create_passable(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_passable(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        // Another process was quicker.
        Err(_) if path.is_dir() => Ok(()),
        Err(cause) => Err(cause),
    }
}

/// Takes the folder's lock and leaves this process's id in it.
fn lock(root: &Path, name: &str) -> Result<File, ClusterError> {
    let path = root.join(name);
    let mut file = open_lock(&path, true).attempt("open", &path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // An unreadable name only makes the message poorer.
            let _ = file.take(32).read_to_string(&mut text);
            return Err(ClusterError::Locked { folder: root.to_path_buf(), holder: holder(&text) });
        }
        Err(cause) => return Err(cause).attempt("lock", path),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).attempt("write", path)?;
    Ok(file)
}

fn open_lock(path: &Path, create: bool) -> io::Result<File> {
    // A link or a pipe in its place must neither be followed nor waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// Who holds a lock, as the lock's content and the process table tell.
fn holder(content: &str) -> String {
    let Ok(pid) = content.trim().parse::<u32>() else { return "another process".to_owned() };
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    }
}

/// Removes throwaway folders of ours that nobody holds and in which no PostgreSQL runs.
fn clear_abandoned(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(THROWAWAY)
            && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        if !ours {
            continue;
        }
        // A folder without a lock file is one that is being made.
        let Ok(file) = open_lock(&entry.path().join(LOCK), false) else { continue };
        let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if free && !postmaster::lives_in(&entry.path().join("data")) {
            tracing::info!(folder = %entry.path().display(), "removing a throwaway database whose owner was killed");
            // What cannot be removed now is tried again by the next.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_the_refusal_names_the_holder() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        let first = Folder::keep(&path).unwrap();
        let refused = Folder::keep(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} (", process::id())), "{refused}");
        drop(first);
        Folder::keep(&path).unwrap();
    }

    #[test]
    fn the_password_is_made_once_and_only_we_can_read_it() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::keep(base.path()).unwrap();
        let made = folder.password().unwrap();
        assert_eq!(made.len(), 43);
        assert_eq!(*folder.password().unwrap(), *made);
        assert_eq!(fs::metadata(folder.password_file()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn data_without_its_password_is_a_fault_and_not_a_new_password() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::keep(base.path()).unwrap();
        fs::create_dir(folder.data()).unwrap();
        assert!(matches!(folder.password(), Err(ClusterError::NoPassword { .. })));
        assert!(!folder.password_file().exists());
    }

    #[test]
    fn the_recorded_version_is_read_and_its_absence_told() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::keep(base.path()).unwrap();
        assert_eq!(folder.recorded_major().unwrap(), None);
        fs::create_dir(folder.data()).unwrap();
        assert!(matches!(folder.recorded_major(), Err(ClusterError::NoMajor { source: Some(_), .. })));
        for (text, wanted) in [("15\n", Some(15)), ("18", Some(18)), ("x\n", None), ("", None)] {
            fs::write(folder.data().join("PG_VERSION"), text).unwrap();
            assert_eq!(folder.recorded_major().ok().flatten(), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_log_that_has_grown_is_set_aside() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::keep(base.path()).unwrap();
        folder.open_log().unwrap().set_len(LOG_LIMIT + 1).unwrap();
        assert_eq!(folder.open_log().unwrap().metadata().unwrap().len(), 0);
        assert_eq!(fs::metadata(base.path().join("postgres.log.1")).unwrap().len(), LOG_LIMIT + 1);
    }

    #[test]
    fn throwaway_folders_go_with_their_owner_and_the_abandoned_with_the_next() {
        let base = tempfile::tempdir().unwrap();
        let lives = Folder::throw_away(base.path()).unwrap();
        let abandoned = base.path().join(format!("{THROWAWAY}abandoned"));
        let half_made = base.path().join(format!("{THROWAWAY}half-made"));
        let foreign = base.path().join("something-else");
        for folder in [&abandoned, &half_made, &foreign] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(abandoned.join("lock"), "1\n").unwrap();
        fs::write(foreign.join("lock"), "1\n").unwrap();
        let next = Folder::throw_away(base.path()).unwrap();
        let next_root = next.root().to_path_buf();
        assert!(!abandoned.exists());
        assert!(half_made.exists() && foreign.exists() && lives.root().exists() && next_root.exists());
        drop(next);
        assert!(!next_root.exists());
    }

    #[test]
    fn missing_folders_get_the_mode_and_existing_ones_keep_theirs() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), Permissions::from_mode(0o700)).unwrap();
        let path = base.path().join("one/two");
        create_passable(&path, 0o711).unwrap();
        for (folder, wanted) in [(base.path(), 0o700), (path.parent().unwrap(), 0o711), (path.as_path(), 0o711)] {
            assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, wanted, "{}", folder.display());
        }
    }
}
