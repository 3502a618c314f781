//! The edge: what happens to every request before it is routed and to every answer after.
//!
//! It names the request, counts it against its network, keeps a panic from becoming a broken connection, and sets the headers.
//! A span never holds the raw path or query: links and codes are in them.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{self, MethodFilter},
};
use domain::{id::RequestId, problem::Kind};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue};
use service::{App, Refusal, identify};
use tracing::{Instrument, field::Empty};

use crate::{
    guard,
    headers::{self, PagePolicy},
    problem::Problem,
    route::{Route, Verb},
    routes,
};

/// The application as a router, from the table.
pub fn router(app: &Arc<App>) -> Router {
    let router =
        routes::table().iter().fold(Router::new(), |router, route| router.route(route.path, method(app, route)));
    let (nowhere, wrong) = (Arc::clone(app), Arc::clone(app));
    router
        .fallback(move |request: Request| async move { refuse(&nowhere, &request, Problem::new(Kind::NotFound)) })
        .method_not_allowed_fallback(move |request: Request| async move {
            refuse(&wrong, &request, Problem::new(Kind::MethodNotAllowed))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(app), pass))
}

fn method(app: &Arc<App>, route: &'static Route) -> routing::MethodRouter {
    let app = Arc::clone(app);
    let handler = move |request: Request| route.run(Arc::clone(&app), request);
    match route.method {
        Verb::Get => routing::on(MethodFilter::GET, handler),
        Verb::Post => routing::on(MethodFilter::POST, handler),
        Verb::Delete => routing::on(MethodFilter::DELETE, handler),
        Verb::Any => routing::any(handler),
    }
}

fn refuse(app: &App, request: &Request, problem: Problem) -> Response {
    let id = request.extensions().get().copied();
    problem.respond(id.unwrap_or_else(|| RequestId::new(&app.clock)), &app.clock)
}

/// Passes one request. A caller's own `X-Request-Id` is not trusted: the id stands in the audit trail.
async fn pass(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new(&app.clock);
    request.extensions_mut().insert(id);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method = known_method(request.method()),
        route = route.as_deref().unwrap_or("none"),
        status = Empty,
        latency_ms = Empty,
        step = Empty,
    );
    let began = app.clock.since_boot();
    let mut response = {
        let app = Arc::clone(&app);
        async move {
            if let Err(refusal) = identify::admit_network(&app, guard::peer(request.extensions())) {
                return Problem::from(refusal).respond(id, &app.clock);
            }
            // What a verb handed to a task goes on: a panic ends the request, not the act.
            match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                Ok(response) => response,
                Err(_panic) => Problem::from(Refusal::Internal("a handler panicked", None)).respond(id, &app.clock),
            }
        }
    }
    .instrument(span.clone())
    .await;
    let page = response.extensions_mut().remove::<PagePolicy>();
    headers::secure(response.headers_mut(), page.as_ref(), &app.public_url);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), value);
    }
    let took = app.clock.since_boot().saturating_sub(began);
    span.record("status", response.status().as_u16());
    span.record("latency_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    span.in_scope(|| tracing::info!("answered"));
    response
}

/// A method's name for the log; a stranger's own word is not written there.
fn known_method(method: &http::Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}
