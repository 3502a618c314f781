//! Mandates: who may do which actions on which connection, how often, under which conditions, and until when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{OffsetDateTime, Time, UtcOffset};

use crate::{
    budget::Limit,
    id::{ConnectionId, MandateId},
};

/// Hours of the day, UTC, in which a mandate holds. `from` later than `to` spans midnight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// First minute, `HH:MM`.
    #[serde(with = "hour_minute")]
    pub from: Time,
    /// First minute after, `HH:MM`.
    #[serde(with = "hour_minute")]
    pub to: Time,
}

time::serde::format_description!(hour_minute, Time, "[hour]:[minute]");

/// What one input field must keep to, beyond the action's own schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldCondition {
    /// The longest text, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// The only values that may be given: recipients, posts to reply to, chosen words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<Value>>,
}

/// What narrows a mandate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// The hours in which it holds; always, if none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// Per input field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, FieldCondition>,
}

impl Conditions {
    /// The first condition that the moment or the input breaks, in words for the caller.
    pub fn broken_by(&self, now: OffsetDateTime, input: &Value) -> Option<String> {
        if let Some(hours) = &self.hours {
            let time = now.to_offset(UtcOffset::UTC).time();
            let within = if hours.from <= hours.to {
                hours.from <= time && time < hours.to
            } else {
                time >= hours.from || time < hours.to
            };
            if !within {
                return Some("the mandate does not hold at this hour".to_owned());
            }
        }
        self.fields.iter().find_map(|(name, condition)| {
            let value = input.get(name)?;
            if let (Some(max), Some(text)) = (condition.max_length, value.as_str())
                && text.chars().count() > max as usize
            {
                return Some(format!("the mandate allows {max} characters in `{name}`"));
            }
            let allowed = condition.allowed.as_ref()?;
            (!allowed.contains(value)).then(|| format!("the mandate does not allow this value of `{name}`"))
        })
    }
}

/// A mandate as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Mandate {
    /// The mandate's id.
    pub id: MandateId,
    /// The connection that it opens.
    pub connection: ConnectionId,
    /// Who may use it: a principal's reference.
    pub grantee: String,
    /// The actions that it allows, by name.
    pub actions: Vec<String>,
    /// What narrows it.
    pub conditions: Conditions,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was ended.
    pub revoked_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// What a mandate asks for when it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The connection.
    pub connection: ConnectionId,
    /// Who may use it.
    pub grantee: String,
    /// The actions wanted, by name.
    pub actions: Vec<String>,
    /// Its own budgets.
    pub limits: Vec<Limit>,
    /// What narrows it.
    pub conditions: Conditions,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    #[test]
    fn conditions_say_what_they_refuse() {
        let conditions: Conditions = serde_json::from_value(json!({
            "hours": {"from": "22:00", "to": "06:00"},
            "fields": {"text": {"max_length": 3}, "to": {"allowed": ["a", "b"]}},
        }))
        .unwrap();
        let cases = [
            (datetime!(2026-01-01 23:00 UTC), json!({"text": "äöü", "to": "a"}), None),
            (datetime!(2026-01-01 05:59 UTC), json!({"text": "abc"}), None),
            (datetime!(2026-01-01 06:00 UTC), json!({"text": "abc"}), Some("hour")),
            (datetime!(2026-01-01 23:00 +2), json!({"text": "abc"}), Some("hour")),
            (datetime!(2026-01-01 23:00 UTC), json!({"text": "abcd"}), Some("3 characters")),
            (datetime!(2026-01-01 23:00 UTC), json!({"to": "c"}), Some("`to`")),
        ];
        for (now, input, broken) in cases {
            let said = conditions.broken_by(now, &input);
            match broken {
                None => assert_eq!(said, None, "{now} {input}"),
                Some(word) => {
                    assert!(said.as_deref().is_some_and(|said| said.contains(word)), "{now} {input}: {said:?}");
                }
            }
        }
    }
}
