//! Conditions: CEL expressions over typed parameters, compiled with a model and evaluated for a tuple.
//!
//! Owns the part of CEL that OpenFGA's models use: the whole expression syntax with its macros, and the types that a parameter can
//! have. Every expression is checked for its types when the model is taken, so that what can be known to fail is refused there. Must
//! never take longer than it is given: length, depth and steps are bounded, and patterns are matched in linear time.

mod cast;
mod evaluate;
mod function;
mod infer;
mod lex;
mod moment;
mod network;
mod parse;
mod pattern;
mod value;

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

pub(crate) use pattern::MOST_OF_MODEL as MOST_OF_PATTERNS;
pub use value::Value;

use crate::{
    budget::StopSign,
    model::{Condition, ParameterType},
};

/// What a request or a tuple says about a condition's parameters.
pub type Context = Map<String, Json>;

/// An expression that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {at} of the expression)")]
pub struct ConditionFault {
    /// What is wrong.
    pub problem: String,
    /// Where, in characters from the beginning of the expression.
    pub at: usize,
}

/// Why a condition gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// The contexts do not have all that the condition is about.
    #[error("the context lacks the parameters {}", .0.join(", "))]
    Missing(Vec<String>),
    /// A parameter has a value of another type.
    #[error("the parameter {name} is no {expected}")]
    Mistyped {
        /// The parameter.
        name: String,
        /// As the language writes its type.
        expected: String,
    },
    /// The expression failed.
    #[error("{0}")]
    Failed(String),
    /// More steps than a condition may take.
    #[error("the condition took too many steps")]
    TooCostly,
}

/// A condition that is ready to be evaluated.
#[derive(Debug)]
pub struct Compiled {
    parameters: BTreeMap<String, ParameterType>,
    expression: parse::Expression,
    /// What its patterns cost to be compiled, and about how many bytes they take.
    patterns: parse::Patterns,
}

impl Compiled {
    /// Takes a condition of a model.
    ///
    /// # Errors
    /// The first thing that is wrong with its expression: its form, a name that is no parameter, a type.
    pub fn new(condition: &Condition) -> Result<Self, ConditionFault> {
        Self::counted(condition, &mut 0)
    }

    /// The same. Adds what the patterns cost to be compiled, in steps of a condition, also where the condition is refused.
    pub(crate) fn counted(condition: &Condition, effort: &mut usize) -> Result<Self, ConditionFault> {
        let mut patterns = parse::Patterns::default();
        let expression = parse::parse(&condition.expression, &mut patterns);
        *effort += patterns.effort;
        let expression = expression?;
        infer::check(&expression, &condition.parameters)?;
        Ok(Self { parameters: condition.parameters.clone(), expression, patterns })
    }

    /// About how many bytes its patterns take.
    pub(crate) fn bytes(&self) -> usize {
        self.patterns.bytes
    }

    /// Whether the condition is met. What the tuple says goes before what the request says.
    ///
    /// # Errors
    /// [`ConditionError`]: never an answer by half of the context.
    pub fn evaluate(&self, tuple: Option<&Context>, request: Option<&Context>) -> Result<bool, ConditionError> {
        self.weighed(tuple, request, None).0
    }

    /// The same, and what it cost: one for each step, one for each parameter, and one for each 64 bytes of what it was told. It ends as
    /// what is too costly does where nobody waits for it.
    pub(crate) fn weighed(
        &self,
        tuple: Option<&Context>,
        request: Option<&Context>,
        stop: Option<&StopSign>,
    ) -> (Result<bool, ConditionError>, usize) {
        let given =
            |name: &str| tuple.and_then(|context| context.get(name)).or(request.and_then(|context| context.get(name)));
        let (mut told, mut missing, mut cost) = (Vec::with_capacity(self.parameters.len()), Vec::new(), 0);
        for (name, kind) in &self.parameters {
            cost += 1 + name.len() / 64;
            match given(name) {
                Some(json) => told.push((name, kind, json)),
                None => missing.push(name.clone()),
            }
        }
        if !missing.is_empty() {
            return (Err(ConditionError::Missing(missing)), cost);
        }
        let mut values = Vec::with_capacity(told.len());
        for (name, kind, json) in told {
            cost += weight(json);
            let Some(value) = cast::cast(json, kind) else {
                return (Err(ConditionError::Mistyped { name: name.clone(), expected: kind.text() }), cost);
            };
            values.push((name.as_str(), value));
        }
        let (truth, steps) = evaluate::evaluate(&self.expression, values, stop);
        (truth, cost + steps)
    }
}

/// How much there is to read of a value.
fn weight(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text.len() / 64,
        Json::Array(items) => items.iter().map(|item| 1 + weight(item)).sum(),
        Json::Object(members) => members.iter().map(|(name, member)| 1 + name.len() / 64 + weight(member)).sum(),
    }
}

/// Whether a tuple's own context says only what the condition is about, in the right types.
pub(crate) fn fits(parameters: &BTreeMap<String, ParameterType>, context: &Context) -> bool {
    context.iter().all(|(name, json)| parameters.get(name).is_some_and(|kind| cast::cast(json, kind).is_some()))
}

#[cfg(test)]
mod tests;
