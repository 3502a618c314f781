//! The command line: parsed arguments become a configuration, a configuration becomes one command's work, and the outcome one
//! line or a few words.
//!
//! Standard output carries the outcome and nothing else; logs, bars and complaints go to standard error. Owns the exit codes.
//! Decides nothing about accounts, keys or mandates: a command calls one verb of the library.

mod args;
mod blueprint;
mod doctor;
mod failure;
mod import;
mod keyring;
mod ledger;
#[cfg(feature = "sandbox")]
mod local;
mod migrate;
mod notify;
mod operator;
mod output;
mod permissions;
#[cfg(feature = "sandbox")]
mod prove;
mod provider;
mod reference;
mod root_key;
mod routes;
mod serve;
mod settings;
mod signal;
#[cfg(feature = "sandbox")]
mod statement;
mod surroundings;
#[cfg(test)]
mod tests;
mod trust;
mod workspace;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use domain::clock::Clock;
use guard::Redactor;

use self::{
    args::{
        ApiKeyCommand, BlueprintCommand, Cli, Command, ConfigArgs, ImportCommand, LedgerCommand, PermissionsCommand,
        ProviderCommand, RootKeyCommand, WorkspaceCommand,
    },
    failure::{Exit, Failure},
    output::Voice,
    surroundings::Surroundings,
};
use crate::{
    config::{Log, Secret, Sources},
    telemetry::{self, Telemetry, TelemetryError, TelemetryOptions, Writer},
};

/// Parses the command line and does what it says. A command line that is not one ends the process with code 2.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    let voice = if cli.json { Voice::Json } else { Voice::Words };
    #[cfg(feature = "sabotage")]
    if let Some(Err(why)) = cli.switched_off.as_deref().map(crate::sabotage::choose) {
        return fail_to_begin(&why);
    }
    #[cfg(feature = "sandbox")]
    if cli.until_eof
        && let Err(why) = signal::end_with_stdin()
    {
        return fail_to_begin(&format!("standard input cannot be watched: {why}"));
    }
    match Box::pin(dispatch(cli.command, voice)).await {
        Ok(code) => code,
        Err(failure) => {
            voice.fail(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Says that the process could not even begin. The code is that of anything else.
pub fn fail_to_begin(why: &str) -> ExitCode {
    output::note(&format!("keyholder: {why}"));
    Exit::Other.into()
}

async fn dispatch(command: Command, voice: Voice) -> Result<ExitCode, Failure> {
    match command {
        #[cfg(feature = "sandbox")]
        Command::Demo(args) => Box::pin(local::demo(args, voice)).await,
        #[cfg(feature = "sandbox")]
        Command::Node(args) => Box::pin(local::node(&args)).await,
        #[cfg(feature = "sandbox")]
        Command::Prove(args) => Box::pin(prove::run(args, voice)).await,
        #[cfg(feature = "sandbox")]
        Command::Up(args) => Box::pin(local::up(args, voice)).await,
        Command::Serve(args) => serve::run(&args, voice).await,
        Command::Migrate(args) => migrate::run(&args, voice).await,
        Command::Doctor(args) => doctor::run(&args, voice).await,
        Command::RootKey(RootKeyCommand::Generate { out }) => root_key::generate(out.as_deref(), voice),
        Command::Keyring(command) => Box::pin(keyring::run(command, voice)).await,
        Command::Workspace(WorkspaceCommand::Create { name, probe, config }) => {
            workspace::create(&name, probe, &config, voice).await
        }
        Command::Workspace(WorkspaceCommand::Shred { workspace, confirm, config }) => {
            Box::pin(workspace::shred(&workspace, &confirm, &config, voice)).await
        }
        Command::ApiKey(ApiKeyCommand::Create { workspace, role, label, config }) => {
            workspace::create_key(&workspace, role, &label, &config, voice).await
        }
        Command::Ledger(LedgerCommand::RaiseEpochs(config)) => ledger::raise_epochs(&config, voice).await,
        Command::Operator(command) => operator::run(command, voice).await,
        Command::Trust(command) => trust::run(command, voice).await,
        Command::Routes => Ok(routes::list(voice)),
        Command::Settings => Ok(settings::list(voice)),
        Command::Completions { shell } => reference::completions(shell, voice),
        Command::Man(args) => reference::man(&args.out, voice),
        Command::Blueprint(BlueprintCommand::List { markdown }) => blueprint::list(markdown, voice),
        Command::Blueprint(BlueprintCommand::Show { name }) => blueprint::show(&name, voice),
        Command::Blueprint(BlueprintCommand::Lint { files }) => Ok(blueprint::lint(&files, voice)),
        Command::Permissions(PermissionsCommand::Test { files, allow_external_files }) => {
            Ok(permissions::test(&files, allow_external_files, voice))
        }
        Command::Permissions(PermissionsCommand::Why(args)) => Box::pin(permissions::why(&args, voice)).await,
        Command::Provider(ProviderCommand::Lint { files }) => Ok(provider::lint(&files, voice)),
        Command::Import(ImportCommand::Fernet(args)) => Box::pin(import::fernet(&args, voice)).await,
        Command::Provider(ProviderCommand::Migrate { name, yes, config }) => {
            Box::pin(provider::migrate(&name, yes, &config, voice)).await
        }
        Command::Provider(ProviderCommand::List { config, providers }) => {
            let flags = providers.map(|folder| ("providers".to_owned(), folder)).into_iter().collect();
            provider::list(&Surroundings::read().sources(config.as_deref(), flags)?, voice)
        }
    }
}

fn sources(args: &ConfigArgs) -> Result<Sources, Failure> {
    Ok(Surroundings::read().sources(args.config.as_deref(), args.flags())?)
}

/// What renders the metrics of this process.
type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Begins the log and the metrics. The log knows the configuration's secrets before its first line.
fn observe(log: Log, secrets: &[Secret], writer: Writer) -> Result<(Telemetry, RenderMetrics), Failure> {
    let redactor = Redactor::with_values(secrets.iter().map(Secret::expose)).map_err(TelemetryError::Guard)?;
    let Log { format, filter } = log;
    let options = TelemetryOptions { format, filter, redactor: Arc::new(redactor), writer, clock: Clock::system() };
    let telemetry = telemetry::init(options)?;
    telemetry::log_panics();
    let metrics = telemetry::metrics()?;
    Ok((telemetry, Arc::new(move || metrics.render())))
}
