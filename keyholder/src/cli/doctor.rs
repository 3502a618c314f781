//! `doctor`: everything that `serve` would check, and what would trouble it later; each check with its outcome and what to do about it.
//!
//! Changes nothing, binds nothing, and stays connected to nothing. What is wrong is told all at once.

mod database;
mod files;
mod machine;

use std::{fmt::Write, process::ExitCode};

use domain::clock::Clock;
use serde::Serialize;

use super::{
    args::ConfigArgs,
    failure::{Exit, Failure},
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
    let clock = Clock::system();
    let mut checks = match loaded {
        Ok((config, urls)) => {
            let mut checks = of_config(&config);
            checks.extend(files::of_keyring(&config, clock.now()));
            checks.extend(files::of_state(&config.state_dir));
            checks.extend(files::of_listener(&config, clock.now()));
            checks.push(machine::of_descriptors(&config));
            checks.extend(database::check(&config, urls, clock).await);
            checks
        }
        Err(Failure::Config(faults)) => of_faults(&faults),
        Err(other) => return Err(other),
    };
    checks.push(machine::of_memory());
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
    checks.push(Check::fault(
        "keyring, state folder, database",
        why,
        "mend the configuration and run the doctor again",
    ));
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
