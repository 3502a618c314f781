//! A client that trusts the sandbox's authority and nothing else, and the steps that most tests begin with.

use std::{fmt, sync::Arc};

use ::aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyholder_sandbox::{Client, Platform, Sandbox, SandboxOptions};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Url, form_urlencoded};

pub(crate) const CALLBACK: &str = "https://keyholder.example/callback?provider=x";
pub(crate) const SECRET: &str = "s3cret:with colon";
pub(crate) const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-000000";
pub(crate) const ALL: &str = "tweet.read tweet.write users.read offline.access";

/// An answer, or that there was none.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The sizes of the pieces in which the body came.
    pub(crate) pieces: Vec<usize>,
    /// Whether the body ended as it should.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

/// The sandbox with a confidential client `app` and a public one `phone`.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) version: Version,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(SandboxOptions::default()).await
    }

    pub(crate) async fn with(options: SandboxOptions) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        sandbox.platform().register(Client::confidential("app", SECRET, CALLBACK)).unwrap();
        sandbox.platform().register(Client::public("phone", "myapp://done")).unwrap();
        Self { sandbox, version: Version::HTTP_2 }
    }

    pub(crate) fn platform(&self) -> &Platform {
        self.sandbox.platform()
    }

    pub(crate) async fn connect(&self, name: &str, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.sandbox.ca_der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        #[expect(clippy::disallowed_methods, reason = "the test is an outsider with a socket of its own")]
        let tcp = TcpStream::connect(self.sandbox.addr()).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), tcp).await
    }

    /// Sends one request on a connection of its own. An error is a connection that ended before the answer's head.
    pub(crate) async fn send(&self, request: Request<String>) -> Result<Answer, hyper::Error> {
        let host = request.uri().host().unwrap().to_owned();
        let (mut parts, body) = request.into_parts();
        let body = Full::new(Bytes::from(body));
        let response = if self.version == Version::HTTP_2 {
            let io = TokioIo::new(self.connect(&host, b"h2").await.unwrap());
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            spawn(connection);
            sender.send_request(Request::from_parts(parts, body)).await?
        } else {
            let io = TokioIo::new(self.connect(&host, b"http/1.1").await.unwrap());
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            spawn(connection);
            parts.headers.entry("host").or_insert(host.parse().unwrap());
            parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
            sender.send_request(Request::from_parts(parts, body)).await?
        };
        let (parts, mut body) = response.into_parts();
        let (mut bytes, mut pieces, mut whole) = (Vec::new(), Vec::new(), true);
        while let Some(frame) = body.frame().await {
            match frame.map(|frame| frame.into_data().ok()) {
                Ok(Some(piece)) => {
                    pieces.push(piece.len());
                    bytes.extend_from_slice(&piece);
                }
                Ok(None) => {}
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body: bytes.into(), pieces, whole })
    }

    pub(crate) async fn get(&self, url: &str, bearer: Option<&str>) -> Answer {
        self.send(request("GET", url, bearer).body(String::new()).unwrap()).await.unwrap()
    }

    pub(crate) async fn post_json(&self, url: &str, bearer: Option<&str>, body: &Value) -> Answer {
        let request = request("POST", url, bearer).header("content-type", "application/json");
        self.send(request.body(body.to_string()).unwrap()).await.unwrap()
    }

    pub(crate) async fn delete(&self, url: &str, bearer: &str) -> Answer {
        self.send(request("DELETE", url, Some(bearer)).body(String::new()).unwrap()).await.unwrap()
    }

    /// A form as the confidential client sends it.
    pub(crate) async fn form(&self, url: &str, form: &[(&str, &str)]) -> Answer {
        self.send(form_request(url, form, Some(("app", SECRET)))).await.unwrap()
    }

    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        self.form(TOKEN, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// A code for the confidential client.
    pub(crate) fn code(&self, scope: &str) -> String {
        let location = self.platform().approve(&authorize(&[("scope", scope)]), "acme_support").unwrap();
        query(&location, "code").unwrap()
    }

    pub(crate) async fn exchange(&self, code: &str) -> Answer {
        self.form(TOKEN, &exchange_form(code)).await
    }

    /// Access and refresh token of a fresh consent.
    pub(crate) async fn connected(&self, scope: &str) -> (String, Option<String>) {
        let answer = self.exchange(&self.code(scope)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        (json["access_token"].as_str().unwrap().to_owned(), json["refresh_token"].as_str().map(str::to_owned))
    }
}

pub(crate) const TOKEN: &str = "https://api.x.com/2/oauth2/token";

pub(crate) fn exchange_form(code: &str) -> [(&str, &str); 4] {
    [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)]
}

pub(crate) fn request(method: &str, url: &str, bearer: Option<&str>) -> http::request::Builder {
    let builder = Request::builder().method(method).uri(url);
    match bearer {
        Some(token) => builder.header("authorization", format!("Bearer {token}")),
        None => builder,
    }
}

pub(crate) fn form_request(url: &str, form: &[(&str, &str)], basic: Option<(&str, &str)>) -> Request<String> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let mut builder =
        Request::builder().method("POST").uri(url).header("content-type", "application/x-www-form-urlencoded");
    if let Some((id, secret)) = basic {
        let joined = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
        builder = builder.header("authorization", format!("Basic {joined}"));
    }
    builder.body(form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()).unwrap()
}

/// An authorization address of the confidential client; pairs replace what it usually says, and an empty value removes it.
pub(crate) fn authorize(changes: &[(&str, &str)]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, VERIFIER.as_bytes()));
    let usual = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", CALLBACK),
        ("scope", ALL),
        ("state", "a state & more"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let pairs = usual.iter().map(|(name, value)| {
        (*name, changes.iter().find(|(changed, _)| changed == name).map_or(*value, |(_, value)| *value))
    });
    let pairs = pairs.filter(|(_, value)| !value.is_empty());
    Url::parse_with_params("https://x.com/i/oauth2/authorize", pairs).unwrap().into()
}

pub(crate) fn query(url: &str, name: &str) -> Option<String> {
    Url::parse(url).unwrap().query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn spawn(connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "the test is an outsider with tasks of its own")]
    tokio::spawn(async move {
        // How the connection ends is seen in the answer.
        let _end = connection.await;
    });
}
