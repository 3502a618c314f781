//! Refusals in OpenFGA's form: `code` and `message`, which its clients read, and what a problem has (RFC 9457) beside them: its clients
//! pass over that.
//!
//! Whoever refuses, the guard, the edge or a verb, it comes out of here where the address is one of OpenFGA's API.

use axum::response::{IntoResponse, Response};
use domain::{clock::Clock, id::RequestId, problem::Kind};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use service::fga::{FgaError, Refused};
use utoipa::ToSchema;

use crate::problem::{Problem, ProblemBody};

/// A refusal as OpenFGA's clients read it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FgaError)]
pub(crate) struct RefusalBody {
    /// OpenFGA's code, such as `validation_error`.
    code: &'static str,
    /// In words.
    message: String,
    /// The same as everywhere in this API.
    #[serde(flatten)]
    problem: ProblemBody,
}

/// The longest message, in characters: it may repeat what was sent.
const MOST: usize = 2_000;

/// The answer, logged.
pub(crate) fn respond(problem: &Problem, request: RequestId, clock: &Clock) -> Response {
    problem.log();
    let Refused { code, status } = problem.refused().unwrap_or_else(|| of_kind(problem.kind(), problem.status()));
    let now = clock.now();
    let message = problem.message().chars().take(MOST).collect();
    let mut told = problem.body(request, now);
    (told.status, told.detail) = (status, None);
    let body = RefusalBody { code, message, problem: told };
    let text = serde_json::to_string(&body).unwrap_or_default();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, problem.headers(now), text).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is not OpenFGA's own refusal, in the word of its API that comes nearest.
fn of_kind(kind: Kind, status: StatusCode) -> Refused {
    let code = match kind {
        Kind::Unauthenticated => "unauthenticated",
        Kind::Forbidden | Kind::OriginNotAllowed => "forbidden",
        Kind::NotFound | Kind::MethodNotAllowed => "undefined_endpoint",
        Kind::RateLimited => "rate_limit_exceeded",
        Kind::Conflict | Kind::Stale => "aborted",
        Kind::Unavailable => "unavailable",
        _ if status.is_server_error() => "internal_error",
        _ => "validation_error",
    };
    // OpenFGA has one status for everything that is wrong with an input.
    Refused { code, status: if kind == Kind::InvalidInput { 400 } else { status.as_u16() } }
}

impl From<FgaError> for Problem {
    fn from(error: FgaError) -> Self {
        let Some(refused) = error.refused() else {
            return match error {
                FgaError::Refusal(refusal) => refusal.into(),
                other => service::Refusal::internal("a relation store", other).into(),
            };
        };
        let kind = match refused.status {
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            _ => Kind::InvalidInput,
        };
        Self::new(kind).saying(error.words()).refused_as(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    async fn answered(problem: Problem) -> (u16, Value) {
        let clock = Clock::system();
        let response = respond(&problem, RequestId::new(&clock), &clock);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn every_kind_of_problem_has_a_code_and_words() {
        for kind in Kind::ALL {
            let (status, body) = answered(Problem::new(kind)).await;
            assert!(body["code"].as_str().is_some_and(|code| !code.is_empty()), "{kind:?}");
            assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{kind:?}");
            assert_eq!(
                (body["type"].as_str(), body["status"].as_u64()),
                (Some(kind.urn().as_str()), Some(u64::from(status)))
            );
            assert!(status == kind.status() || (kind == Kind::InvalidInput && status == 400), "{kind:?}: {status}");
        }
    }

    #[tokio::test]
    async fn what_a_verb_refuses_has_openfgas_own_code() {
        for (error, status, code) in [
            (FgaError::StoreNotFound, 404, "store_id_not_found"),
            (FgaError::ModelNotFound("x".to_owned()), 400, "authorization_model_not_found"),
            (FgaError::NothingToWrite, 400, "invalid_write_input"),
            (FgaError::ConditionDiffers("x".to_owned()), 409, "aborted"),
            (FgaError::TookTooLong, 422, "throttled_timeout_error"),
            (FgaError::Refusal(service::Refusal::Forbidden), 403, "forbidden"),
            (FgaError::Refusal(service::Refusal::Unauthenticated), 401, "unauthenticated"),
        ] {
            let (said, body) = answered(error.into()).await;
            assert_eq!((said, body["code"].as_str().unwrap()), (status, code));
        }
    }
}
