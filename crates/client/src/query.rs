//! Query strings.

use std::fmt::Write;

/// A query string in the making.
#[derive(Debug, Default, Clone)]
pub struct Query(String);

impl Query {
    /// An empty query.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair.
    #[must_use]
    pub fn pair(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        escape(&mut self.0, value);
        self
    }

    /// Adds a pair when there is a value and it is not empty.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.pair(key, value),
            _ => self,
        }
    }

    /// Adds `key=1` when `on`.
    #[must_use]
    pub fn flag(self, key: &str, on: bool) -> Self {
        if on { self.pair(key, "1") } else { self }
    }

    /// The string with its leading `?`, or nothing.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Appends `text`, percent-encoded for a query's value.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// `text` percent-encoded as one segment of a path, but for `/` and `:`, which image names carry
/// and which every daemon takes as they are.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:@+".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_encoded() {
        let query = Query::new().pair("a", "x y&z").flag("v", true).flag("w", false).maybe("n", Some(""));
        assert_eq!(query.as_str(), "?a=x%20y%26z&v=1");
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("a?b#c d"), "a%3Fb%23c%20d");
        assert_eq!(segment("127.0.0.1:5000/x@sha256:1"), "127.0.0.1:5000/x@sha256:1");
    }
}
