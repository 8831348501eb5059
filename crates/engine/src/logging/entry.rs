//! One line of a log on its way out.

use serde::Deserialize;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The text, without the line feed at its end.
    pub text: String,
    /// Whether the line goes on in the next entry of the same stream.
    pub partial: bool,
    /// Whether it was said on standard error.
    pub stderr: bool,
    /// When, in nanoseconds since the epoch.
    pub time_ns: i64,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

impl Entry {
    /// Reads a line of the file; `None` for what is no entry, as a writer that was killed leaves it.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(line).ok()?;
        let time_ns = crate::logs::nanoseconds(written.time.as_bytes())?;
        let mut text = written.log;
        let partial = !text.ends_with('\n');
        if !partial {
            text.pop();
        }
        Some(Self { text, partial, stderr: written.stream == "stderr", time_ns })
    }

    /// As syslog, the journal and Graylog count: 3 for what is said on standard error, else 6.
    pub fn severity(&self) -> u8 {
        if self.stderr { 3 } else { 6 }
    }

    /// The time as RFC 3339, with so many digits of the fraction.
    pub fn rfc3339(&self, digits: usize) -> String {
        let at = jiff::Timestamp::from_nanosecond(i128::from(self.time_ns)).unwrap_or_default();
        match digits {
            0 => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            6 => at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            _ => at.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An entry for tests.
    pub fn entry(text: &str) -> Entry {
        Entry { text: text.to_owned(), partial: false, stderr: false, time_ns: 1_767_323_045_123_456_789 }
    }

    #[test]
    fn lines_are_read() {
        let read = |line: &str| Entry::parse(line.as_bytes());
        let line = r#"{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}"#;
        assert_eq!(read(line), Some(entry("a")));
        assert_eq!(entry("a").rfc3339(6), "2026-01-02T03:04:05.123456Z");
        let line = r#"{"log":"a","stream":"stderr","attrs":{"x":"y"},"time":"2026-01-02T03:04:05Z"}"#;
        let found = read(line).unwrap();
        assert!(found.partial && found.stderr && found.severity() == 3);
        for line in ["", "{}", "{\"log\":", "[]", r#"{"log":"a","time":"x"}"#] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
