//! `doctor`: everything that `serve` would check, each check with its outcome and what to do about it.
//!
//! Changes nothing, binds nothing, and stays connected to nothing.

use std::{error::Error, fmt::Write, process::ExitCode};

use domain::{clock::Clock, id::NodeId, provider::Provider};
use seal::{Keyring, Purpose};
use serde::Serialize;
use service::provider_migration::{self, Standing};
use store::{
    ContextKey, Store, StoreError, StoreOptions, Urls,
    gate::{self, Expectation},
    login::LoginAge,
};

use super::{
    args::ConfigArgs,
    failure::{Chain, Exit, Failure},
    output::Voice,
    sources,
};
use crate::config::{Config, ConfigFaults, Kind};

/// One check and its outcome.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<&'static str>,
}

#[derive(Serialize)]
struct Diagnosis<'d> {
    checks: &'d [Check],
    faults: usize,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into(), remedy: None }
    }

    fn fault(name: &'static str, detail: impl Into<String>, remedy: &'static str) -> Self {
        Self { name, ok: false, detail: detail.into(), remedy: Some(remedy) }
    }
}

/// Checks, and says what was found. Exit code 1 where something is wrong.
pub(super) async fn run(args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let loaded = sources(args).and_then(|sources| Ok(Config::for_serving(&sources)?));
    let checks = match loaded {
        Ok((config, urls)) => {
            let mut checks = of_config(&config);
            checks.push(of_keyring(&config));
            checks.extend(of_database(&config, urls).await);
            checks
        }
        Err(Failure::Config(faults)) => of_faults(&faults),
        Err(other) => return Err(other),
    };
    let faults = checks.iter().filter(|check| !check.ok).count();
    voice.say(&Diagnosis { checks: &checks, faults }, &in_words(&checks, faults));
    Ok(if faults == 0 { Exit::Done } else { Exit::CheckFailed }.into())
}

pub(super) fn of_faults(faults: &ConfigFaults) -> Vec<Check> {
    let check = |fault: &crate::config::Fault| match fault.kind {
        Kind::Key => {
            Check::fault("root key", fault.to_string(), "keyholder root-key generate --out FILE makes a new one")
        }
        Kind::Setting => {
            Check::fault("configuration", fault.to_string(), "docs/guides/configuration.md tells every setting")
        }
    };
    let mut checks: Vec<_> = faults.iter().map(check).collect();
    let why = "not checked, since the configuration has faults";
    checks.push(Check::fault("keyring, database", why, "mend the configuration and run the doctor again"));
    checks
}

fn of_config(config: &Config) -> Vec<Check> {
    let connectable: Vec<_> = config.clients.keys().map(String::as_str).collect();
    let clients = match connectable.as_slice() {
        [] => "a client at none of them yet".to_owned(),
        some => format!("a client at {}", some.join(", ")),
    };
    vec![
        Check::ok("configuration", format!("{}, installation `{}`", config.environment, config.installation)),
        Check::ok("root key", "32 bytes"),
        Check::ok("providers", format!("{} files, {clients}", config.catalogue.iter().count())),
    ]
}

fn of_keyring(config: &Config) -> Check {
    match Keyring::open(&config.keyring, &config.root_key, config.environment) {
        Ok(keyring) => {
            let (path, epochs) = (config.keyring.display(), keyring.epochs().len());
            Check::ok("keyring", format!("{path}, epoch {} of {epochs} wraps", keyring.current()))
        }
        Err(error) => {
            let remedy = "name the keyring that was made with this root key; `keyholder migrate` makes that of a new installation";
            Check::fault("keyring", Chain(&error).to_string(), remedy)
        }
    }
}

async fn of_database(config: &Config, urls: Urls) -> Vec<Check> {
    let clock = Clock::system();
    let store = Store::open(StoreOptions {
        urls,
        context_key: ContextKey::new(*config.root_key.derive(Purpose::Context, config.environment).as_bytes()),
        node: NodeId::new(&clock),
        clock,
        connections: 1,
    });
    let expected = Expectation {
        installation: &config.installation,
        environment: config.environment,
        root_check: config.root_key.check_value(config.environment),
    };
    let outcome = gate::check(&store, &expected).await;
    let further = match &outcome {
        Ok(faults) if faults.is_empty() => {
            let mut further = of_logins(config, &store).await;
            further.extend(of_provider_files(config, &store).await);
            further
        }
        _ => Vec::new(),
    };
    store.close().await;
    match outcome {
        Ok(faults) if faults.is_empty() => {
            let detail = "all four logins, the schema, row-level security and durability are as they must be";
            [vec![Check::ok("database", detail)], further].concat()
        }
        Ok(faults) => {
            let remedy = "docs/guides/configuration.md tells what each login must be; `keyholder migrate --logins DIR` makes them";
            faults.into_iter().map(|fault| Check::fault("database", fault, remedy)).collect()
        }
        Err(error) => vec![unanswered(&error)],
    }
}

/// Whether the logins are due for their rotation.
async fn of_logins(config: &Config, store: &Store) -> Vec<Check> {
    let ages = match store.login_ages().await {
        Ok(ages) => ages,
        Err(error) => return vec![unanswered(&error)],
    };
    let now = Clock::system().now();
    let check = |login: &LoginAge| match login.days(now) {
        Some(days) if login.is_overdue(now, config.login_days) => Check::fault(
            "login",
            format!("`{}` is {days} days old, and is to be rotated after {}", login.name, config.login_days),
            "keyholder migrate --rotate-logins DIR begins a rotation; docs/runbooks/database-logins.md",
        ),
        Some(days) => Check::ok("login", format!("`{}` is {days} days old", login.name)),
        None => Check::ok("login", format!("`{}` was made by hand; its age is not known", login.name)),
    };
    ages.iter().map(check).collect()
}

/// Whether the files of the providers in use are the approved ones.
async fn of_provider_files(config: &Config, store: &Store) -> Vec<Check> {
    let approved = match store.approved_provider_files().await {
        Ok(approved) => approved,
        Err(error) => return vec![unanswered(&error)],
    };
    let remedy = "keyholder provider migrate NAME shows the difference and asks; docs/runbooks/provider-migrate.md";
    let check = |provider: &Provider| match provider_migration::standing(&approved, provider) {
        Standing::Approved => Check::ok("provider file", format!("`{}` is the approved one", provider.name)),
        Standing::New => Check::ok("provider file", format!("`{}` will be approved at its first use", provider.name)),
        Standing::Resealing => {
            Check::fault("provider file", format!("`{}`: a migration was interrupted", provider.name), remedy)
        }
        Standing::Changed(changes) => {
            let terms: Vec<_> = changes.iter().map(|change| change.term.as_str()).collect();
            let detail = format!("`{}` has other {} than the approved one", provider.name, terms.join(", "));
            Check::fault("provider file", detail, remedy)
        }
    };
    config.clients.keys().filter_map(|name| config.catalogue.get(name)).map(|provider| check(provider)).collect()
}

fn unanswered(error: &StoreError) -> Check {
    let remedy = match error {
        StoreError::Unavailable(_) => "start PostgreSQL, or mend host and port in KEYHOLDER_DATABASE_…_URL",
        _ => "mend user, password or database in KEYHOLDER_DATABASE_…_URL",
    };
    let error: &dyn Error = error;
    Check::fault("database", Chain(error).to_string(), remedy)
}

pub(super) fn in_words(checks: &[Check], faults: usize) -> String {
    let mut words = String::new();
    for Check { name, ok, detail, remedy } in checks {
        let mark = if *ok { "ok   " } else { "FAULT" };
        // Writing to a string does not fail, here and below.
        let _ = writeln!(words, "{mark} {name}: {detail}");
        if let Some(remedy) = remedy {
            let _ = writeln!(words, "      → {remedy}");
        }
    }
    match faults {
        0 => words.push_str("Nothing is wrong."),
        1 => words.push_str("1 fault."),
        many => drop(write!(words, "{many} faults.")),
    }
    words
}
