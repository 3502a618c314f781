//! The wire below HTTP: bytes that no client would send, and TLS as an old, a careful or a deceived client speaks it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::Url;

use crate::{caller::Caller, evidence::Failure};

/// How long is waited for an answer to bytes that may get none.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most of an answer that is read.
const MOST_BYTES: u64 = 1024 * 1024;
/// An address of this machine that nobody names as his proxy's.
const ANOTHER_OF_THIS_MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 90, 80, 70));

/// Where a server listens.
///
/// # Errors
/// `Unproven` where the address has no host and port of its own.
pub fn address(url: &Url) -> Result<SocketAddr, Failure> {
    let addresses = url.socket_addrs(|| None)?;
    let mut known = addresses.into_iter();
    // This machine's own name may stand for both families, and servers of rehearsals listen on the older one.
    let first = known.next();
    let v4 = first.into_iter().chain(known).min_by_key(SocketAddr::is_ipv6);
    v4.ok_or_else(|| Failure::unproven(format!("{url} has no address")))
}

/// A connection in the clear.
///
/// # Errors
/// Where nobody listens.
#[expect(clippy::disallowed_methods, reason = "an attacker's own socket, which is none of the server's")]
pub async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(to).await
}

/// A connection over TLS of one of these versions to `localhost`, whose certificate this authority must have signed.
///
/// # Errors
/// Where the handshake fails.
pub async fn connect_tls(
    to: SocketAddr,
    authority: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_protocol_versions(versions);
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, connect(to).await?).await
}

/// Sends these bytes, and reads until the other side ends the connection, is silent for some seconds, or says too much.
///
/// # Errors
/// None: a connection that breaks has answered what came until then.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let talk = async {
        let _refused = stream.write_all(bytes).await;
        let _refused = stream.flush().await;
        let _broken = stream.take(MOST_BYTES).read_to_end(&mut answer).await;
    };
    let _silent = tokio::time::timeout(PATIENCE, talk).await;
    answer
}

/// A request as it stands on the wire, after whose answer the connection ends.
pub fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

/// The head of a request that says it has a larger body than anybody takes, on behalf of whoever has this key. Nothing of it follows: it is
/// the head that must be refused.
pub fn too_large_a_body(key: &str) -> String {
    format!(
        "POST /v1/api-keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: 300000\r\n\r\n"
    )
}

/// The door of a server, as its address names it: where it listens, whether TLS is spoken there, and whose certificate it must show.
pub struct Door {
    host: String,
    authority: String,
    over_tls: bool,
    at: SocketAddr,
    roots: RootCertStore,
}

impl Door {
    /// The door at which a caller knocks.
    ///
    /// # Errors
    /// `Unproven` where its address leads nowhere.
    pub fn of(caller: &Caller) -> Result<Self, Failure> {
        let url = caller.base();
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(caller.authority().cloned());
        let (authority, over_tls) = (url.authority().to_owned(), url.scheme() == "https");
        Ok(Self { host, authority, over_tls, at: address(url)?, roots })
    }

    /// Whether TLS is spoken there.
    pub fn is_over_tls(&self) -> bool {
        self.over_tls
    }

    /// Where it is.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// The name by which a client asks for its certificate; nothing where it is known by its address alone (RFC 6066 §3).
    pub fn name(&self) -> Option<&str> {
        self.host.parse::<IpAddr>().is_err().then_some(self.host.as_str())
    }

    /// Whether a client can come as somebody whom the server's operator has not named as his proxy: from elsewhere, or on this machine from
    /// an address of it that nobody uses.
    pub fn tells_clients_apart(&self) -> bool {
        !self.at.ip().is_loopback() || self.at.is_ipv4()
    }

    /// A connection over TLS of one of these versions, with the certificate checked.
    ///
    /// # Errors
    /// Where the handshake fails.
    pub async fn open(&self, versions: &[&'static SupportedProtocolVersion]) -> io::Result<TlsStream<TcpStream>> {
        self.shake_hands(connect(self.at).await?, versions).await
    }

    /// Sends bytes as a client whom nobody has named as his proxy, over TLS where that is spoken, and reads as [`exchange`] does.
    ///
    /// # Errors
    /// Where nobody listens, or the handshake fails.
    pub async fn ask(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let is_here = self.at.ip().is_loopback() && self.at.is_ipv4();
        let mut stream =
            if is_here { connect_from(ANOTHER_OF_THIS_MACHINE, self.at).await? } else { connect(self.at).await? };
        if !self.over_tls {
            return Ok(exchange(&mut stream, bytes).await);
        }
        let mut stream = self.shake_hands(stream, rustls::DEFAULT_VERSIONS).await?;
        Ok(exchange(&mut stream, bytes).await)
    }

    /// A request to it as it stands on the wire, after whose answer the connection ends.
    pub fn get(&self, path: &str, headers: &str) -> Vec<u8> {
        let host = &self.authority;
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n").into_bytes()
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = ClientConfig::builder_with_protocol_versions(versions);
        let config = config.with_root_certificates(self.roots.clone()).with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// A connection in the clear from an address of one's own: an attacker's socket, which is none of the server's.
async fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// A `ClientHello` of a client that knows nothing newer than TLS 1.`minor - 1` (RFC 2246 and RFC 4346, §7.4.1.2), with suites that were
/// usual then. It says whom it wants, where it is told (RFC 6066 §3), since many servers speak to nobody who does not.
pub fn old_hello(minor: u8, name: Option<&str>) -> Vec<u8> {
    const SUITES: [u16; 6] = [0xc013, 0xc014, 0xc009, 0xc00a, 0x002f, 0x0035];
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut body = vec![3, minor];
    body.extend([0x5a; 32]);
    // No session, the suites, and no compression.
    body.extend([0, 0, 12]);
    body.extend(SUITES.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    if let Some(name) = name.filter(|_| minor > 0) {
        // All extensions, the one for the name, the list in it, and in that a host's name.
        body.extend([length(name.len() + 9), [0, 0], length(name.len() + 5), length(name.len() + 3)].concat());
        body.push(0);
        body.extend(length(name.len()));
        body.extend(name.as_bytes());
    }
    let mut hello = vec![22, 3, 1];
    hello.extend(length(body.len() + 4));
    hello.extend([1, 0]);
    hello.extend(length(body.len()));
    hello.extend(body);
    hello
}

/// A certificate for `localhost`, its key, and the authority that signed it: worth nothing anywhere else.
pub struct Throwaway {
    /// The authority, for those who shall trust it.
    pub authority: CertificateDer<'static>,
    /// The certificate in PEM.
    pub certificate: String,
    /// Its private key in PEM.
    pub key: String,
}

/// Makes a certificate that is valid now.
///
/// # Errors
/// Where the library refuses.
pub fn certificate() -> Result<Throwaway, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = CertificateParams::new(names)?;
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &authority)?;
    Ok(Throwaway { authority: authority.der().clone(), certificate: certificate.pem(), key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_hello_says_how_long_it_is() {
        for (minor, name) in [(1, None), (2, Some("keys.acme.dev"))] {
            let hello = old_hello(minor, name);
            assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), hello.len() - 5);
            assert_eq!(usize::from(u16::from_be_bytes([hello[7], hello[8]])), hello.len() - 9);
            assert_eq!(hello[9..11], [3, minor]);
            let Some(name) = name else { continue };
            // After two versions, 32 random bytes, six suites and no compression (RFC 5246 §7.4.1.2): the extensions (RFC 6066 §3).
            let extensions = &hello[9 + 2 + 32 + 1 + 2 + 12 + 2..];
            let lengths = [name.len() + 9, 0, name.len() + 5, name.len() + 3];
            let told = extensions.chunks(2).take(4).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])));
            assert_eq!(told.collect::<Vec<_>>(), lengths);
            assert_eq!(
                (extensions[8], usize::from(extensions[10]), &extensions[11..]),
                (0, name.len(), name.as_bytes())
            );
            assert_eq!(lengths[0] + 2, extensions.len());
        }
    }
}
