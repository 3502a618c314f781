//! `provider lint` and `provider list`: what provider files say, and what is wrong with them.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use domain::provider::{Catalogue, Effect, Fault};
use serde::Serialize;

use super::{
    failure::{Exit, Failure},
    output::Voice,
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
