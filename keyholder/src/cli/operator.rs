//! `operator …`: who of the `SaaS` team has a key of his own, and who of them is super-admin. At the machine only.

use std::process::ExitCode;

use domain::{id::OperatorId, operator::Purpose, principal::Principal};
use serde::Serialize;
use service::{Refusal, operator};

use super::{
    args::{ConfigArgs, Only, OperatorCommand, SuperAdminCommand},
    failure::{Exit, Failure},
    output::Voice,
    serve,
};

#[derive(Serialize)]
struct Made<'k> {
    id: String,
    name: &'k str,
    purpose: &'static str,
    operator_key: &'k str,
}

#[derive(Serialize)]
struct Known {
    id: String,
    name: String,
    purpose: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: time::OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<time::OffsetDateTime>,
}

#[derive(Serialize)]
struct Operators {
    operators: Vec<Known>,
    super_admins: Vec<String>,
}

#[derive(Serialize)]
struct SuperAdmin<'n> {
    name: &'n str,
    super_admin: bool,
}

#[derive(Serialize)]
struct Revoked {
    revoked: String,
}

/// Does what the command says, as the operator at the machine.
pub(super) async fn run(command: OperatorCommand, voice: Voice) -> Result<ExitCode, Failure> {
    match command {
        OperatorCommand::Create { name, only, config } => create(&name, only, &config, voice).await,
        OperatorCommand::List { config } => list(&config, voice).await,
        OperatorCommand::Revoke { id, config } => revoke(&id, &config, voice).await,
        OperatorCommand::SuperAdmin(SuperAdminCommand::Grant { name, config }) => {
            super_admin(&name, true, &config, voice).await
        }
        OperatorCommand::SuperAdmin(SuperAdminCommand::Revoke { name, config }) => {
            super_admin(&name, false, &config, voice).await
        }
    }
}

async fn create(name: &str, only: Option<Only>, args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (instance, host) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&host, instance.app().clock.now());
    let purpose = match only {
        None => Purpose::Person,
        Some(Only::Publish) => Purpose::Publish,
    };
    let made = operator::create(instance.app(), &principal, (name, purpose)).await;
    instance.stop().await;
    let (id, text) = made.map_err(|refusal| refused("the operator's key was not made", refusal))?;
    voice.say(&Made { id: id.to_string(), name, purpose: purpose.as_str(), operator_key: &text }, &text);
    Ok(Exit::Done.into())
}

async fn list(args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (instance, host) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&host, instance.app().clock.now());
    let listed = operator::list(instance.app(), &principal).await;
    let super_admins = operator::super_admins(instance.app(), &principal).await;
    instance.stop().await;
    let super_admins = super_admins.map_err(|refusal| refused("the operators were not listed", refusal))?;
    let operators: Vec<_> = listed
        .map_err(|refusal| refused("the operators were not listed", refusal))?
        .into_iter()
        .map(|key| Known {
            id: key.id.to_string(),
            name: key.name,
            purpose: key.purpose.as_str(),
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        })
        .collect();
    let line = |key: &Known| {
        let what = match key.revoked_at {
            Some(_) => "  (revoked)",
            None if key.purpose == Purpose::Publish.as_str() => "  (publishes statements)",
            None if super_admins.contains(&key.name) => "  (super-admin)",
            None => "",
        };
        format!("{}  {}{what}", key.id, key.name)
    };
    let lines: Vec<_> = operators.iter().map(line).collect();
    let words = if lines.is_empty() { "there are none".to_owned() } else { lines.join("\n") };
    voice.say(&Operators { operators, super_admins }, &words);
    Ok(Exit::Done.into())
}

async fn revoke(id: &str, args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let id: OperatorId =
        id.parse().map_err(|error| Failure::because(Exit::Other, format!("`{id}` is no operator's key"), error))?;
    let (instance, host) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&host, instance.app().clock.now());
    let revoked = operator::revoke(instance.app(), &principal, id).await;
    instance.stop().await;
    revoked.map_err(|refusal| refused("the key was not revoked", refusal))?;
    voice.say(&Revoked { revoked: id.to_string() }, &format!("{id} is revoked"));
    Ok(Exit::Done.into())
}

/// Grants it, or takes it back.
async fn super_admin(name: &str, is_one: bool, args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (instance, host) = serve::for_a_moment(args).await?;
    let principal = Principal::operator(&host, instance.app().clock.now());
    let done = if is_one {
        operator::appoint_super_admin(instance.app(), &principal, name).await
    } else {
        operator::dismiss_super_admin(instance.app(), &principal, name).await
    };
    instance.stop().await;
    done.map_err(|refusal| match refusal {
        Refusal::NotFound if is_one => Failure::said(Exit::Other, format!("{name} has no key that is still good")),
        Refusal::NotFound => Failure::said(Exit::Other, format!("{name} is no super-admin")),
        Refusal::Conflict(_) => Failure::said(Exit::Other, format!("{name} is super-admin already")),
        other => refused("who is super-admin was not changed", other),
    })?;
    let words = format!("{name} is {} super-admin", if is_one { "a" } else { "no longer a" });
    voice.say(&SuperAdmin { name, super_admin: is_one }, &words);
    Ok(Exit::Done.into())
}

fn refused(what: &str, refusal: Refusal) -> Failure {
    let exit = if matches!(refusal, Refusal::Unavailable(_)) { Exit::Database } else { Exit::Other };
    match &refusal {
        Refusal::Invalid(faults) => {
            let faults: Vec<_> = faults.iter().map(|fault| format!("a name {}", fault.message)).collect();
            Failure::said(exit, format!("{what}: {}", faults.join("; ")))
        }
        Refusal::NotFound => Failure::said(exit, format!("{what}: there is no such key that is still good")),
        _ => Failure::because(exit, what, refusal),
    }
}
