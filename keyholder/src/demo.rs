//! The main job, told as a story with real parts: a database, a platform behind TLS, a server, and callers from outside.
//!
//! Each step does something, looks at what came of it where it can be seen (the platform, the log, the tables), and says so.

mod crowd;
mod search;
pub mod soak;
mod stage;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use crate::{StartError, cluster::ClusterOptions, telemetry::Telemetry};
use stage::{Fault, Stage};

/// How the story is told.
pub struct Options {
    /// The cluster that it runs on.
    pub cluster: ClusterOptions,
    /// The log, which one step searches.
    pub telemetry: Telemetry,
}

/// One step and its outcome.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    /// What was to be shown.
    pub name: &'static str,
    /// Whether it was.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// The whole story.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Each step.
    pub steps: Vec<Told>,
    /// How many were shown.
    pub passed: usize,
    /// How many were not.
    pub failed: usize,
}

/// Something that cannot even begin, or cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The installation did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The teller's output is gone.
    #[error("the story cannot be told")]
    Output(#[from] io::Error),
}

/// A story that was told, with its stage still standing.
pub struct Performance {
    /// What was shown.
    pub report: Report,
    stage: Stage,
}

/// Tells the story, a line a step as it happens.
///
/// # Errors
/// Where the installation does not start. A step that shows something else than it should is no error: the report says so.
pub async fn run(options: Options, out: &mut (dyn Write + Send)) -> Result<Performance, DemoError> {
    let mut stage = Stage::set(options.cluster, &options.telemetry).await?;
    let mut report = Report { steps: Vec::new(), passed: 0, failed: 0 };
    macro_rules! tell {
        ($name:literal, $step:expr) => {{
            let (ok, detail) = match $step.await {
                Ok(detail) => (true, detail),
                Err(Fault(detail)) => (false, detail),
            };
            report.passed += usize::from(ok);
            report.failed += usize::from(!ok);
            writeln!(out, "{} {}\n     {detail}", if ok { "ok  " } else { "FAIL" }, $name)?;
            report.steps.push(Told { name: $name, ok, detail });
        }};
    }
    tell!("A workspace, with a key for its back end", stage.workspace());
    tell!("An owner connects an account, and sees first who asks for what", stage.connect());
    tell!("A mandate for an agent: replies only, three a day", stage.mandate());
    tell!("The agent replies, and the platform shows it", stage.reply());
    tell!("The same idempotency key twice: one post", stage.repeat());
    tell!("The fourth reply of the day is refused", stage.fourth());
    tell!("An action outside the mandate is refused", stage.outside());
    tell!("A credential that the platform has ended, 1,000 callers at once: one refresh", crowd::gather(&mut stage));
    tell!("The credential is in no response, log line or table; a planted canary is in each", search::look(&mut stage));
    tell!("The mandate is revoked: the next act is refused", stage.revoke());
    tell!("Disconnected: the old token is proven dead", stage.disconnect());
    Ok(Performance { report, stage })
}

impl Performance {
    /// The addresses of what still stands, for somebody who wants to look around.
    pub fn addresses(&self) -> serde_json::Value {
        let local = &self.stage.local;
        json!({
            "url": local.instance().url().as_str(),
            "sandbox_url": local.sandbox().url(),
            "metrics_url": local.instance().metrics_url().as_str(),
            "database_url": *local.database_url(),
            "workspace": self.stage.workspace_id(),
            "api_key": self.stage.admin_key(),
        })
    }

    /// Takes everything down.
    ///
    /// # Errors
    /// Where the cluster does not stop.
    pub async fn close(self) -> Result<Report, StartError> {
        self.stage.local.stop().await?;
        Ok(self.report)
    }
}
