//! Security headers: what tells a browser not to guess, not to frame, not to load and not to come back in the clear.

use http::{HeaderMap, Method, header};
use rustls::version::TLS13;
use serde_json::json;

use crate::{
    caller::{Caller, Reply},
    document::{self, Credential},
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::expect,
    probe::{Attack, Probe},
    serving::{self, OverTls},
    wire,
};

/// Whether some answer comes without the headers that every answer must have.
pub(super) const SECURITY_HEADERS: Probe = Probe {
    name: "security-headers",
    points: &["security-headers"],
    tries: "an answer of any kind, by whomever it is made, that lacks a security header",
    attack: Attack::Rehearsed(|ground| Box::pin(security_headers(ground))),
};

/// A year, which lists of hosts that are only reached over TLS ask for.
const YEAR_S: u64 = 31_536_000;

async fn security_headers(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let server = serving::over_tls(ground, "").await?;
    let stranger = server.stranger()?;
    let admin = serving::admin(ground, &stranger).await?;
    let workspace = admin.get("/v1/workspace").await?;
    expect(&workspace, 200)?;
    look(&mut evidence, "api-routes", "GET /v1/workspace", &workspace)?;
    for operation in document::operations(&stranger).await? {
        let at = format!("{} {}", operation.method, operation.path);
        let target = operation.target(str::to_owned);
        let subject = if operation.credential == Credential::None { "public-routes" } else { "api-routes" };
        for (who, caller) in [("an admin", &admin), ("nobody", &stranger)] {
            // Nothing of it is in the right form, so that nothing is done.
            let reply = caller.send(operation.method.clone(), &target, &[], "{".into()).await?;
            look(&mut evidence, subject, &format!("{at} by {who}"), &reply)?;
            if operation.method == Method::GET {
                look(&mut evidence, subject, &format!("{at} by {who}, read"), &caller.get(&target).await?)?;
            }
        }
    }
    refusals(&mut evidence, &admin).await?;
    unread(&mut evidence, &server, &admin).await?;
    acted(&mut evidence, ground).await?;
    Ok(evidence)
}

/// What is refused: in words, the method, the target, more headers, the body.
type Refused<'a> = (&'a str, Method, &'a str, &'a [(&'a str, &'a str)], &'a str);

/// Refusals of every kind that a client can bring about.
async fn refusals(evidence: &mut Evidence, admin: &Caller) -> Result<(), Failure> {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let long = format!("/{}", "a".repeat(9_000));
    let head = "a".repeat(9_000);
    let all: [Refused<'_>; 11] = [
        ("nowhere", Method::GET, "/v1/nowhere", &[], ""),
        ("no such object", Method::GET, "/v1/mandates/man_00000000000000000000000000", &[], ""),
        ("no such method", Method::PUT, "/v1/api-keys", &[], ""),
        ("not JSON", Method::POST, "/v1/api-keys", &[JSON], "{"),
        ("another content type", Method::POST, "/v1/api-keys", &[("content-type", "text/plain")], "{}"),
        ("a wrong field", Method::POST, "/v1/api-keys", &[JSON], "{\"x\":1}"),
        ("too long an address", Method::GET, &long, &[], ""),
        ("a long head", Method::GET, "/v1/workspace", &[("x-long", &head)], ""),
        ("another host", Method::GET, "/v1/workspace", &[("host", "evil.example")], ""),
        ("another origin", Method::POST, "/v1/api-keys", &[("origin", "https://evil.example")], ""),
        (
            "another origin's preflight",
            Method::OPTIONS,
            "/v1/api-keys",
            &[("origin", "https://evil.example"), ("access-control-request-method", "POST")],
            "",
        ),
    ];
    for (what, method, target, headers, body) in all {
        let reply = admin.send(method, target, headers, body.to_owned().into()).await?;
        look(evidence, "refusals", what, &reply)?;
    }
    Ok(())
}

/// What is refused before it is a request, on the wire of a connection over TLS.
async fn unread(evidence: &mut Evidence, server: &OverTls, admin: &Caller) -> Result<(), Failure> {
    let at = wire::address(&server.serving.url)?;
    let two_lengths = "POST /v1/acts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n";
    let large = wire::too_large_a_body(admin.key().unwrap_or_default());
    for (what, bytes) in
        [("no request at all", "\u{1}\u{2}\r\n\r\n"), ("two lengths", two_lengths), ("too large a body", &large)]
    {
        let mut stream = wire::connect_tls(at, &server.certificate.authority, &[&TLS13]).await?;
        let answer = wire::exchange(&mut stream, bytes.as_bytes()).await;
        let headers = parsed(&answer).ok_or_else(|| Failure::unproven(format!("{what} was not answered in HTTP")))?;
        if let Some(lacks) = lacking(&headers, true) {
            return Err(broken(what, &lacks, &headers));
        }
        evidence.tried("refusals", format!("{what}, on the wire"), what, &answer);
    }
    // For this machine alone they are answered in the clear, and say nothing of TLS there.
    let metrics = Caller::new(&server.serving.metrics_url, None).get("/metrics").await?;
    expect(&metrics, 200)?;
    if let Some(lacks) = lacking(&metrics.headers, server.serving.metrics_url.scheme() == "https") {
        return Err(broken("the metrics", &lacks, &metrics.headers));
    }
    evidence.tried("public-routes", "the metrics", "/metrics", headers_text(&metrics.headers));
    Ok(())
}

/// What a platform answered is passed on with our headers, not with its own. Of a node, which speaks no TLS: it says nothing of coming
/// back over it.
async fn acted(evidence: &mut Evidence, ground: &Ground) -> Result<(), Failure> {
    let admin = ground.target().await?.admin.clone();
    let connected = ground.connect(&admin, "headers", &["profile.read"]).await?;
    let agent = ground.agent(&admin, &connected.connection, &["profile.read"], &json!([])).await?;
    let by_name = agent.caller.act(&agent.mandate, "profile.read", &json!({}), None).await?;
    expect(&by_name, 200)?;
    let path = format!("/v1/proxy/{}/2/users/me", agent.mandate);
    for (what, reply) in [("an act by name", by_name), ("an act by the proxy", agent.caller.get(&path).await?)] {
        if let Some(lacks) = lacking(&reply.headers, false) {
            return Err(broken(what, &lacks, &reply.headers));
        }
        evidence.tried("api-routes", what, what, headers_text(&reply.headers));
    }
    Ok(())
}

fn look(evidence: &mut Evidence, subject: &str, what: &str, reply: &Reply) -> Result<(), Failure> {
    if let Some(lacks) = lacking(&reply.headers, true) {
        return Err(broken(&format!("{what} ({})", reply.status), &lacks, &reply.headers));
    }
    evidence.tried(subject, format!("{what}: {}", reply.status), what, headers_text(&reply.headers));
    Ok(())
}

fn broken(what: &str, lacks: &str, headers: &HeaderMap) -> Failure {
    Failure::broken(format!("{what} was answered {lacks}"), json!({ "headers": headers_text(headers) }))
}

fn headers_text(headers: &HeaderMap) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    lines.collect::<Vec<_>>().join("\n")
}

/// What the headers of an answer lack, in words that stand behind *was answered*.
fn lacking(headers: &HeaderMap, over_tls: bool) -> Option<String> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let exact =
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")];
    if let Some((name, value)) = exact.into_iter().find(|(name, value)| one(name) != *value) {
        return Some(format!("without `{name}: {value}`"));
    }
    let policy = one("content-security-policy");
    let directives: Vec<&str> = policy.split(';').map(str::trim).collect();
    for wanted in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        if !directives.contains(&wanted) {
            return Some(format!("with a content security policy without {wanted}: {policy}"));
        }
    }
    if let Some(loose) = ["unsafe-", "*", "data:", "http:"].into_iter().find(|loose| policy.contains(loose)) {
        return Some(format!("with a content security policy that allows {loose}: {policy}"));
    }
    let permissions = one("permissions-policy");
    for power in ["camera=()", "geolocation=()", "microphone=()", "payment=()"] {
        if !permissions.split(", ").any(|one| one == power) {
            return Some(format!("without {power} in its permissions policy"));
        }
    }
    if over_tls {
        let life = one(header::STRICT_TRANSPORT_SECURITY.as_str());
        let seconds = life.split(';').find_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u64>().ok());
        if seconds.is_none_or(|seconds| seconds < YEAR_S) {
            return Some("without a year of strict-transport-security".to_owned());
        }
    }
    headers.contains_key(header::SERVER).then(|| "with the server's name".to_owned())
}

/// The headers of an answer as it stood on the wire.
fn parsed(answer: &[u8]) -> Option<HeaderMap> {
    let text = String::from_utf8_lossy(answer);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    lines.next().filter(|status| status.starts_with("HTTP/1.1 "))?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        headers.append(name.parse::<http::HeaderName>().ok()?, value.parse().ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "HTTP/1.1 200 OK\r\nx-content-type-options: nosniff\r\nx-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n\
        content-security-policy: default-src 'none'; base-uri 'none'; frame-ancestors 'none'\r\n\
        permissions-policy: camera=(), geolocation=(), microphone=(), payment=()\r\n\
        strict-transport-security: max-age=31536000; includeSubDomains\r\n\r\n";

    fn said(text: &str) -> Option<String> {
        lacking(&parsed(text.as_bytes()).unwrap(), true)
    }

    #[test]
    fn what_lacks_is_told() {
        assert_eq!(said(GOOD), None);
        for (from, to) in [
            ("x-frame-options: DENY\r\n", ""),
            ("x-frame-options: DENY", "x-frame-options: SAMEORIGIN"),
            ("nosniff", "nosniff\r\nx-content-type-options: sniff"),
            ("default-src 'none'", "default-src *"),
            ("base-uri 'none'", "base-uri 'none'; script-src 'unsafe-inline'"),
            ("camera=()", "camera=(self)"),
            ("31536000", "3600"),
            ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nserver: x\r\n"),
        ] {
            assert!(said(&GOOD.replace(from, to)).is_some(), "{from} {to}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert!(parsed(b"").is_none() && parsed(b"SSH-2.0\r\n\r\n").is_none());
    }
}
