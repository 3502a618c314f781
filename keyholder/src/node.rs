//! A node in a process of its own, which its parent may stop, kill and start again: what a soak throws its faults at.
//!
//! Everything that a node needs is handed over on its standard input, a pipe that it inherits: the way to the sandbox, the keys and the
//! client's secret exist in no argument, file, row or variable. The pipe stays open as long as the parent lives; its end is the
//! node's sign to stop, so that no node outlives its parent. Never serves customers: a handover always means a sandbox, which only the
//! environment `local` accepts.

use std::{
    io::{self, BufRead, BufReader, Read},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    thread,
};

use serde::{Deserialize, Serialize};
use service::{LimitOptions, Sandbox};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::{
    Instance, StartError,
    home::Keys,
    local::{self, PROVIDER, Place},
};

/// The longest handover that is read, in bytes.
const LONGEST: u64 = 256 * 1024;
/// More than a load generator makes: what is measured is not the cheap limits.
const UNBOUNDED: NonZeroU32 = NonZeroU32::MAX;

/// What a node is handed, as one line of JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The home's keys and logins.
    pub keys: Keys,
    /// The database to serve.
    pub database: String,
    /// The way to the sandbox.
    pub sandbox: Sandbox,
    /// The operator's secret at the platform.
    pub secret: Zeroizing<String>,
    /// Where to listen on the loopback address; 0 for any.
    pub port: u16,
    /// What the node keeps outside the database: the same folder for every life of a node.
    pub state_dir: PathBuf,
    /// The blueprint whose settings it takes; the usual ones without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blueprint: Option<String>,
    /// The cheap limits, for whoever wants to meet them; without it they are unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// The cheap limits of a node, each in requests a minute.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of a network.
    pub network: NonZeroU32,
    /// Of a principal.
    pub principal: NonZeroU32,
    /// Wrong credentials of a network.
    pub failures: NonZeroU32,
    /// Connect links of a network, and of a key.
    pub links: NonZeroU32,
}

impl From<Limits> for LimitOptions {
    fn from(limits: Limits) -> Self {
        Self {
            network_per_minute: limits.network,
            principal_per_minute: limits.principal,
            failures_per_minute: limits.failures,
            links_per_minute: limits.links,
        }
    }
}

/// What a node answers when it serves, as one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Where it serves.
    pub url: String,
    /// Where its platform sends browsers back to.
    pub redirect_uri: String,
    /// The id of this life of the node, as the database has it.
    pub node: String,
}

/// The parent, at the other end of the pipe. A thread of its own reads, which keeps no runtime from ending.
pub struct Parent {
    line: oneshot::Receiver<io::Result<Zeroizing<Vec<u8>>>>,
    end: oneshot::Receiver<()>,
}

impl Parent {
    /// Begins to read this process's standard input.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn at_stdin() -> io::Result<Self> {
        let (tell_line, line) = oneshot::channel();
        let (tell_end, end) = oneshot::channel();
        thread::Builder::new().name("parent".to_owned()).spawn(move || {
            let mut pipe = BufReader::new(io::stdin());
            let mut read = Zeroizing::new(Vec::new());
            let taken = (&mut pipe).take(LONGEST).read_until(b'\n', &mut read);
            // Nobody waits any more where the process is already on its way out.
            let _gone = tell_line.send(taken.map(|_| read));
            let _whatever = io::copy(&mut pipe, &mut io::sink());
            let _gone = tell_end.send(());
        })?;
        Ok(Self { line, end })
    }

    /// Takes what is handed over.
    ///
    /// # Errors
    /// Where the pipe breaks or what comes is no handover.
    pub async fn take(&mut self) -> io::Result<Handover> {
        let line = (&mut self.line).await.map_err(io::Error::other)??;
        Ok(serde_json::from_slice(&line)?)
    }

    /// Returns when the parent has closed its end, or is no more.
    pub async fn gone(self) {
        // An error says that the thread is no more, which leaves nobody who could tell.
        let _closed = self.end.await;
    }
}

/// Starts a node as it was handed over.
///
/// # Errors
/// As [`Instance::start`].
pub async fn start(
    handover: Handover,
    render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
) -> Result<(Instance, Ready), StartError> {
    let Handover { keys, database, sandbox, secret, port, state_dir, blueprint, limits } = handover;
    let mut options = Place { database: &database, port }.options(&keys, Some(sandbox), &secret)?;
    if let Some(name) = blueprint {
        local::apply_blueprint(&mut options, &name)?;
    }
    let unbounded = Limits { network: UNBOUNDED, principal: UNBOUNDED, failures: UNBOUNDED, links: UNBOUNDED };
    options.limits = limits.unwrap_or(unbounded).into();
    options.render_metrics = render_metrics;
    options.state_dir = state_dir;
    let instance = Instance::start(options).await?;
    let ready = Ready {
        url: instance.url().to_string(),
        redirect_uri: instance.app().redirect_uri(PROVIDER),
        node: instance.app().node.to_string(),
    };
    Ok((instance, ready))
}
