//! Leaks: secrets that the program holds, looked for in everything that it answers and writes, and in what it was made from.

use http::Method;
use sandbox::{EchoForm, EchoPlace, Platform, Quirk, Route, Scope};
use serde_json::{Value, json};

use crate::{
    answers::{self, Answer, Filled},
    dump::{self, Cell},
    entrusted::Entrusted,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::text,
    probe::{Attack, Probe},
    probes::at_rest::{keys_in, not_in},
    search::Needle,
    source::SourceTree,
    stock::Stock,
    unsealing::{self, Key},
};

/// Whether a stored credential comes out anywhere.
pub(super) const CREDENTIAL_NOWHERE: Probe = Probe {
    name: "credential-nowhere",
    points: &["credential-nowhere"],
    tries: "a stored credential in an answer, an error or a log line, also where the platform gives it back",
    attack: Attack::Rehearsed(|ground| Box::pin(credential_nowhere(ground))),
};

/// Whether the root key is anywhere but where it is given.
pub(super) const ROOT_KEY_OUTSIDE: Probe = Probe {
    name: "root-key-outside",
    points: &["root-key-outside"],
    tries: "the root key in the database, an answer, a log line, a process's arguments or the source",
    attack: Attack::Audited(|ground, source| Box::pin(root_key_outside(ground, source))),
};

/// Whether the platform's own secrets are in the database or the repository.
pub(super) const PLATFORM_SECRETS_OUTSIDE: Probe = Probe {
    name: "platform-secrets-outside",
    points: &["platform-secrets-outside"],
    tries: "a client's secret in the database, an answer, a log line or the source",
    attack: Attack::Audited(|ground, source| Box::pin(platform_secrets_outside(ground, source))),
};

/// What a secret is looked for in.
struct Looked {
    cells: Vec<Cell>,
    answers: Vec<Answer>,
    log: String,
    canary: String,
}

impl Looked {
    /// Asks everything, with a word planted where a leak would be: a row that is answered, and the log.
    async fn gather(ground: &Ground, name: &str, (filled, more): (Filled, Vec<Answer>)) -> Result<Self, Failure> {
        let stock = Stock::new(ground, name).await?;
        let canary = format!("canary {}", domain::random::token());
        let label = json!({ "label": canary, "role": "service" });
        let made = stock.workspace.admin.post("/v1/api-keys", &label).await?;
        let mut answers = more;
        answers.push(Answer::new("a key is made", &made));
        answers.extend(answers::of_every_route(ground, &stock, filled).await?);
        let listed = stock.workspace.admin.get("/v1/api-keys?limit=100").await?;
        answers.push(Answer::new("the keys are listed", &listed));
        let (cells, log) = (dump::every_cell(&ground.owner().await?).await?, ground.node().await?.log_text()?);
        let looked = Self { cells, answers, log, canary };
        looked.sees(&made.json(), &listed.json())?;
        Ok(looked)
    }

    /// The search finds what was planted, in a row and in an answer; and the log has the program's lines.
    fn sees(&self, made: &Value, listed: &Value) -> Result<(), Failure> {
        let canary = Needle::new("the canary", &self.canary);
        let in_rows = self.cells.iter().any(|cell| canary.within(&cell.bytes).is_some());
        let in_answers = self.answers.iter().any(|answer| canary.within(&answer.wire).is_some());
        if in_rows && in_answers && self.log.contains("\"level\"") {
            return Ok(());
        }
        Err(Failure::unproven(format!("the canary was not found where it was planted: {made} {listed}")))
    }

    /// A secret is in none of it.
    fn must_not_hold(&self, needle: &Needle) -> Result<(), Failure> {
        if let Some((answer, form)) = self.answers.iter().find_map(|it| Some((it, needle.within(&it.wire)?))) {
            let obtained = json!({ "sha256": needle.sha256, "in": "an answer", "of": answer.of, "form": form });
            return Err(Failure::broken(format!("{} is in an answer, {form}", needle.name), obtained));
        }
        if let Some((number, form)) = line_with(&self.log, needle) {
            let obtained = json!({ "sha256": needle.sha256, "in": "the log", "line": number, "form": form });
            return Err(Failure::broken(format!("{} is in the log, {form}", needle.name), obtained));
        }
        not_in(&self.cells, needle)
    }

    /// Notes what was looked at, by the subjects of claims.
    fn note(&self, what: &str, evidence: &mut Evidence) {
        for answer in &self.answers {
            let subject = if answer.is_error { "errors" } else { "api-answers" };
            evidence.tried(subject, format!("{what} in the answer of {}", answer.of), &answer.of, sha256(&answer.wire));
        }
        for line in self.log.lines() {
            evidence.tried("log-lines", format!("{what} in a line of the log"), "", sha256(line.as_bytes()));
        }
        let copy: Vec<u8> = self.cells.iter().flat_map(|cell| cell.bytes.iter().copied()).collect();
        evidence.tried("database-copies", format!("{what} in {} values", self.cells.len()), "", sha256(&copy));
    }
}

/// The first line of a log that holds a secret.
pub(super) fn line_with(log: &str, needle: &Needle) -> Option<(usize, &'static str)> {
    log.lines().enumerate().find_map(|(number, line)| Some((number + 1, needle.within(line.as_bytes())?)))
}

async fn credential_nowhere(ground: &Ground) -> Outcome {
    const ACCOUNT: &str = "probe_nowhere";
    let mut evidence = Evidence::new();
    let entrusted = ground.entrust(ACCOUNT).await?;
    entrusted.refresh(ground).await?;
    evidence.saw("posts with the credential", "post.create", "done");
    let echoed = echoes(ground, &entrusted, ACCOUNT).await;
    ground.platform().clear();
    ground.platform().keep_answers(0);
    let looked = Looked::gather(ground, "nowhere", (Filled::Anew, echoed?)).await?;
    let mut needles = ground.needles(ACCOUNT);
    needles.extend(ground.needles("nowhere_walks"));
    for needle in &needles {
        looked.must_not_hold(needle)?;
    }
    looked.note(&format!("{} tokens", needles.len()), &mut evidence);
    Ok(evidence)
}

/// The forms in which the platform gives a credential back: those that the search knows.
const FORMS: [EchoForm; 10] = [
    EchoForm::Plain,
    EchoForm::Base64 { shift: 0 },
    EchoForm::Base64 { shift: 1 },
    EchoForm::Base64 { shift: 2 },
    EchoForm::Base64Url { shift: 0 },
    EchoForm::Base64Url { shift: 1 },
    EchoForm::Base64Url { shift: 2 },
    EchoForm::Percent,
    EchoForm::JsonEscapes,
    EchoForm::Hex,
];

/// Has the platform give the credential back in each place, in turn of the forms, by both doors; and its own errors while a token is
/// refreshed. Each time the platform's raw answer held it: the search finds it there.
async fn echoes(ground: &Ground, entrusted: &Entrusted, account: &str) -> Result<Vec<Answer>, Failure> {
    let (platform, mut answers) = (ground.platform(), Vec::new());
    platform.keep_answers(1);
    let each_place = EchoPlace::ALL.into_iter().zip(FORMS.into_iter().cycle());
    for (place, form) in each_place.chain(FORMS.into_iter().map(|form| (EchoPlace::Body, form))) {
        let of = format!("an act whose platform echoes: {place:?}, {form:?}");
        let met = platform.fired();
        platform.switch(Quirk::EchoAuthorization { place, form, piecewise: false }, Scope::once(Route::Api))?;
        let reply = entrusted.agent.caller.act(&entrusted.agent.mandate, "profile.read", &json!({}), None).await?;
        held(platform, account, met + 1)?;
        answers.push(Answer::new(of, &reply));
        platform.switch(Quirk::EchoAuthorization { place, form, piecewise: true }, Scope::once(Route::Api))?;
        let path = format!("/v1/proxy/{}/2/users/me", entrusted.agent.mandate);
        let reply = entrusted.agent.caller.send(Method::GET, &path, &[], bytes::Bytes::new()).await?;
        held(platform, account, met + 2)?;
        answers.push(Answer::new(format!("a proxied call whose platform echoes: {place:?}, {form:?}"), &reply));
    }
    for form in FORMS {
        platform.expire_access_tokens(account);
        entrusted.try_to_post(&format!("refused, {form:?}")).await?;
        platform.switch(Quirk::EchoForm { form }, Scope::once(Route::Token))?;
        let reply = entrusted.try_to_post(&format!("not refreshed, {form:?}")).await?;
        answers.push(Answer::new(format!("an act whose refresh is quoted back, {form:?}"), &reply));
        platform.clear();
    }
    Ok(answers)
}

/// The platform's own answer held a token: the search finds it there.
fn held(platform: &Platform, account: &str, met: u64) -> Result<(), Failure> {
    if platform.fired() < met {
        return Err(Failure::unproven("a call that was to be echoed did not reach the platform"));
    }
    let answer = platform.last_answer().map(|answer| answer.text()).unwrap_or_default();
    let tokens = platform.tokens(account);
    if tokens.iter().any(|token| Needle::new("", &token.text).within(&answer).is_some()) {
        return Ok(());
    }
    Err(Failure::unproven("the platform's answer did not hold the token: the search is blind"))
}

async fn root_key_outside(ground: &Ground, source: &SourceTree) -> Outcome {
    let mut evidence = Evidence::new();
    let root = unsealing::root_key(ground.handover())?;
    let needle = [
        Needle::new("the root key", root),
        Needle::new("the root key's text", text(ground.handover(), "/keys/root_key").trim()),
    ];
    let (told, served) = metrics(ground).await?;
    let mut looked = Looked::gather(ground, "root_key", (Filled::Once, vec![told])).await?;
    if served.lines().next().is_none() {
        return Err(Failure::unproven("a server wrote nothing to its log: nothing would be found there"));
    }
    looked.log = format!("{}\n{served}", looked.log);
    for needle in &needle {
        looked.must_not_hold(needle)?;
        not_in_arguments(ground, needle).await?;
    }
    looked.note("the root key", &mut evidence);

    // The installation knows its key again by this value: whoever has the key can tell.
    let check = unsealing::root_check(&root);
    if !looked.cells.iter().any(|cell| cell.place == "installation.root_check" && cell.bytes == check) {
        return Err(Failure::unproven("the installation does not know its root key by the value that is derived here"));
    }
    evidence.saw("the key that was handed over is this installation's", sha256(&root), hex::encode(check));
    let candidates = keys_in(&looked.cells);
    if let Some(key) = candidates.iter().find(|key| unsealing::root_check(key) == check) {
        return Err(Failure::broken("the database holds its own root key", json!({ "sha256": sha256(key) })));
    }
    evidence.tried(
        "root-keys",
        format!("{} runs of 32 bytes out of the database", candidates.len()),
        "",
        "none is the root key",
    );
    let mut tried = 0;
    for (path, text) in files(source).await? {
        for key in keys_written_in(&text) {
            tried += 1;
            if unsealing::root_check(&key) == check {
                return Err(Failure::broken(
                    "a key that stands in the source is the root key",
                    json!({ "file": path, "sha256": sha256(&key) }),
                ));
            }
        }
        evidence.tried(
            "source-files",
            "a key in a tracked file that is this installation's",
            path,
            sha256(text.as_bytes()),
        );
    }
    evidence.tried("root-keys", format!("{tried} keys that stand in the source"), "", "none is the root key");
    Ok(evidence)
}

async fn platform_secrets_outside(ground: &Ground, source: &SourceTree) -> Outcome {
    let mut evidence = Evidence::new();
    let entrusted = ground.entrust("probe_client").await?;
    entrusted.refresh(ground).await?;
    evidence.saw("the platform took the client's secret, for an exchange and a refresh", "", "tokens");
    let needle = Needle::new("the client's secret", text(ground.handover(), "/secret"));
    let looked = Looked::gather(ground, "client_secret", (Filled::Once, Vec::new())).await?;
    looked.must_not_hold(&needle)?;
    for (path, text) in files(source).await? {
        if needle.within(text.as_bytes()).is_some() {
            return Err(Failure::broken("the client's secret is in the source", json!({ "file": path })));
        }
        evidence.saw("the client's secret in a tracked file", path, sha256(text.as_bytes()));
    }
    let looked_at = format!(
        "{} values, {} answers, {} lines",
        looked.cells.len(),
        looked.answers.len(),
        looked.log.lines().count()
    );
    evidence.tried(
        "client-secrets",
        "the client's secret in the database, the answers, the log and the source",
        needle.sha256,
        looked_at,
    );
    Ok(evidence)
}

/// What a server tells of itself beside the API, and its log.
async fn metrics(ground: &Ground) -> Result<(Answer, String), Failure> {
    let serving = ground.serve(&ground.configuration("", ""), &[]).await?;
    let told = ground.stranger_at(&serving.metrics_url).get(serving.metrics_url.path()).await?;
    let log = serving.kill().await?;
    Ok((Answer::new("the metrics of a server", &told), log))
}

/// A secret in the arguments of a node, which every account of the machine may read.
async fn not_in_arguments(ground: &Ground, needle: &Needle) -> Result<(), Failure> {
    let pid = ground.node().await?.pid().unwrap_or_default();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    match needle.within(&arguments) {
        None => Ok(()),
        Some(form) => {
            Err(Failure::broken(format!("{} is in the node's arguments", needle.name), json!({ "form": form })))
        }
    }
}

/// The tracked files that are text, by their paths.
async fn files(source: &SourceTree) -> Result<Vec<(String, String)>, Failure> {
    let mut files = Vec::new();
    for path in source.tracked().await? {
        // What is tracked and not there was deleted since.
        if let Ok(text) = source.read(&path) {
            files.push((path.display().to_string(), text));
        }
    }
    if files.is_empty() { Err(Failure::unproven("nothing is tracked")) } else { Ok(files) }
}

/// What in a text could be read as a key: runs of its length in base64, of either alphabet, and in hexadecimal digits.
fn keys_written_in(text: &str) -> Vec<Key> {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
    };
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '-' | '_');
    let words = text.split(|letter| !is_part(letter)).filter(|word| matches!(word.len(), 43 | 64));
    let read = |word: &str| {
        let decoded = match word.len() {
            64 => hex::decode(word).ok(),
            _ => STANDARD_NO_PAD.decode(word).or_else(|_| URL_SAFE_NO_PAD.decode(word)).ok(),
        };
        decoded.and_then(|bytes| Key::try_from(bytes).ok())
    };
    words.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_where_they_stand_and_in_each_form() {
        let key = [0xfb; 32];
        let digits = hex::encode(key);
        let text = format!(
            "let a = \"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s\"; let b = \"{digits}\"; // {}",
            "a".repeat(50)
        );
        assert_eq!(keys_written_in(&text), [key, key]);
        assert!(keys_written_in("nothing of 32 bytes").is_empty());
    }
}
