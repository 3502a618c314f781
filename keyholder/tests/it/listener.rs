//! Listening: TLS and its certificate, sockets, limits of connections and of time, HTTP/2, and how it all ends. The clients here speak
//! bytes, so that nothing of theirs mends what they send.

mod flood;
mod http2;
mod left;
mod pair;
mod scan;
mod socket;
mod tls;

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use keyholder::{Instance, InstanceOptions};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};

use self::pair::Pair;
use crate::harness::TestApp;

/// How long a client here waits at most: only a failing test does.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any test.
const HOUR: Duration = Duration::from_hours(1);

/// Both versions of TLS.
const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn port(instance: &Instance) -> u16 {
    instance.url().port().unwrap()
}

/// A connection of a client that speaks bytes.
#[expect(clippy::disallowed_methods, reason = "a hostile client is no part of the application")]
fn plain(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A TLS connection, its handshake done.
fn secure(
    port: u16,
    root: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(client, plain(port));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Sends bytes, and reads to the connection's end, however that comes.
fn exchange(stream: &mut (impl Read + Write), bytes: &[u8]) -> String {
    let _cut = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let _end = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads the head of an answer, and nothing behind it: the connection goes on.
fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn get(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n").into_bytes()
}

/// A node of the same installation that speaks TLS, with its certificate.
async fn over_tls(
    app: &TestApp,
    change: impl FnOnce(&mut InstanceOptions),
) -> (Instance, Pair, CertificateDer<'static>) {
    let pair = Pair::empty();
    let certificate = pair.renew();
    let node = app
        .second_node_with(|options| {
            options.tls = Some(pair.files());
            change(options);
        })
        .await;
    (node, pair, certificate)
}

/// Stops a node; the limit only keeps a failing test from hanging.
async fn stop(what: &str, node: Instance) {
    tokio::time::timeout(PATIENCE, node.stop()).await.unwrap_or_else(|_| panic!("the stop waits: {what}"));
}
