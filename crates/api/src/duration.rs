//! Durations as Go writes them, and as people say them.

use crate::Error;

/// Reads a duration of Go (`1h15m30.5s`, `300ms`, `-1.5h`, `0`) into nanoseconds.
pub fn parse(text: &str) -> Result<i64, Error> {
    let wrong = || Error::Duration(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        total += nanoseconds(number, unit).ok_or_else(wrong)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| wrong())
}

/// One number with its unit.
fn nanoseconds(number: &str, unit: &str) -> Option<i128> {
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
    // Digits beyond these are less than a nanosecond.
    let (mut value, mut scale) = (0, unit);
    for digit in fraction.bytes().take(15) {
        value += i128::from(digit - b'0') * scale / 10;
        scale /= 10;
    }
    Some(whole * unit + value)
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `300ms`.
pub fn format(duration: std::time::Duration) -> String {
    let nanoseconds = duration.subsec_nanos();
    let seconds = duration.as_secs();
    let decimals = |whole: u64, rest: u32, digits: usize| {
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { whole.to_string() } else { format!("{whole}.{rest}") }
    };
    match (seconds, nanoseconds) {
        (0, 0) => "0s".to_owned(),
        (0, 1..1_000) => format!("{nanoseconds}ns"),
        (0, 1_000..1_000_000) => {
            format!("{}µs", decimals((nanoseconds / 1_000).into(), nanoseconds % 1_000, 3))
        }
        (0, _) => format!("{}ms", decimals((nanoseconds / 1_000_000).into(), nanoseconds % 1_000_000, 6)),
        _ => {
            let last = decimals(seconds % 60, nanoseconds, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{last}s"),
                (0, minutes) => format!("{minutes}m{last}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{last}s"),
            }
        }
    }
}

/// A duration in seconds as people say it: `Less than a second`, `About an hour`, `3 weeks`.
pub fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        i64::MIN..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        _ if seconds < 60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_does() {
        use std::time::Duration;
        for (nanoseconds, want) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (300_000_000, "300ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_690_000_000_000, "1h1m30s"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanoseconds)), want);
        }
    }

    #[test]
    fn gos_durations_are_read() {
        for (text, expected) in [
            ("0", 0),
            ("1h15m30.5s", 4_530_500_000_000),
            ("300ms", 300_000_000),
            ("-1.5h", -5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1µs1ns", 1_001),
            ("0.000000001s", 1),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "-", "1", "s", "1x", "1.2.3s", "1 s", ".s", "9999999999h", "1d"] {
            assert_eq!(parse(text), Err(Error::Duration(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn people_say_it_as_docker_does() {
        for (seconds, said) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (179, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (365 * 2 * 86400, "2 years"),
        ] {
            assert_eq!(human(seconds), said, "{seconds}");
        }
    }
}
