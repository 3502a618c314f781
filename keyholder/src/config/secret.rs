//! Secrets of the configuration, and the files that they come from.
//!
//! Owns the rule by which a file may hold a secret. Never shows one: the type prints as a mark.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use zeroize::Zeroizing;

/// The longest secret, and the longest file that one is read from, in bytes.
pub(super) const BYTES_MAX: usize = 4096;

/// The most lines of a file with several secrets.
const LINES_MAX: usize = 16;

/// What a secret's file may not grant: anything to others, and no writing to its group. Reading by the group is how
/// orchestrators hand a secret to an account that does not own it.
const TOO_OPEN: u32 = 0o037;

/// A secret's text. Wiped when dropped; prints as a mark, so that no configuration can be printed by accident.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret with this text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text itself, still wiped when dropped.
    pub fn into_inner(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Why a file does not give a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// It is not there, or may not be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why, in words.
        reason: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A folder, a pipe, a device.
    #[error("{0} is not a file")]
    NotAFile(String),
    /// Somebody else could read or change it.
    #[error("{path} is open to others (mode {mode:03o}): chmod 600 {path}")]
    Open {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// No secret is as long.
    #[error("{0} is longer than {BYTES_MAX} bytes")]
    TooLong(String),
    /// Not UTF-8, or more than one line.
    #[error("{0} is not one line of text")]
    NotALine(String),
    /// More lines than make sense.
    #[error("{0} has more than {LINES_MAX} lines")]
    ManyLines(String),
    /// Nothing but a line's end.
    #[error("{0} is empty")]
    Empty(String),
}

/// Reads the one line of a secret's file, without its line's end.
///
/// # Errors
/// Where the file is missing, open to others, too long, empty, or not one line of text.
pub(crate) fn read(path: &Path) -> Result<Secret, SecretFileError> {
    let name = || path.display().to_string();
    let text = text(path)?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(SecretFileError::Empty(name()));
    }
    if line.contains(['\n', '\r', '\0']) {
        return Err(SecretFileError::NotALine(name()));
    }
    Ok(Secret::new(line.to_owned()))
}

/// Reads a file with a secret a line; empty lines are overlooked.
///
/// # Errors
/// As for a file with one, and where there are more than 16.
pub(crate) fn read_lines(path: &Path) -> Result<Vec<Secret>, SecretFileError> {
    let text = text(path)?;
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(|line| Secret::new(line.to_owned())).collect();
    match lines.len() {
        0 => Err(SecretFileError::Empty(path.display().to_string())),
        1..=LINES_MAX => Ok(lines),
        _ => Err(SecretFileError::ManyLines(path.display().to_string())),
    }
}

/// The text of a file that nobody else may read or change.
fn text(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let name = || path.display().to_string();
    let failed = |source: io::Error| {
        let reason = reason(&source);
        SecretFileError::Unreadable { path: name(), reason, source }
    };
    // Asked before opening, since opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SecretFileError::NotAFile(name()));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        return Err(SecretFileError::Open { path: name(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > BYTES_MAX {
        return Err(SecretFileError::TooLong(name()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretFileError::NotALine(name()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// What the file system said, in words that do not depend on it.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ => error.to_string(),
    }
}
