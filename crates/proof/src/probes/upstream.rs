//! The way to a platform: whoever stands on it and proves no name gets nothing of a call.

use std::time::Duration;

use domain::random;
use serde_json::json;

use crate::{
    caller::Reply,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::{Ground, NodeOptions},
    impostor::{Appearance, Impostor, Met},
    owner::{Agent, expect},
    probe::{Attack, Probe},
};

/// Whether a call to a platform can be had by somebody without its certificate, over an old version, or in the clear.
pub(super) const UPSTREAM_TLS: Probe = Probe {
    name: "upstream-tls",
    points: &["upstream-tls"],
    tries: "a call with its credential, for somebody in the platform's place whose certificate does not prove the name, who speaks TLS 1.1, or who speaks in the clear",
    attack: Attack::Rehearsed(|ground| Box::pin(upstream_tls(ground))),
};

const READ: &str = "profile.read";
/// The names under which the sandbox answers as X.
const NAMES: [&str; 3] = ["api.x.com", "x.com", "localhost"];
const TLS12: u16 = 0x0303;
/// How often a call is made until it meets the impostor: the one before may have taken the connection that he closed.
const TRIES: usize = 20;

/// What he appears as, and of which subject of a claim that is a try.
const DECEITS: [(Appearance, &str); 8] = [
    (Appearance::ForeignAuthority, "bad-certificates"),
    (Appearance::SelfSigned, "bad-certificates"),
    (Appearance::OtherName, "bad-certificates"),
    (Appearance::Expired, "bad-certificates"),
    (Appearance::NotYet, "bad-certificates"),
    (Appearance::Tls11, "old-tls"),
    (Appearance::Tls10, "old-tls"),
    (Appearance::Clear, "old-tls"),
];

async fn upstream_tls(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let sandbox = ground.sandbox();
    let impostor = Impostor::before(sandbox.addr(), sandbox.ca_der(), &NAMES).await?;
    let platform = Some((impostor.addr, impostor.authority.as_slice()));
    let node = ground.start_node_with(NodeOptions { platform, ..NodeOptions::default() }).await?;
    let workspace = ground.workspace("Upstream").await?;
    let admin = ground.stranger_at(&node.url).with_key(&workspace.key);
    let account = format!("upstream_{}", hex::encode(random::bytes::<3>()));
    let owned = ground.connect(&admin, &account, &[READ]).await?;
    let agent = ground.agent(&admin, &owned.connection, &[READ], &json!([])).await?;

    impostor.appear(Appearance::Tls12).await;
    call(&mut evidence, &impostor, &agent, "over TLS 1.2 and no newer version").await?;
    for (appearance, subject) in DECEITS {
        impostor.appear(appearance).await;
        let met = deceive(&impostor, &agent).await?;
        evidence.tried(
            subject,
            format!("an act, {appearance:?} in the platform's place: nothing was sent"),
            account.as_bytes(),
            met,
        );
        // One that goes well between two that fail: a platform that fails ten times in a row is left alone.
        impostor.appear(Appearance::Faithful).await;
        call(&mut evidence, &impostor, &agent, "to the platform itself").await?;
    }
    // A code and the client's own secret go to the token endpoint.
    impostor.appear(Appearance::ForeignAuthority).await;
    let before = impostor.met().len();
    let refused = ground.connect(&admin, &format!("{account}_2"), &[READ]).await;
    impostor.appear(Appearance::Faithful).await;
    let met = impostor.met().split_off(before);
    if refused.is_ok() || !met.iter().any(|met| met.appearance == Appearance::ForeignAuthority) {
        return Err(Failure::unproven("a code was not exchanged with the impostor"));
    }
    evidence.tried(
        "bad-certificates",
        "a code's exchange, ForeignAuthority in the platform's place",
        "",
        harmless(&met)?,
    );
    node.end().await;
    Ok(evidence)
}

/// An act that must succeed.
async fn call(evidence: &mut Evidence, impostor: &Impostor, agent: &Agent, how: &str) -> Result<(), Failure> {
    let reply = settled(agent).await?;
    expect(&reply, 200)?;
    let offered = harmless(&impostor.met())?;
    evidence.tried("outbound-calls", format!("an act {how}: 200, its caller offered {offered}"), READ, &reply.body);
    Ok(())
}

/// An act by a connection that is surely new: one that was closed meanwhile may have been taken for it at first.
async fn settled(agent: &Agent) -> Result<Reply, Failure> {
    let mut reply = agent.caller.act(&agent.mandate, READ, &json!({}), None).await?;
    for _ in 0..TRIES {
        if reply.status.is_success() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        reply = agent.caller.act(&agent.mandate, READ, &json!({}), None).await?;
    }
    Ok(reply)
}

/// Acts until the impostor was met once more, and returns what callers offered him.
async fn deceive(impostor: &Impostor, agent: &Agent) -> Result<String, Failure> {
    let before = impostor.met().len();
    for _ in 0..TRIES {
        let reply = agent.caller.act(&agent.mandate, READ, &json!({}), None).await?;
        let met = impostor.met().split_off(before);
        harmless(&met)?;
        if !met.is_empty() {
            // 502: no platform was reached. A success would be the impostor's answer.
            expect(&reply, 502)?;
            return harmless(&met);
        }
    }
    Err(Failure::unproven("the impostor was not called"))
}

/// The versions that callers offered, where nothing of theirs was got hold of and none of them is too old.
fn harmless(met: &[Met]) -> Result<String, Failure> {
    let got = met.iter().find(|met| !met.obtained.is_empty());
    if let Some(Met { appearance, obtained, .. }) = got {
        let text = String::from_utf8_lossy(obtained);
        let credential =
            text.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization:")).unwrap_or_default();
        return Err(Failure::broken(
            format!("a call was sent to {appearance:?} in the platform's place"),
            json!({
                "request": text.lines().next(),
                "bytes": obtained.len(),
                "sha256": sha256(obtained),
                "authorization_sha256": sha256(credential.trim_start_matches(|c| c != ' ').trim().as_bytes()),
            }),
        ));
    }
    let mut offered: Vec<u16> = met.iter().flat_map(|met| met.offered.iter().copied()).collect();
    offered.sort_unstable();
    offered.dedup();
    match offered.first() {
        Some(oldest) if *oldest < TLS12 => {
            Err(Failure::broken("a version of TLS older than 1.2 is offered to platforms", format!("{offered:04x?}")))
        }
        _ => Ok(format!("{offered:04x?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_that_is_offered_and_a_byte_that_is_had_are_noticed() {
        let met = |offered: &[u16], obtained: &[u8]| Met {
            appearance: Appearance::Tls11,
            offered: offered.to_vec(),
            obtained: obtained.to_vec(),
        };
        assert!(harmless(&[met(&[TLS12, 0x0304], b"")]).is_ok());
        for broken in [met(&[0x0302, TLS12], b""), met(&[TLS12], b"GET / HTTP/1.1")] {
            assert!(matches!(harmless(&[broken]), Err(Failure::Broken { .. })));
        }
    }
}
