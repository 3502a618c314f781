//! Budgets against a model: whatever is admitted, settled, given back, left open or carried over, the database's budgets are those of a
//! model that knows neither arrays nor locks.

use std::fmt::Write as _;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sqlx::{Connection, PgConnection, Row, types::Uuid};
use time::OffsetDateTime;

use crate::harness::TestApp;

/// The budgets of a sequence: two that begin with little, one that has much.
const BUDGETS: usize = 3;
/// What acts may take and report, and what budgets may allow.
const MOST: u64 = 12;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// Acts come in one batch; each takes units of some budgets.
    Admit(Vec<Vec<(usize, u64)>>),
    /// An act is answered, and this is what it used of the budgets of which its answer says so.
    Settle(usize, Vec<(usize, u64)>),
    /// An act was surely not sent.
    NotSent(usize),
    /// Nobody knows of an act.
    Ambiguous(usize),
    /// So many windows of a budget pass.
    Pass(usize, u64),
    /// A budget is set anew.
    SetCap(usize, u64),
}

fn units() -> impl Strategy<Value = Vec<(usize, u64)>> {
    // Each budget at most once, in any order.
    vec((0..BUDGETS, 1..=MOST), 1..=BUDGETS).prop_map(|mut units| {
        let mut seen = [false; BUDGETS];
        units.retain(|(budget, _)| !std::mem::replace(&mut seen[*budget], true));
        units
    })
}

fn step() -> impl Strategy<Value = Step> {
    let used = vec((0..BUDGETS, 0..=4 * MOST), 0..=BUDGETS).prop_map(|mut used| {
        let mut seen = [false; BUDGETS];
        used.retain(|(budget, _)| !std::mem::replace(&mut seen[*budget], true));
        used
    });
    prop_oneof![
        5 => vec(units(), 1..=3).prop_map(Step::Admit),
        4 => (any::<usize>(), used).prop_map(|(act, used)| Step::Settle(act, used)),
        2 => any::<usize>().prop_map(Step::NotSent),
        1 => any::<usize>().prop_map(Step::Ambiguous),
        4 => (0..BUDGETS, 1..=3_u64).prop_map(|(budget, windows)| Step::Pass(budget, windows)),
        1 => (0..BUDGETS, 0..=3 * MOST).prop_map(|(budget, cap)| Step::SetCap(budget, cap)),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Budget {
    cap: u64,
    used: u64,
    debt: u64,
    /// The window that it is in, and the one that it would be in if it were used now.
    window: u64,
    now: u64,
}

impl Budget {
    fn roll(&mut self) {
        while self.window < self.now {
            // Each window begins with what the one before it owes.
            self.used = self.debt;
            self.debt = self.used.saturating_sub(self.cap);
            self.window += 1;
        }
    }

    fn give_back(&mut self, units: u64, window: u64) {
        if window == self.window {
            self.used = self.used.saturating_sub(units);
            self.debt = self.debt.min(self.used.saturating_sub(self.cap));
        }
    }

    fn set_cap(&mut self, cap: u64) {
        self.cap = cap;
        self.debt = self.debt.min(self.used.saturating_sub(cap));
    }

    fn charge(&mut self, units: u64) {
        self.used += units;
        self.debt = (self.debt + units).min(self.used.saturating_sub(self.cap));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Admitted,
    Ambiguous,
    Ended,
}

struct Act {
    id: Uuid,
    state: State,
    /// Budget, units, window.
    held: Vec<(usize, u64, u64)>,
}

struct Model {
    budgets: [Budget; BUDGETS],
    acts: Vec<Act>,
}

impl Model {
    /// The verdicts of a batch: nothing for an act that was admitted, else the budget that was full.
    fn admit(&mut self, batch: &[(Uuid, Vec<(usize, u64)>)]) -> Vec<Option<usize>> {
        let mut rolled = self.budgets;
        for (_, units) in batch {
            for (budget, _) in units {
                rolled[*budget].roll();
            }
        }
        let mut verdicts = Vec::new();
        for (id, units) in batch {
            let full = units.iter().find(|(budget, units)| rolled[*budget].used + units > rolled[*budget].cap);
            verdicts.push(full.map(|(budget, _)| *budget));
            if full.is_none() {
                let mut held = Vec::new();
                for (budget, units) in units {
                    rolled[*budget].used += units;
                    held.push((*budget, *units, rolled[*budget].window));
                }
                self.acts.push(Act { id: *id, state: State::Admitted, held });
            }
        }
        // Where nothing was admitted, nothing was written.
        if verdicts.contains(&None) {
            self.budgets = rolled;
        }
        verdicts
    }
}

/// A workspace's place at the database: its ledger's login and its owner's.
struct Desk {
    ledger: PgConnection,
    owner: PgConnection,
    workspace: Uuid,
    node: Uuid,
    budgets: Vec<Uuid>,
}

const PERIODS: [&str; BUDGETS] = ["day", "month", "day"];

impl Desk {
    async fn head(&mut self) -> (i64, i64, i64) {
        sqlx::query_as(
            "select h.epoch, h.revision, i.revision from keyholder.heads h, keyholder.heads i \
             where h.kind = 'workspace' and h.id = $1 and i.kind = 'installation'",
        )
        .bind(self.workspace)
        .fetch_one(&mut self.owner)
        .await
        .unwrap()
    }

    /// A change of terms, under a raised head as the database demands.
    async fn set(&mut self, budget: usize, cap: u64) {
        let mut transaction = self.owner.begin().await.unwrap();
        sqlx::query(
            "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where id = $1",
        )
        .bind(self.workspace)
        .execute(&mut *transaction)
        .await
        .unwrap();
        sqlx::query(
            "insert into keyholder.budgets (id, workspace_id, scope, subject, rank, unit, period, cap) \
             values ($1, $2, 'principal', $3, 2, 'tokens', $4, $5) on conflict (id) do update set cap = excluded.cap",
        )
        .bind(self.budgets[budget])
        .bind(self.workspace)
        .bind(self.budgets[budget].to_string())
        .bind(PERIODS[budget])
        .bind(i64::try_from(cap).unwrap())
        .execute(&mut *transaction)
        .await
        .unwrap();
        transaction.commit().await.unwrap();
    }

    async fn admit(&mut self, batch: &[(Uuid, Vec<(usize, u64)>)]) -> Vec<Option<usize>> {
        let (epoch, revision, installation) = self.head().await;
        let count = batch.len();
        let units: Vec<_> =
            (1..).zip(batch).flat_map(|(act, (_, units))| units.iter().map(move |unit| (act, *unit))).collect();
        let rows = sqlx::query(
            "select verdict, budget from ledger_admit($1, true, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(self.node)
        .bind(vec![self.workspace; count])
        .bind(vec![epoch; count])
        .bind(vec![revision; count])
        .bind(vec![installation; count])
        .bind(vec!["api_key:model".to_owned(); count])
        .bind(vec![None::<String>; count])
        .bind(vec![vec![0_u8]; count])
        .bind(batch.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(vec![self.node; count])
        .bind(vec!["model.act".to_owned(); count])
        .bind(vec!["read".to_owned(); count])
        .bind(vec![600_000_i32; count])
        .bind(units.iter().map(|(act, _)| *act).collect::<Vec<i32>>())
        .bind(units.iter().map(|(_, (budget, _))| self.budgets[*budget]).collect::<Vec<_>>())
        .bind(units.iter().map(|(_, (_, units))| i64::try_from(*units).unwrap()).collect::<Vec<_>>())
        .fetch_all(&mut self.ledger)
        .await
        .unwrap();
        rows.iter()
            .map(|row| match row.get::<&str, _>("verdict") {
                "admitted" => None,
                "over" => {
                    let full: Uuid = row.get("budget");
                    Some(self.budgets.iter().position(|budget| *budget == full).unwrap())
                }
                other => panic!("{other}"),
            })
            .collect()
    }

    /// Whether the act's row was ended by this.
    async fn end(&mut self, act: Uuid, state: &str, used: &[(usize, u64)]) -> bool {
        let rows = sqlx::query(
            "select * from ledger_settle($1, $2, $3, $4, $5, array[null]::bytea[], array[null]::uuid[], $6, $7, $8)",
        )
        .bind(self.node)
        .bind(vec![self.workspace])
        .bind(vec![act])
        .bind(vec![state.to_owned()])
        .bind(vec![Some(200_i16)])
        .bind(vec![1_i32; used.len()])
        .bind(used.iter().map(|(budget, _)| self.budgets[*budget]).collect::<Vec<_>>())
        .bind(used.iter().map(|(_, units)| i64::try_from(*units).unwrap()).collect::<Vec<_>>())
        .fetch_all(&mut self.ledger)
        .await
        .unwrap();
        rows.len() == 1
    }

    /// Lets windows of a budget pass: what was, was so much earlier.
    async fn pass(&mut self, budget: usize, windows: u64) {
        let by = format!("{windows} {}s", PERIODS[budget]);
        sqlx::query("update keyholder.budgets set window_start = window_start - $2::interval where id = $1")
            .bind(self.budgets[budget])
            .bind(&by)
            .execute(&mut self.owner)
            .await
            .unwrap();
        sqlx::query(
            "update keyholder.acts set held_windows = (select array_agg(case when x.b = $1 then x.w - $2::interval else x.w end order by x.o) \
             from unnest(held, held_windows) with ordinality x(b, w, o)) where $1 = any (held)",
        )
        .bind(self.budgets[budget])
        .bind(&by)
        .execute(&mut self.owner)
        .await
        .unwrap();
    }

    async fn standing(&mut self) -> Vec<(i64, i64, i64)> {
        sqlx::query_as(
            "select b.cap, b.used, b.debt from unnest($1::uuid[]) with ordinality x(id, o) \
             join keyholder.budgets b on b.id = x.id order by x.o",
        )
        .bind(&self.budgets)
        .fetch_all(&mut self.owner)
        .await
        .unwrap()
    }

    async fn today(&mut self) -> OffsetDateTime {
        sqlx::query_scalar("select date_trunc('day', clock_timestamp(), 'UTC')")
            .fetch_one(&mut self.owner)
            .await
            .unwrap()
    }
}

/// Runs one sequence against both. Nothing, where midnight passed meanwhile; else what they differ in.
async fn differ(desk: &mut Desk, caps: [u64; BUDGETS], steps: &[Step]) -> Option<String> {
    let today = desk.today().await;
    desk.budgets = (0..BUDGETS).map(|_| Uuid::from_bytes(domain::random::bytes())).collect();
    let fresh = |cap| Budget { cap, used: 0, debt: 0, window: 1, now: 1 };
    let mut model = Model { budgets: caps.map(fresh), acts: Vec::new() };
    for (budget, cap) in caps.into_iter().enumerate() {
        desk.set(budget, cap).await;
    }
    let mut story = String::new();
    for step in steps {
        writeln!(story, "{step:?}").unwrap();
        let verdicts = take(desk, &mut model, step).await;
        let model_says: Vec<_> = model.budgets.iter().map(|b| (b.cap, b.used, b.debt)).collect();
        let standing = desk.standing().await;
        let database_says: Vec<_> =
            standing.iter().map(|(a, b, c)| (a.unsigned_abs(), b.unsigned_abs(), c.unsigned_abs())).collect();
        if desk.today().await != today {
            return None;
        }
        if let Err((model, database)) = verdicts {
            return Some(format!("{story}the model says {model}, the database {database}"));
        }
        if model_says != database_says {
            return Some(format!(
                "{story}(cap, used, debt): the model has {model_says:?}, the database {database_says:?}"
            ));
        }
    }
    None
}

/// One step at both: what they say, where they differ.
async fn take(desk: &mut Desk, model: &mut Model, step: &Step) -> Result<(), (String, String)> {
    let same = |model: &dyn std::fmt::Debug, database: &dyn std::fmt::Debug| {
        let (model, database) = (format!("{model:?}"), format!("{database:?}"));
        if model == database { Ok(()) } else { Err((model, database)) }
    };
    let place = |act: &usize| (!model.acts.is_empty()).then(|| act % model.acts.len().max(1));
    match step {
        Step::Admit(acts) => {
            let batch: Vec<_> =
                acts.iter().map(|units| (Uuid::from_bytes(domain::random::bytes()), units.clone())).collect();
            let database = desk.admit(&batch).await;
            same(&model.admit(&batch), &database)
        }
        Step::Settle(act, used) => {
            let Some(place) = place(act) else { return Ok(()) };
            let act = &mut model.acts[place];
            let ended = act.state != State::Ended;
            if ended {
                act.state = State::Ended;
                for (budget, held, window) in &act.held {
                    let budget_now = &mut model.budgets[*budget];
                    match used.iter().find(|(of, _)| of == budget) {
                        Some((_, used)) if used > held => budget_now.charge(used - held),
                        Some((_, used)) => budget_now.give_back(held - used, *window),
                        None => {}
                    }
                }
            }
            let id = act.id;
            same(&ended, &desk.end(id, "settled", used).await)
        }
        Step::NotSent(act) => {
            let Some(place) = place(act) else { return Ok(()) };
            let act = &mut model.acts[place];
            let ended = act.state != State::Ended;
            if ended {
                act.state = State::Ended;
                for (budget, held, window) in &act.held {
                    model.budgets[*budget].give_back(*held, *window);
                }
            }
            let id = act.id;
            same(&ended, &desk.end(id, "not_sent", &[]).await)
        }
        Step::Ambiguous(act) => {
            let Some(place) = place(act) else { return Ok(()) };
            let act = &mut model.acts[place];
            let ended = act.state == State::Admitted;
            if ended {
                act.state = State::Ambiguous;
            }
            let id = act.id;
            same(&ended, &desk.end(id, "ambiguous", &[]).await)
        }
        Step::Pass(budget, windows) => {
            model.budgets[*budget].now += windows;
            desk.pass(*budget, *windows).await;
            Ok(())
        }
        Step::SetCap(budget, cap) => {
            model.budgets[*budget].set_cap(*cap);
            desk.set(*budget, *cap).await;
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_databases_budgets_are_the_models() {
    let app = TestApp::start().await;
    let mut desk = Desk {
        ledger: app.login("ledger").await,
        owner: app.owner().await,
        workspace: app.workspace_uuid(),
        node: Uuid::from_bytes(domain::random::bytes()),
        budgets: Vec::new(),
    };
    // Chance seldom raises a cap that something is owed under and then ends an act that reports nothing of it.
    let raised = [
        Step::Admit(vec![vec![(1, 1)], vec![(0, 1), (1, 1)]]),
        Step::Settle(0, vec![(1, 11)]),
        Step::SetCap(1, 11),
        Step::Settle(1, vec![(0, 1)]),
    ];
    assert_eq!(differ(&mut desk, [16, 10, 120], &raised).await, None);
    let sequences = (0..=2 * MOST, 0..=2 * MOST, Just(10 * MOST), vec(step(), 10..30));
    let config = Config { cases: 150, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let desk = std::cell::RefCell::new(&mut desk);
        TestRunner::new(config)
            .run(&sequences, |(one, two, three, steps)| {
                let told = runtime.block_on(differ(&mut desk.borrow_mut(), [one, two, three], &steps));
                told.map_or(Ok(()), |told| Err(TestCaseError::fail(told)))
            })
            .unwrap();
    });
    // Whatever the sequences left open is nobody's.
    sqlx::query("update keyholder.acts set state = 'ambiguous' where state = 'admitted'")
        .execute(&mut desk.owner)
        .await
        .unwrap();
    app.stop().await;
}

/// What the ledger says to one read that no budget binds.
async fn verdict(desk: &mut Desk, act: Vec<Uuid>) -> String {
    let (epoch, revision, installation) = desk.head().await;
    sqlx::query_scalar(
        "select verdict from ledger_admit($1, true, $2, $3, $4, $5, array['api_key:x'], array[null], array['x'::bytea], $6, $2, $2, \
         array['x'], array['read'], array[600000], array[]::integer[], array[]::uuid[], array[]::bigint[])",
    )
    .bind(desk.node)
    .bind(vec![desk.workspace])
    .bind(vec![epoch])
    .bind(vec![revision])
    .bind(vec![installation])
    .bind(act)
    .fetch_one(&mut desk.ledger)
    .await
    .unwrap()
}

#[tokio::test]
async fn nothing_is_admitted_on_another_timeline_before_its_epoch_is_raised() {
    let app = TestApp::start().await;
    let mut desk = Desk {
        ledger: app.login("ledger").await,
        owner: app.owner().await,
        workspace: app.workspace_uuid(),
        node: Uuid::from_bytes(domain::random::bytes()),
        budgets: Vec::new(),
    };
    // Nobody keeps house while this is asked.
    let TestApp { instance, sandbox, .. } = app;
    instance.stop().await;
    let act = || vec![Uuid::from_bytes(domain::random::bytes())];
    assert_eq!(verdict(&mut desk, act()).await, "admitted");
    let moved = "update keyholder.database_identity set timeline = '000000FF'";
    sqlx::query(moved).execute(&mut desk.owner).await.unwrap();
    assert_eq!(verdict(&mut desk, act()).await, "stale");
    let reason: Option<String> =
        sqlx::query_scalar("select reason from ledger_watch(null)").fetch_one(&mut desk.ledger).await.unwrap();
    assert_eq!(reason.as_deref(), Some("another_timeline"));
    let acts: i32 =
        sqlx::query_scalar("select acts from ledger_raise_epochs(100)").fetch_one(&mut desk.ledger).await.unwrap();
    assert_eq!(acts, 1, "the act that was under way");
    assert_eq!(verdict(&mut desk, act()).await, "admitted");
    sandbox.shutdown().await;
}
