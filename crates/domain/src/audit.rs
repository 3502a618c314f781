//! The audit trail's words: what happened, to what. Never content, never a secret.

use serde_json::Value;

/// One thing that happened, as the trail keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// A stable dotted name: `mandate.created`.
    pub name: &'static str,
    /// What it happened to, as `type:id`.
    pub object: String,
    /// Facts that help an auditor: names of actions, counts, states.
    pub detail: Option<Value>,
}

impl Event {
    /// An event without further facts.
    pub fn new(name: &'static str, object: String) -> Self {
        Self { name, object, detail: None }
    }

    /// The same event with facts; null is none.
    #[must_use]
    pub fn with(mut self, detail: Value) -> Self {
        self.detail = (!detail.is_null()).then_some(detail);
        self
    }
}
