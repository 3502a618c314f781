//! From the sources to slots: which setting has which value, and who said so. A later source takes an earlier one's place.
//!
//! Knows the settings' names and forms, and refuses every other name. Never judges a value; that is `resolve`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use domain::blueprint::Blueprint;

use super::{
    Sources, blueprint,
    fault::{ConfigFaults, Fault, Kind},
    plans,
    secret::Secret,
};

/// What every variable of ours begins with.
const PREFIX: &str = "KEYHOLDER_";
/// Names the file; read by whoever reads the environment, and nothing else here.
pub(super) const CONFIG_VARIABLE: &str = "KEYHOLDER_CONFIG";
/// The longest configuration file, in bytes.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// What a setting's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    /// `true` or `false`.
    Switch,
    Path,
    /// A secret: as a variable, or in a file that `NAME_file` names. Never in the configuration file itself.
    Secret,
}

/// Every setting by its name in the file. The variable is `KEYHOLDER_` and the name in capitals, the flag `--` and the name
/// with hyphens.
const SETTINGS: &[(&str, Form)] = &[
    // Names another source, the lowest: see `blueprint`.
    ("blueprint", Form::Text),
    ("environment", Form::Text),
    ("installation", Form::Text),
    ("operator", Form::Text),
    ("listen", Form::Text),
    ("metrics_listen", Form::Text),
    ("tls.certificate", Form::Path),
    ("tls.key", Form::Path),
    ("public_url", Form::Text),
    ("origins", Form::Text),
    ("hosts", Form::Text),
    ("proxies", Form::Text),
    ("forwarded_header", Form::Text),
    ("encryption_key", Form::Secret),
    ("credential_form", Form::Text),
    ("keyring", Form::Path),
    ("state_dir", Form::Path),
    ("providers", Form::Path),
    ("postgres_bin", Form::Text),
    ("database.app_url", Form::Secret),
    ("database.ledger_url", Form::Secret),
    ("database.lookup_url", Form::Secret),
    ("database.loader_url", Form::Secret),
    ("database.owner_url", Form::Secret),
    ("database.connections", Form::Number),
    ("database.login_days", Form::Number),
    ("database.loopback_plaintext", Form::Switch),
    ("database.tls_roots", Form::Path),
    ("limits.connections", Form::Number),
    ("limits.network_connections", Form::Number),
    ("limits.network_per_minute", Form::Number),
    ("limits.principal_per_minute", Form::Number),
    ("limits.failures_per_minute", Form::Number),
    ("limits.links_per_minute", Form::Number),
    ("drain.delay_s", Form::Number),
    ("otlp.endpoint", Form::Text),
    ("otlp.headers", Form::Secret),
    ("otlp.one_in", Form::Number),
    ("otlp.tls_roots", Form::Path),
    ("trust.key", Form::Text),
    ("trust.attestations", Form::Path),
    ("log.format", Form::Text),
    ("log.filter", Form::Text),
    // Not settings of their own: the two parts of each client, under the client's name.
    ("clients.*.id", Form::Text),
    ("clients.*.secret", Form::Secret),
    // Lists; the file alone can say them.
    ("budgets", Form::Text),
    ("plans", Form::Text),
];

/// The settings that are lists of tables.
const LISTS: [&str; 2] = ["budgets", "plans"];

fn form(name: &str) -> Option<Form> {
    SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, form)| *form)
}

/// A setting, as it is told to whoever asks which there are.
#[derive(Debug, Serialize)]
pub struct Setting {
    /// Its name in the file; `*` stands for a provider's.
    pub name: &'static str,
    /// Its variable; a secret may also come from the file that this one with `_FILE` behind it names. None where the file alone can say it.
    pub variable: Option<String>,
    /// What its value is: `text`, `number`, `switch`, `path`, `secret` or `list`.
    pub form: &'static str,
}

/// All settings.
pub fn settings() -> Vec<Setting> {
    let told = SETTINGS.iter().map(|&(name, form)| {
        let is_list = LISTS.contains(&name);
        let form = match form {
            _ if is_list => "list",
            Form::Text => "text",
            Form::Number => "number",
            Form::Switch => "switch",
            Form::Path => "path",
            Form::Secret => "secret",
        };
        Setting { name, variable: (!is_list).then(|| variable(name)), form }
    });
    told.collect()
}

/// The variable of a setting.
pub(super) fn variable(name: &str) -> String {
    let singular = name.strip_prefix("clients.").map(|rest| format!("client.{rest}"));
    format!("{PREFIX}{}", singular.as_deref().unwrap_or(name).to_uppercase().replace(['.', '-'], "_"))
}

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    File { place: String },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { place } => f.write_str(place),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

pub(super) enum Value {
    Text(String),
    Secret(Secret),
    /// The file that holds the secret.
    SecretFile(PathBuf),
}

pub(super) struct Slot {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// One entry of the list of budgets, its members still as they were written.
pub(super) struct BudgetEntry {
    pub(super) place: String,
    pub(super) members: BTreeMap<String, String>,
}

/// What all sources together say.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) slots: BTreeMap<String, Slot>,
    pub(super) budgets: Vec<BudgetEntry>,
    pub(super) plans: Vec<plans::Entry>,
    pub(super) faults: Vec<Fault>,
    /// The blueprint whose settings lie under all others.
    pub(super) blueprint: Option<Blueprint>,
}

impl Gathered {
    pub(super) fn fault(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault { place: place.into(), message: message.into(), kind: Kind::Setting });
    }

    pub(super) fn key_fault(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault { place: place.into(), message: message.into(), kind: Kind::Key });
    }

    fn put(&mut self, name: &str, origin: Origin, value: Value) {
        self.slots.insert(name.to_owned(), Slot { origin, value });
    }

    /// Everything that is wrong, if something is.
    pub(super) fn finish(mut self) -> Result<(), ConfigFaults> {
        if domain::sabotaged!(SettingsAtStart) {
            self.faults.truncate(1);
        }
        if self.faults.is_empty() { Ok(()) } else { Err(ConfigFaults(self.faults)) }
    }
}

/// File, then environment, then flags; and under them all the blueprint that one of them names.
pub(super) fn gather(sources: &Sources) -> Gathered {
    let mut gathered = Gathered::default();
    if let Some(file) = &sources.file {
        from_file(&file.path, &file.text, &mut gathered);
    }
    from_environment(&sources.environment, &mut gathered);
    for (name, value) in &sources.flags {
        let origin = Origin::Flag(name.replace(['_', '.'], "-"));
        match (form(name), name.strip_suffix("_file")) {
            (Some(Form::Text | Form::Number | Form::Switch | Form::Path), _) => {
                gathered.put(name, origin, Value::Text(value.clone()));
            }
            (None, Some(secret)) if form(secret) == Some(Form::Secret) => {
                gathered.put(secret, origin, Value::SecretFile(value.into()));
            }
            _ => gathered.fault(origin, "is not a setting"),
        }
    }
    blueprint::lay_under(&mut gathered);
    gathered
}

fn from_environment(environment: &[(OsString, OsString)], gathered: &mut Gathered) {
    let mut set: BTreeMap<String, String> = BTreeMap::new();
    for (variable, value) in environment {
        let Some(variable) = of_ours(variable) else { continue };
        // An empty variable is how many launchers write one that is not set.
        if variable == CONFIG_VARIABLE || value.is_empty() {
            continue;
        }
        match value.to_str() {
            Some(value) => drop(set.insert(variable, value.to_owned())),
            None => gathered.fault(&variable, "is not UTF-8"),
        }
    }
    for (variable, value) in &set {
        let origin = Origin::Variable(variable.clone());
        match meaning(variable) {
            Some((name, Form::Text | Form::Number | Form::Switch | Form::Path, _)) => {
                gathered.put(&name, origin, Value::Text(value.clone()));
            }
            Some((name, Form::Secret, true)) => gathered.put(&name, origin, Value::SecretFile(value.into())),
            Some((name, Form::Secret, false)) => {
                if set.contains_key(&format!("{variable}_FILE")) {
                    gathered.fault(origin.clone(), format!("is set, and so is {variable}_FILE: set one of them"));
                }
                gathered.put(&name, origin, Value::Secret(Secret::new(value.clone())));
            }
            None => gathered.fault(origin, "is not a variable of Keyholder's"),
        }
    }
}

fn of_ours(variable: &OsStr) -> Option<String> {
    variable.to_string_lossy().starts_with(PREFIX).then(|| variable.to_string_lossy().into_owned())
}

/// The setting that a variable stands for, its form, and whether the variable names the secret's file.
fn meaning(variable: &str) -> Option<(String, Form, bool)> {
    let rest = variable.strip_prefix(PREFIX)?;
    if let Some(rest) = rest.strip_prefix("CLIENT_") {
        let (client, part, form, file) = [
            ("_SECRET_FILE", "secret", Form::Secret, true),
            ("_SECRET", "secret", Form::Secret, false),
            ("_ID", "id", Form::Text, false),
        ]
        .into_iter()
        .find_map(|(suffix, part, form, file)| Some((rest.strip_suffix(suffix)?, part, form, file)))?;
        let client = client.to_lowercase().replace('_', "-");
        return is_client_name(&client).then(|| (format!("clients.{client}.{part}"), form, file));
    }
    let plain = SETTINGS.iter().filter(|(name, _)| !name.contains('*') && !LISTS.contains(name));
    plain
        .clone()
        .find(|(name, _)| self::variable(name) == variable)
        .map(|(name, form)| ((*name).to_owned(), *form, false))
        .or_else(|| {
            let secret = variable.strip_suffix("_FILE")?;
            let mut secrets = plain.filter(|(_, form)| *form == Form::Secret);
            secrets
                .find(|(name, _)| self::variable(name) == secret)
                .map(|(name, form)| ((*name).to_owned(), *form, true))
        })
}

fn is_client_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Whether it is a blueprint, which may not say everything.
    is_blueprint: bool,
}

type Keyed<'k> = (&'k Spanned<std::borrow::Cow<'k, str>>, &'k Spanned<DeValue<'k>>);

impl FileReader<'_> {
    /// Reads the text as TOML, as far as it is that.
    fn read(&self, gathered: &mut Gathered, table: impl FnOnce(&DeTable<'_>, &mut Gathered)) {
        if self.text.len() > FILE_BYTES_MAX {
            let what = format!("the file is longer than {FILE_BYTES_MAX} bytes");
            return gathered.fault(self.path.display().to_string(), what);
        }
        let (root, errors) = DeTable::parse_recoverable(self.text);
        let mut readable = true;
        for error in errors {
            // A key that is given twice leaves the rest of the file readable, so that its other faults are told as well.
            let twice = error.message() == "duplicate key";
            readable &= twice;
            let span = error.span().unwrap_or_default();
            let key = self.text.get(span.clone()).filter(|_| twice);
            let message =
                key.map_or_else(|| format!("not TOML: {}", error.message()), |key| format!("{key} is given twice"));
            gathered.fault(self.place(span.start, ""), message);
        }
        if readable {
            table(root.get_ref(), gathered);
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    fn place(&self, offset: usize, name: &str) -> String {
        let (path, line) = (self.path.display(), self.line(offset));
        if name.is_empty() { format!("{path}:{line}") } else { format!("{path}:{line}: {name}") }
    }

    fn table(&self, prefix: &str, table: &DeTable<'_>, gathered: &mut Gathered) {
        for (key, value) in table {
            let name =
                if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            let place = self.place(key.span().start, &name);
            match (name.as_str(), value.get_ref()) {
                ("budgets", DeValue::Array(entries)) => self.budgets(entries.iter(), gathered),
                ("budgets", _) => gathered.fault(place, "must be a list of tables: [[budgets]]"),
                ("plans", DeValue::Array(entries)) => {
                    plans::read(entries.iter(), |offset, name| self.place(offset, name), gathered);
                }
                ("plans", _) => gathered.fault(place, "must be a list of tables: [[plans]]"),
                (
                    "database" | "limits" | "drain" | "otlp" | "log" | "tls" | "trust" | "clients",
                    DeValue::Table(members),
                ) => {
                    self.table(&name, members, gathered);
                }
                ("database" | "limits" | "drain" | "otlp" | "log" | "tls" | "trust" | "clients", _) => {
                    gathered.fault(place, "must be a table");
                }
                (_, DeValue::Table(members)) if prefix == "clients" => {
                    if is_client_name(key.get_ref()) {
                        self.table(&name, members, gathered);
                    } else {
                        gathered.fault(place, "a provider's name has 1 to 32 of a-z, 0-9 and -");
                    }
                }
                _ => self.scalar(&name, place, (key, value), gathered),
            }
        }
    }

    fn scalar(&self, name: &str, place: String, (_, value): Keyed<'_>, gathered: &mut Gathered) {
        // A client's parts have one form each, whatever the client is called.
        let general = match name.strip_prefix("clients.").and_then(|rest| rest.split_once('.')) {
            Some((_, part)) => format!("clients.*.{part}"),
            None => name.to_owned(),
        };
        let secret_file = general.strip_suffix("_file").filter(|secret| form(secret) == Some(Form::Secret));
        let origin = Origin::File { place: place.clone() };
        let is_known = form(&general).is_some() || secret_file.is_some();
        if self.is_blueprint && is_known && !blueprint::may_say(name) {
            let what = "is for an installation to say: a blueprint holds no secret, address, path or name";
            return gathered.fault(place, what);
        }
        match (form(&general).filter(|_| !name.contains('*')), secret_file, value.get_ref()) {
            (Some(Form::Text), _, DeValue::String(text)) if name == "blueprint" && blueprint::is_path(text) => {
                gathered.put(name, origin, Value::Text(self.beside(text).to_string_lossy().into_owned()));
            }
            (Some(Form::Text), _, DeValue::String(text)) => gathered.put(name, origin, Value::Text(text.to_string())),
            (Some(Form::Path), _, DeValue::String(text)) => {
                let path = self.beside(text).to_string_lossy().into_owned();
                gathered.put(name, origin, Value::Text(path));
            }
            (Some(Form::Number), _, DeValue::Integer(number)) => {
                let text = i64::from_str_radix(number.as_str(), number.radix()).map(|number| number.to_string());
                gathered.put(name, origin, Value::Text(text.unwrap_or_else(|_| number.as_str().to_owned())));
            }
            (Some(Form::Switch), _, DeValue::Boolean(on)) => gathered.put(name, origin, Value::Text(on.to_string())),
            (Some(Form::Secret), ..) => {
                let what = "a secret does not belong into this file: name the file that holds it in";
                gathered.fault(place, format!("{what} `{name}_file`"));
            }
            (None, Some(_), DeValue::String(text)) => {
                let path = self.beside(text);
                let name = name.strip_suffix("_file").unwrap_or(name);
                gathered.put(name, origin, Value::SecretFile(path));
            }
            _ if is_known && domain::sabotaged!(SettingsFormed) => {}
            (Some(Form::Number), ..) => gathered.fault(place, "must be a whole number"),
            (Some(Form::Switch), ..) => gathered.fault(place, "must be true or false"),
            (Some(_), ..) | (None, Some(_), _) => gathered.fault(place, "must be text"),
            (None, None, _) => gathered.fault(place, "is not a setting"),
        }
    }

    /// A relative path in the file is relative to the file, not to where the process was started.
    fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    fn budgets<'v>(&self, entries: impl Iterator<Item = &'v Spanned<DeValue<'v>>>, gathered: &mut Gathered) {
        for entry in entries {
            let place = self.place(entry.span().start, "budgets");
            let DeValue::Table(members) = entry.get_ref() else {
                gathered.fault(place, "must be a list of tables: [[budgets]]");
                continue;
            };
            let mut read = BTreeMap::new();
            for (key, value) in members {
                let name = key.get_ref().to_string();
                let place = self.place(key.span().start, &format!("budgets.{name}"));
                match (name.as_str(), value.get_ref()) {
                    ("unit" | "per", DeValue::String(text)) => drop(read.insert(name, text.to_string())),
                    ("cap", DeValue::Integer(number)) if number.radix() == 10 => {
                        read.insert(name, number.as_str().to_owned());
                    }
                    ("unit" | "per", _) => gathered.fault(place, "must be text"),
                    ("cap", _) => gathered.fault(place, "must be a whole number"),
                    _ => gathered.fault(place, "is not a setting; a budget has unit, per and cap"),
                }
            }
            gathered.budgets.push(BudgetEntry { place, members: read });
        }
    }
}

fn from_file(path: &Path, text: &str, gathered: &mut Gathered) {
    let reader = FileReader { path, text, is_blueprint: false };
    reader.read(gathered, |root, gathered| reader.table("", root, gathered));
}

/// The settings in a blueprint's file. Everything else that it says is not looked at.
pub(super) fn from_settings(path: &Path, text: &str, gathered: &mut Gathered) {
    let reader = FileReader { path, text, is_blueprint: true };
    reader.read(gathered, |root, gathered| {
        for (key, value) in root {
            if let ("settings", DeValue::Table(settings)) = (key.get_ref().as_ref(), value.get_ref()) {
                reader.table("", settings, gathered);
            }
        }
    });
}
