//! An installation of which the logins are rotated: made, operated by its operator's commands, and removed.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::LOGINS;
use crate::{
    evidence::{Failure, sha256},
    ground::Ground,
    tenancy::Owner,
};

/// An installation of its own in the same cluster: its roles are nobody else's.
pub(super) struct Rotating<'g> {
    pub(super) ground: &'g Ground,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// The owner's login there.
    pub(super) owner_url: String,
    pub(super) config: String,
}

impl<'g> Rotating<'g> {
    pub(super) async fn prepare(ground: &'g Ground, owner: &Owner) -> Result<Self, Failure> {
        let name = format!("rot_{}", sha256(domain::random::token().as_bytes()).get(..8).unwrap_or_default());
        owner.sql.client.batch_execute(&format!("create database {name}")).await?;
        let here = owner.text("select current_database()").await?;
        let owner_url = ground.login("owner")?.trim_end_matches(here.as_str()).to_owned() + &name;
        let folder = ground.folder("rotation")?;
        let made =
            Self { ground, config: folder.join("keyholder.toml").display().to_string(), name, folder, owner_url };
        let at = |file: &str| made.folder.join(file).display().to_string();
        fs::write(made.folder.join("owner.url"), &made.owner_url)?;
        let mut config = format!(
            "environment = \"local\"\ninstallation = \"{}\"\nlisten = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             encryption_key_file = \"{}\"\nkeyring = \"{}\"\nstate_dir = \"{}\"\n\n[database]\n",
            made.name,
            at("root.key"),
            at("keyring"),
            at("state")
        );
        for (group, _) in LOGINS {
            config.extend([group, "_url_file = \"", &at(&format!("logins/{group}.url")), "\"\n"]);
        }
        fs::write(&made.config, config)?;
        made.operate(&["root-key", "generate", "--out", &at("root.key")], false).await?;
        made.operate(&["migrate", "--logins", &at("logins")], true).await?;
        Ok(made)
    }

    /// One of the operator's commands; its line of JSON.
    pub(super) async fn operate(&self, arguments: &[&str], as_owner: bool) -> Result<Value, Failure> {
        let owner = self.folder.join("owner.url").display().to_string();
        let variables: Vec<(&str, &str)> =
            if as_owner { vec![("KEYHOLDER_DATABASE_OWNER_URL_FILE", &owner)] } else { Vec::new() };
        let config: &[&str] = if arguments.first() == Some(&"root-key") { &[] } else { &["--config", &self.config] };
        let ended = self.ground.run(&[arguments, config, &["--json"]].concat(), &variables).await?;
        let said: Value = serde_json::from_slice(&ended.stdout).unwrap_or_default();
        // A retirement that leaves a login in use, and a doctor that finds a fault, say so by their code.
        if ended.status.success() || matches!(arguments, ["doctor", ..] | ["migrate", "--retire-logins", ..]) {
            return Ok(said);
        }
        let why = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        Err(Failure::unproven(format!("keyholder {}: {why}", arguments.join(" "))))
    }

    /// The addresses of the logins in a folder.
    pub(super) fn urls(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let read = |group: &str| fs::read_to_string(self.folder.join(folder).join(format!("{group}.url")));
        Ok(LOGINS.iter().map(|(group, _)| Ok(read(group)?.trim().to_owned())).collect::<std::io::Result<_>>()?)
    }

    /// The logins of a generation that have sessions.
    pub(super) async fn in_use(&self, owner: &Owner, generation: u32) -> Result<Vec<String>, Failure> {
        let asked = format!(
            "select distinct usename::text from pg_stat_activity where usename::text ~ '^{}_[a-z]+_{generation}$'",
            self.name
        );
        owner.texts(&asked).await
    }

    /// Leaves nothing of it in the cluster.
    pub(super) async fn remove(&self, owner: &Owner) -> Result<(), Failure> {
        owner.sql.client.batch_execute(&format!("drop database if exists {} with (force)", self.name)).await?;
        let roles = owner
            .texts(&format!("select quote_ident(rolname) from pg_roles where rolname ~ '^{}_'", self.name))
            .await?;
        for role in roles {
            owner.sql.client.batch_execute(&format!("drop role {role}")).await?;
        }
        Ok(())
    }
}
