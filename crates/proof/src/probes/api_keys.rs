//! API keys: how they are kept, whether one can be read again, and what caps they have.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use domain::clock::Clock;
use http::Method;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::{
    caller::{Caller, Reply},
    dump,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{Agent, expect, text},
    probe::{Attack, Probe, Target},
    probes::{at_rest::not_in, origins::ended},
    search::Needle,
};

/// Whether keys are stored as anything but SHA-256.
pub(super) const HASHED_KEYS: Probe = Probe {
    name: "hashed-keys",
    points: &["hashed-keys"],
    tries: "a key, or the secret part of one, in a copy of the database",
    attack: Attack::Rehearsed(|ground| Box::pin(hashed_keys(ground))),
};

/// Whether a key can be read again.
pub(super) const KEY_SHOWN_ONCE: Probe = Probe {
    name: "key-shown-once",
    points: &["key-shown-once"],
    tries: "a key's text in any answer but the one that made it",
    attack: Attack::Live(|target| Box::pin(key_shown_once(target))),
};

/// Whether a key's caps bind.
pub(super) const KEY_BUDGETS: Probe = Probe {
    name: "key-budgets",
    points: &["key-budgets"],
    tries: "an act beyond the cap that an admin has set for its key, in a minute and in a month",
    attack: Attack::Rehearsed(|ground| Box::pin(key_budgets(ground))),
};

async fn hashed_keys(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let workspace = ground.workspace("probe_hashes").await?;
    let made =
        expect(&workspace.admin.post("/v1/api-keys", &json!({ "label": "hashed", "role": "service" })).await?, 201)?;
    let operators = ground.operator("hashes.probe").await?;
    let keys = [
        ("the admin's key", workspace.key.as_str(), "api_keys.hash"),
        ("an agent's key", text(&made, "/key"), "api_keys.hash"),
        ("an operator's key", operators.as_str(), "operators.hash"),
    ];
    for (what, key, _) in keys.iter().take(2) {
        let known = workspace.admin.with_key(key).get("/v1/connections").await?;
        evidence.saw(
            format!("{what} is taken: {}", expect(&known, 200).map(|_| known.status)?),
            sha256(key.as_bytes()),
            "",
        );
    }
    let cells = dump::every_cell(&ground.owner().await?).await?;
    for (what, key, place) in keys {
        let secret = key.rsplit('_').next().unwrap_or_default();
        not_in(&cells, &Needle::new(what, secret))?;
        let hash = digest(&SHA256, key.as_bytes());
        if !cells.iter().any(|cell| cell.place == place && cell.bytes == hash.as_ref()) {
            return Err(Failure::broken(
                format!("{what} is not stored as its SHA-256"),
                json!({ "sha256": hex::encode(hash) }),
            ));
        }
        let words = format!("{what}: its SHA-256 is in {place}, and nothing else of it in {} values", cells.len());
        evidence.tried("api-keys", words, sha256(key.as_bytes()), hex::encode(hash));
    }
    Ok(evidence)
}

async fn key_shown_once(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    // It ends by itself, also where nobody lives to end it.
    let ends = Clock::system().now() + Duration::from_mins(10);
    let wanted = json!({ "label": "shown once", "role": "service", "expires_at": ends.format(&Rfc3339)? });
    let again = [("content-type", "application/json"), ("idempotency-key", "probe-shown-once")];
    let made = target.admin.send(Method::POST, "/v1/api-keys", &again, wanted.to_string().into()).await?;
    let first = expect(&made, 201)?;
    let (id, key) = (text(&first, "/id").to_owned(), text(&first, "/key").to_owned());
    let secret = Needle::new("the key", key.rsplit('_').next().unwrap_or_default());
    if id.is_empty() || secret.is_blind() || secret.within(&made.body).is_none() {
        return Err(Failure::unproven("the answer that makes a key does not show it: it would be found nowhere"));
    }
    let outcome = read_again(target, (&id, &key), &mut evidence).await;
    let repeated = target.admin.send(Method::POST, "/v1/api-keys", &again, wanted.to_string().into()).await?;
    let other = repeated.json();
    for made in [id.as_str(), text(&other, "/id")].into_iter().filter(|id| !id.is_empty()) {
        ended(&target.admin.delete(&format!("/v1/api-keys/{made}")).await?)?;
    }
    outcome?;
    if text(&other, "/key") == key {
        return Err(Failure::broken("the same request again is answered with the same key", sha256(key.as_bytes())));
    }
    evidence.tried("api-answers", format!("the same request again: {}", repeated.status), "", sha256(&repeated.body));
    evidence.tried("api-keys", "a key, from its making to its end", sha256(key.as_bytes()), "shown once");
    Ok(evidence)
}

/// Reads everything that can be read, with the key's id wherever an id is asked for, and looks for the key.
async fn read_again(target: &Target, (id, key): (&str, &str), evidence: &mut Evidence) -> Result<(), Failure> {
    let secret = Needle::new("the key", key.rsplit('_').next().unwrap_or_default());
    let document = expect(&target.admin.get("/openapi.json").await?, 200)?;
    let paths = document.pointer("/paths").and_then(Value::as_object).cloned().unwrap_or_default();
    let reads = paths.iter().filter(|(_, operations)| operations.get("get").is_some()).map(|(path, _)| path.clone());
    let reads: Vec<String> = reads.chain([format!("/v1/api-keys/{id}"), format!("/v1/api-keys/{id}/key")]).collect();
    let mut listed = false;
    for path in &reads {
        let path = with_id(path, id);
        for caller in [&target.admin, &target.admin.with_key(key), &target.stranger] {
            let answer = caller.get(&path).await?;
            listed |= String::from_utf8_lossy(&answer.body).contains(id);
            if let Some(form) = secret.within(&answer.body) {
                let obtained = json!({ "answer_of": path, "key": id, "sha256": sha256(key.as_bytes()), "form": form });
                return Err(Failure::broken("a key can be read again", obtained));
            }
            evidence.tried("api-answers", format!("GET {path}: {}", answer.status), &path, sha256(&answer.body));
        }
    }
    if listed { Ok(()) } else { Err(Failure::unproven("the key's id was in no answer: the search is blind")) }
}

/// A path whose captures are an id.
fn with_id(path: &str, id: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { id.to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The windows of a key's caps, by the subjects of their claim.
const WINDOWS: [(&str, &str); 2] = [("minute", "minute-caps"), ("month", "month-caps")];
/// How many acts a cap lets pass that is tried to its last unit.
const CAP: u64 = 2;
/// A minute can end between two acts; then the cap is tried in the next one.
const TRIES: u32 = 3;

async fn key_budgets(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let entrusted = ground.entrust("probe_caps").await?;
    let admin = &entrusted.workspace.admin;
    let other = ground.agent(admin, &entrusted.connected.connection, &["profile.read"], &json!([])).await?;
    expect(&read(&entrusted.agent).await?, 200)?;
    evidence.saw("an act without a cap", "profile.read", "200");
    for (per, subject) in WINDOWS {
        let capped = Capped { admin, agent: &entrusted.agent, per };
        // Set between two acts, it binds the second.
        capped.set(0).await?;
        capped.refused("an act after a cap of none was set", subject, &mut evidence).await?;
        expect(&read(&other).await?, 200)?;
        evidence.saw(format!("an act of another key, in the same {per}"), "profile.read", "200");
        let own =
            json!({ "scope": "principal", "subject": entrusted.agent.key, "unit": "acts", "per": per, "cap": 1000 });
        let raised = entrusted.agent.caller.post("/v1/budgets", &own).await?;
        if raised.status.is_success() {
            return Err(Failure::broken("a key set its own cap", raised.json()));
        }
        evidence.tried(subject, format!("the key sets its own cap: {}", raised.status), own.to_string(), &raised.body);
        capped.to_the_last_unit(subject, &mut evidence).await?;
        capped.remove().await?;
        expect(&read(&entrusted.agent).await?, 200)?;
        evidence.saw("an act after the cap was removed", "profile.read", "200");
    }
    Ok(evidence)
}

async fn read(agent: &Agent) -> Result<Reply, Failure> {
    Ok(agent.caller.act(&agent.mandate, "profile.read", &json!({}), None).await?)
}

/// A key with a cap on its acts in a window.
struct Capped<'a> {
    admin: &'a Caller,
    agent: &'a Agent,
    per: &'static str,
}

impl Capped<'_> {
    async fn set(&self, cap: u64) -> Result<(), Failure> {
        let cap =
            json!({ "scope": "principal", "subject": self.agent.key, "unit": "acts", "per": self.per, "cap": cap });
        expect(&self.admin.post("/v1/budgets", &cap).await?, 200).map(drop)
    }

    /// The cap as the API shows it.
    async fn standing(&self) -> Result<Value, Failure> {
        let listed = expect(&self.admin.get("/v1/budgets").await?, 200)?;
        let mut all = listed.get("data").and_then(Value::as_array).cloned().unwrap_or_default().into_iter();
        let mine = all.find(|it| text(it, "/subject") == self.agent.key && text(it, "/per") == self.per);
        mine.ok_or_else(|| Failure::unproven("a cap that was set is not listed"))
    }

    async fn remove(&self) -> Result<(), Failure> {
        let id = text(&self.standing().await?, "/id").to_owned();
        expect(&self.admin.delete(&format!("/v1/budgets/{id}")).await?, 204).map(drop)
    }

    async fn refused(&self, what: &str, subject: &str, evidence: &mut Evidence) -> Result<(), Failure> {
        let answer = read(self.agent).await?;
        if answer.status.is_success() {
            let obtained = json!({ "act": answer.json(), "cap": self.standing().await? });
            return Err(Failure::broken(format!("{what}, in a {}, passed", self.per), obtained));
        }
        if answer.status != 429 {
            return Err(Failure::unproven(format!("{what} was answered {}", answer.status)));
        }
        evidence.tried(subject, format!("{what}, in a {}: 429", self.per), what, &answer.body);
        Ok(())
    }

    /// As many acts pass as the cap says, and the next one does not.
    async fn to_the_last_unit(&self, subject: &str, evidence: &mut Evidence) -> Result<(), Failure> {
        for _ in 0..TRIES {
            // What the window holds already counts.
            self.set(1_000_000).await?;
            expect(&read(self.agent).await?, 200)?;
            let before = self.standing().await?;
            let used = before.get("used").and_then(Value::as_u64).unwrap_or_default();
            self.set(used + CAP).await?;
            let mut passed = 0;
            for _ in 0..=CAP {
                passed += u64::from(read(self.agent).await?.status.is_success());
            }
            let after = self.standing().await?;
            if passed == CAP {
                let words = format!("{CAP} acts of {} under a cap of {CAP} more in a {}", CAP + 1, self.per);
                evidence.tried(subject, words, before.to_string(), after.to_string());
                return Ok(());
            }
            if before.get("window_start") == after.get("window_start") {
                let obtained = json!({ "passed": passed, "cap": CAP, "standing": after });
                return Err(Failure::broken(
                    format!("{passed} acts passed in a {} under a cap of {CAP}", self.per),
                    obtained,
                ));
            }
        }
        Err(Failure::unproven(format!("each {} ended before its cap was tried", self.per)))
    }
}
