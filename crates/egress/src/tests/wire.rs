//! What goes over the wire, what comes back, and what each failure is called.

#![expect(clippy::disallowed_methods, reason = "a test's calls run on the test's own runtime")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{clock::Clock, environment::Environment, id::ConnectionId};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use seal::Plain;
use time::OffsetDateTime;

use super::peer::{Peer, Script, authority};
use crate::{
    Auth, Egress, EgressError, Fault, HostSet, OutboundCall, Phases, Policy, RawAnswer, Resolver, SandboxRoute,
    SendError, Stage,
};

const TOKEN: &str = "Zq3-vT8_kQ.9x~W/1+b==";

fn policy() -> Policy {
    Policy::new(HostSet::parse(["api.example", "other.example"]).unwrap())
}

fn sealed() -> HostSet {
    HostSet::parse(["api.example", "elsewhere.example"]).unwrap()
}

fn egress(route: &SandboxRoute) -> Egress {
    Egress::new(policy(), Environment::Local, Clock::system(), Some(route.clone())).unwrap()
}

fn call(host: &str) -> OutboundCall {
    OutboundCall {
        method: Method::POST,
        host: host.to_owned(),
        path_and_query: "/2/tweets?a=b".to_owned(),
        headers: vec![(HeaderName::from_static("content-type"), HeaderValue::from_static("application/json"))],
        body: Some(Bytes::from_static(b"{}")),
        timeout: Duration::from_secs(20),
        max_response_bytes: 1000,
        send_by: None,
        account: None,
        also_secret: Vec::new(),
    }
}

fn bearer() -> Auth {
    Auth::Bearer(Plain::new(TOKEN.as_bytes().to_vec()))
}

async fn send(egress: &Egress, call: OutboundCall) -> Result<RawAnswer, SendError> {
    egress.send(call, bearer(), &sealed()).await
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[tokio::test]
async fn a_call_says_what_it_must_and_nothing_more() {
    let peer = Peer::start(Script::Answer(answer("201 Created", b"{\"ok\":true}"))).await;
    let egress = egress(&peer.route);
    let raw = send(&egress, call("API.example")).await.unwrap();
    assert_eq!((raw.status, &raw.body[..]), (StatusCode::CREATED, &b"{\"ok\":true}"[..]));

    let mut get = call("api.example");
    get.method = Method::GET;
    get.body = None;
    let basic = Auth::BasicClient { id: "the:app".to_owned(), secret: Plain::new(b"s/ c".to_vec()) };
    egress.send(get, basic, &sealed()).await.unwrap();

    let requests = peer.requests.lock().unwrap();
    let mut lines: Vec<_> = requests[0].split("\r\n").map(str::to_owned).collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "POST /2/tweets?a=b HTTP/1.1",
            "",
            "accept-encoding: identity",
            &format!("authorization: Bearer {TOKEN}"),
            "content-length: 2",
            "content-type: application/json",
            "host: api.example",
            concat!("user-agent: Keyholder/", env!("CARGO_PKG_VERSION")),
            "{}"
        ]
    );
    // RFC 6749 §2.3.1: both halves are form-encoded first, so that neither can hold the colon.
    assert!(requests[1].contains("authorization: Basic dGhlJTNBYXBwOnMlMkYrYw==\r\n"), "{}", requests[1]);
    assert!(!requests[1].contains("content-length"));
}

#[tokio::test]
async fn a_host_must_be_declared_and_sealed() {
    let peer = Peer::start(Script::Answer(answer("200 OK", b""))).await;
    let egress = egress(&peer.route);
    for host in
        ["other.example", "elsewhere.example", "evil.example", "127.0.0.1", "", "api.example.", "api.example:443"]
    {
        assert!(matches!(send(&egress, call(host)).await, Err(SendError::HostRefused)), "{host}");
    }
    assert_eq!(peer.count(), (0, 0));
    assert!(send(&egress, call("api.example")).await.is_ok());
    assert_eq!(peer.count(), (1, 1));
}

#[tokio::test]
async fn a_malformed_call_is_not_sent() {
    let peer = Peer::start(Script::Answer(answer("200 OK", b""))).await;
    let egress = egress(&peer.route);
    for method in [Method::CONNECT, Method::TRACE, Method::OPTIONS] {
        let call = OutboundCall { method, ..call("api.example") };
        assert!(matches!(send(&egress, call).await, Err(SendError::Malformed(_))));
    }
    for path in ["", "*", "a", "https://evil.example/", "//evil.example/\r\nx: y", "/a b", "/\n"] {
        let call = OutboundCall { path_and_query: path.to_owned(), ..call("api.example") };
        assert!(matches!(send(&egress, call).await, Err(SendError::Malformed(_))), "{path}");
    }
    for name in
        ["authorization", "cookie", "host", "transfer-encoding", "content-length", "accept-encoding", "connection"]
    {
        let headers = vec![(HeaderName::from_static(name), HeaderValue::from_static("1"))];
        let call = OutboundCall { headers, ..call("api.example") };
        assert!(matches!(send(&egress, call).await, Err(SendError::Malformed(_))), "{name}");
    }
    let split = Auth::Bearer(Plain::new(b"a\r\nx: y".to_vec()));
    assert!(matches!(egress.send(call("api.example"), split, &sealed()).await, Err(SendError::Malformed(_))));
    assert_eq!(peer.count(), (0, 0));
}

#[tokio::test]
async fn the_peer_must_prove_its_name() {
    let (other_ca, _) = authority(&["api.example"]);
    let (ca, config) = authority(&["api.example"]);
    let peer = Peer::start_as(Script::Answer(answer("200 OK", b"")), ca, config).await;
    assert!(send(&egress(&peer.route), call("api.example")).await.is_ok(), "the right one is believed");
    let wrong_ca = SandboxRoute { ca_der: other_ca, ..peer.route.clone() };
    let (ca, config) = authority(&["wrong.example"]);
    let wrong_name = Peer::start_as(Script::Answer(answer("200 OK", b"")), ca, config).await;
    for route in [&wrong_ca, &wrong_name.route] {
        let refused = send(&egress(route), call("api.example")).await.err();
        assert!(matches!(refused, Some(SendError::NotSent { stage: Stage::Tls, .. })), "{refused:?}");
    }
    assert_eq!((peer.count().1, wrong_name.count().1), (1, 0));
}

#[tokio::test]
async fn plain_http_is_never_spoken() {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = SandboxRoute { addr: listener.local_addr().unwrap(), ca_der: authority(&["api.example"]).0 };
    let first = tokio::spawn(async move { listener.accept().await.unwrap().0.read_u8().await.unwrap() });
    let refused = send(&egress(&route), call("api.example")).await.err();
    assert!(matches!(refused, Some(SendError::NotSent { stage: Stage::Tls, .. })), "{refused:?}");
    assert_eq!(first.await.unwrap(), 22, "the first byte is that of a TLS handshake record");
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let peer = Peer::start(Script::Answer(answer("302 Found\r\nlocation: https://other.example/", b""))).await;
    let clean = send(&egress(&peer.route), call("api.example")).await.unwrap().scrub();
    assert_eq!(clean.status(), StatusCode::FOUND);
    assert_eq!(clean.headers().get("location"), None);
    assert_eq!(peer.count(), (1, 1));
}

#[tokio::test]
async fn a_sandbox_is_reached_in_the_environment_local_on_this_machine_only() {
    let peer = Peer::start(Script::Answer(answer("200 OK", b""))).await;
    for environment in [Environment::Staging, Environment::Production] {
        let refused = Egress::new(policy(), environment, Clock::system(), Some(peer.route.clone())).err();
        assert!(matches!(refused, Some(EgressError::SandboxOutsideLocal(_))));
    }
    for addr in ["10.0.0.1:443", "8.8.8.8:443", "[2606:4700::1111]:443", "0.0.0.0:443"] {
        let route = SandboxRoute { addr: addr.parse().unwrap(), ..peer.route.clone() };
        let refused = Egress::new(policy(), Environment::Local, Clock::system(), Some(route)).err();
        assert!(matches!(refused, Some(EgressError::SandboxElsewhere)));
    }
    let route = SandboxRoute { ca_der: vec![1], ..peer.route.clone() };
    let refused = Egress::new(policy(), Environment::Local, Clock::system(), Some(route)).err();
    assert!(matches!(refused, Some(EgressError::Tls(_))));
    assert!(Egress::new(policy(), Environment::Production, Clock::system(), None).is_ok());
}

/// The failures, before and after the first byte: name, script, timeout, whether surely unsent, status, requests seen.
#[tokio::test]
async fn what_was_surely_not_sent_is_told_from_what_may_have_been() {
    let cut = b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\n{\"id\"".to_vec();
    let stalled = Script::Answer(cut.clone());
    let garbage = Script::AnswerOnce(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec());
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(500));
    let created = Some(StatusCode::CREATED);
    for (name, script, millis, unsent, status, requests) in [
        ("closed before TLS", Script::CloseBeforeTls, 20_000, true, None, 0),
        ("stalled before TLS", Script::StallBeforeTls, 300, true, None, 0),
        ("closed after the request", Script::Close, 20_000, false, None, 1),
        ("silent after the request", Script::Silence, 300, false, None, 1),
        ("no HTTP", garbage, 20_000, false, None, 1),
        ("too many headers", Script::AnswerOnce(many.into_bytes()), 20_000, false, None, 1),
        ("cut in the body", Script::AnswerOnce(cut), 20_000, false, created, 1),
        ("stalled in the body", stalled, 300, false, created, 1),
    ] {
        let peer = Peer::start(script).await;
        let call = OutboundCall { timeout: Duration::from_millis(millis), ..call("api.example") };
        let error = send(&egress(&peer.route), call).await.err().unwrap();
        assert_eq!((error.is_surely_unsent(), error.status()), (unsent, status), "{name}: {error:?}");
        assert_eq!(peer.count(), (1, requests), "{name}");
        assert!(!format!("{error:?} {error}").contains(&TOKEN[..8]), "{name}");
    }
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = SandboxRoute { addr: gone.local_addr().unwrap(), ca_der: authority(&["api.example"]).0 };
    drop(gone);
    let error = send(&egress(&route), call("api.example")).await.err();
    assert!(matches!(error, Some(SendError::NotSent { stage: Stage::Connect, .. })), "{error:?}");
}

#[tokio::test]
async fn a_body_is_read_to_its_limit_and_only_as_text() {
    let chunked = |size: usize| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(size))
    };
    let encoded = |header: &str| answer(&format!("200 OK\r\n{header}"), b"text");
    for (name, bytes, expected) in [
        ("at the limit", answer("200 OK", &[b'a'; 1000]), "read"),
        ("over the limit", answer("200 OK", &[b'a'; 1001]), "too large"),
        ("chunked, at the limit", chunked(1000).into_bytes(), "read"),
        ("chunked, over the limit", chunked(1001).into_bytes(), "too large"),
        ("identity", encoded("content-encoding: identity"), "read"),
        ("gzip", encoded("content-encoding: gzip"), "encoded"),
        ("two codings", encoded("content-encoding: identity, br"), "encoded"),
        ("two headers", encoded("content-encoding: identity\r\ncontent-encoding: zstd"), "encoded"),
        ("gzip, not said", answer("200 OK", &[0x1f, 0x8b, 8, 1, 1, 1, 1, 1]), "encoded"),
        ("UTF-16", answer("200 OK", b"t\0o\0k\0e\0n\0"), "encoded"),
        (
            "gzip as a transfer coding",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n4\r\ntext\r\n0\r\n\r\n".to_vec(),
            "encoded",
        ),
    ] {
        let peer = Peer::start(Script::Answer(bytes)).await;
        let outcome = match send(&egress(&peer.route), call("api.example")).await {
            Ok(_) => "read",
            Err(SendError::TooLarge { status: StatusCode::OK }) => "too large",
            Err(SendError::Encoded { status: StatusCode::OK }) => "encoded",
            Err(error) => panic!("{name}: {error:?}"),
        };
        assert_eq!(outcome, expected, "{name}");
    }
}

#[tokio::test]
async fn a_late_call_is_not_sent_even_when_its_connection_takes_until_then() {
    let peer = Peer::start(Script::AnswerWhenTold(answer("200 OK", b""))).await;
    let clock = Clock::set(OffsetDateTime::UNIX_EPOCH);
    let egress = Arc::new(Egress::new(policy(), Environment::Local, clock.clone(), Some(peer.route.clone())).unwrap());
    let due = |at| OutboundCall { send_by: Some(Duration::from_secs(at)), ..call("api.example") };

    let under_way = tokio::spawn({
        let egress = Arc::clone(&egress);
        async move { send(&egress, due(5)).await }
    });
    peer.accepted.notified().await;
    clock.advance(Duration::from_secs(6));
    peer.go.notify_one();
    assert!(matches!(under_way.await.unwrap(), Err(SendError::DeadlinePassed)));
    assert_eq!(peer.count(), (1, 0), "the connection came about, the request did not leave");

    assert!(matches!(send(&egress, due(5)).await, Err(SendError::DeadlinePassed)));
    assert_eq!(peer.count(), (1, 0), "a call that is late already opens no connection");

    peer.go.notify_one();
    assert!(send(&egress, due(6)).await.is_ok(), "the last moment is in time");
    assert!(
        matches!(send(&egress, due(5)).await, Err(SendError::DeadlinePassed)),
        "a rested connection makes no difference"
    );
    assert_eq!(peer.count(), (2, 1));
}

#[tokio::test]
async fn connections_rest_between_calls_and_are_left_before_they_go_stale() {
    let clock = Clock::set(OffsetDateTime::UNIX_EPOCH);
    let peer = Peer::start(Script::Answer(answer("200 OK", b"{}"))).await;
    let egress = Egress::new(policy(), Environment::Local, clock.clone(), Some(peer.route.clone())).unwrap();
    for _ in 0..3 {
        send(&egress, call("api.example")).await.unwrap();
    }
    assert_eq!(peer.count(), (1, 3));
    clock.advance(Duration::from_secs(21));
    send(&egress, call("api.example")).await.unwrap();
    assert_eq!(peer.count(), (2, 4));

    let peer = Peer::start(Script::AnswerOnce(answer("200 OK", b"{}"))).await;
    let egress = Egress::new(policy(), Environment::Local, clock, Some(peer.route.clone())).unwrap();
    send(&egress, call("api.example")).await.unwrap();
    peer.closed.notified().await;
    send(&egress, call("api.example")).await.unwrap();
    assert_eq!(peer.count(), (2, 2), "a connection that the peer has closed costs no call");
}

#[tokio::test]
async fn calls_beyond_the_limit_wait_for_their_turn_within_their_time() {
    let peer = Peer::start(Script::Silence).await;
    let policy = Policy { max_in_flight_per_host: 1, ..policy() };
    let egress = Arc::new(Egress::new(policy, Environment::Local, Clock::system(), Some(peer.route.clone())).unwrap());
    let first = tokio::spawn({
        let egress = Arc::clone(&egress);
        async move { send(&egress, call("api.example")).await }
    });
    peer.accepted.notified().await;
    let hasty = OutboundCall { timeout: Duration::from_millis(50), ..call("api.example") };
    let error = send(&egress, hasty).await.err();
    assert!(matches!(error, Some(SendError::NotSent { stage: Stage::Turn, .. })), "{error:?}");
    first.abort();
    assert_eq!(peer.count().0, 1);
}

/// One account's calls that are never answered take its own turns, and no more of the host's.
#[tokio::test]
async fn an_account_whose_calls_hang_leaves_turns_for_the_others() {
    let peer = Peer::start(Script::Silence).await;
    let policy = Policy { max_in_flight_per_host: 4, max_in_flight_per_account: 2, ..policy() };
    let egress = Arc::new(Egress::new(policy, Environment::Local, Clock::system(), Some(peer.route.clone())).unwrap());
    let [greedy, modest] = [0, 1].map(|_| Some(ConnectionId::new(&Clock::system())));
    let begin = |account| {
        let (egress, call) = (Arc::clone(&egress), OutboundCall { account, ..call("api.example") });
        tokio::spawn(async move { send(&egress, call).await })
    };
    let arrived = async |count| {
        while peer.count().1 < count {
            tokio::task::yield_now().await;
        }
    };
    let hanging: Vec<_> = (0..64).map(|_| begin(greedy)).collect();
    arrived(2).await;
    let others = [begin(modest), begin(None)];
    arrived(4).await;
    assert_eq!((peer.count(), egress.accounts()), ((4, 4), 2), "two of the greedy one, and everybody else's");
    let waiting = OutboundCall { account: greedy, timeout: Duration::from_millis(50), ..call("api.example") };
    let error = send(&egress, waiting).await.err();
    assert!(matches!(error, Some(SendError::NotSent { stage: Stage::Turn, .. })), "{error:?}");
    let tasks: Vec<_> = hanging.into_iter().chain(others).collect();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    for task in tasks {
        drop(task.await);
    }
    assert_eq!(egress.accounts(), 0, "nothing is remembered of either");
}

#[tokio::test]
async fn each_phase_has_a_bound_of_its_own_and_says_its_name() {
    let hasty = |change: fn(&mut Phases)| {
        let mut policy = policy();
        change(&mut policy.phases);
        policy
    };
    let soon = Duration::from_millis(50);
    let large = || OutboundCall { body: Some(Bytes::from(vec![0; 64 * 1024 * 1024])), ..call("api.example") };
    let cases = [
        (
            Script::StallBeforeTls,
            hasty(|phases| phases.tls = Duration::from_millis(50)),
            call("api.example"),
            Stage::Tls,
        ),
        (Script::NeverReads, hasty(|phases| phases.request = Duration::from_millis(50)), large(), Stage::Request),
        (
            Script::Silence,
            hasty(|phases| {
                (phases.request, phases.first_byte) = (Duration::from_millis(50), Duration::from_millis(50));
            }),
            call("api.example"),
            Stage::FirstByte,
        ),
    ];
    for (script, policy, call, stage) in cases {
        let peer = Peer::start(script).await;
        let egress = Egress::new(policy, Environment::Local, Clock::system(), Some(peer.route.clone())).unwrap();
        let error = send(&egress, call).await.err().unwrap();
        assert_eq!((error.stage(), error.is_surely_unsent()), (Some(stage), stage == Stage::Tls), "{error:?}");
    }
    let script = Arc::new(crate::connector::Script::default());
    let dead = HostSet::parse(["dead.example"]).unwrap();
    let mut policy = Policy { resolver: Resolver::Scripted(script), ..Policy::new(dead.clone()) };
    policy.phases.resolve = soon;
    let egress = Egress::new(policy, Environment::Local, Clock::system(), None).unwrap();
    let error = egress.send(call("dead.example"), bearer(), &dead).await.err().unwrap();
    assert_eq!((error.stage(), error.is_surely_unsent()), (Some(Stage::Resolve), true), "{error:?}");
    let error = SendError::NotSent { stage: Stage::Resolve, source: Fault::TimedOut };
    assert_eq!(error.to_string(), "not sent: it failed at resolving the host's name");
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_writing_may_is_waited_for() {
    let peer = Peer::start(Script::AnswerSlowly(answer("200 OK", b"{}"))).await;
    let mut policy = policy();
    policy.phases.request = Duration::from_millis(1);
    let egress = Egress::new(policy, Environment::Local, Clock::system(), Some(peer.route.clone())).unwrap();
    assert!(send(&egress, call("api.example")).await.is_ok());
}

#[tokio::test]
async fn what_a_peer_asks_for_is_told_as_a_span() {
    let date = "date: Sun, 22 Nov 2026 06:00:00 GMT\r\n";
    let cases = [
        ("", None, None),
        ("retry-after: 7\r\n", None, Some(7)),
        ("retry-after: Sun, 22 Nov 2026 06:01:00 GMT\r\n", None, Some(60)),
        ("retry-after: soon\r\n", Some("x-rate-limit-reset"), None),
        ("x-rate-limit-reset: 1795327230\r\n", Some("x-rate-limit-reset"), Some(30)),
        ("x-rate-limit-reset: 1795327230\r\n", None, None),
        ("retry-after: 7\r\nx-rate-limit-reset: 1795327230\r\n", Some("x-rate-limit-reset"), Some(7)),
    ];
    for (headers, reset, expected) in cases {
        let head = format!("429 Too Many Requests\r\n{date}{}", headers.trim_end());
        let peer = Peer::start(Script::Answer(answer(head.trim_end(), b"{}"))).await;
        let raw = send(&egress(&peer.route), call("api.example")).await.unwrap();
        let asked = raw.asks_to_wait(reset, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(asked, expected.map(Duration::from_secs), "{headers}");
    }
}

#[tokio::test]
async fn an_echo_of_any_secret_of_the_call_is_scrubbed() {
    let body = format!("{{\"sent\":\"Bearer {TOKEN}\",\"form\":\"refresh%2Dme%2Dsoon\"}}");
    let peer = Peer::start(Script::Answer(answer(
        &format!("400 Bad Request\r\netag: \"{TOKEN}\"\r\nx-echo: {TOKEN}\r\nretry-after: 5"),
        body.as_bytes(),
    )))
    .await;
    let call =
        OutboundCall { also_secret: vec![zeroize::Zeroizing::new(b"refresh-me-soon".to_vec())], ..call("api.example") };
    let raw = send(&egress(&peer.route), call).await.unwrap();
    assert!(raw.body.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()), "the raw answer holds it");
    let clean = raw.scrub();
    assert_eq!(&clean.body()[..], b"{\"sent\":\"Bearer [redacted]\",\"form\":\"[redacted]\"}");
    assert_eq!(clean.headers().len(), 1);
    assert_eq!(clean.headers()["retry-after"], "5");
    assert_eq!(clean.hits(), 4);
}

#[tokio::test]
async fn a_clients_secret_is_scrubbed_as_it_is_and_as_it_was_rendered() {
    let secret = "s/cret of the app";
    let body = r#"{"rendered":"dGhlLWFwcDpzJTJGY3JldCtvZit0aGUrYXBw","form":"s%2Fcret+of+the+app","plain":"s/cret of the app"}"#;
    let peer = Peer::start(Script::Answer(answer("401 Unauthorized", body.as_bytes()))).await;
    let basic = Auth::BasicClient { id: "the-app".to_owned(), secret: Plain::new(secret.as_bytes().to_vec()) };
    let clean = egress(&peer.route).send(call("api.example"), basic, &sealed()).await.unwrap().scrub();
    let sent = peer.requests.lock().unwrap().concat();
    assert!(sent.contains("authorization: Basic dGhlLWFwcDpzJTJGY3JldCtvZit0aGUrYXBw\r\n"), "{sent}");
    assert_eq!(
        String::from_utf8_lossy(clean.body()),
        r#"{"rendered":"[redacted]","form":"[redacted]","plain":"[redacted]"}"#
    );
}
