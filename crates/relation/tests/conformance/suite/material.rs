//! Where OpenFGA's files are, and how they are read.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// The folder with OpenFGA's files, which stands beside the project and is no part of it.
///
/// # Panics
/// In a run that must not leave anything out (`CI`), if it is not there.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/openfga");
    if folder.join("consolidated_1_1_tests.yaml").exists() {
        return Some(folder);
    }
    #[expect(clippy::disallowed_methods, reason = "a test asks whether it may leave something out")]
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!strict, "{} is not there", folder.display());
    // Straight to standard error: the harness would swallow what a passing test prints.
    let line = format!("NOT RUN: the OpenFGA conformance cases; {} is not there\n", folder.display());
    std::io::stderr().write_all(line.as_bytes()).ok();
    None
}

pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn yaml<T: DeserializeOwned>(path: &Path) -> T {
    serde_yaml_ng::from_str(&text(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders in a folder, sorted.
pub(crate) fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
