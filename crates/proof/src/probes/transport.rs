//! The transport: which TLS a server speaks, whose word on the client counts, and that nobody is answered in the clear from afar.
//!
//! Beside customers, nothing is guessed: a wrong credential counts against the network that it comes from.

use http::Method;
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::{
    caller::{Caller, Reply},
    document,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::expect,
    probe::{Attack, Probe, Target},
    serving::{self, OverTls},
    wire::{self, Door},
};

/// Whether a client can come by less than TLS 1.2, or pass for another one by a header of its own.
pub(super) const TLS_LISTENER: Probe = Probe {
    name: "tls-listener",
    points: &["tls-listener", "hsts"],
    tries: "a handshake older than TLS 1.2, an answer without HSTS, another network's allowance by a header of one's own",
    attack: Attack::Both {
        live: |target| Box::pin(tls_listener(target)),
        rehearsed: |ground| Box::pin(tls_listener_rehearsed(ground)),
    },
};

/// Whether some endpoint answers another machine in the clear, or leads a credential on by a redirect.
pub(super) const CLEAR_TEXT: Probe = Probe {
    name: "clear-text",
    points: &["clear-text", "clear-beside-tls", "led-on"],
    tries: "an answer in the clear from another machine, or a redirect of a request with a credential",
    attack: Attack::Both {
        live: |target| Box::pin(clear_text(target)),
        rehearsed: |ground| Box::pin(clear_text_rehearsed(ground)),
    },
};

/// Wrong credentials that a network may show in a minute, where that is limited.
const FAILURES: usize = 3;
/// An address of another machine (RFC 5737).
const ELSEWHERE: &str = "198.51.100.7";
/// How whoever came in the clear from another machine is refused.
const IN_THE_CLEAR: &str = "urn:keyholder:problem:in-the-clear";

/// How long a browser must remember that a server is reached over TLS alone, in seconds: a year.
const HSTS_S: u64 = 31_536_000;
/// What nobody is shown without a credential: no cache between answers in the server's place.
const GUARDED: &str = "/v1/workspace";

async fn tls_listener(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    let door = Door::of(&target.stranger)?;
    if door.is_over_tls() {
        versions(&door, &mut evidence).await?;
        told_to_come_back(&target.stranger, &mut evidence).await?;
    } else {
        evidence.saw("the server is reached in the clear, on this machine: which TLS it speaks is not seen", "", "");
    }
    is_not_believed(&door, &mut evidence).await?;
    Ok(evidence)
}

async fn tls_listener_rehearsed(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let server = serving::over_tls(ground, "").await?;
    only_its_certificate(&server).await?;
    let stranger = server.stranger()?;
    versions(&Door::of(&stranger)?, &mut evidence).await?;
    told_to_come_back(&stranger, &mut evidence).await?;
    drop(server);
    forwarding(ground, &mut evidence).await?;
    Ok(evidence)
}

/// The check of a certificate is one: that of another authority does not pass.
async fn only_its_certificate(server: &OverTls) -> Result<(), Failure> {
    let (at, other) = (wire::address(&server.serving.url)?, wire::certificate()?);
    match wire::connect_tls(at, &other.authority, &[&TLS13]).await {
        Ok(_) => Err(Failure::unproven("a client took a certificate of an authority that it does not trust")),
        Err(_) => Ok(()),
    }
}

async fn versions(door: &Door, evidence: &mut Evidence) -> Result<(), Failure> {
    let request = door.get("/health/live", "");
    let mut spoken = 0;
    for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
        // A server may leave the older of the two out.
        let Ok(mut stream) = door.open(&[version]).await else { continue };
        let answer = wire::exchange(&mut stream, &request).await;
        if status(&answer).is_none() {
            return Err(Failure::unproven(format!("{name} was not answered: {}", String::from_utf8_lossy(&answer))));
        }
        spoken += 1;
        evidence.tried("tls-versions", format!("{name} with the certificate checked"), &request, &answer);
    }
    if spoken == 0 {
        return Err(Failure::unproven("neither TLS 1.2 nor TLS 1.3 is spoken, with a certificate that is trusted"));
    }
    for (name, minor) in [("SSL 3.0", 0), ("TLS 1.0", 1), ("TLS 1.1", 2)] {
        let hello = wire::old_hello(minor, door.name());
        let answer = wire::exchange(&mut wire::connect(door.at()).await?, &hello).await;
        if !is_turned_away(&answer) {
            return Err(Failure::broken(format!("{name} was answered"), json!({ "answer": hex::encode(&answer) })));
        }
        evidence.tried("tls-versions", format!("{name}: turned away, {}", hex::encode(&answer)), &hello, &answer);
    }
    Ok(())
}

/// Whether an old handshake was answered by nothing but alerts (21), or by nothing: no handshake message (22) is among the records of the
/// answer (RFC 5246 §6.2.1 and §7.2).
fn is_turned_away(mut answer: &[u8]) -> bool {
    while let [kind, 3, _, high, low, rest @ ..] = answer {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != 21 {
            return false;
        }
        answer = rest.get(length..).unwrap_or_default();
    }
    answer.is_empty()
}

/// The status of an answer as it stands on the wire.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}

async fn told_to_come_back(stranger: &Caller, evidence: &mut Evidence) -> Result<(), Failure> {
    for path in ["/health/live", "/docs", "/openapi.json", GUARDED, "/nowhere"] {
        let reply = stranger.get(path).await?;
        if reply.status == 429 || reply.status.is_server_error() {
            return Err(Failure::unproven(format!("{path} was answered {}", reply.status)));
        }
        let told = reply.header("strict-transport-security");
        if max_age_s(told).is_none_or(|age| age < HSTS_S) {
            return Err(Failure::broken(format!("{path} does not tell HSTS"), json!({ "path": path, "hsts": told })));
        }
        evidence.tried("hsts", format!("{path}: {told}"), path, told);
    }
    Ok(())
}

/// For how long a `Strict-Transport-Security` header counts, in seconds (RFC 6797 §6.1).
fn max_age_s(told: &str) -> Option<u64> {
    let directives = told.split(';').filter_map(|directive| directive.split_once('='));
    let mut ages = directives.filter(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"));
    ages.next()?.1.trim().trim_matches('"').parse().ok()
}

/// A client who says that another machine has come through him in the clear is not believed: else that would be refused.
async fn is_not_believed(door: &Door, evidence: &mut Evidence) -> Result<(), Failure> {
    if !door.tells_clients_apart() {
        evidence.saw("whoever asks may be the server's own proxy: whose word counts is not seen", "", "");
        return Ok(());
    }
    let plain = door.ask(&door.get(GUARDED, "")).await?;
    if status(&plain) != Some(401) {
        let said = String::from_utf8_lossy(&plain);
        return Err(Failure::unproven(format!(
            "who has no credential is not told so: {}",
            said.lines().next().unwrap_or_default()
        )));
    }
    for (name, said) in [
        ("x-forwarded-for", format!("x-forwarded-for: {ELSEWHERE}\r\nx-forwarded-proto: http\r\n")),
        ("forwarded", format!("forwarded: for={ELSEWHERE};proto=http\r\n")),
    ] {
        let answer = door.ask(&door.get(GUARDED, &said)).await?;
        if has(&answer, IN_THE_CLEAR) {
            let obtained = json!({ "header": name, "taken_for": ELSEWHERE, "answer_sha256": sha256(&answer) });
            return Err(Failure::broken(format!("by a {name} of his own a client passes for another one"), obtained));
        }
        let tried = format!("a {name} of one's own, by which another machine would have come in the clear");
        match status(&answer) {
            // Whoever ends TLS in front of the server may have put a header of his own in its place: this one may never have arrived.
            Some(401) if door.is_over_tls() => evidence.saw(format!("{tried}: no effect"), said, "401"),
            Some(401) => evidence.tried("forwarding-headers", format!("{tried}: not believed"), said, "401"),
            // Somebody in front refuses such a header, and nothing is seen of the server.
            other => evidence.saw(tried, said, format!("{other:?}")),
        }
    }
    Ok(())
}

fn has(answer: &[u8], words: &str) -> bool {
    memchr::memmem::find(answer, words.as_bytes()).is_some()
}

/// Nobody who is not named gains an allowance by naming another client; the named proxy's clients are told apart.
async fn forwarding(ground: &Ground, evidence: &mut Evidence) -> Result<(), Failure> {
    let limits = format!("[limits]\nfailures_per_minute = {FAILURES}\n");
    let named = ground.serve(&ground.configuration("proxies = \"127.0.0.1\"\n", &limits), &[]).await?;
    let passed = guesses(&ground.stranger_at(&named.url), "x-forwarded-for").await?;
    if passed.len() < 2 * FAILURES {
        return Err(Failure::unproven(format!("a named proxy's clients were not told apart: {} passed", passed.len())));
    }
    evidence.tried(
        "forwarding-headers",
        "a named proxy's clients have an allowance each",
        "",
        passed.len().to_string(),
    );
    drop(named);
    for header in ["x-forwarded-for", "forwarded"] {
        let unnamed = ground.serve(&ground.configuration("proxies = \"203.0.113.0/24\"\n", &limits), &[]).await?;
        let passed = guesses(&ground.stranger_at(&unnamed.url), header).await?;
        // The limit's own seconds may let one or two more through.
        if passed.len() > FAILURES + 2 {
            return Err(Failure::broken(
                format!("by a {header} of his own a client made {} guesses, and {FAILURES} are allowed", passed.len()),
                json!({ "guesses": passed.len(), "answers_sha256": passed }),
            ));
        }
        let tried = format!("guesses under many {header}: {} of 10 passed", passed.len());
        evidence.tried("forwarding-headers", tried, header, passed.len().to_string());
    }
    Ok(())
}

/// Ten wrong credentials, each under another client's address; the digests of the answers that were no refusal to count further.
async fn guesses(stranger: &Caller, header: &str) -> Result<Vec<String>, Failure> {
    let mut passed = Vec::new();
    for number in 1..=10 {
        let client = format!("198.51.100.{number}");
        let said = if header == "forwarded" { format!("for={client};proto=https") } else { client };
        let headers = [(header, said.as_str()), ("x-forwarded-proto", "https")];
        let guess = stranger.with_key("kh_local_not-a-key");
        let reply = guess.send(Method::GET, "/v1/workspace", &headers, bytes::Bytes::new()).await?;
        match reply.status.as_u16() {
            401 => passed.push(sha256(&reply.body)),
            429 => {}
            other => return Err(Failure::unproven(format!("a wrong credential was answered {other}"))),
        }
    }
    Ok(passed)
}

/// Addresses that many servers mend by a redirect.
const NEARLY: [&str; 4] = ["/v1/workspace/", "//v1/workspace", "/V1/workspace", "/v1/../v1/workspace"];

async fn clear_text(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    let door = Door::of(&target.stranger)?;
    if door.is_over_tls() {
        plain_to_tls(&door, &mut evidence).await?;
    }
    leads_nobody_on(&target.admin, &NEARLY, &mut evidence).await?;
    Ok(evidence)
}

async fn clear_text_rehearsed(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    not_started(ground, &mut evidence).await?;
    let server = serving::over_tls(ground, "").await?;
    let stranger = server.stranger()?;
    expect(&stranger.get("/health/live").await?, 200)?;
    plain_to_tls(&Door::of(&stranger)?, &mut evidence).await?;
    let admin = serving::admin(ground, &stranger).await?;
    leads_nobody_on(&admin, &[&NEARLY[..], &["/docs/", "/"]].concat(), &mut evidence).await?;
    drop(server);
    behind_a_proxy(ground, &mut evidence).await?;
    Ok(evidence)
}

/// A server that would answer other machines in the clear does not start.
async fn not_started(ground: &Ground, evidence: &mut Evidence) -> Result<(), Failure> {
    for (subject, setting) in [("clear-listeners", "KEYHOLDER_LISTEN"), ("clear-metrics", "KEYHOLDER_METRICS_LISTEN")] {
        for everywhere in ["0.0.0.0:0", "[::]:0"] {
            let started = ground.serve(&ground.configuration("", serving::ROOMY), &[(setting, everywhere)]).await;
            let said = match started {
                Ok(server) => {
                    let obtained = json!({ "url": server.url.as_str(), "setting": setting, "value": everywhere });
                    return Err(Failure::broken("a server answers other machines in the clear", obtained));
                }
                Err(Failure::Unproven(said)) => said,
                Err(broken) => return Err(broken),
            };
            if !said.contains(setting) {
                return Err(Failure::unproven(format!("a server did not start for another reason: {said}")));
            }
            evidence.tried(subject, format!("{setting}={everywhere}: not started"), everywhere, said);
        }
    }
    Ok(())
}

/// Whoever speaks plain HTTP where TLS is spoken is not answered in the clear. No credential is shown there.
async fn plain_to_tls(door: &Door, evidence: &mut Evidence) -> Result<(), Failure> {
    let doors = [("clear-health", "/health/live"), ("clear-listeners", "/docs"), ("clear-credentials", GUARDED)];
    for (subject, path) in doors {
        let answer = wire::exchange(&mut wire::connect(door.at()).await?, &door.get(path, "")).await;
        // A proxy may say in the clear that TLS is spoken here; the server itself says nothing at all.
        let is_served = status(&answer).is_some_and(|status| (200..300).contains(&status));
        if is_served || has(&answer, "urn:keyholder:") {
            let obtained: String = String::from_utf8_lossy(&answer).chars().take(300).collect();
            return Err(Failure::broken(format!("{path} answers in the clear where TLS is spoken"), obtained));
        }
        evidence.tried(subject, format!("plain HTTP for {path} where TLS is spoken"), path, &answer);
    }
    Ok(())
}

/// No request with a credential is sent on to another address.
async fn leads_nobody_on(admin: &Caller, paths: &[&str], evidence: &mut Evidence) -> Result<(), Failure> {
    for path in paths {
        let reply = admin.get(path).await?;
        if reply.status.is_redirection() {
            let obtained = json!({ "path": path, "location": reply.header("location") });
            return Err(Failure::broken("a request with a credential is redirected", obtained));
        }
        if reply.status == 429 || reply.status.is_server_error() {
            return Err(Failure::unproven(format!("{path} was answered {}", reply.status)));
        }
        evidence.tried(
            "clear-credentials",
            format!("{path} with a credential: {}", reply.status),
            path,
            sha256(&reply.body),
        );
    }
    Ok(())
}

/// Whoever came to a named proxy in the clear from another machine is refused everywhere, and never redirected.
async fn behind_a_proxy(ground: &Ground, evidence: &mut Evidence) -> Result<(), Failure> {
    let server = ground.serve(&ground.configuration("proxies = \"127.0.0.1\"\n", serving::ROOMY), &[]).await?;
    let stranger = ground.stranger_at(&server.url);
    let admin = serving::admin(ground, &stranger).await?;
    let (for_tls, in_clear) = (from_elsewhere("https"), from_elsewhere("http"));
    let allowed = admin.send(Method::GET, "/v1/workspace", &for_tls, bytes::Bytes::new()).await?;
    expect(&allowed, 200)?;
    evidence.saw("the same client, who came to the proxy over TLS", "", &allowed.body);
    for operation in document::operations(&stranger).await? {
        let at = format!("{} {}", operation.method, operation.path);
        let target = operation.target(str::to_owned);
        let is_health = operation.path.starts_with("/health/");
        let subject = if is_health { "clear-health" } else { "clear-listeners" };
        let callers = [(subject, &stranger), ("clear-credentials", &admin)];
        for (subject, caller) in callers {
            let reply = caller.send(operation.method.clone(), &target, &in_clear, bytes::Bytes::new()).await?;
            answered_nothing(&at, &reply)?;
            evidence.tried(subject, format!("{at} in the clear: {}", reply.status), &target, &reply.body);
        }
    }
    Ok(())
}

fn from_elsewhere(proto: &str) -> [(&str, &str); 2] {
    [("x-forwarded-for", ELSEWHERE), ("x-forwarded-proto", proto)]
}

/// Refused, and neither answered nor led on.
fn answered_nothing(at: &str, reply: &Reply) -> Result<(), Failure> {
    let obtained = || json!({ "status": reply.status.as_u16(), "location": reply.header("location"), "answer": String::from_utf8_lossy(&reply.body).chars().take(300).collect::<String>() });
    if reply.status.is_redirection() {
        return Err(Failure::broken(format!("{at} leads on whoever came in the clear"), obtained()));
    }
    let is_refusal = reply.json().get("type").and_then(|kind| kind.as_str()) == Some(IN_THE_CLEAR);
    if is_refusal || reply.body.starts_with(b"Open this address with https://") {
        return Ok(());
    }
    Err(Failure::broken(format!("{at} answers another machine in the clear"), obtained()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_goes_on_with_an_old_handshake_is_noticed() {
        // A fatal alert: protocol_version (RFC 5246 §7.2.2), also with the number of a handshake message in it; and a closed connection.
        for turned_away in [&[21, 3, 1, 0, 2, 2, 70][..], &[21, 3, 1, 0, 2, 2, 22], b""] {
            assert!(is_turned_away(turned_away), "{turned_away:?}");
        }
        // A ServerHello of TLS 1.0, alone and after an alert; and an answer in the clear.
        let hello = [22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
        for answered in [&hello[..], &[&[21, 3, 1, 0, 2, 1, 0][..], &hello[..]].concat(), b"HTTP/1.1 400 Bad Request"] {
            assert!(!is_turned_away(answered), "{answered:?}");
        }
    }

    #[test]
    fn how_long_tls_is_remembered_is_read() {
        assert_eq!(max_age_s("max-age=31536000; includeSubDomains"), Some(HSTS_S));
        assert_eq!(max_age_s("includeSubDomains; Max-Age=\"63072000\""), Some(63_072_000));
        for none in ["", "includeSubDomains", "max-age=", "max-age=soon"] {
            assert_eq!(max_age_s(none), None, "{none}");
        }
    }

    #[test]
    fn an_answers_status_is_read() {
        assert_eq!(status(b"HTTP/1.1 401 Unauthorized\r\n"), Some(401));
        for none in [&b""[..], b"HTTP/1.1 ", b"\x15\x03\x01\x00\x02\x02\x46"] {
            assert_eq!(status(none), None, "{none:?}");
        }
    }
}
