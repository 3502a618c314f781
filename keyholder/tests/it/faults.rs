//! The fault matrix: at each step of each use case the node is killed, the database is killed, or the node is stopped and continued
//! past the time by which an act may be sent. What died is started again, the work is driven to its end, and what must hold holds.
//!
//! The node stops itself at the step, so that the step that was reached is known and not guessed; what strikes then comes from outside.

mod disk;
mod hour;
mod invariant;
mod listener;
mod load;
mod stage;
mod work;

use std::{
    io::Write,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{act::SEND_WITHIN, clock::Clock};
use futures_util::{FutureExt, StreamExt, future::join_all, stream};
use keyholder::home::Home;
use rustix::process::Signal;
use service::step::{Hook, Step};
use tokio::sync::{Semaphore, watch};

use self::{
    stage::Stage,
    work::{End, Prepared, Work},
};
use crate::{
    harness::{Ground, TestApp, cluster_options},
    node::Node,
};

/// How many cells run at a time: they mostly wait.
const AT_ONCE: usize = 8;
/// How many cells of all matrices set up at a time: a database that is made has every page written out, and others wait for that.
static SETTING_UP: Semaphore = Semaphore::const_new(2);
/// How long callers are given with a dead database before it is started again.
const OUTAGE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillNode,
    KillDatabase,
    StopNode,
}

impl Fault {
    fn as_str(self) -> &'static str {
        match self {
            Self::KillNode => "kill -9 node",
            Self::KillDatabase => "kill -9 database",
            Self::StopNode => "stop node past send_by",
        }
    }
}

/// One piece of work, interrupted at one of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    work: Work,
    step: Step,
    fault: Fault,
}

/// A line of the table.
struct Row {
    reached: String,
    ended_by: String,
    said: u16,
    end: End,
}

fn cells(fault: Fault) -> Vec<Cell> {
    Work::ALL.iter().flat_map(|work| work.steps().map(move |step| Cell { work: *work, step, fault })).collect()
}

impl Cell {
    fn name(self) -> String {
        format!("{} at {}, {}", self.work.as_str(), self.step.as_str(), self.fault.as_str())
    }

    /// How the work must end. Where two ends are right, which of them comes depends on what the database had time for.
    fn expected(self) -> &'static [End] {
        match (self.work, self.fault, self.step) {
            // Only the node that owned the act can say that it was not sent, and it is dead.
            (Work::Act, Fault::KillNode, Step::Open | Step::Act | Step::Scrub | Step::Settle) => &[End::Ambiguous],
            // Its intent was written, and nobody lives who knows whether the platform was asked.
            (Work::Refresh, Fault::KillNode, Step::RefreshCall) => &[End::ReconnectRequired],
            (Work::Act | Work::Read | Work::Refresh, ..) => &[End::Done],
            (Work::Connect, Fault::KillNode, _) => &[End::NothingLeft],
            (Work::Connect, Fault::KillDatabase, _) => &[End::NothingLeft, End::Connected],
            (Work::Connect, Fault::StopNode, _) => &[End::Connected],
            (Work::Reconnect, Fault::KillNode, _) => &[End::Unchanged],
            (Work::Reconnect, Fault::KillDatabase, _) => &[End::Unchanged, End::Renewed],
            (Work::Reconnect, Fault::StopNode, _) => &[End::Renewed],
            (Work::Disconnect, ..) => &[End::Certified],
        }
    }

    async fn set(self, ground: Ground) -> (Stage, Prepared) {
        let _turn = SETTING_UP.acquire().await.unwrap();
        let app = TestApp::start_on(ground, |_| {}).await;
        let prepared = self.work.prepare(&app).await;
        (Stage::after(app).await, prepared)
    }

    /// Waits until the node has stopped itself: the step that it reached.
    async fn reached(self, node: &mut Node) -> String {
        let (signal, step) = node.stopped().await;
        assert_eq!(signal, Signal::STOP.as_raw(), "{}", self.name());
        assert_eq!(step, self.step.as_str(), "{}", self.name());
        step
    }

    /// The node dies where it has stopped; another takes its place.
    async fn kill_node(self) -> Row {
        let (stage, prepared) = self.set(Ground::shared()).await;
        let mut node = stage.node(Some(self.step)).await;
        let callers = stage.callers(&node);
        let strike = async {
            let reached = self.reached(&mut node).await;
            let signal = node.kill9().await;
            assert_eq!(signal, Signal::KILL.as_raw(), "{}", self.name());
            (reached, format!("signal: {signal}"))
        };
        let (said, (reached, ended_by)) = tokio::join!(self.work.call(&stage.sandbox, &callers, &prepared), strike);
        assert_eq!(said.status, 0, "{}: a dead node answered", self.name());
        let node = stage.node(None).await;
        let callers = stage.callers(&node);
        let end = self.work.finish(&stage, &callers, &prepared, &said).await;
        self.judge(stage, (reached, ended_by, said.status), end).await
    }

    /// The node is continued when what it was about to send may no longer leave.
    async fn stop_node(self) -> Row {
        let (stage, prepared) = self.set(Ground::shared()).await;
        let mut node = stage.node(Some(self.step)).await;
        let callers = stage.callers(&node);
        let strike = async {
            let reached = self.reached(&mut node).await;
            let clock = Clock::system();
            let late = clock.since_boot() + SEND_WITHIN;
            while clock.since_boot() <= late {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            node.go_on();
            (reached, format!("signal: {}, continued", Signal::STOP.as_raw()))
        };
        let (said, (reached, ended_by)) = tokio::join!(self.work.call(&stage.sandbox, &callers, &prepared), strike);
        assert_ne!(said.status, 0, "{}: the node did not go on", self.name());
        let end = self.work.finish(&stage, &callers, &prepared, &said).await;
        self.judge(stage, (reached, ended_by, said.status), end).await
    }

    /// The database dies while the node is stopped, and is started again when the node has met its absence.
    async fn kill_database(self, ground: Ground, strikes: &Strikes) -> Row {
        let mut turn = strikes.turn();
        let (stage, prepared) = self.set(ground).await;
        let mut node = stage.node(Some(self.step)).await;
        let callers = stage.callers(&node);
        turn.meet(Struck::AllAreSet).await;
        let strike = async {
            let reached = self.reached(&mut node).await;
            turn.meet(Struck::Dead).await;
            node.go_on();
            reached
        };
        let (said, reached) = tokio::join!(self.work.call(&stage.sandbox, &callers, &prepared), strike);
        strikes.wait_for(Struck::Back).await;
        let ended_by = strikes.ended_by.lock().unwrap().clone();
        let end = self.work.finish(&stage, &callers, &prepared, &said).await;
        self.judge(stage, (reached, ended_by, said.status), end).await
    }

    async fn judge(self, stage: Stage, (reached, ended_by, said): (String, String, u16), end: End) -> Row {
        let name = self.name();
        assert!(self.expected().contains(&end), "{name}: ended {end:?}, the first call was answered {said}");
        invariant::all_hold(&stage, self.work, end, self.fault, &name).await;
        stage.clear().await;
        Row { reached, ended_by, said, end }
    }
}

/// Where all cells of a wave meet the one who kills their database. A cell that fails on its way is not waited for.
struct Strikes {
    /// How many cells have come how far, all together.
    come: watch::Sender<usize>,
    /// How far the one who kills has come.
    struck: watch::Sender<Struck>,
    ended_by: Mutex<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Struck {
    NotYet,
    AllAreSet,
    Dead,
    Back,
}

/// Counts a cell in at both meeting points, however it ends.
struct Turn<'a> {
    strikes: &'a Strikes,
    left: usize,
}

impl Turn<'_> {
    /// Says that the cell is here, and waits for the one who kills.
    async fn meet(&mut self, wanted: Struck) {
        self.left -= 1;
        self.strikes.come.send_modify(|come| *come += 1);
        self.strikes.wait_for(wanted).await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.strikes.come.send_modify(|come| *come += self.left);
    }
}

impl Strikes {
    fn new() -> Self {
        Self { come: watch::Sender::new(0), struck: watch::Sender::new(Struck::NotYet), ended_by: Mutex::default() }
    }

    fn turn(&self) -> Turn<'_> {
        Turn { strikes: self, left: 2 }
    }

    async fn wait_for(&self, wanted: Struck) {
        self.struck.subscribe().wait_for(|struck| *struck >= wanted).await.unwrap();
    }

    /// Kills the database once every node has stopped at its step, and starts it again.
    async fn strike(&self, home: Home, cells: usize) -> Home {
        let mut come = self.come.subscribe();
        come.wait_for(|come| *come >= cells).await.unwrap();
        self.struck.send_replace(Struck::AllAreSet);
        come.wait_for(|come| *come >= 2 * cells).await.unwrap();
        let ended_by = home.kill9().await;
        assert!(ended_by.contains("signal: 9"), "{ended_by}");
        *self.ended_by.lock().unwrap() = ended_by;
        self.struck.send_replace(Struck::Dead);
        tokio::time::sleep(OUTAGE).await;
        let home = home.restart().await.unwrap();
        self.struck.send_replace(Struck::Back);
        home
    }
}

/// A cell's row, or what it failed with: one that fails must not keep the others from being told.
async fn run(cell: Cell, run: impl Future<Output = Row>) -> (Cell, Result<Row, String>) {
    let row = AssertUnwindSafe(run).catch_unwind().await.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    });
    (cell, row)
}

/// The table, straight to standard output, where no test harness swallows it; and that no cell was left out.
fn tell(fault: Fault, rows: &[(Cell, Result<Row, String>)]) {
    let line = |columns: [&str; 6]| {
        let [work, step, reached, ended_by, said, outcome] = columns;
        format!("  {work:<11} {step:<18} {reached:<18} {ended_by:<24} {said:<5} {outcome}\n")
    };
    let title = format!("\nfault matrix: {}\n", fault.as_str());
    let mut lines = vec![title, line(["work", "step", "reached", "ended by", "said", "outcome"])];
    lines.extend(rows.iter().map(|(cell, row)| match row {
        Ok(row) => {
            let (said, end) = (row.said.to_string(), format!("{:?}", row.end));
            line([cell.work.as_str(), cell.step.as_str(), &row.reached, &row.ended_by, &said, &end])
        }
        Err(fault) => format!("  {:<11} {:<18} FAILED: {fault}\n", cell.work.as_str(), cell.step.as_str()),
    }));
    let wanted = cells(fault);
    let held = rows.iter().filter(|(_, row)| row.is_ok()).count();
    lines.push(format!("  {held} of {} cells held\n", wanted.len()));
    let table = lines.concat();
    std::io::stdout().write_all(table.as_bytes()).unwrap();
    let run: Vec<_> = rows.iter().map(|(cell, _)| *cell).collect();
    assert_eq!(run, wanted, "a cell was not run");
    for step in Step::ALL {
        assert!(run.iter().any(|cell| cell.step == *step), "no cell interrupts {}", step.as_str());
    }
    assert_eq!(held, wanted.len(), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_at_any_step_loses_and_repeats_nothing() {
    let fault = Fault::KillNode;
    let each = stream::iter(cells(fault)).map(|cell| run(cell, cell.kill_node()));
    tell(fault, &each.buffered(AT_ONCE).collect::<Vec<_>>().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_at_any_step_past_its_time_to_send_loses_and_repeats_nothing() {
    let fault = Fault::StopNode;
    let each = stream::iter(cells(fault)).map(|cell| run(cell, cell.stop_node()));
    tell(fault, &each.buffered(AT_ONCE).collect::<Vec<_>>().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_at_any_step_loses_and_repeats_nothing() {
    let fault = Fault::KillDatabase;
    let mut home = Home::open(None, cluster_options(), &Clock::system()).await.unwrap();
    let ground = Ground::of(&home);
    let mut rows = Vec::new();
    for wave in cells(fault).chunks(AT_ONCE) {
        let strikes = Strikes::new();
        let each = wave.iter().map(|cell| run(*cell, cell.kill_database(ground.clone(), &strikes)));
        let (wave_rows, struck) = tokio::join!(join_all(each), strikes.strike(home, wave.len()));
        home = struck;
        rows.extend(wave_rows);
    }
    home.close().await.unwrap();
    tell(fault, &rows);
}

/// The steps that a clean run of the work passes.
async fn passed(work: Work) -> Vec<Step> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let app =
        TestApp::start_with(|options| options.hook = Hook::new(move |step| record.lock().unwrap().push(step))).await;
    let prepared = work.prepare(&app).await;
    let callers = stage::Callers { admin: app.admin.clone(), stranger: app.stranger.clone() };
    seen.lock().unwrap().clear();
    work.call(&app.sandbox, &callers, &prepared).await;
    let steps = seen.lock().unwrap().clone();
    app.stop().await;
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_on_the_list_are_those_that_a_clean_run_passes() {
    for work in Work::ALL {
        let steps = passed(work).await;
        let own: Vec<_> = work.steps().collect();
        match work {
            Work::Act | Work::Read => assert_eq!(steps, own, "{work:?}"),
            // Around their own steps these pass the corridor's, which the others interrupt.
            _ => {
                let of_it: Vec<_> = steps.into_iter().filter(|step| own.contains(step)).collect();
                assert_eq!(of_it, own, "{work:?}");
            }
        }
    }
}
