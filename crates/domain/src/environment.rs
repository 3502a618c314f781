//! Which kind of installation this is. Nothing sealed in one environment opens in another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The installation's environment, part of every seal and of the database's own record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// A developer's machine, a demonstration, a test. The only one in which the sandbox can be reached.
    Local,
    /// A rehearsal of production.
    Staging,
    /// Customers' accounts.
    Production,
}

impl Environment {
    /// The word that is written into configuration, seals and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Environment {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Local, Self::Staging, Self::Production]
            .into_iter()
            .find(|environment| environment.as_str() == text)
            .ok_or("one of local, staging, production")
    }
}
