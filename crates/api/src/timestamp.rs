//! Points in time: RFC 3339 as Go writes it, and what clients ask for.

use crate::Error;
use crate::duration;
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

/// What Go writes for a time that never was.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// Nanoseconds since 1970.
pub type Nanoseconds = i64;

const SECOND: i64 = 1_000_000_000;

/// Now.
pub fn now() -> Nanoseconds {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with as many digits as needed, as Go's `RFC3339Nano`; 0 is written as [`ZERO`].
pub fn format(at: Nanoseconds) -> String {
    match Timestamp::from_nanosecond(at.into()) {
        Ok(at) if at != Timestamp::UNIX_EPOCH => at.to_string(),
        _ => ZERO.to_owned(),
    }
}

/// RFC 3339 in UTC with all nine digits, as in logs with timestamps.
pub fn format_padded(at: Nanoseconds) -> String {
    Timestamp::from_nanosecond(at.into()).map_or_else(|_| ZERO.to_owned(), |at| format!("{at:.9}"))
}

/// Reads RFC 3339; [`ZERO`] and nothing are 0.
pub fn parse(text: &str) -> Result<Nanoseconds, Error> {
    if text.is_empty() || text == ZERO {
        return Ok(0);
    }
    let at: Timestamp = text.parse().map_err(|_| Error::Timestamp(text.to_owned()))?;
    i64::try_from(at.as_nanosecond()).map_err(|_| Error::Timestamp(text.to_owned()))
}

/// Reads what `since` and `until` may hold: seconds since 1970 with a fraction, a duration of Go counted back from
/// `now`, or a date with or without time and zone (UTC where without). Nothing is `None`.
pub fn parse_query(text: &str, now: Nanoseconds) -> Result<Option<Nanoseconds>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(at) = unix(text) {
        return Ok(Some(at));
    }
    if let Ok(ago) = duration::parse(text) {
        return Ok(Some(now.saturating_sub(ago)));
    }
    if let Ok(at) = parse(text) {
        return Ok(Some(at));
    }
    let local =
        text.parse::<civil::DateTime>().ok().or_else(|| text.parse::<civil::Date>().ok().map(Into::into));
    local
        .and_then(|local| TimeZone::UTC.to_timestamp(local).ok())
        .and_then(|at| i64::try_from(at.as_nanosecond()).ok())
        .map(Some)
        .ok_or_else(|| Error::Timestamp(text.to_owned()))
}

/// Seconds since 1970, with a fraction of at most nine digits.
fn unix(text: &str) -> Option<Nanoseconds> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds.saturating_mul(SECOND).saturating_add(if seconds < 0 { -nanoseconds } else { nanoseconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(format(0), ZERO);
        assert_eq!(format(1_700_000_000 * SECOND), "2023-11-14T22:13:20Z");
        assert_eq!(format(1_700_000_000 * SECOND + 120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(format_padded(1_700_000_000 * SECOND), "2023-11-14T22:13:20.000000000Z");
        for at in [0, 1, 1_700_000_000_123_456_789] {
            assert_eq!(parse(&format(at)), Ok(at));
        }
        assert_eq!(parse("2023-11-14T23:13:20+01:00"), Ok(1_700_000_000 * SECOND));
    }

    #[test]
    fn clients_ask_in_many_ways() {
        let now = 1_700_000_000 * SECOND;
        for (text, expected) in [
            ("1700000000", now),
            ("1700000000.5", now + SECOND / 2),
            ("1700000000.000000001", now + 1),
            ("10m", now - 600 * SECOND),
            ("2023-11-14T22:13:20Z", now),
            ("2023-11-14T22:13:20", now),
            ("2023-11-14", now - (22 * 3600 + 13 * 60 + 20) * SECOND),
            ("0", 0),
        ] {
            assert_eq!(parse_query(text, now), Ok(Some(expected)), "{text}");
        }
        assert_eq!(parse_query("", now), Ok(None));
        for text in ["x", "1.x", "1.", "2023-13-01", "yesterday"] {
            assert!(parse_query(text, now).is_err(), "{text}");
        }
    }
}
