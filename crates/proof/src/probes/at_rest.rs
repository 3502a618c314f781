//! Credentials at rest: how tokens lie in the database and in what was written on the way there, and what a thief makes of a copy.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use domain::random;
use sandbox::{Call, Quirk, Route, Scope, TokenKind};
use serde_json::json;

use crate::{
    database::Session,
    dump::{self, Cell, LogPlace},
    entrusted::Entrusted,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{come_home, expect},
    probe::{Attack, Probe},
    search::Needle,
    unsealing::{self, Environment, Key, SealedField},
};

/// Whether tokens lie in the database as Fernet, and in no other form.
pub(super) const FERNET_AT_REST: Probe = Probe {
    name: "fernet-at-rest",
    points: &["fernet-at-rest"],
    tries: "a token in the database, or in its log, in any form but Fernet's",
    attack: Attack::Rehearsed(|ground| Box::pin(at_rest(ground, &FERNET))),
};

/// Whether tokens lie in the database sealed with AES-256-GCM, each on its own.
pub(super) const SEALED_AT_REST: Probe = Probe {
    name: "sealed-at-rest",
    points: &["sealed-at-rest"],
    tries: "a token in the database, or in its log, that is not sealed with AES-256-GCM, or not on its own",
    attack: Attack::Rehearsed(|ground| Box::pin(at_rest(ground, &AES_256_GCM))),
};

/// Whether a copy of the database opens a credential.
pub(super) const STOLEN_DATABASE: Probe = Probe {
    name: "stolen-database",
    points: &["stolen-database"],
    tries: "a credential from a full copy of the database, with every key that is in it",
    attack: Attack::Rehearsed(|ground| Box::pin(stolen_database(ground))),
};

/// Whether a token is sealed before anything is written.
pub(super) const SEALED_ON_RECEIPT: Probe = Probe {
    name: "sealed-on-receipt",
    points: &["sealed-on-receipt"],
    tries: "a token in what is written first when it was received: a file, a row, the database's log, the program's",
    attack: Attack::Rehearsed(|ground| Box::pin(sealed_on_receipt(ground))),
};

/// A form in which credentials are to lie.
struct Form {
    name: &'static str,
    account: &'static str,
    begins: &'static [u8],
}

const FERNET: Form = Form { name: "Fernet", account: "probe_fernet", begins: unsealing::FERNET };
const AES_256_GCM: Form = Form { name: "AES-256-GCM", account: "probe_sealed", begins: &[unsealing::FORM] };

/// The way of a token through the database, watched from its first write on.
struct Watched {
    owner: Session,
    from: LogPlace,
    canary: String,
}

impl Watched {
    async fn begin(ground: &Ground) -> Result<Self, Failure> {
        let owner = ground.owner().await?;
        let from = dump::log_end(&owner).await?;
        Ok(Self { owner, from, canary: format!("canary {}", random::token()) })
    }

    /// Plants a canary where a token would lie, reads everything, finds the canary, and looks for the tokens.
    async fn end(
        &self,
        entrusted: &Entrusted,
        needles: &[Needle],
        evidence: &mut Evidence,
    ) -> Result<Vec<Cell>, Failure> {
        let label = json!({ "label": self.canary, "role": "service" });
        expect(&entrusted.workspace.admin.post("/v1/api-keys", &label).await?, 201)?;
        let (cells, log) = (dump::every_cell(&self.owner).await?, dump::log_since(&self.owner, &self.from).await?);
        let canary = Needle::new("the canary", &self.canary);
        if !cells.iter().any(|cell| canary.within(&cell.bytes).is_some()) || canary.within(&log).is_none() {
            return Err(Failure::unproven("the canary was not found where it was planted: the search is blind"));
        }
        for needle in needles {
            if let Some(form) = needle.within(&log) {
                let obtained = json!({ "sha256": needle.sha256, "in": "the write-ahead log", "form": form });
                return Err(Failure::broken(format!("{} is in the database's log, {form}", needle.name), obtained));
            }
            not_in(&cells, needle)?;
        }
        let looked = format!("{} values of the tables, {} bytes of the log", cells.len(), log.len());
        evidence.saw(format!("{} tokens looked for, and the canary found", needles.len()), &self.canary, looked);
        Ok(cells)
    }
}

/// A secret is in no value of a copy.
pub(super) fn not_in(cells: &[Cell], needle: &Needle) -> Result<(), Failure> {
    let found = cells.iter().find_map(|cell| Some((cell, needle.within(&cell.bytes)?)));
    let Some((cell, form)) = found else { return Ok(()) };
    let obtained = json!({ "sha256": needle.sha256, "in": cell.place, "row": cell.row, "form": form });
    Err(Failure::broken(format!("{} is in {}, {form}", needle.name, cell.place), obtained))
}

/// The sealed fields of one connection.
async fn fields_of(owner: &Session, entrusted: &Entrusted) -> Result<Vec<SealedField>, Failure> {
    let id = connection_id(entrusted)?;
    let mut fields = unsealing::fields(owner).await?;
    fields.retain(|field| field.connection == id);
    if fields.len() == 2 {
        Ok(fields)
    } else {
        Err(Failure::unproven("an access and a refresh token were to be stored"))
    }
}

/// A connection's id as the database has it.
pub(super) fn connection_id(entrusted: &Entrusted) -> Result<uuid::Uuid, Failure> {
    use domain::id::{ConnectionId, Id};
    Ok(entrusted.connected.connection.parse::<ConnectionId>()?.uuid())
}

async fn at_rest(ground: &Ground, form: &Form) -> Outcome {
    let mut evidence = Evidence::new();
    let watched = Watched::begin(ground).await?;
    let entrusted = ground.entrust(form.account).await?;
    let mut fields = fields_of(&watched.owner, &entrusted).await?;
    let done = entrusted.post("with a token at rest").await?;
    evidence.saw("a post with the stored token", "post.create", done.to_string());
    entrusted.refresh(ground).await?;
    fields.extend(fields_of(&watched.owner, &entrusted).await?);

    let environment = Environment::open(ground.handover())?;
    let tokens = ground.platform().tokens(form.account);
    let mut nonces = BTreeSet::new();
    for field in &fields {
        let row = json!({ "connection": entrusted.connected.connection, "field": field.field, "bytes": field.sealed.len(),
            "begins": hex::encode(field.sealed.get(..4).unwrap_or_default()) });
        let secret = environment.read(field);
        let known = tokens.iter().find(|token| secret.as_deref() == Some(token.text.as_bytes()));
        let as_it_is = tokens.iter().find(|token| Needle::new("", &token.text).within(&field.sealed).is_some());
        if let Some(token) = as_it_is {
            let obtained = json!({ "sha256": sha256(token.text.as_bytes()), "row": row });
            return Err(Failure::broken(format!("the {} token is not sealed", field.field), obtained));
        }
        if !field.sealed.starts_with(form.begins) {
            return Err(Failure::broken(format!("the {} token is not stored as {}", field.field, form.name), row));
        }
        let Some(token) = known else {
            return Err(Failure::broken(format!("what is stored is no {} of the platform's token", form.name), row));
        };
        // A Fernet token is text, whose IV lies behind version and time; the other form has its nonce behind a byte.
        let (from, to) = if form.begins == unsealing::FERNET { (12, 34) } else { (1, 1 + unsealing::NONCE) };
        if !nonces.insert(field.sealed.get(from..to).unwrap_or_default().to_vec()) {
            return Err(Failure::broken("two values were sealed under one nonce", row));
        }
        let subject = if token.kind == TokenKind::Access { "access-tokens" } else { "refresh-tokens" };
        let words = format!("the {} token opens as {}, with keys that are not in the database", field.field, form.name);
        evidence.tried(subject, words, &field.sealed, sha256(token.text.as_bytes()));
    }
    watched.end(&entrusted, &ground.needles(form.account), &mut evidence).await?;
    Ok(evidence)
}

async fn stolen_database(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let entrusted = ground.entrust("probe_stolen").await?;
    let done = entrusted.post("before the theft").await?;
    evidence.saw("a post with the stored token", "post.create", done.to_string());
    let owner = ground.owner().await?;
    let (fields, cells) = (fields_of(&owner, &entrusted).await?, dump::every_cell(&owner).await?);
    for needle in ground.needles("probe_stolen") {
        not_in(&cells, &needle)?;
    }
    let keys = keys_in(&cells);
    for field in &fields {
        if let Some((key, secret)) = keys.iter().find_map(|key| Some((key, opened_with(field, key)?))) {
            let obtained = json!({ "secret_sha256": sha256(&secret), "field": field.field, "key_sha256": sha256(key) });
            return Err(Failure::broken("a key that is in the database opens a credential", obtained));
        }
        let tried = format!("{} token, {} keys out of the copy, as data key and as epoch key", field.field, keys.len());
        evidence.tried("sealed-values", tried, &field.sealed, "does not open");
    }
    // That nothing opened is worth something only where the reader of seals can open at all.
    let environment = Environment::open(ground.handover())?;
    for field in &fields {
        let Some(secret) = environment.read(field) else {
            return Err(Failure::unproven("the reader of seals opens nothing, even with the environment's keys"));
        };
        evidence.saw("with the environment it opens", &field.sealed, sha256(&secret));
    }
    let copy = cells.iter().flat_map(|cell| cell.bytes.iter().copied()).collect::<Vec<_>>();
    evidence.tried("database-copies", format!("a copy of {} values", cells.len()), sha256(&copy), "opens nothing");
    Ok(evidence)
}

/// What a field holds, if this is its data key, or the key under which that is wrapped.
fn opened_with(field: &SealedField, key: &Key) -> Option<Vec<u8>> {
    field.open(key).or_else(|| field.open(&field.unwrap(key)?))
}

/// Every run of 32 bytes in the copy, also where bytes are written as hexadecimal digits or in base64, of either alphabet.
pub(super) fn keys_in(cells: &[Cell]) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    for cell in cells {
        for text in written(&cell.bytes).iter().chain([&cell.bytes]) {
            keys.extend(text.windows(size_of::<Key>()).filter_map(|run| Key::try_from(run).ok()));
        }
    }
    keys
}

/// What is written in a text as digits or letters and long enough for a key, wherever it begins.
fn written(text: &[u8]) -> Vec<Vec<u8>> {
    // A key that stands within a longer run does not end where its last letter's bits do.
    let reader = GeneralPurpose::new(&alphabet::STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));
    let plain = text.iter().map(|letter| match letter {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    let plain: Vec<u8> = plain.collect();
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'+' | b'/');
    let mut written = Vec::new();
    for run in plain.split(|letter| !is_letter(*letter)) {
        for begins in 0..4 {
            let rest = run.get(begins..).filter(|rest| rest.len() >= 43).unwrap_or_default();
            let ends = if rest.len() % 4 == 1 { rest.len() - 1 } else { rest.len() };
            written.extend(rest.get(..ends).and_then(|rest| reader.decode(rest).ok()));
        }
        for digits in run.split(|letter| !letter.is_ascii_hexdigit()) {
            for begins in 0..2 {
                let rest = digits.get(begins..).filter(|rest| rest.len() >= 64).unwrap_or_default();
                written.extend(rest.get(..rest.len() & !1).and_then(|rest| hex::decode(rest).ok()));
            }
        }
    }
    written
}

async fn sealed_on_receipt(ground: &Ground) -> Outcome {
    const ACCOUNT: &str = "probe_receipt";
    let mut evidence = Evidence::new();
    let watched = Watched::begin(ground).await?;
    let workspace = ground.workspace(ACCOUNT).await?;
    let platform = ground.platform();
    platform.open_account(ACCOUNT, ACCOUNT);
    let actions = ["post.create", "profile.read"];
    let asked = ground.ask(&workspace.admin, &actions, &actions).await?;
    let back = platform.approve(&asked.authorize_url, ACCOUNT)?;
    // The tokens have come and the account is asked for: what lies on the disk now was written first.
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::ReadProfile)))?;
    let node = ground.node().await?;
    let spill = node.log.parent().unwrap_or(Path::new("/")).join("state").join("spill");
    // What lies there already is of other answers.
    let known: BTreeSet<PathBuf> = files_below(&spill).into_iter().map(|file| file.path).collect();
    let met = platform.fired();
    let (came_back, first) = tokio::join!(asked.browser.get(&back), async {
        let first = written_first(ground, &spill, (met, &known)).await;
        platform.clear();
        first
    });
    let (came_back, first) = (came_back?, first?);
    for Written { name, bytes, .. } in &first {
        for needle in ground.needles(ACCOUNT) {
            if let Some(form) = needle.within(bytes) {
                let obtained = json!({ "sha256": needle.sha256, "file": name, "form": form });
                return Err(Failure::broken(format!("{} was written as it came", needle.name), obtained));
            }
            evidence.tried(
                "received-tokens",
                format!("{} in the first file that was written", needle.name),
                name,
                bytes,
            );
        }
    }
    let connection = come_home(&workspace.admin, &came_back).await?;
    evidence.saw("the connection came about", &asked.authorize_url, &connection);
    let agent = ground.agent(&workspace.admin, &connection, &actions, &json!([])).await?;
    let connected = crate::owner::Connected {
        connection,
        account: ACCOUNT.to_owned(),
        page: asked.page.clone(),
        authorize_url: asked.authorize_url.clone(),
    };
    let entrusted = Entrusted { workspace, connected, agent };
    entrusted.refresh(ground).await?;
    let needles = ground.needles(ACCOUNT);
    let lines = node.log_text()?;
    for needle in &needles {
        if let Some(form) = needle.within(lines.as_bytes()) {
            let obtained = json!({ "sha256": needle.sha256, "in": "the log", "form": form });
            return Err(Failure::broken(format!("{} is in the log", needle.name), obtained));
        }
    }
    watched.end(&entrusted, &needles, &mut evidence).await?;
    for needle in &needles {
        evidence.tried(
            "received-tokens",
            format!("{} in the log, the tables, and their log", needle.name),
            &needle.sha256,
            "",
        );
    }
    Ok(evidence)
}

/// The files that a node has written of an answer that it is still settling, read while the platform holds the next one back.
async fn written_first(
    ground: &Ground,
    spill: &Path,
    (met, known): (u64, &BTreeSet<PathBuf>),
) -> Result<Vec<Written>, Failure> {
    for _ in 0..3_000 {
        // The account is asked for after the file was written: whoever meets the switch finds it.
        let asked = ground.platform().fired() > met;
        let mut files = files_below(spill);
        files.retain(|file| !known.contains(&file.path));
        if !files.is_empty() {
            return Ok(files);
        }
        if asked {
            return Err(Failure::unproven("no file was written before the platform was asked again"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(Failure::unproven("the tokens did not come"))
}

/// A file of an answer that a node is settling.
struct Written {
    name: String,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The files of the numbered folders of a state folder, but for their locks.
fn files_below(spill: &Path) -> Vec<Written> {
    let folders = std::fs::read_dir(spill).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let named = files.filter_map(|file| Some((file.file_name().into_string().ok()?, file.path())));
    named
        .filter(|(name, _)| name.starts_with("con_") && !name.contains(".new"))
        .filter_map(|(name, path)| Some(Written { bytes: std::fs::read(&path).ok()?, name, path }))
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn a_key_is_found_however_it_is_written_into_a_value() {
        let key: Key = std::array::from_fn(|at| u8::try_from((at * 7 + 200) % 256).unwrap());
        for text in [
            format!("{{\"key\":\"{}\"}}", STANDARD.encode(key)),
            format!("a.{}", URL_SAFE_NO_PAD.encode(key)),
            STANDARD.encode([&[1, 2][..], &key[..], &[3, 4, 5]].concat()),
            format!("\\x{}", hex::encode(key)),
            format!("at {}0f", hex::encode_upper([&[9][..], &key[..]].concat())),
        ] {
            let cell = Cell { place: String::new(), row: String::new(), bytes: text.clone().into_bytes() };
            assert!(keys_in(&[cell]).contains(&key), "{text}");
        }
        let raw = Cell { place: String::new(), row: String::new(), bytes: [&[0][..], &key[..]].concat() };
        assert!(keys_in(&[raw]).contains(&key));
    }
}
