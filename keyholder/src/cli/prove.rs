//! `prove`: which claims hold, on a scratch installation or at a server.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use domain::{blueprint::Blueprint, statement::Scope};
use proof::{Target, caller::Caller};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use url::Url;

use super::{
    args::ProveArgs,
    failure::{Exit, Failure},
    local::configure,
    observe,
    output::{Progress, Voice, note},
    routes,
    signal::Signals,
    statement::Signer,
};
use crate::{
    config::{Log, read_secret},
    prove::{self, ProveError, ProveOptions, Report},
    telemetry::{Format, Writer},
};

impl From<ProveError> for Failure {
    fn from(error: ProveError) -> Self {
        match error {
            ProveError::Start(error) => Self::Start(error),
            error => Self::said(Exit::Other, error.to_string()),
        }
    }
}

/// Proves. Exit code 1 where a claim is broken or unproven, or a sabotage went unnoticed.
pub(super) async fn run(args: ProveArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let blueprints = prove::blueprints(args.blueprint.as_deref())?;
    if let Some(url) = &args.target {
        let target = target(url, &args, blueprints).await?;
        let server = (&target.stranger, url, args.tls_roots.as_ref());
        let signer = Signer::prepare(&args.sign, Some(&target.blueprint), Some(server), None).await?;
        let report = prove::live(&target, &args.only).await?;
        if let Some(signer) = signer {
            signer.finish(&report, Scope::ProductionSafe).await?;
        }
        return Ok(tell(&report, voice));
    }
    let usual = Log { format: Format::Json, filter: "info".to_owned() };
    let (config, mut cluster) = configure((None, None), args.postgres, &args.log, usual.clone())?;
    let writer = if config.log == usual { Writer::Silent } else { Writer::Stderr };
    let _telemetry = observe(config.log, &[], writer)?;
    let starting = Progress::begin("starting");
    cluster.on_stage = Some(starting.stages());
    let bar = Arc::new(Progress::begin("proving"));
    let shown = Arc::clone(&bar);
    let source = args.source.or_else(checkout);
    let signer = Signer::prepare(&args.sign, blueprints.first(), None, source.as_deref()).await?;
    let options = ProveOptions {
        cluster,
        blueprints,
        only: args.only,
        source,
        on_progress: Box::new(move |words| shown.now(words)),
    };
    let mut signals = Signals::listen()?;
    let proving = async {
        if args.sabotage { sabotage(options, args.matrix).await } else { Ok(prove::rehearse(options).await?) }
    };
    // What was started and made ends with what is dropped here.
    let report = tokio::select! {
        report = proving => report?,
        () = signals.next() => return Err(Failure::said(Exit::Other, "stopped before the end: nothing is said of any claim")),
    };
    starting.end();
    bar.end();
    if let Some(signer) = signer {
        signer.finish(&report, Scope::Whole).await?;
    }
    Ok(tell(&report, voice))
}

#[cfg(feature = "sabotage")]
async fn sabotage(options: ProveOptions, with_others: bool) -> Result<Report, Failure> {
    Ok(prove::sabotage(options, with_others).await?)
}

#[cfg(not(feature = "sabotage"))]
async fn sabotage(_options: ProveOptions, _with_others: bool) -> Result<Report, Failure> {
    let why = "no control can be switched off in this build: `cargo run --features sabotage -- prove --sabotage` makes one in which they can";
    std::future::ready(Err(Failure::said(Exit::Other, why))).await
}

async fn target(url: &Url, args: &ProveArgs, blueprints: Vec<Blueprint>) -> Result<Target, Failure> {
    let file = args.api_key_file.as_deref().unwrap_or(Path::new(""));
    let read = |error| Failure::because(Exit::Other, format!("{} cannot be read", file.display()), error);
    let key = read_secret(file).map_err(read)?;
    let authority = args.tls_roots.as_deref().map(CertificateDer::from_pem_file).transpose();
    let authority =
        authority.map_err(|error| Failure::because(Exit::Other, "the certificate authority cannot be read", error))?;
    let stranger = Caller::trusting(url, None, authority.as_ref());
    let unread = |error| Failure::because(Exit::Other, "the table of routes cannot be read", error);
    let table = serde_json::to_value(routes::listed()).and_then(serde_json::from_value).map_err(unread)?;
    let admin = stranger.with_key(key.expose());
    let blueprint = prove::at_server((&admin, &stranger), blueprints).await?;
    Ok(Target { admin, stranger, table, blueprint })
}

/// This folder, where it is a checkout of the project.
fn checkout() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    (here.join("Cargo.lock").is_file() && here.join("claims").is_dir() && here.join(".git").exists()).then_some(here)
}

fn tell(report: &Report, voice: Voice) -> ExitCode {
    voice.say(report, &in_words(report));
    for line in report.claims.iter().filter(|line| matches!(line.state, "broken" | "unproven")) {
        note(&format!("keyholder: {} is {}: {}", line.id, line.state, line.evidence));
    }
    for row in report.matrix.iter().flatten().filter(|row| !(row.own_probe && row.clean)) {
        note(&format!("keyholder: without {} its probe did not fail as it must: {}", row.sabotage, row.said));
    }
    if report.holds() { Exit::Done } else { Exit::CheckFailed }.into()
}

fn in_words(report: &Report) -> String {
    let mut words = String::new();
    for line in &report.claims {
        let probe = line.probe.as_deref().unwrap_or("-");
        // Writing to a string does not fail.
        let _ = writeln!(words, "{:<8} {:<9} {:<22} {probe}", line.id, line.state, line.blueprint);
    }
    for row in report.matrix.iter().flatten() {
        let word = if row.own_probe { "noticed" } else { "UNNOTICED" };
        let _ = writeln!(words, "without {:<28} {word}: {}", row.sabotage, row.said);
    }
    let counts = &report.counts;
    format!(
        "{words}{} kept, {} broken, {} unproven, {} planned, {} attested",
        counts.kept, counts.broken, counts.unproven, counts.planned, counts.attested
    )
}
