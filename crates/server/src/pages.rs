//! Pages: what owners see when they connect an account, and how a refusal looks to a person.
//!
//! Everything shown is escaped by the templates. No page has a script, or loads anything but our stylesheet.

pub(crate) mod connect;
pub(crate) mod cookie;
pub(crate) mod docs;
pub(crate) mod trust;

use askama::Template;
use axum::response::{IntoResponse, Response};
use domain::{clock::Clock, id::RequestId};
use http::{HeaderValue, StatusCode, header};
use service::Refusal;

use crate::{headers::PagePolicy, problem::Problem, route::Visit};

/// The stylesheet of all pages.
const STYLE: &str = include_str!("../templates/keyholder.css");

/// A refusal, for a person.
#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    title: &'a str,
    words: &'a [&'a str],
    request: String,
}

/// Renders a page under its policy.
pub(crate) fn html(status: StatusCode, page: &impl Template, policy: PagePolicy) -> Result<Response, Problem> {
    let mut text = page.render().map_err(|error| Refusal::internal("a template", error))?;
    if domain::sabotaged!(EscapedPages) {
        text = text.replace("&#60;", "<").replace("&#62;", ">");
    }
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = (status, [(header::CONTENT_TYPE, content_type)], text).into_response();
    response.extensions_mut().insert(policy);
    Ok(response)
}

/// A problem as a page, logged.
pub(crate) fn refusal(problem: &Problem, request: RequestId, clock: &Clock) -> Response {
    problem.log();
    let (title, words) = problem.words();
    let page = RefusalPage { title, words: &words, request: request.to_string() };
    let mut response = html(problem.status(), &page, PagePolicy::reading())
        .unwrap_or_else(|_unrendered| problem.status().into_response());
    response.headers_mut().extend(problem.headers(clock.now()));
    response
}

/// Answers the stylesheet. It holds nothing of anybody's, and changes only with the binary.
pub(crate) async fn style(_app: std::sync::Arc<service::App>, _visit: Visit<()>) -> Result<Response, Problem> {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    Ok((headers, STYLE).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::problem::Fault;

    #[tokio::test]
    async fn a_refusal_shows_strangers_words_escaped() {
        let problem = Problem::invalid(vec![Fault::at("/allow", "<script>alert(1)</script>")]);
        let clock = Clock::set(time::OffsetDateTime::UNIX_EPOCH);
        let response = refusal(&problem, RequestId::new(&clock), &clock);
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let bytes = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(!text.contains("<script"), "{text}");
        assert!(text.contains("alert(1)"), "{text}");
    }

    #[test]
    fn no_page_asks_for_what_its_policy_forbids() {
        for (name, text) in [
            ("base", include_str!("../templates/base.html")),
            ("connect", include_str!("../templates/connect.html")),
            ("refusal", include_str!("../templates/refusal.html")),
            ("docs", include_str!("../templates/docs.html")),
            ("trust", include_str!("../templates/trust.html")),
        ] {
            for forbidden in ["<script", "style=", "<style", "onclick", "http://", "https://", "|safe"] {
                assert!(!text.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }
}
