//! Whether the server at a login's address is the database's: why it was not taken for that, and what certificate it shows.
//!
//! The driver checks every connection; this puts its refusals into words, and looks at a certificate before it ends. Never decides
//! whether a connection is made: that rule is the address's.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{Address, Way, address::Roots};

/// What a client sends before anything else to ask for TLS (`SSLRequest` of PostgreSQL's protocol).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// A server on the same network answers far sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a server is not taken for the database's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No TLS is spoken there.
    #[error("the server offers no TLS: switch `ssl` on there, or use a Unix socket")]
    NoTls,
    /// Nobody known has signed its certificate.
    #[error("the server's certificate is of an unknown authority: name the right one in database.tls_roots")]
    Authority,
    /// The certificate is somebody else's.
    #[error("the server's certificate is for another name than the address has")]
    Name,
    /// The certificate has ended.
    #[error("the server's certificate has expired: give the server a new one")]
    Expired,
    /// The certificate has not begun.
    #[error("the server's certificate is not valid yet: look at the clocks of both machines")]
    Early,
    /// The file that `sslrootcert` names, or the PEM, is of no use.
    #[error("the authorities cannot be read: {0}")]
    Roots(String),
    /// Whatever else TLS has against it.
    #[error("the TLS handshake with the server fails: {0}")]
    Handshake(String),
}

impl Distrust {
    /// What a failed connection has against its server; `None` where it failed for another reason.
    pub(crate) fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Io(error) => Self::of_io(error),
            sqlx::Error::Tls(error) => Some(match error.downcast_ref::<rustls::Error>() {
                Some(error) => Self::of_tls(error),
                // All that the driver says of it is this text.
                None if error.to_string().contains("does not support TLS") => Self::NoTls,
                None => Self::Handshake(error.to_string()),
            }),
            _ => None,
        }
    }

    fn of_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().map(Self::of_tls)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use CertificateError as Fault;
        let rustls::Error::InvalidCertificate(fault) = error else { return Self::Handshake(error.to_string()) };
        match fault {
            // The second is of an authority that only has the name of one that is known.
            Fault::UnknownIssuer | Fault::BadSignature => Self::Authority,
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => Self::Name,
            Fault::Expired | Fault::ExpiredContext { .. } => Self::Expired,
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => Self::Early,
            _ => Self::Handshake(error.to_string()),
        }
    }
}

/// From when until when a certificate is valid (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`.
    pub from: OffsetDateTime,
    /// `notAfter`.
    pub until: OffsetDateTime,
}

/// Why a server's certificate was not seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// It was seen, or asked for, and is not trusted.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// Nobody answers.
    #[error("the server does not answer")]
    Unreachable(#[source] io::Error),
}

impl Address {
    /// From when until when the certificate is valid that the server shows, after it was judged as every connection judges it. `None`
    /// where the way is another than TLS.
    ///
    /// # Errors
    /// `Distrust`; `Unreachable`, also where there is no answer within five seconds.
    pub async fn server_certificate(&self) -> Result<Option<Validity>, LookError> {
        if self.way() != Way::Tls {
            return Ok(None);
        }
        let late = |_| LookError::Unreachable(io::ErrorKind::TimedOut.into());
        tokio::time::timeout(PATIENCE, look(self)).await.map_err(late)?.map(Some)
    }
}

async fn look(address: &Address) -> Result<Validity, LookError> {
    let config = client_config(&address.2)?;
    let host = address.0.get_host();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Distrust::Handshake(error.to_string()))?;
    #[expect(clippy::disallowed_methods, reason = "the database's own socket, which is this crate's")]
    let mut socket = TcpStream::connect((host, address.0.get_port())).await.map_err(LookError::Unreachable)?;
    socket.write_all(&SSL_REQUEST).await.map_err(LookError::Unreachable)?;
    if socket.read_u8().await.map_err(LookError::Unreachable)? != b'S' {
        return Err(Distrust::NoTls.into());
    }
    let stream = TlsConnector::from(config).connect(name, socket).await;
    let stream =
        stream.map_err(|error| Distrust::of_io(&error).map_or(LookError::Unreachable(error), LookError::Distrust))?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(validity);
    Ok(shown.ok_or(Distrust::Authority)?)
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let said = certificate.validity();
    Some(Validity { from: said.not_before.to_datetime(), until: said.not_after.to_datetime() })
}

/// The authorities are those that the driver takes: the public ones, and the operator's beside them.
fn client_config(roots: &Roots) -> Result<Arc<ClientConfig>, Distrust> {
    let unreadable = |error: &dyn std::fmt::Display| Distrust::Roots(error.to_string());
    let mut known: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let own: Vec<_> = match roots {
        Roots::Pem(pem) => CertificateDer::pem_slice_iter(pem).collect(),
        Roots::File(path) => CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?.collect(),
    };
    for certificate in own {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        known.add(certificate).map_err(|error| unreadable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Distrust::Handshake(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(known).with_no_client_auth()))
}

/// How many authorities a PEM text holds.
///
/// # Errors
/// In words, where one of them is none, or there is none.
pub fn count_authorities(pem: &[u8]) -> Result<usize, String> {
    let mut known = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
        known.add(certificate).map_err(|error| format!("holds a certificate that is of no use: {error}"))?;
    }
    if known.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(known.len()) }
}
