//! The functions of CEL that conditions may call, and those that OpenFGA adds for addresses.

use time::{Duration, OffsetDateTime, UtcOffset};

use super::{moment, network, pattern, value::Value};

/// A function. Of something (`text.size()`) and about something (`size(text)`) are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    ToInt,
    ToUint,
    ToDouble,
    ToText,
    ToBool,
    ToDuration,
    ToTimestamp,
    ToAddress,
    ToDyn,
    InCidr,
    Time(Part),
}

/// A part of a moment or of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Function {
    /// The function of that name, called in that form with so many arguments (what it is of being the first).
    pub(super) fn from_name(name: &str, of_something: bool, arguments: usize) -> Option<Self> {
        let (function, of, about, counts) = match name {
            "size" => (Self::Size, true, true, 1..=1),
            "contains" => (Self::Contains, true, false, 2..=2),
            "startsWith" => (Self::StartsWith, true, false, 2..=2),
            "endsWith" => (Self::EndsWith, true, false, 2..=2),
            "matches" => (Self::Matches, true, true, 2..=2),
            "int" => (Self::ToInt, false, true, 1..=1),
            "uint" => (Self::ToUint, false, true, 1..=1),
            "double" => (Self::ToDouble, false, true, 1..=1),
            "string" => (Self::ToText, false, true, 1..=1),
            "bool" => (Self::ToBool, false, true, 1..=1),
            "dyn" => (Self::ToDyn, false, true, 1..=1),
            "duration" => (Self::ToDuration, false, true, 1..=1),
            "timestamp" => (Self::ToTimestamp, false, true, 1..=1),
            "ipaddress" => (Self::ToAddress, false, true, 1..=1),
            "in_cidr" => (Self::InCidr, true, false, 2..=2),
            _ => (Self::Time(Part::from_name(name)?), true, false, 1..=2),
        };
        let form = if of_something { of } else { about };
        (form && counts.contains(&arguments)).then_some(function)
    }

    /// How many steps it is, besides those for its arguments: a pattern that is not known before is compiled every time.
    pub(super) fn cost(self, arguments: &[Value]) -> usize {
        match (self, arguments) {
            (Self::Matches, [_, Value::Text(of)]) => pattern::effort(of),
            _ => 0,
        }
    }

    /// What it makes of its arguments; none if it makes nothing of them.
    pub(super) fn apply(self, arguments: &[Value]) -> Option<Value> {
        match (self, arguments) {
            (Self::Size, [of]) => size(of),
            (Self::Contains, [Value::Text(text), Value::Text(part)]) => Some(Value::Bool(text.contains(part.as_ref()))),
            (Self::StartsWith, [Value::Text(text), Value::Text(part)]) => {
                Some(Value::Bool(text.starts_with(part.as_ref())))
            }
            (Self::EndsWith, [Value::Text(text), Value::Text(part)]) => {
                Some(Value::Bool(text.ends_with(part.as_ref())))
            }
            (Self::ToDyn, [any]) => Some(any.clone()),
            (Self::ToInt, [any]) => to_int(any).map(Value::Int),
            (Self::ToUint, [any]) => to_uint(any).map(Value::Uint),
            (Self::ToDouble, [any]) => to_double(any).map(Value::Double),
            (Self::ToText, [any]) => to_text(any).map(Value::text),
            (Self::ToBool, [Value::Bool(bool)]) => Some(Value::Bool(*bool)),
            (Self::ToBool, [Value::Text(text)]) => to_bool(text).map(Value::Bool),
            (Self::ToDuration, [Value::Duration(same)]) => Some(Value::Duration(*same)),
            (Self::ToDuration, [Value::Text(text)]) => moment::duration(text).map(Value::Duration),
            (Self::ToTimestamp, [Value::Timestamp(same)]) => Some(Value::Timestamp(*same)),
            (Self::ToTimestamp, [Value::Text(text)]) => {
                moment::timestamp(text).and_then(moment::within).map(Value::Timestamp)
            }
            (Self::ToTimestamp, [Value::Int(seconds)]) => {
                OffsetDateTime::from_unix_timestamp(*seconds).ok().and_then(moment::within).map(Value::Timestamp)
            }
            (Self::ToAddress, [Value::Text(text)]) => network::address(text).map(Value::Address),
            (Self::InCidr, [Value::Address(address), Value::Text(network)]) => {
                network::has(network, *address).map(Value::Bool)
            }
            // A moment has the offset in which it was given. What its parts are must not be the giver's to choose.
            (Self::Time(part), [Value::Timestamp(moment)]) => {
                Some(Value::Int(part.of_moment(moment.checked_to_offset(UtcOffset::UTC)?)))
            }
            (Self::Time(part), [Value::Timestamp(moment), Value::Text(zone)]) => {
                Some(Value::Int(part.of_moment(moment.checked_to_offset(moment::offset(zone)?)?)))
            }
            (Self::Time(part), [Value::Duration(span)]) => part.of_span(*span).map(Value::Int),
            _ => None,
        }
    }
}

impl Part {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "getFullYear" => Self::Year,
            "getMonth" => Self::Month,
            "getDate" => Self::Date,
            "getDayOfMonth" => Self::DayOfMonth,
            "getDayOfWeek" => Self::DayOfWeek,
            "getDayOfYear" => Self::DayOfYear,
            "getHours" => Self::Hours,
            "getMinutes" => Self::Minutes,
            "getSeconds" => Self::Seconds,
            "getMilliseconds" => Self::Milliseconds,
            _ => return None,
        })
    }

    /// Whether a span of time has it too.
    pub(super) const fn is_of_span(self) -> bool {
        matches!(self, Self::Hours | Self::Minutes | Self::Seconds | Self::Milliseconds)
    }

    fn of_moment(self, moment: OffsetDateTime) -> i64 {
        match self {
            Self::Year => moment.year().into(),
            Self::Month => i64::from(u8::from(moment.month())) - 1,
            Self::Date => moment.day().into(),
            Self::DayOfMonth => i64::from(moment.day()) - 1,
            Self::DayOfWeek => moment.weekday().number_days_from_sunday().into(),
            Self::DayOfYear => i64::from(moment.ordinal()) - 1,
            Self::Hours => moment.hour().into(),
            Self::Minutes => moment.minute().into(),
            Self::Seconds => moment.second().into(),
            Self::Milliseconds => moment.millisecond().into(),
        }
    }

    fn of_span(self, span: Duration) -> Option<i64> {
        match self {
            Self::Hours => Some(span.whole_hours()),
            Self::Minutes => Some(span.whole_minutes()),
            Self::Seconds => Some(span.whole_seconds()),
            Self::Milliseconds => i64::try_from(span.whole_milliseconds()).ok(),
            _ => None,
        }
    }
}

fn size(of: &Value) -> Option<Value> {
    let size = match of {
        Value::Text(text) => text.chars().count(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return None,
    };
    i64::try_from(size).ok().map(Value::Int)
}

fn to_int(of: &Value) -> Option<i64> {
    match of {
        Value::Int(same) => Some(*same),
        Value::Uint(number) => i64::try_from(*number).ok(),
        Value::Double(number) => truncated(*number).and_then(|number| i64::try_from(number).ok()),
        Value::Text(text) => text.parse().ok(),
        Value::Timestamp(moment) => Some(moment.unix_timestamp()),
        Value::Duration(span) => i64::try_from(span.whole_nanoseconds()).ok(),
        _ => None,
    }
}

fn to_uint(of: &Value) -> Option<u64> {
    match of {
        Value::Uint(same) => Some(*same),
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) => truncated(*number).and_then(|number| u64::try_from(number).ok()),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn truncated(number: f64) -> Option<i128> {
    /// More than any number of 64 bits.
    const EDGE: f64 = 1e20;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the edge, and cutting off the fraction is what is asked"
    )]
    (number.abs() < EDGE).then(|| number.trunc() as i128)
}

fn to_double(of: &Value) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "the nearest floating-point number is what is asked for")]
    match of {
        Value::Double(same) => Some(*same),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn to_text(of: &Value) -> Option<String> {
    Some(match of {
        Value::Text(same) => same.to_string(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => double_text(*number),
        Value::Timestamp(moment) => moment::timestamp_text(*moment)?,
        Value::Duration(span) => moment::duration_text(*span),
        Value::Address(address) => address.to_string(),
        _ => return None,
    })
}

/// The words that CEL's implementation in Go takes for a truth.
fn to_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Some(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Some(false),
        _ => None,
    }
}

/// As Go's `%g` writes it: the fewest digits that tell the number from others, with an exponent where it is less than -4 or more than 5.
fn double_text(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    match scientific.split_once('e').and_then(|(digits, power)| Some((digits, power.parse::<i32>().ok()?))) {
        Some((digits, power)) if !(-4..6).contains(&power) => {
            format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.unsigned_abs())
        }
        _ => number.to_string(),
    }
}
