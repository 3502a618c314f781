//! Blueprints as an operator meets them: run on one machine, shown, and checked by the binary itself.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use keyholder::{
    caller::Caller,
    config::{Preset, named_blueprint},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use crate::{
    harness::{TestApp, ok, text, variable},
    serve::{Serving, said},
};

fn keyholder(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyholder")).args(arguments).output().unwrap()
}

/// The one line of an answer to a program.
fn line(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_installation_is_the_system_of_its_blueprint() {
    let state = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyholder"));
    command.args(["up", "--json", "--blueprint", "engineering-playbook", "--state"]).arg(state.path().join("state"));
    if let Some(postgres) = variable("KEYHOLDER_POSTGRES_BIN") {
        command.args(["--postgres", &postgres]);
    }
    let mut up = Serving(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let stdout = up.0.stdout.take().unwrap();
    let ready =
        tokio::task::spawn_blocking(move || BufReader::new(stdout).lines().next().unwrap().unwrap()).await.unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let url: Url = text(&ready, "/url").parse().unwrap();
    let caller = Caller::new(&url, None).with_key(text(&ready, "/api_key"));
    let reply = caller.get("/v1/workspace").await.unwrap();
    // Its caller's limit is the one that the blueprint's file says.
    assert_eq!(reply.header("ratelimit-limit"), "3000", "{:?}", reply.headers);
    ok(reply, 200);
    kill_process(Pid::from_child(&up.0), Signal::INT).unwrap();
    assert!(tokio::task::spawn_blocking(move || up.0.wait()).await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_blueprint_says_of_credentials_is_how_they_lie_in_the_database() {
    for (name, is_fernet) in [("social-agent", true), ("social-publisher", false)] {
        let preset = Preset::of(&named_blueprint(name).unwrap()).unwrap();
        let app = TestApp::start_with(|options| preset.apply(options)).await;
        let entrusted = app.entrust(&["post.create"], json!([])).await;
        ok(entrusted.act("post.create", &json!({ "text": "one" }), Some("one")).await, 200);
        let mut owner = app.owner().await;
        let forms: Vec<bool> =
            sqlx::query_scalar("select substring(sealed from 1 for 5) = 'gAAAA'::bytea from keyholder.credentials")
                .fetch_all(&mut owner)
                .await
                .unwrap();
        assert_eq!(forms, [is_fernet; 2], "{name}");
    }
}

#[test]
fn a_name_that_is_none_is_refused_with_those_that_are() {
    let state = TempDir::new().unwrap();
    let refused =
        keyholder(&["up", "--json", "--blueprint", "social-agency", "--state", state.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    let told = text(&line(&refused), "/faults/0").to_owned();
    assert!(told.starts_with("--blueprint: there is no blueprint \"social-agency\""), "{told}");
    assert!(told.contains("social-agent") && told.contains("engineering-playbook"), "{told}");
    let refused = keyholder(&["blueprint", "show", "social-agency"]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
}

#[test]
fn the_shipped_blueprints_are_listed_and_shown_with_their_claims() {
    let listed = line(&keyholder(&["blueprint", "list", "--json"]));
    let blueprints = listed["blueprints"].as_array().unwrap();
    assert_eq!(blueprints.len(), 5);
    for blueprint in blueprints {
        let name = text(blueprint, "/name");
        let shown = line(&keyholder(&["blueprint", "show", name, "--json"]));
        let claims = shown["claims"].as_array().unwrap();
        let ids: usize = claims.iter().map(|claim| claim["ids"].as_array().unwrap().len()).sum();
        assert_eq!(Some(ids as u64), blueprint["claims"].as_u64(), "{name}");
        assert!(claims.iter().all(|claim| ["planned", "attested", "to-prove"].contains(&text(claim, "/standing"))));
    }
    let told = keyholder(&["blueprint", "show", "media-workspace"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("MW-12 MW-39 (planned: lacks passwords, sessions)"));
}

#[test]
fn a_blueprint_of_ones_own_is_checked_whole() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mine.toml");
    let good = "name = \"mine\"\ntitle = \"Mine\"\nprefix = \"SP\"\nsummary = \"Mine.\"\nproviders = [\"x\"]\n[settings]\ncredential_form = \"fernet\"\n";
    fs::write(&file, good).unwrap();
    let file = file.to_str().unwrap();
    let clean = keyholder(&["blueprint", "lint", file, "--json"]);
    assert_eq!((clean.status.code(), line(&clean)), (Some(0), json!({ "files": 1, "faults": [] })));
    fs::write(file, good.replace("\"SP\"", "\"XX\"").replace("credential_form", "listen")).unwrap();
    let refused = keyholder(&["blueprint", "lint", file, "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = line(&refused);
    let faults: Vec<_> = told["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap()).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults[0].starts_with(&format!("{file}:3:1: prefix: there is no claim whose id begins with XX")),
        "{faults:?}"
    );
    assert!(faults[1].starts_with(&format!("{file}:7: listen: is for an installation to say")), "{faults:?}");
}
