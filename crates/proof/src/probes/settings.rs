//! Settings: every one that the program knows is given what it must not take, and those without which no server can be are left out.

use std::{collections::BTreeSet, fs};

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;

use crate::{
    evidence::{Evidence, Failure, Outcome},
    ground::{Ended, Ground, SERVING},
    probe::{Attack, Probe},
    serving,
};

/// Whether a wrong setting is let pass, or is not told with the others.
pub(super) const SETTINGS_AT_START: Probe = Probe {
    name: "settings-at-start",
    points: &["settings-at-start", "settings-formed", "settings-required"],
    tries: "a server with wrong settings, or without those that it needs, or one that tells only some of them",
    attack: Attack::Rehearsed(|ground| Box::pin(settings_at_start(ground))),
};

/// Values that are of the right form and wrong all the same, as variables of the environment: name and value.
const WRONG: [(&str, &str); 29] = [
    ("KEYHOLDER_BLUEPRINT", "no-such-system"),
    ("KEYHOLDER_ENVIRONMENT", "prod"),
    ("KEYHOLDER_INSTALLATION", "7 up"),
    ("KEYHOLDER_OPERATOR", "A bell: \u{7}"),
    ("KEYHOLDER_LISTEN", "everywhere"),
    ("KEYHOLDER_METRICS_LISTEN", "nowhere"),
    ("KEYHOLDER_ORIGINS", "*"),
    ("KEYHOLDER_HOSTS", "https://a.example"),
    ("KEYHOLDER_PROXIES", "0.0.0.0/0"),
    ("KEYHOLDER_FORWARDED_HEADER", "via"),
    ("KEYHOLDER_PUBLIC_URL", "ftp://keys.example.com"),
    ("KEYHOLDER_CREDENTIAL_FORM", "rot13"),
    ("KEYHOLDER_PROVIDERS", "/nowhere/providers"),
    ("KEYHOLDER_DATABASE_APP_URL", "mysql://a@b/c"),
    ("KEYHOLDER_DATABASE_LEDGER_URL", "of no form"),
    ("KEYHOLDER_DATABASE_LOOKUP_URL", "http://b.example/"),
    ("KEYHOLDER_DATABASE_LOADER_URL", "/c"),
    // A good address: it is the one login that a server must not have.
    ("KEYHOLDER_DATABASE_OWNER_URL", "postgres://owner@localhost/keyholder"),
    ("KEYHOLDER_DATABASE_TLS_ROOTS", "/nowhere/roots.pem"),
    ("KEYHOLDER_LOG_FORMAT", "xml"),
    ("KEYHOLDER_LOG_FILTER", "keyholder=loudest"),
    ("KEYHOLDER_TLS_CERTIFICATE", "/nowhere/tls.crt"),
    ("KEYHOLDER_TLS_KEY", "/nowhere/tls.key"),
    ("KEYHOLDER_OTLP_ENDPOINT", "ftp://collector.example"),
    ("KEYHOLDER_OTLP_HEADERS", "no-header"),
    ("KEYHOLDER_OTLP_TLS_ROOTS", "/nowhere/roots.pem"),
    ("KEYHOLDER_TRUST_KEY", "ed25519:short"),
    ("KEYHOLDER_ENCRYPTION_KEY_FILE", "/nowhere/root.key"),
    ("KEYHOLDER_NO_SUCH_SETTING", "1"),
];
/// The same of what is about a blueprint, and judged where that is one; a client is, too, about a provider.
const WRONG_ALONE: [(&str, &str); 1] = [("KEYHOLDER_TRUST_ATTESTATIONS", "/nowhere/words.toml")];
/// Settings that take any text of their form: where to write, where a program may lie that a server does not run, and what a platform made.
const ANY: [&str; 4] = ["keyring", "state_dir", "postgres_bin", "clients.*.secret"];
/// Without these no server can be.
const NEEDED: [&str; 5] =
    ["environment", "database.app_url", "database.ledger_url", "database.lookup_url", "database.loader_url"];
/// And without these none but a local one.
const NEEDED_ELSEWHERE: [&str; 2] = ["operator", "public_url"];
/// The exit code of a configuration with faults, and that of a key.
const FAULTS: [i32; 2] = [3, 5];
/// How many servers are started at once.
const AT_ONCE: usize = 4;

/// What `keyholder settings --json` says.
#[derive(Deserialize)]
struct Told {
    settings: Vec<Setting>,
}

/// A setting.
#[derive(Deserialize)]
struct Setting {
    /// In the file.
    name: String,
    /// In the environment; none where the file alone can say it.
    variable: Option<String>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    Text,
    Number,
    Switch,
    Path,
    Secret,
    List,
}

impl Setting {
    /// A value for the file that is of another form. A secret's is of none: it does not belong there.
    fn of_another_form(&self) -> toml::Value {
        match self.form {
            Form::Text | Form::Path | Form::List => toml::Value::Integer(7),
            Form::Number | Form::Switch => toml::Value::String("many".to_owned()),
            Form::Secret => toml::Value::String("in the open".to_owned()),
        }
    }

    /// Its name in a file, a client's being one's own.
    fn in_file(&self) -> String {
        self.name.replace('*', "x")
    }

    /// A variable with a wrong value, for each form by which one can be told.
    fn out_of_bounds(&self) -> Option<(String, String)> {
        let value = match self.form {
            Form::Number => "-1",
            Form::Switch => "perhaps",
            _ => return None,
        };
        Some((self.variable.clone()?, value.to_owned()))
    }
}

/// One start of a server that must not come to anything: what is wrong, the file, the variables, and the names that must be told.
struct Trial {
    what: String,
    file: String,
    variables: Vec<(String, String)>,
    names: Vec<String>,
}

async fn settings_at_start(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let good = ground.configuration("", serving::ROOMY);
    drop(ground.serve(&good, &[]).await?);
    evidence.saw("good settings serve", "", "ready");
    let told: Told = serde_json::from_slice(&ground.run(&["settings", "--json"], &[]).await?.stdout)?;
    every_one_is_tried(&told.settings)?;
    let of_lacks = of_lacks(&good)?;
    let of_values = of_values(ground, &good, &told.settings);
    let trials: Vec<Trial> = of_forms(&good, &told.settings)?.into_iter().chain(of_values).chain(of_lacks).collect();
    for some in trials.chunks(AT_ONCE) {
        let ended = join_all(some.iter().map(|trial| start(ground, trial))).await;
        for (trial, ended) in some.iter().zip(ended) {
            refused(trial, &ended?, &mut evidence)?;
        }
    }
    Ok(evidence)
}

/// What the program tells of and nothing here would find wrong is no setting that was judged.
fn every_one_is_tried(settings: &[Setting]) -> Result<(), Failure> {
    let tried: BTreeSet<&str> = WRONG.iter().chain(&WRONG_ALONE).map(|(variable, _)| *variable).collect();
    let is_tried = |it: &&Setting| {
        let by_name =
            |variable: &String| tried.contains(variable.as_str()) || tried.contains(&*format!("{variable}_FILE"));
        matches!(it.form, Form::Number | Form::Switch)
            || ANY.contains(&it.name.as_str())
            || it.variable.as_ref().is_none_or(by_name)
            || it.name == "clients.*.id"
    };
    match settings.iter().find(|it| !is_tried(it)) {
        _ if settings.is_empty() => Err(Failure::unproven("the program tells no settings")),
        Some(new) => Err(Failure::unproven(format!("no wrong value of {} is known here", new.name))),
        None => Ok(()),
    }
}

/// A value of another form for every setting at once, and for each alone.
fn of_forms(good: &str, settings: &[Setting]) -> Result<Vec<Trial>, Failure> {
    let good: toml::Table = toml::from_str(good)?;
    let wrong = |some: &[&Setting]| -> Result<String, Failure> {
        let mut file = good.clone();
        for setting in some {
            put(&mut file, &setting.in_file(), setting.of_another_form());
        }
        Ok(toml::to_string(&file)?)
    };
    let every: Vec<&Setting> = settings.iter().collect();
    let mut trials = vec![Trial {
        what: "every setting of another form".to_owned(),
        file: wrong(&every)?,
        variables: Vec::new(),
        names: every.iter().map(|setting| format!(": {}: ", setting.in_file())).collect(),
    }];
    for setting in settings {
        let name = setting.in_file();
        trials.push(Trial {
            what: format!("{name} of another form"),
            file: wrong(&[setting])?,
            variables: Vec::new(),
            names: vec![format!(": {name}: ")],
        });
    }
    Ok(trials)
}

/// Wrong values of the right form, with settings that nobody knows: all at once, and each alone.
fn of_values(ground: &Ground, good: &str, settings: &[Setting]) -> Vec<Trial> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let client = [("KEYHOLDER_CLIENT_ACME_ID".to_owned(), "of nobody".to_owned())];
    let numbers = settings.iter().filter_map(Setting::out_of_bounds);
    let all: Vec<_> = WRONG.iter().map(owned).chain(numbers).collect();
    let name = |(name, _): &(String, String)| name.replace("KEYHOLDER_CLIENT_ACME_ID", "clients.acme");
    let unknown = ["frobnicate", "surprise"].map(str::to_owned);
    let file = ground.configuration("frobnicate = true\n", &format!("{}[surprise]\nx = 1\n", serving::ROOMY));
    let together = Trial {
        what: format!("{} wrong values and two settings that nobody knows", all.len()),
        file,
        names: all.iter().map(name).chain(unknown).collect(),
        variables: all.clone(),
    };
    let alone = all.into_iter().chain(WRONG_ALONE.iter().map(owned)).chain(client).map(|variable| Trial {
        what: format!("{}={}", variable.0, variable.1.escape_default()),
        file: good.to_owned(),
        names: vec![name(&variable)],
        variables: vec![variable],
    });
    [together].into_iter().chain(alone).collect()
}

/// What a server needs, left out: all of it, and each alone.
fn of_lacks(good: &str) -> Result<Vec<Trial>, Failure> {
    let good: toml::Table = toml::from_str(good)?;
    let without = |names: &[&str]| -> Result<String, Failure> {
        let mut file = good.clone();
        for name in names {
            take(&mut file, name);
            take(&mut file, &format!("{name}_file"));
        }
        Ok(toml::to_string(&file)?)
    };
    let trial = |names: &[&str], variables: Vec<(String, String)>| -> Result<Trial, Failure> {
        Ok(Trial {
            what: format!("nothing said of {}", names.join(", ")),
            file: without(names)?,
            variables,
            names: names.iter().map(|name| format!("{name}: is not set")).collect(),
        })
    };
    let mut trials = vec![trial(&NEEDED, Vec::new())?];
    for name in NEEDED {
        trials.push(trial(&[name], Vec::new())?);
    }
    for environment in ["staging", "production"] {
        trials.push(trial(&NEEDED_ELSEWHERE, vec![("KEYHOLDER_ENVIRONMENT".to_owned(), environment.to_owned())])?);
    }
    Ok(trials)
}

/// Puts a value at a dotted name.
fn put(table: &mut toml::Table, name: &str, value: toml::Value) {
    let Some((first, rest)) = name.split_once('.') else {
        table.insert(name.to_owned(), value);
        return;
    };
    let inner = table.entry(first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let Some(inner) = inner.as_table_mut() {
        put(inner, rest, value);
    }
}

/// Takes a dotted name away.
fn take(table: &mut toml::Table, name: &str) {
    match name.split_once('.') {
        None => drop(table.remove(name)),
        Some((first, rest)) => {
            if let Some(inner) = table.get_mut(first).and_then(toml::Value::as_table_mut) {
                take(inner, rest);
            }
        }
    }
}

/// Starts a server that should come to its end by itself.
async fn start(ground: &Ground, trial: &Trial) -> Result<Ended, Failure> {
    let file = ground.folder("start")?.join("keyholder.toml");
    fs::write(&file, &trial.file)?;
    let variables: Vec<_> = trial.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    ground.try_serving(&file, &variables).await
}

/// It did not start, and said all the names.
fn refused(trial: &Trial, ended: &Ended, evidence: &mut Evidence) -> Result<(), Failure> {
    let (what, exit) = (&trial.what, ended.status.code());
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let shown: String = said.chars().take(600).collect();
    if ended.status.success() || said.contains(SERVING) {
        return Err(Failure::broken(format!("with {what} a server went on"), json!({ "exit": exit, "said": shown })));
    }
    let untold: Vec<&String> = trial.names.iter().filter(|name| !said.contains(name.as_str())).collect();
    if !untold.is_empty() || !exit.is_some_and(|code| FAULTS.contains(&code)) {
        let obtained = json!({ "untold": untold, "exit": exit, "said": shown });
        return Err(Failure::broken(format!("{what}: {} names were not told", untold.len()), obtained));
    }
    for name in &trial.names {
        let name = name.trim_matches([':', ' ']);
        evidence.tried("bad-settings", format!("{what}: {name} is told, exit {exit:?}"), name, &said);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_name_is_put_and_taken_where_it_stands() {
        let mut file: toml::Table = toml::from_str("a = 1\n[b]\nc = 2\n").unwrap();
        put(&mut file, "b.d.e", toml::Value::Integer(3));
        take(&mut file, "b.c");
        take(&mut file, "a");
        assert_eq!(file, toml::from_str("[b.d]\ne = 3\n").unwrap());
    }
}
