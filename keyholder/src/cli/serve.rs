//! `serve`: from the configuration to a process that runs until it is told to stop.

use std::{net::Ipv4Addr, process::ExitCode, sync::Arc};

use domain::clock::Clock;
use serde::Serialize;
use server::Listen;
use service::step::Hook;
use store::Urls;

use super::{
    args::ConfigArgs,
    failure::{Exit, Failure},
    notify, observe,
    output::Voice,
    signal::{Hangups, Signals},
    sources,
    surroundings::Surroundings,
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
    let manager = Surroundings::read().manager();
    let mut hangups = Hangups::listen()?;
    let mut signals = Signals::listen()?;
    let instance = Instance::start(options).await?;
    let (url, metrics_url) = (bare(instance.url()), bare(instance.metrics_url()));
    let ready = Ready { url, metrics_url, environment, pid: std::process::id() };
    tracing::info!(url, metrics_url, environment, "ready");
    voice.say(&ready, &format!("Keyholder serves at {url} (metrics at {metrics_url})"));
    manager.tell(notify::READY);
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = hangups.next() => {
                instance.reread_logins();
                instance.reread_certificate();
            }
        }
    }
    tracing::info!("stopping: this node is not ready any more, and takes no new requests after drain.delay_s");
    manager.tell(notify::STOPPING);
    let drained = signals.unless_again(instance.stop()).await;
    tracing::info!(drained, "stopped");
    Ok(if drained { Exit::Done } else { Exit::Other }.into())
}

/// The options of an instance as the configuration has it, with the log already begun.
fn options(args: &ConfigArgs) -> Result<(InstanceOptions, &'static str, Sources), Failure> {
    let sources = sources(args)?;
    let (mut config, urls) = Config::for_serving(&sources)?;
    let (telemetry, render_metrics) =
        observe(config.log.clone(), &std::mem::take(&mut config.secrets), Writer::Stderr)?;
    let environment = config.environment.as_str();
    let exporter = config.otlp.take().map(|otlp| telemetry.export_spans(otlp, about(environment))).transpose();
    let exporter = exporter.map_err(|error| Failure::because(Exit::Other, "traces cannot be sent", error))?.flatten();
    let mut options = config.into_options(urls, Hook::default(), Clock::system(), render_metrics);
    options.exporter = exporter;
    Ok((options, environment, sources))
}

/// What a trace says of the process that it is of (OpenTelemetry's conventions of resources).
fn about(environment: &str) -> Vec<(&'static str, String)> {
    vec![
        ("service.name", "keyholder".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("deployment.environment.name", environment.to_owned()),
    ]
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
    let anywhere_here = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    (options.listen, options.metrics_listen, options.tls) = (anywhere_here.clone(), anywhere_here, None);
    let operator = options.operator.clone();
    Ok((Instance::start(options).await?, operator))
}

/// An address without the slash at its end, as people write it.
pub(super) fn bare(url: &url::Url) -> &str {
    url.as_str().trim_end_matches('/')
}
