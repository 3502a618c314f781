//! A stage: one database, one platform, one workspace, and no server. The nodes come and go, and what they leave behind stays.

use sandbox::Sandbox;
use service::step::Step;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use zeroize::Zeroizing;

use keyholder::{
    caller::Caller,
    local::{self, FirstKey},
};

use crate::{
    harness::{Ground, TestApp},
    node::{Node, Orders},
};

pub(super) struct Stage {
    ground: Ground,
    database: String,
    pub(super) sandbox: Sandbox,
    secret: Zeroizing<String>,
    first: FirstKey,
    /// What the nodes of this stage keep on their disk.
    state: TempDir,
}

/// Everybody who calls a node.
#[derive(Clone)]
pub(super) struct Callers {
    pub(super) admin: Caller,
    pub(super) stranger: Caller,
}

impl Stage {
    /// Takes a test's server away, and leaves the rest.
    pub(super) async fn after(app: TestApp) -> Self {
        let TestApp { ground, database, sandbox, secret, instance, first, .. } = app;
        instance.stop().await;
        Self { ground, database, sandbox, secret, first, state: TempDir::new().unwrap() }
    }

    /// A node on this stage, with the state folder of the one before; told to stop at a step, or not.
    pub(super) async fn node(&self, stop_at: Option<Step>) -> Node {
        let (keys, database, secret) = (self.ground.keys.clone(), self.database.clone(), self.secret.clone());
        let orders = stop_at.map_or_else(Orders::default, Orders::stop_at);
        let orders = Orders { state_dir: Some(self.state.path().to_owned()), ..orders };
        let route = local::route(&self.sandbox).route;
        let node = tokio::task::spawn_blocking(move || Node::launch(keys, &database, route, &secret, orders));
        let node = node.await.unwrap();
        local::register_at(&self.sandbox, &node.redirect_uri(), &self.secret).unwrap();
        node
    }

    pub(super) fn callers(&self, node: &Node) -> Callers {
        Callers { admin: node.caller(&self.first.text), stranger: node.stranger() }
    }

    /// A connection to this stage's database as its owner, for whom no policy holds.
    pub(super) async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.ground.owner_url(&self.database)).await.unwrap()
    }

    /// One number that the database knows.
    pub(super) async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&mut self.owner().await).await.unwrap()
    }

    /// Lets what is due later be due now: the time that it would wait is stated in the row, and nothing is learnt by waiting.
    pub(super) async fn hurry_jobs(&self) {
        let hurry = "update keyholder.jobs set run_at = clock_timestamp() where run_at > clock_timestamp()";
        sqlx::query(hurry).execute(&mut self.owner().await).await.unwrap();
    }

    pub(super) async fn clear(self) {
        self.sandbox.shutdown().await;
    }
}
