//! The engine by itself: checks, lists, a snapshot's making, a model's reading.
//!
//! `cargo bench -p keyholder-relation --bench relation`. Before the table it says how single checks are spread: one in two, and one in
//! a hundred, takes at least that long.

use std::{
    io::Write as _,
    sync::LazyLock,
    time::{Duration, Instant},
};

use divan::{Bencher, black_box};
use keyholder_relation::{
    Relationship, Schema, Snapshot, batch_check, check, language, list_objects, list_users,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, ListUsersRequest},
};

const MODEL: &str = "model
  schema 1.1

type user

type team
  relations
    define member: [user, team#member]

type folder
  relations
    define owner: [user, team#member]
    define parent: [folder]
    define viewer: [user, user:*, team#member] or owner or viewer from parent

type document
  relations
    define blocked: [user]
    define editor: [user, team#member]
    define parent: [folder]
    define viewer: ([user, user with in_hours] or editor or viewer from parent) but not blocked

condition in_hours(now: timestamp, from: int, to: int) {
  now.getHours() >= from && now.getHours() < to
}
";

const USERS: usize = 500;
const TEAMS: usize = 50;
const FOLDERS: usize = 200;
const DOCUMENTS: usize = 2_500;

struct Stage {
    schema: Schema,
    tuples: Vec<Relationship>,
    snapshot: Snapshot,
    /// Object, relation, user.
    questions: Vec<(String, &'static str, String)>,
}

/// Numbers that look like chance and are the same every time.
fn chance(of: usize) -> usize {
    use std::cell::Cell;
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0x9E37_79B9_7F4A_7C15) });
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        usize::try_from(x % of as u64).unwrap_or(0)
    })
}

#[expect(clippy::expect_used, reason = "without its stage there is nothing to measure")]
static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let schema = Schema::new(language::read_model(MODEL).expect("a model")).expect("a schema");
    let mut tuples = Vec::new();
    let user = || format!("user:{}", chance(USERS));
    for team in 0..TEAMS {
        tuples.extend((0..20).map(|_| Relationship::new(format!("team:{team}"), "member", user())));
        tuples.push(Relationship::new(format!("team:{team}"), "member", format!("team:{}#member", chance(TEAMS))));
    }
    for folder in 0..FOLDERS {
        let name = format!("folder:{folder}");
        if folder > 0 {
            tuples.push(Relationship::new(&name, "parent", format!("folder:{}", chance(folder))));
        }
        tuples.push(Relationship::new(&name, "viewer", format!("team:{}#member", chance(TEAMS))));
        tuples.push(Relationship::new(&name, "owner", user()));
    }
    for document in 0..DOCUMENTS {
        let name = format!("document:{document}");
        tuples.push(Relationship::new(&name, "parent", format!("folder:{}", chance(FOLDERS))));
        tuples.push(Relationship::new(&name, "editor", user()));
        tuples.push(Relationship::new(&name, "viewer", user()));
        if document % 3 == 0 {
            tuples.push(Relationship::new(&name, "blocked", user()));
        }
    }
    let snapshot = Snapshot::new(&tuples).expect("a snapshot");
    let questions = (0..4_096).map(|_| (format!("document:{}", chance(DOCUMENTS)), "viewer", user())).collect();
    Stage { schema, tuples, snapshot, questions }
});

/// Ten thousand objects of which a user sees some by a team and some by himself.
static MANY: LazyLock<(Schema, Snapshot)> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "without its stage there is nothing to measure")]
    let schema = Schema::new(language::read_model(MODEL).expect("a model")).expect("a schema");
    let mut tuples = vec![Relationship::new("team:1", "member", "user:1")];
    for document in 0..10_000 {
        let user = if document % 2 == 0 { "team:1#member" } else { "user:1" };
        tuples.push(Relationship::new(format!("document:{document}"), "editor", user));
    }
    (schema, Snapshot::new(&tuples).unwrap_or_default())
});

fn question(at: usize) -> Option<CheckRequest<'static>> {
    let (object, relation, user) = STAGE.questions.get(at % STAGE.questions.len())?;
    Some(CheckRequest { object, relation, user, brought: Brought::default() })
}

fn ask(request: CheckRequest<'_>) -> bool {
    check(&STAGE.schema, &STAGE.snapshot, black_box(request), &Limits::default()).unwrap_or(false)
}

#[divan::bench]
fn check_of_a_document(bencher: Bencher) {
    let mut at = 0;
    bencher
        .with_inputs(|| {
            at += 1;
            at
        })
        .bench_local_values(|at| question(at).is_some_and(ask));
}

#[divan::bench]
fn check_of_what_is_written(bencher: Bencher) {
    let request =
        CheckRequest { object: "team:1", relation: "member", user: "user:nobody", brought: Brought::default() };
    bencher.bench(|| ask(request));
}

#[divan::bench]
fn batch_of_ten_with_an_exclusion(bencher: Bencher) {
    let batch: Vec<CheckRequest<'_>> = (0..10).filter_map(question).collect();
    bencher.bench(|| {
        batch_check(&STAGE.schema, &STAGE.snapshot, black_box(&batch), &Limits::default()).map(|all| all.len())
    });
}

#[divan::bench]
fn list_of_10_000_objects_surely(bencher: Bencher) {
    let request =
        ListObjectsRequest { object_type: "document", relation: "editor", user: "user:1", brought: Brought::default() };
    let limits = Limits { results: 20_000, ..Limits::default() };
    bencher.bench(|| list_objects(&MANY.0, &MANY.1, black_box(request), &limits).map(|all| all.len()));
}

#[divan::bench]
fn list_of_10_000_objects_each_checked(bencher: Bencher) {
    let request =
        ListObjectsRequest { object_type: "document", relation: "viewer", user: "user:1", brought: Brought::default() };
    let limits = Limits { results: 20_000, ..Limits::default() };
    bencher.bench(|| list_objects(&MANY.0, &MANY.1, black_box(request), &limits).map(|all| all.len()));
}

#[divan::bench]
fn list_of_users(bencher: Bencher) {
    let request = ListUsersRequest {
        object: "document:7",
        relation: "viewer",
        user_type: "user",
        user_relation: None,
        brought: Brought::default(),
    };
    bencher.bench(|| {
        list_users(&STAGE.schema, &STAGE.snapshot, black_box(request), &Limits::default()).map(|all| all.len())
    });
}

#[divan::bench]
fn snapshot_of_10_000_tuples(bencher: Bencher) {
    bencher.bench(|| Snapshot::new(black_box(&STAGE.tuples)).map(|snapshot| snapshot.len()));
}

#[divan::bench]
fn model_read() -> bool {
    language::read_model(black_box(MODEL)).is_ok()
}

/// How single checks are spread.
fn spread() -> std::io::Result<()> {
    let mut times: Vec<Duration> = (0..50_000)
        .filter_map(question)
        .map(|request| {
            #[expect(clippy::disallowed_methods, reason = "a measurement")]
            let begin = Instant::now();
            black_box(ask(request));
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    let yes = STAGE.questions.iter().enumerate().filter(|(at, _)| question(*at).is_some_and(ask)).count();
    writeln!(
        std::io::stdout(),
        "check on {} tuples ({} bytes each): p50 {:?}, p99 {:?}, {yes} of {} yes",
        STAGE.snapshot.len(),
        STAGE.snapshot.bytes() / STAGE.snapshot.len().max(1),
        at(50),
        at(99),
        STAGE.questions.len(),
    )
}

fn main() -> std::io::Result<()> {
    spread()?;
    divan::main();
    Ok(())
}
