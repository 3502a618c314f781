//! Probes beside customers, where something stands in front of the server that answers by itself, a node lags, or a platform fails: that is
//! no word on a claim.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, header, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use keyholder::{caller::Caller, prove};
use proof::{
    Failure, Outcome, PROBES,
    owner::{come_home, follow_link},
};
use sandbox::{Call, Quirk, Route, Scope};
use tokio::{net::TcpListener, task::JoinSet};
use url::Url;

use super::beside_customers::Site;
use crate::{
    harness::{ACCOUNT, RETURN},
    matrices::without_limits,
};

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The server.
    Server,
    /// What stands in front, with this status and a page.
    Front(u16),
    /// The same, with a page that shows the request back.
    Mirror(u16),
    /// A node of the server's that fails, is busy, or lags behind.
    Node(u16),
}

/// Says who answers a request, by its method, its path, and how many of the same have come before.
type Rule = Box<dyn FnMut(&Method, &str, usize) -> By + Send>;

/// What stands in front of a server, and passes what its rule lets it pass.
struct Front {
    rule: Mutex<(Rule, Vec<(Method, String)>)>,
    server: Caller,
}

impl Front {
    fn lay(listener: TcpListener, server: &Url) -> (Arc<Self>, JoinSet<()>) {
        let front = Arc::new(Self {
            rule: Mutex::new((Box::new(|_, _, _| By::Server), Vec::new())),
            server: Caller::new(server, None),
        });
        let (answering, mut tasks) = (Arc::clone(&front), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let front = Arc::clone(&answering);
                let service = service_fn(move |request| {
                    let front = Arc::clone(&front);
                    async move { Ok::<_, Infallible>(front.answer(request).await) }
                });
                connections.spawn(async move {
                    // A client that hangs up has had its answers.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (front, tasks)
    }

    /// Another rule, which counts from now on.
    fn obey(&self, rule: Rule) {
        *self.rule.lock().unwrap() = (rule, Vec::new());
    }

    /// How many requests have come under the present rule.
    fn requests(&self) -> usize {
        self.rule.lock().unwrap().1.len()
    }

    fn by(&self, head: &Parts) -> By {
        let mut rule = self.rule.lock().unwrap();
        let this = (head.method.clone(), head.uri.path().to_owned());
        let before = rule.1.iter().filter(|known| **known == this).count();
        let by = rule.0(&this.0, &this.1, before);
        rule.1.push(this);
        by
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let by = self.by(&head);
        let body = body.collect().await.unwrap().to_bytes();
        let page = |status: u16, text: String| {
            let page = Response::builder().status(status).header(header::CONTENT_TYPE, "text/html");
            page.body(Full::new(Bytes::from(format!("<!doctype html><title>Gateway</title><pre>{text}</pre>"))))
                .unwrap()
        };
        match by {
            By::Server => self.pass(&head, body).await,
            By::Front(status) => page(status, "Please try again.".to_owned()),
            By::Mirror(status) => page(status, format!("{head:?} {}", String::from_utf8_lossy(&body))),
            By::Node(status) => {
                let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
                answer.header("request-id", "req_of_a_node").body(Full::new(Bytes::from_static(b"{}"))).unwrap()
            }
        }
    }

    async fn pass(&self, head: &Parts, body: Bytes) -> Response<Full<Bytes>> {
        let headers: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let path = head.uri.path_and_query().unwrap().as_str();
        let asked = self.server.with_no_cookies().send(head.method.clone(), path, &headers, body).await.unwrap();
        let mut reply = Response::new(Full::new(asked.body));
        (*reply.status_mut(), *reply.headers_mut()) = (asked.status, asked.headers);
        reply.headers_mut().remove(header::TRANSFER_ENCODING);
        reply
    }
}

/// A site that is reached through a front, in whose workspace of the probes an account is connected.
async fn site() -> (Site, Arc<Front>, JoinSet<()>) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let public: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let site = Site::behind("engineering-playbook", &public, without_limits).await;
    let (front, tasks) = Front::lay(listener, site.app.instance.url());
    let (admin, platform) = (&site.target.admin, site.app.sandbox.platform());
    platform.open_account(ACCOUNT, ACCOUNT);
    let asked = follow_link(admin, (keyholder::local::PROVIDER, RETURN), &["profile.read"], &["profile.read"]).await;
    let asked = asked.unwrap_or_else(|failure| panic!("{failure}"));
    let back = platform.approve(&asked.authorize_url, ACCOUNT).unwrap();
    let home = asked.browser.get(&back).await.unwrap();
    come_home(admin, &home).await.unwrap_or_else(|failure| panic!("{failure}"));
    (site, front, tasks)
}

/// What a probe comes to, in a word: for what was tried, the subjects.
async fn outcome(site: &Site, probe: &str) -> (String, Outcome) {
    let report = prove::live(&site.target, &[probe.to_owned()]).await.unwrap();
    let outcome = report.walks[0].outcomes[probe].clone();
    let word = match &outcome {
        Ok(evidence) => evidence.tried.keys().cloned().collect::<Vec<_>>().join(" "),
        Err(Failure::Unproven(_)) => "unproven".to_owned(),
        Err(Failure::Broken { .. }) => "broken".to_owned(),
    };
    (word, outcome)
}

const ACTS: &str = "/v1/acts";
const KEYS: &str = "/v1/api-keys";

/// Which of the requests at an address are answered otherwise, and by whom.
fn of(method: Method, path: &'static str, which: &'static [usize], by: By) -> Rule {
    Box::new(
        move |asked, at, before| {
            if *asked == method && at == path && which.contains(&before) { by } else { By::Server }
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_proxy_nor_a_node_that_lags_breaks_a_claim_about_keys() {
    let (site, front, _tasks) = site().await;
    let (post, get) = (Method::POST, Method::GET);
    let all = "minute-caps month-caps";
    let ends: Rule = Box::new(|method, _, _| if method == Method::DELETE { By::Front(502) } else { By::Server });
    let cases: Vec<(&str, &str, Rule, &str)> = vec![
        ("key-budgets", "all is well", of(post.clone(), ACTS, &[], By::Server), all),
        ("key-budgets", "a node lags behind a cap of none", of(post.clone(), ACTS, &[1], By::Node(200)), "month-caps"),
        (
            "key-budgets",
            "a node lags behind a cap of one",
            of(post.clone(), ACTS, &[4, 5], By::Node(200)),
            "minute-caps",
        ),
        ("key-budgets", "a page instead of an act", of(post.clone(), ACTS, &[1, 2], By::Front(200)), "unproven"),
        (
            "key-budgets",
            "pages instead of acts",
            of(post.clone(), ACTS, &[4, 5, 6, 7, 8, 9, 10, 11], By::Front(200)),
            "unproven",
        ),
        ("key-budgets", "a proxy's limit instead of a cap", of(post.clone(), ACTS, &[1], By::Front(429)), "unproven"),
        ("key-budgets", "a node's limit instead of a cap", of(post.clone(), ACTS, &[1], By::Node(429)), "unproven"),
        ("key-budgets", "a proxy fails at the first act", of(post.clone(), ACTS, &[0], By::Front(502)), "unproven"),
        ("key-budgets", "a proxy fails at the last act", of(post.clone(), ACTS, &[5], By::Front(502)), "unproven"),
        (
            "key-budgets",
            "a page instead of a budget",
            of(post.clone(), "/v1/budgets", &[1], By::Front(200)),
            "unproven",
        ),
        (
            "key-budgets",
            "a page instead of the budgets",
            of(get.clone(), "/v1/budgets", &[0], By::Front(200)),
            "unproven",
        ),
        ("key-shown-once", "all is well", of(post.clone(), ACTS, &[], By::Server), "api-answers api-keys"),
        (
            "key-shown-once",
            "a proxy shows the key back",
            of(get.clone(), "/v1/audit", &[1], By::Mirror(403)),
            "unproven",
        ),
        ("key-shown-once", "a proxy fails", of(get.clone(), "/v1/audit", &[1], By::Front(502)), "unproven"),
        ("key-shown-once", "a node fails", of(get.clone(), "/v1/audit", &[1], By::Node(503)), "unproven"),
        ("key-shown-once", "a node is busy", of(get, "/v1/audit", &[1], By::Node(429)), "unproven"),
        ("key-shown-once", "a proxy shows the making back", of(post.clone(), KEYS, &[0], By::Mirror(201)), "unproven"),
        ("key-shown-once", "a proxy fails at the same again", of(post.clone(), KEYS, &[1], By::Front(502)), "unproven"),
        ("key-shown-once", "a node fails at the same again", of(post, KEYS, &[1], By::Node(500)), "unproven"),
        ("key-shown-once", "a proxy does not let it be ended", ends, "unproven"),
    ];
    let mut odd = Vec::new();
    for (probe, what, rule, wanted) in cases {
        front.obey(rule);
        let (came, outcome) = outcome(&site, probe).await;
        if came != wanted {
            odd.push(format!("{probe}, {what}: {came} instead of {wanted}: {outcome:?}"));
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ails_a_platform_is_no_word_on_caps() {
    let all = "minute-caps month-caps";
    let status = |code, retry_after_s| Quirk::Status { code, retry_after_s };
    let elsewhere = "https://elsewhere.example/".to_owned();
    // With the first act, and with the first under a cap that lets it pass: what the platform answers is an act like any other, by which caps
    // are tried; what it does not answer, or what keeps the next act from it, is no word.
    let ailments = [
        (status(503, Some(60)), ["unproven", "unproven"]),
        (status(401, None), [all, all]),
        (Quirk::RateLimited { reset_after_s: 60 }, ["unproven", "unproven"]),
        (Quirk::LoseAnswer, ["", "unproven"]),
        (Quirk::MalformedJson, [all, all]),
        (Quirk::Redirect { location: elsewhere }, [all, all]),
    ];
    let mut odd = Vec::new();
    for (quirk, wanted) in ailments {
        for (act, wanted) in [0, 3].into_iter().zip(wanted) {
            let (site, front, _tasks) = site().await;
            let (platform, ailment) = (site.app.sandbox.platform().clone(), quirk.clone());
            front.obey(Box::new(move |_, path, before| {
                if path == ACTS && before == act {
                    platform.switch(ailment.clone(), Scope::always(Route::Only(Call::ReadProfile))).unwrap();
                }
                By::Server
            }));
            let (came, outcome) = outcome(&site, "key-budgets").await;
            if came != wanted {
                odd.push(format!("{quirk:?} from act {act} on: {came} instead of {wanted}: {outcome:?}"));
            }
            site.close().await;
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_front_of_a_server_breaks_no_claim() {
    let (site, front, _tasks) = site().await;
    let mut broken = Vec::new();
    for probe in PROBES.iter().filter(|probe| probe.live().is_some()) {
        front.obey(Box::new(|_, _, _| By::Server));
        outcome(&site, probe.name).await.1.unwrap_or_else(|failure| panic!("{failure}"));
        let requests = front.requests();
        for by in [By::Front(502), By::Front(200), By::Mirror(403)] {
            for after in (0..12).map(|part| part * requests / 12).chain([requests - 1]) {
                let mut asked = 0;
                front.obey(Box::new(move |_, _, _| {
                    asked += 1;
                    if asked > after { by } else { By::Server }
                }));
                let (word, outcome) = outcome(&site, probe.name).await;
                if word == "broken" {
                    broken.push(format!("{} from request {after} on {by:?}: {outcome:?}", probe.name));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    site.close().await;
}
