//! The ground of a rehearsal: a scratch installation of the same binary, seen from outside.
//!
//! Its cluster and its keys were made by whoever runs the probes and are handed over as facts; the platform is the sandbox; nodes, servers
//! and the operator's commands are processes of the program itself. Each ends with its value, and with this process, however that ends: the end
//! of the pipe that is its standard input is a node's sign to stop, and the end of any other at once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::blueprint::Blueprint;
use sandbox::{Client, Platform, Sandbox};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::OnceCell,
};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    caller::Caller,
    evidence::Failure,
    owner::{expect, text},
    probe::Target,
};

/// How long a process of the program may take until it serves, or has done its work.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is in the line of JSON by which a server says that it serves, and in no other.
pub const SERVING: &str = "\"metrics_url\"";

/// What a ground is made of. Everything in it is for one scratch installation, and worth nothing elsewhere.
pub struct GroundOptions {
    /// The program under test.
    pub program: PathBuf,
    /// The control that its processes switch off, if any: an argument of theirs, nothing more.
    pub sabotage: Option<String>,
    /// A private folder for everything that probes write.
    pub folder: PathBuf,
    /// What a node is handed on its standard input, but for its port and its folder.
    pub handover: Value,
    /// What the configuration file of a server, and of the operator's commands, says of it: its settings.
    pub settings: String,
    /// The same: its tables, of which `[database]` is the last.
    pub tables: String,
    /// The database's logins: `app`, `ledger`, `lookup`, `loader`, and `owner`.
    pub logins: BTreeMap<&'static str, Zeroizing<String>>,
    /// The platform.
    pub sandbox: Sandbox,
    /// The provider that the platform doubles.
    pub provider: String,
    /// The operator's client there: its id and its secret.
    pub client: (String, Zeroizing<String>),
    /// The blueprint that is rehearsed.
    pub blueprint: Blueprint,
}

/// A scratch installation.
pub struct Ground {
    options: GroundOptions,
    node: OnceCell<Node>,
    target: OnceCell<Target>,
    redirects: Mutex<Vec<String>>,
    count: AtomicU32,
}

/// A workspace of a probe, with its admin's key.
#[derive(Clone)]
pub struct Workspace {
    /// Its id.
    pub id: String,
    /// Its admin, as a caller of the ground's first node.
    pub admin: Caller,
    /// The admin's key.
    pub key: Zeroizing<String>,
}

/// A node: a process that serves on the loopback address and reaches the sandbox.
pub struct Node {
    child: Child,
    /// Its end is the node's sign to stop.
    stdin: Option<ChildStdin>,
    /// Where it serves.
    pub url: Url,
    /// What it wrote to its log.
    pub log: PathBuf,
}

/// How a node's cheap limits are set, each in requests a minute; without it they are so wide that no probe meets them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of a network.
    pub network: u32,
    /// Of a principal.
    pub principal: u32,
    /// Wrong credentials of a network.
    pub failures: u32,
    /// Connect links of a network, and of a key.
    pub links: u32,
}

/// What is decided of a node; by default as of the one that all probes share.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeOptions<'o> {
    /// Its cheap limits.
    pub limits: Option<Limits>,
    /// Which lines it writes to its log, in the grammar of the command line. Not `info` alone: that is what a node takes for the wish to
    /// write nothing.
    pub log_filter: Option<&'o str>,
    /// Who stands in the platform's place: where he listens, and the certificate of the authority that is trusted for it, as DER.
    pub platform: Option<(SocketAddr, &'o [u8])>,
}

/// A process of the program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// A server: `serve` with a configuration of its own, which reaches no platform.
pub struct Serving {
    child: Child,
    /// Its end is the server's.
    _stdin: Option<ChildStdin>,
    /// Where it serves.
    pub url: Url,
    /// Where its metrics are read.
    pub metrics_url: Url,
    /// What it wrote to its log.
    pub log: PathBuf,
}

impl Ground {
    /// A ground of these parts. Nothing is started yet.
    pub fn new(options: GroundOptions) -> Self {
        Self {
            options,
            node: OnceCell::new(),
            target: OnceCell::new(),
            redirects: Mutex::default(),
            count: AtomicU32::new(0),
        }
    }

    /// The platform's side of the wire.
    pub fn platform(&self) -> &Platform {
        self.options.sandbox.platform()
    }

    /// The sandbox itself: its address and its certificate authority.
    pub fn sandbox(&self) -> &Sandbox {
        &self.options.sandbox
    }

    /// The provider that the platform doubles.
    pub fn provider(&self) -> &str {
        &self.options.provider
    }

    /// The blueprint that is rehearsed.
    pub fn blueprint(&self) -> &Blueprint {
        &self.options.blueprint
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.options.program
    }

    /// The address of a login of the database: `app`, `ledger`, `lookup`, `loader`, `owner`.
    ///
    /// # Errors
    /// `Unproven` for any other.
    pub fn login(&self, group: &str) -> Result<&str, Failure> {
        let login = self.options.logins.get(group);
        login.map(|url| url.as_str()).ok_or_else(|| Failure::unproven(format!("no login of {group} is at hand")))
    }

    /// The root key's text and the other secrets of the installation, for a probe that searches for them where they must not be.
    pub fn handover(&self) -> &Value {
        &self.options.handover
    }

    /// A private folder of its own for whoever asks.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let folder = self.options.folder.join(format!("{name}-{number}"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// The ground's first node, which all probes share. A probe that kills or limits one starts its own.
    ///
    /// # Errors
    /// `Unproven` where it does not start.
    pub async fn node(&self) -> Result<&Node, Failure> {
        self.node.get_or_try_init(|| self.start_node(None)).await
    }

    /// Starts a node of one's own.
    ///
    /// # Errors
    /// `Unproven` where it does not start.
    pub async fn start_node(&self, limits: Option<Limits>) -> Result<Node, Failure> {
        self.start_node_with(NodeOptions { limits, ..NodeOptions::default() }).await
    }

    /// Starts a node of one's own, of which more is decided.
    ///
    /// # Errors
    /// `Unproven` where it does not start.
    pub async fn start_node_with(&self, options: NodeOptions<'_>) -> Result<Node, Failure> {
        let folder = self.folder("node")?;
        let log = folder.join("log");
        let mut handover = self.options.handover.clone();
        if let Some(members) = handover.as_object_mut() {
            members.insert("state_dir".to_owned(), json!(folder.join("state")));
            members.insert("port".to_owned(), json!(0));
            members.insert("limits".to_owned(), options.limits.map_or(Value::Null, |it| {
                json!({ "network": it.network, "principal": it.principal, "failures": it.failures, "links": it.links })
            }));
            if let Some((addr, authority)) = options.platform {
                members.insert("sandbox".to_owned(), json!({ "route": { "addr": addr, "ca_der": authority } }));
            }
        }
        let mut child = self
            .command(&["node", "--log-format", "json", "--log-filter", options.log_filter.unwrap_or("debug")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::unproven("a node has no standard streams"));
        };
        let line = Zeroizing::new(format!("{handover}\n"));
        stdin.write_all(line.as_bytes()).await?;
        stdin.flush().await?;
        let ready = first_line(stdout, &log).await?;
        self.register(text(&ready, "/redirect_uri"))?;
        Ok(Node { child, stdin: Some(stdin), url: Url::parse(text(&ready, "/url"))?, log })
    }

    /// Has the platform send browsers back to this address, too: nodes that serve already keep theirs.
    fn register(&self, redirect: &str) -> Result<(), Failure> {
        let mut known = self.redirects.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(redirect.to_owned());
        let (id, secret) = &self.options.client;
        let client = Client::confidential(id, &**secret, redirect);
        let client = known.iter().fold(client, Client::and_redirect);
        Ok(self.platform().register(client)?)
    }

    /// A caller of a server, without a credential.
    pub fn stranger_at(&self, url: &Url) -> Caller {
        Caller::new(url, None)
    }

    /// A caller of the first node, without a credential.
    ///
    /// # Errors
    /// As [`Self::node`].
    pub async fn stranger(&self) -> Result<Caller, Failure> {
        Ok(self.stranger_at(&self.node().await?.url))
    }

    /// Makes a workspace with an admin's key, by the hand of the operator at the machine.
    ///
    /// # Errors
    /// `Unproven` where a command fails.
    pub async fn workspace(&self, name: &str) -> Result<Workspace, Failure> {
        let made = self.operate(&["workspace", "create", name]).await?;
        let id = text(&made, "/workspace").to_owned();
        let key = self
            .operate(&["api-key", "create", "--workspace", &id, "--role", "admin", "--label", "admin of a probe"])
            .await?;
        let key = Zeroizing::new(text(&key, "/api_key").to_owned());
        let admin = self.stranger().await?.with_key(&key);
        Ok(Workspace { id, admin, key })
    }

    /// A key of one of the operator's persons.
    ///
    /// # Errors
    /// `Unproven` where the command fails.
    pub async fn operator(&self, name: &str) -> Result<Zeroizing<String>, Failure> {
        let made = self.operate(&["operator", "create", name]).await?;
        Ok(Zeroizing::new(text(&made, "/operator_key").to_owned()))
    }

    /// A key that only publishes statements: its text.
    ///
    /// # Errors
    /// As [`Self::operate`].
    pub async fn publisher(&self, name: &str) -> Result<Zeroizing<String>, Failure> {
        let made = self.operate(&["operator", "create", name, "--only", "publish"]).await?;
        Ok(Zeroizing::new(text(&made, "/operator_key").to_owned()))
    }

    /// What production-safe probes are given: the first node, and a workspace there.
    ///
    /// # Errors
    /// As [`Self::workspace`].
    pub async fn target(&self) -> Result<&Target, Failure> {
        let made = self.target.get_or_try_init(async || -> Result<Target, Failure> {
            let workspace = self.workspace("Probe").await?;
            // As an operator does it who wants caps tried beside customers. Where no account can be connected, it is not for every probe to
            // say so: those that are about that do.
            let _connected = self.connect(&workspace.admin, "of_the_probes", &["profile.read"]).await;
            let blueprint = self.options.blueprint.clone();
            let (stranger, table) = (self.stranger().await?, self.table().await?);
            Ok(Target { admin: workspace.admin, stranger, table, blueprint })
        });
        made.await
    }

    /// Runs one of the operator's commands, and returns its line of JSON.
    ///
    /// # Errors
    /// `Unproven` where it fails.
    pub async fn operate(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let folder = self.folder("command")?;
        let file = folder.join("keyholder.toml");
        fs::write(&file, self.configuration("", ""))?;
        let file = file.to_string_lossy().into_owned();
        let ended = self.run(&[arguments, &["--config", &file, "--json"]].concat(), &[]).await?;
        if ended.status.success() {
            return Ok(serde_json::from_slice(&ended.stdout)?);
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        Err(Failure::unproven(format!("keyholder {}: {}", arguments.join(" "), said.trim())))
    }

    /// Runs the program to its end, with nothing in its environment but these variables.
    ///
    /// # Errors
    /// `Unproven` where it cannot be run, or does not end.
    pub async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Ended, Failure> {
        let mut command = self.tied(arguments);
        let mut child =
            command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Waiting for the output would close it first.
        let _held = child.stdin.take();
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.map_err(|_| Failure::unproven(format!("`{}` did not end", arguments.join(" "))))??;
        Ok(Ended { status: output.status, stdout: output.stdout, stderr: output.stderr })
    }

    /// Serves with a configuration file, until that ends by itself or says that it serves: then it is ended, and that was its output.
    ///
    /// # Errors
    /// `Unproven` where it cannot be run, or does neither.
    pub async fn try_serving(&self, file: &Path, variables: &[(&str, &str)]) -> Result<Ended, Failure> {
        let mut command = self.tied(&["serve", "--json", "--config", &file.to_string_lossy()]);
        let log = file.with_extension("log");
        let command = command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn()?;
        let (_held, stdout) = (child.stdin.take(), child.stdout.take());
        let stdout = stdout.ok_or_else(|| Failure::unproven("a server has no standard output"))?;
        let ended = tokio::time::timeout(PATIENCE, async {
            let (mut lines, mut said) = (BufReader::new(stdout).lines(), String::new());
            while let Some(line) = lines.next_line().await? {
                if line.contains(SERVING) {
                    child.start_kill()?;
                }
                said.extend([&*line, "\n"]);
            }
            io::Result::Ok(Ended { status: child.wait().await?, stdout: said.into_bytes(), stderr: fs::read(&log)? })
        });
        Ok(ended.await.map_err(|_| Failure::unproven("a server neither serves nor ends"))??)
    }

    /// The configuration of this installation as the text of a file, with more settings and more tables. Whatever it says already is
    /// overridden by a variable of the environment.
    pub fn configuration(&self, settings: &str, tables: &str) -> String {
        format!("{}{settings}\n{tables}\n{}", self.options.settings, self.options.tables)
    }

    /// Serves with a configuration's text, on this installation's database.
    ///
    /// # Errors
    /// Where it does not serve: [`Failure`] `Unproven` with what it said.
    pub async fn serve(&self, configuration: &str, variables: &[(&str, &str)]) -> Result<Serving, Failure> {
        let folder = self.folder("serve")?;
        let (file, log) = (folder.join("keyholder.toml"), folder.join("log"));
        fs::write(&file, configuration)?;
        let mut child = self
            .tied(&["serve", "--json", "--config", &file.to_string_lossy()])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::unproven("a server has no standard output"))?;
        let ready = first_line(stdout, &log).await?;
        let (url, metrics_url) = (Url::parse(text(&ready, "/url"))?, Url::parse(text(&ready, "/metrics_url"))?);
        Ok(Serving { _stdin: child.stdin.take(), child, url, metrics_url, log })
    }

    /// The program, which dies with its value and sees no variable of this process.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.options.program);
        command.args(arguments).env_clear().kill_on_drop(true);
        if let Some(point) = &self.options.sabotage {
            command.args(["--switched-off", point]);
        }
        command
    }

    /// The same, which ends with its standard input, and so with this process.
    fn tied(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.arg("--until-eof").stdin(Stdio::piped());
        command
    }

    /// Ends what is left of the ground, in order.
    pub async fn close(mut self) {
        if let Some(node) = self.node.take() {
            node.end().await;
        }
        self.options.sandbox.shutdown().await;
    }
}

impl Node {
    /// Lets it come to its end in order, and says whether it did so.
    pub async fn end(mut self) -> bool {
        drop(self.stdin.take());
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        matches!(ended, Ok(Ok(status)) if status.success())
    }

    /// SIGKILL, and waits until the process is reaped.
    pub async fn kill(mut self) {
        // An error says that it had ended by itself, which comes to the same.
        let _ended = self.child.kill().await;
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its log, as it stands now.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn log_text(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }
}

impl Serving {
    /// Kills it, and returns what it wrote to its log.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn kill(mut self) -> io::Result<String> {
        let _ended = self.child.kill().await;
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }
}

/// The line of JSON by which a process says that it serves.
async fn first_line(stdout: tokio::process::ChildStdout, log: &Path) -> Result<Value, Failure> {
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let line = line.map_err(|_| Failure::unproven("a process does not say that it serves"))??.unwrap_or_default();
    let ready: Value = serde_json::from_str(&line).unwrap_or_default();
    if ready.get("url").is_some() {
        return Ok(ready);
    }
    let log = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    Err(Failure::unproven(format!("a process does not serve: {line} {}", log.trim())))
}

/// An answer that is a problem of this type (RFC 9457), by the last part of its `type`.
///
/// # Errors
/// `Unproven`.
pub fn problem(reply: &crate::caller::Reply, status: u16) -> Result<String, Failure> {
    let body = expect(reply, status)?;
    Ok(text(&body, "/type").rsplit(':').next().unwrap_or_default().to_owned())
}
