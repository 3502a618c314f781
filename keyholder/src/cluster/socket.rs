//! The folder of the database's socket.
//!
//! Owns its name, which must be short, and its access, which must be ours alone: it lies in a folder that everybody may write to, and
//! whoever owned it could answer in the database's place.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::{fs::OFlags, process::geteuid};

use super::{ClusterError, PORT, account::Account, error::Attempt, folder::create_passable};

/// The first length of a socket's path, in bytes, that is too long: an address has room for 108 with the final zero (unix(7)).
const PATH_LIMIT: usize = 107;

/// The folder for a socket of the state folder `state`: the same at every start, so that an address written down stays good.
pub(super) fn folder_for(runtime_dir: &Path, state: &Path) -> PathBuf {
    let hash = hex::encode(digest(&SHA256, state.as_os_str().as_encoded_bytes()));
    runtime_dir.join(format!("keyholder-{}", hash.get(..16).unwrap_or(&hash)))
}

/// Refuses a folder whose socket would not fit into an address.
pub(super) fn check_length(folder: &Path) -> Result<(), ClusterError> {
    let path = folder.join(format!(".s.PGSQL.{PORT}"));
    let length = path.as_os_str().len();
    if length < PATH_LIMIT { Ok(()) } else { Err(ClusterError::SocketPath { path, length, limit: PATH_LIMIT }) }
}

/// Makes the folder, or makes sure that the existing one is ours, gives it to the account alone and empties it of a former start's
/// socket, whose lock file has the same trap as a stale pid file.
pub(super) fn prepare(folder: &Path, account: &Account) -> Result<(), ClusterError> {
    check_length(folder)?;
    if let Some(parent) = folder.parent() {
        create_passable(parent, 0o711).attempt("create", parent)?;
        if let Some(closed) = account.barred_at(parent) {
            let account = account.name().to_owned();
            return Err(ClusterError::Barred { account, closed, wanted: folder.to_path_buf() });
        }
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(cause) if cause.kind() != ErrorKind::AlreadyExists => return Err(cause).attempt("create", folder),
        _ => {}
    }
    let open = open_folder(folder).attempt("open", folder)?;
    let owner = open.metadata().attempt("read", folder)?.uid();
    if owner != geteuid().as_raw() && owner != account.uid() {
        return Err(ClusterError::RuntimeTaken { folder: folder.to_path_buf(), owner });
    }
    // Through the open handle, so that nothing put in the folder's place meanwhile is given away.
    if owner != account.uid() {
        fchown(&open, Some(account.uid()), Some(account.gid())).attempt("give away", folder)?;
    }
    open.set_permissions(Permissions::from_mode(0o700)).attempt("set the permissions of", folder)?;
    clear(folder);
    Ok(())
}

/// Removes the folder and what PostgreSQL may have left in it. Whatever else is there keeps it.
pub(super) fn remove(folder: &Path) {
    clear(folder);
    // It stays only if somebody put something else there, and the next start can live with it.
    let _ = fs::remove_dir(folder);
}

fn clear(folder: &Path) {
    for name in [format!(".s.PGSQL.{PORT}"), format!(".s.PGSQL.{PORT}.lock")] {
        // Mostly absent; what cannot be removed makes PostgreSQL say so.
        let _ = fs::remove_file(folder.join(name));
    }
}

/// Opens a folder itself, and not what a link in its place points to.
fn open_folder(folder: &Path) -> std::io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits();
    let flags = i32::try_from(flags).map_err(std::io::Error::other)?;
    File::options().read(true).custom_flags(flags).open(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn the_path_of_the_socket_stays_below_the_limit() {
        let socket = "/.s.PGSQL.5432".len();
        for (length, fits) in [(20, true), (PATH_LIMIT - socket - 1, true), (PATH_LIMIT - socket, false), (200, false)]
        {
            let folder = PathBuf::from(format!("/{}", "x".repeat(length - 1)));
            assert_eq!(check_length(&folder).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn the_name_is_short_stable_and_of_the_state_folder() {
        let (first, second) = (Path::new("/var/lib/keyholder/one"), Path::new("/var/lib/keyholder/two"));
        let name = |state| folder_for(Path::new("/tmp"), state);
        assert_eq!(name(first), name(first));
        assert_ne!(name(first), name(second));
        assert_eq!(name(first).as_os_str().len(), "/tmp/keyholder-0123456789abcdef".len());
    }

    #[test]
    fn a_folder_is_ours_alone_and_a_former_socket_is_cleared() {
        let base = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
        let folder = base.path().join("socket");
        let account = Account::choose(Path::new("/nonexistent")).unwrap();
        for _ in 0..2 {
            prepare(&folder, &account).unwrap();
            let found = fs::metadata(&folder).unwrap();
            assert_eq!((found.mode() & 0o777, found.uid()), (0o700, account.uid()));
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
            fs::write(folder.join(".s.PGSQL.5432.lock"), "1\n").unwrap();
            fs::write(folder.join(".s.PGSQL.5432"), "").unwrap();
        }
        remove(&folder);
        assert!(!folder.exists());
    }

    #[test]
    fn a_link_or_a_strangers_folder_in_its_place_is_refused() {
        let base = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
        let account = Account::choose(Path::new("/nonexistent")).unwrap();
        let elsewhere = base.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let link = base.path().join("link");
        symlink(&elsewhere, &link).unwrap();
        assert!(matches!(prepare(&link, &account), Err(ClusterError::Io { deed: "open", .. })));
        if geteuid().is_root() {
            let foreign = base.path().join("foreign");
            fs::create_dir(&foreign).unwrap();
            chown(&foreign, Some(4_000_000), None).unwrap();
            assert!(matches!(prepare(&foreign, &account), Err(ClusterError::RuntimeTaken { owner: 4_000_000, .. })));
        }
    }
}
