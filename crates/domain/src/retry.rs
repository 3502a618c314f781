//! How long a platform asks to be left alone: `Retry-After` in both of its forms, and the header in which some say when their
//! window ends. Only reads; how much of it is believed is for whoever asks.

use std::time::Duration;

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// The span that a `Retry-After` names (RFC 9110 §10.2.3): seconds, or a date.
///
/// A date is of the platform's clock: it counts from the answer's own `Date`, where it has one that can be read, and else from
/// `now`. A date that has passed is no span at all.
pub fn retry_after(value: &str, date: Option<&str>, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    seconds(value).map(Duration::from_secs).or_else(|| Some(until(http_date(value, now)?, date, now)))
}

/// The span until a window ends, where a header tells its end as a Unix time in seconds; counted like a date of [`retry_after`].
pub fn reset_at(value: &str, date: Option<&str>, now: OffsetDateTime) -> Option<Duration> {
    let end = i64::try_from(seconds(value.trim())?).ok()?;
    Some(until(OffsetDateTime::from_unix_timestamp(end).ok()?, date, now))
}

fn until(end: OffsetDateTime, date: Option<&str>, now: OffsetDateTime) -> Duration {
    let from = date.and_then(|date| http_date(date.trim(), now)).unwrap_or(now);
    Duration::try_from(end - from).unwrap_or_default()
}

/// Digits and nothing else: a parser of numbers would take a sign as well.
fn seconds(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What does not fit is longer than anybody waits.
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A date in any of the three forms that a recipient must take (RFC 9110 §5.6.7). The day's name says nothing that the rest does not.
fn http_date(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let words: Vec<&str> = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).take(7).collect();
    let (day, month, year, clock) = match words.as_slice() {
        [_, day, month, year, clock, "GMT"] | [_, month, day, clock, year] => (*day, *month, *year, *clock),
        _ => return None,
    };
    let whole = |text: &str| seconds(text)?.try_into().ok();
    let year = match (year.len(), i32::try_from(seconds(year)?).ok()?) {
        (2, year) => century(year, now),
        (4, year) => year,
        _ => return None,
    };
    let month = match month {
        "Jan" => Month::January,
        "Feb" => Month::February,
        "Mar" => Month::March,
        "Apr" => Month::April,
        "May" => Month::May,
        "Jun" => Month::June,
        "Jul" => Month::July,
        "Aug" => Month::August,
        "Sep" => Month::September,
        "Oct" => Month::October,
        "Nov" => Month::November,
        "Dec" => Month::December,
        _ => return None,
    };
    let mut parts = clock.split(':');
    let (hour, minute, second): (u8, u8, u8) = (whole(parts.next()?)?, whole(parts.next()?)?, whole(parts.next()?)?);
    if parts.next().is_some() {
        return None;
    }
    let date = Date::from_calendar_date(year, month, whole(day)?).ok()?;
    // A leap second is a second that this calendar does not have.
    let time = Time::from_hms(hour, minute, if second == 60 { 59 } else { second }).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

/// The year that two digits mean: none that is more than fifty years ahead.
fn century(year: i32, now: OffsetDateTime) -> i32 {
    let year = now.year() - now.year().rem_euclid(100) + year;
    if year > now.year() + 50 { year - 100 } else { year }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-22 06:00 UTC);

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else() {
        let cases = [
            ("0", None, Some(0)),
            (" 120 ", None, Some(120)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            ("Sun, 22 Nov 2026 06:01:30 GMT", None, Some(90)),
            ("Sunday, 22-Nov-26 06:01:30 GMT", None, Some(90)),
            ("Sun Nov 22 06:01:30 2026", None, Some(90)),
            ("Sun Nov  1 06:01:30 2026", None, Some(0)),
            ("Sun, 22 Nov 2026 05:00:00 GMT", None, Some(0)),
            ("Sun, 22 Nov 2026 06:00:60 GMT", None, Some(59)),
            ("Thursday, 22-Nov-90 06:00:00 GMT", None, Some(0)),
            // The platform's clock is an hour ahead of ours: what counts is the span that it means.
            ("Sun, 22 Nov 2026 07:01:30 GMT", Some("Sun, 22 Nov 2026 07:00:00 GMT"), Some(90)),
            ("Sun, 22 Nov 2026 06:01:30 GMT", Some("nonsense"), Some(90)),
            ("", None, None),
            ("-1", None, None),
            ("+1", None, None),
            ("1.5", None, None),
            ("soon", None, None),
            ("Sun, 22 Nov 2026 06:01:30 CET", None, None),
            ("Sun, 32 Nov 2026 06:01:30 GMT", None, None),
            ("Sun, 22 Nov 026 06:01:30 GMT", None, None),
            ("Sun, 22 Nov 2026 25:01:30 GMT", None, None),
            ("Sun, 22 Nov 2026 06:01 GMT", None, None),
            ("Sun, 22 Nov 2026 06:01:30:01 GMT", None, None),
            ("Sun, 22 Nov 2026 06:01:30 GMT and more", None, None),
        ];
        for (value, date, expected) in cases {
            assert_eq!(retry_after(value, date, NOW), expected.map(Duration::from_secs), "{value:?} {date:?}");
        }
    }

    #[test]
    fn the_end_of_a_window_is_a_unix_time() {
        let end = NOW.unix_timestamp() + 300;
        assert_eq!(reset_at(&end.to_string(), None, NOW), Some(Duration::from_mins(5)));
        let ahead = "Sun, 22 Nov 2026 06:04:00 GMT";
        assert_eq!(reset_at(&end.to_string(), Some(ahead), NOW), Some(Duration::from_mins(1)));
        assert_eq!(reset_at("0", None, NOW), Some(Duration::ZERO));
        for nonsense in ["", "x", "99999999999999999999", "1.5", "-1"] {
            assert_eq!(reset_at(nonsense, None, NOW), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn no_header_brings_a_reader_down(value in ".{0,64}", date in proptest::option::of(".{0,64}")) {
            let _ = retry_after(&value, date.as_deref(), NOW);
            let _ = reset_at(&value, date.as_deref(), NOW);
        }
    }
}
