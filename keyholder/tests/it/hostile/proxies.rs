//! Behind a proxy: the client is who a named one says it is, and nginx, set up as the guide says, says it.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use http::Method;
use keyholder::caller::Reply;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use crate::harness::{TestApp, eventually, spare_port, variable};

/// Requests of one network that a test lets through.
const FEW: u32 = 5;

async fn start(proxies: &[&str]) -> TestApp {
    TestApp::start_with(|options| {
        options.limits.network_per_minute = std::num::NonZeroU32::new(FEW).unwrap();
        options.edge.proxies = proxies.iter().map(|text| text.parse().unwrap()).collect();
    })
    .await
}

/// How many of ten requests for this client are let through.
async fn passed(app: &TestApp, client: &str) -> usize {
    let headers = [("x-forwarded-for", client), ("x-forwarded-proto", "https")];
    let mut passed = 0;
    for _ in 0..10 {
        let reply: Reply = app.stranger.send(Method::GET, "/v1/nowhere", &headers, Bytes::new()).await.unwrap();
        assert!([404, 429].contains(&reply.status.as_u16()), "{}", reply.status);
        passed += usize::from(reply.status == 404);
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_proxys_clients_are_told_apart_and_nobody_elses() {
    // Nothing but the limit's own seconds would let through more than a few beyond.
    let few = FEW as usize..FEW as usize + 3;
    let app = start(&["127.0.0.1"]).await;
    // The harness itself asks as this machine, and has used up some of that network's.
    assert!(few.contains(&passed(&app, "198.51.100.1").await));
    assert!(few.contains(&passed(&app, "203.0.113.7, 198.51.100.2").await), "the client's own word does not count");
    assert!(passed(&app, "203.0.113.8, 198.51.100.2").await < 3, "and cannot make another client of it");
    assert!(few.contains(&passed(&app, "2001:db8:0:1::7").await));
    assert!(passed(&app, "2001:db8:0:1::8").await < 3, "of one network, a /64");
    app.stop().await;

    for nobody in [&[][..], &["10.0.0.0/8", "unix"]] {
        let app = start(nobody).await;
        let all = passed(&app, "198.51.100.1").await + passed(&app, "198.51.100.2").await;
        assert!(all < few.end, "{all} passed by the word of somebody who is not named: {nobody:?}");
        app.stop().await;
    }
}

/// The guide's own example, for this machine: other ports, other files.
fn as_the_guide_says(folder: &Path, port: u16, upstream: u16) -> String {
    let guide = include_str!("../../../../docs/guides/edge.md");
    let (_, example) = guide.split_once("```nginx\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let mut server = example.to_owned();
    for (from, to) in [
        ("listen 443 ssl", format!("listen 127.0.0.1:{port} ssl")),
        ("listen [::]:443 ssl;", String::new()),
        ("keys.acme.dev", "localhost".to_owned()),
        ("/etc/nginx/keys.crt", folder.join("keys.crt").display().to_string()),
        ("/etc/nginx/keys.key", folder.join("keys.key").display().to_string()),
        ("127.0.0.1:8080", format!("127.0.0.1:{upstream}")),
    ] {
        assert!(server.contains(from), "the guide's example has no {from:?}");
        server = server.replace(from, &to);
    }
    let folder = folder.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n"
    )
}

fn nginx() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    path.split(':').map(|folder| Path::new(folder).join("nginx")).find(|program| program.is_file())
}

/// A running nginx.
struct Nginx {
    child: Child,
    folder: TempDir,
    port: u16,
    certificate: CertificateDer<'static>,
}

impl Nginx {
    async fn start(program: &Path, upstream: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("keys.crt"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("keys.key"), made.signing_key.serialize_pem()).unwrap();
        let port = spare_port();
        let configuration = folder.path().join("nginx.conf");
        fs::write(&configuration, as_the_guide_says(folder.path(), port, upstream)).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&configuration).args(["-e", "stderr"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let nginx = Self { child, folder, port, certificate: made.cert.der().clone() };
        eventually("nginx listens", async || nginx.connect([127, 0, 0, 1]).await.is_some()).await;
        nginx
    }

    async fn connect(&self, from: [u8; 4]) -> Option<tokio::net::TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((IpAddr::from(from), 0))).unwrap();
        socket.connect(SocketAddr::from(([127, 0, 0, 1], self.port))).await.ok()
    }

    /// One request over TLS, from this address of this machine: its answer as it came.
    async fn ask(&self, from: [u8; 4], head: &str) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let connector =
            tokio_rustls::TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, self.connect(from).await.unwrap()).await.unwrap();
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _unclean = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        let _kept_until_here = self.folder.path();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_as_the_guide_sets_it_up_says_who_the_client_is() {
    let Some(program) = nginx() else {
        assert!(variable("CI").is_none(), "nginx is not installed");
        eprintln!("not run: nginx is not installed");
        return;
    };
    let app = start(&["127.0.0.1"]).await;
    let nginx = Nginx::start(&program, app.instance.url().port().unwrap()).await;
    let key = format!("authorization: Bearer {}\r\n", *app.first.text);
    let read = format!("GET /v1/workspace HTTP/1.1\r\nhost: localhost\r\n{key}");
    let served = nginx.ask([127, 0, 0, 9], &read).await;
    assert!(served.starts_with("HTTP/1.1 200") && served.contains("Acme"), "{served}");
    assert!(served.contains("x-content-type-options: nosniff"), "{served}");
    // What a client says of itself is replaced, and its other header removed.
    let forged = "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: http\r\nx-forwarded-host: evil.example\r\n\
                  forwarded: for=203.0.113.9;proto=http\r\n";
    let served = nginx.ask([127, 0, 0, 9], &format!("{read}{forged}")).await;
    assert!(served.starts_with("HTTP/1.1 200"), "{served}");
    let foreign = nginx.ask([127, 0, 0, 9], &read.replace("host: localhost", "host: evil.example")).await;
    assert!(!foreign.contains("Acme") && !foreign.starts_with("HTTP/1.1 200"), "{foreign}");
    // Each client has its own limit; another's is not touched by it.
    let mut limited = false;
    for number in 0..40 {
        let head = format!("GET /v1/nowhere HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 192.0.2.{number}\r\n");
        limited |= nginx.ask([127, 0, 0, 10], &head).await.starts_with("HTTP/1.1 429");
    }
    assert!(limited, "a client makes itself many by its own word");
    let other = nginx.ask([127, 0, 0, 11], &read).await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    drop(nginx);
    app.stop().await;
}
