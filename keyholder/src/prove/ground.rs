//! What rehearsals stand on: one throwaway cluster, and for each a database of its own, a platform, and a folder.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use domain::{blueprint::Blueprint, clock::Clock, random};
use proof::{Ground, GroundOptions};
use sandbox::{Sandbox, SandboxOptions};
use zeroize::Zeroizing;

use crate::{
    StartError,
    cluster::ClusterOptions,
    home::{Home, INSTALLATION},
    local::{self, CLIENT_ID, PROVIDER},
    node::Handover,
    program,
};

use super::ProveError;

/// The logins that a serving process has.
const GROUPS: [&str; 4] = ["app", "ledger", "lookup", "loader"];

/// The cluster, and what is laid on it.
pub(super) struct Grounds {
    home: Home,
    program: PathBuf,
    count: AtomicU32,
}

impl Grounds {
    pub(super) async fn open(mut cluster: ClusterOptions) -> Result<Self, StartError> {
        // Several nodes, servers and attackers at once.
        cluster.max_connections = 300;
        let program = cluster.launcher.clone();
        let home = Home::open(None, cluster, &Clock::system()).await?;
        Ok(Self { home, program, count: AtomicU32::new(0) })
    }

    /// A fresh installation of a blueprint, whose processes switch off this control.
    pub(super) async fn lay(&self, blueprint: &Blueprint, sabotage: Option<&str>) -> Result<Ground, ProveError> {
        self.demand_same_program()?;
        let name = format!("proof_{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.home.create_database(&name, Some(INSTALLATION)).await?;
        #[cfg(feature = "sabotage")]
        if let Some(point) = sabotage.and_then(domain::sabotage::Point::named) {
            let switched_off = store::sabotage::apply(&self.home.owner(&name)?, point).await;
            switched_off.map_err(|error| StartError::Database("a control could not be switched off", error))?;
        }
        let sandbox =
            Sandbox::start(SandboxOptions::default()).await.map_err(|error| StartError::Sandbox(Box::new(error)))?;
        let folder = self.home.folder().join(&name);
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(StartError::file(&folder))?;
        let named = named(blueprint, &folder)?;
        let secret = Zeroizing::new(random::token());
        let handover = Handover {
            keys: self.home.keys().clone(),
            database: name.clone(),
            sandbox: local::route(&sandbox),
            secret: secret.clone(),
            port: 0,
            state_dir: folder.join("state"),
            blueprint: Some(named.clone()),
            limits: None,
        };
        let handover = serde_json::to_value(&handover)
            .map_err(|error| StartError::File { path: folder.clone(), source: error.into() })?;
        let mut logins: Vec<_> = GROUPS.map(|group| (group, self.home.keys().url(group, &name))).into();
        let (settings, tables) = configuration(&self.home, &named, &folder, &logins)?;
        logins.push(("owner", self.home.owner_url(&name)));
        Ok(Ground::new(GroundOptions {
            program: self.program.clone(),
            sabotage: sabotage.map(str::to_owned),
            folder,
            handover,
            settings,
            tables,
            logins: logins.into_iter().collect(),
            sandbox,
            provider: PROVIDER.to_owned(),
            client: (CLIENT_ID.to_owned(), secret),
            blueprint: blueprint.clone(),
        }))
    }

    /// A folder that is gone afterwards.
    #[cfg(feature = "sabotage")]
    pub(super) fn folder(&self) -> &Path {
        self.home.folder()
    }

    /// Takes everything down, and says whether it was one program that was tried all along.
    pub(super) async fn close(self) -> Result<(), ProveError> {
        let is_same = self.demand_same_program();
        self.home.close().await?;
        is_same
    }

    /// Processes of a ground are started from a path, and a report or a statement is of the program that this process is.
    fn demand_same_program(&self) -> Result<(), ProveError> {
        if program::is_at(&self.program) {
            return Ok(());
        }
        Err(ProveError::Replaced { path: self.program.clone() })
    }
}

/// What a process is told to find a blueprint by: its name, or a copy of its file where it does not come with the binary.
fn named(blueprint: &Blueprint, folder: &Path) -> Result<String, StartError> {
    if blueprint.is_shipped() {
        return Ok(blueprint.name.clone());
    }
    let path = folder.join("blueprint.toml");
    fs::write(&path, blueprint.source().1).map_err(StartError::file(&path))?;
    Ok(path.display().to_string())
}

/// What a server's configuration file says of this installation: its settings, and its tables. The secrets are in files beside it.
fn configuration(
    home: &Home,
    blueprint: &str,
    folder: &Path,
    logins: &[(&str, Zeroizing<String>)],
) -> Result<(String, String), StartError> {
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let root_key = folder.join("root.key");
    write_private(&root_key, home.keys().root_key())?;
    let settings = format!(
        "blueprint = {}\nenvironment = \"local\"\ninstallation = \"{INSTALLATION}\"\nlisten = \"127.0.0.1:0\"\n\
         metrics_listen = \"127.0.0.1:0\"\nencryption_key_file = {}\nkeyring = {}\nstate_dir = {}\n",
        quoted(Path::new(blueprint)),
        quoted(&root_key),
        quoted(home.keys().keyring()),
        quoted(&folder.join("serving")),
    );
    let mut tables = "[database]\n".to_owned();
    for (group, url) in logins {
        let file = folder.join(format!("{group}.url"));
        write_private(&file, url)?;
        // Writing to a string does not fail.
        let _ = writeln!(tables, "{group}_url_file = {}", quoted(&file));
    }
    Ok((settings, tables))
}

fn write_private(path: &Path, text: &str) -> Result<(), StartError> {
    use std::io::Write as _;
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes())).map_err(StartError::file(path))
}
