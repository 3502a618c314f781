//! Where a role logs in: a `postgres://` address, parsed once, never printed.

use std::{fmt, str::FromStr};

use sqlx::postgres::PgConnectOptions;

use crate::context::sha256;

/// A login's address, its password included, and the digest of its text, by which one is told from another.
#[derive(Clone)]
pub struct Address(pub(crate) PgConnectOptions, pub(crate) [u8; 32]);

/// The text is not such an address. It is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("not an address of the form postgres://LOGIN:PASSWORD@HOST:PORT/DATABASE")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let known = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if !known {
            return Err(AddressError);
        }
        let options = PgConnectOptions::from_str(text).map_err(|_| AddressError)?;
        let mut told = [0; 32];
        told.copy_from_slice(&sha256(text.as_bytes()));
        Ok(Self(options, told))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} at {})", self.0.get_username(), self.0.get_host())
    }
}
