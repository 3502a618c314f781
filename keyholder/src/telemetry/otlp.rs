//! Traces over OTLP (HTTP, protobuf), to the operator's own collector.
//!
//! Owns the one socket that leaves this process on the operator's behalf and not on a caller's: it goes to the one address that the
//! configuration names, over TLS, or on this machine. A collector that is slow or away costs the spans that do not fit into a bounded
//! queue, and nothing else. Never sees a value that was not cleaned.

mod wire;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{Telemetry, span::Span};

/// The most spans that wait, and the most that are sent at once.
const WAITING: usize = 4096;
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long one batch may take, and what is left when the process stops.
const SEND_WITHIN: Duration = Duration::from_secs(10);
const LAST_WITHIN: Duration = Duration::from_secs(5);
/// How long a collector that failed is left alone: at first, and at most.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_mins(1);
/// The most of an answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// Where traces go.
pub struct OtlpOptions {
    /// The collector: https, or http on this machine. `/v1/traces` is added where it is not there.
    pub endpoint: Url,
    /// What every request carries beside its body, such as a credential.
    pub headers: HeaderMap,
    /// Of so many traces one is told.
    pub one_in: u32,
    /// The authorities that may have signed the collector's certificate, in PEM; the public ones where there are none.
    pub roots: Option<Arc<[u8]>>,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The address is neither https nor on this machine, or says more than an address.
    #[error("a collector's address is https, or http on this machine, without user, query and fragment")]
    Endpoint,
    /// There is no authority among what was given.
    #[error("the collector's authorities cannot be read")]
    Roots,
}

/// Sends what was traced.
pub struct Exporter {
    spans: mpsc::Receiver<Span>,
    collector: Collector,
    about: Vec<(&'static str, String)>,
}

/// The collector, and how it is reached.
struct Collector {
    host: Host<String>,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authority: HeaderValue,
    path: String,
    headers: HeaderMap,
}

/// Why a batch did not arrive.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the collector cannot be reached")]
    Connect(#[source] io::Error),
    #[error("the exchange with the collector broke off")]
    Exchange(#[source] hyper::Error),
    #[error("the collector's answer cannot be read")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the collector answered {0}")]
    Refused(StatusCode),
    #[error("the collector took too long")]
    Late,
}

impl Telemetry {
    /// Begins to collect spans. Nothing of them leaves before [`Exporter::run`]. `None`: they are collected already.
    ///
    /// # Errors
    /// `Endpoint`, `Roots`.
    pub fn export_spans(
        &self,
        options: OtlpOptions,
        about: Vec<(&'static str, String)>,
    ) -> Result<Option<Exporter>, OtlpError> {
        let one_in = options.one_in;
        let collector = Collector::new(options)?;
        let (queue, spans) = mpsc::channel(WAITING);
        let ours = self.spans.collect(queue, one_in, self.clock.clone());
        Ok(ours.then_some(Exporter { spans, collector, about }))
    }
}

/// Whether a collector may be there: over TLS, or in the clear on this machine.
///
/// # Errors
/// `Endpoint`.
pub fn check_endpoint(url: &Url) -> Result<(), OtlpError> {
    let here = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        // A name may lead anywhere.
        Some(Host::Domain(_)) | None => false,
    };
    let safe = url.scheme() == "https" && url.has_host() || url.scheme() == "http" && here;
    let bare =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if safe && bare { Ok(()) } else { Err(OtlpError::Endpoint) }
}

impl Exporter {
    /// Sends until the process stops, then sends what is left.
    pub async fn run(mut self, stopping: impl Future<Output = ()> + Send) {
        let mut stopping = std::pin::pin!(stopping);
        let mut rest = Duration::ZERO;
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = &mut stopping => break,
                () = self.gathered(&mut batch, rest) => {}
            }
            let sent = tokio::select! {
                () = &mut stopping => break,
                sent = self.send_waiting(&mut batch) => sent,
            };
            rest = match sent {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    if rest.is_zero() {
                        tracing::warn!(error = &error as &dyn std::error::Error, "traces do not reach their collector");
                    }
                    (rest * 2).clamp(FIRST_REST, LONGEST_REST)
                }
            };
        }
        // What a call held that was broken off is lost, and not counted.
        drop(timeout(LAST_WITHIN, self.send_waiting(&mut batch)).await);
    }

    /// Waits for a span, and for those that come with it.
    async fn gathered(&mut self, batch: &mut Vec<Span>, rest: Duration) {
        sleep(rest).await;
        if batch.is_empty() && self.spans.recv_many(batch, BATCH).await == 0 {
            return std::future::pending().await;
        }
        sleep(GATHER).await;
    }

    /// Sends what waits, a batch at a time. A batch that does not arrive is given up: what comes after it is of more use.
    async fn send_waiting(&mut self, batch: &mut Vec<Span>) -> Result<(), SendError> {
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return Ok(());
            }
            let spans = std::mem::take(batch);
            let many = spans.len();
            let body = wire::encode(&self.about, spans);
            let sent = timeout(SEND_WITHIN, self.collector.send(body)).await.unwrap_or(Err(SendError::Late));
            count(if sent.is_ok() { "sent" } else { "failed" }, many);
            sent?;
        }
    }
}

fn count(outcome: &'static str, many: usize) {
    metrics::counter!("keyholder_spans_total", "outcome" => outcome).increment(many as u64);
}

impl Collector {
    fn new(options: OtlpOptions) -> Result<Self, OtlpError> {
        let OtlpOptions { endpoint, headers, roots, .. } = options;
        check_endpoint(&endpoint)?;
        let host = endpoint.host().ok_or(OtlpError::Endpoint)?.to_owned();
        let port = endpoint.port_or_known_default().ok_or(OtlpError::Endpoint)?;
        let base = endpoint.path().trim_end_matches('/');
        let path = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        let authority = endpoint.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let authority = HeaderValue::try_from(authority).map_err(|_| OtlpError::Endpoint)?;
        let tls = if endpoint.scheme() == "https" {
            let name = host.to_string();
            let name =
                ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(|_| OtlpError::Endpoint)?;
            let config =
                ClientConfig::builder().with_root_certificates(trusted(roots.as_deref())?).with_no_client_auth();
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Self { host, port, tls, authority, path, headers })
    }

    /// One batch, on a connection of its own.
    #[expect(clippy::disallowed_methods, reason = "the operator's own collector, on no caller's behalf: decision 0020")]
    async fn send(&self, body: Vec<u8>) -> Result<(), SendError> {
        let stream = match &self.host {
            Host::Domain(name) => TcpStream::connect((name.as_str(), self.port)).await,
            Host::Ipv4(ip) => TcpStream::connect((*ip, self.port)).await,
            Host::Ipv6(ip) => TcpStream::connect((*ip, self.port)).await,
        };
        let stream = stream.map_err(SendError::Connect)?;
        match &self.tls {
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(SendError::Connect)?;
                self.exchange(stream, body).await
            }
            None => self.exchange(stream, body).await,
        }
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin, body: Vec<u8>) -> Result<(), SendError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(SendError::Exchange)?;
        let mut request = http::Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(header::HOST, self.authority.clone());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let exchange = async move {
            let answer = sender.send_request(request).await.map_err(SendError::Exchange)?;
            let status = answer.status();
            Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(SendError::Answer)?;
            if status.is_success() { Ok(()) } else { Err(SendError::Refused(status)) }
        };
        // The connection ends with its sender; what ended it is the exchange's to tell.
        let (exchanged, _ended) = tokio::join!(exchange, connection);
        exchanged
    }
}

fn trusted(roots: Option<&[u8]>) -> Result<RootCertStore, OtlpError> {
    let Some(pem) = roots else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let mut store = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(pem) {
        store.add(authority.map_err(|_| OtlpError::Roots)?).map_err(|_| OtlpError::Roots)?;
    }
    if store.is_empty() { Err(OtlpError::Roots) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_on_this_machine_or_behind_tls() {
        let good = [
            "https://collector.example",
            "https://c.example:4318/otlp",
            "http://127.0.0.1:4318",
            "http://[::1]:4318/v1/traces",
        ];
        let bad = [
            "http://collector.example:4318",
            "http://10.0.0.1:4318",
            "https://user:pass@c.example",
            "https://c.example/?a=b",
            "ftp://127.0.0.1",
            "http://localhost:4318",
            "http://localhost.example",
        ];
        for url in good {
            assert!(check_endpoint(&Url::parse(url).unwrap()).is_ok(), "{url}");
        }
        for url in bad {
            assert!(check_endpoint(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
    }
}
