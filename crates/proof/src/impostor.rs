//! Somebody in a platform's place, or on the way to it: he answers for the platform with a certificate of his choice, or with none.
//!
//! Passes on what comes over a connection that proves its name, so that the allowed thing succeeds; of every other one he keeps what he got
//! hold of. Knows nothing of what he passes on.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long he listens to somebody whom he has deceived.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that he keeps of one connection, in bytes.
const MOST: usize = 64 * 1024;
/// How he leads somebody who speaks in the clear to himself.
const ELSEWHERE: &[u8] = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://localhost/\r\ncontent-length: 0\r\n\r\n";
/// The type of a TLS record that carries a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// As what he appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appearance {
    /// As the platform itself, over whatever version is agreed on.
    Faithful,
    /// As the platform itself, over TLS 1.2 and nothing newer.
    Tls12,
    /// With a certificate for the right name, of an authority that nobody trusts.
    ForeignAuthority,
    /// With a certificate for the right name that it has signed itself.
    SelfSigned,
    /// With a certificate of the trusted authority, for another name.
    OtherName,
    /// With one for the right name that is past its time.
    Expired,
    /// With one for the right name whose time has not begun.
    NotYet,
    /// Speaks TLS 1.1, whatever he is offered.
    Tls11,
    /// Speaks TLS 1.0, whatever he is offered.
    Tls10,
    /// Speaks HTTP in the clear, and leads there.
    Clear,
}

/// What came of one connection.
#[derive(Debug, Clone)]
pub struct Met {
    /// As what he appeared.
    pub appearance: Appearance,
    /// The versions of TLS that the caller offered (RFC 8446 §4.2.1); empty where he did not begin with TLS.
    pub offered: Vec<u16>,
    /// What the caller sent that was not protected from him.
    pub obtained: Vec<u8>,
}

/// Somebody in a platform's place.
pub struct Impostor {
    /// Where he listens.
    pub addr: SocketAddr,
    /// The authority that his victims trust, as DER.
    pub authority: Vec<u8>,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    appearance: Mutex<Appearance>,
    met: Mutex<Vec<Met>>,
    /// Rises with each appearance: connections of a former one end.
    turn: tokio::sync::watch::Sender<usize>,
    open: AtomicUsize,
    platform: SocketAddr,
    trusts: Arc<ClientConfig>,
    faces: Vec<Face>,
}

/// An appearance, and the server that makes it.
type Face = (Appearance, Arc<ServerConfig>);

/// Why there is no impostor.
#[derive(Debug, thiserror::Error)]
pub enum ImpostorError {
    /// He cannot listen.
    #[error("nobody can listen in the platform's place")]
    Listen(#[from] io::Error),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Impostor {
    /// Takes the place of a platform that answers at an address with a certificate of this authority, for these names.
    ///
    /// # Errors
    /// [`ImpostorError`].
    #[expect(clippy::disallowed_methods, reason = "the attacker is a task of this process and ends with his value")]
    pub async fn before(
        platform: SocketAddr,
        authority: &CertificateDer<'static>,
        names: &[&str],
    ) -> Result<Self, ImpostorError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (faces, own) = faces(names)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let trusts = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let shared = Arc::new(Shared {
            appearance: Mutex::new(Appearance::Faithful),
            met: Mutex::default(),
            turn: tokio::sync::watch::Sender::new(0),
            open: AtomicUsize::new(0),
            platform,
            trusts: Arc::new(trusts),
            faces,
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { addr, authority: own, shared, serving })
    }

    /// Appears so from now on. Connections from before are closed.
    pub async fn appear(&self, appearance: Appearance) {
        *self.shared.appearance.lock().unwrap_or_else(PoisonError::into_inner) = appearance;
        self.shared.turn.send_modify(|turn| *turn += 1);
        while self.shared.open.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// What came of the connections so far, in the order in which they came to an end.
    pub fn met(&self) -> Vec<Met> {
        self.shared.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A server for each appearance that speaks TLS as we know it, and the authority to trust.
fn faces(names: &[&str]) -> Result<(Vec<Face>, Vec<u8>), ImpostorError> {
    let authority = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate()?)
    };
    let (trusted, foreign) = (authority()?, authority()?);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let other = vec!["elsewhere.example".to_owned()];
    let year = |year| OffsetDateTime::UNIX_EPOCH.replace_year(year).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (past, long_past, far, farther) = (year(2021), year(2020), year(2100), year(2101));
    let mut faces = Vec::new();
    let mut face =
        |appearance, names: &[String], signs, valid: Option<(_, _)>, versions: &[&'static SupportedProtocolVersion]| {
            let mut leaf = CertificateParams::new(names.to_vec())?;
            if let Some((from, until)) = valid {
                (leaf.not_before, leaf.not_after) = (from, until);
            }
            let key = KeyPair::generate()?;
            let made = match signs {
                Some(issuer) => leaf.signed_by(&key, issuer)?,
                None => leaf.self_signed(&key)?,
            };
            let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_single_cert(vec![made.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
            faces.push((appearance, Arc::new(server)));
            Ok::<_, ImpostorError>(())
        };
    let any = [&TLS13, &TLS12];
    face(Appearance::Faithful, &names, Some(&*trusted), None, &any)?;
    face(Appearance::Tls12, &names, Some(&*trusted), None, &[&TLS12])?;
    face(Appearance::ForeignAuthority, &names, Some(&*foreign), None, &any)?;
    face(Appearance::SelfSigned, &names, None, None, &any)?;
    face(Appearance::OtherName, &other, Some(&*trusted), None, &any)?;
    face(Appearance::Expired, &names, Some(&*trusted), Some((long_past, past)), &any)?;
    face(Appearance::NotYet, &names, Some(&*trusted), Some((far, farther)), &any)?;
    Ok((faces, trusted.der().to_vec()))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        shared.open.fetch_add(1, Ordering::AcqRel);
        connections.spawn(async move {
            let mut turn = shared.turn.subscribe();
            let appearance = *shared.appearance.lock().unwrap_or_else(PoisonError::into_inner);
            let mut met = Met { appearance, offered: Vec::new(), obtained: Vec::new() };
            // Whatever ends a connection, what was got hold of by then counts.
            tokio::select! {
                _ended = meet(&shared, stream, &mut met) => {}
                _another = turn.changed() => {}
            }
            shared.met.lock().unwrap_or_else(PoisonError::into_inner).push(met);
            shared.open.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

async fn meet(shared: &Shared, mut stream: TcpStream, met: &mut Met) -> io::Result<()> {
    let hello = first_record(&stream).await?;
    met.offered = offered(&hello);
    let face = shared.faces.iter().find(|(appearance, _)| *appearance == met.appearance);
    let Some((_, server)) = face else {
        return deceive_without_tls(&mut stream, &hello, met).await;
    };
    let mut client = TlsAcceptor::from(Arc::clone(server)).accept(stream).await?;
    if matches!(met.appearance, Appearance::Faithful | Appearance::Tls12) {
        let name = client.get_ref().1.server_name().unwrap_or_default().to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        #[expect(clippy::disallowed_methods, reason = "the attacker's own way to the platform")]
        let behind = TcpStream::connect(shared.platform).await?;
        let mut behind = TlsConnector::from(Arc::clone(&shared.trusts)).connect(name, behind).await?;
        copy_bidirectional(&mut client, &mut behind).await?;
        return Ok(());
    }
    let mut bytes = vec![0; MOST];
    // Whoever believes the certificate sends his request now; whoever does not sends an alert.
    if let Ok(read) = tokio::time::timeout(PATIENCE, client.read(&mut bytes)).await {
        met.obtained.extend(bytes.iter().take(read?));
        client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await?;
    }
    Ok(())
}

/// Answers a greeting in a version that nobody should speak any more, or in the clear.
async fn deceive_without_tls(stream: &mut TcpStream, hello: &[u8], met: &mut Met) -> io::Result<()> {
    let mut read = vec![0; MOST];
    let taken = stream.read(&mut read).await?;
    if hello.first() != Some(&HANDSHAKE) {
        met.obtained.extend(read.iter().take(taken));
    }
    let answer = match met.appearance {
        Appearance::Tls11 => old_hello(0x02),
        Appearance::Tls10 => old_hello(0x01),
        _ => ELSEWHERE.to_vec(),
    };
    stream.write_all(&answer).await?;
    let Ok(taken) = tokio::time::timeout(PATIENCE, stream.read(&mut read)).await else { return Ok(()) };
    let more: Vec<u8> = read.into_iter().take(taken?).collect();
    // An alert is the way to refuse; a handshake that goes on, or a request, is the way to be fooled.
    let refuses = more.is_empty() || more.first() == Some(&21);
    if !refuses {
        met.obtained.extend(more);
    }
    Ok(())
}

/// The first record that a caller sends, which stays to be read.
async fn first_record(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MOST];
    let mut before = 0;
    loop {
        let there = stream.peek(&mut bytes).await?;
        let seen = bytes.get(..there).unwrap_or_default();
        let whole = match seen {
            [HANDSHAKE, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => there,
        };
        if there >= whole.min(MOST) || there == 0 {
            return Ok(seen.to_vec());
        }
        if there == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        before = there;
    }
}

/// A `ServerHello` of TLS 1.2's form (RFC 5246 §7.4.1.3) in an older version.
fn old_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([0x5a; 32]);
    // No session, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, no compression.
    hello.extend([0, 0xc0, 0x13, 0]);
    let length = u8::try_from(hello.len()).unwrap_or(u8::MAX);
    let mut record = vec![HANDSHAKE, 3, minor, 0, length + 4, 2, 0, 0, length];
    record.extend(hello);
    record
}

/// The versions in a `ClientHello`: those of its extension, or the one of its head where it has none.
fn offered(record: &[u8]) -> Vec<u16> {
    versions(record).unwrap_or_default()
}

fn versions(record: &[u8]) -> Option<Vec<u16>> {
    let mut hello = Cursor(record);
    if hello.byte()? != HANDSHAKE {
        return None;
    }
    hello.take(4)?;
    hello.take(4)?;
    let head = hello.short()?;
    hello.take(32)?;
    let session = hello.byte()?;
    hello.take(session.into())?;
    let suites = hello.short()?;
    hello.take(suites.into())?;
    let methods = hello.byte()?;
    hello.take(methods.into())?;
    hello.short()?;
    while let Some(kind) = hello.short() {
        let length = hello.short()?;
        let mut body = Cursor(hello.take(length.into())?);
        // supported_versions
        if kind == 43 {
            body.byte()?;
            return Some(std::iter::from_fn(|| body.short()).collect());
        }
    }
    Some(vec![head])
}

/// What is left to read.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the callers of this test")]
    async fn a_caller_who_believes_anybody_is_found_out_and_a_careful_one_is_not() {
        let _ = aws_lc_rs::default_provider().install_default();
        let authority = rcgen::generate_simple_self_signed(vec!["platform.example".to_owned()]).unwrap();
        let nowhere = (Ipv4Addr::LOCALHOST, 1).into();
        let impostor = Impostor::before(nowhere, authority.cert.der(), &["platform.example"]).await.unwrap();
        impostor.appear(Appearance::Clear).await;
        let mut naive = TcpStream::connect(impostor.addr).await.unwrap();
        naive.write_all(b"GET / HTTP/1.1\r\nauthorization: Bearer t\r\n\r\n").await.unwrap();
        let mut answer = [0; 16];
        naive.read_exact(&mut answer).await.unwrap();
        drop(naive);
        impostor.appear(Appearance::Tls11).await;
        let met = impostor.met();
        assert!(met[0].obtained.ends_with(b"Bearer t\r\n\r\n") && met[0].offered.is_empty());

        let careful = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let careful = TlsConnector::from(Arc::new(careful));
        let name = ServerName::try_from("platform.example").unwrap();
        for appearance in [Appearance::Tls11, Appearance::Tls10, Appearance::Clear, Appearance::ForeignAuthority] {
            impostor.appear(appearance).await;
            let stream = TcpStream::connect(impostor.addr).await.unwrap();
            careful.connect(name.clone(), stream).await.unwrap_err();
        }
        impostor.appear(Appearance::Faithful).await;
        let met = impostor.met();
        assert!(met[1..].iter().all(|met| met.obtained.is_empty() && met.offered == [0x0304, 0x0303]), "{met:?}");
        assert_eq!(met.len(), 5);
    }
}
