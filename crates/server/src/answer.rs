//! Answers: JSON as it is sent, and the form of a list.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::problem::Problem;

/// A page of a list.
#[derive(Debug, Serialize)]
struct List<T> {
    data: Vec<T>,
    /// What to give as `before` for the next page; null where there is none.
    next: Option<String>,
}

/// JSON with a status.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_string(body).map_err(|error| service::Refusal::internal("an answer", error))?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

/// 200 with JSON.
pub(crate) fn ok(body: &impl Serialize) -> Result<Response, Problem> {
    json(StatusCode::OK, body)
}

/// A page of at most `limit` items. `items` may have one more: then there is a next page.
pub(crate) fn page<I, T: Serialize>(
    items: Vec<I>,
    limit: usize,
    id: impl Fn(&I) -> String,
    view: impl Fn(I) -> T,
) -> Result<Response, Problem> {
    let has_more = items.len() > limit;
    let shown: Vec<I> = items.into_iter().take(limit).collect();
    let next = shown.last().filter(|_| has_more).map(id);
    ok(&List { data: shown.into_iter().map(view).collect(), next })
}

/// How many to ask for, so that a next page is seen.
pub(crate) fn and_one(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    async fn paged(items: Vec<u32>, limit: usize) -> Value {
        let response = page(items, limit, ToString::to_string, |item| item).unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn a_page_names_the_next_only_where_there_is_one() {
        assert_eq!(paged(vec![], 2).await, json!({ "data": [], "next": null }));
        assert_eq!(paged(vec![9, 8], 2).await, json!({ "data": [9, 8], "next": null }));
        assert_eq!(paged(vec![9, 8, 7], 2).await, json!({ "data": [9, 8], "next": "8" }));
    }
}
