//! Exit codes, and the one place where a failed command becomes words.

use std::{error::Error, fmt, process::ExitCode};

use crate::{StartError, config::ConfigFaults, telemetry::TelemetryError};

/// What a process tells by its exit code. 2 is clap's own: a command line that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// A check failed: `doctor`, `provider lint`, `demo`.
    CheckFailed = 1,
    /// The database cannot be reached, or is refused.
    Database = 4,
    /// The root key or the keyring.
    Key = 5,
    /// Anything else.
    Other = 7,
}

/// The codes, as every `--help` and the guide tell them.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a check failed (doctor, provider lint, permissions test, demo, prove, trust verify)
  2  the command line is not one
  3  the configuration, or a provider file in use, has faults
  4  the database cannot be reached, or is refused
  5  the root key or the keyring
  6  a port is taken, or may not be bound
  7  anything else";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigFaults),
    /// Something did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no log.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Something else, with its code.
    #[error("{what}")]
    Said {
        /// What happened, in words.
        what: String,
        /// Its exit code.
        exit: Exit,
        /// Why.
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl Failure {
    /// A failure in words.
    pub(super) fn said(exit: Exit, what: impl Into<String>) -> Self {
        Self::Said { what: what.into(), exit, cause: None }
    }

    /// A failure in words, with its cause.
    pub(super) fn because(exit: Exit, what: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Said { what: what.into(), exit, cause: Some(Box::new(cause)) }
    }

    /// The code to exit with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(faults) => faults.exit_code(),
            Self::Start(error) => error.exit_code(),
            Self::Telemetry(_) => Exit::Other as u8,
            Self::Said { exit, .. } => *exit as u8,
        }
    }

    /// The faults of a configuration, one by one; for anything else none.
    pub(super) fn faults(&self) -> Vec<String> {
        match self {
            Self::Config(faults) => faults.iter().map(ToString::to_string).collect(),
            Self::Start(StartError::Gate(faults)) => faults.clone(),
            _ => Vec::new(),
        }
    }
}

/// An error and its causes in one line; a cause that only repeats what was said before it is left out.
pub(super) struct Chain<'e>(pub(super) &'e dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn a_chain_says_each_cause_once() {
        let deepest = Link("connection refused", None);
        let repeated = Link("the gate", Some(Box::new(deepest)));
        let top = Link("the database cannot be reached: the gate", Some(Box::new(repeated)));
        assert_eq!(Chain(&top).to_string(), "the database cannot be reached: the gate: connection refused");
    }

    #[test]
    fn every_code_is_in_the_help() {
        for exit in [Exit::Done, Exit::CheckFailed, Exit::Database, Exit::Key, Exit::Other] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
