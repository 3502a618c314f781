//! The command line's form of `prove`.

use std::path::PathBuf;

use clap::Args;

use super::{LogArgs, PostgresArgs, SignArgs};

/// `prove`
#[derive(Debug, Args)]
pub(in crate::cli) struct ProveArgs {
    /// The blueprint whose claims are proved, a shipped one by its name or a file; all five in turn without it.
    #[arg(long, value_name = "NAME|FILE")]
    pub(in crate::cli) blueprint: Option<String>,
    /// Run this probe alone; may be given several times.
    #[arg(long, value_name = "PROBE")]
    pub(in crate::cli) only: Vec<String>,
    /// Also switch off each control, and see its own probe fail. Only a build with the feature `sabotage` can.
    #[arg(long, conflicts_with = "target")]
    pub(in crate::cli) sabotage: bool,
    /// With --sabotage: run every other probe beside, too, and say which of them notice.
    #[arg(long, requires = "sabotage")]
    pub(in crate::cli) matrix: bool,
    /// Run the production-safe probes against this server.
    #[arg(long, value_name = "URL", requires = "api_key_file")]
    pub(in crate::cli) target: Option<url::Url>,
    /// The file with the key of an admin of the probes' own workspace there.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(in crate::cli) api_key_file: Option<PathBuf>,
    /// A certificate authority that is trusted for the target, as PEM.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(in crate::cli) tls_roots: Option<PathBuf>,
    /// The checkout for the checks of the build [default: this folder, where it is one].
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) source: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) sign: SignArgs,
    #[command(flatten)]
    pub(in crate::cli) postgres: PostgresArgs,
    #[command(flatten)]
    pub(in crate::cli) log: LogArgs,
}
