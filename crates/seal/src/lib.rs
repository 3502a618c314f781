//! Custody: how a secret is kept so that only its own place opens it.
//!
//! Three keys stand above each other. The [`RootKey`] comes from outside (a file, the environment). It wraps the **epoch keys**
//! of the [`Keyring`], a file outside the database and its backups. The current epoch key wraps a [`DataKey`] for each
//! workspace, kept in the database. Deleting the data key, or destroying the epoch, ends what a backup can still open.
//!
//! ```text
//! seal:  Plain + Binding + DataKey → Sealed        open:  Sealed + the same Binding + DataKey → Plain
//! ```
//!
//! - [`seal`] and [`open`] for what is not a credential (a stored answer, a PKCE verifier);
//! - [`seal_credential`] and [`open_credential`] for credentials, whose permitted hosts lie inside the sealed bytes, in one of
//!   two [`Form`]s;
//! - [`FernetKey`] for tokens that are brought along from another store;
//! - [`mac`] for SHA-256, HMAC-SHA256 and comparisons in constant time.
//! - [`signature`] for statements: Ed25519.
//!
//! Never knows the database, the network or the environment variables, and never writes a secret into an error or a log. The
//! only file it touches is the keyring's own.

mod aead;
mod binding;
mod credential;
mod data_key;
mod fernet;
mod frames;
mod key;
mod keyring;
pub mod mac;
mod plain;
mod root_key;
#[cfg(feature = "sabotage")]
mod sabotage;
mod sealed;
pub mod signature;

#[cfg(test)]
mod evidence;

pub use binding::{Binding, BindingError, Field, FieldError, Place};
pub use credential::{
    Credential, Form, HOST_BYTES_MAX, HOSTS_MAX, SECRET_BYTES_MAX, open_credential, seal_credential, seal_credential_as,
};
pub use data_key::{DataKey, UnwrapError, WrapError, WrappedDataKey};
pub use fernet::{Age, FernetEncryptError, FernetError, FernetKey, FernetKeyError, TOKEN_BYTES_MAX};
pub use keyring::{Epoch, EpochId, EpochState, Keyring, KeyringError};
pub use plain::Plain;
pub use root_key::{DerivedKey, Purpose, RootKey, RootKeyError};
pub use sealed::{OpenError, SealError, Sealed, open, seal};
