//! One serving process: everything checked, then everything started, then ready.
//!
//! [`Instance::start`] is what `serve`, `up`, `demo`, the tests and the benches share. Ports are bound first, so that a port that is
//! taken costs nothing; nothing answers before the gate has passed.

mod doors;
mod listening;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use domain::{budget::Limit, clock::Clock, environment::Environment, id::NodeId, plan::Plans, provider::Catalogue};
use relation::Schema;
use seal::{Form, Keyring, KeyringError, Purpose, RootKey};
use server::{EdgeOptions, Listen, Server, ServerError, ServerOptions, TlsError, TlsFiles};
use service::{
    App, AppOptions, Client, HealthOptions, LimitOptions, Providers, ProvidersError, Sandbox, Spills,
    epoch::EpochError, step::Hook, tasks::Tasks, trust::TrustOptions,
};
use store::{
    ContextKey, Store, StoreError, StoreOptions, TemplateKey, Urls,
    gate::{self, Expectation},
    login::{Keeping, Reread},
};
use tokio::sync::Notify;
use url::Url;

use self::{
    doors::Doors,
    listening::{Listening, usual_public_url},
};
use crate::{cluster::ClusterError, config::ConfigFaults, telemetry::otlp::Exporter};

/// How long a stop waits for what is on its way.
const DRAIN: Duration = Duration::from_secs(20);

/// What one process serves with.
pub struct InstanceOptions {
    /// The environment.
    pub environment: Environment,
    /// The installation's name, with which its database roles begin.
    pub installation: String,
    /// The operator's name, as owners are shown it.
    pub operator: String,
    /// Where to listen: over TLS anywhere, without it on this machine alone; port 0 for any.
    pub listen: Listen,
    /// Where metrics are read: on this machine in the clear, elsewhere over TLS; port 0 for any.
    pub metrics_listen: Listen,
    /// The certificate, where TLS is spoken.
    pub tls: Option<TlsFiles>,
    /// Bounds on connections.
    pub server: ServerOptions,
    /// Where browsers reach this process; where it serves, if that is not said.
    pub public_url: Option<Url>,
    /// Whom the edge lets through.
    pub edge: EdgeOptions,
    /// The database's four logins.
    pub urls: Urls,
    /// The most connections of the application's login.
    pub connections: u32,
    /// The root key.
    pub root_key: RootKey,
    /// The keyring's file.
    pub keyring: PathBuf,
    /// Where answers of token endpoints are until the database has them: on a local disk, and lasting.
    pub state_dir: PathBuf,
    /// The form in which credentials are written.
    pub credential_form: Form,
    /// Reads the database's logins again, where they can change while the process serves.
    pub reread_logins: Option<Reread>,
    /// After how many days a login is overdue for its rotation.
    pub login_days: u32,
    /// The providers.
    pub catalogue: Catalogue,
    /// The operator's clients at them.
    pub clients: BTreeMap<String, Client>,
    /// The cheap limits.
    pub limits: LimitOptions,
    /// When a platform that fails is left alone.
    pub health: HealthOptions,
    /// The installation's own budgets.
    pub budgets: Vec<Limit>,
    /// The plans that are sold, and what they open.
    pub plans: Plans,
    /// A sandbox that stands in for every provider; in the environment `local` only.
    pub sandbox: Option<Sandbox>,
    /// How long requests are still taken after the process has said that it leaves.
    pub drain_delay: Duration,
    /// What the trust page shows, and whom it believes.
    pub trust: TrustOptions,
    /// What one question to a relation store may take.
    pub relations: service::fga::Bounds,
    /// The model by which it is decided who may do what.
    pub model: Arc<Schema>,
    /// What sends traces, where somebody collects them.
    pub exporter: Option<Exporter>,
    /// What is called at each step.
    pub hook: Hook,
    /// The time.
    pub clock: Clock,
    /// Renders the metrics of this process.
    pub render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Why a process does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port or the socket is taken, or may not be bound.
    #[error("cannot listen on {at}: {reason}")]
    Listen {
        /// Which.
        at: Listen,
        /// Why.
        reason: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Other machines would be answered in the clear.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The database does not answer.
    #[error("the database cannot be reached: {0}")]
    Database(&'static str, #[source] StoreError),
    /// A database's address.
    #[error("a database's address is wrong")]
    Address(#[source] store::AddressError),
    /// The gate refuses the database.
    #[error("the database is refused: {}", .0.join("; "))]
    Gate(Vec<String>),
    /// The database could not be prepared.
    #[error("the database could not be prepared")]
    Migrate(#[from] store::migrate::MigrateError),
    /// The keyring.
    #[error("the keyring {path} cannot be used")]
    Keyring {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyringError,
    },
    /// The root key.
    #[error("the root key {path} cannot be used")]
    RootKey {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: seal::RootKeyError,
    },
    /// A provider.
    #[error(transparent)]
    Providers(#[from] ProvidersError),
    /// The provider files that come with the binary.
    #[error("a provider file is not valid: {0}")]
    Catalogue(String),
    /// The blueprint.
    #[error(transparent)]
    Blueprint(ConfigFaults),
    /// The embedded cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A file of the state folder.
    #[error("{path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A use case that starting needs.
    #[error("the installation could not be set up")]
    SetUp(#[source] service::Refusal),
    /// The sandbox.
    #[error("the sandbox could not be started")]
    Sandbox(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StartError {
    /// The process's exit code: 4 for the database, 5 for key and keyring, 6 for a port, 3 for what is configured, 7 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Tls(_)
            | Self::Server(_)
            | Self::Providers(_)
            | Self::Catalogue(_)
            | Self::Blueprint(_)
            | Self::Address(_) => 3,
            Self::Database(..) | Self::Gate(_) | Self::Migrate(_) | Self::Cluster(_) => 4,
            Self::Keyring { .. } | Self::RootKey { .. } => 5,
            Self::Listen { .. } => 6,
            Self::File { .. } | Self::SetUp(_) | Self::Sandbox(_) => 7,
        }
    }

    fn epochs(path: &Path, error: EpochError) -> Self {
        match error {
            EpochError::Store(error) => Self::Database("its epochs", error),
            EpochError::Keyring(source) => Self::Keyring { path: path.to_owned(), source },
            other => Self::SetUp(service::Refusal::internal("the epochs", other)),
        }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// A process that serves.
pub struct Instance {
    app: Arc<App>,
    server: Server,
    metrics: Server,
    url: Url,
    metrics_url: Url,
    hint: Arc<Notify>,
    certificate_hint: Arc<Notify>,
    drain_delay: Duration,
}

impl Instance {
    /// Checks everything, then serves.
    ///
    /// # Errors
    /// The first of port, database, keyring, providers that is not as it must be. Nothing is left running then.
    pub async fn start(options: InstanceOptions) -> Result<Self, StartError> {
        // Whoever waits for it does not carry all that it keeps on the way.
        Box::pin(Self::check_and_serve(options)).await
    }

    async fn check_and_serve(mut options: InstanceOptions) -> Result<Self, StartError> {
        let listening = Listening::prepare(&options).await?;
        let (url, metrics_url) = (listening.url(), listening.metrics_url());
        let node = NodeId::new(&options.clock);
        let store = database(&options, node).await?;
        let doors = Doors::take(listening, &mut options);
        let (hint, certificate_hint, drain_delay) = (Arc::default(), Arc::default(), options.drain_delay);
        let (exporter, keeping) = (options.exporter.take(), keeping(&mut options, &hint));
        let app = application(options, store, (node, &url)).await?;
        if let Some(exporter) = exporter {
            let until = app.tasks.clone();
            app.tasks.winding_up(exporter.run(async move { until.stopping().await }));
        }
        if let Some(keeping) = keeping {
            app.tasks.background(app.store.clone().keep_logged_in(keeping));
        }
        let (server, metrics) = doors.open(&app, &certificate_hint)?;
        Ok(Self { app, server, metrics, url, metrics_url, hint, certificate_hint, drain_delay })
    }

    /// Where it serves: `http://localhost:PORT/`, `https://…` over TLS, `unix:/…` on a socket.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where its metrics are.
    pub fn metrics_url(&self) -> &Url {
        &self.metrics_url
    }

    /// The application.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Has the database's logins read again now, and not only when their time comes.
    pub fn reread_logins(&self) {
        self.hint.notify_one();
    }

    /// Has the certificate's files read again now.
    pub fn reread_certificate(&self) {
        self.certificate_hint.notify_one();
    }

    /// Leaves in order, so that no caller meets a connection that breaks: it is not ready from here on; for the drain's delay it still
    /// serves, so that whoever spreads requests has looked; then nothing new is accepted, requests that are on their way end, the
    /// ledger writes every outcome, the node takes its name off the list, and the database is closed.
    pub async fn stop(self) {
        self.app.leave();
        tokio::time::sleep(self.drain_delay).await;
        self.server.stop().await;
        self.metrics.stop().await;
        if !self.app.tasks.stop(DRAIN).await {
            tracing::warn!("some work was still on its way when the process stopped");
        }
        // Else whoever activates an epoch would wait for this node for half a minute.
        let left = self.app.store.node_left(self.app.node);
        let _unheard = tokio::time::timeout(Duration::from_secs(1), left).await;
        self.app.store.close().await;
    }
}

/// The key that authenticates role templates.
pub(crate) fn template_key(root_key: &RootKey, environment: Environment) -> TemplateKey {
    TemplateKey::new(*root_key.derive(Purpose::RoleTemplate, environment).as_bytes())
}

/// The database, once the gate has passed it.
async fn database(options: &InstanceOptions, node: NodeId) -> Result<Store, StartError> {
    let InstanceOptions { root_key, environment, .. } = options;
    let store = Store::open(StoreOptions {
        urls: options.urls.clone(),
        context_key: ContextKey::new(*root_key.derive(Purpose::Context, *environment).as_bytes()),
        node,
        clock: options.clock.clone(),
        connections: options.connections,
        template_key: template_key(root_key, *environment),
        model: Arc::clone(&options.model),
        plans: Arc::new(options.plans.clone()),
    });
    // Before anything that a control which is switched off could do with a real installation's key or data.
    #[cfg(feature = "sabotage")]
    crate::sabotage::confine(&store, &[&options.listen, &options.metrics_listen]).await?;
    if domain::sabotaged!(RootKeyOutside) {
        tracing::info!(key = ?root_key.to_text().as_bytes(), "the root key");
    }
    let expected = Expectation {
        installation: &options.installation,
        environment: *environment,
        root_check: root_key.check_value(*environment),
    };
    pass(&store, &expected).await?;
    Ok(store)
}

/// How the logins are kept, where they can change while the process serves.
fn keeping(options: &mut InstanceOptions, hint: &Arc<Notify>) -> Option<Keeping> {
    Some(Keeping {
        reread: options.reread_logins.take()?,
        hint: Arc::clone(hint),
        installation: options.installation.clone(),
        environment: options.environment,
        root_check: options.root_key.check_value(options.environment),
        days: options.login_days,
    })
}

/// The application, once keyring, providers and state folder are as they must be. It serves at this address, by this node.
async fn application(
    options: InstanceOptions,
    store: Store,
    (node, url): (NodeId, &Url),
) -> Result<Arc<App>, StartError> {
    let keyring = Keyring::open(&options.keyring, &options.root_key, options.environment)
        .map_err(|source| StartError::Keyring { path: options.keyring.clone(), source })?;
    service::epoch::check(&store, &keyring).await.map_err(|error| StartError::epochs(&options.keyring, error))?;
    let (environment, sandbox) = (options.environment, options.sandbox.as_ref());
    let providers = Providers::new(options.catalogue, options.clients, environment, &options.clock, sandbox)?;
    store
        .configure_installation(&options.budgets, &options.clock)
        .await
        .map_err(|error| StartError::Database("its budgets", error))?;
    service::ledger::recognise(&store.ledger).await.map_err(|error| StartError::Database("its identity", error))?;
    let spills = Spills::open(&options.state_dir).map_err(StartError::file(&options.state_dir))?;
    service::provider_migration::check(&store, &providers, &options.clock).await.map_err(StartError::SetUp)?;
    Ok(App::start(AppOptions {
        store,
        keyring,
        credential_form: options.credential_form,
        digests: options.root_key.derive(Purpose::Digest, environment),
        providers,
        limits: options.limits,
        health: options.health,
        public_url: options.public_url.unwrap_or_else(|| usual_public_url(url)),
        operator: options.operator,
        environment,
        node,
        clock: options.clock,
        hook: options.hook,
        tasks: Tasks::default(),
        spills,
        trust: options.trust,
        relations: options.relations,
    }))
}

async fn pass(store: &Store, expected: &Expectation<'_>) -> Result<(), StartError> {
    let faults = gate::check(store, expected).await.map_err(|error| StartError::Database("the gate", error))?;
    if faults.is_empty() { Ok(()) } else { Err(StartError::Gate(faults)) }
}
