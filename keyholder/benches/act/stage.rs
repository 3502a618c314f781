//! Everything that takes part: a cluster, a sandbox, Keyholder in a process of its own, and nginx beside it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use domain::clock::Clock;
use http::{Method, Request, header};
use http_body_util::Full;
use keyholder::{
    Instance,
    cluster::{Binaries, ClusterOptions, Download},
    home::{Home, INSTALLATION},
    local::{self, Place},
    node::{Handover, Ready},
};
use rustix::process::Pid;
use sandbox::{Sandbox, SandboxOptions};
use serde_json::json;
use store::tally;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
};
use url::Url;
use zeroize::Zeroizing;

use super::{
    commit,
    grounds::{ACCOUNT, Entrusted, Outcome, entrust, postgres_bin, search_path},
    load::{Door, Make},
    nginx::Nginx,
    process::{self, PROGRAM},
};

/// The name that the platform proves, and the read that is measured.
const HOST: &str = "api.x.com";
const READ: &str = "/2/users/me";
/// How long a post's text is, in characters.
const TEXT: usize = 120;

/// Everything that takes part.
pub(crate) struct Stage {
    pub(crate) home: Home,
    sandbox: Sandbox,
    node: Node,
    pub(crate) nginx: Option<Nginx>,
    entrusted: Entrusted,
    token: String,
    posts: Arc<AtomicU64>,
}

/// Keyholder in a process of its own, which ends when its standard input does.
struct Node {
    child: Child,
    pid: Pid,
    stdin: ChildStdin,
    url: Url,
    redirect_uri: String,
}

impl Stage {
    pub(crate) async fn set(clock: &Clock) -> Outcome<Self> {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let cluster = ClusterOptions {
            download: Download::Allowed,
            search_path: search_path(),
            binaries: Binaries::from_setting(postgres_bin().as_deref()),
            ..ClusterOptions::new(PathBuf::from(PROGRAM), cache)
        };
        let home = Home::open(None, cluster, clock).await?;
        commit::prepare(&home).await?;
        let sandbox = Sandbox::start(SandboxOptions::default()).await?;
        sandbox.platform().set_rate_limit(u32::MAX);
        let secret = Zeroizing::new(domain::random::token());
        let admin = first_key(&home, &sandbox, &secret).await?;
        let node = Node::launch(&home, &sandbox, &secret).await?;
        local::register_at(&sandbox, &node.redirect_uri, &secret)?;
        let actions = ["post.create", "profile.read"];
        let entrusted = entrust(sandbox.platform(), &node.url, &admin, &actions).await?;
        let token = sandbox.platform().last_access_token(ACCOUNT).ok_or("there is no token")?;
        let nginx = Nginx::start(&sandbox).await?;
        Ok(Self { home, sandbox, node, nginx, entrusted, token, posts: Arc::default() })
    }

    /// Straight to the platform, over TLS, with a valid token.
    pub(crate) fn direct(&self) -> Door {
        let tls = Some((self.sandbox.ca_der().clone(), HOST));
        Door { addr: self.sandbox.addr(), tls, make: self.platforms_own() }
    }

    /// The same request through nginx.
    pub(crate) fn through(&self, nginx: &Nginx) -> Door {
        Door { addr: nginx.addr, tls: None, make: self.platforms_own() }
    }

    /// The platform's own request.
    fn platforms_own(&self) -> Make {
        let bearer = format!("Bearer {}", self.token);
        Arc::new(move || {
            let request = Request::builder().method(Method::GET).uri(READ).header(header::HOST, HOST);
            Ok(request.header(header::AUTHORIZATION, &bearer).body(Full::default())?)
        })
    }

    /// Acts that come to the same request at the platform.
    pub(crate) fn read(&self) -> Outcome<Door> {
        let body = json!({ "mandate": self.entrusted.mandate, "action": "profile.read", "input": {} }).to_string();
        self.act(move || (body.clone(), None))
    }

    /// Acts that post, each under a key of its own.
    pub(crate) fn write(&self) -> Outcome<Door> {
        let (mandate, posts) = (self.entrusted.mandate.clone(), Arc::clone(&self.posts));
        self.act(move || {
            let number = posts.fetch_add(1, Ordering::Relaxed);
            let text = format!("{number:0>TEXT$}");
            let input = json!({ "text": text });
            let body = json!({ "mandate": mandate, "action": "post.create", "input": input }).to_string();
            (body, Some(format!("post-{number}")))
        })
    }

    fn act(&self, next: impl Fn() -> (String, Option<String>) + Send + Sync + 'static) -> Outcome<Door> {
        let addr = SocketAddr::from(([127, 0, 0, 1], self.node.url.port().ok_or("a node without a port")?));
        let host = format!("localhost:{}", addr.port());
        let bearer = format!("Bearer {}", self.entrusted.key);
        let make: Make = Arc::new(move || {
            let (body, key) = next();
            let mut request = Request::builder()
                .method(Method::POST)
                .uri("/v1/acts")
                .header(header::HOST, &host)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::AUTHORIZATION, &bearer);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            Ok(request.body(Full::new(Bytes::from(body)))?)
        });
        Ok(Door { addr, tls: None, make })
    }

    /// The process that serves.
    pub(crate) fn pid(&self) -> Pid {
        self.node.pid
    }

    /// Compares what was asked for, what the platform has seen, what the ledger settled and what the budgets count.
    pub(crate) async fn account(&self) -> Outcome<()> {
        let asked = self.posts.load(Ordering::Relaxed);
        let seen = self.sandbox.platform().posts_written_by(ACCOUNT);
        let owner = self.home.owner(INSTALLATION)?;
        let acts = tally::acts(&owner).await?;
        let budgets = tally::budgets(&owner).await?;
        let settled = u64::try_from(acts.settled)?;
        let others = acts.admitted + acts.not_sent + acts.ambiguous;
        if asked == seen && seen == settled && others == 0 && budgets.drift == 0 && budgets.overspent == 0 {
            return Ok(());
        }
        Err(format!(
            "{asked} posts were asked for, the platform has seen {seen}, {settled} acts are settled and {others} are not; \
             budgets: {budgets:?}"
        )
        .into())
    }

    /// Takes everything down.
    pub(crate) async fn strike(self) -> Outcome<()> {
        let Self { home, sandbox, node, nginx, .. } = self;
        node.end().await?;
        drop(nginx);
        sandbox.shutdown().await;
        Ok(home.close().await?)
    }
}

/// The first key of a workspace, which the operator makes at this machine before the node starts.
async fn first_key(home: &Home, sandbox: &Sandbox, secret: &Zeroizing<String>) -> Outcome<Zeroizing<String>> {
    let place = Place { database: INSTALLATION, port: 0 };
    let instance = Instance::start(place.options(home.keys(), Some(local::route(sandbox)), secret)?).await?;
    let first = local::create_workspace(instance.app(), "Acme").await?;
    instance.stop().await;
    Ok(first.text)
}

impl Node {
    /// Starts the release's own program, with the cheap limits out of the way and everything else as it is.
    async fn launch(home: &Home, sandbox: &Sandbox, secret: &Zeroizing<String>) -> Outcome<Self> {
        let mut child = Command::new(PROGRAM)
            // Its log is written as `serve` writes it, a line a request. Named like this, since a node's usual log is silent.
            .args(["node", "--log-format", "json", "--log-filter", "info,keyholder=info"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (mut stdin, stdout) = child.stdin.take().zip(child.stdout.take()).ok_or("a node without pipes")?;
        let handover = Handover {
            keys: home.keys().clone(),
            database: INSTALLATION.to_owned(),
            sandbox: local::route(sandbox),
            secret: secret.clone(),
            port: 0,
            state_dir: home.keys().node_state(INSTALLATION),
            blueprint: None,
            limits: None,
        };
        let mut line = Zeroizing::new(serde_json::to_vec(&handover)?);
        line.push(b'\n');
        stdin.write_all(&line).await?;
        let said = BufReader::new(stdout).lines().next_line().await?.unwrap_or_default();
        let Ready { url, redirect_uri, .. } =
            serde_json::from_str(&said).map_err(|_| format!("a node does not serve: {said}"))?;
        let pid = process::number_of(&child)?;
        Ok(Self { child, pid, stdin, url: Url::parse(&url)?, redirect_uri })
    }

    async fn end(mut self) -> Outcome<()> {
        drop(self.stdin);
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("the node ended with {status}").into()) }
    }
}
