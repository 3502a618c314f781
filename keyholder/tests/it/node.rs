//! Nodes: the test binary started again as a server of its own, with its own pid, which a test may stop, kill or let race.
//!
//! Everything a node needs is handed over on its standard input, an inherited pipe: the way to the sandbox exists in no file, row or
//! variable.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};

use keyholder::{Instance, caller::Caller, home::Keys, local::Place};
use serde::{Deserialize, Serialize};
use service::Sandbox;
use url::Url;
use zeroize::Zeroizing;

use crate::harness::{TestApp, home, variable};

/// The variable that tells the test binary to be a node.
const ROLE: &str = "KEYHOLDER_TEST_NODE";

/// What a node is handed.
#[derive(Serialize, Deserialize)]
struct Handover {
    keys: Keys,
    database: String,
    route: egress::SandboxRoute,
    secret: Zeroizing<String>,
}

/// A node in a process of its own. Killed when dropped.
pub(crate) struct Node {
    child: Child,
    url: Url,
}

impl Node {
    /// Starts a node on the test's database and platform.
    pub(crate) fn start(app: &TestApp) -> Self {
        let handover = Handover {
            keys: home().keys().clone(),
            database: app.database.clone(),
            route: keyholder::local::route(&app.sandbox).route,
            secret: app.secret.clone(),
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node::node", "--ignored", "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&serde_json::to_vec(&handover).unwrap()).unwrap();
        drop(stdin);
        let url = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Url::parse(line.split_once("node ready ")?.1).ok())
            .unwrap();
        Self { child, url }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A caller of this node, with the key of another caller's.
    pub(crate) fn caller(&self, key: &str) -> Caller {
        Caller::new(&self.url, None).with_key(key)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Not a test: what the test binary does when it is started as a node.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests, as a node"]
async fn node() {
    if variable(ROLE).is_none() {
        return;
    }
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).unwrap();
    let handover: Handover = serde_json::from_slice(&text).unwrap();
    let sandbox = Some(Sandbox { route: handover.route });
    let place = Place { database: &handover.database, port: 0 };
    let mut options = place.options(&handover.keys, sandbox, &handover.secret).unwrap();
    options.connections = 8;
    let instance = Instance::start(options).await.unwrap();
    println!("node ready {}", instance.url());
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}
