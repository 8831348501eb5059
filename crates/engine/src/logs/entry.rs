//! One line of a log: found, understood, and turned into what a client reads.
//!
//! Lines of our own writing have one form and are taken apart in one pass; others, which Docker may have written, go through
//! a JSON parser.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Query;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const LOG: &[u8] = b"{\"log\":\"";
const STDOUT: &[u8] = b",\"stream\":\"stdout\",\"time\":\"";
const STDERR: &[u8] = b",\"stream\":\"stderr\",\"time\":\"";

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Dealt with; so long it was.
    Taken(usize),
    /// Its end is not there yet.
    Incomplete,
    /// It is after the time that is the last one wanted.
    Late,
}

/// Turns lines into output.
#[derive(Debug)]
pub(super) struct Formatter {
    query: Query,
    /// The time of the last entry as it is written, and what follows from it: most entries share their neighbours'.
    time: Vec<u8>,
    wanted: Wanted,
    prefix: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    Early,
    Late,
}

/// A line that does not have our own form.
#[derive(Debug, serde::Deserialize)]
struct Foreign {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

impl Formatter {
    pub(super) fn new(query: Query) -> Self {
        Self { query, time: Vec::new(), wanted: Wanted::Yes, prefix: Vec::new() }
    }

    /// Takes the first line of `bytes`, appending what it becomes to `out`.
    pub(super) fn line(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Outcome {
        let begin = out.len();
        match self.own(bytes, out) {
            Some(outcome) => outcome,
            None => {
                out.truncate(begin);
                self.foreign(bytes, out)
            }
        }
    }

    /// Takes a line of our own form; `None` if it has another, or is incomplete.
    fn own(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        if self.query.details {
            return None;
        }
        let text = bytes.strip_prefix(LOG)?;
        let begin = out.len();
        if self.query.framed {
            out.extend_from_slice(&[0; 8]);
        }
        // The time comes after the text: most likely it is the one of the line before.
        let prefix = out.len();
        out.extend_from_slice(&self.prefix);
        let payload = out.len();
        let end = unescape(text, out)?;
        let rest = text.get(end + 1..)?;
        let (stream, rest) = match rest.strip_prefix(STDOUT) {
            Some(rest) => (1, rest),
            None => (2, rest.strip_prefix(STDERR)?),
        };
        let rest = if !self.time.is_empty()
            && rest.starts_with(&self.time)
            && rest.get(self.time.len()) == Some(&b'"')
        {
            &rest[self.time.len() + 1..]
        } else {
            // No time is as long as this window; the rest of the file need not be searched.
            let length = rest.iter().take(64).position(|b| *b == b'"')?;
            self.remember(&rest[..length])?;
            out.splice(prefix..payload, self.prefix.iter().copied());
            &rest[length + 1..]
        };
        let rest = rest.strip_prefix(b"}\n")?;
        let taken = bytes.len() - rest.len();
        Some(self.settle(stream, begin, taken, out))
    }

    /// Decides whether an entry stays, and completes its frame.
    fn settle(&self, stream: u8, begin: usize, taken: usize, out: &mut Vec<u8>) -> Outcome {
        let shown = if stream == 1 { self.query.stdout } else { self.query.stderr };
        match self.wanted {
            Wanted::Late => {
                out.truncate(begin);
                return Outcome::Late;
            }
            Wanted::Yes if shown => {}
            _ => {
                out.truncate(begin);
                return Outcome::Taken(taken);
            }
        }
        if self.query.framed {
            let length = u32::try_from(out.len() - begin - 8).unwrap_or(u32::MAX);
            out[begin] = stream;
            out[begin + 4..begin + 8].copy_from_slice(&length.to_be_bytes());
        }
        Outcome::Taken(taken)
    }

    /// Takes a line of any form; what is no JSON, as a writer that was killed leaves it, is passed over.
    fn foreign(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Outcome {
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else { return Outcome::Incomplete };
        let taken = Outcome::Taken(end + 1);
        let Ok(entry) = serde_json::from_slice::<Foreign>(&bytes[..end]) else { return taken };
        if self.remember(entry.time.as_bytes()).is_none() {
            return taken;
        }
        let begin = out.len();
        if self.query.framed {
            out.extend_from_slice(&[0; 8]);
        }
        out.extend_from_slice(&self.prefix);
        if self.query.details {
            details(&entry.attrs, out);
        }
        out.extend_from_slice(entry.log.as_bytes());
        let stream = if entry.stream == "stderr" { 2 } else { 1 };
        self.settle(stream, begin, end + 1, out)
    }

    /// Understands a time and what follows from it; `None` if it is none.
    fn remember(&mut self, time: &[u8]) -> Option<()> {
        self.time.clear();
        let ns = nanoseconds(time)?;
        self.time.extend_from_slice(time);
        self.wanted = match self.query {
            Query { since: Some(since), .. } if ns < since => Wanted::Early,
            Query { until: Some(until), .. } if ns > until => Wanted::Late,
            _ => Wanted::Yes,
        };
        self.prefix.clear();
        if self.query.timestamps {
            // Docker shows all nine digits of the fraction, and writes only those that matter.
            self.prefix.extend_from_slice(&time[..19]);
            self.prefix.push(b'.');
            let fraction = time[19..].iter().filter(|b| b.is_ascii_digit());
            self.prefix.extend(fraction.copied().chain(std::iter::repeat(b'0')).take(9));
            self.prefix.extend_from_slice(b"Z ");
        }
        Some(())
    }
}

/// Appends the text of a JSON string up to its closing quotation mark, and returns where that is; `None` if it does not
/// come, or the text is not what we would have written.
fn unescape(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let run = plain(&bytes[at..]);
        out.extend_from_slice(&bytes[at..at + run]);
        at += run;
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += escape(&bytes[at..], out)?,
            _ => return None,
        }
    }
}

/// How many bytes stand for themselves.
fn plain(bytes: &[u8]) -> usize {
    let zeroes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let special = control | zeroes(word ^ (ONES * 0x22)) | zeroes(word ^ (ONES * 0x5c));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |b: &u8| matches!(b, 0..=0x1f | b'"' | b'\\');
    at + bytes[at..].iter().position(special).unwrap_or(bytes.len() - at)
}

/// Appends what an escape stands for, and returns its length.
fn escape(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let byte = match bytes.get(1)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        other @ (b'"' | b'\\' | b'/') => *other,
        b'u' => {
            let digits = std::str::from_utf8(bytes.get(2..6)?).ok()?;
            // Halves of pairs are not ours: the JSON parser knows what to do.
            let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            let mut text = [0; 4];
            out.extend_from_slice(character.encode_utf8(&mut text).as_bytes());
            return Some(6);
        }
        _ => return None,
    };
    out.push(byte);
    Some(2)
}

/// Appends the attributes as Docker shows them: sorted, escaped as in a query, and a space.
fn details(attrs: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    for (number, (key, value)) in attrs.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        query_escape(key, out);
        out.push(b'=');
        query_escape(value, out);
    }
    out.push(b' ');
}

fn query_escape(text: &str, out: &mut Vec<u8>) {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            // Writing to a string does not fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    out.extend_from_slice(escaped.as_bytes());
}

/// The nanoseconds since the epoch of a time as we write it, `2026-01-02T03:04:05[.123]Z`.
pub(crate) fn nanoseconds(time: &[u8]) -> Option<i64> {
    let time = time.strip_suffix(b"Z")?;
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let mut value = 0;
        for byte in time.get(range)? {
            value = value * 10 + i64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        Some(value)
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| time.get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let fraction = match time.get(19) {
        None => 0,
        Some(b'.') if (21..=29).contains(&time.len()) => {
            let digits = time.len() - 20;
            number(20..time.len())? * 10_i64.pow(9 - u32::try_from(digits).ok()?)
        }
        Some(_) => return None,
    };
    let total = days(year, month, day) * 86_400 + seconds;
    total.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// Days since 1970-01-01 of a Gregorian date, with years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn formatted(query: Query, line: &str) -> String {
        let mut out = Vec::new();
        let outcome = Formatter::new(query).line(line.as_bytes(), &mut out);
        assert_eq!(outcome, Outcome::Taken(line.len()));
        String::from_utf8(out).expect("utf8")
    }

    const PLAIN: Query = Query {
        stdout: true,
        stderr: true,
        since: None,
        until: None,
        tail: None,
        timestamps: false,
        details: false,
        follow: false,
        framed: false,
    };

    #[test]
    fn our_lines_and_dockers() {
        let ours =
            "{\"log\":\"a\\u003cb\\\"\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.12Z\"}\n";
        assert_eq!(formatted(PLAIN, ours), "a<b\"\n");
        let stamped = Query { timestamps: true, ..PLAIN };
        assert_eq!(formatted(stamped, ours), "2026-01-02T03:04:05.120000000Z a<b\"\n");
        let whole = "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n";
        assert_eq!(formatted(stamped, whole), "2026-01-02T03:04:05.000000000Z x");
        assert_eq!(formatted(Query { stderr: false, ..PLAIN }, ours), "");
        assert_eq!(formatted(Query { framed: true, ..PLAIN }, ours), "\u{2}\0\0\0\0\0\0\u{5}a<b\"\n");
        let attrs = concat!(
            "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"b\":\"2 &\",\"a\":\"1\"},",
            "\"time\":\"2026-01-02T03:04:05.000000001Z\"}\n"
        );
        assert_eq!(formatted(PLAIN, attrs), "x\n");
        assert_eq!(formatted(Query { details: true, ..PLAIN }, attrs), "a=1,b=2+%26 x\n");
        assert_eq!(formatted(Query { details: true, ..PLAIN }, ours), " a<b\"\n");
        let pair =
            "{\"stream\":\"stdout\",\"log\":\"\\ud83e\\udd80\\n\",\"time\":\"2026-01-02T03:04:05Z\"}\n";
        assert_eq!(formatted(PLAIN, pair), "🦀\n");
        assert_eq!(formatted(PLAIN, "{\"log\":\"torn\n"), "");
        assert_eq!(formatted(PLAIN, "\n"), "");
    }

    #[test]
    fn times() {
        assert_eq!(nanoseconds(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanoseconds(b"2000-02-29T00:00:00.000000001Z"), Some(951_782_400_000_000_001));
        assert_eq!(nanoseconds(b"2024-12-31T23:59:59.12Z"), Some(1_735_689_599_120_000_000));
        for wrong in [&b""[..], b"2024-12-31T23:59:59", b"2024-12-31T23:59:59.Z", b"2024-12-31 23:59:59Z"] {
            assert_eq!(nanoseconds(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn what_the_shim_writes_is_read_back(text in "\\PC{0,80}[\\x00-\\x7f]{0,40}", ns in 0_i64..4_000_000_000_000_000_000) {
            let mut line = LOG.to_vec();
            shim::log::escape(text.as_bytes(), &mut line);
            line.extend_from_slice(b"\",\"stream\":\"stdout\",\"time\":\"");
            let begin = line.len();
            shim::log::rfc3339_nano(ns, &mut line);
            prop_assert_eq!(nanoseconds(&line[begin..]), Some(ns));
            line.extend_from_slice(b"\"}\n");
            let mut out = Vec::new();
            let mut formatter = Formatter::new(PLAIN);
            prop_assert_eq!(formatter.own(&line, &mut out), Some(Outcome::Taken(line.len())));
            prop_assert_eq!(out, text.as_bytes());
            for cut in 0..line.len() {
                prop_assert_eq!(formatter.line(&line[..cut], &mut Vec::new()), Outcome::Incomplete);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            if let Outcome::Taken(taken) = Formatter::new(PLAIN).line(&bytes, &mut out) {
                prop_assert!(taken > 0 && taken <= bytes.len());
            }
        }
    }
}
