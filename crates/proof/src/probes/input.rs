//! Input: every parameter and every field that the API's own document names is given what it must not take.

use std::{collections::BTreeMap, time::Duration};

use domain::clock::Clock;
use http::Method;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;

use super::origins::revoke;
use crate::{
    caller::{Caller, Reply},
    document::{self, Credential, OPENFGA, Operation, Parameter, Place},
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{RETURN, expect, text},
    probe::{Attack, Probe, Target},
    stock,
};

/// Whether some parameter takes what is of a wrong type, too long, unknown or not allowed.
pub(super) const STRICT_INPUT: Probe = Probe {
    name: "strict-input",
    points: &["strict-input"],
    tries: "an effect, or an unstructured answer, by a parameter or a field that is of a wrong type, too long, unknown or not allowed",
    attack: Attack::Rehearsed(|ground| Box::pin(strict_input(ground))),
};

/// Whether a body that is not JSON is taken for one, or answered by anything but a structured 400.
pub(super) const BODY_NOT_JSON: Probe = Probe {
    name: "body-not-json",
    points: &["body-not-json"],
    tries: "an effect, or an unstructured answer, by a body that is not JSON",
    attack: Attack::Live(|target| Box::pin(body_not_json(target))),
};

const JSON: (&str, &str) = ("content-type", "application/json");
/// Fields that take any text of a fitting length: what is not a known word is no fault there.
const FREE: [&str; 4] = ["label", "name", "reason", "text"];
/// The characters of a text that is too long for every field.
const TOO_LONG: usize = 50_000;

async fn strict_input(ground: &Ground) -> Outcome {
    let mut walk = Walk::prepare(ground).await?;
    let mut operations = document::operations(&walk.admin).await?;
    // First where it shows most plainly what was taken for good: a key.
    operations.sort_by_key(|operation| (operation.path != "/v1/api-keys", operation.schema.is_null()));
    let before = walk.newest().await?;
    for operation in &operations {
        if operation.schema.get("properties").is_some() {
            walk.body(operation).await?;
        }
        for parameter in &operation.parameters {
            walk.parameter(operation, parameter).await?;
        }
        walk.unknown_parameter(operation).await?;
    }
    let after = walk.newest().await?;
    if before != after {
        return Err(Failure::broken("a refused input had an effect", json!({ "before": before, "after": after })));
    }
    Ok(walk.evidence)
}

/// A walk over all operations, with objects that exist, so that what is refused is refused for its own fault.
struct Walk {
    evidence: Evidence,
    admin: Caller,
    operator: Caller,
    stranger: Caller,
    /// By the first letters of an example, what exists.
    real: BTreeMap<String, String>,
}

impl Walk {
    async fn prepare(ground: &Ground) -> Result<Self, Failure> {
        let target = ground.target().await?;
        let operator = target.stranger.with_key(&ground.operator("prober-of-inputs").await?);
        let (admin, stranger) = (target.admin.clone(), target.stranger.clone());
        let connected = ground.connect(&admin, "inputs", &["profile.read", "post.create"]).await?;
        // For the admin himself, so that he can act: what he sends is refused for what it is, not for who he is.
        let own = own_key(&admin).await?;
        let terms =
            json!({ "connection": connected.connection, "grantee": own, "actions": ["profile.read", "post.create"] });
        let mandate = expect(&admin.post("/v1/mandates", &terms).await?, 201)?;
        let mandate = text(&mandate, "/id").to_owned();
        let act = admin.act(&mandate, "post.create", &json!({ "text": "of a probe" }), Some("probe-of-inputs")).await?;
        let act = expect(&act, 200)?;
        let mut evidence = Evidence::new();
        evidence.saw("an act with a good input", "post.create", act.to_string());
        ground.operate(&["operator", "super-admin", "grant", "prober-of-inputs"]).await?;
        let (store, model) = stock::relation_store(&admin).await?;
        let (folder, template) = (stock::folder(&admin, "/v1/objects").await?, stock::role_template(&admin).await?);
        let workspace = expect(&admin.get("/v1/workspace").await?, 200)?;
        let service =
            expect(&admin.post("/v1/api-keys", &json!({ "label": "of a probe", "role": "service" })).await?, 201)?;
        let real = [
            ("con_", connected.connection.as_str()),
            ("man_", &mandate),
            ("act_", text(&act, "/act")),
            ("key_", text(&service, "/id")),
            ("https://app.example.com/connected", RETURN),
            ("obj_", &folder),
            ("rol_", &template),
            ("ws_", text(&workspace, "/id")),
            // What the document has for a store and for its model.
            ("01K5W8V9S6F7Q8R9T0V1W2X3Y4", &store),
            ("01K5W8V9S6F7Q8R9T0V1W2X3Y5", &model),
        ];
        let real = real.into_iter().map(|(like, real)| (like.to_owned(), real.to_owned())).collect();
        Ok(Self { evidence, admin, operator, stranger, real })
    }

    /// What exists in the place of an example.
    fn real(&self, example: &str) -> String {
        let known = self.real.iter().find(|(like, _)| example.starts_with(like.as_str()));
        known.map_or_else(|| example.to_owned(), |(_, real)| real.clone())
    }

    fn caller(&self, operation: &Operation) -> &Caller {
        match operation.credential {
            Credential::None => &self.stranger,
            Credential::ApiKey => &self.admin,
            Credential::OperatorKey => &self.operator,
        }
    }

    /// What tells whether anything was done in the workspace: its newest keys, mandates, budgets, acts and entries of the trail.
    async fn newest(&self) -> Result<Vec<String>, Failure> {
        let mut newest = Vec::new();
        for list in ["api-keys", "mandates", "budgets", "acts", "audit", "connections"] {
            let first = expect(&self.admin.get(&format!("/v1/{list}")).await?, 200)?;
            newest.push(format!("{list}: {}", text(&first, "/data/0/id")));
        }
        Ok(newest)
    }

    async fn send(
        &self,
        operation: &Operation,
        query: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Reply, Failure> {
        let mut target = operation.target(|example| self.real(example));
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        let mut headers = headers.to_vec();
        let bytes = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_null() {
            headers.push(JSON);
        }
        Ok(self.caller(operation).send(operation.method.clone(), &target, &headers, bytes.into()).await?)
    }

    async fn parameter(&mut self, operation: &Operation, parameter: &Parameter) -> Result<(), Failure> {
        let name = &parameter.name;
        let long = "x".repeat(5_000);
        for value in ["", "%27%20or%201=1--", "%00", "-1", "99999999999999999999", "%F0%9F%98%80", &long] {
            let shown: String = value.chars().take(24).collect();
            let what = format!("{} {}: {name} = {shown:?}", operation.method, operation.path);
            let (reply, wanted): (_, &[u16]) = match parameter.place {
                Place::Path => {
                    if value.is_empty() {
                        continue;
                    }
                    let path = operation.path.replace(&format!("{{{name}}}"), value);
                    let path = Operation { path, ..operation.clone() }.target(|example| self.real(example));
                    let caller = self.caller(operation);
                    (
                        caller.send(operation.method.clone(), &path, &[], bytes::Bytes::new()).await?,
                        &[400, 403, 404, 422],
                    )
                }
                Place::Query if is_foreign(operation) => continue,
                // OpenFGA's clients send nothing for what they leave out, and a store may be looked for by any text.
                Place::Query
                    if operation.path.starts_with(OPENFGA) && (value.is_empty() || is_searched(name, value)) =>
                {
                    continue;
                }
                Place::Query => (self.send(operation, &format!("{name}={value}"), &[], &Value::Null).await?, &[422]),
                Place::Header => {
                    let value = if value == "%F0%9F%98%80" { "\u{e9}" } else { value };
                    // A good name is one of 1 to 128 visible characters: only the others are a fault.
                    if (1..=128).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic()) {
                        continue;
                    }
                    let body = operation.body(|example| self.real(example));
                    (self.send(operation, "", &[(name.as_str(), value)], &body).await?, &[422])
                }
            };
            self.refused("parameters", &what, &shown, &reply, wanted, operation)?;
        }
        Ok(())
    }

    async fn unknown_parameter(&mut self, operation: &Operation) -> Result<(), Failure> {
        if is_foreign(operation) {
            return Ok(());
        }
        for query in ["no_such_parameter=1", "no_such_parameter=1&no_such_parameter=2"] {
            let body = operation.body(|example| self.real(example));
            // With a fault in its query nothing of the body may count, so that a good body can be sent.
            let reply = self.send(operation, query, &[("idempotency-key", "probe-of-inputs-2")], &body).await?;
            let what = format!("{} {}?{query}", operation.method, operation.path);
            self.refused("parameters", &what, query, &reply, &[403, 404, 415, 422], operation)?;
        }
        Ok(())
    }

    /// Every field of the body, of every depth: another type, too much of it, a word that is none; and a field that is not known.
    async fn body(&mut self, operation: &Operation) -> Result<(), Failure> {
        let good = operation.body(|example| self.real(example));
        let mut faults: Vec<(String, Value, &[u16])> = vec![
            ("the whole body is a list".to_owned(), json!([good]), &[422]),
            ("the whole body is a text".to_owned(), json!("x"), &[422]),
        ];
        let mut unknown = good.clone();
        if let Some(members) = unknown.as_object_mut() {
            members.insert("no_such_field".to_owned(), json!(1));
        }
        faults.push(("no_such_field".to_owned(), unknown, &[422]));
        let mut places = Vec::new();
        fields(&operation.schema, "", &mut places);
        for (pointer, schema) in &places {
            for (kind, value, wanted) in wrong(pointer, schema) {
                // What may be left out, OpenFGA's clients send as an empty text.
                if kind == "is empty" && operation.path.starts_with(OPENFGA) {
                    continue;
                }
                if let Some(body) = with(&good, pointer, value) {
                    faults.push((format!("{pointer} {kind}"), body, wanted));
                }
            }
        }
        for (fault, body, wanted) in faults {
            let reply = self.send(operation, "", &[("idempotency-key", "probe-of-inputs-3")], &body).await?;
            let what = format!("{} {}: {fault}", operation.method, operation.path);
            self.refused("body-fields", &what, &body.to_string(), &reply, wanted, operation)?;
        }
        Ok(())
    }

    /// Refused with one of the wanted statuses, and by a problem (RFC 9457); a page may refuse by a page.
    fn refused(
        &mut self,
        subject: &str,
        what: &str,
        sent: &str,
        reply: &Reply,
        wanted: &[u16],
        operation: &Operation,
    ) -> Result<(), Failure> {
        let body = reply.json();
        let shown = || String::from_utf8_lossy(&reply.body).chars().take(300).collect::<String>();
        let status = reply.status.as_u16();
        // A server that fails neither takes it nor refuses it.
        if reply.status.is_server_error() {
            return Err(Failure::unproven(format!("{what} was answered {status}: {}", shown())));
        }
        if operation.path.ends_with("/batch-check") && refuses_each(&body) {
            self.evidence.tried(subject, format!("{what}: {status}, and each check is refused"), sent, &reply.body);
            return Ok(());
        }
        if reply.status.is_success() || reply.status.is_redirection() {
            let obtained = json!({ "status": status, "id": body.get("id"), "answer": shown() });
            return Err(Failure::broken(format!("{what} was not refused"), obtained));
        }
        let is_page = operation.credential == Credential::None && reply.header("content-type").starts_with("text/html");
        if !is_page && !document::is_problem(&operation.path, reply) {
            return Err(Failure::broken(
                format!("{what} was refused without structure"),
                json!({ "status": status, "answer": shown() }),
            ));
        }
        // OpenFGA's clients know one status for whatever is wrong with an input.
        let status = if operation.path.starts_with(OPENFGA) && status == 400 { 422 } else { status };
        if !is_page && !wanted.contains(&status) {
            return Err(Failure::broken(
                format!("{what} was not refused for what is wrong with it"),
                json!({ "status": status, "answer": shown() }),
            ));
        }
        // What is refused for another reason, such as an object that is not there, says nothing of the parameter.
        if is_page || wanted.first() == Some(&status) || matches!(status, 400 | 404 | 422) {
            self.evidence.tried(subject, format!("{what}: {status}"), sent, &reply.body);
        }
        Ok(())
    }
}

/// Whether an answer to several checks refuses each of them by itself, as OpenFGA's clients expect it.
fn refuses_each(body: &Value) -> bool {
    let checks = body.get("result").and_then(Value::as_object);
    let is_refused = |check: &Value| !text(check, "/error/input_error").is_empty();
    checks.is_some_and(|checks| !checks.is_empty() && checks.values().all(is_refused))
}

/// Whether a parameter is a text that is looked for: any short one without a control character may be a store's name, and, without a space,
/// a type's.
fn is_searched(name: &str, value: &str) -> bool {
    let is_short = value.len() < 64 && !value.contains("%00");
    is_short && (name == "name" || (name == "type" && !value.contains("%20")))
}

/// Whose query is somebody else's: a provider's answer, and what is passed on to a platform.
fn is_foreign(operation: &Operation) -> bool {
    operation.path.starts_with("/connect/callback/") || operation.path.starts_with("/v1/proxy/")
}

/// The key that calls, by its id: the oldest admin's that is not ended and that the trail knows as the caller's own.
async fn own_key(admin: &Caller) -> Result<String, Failure> {
    let made = expect(&admin.post("/v1/api-keys", &json!({ "label": "of a probe", "role": "service" })).await?, 201)?;
    let trail = expect(&admin.get("/v1/audit?limit=1").await?, 200)?;
    admin.delete(&format!("/v1/api-keys/{}", text(&made, "/id"))).await?;
    let who = text(&trail, "/data/0/principal").rsplit(':').next().unwrap_or_default();
    if who.starts_with("key_") {
        return Ok(who.to_owned());
    }
    Err(Failure::unproven(format!("the trail does not say who made a key: {trail}")))
}

/// The places of a schema's fields as pointers into a body, with each field's own schema.
fn fields<'s>(schema: &'s Value, at: &str, into: &mut Vec<(String, &'s Value)>) {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, field) in properties {
        let pointer = format!("{at}/{name}");
        let inner = inner(field);
        into.push((pointer.clone(), inner));
        fields(inner, &pointer, into);
        if let Some(items) = inner.get("items") {
            fields(self::inner(items), &format!("{pointer}/0"), into);
        }
    }
}

/// A field's schema where it may also be null.
fn inner(schema: &Value) -> &Value {
    let either = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    let other =
        either.and_then(|either| either.iter().find(|one| one.get("type").and_then(Value::as_str) != Some("null")));
    other.unwrap_or(schema)
}

fn is_of(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(many)) => many.iter().any(|one| one == kind),
        _ => false,
    }
}

/// What a field must not take: what it is, the value, and with what it is refused.
fn wrong(pointer: &str, schema: &Value) -> Vec<(&'static str, Value, &'static [u16])> {
    const FAULT: &[u16] = &[422];
    const ANY: &[u16] = &[422, 400, 403, 404, 409];
    let name = pointer.rsplit('/').next().unwrap_or_default();
    let is_map = is_of(schema, "object") && schema.get("properties").is_none();
    let mut wrong = Vec::new();
    if is_of(schema, "string") {
        wrong.push(("is a number", json!(7), FAULT));
        wrong.push(("is a list", json!(["x"]), FAULT));
        wrong.push(("is an object", json!({ "$gt": "" }), FAULT));
        wrong.push(("is too long", json!("x".repeat(TOO_LONG)), ANY));
        wrong.push(("is empty", json!(""), ANY));
        if !FREE.contains(&name) {
            wrong.push(("is a word that is none", json!("no such value"), ANY));
        }
    } else if is_of(schema, "integer") || is_of(schema, "number") {
        wrong.push(("is a text", json!("7"), FAULT));
        wrong.push(("is negative", json!(-1), FAULT));
        wrong.push(("is huge", json!(1e300), FAULT));
        wrong.push(("is a fraction", json!(0.5), FAULT));
    } else if is_of(schema, "array") {
        wrong.push(("is a text", json!("x"), FAULT));
        wrong.push(("is an object", json!({}), FAULT));
        wrong.push(("is too long", json!(vec!["x"; 10_000]), FAULT));
        wrong.push(("holds a number", json!([7]), FAULT));
    } else if is_of(schema, "boolean") {
        wrong.push(("is a text", json!("true"), FAULT));
    } else if is_of(schema, "object") {
        wrong.push(("is a text", json!("x"), FAULT));
        wrong.push(("is a list", json!([]), FAULT));
        if !is_map {
            wrong.push(("has a field that is not known", json!({ "no_such_field": 1 }), FAULT));
        }
    }
    wrong
}

/// A body with another value at a place; `None` where the body has no such place to put it.
fn with(body: &Value, pointer: &str, value: Value) -> Option<Value> {
    let mut body = body.clone();
    let (parent, name) = pointer.rsplit_once('/')?;
    match body.pointer_mut(parent)? {
        Value::Object(members) => drop(members.insert(name.to_owned(), value)),
        Value::Array(items) => *items.get_mut(name.parse::<usize>().ok()?)? = value,
        _ => return None,
    }
    Some(body)
}

async fn body_not_json(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    // It ends by itself, also where nobody lives to end it.
    let ends = Clock::system().now() + Duration::from_mins(10);
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
    revoke(&target.admin, &body).await?;
    let members: Map<String, Value> =
        body.as_object().cloned().unwrap_or_default().into_iter().filter(|(name, _)| name != "key").collect();
    Err(Failure::broken(
        format!("{at} was answered {} instead of a structured 400", reply.status),
        json!({ "status": reply.status.as_u16(), "answer": members }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_every_depth_is_found_and_can_be_replaced() {
        let schema = json!({ "properties": {
            "name": { "type": "string" },
            "limits": { "type": ["array", "null"], "items": { "properties": { "cap": { "type": "integer" } } } },
            "when": { "oneOf": [{ "type": "null" }, { "type": "object", "properties": { "from": { "type": "string" } } }] },
        } });
        let mut found = Vec::new();
        fields(&schema, "", &mut found);
        let mut places: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        places.sort_unstable();
        assert_eq!(places, ["/limits", "/limits/0/cap", "/name", "/when", "/when/from"]);
        assert!(found.iter().all(|(pointer, schema)| !wrong(pointer, schema).is_empty()));
        let body = json!({ "name": "x", "limits": [{ "cap": 1 }] });
        assert_eq!(with(&body, "/limits/0/cap", json!(-1)).unwrap()["limits"][0]["cap"], -1);
        assert_eq!(with(&body, "/when", json!("x")).unwrap()["when"], "x");
        assert_eq!(with(&body, "/when/from", json!("x")), None);
    }
}
