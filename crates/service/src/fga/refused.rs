//! What an operation on a relation store is refused for, with the codes of OpenFGA's API.

use std::{error::Error, fmt::Write as _};

use relation::{
    model::{Fault, JsonModelFault},
    query::QueryError,
};
use store::{StoreError, fga::MOST_BYTES_TOGETHER};

use crate::Refusal;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FgaError {
    /// What any use case may be refused for.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The workspace has no such store.
    #[error("Store ID not found")]
    StoreNotFound,
    /// The store has no such model.
    #[error("Authorization Model '{0}' not found")]
    ModelNotFound(String),
    /// The store has no model at all.
    #[error("No authorization models found for store '{0}'")]
    NoModel(String),
    /// The JSON is none of a model.
    #[error("the model cannot be read")]
    ModelForm(#[source] JsonModelFault),
    /// The model does not make sense.
    #[error("{}", told(.0))]
    InvalidModel(Vec<Fault>),
    /// The input is not one of the operation.
    #[error("{0}")]
    Invalid(String),
    /// Neither writes nor deletes.
    #[error("Invalid input. Make sure you provide at least one write, or at least one delete")]
    NothingToWrite,
    /// The same tuple twice in one call.
    #[error("duplicate tuple in write: {0}")]
    TwiceInOneCall(String),
    /// It does not fit to what is there.
    #[error("{0}")]
    WriteFailed(String),
    /// A tuple is there under another condition.
    #[error("attempted to write a tuple which already exists with a different condition: {0}")]
    ConditionDiffers(String),
    /// More of something than there may be.
    #[error("The number of {what} exceeds the allowed limit of {limit}")]
    Exceeded {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// Not a token that this operation gave.
    #[error("Invalid continuation token")]
    InvalidToken,
    /// A token that was given for objects of another type.
    #[error("The type in the querystring and the continuation token don't match")]
    TokenOfAnotherType,
    /// The model and its tuples gave no answer.
    #[error("{0}")]
    Query(#[source] QueryError),
    /// The question took longer than it may.
    #[error("the question took longer than it may")]
    TookTooLong,
}

/// How a refusal is named to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// OpenFGA's code.
    pub code: &'static str,
    /// The HTTP status that goes with it.
    pub status: u16,
}

const fn refused(code: &'static str, status: u16) -> Refused {
    Refused { code, status }
}

impl FgaError {
    /// The stores of a workspace together hold as many bytes as they may.
    pub(super) fn no_room() -> Self {
        Self::Exceeded { what: "bytes of the workspace's stores", limit: MOST_BYTES_TOGETHER.unsigned_abs() }
    }

    /// The code and the status; none for what any use case may be refused for.
    pub fn refused(&self) -> Option<Refused> {
        Some(match self {
            Self::Refusal(_) => return None,
            Self::StoreNotFound => refused("store_id_not_found", 404),
            Self::ModelNotFound(_) => refused("authorization_model_not_found", 400),
            Self::NoModel(_) => refused("latest_authorization_model_not_found", 400),
            Self::ModelForm(_) | Self::Invalid(_) => refused("validation_error", 400),
            Self::InvalidModel(_) => refused("invalid_authorization_model", 400),
            Self::NothingToWrite => refused("invalid_write_input", 400),
            Self::TwiceInOneCall(_) => refused("cannot_allow_duplicate_tuples_in_one_request", 400),
            Self::WriteFailed(_) => refused("write_failed_due_to_invalid_input", 400),
            Self::ConditionDiffers(_) => refused("aborted", 409),
            Self::Exceeded { .. } => refused("exceeded_entity_limit", 400),
            Self::InvalidToken => refused("invalid_continuation_token", 400),
            Self::TokenOfAnotherType => refused("query_string_type_continuation_token_mismatch", 400),
            Self::Query(error) => return query(error),
            Self::TookTooLong => refused("throttled_timeout_error", 422),
        })
    }

    /// What a client is told: the refusal with its causes, none of which comes from the database.
    pub fn words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = match self {
            Self::Refusal(_) => None,
            // The query's own words stand there already.
            Self::Query(error) => error.source(),
            other => other.source(),
        };
        while let Some(error) = cause {
            let _infallible = write!(words, ": {error}");
            cause = error.source();
        }
        words
    }
}

/// The code of a query that has no answer: by its number, as OpenFGA's API has them.
pub(super) fn query(error: &QueryError) -> Option<Refused> {
    Some(match error.code()? {
        2002 => refused("authorization_model_resolution_too_complex", 400),
        2021 => refused("type_not_found", 400),
        2022 => refused("relation_not_found", 400),
        2027 => refused("invalid_tuple", 400),
        _ => refused("validation_error", 400),
    })
}

/// The first faults of a model, one a line.
fn told(faults: &[Fault]) -> String {
    const MOST: usize = 20;
    let lines: Vec<String> = faults.iter().take(MOST).map(|fault| fault.message.clone()).collect();
    lines.join("\n")
}

impl From<StoreError> for FgaError {
    fn from(error: StoreError) -> Self {
        Self::Refusal(error.into())
    }
}

impl From<QueryError> for FgaError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Read(error) => Self::Refusal(Refusal::internal("a page of tuples", error)),
            // Only who waits no longer could read it.
            QueryError::Stopped => Self::TookTooLong,
            error => Self::Query(error),
        }
    }
}

impl From<crate::tasks::BrokenOff> for FgaError {
    fn from(error: crate::tasks::BrokenOff) -> Self {
        Self::Refusal(error.into())
    }
}

/// A store that the workspace does not have.
pub(super) fn store_or_not_found(error: StoreError) -> FgaError {
    match error {
        StoreError::NotFound => FgaError::StoreNotFound,
        error => error.into(),
    }
}
