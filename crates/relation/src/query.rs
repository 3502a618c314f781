//! What is asked of a model and its tuples, and why there may be no answer.

use crate::{
    budget::{Budget, StopSign},
    condition::{ConditionError, Context},
    relationship::{ObjectRef, Relationship, UserRef},
    schema::{RelationId, Schema, TupleFault, TypeId},
    tuples::{Overlay, ReadError, Tuples},
};

/// How far a question may go. What goes beyond ends with [`QueryError::TooComplex`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many steps from object to object or from relation to relation lie between question and answer.
    pub depth: usize,
    /// How many tuples and relations are looked at. What there is more to look at of one counts as several.
    pub steps: usize,
    /// How many objects or users a list has; what would be more is cut off.
    pub results: usize,
    /// How many tuples a question may bring along.
    pub contextual: usize,
    /// How many questions a batch may have.
    pub batch: usize,
}

impl Default for Limits {
    /// Those of OpenFGA, where it has one.
    fn default() -> Self {
        Self { depth: 25, steps: 1_000_000, results: 1_000, contextual: 100, batch: 50 }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question is none about this model.
    #[error("{0}")]
    Invalid(String),
    /// The type that is asked about is not defined.
    #[error("the type '{0}' is not defined")]
    TypeNotFound(String),
    /// The relation that is asked about is not defined.
    #[error("the relation '{relation}' is not defined on the type '{type_name}'")]
    RelationNotFound {
        /// The type.
        type_name: String,
        /// The relation.
        relation: String,
    },
    /// A tuple that the question brought along is none of the model.
    #[error("a contextual tuple is not valid")]
    InvalidTuple(#[source] TupleFault),
    /// The bound was reached before the answer.
    #[error("the answer lies deeper or wider than the bound")]
    TooComplex,
    /// Whoever asked waits no longer.
    #[error("nobody waits for the answer any more")]
    Stopped,
    /// A condition gave no answer, and without it there is none.
    #[error("the condition '{name}' could not be evaluated")]
    Condition {
        /// The condition.
        name: String,
        /// Why.
        #[source]
        source: ConditionError,
    },
    /// The tuples could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl QueryError {
    /// The number that OpenFGA's API gives it; none for what is no fault of the question.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Invalid(_) | Self::Condition { .. } => Some(2000),
            Self::TooComplex => Some(2002),
            Self::TypeNotFound(_) => Some(2021),
            Self::RelationNotFound { .. } => Some(2022),
            Self::InvalidTuple(_) => Some(2027),
            Self::Stopped | Self::Read(_) => None,
        }
    }

    /// Whether it ends everything that is asked in the same go, and not this question alone.
    pub fn ends_all(&self) -> bool {
        matches!(self, Self::Stopped | Self::Read(_))
    }
}

/// What every question may bring along.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brought<'a> {
    /// What conditions are told.
    pub context: Option<&'a Context>,
    /// Tuples that count for this question only, each in the place of the kept one of its object, relation and user.
    pub tuples: &'a [Relationship],
    /// What is set when nobody waits for the answer any more.
    pub stop: Option<&'a StopSign>,
}

/// Whether a user stands in a relation to an object.
#[derive(Debug, Clone, Copy)]
pub struct CheckRequest<'a> {
    /// `type:id`
    pub object: &'a str,
    /// The relation.
    pub relation: &'a str,
    /// The user.
    pub user: &'a str,
    /// What it brings along.
    pub brought: Brought<'a>,
}

/// To which objects of a type a user stands in a relation.
#[derive(Debug, Clone, Copy)]
pub struct ListObjectsRequest<'a> {
    /// The type.
    pub object_type: &'a str,
    /// The relation.
    pub relation: &'a str,
    /// The user.
    pub user: &'a str,
    /// What it brings along.
    pub brought: Brought<'a>,
}

/// Which users stand in a relation to an object.
#[derive(Debug, Clone, Copy)]
pub struct ListUsersRequest<'a> {
    /// `type:id`
    pub object: &'a str,
    /// The relation.
    pub relation: &'a str,
    /// The type of the users.
    pub user_type: &'a str,
    /// Where it is not single users that are asked for but all who stand in a relation: which.
    pub user_relation: Option<&'a str>,
    /// What it brings along.
    pub brought: Brought<'a>,
}

/// How a relation to an object comes about.
#[derive(Debug, Clone, Copy)]
pub struct ExpandRequest<'a> {
    /// `type:id`
    pub object: &'a str,
    /// The relation.
    pub relation: &'a str,
    /// What it brings along.
    pub brought: Brought<'a>,
}

/// Lays what a question brings along over the tuples that are kept.
pub(crate) fn lay<'t, T: Tuples>(
    schema: &Schema,
    kept: &'t T,
    brought: Brought<'_>,
    limits: &Limits,
    budget: &mut Budget<'_>,
) -> Result<Overlay<'t, T>, QueryError> {
    if brought.tuples.len() > limits.contextual && !domain::sabotaged!(RelationBrought) {
        return Err(QueryError::Invalid(format!("more than {} contextual tuples", limits.contextual)));
    }
    let mut overlay = Overlay::new(kept);
    for tuple in brought.tuples {
        budget.spend(schema.cost_of(tuple))?;
        schema.admit(tuple).map_err(QueryError::InvalidTuple)?;
        overlay.bring(tuple)?;
    }
    Ok(overlay)
}

/// The object and the relation that a check is about.
pub(crate) fn checked_node<'a>(
    schema: &Schema,
    object: &'a str,
    relation: &str,
) -> Result<(&'a str, RelationId), QueryError> {
    let object = checked_object(object)?;
    let relation =
        schema.relation_of(object.type_name, relation).map_err(|fault| QueryError::Invalid(fault.to_string()))?;
    Ok((object.text, relation))
}

pub(crate) fn checked_object(object: &str) -> Result<ObjectRef<'_>, QueryError> {
    ObjectRef::parse(object)
        .filter(|object| object.id != "*")
        .ok_or_else(|| QueryError::Invalid(format!("'{object}' is no object")))
}

pub(crate) fn checked_user<'a>(schema: &Schema, user: &'a str) -> Result<UserRef<'a>, QueryError> {
    let parsed = UserRef::parse(user).ok_or_else(|| QueryError::Invalid(format!("'{user}' is no user")))?;
    schema.known_user(parsed).map_err(|fault| QueryError::Invalid(fault.to_string()))?;
    Ok(parsed)
}

/// The type and the relation that a list is about.
pub(crate) fn listed(schema: &Schema, type_name: &str, relation: &str) -> Result<RelationId, QueryError> {
    let of = listed_type(schema, type_name)?;
    schema
        .relation(of, relation)
        .ok_or_else(|| QueryError::RelationNotFound { type_name: type_name.to_owned(), relation: relation.to_owned() })
}

pub(crate) fn listed_type(schema: &Schema, type_name: &str) -> Result<TypeId, QueryError> {
    schema.type_of(type_name).map_err(|_| QueryError::TypeNotFound(type_name.to_owned()))
}
