//! The edge: what happens to every request before it is routed and to every answer after.
//!
//! It finds out who the client is, counts the request against its network, refuses what must have no effect (a request that could
//! be read in two ways, in the clear, for another host, from another origin's page), keeps a panic from becoming a broken connection,
//! and sets the headers. A span never holds the raw path or query: links and codes are in them.

mod forwarded;
mod forwarding;
mod host;
mod origin;
mod shape;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{self, MethodFilter},
};
use domain::{clock::Clock, id::RequestId, problem::Kind};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use service::{App, Headroom, Refusal, identify};
use tracing::{Instrument, field::Empty};

use self::{
    forwarding::{Client, Forwarding},
    host::Hosts,
    origin::{Grant, Origins, Place},
};
pub use self::{
    forwarding::{ForwardedHeader, Proxy},
    host::Host,
    origin::Origin,
};
use crate::{
    fga::{self, refusal},
    guard::Peer,
    headers::{self, PagePolicy},
    pages,
    problem::Problem,
    ratelimit::Tally,
    route::{Guard, Route, Verb},
    routes,
};

/// Whom the edge lets through, as the configuration says. Read once: nothing changes it while a process runs.
#[derive(Debug, Clone, Default)]
pub struct EdgeOptions {
    /// Origins beside our own whose pages may call the API.
    pub origins: Vec<Origin>,
    /// Hosts beside the public one that are answered for.
    pub hosts: Vec<Host>,
    /// The proxies whose word counts.
    pub proxies: Vec<Proxy>,
    /// The header in which they give it.
    pub forwarded_header: ForwardedHeader,
}

/// The methods that the log names: a stranger's own word is not written there.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// How many headers are set beside those of whoever answers.
const ROOM: usize = 20;

struct Edge {
    app: Arc<App>,
    forwarding: Forwarding,
    hosts: Hosts,
    origins: Origins,
    places: BTreeMap<&'static str, Place>,
}

/// The application as a router, from the table.
pub fn router(app: &Arc<App>, options: EdgeOptions) -> Router {
    let router =
        routes::table().iter().fold(Router::new(), |router, route| router.route(route.path, method(app, route)));
    let (nowhere, wrong) = (Arc::clone(app), Arc::clone(app));
    let edge = Arc::new(Edge {
        app: Arc::clone(app),
        forwarding: Forwarding::new(options.proxies, options.forwarded_header),
        hosts: Hosts::new(&app.public_url, options.hosts),
        origins: Origins::new(&app.public_url, options.origins),
        places: places(routes::table()),
    });
    router
        .fallback(move |request: Request| async move { refuse(&nowhere, &request, Problem::new(Kind::NotFound)) })
        .method_not_allowed_fallback(move |request: Request| async move {
            refuse(&wrong, &request, Problem::new(Kind::MethodNotAllowed))
        })
        .layer(middleware::from_fn_with_state(edge, pass))
}

/// Any router with the headers that every answer has, and with nothing else of the edge.
pub(crate) fn with_headers(router: Router, over_tls: bool) -> Router {
    router.layer(middleware::map_response(move |mut response: Response| async move {
        headers::secure(response.headers_mut(), None, over_tls);
        response
    }))
}

fn method(app: &Arc<App>, route: &'static Route) -> routing::MethodRouter {
    let app = Arc::clone(app);
    let handler = move |request: Request| route.run(Arc::clone(&app), request);
    match route.method {
        Verb::Get => routing::on(MethodFilter::GET, handler),
        Verb::Post => routing::on(MethodFilter::POST, handler),
        Verb::Put => routing::on(MethodFilter::PUT, handler),
        Verb::Delete => routing::on(MethodFilter::DELETE, handler),
        Verb::Any => routing::any(handler),
    }
}

/// What a browser may be told of each path.
fn places(table: &'static [Route]) -> BTreeMap<&'static str, Place> {
    let mut places = BTreeMap::new();
    for path in table.iter().map(|route| route.path) {
        let here: Vec<_> = table.iter().filter(|route| route.path == path).collect();
        let methods = here.iter().map(|route| match route.method {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
            Verb::Any => "GET, HEAD, POST, PUT, PATCH, DELETE",
        });
        let known = here.iter().flat_map(|route| route.headers.iter().map(|(name, _)| *name));
        let list = |words: Vec<&str>| HeaderValue::from_str(&words.join(", ")).unwrap_or(HeaderValue::from_static(""));
        places.insert(
            path,
            Place {
                is_page: here.iter().any(|route| route.is_page),
                is_guarded: here.iter().any(|route| !matches!(route.guard, Guard::Public(_))),
                methods: list(methods.collect()),
                headers: list(["Authorization", "Content-Type"].into_iter().chain(known).collect()),
            },
        );
    }
    places
}

fn refuse(app: &App, request: &Request, problem: Problem) -> Response {
    if domain::sabotaged!(LedOn) && request.uri().path().len() > 1 {
        return axum::response::Redirect::permanent(request.uri().path().trim_end_matches('/')).into_response();
    }
    let id = request.extensions().get().copied().unwrap_or_else(|| RequestId::new(&app.clock));
    told(problem, id, &app.clock, fga::is_ours(request.uri().path()))
}

/// A refusal in the form that clients of the address read.
fn told(problem: Problem, id: RequestId, clock: &Clock, is_openfga: bool) -> Response {
    if is_openfga { refusal::respond(&problem, id, clock) } else { problem.respond(id, clock) }
}

impl Edge {
    /// Everything that a request must pass before anything is done for it, in this order. Counted first: a refusal costs something,
    /// too.
    fn admit(&self, request: &mut Request, place: Option<&Place>) -> Result<(Headroom, Option<Grant>), Problem> {
        let peer = request.extensions().get().copied().unwrap_or(Peer::Local);
        let client = self.forwarding.client(peer, request.headers());
        let peer = client.as_ref().map_or(peer, |client| client.peer);
        request.extensions_mut().insert(peer);
        let headroom = identify::admit_network(&self.app, peer.address())?;
        let client = client?;
        shape::refuse_ambiguous(request)?;
        refuse_clear(request, &client)?;
        // Whoever asks after this process's health knows it by its address.
        if !request.uri().path().starts_with("/health/") {
            let named = (request.uri(), request.version(), request.headers());
            self.hosts.refuse_others(named, &client.hosts, peer.is_local())?;
        }
        let grant = self.origins.refuse_others(request.method(), request.headers(), place)?;
        Ok((headroom, grant))
    }

    /// A refusal in the form that the place's visitors read.
    fn refused(&self, problem: Problem, id: RequestId, place: Option<&Place>, is_openfga: bool) -> Response {
        metrics::counter!("keyholder_edge_refusals_total", "reason" => problem.name()).increment(1);
        match place {
            // Whoever came in the clear is told in the plainest words, and is not led on: what he sent has been seen already.
            Some(place) if place.is_page && problem.is_in_the_clear() => {
                problem.log();
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                (problem.status(), [(header::CONTENT_TYPE, text)], "Open this address with https://.\n").into_response()
            }
            Some(place) if place.is_page => pages::refusal(&problem, id, &self.app.clock),
            _ => told(problem, id, &self.app.clock, is_openfga),
        }
    }
}

/// Nothing is answered in the clear to another machine, and nobody is led from there to where it would be safe: a redirect would have
/// the credential sent twice.
fn refuse_clear(request: &Request, client: &Client) -> Result<(), Problem> {
    if !client.in_clear || domain::sabotaged!(ClearText) {
        return Ok(());
    }
    if request.headers().contains_key(header::AUTHORIZATION) {
        tracing::warn!("a credential came in the clear, and is refused; whoever sent it should have a new one");
    }
    Err(Problem::new(Kind::InTheClear))
}

/// Passes one request. A caller's own `X-Request-Id` is not trusted: the id stands in the audit trail.
async fn pass(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let app = Arc::clone(&edge.app);
    let id = RequestId::new(&app.clock);
    let tally = Tally::default();
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(tally.clone());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // The route of the table, never the address: that is a user's own, with what he wrote into it.
    let asked = domain::sabotaged!(NoContentInLogs).then(|| request.uri().to_string());
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method = known_method(request.method()),
        route = asked.as_deref().or(route.as_deref()).unwrap_or("none"),
        status = Empty,
        latency_ms = Empty,
        step = Empty,
    );
    let began = app.clock.since_boot();
    let is_openfga = fga::is_ours(request.uri().path());
    let place = route.as_deref().and_then(|path| edge.places.get(path));
    let (response, passed) = async {
        let (headroom, grant) = match edge.admit(&mut request, place) {
            Ok(passed) => passed,
            Err(problem) => return (edge.refused(problem, id, place, is_openfga), None),
        };
        let response = match place {
            Some(place) if grant.is_some() && origin::is_preflight(request.method(), request.headers()) => {
                (StatusCode::NO_CONTENT, origin::preflight(place)).into_response()
            }
            // What a verb handed to a task goes on: a panic ends the request, not the act.
            _ => match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                Ok(response) => response,
                Err(_panic) => {
                    let problem = Problem::from(Refusal::Internal("a handler panicked", None));
                    told(problem, id, &app.clock, is_openfga)
                }
            },
        };
        (response, Some((headroom, grant)))
    }
    .instrument(span.clone())
    .await;
    let response = finished(&edge, response, id, place, passed, &tally);
    let took = app.clock.since_boot().saturating_sub(began);
    span.record("status", response.status().as_u16());
    span.record("latency_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    span.in_scope(|| tracing::info!("answered"));
    response
}

/// An answer with everything that one has, whoever made it.
fn finished(
    edge: &Edge,
    mut response: Response,
    id: RequestId,
    place: Option<&Place>,
    passed: Option<(Headroom, Option<Grant>)>,
    tally: &Tally,
) -> Response {
    let page = response.extensions_mut().remove::<PagePolicy>();
    let headers = response.headers_mut();
    // As much room as an answer's headers take in the end: a map that grows on the way is filled anew each time.
    headers.reserve(ROOM);
    headers::secure(headers, page.as_ref(), edge.app.public_url.scheme() == "https");
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("request-id"), value);
    }
    if edge.app.is_leaving() {
        // Whoever keeps his connection would else ask on it just when it is closed. HTTP/2 says so in a frame of its own.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some((headroom, grant)) = passed {
        if place.is_some_and(|place| place.is_guarded) {
            tally.put(headroom, headers);
        }
        if let Some(grant) = grant {
            grant.admit(headers);
        }
    }
    response
}

/// A method's name for the log.
fn known_method(method: &http::Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
