//! What sslyze finds at the TLS listener. It is no part of the project: `tests/sslyze` pins it, and without Python or the package index
//! the scan is not run, which is said.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{over_tls, port};
use crate::harness::{TestApp, variable};

/// A virtual environment with sslyze, made once in the folder that outlives a run. `Err`: why there is none.
fn sslyze() -> Result<PathBuf, String> {
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sslyze");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sslyze");
    let (python, ready) = (place.join("bin/python"), place.join("ready"));
    let wanted = std::fs::read_to_string(lists.join("requirements.txt")).unwrap();
    if std::fs::read_to_string(&ready).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    let run = |program: &Path, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{arguments:?}: {said}")) }
    };
    let at = |name: &str| lists.join(name).to_str().unwrap().to_owned();
    run(Path::new("python3"), &["-m", "venv", "--clear", place.to_str().unwrap()])?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"];
    run(&python, &[&pip[..], &["-r", &at("build.txt")]].concat())?;
    run(&python, &[&pip[..], &["--no-build-isolation", "-r", &at("requirements.txt")]].concat())?;
    std::fs::write(&ready, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// What a scan's command found; it must have been done.
#[track_caller]
fn result<'a>(scan: &'a Value, command: &str) -> &'a Value {
    assert_eq!(scan[command]["status"], "COMPLETED", "{command}: {}", scan[command]);
    &scan[command]["result"]
}

#[tokio::test(flavor = "multi_thread")]
async fn sslyze_finds_no_weak_protocol_and_no_weak_cipher() {
    let python = match tokio::task::spawn_blocking(sslyze).await.unwrap() {
        Ok(python) => python,
        Err(why) => {
            assert_ne!(variable("CI").as_deref(), Some("true"), "sslyze is not there: {why}");
            eprintln!("not run: the scan by sslyze, which is not there: {why}");
            return;
        }
    };
    let app = TestApp::start().await;
    let (node, pair, _) = over_tls(&app, |_| {}).await;
    let (target, found) = (format!("localhost:{}", port(&node)), pair.path("found.json"));
    let found_text = found.to_str().unwrap().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let arguments = ["-m", "sslyze", "--mozilla_config=disable", "--json_out", &found_text, &target];
        let scans =
            ["sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "compression", "early_data", "heartbleed"];
        let more = ["openssl_ccs", "reneg", "ems", "robot", "resum", "elliptic_curves", "fallback"];
        let scans = scans.iter().chain(&more).map(|scan| format!("--{scan}"));
        Command::new(python).args(arguments).args(scans).stdin(Stdio::null()).output().unwrap()
    })
    .await
    .unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(&found).unwrap_or_default()).unwrap_or_default();
    let server = &report["server_scan_results"][0];
    assert_eq!(server["scan_status"], "COMPLETED", "{}", String::from_utf8_lossy(&output.stdout));
    let scan = &server["scan_result"];

    for old in ["ssl_2_0_cipher_suites", "ssl_3_0_cipher_suites", "tls_1_0_cipher_suites", "tls_1_1_cipher_suites"] {
        let suites = result(scan, old);
        assert_eq!(suites["is_tls_version_supported"], false, "{old}");
    }
    let mut accepted = Vec::new();
    for version in ["tls_1_2_cipher_suites", "tls_1_3_cipher_suites"] {
        let suites = result(scan, version)["accepted_cipher_suites"].as_array().unwrap();
        assert!(!suites.is_empty(), "{version}");
        for suite in suites {
            let name = suite["cipher_suite"]["name"].as_str().unwrap().to_owned();
            // An ephemeral exchange and an authenticated cipher: RFC 9325 §4.2.
            let strong = name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_");
            let ephemeral = version == "tls_1_3_cipher_suites" || name.starts_with("TLS_ECDHE_");
            assert!(strong && ephemeral, "a weak cipher: {name}");
            assert!(suite["cipher_suite"]["key_size"].as_u64().is_some_and(|bits| bits >= 128), "{name}");
            accepted.push(name);
        }
    }
    let nothing = [
        ("tls_compression", "supports_compression"),
        ("tls_1_3_early_data", "supports_early_data"),
        ("heartbleed", "is_vulnerable_to_heartbleed"),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos"),
    ];
    for (command, finding) in nothing {
        assert_eq!(result(scan, command)[finding], false, "{command}: {}", scan[command]);
    }
    assert_eq!(result(scan, "session_renegotiation")["supports_secure_renegotiation"], true);
    assert_eq!(result(scan, "tls_extended_master_secret")["supports_ems_extension"], true);
    let robot = result(scan, "robot")["robot_result"].as_str().unwrap();
    assert!(robot.starts_with("NOT_VULNERABLE"), "{robot}");
    eprintln!("sslyze: TLS 1.2 and 1.3, {} ciphers: {}", accepted.len(), accepted.join(", "));
    node.stop().await;
    app.stop().await;
}
