//! The soak: two nodes under load for minutes, with a fault every few seconds, and every act, budget and token accounted for at the end.
//!
//! Everything is real: processes that are killed and stopped, a database whose processes are killed, a platform that misbehaves. What is
//! told is counted at three places that know nothing of each other: the ledger's tables, the platform, and what callers were answered.
//! The order of events: grounds → load and faults → rest → counts.

mod child;
mod effects;
mod fault;
mod grounds;
mod load;
mod plan;
mod report;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::random;
use futures_util::future::join_all;
use serde_json::{Value, json};
use service::tasks::Tasks;
use store::{StoreError, owner::TableSize, tally};

pub use self::report::{STUCK_LIMIT_S, SoakReport, TableGrowth};
use self::{
    effects::Effects,
    fault::{Seen, mend, throw},
    grounds::{Grounds, NARROW, Plot},
    load::{Found, Told, Worker},
    plan::{Dice, Plan},
};
use super::stage::Fault;
use crate::{StartError, caller::CallError, cluster::ClusterOptions, home::INSTALLATION};

/// How many callers act at once.
pub const CALLERS: usize = 64;
/// How long after one fault is over the next one comes.
const BETWEEN_FAULTS: Duration = Duration::from_secs(2);
/// The memory of a node is first looked at after a fifth of the soak, and at the latest then.
const WARM_UP: Duration = Duration::from_mins(1);
/// How long everything may take to come to rest when the faults are over: an act's bound, and a lease's.
const REST: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(200);

/// How a soak is run.
pub struct SoakOptions {
    /// The cluster that it runs on.
    pub cluster: ClusterOptions,
    /// How long callers act.
    pub length: Duration,
    /// What decides the faults; a random one where it is not given.
    pub seed: Option<u64>,
    /// Flags of the nodes' logs: with any, they write to standard error.
    pub node_flags: Vec<String>,
    /// Hears how it goes, for a person.
    pub on_progress: Arc<dyn Fn(String) + Send + Sync>,
}

/// A soak that could not be carried through. What it finds is no error.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// The installation does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A node's process cannot be started or spoken with.
    #[error("a node cannot be started")]
    Node(#[source] io::Error),
    /// A node does not serve.
    #[error("a node does not serve: {0:?}")]
    NotServing(String),
    /// Something else than it should was answered while the grounds were laid.
    #[error("the grounds could not be laid: {0}")]
    Grounds(String),
    /// A caller was not answered there.
    #[error("the grounds could not be laid")]
    Call(#[from] CallError),
    /// The database could not be counted.
    #[error("the database could not be looked at")]
    Count(#[from] StoreError),
    /// A quirk is refused.
    #[error("the platform refuses a switch")]
    Switch(#[from] sandbox::SwitchError),
    /// Something that a fault took away is not there.
    #[error("{0} is not there")]
    Lost(&'static str),
}

impl From<Fault> for SoakError {
    fn from(Fault(what): Fault) -> Self {
        Self::Grounds(what)
    }
}

/// What can be looked at while everything runs.
struct Sight {
    resident_mib: [u64; 2],
    tables: Vec<TableSize>,
    database_connections: i64,
    platform_connections: usize,
}

/// Runs a soak, and takes everything down again.
///
/// # Errors
/// `SoakError` where it could not be carried through.
pub async fn run(options: SoakOptions) -> Result<SoakReport, SoakError> {
    let seed = options.seed.unwrap_or_else(|| u64::from(u32::from_le_bytes(random::bytes())));
    let mut dice = Dice::new(seed);
    (options.on_progress)("laying the grounds".to_owned());
    let plot = Plot { cluster: options.cluster, node_flags: options.node_flags };
    let mut grounds = Grounds::lay(plot).await?;
    let effects = Arc::new(Effects::default());
    grounds.sandbox.platform().witness_posts(effects.witness());
    let told = Arc::new(Told::default());
    let stop = Arc::new(AtomicBool::new(false));
    let worker = |id, dice| Worker {
        id,
        dice,
        nodes: grounds.callers.clone(),
        lanes: Arc::clone(&grounds.lanes),
        effects: Arc::clone(&effects),
        told: Arc::clone(&told),
        stop: Arc::clone(&stop),
    };
    let tasks = Tasks::default();
    let workers: Vec<_> = (0..CALLERS).map(|id| worker(id, dice.split(0))).collect();
    let last = worker(CALLERS, dice.split(1));
    let working = join_all(workers.into_iter().map(|worker| tasks.finish(worker.work())));

    let mut record = Seen::default();
    let driving = async {
        let driven =
            drive(&mut grounds, &mut record, Plan::new(dice.split(2)), options.length, &effects, &*options.on_progress)
                .await;
        stop.store(true, Ordering::Release);
        driven
    };
    let (found, first) = tokio::join!(working, driving);
    let first = first?;
    (options.on_progress)("coming to rest".to_owned());
    let found = found.into_iter().map(|found| found.unwrap_or(Found { given_up: 1, ..Found::default() }));
    let found = found.fold(Found::default(), Found::and).and(spend_the_rest(&grounds, last).await);
    rest(&grounds).await?;
    let end = Ending { seed, seconds: options.length.as_secs(), first, found, seen: record, effects, told };
    let mut report = end.report(&mut grounds).await?;
    if !grounds.close().await? {
        report.complaints.push("a node did not come to its end in order".to_owned());
    }
    Ok(report)
}

/// Throws faults for as long as the soak is long, and says what was to be seen when everything was warm.
async fn drive(
    grounds: &mut Grounds,
    seen: &mut Seen,
    mut plan: Plan,
    length: Duration,
    effects: &Effects,
    tell: &(dyn Fn(String) + Send + Sync),
) -> Result<Sight, SoakError> {
    let began = grounds.clock.since_boot();
    let mut first = None;
    loop {
        tokio::time::sleep(BETWEEN_FAULTS).await;
        let passed = grounds.clock.since_boot().saturating_sub(began);
        if first.is_none() && passed >= WARM_UP.min(length / 5) {
            first = Some(look(grounds).await?);
        }
        if passed >= length {
            break;
        }
        let kind = plan.next();
        tell(format!(
            "{} of {} s, {} posts, {} faults: {}",
            passed.as_secs(),
            length.as_secs(),
            effects.totals().posts,
            seen.faults.values().sum::<u64>(),
            kind.as_str()
        ));
        throw(grounds, seen, &mut plan, kind).await?;
        mend(grounds, seen).await;
        for (node, name) in grounds.nodes.iter_mut().zip(["first", "second"]) {
            if node.as_mut().is_none_or(child::Running::has_ended) {
                return Err(SoakError::Lost(name));
            }
        }
    }
    grounds.sandbox.platform().clear();
    match first {
        Some(first) => Ok(first),
        None => look(grounds).await,
    }
}

async fn look(grounds: &Grounds) -> Result<Sight, SoakError> {
    let resident = |node: &Option<child::Running>| node.as_ref().map_or(0, child::Running::resident_kib) / 1024;
    Ok(Sight {
        resident_mib: [resident(&grounds.nodes[0]), resident(&grounds.nodes[1])],
        tables: store::owner::table_sizes(&grounds.owner).await?,
        database_connections: tally::backends(&grounds.owner, INSTALLATION).await?,
        platform_connections: child::connections_to(grounds.sandbox.addr().port()),
    })
}

/// Spends what is left of the small budget, so that it can be seen to be spent to its last unit.
async fn spend_the_rest(grounds: &Grounds, worker: Worker) -> Found {
    let lane = grounds.lanes.get(0);
    worker.spend(&lane).await
}

/// Waits until no act is on its way, but no longer than that may take.
async fn rest(grounds: &Grounds) -> Result<(), SoakError> {
    let give_up = grounds.clock.since_boot() + REST;
    while tally::acts_under_way(&grounds.owner).await? > 0 && grounds.clock.since_boot() < give_up {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Everything that is known at the end, before it is counted.
struct Ending {
    seed: u64,
    seconds: u64,
    first: Sight,
    found: Found,
    seen: Seen,
    effects: Arc<Effects>,
    told: Arc<Told>,
}

impl Ending {
    async fn report(mut self, grounds: &mut Grounds) -> Result<SoakReport, SoakError> {
        mend(grounds, &mut self.seen).await;
        let unusable = unusable(grounds, &mut self.seen).await;
        let (narrow_used, narrow_cap) = small_budget(grounds).await?;
        let platform = grounds.sandbox.platform();
        let last = look(grounds).await?;
        let acts = tally::acts(&grounds.owner).await?;
        let budgets = tally::budgets(&grounds.owner).await?;
        let totals = self.effects.totals();
        let beyond = totals.narrow.saturating_sub(NARROW);
        Ok(SoakReport {
            acts: acts.admitted + acts.settled + acts.not_sent + acts.ambiguous,
            settled: acts.settled,
            not_sent: acts.not_sent,
            ambiguous: acts.ambiguous,
            faults: self.seen.faults.values().sum(),
            effects_repeated: totals.repeated,
            budget_overspent: u64::try_from(budgets.overspent).unwrap_or(0) + beyond,
            tokens_lost: self.seen.unexplained(grounds) + unusable,
            stuck_seconds_max: (acts.overdue_s * 10.0).round() / 10.0,
            rss_first_mib: self.first.resident_mib.into_iter().max().unwrap_or(0),
            rss_last_mib: last.resident_mib.into_iter().max().unwrap_or(0),
            seed: self.seed,
            seconds: self.seconds,
            callers: CALLERS,
            rss_kept_node_first_mib: self.first.resident_mib[0],
            rss_kept_node_last_mib: last.resident_mib[0],
            unfinished: acts.admitted,
            effects: totals.posts,
            effects_missing: self.found.missing,
            effects_unsaid: self.found.unsaid,
            pursued: self.found.pursued,
            given_up: self.found.given_up,
            narrow_cap,
            narrow_used,
            narrow_effects: totals.narrow,
            budget_drift: budgets.drift,
            reconnects_required: self.seen.reconnects,
            refreshes: platform.refreshes(),
            replays_punished: platform.replays_punished(),
            database_connections: [self.first.database_connections, last.database_connections],
            platform_connections: [self.first.platform_connections, last.platform_connections],
            tables: growth(self.first.tables, last.tables),
            faults_by_kind: self.seen.faults,
            answers: self.told.counts(),
            complaints: self.seen.complaints,
        })
    }
}

/// How many connections cannot be used though their grant is alive at the platform, when no fault is left to explain it.
async fn unusable(grounds: &Grounds, seen: &mut Seen) -> u64 {
    let mut unusable = 0;
    for at in 0..grounds.lanes.len() {
        let lane = grounds.lanes.get(at);
        let agent = grounds.callers[0].with_key(&lane.agent);
        let mut last = String::new();
        let give_up = grounds.clock.since_boot() + REST;
        let usable = loop {
            let reply = agent.act(&lane.mandate, "profile.read", &json!({}), None).await;
            let body = match reply {
                Ok(reply) => reply.json(),
                Err(error) => Value::String(error.to_string()),
            };
            if body.pointer("/status") == Some(&json!(200)) {
                break true;
            }
            last = body.to_string();
            if grounds.clock.since_boot() >= give_up {
                break false;
            }
            tokio::time::sleep(POLL).await;
        };
        if usable {
            continue;
        }
        let alive = grounds.sandbox.platform().tokens(&lane.account);
        unusable += u64::from(alive.iter().any(|token| token.kind == sandbox::TokenKind::Refresh && token.live));
        seen.complaints.push(format!("the connection of @{} cannot be used: {last}", lane.account));
    }
    unusable
}

/// What is used of the small budget, and its cap, as its workspace's admin is told.
async fn small_budget(grounds: &Grounds) -> Result<(u64, u64), SoakError> {
    let lane = grounds.lanes.get(0);
    let listed = grounds.admin(lane.workspace).get("/v1/budgets").await?.json();
    let of_mandate = |budget: &&Value| budget.pointer("/cap").and_then(Value::as_u64) == Some(NARROW);
    let budget = listed.pointer("/data").and_then(Value::as_array).and_then(|all| all.iter().find(of_mandate));
    let number = |name| budget.and_then(|budget| budget.pointer(name)).and_then(Value::as_u64);
    Ok((number("/used").unwrap_or(0), number("/cap").unwrap_or(NARROW)))
}

fn growth(first: Vec<TableSize>, last: Vec<TableSize>) -> BTreeMap<String, TableGrowth> {
    let mut tables: BTreeMap<String, TableGrowth> = BTreeMap::new();
    for TableSize { table, rows, bytes } in first {
        let growth = tables.entry(table).or_default();
        (growth.rows_first, growth.kib_first) = (rows, bytes / 1024);
    }
    for TableSize { table, rows, bytes } in last {
        let growth = tables.entry(table).or_default();
        (growth.rows_last, growth.kib_last) = (rows, bytes / 1024);
    }
    tables
}
