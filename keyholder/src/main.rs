//! Keyholder's executable: whatever must be true of the process before it has a thread, then the command line.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask},
};

/// How long threads are waited for that work when the command is over.
const STRAGGLERS_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // Before all else: this process may have been started only to become PostgreSQL.
    if let Some(code) = keyholder::cluster::launch::intercept() {
        return code;
    }
    begin().unwrap_or_else(|error| keyholder::cli::fail_to_begin(&format!("{error:#}")))
}

fn begin() -> anyhow::Result<ExitCode> {
    keep_private().context("this process cannot keep its memory to itself")?;
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another cryptographic provider was installed first");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime can be built")?;
    let code = runtime.block_on(keyholder::cli::run());
    // All that must end has ended by now; a thread that still works for nobody keeps no process from its end.
    runtime.shutdown_timeout(STRAGGLERS_WITHIN);
    Ok(code)
}

/// Keys are in this process's memory: no core file is written of it, and no process of the same user may attach to it. What it
/// writes is for its own account, unless the one who writes says otherwise.
fn keep_private() -> rustix::io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
