//! The one place that reads the process's real surroundings: environment variables and the configuration's file.
//!
//! Hands them on as data. Judges nothing.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::notify::Manager;
use crate::{
    cluster::UsualFolders,
    config::{ConfigFaults, SourceFile, Sources},
};

/// One byte more than the configuration takes, so that it is the configuration which says that a file is too long.
const FILE_BYTES_MAX: u64 = 256 * 1024 + 1;

/// What surrounds this process.
pub(super) struct Surroundings {
    variables: Vec<(OsString, OsString)>,
}

impl Surroundings {
    /// Reads the environment, once.
    pub(super) fn read() -> Self {
        Self { variables: env::vars_os().collect() }
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// The folders of this user.
    pub(super) fn folders(&self) -> UsualFolders {
        let path = |name| self.variable(name).map(Path::new);
        UsualFolders::of_user(path("HOME"), path("XDG_DATA_HOME"), path("XDG_CACHE_HOME"))
    }

    /// Where the service manager wants to hear how this process stands (`NOTIFY_SOCKET`, `sd_notify(3)`).
    pub(super) fn manager(&self) -> Manager {
        Manager::at(self.variable("NOTIFY_SOCKET"))
    }

    /// Where programs are looked for.
    #[cfg(feature = "sandbox")]
    pub(super) fn search_path(&self) -> String {
        self.variable("PATH").map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The sources of a configuration. The file is the flag's, else that of `KEYHOLDER_CONFIG`, else none.
    ///
    /// # Errors
    /// Where the file is named and cannot be read.
    pub(super) fn sources(self, file: Option<&Path>, flags: Vec<(String, String)>) -> Result<Sources, ConfigFaults> {
        let named = match file {
            Some(path) => Some((path.to_owned(), "--config")),
            None => self.variable("KEYHOLDER_CONFIG").map(|path| (PathBuf::from(path), "KEYHOLDER_CONFIG")),
        };
        let file = named.map(|(path, by)| read(path).map_err(|wrong| ConfigFaults::one(by, wrong))).transpose()?;
        let usual_state = self.folders().state;
        Ok(Sources { flags, environment: self.variables, file, usual_state })
    }
}

fn read(path: PathBuf) -> Result<SourceFile, String> {
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    Ok(SourceFile { path, text })
}
