//! HTTP/2, by hand: frames as RFC 9113 has them, so that a client can do what no library would.

use std::io::{self, Read, Write};

use rustls::pki_types::CertificateDer;

use super::{BOTH, Tls, exchange, get, over_tls, port, secure};
use crate::harness::TestApp;

pub(super) const DATA: u8 = 0;
const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A client that speaks frames.
pub(super) struct Http2 {
    stream: Tls,
    next: u32,
}

/// One frame.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal that is not indexed (RFC 7541 §6.2.2), its name and value without Huffman coding.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The head of a request: `:scheme https` and `:authority` are the same for all.
pub(super) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x87];
    for (name, value) in [(":method", method), (":path", path), (":authority", "localhost")].iter().chain(more) {
        block.extend(literal(name, value));
    }
    block
}

/// Opens a connection and greets.
pub(super) fn open(port: u16, root: &CertificateDer<'static>) -> Http2 {
    let mut stream = secure(port, root, BOTH, &[b"h2"]).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    Http2 { stream, next: 1 }
}

impl Http2 {
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
        self.stream.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let frame_read = Frame { kind: head[3], flags: head[4], stream, payload };
        match (frame_read.kind, frame_read.flags & ACK) {
            (SETTINGS, 0) => self.send(&frame(SETTINGS, ACK, 0, &[]))?,
            (PING, 0) => self.send(&frame(PING, ACK, 0, &frame_read.payload))?,
            _ => {}
        }
        Ok(frame_read)
    }

    /// Reads up to the end of the connection: the error that its GOAWAY gives, where there was one.
    fn end(&mut self) -> Option<u32> {
        let mut error = None;
        while let Ok(frame) = self.read() {
            if frame.kind == GOAWAY {
                error = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        error
    }

    /// The status of a whole exchange. `0`: the stream was reset.
    fn ask(&mut self, block: &[u8]) -> u16 {
        let id = self.begin(block, END_STREAM).unwrap();
        self.status(id)
    }

    /// A GET's status.
    pub(super) fn get(&mut self, path: &str) -> u16 {
        self.ask(&request("GET", path, &[]))
    }

    pub(super) fn begin(&mut self, block: &[u8], flags: u8) -> io::Result<u32> {
        let id = self.next;
        self.next += 2;
        let mut pieces = block.chunks(16_000);
        let first = pieces.next().unwrap_or_default();
        let more: Vec<_> = pieces.collect();
        let end = if more.is_empty() { END_HEADERS } else { 0 };
        let mut bytes = frame(HEADERS, flags | end, id, first);
        for (number, piece) in more.iter().enumerate() {
            let end = if number + 1 == more.len() { END_HEADERS } else { 0 };
            bytes.extend(frame(CONTINUATION, end, id, piece));
        }
        self.send(&bytes).map(|()| id)
    }

    fn status(&mut self, id: u32) -> u16 {
        let mut status = 0;
        while let Ok(frame) = self.read() {
            match (frame.kind, frame.stream == id) {
                (HEADERS, true) => status = status_of(&frame.payload),
                (RST_STREAM, true) | (GOAWAY, _) => return status,
                _ => {}
            }
            if frame.stream == id && matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return status;
            }
        }
        status
    }
}

/// `:status` is the first field, indexed (RFC 7541 appendix A) or a literal under one of those indices.
fn status_of(block: &[u8]) -> u16 {
    let known = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size may come before it.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    if let indexed @ 0x88..=0x8e = block[0] {
        return known[usize::from(indexed - 0x88)];
    }
    let coded = block[1] & 0x80 != 0;
    let text = &block[2..2 + usize::from(block[1] & 0x7f)];
    if coded { digits(text) } else { std::str::from_utf8(text).unwrap().parse().unwrap() }
}

/// Digits in the Huffman code of RFC 7541 appendix B: 0, 1 and 2 have five bits, the others six.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take = |count: usize| bits[at..at + count].iter().fold(0_u16, |number, bit| number << 1 | u16::from(*bit));
        let (digit, width) = if take(5) <= 2 { (take(5), 5) } else { (take(6) - 0x19 + 3, 6) };
        number = number * 10 + digit;
        at += width;
    }
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_as_over_http_1() {
    let app = TestApp::start().await;
    let (node, _pair, root) = over_tls(&app, |_| {}).await;
    let mut client = open(port(&node), &root);
    let key = format!("Bearer {}", *app.first.text);
    let many: Vec<_> = (0..70).map(|number| (format!("x-{number}"), "1")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let (long, wide) = ("a".repeat(120), "x-wide");
    let wide: Vec<_> = (0..400).map(|_| (wide, long.as_str())).collect();
    let cases: &[(&str, Vec<u8>, &[u16])] = &[
        ("a request", request("GET", "/health/live", &[]), &[200]),
        ("a request with a key", request("GET", "/v1/workspace", &[("authorization", &key)]), &[200]),
        ("a request without a key", request("GET", "/v1/workspace", &[]), &[401]),
        ("too many headers", request("GET", "/health/live", &many), &[431]),
        ("too long headers", request("GET", "/health/live", &wide), &[431, 0]),
        ("a header of HTTP/1", request("GET", "/health/live", &[("transfer-encoding", "chunked")]), &[0, 400]),
        ("a connection header", request("GET", "/health/live", &[("connection", "keep-alive")]), &[0, 400]),
        ("a capital in a name", request("GET", "/health/live", &[("X-Capital", "a")]), &[0, 400]),
        ("a line break in a value", request("GET", "/health/live", &[("x-a", "b\r\nx-c: d")]), &[0, 400]),
        ("a length without a body", request("GET", "/health/live", &[("content-length", "7")]), &[0, 400]),
        ("two paths", [request("GET", "/health/live", &[]), literal(":path", "/v1/workspace")].concat(), &[0, 400]),
        ("a path in the clear", request("GET", "", &[]), &[0, 400]),
    ];
    for (what, block, wanted) in cases {
        let mut other = open(port(&node), &root);
        let status = other.ask(block);
        eprintln!("{what:<28} {}", if status == 0 { "the stream is reset".to_owned() } else { status.to_string() });
        assert!(wanted.contains(&status), "{what}: {status}");
    }
    assert_eq!(client.get("/health/live"), 200, "and the connection beside them lives");
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rapid_reset_ends_the_connection_and_harms_nobody_else() {
    let app = TestApp::start().await;
    let (node, _pair, root) = over_tls(&app, |_| {}).await;
    let mut other = open(port(&node), &root);
    assert_eq!(other.get("/health/live"), 200);

    // In bursts: reset before they are looked at (CVE-2023-44487).
    let mut client = open(port(&node), &root);
    let block = request("GET", "/health/live", &[]);
    let mut burst = Vec::new();
    for number in 0..1_000_u32 {
        let id = 2 * number + 1;
        burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, id, &block));
        burst.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    let _cut = client.send(&burst);
    let error = client.end();
    eprintln!("1,000 requests reset at once: GOAWAY {error:?}");
    assert!(error.is_none() || error == Some(ENHANCE_YOUR_CALM), "{error:?}");

    // Paced: each is begun, waits for its body, and is given up.
    let mut client = open(port(&node), &root);
    let key = format!("Bearer {}", *app.first.text);
    let json = [("authorization", key.as_str()), ("content-type", "application/json"), ("content-length", "9")];
    let block = request("POST", "/v1/api-keys", &json);
    let mut given_up = 0;
    while given_up < 2_000 {
        let Ok(id) = client.begin(&block, 0) else { break };
        // The answer to a ping says that the request before it has been taken up.
        if client.send(&frame(PING, 0, 0, &[7; 8])).is_err() || !client.ponged() {
            break;
        }
        if client.send(&frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())).is_err() {
            break;
        }
        given_up += 1;
    }
    eprintln!("requests given up one by one: closed after {given_up}");
    assert!((100..2_000).contains(&given_up), "{given_up}");

    assert_eq!(other.get("/health/live"), 200, "the connection beside it is served");
    let answer = exchange(
        &mut secure(port(&node), &root, BOTH, &[b"http/1.1"]).unwrap(),
        &get("/health/live", "connection: close\r\n"),
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    node.stop().await;
    app.stop().await;
}

impl Http2 {
    /// Whether a ping came back.
    fn ponged(&mut self) -> bool {
        while let Ok(frame) = self.read() {
            match (frame.kind, frame.flags & ACK) {
                (PING, 1) => return true,
                (GOAWAY, _) => return false,
                _ => {}
            }
        }
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_more_than_it_sends_ends_the_connection() {
    let app = TestApp::start().await;
    let (node, _pair, root) = over_tls(&app, |options| {
        options.server.idle_within = std::time::Duration::from_millis(300);
        options.server.head_within = std::time::Duration::from_millis(300);
    })
    .await;
    let at = port(&node);
    // A head that never ends, piece by piece.
    let mut client = open(at, &root);
    let piece = literal("x-a", &"a".repeat(100));
    let mut sent = client.send(&frame(HEADERS, END_STREAM, 1, &request("GET", "/health/live", &[])));
    let mut pieces = 0;
    while sent.is_ok() && pieces < 100_000 {
        sent = client.send(&frame(CONTINUATION, 0, 1, &piece));
        pieces += 1;
    }
    eprintln!("a head in pieces without end: cut off after {pieces}");
    assert!(pieces < 100_000);
    // More streams at a time than are allowed: the rest is refused, none is served. That is about no time, and a slow machine has enough of it.
    let (patient, _pair_of_it, its_root) = over_tls(&app, |_| {}).await;
    let mut client = open(port(&patient), &its_root);
    let key = format!("Bearer {}", *app.first.text);
    let json = [("authorization", key.as_str()), ("content-type", "application/json"), ("content-length", "9")];
    let block = request("POST", "/v1/api-keys", &json);
    for _ in 0..64 + 6 {
        client.begin(&block, 0).unwrap();
    }
    let mut refused = Vec::new();
    while refused.len() < 6 {
        let frame = client.read().unwrap();
        assert!(![HEADERS, GOAWAY].contains(&frame.kind), "after {refused:?}: {}", frame.kind);
        refused.extend((frame.kind == RST_STREAM).then_some(frame.stream));
    }
    assert_eq!(refused, (64..70).map(|number| 2 * number + 1).collect::<Vec<_>>());
    // Whoever goes on is told to go, or is cut off.
    let more = (0..200).take_while(|_| client.begin(&block, 0).is_ok()).count();
    let error = client.end();
    eprintln!("6 streams too many are refused; {more} more: GOAWAY {error:?}");
    assert!(error.is_none() || error == Some(ENHANCE_YOUR_CALM), "{error:?}");
    patient.stop().await;
    // A client that greets and says nothing, and one that does not even greet.
    assert_eq!(open(at, &root).end(), Some(0), "told to go");
    let mut silent = secure(at, &root, BOTH, &[b"h2"]).unwrap();
    let _greeting_and_end = silent.read_to_end(&mut Vec::new());
    node.stop().await;
    app.stop().await;
}
