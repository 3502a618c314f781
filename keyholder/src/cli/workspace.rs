//! `workspace create` and `api-key create`: what the operator does at the machine, before anybody has a key.

use std::process::ExitCode;

use domain::{id::WorkspaceId, principal::Principal};
use serde::Serialize;
use service::Refusal;
use store::api_key::Role;

use super::{
    args::{ConfigArgs, KeyRole},
    failure::{Exit, Failure},
    output::Voice,
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
pub(super) async fn create(name: &str, args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (instance, operator) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&operator, instance.app().clock.now());
    let made = service::workspace::create(instance.app(), &principal, name).await;
    instance.stop().await;
    let workspace = made.map_err(|refusal| refused("the workspace was not made", refusal))?.to_string();
    voice.say(&Made { workspace: workspace.clone() }, &workspace);
    Ok(Exit::Done.into())
}

/// Makes an API key.
pub(super) async fn create_key(
    workspace: &str,
    role: KeyRole,
    label: &str,
    args: &ConfigArgs,
    voice: Voice,
) -> Result<ExitCode, Failure> {
    let workspace: WorkspaceId = workspace
        .parse()
        .map_err(|error| Failure::because(Exit::Other, format!("`{workspace}` is no workspace"), error))?;
    let role = match role {
        KeyRole::Admin => Role::Admin,
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

fn refused(what: &str, refusal: Refusal) -> Failure {
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
