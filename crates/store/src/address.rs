//! Where a role logs in: a `postgres://` address, parsed once, never printed.
//!
//! Owns the rule of how a login may travel: a Unix socket, TLS with the server's certificate checked, or, where the configuration
//! allows it, plaintext on this machine's own loopback address. There is no other way to make an [`Address`].

use std::{fmt, net::IpAddr, path::Path, str::FromStr, sync::Arc};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::context::sha256;

/// What the configuration says about the way to the database.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// Whether a loopback address may be spoken to without TLS.
    pub loopback_plaintext: bool,
    /// Authorities that may have signed the server's certificate, as PEM. They are trusted beside the public ones.
    pub roots: Option<Arc<[u8]>>,
}

/// How a login's connection travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A Unix socket.
    Socket,
    /// TLS, the server's certificate and name checked.
    Tls,
    /// TCP on the loopback address, in the clear.
    Loopback,
}

/// A login's address, its password included, and the digest of its text, by which one is told from another.
#[derive(Clone)]
pub struct Address(pub(crate) PgConnectOptions, pub(crate) [u8; 32], pub(crate) Roots);

/// Where the authorities of a server's certificate are.
#[derive(Clone)]
pub(crate) enum Roots {
    /// Named in the address itself (`sslrootcert`): a file.
    File(String),
    /// As PEM; the public ones alone where it is empty.
    Pem(Arc<[u8]>),
}

/// Why a text is no address of a login. It is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is not of the form.
    #[error("not an address of the form postgres://LOGIN:PASSWORD@HOST:PORT/DATABASE")]
    Form,
    /// It would send the password to whoever answers.
    #[error(
        "sslmode={0} does not check the server's certificate: say sslmode=verify-full, or leave it out, which means the same"
    )]
    Unchecked(String),
    /// It would cross a network in the clear.
    #[error("sslmode=disable is for nothing but 127.0.0.1 and ::1: say sslmode=verify-full, or use a Unix socket")]
    Plaintext,
    /// It stays on this machine, but nobody said that this is meant.
    #[error(
        "sslmode=disable sends the password in the clear: use a Unix socket, or set database.loopback_plaintext if this machine's loopback is trusted"
    )]
    Loopback,
}

impl Address {
    /// Parses an address, and decides how it travels.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str, transport: &Transport) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::Form)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(AddressError::Form);
        }
        let options = PgConnectOptions::from_str(text).map_err(|_| AddressError::Form)?;
        let said = |names: [&str; 3]| {
            let pairs = url.query_pairs().filter(|(name, _)| names.contains(&&**name));
            pairs.map(|(_, value)| value.into_owned()).collect::<Vec<_>>()
        };
        let modes = said(["sslmode", "ssl-mode", "sslmode"]);
        let options = secured(options, &modes, transport.loopback_plaintext)?;
        let roots = match said(["sslrootcert", "ssl-root-cert", "ssl-ca"]).pop() {
            Some(file) => Roots::File(file),
            None => Roots::Pem(transport.roots.clone().unwrap_or_default()),
        };
        let options = match &roots {
            Roots::File(_) => options,
            // Said even where it is empty: the driver would else take `PGSSLROOTCERT` for an authority.
            Roots::Pem(pem) => options.ssl_root_cert_from_pem(pem.to_vec()),
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&sha256(text.as_bytes()));
        Ok(Self(options, digest, roots))
    }

    /// How it travels.
    pub fn way(&self) -> Way {
        way(&self.0)
    }

    /// The name or address of the server's machine; of a socket its folder.
    pub fn host(&self) -> String {
        let socket = self.0.get_socket().map(|folder| folder.display().to_string());
        socket.unwrap_or_else(|| self.0.get_host().to_owned())
    }
}

/// The one rule of how a login travels: over a Unix socket, over TLS that checks certificate and name, or in the clear to the loopback
/// address where the configuration allows that. An address that says nothing means TLS.
///
/// The driver's own `prefer` would take a server without TLS as it is, and its `require` would take any certificate.
fn secured(
    options: PgConnectOptions,
    modes: &[String],
    loopback_plaintext: bool,
) -> Result<PgConnectOptions, AddressError> {
    if let Some(unchecked) = modes.iter().find(|mode| !matches!(mode.as_str(), "disable" | "verify-full")) {
        return Err(AddressError::Unchecked(unchecked.clone()));
    }
    if is_socket(&options) {
        // PostgreSQL speaks no TLS there, and nobody listens in between.
        return Ok(options.ssl_mode(PgSslMode::Disable));
    }
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    let loopback = is_loopback(&host);
    let options = options.host(&host);
    let disabled = modes.iter().any(|mode| mode == "disable");
    match (disabled, loopback, loopback_plaintext) {
        (true, false, _) => Err(AddressError::Plaintext),
        (true, true, false) => Err(AddressError::Loopback),
        (true, true, true) => Ok(options.ssl_mode(PgSslMode::Disable)),
        (false, true, true) if modes.is_empty() => Ok(options.ssl_mode(PgSslMode::Disable)),
        (false, ..) => Ok(options.ssl_mode(PgSslMode::VerifyFull)),
    }
}

/// The way that options lead which [`secured`] has passed.
pub(crate) fn way(options: &PgConnectOptions) -> Way {
    match options.get_ssl_mode() {
        _ if is_socket(options) => Way::Socket,
        PgSslMode::Disable => Way::Loopback,
        _ => Way::Tls,
    }
}

fn is_socket(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || Path::new(options.get_host()).is_absolute()
}

/// An address, and no name: what a name leads to is decided elsewhere, and may change.
fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromStr for Address {
    type Err = AddressError;
    /// As the strictest configuration has it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text, &Transport::default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} at {})", self.0.get_username(), self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_travels_over_a_socket_or_checked_tls_or_where_it_is_said_over_loopback() {
        let strict = Transport::default();
        let lenient = Transport { loopback_plaintext: true, roots: None };
        let unchecked = |mode: &str| Err(AddressError::Unchecked(mode.to_owned()));
        let table = [
            ("u@db.internal/d", Ok(Way::Tls), Ok(Way::Tls)),
            ("u@db.internal/d?sslmode=verify-full", Ok(Way::Tls), Ok(Way::Tls)),
            ("u@db.internal/d?sslmode=disable", Err(AddressError::Plaintext), Err(AddressError::Plaintext)),
            ("u@db.internal/d?sslmode=allow", unchecked("allow"), unchecked("allow")),
            ("u@db.internal/d?sslmode=prefer", unchecked("prefer"), unchecked("prefer")),
            ("u@db.internal/d?sslmode=require", unchecked("require"), unchecked("require")),
            ("u@db.internal/d?sslmode=verify-ca", unchecked("verify-ca"), unchecked("verify-ca")),
            ("u@db.internal/d?ssl-mode=prefer", unchecked("prefer"), unchecked("prefer")),
            ("u@db.internal/d?sslmode=verify-full&sslmode=prefer", unchecked("prefer"), unchecked("prefer")),
            (
                "u@db.internal/d?sslmode=verify-full&sslmode=disable",
                Err(AddressError::Plaintext),
                Err(AddressError::Plaintext),
            ),
            ("u@127.0.0.1/d", Ok(Way::Tls), Ok(Way::Loopback)),
            ("u@[::1]:5433/d", Ok(Way::Tls), Ok(Way::Loopback)),
            ("u@127.0.0.1/d?sslmode=disable", Err(AddressError::Loopback), Ok(Way::Loopback)),
            ("u@127.0.0.1/d?sslmode=verify-full", Ok(Way::Tls), Ok(Way::Tls)),
            ("u@127.0.0.1/d?sslmode=prefer", unchecked("prefer"), unchecked("prefer")),
            // A name may lead anywhere.
            ("u@localhost/d", Ok(Way::Tls), Ok(Way::Tls)),
            ("u@localhost/d?sslmode=disable", Err(AddressError::Plaintext), Err(AddressError::Plaintext)),
            ("u@127.0.0.1.example.com/d", Ok(Way::Tls), Ok(Way::Tls)),
            ("u@%2Frun%2Fpostgresql/d", Ok(Way::Socket), Ok(Way::Socket)),
            ("u@%2Frun%2Fpostgresql/d?sslmode=verify-full", Ok(Way::Socket), Ok(Way::Socket)),
            ("u@%2Frun%2Fpostgresql/d?sslmode=prefer", unchecked("prefer"), unchecked("prefer")),
            ("/d?host=/run/postgresql&user=u", Ok(Way::Socket), Ok(Way::Socket)),
            ("u@127.0.0.1/d?host=db.internal", Ok(Way::Tls), Ok(Way::Tls)),
            (
                "u@127.0.0.1/d?host=db.internal&sslmode=disable",
                Err(AddressError::Plaintext),
                Err(AddressError::Plaintext),
            ),
        ];
        for (rest, wanted, where_allowed) in table {
            let text = format!("postgres://{rest}");
            let parsed = |transport| Address::parse(&text, transport).map(|address| address.way());
            assert_eq!((parsed(&strict), parsed(&lenient)), (wanted, where_allowed), "{text}");
            for address in [&strict, &lenient].map(|transport| Address::parse(&text, transport)).into_iter().flatten() {
                let checked = matches!(address.0.get_ssl_mode(), PgSslMode::VerifyFull);
                assert_eq!(checked, address.way() == Way::Tls, "{text}");
            }
        }
        for text in ["mysql://u@h/d", "u@h/d", "", "postgres//u@h/d"] {
            assert_eq!(Address::parse(text, &lenient).err(), Some(AddressError::Form), "{text}");
        }
    }

    #[test]
    fn an_address_prints_without_its_password() {
        let address: Address = "postgres://kh_app_1:swordfish@[::1]:5433/d".parse().unwrap();
        assert_eq!(format!("{address:?}"), "Address(kh_app_1 at ::1)");
    }
}
