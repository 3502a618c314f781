//! Raw bytes on the wire: what is no HTTP, what is barely HTTP, and clients that dawdle or leave.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::json_rows;
use crate::{
    harness::{TestApp, ok},
    matrices::{by, everything, operator},
};

/// How long a raw exchange may take at most: only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection of a client that speaks bytes.
#[expect(clippy::disallowed_methods, reason = "a hostile client is no part of the application")]
fn raw(app: &TestApp) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", app.instance.url().port().unwrap())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes, and reads until the server closes the connection.
async fn exchange(app: &TestApp, bytes: impl Into<Vec<u8>>) -> String {
    let (mut stream, bytes) = (raw(app), bytes.into());
    tokio::task::spawn_blocking(move || {
        // The server may have closed before everything was written.
        let _cut = stream.write_all(&bytes);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "neither an answer nor the end: {error}");
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
    .unwrap()
}

/// The statuses in what came back.
fn statuses(answer: &str) -> Vec<u16> {
    answer.match_indices("HTTP/1.").filter_map(|(at, _)| answer.get(at + 9..at + 12)?.parse().ok()).collect()
}

#[track_caller]
fn assert_refused_on_the_wire(what: &str, answer: &str) {
    for status in statuses(answer) {
        assert!((400..500).contains(&status) || status == 501 || status == 505, "{what}: {answer}");
    }
    // What is no request is told so as anything else that is refused: there is no answer of the library's own.
    assert!(answer.is_empty() || answer.contains("x-content-type-options: nosniff"), "{what}: {answer}");
    assert!(answer.is_empty() || answer.contains("urn:keyholder:problem:"), "{what}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_ends_the_connection() {
    let app = TestApp::start().await;
    let key = &*app.first.text;
    let request = |head: &str| {
        format!(
            "GET /v1/workspace HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {key}\r\n{head}\r\n"
        )
    };
    let many: String = "x-a: 1\r\n".repeat(100);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("no version", b"GET /v1/workspace\r\n\r\n".to_vec()),
        ("too new a version", b"GET / HTTP/9.9\r\n\r\n".to_vec()),
        ("a space in the target", b"GET /v1/work space HTTP/1.1\r\n\r\n".to_vec()),
        ("a control character in the target", b"GET /v1/\x01 HTTP/1.1\r\n\r\n".to_vec()),
        ("a method with a line break", b"GE\r\nT / HTTP/1.1\r\n\r\n".to_vec()),
        ("a header with a NUL", request("x-a: \0\r\n").into_bytes()),
        ("a header with a bare CR", request("x-a: b\rx-c: d\r\n").into_bytes()),
        ("a folded header", request("x-a: b\r\n c\r\n").into_bytes()),
        ("a name with a space", request("x a: b\r\n").into_bytes()),
        ("a space before the colon", request("content-length : 3\r\n").into_bytes()),
        ("no colon", request("nonsense\r\n").into_bytes()),
        ("too many headers", request(&many).into_bytes()),
        ("a huge header", request(&format!("x-a: {}\r\n", "a".repeat(100_000))).into_bytes()),
        ("a huge path", format!("GET /{} HTTP/1.1\r\nconnection: close\r\n\r\n", "a".repeat(100_000)).into_bytes()),
        ("two lengths", request("content-length: 3\r\ncontent-length: 4\r\n").into_bytes()),
        ("a list of lengths", request("content-length: 3, 4\r\n").into_bytes()),
        ("a negative length", request("content-length: -1\r\n").into_bytes()),
        ("a length with a sign", request("content-length: +3\r\n").into_bytes()),
        ("a length beyond measure", request("content-length: 99999999999999999999999\r\n").into_bytes()),
        ("an unknown transfer coding", request("transfer-encoding: gzip\r\n").into_bytes()),
        ("chunked not last", request("transfer-encoding: chunked, identity\r\n").into_bytes()),
    ];
    for (what, bytes) in cases {
        let answer = exchange(&app, bytes).await;
        assert_refused_on_the_wire(what, &answer);
        assert!(!answer.contains("Acme"), "{what} was served: {answer}");
        assert!(statuses(&answer).len() <= 1, "{what}: {answer}");
    }
    // The same request with nothing wrong is served.
    assert!(exchange(&app, request("")).await.contains("Acme"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_however_it_is_announced() {
    let app = TestApp::start().await;
    let values = everything(&app).await;
    let operator = operator(&app).await;
    let head = |method: &str, key: &str, path: &str, length: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\n{length}\r\n\r\n"
        )
    };
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    let mut walked = 0;
    for route in json_rows() {
        walked += 1;
        let target = &route.sample.fill(route.path, &values).target;
        // A row that takes any method takes a body by POST.
        let method = if route.sample.method == "GET" { "POST" } else { route.sample.method };
        let key = by(route, &app.admin, &operator, &app.stranger).key().unwrap_or_default();
        let announced = exchange(&app, head(method, key, target, "content-length: 10000000000") + "{").await;
        assert_eq!(statuses(&announced), [413], "{route:?}: {announced}");
        assert!(announced.contains("urn:keyholder:problem:body-too-large"), "{announced}");
        assert!(announced.contains("x-content-type-options: nosniff"), "{announced}");
        // It may be closed before all of it was sent: then the answer can be lost on the way.
        let chunked = exchange(&app, head(method, key, target, "transfer-encoding: chunked") + &chunk.repeat(40)).await;
        assert!(chunked.is_empty() || statuses(&chunked) == [413], "{route:?}: {chunked}");
        let broken =
            exchange(&app, head(method, key, target, "transfer-encoding: chunked") + "zz\r\n{}\r\n0\r\n\r\n").await;
        assert_refused_on_the_wire(target, &broken);
    }
    assert!(walked >= 8, "{walked}");
    // Nobody's body is read for one who has no key.
    let stranger =
        "POST /v1/api-keys HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 10000000000\r\n\r\n{";
    assert_eq!(statuses(&exchange(&app, stranger).await), [401]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_but_lawful_requests_are_answered_as_what_they_are() {
    let app = TestApp::start().await;
    let live = "HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let absolute = exchange(&app, format!("GET http://evil.example/v1/workspace {live}")).await;
    assert_eq!(statuses(&absolute), [421], "{absolute}");
    for (request, status) in [
        (format!("GET http://evil.example/health/live {live}"), 200),
        ("GET /health/live HTTP/1.0\r\n\r\n".to_owned(), 200),
        (format!("OPTIONS * {live}"), 404),
        (format!("CONNECT evil.example:443 {live}"), 421),
        (format!("GET /health/live?%00%ff%zz=%%% {live}"), 422),
        (format!("GET /{} {live}", "a/".repeat(10_000)), 414),
        (format!("GET /connect/{} {live}", "%F0%9F".repeat(1_000)), 404),
    ] {
        let answer = exchange(&app, request.clone()).await;
        let shown: String = request.chars().take(60).collect();
        let allowed = [status, 405, 403];
        assert!(statuses(&answer).len() == 1 && allowed.contains(&statuses(&answer)[0]), "{shown}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{shown}: {answer}");
    }
    // Two at once are two answers, in order, each with an id of its own.
    let two = exchange(&app, format!("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\nGET /nowhere {live}")).await;
    assert_eq!(statuses(&two), [200, 404], "{two}");
    let ids: Vec<_> = two.lines().filter_map(|line| line.strip_prefix("request-id: ")).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{two}");
    // A header that would be two lines is one value or nothing: it cannot be put into an answer.
    let split = exchange(&app, format!("GET /nowhere%0d%0aset-cookie:%20a=b {live}")).await;
    assert!(!split.contains("set-cookie"), "{split}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_a_chunked_body_does_not_smuggle_a_request() {
    let app = TestApp::start().await;
    let key = &*app.first.text;
    let body = "{\"url\":\"http://localhost:3000/smuggled\"}";
    let inner = format!(
        "POST /v1/return-addresses HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever counts by the length takes the second request for a part of the first one's body.
    let chunks = format!("0\r\n\r\n{inner}");
    let outer = format!(
        "POST /v1/api-keys HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         transfer-encoding: chunked\r\n\r\n{chunks}",
        chunks.len()
    );
    let answer = exchange(&app, outer).await;
    assert_eq!(statuses(&answer).first().map(|status| status / 100), Some(4), "{answer}");
    let workspace = ok(app.admin.get("/v1/workspace").await.unwrap(), 200);
    assert!(!workspace.to_string().contains("smuggled"), "a request was hidden in another's body: {answer}");
    app.stop().await;
}

/// The kind of the last problem in what came back.
fn kind_of(answer: &str) -> &str {
    let kind = answer.rsplit_once("urn:keyholder:problem:").map_or("", |(_, rest)| rest);
    kind.split('"').next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_could_be_read_in_two_ways_hides_another() {
    let app = TestApp::start().await;
    let key = &*app.first.text;
    let body = "{\"url\":\"http://localhost:3000/smuggled\"}";
    let hidden = format!(
        "POST /v1/return-addresses HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let after = |fields: &str, first: &str| {
        format!(
            "POST /v1/api-keys HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{fields}\r\n{first}{hidden}"
        )
    };
    let chunked = |first: &str| after("transfer-encoding: chunked\r\n", first);
    let (length, long) = (hidden.len(), "e".repeat(1_000));
    let cases = [
        (
            "a length and chunks",
            after(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), "0\r\n\r\n"),
        ),
        (
            "chunks and a length",
            after(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"), "0\r\n\r\n"),
        ),
        ("one length twice", after("content-length: 0\r\ncontent-length: 0\r\n", "")),
        ("two lengths", after(&format!("content-length: 0\r\ncontent-length: {length}\r\n"), "")),
        ("a list of lengths", after("content-length: 0, 0\r\n", "")),
        ("a length with a sign", after("content-length: +0\r\n", "")),
        ("chunked twice", after("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")),
        ("chunked behind another coding", after("transfer-encoding: identity, chunked\r\n", "0\r\n\r\n")),
        ("a coding disguised", after("transfer-encoding: xchunked\r\n", "0\r\n\r\n")),
        ("a space before the colon", after("content-length : 0\r\n", "")),
        ("a folded length", after("content-length:\r\n 0\r\n", "")),
        ("a folded coding", after("transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n")),
        ("a bare CR before a length", after("x-a: b\rcontent-length: 0\r\n", "")),
        ("a bare LF before a length", after("x-a: b\ncontent-length: 0\r\n", "")),
        ("a NUL in a name", after("content\0-length: 0\r\n", "")),
        ("a NUL in a value", after("x-a: \0\r\n", "")),
        ("a second host", after("host: other.example\r\ncontent-length: 0\r\n", "")),
        ("HTTP/1.0, kept open, in chunks", {
            let old = chunked("0\r\n\r\n").replacen("HTTP/1.1", "HTTP/1.0", 1);
            old.replacen("\r\n", "\r\nconnection: keep-alive\r\n", 1)
        }),
        ("white space behind a chunk's size", chunked("0 \r\n\r\n")),
        ("white space before a chunk's size", chunked(" 0\r\n\r\n")),
        ("a chunk's size that ends with LF", chunked("0\n\r\n")),
        ("a chunk extension with LF", chunked("0;a\nb\r\n\r\n")),
        ("a chunk extension without end", chunked(&format!("0;{long}\r\n\r\n"))),
        ("a huge chunk", chunked("fffffffffffffffff\r\n")),
        ("a chunk's size with a prefix", chunked("0x0\r\n\r\n")),
        ("a chunk that ends with LF", chunked("1\r\n{\n0\r\n\r\n")),
        ("a length in the trailer", chunked("0\r\ncontent-length: 0\r\n\r\n")),
    ];
    let mut table = Vec::new();
    for (what, request) in cases {
        // It ends by the server's closing: nothing here asks for that.
        let answer = exchange(&app, request).await;
        let told = statuses(&answer);
        table.push(format!("{what:<34} {told:?} {}, closed", kind_of(&answer)));
        assert!(told.len() == 1 && (told[0] == 400 || told[0] == 401), "{what}: {answer}");
        assert_refused_on_the_wire(what, &answer);
    }
    eprintln!("{}", table.join("\n"));
    let trail = ok(app.admin.get("/v1/audit").await.unwrap(), 200);
    assert!(!trail.to_string().contains("smuggled"), "a request was hidden in another: {trail}");
    // The same two requests with nothing wrong are two.
    let both =
        exchange(&app, after("content-length: 0\r\n", "").replacen("\r\n\r\n{", "\r\nconnection: close\r\n\r\n{", 1))
            .await;
    assert_eq!(statuses(&both), [401, 201], "{both}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_dawdle_or_leave_harm_nobody() {
    let app = TestApp::start().await;
    let key = app.first.text.to_string();
    // Heads that never end, and bodies that never come.
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = raw(&app);
        stream.write_all(b"GET /v1/workspace HTTP/1.1\r\nhost: loc").unwrap();
        slow.push(stream);
    }
    for _ in 0..50 {
        let mut stream = raw(&app);
        let head = format!(
            "POST /v1/api-keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{{\"label\":"
        );
        stream.write_all(head.as_bytes()).unwrap();
        slow.push(stream);
    }
    ok(app.admin.get("/v1/workspace").await.unwrap(), 200);
    drop(slow);
    // A client that hangs up after its request: what it asked for is done once, and the server goes on.
    for number in 0..20 {
        let mut stream = raw(&app);
        let body = format!("{{\"url\":\"http://localhost:3000/left/{number}\"}}");
        let head = format!(
            "POST /v1/return-addresses HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        drop(stream);
    }
    ok(app.admin.get("/v1/workspace").await.unwrap(), 200);
    let keys = ok(app.admin.get("/v1/api-keys").await.unwrap(), 200);
    assert_eq!(keys["data"].as_array().unwrap().len(), 1, "half a body makes no key");
    app.stop().await;
}
