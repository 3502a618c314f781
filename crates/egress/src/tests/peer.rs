//! A provider's stand-in: one TLS listener that does as it was scripted, and counts what reached it.

#![expect(clippy::disallowed_methods, reason = "a test's peer runs on the test's own runtime")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

use crate::SandboxRoute;

/// What the peer does with a connection.
#[derive(Debug, Clone)]
pub(super) enum Script {
    /// Answers every request with these bytes.
    Answer(Vec<u8>),
    /// Answers every request with these bytes, after a while.
    AnswerSlowly(Vec<u8>),
    /// Answers one request with these bytes, then closes.
    AnswerOnce(Vec<u8>),
    /// Reads a request, and never answers.
    Silence,
    /// Proves its name, and reads nothing.
    NeverReads,
    /// Reads a request, and closes.
    Close,
    /// Closes before TLS.
    CloseBeforeTls,
    /// Accepts, and never begins TLS.
    StallBeforeTls,
    /// Begins TLS when told by `Peer::go`, then answers with these bytes.
    AnswerWhenTold(Vec<u8>),
}

pub(super) struct Peer {
    pub(super) route: SandboxRoute,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    /// Told when a connection was accepted, and when a client has closed one.
    pub(super) accepted: Arc<Notify>,
    pub(super) closed: Arc<Notify>,
    pub(super) go: Arc<Notify>,
}

/// A certificate authority and a server configuration with a certificate that it signed for the names.
pub(super) fn authority(names: &[&str]) -> (Vec<u8>, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(names).unwrap().signed_by(&own_key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der())),
        )
        .unwrap();
    (authority.der().to_vec(), config)
}

impl Peer {
    /// A peer for `api.example`.
    pub(super) async fn start(script: Script) -> Self {
        let (ca_der, config) = authority(&["api.example"]);
        Self::start_as(script, ca_der, config).await
    }

    pub(super) async fn start_as(script: Script, ca_der: Vec<u8>, config: ServerConfig) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let peer = Self {
            route: SandboxRoute { addr: listener.local_addr().unwrap(), ca_der },
            connections: Arc::default(),
            requests: Arc::default(),
            accepted: Arc::default(),
            closed: Arc::default(),
            go: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (connections, requests) = (Arc::clone(&peer.connections), Arc::clone(&peer.requests));
        let (accepted, closed, go) = (Arc::clone(&peer.accepted), Arc::clone(&peer.closed), Arc::clone(&peer.go));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                accepted.notify_one();
                let (script, requests, acceptor) = (script.clone(), Arc::clone(&requests), acceptor.clone());
                let (closed, go) = (Arc::clone(&closed), Arc::clone(&go));
                tokio::spawn(async move {
                    match script {
                        Script::CloseBeforeTls => return,
                        Script::StallBeforeTls => {
                            drop(socket.read_to_end(&mut Vec::new()).await);
                            return;
                        }
                        Script::AnswerWhenTold(_) => go.notified().await,
                        _ => {}
                    }
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    if matches!(script, Script::NeverReads) {
                        go.notified().await;
                    }
                    while let Some(request) = read_request(&mut stream).await {
                        requests.lock().unwrap().push(request);
                        match &script {
                            Script::Answer(answer) | Script::AnswerWhenTold(answer) => {
                                drop(stream.write_all(answer).await);
                                drop(stream.flush().await);
                            }
                            Script::AnswerSlowly(answer) => {
                                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                                drop(stream.write_all(answer).await);
                                drop(stream.flush().await);
                            }
                            Script::AnswerOnce(answer) => {
                                drop(stream.write_all(answer).await);
                                drop(stream.shutdown().await);
                                break;
                            }
                            Script::Silence => {}
                            _ => return,
                        }
                    }
                    drop(stream.read_to_end(&mut Vec::new()).await);
                    closed.notify_one();
                });
            }
        });
        peer
    }

    pub(super) fn count(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.requests.lock().unwrap().len())
    }
}

/// Reads one request, head and body; `None` at the end of the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(request.clone()).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.extend(body);
    Some(String::from_utf8(request).unwrap())
}
