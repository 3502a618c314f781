//! Spans of time and moments: how they are written, and what can be asked of them.

use std::ops::RangeInclusive;

use time::{Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Reads a span of time as Go writes it: `1h30m`, `-1.5s`, `0`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let end = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        total = total.checked_add(scaled(number, unit_nanoseconds(unit)?)?)?;
        rest = after;
    }
    let total = if negative { -total } else { total };
    // As in Go: a span is counted in nanoseconds, in 64 bits.
    i64::try_from(total).ok().map(Duration::nanoseconds)
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number of units, in nanoseconds; what is smaller than one is cut off.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(place.checked_mul(i128::from(digit.to_digit(10)?))?)?;
    }
    Some(total)
}

/// As CEL writes it: in seconds.
pub(super) fn duration_text(duration: Duration) -> String {
    let nanoseconds = duration.whole_nanoseconds();
    let (seconds, rest) = (nanoseconds / 1_000_000_000, (nanoseconds % 1_000_000_000).unsigned_abs());
    let sign = if nanoseconds < 0 && seconds == 0 { "-" } else { "" };
    let fraction = format!("{rest:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{seconds}s"),
        fraction => format!("{sign}{seconds}.{fraction}s"),
    }
}

/// A span of time that was reckoned, if it is one that could have been read.
pub(super) fn span(duration: Duration) -> Option<Duration> {
    i64::try_from(duration.whole_nanoseconds()).is_ok().then_some(duration)
}

/// Reads a moment in the form of RFC 3339, in capitals and without leap seconds, which Go does not know.
pub(super) fn timestamp(text: &str) -> Option<OffsetDateTime> {
    let strict = text.get(10..11) == Some("T") && text.get(17..19) != Some("60") && !text.ends_with('z');
    if strict { OffsetDateTime::parse(text, &Rfc3339).ok() } else { None }
}

/// A moment that was reckoned, if it is in the years 1 to 9999 of UTC, which are those of CEL.
pub(super) fn within(timestamp: OffsetDateTime) -> Option<OffsetDateTime> {
    /// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
    const SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    SECONDS.contains(&timestamp.unix_timestamp()).then_some(timestamp)
}

/// As RFC 3339 writes it, in the offset in which it was given.
pub(super) fn timestamp_text(timestamp: OffsetDateTime) -> Option<String> {
    timestamp.format(&Rfc3339).ok()
}

/// An offset from UTC: `UTC`, `+02:00`, `-8:00`. Names of places are not known here: what they stand for changes.
pub(super) fn offset(text: &str) -> Option<UtcOffset> {
    /// The last hour and the last minute that there is.
    const LAST: (i8, i8) = (23, 59);
    if matches!(text, "UTC" | "") {
        return Some(UtcOffset::UTC);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    if !rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > LAST.0 || minutes > LAST.1 {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}
