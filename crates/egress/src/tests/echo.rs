//! What an answer can say beside its head and its body: of all that, nothing is passed on.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{clock::Clock, environment::Environment};
use http::Method;
use seal::Plain;

use super::peer::{Peer, Script};
use crate::{Auth, Egress, HostSet, OutboundCall, Policy, SendError};

const TOKEN: &str = "Zq3-vT8_kQ.9x~W/1+b==";

/// An answer as it is on the wire, with `TOKEN` written where the places are, and whether a body comes of it.
fn answers() -> Vec<(&'static str, String, bool)> {
    let told = STANDARD.encode(TOKEN);
    vec![
        ("the reason phrase", format!("HTTP/1.1 200 {TOKEN}\r\ncontent-length: 2\r\n\r\n{{}}"), true),
        (
            "an interim answer",
            format!(
                "HTTP/1.1 103 Early Hints\r\nlink: <https://x.example/{TOKEN}>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{{}}"
            ),
            true,
        ),
        (
            "a chunk's extension",
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;echo=\"{told}\"\r\n{{}}\r\n0\r\n\r\n"),
            true,
        ),
        (
            "a trailer",
            format!(
                "HTTP/1.1 200 OK\r\ntrailer: x-echo, etag\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nx-echo: {TOKEN}\r\netag: {TOKEN}\r\n\r\n"
            ),
            true,
        ),
        (
            "a header's name",
            format!("HTTP/1.1 200 OK\r\nratelimit-{}: 1\r\ncontent-length: 2\r\n\r\n{{}}", hex::encode(TOKEN)),
            true,
        ),
        ("deflate", coded("deflate"), false),
        ("br", coded("br"), false),
        ("zstd", coded("zstd"), false),
        ("a coding that nobody knows", coded(TOKEN.trim_end_matches('=')), false),
        (
            "two heads' codings",
            format!(
                "HTTP/1.1 500 Oops\r\ncontent-encoding: identity\r\ncontent-encoding: br\r\ncontent-length: {}\r\n\r\n{TOKEN}",
                TOKEN.len()
            ),
            false,
        ),
    ]
}

fn coded(name: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-encoding: {name}\r\ncontent-length: {}\r\n\r\n{TOKEN}", TOKEN.len())
}

async fn send(peer: &Peer) -> Result<crate::RawAnswer, SendError> {
    let hosts = HostSet::parse(["api.example"]).unwrap();
    let policy = Policy::new(hosts.clone());
    let egress = Egress::new(policy, Environment::Local, Clock::system(), Some(peer.route.clone())).unwrap();
    let call = OutboundCall {
        method: Method::GET,
        host: "api.example".to_owned(),
        path_and_query: "/".to_owned(),
        headers: Vec::new(),
        body: None,
        timeout: Duration::from_secs(20),
        max_response_bytes: 1000,
        send_by: None,
        account: None,
        also_secret: Vec::new(),
    };
    egress.send(call, Auth::Bearer(Plain::new(TOKEN.as_bytes().to_vec())), &hosts).await
}

#[tokio::test]
async fn what_stands_beside_head_and_body_is_not_passed_on() {
    for (name, wire, is_read) in answers() {
        let peer = Peer::start(Script::Answer(wire.clone().into_bytes())).await;
        let sent = send(&peer).await;
        assert_eq!(peer.count().1, 1, "{name}");
        match sent {
            Ok(raw) => {
                let clean = raw.scrub();
                assert!(is_read, "{name}");
                assert_eq!((clean.status().as_u16(), &clean.body()[..]), (200, &b"{}"[..]), "{name}");
                assert!(clean.headers().is_empty(), "{name}: {:?}", clean.headers());
            }
            Err(error) => {
                // What was an echo is in no word of the error, nor of its causes.
                let said = format!("{error} {error:?}");
                assert!(!is_read && matches!(error, SendError::Encoded { .. }), "{name}: {said}");
                assert!(!said.contains(TOKEN.trim_end_matches('=')), "{name}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn no_error_of_a_broken_answer_quotes_it() {
    let broken = [
        format!("{TOKEN}\r\n\r\n"),
        format!("HTTP/1.1 {TOKEN} OK\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {TOKEN}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{TOKEN}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{TOKEN}"),
    ];
    for wire in broken {
        let peer = Peer::start(Script::AnswerOnce(wire.clone().into_bytes())).await;
        let error = send(&peer).await.err().unwrap_or_else(|| panic!("{wire}"));
        let mut said = format!("{error:?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            said = format!("{said} {error} {error:?}");
            cause = error.source();
        }
        assert!(!said.contains(TOKEN) && !said.contains(&TOKEN[..8]), "{said}");
    }
}
