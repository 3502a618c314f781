//! The four logins of a serving process, each with its own small pool, and the options that every connection has.

use std::{sync::Arc, time::Duration};

use domain::{clock::Clock, id::NodeId, plan::Plans};
use relation::Schema;
use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::log::LevelFilter;

use crate::{
    Address, ContextKey, Ledger, Loader, Lookup, Opener, StoreError, TemplateKey, login::Logins, role_template::Alarms,
    snapshot::Snapshots,
};

/// How long a caller waits for a connection before it is told that there is none.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(8);

/// Where each role logs in.
#[derive(Clone)]
pub struct Urls {
    /// Serves tenants under row-level security.
    pub app: Address,
    /// Calls the ledger's functions.
    pub ledger: Address,
    /// Calls the look-ups.
    pub lookup: Address,
    /// Reads facts; holds the listening connection.
    pub loader: Address,
}

/// What a store is made of.
pub struct StoreOptions {
    /// Where each role logs in.
    pub urls: Urls,
    /// The key that signs contexts.
    pub context_key: ContextKey,
    /// This process.
    pub node: NodeId,
    /// The time.
    pub clock: Clock,
    /// The most connections of the application's role; the others need fewer.
    pub connections: u32,
    /// The model by which facts are read.
    pub model: Arc<Schema>,
    /// The key that authenticates role templates.
    pub template_key: TemplateKey,
    /// The configured plans.
    pub plans: Arc<Plans>,
}

/// The database, as a serving process reaches it.
#[derive(Clone)]
pub struct Store {
    pub(crate) app: PgPool,
    pub(crate) key: Arc<ContextKey>,
    pub(crate) clock: Clock,
    pub(crate) logins: Logins,
    /// Questions asked before anybody is known.
    pub lookup: Lookup,
    /// Facts.
    pub loader: Loader,
    /// Acts.
    pub ledger: Ledger,
    /// Sealed credentials for acts.
    pub opener: Opener,
    /// The facts, in memory.
    pub snapshots: Snapshots,
}

impl Store {
    /// Opens the pools. Connections are made when they are first needed; [`crate::gate::check`] is what refuses a bad database.
    pub fn open(options: StoreOptions) -> Self {
        let StoreOptions { urls, context_key, node, clock, connections, model, template_key, plans } = options;
        let key = Arc::new(context_key);
        let logins = Logins::new(&urls, clock.clone());
        let pool = |address: Address, most| pool(&logins, address, most);
        let lookup = Lookup { pool: pool(urls.lookup, 4) };
        let templates = Arc::new(template_key);
        let loader = Loader {
            pool: pool(urls.loader, 6),
            key: Arc::clone(&key),
            clock: clock.clone(),
            model,
            templates,
            alarms: Alarms::default(),
            plans,
        };
        let ledger = Ledger::new(pool(urls.ledger, 6), node, clock.clone());
        let app = pool(urls.app, connections);
        let opener = Opener::new(app.clone(), Arc::clone(&key), clock.clone(), logins.turns());
        let snapshots = Snapshots::new(loader.clone(), clock.clone(), logins.turns());
        Self { app, key, clock, logins, lookup, loader, ledger, opener, snapshots }
    }

    /// The model by which facts are read.
    pub fn model(&self) -> &Arc<Schema> {
        &self.loader.model
    }

    /// The configured plans.
    pub fn plans(&self) -> &Plans {
        &self.loader.plans
    }

    /// The key that authenticates role templates.
    pub fn template_key(&self) -> &TemplateKey {
        &self.loader.templates
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.app.close().await;
        self.lookup.pool.close().await;
        self.loader.pool.close().await;
        self.ledger.close().await;
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// `Unavailable` where it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!("select 1 as one").fetch_one(&self.app).await?;
        Ok(())
    }
}

fn pool(logins: &Logins, address: Address, most: u32) -> PgPool {
    logins
        .watch_over(PgPoolOptions::new())
        .max_connections(most)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_lazy_with(with_limits(address.0))
}

/// Every statement and every idle transaction has an end: one long snapshot would slow the hot rows of everybody.
pub(crate) fn with_limits(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("keyholder")
        .options([
            ("search_path", "keyholder"),
            ("timezone", "UTC"),
            ("statement_timeout", "10s"),
            ("lock_timeout", "3s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ])
        .log_statements(LevelFilter::Off)
        .log_slow_statements(LevelFilter::Off, Duration::ZERO)
}
