//! The table of hostile requests × outcome: what is sent, what it is answered, and that nothing came of it.
//!
//! Most rows are one request that would make an API key, with one thing wrong. Each goes over the wire as bytes, so that no client
//! tidies it up.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;
use sqlx::PgConnection;

use crate::{
    harness::TestApp,
    matrices::{operator, state_of, without_limits},
};

/// How long an exchange may take at most: only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

const MAKE: &str = "{\"label\":\"hostile\",\"role\":\"service\"}";
const CROSS: &str = "sec-fetch-site: cross-site";

/// A request of the table.
struct Row {
    what: &'static str,
    start: String,
    /// Without the usual ones that stand in `without`.
    headers: Vec<String>,
    without: &'static [&'static str],
    body: Vec<u8>,
    /// Whether it comes from a named proxy.
    proxied: bool,
    status: u16,
    /// The last part of the problem's type; `page` for a page; nothing where the request is answered.
    kind: &'static str,
}

/// A request that would make a key, with these headers beside the usual ones.
fn make(what: &'static str, headers: &[&str], status: u16, kind: &'static str) -> Row {
    Row {
        what,
        start: "POST /v1/api-keys".to_owned(),
        headers: headers.iter().map(|&line| line.to_owned()).collect(),
        without: &[],
        body: MAKE.as_bytes().to_vec(),
        proxied: false,
        status,
        kind,
    }
}

fn bare(what: &'static str, start: impl Into<String>, headers: &[&str], status: u16, kind: &'static str) -> Row {
    Row { start: start.into(), body: Vec::new(), ..make(what, headers, status, kind) }
}

impl Row {
    fn lacking(mut self, without: &'static [&'static str]) -> Self {
        self.without = without;
        self
    }

    fn at(mut self, path: &str) -> Self {
        self.start = format!("POST {path}");
        self
    }

    fn sending(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// The bytes: a header of the row's own takes the usual one's place, unless it begins with a plus.
    fn bytes(&self, key: &str) -> Vec<u8> {
        let usual = [
            "host: localhost".to_owned(),
            "connection: close".to_owned(),
            format!("authorization: Bearer {key}"),
            "content-type: application/json".to_owned(),
            format!("content-length: {}", self.body.len()),
        ];
        let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        let stays = |line: &String| {
            let name = name(line);
            let bodiless = self.body.is_empty() && name.starts_with("content-");
            !bodiless
                && !self.without.contains(&name.as_str())
                && self.headers.iter().all(|own| self::name(own) != name)
        };
        let mut head = format!("{} HTTP/1.1\r\n", self.start);
        for line in usual.into_iter().filter(stays) {
            head.extend([line.as_str(), "\r\n"]);
        }
        for line in &self.headers {
            head.extend([line.trim_start_matches('+'), "\r\n"]);
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

fn name(line: &str) -> String {
    line.split(':').next().unwrap_or_default().to_owned()
}

fn origins(link: &str) -> Vec<Row> {
    const NOT: &str = "origin-not-allowed";
    let form = "content-type: application/x-www-form-urlencoded";
    let asks = "access-control-request-method: POST";
    let consent = |what, headers: &[&str]| make(what, headers, 403, "page").at(link).sending("allow=profile.read");
    vec![
        make("another origin", &["origin: https://evil.example"], 403, NOT),
        make("the origin null", &["origin: null"], 403, NOT),
        make("the origin null, said to be ours", &["origin: null", "sec-fetch-site: same-origin"], 403, NOT),
        make("an empty origin", &["origin: "], 403, NOT),
        make(
            "two origins, one listed",
            &["origin: https://app.example.com", "+origin: https://evil.example"],
            403,
            NOT,
        ),
        make("our host at another port", &["origin: http://localhost:1"], 403, NOT),
        make("a listed origin in capitals", &["origin: https://APP.example.com"], 403, NOT),
        make("a listed origin with more behind", &["origin: https://app.example.com.evil.example"], 403, NOT),
        make("a listed origin in the clear", &["origin: http://app.example.com"], 403, NOT),
        make("a list of origins in one", &["origin: https://app.example.com https://evil.example"], 403, NOT),
        bare(
            "a preflight of another origin",
            "OPTIONS /v1/api-keys",
            &["origin: https://evil.example", asks],
            403,
            NOT,
        ),
        bare("a preflight of null", "OPTIONS /v1/api-keys", &["origin: null", asks], 403, NOT),
        bare("a read of another origin", "GET /v1/api-keys", &["origin: https://evil.example"], 403, NOT),
        make("cross-site without an origin", &[CROSS], 403, NOT),
        make("a neighbour's host without an origin", &["sec-fetch-site: same-site"], 403, NOT),
        make("two words on the site", &["sec-fetch-site: same-origin", "+sec-fetch-site: cross-site"], 403, NOT),
        make(
            "a form of another site in a tab",
            &[CROSS, "sec-fetch-mode: navigate", "sec-fetch-dest: document"],
            403,
            NOT,
        ),
        bare("a link's page as an image", format!("GET {link}"), &[CROSS, "sec-fetch-mode: no-cors"], 403, "page"),
        bare(
            "a link's page in a frame",
            format!("GET {link}"),
            &[CROSS, "sec-fetch-mode: navigate", "sec-fetch-dest: iframe"],
            403,
            "page",
        ),
        bare("a link's page by a script", format!("GET {link}"), &["origin: https://app.example.com"], 403, "page"),
        consent("the consent of another origin", &[form, "origin: https://evil.example"]),
        consent("the consent of a listed origin", &[form, "origin: https://app.example.com"]),
        consent("the consent of null from elsewhere", &[form, "origin: null", CROSS]),
    ]
}

fn hosts() -> Vec<Row> {
    const NOT: &str = "misdirected";
    vec![
        make("another host", &["host: evil.example"], 421, NOT),
        bare("another host, a page", "GET /docs", &["host: evil.example"], 421, "page"),
        make("our host with more behind", &["host: localhost.evil.example"], 421, NOT),
        make("our host with a dot behind", &["host: localhost."], 421, NOT),
        make("every address", &["host: 0.0.0.0:8080"], 421, NOT),
        make("a user before our host", &["host: evil@localhost"], 400, "malformed-request"),
        make("a list of hosts in one", &["host: localhost, evil.example"], 400, "malformed-request"),
        make("an empty host", &["host: "], 421, NOT),
        make("another host in the target", &[], 421, NOT).at("http://evil.example/v1/api-keys"),
        make("our host in the target, another beside", &["host: evil.example"], 421, NOT)
            .at("http://localhost/v1/api-keys"),
        make("no host", &[], 400, "malformed-request").lacking(&["host"]),
        make("two hosts", &["host: localhost", "+host: evil.example"], 400, "malformed-request"),
        make("one host twice", &["host: localhost", "+host: localhost"], 400, "malformed-request"),
        bare("a tunnel", "CONNECT evil.example:443", &[], 421, NOT),
    ]
}

fn credentials(key: &str) -> Vec<Row> {
    const NOT: &str = "unauthenticated";
    let twice = [format!("authorization: Bearer {key}"), format!("+authorization: Bearer {key}")];
    let none: &'static [&'static str] = &["authorization"];
    let chunked = format!("{:x}\r\n{MAKE}\r\n0\r\nauthorization: Bearer {key}\r\n\r\n", MAKE.len());
    vec![
        make("no key", &[], 401, NOT).lacking(none),
        make("the key twice", &[&twice[0], &twice[1]], 400, "malformed-request"),
        make("the key by another scheme", &[&format!("authorization: Basic {key}")], 401, NOT),
        make("the key in the query", &[], 401, NOT).lacking(none).at(&format!("/v1/api-keys?access_token={key}")),
        make("the key in a cookie", &[&format!("cookie: authorization={key}")], 401, NOT).lacking(none),
        make("the key in a header of its own", &[&format!("x-api-key: {key}")], 401, NOT).lacking(none),
        make("the key in a trailer", &["transfer-encoding: chunked", "trailer: authorization"], 401, NOT)
            .lacking(&["authorization", "content-length"])
            .sending(chunked),
        make("no key, and a body that is waited for", &["expect: 100-continue"], 401, NOT).lacking(none),
        make("an operator's route", &[], 401, NOT).at("/v1/installation/kill-drills"),
    ]
}

fn bodies() -> Vec<Row> {
    const TYPE: &str = "unsupported-media-type";
    const JSON: &str = "invalid-json";
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let large = format!("{{\"label\":\"{}\"}}", "a".repeat(300_000));
    let twice = ["content-type: application/json", "+content-type: application/json"];
    let coded = ["content-encoding: identity", "+content-encoding: gzip"];
    let keys = ["idempotency-key: a", "+idempotency-key: b"];
    let chunked = format!("{:x}\r\n{MAKE}\r\n0\r\n\r\n", MAKE.len());
    vec![
        make("a content coding", &["content-encoding: gzip"], 415, TYPE),
        make("two content codings", &coded, 400, "malformed-request"),
        make("a body in parts", &["content-type: multipart/form-data; boundary=x"], 415, TYPE),
        make("another charset", &["content-type: application/json; charset=latin1"], 415, TYPE),
        make("a parameter that nobody knows", &["content-type: application/json; a=b"], 415, TYPE),
        make("a text", &["content-type: text/plain"], 415, TYPE),
        make("a form", &["content-type: application/x-www-form-urlencoded"], 415, TYPE),
        make("no content type", &[], 415, TYPE).lacking(&["content-type"]),
        make("the content type twice", &twice, 400, "malformed-request"),
        make("two idempotency keys", &keys, 400, "malformed-request"),
        make("another transfer coding", &["transfer-encoding: gzip, chunked"], 400, "malformed-request")
            .lacking(&["content-length"])
            .sending(chunked),
        make("no JSON", &[], 400, JSON).sending("label=hostile"),
        make("a field twice", &[], 400, JSON).sending("{\"label\":\"a\",\"label\":\"b\",\"role\":\"service\"}"),
        make("a depth of 500", &[], 400, JSON).sending(deep),
        make("U+0000 in a text", &[], 400, JSON).sending("{\"label\":\"a\\u0000\",\"role\":\"service\"}"),
        make("UTF-16", &[], 400, JSON).sending(b"\xff\xfe{\0}\0".to_vec()),
        make("bad UTF-8", &[], 400, JSON).sending(b"{\"label\":\"\xc0\xaf\",\"role\":\"service\"}".to_vec()),
        make("300 kB", &[], 413, "body-too-large").sending(large),
        make("a list", &[], 422, "invalid-input").sending("[]"),
        make("an unknown member", &[], 422, "invalid-input")
            .sending("{\"label\":\"a\",\"role\":\"service\",\"admin\":true}"),
        make("another type of a member", &[], 422, "invalid-input").sending("{\"label\":{},\"role\":\"service\"}"),
        Row { start: "GET /v1/api-keys".to_owned(), ..make("a body where none is taken", &[], 415, TYPE) },
    ]
}

fn addresses() -> Vec<Row> {
    const NOT: &str = "not-found";
    const METHOD: &str = "method-not-allowed";
    let long = "a".repeat(9_000);
    let many = "a=1&".repeat(1_500);
    let path = |what, path: &str| make(what, &[], 404, NOT).at(path);
    vec![
        path("an empty segment", "//v1/api-keys"),
        path("a dot", "/v1/./api-keys"),
        path("two dots", "/v1/workspace/../api-keys"),
        path("two dots, encoded", "/v1/workspace/%2e%2e/api-keys"),
        path("an encoded slash", "/v1%2fapi-keys"),
        path("an encoded backslash", "/v1%5capi-keys"),
        path("an encoded letter", "/v1/%61pi-keys"),
        path("an encoded NUL", "/v1/api-keys%00"),
        path("half an encoding", "/v1/api-keys%"),
        path("a slash behind", "/v1/api-keys/"),
        path("a parameter of the path", "/v1/api-keys;a=b"),
        path("capitals", "/V1/API-KEYS"),
        path("an id with a slash within", "/v1/mandates/man_0%2frevoke/revoke"),
        path("an id in overlong UTF-8", "/v1/mandates/%c0%ae%c0%ae/revoke"),
        make("a long path", &[], 414, "uri-too-long").at(&format!("/v1/{long}")),
        make("a long query", &[], 414, "uri-too-long").at(&format!("/v1/api-keys?a={long}")),
        make("an unknown parameter", &[], 422, "invalid-input").at("/v1/api-keys?admin=true"),
        make("many parameters", &[], 422, "invalid-input").at(&format!("/v1/api-keys?{many}")),
        bare("another method by a header", "GET /v1/api-keys", &["x-http-method-override: DELETE"], 200, ""),
        make("another method by a header, at a route of reading", &["x-http-method-override: GET"], 405, METHOD)
            .at("/v1/workspace"),
        make("another method in the query", &[], 422, "invalid-input").at("/v1/api-keys?_method=DELETE"),
        bare("TRACE", "TRACE /v1/api-keys", &[], 405, METHOD),
        bare("a method of nobody's", "BREW /v1/api-keys", &[], 405, METHOD),
        bare("OPTIONS of everything", "OPTIONS *", &[], 404, NOT),
    ]
}

fn forwarding() -> Vec<Row> {
    const HTTPS: &str = "x-forwarded-proto: https";
    const FOR: &str = "x-forwarded-for: 198.51.100.1";
    const NOT: &str = "malformed-request";
    let hops = format!("x-forwarded-for: {}", vec!["127.0.0.1"; 17].join(", "));
    vec![
        bare("nobody's word on the protocol", "GET /v1/workspace", &["x-forwarded-proto: http", FOR], 200, ""),
        bare("nobody's word on the host", "GET /v1/workspace", &["x-forwarded-host: evil.example"], 200, ""),
        bare("nobody's chain of 17", "GET /v1/workspace", &[&hops], 200, ""),
        make("in the clear to the proxy", &[FOR, "x-forwarded-proto: http"], 400, "in-the-clear").proxied(),
        make("in the clear to one of two", &[FOR, "x-forwarded-proto: https, http"], 400, "in-the-clear").proxied(),
        bare("a page in the clear", "GET /docs", &[FOR, "x-forwarded-proto: http"], 400, "text").proxied(),
        make("no word on the protocol", &[FOR], 400, NOT).proxied(),
        make("an odd protocol", &[FOR, "x-forwarded-proto: spdy"], 400, NOT).proxied(),
        make("a chain of 17", &[&hops, HTTPS], 400, NOT).proxied(),
        make("another header than the proxy's", &["forwarded: for=198.51.100.1;proto=https"], 400, NOT).proxied(),
        make("two headers that disagree", &[FOR, HTTPS, "forwarded: for=203.0.113.9"], 400, NOT).proxied(),
        make("a header without its end", &[FOR, HTTPS, "forwarded: for=\"198.51.100.1"], 400, NOT).proxied(),
        make("another host by the proxy", &[FOR, HTTPS, "x-forwarded-host: evil.example"], 421, "misdirected")
            .proxied(),
        make("two hosts by the proxy", &[FOR, HTTPS, "x-forwarded-host: localhost, evil.example"], 400, NOT).proxied(),
        make("this machine's address from elsewhere", &[FOR, HTTPS, "host: 127.0.0.1"], 421, "misdirected").proxied(),
        make(
            "another origin through the proxy",
            &[FOR, HTTPS, "origin: https://evil.example"],
            403,
            "origin-not-allowed",
        )
        .proxied(),
    ]
}

/// An answer as it came over the wire.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a hostile client is no part of the application")]
fn exchange(port: u16, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may have answered and closed before everything was written.
    let _cut = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Words that only the inside knows.
const INSIDE: [&str; 18] = [
    ".rs",
    "src/",
    "/home",
    "/root",
    "/tmp",
    "/usr",
    "panicked",
    "backtrace",
    "thread '",
    "sqlx",
    "postgres",
    "select ",
    "insert into",
    "keyholder.",
    "axum",
    "hyper",
    "serde",
    "tokio",
];

/// What is wrong with an answer.
fn faults(row: &Row, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    let type_of = answer.header("content-type").unwrap_or_default();
    let kind = match type_of {
        "application/problem+json" => {
            let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            if body["status"] != answer.status
                || Some(body["request_id"].as_str().unwrap_or("-")) != answer.header("request-id")
            {
                faults.push("its body says something else than its head".to_owned());
            }
            body["type"].as_str().and_then(|urn| urn.strip_prefix("urn:keyholder:problem:")).unwrap_or("?").to_owned()
        }
        html if html.starts_with("text/html") => "page".to_owned(),
        text if text.starts_with("text/plain") => "text".to_owned(),
        _ => String::new(),
    };
    if (answer.status, kind.as_str()) != (row.status, row.kind) {
        faults.push(format!("answered {} {kind}", answer.status));
    }
    let fixed = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("vary", "origin"),
    ];
    for (name, value) in fixed {
        if answer.header(name) != Some(value) {
            faults.push(format!("{name} is {:?}", answer.header(name)));
        }
    }
    for (name, begins) in [
        ("content-security-policy", "default-src 'none';"),
        ("permissions-policy", "accelerometer=()"),
        ("request-id", "req_"),
    ] {
        if !answer.header(name).is_some_and(|value| value.starts_with(begins)) {
            faults.push(format!("{name} is {:?}", answer.header(name)));
        }
    }
    for name in ["server", "x-powered-by", "access-control-allow-origin", "access-control-allow-methods", "location"] {
        if answer.header(name).is_some() {
            faults.push(format!("it has {name}"));
        }
    }
    let said = format!("{}\n{}", answer.head, answer.body).to_lowercase().replace("/assets/keyholder.css", "");
    faults.extend(
        INSIDE.iter().filter(|word| row.status >= 400 && said.contains(**word)).map(|word| format!("says {word:?}")),
    );
    if answer.head.contains("100 Continue") {
        faults.push("asked for the body".to_owned());
    }
    faults
}

/// What there is that an effect would change.
async fn traces(app: &TestApp, owner: &mut PgConnection) -> (Vec<(String, String)>, i64, usize) {
    let trail = sqlx::query_scalar("select count(*) from keyholder.installation_audit");
    let trail = trail.fetch_one(&mut *owner).await.unwrap();
    (state_of(owner, app.workspace_uuid()).await, trail, app.sandbox.platform().requests().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_request_has_its_outcome_and_no_effect() {
    let listed = |options: &mut keyholder::InstanceOptions| {
        without_limits(options);
        options.edge.origins = vec!["https://app.example.com".parse().unwrap()];
    };
    let app = TestApp::start_with(listed).await;
    let behind = app
        .second_node_with(|options| {
            listed(options);
            options.edge.proxies = vec!["127.0.0.1".parse().unwrap()];
        })
        .await;
    let _person = operator(&app).await;
    let (key, link) = (app.first.text.to_string(), app.link(&["profile.read"]).await);
    let mut owner = app.owner().await;
    let parts = [origins(&link), hosts(), credentials(&key), bodies(), addresses(), forwarding()];
    let mut before = traces(&app, &mut owner).await;
    let (mut table, mut wrong) = (Vec::new(), Vec::new());
    for row in parts.iter().flatten() {
        let port = if row.proxied { behind.url() } else { app.instance.url() }.port().unwrap();
        let bytes = row.bytes(&key);
        let answer = tokio::task::spawn_blocking(move || exchange(port, &bytes)).await.unwrap();
        let mut faults = faults(row, &answer);
        let after = traces(&app, &mut owner).await;
        if after != before {
            faults.push("it had an effect".to_owned());
            before = after;
        }
        if app.stranger.get("/health/live").await.unwrap().status != 200 {
            faults.push("the server serves no more".to_owned());
        }
        let outcome = if faults.is_empty() { "no effect".to_owned() } else { faults.join("; ") };
        table.push(format!("{:<52} {:>3} {:<24} {outcome}", row.what, answer.status, row.kind));
        if !faults.is_empty() {
            wrong.push(table.last().unwrap().clone());
        }
    }
    println!("{} hostile requests\n{}", table.len(), table.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.len() >= 60, "{}", table.len());
    // The same request with nothing wrong has its effect, directly and through the named proxy.
    for row in [
        make("nothing wrong", &[], 201, ""),
        make("a listed origin", &["origin: https://app.example.com", CROSS], 201, ""),
        make("through the proxy", &["x-forwarded-for: 198.51.100.1", "x-forwarded-proto: https"], 201, "").proxied(),
    ] {
        let port = if row.proxied { behind.url() } else { app.instance.url() }.port().unwrap();
        let (bytes, before) = (row.bytes(&key), traces(&app, &mut owner).await);
        let answer = tokio::task::spawn_blocking(move || exchange(port, &bytes)).await.unwrap();
        assert_eq!(answer.status, 201, "{}: {}", row.what, answer.body);
        assert_ne!(traces(&app, &mut owner).await, before, "{}", row.what);
    }
    behind.stop().await;
    app.stop().await;
}
