//! The client's side of OAuth 2.0 at a provider: code exchange, refresh, revocation, and the harmless read that names an account.
//!
//! Tokens go from the raw answer straight into [`Plain`] and are sealed by the caller: no type that can be printed or cloned ever
//! holds one (which is why no client library stands here; see the decision record).

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use domain::provider::{Action, ClientAuth, Provider};
use egress::{Auth, HostSet, OutboundCall, RawAnswer, SendError};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use seal::{Credential, Field, Plain};
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded};
use zeroize::{Zeroize, Zeroizing};

use crate::{UpstreamFault, providers::Reachable};

/// The most bytes of a token endpoint's answer.
const MOST_BYTES: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
/// No token is believed to live longer, whatever its provider says.
const LONGEST_LIFE: Duration = Duration::from_hours(24 * 365);

/// Tokens as they came, each wiped when it has served.
pub(crate) struct Tokens {
    pub(crate) access: Plain,
    pub(crate) refresh: Option<Plain>,
    pub(crate) expires_in: Option<Duration>,
    /// The scopes that were granted, where the answer says.
    pub(crate) scopes: Option<Vec<String>>,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The grant is spent, revoked or expired (RFC 6749 §5.2, `invalid_grant`): it will not get better.
    #[error("the provider refused the grant")]
    Refused,
    /// Nothing was sent.
    #[error("the provider could not be reached")]
    NotSent(#[source] SendError),
    /// It may have been done.
    #[error("it is not known what the provider did")]
    Unknown(#[source] SendError),
    /// The provider said no for a reason that may pass.
    #[error("the provider answered {status}")]
    Status {
        /// Its status.
        status: u16,
        /// For how long it wants to be left alone, where it says (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// The answer is not one of a token endpoint.
    #[error("the provider's answer is not one of a token endpoint")]
    Malformed,
}

impl TokenError {
    pub(crate) fn upstream(&self) -> UpstreamFault {
        match self {
            Self::NotSent(_) => UpstreamFault::Unreachable,
            Self::Unknown(error) => UpstreamFault::of(error),
            Self::Refused | Self::Status { .. } | Self::Malformed => UpstreamFault::Invalid,
        }
    }

    /// For how long the provider wants to be left alone, where it says.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<SendError> for TokenError {
    fn from(error: SendError) -> Self {
        if error.is_surely_unsent() { Self::NotSent(error) } else { Self::Unknown(error) }
    }
}

/// The challenge of a PKCE verifier, method S256 (RFC 7636 §4.2).
pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// Where the owner's browser is sent to consent (RFC 6749 §4.1.1, RFC 7636 §4.3).
pub(crate) fn consent_url(
    to: &Reachable,
    redirect: &str,
    scopes: &[String],
    state: &str,
    challenge: &str,
) -> Option<Url> {
    let auth = &to.provider.auth;
    let mut url = to.authorize_url()?;
    let scope = scopes.join(&auth.scope_separator.to_string());
    url.query_pairs_mut()
        .extend_pairs(&auth.authorize_params)
        .append_pair("response_type", "code")
        .append_pair("client_id", &to.client.id)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", &scope)
        .append_pair("state", state)
        .append_pair("code_challenge", challenge)
        .append_pair("code_challenge_method", "S256");
    if domain::sabotaged!(NoSecretInBrowser) {
        url.query_pairs_mut().append_pair("client_secret", to.client.secret.as_deref().map_or("", String::as_str));
    }
    Some(url)
}

/// Exchanges the code of a callback (RFC 6749 §4.1.3).
pub(crate) async fn exchange(
    to: &Reachable,
    redirect: &str,
    code: &str,
    verifier: Plain,
) -> Result<Tokens, TokenError> {
    let verifier = verifier.into_exposed();
    let fields = [
        ("grant_type", Zeroizing::new(b"authorization_code".to_vec())),
        ("code", Zeroizing::new(code.as_bytes().to_vec())),
        ("redirect_uri", Zeroizing::new(redirect.as_bytes().to_vec())),
        ("code_verifier", verifier),
    ];
    tokens(to, &post(to, &to.provider.auth.token_url, &fields, &to.hosts).await?)
}

/// Exchanges a refresh token for a fresh pair (RFC 6749 §6), at the hosts that were sealed with it and no others.
pub(crate) async fn refresh(to: &Reachable, token: Plain, hosts: &HostSet) -> Result<Tokens, TokenError> {
    let fields = [("grant_type", Zeroizing::new(b"refresh_token".to_vec())), ("refresh_token", token.into_exposed())];
    tokens(to, &post(to, &to.provider.auth.token_url, &fields, hosts).await?)
}

/// What a revocation endpoint answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revocation {
    Acknowledged,
    /// The token is none, or none any more. RFC 7009 §2.2 has that acknowledged like any other; some answer as a token endpoint would.
    NoToken,
    /// There is no such endpoint, or it said something else, or nothing.
    Failed,
}

/// Revokes a token (RFC 7009). `false` where the provider has no such endpoint or did not acknowledge.
pub(crate) async fn revoke(to: &Reachable, token: Plain, hint: &'static str, hosts: &HostSet) -> bool {
    ask_to_revoke(to, token, hint, hosts).await == Revocation::Acknowledged
}

/// Gives an opened token back at the hosts that were sealed with it and no others. Whether nothing is left to be given back.
pub(crate) async fn give_back(to: &Reachable, opened: Credential, field: Field) -> bool {
    let hint = if field == Field::Refresh { "refresh_token" } else { "access_token" };
    let Ok(hosts) = HostSet::parse(&opened.hosts) else {
        tracing::error!(provider = to.provider.name, "the hosts that a token was sealed with are none");
        return false;
    };
    ask_to_revoke(to, opened.secret, hint, &hosts).await != Revocation::Failed
}

async fn ask_to_revoke(to: &Reachable, token: Plain, hint: &'static str, hosts: &HostSet) -> Revocation {
    let Some(url) = &to.provider.auth.revoke_url else { return Revocation::Failed };
    if domain::sabotaged!(ProviderRevocations) {
        return Revocation::Acknowledged;
    }
    let fields = [("token", token.into_exposed()), ("token_type_hint", Zeroizing::new(hint.as_bytes().to_vec()))];
    match post(to, url, &fields, hosts).await {
        Ok(answer) => revocation(answer.status, &answer.body),
        Err(error) => {
            tracing::warn!(provider = to.provider.name, %error, "a token was not revoked at its provider");
            Revocation::Failed
        }
    }
}

fn revocation(status: StatusCode, body: &[u8]) -> Revocation {
    if status.is_success() {
        return Revocation::Acknowledged;
    }
    let said = serde_json::from_slice::<ErrorAnswer>(body).map(|answer| answer.error).unwrap_or_default();
    let no_token = status == StatusCode::BAD_REQUEST && matches!(said.as_str(), "invalid_token" | "invalid_grant");
    if no_token { Revocation::NoToken } else { Revocation::Failed }
}

/// What the harmless read said.
pub(crate) enum Account {
    /// The account's id and name.
    Known(String, String),
    /// The token is not accepted.
    Refused,
}

/// Asks whose account a token opens, by the one read that the provider's file declares for it.
pub(crate) async fn account(to: &Reachable, token: Plain, hosts: &HostSet) -> Result<Account, UpstreamFault> {
    let provider = &to.provider;
    let action = provider.action(&provider.account.action).ok_or(UpstreamFault::Invalid)?;
    let input = Action::validate(action, &Value::Object(serde_json::Map::new())).map_err(|_| UpstreamFault::Invalid)?;
    let call = outbound(provider, input.render(), None).ok_or(UpstreamFault::Invalid)?;
    let answer = to.egress.send(call, Auth::Bearer(token), hosts).await.map_err(|error| UpstreamFault::of(&error))?;
    let status = answer.status;
    // 403 says that this token may not ask that (RFC 6750 §3.1), and nothing of whether it lives.
    if status.as_u16() == 401 {
        return Ok(Account::Refused);
    }
    let clean = answer.scrub();
    let body: Value = serde_json::from_slice(clean.body()).map_err(|_| UpstreamFault::Invalid)?;
    match provider.account.read(&body) {
        Some((id, name)) if status.is_success() => Ok(Account::Known(id, name)),
        _ => Err(UpstreamFault::Invalid),
    }
}

/// A rendered request as egress takes it.
pub(crate) fn outbound(
    provider: &Provider,
    rendered: domain::provider::Rendered,
    send_by: Option<Duration>,
) -> Option<OutboundCall> {
    let headers = rendered
        .headers
        .into_iter()
        .map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)))
        .collect::<Option<Vec<_>>>()?;
    Some(OutboundCall {
        method: Method::from_bytes(rendered.method.as_str().as_bytes()).ok()?,
        host: rendered.host,
        path_and_query: rendered.path_and_query,
        headers,
        body: rendered.body.map(Bytes::from),
        timeout: Duration::from_millis(provider.limits.timeout_ms),
        max_response_bytes: provider.limits.response_bytes,
        send_by,
        account: None,
        also_secret: Vec::new(),
    })
}

type FormField<'a> = (&'a str, Zeroizing<Vec<u8>>);

async fn post(to: &Reachable, url: &str, fields: &[FormField<'_>], hosts: &HostSet) -> Result<RawAnswer, SendError> {
    let url = Url::parse(url).map_err(|_| SendError::Malformed("the endpoint's address is not one"))?;
    let mut form = Zeroizing::new(String::with_capacity(8192));
    let mut secrets = Vec::new();
    let mut append = |name: &str, value: &[u8]| {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form_urlencoded::byte_serialize(value).for_each(|piece| form.push_str(piece));
    };
    for (name, value) in fields {
        append(name, value);
        if matches!(*name, "code" | "code_verifier" | "refresh_token" | "token") {
            secrets.push(value.clone());
        }
    }
    let secret = || Plain::new(to.client.secret.as_ref().map_or_else(Vec::new, |secret| secret.as_bytes().to_vec()));
    let auth = match to.provider.auth.client_auth {
        ClientAuth::Basic => Auth::BasicClient { id: to.client.id.clone(), secret: secret() },
        ClientAuth::Body => {
            let secret = secret().into_exposed();
            append("client_id", to.client.id.as_bytes());
            append("client_secret", &secret);
            secrets.push(secret);
            Auth::None
        }
        ClientAuth::None => {
            append("client_id", to.client.id.as_bytes());
            Auth::None
        }
    };
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    let call = OutboundCall {
        method: Method::POST,
        host: url.host_str().unwrap_or_default().to_owned(),
        path_and_query: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
        headers: vec![
            (header::CONTENT_TYPE, form_type),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ],
        body: Some(Bytes::from_owner(Wiped(form))),
        timeout: TIMEOUT,
        max_response_bytes: MOST_BYTES,
        send_by: None,
        account: None,
        also_secret: secrets,
    };
    to.egress.send(call, auth, hosts).await
}

/// A body that is wiped when its last reader is done.
struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    scope: Option<String>,
}

impl Drop for TokenAnswer {
    fn drop(&mut self) {
        self.access_token.zeroize();
        self.refresh_token.zeroize();
    }
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

fn tokens(to: &Reachable, answer: &RawAnswer) -> Result<Tokens, TokenError> {
    if !answer.status.is_success() {
        // X answers a dead refresh token with `invalid_request`, where RFC 6749 §5.2 has `invalid_grant`.
        let refused = serde_json::from_slice::<ErrorAnswer>(&answer.body)
            .is_ok_and(|said| matches!(said.error.as_str(), "invalid_grant" | "invalid_request"));
        let (status, retry_after) = (answer.status.as_u16(), answer.asks_to_wait(None, to.now()));
        return Err(if refused { TokenError::Refused } else { TokenError::Status { status, retry_after } });
    }
    let mut said: TokenAnswer = serde_json::from_slice(&answer.body).map_err(|_| TokenError::Malformed)?;
    if !said.token_type.eq_ignore_ascii_case("bearer") || said.access_token.is_empty() {
        return Err(TokenError::Malformed);
    }
    Ok(Tokens {
        access: Plain::new(std::mem::take(&mut said.access_token).into_bytes()),
        refresh: said
            .refresh_token
            .take()
            .filter(|token| !token.is_empty())
            .map(|token| Plain::new(token.into_bytes())),
        expires_in: said.expires_in.map(|seconds| Duration::from_secs(seconds).min(LONGEST_LIFE)),
        scopes: said
            .scope
            .as_ref()
            .map(|scope| scope.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_acknowledges_and_only_a_token_that_is_none_needs_no_other() {
        let table: [(u16, &str, Revocation); 7] = [
            (200, "", Revocation::Acknowledged),
            (400, r#"{"error":"invalid_token"}"#, Revocation::NoToken),
            (400, r#"{"error":"invalid_grant","error_description":"x"}"#, Revocation::NoToken),
            (400, r#"{"error":"unsupported_token_type"}"#, Revocation::Failed),
            (401, r#"{"error":"invalid_client"}"#, Revocation::Failed),
            (503, r#"{"error":"invalid_token"}"#, Revocation::Failed),
            (400, "invalid_token", Revocation::Failed),
        ];
        for (status, body, expected) in table {
            assert_eq!(revocation(StatusCode::from_u16(status).unwrap(), body.as_bytes()), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
