//! The run: rounds in which every series is measured at every number of connections, one after another, then accounts and start times.
//!
//! The series of one number of connections stand next to each other, in one order and then in the other, so that what drifts meets
//! all of them alike.

use std::{fs, io::Write, time::Duration};

use domain::clock::Clock;
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    commit,
    grounds::Outcome,
    load::{self, Door, Pace, Seen},
    nginx,
    process::{self, Upped},
    report::{CpuPerAct, LEVELS, Point, Ratios, Report, Rounds, median, number, rounded},
    stage::Stage,
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How often everything is measured.
    pub(crate) rounds: usize,
    /// How long one number of connections of one series is measured in a round.
    pub(crate) pace: Pace,
    /// How long `up` rests before its memory is looked at.
    pub(crate) rest: Duration,
}

impl Effort {
    /// So little that it shows the shape of the outcome and nothing else.
    pub(crate) const SMOKE: Self = Self {
        rounds: 1,
        pace: Pace { lead_in: Duration::from_millis(20), length: Duration::from_millis(60) },
        rest: Duration::from_millis(100),
    };
}

/// What is measured in each round.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Direct,
    Nginx,
    Commit,
    Read,
    Write,
}

const KINDS: [Kind; 5] = [Kind::Direct, Kind::Nginx, Kind::Commit, Kind::Read, Kind::Write];

/// Runs everything, and takes it down again.
pub(crate) async fn run(effort: Effort) -> Outcome<Report> {
    let clock = Clock::system();
    let stage = Box::pin(Stage::set(&clock)).await?;
    let mut found = Found::default();
    for round in 0..effort.rounds {
        for (place, connections) in LEVELS.into_iter().enumerate() {
            let mut kinds = KINDS;
            if round % 2 == 1 {
                kinds.reverse();
            }
            for kind in kinds {
                found.measure(&stage, kind, (place, connections), effort.pace, &clock).await?;
            }
        }
        note(&format!("round {} of {}", round + 1, effort.rounds));
    }
    stage.account().await?;
    let has_nginx = stage.nginx.is_some();
    stage.strike().await?;
    let (first, again) = starts(effort, &clock).await?;
    let resident: Vec<_> = again.iter().map(|up| up.resident_mib).collect();
    let seconds = |ups: &[Upped]| median(&ups.iter().map(|up| up.ready.as_secs_f64()).collect::<Vec<_>>());
    let nothing = "nothing was measured";
    let series = |rounds: &Rounds| rounds.medians().ok_or(nothing);
    let (direct, nginx, commit) = (series(&found.direct)?, found.nginx.medians(), series(&found.commit)?);
    let (read, write) = (series(&found.read)?, series(&found.write)?);
    Ok(Report {
        ratios: Ratios::of(&direct, nginx.as_ref(), &commit, (&read, &write)),
        direct,
        nginx,
        commit,
        read,
        write,
        cpu_us_per_act: CpuPerAct {
            read: rounded(median(&found.read_cpu_us).ok_or(nothing)?),
            write: rounded(median(&found.write_cpu_us).ok_or(nothing)?),
        },
        idle_rss_mib: rounded(median(&resident).ok_or(nothing)?),
        up_first_s: rounded(seconds(&first).ok_or(nothing)?),
        up_again_s: rounded(seconds(&again).ok_or(nothing)?),
        commit_hash: commit_hash().await?,
        cpu: cpu()?,
        nginx_conf_sha256: has_nginx.then(nginx::configuration_sha256),
    })
}

/// What the rounds have shown.
#[derive(Default)]
struct Found {
    direct: Rounds,
    nginx: Rounds,
    commit: Rounds,
    read: Rounds,
    write: Rounds,
    read_cpu_us: Vec<f64>,
    write_cpu_us: Vec<f64>,
}

impl Found {
    async fn measure(
        &mut self,
        stage: &Stage,
        kind: Kind,
        (level, connections): (usize, usize),
        pace: Pace,
        clock: &Clock,
    ) -> Outcome<()> {
        let is_last = level + 1 == LEVELS.len();
        let meter = || process::computed(stage.pid());
        let through = async |door: Door| load::run(door.open(connections).await?, pace, clock, meter).await;
        let seen = match kind {
            Kind::Direct => through(stage.direct()).await?,
            Kind::Nginx => match &stage.nginx {
                Some(nginx) => through(stage.through(nginx)).await?,
                None => return Ok(()),
            },
            Kind::Commit => load::run(commit::open(&stage.home, connections).await?, pace, clock, meter).await?,
            Kind::Read => through(stage.read()?).await?,
            Kind::Write => through(stage.write()?).await?,
        };
        let (rounds, cpu_us) = match kind {
            Kind::Direct => (&mut self.direct, None),
            Kind::Nginx => (&mut self.nginx, None),
            Kind::Commit => (&mut self.commit, None),
            Kind::Read => (&mut self.read, Some(&mut self.read_cpu_us)),
            Kind::Write => (&mut self.write, Some(&mut self.write_cpu_us)),
        };
        if let Some(cpu_us) = cpu_us.filter(|_| is_last) {
            cpu_us.push(micros(seen.metered) / number(seen.took.len() as u64));
        }
        let point = point(seen)?;
        note(&format!("{kind:?} {connections}: {:.0} us, {:.0} a second", point.p50_us, point.rps));
        rounds.note(level, point);
        Ok(())
    }
}

fn point(seen: Seen) -> Outcome<Point> {
    let Seen { mut took, length, .. } = seen;
    took.sort_unstable();
    let nth = |hundredths: usize| {
        let rank = (took.len() * hundredths).div_ceil(100).saturating_sub(1);
        took.get(rank).copied().map(micros).ok_or("nothing was answered")
    };
    Ok(Point { p50_us: nth(50)?, p99_us: nth(99)?, rps: number(took.len() as u64) / length.as_secs_f64() })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Starts `up` on fresh folders, and on each once more. Once before that, unmeasured: what has to be fetched is fetched then.
async fn starts(effort: Effort, clock: &Clock) -> Outcome<(Vec<Upped>, Vec<Upped>)> {
    let folder = TempDir::new()?;
    process::up(&folder.path().join("fetch"), Duration::ZERO, clock).await?;
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        let state = folder.path().join(format!("state{round}"));
        first.push(process::up(&state, Duration::ZERO, clock).await?);
        again.push(process::up(&state, effort.rest, clock).await?);
    }
    Ok((first, again))
}

/// The commit that was measured; marked, where the tree is no longer it.
async fn commit_hash() -> Outcome<String> {
    let git = async |arguments: &[&str]| -> Outcome<String> {
        let said = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().await?;
        Ok(String::from_utf8(said.stdout)?.trim().to_owned())
    };
    let hash = git(&["rev-parse", "HEAD"]).await?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).await?;
    Ok(if changed.is_empty() { hash } else { format!("{hash}+changes") })
}

/// The machine's processor, and how many of it there are.
fn cpu() -> Outcome<String> {
    let said = fs::read_to_string("/proc/cpuinfo")?;
    let name = said.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{}, {cores} cores", name.unwrap_or("unknown")))
}

/// Tells a person how far it is.
fn note(text: &str) {
    let _hung_up = writeln!(std::io::stderr(), "{text}");
}
