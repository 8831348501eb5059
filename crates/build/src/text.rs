//! Places in a text.

use std::fmt;

/// A range of bytes in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
}

impl Span {
    /// The bytes from one to before another.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// From the beginning of this to the end of another.
    pub fn to(self, other: Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }

    /// What is there in a text; nothing where the span is not of this text.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// A place for people: both numbers begin with one, columns count letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which line.
    pub line: usize,
    /// Which letter of it.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text whose lines are known.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Finds the lines of a text.
    pub fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(ends).collect() }
    }

    /// The text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Which line and letter a byte is.
    pub fn position(&self, at: usize) -> Position {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.as_bytes().get(start..at).unwrap_or_default();
        // The first byte of each letter: also right where a span divides one.
        let letters = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Position { line, column: letters + 1 }
    }

    /// A line without its end, by its number.
    pub fn line(&self, number: usize) -> Option<&'a str> {
        let start = *self.starts.get(number.checked_sub(1)?)?;
        let end = self.starts.get(number).copied().unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }
}

/// Bytes that are to be text; where they are none, why not, as it is told: with the place of the first that is no letter.
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let before = error.utf8_error().valid_up_to();
        let byte = bytes.get(before).copied().unwrap_or_default();
        let text = String::from_utf8_lossy(bytes);
        let place = Source::new(&text).position(before);
        format!("{name}:{place}: error: the byte 0x{byte:02x} is not UTF-8: save it as UTF-8 text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_told_with_their_place() {
        assert_eq!(decode("f", b"a\nb".to_vec()), Ok("a\nb".to_owned()));
        let told = decode("Dockerfile", b"FROM x\nENV \xc3\xa4=\xff\n".to_vec());
        let expected = "Dockerfile:2:7: error: the byte 0xff is not UTF-8: save it as UTF-8 text";
        assert_eq!(told, Err(expected.to_owned()));
    }

    #[test]
    fn places_are_found() {
        let source = Source::new("ab\nçde\r\n\nx");
        for (at, line, column) in
            [(0, 1, 1), (2, 1, 3), (3, 2, 1), (5, 2, 2), (9, 3, 1), (10, 4, 1), (99, 4, 2)]
        {
            assert_eq!(source.position(at), Position { line, column }, "{at}");
        }
        assert_eq!(source.line(2), Some("çde"));
        assert_eq!(source.line(4), Some("x"));
        assert_eq!(source.line(5), None);
        assert_eq!(source.line(0), None);
    }
}
