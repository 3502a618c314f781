//! Blueprints as a source of the configuration: the lowest but for the base, so that whatever an installation says itself lies over it.
//!
//! A blueprint configures how an installation works and never whose it is: secrets, addresses, paths and names are refused in one. What
//! a blueprint says beside its settings is `domain`'s.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use domain::{
    blueprint::{self, Blueprint},
    budget::Limit,
    claim::Ledger,
    plan::Plans,
};
use relation::{Schema, permission};
use seal::Form;
use server::ServerOptions;
use service::LimitOptions;

use super::{
    ConfigFaults, Log, base,
    fault::{Fault, Kind},
    gather::{Gathered, Slot, Value, from_settings},
    provider_files,
    resolve::Resolver,
    trust,
};
use crate::InstanceOptions;

/// The settings that a blueprint may say, beside `budgets` and `plans`.
const SETTINGS: [&str; 12] = [
    "credential_form",
    "database.connections",
    "database.login_days",
    "drain.delay_s",
    "limits.connections",
    "limits.failures_per_minute",
    "limits.links_per_minute",
    "limits.network_connections",
    "limits.network_per_minute",
    "limits.principal_per_minute",
    "log.filter",
    "log.format",
];

/// Whether a blueprint may say this setting.
pub(super) fn may_say(setting: &str) -> bool {
    SETTINGS.contains(&setting) || matches!(setting, "budgets" | "plans")
}

/// Whether the setting `blueprint` names a file, and not a shipped blueprint.
pub(super) fn is_path(text: &str) -> bool {
    text.contains('/') || Path::new(text).extension().is_some_and(|extension| extension == "toml")
}

/// Reads the blueprint that is named, a shipped one or a file, and lays its settings under what was gathered.
pub(super) fn lay_under(gathered: &mut Gathered) {
    let Some(Slot { origin, value: Value::Text(name) }) = gathered.slots.get("blueprint") else { return };
    match find(name, &origin.to_string()) {
        Err(faults) => gathered.faults.extend(faults),
        Ok(blueprint) => {
            let under = settings(blueprint.source());
            for (name, slot) in under.slots {
                gathered.slots.entry(name).or_insert(slot);
            }
            if gathered.budgets.is_empty() {
                gathered.budgets = under.budgets;
            }
            if gathered.plans.is_empty() {
                gathered.plans = under.plans;
            }
            gathered.faults.extend(under.faults);
            gathered.blueprint = Some(blueprint);
        }
    }
}

/// A shipped blueprint by its name, or one from a file. Who named it is told where there is none.
fn find(name: &str, named_by: &str) -> Result<Blueprint, Vec<Fault>> {
    let unfit = |message: String| vec![Fault { place: named_by.to_owned(), message, kind: Kind::Setting }];
    let own;
    let (file, text) = if is_path(name) {
        own = provider_files::text(Path::new(name)).map_err(unfit)?;
        (name, own.as_str())
    } else {
        blueprint::shipped(name).map_err(|unknown| unfit(unknown.to_string()))?
    };
    parse(file, text).map_err(|faults| faults.iter().map(told).collect())
}

fn parse(file: &str, text: &str) -> Result<Blueprint, Vec<blueprint::Fault>> {
    Blueprint::parse(file, text, &Ledger::embedded()?)
}

/// A shipped blueprint by its name, or one from a file.
///
/// # Errors
/// Where there is none; the names that there are are told. Else everything that is wrong with it.
pub fn named(name: &str) -> Result<Blueprint, ConfigFaults> {
    find(name, "blueprint").map_err(ConfigFaults)
}

/// The model by which it is decided who may do what: the house's own, and what the blueprint adds to it.
pub(super) fn model(blueprint: Option<&Blueprint>, faults: &mut Vec<Fault>) -> Arc<Schema> {
    let Some((blueprint, added)) = blueprint.and_then(|it| Some((it, it.model.as_ref()?))) else {
        return permission::own();
    };
    let (file, _) = blueprint.source();
    permission::with_addition(file, &added.text).unwrap_or_else(|found| {
        let said = found.into_iter().map(|fault| {
            let place = match fault.at {
                Some((line, column)) => format!("{file}:{}:{column}: model.text", line - 1 + added.line),
                None => format!("{file}: model.text"),
            };
            Fault { place, message: fault.message, kind: Kind::Setting }
        });
        faults.extend(said);
        permission::own()
    })
}

fn told(fault: &blueprint::Fault) -> Fault {
    Fault { place: String::new(), message: fault.to_string(), kind: Kind::Setting }
}

fn settings((file, text): (&str, &str)) -> Gathered {
    let mut gathered = Gathered::default();
    from_settings(Path::new(file), text, &mut gathered);
    gathered
}

/// What a blueprint configures, judged by the rules of the configuration: for whoever starts an instance without one.
#[derive(Debug, Clone)]
pub struct Preset {
    blueprint: Blueprint,
    providers: BTreeSet<String>,
    credential_form: Form,
    login_days: u32,
    connections: u32,
    limits: LimitOptions,
    server: ServerOptions,
    budgets: Vec<Limit>,
    plans: Plans,
    drain_delay: Duration,
    model: Arc<Schema>,
}

impl Preset {
    /// Judges the settings of a blueprint by themselves.
    ///
    /// # Errors
    /// Everything that is wrong with them, by the blueprint's file and line.
    pub fn of(blueprint: &Blueprint) -> Result<Self, ConfigFaults> {
        let mut from = Resolver { gathered: settings(blueprint.source()), secrets: Vec::new() };
        let _: Log = from.log(base::log(None));
        let model = model(Some(blueprint), &mut from.gathered.faults);
        let preset = Self {
            blueprint: blueprint.clone(),
            providers: blueprint.providers.clone(),
            credential_form: from.credential_form(),
            login_days: from.login_days(),
            connections: from.connections(),
            limits: from.limits(),
            server: from.server(),
            budgets: from.budgets(),
            plans: from.plans(),
            drain_delay: from.drain_delay(),
            model,
        };
        from.gathered.finish()?;
        Ok(preset)
    }

    /// Gives an instance what the blueprint configures. Of the shipped providers it keeps those that the blueprint names.
    pub fn apply(self, options: &mut InstanceOptions) {
        options.catalogue.keep_of_shipped(&self.providers);
        options.credential_form = self.credential_form;
        options.login_days = self.login_days;
        options.connections = self.connections;
        options.limits = self.limits;
        options.server = self.server;
        options.budgets = self.budgets;
        if self.plans != Plans::default() {
            options.plans = self.plans;
        }
        options.drain_delay = self.drain_delay;
        options.model = self.model;
        options.trust = trust::shown(Some(self.blueprint));
    }
}

/// Judges a blueprint's text whole: what it says, and what its settings are.
///
/// # Errors
/// Everything that is wrong, each with its line.
pub(crate) fn lint(file: &str, text: &str) -> Result<Blueprint, ConfigFaults> {
    match parse(file, text) {
        Ok(blueprint) => Preset::of(&blueprint).map(|_| blueprint),
        Err(said) => {
            // The settings of a blueprint with faults are told in the same breath, as far as their names go.
            let names = settings((file, text)).faults.into_iter();
            let of_the_form =
                |fault: &Fault| fault.message.starts_with("not TOML") || fault.message.ends_with("is given twice");
            Err(ConfigFaults(said.iter().map(told).chain(names.filter(|fault| !of_the_form(fault))).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use domain::budget::{Period, Unit};
    use tempfile::TempDir;

    use super::*;
    use crate::config::{SourceFile, Sources, gather::gather};

    const MINE: &str = "name = \"mine\"\ntitle = \"Mine\"\nprefix = \"SA\"\nsummary = \"Mine.\"\nproviders = [\"x\"]\n";

    /// The sources: a configuration file in this folder, and variables over it.
    fn resolver(folder: &Path, file: &str, variables: &[(&str, &str)]) -> Resolver {
        let environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let file = SourceFile { path: folder.join("keyholder.toml"), text: file.to_owned() };
        let sources = Sources { environment, file: Some(file), ..Sources::default() };
        Resolver { gathered: gather(&sources), secrets: Vec::new() }
    }

    fn faults(from: &Resolver) -> Vec<String> {
        from.gathered.faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_blueprint_lies_over_the_base_and_under_everything_else() {
        let nowhere = Path::new("");
        let mut from = resolver(nowhere, "blueprint = \"social-agent\"", &[]);
        assert_eq!(from.credential_form(), Form::Fernet, "over the base");
        assert!(from.budgets().iter().any(|budget| (budget.unit, budget.per) == (Unit::Posts, Period::Day)));
        let said = "blueprint = \"social-agent\"\ncredential_form = \"aes_256_gcm\"\n[[budgets]]\nunit = \"acts\"\nper = \"day\"\ncap = 7\n";
        let mut from = resolver(nowhere, said, &[]);
        assert_eq!(from.credential_form(), Form::Aes256Gcm, "under the file");
        let budgets = from.budgets();
        assert_eq!((budgets.len(), budgets[0].cap), (1, 7), "a list of one's own takes the place of the whole list");
        let variables = [("KEYHOLDER_BLUEPRINT", "media-workspace"), ("KEYHOLDER_LIMITS_PRINCIPAL_PER_MINUTE", "5")];
        let mut from = resolver(nowhere, "blueprint = \"social-agent\"", &variables);
        assert_eq!((from.credential_form(), from.limits().principal_per_minute.get()), (Form::Aes256Gcm, 5));
        assert_eq!(
            from.gathered.blueprint.as_ref().unwrap().name,
            "media-workspace",
            "the setting itself has its layers"
        );
        assert_eq!(faults(&from), Vec::<String>::new());
    }

    #[test]
    fn every_shipped_blueprint_has_settings_without_fault() {
        for name in blueprint::shipped_names() {
            let blueprint = named(name).unwrap_or_else(|faults| panic!("{faults}"));
            let preset = Preset::of(&blueprint).unwrap_or_else(|faults| panic!("{faults}"));
            assert!(!preset.budgets.is_empty(), "{name}");
            let (file, text) = blueprint::shipped(name).unwrap();
            assert!(lint(file, text).is_ok());
        }
        assert_eq!(Preset::of(&named("social-agent").unwrap()).unwrap().credential_form, Form::Fernet);
    }

    #[test]
    fn a_name_that_is_none_is_told_with_those_that_are() {
        let from = resolver(Path::new(""), "blueprint = \"social-agency\"", &[]);
        let told = faults(&from);
        assert!(
            told[0].starts_with("keyholder.toml:1: blueprint: there is no blueprint \"social-agency\""),
            "{told:?}"
        );
        assert!(
            told[0].ends_with("social-agent, media-workspace, chat-assistant, social-publisher, engineering-playbook")
        );
        let from = resolver(Path::new(""), "", &[("KEYHOLDER_BLUEPRINT", "./nowhere.toml")]);
        assert!(faults(&from)[0].starts_with("KEYHOLDER_BLUEPRINT: ./nowhere.toml cannot be read"));
    }

    #[test]
    fn a_blueprint_of_ones_own_is_beside_the_file_that_names_it_and_its_faults_have_its_lines() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("mine.toml");
        let settings = "[settings]\ncredential_form = \"rot13\"\n[settings.limits]\nprincipal_per_minute = 0\n";
        fs::write(&path, format!("{MINE}{settings}")).unwrap();
        let mut from = resolver(folder.path(), "blueprint = \"mine.toml\"", &[]);
        from.credential_form();
        from.limits();
        let shown = path.display();
        let told = faults(&from);
        assert!(told[0].starts_with(&format!("{shown}:7: credential_form: \"rot13\" is not")), "{told:?}");
        assert!(told[1].starts_with(&format!("{shown}:9: limits.principal_per_minute: \"0\" is not")), "{told:?}");
        fs::write(&path, format!("{MINE}[[planned]]\nsubject = \"nothing\"\nwords = \"?\"\n")).unwrap();
        let from = resolver(folder.path(), "blueprint = \"mine.toml\"", &[]);
        assert!(faults(&from)[0].starts_with(&format!("{shown}:7:1: planned.subject: \"nothing\" is not")));
        assert!(from.gathered.blueprint.is_none());
    }

    #[test]
    fn a_blueprint_says_how_a_system_works_and_never_whose_it_is() {
        let refused = "is for an installation to say: a blueprint holds no secret, address, path or name";
        for (setting, line) in [
            ("environment", "environment = \"production\""),
            ("operator", "operator = \"Acme\""),
            ("blueprint", "blueprint = \"social-agent\""),
            ("encryption_key", "encryption_key = \"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE\""),
            ("encryption_key_file", "encryption_key_file = \"root.key\""),
            ("listen", "listen = \"0.0.0.0:80\""),
            ("origins", "origins = \"https://app.example.com\""),
            ("proxies", "proxies = \"10.0.0.0/8\""),
            ("keyring", "keyring = \"keyring.json\""),
            ("providers", "providers = \"providers\""),
            ("database.app_url", "database.app_url = \"postgres://a@b/c\""),
            ("database.tls_roots", "database.tls_roots = \"roots.pem\""),
            ("clients.x.id", "clients.x.id = \"id\""),
            ("clients.x.secret", "clients.x.secret = \"secret\""),
            ("otlp.endpoint", "otlp.endpoint = \"https://collector.example.com\""),
        ] {
            let told = lint("mine.toml", &format!("{MINE}[settings]\n{line}\n")).unwrap_err();
            let told: Vec<_> = told.iter().map(ToString::to_string).collect();
            assert_eq!(told, [format!("mine.toml:7: {setting}: {refused}")]);
        }
        let told = lint("mine.toml", &format!("{MINE}[settings]\nlistn = \"x\"\n")).unwrap_err();
        assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), ["mine.toml:7: listn: is not a setting"]);
    }

    #[test]
    fn what_a_blueprint_adds_to_the_model_is_compiled_at_start_and_its_faults_have_the_files_lines() {
        let added = |text: &str| format!("{MINE}[model]\ntext = '''\n{text}'''\n");
        let good = "module mine\n\ntype campaign\n  relations\n    define member: [api_key]\n\nextend type workspace\n  relations\n    \
                    define can_publish: [role#assignee] or admin\n";
        let blueprint = lint("mine.toml", &added(good)).unwrap();
        let mut faults = Vec::new();
        let schema = model(Some(&blueprint), &mut faults);
        assert_eq!(faults, []);
        let member = relation::Relationship::new("campaign:1", "member", "api_key:1");
        assert!(schema.admit(&member).is_ok() && permission::own().admit(&member).is_err());
        for (text, told) in [
            (
                "module mine\n\nextend type workspace\n  relations\n    define admin: [api_key, app]\n",
                "mine.toml:12:12: model.text: relation admin already exists on type workspace",
            ),
            (
                "module mine\n\ntype campaign\n  relations\n    define member: [nobody]\n",
                "mine.toml:12:21: model.text: `nobody` is not a valid type.",
            ),
            ("model\n  schema 1.1\ntype campaign\n", "mine.toml:8:1: model.text: file is not a module"),
        ] {
            let said = lint("mine.toml", &added(text)).unwrap_err();
            assert_eq!(said.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
        }
        // Escapes would let a line of the module be another line of the file.
        for form in ["\"module mine\\n\"", "\"\"\"\nmodule \\\n  mine\n\"\"\"", "''''''"] {
            let said = lint("mine.toml", &format!("{MINE}[model]\ntext = {form}\n")).unwrap_err();
            let said = said.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(
                said,
                ["mine.toml:7:1: model.text: must be a module between ''' and ''', as it is, without escapes"]
            );
        }
    }

    #[test]
    fn all_faults_of_a_file_are_told_at_once_and_each_once() {
        let text =
            MINE.replace("\"SA\"", "\"sa\"") + "[settings]\nlisten = \"127.0.0.1:1\"\ncredential_form = \"fernet\"\n";
        let told = lint("mine.toml", &text).unwrap_err();
        assert_eq!(told.iter().count(), 2, "{told}");
        let told = lint("mine.toml", &format!("{text}credential_form = \"fernet\"\n")).unwrap_err();
        assert_eq!(told.iter().filter(|fault| fault.message.contains("is given twice")).count(), 1, "{told}");
        assert_eq!(lint("mine.toml", "name = ").unwrap_err().iter().count(), 1);
    }

    #[test]
    fn of_the_shipped_providers_those_of_the_blueprint_are_left_and_ones_own_stay() {
        let folder = TempDir::new().unwrap();
        let acme = "extends = \"generic-oauth\"\nname = \"acme\"\ntitle = \"Acme\"\nhosts = [\"acme.dev\"]\n\
                    [auth]\nauthorize_url = \"https://acme.dev/a\"\ntoken_url = \"https://acme.dev/t\"\n\
                    [actions.\"account.read\"]\nhost = \"acme.dev\"\npath = \"/me\"\n";
        fs::create_dir(folder.path().join("own")).unwrap();
        fs::write(folder.path().join("own/acme.toml"), acme).unwrap();
        let of = |providers: &str| {
            fs::write(folder.path().join("mine.toml"), MINE.replace("[\"x\"]", providers)).unwrap();
            let mut from = resolver(folder.path(), "blueprint = \"mine.toml\"\nproviders = \"own\"", &[]);
            let catalogue = from.catalogue().unwrap();
            (catalogue.iter().map(|it| it.name.clone()).collect::<Vec<_>>(), faults(&from))
        };
        assert_eq!(of("[\"x\"]"), (vec!["acme".to_owned(), "x".to_owned()], Vec::new()));
        assert_eq!(of("[\"acme\"]"), (vec!["acme".to_owned()], Vec::new()));
        let (_, told) = of("[\"meta\"]");
        assert!(told[0].ends_with("mine.toml: providers: there is no provider \"meta\""), "{told:?}");
    }
}
