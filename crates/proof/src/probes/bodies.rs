//! Bodies: what is sent where JSON is wanted, and is none.

use http::Method;
use serde_json::{Map, Value, json};

use super::origins::revoke;
use crate::{
    answered::by_server,
    belongings::{Belongings, end_made},
    caller::{Caller, Reply},
    document::{self, Credential},
    evidence::{Evidence, Failure, Outcome},
    existing::Existing,
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe, Target},
    undoing::Undoing,
};

/// Whether a body that is not JSON is taken for one, or answered by anything but a structured 400.
pub(super) const BODY_NOT_JSON: Probe = Probe {
    name: "body-not-json",
    points: &["body-not-json"],
    tries: "an effect, or an unstructured answer, by a body that is not JSON",
    attack: Attack::Both {
        live: |target| Box::pin(beside_customers(target)),
        rehearsed: |ground| Box::pin(body_not_json(ground)),
    },
};

const JSON: (&str, &str) = ("content-type", "application/json");
/// How many of the bodies are sent to every operation beside customers; the first operation is sent all of them.
const FEW: usize = 4;

async fn beside_customers(target: &Target) -> Outcome {
    let belongings = Belongings::make(&target.admin).await?;
    let walk = async { walk(&Existing::among(&belongings, target).await?, FEW).await };
    belongings.undoing.after(walk).await
}

async fn body_not_json(ground: &Ground) -> Outcome {
    let target = ground.target().await?;
    let belongings = Belongings::make(&target.admin).await?;
    let walk = async {
        let mut existing = Existing::among(&belongings, target).await?;
        existing.entrust(ground, "bodies").await?;
        walk(&existing, usize::MAX).await
    };
    belongings.undoing.after(walk).await
}

/// Every operation that takes JSON, of whomever there is to send it, about things that exist.
async fn walk(existing: &Existing, few: usize) -> Outcome {
    let mut evidence = Evidence::new();
    // It ends by itself, also where nobody lives to end it.
    let ends = Undoing::expires_at()?;
    let good = json!({ "label": "probe of bodies", "role": "service", "expires_at": ends }).to_string();
    let made = existing.admin.send(Method::POST, "/v1/api-keys", &[JSON], good.clone().into()).await?;
    let own = expect(&made, 201)?;
    revoke(&existing.admin, &own).await?;
    evidence.saw("a body that is JSON makes a key", &good, "201");
    let bodies = bodies(&good);
    let mut operations = document::operations(&existing.stranger).await?;
    operations.retain(|operation| !operation.schema.is_null() && operation.credential != Credential::None);
    // What is passed on is judged as the action that it is, if it is one; a body of the same act is tried at its own address.
    operations.retain(|operation| !operation.path.starts_with("/v1/proxy/"));
    // First where it shows most plainly what was taken for a body: a key.
    operations.sort_by_key(|operation| operation.path != "/v1/api-keys");
    for (place, operation) in operations.iter().enumerate() {
        let Some(caller) = existing.caller(operation) else { continue };
        // What an operation is about is looked up before its body is read.
        if existing.missing_in_path(operation).is_some() {
            continue;
        }
        let target = operation.target(|example| existing.real(example));
        for (what, body) in bodies.iter().take(if place == 0 { usize::MAX } else { few }) {
            let reply = caller.send(operation.method.clone(), &target, &[JSON], body.clone().into()).await?;
            let at = format!("{} {}: {what}", operation.method, operation.path);
            not_taken(&existing.admin, (&at, &operation.path), &reply).await?;
            evidence.tried("broken-bodies", format!("{at}: {}", reply.status), body, &reply.body);
        }
    }
    Ok(evidence)
}

/// What is not JSON (RFC 8259), or not to be read in one way alone: first what a lenient reader would take for this good body.
fn bodies(good: &str) -> Vec<(&'static str, Vec<u8>)> {
    let with_more = format!("{good} and more");
    let twice = good.replacen('{', "{\"role\":\"admin\",", 1);
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let bodies: [(&str, &[u8]); 12] = [
        ("JSON and more behind it", with_more.as_bytes()),
        ("a field twice", twice.as_bytes()),
        ("broken off", good.get(..good.len().saturating_sub(1)).unwrap_or_default().as_bytes()),
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
    bodies.map(|(what, body)| (what, body.to_vec())).into()
}

/// A structured 400. What was made after all is taken away again.
async fn not_taken(admin: &Caller, (at, path): (&str, &str), reply: &Reply) -> Result<(), Failure> {
    let body = reply.json();
    let is_problem = document::is_problem(path, reply)
        && text(&body, "/type") == "urn:keyholder:problem:invalid-json"
        && body.get("status") == Some(&json!(400));
    if reply.status == 400 && is_problem {
        return Ok(());
    }
    let ended = end_made(admin, path, &body).await;
    by_server(at, reply)?;
    ended?;
    let members: Map<String, Value> =
        body.as_object().cloned().unwrap_or_default().into_iter().filter(|(name, _)| name != "key").collect();
    Err(Failure::broken(
        format!("{at} was answered {} instead of a structured 400", reply.status),
        json!({ "status": reply.status.as_u16(), "answer": members }),
    ))
}
