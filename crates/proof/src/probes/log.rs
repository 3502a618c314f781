//! Logs: what an outsider, a platform or the database itself gets a process to write down, and what of it can be read there.
//!
//! The lines into which secrets are planted are the database's own notices, which its driver logs: text that no line of Keyholder's code has
//! chosen, as a secret arrives in a log by mistake.

use std::{fs, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::{environment::Environment, random};
use serde_json::{Value, json};
use url::Url;

use crate::{
    caller::Caller,
    database::Session,
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, NodeOptions},
    owner::{expect, text},
    probe::{Attack, Probe},
    search::Needle,
    serving,
};

/// Whether a key, a token or a password can be read in a log line.
pub(super) const REDACTED_LOGS: Probe = Probe {
    name: "redacted-logs",
    points: &["redacted-logs"],
    tries: "a key, a token or a password in a log line, planted in every form, or used on the way",
    attack: Attack::Rehearsed(|ground| Box::pin(redacted_logs(ground))),
};

/// Whether an e-mail address or a telephone number can be read in a log line.
pub(super) const MASKED_LOGS: Probe = Probe {
    name: "masked-logs",
    points: &["masked-logs"],
    tries: "an e-mail address or a telephone number in a log line, planted in every usual writing",
    attack: Attack::Rehearsed(|ground| Box::pin(masked_logs(ground))),
};

/// Whether a user's words or numbers can be read in a log line, though nobody would take them for a secret.
pub(super) const NO_CONTENT_IN_LOGS: Probe = Probe {
    name: "no-content-in-logs",
    points: &["no-content-in-logs"],
    tries: "the text of a message, an address or a telephone number of a user in a log line, by every way on which Keyholder is given one",
    attack: Attack::Rehearsed(|ground| Box::pin(no_content_in_logs(ground))),
};

const READ: &str = "profile.read";
const POST: &str = "post.create";
/// So many digits of a telephone number are as good as all of it. Fewer turn up by chance.
const TAIL: usize = 6;
/// How long a line may take from the database's answer to the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something planted in a line, beside a word by which that line is found.
struct Planted {
    canary: String,
    line: String,
    needle: Needle,
    /// Its last digits, where it is a number: what a half of it is known by, however it is written.
    tail: Option<String>,
    subject: &'static str,
}

impl Planted {
    /// `SECRET` in the pattern is where it stands.
    fn new(subject: &'static str, name: &str, pattern: &str, secret: &str) -> Self {
        let canary = word("canary");
        let line = format!("{canary} {}", pattern.replace("SECRET", secret));
        Self { canary, line, needle: Needle::new(name, secret), tail: None, subject }
    }

    /// Judges the line in which it was planted.
    fn judge(&self, line: &str) -> Result<(), Failure> {
        judge(&self.needle, line)?;
        let Some(tail) = &self.tail else { return Ok(()) };
        // What stands before the word by which the line is found has digits of its own, such as the time.
        let behind = |text: &str| {
            let behind = text.split_once(&self.canary).map_or("", |(_, behind)| behind);
            behind.replace([' ', '-', '/', '(', ')', '.'], "").contains(tail.as_str())
        };
        if !behind(&self.line) {
            return Err(Failure::unproven(format!("{} is not found where it is", self.needle.name)));
        }
        if behind(line) {
            let obtained =
                json!({ "sha256": self.needle.sha256, "line_sha256": crate::evidence::sha256(line.as_bytes()) });
            return Err(Failure::broken(
                format!("the end of {} can be read in a log line", self.needle.name),
                obtained,
            ));
        }
        Ok(())
    }
}

/// A word that nothing takes for a secret: letters alone.
fn word(begins: &str) -> String {
    let letters = random::bytes::<10>().into_iter().map(|byte| char::from(b'a' + byte % 26));
    begins.chars().chain(letters).collect()
}

/// Random letters and digits.
fn body(length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    // At least one of each, as almost every random text of this length has.
    let random = std::iter::repeat_with(random::bytes::<1>)
        .map(|[byte]| LETTERS.get(usize::from(byte) % LETTERS.len()).copied());
    "qZ7".chars().chain(random.map(|letter| char::from(letter.unwrap_or(b'x')))).take(length).collect()
}

async fn redacted_logs(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let planted = secrets(ground)?;
    read_planted(ground, &planted, &mut evidence).await?;
    let (lines, used) = story(ground, &mut evidence).await?;
    search(&lines, &used, &mut evidence)?;
    Ok(evidence)
}

/// Secrets in the forms in which they turn up in texts. Each is fresh, but for the installation's own.
fn secrets(ground: &Ground) -> Result<Vec<Planted>, Failure> {
    let own = domain::api_key::generate(Environment::Local).0;
    let mut planted = vec![Planted::new("planted-secrets", "an API key", "the key SECRET came", &own)];
    let opaque = URL_SAFE_NO_PAD.encode(random::bytes::<32>());
    planted.push(Planted::new("planted-secrets", "32 random bytes", "a token: <SECRET>", &opaque));
    for (name, pattern) in [
        ("a bearer token", "Authorization: Bearer SECRET"),
        ("a basic credential", "authorization: Basic SECRET"),
        ("a cookie", "Cookie: session=SECRET; theme=dark"),
        ("a JWT", "sent eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.SECRET"),
        ("a token of GitHub's", "cloned with ghp_SECRET"),
        ("a key of Stripe's", "charged with sk_live_SECRET"),
        ("a private key", "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"),
        ("a password in JSON", "{\"user\":\"u\",\"password\":\"SECRET\"}"),
        ("a client's secret in a form", "client_id=c&client_secret=SECRET&scope=x"),
        ("a refresh token, percent-encoded", "body refresh_token%3DSECRET%26scope%3Dx"),
        ("an authorization code", "GET /connect/callback/x?code=SECRET&state=s"),
        ("a database login", "postgres://app:SECRET@db.example/keyholder"),
        ("an access token in JSON", "{\"access_token\": \"SECRET\", \"expires_in\": 7200}"),
    ] {
        planted.push(Planted::new("planted-secrets", name, pattern, &body(36)));
    }
    let root = text(ground.handover(), "/keys/root_key");
    let mut known = vec![("the root key", root.to_owned())];
    for group in ["app", "ledger", "lookup", "loader"] {
        let password = password(ground.login(group)?).ok_or_else(|| Failure::unproven("a login without a password"))?;
        known.push(("a database password", password));
    }
    for (name, secret) in known {
        let hex = hex::encode(&secret);
        let standard = STANDARD.encode(&secret);
        for (form, written) in [("as it is", secret.as_str()), ("in hexadecimal", &hex), ("in base64", &standard)] {
            let mut planted_so =
                Planted::new("planted-secrets", &format!("{name} {form}"), "found SECRET here", written);
            // Whatever is left of it in any form counts, not of that form alone.
            planted_so.needle = Needle::new(format!("{name} {form}"), &secret);
            planted.push(planted_so);
        }
    }
    Ok(planted)
}

fn password(address: &str) -> Option<String> {
    let login = address.split_once("://")?.1.split_once('@')?.0;
    Some(login.split_once(':')?.1.to_owned())
}

async fn masked_logs(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let name = word("name");
    let number: String = random::bytes::<8>().iter().map(|byte| char::from(b'0' + byte % 10)).collect();
    let (first, last) = number.split_at(3);
    let mut planted = Vec::new();
    for (pattern, address) in [
        ("mail from SECRET bounced", format!("{name}@example.org")),
        ("to <SECRET>,", format!("{name}.last+tag@mail.example.co.uk")),
        ("\"email\":\"SECRET\"", format!("{name}@bücher.example")),
        ("?mail=SECRET&x=1", format!("{name}%40example.org")),
    ] {
        let mut one = Planted::new("planted-addresses", "an e-mail address", pattern, &address);
        one.needle = Needle::new("an e-mail address", &name);
        planted.push(one);
    }
    for (pattern, phone) in [
        ("call SECRET now", format!("+49 151 {first} {last}")),
        ("sms to SECRET.", format!("+49151{number}")),
        ("tel:SECRET", format!("+1-202-{first}-{last}")),
        ("\"phone\": \"SECRET\"", format!("0151/{number}")),
        ("reached at SECRET today", format!("(0151) {first} {last}")),
        ("by 00SECRET", format!("49 151 {first}-{last}")),
    ] {
        let mut one = Planted::new("planted-phone-numbers", "a telephone number", pattern, &phone);
        one.tail = number.get(number.len() - TAIL..).map(str::to_owned);
        planted.push(one);
    }
    read_planted(ground, &planted, &mut evidence).await?;
    operator_by_address(ground, &name, &mut evidence).await?;
    Ok(evidence)
}

/// A person's own name may be an address, and stands in the log of what he did.
async fn operator_by_address(ground: &Ground, name: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let node = ground.node().await?;
    let address = format!("{name}@staff.example");
    let key = ground.operator(&address).await?;
    let operator = ground.stranger().await?.with_key(&key);
    let body = json!({ "reason": "a probe of the log", "provider": ground.provider() });
    let drill = expect(&operator.post("/v1/installation/kill-drills", &body).await?, 201)?;
    let id = text(&drill, "/id");
    let log = lines_with(&node.log, &[id]).await?;
    let told = log.lines().find(|line| line.contains(id)).unwrap_or_default();
    judge(&Needle::new("an operator's address", name), told)?;
    evidence.tried("planted-addresses", "an operator who is named by an address proposed a kill drill", &address, told);
    Ok(())
}

/// Has the database say what was planted to a serving process, and reads that process's log.
async fn read_planted(ground: &Ground, planted: &[Planted], evidence: &mut Evidence) -> Result<(), Failure> {
    let server = serving::with(ground, "").await?;
    let admin = serving::admin(ground, &ground.stranger_at(&server.url)).await?;
    let owner = Session::open(ground.login("owner")?).await?;
    let notices: Vec<_> = planted.iter().map(|it| format!("raise notice '%', $said${}$said$;", it.line)).collect();
    let notices = notices.join("\n");
    let trigger = format!(
        "create function keyholder.says() returns trigger language plpgsql as $f$ begin {notices} return new; end $f$;
         create trigger says before insert on keyholder.api_keys for each row execute function keyholder.says()"
    );
    owner.client.batch_execute(&trigger).await?;
    let made = make_and_revoke_a_key(&admin).await;
    // Also where that failed: the next probe has the same database.
    owner.client.batch_execute("drop trigger says on keyholder.api_keys; drop function keyholder.says()").await?;
    made?;
    let canaries: Vec<&str> = planted.iter().map(|it| it.canary.as_str()).collect();
    let log = lines_with(&server.log, &canaries).await?;
    for it in planted {
        let line = log.lines().find(|line| line.contains(&it.canary)).unwrap_or_default();
        evidence.tried(it.subject, format!("{}, planted in a line that is there", it.needle.name), &it.line, line);
        it.judge(line)?;
    }
    let needles: Vec<&Needle> = planted.iter().map(|it| &it.needle).collect();
    for line in log.lines() {
        needles.iter().try_for_each(|needle| judge(needle, line))?;
        evidence.tried("log-lines", "a line of a server's log", "", line);
    }
    Ok(())
}

async fn make_and_revoke_a_key(admin: &Caller) -> Result<(), Failure> {
    let made = admin.post("/v1/api-keys", &json!({ "label": "probe of the log", "role": "service" })).await?;
    let made = expect(&made, 201)?;
    admin.delete(&format!("/v1/api-keys/{}", text(&made, "/id"))).await?;
    Ok(())
}

/// A log in which each of these words is by now.
async fn lines_with(log: &std::path::Path, words: &[&str]) -> Result<String, Failure> {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
            if words.iter().all(|word| text.contains(word)) {
                return Ok::<_, Failure>(text);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.map_err(|_| Failure::unproven("what was planted is not in the log: nothing would be found there"))?
}

fn judge(needle: &Needle, line: &str) -> Result<(), Failure> {
    match needle.within(line.as_bytes()) {
        None => Ok(()),
        Some(form) => Err(Failure::broken(
            format!("{} can be read in a log line", needle.name),
            json!({ "sha256": needle.sha256, "form": form, "line_sha256": crate::evidence::sha256(line.as_bytes()) }),
        )),
    }
}

fn search(log: &str, needles: &[Needle], evidence: &mut Evidence) -> Result<(), Failure> {
    for line in log.lines() {
        needles.iter().try_for_each(|needle| judge(needle, line))?;
        evidence.tried("log-lines", "a line of a node's log", "", line);
    }
    Ok(())
}

/// Everything that a node does with secrets, at the finest level of its log: its lines, and what must not be in them.
async fn story(ground: &Ground, evidence: &mut Evidence) -> Result<(String, Vec<Needle>), Failure> {
    let node = ground.start_node_with(NodeOptions { log_filter: Some("trace"), ..NodeOptions::default() }).await?;
    let workspace = ground.workspace("Logs").await?;
    let admin = ground.stranger_at(&node.url).with_key(&workspace.key);
    let account = word("log");
    let owned = ground.connect(&admin, &account, &[READ, POST]).await?;
    let agent = ground.agent(&admin, &owned.connection, &[READ, POST], &json!([])).await?;
    let said = json!({ "text": "a post of a probe" });
    expect(&agent.caller.act(&agent.mandate, POST, &said, Some(&random::token())).await?, 200)?;
    let unknown = domain::api_key::generate(Environment::Local).0;
    expect(&admin.with_key(&unknown).get("/v1/workspace").await?, 401)?;
    expect(&admin.get(&format!("/v1/workspace?access_token={}", *unknown)).await?, 422)?;
    let tokens = ground.platform().tokens(&account);
    expect(&admin.delete(&format!("/v1/connections/{}", owned.connection)).await?, 200)?;

    let asked = Url::parse(&owned.authorize_url)?;
    let query = |name: &str| asked.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    let mut needles = vec![
        Needle::new("a wrong key", &*unknown),
        Needle::new("an admin's key", &*workspace.key),
        Needle::new("a caller's key", agent.caller.key().unwrap_or_default()),
        Needle::new("the root key", text(ground.handover(), "/keys/root_key")),
        Needle::new("the client's secret", text(ground.handover(), "/secret")),
        Needle::new("a state", query("state").unwrap_or_default()),
    ];
    for group in ["app", "ledger", "lookup", "loader"] {
        needles.push(Needle::new("a database password", password(ground.login(group)?).unwrap_or_default()));
    }
    needles.extend(tokens.iter().map(|token| Needle::new("a token of the platform", &token.text)));
    if tokens.len() < 2 || needles.iter().any(Needle::is_blind) {
        return Err(Failure::unproven("a secret of the story is not known"));
    }
    let log = lines_with(&node.log, &["\"answered\"", "\"settle\""]).await?;
    evidence.saw("a connection was made, used and ended; the steps are in the log", &account, "answered, settle");
    node.end().await;
    Ok((log, needles))
}

async fn no_content_in_logs(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let node = ground.start_node_with(NodeOptions { log_filter: Some("trace"), ..NodeOptions::default() }).await?;
    let workspace = ground.workspace("Content").await?;
    let admin = ground.stranger_at(&node.url).with_key(&workspace.key);
    let account = word("content");
    let owned = ground.connect(&admin, &account, &[READ, POST]).await?;
    let agent = ground.agent(&admin, &owned.connection, &[READ, POST], &json!([])).await?;
    let mut said = Vec::new();
    let mut say = |subject: &'static str, what: &str, text: String| {
        said.push((subject, what.to_owned(), Needle::new(what, &text)));
        text
    };
    let message = say("planted-texts", "a message's text", sentence());
    expect(&agent.caller.act(&agent.mandate, POST, &json!({ "text": message }), Some(&random::token())).await?, 200)?;
    let posts = ground.platform().posts_by(&account);
    if !posts.iter().any(|post| post.text == message) {
        return Err(Failure::unproven("the message did not come to the platform"));
    }
    let proxied = say("planted-texts", "a proxied message's text", sentence());
    let path = format!("/v1/proxy/{}/2/tweets", agent.mandate);
    let sent = |path: String, body: Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "probe-of-content")];
        let caller = agent.caller.clone();
        async move { caller.send(http::Method::POST, &path, &headers, body.to_string().into()).await }
    };
    expect(&sent(path.clone(), json!({ "text": proxied })).await?, 201)?;
    let refused = say("planted-texts", "a refused message's text", sentence());
    expect(&agent.caller.act(&agent.mandate, "post.reply", &json!({ "text": refused }), Some("refused")).await?, 403)?;
    let asked: String = say("planted-texts", "a text in an address", word("asked"));
    let phone = say("planted-addresses", "a telephone number in an address", "4915112345987".to_owned());
    let mail = say("planted-addresses", "a mail address in an address", format!("{}@example.org", word("user")));
    for query in [format!("text={asked}"), format!("to=%2B{phone}"), format!("mail={mail}")] {
        let reply = sent(format!("{path}?{query}"), json!({ "text": "x" })).await?;
        evidence.saw(format!("a message to an address with a query: {}", reply.status), "", &reply.body);
        agent.caller.get(&format!("/v1/{asked}/{phone}")).await?;
    }
    let log = lines_with(&node.log, &["\"answered\"", "\"settle\""]).await?;
    for (subject, what, needle) in &said {
        if needle.within(log.as_bytes()).is_some() {
            let line = log.lines().find(|line| needle.within(line.as_bytes()).is_some()).unwrap_or_default();
            judge(needle, line)?;
        }
        evidence.tried(subject, format!("{what}, looked for in every line"), &needle.sha256, "not there");
    }
    for line in log.lines() {
        evidence.tried("log-lines", "a line of a node's log", "", line);
    }
    node.end().await;
    Ok(evidence)
}

/// Words that nothing takes for a secret or an address.
fn sentence() -> String {
    format!("{} {} {}", word("we "), word("sell "), word("boats "))
}
