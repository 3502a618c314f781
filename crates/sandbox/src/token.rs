//! The token and the revocation endpoint.
//!
//! Owns how a client proves who it is (RFC 6749 §2.3) and how errors are said (§5.2). What a token is worth is decided in
//! `grant`.

use axum::{extract::State, response::Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    api, consent,
    grant::{Pair, Refusal},
    params::Params,
    platform::{Interior, Platform},
};

/// An error of RFC 6749 §5.2, with its status and a sentence.
struct Fault(StatusCode, &'static str, &'static str);

const MALFORMED: Fault =
    Fault(StatusCode::BAD_REQUEST, "invalid_request", "The request is not a form, or lacks or repeats a parameter.");
const UNKNOWN_CLIENT: Fault = Fault(
    StatusCode::UNAUTHORIZED,
    "invalid_client",
    "The client could not be authenticated in the way that is its own.",
);

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InvalidGrant => {
                Self(StatusCode::BAD_REQUEST, "invalid_grant", "The code or token is not good, or no longer.")
            }
            Refusal::InvalidScope => {
                Self(StatusCode::BAD_REQUEST, "invalid_scope", "The scope exceeds what was consented to.")
            }
        }
    }
}

/// `POST` to the token endpoint.
pub(crate) async fn issue(State(platform): State<Platform>, headers: HeaderMap, body: Bytes) -> Response {
    let mut interior = platform.interior();
    let pair = form(&headers, &body).and_then(|form| {
        let client = authenticate(&interior, &headers, &form)?;
        grant(&mut interior, &client, &form)
    });
    answer(pair.map(|pair| {
        let mut tokens = json!({
            "token_type": "bearer",
            "expires_in": interior.grants.access_lifetime_s,
            "access_token": pair.access,
            "scope": pair.scopes.join(" "),
        });
        if let (Some(refresh), Some(object)) = (pair.refresh, tokens.as_object_mut()) {
            object.insert("refresh_token".to_owned(), refresh.into());
        }
        tokens
    }))
}

/// `POST` to the revocation endpoint (RFC 7009).
pub(crate) async fn revoke(State(platform): State<Platform>, headers: HeaderMap, body: Bytes) -> Response {
    let mut interior = platform.interior();
    answer(form(&headers, &body).and_then(|form| {
        let client = authenticate(&interior, &headers, &form)?;
        interior.grants.revoke(&client, form.get("token").ok_or(MALFORMED)?)?;
        Ok(json!({"revoked": true}))
    }))
}

fn grant(interior: &mut Interior, client: &str, form: &Params) -> Result<Pair, Fault> {
    let now_ms = interior.hour.now_ms();
    match form.get("grant_type") {
        Some("authorization_code") => {
            let [code, redirect_uri, verifier] =
                ["code", "redirect_uri", "code_verifier"].map(|name| form.get(name).ok_or(MALFORMED));
            let (code, redirect_uri, verifier) = (code?, redirect_uri?, verifier?);
            if !is_verifier(verifier) {
                return Err(MALFORMED);
            }
            Ok(interior.grants.exchange(client, code, redirect_uri, verifier, now_ms)?)
        }
        Some("refresh_token") => {
            let refresh = form.get("refresh_token").ok_or(MALFORMED)?;
            let narrower = form.get("scope").map(|text| consent::scopes(Some(text)));
            Ok(interior.grants.refresh(client, refresh, narrower, now_ms)?)
        }
        Some(_) => Err(Fault(StatusCode::BAD_REQUEST, "unsupported_grant_type", "This grant type is not known here.")),
        None => Err(MALFORMED),
    }
}

/// RFC 7636 §4.1.
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

fn form(headers: &HeaderMap, body: &[u8]) -> Result<Params, Fault> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(MALFORMED);
    }
    Params::parse(body).map_err(|_| MALFORMED)
}

/// The id of the client that is calling. A confidential client authenticates by Basic and in no other way, a public one by
/// its name in the body.
fn authenticate(interior: &Interior, headers: &HeaderMap, form: &Params) -> Result<String, Fault> {
    let named = form.get("client_id");
    if let Some(basic) = headers.get(header::AUTHORIZATION) {
        let (id, secret) = basic.to_str().ok().and_then(read_basic).ok_or(UNKNOWN_CLIENT)?;
        let client = interior.registry.client(&id).filter(|client| client.is_secret(&secret)).ok_or(UNKNOWN_CLIENT)?;
        if named.is_some_and(|named| named != client.id) {
            return Err(UNKNOWN_CLIENT);
        }
        return Ok(client.id.clone());
    }
    named
        .and_then(|id| interior.registry.client(id))
        .filter(|client| client.secret.is_none() && form.get("client_secret").is_none())
        .map(|client| client.id.clone())
        .ok_or(UNKNOWN_CLIENT)
}

/// Id and secret are form-encoded before they are joined (RFC 6749 §2.3.1).
fn read_basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let joined = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = joined.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    // A name without `=` is a whole pair to the parser: what is encoded holds neither `&` nor `=`.
    form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

fn answer(result: Result<Value, Fault>) -> Response {
    let mut response = match result {
        Ok(value) => api::json(StatusCode::OK, &value),
        Err(Fault(status, error, description)) => {
            let mut response = api::json(status, &json!({"error": error, "error_description": description}));
            if status == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static("Basic realm=\"sandbox\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_read_as_the_rfc_encodes_it() {
        let joined = STANDARD.encode("a%3Ab:s%26c+r%20t");
        assert_eq!(read_basic(&format!("basic {joined}")), Some(("a:b".into(), "s&c r t".into())));
        for wrong in ["Basic", "Bearer YTpi", "Basic !!!", "Basic YWI="] {
            assert_eq!(read_basic(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn verifiers_have_their_length_and_letters() {
        assert!(is_verifier(&"a".repeat(43)) && is_verifier(&"~".repeat(128)));
        for wrong in ["a".repeat(42), "a".repeat(129), "a b".repeat(20)] {
            assert!(!is_verifier(&wrong));
        }
    }
}
