//! `workspace create`, `workspace shred` and `api-key create`: what the operator does at the machine, before anybody has a key and
//! after everybody has left.

use std::{fmt::Write as _, process::ExitCode};

use domain::{id::WorkspaceId, principal::Principal};
use serde::Serialize;
use service::{
    Refusal,
    workspace::{ShredCertificate, ShredStage},
};
use store::api_key::Role;

use super::{
    args::{ConfigArgs, KeyRole},
    failure::{Exit, Failure},
    output::{Progress, Voice},
    serve,
};

#[derive(Serialize)]
struct Made {
    workspace: String,
}

#[derive(Serialize)]
struct MadeKey<'k> {
    workspace: String,
    id: String,
    role: &'static str,
    api_key: &'k str,
}

/// Makes a workspace.
pub(super) async fn create(name: &str, is_probe: bool, args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (instance, operator) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&operator, instance.app().clock.now());
    let made = if is_probe {
        service::workspace::create_for_probes(instance.app(), &principal, name).await
    } else {
        service::workspace::create(instance.app(), &principal, name).await
    };
    instance.stop().await;
    let workspace = made.map_err(|refusal| refused("the workspace was not made", refusal))?.to_string();
    voice.say(&Made { workspace: workspace.clone() }, &workspace);
    Ok(Exit::Done.into())
}

/// Shreds a workspace, and prints what may be shown of it.
pub(super) async fn shred(
    workspace: &str,
    confirm: &str,
    args: &ConfigArgs,
    voice: Voice,
) -> Result<ExitCode, Failure> {
    let workspace = parsed(workspace)?;
    let (instance, operator) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&operator, instance.app().clock.now());
    let progress = Progress::begin("stopping its acts");
    let watch = |stage| match stage {
        ShredStage::Revoking(seen) => progress.now(format!("giving grants back: connection {seen}")),
        ShredStage::Deleting(pages) => progress.now(format!("deleting rows: page {pages}")),
    };
    let shredded = service::workspace::shred(instance.app(), &principal, workspace, confirm, watch).await;
    progress.end();
    instance.stop().await;
    let certificate = shredded.map_err(|refusal| refused("the workspace was not shredded", refusal))?;
    voice.say(&certificate, &in_words(&certificate));
    Ok(Exit::Done.into())
}

fn in_words(certificate: &ShredCertificate) -> String {
    let ShredCertificate { workspace, data_keys, connections, revoked_at_provider, found_dead, rows_deleted, .. } =
        certificate;
    let mut words = format!(
        "{workspace} is shredded: {rows_deleted} rows deleted, {} data keys deleted.\n\
         Connections: {connections}; grants that the provider acknowledged to be revoked: {revoked_at_provider}; old tokens found dead: {found_dead}.",
        data_keys.len()
    );
    for key in data_keys {
        // Writing to a string does not fail.
        let _ = write!(words, "\ndata key {} (epoch {})", key.id, key.epoch);
    }
    words + "\n" + &certificate.backups
}

fn parsed(workspace: &str) -> Result<WorkspaceId, Failure> {
    let wrong = |error| Failure::because(Exit::Other, format!("`{workspace}` is no workspace"), error);
    workspace.parse().map_err(wrong)
}

/// Makes an API key.
pub(super) async fn create_key(
    workspace: &str,
    role: KeyRole,
    label: &str,
    args: &ConfigArgs,
    voice: Voice,
) -> Result<ExitCode, Failure> {
    let workspace = parsed(workspace)?;
    let role = match role {
        KeyRole::Admin => Role::Admin,
        KeyRole::SupportAgent => Role::SupportAgent,
        KeyRole::User => Role::User,
        KeyRole::Service => Role::Service,
    };
    let (instance, operator) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&operator, instance.app().clock.now());
    let made = service::workspace::issue_key(instance.app(), &principal, workspace, label, role, None).await;
    instance.stop().await;
    let (id, text) = made.map_err(|refusal| refused("the API key was not made", refusal))?;
    let key = MadeKey { workspace: workspace.to_string(), id: id.to_string(), role: role.as_str(), api_key: &text };
    voice.say(&key, &text);
    Ok(Exit::Done.into())
}

/// A refusal in words, with its code.
pub(super) fn refused(what: &str, refusal: Refusal) -> Failure {
    let exit = if matches!(refusal, Refusal::Unavailable(_)) { Exit::Database } else { Exit::Other };
    match &refusal {
        Refusal::Invalid(faults) => {
            let faults: Vec<_> = faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.message)).collect();
            Failure::said(exit, format!("{what}: {}", faults.join("; ")))
        }
        Refusal::NotFound => Failure::said(exit, format!("{what}: there is no such workspace")),
        _ => Failure::because(exit, what, refusal),
    }
}
