use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

use super::*;

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn ask(addr: SocketAddr, request: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own client")]
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

#[test]
fn only_this_machine_is_served_in_the_clear() {
    for (addr, passes) in [
        ("127.0.0.1:1", true),
        ("127.1.2.3:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
        ("192.0.2.1:1", false),
        ("[::ffff:192.0.2.1]:1", false),
    ] {
        assert_eq!(refuse_other_machines(addr.parse().unwrap()).is_ok(), passes, "{addr}");
    }
}

#[tokio::test]
async fn metrics_are_answered_on_their_own_listener() {
    let tasks = Tasks::default();
    let router = metrics_router(|| "keyholder_acts_total 1\n".to_owned());
    let server = Server::run(&tasks, listener().await, router, ServerOptions::default()).unwrap();
    let answer = ask(server.addr, &get("/metrics")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("keyholder_acts_total 1\n"), "{answer}");
    assert!(ask(server.addr, &get("/other")).await.starts_with("HTTP/1.1 404"));
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
    let server = Server::run(&tasks, listener().await, router, ServerOptions::default()).unwrap();
    let addr = server.addr;
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
async fn heads_are_bounded() {
    let tasks = Tasks::default();
    let router = metrics_router(String::new);
    let server = Server::run(&tasks, listener().await, router, ServerOptions::default()).unwrap();
    let many = (0..100).fold(String::new(), |head, n| {
        head + &format!(
            "x-{n}: 1
"
        )
    });
    let long = format!("x: {}\r\n", "a".repeat(64 * 1024));
    for headers in [many, long] {
        let answer = ask(server.addr, &format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_closed() {
    let tasks = Tasks::default();
    let options = ServerOptions { head_within: Duration::from_millis(50), ..ServerOptions::default() };
    let server = Server::run(&tasks, listener().await, metrics_router(String::new), options).unwrap();
    let answer = ask(server.addr, "GET /metrics HTTP/1.1\r\n").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
}
