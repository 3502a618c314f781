//! Everything on one machine: a home, a sandbox in the providers' place, and an instance. What `up`, `demo` and the tests run.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use domain::{
    clock::Clock,
    environment::Environment,
    id::{KeyId, WorkspaceId},
    plan::{Plan, Plans},
    principal::Principal,
    provider::Catalogue,
    random,
};
use sandbox::{Client as PlatformClient, SandboxOptions};
use seal::{Form, RootKey};
use server::{EdgeOptions, ServerOptions};
use service::{App, Client, HealthOptions, LimitOptions, Sandbox, step::Hook, trust::TrustOptions};
use store::api_key::Role;
use zeroize::Zeroizing;

use crate::{
    Instance, InstanceOptions, StartError,
    cluster::ClusterOptions,
    config::{Preset, named_blueprint},
    home::{Home, INSTALLATION, Keys},
};

/// The provider that a sandbox doubles, and the operator's client there.
pub const PROVIDER: &str = "x";
pub(crate) const CLIENT_ID: &str = "keyholder-local";

/// What a local installation is started with.
pub struct LocalOptions {
    /// The state folder; a throwaway one where there is none.
    pub state: Option<PathBuf>,
    /// The cluster.
    pub cluster: ClusterOptions,
    /// The port to serve on; 0 for any.
    pub port: u16,
    /// What a blueprint configures, where one is run.
    pub preset: Option<Preset>,
    /// What is called at each step.
    pub hook: Hook,
    /// Renders the metrics of this process.
    pub render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// A local installation.
pub struct Local {
    home: Home,
    sandbox: sandbox::Sandbox,
    instance: Instance,
}

/// A workspace with the first key of its admin, whose text is shown this once.
pub struct FirstKey {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The key's id.
    pub key: KeyId,
    /// The key's text.
    pub text: Zeroizing<String>,
}

impl Local {
    /// Starts everything.
    ///
    /// # Errors
    /// Whatever does not start, by name.
    pub async fn start(options: LocalOptions) -> Result<Self, StartError> {
        let home = Home::open(options.state.as_deref(), options.cluster, &Clock::system()).await?;
        let sandbox = sandbox::Sandbox::start(SandboxOptions::default())
            .await
            .map_err(|error| StartError::Sandbox(Box::new(error)))?;
        let secret = Zeroizing::new(random::token());
        let place = Place { database: INSTALLATION, port: options.port };
        let mut wanted = place.options(home.keys(), Some(route(&sandbox)), &secret)?;
        if let Some(preset) = options.preset {
            preset.apply(&mut wanted);
        }
        wanted.hook = options.hook;
        wanted.render_metrics = options.render_metrics;
        let instance = Instance::start(wanted).await?;
        register(&sandbox, &instance, &secret)?;
        Ok(Self { home, sandbox, instance })
    }

    /// The instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The sandbox.
    pub fn sandbox(&self) -> &sandbox::Sandbox {
        &self.sandbox
    }

    /// The home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The database, by the application's own login.
    pub fn database_url(&self) -> Zeroizing<String> {
        self.home.keys().url("app", INSTALLATION)
    }

    /// Makes a workspace with an admin's key.
    ///
    /// # Errors
    /// `SetUp`.
    pub async fn create_workspace(&self, name: &str) -> Result<FirstKey, StartError> {
        create_workspace(self.instance.app(), name).await
    }

    /// Stops everything, in the order in which it depends on each other.
    ///
    /// # Errors
    /// `Cluster` where the database does not stop.
    pub async fn stop(self) -> Result<(), StartError> {
        self.instance.stop().await;
        self.sandbox.shutdown().await;
        self.home.close().await
    }
}

/// Makes a workspace with an admin's key, by the hand of the operator at this machine.
///
/// # Errors
/// `SetUp`.
pub async fn create_workspace(app: &App, name: &str) -> Result<FirstKey, StartError> {
    let operator = Principal::operator("local", app.clock.now());
    let workspace = service::workspace::create(app, &operator, name).await.map_err(StartError::SetUp)?;
    let (key, text) = service::workspace::issue_key(app, &operator, workspace, "first key", Role::Admin, None)
        .await
        .map_err(StartError::SetUp)?;
    Ok(FirstKey { workspace, key, text })
}

/// How an instance gets to a sandbox.
pub fn route(sandbox: &sandbox::Sandbox) -> Sandbox {
    Sandbox::new(sandbox.addr(), sandbox.ca_der().to_vec())
}

/// Tells the platform of an instance's client and where it may send browsers back to.
///
/// # Errors
/// `Sandbox`.
pub fn register(sandbox: &sandbox::Sandbox, instance: &Instance, secret: &str) -> Result<(), StartError> {
    register_at(sandbox, &instance.app().redirect_uri(PROVIDER), secret)
}

/// The same, for an instance that another process runs.
///
/// # Errors
/// `Sandbox`.
pub fn register_at(sandbox: &sandbox::Sandbox, redirect: &str, secret: &str) -> Result<(), StartError> {
    let client = PlatformClient::confidential(CLIENT_ID, secret, redirect);
    sandbox.platform().register(client).map_err(|error| StartError::Sandbox(Box::new(error)))
}

/// Which database of a home an instance serves, and on which port.
pub struct Place<'a> {
    /// The database.
    pub database: &'a str,
    /// The port; 0 for any.
    pub port: u16,
}

impl Place<'_> {
    /// The options of an instance there.
    ///
    /// # Errors
    /// `RootKey`, `Catalogue`.
    pub fn options(
        &self,
        keys: &Keys,
        sandbox: Option<Sandbox>,
        secret: &Zeroizing<String>,
    ) -> Result<InstanceOptions, StartError> {
        let root_key = RootKey::from_text(keys.root_key())
            .map_err(|source| StartError::RootKey { path: PathBuf::from("root.key"), source })?;
        let catalogue = Catalogue::embedded().map_err(|faults| {
            StartError::Catalogue(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        let client = Client { id: CLIENT_ID.to_owned(), secret: Some(secret.clone()) };
        Ok(InstanceOptions {
            environment: Environment::Local,
            installation: INSTALLATION.to_owned(),
            operator: "Local operator".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into(),
            metrics_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            tls: None,
            server: ServerOptions::default(),
            public_url: None,
            edge: EdgeOptions::default(),
            urls: keys.urls(self.database)?,
            connections: 16,
            root_key,
            keyring: keys.keyring().to_owned(),
            state_dir: keys.node_state(self.database),
            credential_form: Form::default(),
            reread_logins: None,
            login_days: 90,
            catalogue,
            clients: BTreeMap::from([(PROVIDER.to_owned(), client)]),
            limits: LimitOptions::default(),
            health: HealthOptions::default(),
            budgets: Vec::new(),
            plans: plans(),
            sandbox,
            drain_delay: Duration::ZERO,
            trust: TrustOptions::default(),
            relations: service::fga::Bounds::default(),
            model: relation::permission::own(),
            exporter: None,
            hook: Hook::default(),
            clock: Clock::system(),
            render_metrics: Arc::new(String::new),
        })
    }
}

/// The plans of an installation that says none: what hangs on plans can be tried on one machine too.
fn plans() -> Plans {
    let plan = |name: &str, features: &[&str], is_default| {
        let features = features.iter().filter_map(|name| name.parse().ok()).collect();
        name.parse().ok().map(|name| Plan { name, features, is_default })
    };
    let all = [plan("FREE", &["standard"], true), plan("PRO", &["standard", "priority"], false)];
    Plans::new(all.into_iter().flatten().collect()).unwrap_or_default()
}

/// Gives an instance what a shipped blueprint configures of it.
///
/// # Errors
/// `Blueprint` for a name that is none.
pub fn apply_blueprint(options: &mut InstanceOptions, name: &str) -> Result<(), StartError> {
    let named = named_blueprint(name).and_then(|blueprint| Preset::of(&blueprint));
    named.map_err(StartError::Blueprint)?.apply(options);
    Ok(())
}
