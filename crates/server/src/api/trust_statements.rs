//! Trust statements, as one of the operator's persons publishes them.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use domain::json;
use http::StatusCode;
use serde::Serialize;
use service::{
    App,
    action::PublishStatement,
    trust::{self, Published},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{Body, Input, Reader, Takes},
    problem::Problem,
};

/// What became of a statement.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishedStatement)]
pub(crate) struct PublishedView {
    /// Its number.
    sequence: u64,
    /// When it says nothing any more.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// The claims that were kept before and are not now, by their ids.
    kept_no_longer: Vec<String>,
    /// Whether it is of the build that answers here.
    is_of_this_build: bool,
}

/// A signed statement in its envelope, byte for byte.
pub(crate) struct Envelope(Bytes);

impl Input for Envelope {
    const TAKES: Takes = Takes::RawJson;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        if let Body::Raw(bytes) = &from.arrived().body {
            return Some(Self(bytes.clone()));
        }
        from.fault("", "is a statement in its envelope, as `keyholder prove --sign` writes it");
        None
    }
}

/// Takes a statement, and shows it from now on.
pub(crate) async fn publish(
    app: Arc<App>,
    caller: Caller<PublishStatement>,
    Envelope(bytes): Envelope,
) -> Result<Response, Problem> {
    // Before anything is asked of it: what is no JSON is no statement, whatever this installation shows.
    json::parse_strict(&bytes, json::Limits::bytes(bytes.len()))?;
    let Published { sequence, expires_at, kept_no_longer, is_of_this_build } =
        trust::publish(&app, caller.principal(), &bytes).await?;
    let kept_no_longer = kept_no_longer.iter().map(ToString::to_string).collect();
    answer::json(StatusCode::CREATED, &PublishedView { sequence, expires_at, kept_no_longer, is_of_this_build })
}
