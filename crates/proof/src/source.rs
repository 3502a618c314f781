//! The source tree, for the checks of a build: what is tracked, its history, the lock file, the binary.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::process::Command;

/// A checkout of the project, and the program that was built from it.
#[derive(Debug, Clone)]
pub struct SourceTree {
    /// The checkout's folder.
    pub root: PathBuf,
    /// The program.
    pub program: PathBuf,
}

impl SourceTree {
    /// What git answers there, byte for byte.
    ///
    /// # Errors
    /// Where git cannot be run, or refuses.
    pub async fn git(&self, arguments: &[&str]) -> io::Result<Vec<u8>> {
        let ran = Command::new("git").arg("-C").arg(&self.root).args(arguments).kill_on_drop(true).output().await?;
        if ran.status.success() {
            return Ok(ran.stdout);
        }
        Err(io::Error::other(format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&ran.stderr).trim())))
    }

    /// The tracked files, by their paths in the checkout.
    ///
    /// # Errors
    /// As [`Self::git`].
    pub async fn tracked(&self) -> io::Result<Vec<PathBuf>> {
        let listed = self.git(&["ls-files", "-z"]).await?;
        let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect())
    }

    /// A tracked file's text.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read(self.root.join(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}
