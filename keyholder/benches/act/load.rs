//! The load: so many connections, each asking again as soon as it was answered, and how long each answer took.
//!
//! One task a connection, which drives its own socket, so that asking costs as little as may be. Whoever is not answered as he should be
//! ends the measurement: nothing is left out of it.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::clock::Clock;
use futures_util::future::try_join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use service::tasks::Tasks;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Barrier,
};
use tokio_rustls::TlsConnector;

use super::grounds::Outcome;

/// Something that is done again and again over one connection.
pub(crate) trait Exchange: Send + 'static {
    /// Does it once.
    fn once(&mut self) -> impl Future<Output = Outcome<()>> + Send;
}

/// How long a measurement asks before it begins to count, and how long it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) lead_in: Duration,
    pub(crate) length: Duration,
}

/// What one measurement has seen.
pub(crate) struct Seen {
    /// How long each exchange took.
    pub(crate) took: Vec<Duration>,
    /// From the first to the end of the last.
    pub(crate) length: Duration,
    /// How much of what is metered went by meanwhile.
    pub(crate) metered: Duration,
}

/// All exchanges at once, until their time is up. What `meter` shows is read when the counting begins and when it ends.
pub(crate) async fn run<E: Exchange>(
    exchanges: Vec<E>,
    pace: Pace,
    clock: &Clock,
    meter: impl Fn() -> Outcome<Duration>,
) -> Outcome<Seen> {
    let together = Arc::new(Barrier::new(exchanges.len() + 1));
    let tasks = Tasks::default();
    let work = exchanges.into_iter().map(|exchange| {
        let work = repeat(exchange, pace, clock.clone(), Arc::clone(&together));
        let work = tasks.finish(work);
        async { work.await? }
    });
    let watch = async {
        together.wait().await;
        let (began, before) = (clock.since_boot(), meter()?);
        together.wait().await;
        Ok((clock.since_boot().saturating_sub(began), meter()?.saturating_sub(before)))
    };
    let (took, (length, metered)) = tokio::try_join!(try_join_all(work), watch)?;
    Ok(Seen { took: took.into_iter().flatten().collect(), length, metered })
}

async fn repeat<E: Exchange>(
    mut exchange: E,
    pace: Pace,
    clock: Clock,
    together: Arc<Barrier>,
) -> Outcome<Vec<Duration>> {
    let warm = clock.since_boot() + pace.lead_in;
    while clock.since_boot() < warm {
        exchange.once().await?;
    }
    together.wait().await;
    let mut took = Vec::with_capacity(16 * 1024);
    let mut now = clock.since_boot();
    let end = now + pace.length;
    while now < end {
        exchange.once().await?;
        let then = std::mem::replace(&mut now, clock.since_boot());
        took.push(now.saturating_sub(then));
    }
    together.wait().await;
    Ok(took)
}

/// Makes the next request.
pub(crate) type Make = Arc<dyn Fn() -> Outcome<Request<Full<Bytes>>> + Send + Sync>;

/// Where requests go, and what is asked there.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    /// The authority to trust and the name to prove, where it is TLS.
    pub(crate) tls: Option<(CertificateDer<'static>, &'static str)>,
    pub(crate) make: Make,
}

/// One connection to a door.
pub(crate) struct Line {
    requests: SendRequest<Full<Bytes>>,
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    make: Make,
}

impl Door {
    /// Opens so many connections, one after another.
    pub(crate) async fn open(&self, connections: usize) -> Outcome<Vec<Line>> {
        let mut lines = Vec::new();
        for _ in 0..connections {
            #[expect(clippy::disallowed_methods, reason = "a load generator opens its own connections")]
            let socket = TcpStream::connect(self.addr).await?;
            socket.set_nodelay(true)?;
            let make = Arc::clone(&self.make);
            lines.push(match &self.tls {
                None => Line::begin(socket, make).await?,
                Some((authority, name)) => {
                    let mut roots = RootCertStore::empty();
                    roots.add(authority.clone())?;
                    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                        .with_safe_default_protocol_versions()?
                        .with_root_certificates(roots)
                        .with_no_client_auth();
                    let tls = TlsConnector::from(Arc::new(config));
                    Line::begin(tls.connect(ServerName::try_from(*name)?, socket).await?, make).await?
                }
            });
        }
        Ok(lines)
    }
}

impl Line {
    async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, make: Make) -> Outcome<Self> {
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { requests, connection: Box::pin(connection), make })
    }
}

impl Exchange for Line {
    async fn once(&mut self) -> Outcome<()> {
        let request = (self.make)()?;
        let requests = &mut self.requests;
        let exchange = async {
            requests.ready().await?;
            let (head, body) = requests.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head.status, body.collect().await?.to_bytes()))
        };
        let (status, body): (StatusCode, Bytes) = tokio::select! {
            biased;
            answer = exchange => answer?,
            ended = &mut self.connection => {
                ended?;
                return Err("a connection was closed under a request".into());
            }
        };
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into())
    }
}
