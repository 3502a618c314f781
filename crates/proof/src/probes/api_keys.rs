//! API keys: how they are kept, whether one can be read again, and what caps they have.

use std::{collections::BTreeSet, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use http::Method;
use serde_json::{Value, json};

use crate::{
    answered::{by_server, of_server},
    caller::{Caller, Reply},
    dump,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{Agent, expect, text},
    probe::{Attack, Probe, Target},
    probes::at_rest::not_in,
    routes::Guard,
    search::Needle,
    undoing::Undoing,
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
    attack: Attack::Both {
        live: |target| Box::pin(caps_beside_customers(target)),
        rehearsed: |ground| Box::pin(key_budgets(ground)),
    },
};

async fn hashed_keys(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let workspace = ground.workspace("probe_hashes").await?;
    let made =
        expect(&workspace.admin.post("/v1/api-keys", &json!({ "label": "hashed", "role": "service" })).await?, 201)?;
    let operators = ground.operator("hashes.probe").await?;
    let publishing = ground.publisher("hashes.publisher").await?;
    let keys = [
        ("the admin's key", workspace.key.as_str(), "api_keys.hash"),
        ("an agent's key", text(&made, "/key"), "api_keys.hash"),
        ("an operator's key", operators.as_str(), "operators.hash"),
        ("a key that only publishes statements", publishing.as_str(), "statement_publishers.hash"),
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
    let wanted = json!({ "label": "shown once", "role": "service", "expires_at": Undoing::expires_at()? });
    let again = [("content-type", "application/json"), ("idempotency-key", "probe-shown-once")];
    let made = target.admin.send(Method::POST, "/v1/api-keys", &again, wanted.to_string().into()).await?;
    let first = expect(&made, 201)?;
    let (id, key) = (text(&first, "/id").to_owned(), text(&first, "/key").to_owned());
    let secret = Needle::new("the key", key.rsplit('_').next().unwrap_or_default());
    if id.is_empty() || secret.is_blind() || secret.within(&made.body).is_none() {
        return Err(Failure::unproven("the answer that makes a key does not show it: it would be found nowhere"));
    }
    let undoing = Undoing::of(&target.admin);
    undoing.note(Method::DELETE, format!("/v1/api-keys/{id}"));
    undoing
        .after(async {
            read_again(target, (&id, &key), &mut evidence).await?;
            let repeated = target.admin.send(Method::POST, "/v1/api-keys", &again, wanted.to_string().into()).await?;
            let (what, other) = (format!("the same request again: {}", repeated.status), repeated.json());
            by_server(&what, &repeated)?;
            if text(&other, "/key") == key {
                let obtained = sha256(key.as_bytes());
                return Err(Failure::broken("the same request again is answered with the same key", obtained));
            }
            if !text(&other, "/id").is_empty() {
                undoing.note(Method::DELETE, format!("/v1/api-keys/{}", text(&other, "/id")));
            }
            evidence.tried("api-answers", what, "", sha256(&repeated.body));
            evidence.tried("api-keys", "a key, from its making to its end", sha256(key.as_bytes()), "shown once");
            Ok(evidence)
        })
        .await
}

/// Reads everything that can be read, with the key's id wherever an id is asked for, and looks for the key.
async fn read_again(target: &Target, (id, key): (&str, &str), evidence: &mut Evidence) -> Result<(), Failure> {
    let secret = Needle::new("the key", key.rsplit('_').next().unwrap_or_default());
    let document = expect(&target.admin.get("/openapi.json").await?, 200)?;
    let paths = document.pointer("/paths").and_then(Value::as_object).cloned().unwrap_or_default();
    // At the operator's a workspace's key is a wrong credential, which counts against the network that shows it.
    let rows = target.table.routes.iter().filter(|route| route.guard == Guard::OperatorKey);
    let operators: BTreeSet<String> = rows.map(|route| route.path.replace("{*", "{")).collect();
    let is_read = |(path, operations): &(&String, &Value)| {
        operations.get("get").is_some() && !operators.contains(&path.replace("{*", "{"))
    };
    let reads = paths.iter().filter(is_read).map(|(path, _)| path.clone());
    let reads: Vec<String> = reads.chain([format!("/v1/api-keys/{id}"), format!("/v1/api-keys/{id}/key")]).collect();
    let mut listed = false;
    for path in &reads {
        let path = with_id(path, id);
        for caller in [&target.admin, &target.admin.with_key(key), &target.stranger] {
            let answer = caller.get(&path).await?;
            let (what, found) = (format!("GET {path}: {}", answer.status), secret.within(&answer.body));
            // What stands in front may show a request back to whoever sent it: that is none of the server's answers.
            if found.is_none() || answer.header("request-id").is_empty() {
                by_server(&what, &answer)?;
            }
            listed |= String::from_utf8_lossy(&answer.body).contains(id);
            if let Some(form) = found {
                let obtained = json!({ "answer_of": path, "key": id, "sha256": sha256(key.as_bytes()), "form": form });
                return Err(Failure::broken("a key can be read again", obtained));
            }
            evidence.tried("api-answers", what, &path, sha256(&answer.body));
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
/// A minute can end between two acts; then the cap is tried in the next one. And so it is where a node may have lagged.
const TRIES: u32 = 4;
/// What a node may take to hear of a change.
const GRACE: Duration = Duration::from_secs(6);
/// What an act is answered that the platform itself has failed, or the way to it.
const OF_THE_PLATFORM: [&str; 7] = [
    "provider-rate-limited",
    "provider-unavailable",
    "provider-not-migrated",
    "reconnect-required",
    "upstream-unreachable",
    "upstream-timeout",
    "upstream-invalid",
];

/// Beside customers: on an account that the operator has connected to the probes' workspace, by an action that only reads, with a key that
/// is made for it. Three acts pass in all, where no node lags. Without such an account no cap can be met, and nothing is said of caps.
async fn caps_beside_customers(target: &Target) -> Outcome {
    let admin = &target.admin;
    let mut evidence = Evidence::new();
    let Some((connection, action)) = readable(admin).await? else {
        evidence.saw("no account is connected to the workspace of the probes: no cap can be met", "", "");
        return Ok(evidence);
    };
    let undoing = Undoing::of(admin);
    undoing
        .after(async {
            let (caller, key) = undoing.key("service").await?;
            let ends = Undoing::expires_at()?;
            let terms = json!({ "connection": connection, "grantee": key, "actions": [action], "expires_at": ends });
            let mandate = expect(&admin.post("/v1/mandates", &terms).await?, 201)?;
            let mandate = text(&mandate, "/id").to_owned();
            undoing.note(Method::POST, format!("/v1/mandates/{mandate}/revoke"));
            let agent = Agent { caller, key, mandate };
            let capped = |per| Capped { admin, agent: &agent, action: &action, per, lag: Some(GRACE) };
            let [minute, month] = ["minute", "month"].map(capped);
            let first = minute.act().await?;
            if is_the_platforms(&first) {
                // Whatever ails the platform, it is no word on caps: they are left untried.
                evidence.saw(format!("an act without a cap: {}, which is the platform's", first.status), &action, "");
                return Ok(evidence);
            }
            expect(&first, 200)?;
            evidence.saw("an act without a cap", &action, "200");
            for (capped, (_, subject)) in [minute, month].into_iter().zip(WINDOWS) {
                // Set between two acts, it binds the second.
                capped.set(0).await?;
                undoing.note(Method::DELETE, format!("/v1/budgets/{}", text(&capped.standing().await?, "/id")));
                let mut tried = Evidence::new();
                let mut at_once = capped.binds_the_next(subject, &mut tried).await?;
                capped.is_not_the_keys_to_set(subject, &mut tried).await?;
                if capped.per == minute.per {
                    capped.remove().await?;
                } else {
                    at_once &= capped.holds_to_the_last_unit(1, subject, &mut tried).await?;
                }
                if at_once {
                    evidence = evidence.join(tried);
                } else {
                    // It binds, but not from the next request on: the claim is left untried.
                    let words = format!("a cap of a {} binds where its node has heard of it", capped.per);
                    evidence.saw(words, &action, "429");
                }
            }
            Ok(evidence)
        })
        .await
}

/// Whether it is the platform that has failed an act.
fn is_the_platforms(answer: &Reply) -> bool {
    let told = answer.json();
    let kind = text(&told, "/type").strip_prefix("urn:keyholder:problem:");
    !answer.status.is_success() && kind.is_some_and(|kind| OF_THE_PLATFORM.contains(&kind))
}

/// A connection of this workspace that is in use, and one of its actions that only reads and needs no input.
async fn readable(admin: &Caller) -> Result<Option<(String, String)>, Failure> {
    let list = async |path: &str| -> Result<Vec<Value>, Failure> {
        let page = expect(&admin.get(path).await?, 200)?;
        Ok(page.get("data").and_then(Value::as_array).cloned().unwrap_or_default())
    };
    let (connections, providers) = (list("/v1/connections?limit=100").await?, list("/v1/providers").await?);
    Ok(connections.iter().filter(|it| text(it, "/state") == "active").find_map(|connection| {
        let ceiling = connection.get("ceiling")?.as_array()?;
        let provider = providers.iter().find(|it| text(it, "/name") == text(connection, "/provider"))?;
        let fits = |action: &&Value| {
            let needs = action.pointer("/input/required").and_then(Value::as_array);
            text(action, "/effect") == "read"
                && needs.is_none_or(Vec::is_empty)
                && ceiling.iter().any(|allowed| Some(allowed) == action.get("name"))
        };
        let action = provider.get("actions")?.as_array()?.iter().find(fits)?;
        Some((text(connection, "/id").to_owned(), text(action, "/name").to_owned()))
    }))
}

/// On a scratch installation: that a cap binds its own key alone, that it holds to its last unit, and that it ends.
async fn key_budgets(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let entrusted = ground.entrust("probe_caps").await?;
    let (admin, action) = (&entrusted.workspace.admin, "profile.read");
    let other = ground.agent(admin, &entrusted.connected.connection, &[action], &json!([])).await?;
    for (per, subject) in WINDOWS {
        // One node has nothing to hear of: here a cap binds at once, or it does not.
        let capped = Capped { admin, agent: &entrusted.agent, action, per, lag: None };
        let beside = Capped { agent: &other, ..capped };
        expect(&capped.act().await?, 200)?;
        evidence.saw(format!("an act without a cap in a {per}"), action, "200");
        // Set between two acts, it binds the second.
        capped.set(0).await?;
        capped.binds_the_next(subject, &mut evidence).await?;
        expect(&beside.act().await?, 200)?;
        evidence.saw(format!("an act of another key, in the same {per}"), action, "200");
        capped.holds_to_the_last_unit(CAP, subject, &mut evidence).await?;
        capped.remove().await?;
        expect(&capped.act().await?, 200)?;
        evidence.saw("an act after the cap was removed", action, "200");
    }
    Ok(evidence)
}

/// A key with a cap on its acts in a window.
#[derive(Clone, Copy)]
struct Capped<'a> {
    admin: &'a Caller,
    agent: &'a Agent,
    action: &'a str,
    per: &'static str,
    /// What a node may take to hear of a cap that another one has set, where there may be others.
    lag: Option<Duration>,
}

impl Capped<'_> {
    async fn act(&self) -> Result<Reply, Failure> {
        let answer = self.agent.caller.act(&self.agent.mandate, self.action, &json!({}), None).await?;
        of_server("an act", &answer)?;
        Ok(answer)
    }

    /// The cap as an admin sets it.
    fn body(&self, cap: u64) -> Value {
        json!({ "scope": "principal", "subject": self.agent.key, "unit": "acts", "per": self.per, "cap": cap })
    }

    /// Whether an act was refused for this cap, and for no other limit: the key's own, a connection's, the network's, the platform's.
    fn is_over(&self, answer: &Reply, cap: u64) -> bool {
        let told = answer.json();
        answer.status == 429
            && text(&told, "/type") == "urn:keyholder:problem:budget-exceeded"
            && (text(&told, "/budget/scope"), text(&told, "/budget/unit")) == ("principal", "acts")
            && text(&told, "/budget/per") == self.per
            && told.pointer("/budget/cap").and_then(Value::as_u64) == Some(cap)
    }

    async fn set(&self, cap: u64) -> Result<(), Failure> {
        expect(&self.admin.post("/v1/budgets", &self.body(cap)).await?, 200).map(drop)
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

    /// A cap of none refuses the next act. A node that may not have heard of it is asked once more when it must have. Returns whether the
    /// first act was refused.
    async fn binds_the_next(&self, subject: &str, evidence: &mut Evidence) -> Result<bool, Failure> {
        let (what, per) = ("an act after a cap of none was set", self.per);
        let mut answer = self.act().await?;
        let passed = answer.status.is_success();
        if let (true, Some(lag)) = (passed, self.lag) {
            tokio::time::sleep(lag).await;
            answer = self.act().await?;
        }
        if answer.status.is_success() {
            // What the platform answered is the account's, and no evidence.
            let obtained = json!({ "status": answer.status.as_u16(), "answer_sha256": sha256(&answer.body),
                "cap": self.standing().await? });
            return Err(Failure::broken(format!("{what}, in a {per}, passed"), obtained));
        }
        if !self.is_over(&answer, 0) {
            let kind = answer.json();
            return Err(Failure::unproven(format!("{what} was answered {}: {}", answer.status, text(&kind, "/type"))));
        }
        evidence.tried(subject, format!("{what}, in a {per}: 429"), what, &answer.body);
        Ok(!passed)
    }

    /// A cap is an admin's to set, and not its key's own.
    async fn is_not_the_keys_to_set(&self, subject: &str, evidence: &mut Evidence) -> Result<(), Failure> {
        let own = self.body(1000);
        let raised = self.agent.caller.post("/v1/budgets", &own).await?;
        of_server("a key that sets its own cap", &raised)?;
        if raised.status.is_success() {
            return Err(Failure::broken("a key set its own cap", raised.json()));
        }
        if raised.status != 403 {
            return Err(Failure::unproven(format!("a key that sets its own cap was answered {}", raised.status)));
        }
        evidence.tried(subject, format!("the key sets its own cap: {}", raised.status), own.to_string(), &raised.body);
        Ok(())
    }

    /// As many acts pass as the cap says, beside what the window holds already, and the next one does not. Where a node may not have heard of
    /// any cap, it is tried once more when it must have. Returns whether it held at once.
    async fn holds_to_the_last_unit(&self, cap: u64, subject: &str, evidence: &mut Evidence) -> Result<bool, Failure> {
        let mut exceeded = false;
        for _ in 0..TRIES {
            self.set(1_000_000).await?;
            expect(&self.act().await?, 200)?;
            let before = self.standing().await?;
            let used = before.get("used").and_then(Value::as_u64).unwrap_or_default();
            self.set(used + cap).await?;
            let (mut passed, mut odd) = (0, None);
            for _ in 0..=cap {
                let answer = self.act().await?;
                passed += u64::from(answer.status.is_success());
                if !answer.status.is_success() && !self.is_over(&answer, used + cap) {
                    odd = Some(format!("{}: {}", answer.status, text(&answer.json(), "/type")));
                }
            }
            let after = self.standing().await?;
            if let Some(odd) = odd {
                return Err(Failure::unproven(format!("an act under a cap of {cap} was answered {odd}")));
            }
            if passed == cap {
                let words = format!("{cap} acts of {} under a cap of {cap} more in a {}", cap + 1, self.per);
                evidence.tried(subject, words, before.to_string(), after.to_string());
                return Ok(!exceeded);
            }
            if passed < cap {
                return Err(Failure::unproven(format!("only {passed} acts passed under a cap of {cap}")));
            }
            if before.get("window_start") != after.get("window_start") {
                continue;
            }
            let (Some(lag), false) = (self.lag, exceeded) else {
                let words = format!("{passed} acts passed in a {} under a cap of {cap}", self.per);
                return Err(Failure::broken(words, json!({ "passed": passed, "cap": cap, "standing": after })));
            };
            exceeded = true;
            tokio::time::sleep(lag).await;
        }
        Err(Failure::unproven(format!("each {} ended before its cap was tried", self.per)))
    }
}
