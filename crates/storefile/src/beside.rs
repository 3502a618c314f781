//! The files beside a store file: the only ones that it may name.
//!
//! A store file is often somebody else's. So a name that leads out of its folder, by `..`, as an absolute path or through a link, is
//! refused unless the caller says otherwise, and nothing is opened that is no regular file: a pipe would never end.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Where the files are that a store file names.
#[derive(Debug, Clone)]
pub struct Beside {
    folder: Option<PathBuf>,
    beyond: bool,
}

/// Why a file could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It leads out of the store file's folder.
    #[error("it lies outside the store file's folder, and files from outside were not allowed")]
    Outside,
    /// A folder, a pipe, a device.
    #[error("it is no regular file")]
    NotRegular,
    /// More than is read.
    #[error("it is longer than {0} bytes")]
    TooLarge(u64),
    /// Not UTF-8.
    #[error("it is no text in UTF-8")]
    NotText,
    /// The store file has no folder.
    #[error("there are no files beside this one")]
    Nothing,
    /// The operating system does not give it.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Beside {
    /// The files in the folder of a store file and beneath it.
    pub fn file(store_file: &Path) -> Self {
        let folder = store_file.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self { folder: Some(folder.unwrap_or(Path::new(".")).to_owned()), beyond: false }
    }

    /// No files at all.
    pub fn nothing() -> Self {
        Self { folder: None, beyond: false }
    }

    /// The same, and files anywhere else too.
    #[must_use]
    pub fn or_beyond(mut self) -> Self {
        self.beyond = true;
        self
    }

    /// The text of a file that is named relative to the folder.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn read(&self, name: &str, bytes: u64) -> Result<String, FileError> {
        let folder = self.folder.as_ref().ok_or(FileError::Nothing)?;
        // The resolved path is the one that is judged and the one that is opened.
        let path = folder.join(name).canonicalize()?;
        if !self.beyond && !path.starts_with(folder.canonicalize()?) {
            return Err(FileError::Outside);
        }
        text(&path, bytes)
    }
}

/// The text of a regular file, of so many bytes at most.
pub(crate) fn text(path: &Path, bytes: u64) -> Result<String, FileError> {
    if !path.metadata()?.is_file() {
        return Err(FileError::NotRegular);
    }
    let mut content = Vec::new();
    File::open(path)?.take(bytes.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > bytes {
        return Err(FileError::TooLarge(bytes));
    }
    String::from_utf8(content).map_err(|_| FileError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_read() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("base");
        std::fs::create_dir_all(base.join("sub")).unwrap();
        std::fs::write(root.path().join("secret"), "outside").unwrap();
        std::fs::write(base.join("sub/model.fga"), "inside").unwrap();
        std::os::unix::fs::symlink("../secret", base.join("link")).unwrap();
        std::os::unix::fs::symlink("sub/model.fga", base.join("good")).unwrap();
        let beside = Beside::file(&base.join("store.fga.yaml"));

        for name in ["sub/model.fga", "./sub/model.fga", "sub/../sub/model.fga", "good"] {
            assert_eq!(beside.read(name, 100).unwrap(), "inside", "{name}");
        }
        let absolute = root.path().join("secret");
        for name in ["../secret", "link", "sub/../../secret", absolute.to_str().unwrap()] {
            assert!(matches!(beside.read(name, 100), Err(FileError::Outside)), "{name}");
            assert_eq!(beside.clone().or_beyond().read(name, 100).unwrap(), "outside", "{name}");
        }
        assert!(matches!(beside.read("sub", 100), Err(FileError::NotRegular)));
        assert!(matches!(beside.clone().or_beyond().read("/dev/zero", 100), Err(FileError::NotRegular)));
        assert!(matches!(beside.read("sub/model.fga", 5), Err(FileError::TooLarge(5))));
        assert!(matches!(beside.read("missing", 5), Err(FileError::Io(_))));
        assert!(matches!(Beside::nothing().read("sub/model.fga", 5), Err(FileError::Nothing)));
    }
}
