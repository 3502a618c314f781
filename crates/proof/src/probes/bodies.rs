//! Bodies: what is sent where JSON is wanted, and is none.

use domain::clock::Clock;
use http::Method;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;

use super::origins::revoke;
use crate::{
    answered::by_server,
    belongings::{LIFE, end_made},
    caller::Reply,
    document::{self, Credential},
    evidence::{Evidence, Failure, Outcome},
    owner::{expect, text},
    probe::{Attack, Probe, Target},
};

/// Whether a body that is not JSON is taken for one, or answered by anything but a structured 400.
pub(super) const BODY_NOT_JSON: Probe = Probe {
    name: "body-not-json",
    points: &["body-not-json"],
    tries: "an effect, or an unstructured answer, by a body that is not JSON",
    attack: Attack::Live(|target| Box::pin(body_not_json(target))),
};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn body_not_json(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    // It ends by itself, also where nobody lives to end it.
    let ends = Clock::system().now() + LIFE;
    let good =
        json!({ "label": "probe of bodies", "role": "service", "expires_at": ends.format(&Rfc3339)? }).to_string();
    let made = target.admin.send(Method::POST, "/v1/api-keys", &[JSON], good.clone().into()).await?;
    let own = expect(&made, 201)?;
    revoke(&target.admin, &own).await?;
    evidence.saw("a body that is JSON makes a key", &good, "201");
    let with_more = format!("{good} and more");
    let twice = good.replacen('{', "{\"role\":\"admin\",", 1);
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let bad: [(&str, &[u8]); 12] = [
        ("JSON and more behind it", with_more.as_bytes()),
        ("a field twice", twice.as_bytes()),
        ("broken off", good.get(..good.len() - 1).unwrap_or_default().as_bytes()),
        ("words", b"label=probe&role=service"),
        ("XML", b"<?xml version=\"1.0\"?><key><label>x</label></key>"),
        ("YAML", b"label: probe of bodies\nrole: service\n"),
        ("single quotes", b"{'label':'x','role':'service'}"),
        ("a comment", b"{\"label\":\"x\",/* */\"role\":\"service\"}"),
        ("no number", b"{\"label\":NaN,\"role\":\"service\"}"),
        ("no UTF-8", b"{\"label\":\"\xff\xfe\",\"role\":\"service\"}"),
        ("a byte order mark", b"\xef\xbb\xbf{\"label\":\"x\",\"role\":\"service\"}"),
        ("a thousand lists in one another", deep.as_bytes()),
    ];
    let mut operations = document::operations(&target.stranger).await?;
    // First where it shows most plainly what was taken for a body: a key.
    operations.sort_by_key(|operation| operation.path != "/v1/api-keys");
    for operation in operations {
        // Routes of an object ask for it first, and the probe's workspace has none.
        let takes = operation.schema.get("properties").is_some() && !operation.path.contains('{');
        if operation.credential != Credential::ApiKey || !takes {
            continue;
        }
        for (what, body) in bad {
            let reply =
                target.admin.send(operation.method.clone(), &operation.path, &[JSON], body.to_vec().into()).await?;
            let at = format!("{} {}: {what}", operation.method, operation.path);
            not_taken(target, (&at, &operation.path), &reply).await?;
            evidence.tried("broken-bodies", format!("{at}: {}", reply.status), body, &reply.body);
        }
    }
    Ok(evidence)
}

/// A structured 400. What was made after all is taken away again.
async fn not_taken(target: &Target, (at, path): (&str, &str), reply: &Reply) -> Result<(), Failure> {
    let body = reply.json();
    let is_problem = document::is_problem(path, reply)
        && text(&body, "/type") == "urn:keyholder:problem:invalid-json"
        && body.get("status") == Some(&json!(400));
    if reply.status == 400 && is_problem {
        return Ok(());
    }
    let ended = end_made(&target.admin, path, &body).await;
    by_server(at, reply)?;
    ended?;
    let members: Map<String, Value> =
        body.as_object().cloned().unwrap_or_default().into_iter().filter(|(name, _)| name != "key").collect();
    Err(Failure::broken(
        format!("{at} was answered {} instead of a structured 400", reply.status),
        json!({ "status": reply.status.as_u16(), "answer": members }),
    ))
}
