//! Nodes: the test binary started again as a server of its own, with its own pid, which a test may stop, kill or let race.
//!
//! Everything a node needs is handed over on its standard input, an inherited pipe: the way to the sandbox exists in no file, row or
//! variable. A node that is told to stop at a step stops itself there: it says so, raises SIGSTOP, and goes on only when it is both
//! continued and told to. It ends with its parent, at the latest.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use keyholder::{
    Instance,
    caller::Caller,
    home::Keys,
    local::{self, PROVIDER, Place},
};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, waitpid};
use serde::{Deserialize, Serialize};
use service::{
    Sandbox,
    step::{Hook, Step},
};
use url::Url;
use zeroize::Zeroizing;

use crate::harness::{TestApp, variable};

/// The variable that tells the test binary to be a node.
const ROLE: &str = "KEYHOLDER_TEST_NODE";

/// What a node is handed.
#[derive(Serialize, Deserialize)]
struct Handover {
    keys: Keys,
    database: String,
    route: egress::SandboxRoute,
    secret: Zeroizing<String>,
    orders: Orders,
}

/// What a node is told beside what it needs.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// At which passing of which step it stops itself: the word of the step, and 1 for the first time.
    pub(crate) stop_at: Option<(String, u32)>,
    /// Where it keeps what must outlive it.
    pub(crate) state_dir: Option<PathBuf>,
}

impl Orders {
    /// Stop at the first passing of this step.
    pub(crate) fn stop_at(step: Step) -> Self {
        Self { stop_at: Some((step.as_str().to_owned(), 1)), state_dir: None }
    }
}

/// A node in a process of its own. Killed when dropped.
pub(crate) struct Node {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    url: Url,
    /// It has been reaped: its number may be somebody else's by now.
    ended: bool,
}

impl Node {
    /// Starts a node on the test's database and platform.
    pub(crate) fn start(app: &TestApp) -> Self {
        Self::start_with(app, Orders::default())
    }

    /// Starts a node on the test's database and platform, with orders.
    pub(crate) fn start_with(app: &TestApp, orders: Orders) -> Self {
        let route = local::route(&app.sandbox).route;
        Self::launch(app.ground.keys.clone(), &app.database, route, &app.secret, orders)
    }

    /// Starts a node. Waits until it serves.
    pub(crate) fn launch(
        keys: Keys,
        database: &str,
        route: egress::SandboxRoute,
        secret: &Zeroizing<String>,
        orders: Orders,
    ) -> Self {
        let handover = Handover { keys, database: database.to_owned(), route, secret: secret.clone(), orders };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node::node", "--ignored", "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut line = serde_json::to_vec(&handover).unwrap();
        line.push(b'\n');
        stdin.write_all(&line).unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut node = Self { child, stdin, stdout, url: Url::parse("http://localhost/").unwrap(), ended: false };
        node.url = Url::parse(&node.hears("node ready ")).unwrap();
        node
    }

    /// The rest of the next line that says this.
    fn hears(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.trim_end().split_once(word) {
                return rest.to_owned();
            }
            line.clear();
        }
        panic!("the node ended without a word of {word:?}")
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A caller of this node, with the key of another caller's.
    pub(crate) fn caller(&self, key: &str) -> Caller {
        self.stranger().with_key(key)
    }

    /// A caller of this node who has no key.
    pub(crate) fn stranger(&self) -> Caller {
        Caller::new(&self.url, None)
    }

    /// Where the platform sends browsers that come from this node.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("{}connect/callback/{PROVIDER}", self.url)
    }

    /// Waits until the kernel says that the node has stopped; answers the signal that stopped it, and the step at which it says it is.
    pub(crate) async fn stopped(&mut self) -> (i32, String) {
        let status = self.changed().await;
        let signal = status.stopping_signal().unwrap_or_else(|| panic!("it did not stop: {status:?}"));
        (signal, self.hears("stops at "))
    }

    /// Kills the node; answers the signal that ended it.
    pub(crate) async fn kill9(&mut self) -> i32 {
        kill_process(self.number(), Signal::KILL).unwrap();
        let status = self.changed().await;
        status.terminating_signal().unwrap_or_else(|| panic!("it was not ended: {status:?}"))
    }

    /// Lets a node go on that has stopped itself at a step.
    pub(crate) fn go_on(&mut self) {
        self.stdin.write_all(b"g").unwrap();
        kill_process(self.number(), Signal::CONT).unwrap();
    }

    fn number(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next change of the process that the kernel has not told yet: stopped, or ended.
    async fn changed(&mut self) -> WaitStatus {
        for _ in 0..20_000 {
            let told = waitpid(Some(self.number()), WaitOptions::UNTRACED | WaitOptions::NOHANG).unwrap();
            if let Some((_, status)) = told {
                self.ended = status.exited() || status.signaled();
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the node neither stopped nor ended");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.ended {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Not a test: what the test binary does when it is started as a node.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests, as a node"]
async fn node() {
    if variable(ROLE).is_none() {
        return;
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let handover: Handover = serde_json::from_str(&line).unwrap();
    let leave = obey();
    let sandbox = Some(Sandbox { route: handover.route });
    let place = Place { database: &handover.database, port: 0 };
    let mut options = place.options(&handover.keys, sandbox, &handover.secret).unwrap();
    options.connections = 8;
    if let Some(state_dir) = handover.orders.state_dir {
        options.state_dir = state_dir;
    }
    if let Some((step, time)) = handover.orders.stop_at {
        options.hook = stop(step, time, leave);
    }
    let instance = Instance::start(options).await.unwrap();
    println!("node ready {}", instance.url());
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

/// Hears the parent: a byte lets go on what has stopped; the end of the pipe is the parent's end, and the node's.
fn obey() -> Receiver<()> {
    let (tell, leave) = mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while std::io::stdin().read_exact(&mut byte).is_ok() && tell.send(()).is_ok() {}
        std::process::exit(0);
    });
    leave
}

/// A hook that stops the process at one passing of one step.
fn stop(step: String, time: u32, leave: Receiver<()>) -> Hook {
    let (passed, leave) = (AtomicU32::new(0), Mutex::new(leave));
    Hook::new(move |reached| {
        if reached.as_str() != step || passed.fetch_add(1, Ordering::SeqCst) + 1 != time {
            return;
        }
        let mut out = std::io::stdout();
        writeln!(out, "stops at {step}").unwrap();
        out.flush().unwrap();
        kill_process(getpid(), Signal::STOP).unwrap();
        // The signal stops every thread, but not before this line: a few instructions later is a step too far.
        let _told = leave.lock().unwrap().recv();
    })
}
