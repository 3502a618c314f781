//! Processes as the kernel counts them, and the time until `keyholder up` is ready.

use std::{fs, path::Path, process::Stdio, time::Duration};

use domain::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::grounds::Outcome;

/// The program that is measured.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_keyholder");
/// Linux counts the time of a process in hundredths of a second, whatever its own tick is (`USER_HZ`, proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// A child's process number.
pub(crate) fn number_of(child: &Child) -> Outcome<Pid> {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    Ok(pid.ok_or("the process has ended")?)
}

/// How long the process has computed, itself and for it in the kernel (fields 14 and 15 of `/proc/PID/stat`).
pub(crate) fn computed(pid: Pid) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    ticks(&stat).map(|ticks| TICK * ticks).ok_or_else(|| "a process without times".into())
}

fn ticks(stat: &str) -> Option<u32> {
    // The second field is the program's name in brackets, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// The process's resident memory, in MiB (`VmRSS` of `/proc/PID/status`). PostgreSQL's processes are not part of it.
pub(crate) fn resident_mib(pid: Pid) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("a process without memory")?;
    let kib: u32 = line.split_whitespace().next().ok_or("a process without memory")?.parse()?;
    Ok(f64::from(kib) / 1024.0)
}

/// What one run of `keyholder up` has shown.
pub(crate) struct Upped {
    /// From its start to the line that says that it is ready.
    pub(crate) ready: Duration,
    /// Its memory after a rest.
    pub(crate) resident_mib: f64,
}

/// Runs `keyholder up` on a state folder until it is ready, lets it rest, and ends it.
pub(crate) async fn up(state: &Path, rest: Duration, clock: &Clock) -> Outcome<Upped> {
    let began = clock.since_boot();
    let mut child = Command::new(PROGRAM)
        .args(["up", "--json", "--state"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("a process without an output")?;
    let line = BufReader::new(stdout).lines().next_line().await?.unwrap_or_default();
    let ready = clock.since_boot().saturating_sub(began);
    let said: Value = serde_json::from_str(&line)?;
    if said.get("url").is_none() {
        return Err(format!("`up` is not ready: {line}").into());
    }
    tokio::time::sleep(rest).await;
    let pid = number_of(&child)?;
    let resident_mib = resident_mib(pid)?;
    kill_process(pid, Signal::TERM)?;
    let status = child.wait().await?;
    if !status.success() {
        return Err(format!("`up` ended with {status}").into());
    }
    Ok(Upped { ready, resident_mib })
}
