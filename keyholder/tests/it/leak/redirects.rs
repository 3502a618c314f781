//! Redirects: wherever a platform sends Keyholder, it does not go, and nobody is told where that was.

use std::{io::Write as _, net::Ipv4Addr, path::Path};

use sandbox::{INSIDE, Quirk, Route, Scope};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    harness::{TestApp, ok, variable},
    leak::wire,
};

/// Addresses that others have collected, of the test material beside the project.
fn collected() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/ssrf/payloads_given.txt");
    match std::fs::read_to_string(&file) {
        // What no header can hold cannot be redirected to.
        Ok(text) => {
            let fits =
                |line: &&str| !line.is_empty() && line.len() <= 2048 && line.bytes().all(|it| (32..127).contains(&it));
            text.lines().filter(fits).map(str::to_owned).collect()
        }
        Err(error) => {
            assert!(variable("CI").is_none_or(|value| value != "true"), "{}: {error}", file.display());
            let mut out = std::io::stderr();
            writeln!(out, "not run: redirects to the collected addresses ({} is not there)", file.display()).unwrap();
            Vec::new()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_followed_to_no_address_and_told_to_nobody() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let platform = app.sandbox.platform();
    let canary = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = canary.local_addr().unwrap().port();
    let own = ["http://127.0.0.1", "https://127.0.0.1", "http://localhost", "http://[::ffff:127.0.0.1]", "//127.0.0.1"];
    let mut locations: Vec<String> = own.iter().map(|host| format!("{host}:{port}/secret-place")).collect();
    locations.extend(INSIDE.iter().map(|it| (*it).to_owned()));
    locations.extend(collected());
    for location in &locations {
        let before = platform.requests().len();
        platform.switch(Quirk::Redirect { location: location.clone() }, Scope::once(Route::Api)).unwrap();
        let reply = entrusted.act("profile.read", &json!({}), None).await;
        assert_eq!(ok(reply.clone(), 200)["status"], 307, "{location}");
        platform.switch(Quirk::Redirect { location: location.clone() }, Scope::once(Route::Api)).unwrap();
        let proxied = entrusted.proxy(http::Method::GET, "/2/users/me", None, None).await;
        assert_eq!((proxied.status.as_u16(), proxied.header("location")), (307, ""), "{location}");
        for reply in [reply, proxied] {
            let told = String::from_utf8_lossy(&wire(&reply)).into_owned();
            assert!(location.len() < 12 || !told.contains(location.as_str()), "{location}: {told}");
        }
        assert_eq!(
            platform.requests().len(),
            (before + 2).min(4096),
            "{location}: the platform was asked once each time"
        );
    }
    tokio::select! {
        biased;
        followed = canary.accept() => panic!("somebody followed a redirect: {followed:?}"),
        () = std::future::ready(()) => {}
    }
    app.stop().await;
}
