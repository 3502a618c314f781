//! `migrate`: the schema, the keyring of a new installation, and the generations of logins.
//!
//! The only command that holds the owner's login. Never writes a password anywhere but into the private files it is asked for.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use domain::clock::Clock;
use seal::{Keyring, KeyringError, Purpose};
use serde::Serialize;
use store::{
    ContextKey,
    migrate::{self, GROUPS, Installation, Login},
    schema,
};
use tempfile::NamedTempFile;

use super::{
    args::MigrateArgs,
    failure::{Exit, Failure},
    observe,
    output::{Progress, Voice},
    sources,
};
use crate::{
    StartError,
    config::{Config, Owner, with_login},
    telemetry::Writer,
};

#[derive(Serialize)]
struct Migrated<'m> {
    schema_before: i64,
    schema: i64,
    /// The oldest schema version whose binaries may go on beside this one.
    compatible_from: i64,
    keyring: &'m Path,
    keyring_made: bool,
    logins: Vec<MadeLogin>,
}

#[derive(Serialize)]
struct MadeLogin {
    group: &'static str,
    name: String,
    url_file: PathBuf,
}

/// Brings the database to this version.
pub(super) async fn run(args: &MigrateArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (config, owner) = Config::for_migration(&sources(&args.config)?)?;
    observe(config.log.clone(), &config.secrets, Writer::Stderr)?;
    #[cfg(feature = "sabotage")]
    crate::sabotage::confine_owner(&owner.login).await?;
    if let Some(folder) = &args.rotate_logins {
        return rotate(&config, &owner, folder, voice).await;
    }
    if args.retire_logins {
        return retire(&config, &owner, voice).await;
    }
    // What would keep the outcome from being written is found out before anything is changed.
    let files = args.logins.as_deref().map(prepare).transpose()?;
    let keyring = find_keyring(&config)?;
    let progress = Progress::begin("migrating the database");
    let (before, after) = migrate::migrate(&owner.login, &installation(&config)).await.map_err(StartError::Migrate)?;
    let made = keyring == Found::Missing;
    if made {
        make_keyring(&config, before == 0 || args.new_keyring)?;
    }
    let logins = match files {
        Some(files) => {
            progress.now("making logins");
            let logins =
                migrate::create_logins(&owner.login, &config.installation).await.map_err(StartError::Migrate)?;
            write_addresses(&logins, files, &owner)?
        }
        None => Vec::new(),
    };
    progress.end();
    let outcome = Migrated {
        schema_before: before,
        schema: after,
        compatible_from: schema::lets_run_from(),
        keyring: &config.keyring,
        keyring_made: made,
        logins,
    };
    voice.say(&outcome, &in_words(&outcome));
    Ok(Exit::Done.into())
}

#[derive(Serialize)]
struct Rotated {
    logins: Vec<MadeLogin>,
}

/// Begins a rotation. Logins whose addresses could not be written would be of no use, and in the way of the next attempt.
async fn rotate(config: &Config, owner: &Owner, folder: &Path, voice: Voice) -> Result<ExitCode, Failure> {
    let files = prepare(folder)?;
    let made = migrate::rotate_logins(&owner.login, &config.installation).await.map_err(StartError::Migrate)?;
    let logins = match write_addresses(&made, files, owner) {
        Ok(logins) => logins,
        Err(failure) => {
            migrate::drop_logins(&owner.login, &made).await.map_err(StartError::Migrate)?;
            return Err(failure);
        }
    };
    let mut words = String::from("New logins; the former ones are good until they are retired.");
    for MadeLogin { name, url_file, .. } in &logins {
        // Writing to a string does not fail, here and below.
        let _ = write!(words, "\n{name}: {}", url_file.display());
    }
    voice.say(&Rotated { logins }, &words);
    Ok(Exit::Done.into())
}

#[derive(Serialize)]
struct RetiredLogins {
    dropped: Vec<String>,
    in_use: Vec<UsedLogin>,
    kept: Vec<String>,
}

#[derive(Serialize)]
struct UsedLogin {
    name: String,
    sessions: i64,
}

/// Ends a rotation, as far as nobody uses the former logins. Exit code 1 where somebody does.
async fn retire(config: &Config, owner: &Owner, voice: Voice) -> Result<ExitCode, Failure> {
    let retired = migrate::retire_logins(&owner.login, &config.installation).await.map_err(StartError::Migrate)?;
    let mut words = match retired.dropped.as_slice() {
        [] => "No login was dropped.".to_owned(),
        dropped => format!("Dropped: {}.", dropped.join(", ")),
    };
    for (name, sessions) in &retired.in_use {
        let _ = write!(words, "\n{name} is still used by {sessions} sessions: it stays.");
    }
    let done = retired.in_use.is_empty();
    let in_use = retired.in_use.into_iter().map(|(name, sessions)| UsedLogin { name, sessions }).collect();
    voice.say(&RetiredLogins { dropped: retired.dropped, in_use, kept: retired.kept }, &words);
    Ok(if done { Exit::Done } else { Exit::CheckFailed }.into())
}

fn installation(config: &Config) -> Installation<'_> {
    Installation {
        name: &config.installation,
        environment: config.environment,
        context_key: ContextKey::new(*config.root_key.derive(Purpose::Context, config.environment).as_bytes()),
        root_check: config.root_key.check_value(config.environment),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    There,
    Missing,
}

/// A keyring that is there and does not open would make a database that nobody can serve from.
fn find_keyring(config: &Config) -> Result<Found, StartError> {
    match Keyring::open(&config.keyring, &config.root_key, config.environment) {
        Ok(_) => Ok(Found::There),
        Err(KeyringError::Missing { .. }) => Ok(Found::Missing),
        Err(source) => Err(StartError::Keyring { path: config.keyring.clone(), source }),
    }
}

/// Makes the keyring of a new installation. Beside a database that was there before, a missing keyring is a lost or misnamed one,
/// and a new one would open nothing of what is sealed: that takes the operator's word.
fn make_keyring(config: &Config, may: bool) -> Result<(), Failure> {
    let shown = config.keyring.display();
    if !may {
        let how = "put the right one there, or, if this database holds nothing yet, add --new-keyring";
        return Err(Failure::said(
            Exit::Key,
            format!("the database is migrated, but there is no keyring at {shown}: {how}"),
        ));
    }
    let made = Keyring::create(&config.keyring, &config.root_key, config.environment, &Clock::system());
    let again = "the database is migrated, but has no keyring; run this again with --new-keyring";
    made.map(drop).map_err(|source| Failure::because(Exit::Key, again, source))
}

/// A private file for each group, made before the logins are: a login whose address could not be kept would be of no use.
fn prepare(folder: &Path) -> Result<Vec<(&'static str, PathBuf, NamedTempFile)>, Failure> {
    let failed = |error: io::Error| {
        Failure::because(Exit::Other, format!("logins cannot be written to {}", folder.display()), error)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    // Made with mode 600, as all temporary files are.
    let file = |group| Ok((group, folder.join(format!("{group}.url")), NamedTempFile::new_in(folder)?));
    GROUPS.into_iter().map(file).collect::<io::Result<_>>().map_err(failed)
}

fn write_addresses(
    logins: &[Login],
    files: Vec<(&'static str, PathBuf, NamedTempFile)>,
    owner: &Owner,
) -> Result<Vec<MadeLogin>, Failure> {
    let mut made = Vec::new();
    for (group, path, mut file) in files {
        let Some(login) = logins.iter().find(|login| login.group == group) else { continue };
        let url = with_login(owner.url.expose(), &login.name, &login.password)
            .ok_or_else(|| Failure::said(Exit::Other, "the owner's address has no place for another login"))?;
        let mut put = || {
            file.write_all(url.expose().as_bytes())?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()
        };
        let failed = |error| Failure::because(Exit::Other, format!("{} cannot be written", path.display()), error);
        put().map_err(failed)?;
        // In the place of the generation before, whose logins stay good until they are dropped.
        file.persist(&path).map_err(|error| failed(error.error))?;
        made.push(MadeLogin { group, name: login.name.clone(), url_file: fs::canonicalize(&path).unwrap_or(path) });
    }
    Ok(made)
}

fn in_words(outcome: &Migrated<'_>) -> String {
    let Migrated { schema_before: before, schema, compatible_from, keyring, keyring_made, logins } = outcome;
    let mut words = match before {
        before if before == schema => format!("The database has schema {schema} already."),
        0 => format!("The database has schema {schema}."),
        before => format!(
            "The database went from schema {before} to {schema}; binaries of schema {compatible_from} and newer run on it."
        ),
    };
    if *keyring_made {
        let care = "Keep a copy of it with the root key, and never in the database's backups.";
        // Writing to a string does not fail, here and below.
        let _ = write!(words, "\nThe keyring is new: {}. {care}", keyring.display());
    }
    for MadeLogin { group, name, url_file } in logins {
        let variable = group.to_uppercase();
        let _ = write!(words, "\n{name}: KEYHOLDER_DATABASE_{variable}_URL_FILE={}", url_file.display());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use std::os::unix::fs::PermissionsExt;
    use zeroize::Zeroizing;

    #[test]
    fn addresses_of_new_logins_are_written_for_their_owner_alone_and_without_the_owners_password() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("logins");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("app.url"), "the generation before").unwrap();
        let login = "postgres://owner:hunter22@db.internal:5433/keyholder?sslmode=verify-full".parse().unwrap();
        let url = Secret::new("postgres://owner:hunter22@db.internal:5433/keyholder?sslmode=verify-full".to_owned());
        let logins = GROUPS.map(|group| Login {
            group,
            name: format!("kh_{group}_2"),
            password: Zeroizing::new("p@ss/word".to_owned()),
        });
        let made = write_addresses(&logins, prepare(&target).unwrap(), &Owner { login, url }).unwrap();
        assert_eq!(made.len(), GROUPS.len());
        for group in GROUPS {
            let path = target.join(format!("{group}.url"));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{group}");
            let text = fs::read_to_string(path).unwrap();
            let wanted =
                format!("postgres://kh_{group}_2:p%40ss%2Fword@db.internal:5433/keyholder?sslmode=verify-full\n");
            assert_eq!(text, wanted);
        }
        assert_eq!(fs::read_dir(&target).unwrap().count(), GROUPS.len(), "nothing temporary stays");
    }
}
