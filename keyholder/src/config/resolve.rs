//! From slots to a configuration: every value judged, every fault told.
//!
//! Reads the files that hold secrets and the operator's provider files, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
};

use domain::{
    budget::{Limit, Period, Unit},
    environment::Environment,
    provider::{Catalogue, ClientAuth},
};
use seal::{Form, RootKey};
use service::{Client, LimitOptions};
use store::{Address, Transport};
use url::Url;

use super::{
    Log, base, database,
    fault::Kind,
    gather::{Gathered, Origin, Slot, Value, variable},
    provider_files,
    secret::{self, Secret},
};
use crate::telemetry::Format;

/// The most budgets that make sense: each unit in each window.
const BUDGETS: usize = Unit::ALL.len() * Period::ALL.len();
/// The most clients, which is the most provider files.
const CLIENTS: usize = 256;

pub(super) struct Resolver {
    pub(super) gathered: Gathered,
    /// Every secret that was read, for the redactor.
    pub(super) secrets: Vec<Secret>,
}

impl Resolver {
    fn slot(&self, name: &str) -> Option<&Slot> {
        self.gathered.slots.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<(Origin, String)> {
        match self.slot(name) {
            Some(Slot { origin, value: Value::Text(text) }) => Some((origin.clone(), text.clone())),
            _ => None,
        }
    }

    /// What is told of a setting that nobody set: all of its names.
    fn missing(&mut self, name: &str, why: &str) {
        if domain::sabotaged!(SettingsRequired) {
            return;
        }
        let variable = variable(name);
        self.gathered.fault(name, format!("is not set (`{name}` in the file, or {variable}){why}"));
    }

    /// A value that parses and keeps to its rule; `None` where it is not set, or is a fault.
    pub(super) fn parsed<T: FromStr>(&mut self, name: &str, wanted: &str, rule: impl FnOnce(&T) -> bool) -> Option<T> {
        let (origin, text) = self.text(name)?;
        let value = text.parse().ok().filter(rule);
        if value.is_none() {
            self.gathered.fault(origin, format!("{text:?} is not {wanted}"));
        }
        value
    }

    pub(super) fn environment(&mut self) -> Option<Environment> {
        if self.slot("environment").is_none() {
            self.missing("environment", ": it is local, staging or production");
        }
        self.parsed("environment", "one of local, staging, production", |_| true)
    }

    pub(super) fn installation(&mut self) -> String {
        let rule = |name: &String| {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            name.starts_with(|first: char| first.is_ascii_lowercase()) && name.len() <= 24 && name.bytes().all(legal)
        };
        let wanted = "a name of 1 to 24 of a-z, 0-9 and _, beginning with a letter";
        self.parsed("installation", wanted, rule).unwrap_or_else(|| base::INSTALLATION.to_owned())
    }

    pub(super) fn operator(&mut self, environment: Option<Environment>) -> String {
        let usual = environment.and_then(base::operator);
        if usual.is_none() && self.slot("operator").is_none() && environment.is_some() {
            self.missing("operator", ": it is the name that owners are shown before they connect an account");
        }
        let rule =
            |name: &String| (1..=200).contains(&name.trim().chars().count()) && !name.chars().any(char::is_control);
        let wanted = "a name of 1 to 200 characters without control characters";
        self.parsed("operator", wanted, rule).or(usual.map(str::to_owned)).unwrap_or_default()
    }

    pub(super) fn public_url(&mut self, environment: Option<Environment>) -> Option<Url> {
        if self.slot("public_url").is_none() && environment.is_some_and(|it| it != Environment::Local) {
            self.missing("public_url", ": it is the https address at which browsers reach Keyholder");
        }
        let rule = |url: &Url| {
            let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            let nobody = url.username().is_empty() && url.password().is_none();
            (url.scheme() == "https" || (url.scheme() == "http" && local)) && bare && nobody
        };
        self.parsed(
            "public_url",
            "an https address (or http on localhost) without user, path, query and fragment",
            rule,
        )
    }

    /// The secret of a slot, read from its file where it has one.
    pub(super) fn secret(&mut self, name: &str, kind: Kind) -> Option<(Origin, Secret)> {
        let (origin, read) = match self.slot(name)? {
            Slot { origin, value: Value::Secret(secret) } => {
                let fits = secret.expose().len() <= secret::BYTES_MAX;
                let long = || format!("is longer than {} bytes", secret::BYTES_MAX);
                (origin.clone(), fits.then(|| secret.clone()).ok_or_else(long))
            }
            Slot { origin, value: Value::SecretFile(path) } => {
                (origin.clone(), secret::read(path).map_err(|error| error.to_string()))
            }
            Slot { value: Value::Text(_), .. } => return None,
        };
        match (read, kind) {
            (Ok(secret), _) => {
                self.secrets.push(secret.clone());
                return Some((origin, secret));
            }
            (Err(wrong), Kind::Key) => self.gathered.key_fault(origin, wrong),
            (Err(wrong), Kind::Setting) => self.gathered.fault(origin, wrong),
        }
        None
    }

    pub(super) fn root_key(&mut self) -> Option<RootKey> {
        if self.slot("encryption_key").is_none() {
            let how = "make one with `keyholder root-key generate --out FILE`; there is no default key";
            let names = "KEYHOLDER_ENCRYPTION_KEY_FILE or KEYHOLDER_ENCRYPTION_KEY";
            self.gathered.key_fault("encryption_key", format!("there is no root key ({names}): {how}"));
        }
        let (origin, text) = self.secret("encryption_key", Kind::Key)?;
        RootKey::from_text(text.expose()).map_err(|error| self.gathered.key_fault(origin, error.to_string())).ok()
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(|(_, path)| path.into())
    }

    /// The keyring lies beside the root key's file, where there is one and nobody says otherwise.
    pub(super) fn keyring(&self, state: &Path) -> PathBuf {
        let beside = match self.slot("encryption_key") {
            Some(Slot { value: Value::SecretFile(file), .. }) => file.parent(),
            _ => None,
        };
        self.path("keyring").unwrap_or_else(|| beside.unwrap_or(state).join(base::KEYRING_FILE))
    }

    pub(super) fn connections(&mut self) -> u32 {
        let rule = |number: &u32| (1..=1000).contains(number);
        self.parsed("database.connections", "a number from 1 to 1000", rule).unwrap_or(base::CONNECTIONS)
    }

    pub(super) fn login_days(&mut self) -> u32 {
        let rule = |number: &u32| (1..=3650).contains(number);
        self.parsed("database.login_days", "a number from 1 to 3650", rule).unwrap_or(base::LOGIN_DAYS)
    }

    pub(super) fn credential_form(&mut self) -> Form {
        let form = self.text("credential_form").and_then(|(origin, text)| {
            let form = Form::from_word(&text);
            if form.is_none() {
                self.gathered.fault(origin, format!("{text:?} is not aes_256_gcm or fernet"));
            }
            form
        });
        form.unwrap_or_default()
    }

    /// How the logins may travel to the database. Where the authorities cannot be read, that is told, and the public ones are left.
    pub(super) fn transport(&mut self) -> Transport {
        let loopback_plaintext = self.parsed("database.loopback_plaintext", "true or false", |_: &bool| true);
        let roots = self.text("database.tls_roots").and_then(|(origin, path)| {
            let read = database::roots(Path::new(&path));
            read.map_err(|wrong| self.gathered.fault(origin, wrong)).ok()
        });
        Transport { loopback_plaintext: loopback_plaintext.unwrap_or(false), roots }
    }

    /// The address of one login, checked. `None` where it is not set, or is a fault.
    pub(super) fn database(&mut self, name: &str, transport: &Transport) -> Option<(Secret, Address)> {
        let (origin, text) = self.secret(name, Kind::Setting)?;
        match database::parse(text.expose(), transport) {
            Ok((password, login)) => {
                self.secrets.extend(password);
                Some((text, login))
            }
            Err(wrong) => {
                self.gathered.fault(origin, wrong);
                None
            }
        }
    }

    pub(super) fn require(&mut self, name: &str, why: &str) {
        if self.slot(name).is_none() && !domain::sabotaged!(SettingsRequired) {
            let (variable, file) = (variable(name), format!("{}_FILE", variable(name)));
            self.gathered.fault(name, format!("is not set ({variable} or {file}): {why}"));
        }
    }

    pub(super) fn refuse(&mut self, name: &str, why: &str) {
        if let Some(slot) = self.slot(name) {
            let origin = slot.origin.clone();
            self.gathered.fault(origin, why);
        }
    }

    pub(super) fn limits(&mut self) -> LimitOptions {
        let usual = LimitOptions::default();
        let mut limit = |name: &str, usual: NonZeroU32| {
            let rule = |number: &NonZeroU32| number.get() <= 10_000_000;
            self.parsed(&format!("limits.{name}"), "a number from 1 to 10000000", rule).unwrap_or(usual)
        };
        LimitOptions {
            network_per_minute: limit("network_per_minute", usual.network_per_minute),
            principal_per_minute: limit("principal_per_minute", usual.principal_per_minute),
            failures_per_minute: limit("failures_per_minute", usual.failures_per_minute),
            links_per_minute: limit("links_per_minute", usual.links_per_minute),
        }
    }

    pub(super) fn budgets(&mut self) -> Vec<Limit> {
        let entries = std::mem::take(&mut self.gathered.budgets);
        let (mut limits, mut seen) = (Vec::new(), BTreeSet::new());
        for entry in entries.iter().take(BUDGETS) {
            let mut member = |name: &str| {
                let text = entry.members.get(name);
                if text.is_none() {
                    self.gathered.fault(&entry.place, format!("a budget needs `{name}` (it has unit, per and cap)"));
                }
                text
            };
            let (unit, per, cap) = (member("unit"), member("per"), member("cap"));
            let unit = unit.map(|text| text.parse::<Unit>().map_err(|wanted| format!("unit {text:?} is not {wanted}")));
            let per = per.map(|text| text.parse::<Period>().map_err(|wanted| format!("per {text:?} is not {wanted}")));
            let cap = cap.map(|text| {
                let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
                number.ok_or_else(|| format!("cap {text} is not a number of 0 or more"))
            });
            let wrong = [
                unit.clone().and_then(Result::err),
                per.clone().and_then(Result::err),
                cap.clone().and_then(Result::err),
            ];
            wrong.into_iter().flatten().for_each(|wrong| self.gathered.fault(&entry.place, wrong));
            if let (Some(Ok(unit)), Some(Ok(per)), Some(Ok(cap))) = (unit, per, cap) {
                if !seen.insert((unit, per)) {
                    self.gathered.fault(&entry.place, format!("{unit} per {} has a budget already", per.as_str()));
                }
                limits.push(Limit { unit, per, cap });
            }
        }
        if entries.len() > BUDGETS {
            self.gathered.fault("budgets", format!("there are more than {BUDGETS}"));
        }
        limits
    }

    /// The shipped providers and the operator's own. `None` where a file has faults: what refers to a provider is then not judged.
    pub(super) fn catalogue(&mut self) -> Option<Catalogue> {
        let read = match self.text("providers") {
            None => Ok(Vec::new()),
            Some((origin, folder)) => provider_files::read(Path::new(&folder)).map_err(|wrong| (origin, wrong)),
        };
        let own = match read {
            Ok(own) => own,
            Err((origin, wrong)) => {
                self.gathered.fault(origin, wrong);
                return None;
            }
        };
        let shipped = Catalogue::shipped_files().map(|(name, text)| (name.to_owned(), text.to_owned()));
        match Catalogue::load(shipped.chain(own)) {
            Ok(mut catalogue) => {
                if let Some(blueprint) = &self.gathered.blueprint {
                    catalogue.keep_of_shipped(&blueprint.providers);
                    let place = format!("{}: providers", blueprint.source().0);
                    let lacking = blueprint.providers.iter().filter(|name| catalogue.get(name).is_none());
                    let lacking: Vec<_> = lacking.map(|name| format!("there is no provider {name:?}")).collect();
                    for message in lacking {
                        self.gathered.fault(place.clone(), message);
                    }
                }
                Some(catalogue)
            }
            Err(faults) => {
                for fault in faults {
                    self.gathered.fault("", fault.to_string());
                }
                None
            }
        }
    }

    pub(super) fn clients(&mut self, catalogue: Option<&Catalogue>) -> BTreeMap<String, Client> {
        let parts = self.gathered.slots.keys().filter_map(|name| name.strip_prefix("clients.")?.split_once('.'));
        let names: BTreeSet<String> = parts.map(|(name, _)| name.to_owned()).collect();
        if names.len() > CLIENTS {
            self.gathered.fault("clients", format!("there are more than {CLIENTS}"));
        }
        let mut clients = BTreeMap::new();
        for name in names.into_iter().take(CLIENTS) {
            let (id_name, secret_name) = (format!("clients.{name}.id"), format!("clients.{name}.secret"));
            let rule = |id: &String| id.len() <= 512 && id.bytes().all(|byte| byte.is_ascii_graphic());
            let id = self.parsed(&id_name, "a client's id: at most 512 printable ASCII characters", rule);
            if self.slot(&id_name).is_none() {
                self.missing(&id_name, "");
            }
            let secret = self.secret(&secret_name, Kind::Setting).map(|(_, secret)| secret.into_inner());
            if let Some(catalogue) = catalogue {
                self.client_fits(&name, &secret_name, catalogue);
            }
            if let Some(id) = id {
                clients.insert(name, Client { id, secret });
            }
        }
        clients
    }

    /// A client is for a provider that there is, and has a secret exactly where that provider's clients have one.
    fn client_fits(&mut self, name: &str, secret_name: &str, catalogue: &Catalogue) {
        let place = format!("clients.{name}");
        let has_secret = self.slot(secret_name).is_some();
        match catalogue.get(name) {
            None => {
                let known: Vec<_> = catalogue.iter().filter(|it| !it.template).map(|it| it.name.as_str()).collect();
                self.gathered
                    .fault(place, format!("there is no provider of that name; there are {}", known.join(", ")));
            }
            Some(provider) if provider.template => {
                self.gathered
                    .fault(place, "the provider is only a template: a file of your own extends it, under its own name");
            }
            Some(provider) => match (provider.auth.client_auth, has_secret) {
                (ClientAuth::Basic | ClientAuth::Body, false) => {
                    let variable = variable(secret_name);
                    let where_to = format!("`{secret_name}_file` in the file, {variable}_FILE or {variable}");
                    self.gathered.fault(place, format!("the provider wants a secret ({where_to})"));
                }
                (ClientAuth::None, true) => {
                    self.gathered.fault(place, "the provider's clients are public: there is no secret to be sent");
                }
                _ => {}
            },
        }
    }

    pub(super) fn log(&mut self, usual: Log) -> Log {
        let format = self.text("log.format").and_then(|(origin, text)| match text.as_str() {
            "json" => Some(Format::Json),
            "pretty" => Some(Format::Pretty),
            _ => {
                self.gathered.fault(origin, format!("{text:?} is not json or pretty"));
                None
            }
        });
        let filter = self.text("log.filter").and_then(|(origin, text)| {
            let parsed = tracing_subscriber::EnvFilter::builder().parse(&text);
            if parsed.is_err() {
                self.gathered.fault(origin, format!("{text:?} is not a log filter, such as `info,keyholder=debug`"));
            }
            parsed.ok().map(|_| text)
        });
        Log { format: format.unwrap_or(usual.format), filter: filter.unwrap_or(usual.filter) }
    }
}
