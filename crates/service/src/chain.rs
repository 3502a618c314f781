//! An error with its causes, for the one log line that it gets. Never for an answer: a cause may tell of the inside.

use std::{
    error::Error,
    fmt::{self, Display, Formatter},
};

/// Displays an error and, behind colons, what caused it.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
