//! The command line's form of `permissions …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigArgs;

/// `permissions …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PermissionsCommand {
    /// Run the tests of OpenFGA's store files, and say how many of their questions have the expected answer. Exit code 1 where one has not.
    ///
    /// No server and no database is asked. A file with a fault fails as a whole, and the fault is told with its place.
    #[command(after_help = "Example:\n  keyholder permissions test store.fga.yaml\n  \
        keyholder permissions test models/*.fga.yaml --json\n\n\
        With --json it prints one line:\n  \
        {\"files\":[{\"file\",\"passed\",\"failed\",\"failures\"}],\"passed\",\"failed\"}")]
    Test {
        /// The store files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also read models and tuples that a store file names outside its own folder. Only for files that you trust.
        #[arg(long)]
        allow_external_files: bool,
    },
    /// Tell why somebody may do something, by which tuples and rules; or what he lacks: tuples of which each set would be enough.
    ///
    /// Of a workspace, by its facts in the database, at the machine; or of a store file. Exit code 0 whatever the answer.
    #[command(after_help = "Example:\n  \
        keyholder permissions why --workspace ws_01k5w8v9s6f7q8r9t0v1w2x3y4 \\\n    \
        --user key_01k5w8v9s6f7q8r9t0v1w2x3y4 --permission connection.read --object con_01k5w8v9s6f7q8r9t0v1w2x3y4\n  \
        keyholder permissions why store.fga.yaml --user user:anne --relation viewer --object document:1\n\n\
        With --json it prints one line:\n  \
        {\"allowed\",\"user\",\"relation\",\"object\",\"path\"|\"needed\",\"hindrances\",\"complete\"|\"withheld\"}")]
    Why(Box<WhyArgs>),
}

/// `permissions why …`
#[derive(Debug, Args)]
pub(in crate::cli) struct WhyArgs {
    /// A store file, in the place of a workspace.
    #[arg(required_unless_present = "workspace", conflicts_with = "workspace", requires = "object")]
    pub(in crate::cli) file: Option<PathBuf>,
    /// The workspace.
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) workspace: Option<String>,
    /// Who would do it: an API key's id, or as tuples write it.
    #[arg(long)]
    pub(in crate::cli) user: String,
    /// A permission, such as connection.read, or a relation of the model.
    #[arg(long, visible_alias = "relation", value_name = "NAME")]
    pub(in crate::cli) permission: String,
    /// The object: an id, or type and name with a colon between. Where it is not given, the workspace.
    #[arg(long)]
    pub(in crate::cli) object: Option<String>,
    /// What conditions are told, as a JSON object. With a store file.
    #[arg(long, value_name = "JSON", requires = "file")]
    pub(in crate::cli) context: Option<String>,
    /// Also read models and tuples that a store file names outside its own folder. Only for files that you trust.
    #[arg(long, requires = "file")]
    pub(in crate::cli) allow_external_files: bool,
    #[command(flatten)]
    pub(in crate::cli) config: ConfigArgs,
}
