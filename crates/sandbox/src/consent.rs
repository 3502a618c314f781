//! The consent page: where an account's owner allows a client to act.
//!
//! Owns RFC 6749 §4.1.1, PKCE's first half (RFC 7636 §4.3, S256 only) and the issuer in the answer (RFC 9207). An address
//! that is not registered letter by letter is never redirected to.

use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{StatusCode, header};
use url::Url;

use crate::{
    grant::Consent,
    params::Params,
    platform::{Interior, Platform},
    registry::Account,
    world,
};

/// The scopes that X documents, and the generic provider's one.
pub(crate) const X_SCOPES: &[&str] = &[
    "account.read",
    "block.read",
    "block.write",
    "bookmark.read",
    "bookmark.write",
    "dm.read",
    "dm.write",
    "follows.read",
    "follows.write",
    "like.read",
    "like.write",
    "list.read",
    "list.write",
    "media.write",
    "mute.read",
    "mute.write",
    "offline.access",
    "space.read",
    "tweet.moderate.write",
    "tweet.read",
    "tweet.write",
    "users.email",
    "users.read",
];

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem}\
    fieldset{margin:1rem 0}label{display:block}button{font:inherit;padding:.4rem 1rem;margin-right:.5rem}";

/// What a client asks the owner for, checked.
pub(crate) struct Ask {
    client_id: String,
    redirect_uri: Url,
    /// As it was registered and sent: the exchange must repeat it letter by letter.
    redirect_text: String,
    issuer: String,
    scopes: Vec<String>,
    state: String,
    challenge: String,
}

/// Why the owner is not asked.
pub(crate) enum Fault {
    /// Nobody can be told but the person at the browser: the client or its address is not to be trusted.
    Page(&'static str),
    /// The client is told, at this address (RFC 6749 §4.1.2.1).
    SendBack(String),
}

/// Checks the parameters of an authorization request.
pub(crate) fn read(interior: &Interior, params: &Params) -> Result<Ask, Fault> {
    let client = params.get("client_id").and_then(|id| interior.registry.client(id));
    let client = client.ok_or(Fault::Page("This client is not registered."))?;
    let redirect_text = params.get("redirect_uri").ok_or(Fault::Page("The redirect address is missing."))?;
    if !client.redirect_uris.iter().any(|registered| registered == redirect_text) {
        return Err(Fault::Page("The redirect address is not registered for this client."));
    }
    let redirect_uri = Url::parse(redirect_text).map_err(|_| Fault::Page("The redirect address is not an address."))?;
    let state = params.get("state");
    let refuse = |error: &str| {
        Fault::SendBack(answer(
            &redirect_uri,
            &[("error", Some(error)), ("state", state), ("iss", Some(&client.issuer))],
        ))
    };
    let state = state.ok_or_else(|| refuse("invalid_request"))?;
    match params.get("response_type") {
        Some("code") => {}
        Some(_) => return Err(refuse("unsupported_response_type")),
        None => return Err(refuse("invalid_request")),
    }
    let challenge = params
        .get("code_challenge")
        .filter(|challenge| challenge.len() == 43 && challenge.bytes().all(is_url_safe))
        .filter(|_| params.get("code_challenge_method") == Some("S256"))
        .ok_or_else(|| refuse("invalid_request"))?;
    let scopes = scopes(params.get("scope"));
    if scopes.is_empty() || !scopes.iter().all(|scope| interior.scopes.contains(scope)) {
        return Err(refuse("invalid_scope"));
    }
    Ok(Ask {
        client_id: client.id.clone(),
        issuer: client.issuer.clone(),
        redirect_text: redirect_text.to_owned(),
        scopes,
        state: state.to_owned(),
        challenge: challenge.to_owned(),
        redirect_uri,
    })
}

/// Splits a list of scopes (RFC 6749 §3.3); each counts once.
pub(crate) fn scopes(text: Option<&str>) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()) {
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The owner of this account allows. `None` where there is no such account.
pub(crate) fn allow(interior: &mut Interior, ask: Ask, handle: &str) -> Option<String> {
    let account_id = interior.registry.by_handle(handle)?.id.clone();
    let now_ms = interior.hour.now_ms();
    let consent = Consent {
        client_id: ask.client_id,
        account_id,
        redirect_uri: ask.redirect_text,
        challenge: ask.challenge,
        scopes: ask.scopes,
    };
    let code = interior.grants.give_code(consent, now_ms);
    let pairs = [("code", Some(code.as_str())), ("state", Some(&*ask.state)), ("iss", Some(&*ask.issuer))];
    Some(answer(&ask.redirect_uri, &pairs))
}

/// The owner denies.
pub(crate) fn deny(ask: &Ask) -> String {
    let pairs = [("error", Some("access_denied")), ("state", Some(&*ask.state)), ("iss", Some(&*ask.issuer))];
    answer(&ask.redirect_uri, &pairs)
}

fn answer(redirect_uri: &Url, pairs: &[(&str, Option<&str>)]) -> String {
    let mut url = redirect_uri.clone();
    let present = pairs.iter().filter_map(|(name, value)| value.map(|value| (*name, value)));
    url.query_pairs_mut().extend_pairs(present);
    url.into()
}

/// `GET`: shows what is asked for.
pub(crate) async fn show(State(platform): State<Platform>, RawQuery(query): RawQuery) -> Response {
    let Ok(params) = Params::parse(query.unwrap_or_default().as_bytes()) else {
        return refusal("A parameter comes twice.");
    };
    let interior = platform.interior();
    match read(&interior, &params) {
        Ok(ask) => page(StatusCode::OK, &form(&ask, interior.registry.accounts()), Some(&ask.redirect_uri)),
        Err(fault) => answer_fault(fault),
    }
}

/// `POST`: the owner's decision. The form carries the whole request, and it is checked again.
pub(crate) async fn decide(State(platform): State<Platform>, body: Bytes) -> Response {
    let Ok(params) = Params::parse(&body) else {
        return refusal("A parameter comes twice.");
    };
    let mut interior = platform.interior();
    let ask = match read(&interior, &params) {
        Ok(ask) => ask,
        Err(fault) => return answer_fault(fault),
    };
    match (params.get("decision"), params.get("account")) {
        (Some("deny"), _) => send_back(&deny(&ask)),
        (Some("allow"), Some(handle)) => match allow(&mut interior, ask, handle) {
            Some(location) => send_back(&location),
            None => refusal("There is no such account."),
        },
        (Some("allow"), None) => refusal("Choose an account."),
        _ => refusal("Allow or deny."),
    }
}

fn answer_fault(fault: Fault) -> Response {
    match fault {
        Fault::Page(why) => refusal(why),
        Fault::SendBack(location) => send_back(&location),
    }
}

fn send_back(location: &str) -> Response {
    let mut response = Response::new(Body::empty());
    // The location is a serialized address, which is always a valid header value.
    if let Ok(location) = location.parse() {
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

fn refusal(why: &str) -> Response {
    page(StatusCode::BAD_REQUEST, &format!("<h1>Something is wrong</h1><p>{}</p>", escape(why)), None)
}

fn form(ask: &Ask, accounts: &[Account]) -> String {
    let scope = ask.scopes.join(" ");
    let hidden = [
        ("response_type", "code"),
        ("client_id", &ask.client_id),
        ("redirect_uri", &ask.redirect_text),
        ("scope", &scope),
        ("state", &ask.state),
        ("code_challenge", &ask.challenge),
        ("code_challenge_method", "S256"),
    ]
    .iter()
    .map(|(name, value)| format!(r#"<input type="hidden" name="{name}" value="{}">"#, escape(value)))
    .collect::<Vec<_>>()
    .concat();
    let scopes = ask.scopes.iter().map(|scope| format!("<li><code>{}</code></li>", escape(scope)));
    let scopes = scopes.collect::<Vec<_>>().concat();
    let accounts = accounts
        .iter()
        .enumerate()
        .map(|(place, account)| {
            format!(
                r#"<label><input type="radio" name="account" value="{handle}"{checked}> {name} (@{handle})</label>"#,
                handle = escape(&account.handle),
                name = escape(&account.name),
                checked = if place == 0 { " checked" } else { "" },
            )
        })
        .collect::<Vec<_>>()
        .concat();
    format!(
        r#"<h1>Allow <code>{client}</code> to act on your account?</h1>
<p>This is a sandbox: no real account is behind it.</p>
<p>The application asks for:</p><ul>{scopes}</ul>
<form method="post" action="/i/oauth2/authorize">{hidden}
<fieldset><legend>Your account</legend>{accounts}</fieldset>
<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button>
</form>"#,
        client = escape(&ask.client_id),
    )
}

fn page(status: StatusCode, main: &str, leads_to: Option<&Url>) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sandbox: allow access</title>\
        <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><main>{main}</main></body></html>"
    );
    // A browser follows the redirect after the form only to places that form-action names.
    let onward = leads_to.map(|url| match url.origin() {
        url::Origin::Opaque(_) => format!(" {}:", url.scheme()),
        origin @ url::Origin::Tuple(..) => format!(" {}", origin.ascii_serialization()),
    });
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'{}; frame-ancestors 'none'; base-uri 'none'",
        STANDARD.encode(world::sha256(STYLE.as_bytes())),
        onward.unwrap_or_default(),
    );
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, policy)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(Body::from(html))
        .unwrap_or_default()
}

/// Escapes for HTML's text and for quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
