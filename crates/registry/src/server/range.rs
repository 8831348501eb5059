//! Ranges of bytes: those that are asked for, and those that are sent.

/// What a `Range` header means for content of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: there is no range, or one that is no business of ours.
    All,
    /// These bytes, the last included.
    Part(u64, u64),
    /// Bytes that are not there.
    Nothing,
}

/// Reads a `Range` header (RFC 9110, 14.2). What is malformed, of another unit or of several parts is passed over, as the
/// RFC allows.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(ranges) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some((first, last)) = ranges.trim().split_once('-') else { return Wanted::All };
    match (number(first), number(last)) {
        (None, Some(count)) if first.trim().is_empty() => match count.min(size) {
            0 => Wanted::Nothing,
            count => Wanted::Part(size - count, size - 1),
        },
        (Some(first), None) if last.trim().is_empty() => part(first, u64::MAX, size),
        (Some(first), Some(last)) if first <= last => part(first, last, size),
        _ => Wanted::All,
    }
}

fn part(first: u64, last: u64, size: u64) -> Wanted {
    if first >= size { Wanted::Nothing } else { Wanted::Part(first, last.min(size - 1)) }
}

/// Reads the `Content-Range` of a piece that is pushed, `first-last` (the distribution specification has no unit; some
/// clients send `bytes first-last/*`).
pub fn sent(header: &str) -> Option<(u64, u64)> {
    let range = header.trim();
    let range = range.strip_prefix("bytes").map_or(range, |rest| rest.trim_start_matches([' ', '=']));
    let (first, last) = range.split('/').next()?.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    // `u64` itself would take a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        for (header, expected) in [
            ("bytes=0-3", Wanted::Part(0, 3)),
            ("bytes=4-", Wanted::Part(4, 9)),
            ("bytes=-3", Wanted::Part(7, 9)),
            ("bytes=-30", Wanted::Part(0, 9)),
            ("bytes=9-99", Wanted::Part(9, 9)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=3-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=+1-3", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("bytes=99999999999999999999-", Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), 10), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }

    #[test]
    fn what_is_sent() {
        assert_eq!(sent("0-99"), Some((0, 99)));
        assert_eq!(sent("bytes 5-9/*"), Some((5, 9)));
        for wrong in ["", "5", "9-5", "-5", "5-", "a-b", "0-99999999999999999999"] {
            assert_eq!(sent(wrong), None, "{wrong}");
        }
    }
}
