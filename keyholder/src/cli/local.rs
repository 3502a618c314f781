//! `up` and `demo`, and the nodes of a soak: everything on one machine, with keys and a database of their own and a sandbox in the platform's place.
//!
//! Never reads a server's settings: a production key in the environment is of no concern to a demonstration.

use std::{
    fs, io,
    path::{Path, absolute},
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use domain::{
    id::{KeyId, WorkspaceId},
    principal::Principal,
};
use serde::Serialize;
use serde_json::Value;
use service::{App, Refusal, step::Hook};
use store::api_key::Role;
use zeroize::Zeroizing;

use super::{
    args::{DemoArgs, LogArgs, NodeArgs, PostgresArgs, UpArgs},
    failure::{Exit, Failure},
    observe,
    output::{Progress, Voice, is_watched, note},
    serve::bare,
    signal::Signals,
    surroundings::Surroundings,
};
use crate::{
    StartError,
    cluster::{ClusterOptions, Download},
    config::{LocalConfig, Log, Preset},
    demo::{self, soak},
    local::{Local, LocalOptions},
    node,
    telemetry::{Format, Writer},
};

/// What the key of a run is called, by which the next run knows it if this one is killed.
const RUN_KEY: &str = "keyholder up";
/// The file of the state folder that remembers the workspace.
const WORKSPACE_FILE: &str = "workspace";

/// The configuration of a local command, and a cluster's options by it.
pub(super) fn configure(
    (state, blueprint): (Option<String>, Option<String>),
    postgres: PostgresArgs,
    log: &LogArgs,
    usual: Log,
) -> Result<(LocalConfig, ClusterOptions), Failure> {
    let around = Surroundings::read();
    let (cache, search_path) = (around.folders().cache, around.search_path());
    let mut flags = log.flags();
    flags.extend(state.map(|state| ("state_dir".to_owned(), state)));
    flags.extend(blueprint.map(|blueprint| ("blueprint".to_owned(), blueprint)));
    flags.extend(postgres.postgres.map(|postgres| ("postgres_bin".to_owned(), postgres)));
    let config = LocalConfig::load(&around.sources(None, flags)?, usual)?;
    let launcher = std::env::current_exe()
        .map_err(|error| Failure::because(Exit::Other, "this program's own file cannot be found", error))?;
    let mut cluster = ClusterOptions::new(launcher, cache);
    cluster.binaries = config.binaries.clone();
    cluster.download = Download::Allowed;
    cluster.search_path = search_path;
    Ok((config, cluster))
}

/// What a program is told when everything is up.
#[derive(Serialize)]
struct Up<'u> {
    url: &'u str,
    sandbox_url: &'u str,
    metrics_url: &'u str,
    database_url: &'u str,
    workspace: String,
    api_key: &'u str,
}

/// Runs a local installation until SIGTERM or SIGINT.
pub(super) async fn up(args: UpArgs, voice: Voice) -> Result<ExitCode, Failure> {
    // A person watches a bar while it starts, and wants to see afterwards what goes wrong.
    let filter = if voice == Voice::Words && is_watched() { "warn" } else { "info" };
    let format = if voice == Voice::Json { Format::Json } else { Format::Pretty };
    let usual = Log { format, filter: filter.to_owned() };
    let (config, mut cluster) = configure((args.state, args.blueprint), args.postgres, &args.log, usual)?;
    let preset = config.blueprint.as_ref().map(Preset::of).transpose()?;
    let (telemetry, render_metrics) = observe(config.log, &[], Writer::Stderr)?;
    let state = absolute(&config.state_dir)
        .map_err(|error| Failure::because(Exit::Other, "the state folder's name is none", error))?;
    let progress = Progress::begin("starting");
    cluster.on_stage = Some(progress.stages());
    let (port, hook) = (args.port, Hook::default());
    let options = LocalOptions { state: Some(state.clone()), cluster, port, preset, hook, render_metrics };
    let local = Local::start(options).await?;
    let mut signals = Signals::listen()?;
    let app = Arc::clone(local.instance().app());
    let run = Run::begin(&app, &state.join(WORKSPACE_FILE)).await?;
    let database = local.database_url();
    telemetry
        .redactor()
        .learn([run.text.as_bytes(), database.as_bytes()])
        .map_err(crate::telemetry::TelemetryError::Guard)?;
    progress.end();
    let ready = Up {
        url: bare(local.instance().url()),
        sandbox_url: &local.sandbox().url(),
        metrics_url: bare(local.instance().metrics_url()),
        database_url: &database,
        workspace: run.workspace.to_string(),
        api_key: &run.text,
    };
    voice.say(&ready, &in_words(&ready, &state));
    tracing::info!(url = ready.url, workspace = %run.workspace, "ready");
    tokio::select! {
        () = signals.next() => {}
        reason = local.home().ended() => {
            return Err(Failure::said(Exit::Database, format!("the database has ended: {reason}")));
        }
    }
    tracing::info!("stopping");
    let mut stopped = Ok(());
    let drained = signals.unless_again(Box::pin(async { stopped = run.end_and_stop(&app, local).await })).await;
    stopped?;
    Ok(if drained { Exit::Done } else { Exit::Other }.into())
}

fn in_words(up: &Up<'_>, state: &Path) -> String {
    let Up { url, sandbox_url, metrics_url, workspace, api_key, .. } = up;
    format!(
        "Keyholder is up.\n\n  API        {url}\n  sandbox    {sandbox_url}\n  metrics    {metrics_url}\n  workspace  {workspace}\n  \
         state      {}\n  API key    {api_key} (ends with this run)\n\nTry it:\n  curl -H 'Authorization: Bearer {api_key}' \
         {url}/v1/workspace\n\nStop it with Ctrl-C.",
        state.display()
    )
}

/// The workspace of a run, and the key that dies with it.
struct Run {
    workspace: WorkspaceId,
    key: KeyId,
    text: Zeroizing<String>,
}

impl Run {
    /// Finds the workspace of the runs before, or makes one; mints this run's key, and ends those of runs that were killed.
    async fn begin(app: &App, file: &Path) -> Result<Self, Failure> {
        let operator = Principal::operator("local", app.clock.now());
        let known: Option<WorkspaceId> = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        let issue = async |workspace| {
            service::workspace::issue_key(app, &operator, workspace, RUN_KEY, Role::Admin, None).await
        };
        let found = match known {
            None => None,
            Some(workspace) => match issue(workspace).await {
                Ok((key, text)) => Some(Self { workspace, key, text }),
                // The database is another than the one that the file was written for.
                Err(Refusal::NotFound) => None,
                Err(refusal) => return Err(StartError::SetUp(refusal).into()),
            },
        };
        let run = if let Some(run) = found {
            run
        } else {
            let workspace = service::workspace::create(app, &operator, "Local").await.map_err(StartError::SetUp)?;
            let failed = |source| StartError::File { path: file.to_owned(), source };
            fs::write(file, format!("{workspace}\n")).map_err(failed)?;
            let (key, text) = issue(workspace).await.map_err(StartError::SetUp)?;
            Self { workspace, key, text }
        };
        run.end_former(app).await.map_err(StartError::SetUp)?;
        Ok(run)
    }

    fn principal(&self, app: &App) -> Principal {
        Principal::api_key(self.key, self.workspace, app.clock.now())
    }

    async fn end_former(&self, app: &App) -> Result<(), Refusal> {
        let mut before = None;
        loop {
            let page = service::api_key::list(app, &self.principal(app), before, 100).await?;
            let Some(last) = page.last() else { return Ok(()) };
            before = Some(last.id);
            for key in page.iter().filter(|key| key.label == RUN_KEY && key.revoked_at.is_none() && key.id != self.key)
            {
                service::api_key::revoke(app, &self.principal(app), key.id).await?;
            }
        }
    }

    /// Ends the key, then everything else.
    async fn end_and_stop(self, app: &App, local: Local) -> Result<(), StartError> {
        if let Err(refusal) = service::api_key::revoke(app, &self.principal(app), self.key).await {
            // Where the database is gone, nobody can use the key either; the next run ends it.
            tracing::warn!(error = %refusal, "this run's API key could not be ended");
        }
        local.stop().await
    }
}

/// The story's outcome as one line, with the addresses of what still stands.
#[derive(Serialize)]
struct Story<'s> {
    #[serde(flatten)]
    report: &'s demo::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<&'s Value>,
}

/// Shows the main job. Exit code 1 where a step did not show what it should.
pub(super) async fn demo(args: DemoArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let usual = Log { format: Format::Json, filter: "info".to_owned() };
    let (config, mut cluster) = configure((None, None), args.postgres, &args.log, usual.clone())?;
    // The story searches the log; it is shown to whoever asks for it.
    let writer = if config.log == usual { Writer::Silent } else { Writer::Stderr };
    if let Some(seconds) = args.soak {
        let node_flags = if config.log == usual { Vec::new() } else { log_flags(&config.log) };
        let (length, seed) = (Duration::from_secs(seconds), args.seed);
        return Box::pin(run_soak(config.log, writer, cluster, (length, seed, node_flags), voice)).await;
    }
    let (telemetry, _) = observe(config.log, &[], writer)?;
    let progress = Progress::begin("starting");
    cluster.on_stage = Some(progress.stages());
    let options = demo::Options { cluster, telemetry };
    let mut out: Box<dyn io::Write + Send> = match voice {
        Voice::Words => Box::new(io::stdout()),
        Voice::Json => Box::new(io::sink()),
    };
    let performance = Box::pin(demo::run(options, &mut *out)).await.map_err(|error| match error {
        demo::DemoError::Start(error) => Failure::Start(error),
        demo::DemoError::Output(error) => Failure::because(Exit::Other, "the story cannot be told", error),
    })?;
    progress.end();
    let addresses = args.keep.then(|| performance.addresses());
    let (passed, failed) = (performance.report.passed, performance.report.failed);
    let story = Story { report: &performance.report, addresses: addresses.as_ref() };
    voice.say(
        &story,
        &format!("{}{passed} passed, {failed} failed", addresses.as_ref().map(listed).unwrap_or_default()),
    );
    if args.keep {
        let mut signals = Signals::listen()?;
        signals.next().await;
    }
    performance.close().await?;
    Ok(if failed == 0 { Exit::Done } else { Exit::CheckFailed }.into())
}

/// The flags by which a child process logs as this one does.
fn log_flags(log: &Log) -> Vec<String> {
    let format = if log.format == Format::Json { "json" } else { "pretty" };
    ["--log-format", format, "--log-filter", &log.filter].map(str::to_owned).to_vec()
}

/// Runs a soak. Exit code 1 where it found something.
async fn run_soak(
    log: Log,
    writer: Writer,
    mut cluster: ClusterOptions,
    (length, seed, node_flags): (Duration, Option<u64>, Vec<String>),
    voice: Voice,
) -> Result<ExitCode, Failure> {
    let _telemetry = observe(log, &[], writer)?;
    let starting = Progress::begin("starting");
    cluster.on_stage = Some(starting.stages());
    // The first bar ends when the database is ready; this one begins then.
    let bar = OnceLock::new();
    let on_progress = Arc::new(move |words: String| bar.get_or_init(|| Progress::begin("soak")).now(words));
    let options = soak::SoakOptions { cluster, length, seed, node_flags, on_progress };
    let report = Box::pin(soak::run(options)).await.map_err(|error| match error {
        soak::SoakError::Start(error) => Failure::Start(error),
        error => Failure::because(Exit::Other, "the soak was not carried through", error),
    })?;
    starting.end();
    voice.say(&report, &report.in_words());
    let failures = report.failures();
    for failure in &failures {
        note(&format!("keyholder: {failure}"));
    }
    Ok(if failures.is_empty() { Exit::Done } else { Exit::CheckFailed }.into())
}

/// Serves as a node until the parent is gone, or says that it is to end.
pub(super) async fn node(args: &NodeArgs) -> Result<ExitCode, Failure> {
    let usual = Log { format: Format::Json, filter: "info".to_owned() };
    let config = LocalConfig::load(&Surroundings::read().sources(None, args.log.flags())?, usual.clone())?;
    let writer = if config.log == usual { Writer::Silent } else { Writer::Stderr };
    let (_telemetry, render_metrics) = observe(config.log, &[], writer)?;
    let not_handed = |error| Failure::because(Exit::Other, "nothing was handed over on standard input", error);
    let mut parent = node::Parent::at_stdin().map_err(not_handed)?;
    let handover = parent.take().await.map_err(not_handed)?;
    let (instance, ready) = node::start(handover, render_metrics).await?;
    Voice::Json.say(&ready, "");
    parent.gone().await;
    instance.stop().await;
    Ok(Exit::Done.into())
}

fn listed(addresses: &Value) -> String {
    let members = addresses.as_object().into_iter().flatten();
    let lines = members.map(|(name, value)| format!("  {name:<13} {}\n", value.as_str().unwrap_or_default()));
    format!("Everything stays up until Ctrl-C:\n{}", lines.collect::<String>())
}
