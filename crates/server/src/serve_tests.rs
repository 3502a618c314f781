use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::*;

async fn start(tasks: &Tasks, router: Router, options: ServerOptions) -> (Server, SocketAddr) {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let site = Site { tasks: tasks.clone(), clock: Clock::system(), over_tls: false };
    let server = Server::run(site, Door { name: "test", listener, tls: None, router }, options).unwrap();
    let Listen::Tcp(addr) = server.at().clone() else { panic!("not TCP") };
    (server, addr)
}

fn metrics() -> Router {
    metrics_router(|| "keyholder_acts_total 1\n".to_owned(), false)
}

async fn connect(addr: SocketAddr) -> TcpStream {
    #[expect(clippy::disallowed_methods, reason = "a test's own client")]
    TcpStream::connect(addr).await.unwrap()
}

async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = connect(addr).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn another_machine_is_not_served_in_the_clear() {
    let tasks = Tasks::default();
    let listener = Listener::bind(&"0.0.0.0:0".parse().unwrap()).await.unwrap();
    let site = Site { tasks: tasks.clone(), clock: Clock::system(), over_tls: true };
    let door = Door { name: "test", listener, tls: None, router: metrics() };
    assert!(matches!(Server::run(site, door, ServerOptions::default()), Err(ServerError::InTheClear(_))));
}

#[tokio::test]
async fn metrics_are_answered_on_their_own_listener() {
    let tasks = Tasks::default();
    let (server, addr) = start(&tasks, metrics(), ServerOptions::default()).await;
    let answer = ask(addr, &get("/metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("keyholder_acts_total 1\n"), "{answer}");
    assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
    assert!(ask(addr, &get("/other")).await.starts_with("HTTP/1.1 404"));
    server.stop().await;
}

#[tokio::test]
async fn a_request_on_its_way_is_let_to_its_end() {
    let tasks = Tasks::default();
    let (began, wait_began) = oneshot::channel();
    let (end, wait_end) = oneshot::channel::<()>();
    let once = Arc::new(std::sync::Mutex::new(Some((began, wait_end))));
    let router = Router::new().route(
        "/slow",
        routing::get(move |request: Request| async move {
            let (began, end) = once.lock().unwrap().take().unwrap();
            assert!(request.extensions().get::<Peer>().is_some());
            began.send(()).unwrap();
            end.await.unwrap();
            "done"
        }),
    );
    let (server, addr) = start(&tasks, router, ServerOptions::default()).await;
    let request = get("/slow");
    let (answer, ()) = tokio::join!(ask(addr, &request), async {
        wait_began.await.unwrap();
        let stop = server.stop();
        tokio::join!(stop, async { end.send(()).unwrap() });
    });
    assert!(answer.ends_with("done"), "{answer}");
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_connections_on_which_nothing_is_asked() {
    let tasks = Tasks::default();
    let hour = Duration::from_hours(1);
    let options = ServerOptions { drain_within: hour, head_within: hour, idle_within: hour, ..Default::default() };
    let (server, addr) = start(&tasks, metrics(), options).await;
    let silent = connect(addr).await;
    let mut half = connect(addr).await;
    half.write_all(b"GET /metrics HT").await.unwrap();
    let mut kept = connect(addr).await;
    kept.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    kept.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
    // The limit only keeps a failing test from hanging.
    timeout(Duration::from_mins(1), server.stop()).await.expect("the stop waits for idle connections");
    drop((silent, half, kept));
}

#[tokio::test]
async fn heads_are_bounded() {
    let tasks = Tasks::default();
    let (server, addr) = start(&tasks, metrics(), ServerOptions::default()).await;
    let many = "x: 1\r\n".repeat(100);
    let long = format!("x: {}\r\n", "a".repeat(64 * 1024));
    for headers in [many, long] {
        let answer = ask(addr, &format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert!(answer.contains("urn:keyholder:problem:head-too-large"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let tasks = Tasks::default();
    let options = ServerOptions { head_within: Duration::from_millis(50), ..ServerOptions::default() };
    let (server, addr) = start(&tasks, metrics(), options).await;
    let late = ask(addr, "GET /metrics HTTP/1.1\r\n").await;
    assert!(late.starts_with("HTTP/1.1 408") && late.contains("connection: close"), "{late}");
    assert_eq!(ask(addr, "").await, "", "one that says nothing is told nothing");
    // The second request of a connection is not waited for either.
    let mut kept = connect(addr).await;
    kept.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\nGET /metrics HT").await.unwrap();
    let mut answers = String::new();
    kept.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 408"), "{answers}");
    server.stop().await;
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_order_and_a_bad_one_last() {
    let tasks = Tasks::default();
    let (server, addr) = start(&tasks, metrics(), ServerOptions::default()).await;
    let good = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = ask(addr, &format!("{good}{good}GET /bad HTTP/1.1\r\nhost : a\r\n\r\n{good}")).await;
    let lines: Vec<_> = answer.match_indices("HTTP/1.1 ").filter_map(|(at, _)| answer.get(at + 9..at + 12)).collect();
    assert_eq!(lines, ["200", "200", "400"], "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn an_answer_before_the_body_arrives_and_says_whether_the_connection_goes_on() {
    let tasks = Tasks::default();
    let refusing = metrics().route("/refused", routing::post(async || http::StatusCode::PAYLOAD_TOO_LARGE));
    let (server, addr) = start(&tasks, refusing, ServerOptions::default()).await;
    let head = |length| format!("POST /refused HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    // What came with the head is passed over, and the next request is answered.
    let answers = ask(addr, &format!("{}body{}", head(4), get("/metrics"))).await;
    assert!(answers.starts_with("HTTP/1.1 413") && answers.contains("keyholder_acts_total 1"), "{answers}");
    // What has not come is not waited for, and what comes of it all the same takes the answer from nobody.
    for (sent, length) in [(0, 10), (0, 900_000), (900_000, 900_001)] {
        let answer = ask(addr, &format!("{}{}", head(length), "x".repeat(sent))).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close\r\n"), "{sent}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let tasks = Tasks::default();
    let router = Router::new().route("/large", routing::get(|| async { vec![b'a'; 64 * 1024 * 1024] }));
    let options = ServerOptions { stall_within: Duration::from_millis(100), ..Default::default() };
    let (server, addr) = start(&tasks, router, options).await;
    let mut stream = connect(addr).await;
    stream.write_all(get("/large").as_bytes()).await.unwrap();
    // It reads nothing; its place is given back all the same.
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    timeout(Duration::from_mins(1), server.places.all_left()).await.expect("the place is not given back");
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    assert!(answer.len() < 64 * 1024 * 1024, "it was sent all the same");
    server.stop().await;
}
