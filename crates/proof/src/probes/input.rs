//! Input: every parameter and every field that the API's own document names is given what it must not take.
//!
//! Beside customers it walks what an admin and a stranger may ask, with things of the probe's own and for each place a fault by its type and
//! one by its size; on a scratch installation all of it, with a connection, a mandate and an act that exist, and every fault.

use std::{collections::BTreeSet, slice};

use futures_util::future::join_all;
use http::Method;
use serde_json::{Map, Value, json};

use super::faults::{self, Depth, FAULT};
use crate::{
    answered::by_server,
    belongings::{self, Belongings},
    caller::{CallError, Reply},
    document::{self, Credential, OPENFGA, Operation, Parameter, Place},
    evidence::{Evidence, Failure, Outcome},
    existing::Existing,
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe, Target},
    undoing::Undoing,
};

/// Whether some parameter takes what is of a wrong type, too long, unknown or not allowed.
pub(super) const STRICT_INPUT: Probe = Probe {
    name: "strict-input",
    points: &["strict-input"],
    tries: "an effect, or an unstructured answer, by a parameter or a field that is of a wrong type, too long, unknown or not allowed",
    attack: Attack::Both {
        live: |target| Box::pin(beside_customers(target)),
        rehearsed: |ground| Box::pin(strict_input(ground)),
    },
};

const JSON: (&str, &str) = ("content-type", "application/json");
/// How many faults are tried at once: few enough to be no load, and enough that a far server is walked within a minute.
const AT_ONCE: usize = 4;

async fn beside_customers(target: &Target) -> Outcome {
    let belongings = Belongings::make(&target.admin).await?;
    let walk = async { Walk::among(&belongings, target, Depth::Few).await?.through().await };
    belongings.undoing.after(walk).await
}

async fn strict_input(ground: &Ground) -> Outcome {
    let target = ground.target().await?;
    let belongings = Belongings::make(&target.admin).await?;
    let walk = async {
        let mut walk = Walk::among(&belongings, target, Depth::Every).await?;
        let act = walk.existing.entrust(ground, "inputs").await?;
        walk.evidence.saw("an act with a good input", "post.create", act.to_string());
        walk.through().await
    };
    belongings.undoing.after(walk).await
}

/// A walk over all operations, with things that exist, so that what is refused is refused for its own fault.
struct Walk {
    evidence: Evidence,
    depth: Depth,
    existing: Existing,
    /// A provider at which accounts can be connected, and one of its actions.
    provider: Option<(String, String)>,
    /// The relation store of the walk.
    store: String,
    /// The requests that were answered.
    requests: BTreeSet<String>,
}

/// One fault, on its way.
struct Trial {
    subject: &'static str,
    /// In words.
    what: String,
    method: Method,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    /// The statuses with which it may be refused.
    wanted: &'static [u16],
    /// Where the fault is, as a refusal names it; `None` where none is named.
    place: Option<String>,
    /// Whether the request has another fault beside, since what it is about cannot be made: then only a refusal that names the place counts.
    is_beside: bool,
}

/// What an operation is about and nothing here provides.
enum Lacks {
    Nothing,
    /// By the parameter's name.
    InPath(String),
    /// By its pointer.
    InBody(String),
}

impl Walk {
    async fn among(belongings: &Belongings, target: &Target, depth: Depth) -> Result<Self, Failure> {
        let existing = Existing::among(belongings, target).await?;
        let providers = expect(&target.admin.get("/v1/providers").await?, 200)?;
        let mut providers = providers.get("data").and_then(Value::as_array).into_iter().flatten();
        let provider = providers.find(|it| it.get("connectable") == Some(&json!(true)));
        let provider = provider.map(|it| (text(it, "/name").to_owned(), text(it, "/actions/0/name").to_owned()));
        let (mut evidence, store) = (Evidence::new(), belongings.store.clone());
        evidence.saw("one of each thing that an admin makes, with a good input", &belongings.object, "201");
        Ok(Self { evidence, depth, existing, provider, store, requests: BTreeSet::new() })
    }

    async fn through(mut self) -> Outcome {
        let mut operations = document::operations(&self.existing.stranger).await?;
        operations.retain(|operation| self.existing.caller(operation).is_some());
        // First where it shows most plainly what was taken for good: a key.
        operations.sort_by_key(|operation| (operation.path != "/v1/api-keys", operation.schema.is_null()));
        let before = self.newest().await?;
        for operation in &operations {
            let lacks = self.lacks(operation);
            let mut trials = Vec::new();
            self.of_fields(operation, &lacks, &mut trials);
            for parameter in &operation.parameters {
                self.of_parameter(operation, parameter, &lacks, &mut trials);
            }
            self.of_unknown_parameters(operation, &lacks, &mut trials);
            self.try_all(operation, &trials).await?;
        }
        let after = self.newest().await?;
        if before != after {
            return Err(self.whose_effect(&before, &after).await?);
        }
        Ok(self.evidence)
    }

    /// A body that would be taken. What it makes ends by itself, or with what it is about.
    fn good(&self, operation: &Operation) -> Value {
        let mut good = operation.body(|example| self.existing.real(example));
        let Some(members) = good.as_object_mut() else { return good };
        match operation.path.as_str() {
            "/v1/api-keys" => {
                let ends = Undoing::expires_at().map_or(Value::Null, Value::from);
                members.insert("expires_at".to_owned(), ends);
            }
            "/v1/budgets" if !self.existing.has("con_") => {
                members.extend([("scope".to_owned(), json!("principal"))]);
                members.extend([("subject".to_owned(), json!(self.existing.real("key_")))]);
            }
            "/v1/connect-links" => {
                if let Some((provider, action)) = &self.provider {
                    members.extend([("provider".to_owned(), json!(provider)), ("actions".to_owned(), json!([action]))]);
                }
            }
            _ => {}
        }
        good
    }

    fn lacks(&self, operation: &Operation) -> Lacks {
        if let Some(name) = self.existing.missing_in_path(operation) {
            return Lacks::InPath(name.to_owned());
        }
        if operation.path == "/v1/connect-links" && self.provider.is_none() {
            return Lacks::InBody("/provider".to_owned());
        }
        let good = self.good(operation);
        let mut members = good.as_object().into_iter().flatten();
        let missing = members.find(|(_, member)| member.as_str().is_some_and(|text| self.existing.is_missing(text)));
        missing.map_or(Lacks::Nothing, |(name, _)| Lacks::InBody(format!("/{name}")))
    }

    /// What tells whether anything was done in the workspace: the newest of each kind, the trail, and what is in the walk's own store.
    async fn newest(&self) -> Result<Vec<String>, Failure> {
        let mut newest = Vec::new();
        for list in ["api-keys", "mandates", "budgets", "acts", "audit", "connections", "objects", "role-templates"] {
            let first = expect(&self.existing.admin.get(&format!("/v1/{list}")).await?, 200)?;
            newest.push(format!("{list}: {}", text(&first, "/data/0/id")));
        }
        let changes = expect(&self.existing.admin.get(&format!("/fga/stores/{}/changes", self.store)).await?, 200)?;
        let changes = changes.get("changes").and_then(Value::as_array).map_or(0, Vec::len);
        newest.push(format!("changes of tuples: {changes}"));
        Ok(newest)
    }

    /// The difference between what was newest before and is now: it is ours where the trail has a request of ours, or nobody's else.
    async fn whose_effect(&self, before: &[String], after: &[String]) -> Result<Failure, Failure> {
        let trail = expect(&self.existing.admin.get("/v1/audit?limit=100").await?, 200)?;
        let entries = trail.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let newer: Vec<_> =
            entries.iter().take_while(|entry| !before.contains(&format!("audit: {}", text(entry, "/id")))).collect();
        let ours = newer.iter().find(|entry| self.requests.contains(text(entry, "/request")));
        if ours.is_none() && !newer.is_empty() {
            return Ok(Failure::unproven("somebody else has worked in the probe's workspace meanwhile"));
        }
        let obtained = json!({ "before": before, "after": after, "event": ours.map(|entry| text(entry, "/event")) });
        Ok(Failure::broken("a refused input had an effect", obtained))
    }

    fn trial(&self, operation: &Operation, what: &str) -> Trial {
        Trial {
            subject: "parameters",
            what: format!("{} {}: {what}", operation.method, operation.path),
            method: operation.method.clone(),
            target: operation.target(|example| self.existing.real(example)),
            headers: Vec::new(),
            body: String::new(),
            wanted: FAULT,
            place: None,
            is_beside: false,
        }
    }

    /// Every field of the body, of every depth; the body as a whole; and a field that is not known.
    fn of_fields(&self, operation: &Operation, lacks: &Lacks, trials: &mut Vec<Trial>) {
        if operation.schema.get("properties").is_none() || matches!(lacks, Lacks::InPath(_)) {
            return;
        }
        let good = faulty_where(lacks, self.good(operation));
        let mut faults: Vec<(String, String, Value, &[u16])> =
            vec![("the whole body is a list".to_owned(), String::new(), json!([good]), FAULT)];
        if self.depth == Depth::Every {
            faults.push(("the whole body is a text".to_owned(), String::new(), json!("x"), FAULT));
        }
        if let Some(unknown) = faults::with(&good, "/no_such_field", json!(1)) {
            faults.push(("no_such_field".to_owned(), "/no_such_field".to_owned(), unknown, FAULT));
        }
        let mut places = Vec::new();
        faults::fields(&operation.schema, "", &mut places);
        for (pointer, schema) in &places {
            for (kind, value, wanted) in faults::of_field(pointer, schema, self.depth) {
                // What may be left out, OpenFGA's clients send as an empty text. What is looked up is not, beside another fault.
                let is_no_fault = kind == "is empty" && operation.path.starts_with(OPENFGA);
                let is_unseen = matches!(lacks, Lacks::InBody(_)) && wanted != FAULT;
                if let Some(body) = faults::with(&good, pointer, value).filter(|_| !is_no_fault && !is_unseen) {
                    faults.push((format!("{pointer} {kind}"), pointer.clone(), body, wanted));
                }
            }
        }
        trials.extend(faults.into_iter().map(|(what, place, body, wanted)| Trial {
            subject: "body-fields",
            headers: vec![owned(JSON), owned(("idempotency-key", "probe-of-inputs-3"))],
            body: body.to_string(),
            wanted,
            place: Some(place),
            is_beside: matches!(lacks, Lacks::InBody(_)),
            ..self.trial(operation, &what)
        }));
    }

    fn of_parameter(&self, operation: &Operation, parameter: &Parameter, lacks: &Lacks, trials: &mut Vec<Trial>) {
        let name = &parameter.name;
        let is_hidden = matches!(lacks, Lacks::InPath(missing) if parameter.place != Place::Path || missing != name);
        if is_hidden {
            return;
        }
        for value in faults::of_parameter(parameter.place, self.depth) {
            let shown: String = value.chars().take(24).collect();
            let blank = self.trial(operation, &format!("{name} = {shown:?}"));
            match parameter.place {
                Place::Path if value.is_empty() => {}
                Place::Path => {
                    let path = operation.path.replace(&format!("{{{name}}}"), &value);
                    let target = Operation { path, ..operation.clone() }.target(|example| self.existing.real(example));
                    trials.push(Trial { target, wanted: &[404, 400, 403, 422], ..blank });
                }
                Place::Query if is_foreign(operation) => {}
                // OpenFGA's clients send nothing for what they leave out, and a store may be looked for by any text.
                Place::Query
                    if operation.path.starts_with(OPENFGA) && (value.is_empty() || is_searched(name, &value)) => {}
                Place::Query => {
                    let target = format!("{}?{name}={value}{}", blank.target, self.companions(operation, name));
                    trials.push(Trial { target, place: Some(format!("?{name}")), ..blank });
                }
                Place::Header => {
                    let value = if value == "%F0%9F%98%80" { "\u{e9}".to_owned() } else { value };
                    // A good name is one of 1 to 128 visible characters: only the others are a fault.
                    if (1..=128).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic()) {
                        continue;
                    }
                    let (body, mut headers) = carried(&faulty_where(lacks, self.good(operation)));
                    headers.push((name.clone(), value));
                    let is_beside = matches!(lacks, Lacks::InBody(_));
                    trials.push(Trial { headers, body, place: Some(name.clone()), is_beside, ..blank });
                }
            }
        }
    }

    /// The other parameters that must stand in a query beside this one.
    fn companions(&self, operation: &Operation, name: &str) -> String {
        let known = [("relation", "viewer".to_owned()), ("subject", self.existing.real("key_"))];
        let in_query = |name: &str| operation.parameters.iter().any(|it| it.place == Place::Query && it.name == name);
        let others = known.iter().filter(|(other, _)| *other != name && in_query(other));
        others.flat_map(|(other, value)| ["&", other, "=", value]).collect()
    }

    fn of_unknown_parameters(&self, operation: &Operation, lacks: &Lacks, trials: &mut Vec<Trial>) {
        const TWICE: [&str; 2] = ["no_such_parameter=1", "no_such_parameter=1&no_such_parameter=2"];
        let queries = match self.depth {
            Depth::Every => &TWICE[..],
            // With a body, its unknown field is tried.
            Depth::Few if operation.schema.get("properties").is_none() => slice::from_ref(&TWICE[0]),
            Depth::Few => &[],
        };
        if is_foreign(operation) || matches!(lacks, Lacks::InPath(_)) {
            return;
        }
        for query in queries {
            // With a fault in its query nothing of the body may count, so that a good body can be sent.
            let (body, mut headers) = carried(&self.good(operation));
            headers.push(owned(("idempotency-key", "probe-of-inputs-2")));
            let blank = self.trial(operation, &format!("?{query}"));
            let (target, place) = (format!("{}?{query}", blank.target), Some("?no_such_parameter".to_owned()));
            trials.push(Trial { target, headers, body, place, wanted: &[422, 403, 404, 415], ..blank });
        }
    }

    async fn try_all(&mut self, operation: &Operation, trials: &[Trial]) -> Result<(), Failure> {
        for some in trials.chunks(AT_ONCE) {
            let replies = join_all(some.iter().map(|trial| self.send(operation, trial))).await;
            let mut judged = Ok(());
            for (trial, reply) in some.iter().zip(replies) {
                let one = match reply {
                    Ok(reply) => {
                        self.requests.insert(reply.header("request-id").to_owned());
                        let one = self.refused(trial, &reply, operation);
                        let ended = if reply.status.is_success() {
                            belongings::end_made(&self.existing.admin, &operation.path, &reply.json()).await
                        } else {
                            Ok(())
                        };
                        one.and(ended)
                    }
                    Err(error) => Err(error.into()),
                };
                // What the first of them says counts; the others were heard, so that nothing that they made is left.
                judged = judged.and(one);
            }
            judged?;
        }
        Ok(())
    }

    async fn send(&self, operation: &Operation, trial: &Trial) -> Result<Reply, CallError> {
        let headers: Vec<_> = trial.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let caller = self.existing.caller(operation).unwrap_or(&self.existing.stranger);
        caller.send(trial.method.clone(), &trial.target, &headers, trial.body.clone().into()).await
    }

    /// Refused with one of the wanted statuses for its own fault, and by a problem (RFC 9457); a page may refuse by a page.
    fn refused(&mut self, trial: &Trial, reply: &Reply, operation: &Operation) -> Result<(), Failure> {
        let (what, body, status) = (&trial.what, reply.json(), reply.status.as_u16());
        let sent = format!("{}\n{}", trial.target, trial.body);
        by_server(what, reply)?;
        if operation.path.ends_with("/batch-check") && refuses_each(&body) {
            let tried = format!("{what}: {status}, and each check is refused");
            self.evidence.tried(trial.subject, tried, sent, &reply.body);
            return Ok(());
        }
        let broken = |difference: &str| {
            let obtained = json!({ "status": status, "id": body.get("id"), "answer": shown(reply) });
            Err(Failure::broken(format!("{what} {difference}"), obtained))
        };
        if reply.status.is_success() || reply.status.is_redirection() {
            return broken("was not refused");
        }
        let is_page = operation.credential == Credential::None && reply.header("content-type").starts_with("text/html");
        if !is_page && !document::is_problem(&operation.path, reply) {
            return broken("was refused without structure");
        }
        // OpenFGA's clients know one status for whatever is wrong with an input.
        let status = if operation.path.starts_with(OPENFGA) && status == 400 { 422 } else { status };
        if !is_page && !trial.wanted.contains(&status) {
            return broken("was not refused for what is wrong with it");
        }
        let is_named = trial.place.as_ref().is_none_or(|place| faults::is_named(&body, place));
        if !is_page && !is_named && !trial.is_beside {
            return broken("was refused for something else than what is wrong with it");
        }
        // What is refused for another reason, such as an object that is not there, says nothing of the parameter.
        let tells = is_named && (trial.wanted.first() == Some(&status) || matches!(status, 400 | 422));
        if is_page || tells {
            self.evidence.tried(trial.subject, format!("{what}: {status}"), sent, &reply.body);
        }
        Ok(())
    }
}

/// What an operation is about is looked up before the rest of its input counts: where that is not there, its id is a fault as well.
fn faulty_where(lacks: &Lacks, good: Value) -> Value {
    match lacks {
        Lacks::InBody(pointer) => faults::with(&good, pointer, json!(7)).unwrap_or(good),
        Lacks::Nothing | Lacks::InPath(_) => good,
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A body as it is sent, with the header that says what it is.
fn carried(body: &Value) -> (String, Vec<(String, String)>) {
    if body.is_null() { (String::new(), Vec::new()) } else { (body.to_string(), vec![owned(JSON)]) }
}

/// The beginning of an answer, without what only its asker may have.
fn shown(reply: &Reply) -> String {
    let text = match reply.json() {
        Value::Object(members) => {
            let public = |(name, _): &(String, Value)| !matches!(name.as_str(), "key" | "url");
            Value::Object(members.into_iter().filter(public).collect::<Map<_, _>>()).to_string()
        }
        _ => String::from_utf8_lossy(&reply.body).into_owned(),
    };
    text.chars().take(300).collect()
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
