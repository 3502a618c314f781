//! Clients in numbers, and clients that dawdle: what they get, and that everybody else is served meanwhile.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use tokio::net::TcpSocket;

use super::{BOTH, HOUR, exchange, get, head, over_tls, plain, port, secure, stop};
use crate::harness::{TestApp, eventually, ok};

/// A connection from one of this machine's own addresses.
async fn from(source: Ipv4Addr, port: u16) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await
}

/// Whether the server has closed this connection.
fn is_closed(stream: &tokio::net::TcpStream) -> bool {
    match stream.try_read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_address_leaves_the_rest_served() {
    let app = TestApp::start().await;
    let node = app
        .second_node_with(|options| {
            options.server.network_connections = 200;
            (options.server.head_within, options.server.drain_within) = (HOUR, HOUR);
        })
        .await;
    let at = port(&node);
    let mut flood = Vec::new();
    for _ in 0..1_000 {
        flood.push(from(Ipv4Addr::new(127, 0, 0, 2), at).await.unwrap());
    }
    // All but the address's share are closed, at once and without a word.
    eventually("the flood is cut", async || flood.iter().filter(|stream| is_closed(stream)).count() == 800).await;
    for _ in 0..20 {
        let answer = exchange(&mut plain(at), &get("/health/live", "connection: close\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // Its places are given back when its connections go, and then it is served as anybody.
    drop(flood);
    eventually("the address has its share again", async || {
        let stream = from(Ipv4Addr::new(127, 0, 0, 2), at).await.unwrap();
        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        exchange(&mut stream, &get("/health/live", "connection: close\r\n")).starts_with("HTTP/1.1 200")
    })
    .await;
    stop("a flood that left", node).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_connections_in_all() {
    let app = TestApp::start().await;
    let node = app
        .second_node_with(|options| {
            options.server.connections = 50;
            options.server.head_within = HOUR;
        })
        .await;
    let mut all = Vec::new();
    for last in 1..=100 {
        all.push(from(Ipv4Addr::new(127, 0, 1, last), port(&node)).await.unwrap());
    }
    eventually("the rest is closed", async || all.iter().filter(|stream| is_closed(stream)).count() == 50).await;
    stop("connections that say nothing", node).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_opened_and_left_leave_nothing() {
    let app = TestApp::start().await;
    let (node, _pair, root) = over_tls(&app, |options| options.server.network_connections = 64).await;
    for number in 0..5_000_u16 {
        let [high, low] = number.to_be_bytes();
        drop(from(Ipv4Addr::new(127, 1, high, low.max(1)), port(&node)).await.unwrap());
    }
    let mut stream = secure(port(&node), &root, BOTH, &[]).unwrap();
    assert!(exchange(&mut stream, &get("/health/live", "connection: close\r\n")).starts_with("HTTP/1.1 200"));
    stop("connections that were left", node).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dawdles_is_cut_off() {
    let app = TestApp::start().await;
    let moment = Duration::from_millis(1_500);
    let (node, _pair, root) = over_tls(&app, |options| {
        options.server.handshake_within = moment;
        options.server.head_within = moment;
        options.server.body_within = moment;
        options.server.idle_within = moment;
    })
    .await;
    let at = port(&node);
    let mut table = Vec::new();
    let mut saw = |what: &str, answer: &str| {
        table.push(format!("{what:<44} {}", answer.lines().next().unwrap_or("closed without a word")));
    };
    // A handshake that does not come.
    let answer = exchange(&mut plain(at), b"");
    assert_eq!(answer, "");
    saw("no TLS handshake", &answer);
    let speak = || secure(at, &root, BOTH, &[]).unwrap();
    let answer = exchange(&mut speak(), b"");
    assert_eq!(answer, "");
    saw("no request", &answer);
    let answer = exchange(&mut speak(), b"GET /health/live HTTP/1.1\r\nhost: loc");
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("nosniff"), "{answer}");
    saw("a head that stops", &answer);
    let mut drip = speak();
    for byte in
        b"GET /health/live HTTP/1.1\r\nx-drip: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    {
        if drip.write_all(&[*byte]).and_then(|()| drip.flush()).is_err() {
            break;
        }
        tokio::time::sleep(moment / 20).await;
    }
    let answer = exchange(&mut drip, b"");
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    saw("a head that drips", &answer);
    let post = |length: &str| {
        format!(
            "POST /v1/api-keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             {length}\r\n\r\n",
            *app.first.text
        )
    };
    let answer = exchange(&mut speak(), format!("{}{{\"label\":", post("content-length: 50")).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request-timeout"), "{answer}");
    saw("a body that stops", &answer);
    let answer = exchange(&mut speak(), format!("{}5\r\n{{\"la", post("transfer-encoding: chunked")).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    saw("a chunk that stops", &answer);
    let answer = exchange(&mut speak(), &get("/health/live", ""));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    saw("one request, and then nothing", &answer);
    let keys = ok(app.admin.get("/v1/api-keys").await.unwrap(), 200);
    assert_eq!(keys["data"].as_array().unwrap().len(), 1, "half a body makes no key");
    eprintln!("{}", table.join("\n"));
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_connection_on_which_nothing_is_asked() {
    let app = TestApp::start().await;
    let (node, _pair, root) = over_tls(&app, |options| {
        let server = &mut options.server;
        (server.drain_within, server.idle_within, server.head_within, server.handshake_within) =
            (HOUR, HOUR, HOUR, HOUR);
    })
    .await;
    let at = port(&node);
    let unshaken = plain(at);
    let silent = secure(at, &root, BOTH, &[b"http/1.1"]).unwrap();
    let silent_h2 = secure(at, &root, BOTH, &[b"h2"]).unwrap();
    let mut kept = secure(at, &root, BOTH, &[b"http/1.1"]).unwrap();
    kept.write_all(&get("/health/live", "")).unwrap();
    assert!(head(&mut kept).starts_with("HTTP/1.1 200"));
    let mut kept_h2 = super::http2::open(at, &root);
    assert_eq!(kept_h2.get("/health/live"), 200);
    let metrics: TcpStream = {
        let mut stream = plain(node.metrics_url().port().unwrap());
        stream.write_all(&get("/metrics", "")).unwrap();
        assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
        stream
    };
    stop("connections on which nothing is asked", node).await;
    assert!(kept.read_to_end(&mut Vec::new()).is_ok(), "closed in order");
    drop((unshaken, silent, silent_h2, kept_h2, metrics));
    app.stop().await;
}
