//! The transport: which TLS a server speaks, whose word on the client counts, and that nobody is answered in the clear from afar.

use http::Method;
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::{
    caller::{Caller, Reply},
    document,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::expect,
    probe::{Attack, Probe},
    serving::{self, OverTls},
    wire,
};

/// Whether a client can come by less than TLS 1.2, or pass for another one by a header of its own.
pub(super) const TLS_LISTENER: Probe = Probe {
    name: "tls-listener",
    points: &["tls-listener", "hsts"],
    tries: "a handshake older than TLS 1.2, an answer without HSTS, another network's allowance by a header of one's own",
    attack: Attack::Rehearsed(|ground| Box::pin(tls_listener(ground))),
};

/// Whether some endpoint answers another machine in the clear, or leads a credential on by a redirect.
pub(super) const CLEAR_TEXT: Probe = Probe {
    name: "clear-text",
    points: &["clear-text", "clear-beside-tls", "led-on"],
    tries: "an answer in the clear from another machine, or a redirect of a request with a credential",
    attack: Attack::Rehearsed(|ground| Box::pin(clear_text(ground))),
};

/// Wrong credentials that a network may show in a minute, where that is limited.
const FAILURES: usize = 3;
/// An address of another machine (RFC 5737).
const ELSEWHERE: &str = "198.51.100.7";

async fn tls_listener(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let server = serving::over_tls(ground, "").await?;
    versions(&server, &mut evidence).await?;
    told_to_come_back(&server, &mut evidence).await?;
    drop(server);
    forwarding(ground, &mut evidence).await?;
    Ok(evidence)
}

async fn versions(server: &OverTls, evidence: &mut Evidence) -> Result<(), Failure> {
    let (at, authority) = (wire::address(&server.serving.url)?, &server.certificate.authority);
    let request = wire::get("/health/live", "");
    for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
        let mut stream = wire::connect_tls(at, authority, &[version]).await?;
        let answer = wire::exchange(&mut stream, &request).await;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(Failure::unproven(format!("{name} was not answered: {}", String::from_utf8_lossy(&answer))));
        }
        evidence.tried("tls-versions", format!("{name} with the certificate checked"), &request, &answer);
    }
    // The check is one: the certificate of another authority does not pass.
    let other = wire::certificate()?;
    if wire::connect_tls(at, &other.authority, &[&TLS13]).await.is_ok() {
        return Err(Failure::unproven("a client took a certificate of an authority that it does not trust"));
    }
    for (name, minor) in [("SSL 3.0", 0), ("TLS 1.0", 1), ("TLS 1.1", 2)] {
        let hello = wire::old_hello(minor);
        let answer = wire::exchange(&mut wire::connect(at).await?, &hello).await;
        if !is_turned_away(&answer) {
            return Err(Failure::broken(format!("{name} was answered"), json!({ "answer": hex::encode(&answer) })));
        }
        evidence.tried("tls-versions", format!("{name}: an alert, {}", hex::encode(&answer)), &hello, &answer);
    }
    Ok(())
}

/// Whether an old handshake was answered by one fatal alert (21), and by no handshake message (22): RFC 5246 §7.2.
fn is_turned_away(answer: &[u8]) -> bool {
    answer.first() == Some(&21) && !answer.contains(&22)
}

async fn told_to_come_back(server: &OverTls, evidence: &mut Evidence) -> Result<(), Failure> {
    let stranger = server.stranger()?;
    for path in ["/health/live", "/docs", "/openapi.json", "/v1/workspace", "/nowhere"] {
        let reply = stranger.get(path).await?;
        let told = reply.header("strict-transport-security");
        if !told.contains("max-age=31536000") {
            return Err(Failure::broken(format!("{path} does not tell HSTS"), json!({ "path": path, "hsts": told })));
        }
        evidence.tried("hsts", format!("{path}: {told}"), path, told);
    }
    Ok(())
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

async fn clear_text(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    not_started(ground, &mut evidence).await?;
    plain_to_tls(ground, &mut evidence).await?;
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

/// Whoever speaks plain HTTP where TLS is spoken is not answered in the clear.
async fn plain_to_tls(ground: &Ground, evidence: &mut Evidence) -> Result<(), Failure> {
    let server = serving::over_tls(ground, "").await?;
    let stranger = server.stranger()?;
    expect(&stranger.get("/health/live").await?, 200)?;
    let doors =
        [("clear-health", "/health/live"), ("clear-listeners", "/docs"), ("clear-credentials", "/v1/workspace")];
    for (subject, path) in doors {
        let answer =
            wire::exchange(&mut wire::connect(wire::address(&server.serving.url)?).await?, &wire::get(path, "")).await;
        if answer.windows(7).any(|part| part == b"HTTP/1.") {
            let obtained = String::from_utf8_lossy(&answer).into_owned();
            return Err(Failure::broken(format!("{path} answers in the clear where TLS is spoken"), obtained));
        }
        evidence.tried(subject, format!("plain HTTP for {path} where TLS is spoken"), path, &answer);
    }
    // Addresses that many servers mend by a redirect.
    let admin = serving::admin(ground, &stranger).await?;
    for path in ["/v1/workspace/", "//v1/workspace", "/V1/workspace", "/v1/../v1/workspace", "/docs/", "/"] {
        let reply = admin.get(path).await?;
        if reply.status.is_redirection() {
            let obtained = json!({ "path": path, "location": reply.header("location") });
            return Err(Failure::broken("a request with a credential is redirected", obtained));
        }
        evidence.tried("clear-credentials", format!("{path} with a credential: {}", reply.status), path, &reply.body);
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
    let is_refusal =
        reply.json().get("type").and_then(|kind| kind.as_str()) == Some("urn:keyholder:problem:in-the-clear");
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
        // A fatal alert: protocol_version (RFC 5246 §7.2.2).
        assert!(is_turned_away(&[21, 3, 1, 0, 2, 2, 70]));
        // A ServerHello of TLS 1.0, alone and after an alert; an answer in the clear; and none at all.
        let hello = [22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
        for answered in
            [&hello[..], &[&[21, 3, 1, 0, 2, 1, 0][..], &hello[..]].concat(), b"HTTP/1.1 400 Bad Request", b""]
        {
            assert!(!is_turned_away(answered), "{answered:?}");
        }
    }
}
