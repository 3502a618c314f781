//! A caller from outside, as probes, the demonstration and the tests need one: a back end with a key, an agent, or a browser with cookies.
//!
//! Knows nothing of Keyholder's inside. Follows no redirect, and hands everything that it was answered to a witness, if it has one.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use serde_json::Value;
use url::{Url, form_urlencoded};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request could not be made.
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    /// The request was not answered.
    #[error("not answered")]
    Exchange(#[from] hyper_util::client::legacy::Error),
    /// The answer broke off.
    #[error("the answer broke off")]
    Body(#[from] hyper::Error),
    /// The address is not one.
    #[error("not an address")]
    Address(#[from] url::ParseError),
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's text; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Everything that callers were answered, byte for byte.
pub type Witness = Arc<Mutex<Vec<Vec<u8>>>>;

/// A caller.
#[derive(Clone)]
pub struct Caller {
    base: Url,
    key: Option<String>,
    cookies: Arc<Mutex<Vec<(String, String)>>>,
    witness: Option<Witness>,
    authority: Option<CertificateDer<'static>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Caller {
    /// A caller without a credential: a browser, or a stranger.
    pub fn new(base: &Url, witness: Option<Witness>) -> Self {
        Self::trusting(base, witness, None)
    }

    /// The same, which for `https` also trusts this certificate authority.
    pub fn trusting(base: &Url, witness: Option<Witness>, authority: Option<&CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(authority.cloned());
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { base: base.clone(), key: None, cookies: Arc::default(), witness, authority: authority.cloned(), client }
    }

    /// The server that it calls.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The certificate authority that it trusts beside the public ones.
    pub fn authority(&self) -> Option<&CertificateDer<'static>> {
        self.authority.as_ref()
    }

    /// The same caller, with somebody who hears everything that it is answered.
    #[must_use]
    pub fn watched_by(&self, witness: &Witness) -> Self {
        Self { witness: Some(Arc::clone(witness)), ..self.clone() }
    }

    /// The same caller with an API key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), cookies: Arc::default(), ..self.clone() }
    }

    /// The key that it calls with.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Another browser: no credential, and no cookie yet.
    #[must_use]
    pub fn with_no_cookies(&self) -> Self {
        Self { key: None, cookies: Arc::default(), ..self.clone() }
    }

    /// GET.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn get(&self, path: &str) -> Result<Reply, CallError> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn delete(&self, path: &str) -> Result<Reply, CallError> {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, CallError> {
        let json = [(header::CONTENT_TYPE.as_str(), "application/json")];
        self.send(Method::POST, path, &json, Bytes::from(body.to_string())).await
    }

    /// An act, with its idempotency key.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn act(&self, mandate: &str, action: &str, input: &Value, key: Option<&str>) -> Result<Reply, CallError> {
        let mut headers = vec![(header::CONTENT_TYPE.as_str(), "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let body = serde_json::json!({ "mandate": mandate, "action": action, "input": input });
        self.send(Method::POST, "/v1/acts", &headers, Bytes::from(body.to_string())).await
    }

    /// POST of a form, as a browser sends it from a page of the same origin.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<Reply, CallError> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let origin = self.base.origin().ascii_serialization();
        let headers = [
            (header::CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
            (header::ORIGIN.as_str(), origin.as_str()),
        ];
        self.send(Method::POST, path, &headers, Bytes::from(form)).await
    }

    /// Any request. `path` may be a whole address of the same server.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, CallError> {
        // Whatever is odd about a path is sent as it is: it is the server that must cope.
        let uri = if path.starts_with('/') {
            format!("{}{path}", self.base.as_str().trim_end_matches('/'))
        } else {
            Url::parse(path)?.into()
        };
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let cookies = self.cookies();
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies);
        }
        let (head, body) = self.client.request(request.body(Full::new(body))?).await?.into_parts();
        let reply = Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() };
        self.remember(&reply);
        Ok(reply)
    }

    fn cookies(&self) -> String {
        let jar = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn remember(&self, reply: &Reply) {
        let mut jar = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for set in reply.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            if let Some((name, value)) = set.split(';').next().and_then(|pair| pair.split_once('=')) {
                jar.retain(|(known, _)| known != name);
                jar.push((name.to_owned(), value.to_owned()));
            }
        }
        if let Some(witness) = &self.witness {
            let mut seen = witness.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(reply.body.to_vec());
            seen.extend(
                reply.headers.iter().map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()].join(&b':')),
            );
        }
    }
}
