//! The grounds of a soak: a home, a platform, two nodes in processes of their own, and what callers need to act on them.
//!
//! Owns everything that a fault may take away, and puts it back.

use std::{
    iter,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use domain::{clock::Clock, random};
use sandbox::{Client, Sandbox, SandboxOptions};
use serde_json::json;
use store::Address;
use tempfile::TempDir;
use url::Url;
use zeroize::Zeroizing;

use super::{
    SoakError,
    child::{Berth, Running},
};
use crate::{
    Instance, StartError,
    caller::Caller,
    cluster::ClusterOptions,
    demo::stage::{Fault, RETURN, Wanted, consent, expect, text},
    home::{Home, INSTALLATION},
    local::{self, CLIENT_ID, Place},
};

/// How many workspaces there are, and accounts in each.
const WORKSPACES: usize = 4;
const ACCOUNTS: usize = 2;
/// What the callers do.
const ACTIONS: [&str; 2] = ["post.create", "profile.read"];
/// The small budget: so many posts a month.
pub(super) const NARROW: u64 = 200;
/// A budget that nobody empties.
const BROAD: u64 = 1_000_000_000;
/// How long access tokens live, in seconds: so short that Keyholder refreshes all the time.
const TOKEN_LIFETIME_S: u64 = 12;
/// The posts that the platform keeps. All are counted.
const POSTS_KEPT: usize = 1_000;

/// Where a caller acts: an account, its connection, and the mandates of one agent on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// Which workspace.
    pub(super) workspace: usize,
    /// The account's handle at the platform.
    pub(super) account: String,
    /// The agent's key, and its id.
    pub(super) agent: String,
    agent_key: String,
    /// The connection.
    pub(super) connection: String,
    /// The mandate with the large budget.
    pub(super) mandate: String,
    /// The mandate with the small one. A lane that has it is neither revoked nor disconnected.
    pub(super) narrow: Option<String>,
}

/// All lanes. One is exchanged for another when its mandate or its connection ends.
pub(super) struct Lanes {
    /// The one with the small budget, which is never exchanged.
    first: Arc<Lane>,
    others: Vec<RwLock<Arc<Lane>>>,
}

impl Lanes {
    fn new(first: Lane, others: impl Iterator<Item = Lane>) -> Self {
        Self { first: Arc::new(first), others: others.map(|lane| RwLock::new(Arc::new(lane))).collect() }
    }

    pub(super) fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// A lane as it is now; the first, where there is none at that place.
    pub(super) fn get(&self, at: usize) -> Arc<Lane> {
        let other = at.checked_sub(1).and_then(|at| self.others.get(at));
        other.map_or_else(
            || Arc::clone(&self.first),
            |lane| Arc::clone(&lane.read().unwrap_or_else(PoisonError::into_inner)),
        )
    }

    /// Exchanges a lane, which must not be the first.
    pub(super) fn put(&self, at: usize, new: Lane) {
        if let Some(lane) = at.checked_sub(1).and_then(|at| self.others.get(at)) {
            *lane.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        }
    }
}

/// What stands for as long as a soak runs.
pub(super) struct Grounds {
    /// Gone only while the database is restarted.
    home: Option<Home>,
    pub(super) owner: Address,
    pub(super) sandbox: Sandbox,
    pub(super) berths: [Berth; 2],
    pub(super) nodes: [Option<Running>; 2],
    /// A caller of each node without a key.
    pub(super) callers: [Caller; 2],
    /// The key of each workspace's admin.
    admins: Vec<Zeroizing<String>>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) clock: Clock,
    _folder: TempDir,
}

/// What the grounds are laid with.
pub(super) struct Plot {
    pub(super) cluster: ClusterOptions,
    /// Flags of the nodes' logs.
    pub(super) node_flags: Vec<String>,
}

impl Grounds {
    /// Lays the grounds: everything runs, and every account is connected.
    pub(super) async fn lay(plot: Plot) -> Result<Self, SoakError> {
        let clock = Clock::system();
        let program = plot.cluster.launcher.clone();
        let home = Home::open(None, plot.cluster, &clock).await?;
        let owner = home.owner(INSTALLATION)?;
        let accounts = (0..WORKSPACES * ACCOUNTS).map(|number| (format!("soak_{number}"), format!("Soak {number}")));
        let options = SandboxOptions {
            accounts: accounts.collect(),
            token_lifetime_s: TOKEN_LIFETIME_S,
            most_posts: POSTS_KEPT,
            ..SandboxOptions::default()
        };
        let sandbox = Sandbox::start(options).await.map_err(|error| StartError::Sandbox(Box::new(error)))?;
        let secret = Zeroizing::new(random::token());
        let admins = workspaces(&home, &sandbox, &secret).await?;

        let folder = TempDir::new().map_err(StartError::file(Path::new("a temporary folder")))?;
        let berth = |name: &str| Berth {
            program: program.clone(),
            flags: plot.node_flags.clone(),
            keys: home.keys().clone(),
            sandbox: local::route(&sandbox),
            secret: secret.clone(),
            state_dir: folder.path().join(name),
            port: 0,
        };
        let mut berths = ["first", "second"].map(berth);
        for berth in &berths {
            make_private(&berth.state_dir)?;
        }
        let [first, second] = &mut berths;
        let nodes = [first.launch().await?, second.launch().await?];
        let client = Client::confidential(CLIENT_ID, &*secret, nodes[0].ready.redirect_uri.clone())
            .and_redirect(nodes[1].ready.redirect_uri.clone());
        sandbox.platform().register(client).map_err(|error| StartError::Sandbox(Box::new(error)))?;
        let callers = [caller(&nodes[0].ready.url)?, caller(&nodes[1].ready.url)?];
        let mut grounds = Self {
            home: Some(home),
            owner,
            sandbox,
            berths,
            nodes: nodes.map(Some),
            callers,
            admins,
            lanes: Arc::new(Lanes::new(Lane::default(), iter::empty())),
            clock,
            _folder: folder,
        };
        let mut lanes = grounds.open_lanes().await?.into_iter();
        let first = lanes.next().ok_or(SoakError::Lost("the first lane"))?;
        grounds.lanes = Arc::new(Lanes::new(first, lanes));
        Ok(grounds)
    }

    async fn open_lanes(&self) -> Result<Vec<Lane>, SoakError> {
        let mut lanes = Vec::new();
        for workspace in 0..WORKSPACES {
            let admin = self.admin(workspace);
            expect(&admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await?, 201)?;
            let limit = json!({ "scope": "workspace", "unit": "posts", "per": "month", "cap": BROAD });
            let budget = admin.post("/v1/budgets", &limit).await?;
            if !budget.status.is_success() {
                return Err(Fault(budget.json().to_string()).into());
            }
            for account in 0..ACCOUNTS {
                let made = admin.post("/v1/api-keys", &json!({ "label": "soak agent", "role": "service" })).await?;
                let made = expect(&made, 201)?;
                let mut lane = Lane {
                    workspace,
                    account: format!("soak_{}", workspace * ACCOUNTS + account),
                    agent: text(&made, "/key").to_owned(),
                    agent_key: text(&made, "/id").to_owned(),
                    connection: String::new(),
                    mandate: String::new(),
                    narrow: None,
                };
                self.connect(&mut lane).await?;
                if lanes.is_empty() {
                    lane.narrow = Some(self.give_mandate(&lane, NARROW).await?);
                }
                lanes.push(lane);
            }
        }
        Ok(lanes)
    }

    /// The admin of a workspace, as a caller of the first node.
    pub(super) fn admin(&self, workspace: usize) -> Caller {
        let key = self.admins.get(workspace).map(|key| key.as_str()).unwrap_or_default();
        self.callers[0].with_key(key)
    }

    /// Connects the lane's account anew, and gives its agent a mandate there.
    pub(super) async fn connect(&self, lane: &mut Lane) -> Result<(), Fault> {
        let wanted = Wanted { account: &lane.account, actions: &ACTIONS, connection: None };
        let (stranger, admin) = (&self.callers[0], self.admin(lane.workspace));
        lane.connection = consent(self.sandbox.platform(), stranger, &admin, &wanted).await?.0;
        lane.mandate = self.give_mandate(lane, BROAD).await?;
        Ok(())
    }

    /// Has the lane's owner consent anew to the connection that there is.
    pub(super) async fn reconnect(&self, lane: &Lane) -> Result<(), Fault> {
        let wanted = Wanted { account: &lane.account, actions: &ACTIONS, connection: Some(&lane.connection) };
        let (stranger, admin) = (&self.callers[0], self.admin(lane.workspace));
        consent(self.sandbox.platform(), stranger, &admin, &wanted).await.map(drop)
    }

    /// Gives the lane's agent a mandate on its connection.
    pub(super) async fn give_mandate(&self, lane: &Lane, posts: u64) -> Result<String, Fault> {
        let terms = json!({
            "connection": lane.connection, "grantee": lane.agent_key, "actions": ACTIONS,
            "limits": [{ "unit": "posts", "per": "month", "cap": posts }],
        });
        let made = expect(&self.admin(lane.workspace).post("/v1/mandates", &terms).await?, 201)?;
        Ok(text(&made, "/id").to_owned())
    }

    /// Kills the database, and starts it again after `down`.
    pub(super) async fn crash_database(&mut self, down: std::time::Duration) -> Result<(), SoakError> {
        let Some(home) = self.home.take() else { return Err(SoakError::Lost("the database")) };
        let how = home.kill9().await;
        tracing::info!(how, "the database was killed");
        tokio::time::sleep(down).await;
        self.home = Some(home.restart().await?);
        Ok(())
    }

    /// Takes everything down, and says whether the nodes came to their end in order.
    pub(super) async fn close(self) -> Result<bool, SoakError> {
        let mut in_order = true;
        for node in self.nodes.into_iter().flatten() {
            in_order &= node.end().await;
        }
        self.sandbox.shutdown().await;
        if let Some(home) = self.home {
            home.close().await?;
        }
        Ok(in_order)
    }
}

/// Makes the workspaces, by the hand of the operator: in this process, before there is a node.
async fn workspaces(
    home: &Home,
    sandbox: &Sandbox,
    secret: &Zeroizing<String>,
) -> Result<Vec<Zeroizing<String>>, SoakError> {
    let place = Place { database: INSTALLATION, port: 0 };
    let instance = Instance::start(place.options(home.keys(), Some(local::route(sandbox)), secret)?).await?;
    let mut keys = Vec::new();
    for number in 0..WORKSPACES {
        keys.push(local::create_workspace(instance.app(), &format!("Soak {number}")).await?.text);
    }
    instance.stop().await;
    Ok(keys)
}

fn caller(url: &str) -> Result<Caller, SoakError> {
    let url = Url::parse(url).map_err(|_| SoakError::NotServing(url.to_owned()))?;
    Ok(Caller::new(&url, None))
}

fn make_private(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(StartError::file(path))
}
