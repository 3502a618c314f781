//! What a question may still take, and whether anybody waits for its answer.
//!
//! Owns the count from which every part of a question takes its steps. What is looked at must be taken from it first, as much as there is
//! to look at: only so does the bound on steps bound the time.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    condition::Context,
    query::{Brought, Limits, QueryError},
    relationship::BoundCondition,
    schema::Schema,
};

/// A sign that whoever asked waits no longer. Set from anywhere; the question ends at its next step.
#[derive(Debug, Default)]
pub struct StopSign(AtomicBool);

impl StopSign {
    /// Sets it, for good.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many steps of a condition count as one of a search.
const CONDITION_STEPS: usize = 4;

/// The steps that a question has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget<'a> {
    steps: usize,
    stop: Option<&'a StopSign>,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(limits: &Limits, brought: Brought<'a>) -> Self {
        Self { steps: limits.steps, stop: brought.stop }
    }

    /// How many steps are left.
    pub(crate) fn left(self) -> usize {
        self.steps
    }

    /// Leaves no more steps than a part of the question has left, which was given all of them.
    pub(crate) fn leave(&mut self, steps: usize) {
        self.steps = self.steps.min(steps);
    }

    /// Takes steps.
    ///
    /// # Errors
    /// `TooComplex` where there are not as many; `Stopped`.
    #[inline]
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), QueryError> {
        if self.stop.is_some_and(StopSign::is_set) {
            return Err(QueryError::Stopped);
        }
        if domain::sabotaged!(RelationBounds) {
            return Ok(());
        }
        // No error is made that is not told: this is done at every step.
        let Some(left) = self.steps.checked_sub(steps) else { return Err(QueryError::TooComplex) };
        self.steps = left;
        Ok(())
    }

    /// Whether a tuple's condition is met, and takes what that cost: a question ends at its bound also where it is conditions that take
    /// long.
    ///
    /// # Errors
    /// As for [`Budget::spend`]; inside of it, what withholds the condition's answer.
    pub(crate) fn holds(
        &mut self,
        schema: &Schema,
        condition: Option<&BoundCondition>,
        context: Option<&Context>,
    ) -> Result<Result<bool, QueryError>, QueryError> {
        let Some(bound) = condition else { return Ok(Ok(true)) };
        let Some(compiled) = schema.condition(&bound.name) else { return Ok(Ok(false)) };
        let (met, cost) = compiled.weighed(Some(&bound.context), context, self.stop);
        self.spend(cost / CONDITION_STEPS)?;
        Ok(met.map_err(|source| QueryError::Condition { name: bound.name.clone(), source }))
    }
}
