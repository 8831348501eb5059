//! Sizes and times as people read them, in Docker's words.

/// A size in decimal units with four digits: `1.984MB`.
#[must_use]
pub fn size(bytes: i64) -> String {
    size_with(bytes, 4)
}

/// A size in decimal units with so many digits.
#[must_use]
pub fn size_with(bytes: i64, precision: usize) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], precision)
}

/// A size in binary units: `23.54GiB`.
#[must_use]
pub fn memory(bytes: i64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"], 4)
}

fn scaled(value: f64, base: f64, units: &[&str], precision: usize) -> String {
    let (mut value, mut unit) = (value, 0);
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, precision), units[unit])
}

/// C's `%.{precision}g`.
fn significant(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let exponent = format!("{value:.*e}", precision - 1);
    let power: i32 = exponent.rsplit('e').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    if power < -4 || power >= precision as i32 {
        let (mantissa, _) = exponent.split_once('e').unwrap_or((&exponent, ""));
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        return format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs());
    }
    let decimals = usize::try_from(precision as i32 - 1 - power).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

/// How long ago: `3 weeks ago`; `N/A` for what never was.
#[must_use]
pub fn ago(seconds: i64, now: i64) -> String {
    if seconds == 0 {
        return "N/A".into();
    }
    format!("{} ago", api::duration::human(now - seconds))
}

/// Seconds since 1970 as Go's `time.Time` prints them: `2026-11-22 01:33:40 +0000 UTC`, in the local zone.
#[must_use]
pub fn go_time(seconds: i64) -> String {
    let Ok(stamp) = jiff::Timestamp::from_second(seconds) else { return String::new() };
    let zoned = stamp.to_zoned(zone());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// Nanoseconds since 1970 as Docker's events show them, in the local zone.
#[must_use]
pub fn padded_time(nanoseconds: i64) -> String {
    let Ok(stamp) = jiff::Timestamp::from_nanosecond(nanoseconds.into()) else { return String::new() };
    let zoned = stamp.to_zoned(zone());
    let offset = zoned.offset().seconds();
    let tail = if offset == 0 { "Z".to_owned() } else { zoned.strftime("%:z").to_string() };
    format!("{}.{:09}{tail}", zoned.strftime("%Y-%m-%dT%H:%M:%S"), zoned.subsec_nanosecond())
}

/// Seconds since 1970 as RFC 3339, in the local zone.
#[must_use]
pub fn rfc3339(seconds: i64) -> String {
    let Ok(stamp) = jiff::Timestamp::from_second(seconds) else { return String::new() };
    let zoned = stamp.to_zoned(zone());
    let tail = if zoned.offset().seconds() == 0 { "Z".to_owned() } else { zoned.strftime("%:z").to_string() };
    format!("{}{tail}", zoned.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// The local zone; the system's files are read the first time a local time is shown.
fn zone() -> jiff::tz::TimeZone {
    thread_local! {
        static ZONE: jiff::tz::TimeZone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
    }
    ZONE.with(Clone::clone)
}

/// `text` cut to `width` characters, the last one an ellipsis.
#[must_use]
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// The first twelve digits of an id, its algorithm left out.
#[must_use]
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, digits)| digits);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (bytes, three, four) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1_000, "1kB", "1kB"),
            (1_913, "1.91kB", "1.913kB"),
            (1_984_000, "1.98MB", "1.984MB"),
            (123_456_789, "123MB", "123.5MB"),
            (999_999, "1e+03kB", "1000kB"),
            (-1, "-1B", "-1B"),
        ] {
            assert_eq!((size_with(bytes, 3).as_str(), size(bytes).as_str()), (three, four), "{bytes}");
        }
        assert_eq!(memory(25_274_793_984), "23.54GiB");
    }

    #[test]
    fn texts_are_cut() {
        assert_eq!(ellipsis("sleep 100000 and more", 20), "sleep 100000 and mo…");
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
