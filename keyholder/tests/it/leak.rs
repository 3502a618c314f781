//! The leak matrix: a platform that gives credentials back in every place and form, at every action and by both doors, and a search
//! for them in everything that comes out of Keyholder or stays in it.
//!
//! The search (`search`) shares nothing with the scrub. Each cell first shows that the platform's raw answer held the secret.

mod encodings;
mod oauth;
mod places;
mod redirects;
mod search;

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, sync::Arc};

use domain::provider::{Action, Catalogue, Effect};
use keyholder::caller::Reply;
use sandbox::{EchoForm, EchoPlace, Quirk, Route, Scope, TokenKind};
use serde_json::{Map, Value, json};
use service::HealthOptions;
use sqlx::PgConnection;

use crate::{
    acts::parent,
    harness::{ACCOUNT, Entrusted, TestApp, home, ok},
    logs::{log, plain_word},
};
use encodings::ENCODINGS;
use places::{Sweep, stored, sweep};
pub(crate) use search::{Secret, Seeker};

/// The two ways to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Acts,
    Proxy,
}

/// How the platform echoes: place, form, and whether in pieces of one byte.
type Mode = (EchoPlace, EchoForm, bool);

/// All modes. In pieces come those whose echo is in the body.
fn modes() -> Vec<Mode> {
    let mut modes = Vec::new();
    for place in EchoPlace::ALL {
        modes.extend(EchoForm::ALL.map(|form| (place, form, false)));
        if !place.is_header() {
            modes.extend(EchoForm::ALL.map(|form| (place, form, true)));
        }
    }
    modes
}

/// Every action of X's provider file: one that is added to it is tried without a word here.
fn actions() -> Vec<Arc<Action>> {
    let catalogue = Catalogue::embedded().unwrap();
    catalogue.get("x").unwrap().actions().cloned().collect()
}

/// An input that the action takes, by its own rules: of the values that there are for a field, the first that has no fault.
fn input(action: &Arc<Action>, id: &str, word: &str) -> Value {
    let candidates = [json!(id), json!(word), json!(1), json!(true), json!([id]), json!([word])];
    let mut input = Map::new();
    for (name, field) in action.input.iter().filter(|(_, field)| field.required) {
        let fits = |value: &Value| {
            let alone = json!({ (name.as_str()): value });
            let faults = action.validate(&alone).err().unwrap_or_default();
            !faults.iter().any(|fault| fault.pointer.ends_with(&format!("/{name}")))
        };
        let words_first = candidates.iter().skip(usize::from(field.content)).chain(&candidates);
        let value = words_first.into_iter().find(|value| fits(value));
        input.insert(name.clone(), value.unwrap_or_else(|| panic!("no value for {name} of {}", action.name)).clone());
    }
    Value::Object(input)
}

/// One act by a door, the same again under the same key.
async fn request(entrusted: &Entrusted, door: Door, action: &Arc<Action>, input: &Value, key: &str) -> Reply {
    if door == Door::Acts {
        return entrusted.act(&action.name, input, Some(key)).await;
    }
    let rendered = action.validate(input).unwrap().render();
    let body = rendered.body.map(|body| serde_json::from_slice::<Value>(&body).unwrap());
    let method = rendered.method.as_str().parse().unwrap();
    entrusted.proxy(method, &rendered.path_and_query, body.as_ref(), Some(key)).await
}

/// A reply as it stands on the wire.
pub(crate) fn wire(reply: &Reply) -> Vec<u8> {
    let mut wire = format!("{}\r\n", reply.status).into_bytes();
    for (name, value) in &reply.headers {
        wire.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    wire.extend_from_slice(&reply.body);
    wire
}

/// The tokens of an account at the platform, and what only the platform and Keyholder share.
fn foreign(app: &TestApp, accounts: &[&str]) -> Vec<Secret> {
    let mut secrets = vec![
        Secret::new("the client's secret", app.secret.as_bytes()),
        Secret::new("the root key", home().keys().root_key()),
    ];
    for account in accounts {
        for token in app.sandbox.platform().tokens(account) {
            let kind = if token.kind == TokenKind::Access { "access" } else { "refresh" };
            let age = if token.live { "live" } else { "old" };
            secrets.push(Secret::new(&format!("{account}'s {age} {kind} token"), token.text));
        }
    }
    secrets
}

/// What a caller was told once, and must be kept nowhere.
fn told(app: &TestApp, agents: &[&Entrusted]) -> Vec<Secret> {
    let mut secrets = vec![Secret::new("the admin's key", app.first.text.as_str())];
    secrets.extend(agents.iter().map(|it| Secret::new("an agent's key", it.agent.key().unwrap())));
    for group in ["app", "ledger", "lookup", "loader"] {
        let url = home().keys().url(group, &app.database);
        let login = url.split_once("://").unwrap().1.split_once('@').unwrap().0.to_owned();
        secrets.push(Secret::new("a login's password", login.split_once(':').unwrap().1));
    }
    secrets
}

/// In how many modes the platform's answer held a credential, and in how many anything of it came out.
#[derive(Default)]
struct Cell {
    inside: usize,
    outside: usize,
}

/// A line straight to standard output, which shows the table also where the test passes.
fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").unwrap();
}

fn table(title: &str, cells: &BTreeMap<(String, String), Cell>) -> String {
    let mut columns: Vec<_> = cells.keys().map(|(_, column)| column.clone()).collect();
    columns.sort();
    columns.dedup();
    let mut rows: Vec<_> = cells.keys().map(|(row, _)| row.clone()).collect();
    rows.dedup();
    let mut text =
        format!("{title}: answers at the platform that held a secret / what came out of Keyholder\n{:24}", "");
    for column in &columns {
        write!(text, "{column:>16}").unwrap();
    }
    for row in rows {
        write!(text, "\n{row:24}").unwrap();
        for column in &columns {
            let cell = cells.get(&(row.clone(), column.clone()));
            let shown = cell.map_or_else(|| "-".to_owned(), |cell| format!("{}/{}", cell.inside, cell.outside));
            write!(text, "{shown:>16}").unwrap();
        }
    }
    text
}

/// A running matrix of one door.
struct Matrix {
    app: TestApp,
    entrusted: Entrusted,
    parent: String,
    door: Door,
}

impl Matrix {
    /// A server whose platform keeps its answers, and a connection that has been refreshed: so there are old tokens and new ones.
    async fn start(door: Door) -> Self {
        let metrics = keyholder::telemetry::metrics().unwrap();
        let app = TestApp::start_with(|options| {
            options.render_metrics = Arc::new(move || metrics.render());
            // Hundreds of error pages in a row are the matter here.
            options.health = HealthOptions::never_opening();
        })
        .await;
        let names: Vec<_> = actions().iter().map(|action| action.name.clone()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let platform = app.sandbox.platform();
        let entrusted = app.entrust(&names, json!([])).await;
        app.age("55 seconds").await;
        ok(entrusted.act("profile.read", &json!({}), None).await, 200);
        assert_eq!(platform.refreshes(), 1, "the credential was about to expire, and was refreshed");
        platform.keep_answers(1);
        Self { parent: parent(&app), app, entrusted, door }
    }

    /// One action in one mode: how many secrets the platform's answer held, and which came out.
    async fn cell(&self, action: &Arc<Action>, mode: Mode, seeker: &Seeker, key: &str) -> (usize, Vec<String>) {
        let platform = self.app.sandbox.platform();
        // What is written over or deleted must be the account's own.
        let own = if action.effect == Effect::Write { platform.post_as(ACCOUNT, key) } else { None };
        let input = input(action, own.as_ref().map_or(&self.parent, |post| &post.id), key);
        let (place, form, piecewise) = mode;
        platform.switch(Quirk::EchoAuthorization { place, form, piecewise }, Scope::once(Route::Api)).unwrap();
        let fired = platform.fired();
        let first = request(&self.entrusted, self.door, action, &input, key).await;
        assert_eq!(platform.fired(), fired + 1, "{mode:?} {}: {first:?}", action.name);
        let answered = platform.last_answer().unwrap();
        assert!(answered.compressed.is_some() == place.is_compressed());
        let inside = seeker.find(&answered.text()).len();
        let again = request(&self.entrusted, self.door, action, &input, key).await;
        assert_eq!(platform.fired(), fired + 1, "what is asked again is not sent again");
        assert_eq!(again.header("idempotency-replayed") == "true", !place.is_compressed(), "{mode:?}: {again:?}");
        let out = [wire(&first), wire(&again)];
        (inside, out.iter().flat_map(|it| seeker.find(it)).map(str::to_owned).collect())
    }

    async fn run(&self) -> (BTreeMap<(String, String), Cell>, Vec<String>) {
        let seeker = Seeker::new(&foreign(&self.app, &[ACCOUNT]));
        let (mut cells, mut leaks, mut number) = (BTreeMap::<_, Cell>::new(), Vec::new(), 0);
        for action in actions() {
            for mode in modes() {
                number += 1;
                let (inside, out) = self.cell(&action, mode, &seeker, &format!("{:?}-{number}", self.door)).await;
                let cell = cells.entry((action.name.clone(), format!("{:?}", mode.0))).or_default();
                cell.inside += usize::from(inside > 0);
                cell.outside += usize::from(!out.is_empty());
                if !out.is_empty() {
                    leaks.push(format!("{} {mode:?}: {out:?}", action.name));
                }
            }
        }
        (cells, leaks)
    }
}

async fn matrix(door: Door) {
    let lines = log().capture(4_000_000);
    let matrix = Matrix::start(door).await;
    let (cells, leaks) = matrix.run().await;
    say(&table(&format!("leak matrix, {door:?}"), &cells));

    let Matrix { app, entrusted, .. } = matrix;
    let foreign = foreign(&app, &[ACCOUNT]);
    let both_ages = |kind: &str| foreign.iter().filter(|secret| secret.name.ends_with(kind)).count() >= 2;
    assert!(both_ages("access token") && both_ages("refresh token"));
    let all = [foreign.clone(), told(&app, &[&entrusted])].concat();
    let sweep = sweep(&app, &lines, &Seeker::new(&foreign), &Seeker::new(&all), &[&entrusted.agent]).await;
    say(&format!("looked at, {door:?}: {:?}", sweep.looked));

    // Every cell was run, and in each the platform did give the credential back.
    assert_eq!(cells.len(), actions().len() * 11, "a cell was not run");
    for ((action, place), cell) in &cells {
        let in_header = ["EntityTag", "ErrorHeader", "Header", "Location", "SetCookie"].contains(&place.as_str());
        assert_eq!(cell.inside, if in_header { 18 } else { 36 }, "{action} {place}: the platform did not echo");
    }
    assert_eq!((leaks, &sweep.found), (Vec::new(), &Vec::new()), "{:?}", sweep.looked);
    sweep.assert_clean();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_comes_out_of_an_act_by_name() {
    Box::pin(matrix(Door::Acts)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_comes_out_of_an_act_by_the_proxy() {
    Box::pin(matrix(Door::Proxy)).await;
}

#[test]
fn the_search_finds_a_secret_in_every_encoding_and_nothing_where_there_is_none() {
    let secret = "q7_Zw-3xN/vR.k~T9+eLmB2=pYhC5uGs";
    let seeker = Seeker::new(&[Secret::new("it", secret), Secret::new("another", "0123456789abcdefghij")]);
    for (name, write) in ENCODINGS {
        let text = format!("{{\"said\": \"{}\"}}", write(secret));
        assert_eq!(seeker.find(text.as_bytes()).into_iter().collect::<Vec<_>>(), ["it"], "{name}: {text}");
        // A part is a leak as well, unless it is too short to be of use.
        let part = format!("<{}>", write(&secret[5..28]));
        assert_eq!(seeker.find(part.as_bytes()).len(), 1, "a part, {name}: {part}");
        let crumb = write(&secret[5..15]);
        assert_eq!(seeker.find(crumb.as_bytes()).len(), 0, "a crumb, {name}: {crumb}");
    }
}

/// Plants a word in a table that no migration knows, in every encoding, as text and as bytes.
async fn plant(owner: &mut PgConnection, word: &str) {
    sqlx::query("create table keyholder.planted (name text, as_text text, as_bytes bytea)")
        .execute(&mut *owner)
        .await
        .unwrap();
    for (name, write) in ENCODINGS {
        for (text, bytes) in [(Some(write(word)), None), (None, Some(write(word).into_bytes()))] {
            let row = sqlx::query("insert into keyholder.planted values ($1, $2, $3)");
            row.bind(name).bind(text).bind(bytes).execute(&mut *owner).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_in_a_row_or_a_line_is_found_in_every_encoding() {
    let lines = log().capture(4_000_000);
    let app = TestApp::start().await;
    // A word that the log's redaction lets pass: the question is whether the search sees.
    let word = plain_word("planted for the search");
    let seeker = Seeker::new(&[Secret::new("it", &word)]);
    let mut owner = app.owner().await;
    let before = stored(&mut owner).await;
    assert!(before.len() > 20 && before.iter().all(|(_, value)| seeker.find(value).is_empty()));

    plant(&mut owner, &word).await;
    let rows = stored(&mut owner).await;
    let found = |column: &str| {
        let of_column = rows.iter().filter(|(name, _)| name == column);
        of_column.filter(|(_, value)| !seeker.find(value).is_empty()).count()
    };
    assert_eq!((found("planted.as_text"), found("planted.as_bytes")), (ENCODINGS.len(), ENCODINGS.len()));
    let mut sweep = Sweep::default();
    sweep.look("tables", &seeker, rows.iter().map(|(_, value)| value));
    assert_eq!(sweep.found, ["it in tables"]);

    for (name, write) in ENCODINGS {
        tracing::info!(note = write(&word), encoding = name, "planted");
    }
    let lines = lines.lines();
    let planted = |name: &str| {
        lines.iter().find(|line| line.contains("\"planted\"") && line.contains(&format!("\"encoding\":\"{name}\"")))
    };
    let seen = ENCODINGS.iter().filter(|(name, _)| !seeker.find(planted(name).unwrap().as_bytes()).is_empty());
    let redacted = ENCODINGS.iter().filter(|(name, _)| planted(name).unwrap().contains("[redacted"));
    let (seen, redacted) = (seen.count(), redacted.count());
    assert!(!seeker.find(planted("plain").unwrap().as_bytes()).is_empty(), "the search is blind");
    assert_eq!(seen + redacted, ENCODINGS.len(), "a line holds it in an encoding that is not found");
    sqlx::query("drop table keyholder.planted").execute(&mut owner).await.unwrap();
    app.stop().await;
}
