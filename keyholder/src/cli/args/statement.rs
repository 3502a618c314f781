//! The command line's form of statements: `prove --sign` and `trust …`.

use std::path::PathBuf;

#[cfg(feature = "sandbox")]
use clap::Args;
use clap::Subcommand;

/// `prove --sign`
#[cfg(feature = "sandbox")]
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("statement_goes").multiple(true))]
pub(in crate::cli) struct SignArgs {
    /// Sign what was proved with this key, as `trust key` made it; may be given several times while one takes the place of another.
    #[arg(long, value_name = "FILE", requires = "blueprint", requires = "statement_goes", conflicts_with_all = ["only", "sabotage"])]
    pub(in crate::cli) sign: Vec<PathBuf>,
    /// With --sign: the file that the statement is written to.
    #[arg(long, value_name = "FILE", requires = "sign", group = "statement_goes")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// With --sign: publish the statement on the target's trust page.
    #[arg(long, requires = "sign", requires = "target", requires = "operator_key_file", group = "statement_goes")]
    pub(in crate::cli) publish: bool,
    /// With --publish: the file with an operator's key, best one that publishes and does nothing else.
    #[arg(long, value_name = "FILE", requires = "publish")]
    pub(in crate::cli) operator_key_file: Option<PathBuf>,
    /// With --sign: for how many days the statement counts.
    #[arg(long, value_name = "NUMBER", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub(in crate::cli) days: u32,
    /// With --sign: the installation that it is for [default: the target; without one, no particular installation].
    #[arg(long, value_name = "URL", requires = "sign")]
    pub(in crate::cli) audience: Option<url::Url>,
    /// With --sign: what the operator attests, the file of `trust.attestations`. Without it the statement counts nobody's word.
    #[arg(long, value_name = "FILE", requires = "sign")]
    pub(in crate::cli) attestations: Option<PathBuf>,
    /// With --sign: the commit that this program was built from, where it does not know it itself.
    #[arg(long, value_name = "COMMIT", requires = "sign")]
    pub(in crate::cli) commit: Option<String>,
    /// With --sign: the line that `prove --sabotage --json` of the sabotage build of the same commit printed. Without it no claim is kept.
    #[arg(long, value_name = "FILE", requires = "sign", requires = "sabotage_program")]
    pub(in crate::cli) sabotaged: Option<PathBuf>,
    /// With --sabotaged: that build's program.
    #[arg(long, value_name = "FILE", requires = "sabotaged")]
    pub(in crate::cli) sabotage_program: Option<PathBuf>,
}

/// `trust …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TrustCommand {
    /// Make a key for statements: the private half in a new file that only its owner reads, the public one on standard output.
    #[command(after_help = "Example:\n  keyholder trust key --out trust.key")]
    Key {
        /// The file to write; one that exists is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Verify a statement offline: its signature, until when it counts, and what else is asked of it. Exit code 1 where it does not count.
    ///
    /// An older statement, or one of another installation, is as well signed as the one you look for: --audience and --after tell them apart.
    #[command(
        after_help = "Example:\n  curl -O https://keys.example.com/trust/statement.json\n  keyholder trust verify statement.json --key ed25519:… --audience https://keys.example.com"
    )]
    Verify {
        /// The statement.
        file: PathBuf,
        /// The public key that must have signed it; may be given several times, and one is enough.
        #[arg(long, value_name = "KEY", required = true)]
        key: Vec<seal::signature::VerifyingKey>,
        /// The program that it must be of.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// The installation that it must have been made for.
        #[arg(long, value_name = "URL")]
        audience: Option<url::Url>,
        /// The number of the last statement that you know: it must be newer.
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
    },
    /// Publish a statement on a server's trust page, with an operator's key: a person's, or one that publishes and does nothing else.
    #[cfg(feature = "sandbox")]
    #[command(
        after_help = "Example:\n  keyholder trust publish statement.json --target https://keys.example.com --operator-key-file operator.key"
    )]
    Publish {
        /// The statement.
        file: PathBuf,
        /// The server.
        #[arg(long, value_name = "URL")]
        target: url::Url,
        /// The file with the operator's key, that nobody else may read.
        #[arg(long, value_name = "FILE")]
        operator_key_file: PathBuf,
        /// A certificate authority that is trusted for the target, as PEM.
        #[arg(long, value_name = "FILE")]
        tls_roots: Option<PathBuf>,
    },
}
