//! The operator's provider files: which are read, and under what conditions.
//!
//! A provider file decides where credentials are sent. One that everybody may change is refused.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::secret::reason;

/// One byte more than the linter takes, so that it is the linter which says that a file is too long.
const FILE_BYTES_MAX: u64 = 256 * 1024 + 1;
/// One more than the catalogue takes, for the same reason.
const FILES_MAX: usize = 257;
/// Everybody may write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// Name and text of every `.toml` in the folder, by name.
pub(super) fn read(folder: &Path) -> Result<Vec<(String, String)>, String> {
    let unreadable = |error: &std::io::Error| format!("{} cannot be read: {}", folder.display(), reason(error));
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(&error))? {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.truncate(FILES_MAX);
    paths.into_iter().map(|path| Ok((path.display().to_string(), guarded(&path)?))).collect()
}

fn guarded(path: &Path) -> Result<String, String> {
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & WRITABLE_BY_ALL != 0 {
        let what = "a provider file decides where credentials go";
        return Err(format!("{} may be changed by everybody (mode {mode:03o}), and {what}: chmod o-w", path.display()));
    }
    text(path)
}

/// The text of a provider file, whoever may change it: for the linter.
///
/// # Errors
/// In words, with the path.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => return Err(format!("{shown} cannot be read: {}", reason(&error))),
        Ok(metadata) if !metadata.is_file() => return Err(format!("{shown} is not a file")),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| format!("{shown} cannot be read: {}", reason(&error)))?;
    String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))
}
