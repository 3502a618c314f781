//! The nodes, as child processes: started, stopped, continued, killed, and looked at from outside.

use std::{fs, io, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use service::Sandbox;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
};
use url::Url;
use zeroize::Zeroizing;

use super::SoakError;
use crate::{
    home::{INSTALLATION, Keys},
    node::{Handover, Ready},
};

/// How long a node may take until it serves, and until it has stopped when it is asked to.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a node of this soak is started, again and again.
pub(super) struct Berth {
    /// This program.
    pub(super) program: PathBuf,
    /// Flags of the node's log.
    pub(super) flags: Vec<String>,
    /// What every node is handed.
    pub(super) keys: Keys,
    pub(super) sandbox: Sandbox,
    pub(super) secret: Zeroizing<String>,
    /// What this node alone keeps.
    pub(super) state_dir: PathBuf,
    /// Its port, once it has had one.
    pub(super) port: u16,
}

/// A node that runs. Killed with its value.
pub(super) struct Running {
    child: Child,
    pid: Pid,
    /// Its end is the node's sign to stop.
    stdin: ChildStdin,
    pub(super) ready: Ready,
}

impl Berth {
    /// Starts the node, and waits until it serves.
    pub(super) async fn launch(&mut self) -> Result<Running, SoakError> {
        let running = tokio::time::timeout(PATIENCE, self.launch_now());
        let running = running.await.map_err(|_| SoakError::Node(io::ErrorKind::TimedOut.into()))??;
        let url = Url::parse(&running.ready.url).ok();
        self.port = url.and_then(|url| url.port()).unwrap_or(0);
        Ok(running)
    }

    async fn launch_now(&self) -> Result<Running, SoakError> {
        let stderr = if self.flags.is_empty() { Stdio::null() } else { Stdio::inherit() };
        let mut child = Command::new(&self.program)
            .arg("node")
            .args(&self.flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(SoakError::Node)?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(SoakError::Node(io::ErrorKind::BrokenPipe.into()));
        };
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| SoakError::Node(io::ErrorKind::NotFound.into()))?;
        let handover = Handover {
            keys: self.keys.clone(),
            database: INSTALLATION.to_owned(),
            sandbox: self.sandbox.clone(),
            secret: self.secret.clone(),
            port: self.port,
            state_dir: self.state_dir.clone(),
            blueprint: None,
            limits: None,
        };
        let mut line = Zeroizing::new(serde_json::to_vec(&handover).map_err(|error| SoakError::Node(error.into()))?);
        line.push(b'\n');
        stdin.write_all(&line).await.map_err(SoakError::Node)?;
        stdin.flush().await.map_err(SoakError::Node)?;
        let said = BufReader::new(stdout).lines().next_line().await.map_err(SoakError::Node)?.unwrap_or_default();
        let ready = serde_json::from_str(&said).map_err(|_| SoakError::NotServing(said))?;
        Ok(Running { child, pid, stdin, ready })
    }
}

impl Running {
    /// SIGKILL, and waits until the process is reaped.
    pub(super) async fn kill(mut self) {
        // An error says that it had ended by itself, which comes to the same.
        let _ended = self.child.kill().await;
    }

    /// SIGSTOP: the process stands still in whatever it is doing.
    pub(super) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(super) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // The number is this child's as long as nobody has reaped it, and only this value can.
        let _ended = kill_process(self.pid, signal);
    }

    /// Whether it has ended by itself, which no node may.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Its resident memory, in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero())).unwrap_or_default();
        resident_kib(&status)
    }

    /// Lets it come to its end in order, and says whether it did so.
    pub(super) async fn end(mut self) -> bool {
        drop(self.stdin);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        matches!(ended, Ok(Ok(status)) if status.success())
    }
}

/// `VmRSS` of a `/proc/PID/status` (proc(5)), in KiB.
fn resident_kib(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Established connections of this machine to a port, as `/proc/net/tcp` (proc(5)) has them.
pub(super) fn connections_to(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    established_to(&table, port)
}

fn established_to(table: &str, port: u16) -> usize {
    let wanted = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|peer| peer.ends_with(&wanted)) && columns.next() == Some("01")
    };
    table.lines().filter(is_one).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_its_line() {
        let cases = [("Name:\tx\nVmRSS:\t   61440 kB\nThreads:\t3\n", 61440), ("Name:\tx\n", 0), ("VmRSS:\t\n", 0)];
        for (status, wanted) in cases {
            assert_eq!(resident_kib(status), wanted, "{status:?}");
        }
    }

    #[test]
    fn only_established_connections_to_the_port_are_counted() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 0100007F:1F90 0100007F:C001 01 00000000\n\
                     1: 0100007F:C001 0100007F:1F90 01 00000000\n\
                     2: 0100007F:C002 0100007F:1F90 08 00000000\n\
                     3: 00000000:1F90 00000000:0000 0A 00000000\n";
        assert_eq!(established_to(table, 8080), 1);
        assert_eq!(established_to(table, 49153), 1);
        assert_eq!(established_to(table, 1), 0);
    }
}
