//! A local installation's home: one state folder with the root key, the keyring, the embedded cluster and its logins.
//!
//! For `up`, `demo` and tests. `serve` has none of this: its keys and its database are given to it.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use domain::{clock::Clock, environment::Environment};
use seal::{Keyring, Purpose, RootKey};
use serde::{Deserialize, Serialize};
use store::{
    Address, ContextKey, Urls,
    migrate::{self, Installation, MigrateError},
    owner,
};
use zeroize::Zeroizing;

use crate::{
    StartError,
    cluster::{Cluster, ClusterOptions},
};

/// The name with which the roles of a local installation begin, and its database.
pub const INSTALLATION: &str = "keyholder";

/// One login, as the state folder keeps it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    group: String,
    name: String,
    password: Zeroizing<String>,
}

/// All that a process needs to serve from a home. A parent may hand it to a child over a pipe that it inherits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    root_key: Zeroizing<String>,
    keyring: PathBuf,
    /// Each group's address, up to the database's name.
    logins: Vec<(String, Zeroizing<String>)>,
}

impl Keys {
    /// The root key's text.
    pub fn root_key(&self) -> &str {
        &self.root_key
    }

    /// The keyring's file.
    pub fn keyring(&self) -> &Path {
        &self.keyring
    }

    /// What the nodes of one database keep on this disk.
    pub fn node_state(&self, database: &str) -> PathBuf {
        let folder = self.keyring.ancestors().nth(2).unwrap_or(Path::new("."));
        folder.join("nodes").join(database)
    }

    /// The address of one group's login in a database: `app`, `ledger`, `lookup`, `loader`.
    pub fn url(&self, group: &str, database: &str) -> Zeroizing<String> {
        let login = self.logins.iter().find(|(name, _)| name == group);
        Zeroizing::new(login.map_or_else(String::new, |(_, stem)| format!("{}{database}", **stem)))
    }

    /// The four logins in a database.
    ///
    /// # Errors
    /// `Address` for one that is none.
    pub fn urls(&self, database: &str) -> Result<Urls, StartError> {
        let url = |group| parse(&self.url(group, database));
        Ok(Urls { app: url("app")?, ledger: url("ledger")?, lookup: url("lookup")?, loader: url("loader")? })
    }
}

/// The home of a local installation.
pub struct Home {
    cluster: Cluster,
    keys: Keys,
}

impl Home {
    /// Opens the home in a state folder, making what is not there; without a folder, a throwaway one.
    ///
    /// # Errors
    /// Whatever keeps the cluster, the key or the keyring from being used, each by name.
    pub async fn open(state: Option<&Path>, mut options: ClusterOptions, clock: &Clock) -> Result<Self, StartError> {
        // The cluster makes the folders above its own, passable for the account that it runs under; then come the secrets.
        options.state_dir = state.map(|state| state.join("postgres"));
        let cluster = Cluster::start(options).await?;
        // A throwaway cluster's folder goes with its process, and with the next one where that was killed: so do the keys in it.
        let folder = state.unwrap_or(cluster.folder());
        let secrets = folder.join("keys");
        private_folder(&secrets)?;
        let root_key = root_key(&secrets.join("root.key"))?;
        let keyring = secrets.join("keyring.json");
        let key = RootKey::from_text(&root_key)
            .map_err(|source| StartError::RootKey { path: secrets.join("root.key"), source })?;
        Keyring::open_or_create(&keyring, &key, Environment::Local, clock)
            .map_err(|source| StartError::Keyring { path: keyring.clone(), source })?;
        let keys = Keys { root_key, keyring, logins: Vec::new() };
        let mut home = Self { cluster, keys };
        home.create_database(INSTALLATION, None).await?;
        match migrate::migrate(&home.owner(INSTALLATION)?, &Self::installation(&key)).await {
            // A newer binary was here. Whether this one may still run, the gate says.
            Ok(_) | Err(MigrateError::Newer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let logins = home.logins(&secrets.join("logins.json")).await?;
        let stem = |login: Login| (login.group, home.cluster.url(&login.name, &login.password, ""));
        home.keys.logins = logins.into_iter().map(stem).collect();
        Ok(home)
    }

    fn installation<'a>(key: &RootKey) -> Installation<'a> {
        let context = ContextKey::new(*key.derive(Purpose::Context, Environment::Local).as_bytes());
        Installation {
            name: INSTALLATION,
            environment: Environment::Local,
            context_key: context,
            root_check: key.check_value(Environment::Local),
        }
    }

    /// What a process needs to serve from here.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The folder of everything, which is gone with a throwaway home.
    pub fn folder(&self) -> &Path {
        self.keys.keyring.ancestors().nth(2).unwrap_or(Path::new("."))
    }

    /// The owner's way into a database: the cluster's superuser, whom no serving process ever is.
    ///
    /// # Errors
    /// `Database` for an address that is not one.
    pub fn owner(&self, database: &str) -> Result<Address, StartError> {
        parse(&self.owner_url(database))
    }

    /// The same, as text.
    pub fn owner_url(&self, database: &str) -> Zeroizing<String> {
        self.cluster.url(self.cluster.superuser(), self.cluster.password(), database)
    }

    /// Makes a database, as a copy of another where one is named.
    ///
    /// # Errors
    /// `Database` where the cluster refuses. A database that is there already is no error.
    pub async fn create_database(&self, name: &str, template: Option<&str>) -> Result<(), StartError> {
        let made = owner::create_database(&self.owner("postgres")?, name, template).await;
        made.map_err(|error| StartError::Database("a database could not be made", error))
    }

    async fn logins(&self, path: &Path) -> Result<Vec<Login>, StartError> {
        if let Some(text) = read_private(path)? {
            return serde_json::from_str(&text)
                .map_err(|error| StartError::File { path: path.to_owned(), source: error.into() });
        }
        let made = migrate::create_logins(&self.owner(INSTALLATION)?, INSTALLATION).await?;
        let logins: Vec<_> = made
            .into_iter()
            .map(|login| Login { group: login.group.to_owned(), name: login.name, password: login.password })
            .collect();
        let text = serde_json::to_string(&logins)
            .map_err(|error| StartError::File { path: path.to_owned(), source: error.into() })?;
        write_private(path, &text)?;
        Ok(logins)
    }

    /// Resolves when the cluster has ended by itself, with the reason.
    pub fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        self.cluster.ended()
    }

    /// Kills the cluster as a crash would, and says how it ended. For the tests of what must survive that.
    pub async fn kill9(&self) -> String {
        self.cluster.kill9().await
    }

    /// Starts the cluster again on the same data and at the same address, stopping it first if it runs.
    ///
    /// # Errors
    /// `Cluster` where it does not stop or start.
    pub async fn restart(self) -> Result<Self, StartError> {
        let Self { cluster, keys } = self;
        Ok(Self { cluster: cluster.restart().await?, keys })
    }

    /// Stops the cluster.
    ///
    /// # Errors
    /// `Cluster` where it does not stop.
    pub async fn close(self) -> Result<(), StartError> {
        Ok(self.cluster.stop().await?)
    }
}

fn parse(url: &str) -> Result<Address, StartError> {
    url.parse().map_err(StartError::Address)
}

fn private_folder(path: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StartError::file(path))
}

/// The root key that is there, or a new one.
fn root_key(path: &Path) -> Result<Zeroizing<String>, StartError> {
    if let Some(text) = read_private(path)? {
        return Ok(text);
    }
    let text = RootKey::generate().to_text();
    write_private(path, &text)?;
    Ok(text)
}

fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, StartError> {
    let mut text = Zeroizing::new(String::new());
    match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => {
            opened.and_then(|file| file.take(64 * 1024).read_to_string(&mut text)).map_err(StartError::file(path))?
        }
    };
    Ok(Some(text))
}

/// Writes a secret that only its owner reads, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), StartError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(StartError::file(path))
}
