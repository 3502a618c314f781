//! The configuration as tables: what each source may say, which one wins, and every fault by its name.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use domain::{
    budget::{Limit, Period, Unit},
    environment::Environment,
};
use tempfile::TempDir;

use super::{Config, ConfigFaults, LocalConfig, Log, SourceFile, Sources};
use crate::{cluster::Binaries, telemetry::Format};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
const URL: &str = "postgres://kh_app_1:swordfish-1@db.internal:5432/keyholder";

/// The least that a local server needs.
const LEAST: [(&str, &str); 6] = [
    ("KEYHOLDER_ENVIRONMENT", "local"),
    ("KEYHOLDER_ENCRYPTION_KEY", KEY),
    ("KEYHOLDER_DATABASE_APP_URL", URL),
    ("KEYHOLDER_DATABASE_LEDGER_URL", "postgres://kh_ledger_1:swordfish-2@db.internal/keyholder"),
    ("KEYHOLDER_DATABASE_LOOKUP_URL", "postgres://kh_lookup_1:swordfish-3@%2Frun%2Fpostgresql:5432/keyholder"),
    ("KEYHOLDER_DATABASE_LOADER_URL", "postgresql://kh_loader_1@db.internal/keyholder?sslmode=verify-full"),
];

struct Given {
    variables: Vec<(String, String)>,
    file: Option<String>,
    flags: Vec<(String, String)>,
}

/// The least, with these variables added or replaced; an empty value takes one away.
fn least_and(more: &[(&str, &str)]) -> Given {
    let kept = LEAST.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Given { variables: kept.chain(more).map(owned).collect(), file: None, flags: Vec::new() }
}

impl Given {
    fn file(mut self, text: &str) -> Self {
        self.file = Some(text.to_owned());
        self
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    fn sources_in(self, folder: &Path) -> Sources {
        Sources {
            flags: self.flags,
            environment: self.variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            file: self.file.map(|text| SourceFile { path: folder.join("keyholder.toml"), text }),
            usual_state: PathBuf::from("/usual/state"),
        }
    }

    fn sources(self) -> Sources {
        self.sources_in(Path::new(""))
    }

    fn config(self) -> Config {
        match Config::for_serving(&self.sources()) {
            Ok((config, _)) => config,
            Err(faults) => panic!("{faults}"),
        }
    }

    fn faults(self) -> ConfigFaults {
        Config::for_serving(&self.sources()).err().expect("faults")
    }
}

fn lines(faults: &ConfigFaults) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn the_least_is_enough_and_the_rest_is_the_base() {
    let config = least_and(&[]).config();
    assert_eq!(config.environment, Environment::Local);
    assert_eq!((config.installation.as_str(), config.operator.as_str()), ("keyholder", "Local operator"));
    assert_eq!(
        (config.listen.to_string(), config.metrics_listen.to_string()),
        ("127.0.0.1:8080".into(), "127.0.0.1:9464".into())
    );
    assert_eq!(config.public_url, None);
    assert_eq!(config.keyring, Path::new("/usual/state/keyring.json"));
    assert_eq!(config.log, Log { format: Format::Pretty, filter: "info".to_owned() });
    assert!(config.catalogue.get("x").is_some() && config.clients.is_empty() && config.budgets.is_empty());
}

#[test]
fn each_layer_lies_over_the_one_before() {
    let file = "environment = \"local\"\noperator = \"file\"\ninstallation = \"file\"\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"";
    let config = least_and(&[("KEYHOLDER_OPERATOR", "environment"), ("KEYHOLDER_LISTEN", "127.0.0.1:2")])
        .file(file)
        .flag("listen", "127.0.0.1:3")
        .config();
    assert_eq!(config.installation, "file", "over the base");
    assert_eq!(config.operator, "environment", "over the file");
    assert_eq!(config.listen.to_string(), "127.0.0.1:3", "over the environment");
    assert_eq!(config.log.format, Format::Json);
}

#[test]
fn the_base_depends_on_the_environment() {
    let more = [("KEYHOLDER_OPERATOR", "Acme"), ("KEYHOLDER_PUBLIC_URL", "https://keys.acme.dev")];
    for environment in ["staging", "production"] {
        let variables = [more.as_slice(), &[("KEYHOLDER_ENVIRONMENT", environment)]].concat();
        assert_eq!(least_and(&variables).config().log.format, Format::Json);
        let faults = least_and(&[("KEYHOLDER_ENVIRONMENT", environment)]).faults();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["operator", "public_url"], "neither has a default that would be true");
    }
}

#[test]
fn a_file_says_everything_but_secrets() {
    let folder = TempDir::new().unwrap();
    let put = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    for (name, text) in [("root.key", KEY), ("url", URL), ("x.secret", "client-secret\n")] {
        put(name, text);
    }
    let text = "environment = \"production\"\ninstallation = \"kh_2\"\noperator = \"Acme\"\nlisten = \"[::1]:8081\"\n\
                metrics_listen = \"127.0.0.1:0\"\npublic_url = \"https://keys.acme.dev\"\nencryption_key_file = \"root.key\"\n\
                state_dir = \"state\"\n\
                [database]\napp_url_file = \"url\"\nledger_url_file = \"url\"\nlookup_url_file = \"url\"\nloader_url_file = \"url\"\n\
                connections = 40\n\
                [limits]\nnetwork_per_minute = 100\nlinks_per_minute = 0x10\n\
                [log]\nformat = \"pretty\"\nfilter = \"warn,keyholder=debug\"\n\
                [clients.x]\nid = \"client-1\"\nsecret_file = \"x.secret\"\n\
                [[budgets]]\nunit = \"posts\"\nper = \"month\"\ncap = 1500\n[[budgets]]\nunit = \"acts\"\nper = \"minute\"\ncap = 0\n";
    let given = Given { variables: Vec::new(), file: Some(text.to_owned()), flags: Vec::new() };
    let (config, _) = Config::for_serving(&given.sources_in(folder.path())).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listen.to_string(), "[::1]:8081");
    assert_eq!(config.keyring, folder.path().join("keyring.json"), "beside the root key");
    assert_eq!(config.state_dir, folder.path().join("state"), "relative to the file");
    assert_eq!((config.limits.network_per_minute.get(), config.limits.links_per_minute.get()), (100, 16));
    assert_eq!(config.limits.failures_per_minute, service::LimitOptions::default().failures_per_minute);
    assert_eq!(config.connections, 40);
    let client = &config.clients["x"];
    assert_eq!((client.id.as_str(), client.secret.as_ref().map(|it| it.as_str())), ("client-1", Some("client-secret")));
    let budgets = [
        Limit { unit: Unit::Posts, per: Period::Month, cap: 1500 },
        Limit { unit: Unit::Acts, per: Period::Minute, cap: 0 },
    ];
    assert_eq!(config.budgets, budgets);
    let secrets: Vec<_> = config.secrets.iter().map(super::Secret::expose).collect();
    for secret in [KEY, URL, "swordfish-1", "client-secret"] {
        assert!(secrets.contains(&secret), "the redactor is told of {secret}");
    }
}

/// One fault each: what is set, in which way, and how the fault begins.
#[test]
fn each_fault_by_its_name() {
    let long = "x".repeat(5000);
    let variables: &[(&str, &str, &str)] = &[
        ("KEYHOLDER_ENVIRONMENT", "", "environment: is not set (`environment` in the file, or KEYHOLDER_ENVIRONMENT)"),
        ("KEYHOLDER_ENVIRONMENT", "prod", "KEYHOLDER_ENVIRONMENT: \"prod\" is not one of local, staging, production"),
        ("KEYHOLDER_INSTALLATION", "My-Shop", "KEYHOLDER_INSTALLATION: \"My-Shop\" is not a name of 1 to 24"),
        ("KEYHOLDER_OPERATOR", " ", "KEYHOLDER_OPERATOR: \" \" is not a name of 1 to 200"),
        ("KEYHOLDER_LISTEN", "8080", "KEYHOLDER_LISTEN: \"8080\" is not an address with a port"),
        ("KEYHOLDER_LISTEN", "0.0.0.0:8080", "KEYHOLDER_LISTEN: 0.0.0.0:8080 can be reached from other machines"),
        ("KEYHOLDER_METRICS_LISTEN", "10.0.0.1:9464", "KEYHOLDER_METRICS_LISTEN: 10.0.0.1:9464 can be reached"),
        ("KEYHOLDER_LISTEN", "unix:api.sock", "KEYHOLDER_LISTEN: \"unix:api.sock\" is not an address with a port"),
        ("KEYHOLDER_TLS_KEY", "/none/tls.key", "KEYHOLDER_TLS_KEY: is set, and `tls.certificate` is not"),
        ("KEYHOLDER_LIMITS_CONNECTIONS", "0", "KEYHOLDER_LIMITS_CONNECTIONS: \"0\" is not a number from 1 to 60000"),
        ("KEYHOLDER_METRICS_LISTEN", "127.0.0.1:8080", "metrics_listen: 127.0.0.1:8080 is what `listen` is"),
        (
            "KEYHOLDER_PUBLIC_URL",
            "http://keys.acme.dev",
            "KEYHOLDER_PUBLIC_URL: \"http://keys.acme.dev\" is not an https",
        ),
        ("KEYHOLDER_PUBLIC_URL", "https://keys.acme.dev/kh", "KEYHOLDER_PUBLIC_URL: "),
        ("KEYHOLDER_DATABASE_CONNECTIONS", "0", "KEYHOLDER_DATABASE_CONNECTIONS: \"0\" is not a number from 1 to 1000"),
        (
            "KEYHOLDER_DATABASE_APP_URL",
            "",
            "database.app_url: is not set (KEYHOLDER_DATABASE_APP_URL or KEYHOLDER_DATABASE_APP_URL_FILE)",
        ),
        ("KEYHOLDER_DATABASE_APP_URL", "mysql://a:b@c/d", "KEYHOLDER_DATABASE_APP_URL: is not an address of the form"),
        ("KEYHOLDER_DATABASE_APP_URL", "postgres://db.internal/kh", "KEYHOLDER_DATABASE_APP_URL: does not name a user"),
        (
            "KEYHOLDER_DATABASE_APP_URL",
            "postgres://me@db.internal",
            "KEYHOLDER_DATABASE_APP_URL: does not name a database",
        ),
        ("KEYHOLDER_DATABASE_APP_URL", "postgres:///kh?user=me", "KEYHOLDER_DATABASE_APP_URL: does not name a host"),
        ("KEYHOLDER_DATABASE_APP_URL", "postgres://a:b@c/d?sslmode=on", "KEYHOLDER_DATABASE_APP_URL: has an sslmode"),
        ("KEYHOLDER_DATABASE_APP_URL", "postgres://a:b@c/d?options=x", "KEYHOLDER_DATABASE_APP_URL: has the parameter"),
        ("KEYHOLDER_DATABASE_APP_URL", &long, "KEYHOLDER_DATABASE_APP_URL: is longer than 4096 bytes"),
        (
            "KEYHOLDER_DATABASE_OWNER_URL",
            URL,
            "KEYHOLDER_DATABASE_OWNER_URL: a serving process never holds the owner's login",
        ),
        ("KEYHOLDER_DATABASE_OWNER_URL_FILE", "/x", "KEYHOLDER_DATABASE_OWNER_URL_FILE: a serving process never holds"),
        (
            "KEYHOLDER_PROVIDERS",
            "/nowhere/at/all",
            "KEYHOLDER_PROVIDERS: /nowhere/at/all cannot be read: it does not exist",
        ),
        ("KEYHOLDER_LIMITS_LINKS_PER_MINUTE", "0", "KEYHOLDER_LIMITS_LINKS_PER_MINUTE: \"0\" is not a number from 1"),
        ("KEYHOLDER_LIMITS_LINKS_PER_MINUTE", "ten", "KEYHOLDER_LIMITS_LINKS_PER_MINUTE: \"ten\" is not a number"),
        ("KEYHOLDER_LOG_FORMAT", "xml", "KEYHOLDER_LOG_FORMAT: \"xml\" is not json or pretty"),
        ("KEYHOLDER_LOG_FILTER", "info=,=", "KEYHOLDER_LOG_FILTER: \"info=,=\" is not a log filter"),
        ("KEYHOLDER_LISTN", "127.0.0.1:1", "KEYHOLDER_LISTN: is not a variable of Keyholder's"),
        ("KEYHOLDER_BUDGETS", "acts", "KEYHOLDER_BUDGETS: is not a variable of Keyholder's"),
        ("KEYHOLDER_LISTEN_FILE", "/x", "KEYHOLDER_LISTEN_FILE: is not a variable of Keyholder's"),
        ("KEYHOLDER_CLIENT_X_KEY", "a", "KEYHOLDER_CLIENT_X_KEY: is not a variable of Keyholder's"),
        ("KEYHOLDER_CLIENT_ACME_DEV_ID", "a", "clients.acme-dev: there is no provider of that name; there are x"),
        ("KEYHOLDER_CLIENT_GENERIC_OAUTH_ID", "a", "clients.generic-oauth: the provider is only a template"),
        (
            "KEYHOLDER_CLIENT_X_ID",
            "a",
            "clients.x: the provider wants a secret (`clients.x.secret_file` in the file, \
          KEYHOLDER_CLIENT_X_SECRET_FILE or KEYHOLDER_CLIENT_X_SECRET)",
        ),
        (
            "KEYHOLDER_CLIENT_X_SECRET",
            "s3cret",
            "clients.x.id: is not set (`clients.x.id` in the file, or KEYHOLDER_CLIENT_X_ID)",
        ),
    ];
    for (name, value, wanted) in variables {
        let told = lines(&least_and(&[(name, value)]).faults());
        assert!(told.len() == 1 && told[0].starts_with(wanted), "{name}={value}\n  {told:?}\n  {wanted}");
    }
}

#[test]
fn a_faulty_file_is_told_by_its_lines() {
    let table: &[(&str, &[&str])] = &[
        ("listen = 8080", &["keyholder.toml:1: listen: must be text"]),
        ("\nlistn = \"a\"", &["keyholder.toml:2: listn: is not a setting"]),
        ("[log]\nlevel = \"a\"", &["keyholder.toml:2: log.level: is not a setting"]),
        ("log = \"info\"", &["keyholder.toml:1: log: must be a table"]),
        ("[database]\nconnections = \"5\"", &["keyholder.toml:2: database.connections: must be a whole number"]),
        ("[limits]\nlinks_per_minute = -1", &["keyholder.toml:2: limits.links_per_minute: \"-1\" is not a number"]),
        (
            "encryption_key = \"abc\"",
            &[
                "keyholder.toml:1: encryption_key: a secret does not belong into this file: name the file that holds it in `encryption_key_file`",
            ],
        ),
        (
            "[clients.x]\nid = \"a\"\nsecret = \"b\"",
            &["keyholder.toml:3: clients.x.secret: a secret does not belong", "clients.x: the provider wants"],
        ),
        ("[clients.X]\nid = \"a\"", &["keyholder.toml:1: clients.X: a provider's name has"]),
        (
            "[[budgets]]\nunit = \"likes\"\nper = \"week\"\ncap = -1",
            &[
                "keyholder.toml:1: budgets: unit \"likes\" is not one of acts, posts",
                "keyholder.toml:1: budgets: per \"week\" is not one of minute, hour, day, month",
                "keyholder.toml:1: budgets: cap -1 is not a number of 0 or more",
            ],
        ),
        (
            "[[budgets]]\nunit = \"acts\"\nper = \"day\"\ncap = 1\nnote = \"\"",
            &["keyholder.toml:5: budgets.note: is not a setting"],
        ),
        ("[[budgets]]\nunit = \"acts\"\ncap = 1", &["keyholder.toml:1: budgets: a budget needs `per`"]),
        (
            "[[budgets]]\nunit = \"acts\"\nper = \"day\"\ncap = 1\n[[budgets]]\nunit = \"acts\"\nper = \"day\"\ncap = 2",
            &["keyholder.toml:5: budgets: acts per day has a budget already"],
        ),
        (
            "operator = \"a\"\noperator = \"b\"\nlistn = \"c\"",
            &["keyholder.toml:2: operator is given twice", "keyholder.toml:3: listn: is not"],
        ),
        ("operator = ", &["keyholder.toml:1: not TOML"]),
        ("[clients.x]\nid = 5", &["keyholder.toml:2: clients.x.id: must be text"]),
    ];
    for (text, wanted) in table {
        let told = lines(&least_and(&[]).file(text).faults());
        for wanted in *wanted {
            assert!(told.iter().any(|line| line.starts_with(wanted)), "{text}\n  {told:#?}\n  {wanted}");
        }
        let lines_of_ours = told.iter().filter(|line| line.starts_with("keyholder.toml") || wanted.len() > 1).count();
        assert_eq!(lines_of_ours, wanted.len(), "{text}\n  {told:#?}");
    }
}

#[test]
fn all_faults_come_at_once_and_none_repeats_a_secret() {
    let faults = least_and(&[
        ("KEYHOLDER_ENVIRONMENT", "prod"),
        ("KEYHOLDER_ENCRYPTION_KEY", "not-a-key-but-a-secret"),
        ("KEYHOLDER_DATABASE_APP_URL", "postgres://me:pa55word@/"),
        ("KEYHOLDER_DATABASE_LEDGER_URL", ""),
        ("KEYHOLDER_LOG_FORMAT", "xml"),
        ("KEYHOLDER_NONSENSE", "pa55word"),
    ])
    .file("listen = \"0.0.0.0:80\"\nnonsense = 1")
    .faults();
    let told = faults.to_string();
    let places = [
        "KEYHOLDER_ENVIRONMENT: ",
        "KEYHOLDER_ENCRYPTION_KEY: ",
        "KEYHOLDER_DATABASE_APP_URL: ",
        "database.ledger_url: ",
        "KEYHOLDER_LOG_FORMAT: ",
        "KEYHOLDER_NONSENSE: ",
        "keyholder.toml:1: listen: ",
        "keyholder.toml:2: nonsense: ",
    ];
    assert_eq!(faults.iter().count(), places.len(), "{told}");
    for place in places {
        assert!(told.contains(place), "{place}\n{told}");
    }
    assert!(!told.contains("pa55word") && !told.contains("not-a-key"), "{told}");
    assert_eq!(faults.exit_code(), 3);
}

#[test]
fn a_root_key_that_is_none_has_an_exit_code_of_its_own() {
    let table = [
        ("", "encryption_key: there is no root key (KEYHOLDER_ENCRYPTION_KEY_FILE or KEYHOLDER_ENCRYPTION_KEY)"),
        ("c2hvcnQ=", "KEYHOLDER_ENCRYPTION_KEY: the root key has 5 bytes instead of 32"),
        ("not a key", "KEYHOLDER_ENCRYPTION_KEY: the root key is neither base64 nor hexadecimal"),
        (&"00".repeat(32), "KEYHOLDER_ENCRYPTION_KEY: the root key is the same byte 32 times"),
    ];
    for (key, wanted) in table {
        let faults = least_and(&[("KEYHOLDER_ENCRYPTION_KEY", key)]).faults();
        assert!(lines(&faults)[0].starts_with(wanted), "{faults}");
        assert_eq!((faults.iter().count(), faults.exit_code()), (1, 5));
    }
}

#[test]
fn a_secrets_file_is_private_short_and_one_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    let table: [(&str, u32, Option<&str>); 12] = [
        (KEY, 0o600, None),
        ("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE\n", 0o400, None),
        ("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE\r\n", 0o440, None),
        (KEY, 0o644, Some("is open to others (mode 644)")),
        (KEY, 0o604, Some("is open to others (mode 604)")),
        (KEY, 0o602, Some("is open to others (mode 602)")),
        (KEY, 0o620, Some("is open to others (mode 620)")),
        ("", 0o600, Some("is empty")),
        ("\n", 0o600, Some("is empty")),
        ("a\nb", 0o600, Some("is not one line of text")),
        ("a\n\n", 0o600, Some("is not one line of text")),
        (&"a".repeat(5000), 0o600, Some("is longer than 4096 bytes")),
    ];
    for (text, mode, wrong) in table {
        // A file that only its owner reads is not written over by others than root.
        let _absent = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let file = path.to_str().unwrap();
        let given = least_and(&[("KEYHOLDER_ENCRYPTION_KEY", ""), ("KEYHOLDER_ENCRYPTION_KEY_FILE", file)]);
        match wrong {
            None => assert_eq!(given.config().keyring, folder.path().join("keyring.json")),
            Some(wrong) => {
                let faults = given.faults();
                let told = lines(&faults).remove(0);
                assert!(told.starts_with("KEYHOLDER_ENCRYPTION_KEY_FILE: ") && told.contains(wrong), "{told}");
                assert_eq!(faults.exit_code(), 5);
            }
        }
    }
    for (place, wanted) in
        [(folder.path().join("absent"), "it does not exist"), (folder.path().to_owned(), "is not a file")]
    {
        let faults = least_and(&[
            ("KEYHOLDER_DATABASE_APP_URL", ""),
            ("KEYHOLDER_DATABASE_APP_URL_FILE", place.to_str().unwrap()),
        ]);
        assert!(lines(&faults.faults())[0].contains(wanted));
    }
}

#[test]
fn a_secret_and_its_file_are_not_both_set() {
    let told = lines(&least_and(&[("KEYHOLDER_ENCRYPTION_KEY_FILE", "/nowhere")]).faults());
    let wanted = "KEYHOLDER_ENCRYPTION_KEY: is set, and so is KEYHOLDER_ENCRYPTION_KEY_FILE: set one of them";
    assert!(told.contains(&wanted.to_owned()), "{told:?}");
}

#[test]
fn a_migration_wants_the_owner_and_nobody_else() {
    let owner = least_and(&[("KEYHOLDER_DATABASE_OWNER_URL", URL), ("KEYHOLDER_DATABASE_APP_URL", "")]);
    let (_, owner) = Config::for_migration(&owner.sources()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(owner.url.expose(), URL);
    let faults = Config::for_migration(&least_and(&[]).sources()).err().expect("faults");
    assert!(faults.to_string().contains("KEYHOLDER_DATABASE_OWNER_URL_FILE"), "{faults}");
}

#[test]
fn provider_files_of_the_operator_are_read_linted_and_not_everybodys() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("acme.toml");
    let text = "extends = \"generic-oauth\"\nname = \"acme\"\ntitle = \"Acme\"\nhosts = [\"acme.dev\"]\n\
                [auth]\nauthorize_url = \"https://acme.dev/a\"\ntoken_url = \"https://acme.dev/t\"\n\
                [actions.\"account.read\"]\nhost = \"acme.dev\"\npath = \"/me\"\n";
    let given = || least_and(&[("KEYHOLDER_PROVIDERS", folder.path().to_str().unwrap())]);
    fs::write(&path, text).unwrap();
    fs::write(folder.path().join("README"), "not a provider").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(given().config().catalogue.get("acme").is_some());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(given().faults().to_string().contains("may be changed by everybody (mode 666)"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, text.replace("\"acme\"", "\"x\"")).unwrap();
    let faults = given().faults();
    assert!(faults.to_string().contains("has the same name"), "{faults}");
    fs::write(&path, text.replace("title", "titel")).unwrap();
    let faults = given().faults();
    assert!(faults.to_string().contains("acme.toml:3:1: titel"), "{faults}");
}

#[test]
fn local_commands_overlook_a_servers_settings_and_refuse_unknown_ones() {
    let log = Log { format: Format::Pretty, filter: "warn".to_owned() };
    let given = least_and(&[("KEYHOLDER_ENVIRONMENT", "production"), ("KEYHOLDER_POSTGRES_BIN", "wheel")]);
    let config = LocalConfig::load(&given.flag("log.filter", "debug").sources(), log.clone())
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.binaries, Binaries::Wheel);
    assert_eq!((config.log.filter.as_str(), config.state_dir.as_path()), ("debug", Path::new("/usual/state")));
    let faults =
        LocalConfig::load(&least_and(&[("KEYHOLDER_POSTGRES", "wheel")]).sources(), log).err().expect("faults");
    assert_eq!(lines(&faults), ["KEYHOLDER_POSTGRES: is not a variable of Keyholder's"]);
}

#[test]
fn a_secret_prints_as_a_mark() {
    assert_eq!(format!("{:?}", super::Secret::new("swordfish".to_owned())), "[secret]");
}

#[test]
fn the_edges_lists_are_told_entry_by_entry() {
    let lists = [
        ("KEYHOLDER_ORIGINS", "https://app.acme.dev, http://localhost:3000"),
        ("KEYHOLDER_HOSTS", "keys.internal,10.0.0.7"),
        ("KEYHOLDER_PROXIES", "127.0.0.1, 10.0.3.0/28, unix"),
        ("KEYHOLDER_FORWARDED_HEADER", "forwarded"),
    ];
    let edge = least_and(&lists).config().edge;
    assert_eq!((edge.origins.len(), edge.hosts.len(), edge.proxies.len()), (2, 2, 3));
    assert_eq!(edge.forwarded_header, server::ForwardedHeader::Forwarded);
    let none = least_and(&[]).config().edge;
    assert!(none.origins.is_empty() && none.hosts.is_empty() && none.proxies.is_empty());

    let wrong = "origins = \"*, null, https://a.dev/, http://a.dev, https://b.dev, https://b.dev\"\nhosts = \"a:80\"\n\
                 proxies = \"loopback, 0.0.0.0/0\"\nforwarded_header = \"x-real-ip\"";
    let told = lines(&least_and(&[]).file(wrong).faults());
    let begins = |start: &str| told.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(begins("keyholder.toml:1: origins: "), 5, "{told:?}");
    assert_eq!(begins("keyholder.toml:2: hosts: \"a:80\" is not the name"), 1, "{told:?}");
    assert_eq!(begins("keyholder.toml:3: proxies: "), 2, "{told:?}");
    assert_eq!(
        begins("keyholder.toml:4: forwarded_header: \"x-real-ip\" is not x-forwarded-for or forwarded"),
        1,
        "{told:?}"
    );
}

#[test]
fn an_origin_in_the_clear_is_for_developers() {
    let more = [
        ("KEYHOLDER_ENVIRONMENT", "production"),
        ("KEYHOLDER_OPERATOR", "Acme"),
        ("KEYHOLDER_PUBLIC_URL", "https://keys.acme.dev"),
        ("KEYHOLDER_ORIGINS", "https://app.acme.dev,http://localhost:3000"),
    ];
    let told = lines(&least_and(&more).faults());
    assert_eq!(told, ["KEYHOLDER_ORIGINS: an http origin is for the environment local"]);
}

/// Settings, and what is told of each.
type Row<'r> = (&'r [(&'r str, &'r str)], &'r [&'r str]);

#[test]
fn a_login_that_would_travel_in_the_clear_is_refused_by_the_setting_that_says_so() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, words) = (write("empty.pem", ""), write("words.pem", "not a certificate"));
    let missing = folder.path().join("missing.pem").to_str().unwrap().to_owned();
    let loopback = "postgres://kh_app_1:x@127.0.0.1/keyholder?sslmode=disable";
    let table: [Row<'_>; 9] = [
        (
            &[("KEYHOLDER_DATABASE_APP_URL", loopback)],
            &["KEYHOLDER_DATABASE_APP_URL: sslmode=disable sends the password in the clear"],
        ),
        (&[("KEYHOLDER_DATABASE_APP_URL", loopback), ("KEYHOLDER_DATABASE_LOOPBACK_PLAINTEXT", "true")], &[]),
        (
            &[
                ("KEYHOLDER_DATABASE_APP_URL", "postgres://a:b@db.internal/d?sslmode=disable"),
                ("KEYHOLDER_DATABASE_LOOPBACK_PLAINTEXT", "true"),
            ],
            &["KEYHOLDER_DATABASE_APP_URL: sslmode=disable is for nothing but 127.0.0.1"],
        ),
        (
            &[("KEYHOLDER_DATABASE_LOADER_URL", "postgres://a:b@db.internal/d?sslmode=require")],
            &["KEYHOLDER_DATABASE_LOADER_URL: sslmode=require does not check the server's certificate"],
        ),
        (
            &[
                ("KEYHOLDER_DATABASE_LEDGER_URL", "postgres://a:b@c/d?sslmode=prefer"),
                ("KEYHOLDER_DATABASE_LOOKUP_URL", "postgres://a:b@c/d?sslmode=allow"),
            ],
            &["KEYHOLDER_DATABASE_LEDGER_URL: sslmode=prefer", "KEYHOLDER_DATABASE_LOOKUP_URL: sslmode=allow"],
        ),
        (
            &[("KEYHOLDER_DATABASE_LOOPBACK_PLAINTEXT", "yes")],
            &["KEYHOLDER_DATABASE_LOOPBACK_PLAINTEXT: \"yes\" is not true or false"],
        ),
        (&[("KEYHOLDER_DATABASE_TLS_ROOTS", &missing)], &["missing.pem cannot be read: it does not exist"]),
        (&[("KEYHOLDER_DATABASE_TLS_ROOTS", &empty)], &["empty.pem holds no certificate"]),
        (&[("KEYHOLDER_DATABASE_TLS_ROOTS", &words)], &["words.pem holds no certificate"]),
    ];
    for (settings, wanted) in table {
        let told =
            Config::for_serving(&least_and(settings).sources()).err().map(|faults| lines(&faults)).unwrap_or_default();
        assert_eq!(told.len(), wanted.len(), "{settings:?}: {told:?}");
        for (line, word) in told.iter().zip(wanted) {
            assert!(line.contains(word) && !line.contains("a:b") && !line.contains(":x@"), "{line}");
        }
    }
    // The owner's way, and logins that are read again, go by the same rule.
    let owner = [("KEYHOLDER_DATABASE_OWNER_URL", "postgres://a:b@db.internal/d?sslmode=require")];
    let cleared = ["APP", "LEDGER", "LOOKUP", "LOADER"].map(|group| format!("KEYHOLDER_DATABASE_{group}_URL"));
    let cleared = cleared.iter().map(|name| (name.as_str(), ""));
    let faults = Config::for_migration(&least_and(&owner.into_iter().chain(cleared).collect::<Vec<_>>()).sources());
    assert!(faults.err().unwrap().to_string().contains("KEYHOLDER_DATABASE_OWNER_URL: sslmode=require"));
    let again = [("KEYHOLDER_DATABASE_APP_URL", "postgres://a:b@db.internal/d?sslmode=require")];
    assert!(Config::logins_again(&least_and(&again).sources()).is_err());
    let file = "[database]\nloopback_plaintext = \"true\"\n";
    let told = lines(&least_and(&[]).file(file).faults());
    assert_eq!(told, ["keyholder.toml:2: database.loopback_plaintext: must be true or false"]);
    let file = "[database]\nloopback_plaintext = true\n";
    least_and(&[("KEYHOLDER_DATABASE_APP_URL", loopback)]).file(file).config();
}
