//! Clients that leave while they are answered: the work for them ends, however they leave.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    time::Duration,
};

use keyholder::{InstanceOptions, telemetry};
use tokio::sync::Mutex;

use super::{
    BOTH, HOUR,
    http2::{self, RST_STREAM, frame, request},
    over_tls, plain, port, secure, stop,
};
use crate::{
    fga::{Explosion, is, refused},
    harness::{TestApp, eventually},
};

/// A question goes on for longer than any of these tests waits for its end, and then for no more.
fn at_length(options: &mut InstanceOptions) {
    (options.relations.steps, options.relations.longest) = (60_000_000, HOUR);
}

/// Batches that end early are counted for the whole process, and nobody but these tests has any: one test at a time.
static COUNTED: Mutex<()> = Mutex::const_new(());

/// How many batches have ended because nobody waited for them any more.
fn stopped() -> u64 {
    const LINE: &str = "keyholder_relation_questions_stopped_total{kind=\"batch-check\"} ";
    let told = telemetry::metrics().unwrap().render();
    told.lines().find_map(|told| told.strip_prefix(LINE)).map_or(0, |number| number.parse().unwrap())
}

/// Asks and leaves until the work for a question was ended by that: whoever leaves too early has left nothing at work.
async fn ends_with(what: &str, mut ask: impl FnMut() -> Box<dyn FnOnce()>) {
    let before = stopped();
    for patience in (8..13).map(|power| Duration::from_millis(1 << power)) {
        let leave = ask();
        tokio::time::sleep(patience).await;
        leave();
        let ended = eventually("the work ends", async || stopped() > before);
        if tokio::time::timeout(Duration::from_secs(5), ended).await.is_ok() {
            return;
        }
    }
    panic!("{what}: the work goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_for_an_answer_ends_when_its_client_leaves() {
    let _alone = COUNTED.lock().await;
    let app = TestApp::start_with(at_length).await;
    let (node, _pair, root) = over_tls(&app, at_length).await;
    let explosion = Explosion::new(&app.admin).await;
    let (path, body) = explosion.batch();
    let body = body.to_string();
    let (key, length) = (format!("Bearer {}", *app.first.text), body.len().to_string());
    let asked = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let (open, over_tls) = (port(&app.instance), port(&node));
    let clear = || {
        let mut stream = plain(open);
        stream.write_all(asked.as_bytes()).unwrap();
        stream
    };
    ends_with("a connection is closed", || {
        let stream = clear();
        Box::new(move || drop(stream))
    })
    .await;
    ends_with("nothing more is sent", || {
        let stream = clear();
        Box::new(move || stream.shutdown(Shutdown::Write).unwrap())
    })
    .await;
    ends_with("a connection is reset", || {
        let stream = clear();
        Box::new(move || reset(stream))
    })
    .await;
    ends_with("a connection over TLS is closed", || {
        let mut stream = secure(over_tls, &root, BOTH, &[b"http/1.1"]).unwrap();
        stream.write_all(asked.as_bytes()).unwrap();
        stream.flush().unwrap();
        Box::new(move || drop(stream))
    })
    .await;

    let headers = [("authorization", &*key), ("content-type", "application/json"), ("content-length", &*length)];
    let begun = || {
        let mut client = http2::open(over_tls, &root);
        let id = client.begin(&request("POST", &path, &headers), 0).unwrap();
        client.send(&frame(http2::DATA, http2::END_STREAM, id, body.as_bytes())).unwrap();
        (client, id)
    };
    ends_with("a stream of HTTP/2 is reset", || {
        let (mut client, id) = begun();
        Box::new(move || {
            client.send(&frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())).unwrap();
            assert_eq!(client.get("/health/live"), 200, "the connection goes on");
        })
    })
    .await;
    ends_with("a connection of HTTP/2 is closed", || {
        let (client, _) = begun();
        Box::new(move || drop(client))
    })
    .await;
    stop("nobody is left", node).await;
    app.stop().await;
}

/// Closes with a reset (RFC 9293 §3.10.7.4), as a machine does that knows nothing of the connection any more.
fn reset(stream: TcpStream) {
    stream.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(stream).unwrap().set_zero_linger().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_for_an_answer_ends_with_its_time() {
    let _alone = COUNTED.lock().await;
    let app = TestApp::start_with(|options| {
        at_length(options);
        options.relations.longest = Duration::from_secs(3);
    })
    .await;
    let explosion = Explosion::new(&app.admin).await;
    let (path, body) = explosion.batch();
    let before = stopped();
    let reply = app.admin.post(&path, &body).await.unwrap();
    assert_eq!(refused(&reply), is("throttled_timeout_error", 422));
    eventually("the work ends", async || stopped() > before).await;
    app.stop().await;
}
