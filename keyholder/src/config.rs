//! The configuration: one struct, read once, resolved and validated before a port is bound.
//!
//! Five layers, each over the one before: the base (defaults that depend on the environment), the blueprint (where one is named), the
//! overlay (one TOML file), the environment's variables, the command line's flags. What is not known is refused in every one of
//! them. All faults are told at once, each by the name that the operator wrote. There is no default key.
//!
//! [`Config::load`] takes its sources as data. It reads the files that the settings name (secrets, provider files, a blueprint) and
//! nothing else: never an environment variable, never the command line.

mod base;
mod blueprint;
mod database;
mod edge;
mod fault;
mod gather;
mod listen;
mod operating;
mod plans;
mod provider_files;
mod resolve;
mod secret;
#[cfg(test)]
mod tests;
mod trust;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use domain::{
    blueprint::Blueprint, budget::Limit, clock::Clock, environment::Environment, plan::Plans, provider::Catalogue,
};
use relation::Schema;
use seal::{Form, RootKey};
use server::{EdgeOptions, Listen, ServerOptions, TlsFiles};
use service::{Client, HealthOptions, LimitOptions, step::Hook, trust::TrustOptions};
use store::{Address, Urls};
use url::Url;

pub(crate) use self::{
    blueprint::lint as lint_blueprint, database::with_login, provider_files::text as provider_text, secret::read_lines,
};
pub use self::{
    blueprint::{Preset, named as named_blueprint},
    fault::{ConfigFaults, Fault, Kind},
    gather::{Setting, settings},
    secret::Secret,
    trust::shown as trust_of,
};
use self::{gather::gather, resolve::Resolver};
#[cfg(feature = "sandbox")]
pub(crate) use self::{secret::read as read_secret, trust::attest};
use crate::{
    InstanceOptions,
    cluster::Binaries,
    telemetry::{Format, otlp::OtlpOptions},
};

/// Where a configuration comes from, as data.
#[derive(Clone, Default)]
pub struct Sources {
    /// The flags: setting (as the file names it) and value.
    pub flags: Vec<(String, String)>,
    /// The environment, all of it: what does not begin with `KEYHOLDER_` is overlooked.
    pub environment: Vec<(OsString, OsString)>,
    /// The file, where there is one.
    pub file: Option<SourceFile>,
    /// The state folder where nobody names one.
    pub usual_state: PathBuf,
}

/// A configuration file that was read.
#[derive(Clone)]
pub struct SourceFile {
    /// Where it lies: named in faults, and what relative paths in it are relative to.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// How and what the process logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// Which lines are written.
    pub filter: String,
}

/// The owner's way into the database: for `migrate` alone.
pub struct Owner {
    /// Where it goes.
    pub login: Address,
    /// The address itself: those of new logins are made from it.
    pub url: Secret,
}

/// A valid configuration. Not printable: it holds the root key.
pub struct Config {
    /// The blueprint that this installation is one of; its settings lie under all others.
    pub blueprint: Option<Blueprint>,
    /// The environment.
    pub environment: Environment,
    /// The installation's name, with which its database roles begin.
    pub installation: String,
    /// The operator's name, as owners are shown it.
    pub operator: String,
    /// Where to serve.
    pub listen: Listen,
    /// Where to serve metrics.
    pub metrics_listen: Listen,
    /// The certificate, where TLS is spoken.
    pub tls: Option<TlsFiles>,
    /// Bounds on connections.
    pub server: ServerOptions,
    /// Where browsers reach this installation; `None` in `local` alone, and then it is `http://localhost:PORT`.
    pub public_url: Option<Url>,
    /// Whom the edge lets through.
    pub edge: EdgeOptions,
    /// The most connections of the application's login.
    pub connections: u32,
    /// The root key.
    pub root_key: RootKey,
    /// The keyring's file.
    pub keyring: PathBuf,
    /// What a process keeps that is not in the database.
    pub state_dir: PathBuf,
    /// The form in which credentials are written.
    pub credential_form: Form,
    /// After how many days a database login is overdue for its rotation.
    pub login_days: u32,
    /// The shipped providers and the operator's own.
    pub catalogue: Catalogue,
    /// The operator's clients, by provider.
    pub clients: BTreeMap<String, Client>,
    /// The cheap limits.
    pub limits: LimitOptions,
    /// The installation's own budgets.
    pub budgets: Vec<Limit>,
    /// The plans that are sold, and what they open.
    pub plans: Plans,
    /// How long requests are still taken after the process has said that it leaves.
    pub drain_delay: Duration,
    /// Where traces go.
    pub otlp: Option<OtlpOptions>,
    /// What the trust page shows, and whom it believes.
    pub trust: TrustOptions,
    /// The model by which it is decided who may do what: the house's own, with what the blueprint adds.
    pub model: Arc<Schema>,
    /// The log.
    pub log: Log,
    /// Every secret that was read, for the log's redactor.
    pub secrets: Vec<Secret>,
}

impl Config {
    /// Resolves the sources for a serving process, or for a command that does what one could do: the four logins, and never
    /// the owner's.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn for_serving(sources: &Sources) -> Result<(Self, Urls), ConfigFaults> {
        Self::load(sources, logins)
    }

    /// Reads the four logins again, for a process that is serving with others already.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn logins_again(sources: &Sources) -> Result<Urls, ConfigFaults> {
        let mut from = Resolver { gathered: gather(sources), secrets: Vec::new() };
        let urls = logins(&mut from);
        from.gathered.finish()?;
        urls.ok_or_else(|| ConfigFaults::one("", "something could not be resolved"))
    }

    /// Resolves the sources for a migration: the owner's login, and no other.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn for_migration(sources: &Sources) -> Result<(Self, Owner), ConfigFaults> {
        Self::load(sources, owner)
    }

    fn load<D>(sources: &Sources, database: fn(&mut Resolver) -> Option<D>) -> Result<(Self, D), ConfigFaults> {
        let mut from = Resolver { gathered: gather(sources), secrets: Vec::new() };
        let environment = from.environment();
        let tls = from.tls();
        let listen = from.listen("listen", base::LISTEN, tls.is_some());
        let metrics_listen = from.listen("metrics_listen", base::METRICS_LISTEN, tls.is_some());
        from.listens_differ(&listen, &metrics_listen);
        let state_dir = from.path("state_dir").unwrap_or_else(|| sources.usual_state.clone());
        let root_key = from.root_key();
        let database = database(&mut from);
        let catalogue = from.catalogue();
        let clients = from.clients(catalogue.as_ref());
        let (installation, operator) = (from.installation(), from.operator(environment));
        let (public_url, connections) = (from.public_url(environment), from.connections());
        let (edge, server) = (from.edge(environment), from.server());
        from.public_url_fits(public_url.as_ref(), &listen, tls.is_some());
        let (credential_form, login_days) = (from.credential_form(), from.login_days());
        let (limits, budgets, plans) = (from.limits(), from.budgets(), from.plans());
        let (log, keyring) = (from.log(base::log(environment)), from.keyring(&state_dir));
        let (drain_delay, otlp, trust) = (from.drain_delay(), from.otlp(), from.trust(environment));
        let Resolver { mut gathered, secrets } = from;
        let blueprint = gathered.blueprint.take();
        let model = blueprint::model(blueprint.as_ref(), &mut gathered.faults);
        gathered.finish()?;
        let (Some(environment), Some(root_key), Some(database), Some(catalogue)) =
            (environment, root_key, database, catalogue)
        else {
            // Whatever could not be resolved has told why; that it did is not left to trust.
            return Err(ConfigFaults::one("", "something could not be resolved"));
        };
        let config = Self {
            blueprint,
            environment,
            installation,
            operator,
            listen,
            metrics_listen,
            tls,
            server,
            public_url,
            edge,
            connections,
            root_key,
            keyring,
            state_dir,
            credential_form,
            login_days,
            catalogue,
            clients,
            limits,
            budgets,
            plans,
            drain_delay,
            otlp,
            trust,
            model,
            log,
            secrets,
        };
        Ok((config, database))
    }

    /// What an instance is started with.
    pub fn into_options(
        self,
        urls: Urls,
        hook: Hook,
        clock: Clock,
        render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    ) -> InstanceOptions {
        InstanceOptions {
            environment: self.environment,
            installation: self.installation,
            operator: self.operator,
            listen: self.listen,
            metrics_listen: self.metrics_listen,
            tls: self.tls,
            server: self.server,
            public_url: self.public_url,
            edge: self.edge,
            urls,
            connections: self.connections,
            root_key: self.root_key,
            keyring: self.keyring,
            state_dir: self.state_dir,
            credential_form: self.credential_form,
            login_days: self.login_days,
            reread_logins: None,
            catalogue: self.catalogue,
            clients: self.clients,
            limits: self.limits,
            health: HealthOptions::default(),
            budgets: self.budgets,
            plans: self.plans,
            sandbox: None,
            drain_delay: self.drain_delay,
            trust: self.trust,
            relations: service::fga::Bounds::default(),
            model: self.model,
            exporter: None,
            hook,
            clock,
            render_metrics,
        }
    }
}

fn logins(from: &mut Resolver) -> Option<Urls> {
    let why = "a serving process never holds the owner's login: leave it to `keyholder migrate`, and unset it here";
    from.refuse("database.owner_url", why);
    let transport = from.transport();
    let mut login = |name: &str| {
        from.require(name, "a serving process has a login for each role; `keyholder migrate --logins DIR` makes them");
        from.database(name, &transport).map(|(_, login)| login)
    };
    let (app, ledger) = (login("database.app_url"), login("database.ledger_url"));
    let (lookup, loader) = (login("database.lookup_url"), login("database.loader_url"));
    Some(Urls { app: app?, ledger: ledger?, lookup: lookup?, loader: loader? })
}

fn owner(from: &mut Resolver) -> Option<Owner> {
    from.require("database.owner_url", "migrations run as the owner of the database");
    let transport = from.transport();
    from.database("database.owner_url", &transport).map(|(url, login)| Owner { login, url })
}

/// What `up`, `demo` and `provider list` take from the same sources: they bring keys and a database of their own.
pub struct LocalConfig {
    /// The blueprint to run, where one is named.
    pub blueprint: Option<Blueprint>,
    /// Which PostgreSQL to run.
    pub binaries: Binaries,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The shipped providers and the operator's own.
    pub catalogue: Catalogue,
    /// The log.
    pub log: Log,
}

impl LocalConfig {
    /// Resolves the sources. Settings that only a server needs are overlooked; names that nobody knows are not.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(sources: &Sources, log: Log) -> Result<Self, ConfigFaults> {
        let mut from = Resolver { gathered: gather(sources), secrets: Vec::new() };
        let catalogue = from.catalogue();
        let log = from.log(log);
        let state_dir = from.path("state_dir").unwrap_or_else(|| sources.usual_state.clone());
        let binaries = from.path("postgres_bin");
        let binaries = Binaries::from_setting(binaries.as_deref().and_then(std::path::Path::to_str));
        let blueprint = from.gathered.blueprint.take();
        from.gathered.finish()?;
        Ok(Self { blueprint, binaries, state_dir, catalogue: catalogue.unwrap_or_default(), log })
    }
}
