//! Security headers: what tells a browser not to guess, not to frame, not to load and not to come back in the clear.

use http::{HeaderMap, Method, header};
use rustls::version::TLS13;
use serde_json::json;

use crate::{
    answered::by_server,
    caller::{Caller, Reply},
    document::{self, Credential},
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::expect,
    probe::{Attack, Probe, Target},
    serving::{self, OverTls},
    wire,
};

/// Whether some answer comes without the headers that every answer must have.
pub(super) const SECURITY_HEADERS: Probe = Probe {
    name: "security-headers",
    points: &["security-headers"],
    tries: "an answer of any kind, by whomever it is made, that lacks a security header",
    attack: Attack::Both {
        live: |target| Box::pin(beside_customers(target)),
        rehearsed: |ground| Box::pin(security_headers(ground)),
    },
};

/// A year, which lists of hosts that are only reached over TLS ask for.
const YEAR_S: u64 = 31_536_000;

/// On which way answers come.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Over TLS: then each tells browsers to come back over it. In the clear, on the same machine, nothing is said of it (RFC 6797 §7.2).
    over_tls: bool,
    /// With nothing between that may answer by itself or add headers of its own.
    is_direct: bool,
}

const DIRECT_OVER_TLS: Way = Way { over_tls: true, is_direct: true };

async fn beside_customers(target: &Target) -> Outcome {
    let way = Way { over_tls: target.stranger.base().scheme() == "https", is_direct: false };
    let mut walk = Walk { evidence: Evidence::new(), way };
    walk.every_operation(&target.admin, &target.stranger).await?;
    walk.refusals(&target.admin).await?;
    Ok(walk.evidence)
}

/// The same over TLS with nothing between, then what only a server of the probe's own is asked: on the wire below HTTP, for another host, with
/// too long a head, and for what a platform has answered.
async fn security_headers(ground: &Ground) -> Outcome {
    let server = serving::over_tls(ground, "").await?;
    let stranger = server.stranger()?;
    let admin = serving::admin(ground, &stranger).await?;
    let mut walk = Walk { evidence: Evidence::new(), way: DIRECT_OVER_TLS };
    walk.every_operation(&admin, &stranger).await?;
    walk.refusals(&admin).await?;
    walk.refusals_of_heads(&admin).await?;
    unread(&mut walk.evidence, &server, &admin).await?;
    acted(&mut walk.evidence, ground).await?;
    Ok(walk.evidence)
}

/// What is refused: in words, the method, the target, more headers, the body.
type Refused<'a> = (&'a str, Method, &'a str, &'a [(&'a str, &'a str)], &'a str);

/// Answers of all kinds, on one way.
struct Walk {
    evidence: Evidence,
    way: Way,
}

impl Walk {
    /// Every operation, by whom it lets in and by nobody, and its refusal of a body that is none: nothing is done anywhere.
    async fn every_operation(&mut self, admin: &Caller, stranger: &Caller) -> Result<(), Failure> {
        let workspace = admin.get("/v1/workspace").await?;
        expect(&workspace, 200)?;
        self.look("api-routes", "GET /v1/workspace", &workspace)?;
        for operation in document::operations(stranger).await? {
            let at = format!("{} {}", operation.method, operation.path);
            let target = operation.target(str::to_owned);
            let subject = if operation.credential == Credential::None { "public-routes" } else { "api-routes" };
            let reads = operation.method == Method::GET;
            // At the operator's operations an admin's key is a wrong credential, and those are counted.
            if operation.credential != Credential::OperatorKey {
                let reply = admin.send(operation.method.clone(), &target, &[], "{".into()).await?;
                self.look(subject, &format!("{at} by an admin, with a body that is none"), &reply)?;
                if reads {
                    self.look(subject, &format!("{at} by an admin"), &admin.get(&target).await?)?;
                }
            }
            let body = if reads { "" } else { "{" };
            let reply = stranger.send(operation.method, &target, &[], body.into()).await?;
            self.look(subject, &format!("{at} by nobody"), &reply)?;
        }
        Ok(())
    }

    /// Refusals of every kind that a client can bring about.
    async fn refusals(&mut self, admin: &Caller) -> Result<(), Failure> {
        const JSON: (&str, &str) = ("content-type", "application/json");
        self.refused(
            admin,
            [
                ("nowhere", Method::GET, "/v1/nowhere", &[], ""),
                ("no such object", Method::GET, "/v1/mandates/man_00000000000000000000000000", &[], ""),
                ("no such method", Method::PUT, "/v1/api-keys", &[], ""),
                ("not JSON", Method::POST, "/v1/api-keys", &[JSON], "{"),
                ("another content type", Method::POST, "/v1/api-keys", &[("content-type", "text/plain")], "{}"),
                ("a wrong field", Method::POST, "/v1/api-keys", &[JSON], "{\"x\":1}"),
                ("another origin", Method::POST, "/v1/api-keys", &[("origin", "https://evil.example")], ""),
                (
                    "another origin's preflight",
                    Method::OPTIONS,
                    "/v1/api-keys",
                    &[("origin", "https://evil.example"), ("access-control-request-method", "POST")],
                    "",
                ),
            ],
        )
        .await
    }

    /// Refusals that a proxy may come before.
    async fn refusals_of_heads(&mut self, admin: &Caller) -> Result<(), Failure> {
        let long = format!("/{}", "a".repeat(9_000));
        let head = "a".repeat(9_000);
        self.refused(
            admin,
            [
                ("too long an address", Method::GET, &long, &[], ""),
                ("a long head", Method::GET, "/v1/workspace", &[("x-long", &head)], ""),
                ("another host", Method::GET, "/v1/workspace", &[("host", "evil.example")], ""),
            ],
        )
        .await
    }

    async fn refused<const N: usize>(&mut self, admin: &Caller, all: [Refused<'_>; N]) -> Result<(), Failure> {
        for (what, method, target, headers, body) in all {
            let reply = admin.send(method, target, headers, body.to_owned().into()).await?;
            self.look("refusals", what, &reply)?;
        }
        Ok(())
    }

    fn look(&mut self, subject: &str, what: &str, reply: &Reply) -> Result<(), Failure> {
        if let Some(lacks) = lacking(&reply.headers, self.way) {
            by_server(what, reply)?;
            return Err(broken(&format!("{what} ({})", reply.status), &lacks, &reply.headers));
        }
        self.evidence.tried(subject, format!("{what}: {}", reply.status), what, headers_text(&reply.headers));
        Ok(())
    }
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
        if let Some(lacks) = lacking(&headers, DIRECT_OVER_TLS) {
            return Err(broken(what, &lacks, &headers));
        }
        evidence.tried("refusals", format!("{what}, on the wire"), what, &answer);
    }
    // For this machine alone they are answered in the clear, and say nothing of TLS there.
    let metrics = Caller::new(&server.serving.metrics_url, None).get("/metrics").await?;
    expect(&metrics, 200)?;
    if let Some(lacks) =
        lacking(&metrics.headers, Way { over_tls: server.serving.metrics_url.scheme() == "https", is_direct: true })
    {
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
        if let Some(lacks) = lacking(&reply.headers, Way { over_tls: false, is_direct: true }) {
            return Err(broken(what, &lacks, &reply.headers));
        }
        evidence.tried("api-routes", what, what, headers_text(&reply.headers));
    }
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
fn lacking(headers: &HeaderMap, way: Way) -> Option<String> {
    // What stands in front of a server may say the same again, and nothing else.
    let all = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    let one = |name: &str| {
        let first = all(name).next().unwrap_or_default();
        if all(name).all(|value| value == first) { first } else { "" }
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
    if way.over_tls {
        let seconds =
            |life: &str| life.split(';').find_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u64>().ok());
        let mut lives = all(header::STRICT_TRANSPORT_SECURITY.as_str()).map(|life| seconds(life).unwrap_or_default());
        // Browsers take the first (RFC 6797 §8.1), which a proxy may have set.
        if lives.by_ref().min().is_none_or(|shortest| shortest < YEAR_S) {
            return Some("without a year of strict-transport-security".to_owned());
        }
    }
    // A proxy names itself, which is no header of ours.
    let names_itself = way.is_direct && headers.contains_key(header::SERVER);
    names_itself.then(|| "with the server's name".to_owned())
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
        lacking(&parsed(text.as_bytes()).unwrap(), DIRECT_OVER_TLS)
    }

    #[test]
    fn what_lacks_is_told() {
        assert_eq!(said(GOOD), None);
        // Said twice by two, the same.
        assert_eq!(said(&GOOD.replace("nosniff", "nosniff\r\nx-content-type-options: nosniff")), None);
        for (from, to) in [
            ("x-frame-options: DENY\r\n", ""),
            ("x-frame-options: DENY", "x-frame-options: SAMEORIGIN"),
            ("nosniff", "nosniff\r\nx-content-type-options: sniff"),
            ("default-src 'none'", "default-src *"),
            ("base-uri 'none'", "base-uri 'none'; script-src 'unsafe-inline'"),
            ("camera=()", "camera=(self)"),
            ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nserver: x\r\n"),
            ("31536000", "3600"),
            ("31536000", "x"),
            ("\r\n\r\n", "\r\nstrict-transport-security: max-age=60\r\n\r\n"),
        ] {
            assert!(said(&GOOD.replace(from, to)).is_some(), "{from} {to}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert!(parsed(b"").is_none() && parsed(b"SSH-2.0\r\n\r\n").is_none());
    }
}
