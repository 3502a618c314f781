//! What is wrong with a store file, or with a file that it names.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The file, as whoever asked can open it.
    pub file: String,
    /// The line and the column, counted from 1, where the file's form gives them.
    pub place: Option<(u64, u64)>,
    /// What is wrong, in words.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(file: &str, place: Option<(u64, u64)>, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}
