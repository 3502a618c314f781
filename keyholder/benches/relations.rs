//! Checks of a store of a million tuples in the database, beside checks of ten thousand in memory, in one run.
//!
//! `cargo bench --workspace --bench relations -- --json`: seeds a store, asks once so that the pages are warm, then asks again and says how
//! the times are spread: of the whole question (permit, revision, pages, answer) and of the engine alone on a small snapshot. Prints one
//! line. `--tuples N`, `--questions N`.

#[expect(dead_code, reason = "what entrusts an account is for other measurements")]
mod grounds;

use std::{
    error::Error,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use domain::{
    clock::Clock,
    id::{Id, RelationModelId, RelationStoreId},
    principal::Principal,
};
use keyholder::{
    cluster::{Binaries, ClusterOptions, Download},
    home::INSTALLATION,
    local::{Local, LocalOptions},
};
use relation::{
    Relationship, Schema, Snapshot, check, language,
    query::{Brought, CheckRequest, Limits},
};
use serde_json::json;
use service::{
    App,
    fga::{Answer, Asked, Check, Question},
    step::Hook,
};
use sqlx::PgPool;

use grounds::{Outcome, postgres_bin, search_path};

const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member]
type folder
  relations
    define parent: [folder]
    define viewer: [user, team#member] or viewer from parent
type document
  relations
    define blocked: [user]
    define editor: [user, team#member]
    define parent: [folder]
    define viewer: ([user] or editor or viewer from parent) but not blocked
";

/// Of a thousand tuples: users in teams, teams on folders, folders in folders, documents in folders with editors, viewers and who is kept out.
const SEED: &str = "
with sizes as (select $3::bigint as all_of_them, $3::bigint / 1000 as teams, $3::bigint / 50 as folders, ($3::bigint * 28) / 100 as documents),
  rows as (
    select 'team:' || t as object, 'member' as relation, 'user:' || (hashint8extended(t, u) & 65535) as subject
      from sizes, generate_series(0, teams - 1) t, generate_series(1, 20) u
    union select 'folder:' || f, 'viewer', 'team:' || ((hashint8extended(f, 1) & 2147483647) % teams) || '#member'
      from sizes, generate_series(0, folders - 1) f
    union select 'folder:' || f, 'parent', 'folder:' || (f / 4) from sizes, generate_series(1, folders - 1) f
    union select 'document:' || d, 'parent', 'folder:' || ((hashint8extended(d, 2) & 2147483647) % folders)
      from sizes, generate_series(0, documents - 1) d
    union select 'document:' || d, 'editor', 'user:' || (hashint8extended(d, 3) & 65535) from sizes, generate_series(0, documents - 1) d
    union select 'document:' || d, 'viewer', 'user:' || (hashint8extended(d, 4) & 65535) from sizes, generate_series(0, documents - 1) d
    union select 'document:' || d, 'blocked', 'user:' || (hashint8extended(d, 5) & 65535)
      from sizes, generate_series(0, documents - 1, 3) d)
insert into keyholder.fga_tuples (workspace_id, store_id, object, relation, is_userset, subject, written_at)
  select $1, $2, object, relation, strpos(subject, '#') > 0, subject, now() from rows";

struct Wishes {
    tuples: i64,
    questions: usize,
    json: bool,
}

impl Wishes {
    fn read() -> Outcome<Self> {
        let mut wishes = Self { tuples: 1_000_000, questions: 2_000, json: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--tuples" => wishes.tuples = words.next().ok_or("a number is missing")?.parse()?,
                "--questions" => wishes.questions = words.next().ok_or("a number is missing")?.parse()?,
                "--json" => wishes.json = true,
                // What cargo itself hands to a bench.
                "--bench" => {}
                other => return Err(format!("{other} is not known").into()),
            }
        }
        Ok(wishes)
    }
}

fn main() -> Outcome<()> {
    let _set_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let wishes = Wishes::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(wishes))
}

/// How times are spread, in microseconds.
struct Spread {
    half_us: f64,
    most_us: f64,
}

impl Spread {
    /// One in two, and one in a hundred, takes at least that long.
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |of: usize| times.get((times.len() * of / 100).min(times.len().saturating_sub(1)));
        let us = |of: usize| at(of).map_or(0.0, |time| time.as_secs_f64() * 1e6);
        Self { half_us: us(50), most_us: us(99) }
    }
}

/// A store in the database, and who asks it.
struct Seeded<'a> {
    app: &'a App,
    admin: Principal,
    store: RelationStoreId,
    model: RelationModelId,
    documents: i64,
}

async fn measure(wishes: Wishes) -> Outcome<()> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let cluster = ClusterOptions {
        download: Download::Allowed,
        search_path: search_path(),
        binaries: Binaries::from_setting(postgres_bin().as_deref()),
        ..ClusterOptions::new(PathBuf::from(env!("CARGO_BIN_EXE_keyholder")), cache)
    };
    let render_metrics = std::sync::Arc::new(String::new);
    let options = LocalOptions { state: None, cluster, port: 0, preset: None, hook: Hook::default(), render_metrics };
    let local = Box::pin(Local::start(options)).await?;
    let first = local.create_workspace("Acme").await?;
    let app = local.instance().app();
    let owner = PgPool::connect(&local.home().owner_url(INSTALLATION)).await?;
    let admin = Principal::api_key(first.key, first.workspace, app.clock.now());
    let seeded = seed(app, &owner, admin, wishes.tuples).await?;
    let clock = Clock::system();
    let cold = Spread::of(ask_all(&seeded, &clock, wishes.questions).await?);
    let warm = Spread::of(ask_all(&seeded, &clock, wishes.questions).await?);
    let memory = Spread::of(in_memory(&clock, wishes.questions)?);
    owner.close().await;
    local.stop().await?;
    let line = json!({
        "tuples": wishes.tuples,
        "questions": wishes.questions,
        "database_cold_us": { "p50": cold.half_us, "p99": cold.most_us },
        "database_warm_us": { "p50": warm.half_us, "p99": warm.most_us },
        "snapshot_of_10000_us": { "p50": memory.half_us, "p99": memory.most_us },
        "warm_p99_over_snapshot_p99": warm.most_us / memory.most_us.max(0.001),
    });
    let mut out = std::io::stdout().lock();
    if wishes.json {
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{line:#}")?;
    }
    Ok(())
}

async fn seed<'a>(app: &'a App, owner: &PgPool, admin: Principal, tuples: i64) -> Outcome<Seeded<'a>> {
    let store = service::fga::create(app, &admin, "a measurement").await?.id;
    let model = language::read_model(MODEL).map_err(|faults| format!("{faults:?}"))?.to_json();
    let model = service::fga::write_model(app, &admin, store, model).await?;
    let workspace = admin.workspace().ok_or("a key without a workspace")?.uuid();
    let seeded = sqlx::query(SEED).bind(workspace).bind(store.uuid()).bind(tuples).execute(owner).await?;
    sqlx::query("update keyholder.fga_stores set tuples = $2, revision = revision + 1 where id = $1")
        .bind(store.uuid())
        .bind(i64::try_from(seeded.rows_affected())?)
        .execute(owner)
        .await?;
    sqlx::query("analyze keyholder.fga_tuples").execute(owner).await?;
    Ok(Seeded { app, admin, store, model, documents: tuples * 28 / 100 })
}

/// Numbers that look like chance and are the same every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self, of: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        i64::try_from(self.0 >> 1).unwrap_or(0) % of.max(1)
    }
}

/// Asks one question after another, each the way that a request goes but for HTTP.
async fn ask_all(
    seeded: &Seeded<'_>,
    clock: &Clock,
    questions: usize,
) -> Result<Vec<Duration>, Box<dyn Error + Send + Sync>> {
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let mut times = Vec::with_capacity(questions);
    for _ in 0..questions {
        let (document, user) = (chance.next(seeded.documents), chance.next(65_536));
        let of = Relationship::new(format!("document:{document}"), "viewer", format!("user:{user}"));
        let question = Question::Check(Check { of, contextual: Vec::new(), context: None });
        let asked = Asked { store: seeded.store, model: Some(seeded.model), question };
        let began = clock.since_boot();
        let (answer, _) = service::fga::ask(seeded.app, &seeded.admin, asked).await?;
        times.push(clock.since_boot().saturating_sub(began));
        if !matches!(answer, Answer::Allowed(_)) {
            return Err("another answer than to a check".into());
        }
    }
    Ok(times)
}

/// The engine alone, on ten thousand tuples of the same shape.
fn in_memory(clock: &Clock, questions: usize) -> Outcome<Vec<Duration>> {
    let schema = Schema::new(language::read_model(MODEL).map_err(|faults| format!("{faults:?}"))?);
    let schema = schema.map_err(|faults| format!("{faults:?}"))?;
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let mut tuples = Vec::new();
    for team in 0..10 {
        tuples.extend(
            (0..20).map(|_| Relationship::new(format!("team:{team}"), "member", format!("user:{}", chance.next(655)))),
        );
    }
    for folder in 0..200 {
        let name = format!("folder:{folder}");
        tuples.push(Relationship::new(&name, "viewer", format!("team:{}#member", chance.next(10))));
        if folder > 0 {
            tuples.push(Relationship::new(&name, "parent", format!("folder:{}", folder / 4)));
        }
    }
    for document in 0..2_800 {
        let name = format!("document:{document}");
        tuples.push(Relationship::new(&name, "parent", format!("folder:{}", chance.next(200))));
        tuples.push(Relationship::new(&name, "editor", format!("user:{}", chance.next(655))));
        tuples.push(Relationship::new(&name, "viewer", format!("user:{}", chance.next(655))));
        if document % 3 == 0 {
            tuples.push(Relationship::new(&name, "blocked", format!("user:{}", chance.next(655))));
        }
    }
    let snapshot = Snapshot::new(&tuples)?;
    let mut times = Vec::with_capacity(questions);
    for _ in 0..questions {
        let (object, user) = (format!("document:{}", chance.next(2_800)), format!("user:{}", chance.next(655)));
        let request = CheckRequest { object: &object, relation: "viewer", user: &user, brought: Brought::default() };
        let began = clock.since_boot();
        let allowed = check(&schema, &snapshot, std::hint::black_box(request), &Limits::default())?;
        std::hint::black_box(allowed);
        times.push(clock.since_boot().saturating_sub(began));
    }
    Ok(times)
}
