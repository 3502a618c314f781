//! `keyholder trust`, by the binary: a key, a statement verified by somebody who trusts no server, a statement published.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use domain::statement::{Envelope, Standing};
use keyholder::program;
use seal::signature::{SigningKey, sign};
use serde_json::{Value, json};
use time::Duration;

use super::{KEY, claim, operator, page, publish, signed, statement, statement_of};
use crate::{
    harness::{TestApp, text},
    publisher::publisher,
    serve::said,
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyholder")).args(arguments).env_clear().output().unwrap()
}

/// The one line on standard output, and the exit code.
fn json_of(arguments: &[&str]) -> (Value, i32) {
    let done = run(&[arguments, &["--json"]].concat());
    (serde_json::from_slice(&done.stdout).unwrap(), done.status.code().unwrap())
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_verifies_a_statement_without_asking_a_server() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (made, code) = json_of(&["trust", "key", "--out", &path("trust.key")]);
    assert_eq!(code, 0, "{made}");
    let public = text(&made, "/public_key").to_owned();
    let file = fs::metadata(path("trust.key")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let key = SigningKey::from_text(&fs::read_to_string(path("trust.key")).unwrap()).unwrap();
    assert_eq!(key.verifying_key().to_string(), public);
    assert_eq!(json_of(&["trust", "key", "--out", &path("trust.key")]).1, 5);

    let good = statement(&app);
    let put = |name: &str, envelope: &Envelope| fs::write(path(name), envelope.to_json()).unwrap();
    put("good.json", &signed(&good, &key));
    let (judged, code) = json_of(&["trust", "verify", &path("good.json"), "--key", &public]);
    assert_eq!(code, 0, "{judged}");
    assert_eq!((&judged["valid"], &judged["sequence"]), (&json!(true), &json!(good.sequence)));
    assert_eq!((text(&judged, "/signed_by"), text(&judged, "/scope")), (public.as_str(), "whole"));
    assert!(judged["kept"].as_u64().unwrap() > 5);
    let other = SigningKey::generate().verifying_key().to_string();
    let either = ["trust", "verify", &path("good.json"), "--key", &other, "--key", &public];
    assert_eq!(json_of(&either).1, 0);
    // What is as well signed, and not what is looked for: of another installation, or as old as what is known.
    let (here, number) = (good.audience.clone().unwrap(), good.sequence);
    for (audience, after, expected) in
        [(here.as_str(), number - 1, 0), ("https://other.example", number - 1, 1), (here.as_str(), number, 1)]
    {
        let (file, after) = (path("good.json"), after.to_string());
        let asked = ["trust", "verify", &file, "--key", &public, "--audience", audience, "--after", &after];
        assert_eq!(json_of(&asked).1, expected, "{audience} {after}");
    }
    let words = run(&["trust", "verify", &path("good.json"), "--key", &public]);
    assert!(String::from_utf8_lossy(&words.stdout).starts_with("The statement counts.\n"), "{}", said(&words));

    // Of another program; expired; signed by another; with a changed byte; nothing at all.
    let program =
        ["trust", "verify", &path("good.json"), "--key", &public, "--program", env!("CARGO_BIN_EXE_keyholder")];
    let (judged, code) = json_of(&program);
    assert_eq!((code, judged["valid"].clone()), (1, json!(false)), "{judged}");
    let late = statement_of(&app, |frame, _| frame.issued_at -= Duration::days(20));
    put("late.json", &signed(&late, &key));
    let (judged, code) = json_of(&["trust", "verify", &path("late.json"), "--key", &public]);
    assert_eq!((code, &judged["faults"]), (1, &json!(["it has expired"])), "{judged}");
    // From the future: beyond what two clocks may differ.
    for (ahead, faults) in [(4, json!([])), (60, json!(["it is from the future, as this machine's clock has it"]))] {
        let early = statement_of(&app, |frame, _| frame.issued_at += Duration::minutes(ahead));
        put("early.json", &signed(&early, &key));
        let (judged, code) = json_of(&["trust", "verify", &path("early.json"), "--key", &public]);
        assert_eq!((code, &judged["faults"]), (i32::from(faults != json!([])), &faults), "{judged}");
    }
    let (judged, code) = json_of(&["trust", "verify", &path("good.json"), "--key", &other]);
    assert_eq!(code, 1);
    // Of what nobody trusted has signed, nothing is repeated.
    assert!(text(&judged, "/error").contains("no given key") && judged.get("sequence").is_none(), "{judged}");
    let mut bytes = good.to_bytes().unwrap();
    bytes[20] ^= 1;
    put("changed.json", &Envelope::new(bytes, signed(&good, &key).signatures().to_vec()).unwrap());
    assert_eq!(json_of(&["trust", "verify", &path("changed.json"), "--key", &public]).1, 1);
    put("foolish.json", &sign(b"{}".to_vec(), std::slice::from_ref(&key)).unwrap());
    assert_eq!(json_of(&["trust", "verify", &path("foolish.json"), "--key", &public]).1, 1);
    // Neither half stands where the other belongs.
    let secret = fs::read_to_string(path("trust.key")).unwrap();
    let refused = run(&["trust", "verify", &path("good.json"), "--key", secret.trim()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("private half"), "{}", said(&refused));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_published_by_a_person_and_not_twice() {
    let app = TestApp::start().await;
    let person = operator(&app).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    private(Path::new(&path("operator.key")), person.key().unwrap());
    let statement = statement(&app);
    fs::write(path("statement.json"), signed(&statement, &KEY).to_json()).unwrap();
    let (file, key, target) = (path("statement.json"), path("operator.key"), app.instance.url().to_string());
    let arguments = ["trust", "publish", &file, "--target", &target, "--operator-key-file", &key];
    let (published, code) = json_of(&arguments);
    assert_eq!((code, &published["sequence"]), (0, &json!(statement.sequence)), "{published}");
    assert_eq!(page(&app.stranger).await["statement"]["sequence"], statement.sequence);
    let (refused, code) = json_of(&arguments);
    assert_eq!(code, 7, "{refused}");
    assert!(text(&refused, "/error").contains("A newer statement was published before"), "{refused}");
    // No key is shown in the clear to another machine, nor read from a file that others may read.
    let elsewhere = ["trust", "publish", &file, "--target", "http://192.0.2.1/", "--operator-key-file", &key];
    assert!(text(&json_of(&elsewhere).0, "/error").contains("over https"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(text(&json_of(&arguments).0, "/error").contains("open to others"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_proves_signs_and_publishes_beside_customers() {
    // The program that is proved is the one that proves; a server that says it is another one is not signed for.
    let app = TestApp::start_with(|options| {
        options.trust.program = || program::sha256_of(Path::new(env!("CARGO_BIN_EXE_keyholder"))).ok();
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let inner = app.instance.app();
    let host = domain::principal::Principal::operator("local", inner.clock.now());
    let workspace = service::workspace::create_for_probes(inner, &host, "Probes").await.unwrap();
    let issued = service::workspace::issue_key(inner, &host, workspace, "probes", service::Role::Admin, None).await;
    private(Path::new(&path("probe.key")), &issued.unwrap().1);
    // The key that the guide says to make: it publishes and does nothing else.
    private(Path::new(&path("operator.key")), publisher(&app, "prover").await.0.key().unwrap());
    private(Path::new(&path("trust.key")), &KEY.to_text());
    let prove = |target: &str| {
        let files = [path("probe.key"), path("operator.key"), path("trust.key"), path("statement.json")];
        let arguments = [
            &["prove", "--json", "--blueprint", "social-agent", "--target", target][..],
            &["--api-key-file", &files[0], "--operator-key-file", &files[1], "--sign", &files[2], "--out", &files[3]],
            &["--publish", "--days", "2"],
        ];
        run(&arguments.concat())
    };
    // The whole run of the release stands behind what is proved every day: there the controls were switched off.
    let whole = statement_of(&app, |frame, _| {
        frame.build.binary_sha256 = program::sha256_of(Path::new(env!("CARGO_BIN_EXE_keyholder"))).unwrap();
        frame.issued_at -= Duration::minutes(1);
    });
    let person = app.stranger.with_key(fs::read_to_string(path("operator.key")).unwrap().trim());
    publish(&person, &whole).await;
    let done = prove(app.instance.url().as_str());
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(words.contains("is published, and counts until"), "{}", said(&done));
    // The report is standard output's one line, whatever was signed beside it.
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(report["claims"].as_array().unwrap().iter().all(|line| line["mode"] == "production-safe"), "{report}");

    let shown = page(&app.stranger).await;
    assert_eq!((text(&shown, "/statement/scope"), text(&shown, "/statement/validity")), ("production-safe", "current"));
    let not_now = report["broken"].as_u64().unwrap() + report["unproven"].as_u64().unwrap();
    assert_eq!(shown["counts"]["kept"], json!(whole.ids(Standing::Kept).len() as u64 - not_now), "{shown}");
    let tried = report["claims"].as_array().unwrap();
    assert!(!tried.is_empty(), "{report}");
    for line in tried {
        let shown = claim(&shown, text(line, "/id"));
        assert_eq!(text(shown, "/state"), text(line, "/state"), "{shown}");
        // The day's own run is shown, and that the probe was seen to fail.
        assert_eq!((text(shown, "/proof/mode"), &shown["proof"]["sabotage_caught"]), ("production-safe", &json!(true)));
    }
    let raw = app.stranger.get("/trust/statement.json").await.unwrap();
    assert_eq!(raw.body, fs::read(path("statement.json")).unwrap());
    let trail = app.stranger.with_key(fs::read_to_string(path("probe.key")).unwrap().trim());
    let trail = trail.get("/v1/audit").await.unwrap().json();
    assert!(trail["data"].as_array().unwrap().iter().all(|entry| entry["probe"] == json!(true)), "{trail}");

    let other = app.second_node_with(|options| options.trust.program = || Some("de".repeat(32))).await;
    let refused = prove(other.url().as_str());
    assert_eq!(refused.status.code(), Some(7), "{}", said(&refused));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("runs another program"), "{}", said(&refused));
    other.stop().await;
    app.stop().await;
}
