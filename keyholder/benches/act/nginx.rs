//! nginx, where the machine has one: the yardstick that forwards the same request and knows nothing of mandates.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sandbox::Sandbox;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{
    grounds::{Outcome, search_path},
    process,
};

/// The whole configuration but for the two ports.
const CONFIGURATION: &str = include_str!("nginx.conf");
/// How often it is started, and how often its door is tried each time, before it is given up.
const STARTS: u32 = 3;
const TRIES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(20);

/// An nginx that runs, and ends with its value.
pub(crate) struct Nginx {
    child: Child,
    pid: Pid,
    _folder: TempDir,
    pub(crate) addr: SocketAddr,
}

/// The SHA-256 of the configuration that is used, as `sha256sum nginx.conf` says it.
pub(crate) fn configuration_sha256() -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, CONFIGURATION.as_bytes());
    hex::encode(digest)
}

impl Nginx {
    /// Starts nginx before the sandbox; nothing, where the machine has none.
    pub(crate) async fn start(sandbox: &Sandbox) -> Outcome<Option<Self>> {
        let Some(program) = program() else { return Ok(None) };
        let mut failed = None;
        // Between finding a free port and nginx taking it, somebody else may.
        for _ in 0..STARTS {
            match Self::launch(&program, sandbox).await {
                Ok(nginx) => return Ok(Some(nginx)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| "nginx was not started".into()))
    }

    async fn launch(program: &Path, sandbox: &Sandbox) -> Outcome<Self> {
        let folder = TempDir::new()?;
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        file("nginx.conf", CONFIGURATION)?;
        file("listen.conf", &format!("listen {addr};\n"))?;
        file("upstream.conf", &format!("server {};\n", sandbox.addr()))?;
        file("ca.pem", sandbox.ca_pem())?;
        let child = Command::new(program)
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .spawn()?;
        let pid = process::number_of(&child)?;
        let mut nginx = Self { child, pid, _folder: folder, addr };
        for _ in 0..TRIES {
            if let Some(status) = nginx.child.try_wait()? {
                return Err(format!("nginx does not start: {status}").into());
            }
            #[expect(clippy::disallowed_methods, reason = "a measurement sees to what it measures")]
            if tokio::net::TcpStream::connect(addr).await.is_ok() {
                return Ok(nginx);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err("nginx does not answer".into())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only if it is asked to end. An error says that it has ended.
        let _ended = kill_process(self.pid, Signal::TERM);
    }
}

/// nginx's program: in PATH, else where Debian puts it.
fn program() -> Option<PathBuf> {
    let path = search_path();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}
