//! The command line's form of whoever is let in: `operator …`, and the roles of API keys.

use clap::{Subcommand, ValueEnum};

use super::ConfigArgs;

/// `operator …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum OperatorCommand {
    /// Make a key of a person. Its text is shown once. A person who has one then has two, and is one person with both.
    #[command(
        after_help = "Example:\n  keyholder operator create first.last@example.com\n  keyholder operator create prover --only publish"
    )]
    Create {
        /// The person: 1 to 64 of a-z, 0-9 and . _ @ -, such as a login name or an address.
        name: String,
        /// Make a key that is good for this alone and is no person's, for a run that nobody stands beside.
        #[arg(long, value_name = "PURPOSE")]
        only: Option<Only>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List the keys, whose they are and what for.
    #[command(after_help = "Example:\n  keyholder operator list")]
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// End a key, at once.
    #[command(after_help = "Example:\n  keyholder operator revoke opr_01…")]
    Revoke {
        /// The key's id, as `operator list` tells it.
        id: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Say who is super-admin. Nobody ever is without it.
    #[command(subcommand, after_help = "Example:\n  keyholder operator super-admin grant first.last@example.com")]
    SuperAdmin(SuperAdminCommand),
}

/// What a key may be good for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Only {
    /// Publish signed statements on the trust page.
    Publish,
}

/// `operator super-admin …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SuperAdminCommand {
    /// Make a person super-admin who has a key.
    #[command(after_help = "Example:\n  keyholder operator super-admin grant first.last@example.com")]
    Grant {
        /// The person, as `operator list` names him.
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// End that a person is super-admin, at once. So does the end of his last key.
    #[command(after_help = "Example:\n  keyholder operator super-admin revoke first.last@example.com")]
    Revoke {
        /// The person.
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// What an API key is in its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum KeyRole {
    /// Manage the workspace.
    Admin,
    /// See what an admin sees, and change nothing.
    SupportAgent,
    /// Invite owners, and act under mandates.
    User,
    /// Act under mandates.
    Service,
}
