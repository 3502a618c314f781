//! `provider lint`, `provider list` and `provider migrate`: what provider files say, what is wrong with them, and whose word it takes
//! that tokens may go where a changed one sends them.

use std::{fmt::Write, io, path::PathBuf, process::ExitCode};

use domain::{
    principal::Principal,
    provider::{Catalogue, Effect, Fault},
};
use serde::Serialize;
use service::{
    Refusal,
    provider_migration::{self, Change, Standing},
};

use super::{
    args::ConfigArgs,
    failure::{Exit, Failure},
    output::{Progress, Voice, note},
    serve, workspace,
};
use crate::{
    config::{LocalConfig, Log, Sources, provider_text},
    telemetry::Format,
};

#[derive(Serialize)]
struct Linted {
    files: usize,
    faults: Vec<LintFault>,
}

#[derive(Serialize)]
struct LintFault {
    file: String,
    line: usize,
    column: usize,
    path: String,
    message: String,
}

/// Checks the files, and says all faults of all of them.
pub(super) fn lint(files: &[PathBuf], voice: Voice) -> ExitCode {
    let faults = faults(files);
    let mut words = String::new();
    for fault in &faults {
        // Writing to a string does not fail.
        let _ = writeln!(words, "{fault}");
    }
    let all = files.len();
    let _ = match faults.len() {
        0 => write!(words, "{all} file{}, no faults", if all == 1 { "" } else { "s" }),
        1 => write!(words, "1 fault"),
        many => write!(words, "{many} faults"),
    };
    let failed = !faults.is_empty();
    let faults = faults.into_iter().map(|fault| {
        let Fault { file, line, column, path, message } = fault;
        LintFault { file, line, column, path, message }
    });
    voice.say(&Linted { files: all, faults: faults.collect() }, &words);
    if failed { Exit::CheckFailed } else { Exit::Done }.into()
}

/// All faults of the files, those included that no file could be read for.
pub(super) fn faults(files: &[PathBuf]) -> Vec<Fault> {
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for path in files {
        let file = path.display().to_string();
        match provider_text(path) {
            Ok(text) => texts.push((file, text)),
            Err(message) => faults.push(Fault { file, line: 1, column: 1, path: String::new(), message }),
        }
    }
    if let Err(more) = Catalogue::load(texts) {
        faults.extend(more);
    }
    faults
}

#[derive(Serialize)]
struct Listed<'c> {
    providers: Vec<ListedProvider<'c>>,
}

#[derive(Serialize)]
struct ListedProvider<'c> {
    name: &'c str,
    title: &'c str,
    template: bool,
    hosts: Vec<&'c str>,
    actions: Vec<ListedAction<'c>>,
}

#[derive(Serialize)]
struct ListedAction<'c> {
    name: &'c str,
    title: &'c str,
    effect: Effect,
}

/// Lists the shipped providers and the operator's own.
pub(super) fn list(sources: &Sources, voice: Voice) -> Result<ExitCode, Failure> {
    let quiet = Log { format: Format::Pretty, filter: "off".to_owned() };
    let catalogue = LocalConfig::load(sources, quiet)?.catalogue;
    let providers: Vec<_> = catalogue
        .iter()
        .map(|provider| ListedProvider {
            name: &provider.name,
            title: &provider.title,
            template: provider.template,
            hosts: provider.hosts.iter().map(String::as_str).collect(),
            actions: provider
                .actions()
                .map(|action| ListedAction { name: &action.name, title: &action.title, effect: action.effect })
                .collect(),
        })
        .collect();
    let mut words = String::new();
    for provider in &providers {
        let kind = if provider.template { " (a template)" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(words, "{}: {}{kind}", provider.name, provider.title);
        for action in &provider.actions {
            let _ = writeln!(words, "  {:<24} {}", action.name, action.title);
        }
    }
    voice.say(&Listed { providers }, words.trim_end());
    Ok(Exit::Done.into())
}

#[derive(Serialize)]
struct Migrated<'n> {
    provider: &'n str,
    changes: Vec<ChangedTerm>,
    resealed: u64,
    unopened: u64,
}

#[derive(Serialize)]
struct ChangedTerm {
    term: String,
    approved: String,
    file: String,
}

/// Approves a changed provider file, once a person has seen what changes and has said so, and seals its credentials anew.
pub(super) async fn migrate(name: &str, yes: bool, args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (instance, operator) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&operator, instance.app().clock.now());
    let app = instance.app();
    let migrated = async {
        let changes = match provider_migration::look(app, name).await.map_err(|refusal| not_migrated(name, refusal))? {
            Standing::Changed(changes) => changes,
            Standing::New | Standing::Approved | Standing::Resealing => Vec::new(),
        };
        note(&difference(name, &changes));
        if !changes.is_empty() && !yes && !is_said(name)? {
            return Err(Failure::said(Exit::CheckFailed, "nothing was changed: the name was not typed"));
        }
        let progress = Progress::begin("sealing credentials anew");
        let seen = |count: u64| progress.now(format!("sealing credentials anew: {count} looked at"));
        let done = provider_migration::migrate(app, &principal, name, seen).await;
        progress.end();
        Ok((changes, done.map_err(|refusal| not_migrated(name, refusal))?))
    };
    let migrated = migrated.await;
    instance.stop().await;
    let (changes, done) = migrated?;
    let words = format!("`{name}`: {} credentials sealed anew, {} do not open", done.resealed, done.unopened);
    let changes = changes.into_iter().map(|Change { term, approved, file }| ChangedTerm { term, approved, file });
    let outcome =
        Migrated { provider: name, changes: changes.collect(), resealed: done.resealed, unopened: done.unopened };
    voice.say(&outcome, &words);
    Ok(Exit::Done.into())
}

fn difference(name: &str, changes: &[Change]) -> String {
    if changes.is_empty() {
        return format!("The hosts and endpoints of `{name}` are the approved ones.");
    }
    let mut words = format!("The file of `{name}` sends tokens elsewhere:");
    for Change { term, approved, file } in changes {
        // Writing to a string does not fail.
        let _ = write!(words, "\n  {term}\n  - {approved}\n  + {file}");
    }
    words
}

/// Whether the person at the machine types the provider's name.
fn is_said(name: &str) -> Result<bool, Failure> {
    note(&format!("Type {name} to approve this for every credential of the installation:"));
    let mut said = String::new();
    io::stdin()
        .read_line(&mut said)
        .map_err(|error| Failure::because(Exit::Other, "standard input cannot be read; --yes does not ask", error))?;
    Ok(said.trim() == name)
}

fn not_migrated(name: &str, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::NotFound => Failure::said(Exit::Other, format!("no client is configured for a provider `{name}`")),
        refusal => workspace::refused(&format!("`{name}` was not migrated"), refusal),
    }
}
