//! Budgets: how many units may be taken in a fixed window, and in what order their rows are locked.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use time::{Date, Duration, Month, OffsetDateTime, Time, UtcOffset};

use crate::id::{BudgetId, ConnectionId, MandateId};

/// The largest cap, and the most units that one act can be said to have used: what fits the database's integers with room to add, and
/// what every JSON reader takes for an exact number (RFC 8259 §6).
pub const MOST_CAP: u64 = 1 << 53;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Acts of any kind.
    Acts,
    /// Posts, replies included.
    Posts,
    /// Messages to somebody.
    Messages,
    /// Persons who are sent something.
    Recipients,
    /// Tokens of a language model.
    Tokens,
    /// Bytes stored or sent.
    Bytes,
    /// Money, in hundredths of the installation's currency.
    Cents,
}

impl Unit {
    /// All of them, in the order of their names in documents.
    pub const ALL: [Self; 7] =
        [Self::Acts, Self::Posts, Self::Messages, Self::Recipients, Self::Tokens, Self::Bytes, Self::Cents];

    /// The word in files, rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acts => "acts",
            Self::Posts => "posts",
            Self::Messages => "messages",
            Self::Recipients => "recipients",
            Self::Tokens => "tokens",
            Self::Bytes => "bytes",
            Self::Cents => "cents",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Unit {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|unit| unit.as_str() == text)
            .ok_or("one of acts, posts, messages, recipients, tokens, bytes, cents")
    }
}

/// A fixed window of UTC, by the database's clock. Across a boundary two windows' worth can pass in a short time, the one's at its end and
/// the other's at its beginning: that is the price of fixed windows, whose one counter is exact. Who cannot afford it sets a second
/// limit with a shorter window beside the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Self; 4] = [Self::Minute, Self::Hour, Self::Day, Self::Month];

    /// The word in files, rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// When the window that holds `at` ends.
    pub fn ends(self, at: OffsetDateTime) -> OffsetDateTime {
        let at = at.to_offset(UtcOffset::UTC);
        let midnight = at.replace_time(Time::MIDNIGHT);
        match self {
            Self::Minute => {
                at.replace_second(0).and_then(|at| at.replace_nanosecond(0)).unwrap_or(at) + Duration::MINUTE
            }
            Self::Hour => midnight + Duration::hours(i64::from(at.hour()) + 1),
            Self::Day => midnight + Duration::DAY,
            Self::Month => {
                let next = at.month().next();
                let year = at.year() + i32::from(next == Month::January);
                Date::from_calendar_date(year, next, 1).map_or(midnight, |date| date.midnight().assume_utc())
            }
        }
    }
}

impl FromStr for Period {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|period| period.as_str() == text).ok_or("one of minute, hour, day, month")
    }
}

/// At most `cap` of `unit` in each `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// What is counted.
    pub unit: Unit,
    /// The window.
    pub per: Period,
    /// The most that one window may hold.
    pub cap: u64,
}

/// Whom a budget binds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One mandate.
    Mandate(MandateId),
    /// One connection, whoever acts on it.
    Connection(ConnectionId),
    /// One principal (its reference), whatever it acts on.
    Principal(String),
    /// The whole workspace.
    Workspace,
    /// Everybody.
    Installation,
}

impl Scope {
    /// The word in rows and answers.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mandate(_) => "mandate",
            Self::Connection(_) => "connection",
            Self::Principal(_) => "principal",
            Self::Workspace => "workspace",
            Self::Installation => "installation",
        }
    }

    /// Whose budget it is, within its kind.
    pub fn subject(&self) -> String {
        match self {
            Self::Mandate(mandate) => mandate.to_string(),
            Self::Connection(connection) => connection.to_string(),
            Self::Principal(principal) => principal.clone(),
            Self::Workspace | Self::Installation => String::new(),
        }
    }

    /// The place in the lock order: private rows first, the row that everybody wants last and shortest.
    pub fn rank(&self) -> i16 {
        match self {
            Self::Mandate(_) => 0,
            Self::Connection(_) => 1,
            Self::Principal(_) => 2,
            Self::Workspace => 3,
            Self::Installation => 4,
        }
    }

    /// The scope that a row names.
    pub fn from_row(kind: &str, subject: &str) -> Option<Self> {
        match kind {
            "mandate" => subject.parse().ok().map(Self::Mandate),
            "connection" => subject.parse().ok().map(Self::Connection),
            "principal" => Some(Self::Principal(subject.to_owned())),
            "workspace" => Some(Self::Workspace),
            "installation" => Some(Self::Installation),
            _ => None,
        }
    }
}

/// A limit, and whom it binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The budget's id.
    pub id: BudgetId,
    /// Whom it binds.
    pub scope: Scope,
    /// What it allows.
    pub limit: Limit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn windows_end_where_the_calendar_says() {
        let cases = [
            (Period::Minute, datetime!(2026-02-28 23:59:59.9 UTC), datetime!(2026-03-01 0:00 UTC)),
            (Period::Hour, datetime!(2026-02-28 23:10:00 UTC), datetime!(2026-03-01 0:00 UTC)),
            (Period::Day, datetime!(2028-02-28 12:00 UTC), datetime!(2028-02-29 0:00 UTC)),
            (Period::Month, datetime!(2026-12-31 23:59 UTC), datetime!(2027-01-01 0:00 UTC)),
            (Period::Month, datetime!(2026-01-01 0:00 +2), datetime!(2026-01-01 0:00 UTC)),
        ];
        for (period, at, end) in cases {
            assert_eq!(period.ends(at), end, "{period:?} at {at}");
        }
    }
}
