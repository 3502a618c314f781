//! What is wrong with a configuration: every fault by the name of its setting, all at once.
//!
//! Never repeats a secret's value.

use std::fmt;

/// Which exit code a fault belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A setting.
    Setting,
    /// The root key.
    Key,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as the operator wrote it: `keyholder.toml:3: listen`, `KEYHOLDER_LISTEN`, `--listen`.
    pub place: String,
    /// What, in words.
    pub message: String,
    /// Which kind of fault it is.
    pub kind: Kind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A provider file's fault brings its own place along.
        if self.place.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.place, self.message) }
    }
}

/// Everything that is wrong with a configuration. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(pub(super) Vec<Fault>);

impl ConfigFaults {
    /// A single fault, found where no configuration could be read yet.
    pub(crate) fn one(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![Fault { place: place.into(), message: message.into(), kind: Kind::Setting }])
    }

    /// The faults, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// 5 where nothing but the root key is wrong, else 3.
    pub fn exit_code(&self) -> u8 {
        if self.0.iter().all(|fault| fault.kind == Kind::Key) { 5 } else { 3 }
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the configuration has a fault: {one}"),
            all => {
                write!(f, "the configuration has {} faults:", all.len())?;
                all.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

impl std::error::Error for ConfigFaults {}
