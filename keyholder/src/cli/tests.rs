//! The command line's face: help, exit codes, and what is said in which form.

use std::{collections::BTreeMap, fs, path::PathBuf};

use clap::{CommandFactory, Parser};
use serde_json::json;

use super::{
    args::{Cli, Command},
    doctor, provider, reference,
};
use crate::config::{Config, Sources};

/// Every command that is for persons with its help, by its path.
fn helps(command: &mut clap::Command, path: &str, found: &mut Vec<(String, String)>) {
    found.push((path.to_owned(), command.render_long_help().to_string()));
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name()).trim().to_owned();
        helps(sub, &path, found);
    }
}

#[test]
fn every_command_has_an_example_and_the_whole_has_the_exit_codes() {
    let mut command = Cli::command();
    command.build();
    let mut found = Vec::new();
    helps(&mut command, "", &mut found);
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    let wanted = [
        "",
        "demo",
        "up",
        "prove",
        "serve",
        "migrate",
        "doctor",
        "root-key",
        "root-key generate",
        "keyring",
        "keyring new-epoch",
        "keyring list",
        "keyring activate",
        "keyring destroy",
        "keyring rotate",
        "workspace",
        "workspace create",
        "workspace shred",
        "api-key",
        "api-key create",
        "operator",
        "operator create",
        "operator list",
        "operator revoke",
        "operator super-admin",
        "operator super-admin grant",
        "operator super-admin revoke",
        "trust",
        "trust key",
        "trust verify",
        "trust publish",
        "provider",
        "provider lint",
        "provider list",
        "provider migrate",
        "blueprint",
        "blueprint list",
        "blueprint show",
        "blueprint lint",
        "permissions",
        "permissions test",
        "permissions why",
        "import",
        "import fernet",
        "ledger",
        "ledger raise-epochs",
        "routes",
        "settings",
        "completions",
        "man",
    ];
    assert_eq!(paths, wanted);
    for (path, help) in &found {
        let promise = if path.is_empty() { "Exit codes:" } else { "Example:\n  " };
        assert!(help.contains(promise), "{path}\n{help}");
        assert!(help.contains("--json"), "{path}\n{help}");
    }
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_its_page_of_the_manual_with_its_example() {
    let mut command = Cli::command();
    command.build();
    let mut found = Vec::new();
    helps(&mut command, "", &mut found);
    let pages: BTreeMap<_, _> = reference::pages().unwrap().into_iter().collect();
    assert_eq!(pages.len(), found.len(), "{:?}", pages.keys());
    for (path, _) in found {
        let name = format!("keyholder {path}").trim().replace(' ', "-");
        let page = pages.get(&format!("{name}.1")).unwrap_or_else(|| panic!("{name} has no page"));
        let page = String::from_utf8(page.clone()).unwrap();
        assert!(page.contains(&format!(".TH {} 1", name.to_uppercase())), "{name}\n{page}");
        let promise = if path.is_empty() { "Exit codes:" } else { "Example:" };
        assert!(page.contains(promise) && page.contains(".SH DESCRIPTION"), "{name}\n{page}");
    }
}

#[test]
fn flags_that_are_settings_go_to_the_configuration() {
    let given = [
        "keyholder",
        "serve",
        "--json",
        "--listen",
        "127.0.0.1:1",
        "--encryption-key-file",
        "k",
        "--log-filter",
        "info",
    ];
    let cli = Cli::parse_from(given);
    assert!(cli.json);
    let Command::Serve(args) = cli.command else { panic!("another command") };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let flags = args.flags();
    assert_eq!(flags, [pair("listen", "127.0.0.1:1"), pair("encryption_key_file", "k"), pair("log.filter", "info")]);
    let sources = Sources { flags, ..Sources::default() };
    let faults = Config::for_serving(&sources).err().unwrap().to_string();
    assert!(faults.contains("--encryption-key-file: k cannot be read"), "{faults}");
    assert!(!faults.contains("is not a setting"), "{faults}");
}

#[test]
fn every_flag_is_a_setting() {
    let mut command = Cli::command();
    let serve = command.find_subcommand_mut("serve").unwrap();
    let flags: Vec<_> =
        serve.get_arguments().filter_map(|arg| arg.get_long()).filter(|long| *long != "config").collect();
    assert!(flags.len() > 10);
    for flag in flags {
        let Ok(cli) = Cli::try_parse_from(["keyholder", "serve", &format!("--{flag}"), "value"]) else {
            panic!("{flag}")
        };
        let Command::Serve(args) = cli.command else { panic!("{flag}") };
        let faults = Config::for_serving(&Sources { flags: args.flags(), ..Sources::default() }).err().unwrap();
        assert!(!faults.to_string().contains("is not a setting"), "{flag}\n{faults}");
    }
}

#[test]
fn the_linter_names_file_line_and_column_of_every_fault_of_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let one = put("one.toml", "name = \"Acme\"\ntitel = \"Acme\"\n");
    let two = put("two.toml", "name = \n");
    let absent = folder.path().join("absent.toml");
    let told: Vec<String> =
        provider::faults(&[one.clone(), two.clone(), absent.clone()]).iter().map(ToString::to_string).collect();
    for (path, wanted) in [(&one, ":1:"), (&one, ":2:1: titel"), (&two, ":1:"), (&absent, ":1:1: ")] {
        let start = format!("{}{wanted}", path.display());
        assert!(told.iter().any(|line| line.starts_with(&start)), "{start}\n{told:#?}");
    }
    let shipped = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../providers/x.toml"));
    assert_eq!(provider::faults(&[shipped]), []);
}

#[test]
fn the_doctor_says_each_fault_with_its_remedy() {
    let faults = Config::for_serving(&Sources::default()).err().unwrap();
    let checks = doctor::of_faults(&faults);
    assert_eq!(checks.len(), faults.iter().count() + 1, "and that the rest was not checked");
    assert!(checks.iter().all(|check| !check.ok && check.remedy.is_some()));
    let words = doctor::in_words(&checks, checks.len());
    assert!(words.starts_with("FAULT configuration: environment: is not set"), "{words}");
    assert!(words.contains("FAULT root key: encryption_key: there is no root key"), "{words}");
    let value = serde_json::to_value(&checks[0]).unwrap();
    assert_eq!((&value["name"], &value["ok"]), (&json!("configuration"), &json!(false)));
}
