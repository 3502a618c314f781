//! The keyring's file: private, replaced whole, changed by one process at a time.
//!
//! Knows bytes and paths, and nothing of what they say.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::KeyringError;

/// A thousand epochs take a third of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

const PRIVATE: u32 = 0o600;
/// What the group and all others may do: nothing.
const OF_OTHERS: u32 = 0o077;

/// Reads the whole file, unless others could read or change it as well.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyringError> {
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => KeyringError::Missing { path: path.into() },
        _ => KeyringError::Io { doing: "read", path: path.into(), source },
    };
    // Asked before opening, since opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(KeyringError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & OF_OTHERS != 0 {
        return Err(KeyringError::Permissions { path: path.into(), mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(KeyringError::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

/// The right to change the file, held until it is dropped. Another process that changes it is waited for.
pub(super) fn lock(path: &Path) -> Result<File, KeyringError> {
    let beside = beside(path, ".lock");
    let failed = |source| KeyringError::Io { doing: "lock", path: beside.clone(), source };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(&beside).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Puts the bytes in the file's place, at once and for good: whoever reads sees the old file or the new one, also after a loss
/// of power. The caller holds the lock.
///
/// The old file is unlinked and not overwritten: a file system keeps its blocks for a while, and the root key still wraps
/// what they hold.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeyringError> {
    let new = beside(path, ".new");
    let written = write_new(&new, bytes).and_then(|()| fs::rename(&new, path)).and_then(|()| sync_folder(path));
    written.map_err(|source| KeyringError::Io { doing: "write", path: path.into(), source })
}

fn write_new(new: &Path, bytes: &[u8]) -> io::Result<()> {
    // Under the lock it can only be what a process left that died here.
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(new)?;
    // The mode above passes through the process's mask, this one does not.
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
