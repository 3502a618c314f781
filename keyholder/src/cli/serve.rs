//! `serve`: from the configuration to a process that runs until it is told to stop.

use std::{process::ExitCode, sync::Arc};

use domain::clock::Clock;
use serde::Serialize;
use service::step::Hook;
use store::Urls;

use super::{
    args::ConfigArgs,
    failure::{Exit, Failure},
    observe,
    output::Voice,
    signal::{Hangups, Signals},
    sources,
};
use crate::{
    Instance, InstanceOptions,
    config::{Config, Sources},
    telemetry::Writer,
};

#[derive(Serialize)]
struct Ready<'r> {
    url: &'r str,
    metrics_url: &'r str,
    environment: &'r str,
    pid: u32,
}

/// Serves until SIGTERM or SIGINT, then lets what is on its way come to its end. A second signal does not wait for that.
pub(super) async fn run(args: &ConfigArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let (mut options, environment, sources) = options(args)?;
    options.reread_logins = Some(Arc::new(move || logins_again(&sources)));
    let mut hangups = Hangups::listen()?;
    let mut signals = Signals::listen()?;
    let instance = Instance::start(options).await?;
    let (url, metrics_url) = (bare(instance.url()), bare(instance.metrics_url()));
    let ready = Ready { url, metrics_url, environment, pid: std::process::id() };
    tracing::info!(url, metrics_url, environment, "ready");
    voice.say(&ready, &format!("Keyholder serves at {url} (metrics at {metrics_url})"));
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = hangups.next() => instance.reread_logins(),
        }
    }
    tracing::info!("stopping: no new requests are taken");
    let drained = signals.unless_again(instance.stop()).await;
    tracing::info!(drained, "stopped");
    Ok(if drained { Exit::Done } else { Exit::Other }.into())
}

/// The options of an instance as the configuration has it, with the log already begun.
fn options(args: &ConfigArgs) -> Result<(InstanceOptions, &'static str, Sources), Failure> {
    let sources = sources(args)?;
    let (mut config, urls) = Config::for_serving(&sources)?;
    let (_, render_metrics) = observe(config.log.clone(), &std::mem::take(&mut config.secrets), Writer::Stderr)?;
    let environment = config.environment.as_str();
    Ok((config.into_options(urls, Hook::default(), Clock::system(), render_metrics), environment, sources))
}

/// The logins as the sources have them now. What is wrong with them is told in the log; those in use stay.
fn logins_again(sources: &Sources) -> Option<Urls> {
    let read = Config::logins_again(sources);
    if let Err(faults) = &read {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        tracing::error!(faults = faults.join("; "), "the addresses of the database cannot be read again");
    }
    read.ok()
}

/// An instance for a command that does its work and ends: on free ports, whatever the configuration says, so that it disturbs no
/// server beside it.
pub(super) async fn for_a_moment(args: &ConfigArgs) -> Result<(Instance, String), Failure> {
    let (mut options, ..) = options(args)?;
    options.listen.set_port(0);
    options.metrics_listen.set_port(0);
    let operator = options.operator.clone();
    Ok((Instance::start(options).await?, operator))
}

/// An address without the slash at its end, as people write it.
pub(super) fn bare(url: &url::Url) -> &str {
    url.as_str().trim_end_matches('/')
}
