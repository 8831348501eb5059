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

/// A file that a text was put together of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// What it is called.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Where a part of a text comes from. It ends where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte in the text.
    pub start: usize,
    /// The number of its file.
    pub file: usize,
    /// Its first byte in that file.
    pub offset: usize,
}

/// What a text was put together of. Nothing, if it is as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// The files; the first is the one that names the others.
    pub files: Vec<File>,
    /// The parts, in the order of the text; the first begins it and is of the first file.
    pub parts: Vec<Part>,
}

/// Where a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the file.
    pub file: usize,
    /// The first letter.
    pub start: Position,
    /// Behind the last one.
    pub end: Position,
}

/// A text whose lines are known, and those of the files that it was put together of.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    text: &'a str,
    files: Vec<Lines<'a>>,
    parts: &'a [Part],
}

/// The lines of a file.
#[derive(Debug, Clone)]
struct Lines<'a> {
    name: &'a str,
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { name, text, starts: std::iter::once(0).chain(ends).collect() }
    }

    fn position(&self, at: usize) -> Position {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.as_bytes().get(start..at).unwrap_or_default();
        // The first byte of each letter: also right where a span divides one.
        let letters = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Position { line, column: letters + 1 }
    }
}

impl<'a> Source<'a> {
    /// Finds the lines of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, files: vec![Lines::new("", text)], parts: &[] }
    }

    /// Finds the lines of the files that a text was put together of.
    pub fn of(text: &'a str, origins: &'a Origins) -> Self {
        if origins.parts.is_empty() || origins.files.is_empty() {
            return Self::new(text);
        }
        let files = origins.files.iter().map(|file| Lines::new(&file.name, &file.text)).collect();
        Self { text, files, parts: &origins.parts }
    }

    /// The text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Which part a byte is in: its beginning here and there, its file, and where it ends.
    fn part(&self, at: usize) -> (Part, usize) {
        let number = self.parts.partition_point(|part| part.start <= at).saturating_sub(1);
        let whole = Part { start: 0, file: 0, offset: 0 };
        let part = self.parts.get(number).copied().unwrap_or(whole);
        (part, self.parts.get(number + 1).map_or(self.text.len(), |next| next.start))
    }

    /// Which line and letter a byte is, in its own file.
    pub fn position(&self, at: usize) -> Position {
        self.place(Span::new(at, at)).start
    }

    /// Where a range is. What is no range, and begins the text, is what says something of the whole: that is the first file's.
    pub fn place(&self, span: Span) -> Place {
        let (part, end) = match (span.start, span.end) {
            (0, 0) => (Part { start: 0, file: 0, offset: 0 }, 0),
            (start, _) => self.part(start),
        };
        let file = part.file.min(self.files.len() - 1);
        let position = |at: usize| {
            let inside = at.min(end.max(part.start)).saturating_sub(part.start);
            self.files[file].position(part.offset + inside)
        };
        Place { file, start: position(span.start), end: position(span.end) }
    }

    /// What a file is called that the first one names.
    pub fn name(&self, file: usize) -> Option<&'a str> {
        self.files.get(file).filter(|_| file > 0).map(|lines| lines.name)
    }

    /// A line without its end, by its number.
    pub fn line(&self, file: usize, number: usize) -> Option<&'a str> {
        let lines = self.files.get(file)?;
        let start = *lines.starts.get(number.checked_sub(1)?)?;
        let end = lines.starts.get(number).copied().unwrap_or(lines.text.len());
        Some(lines.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }
}

/// Bytes that are to be text; where they are none, why not, as it is told: with the place of the first that is no letter. Comments may
/// have any: nobody reads them but people, who see a mark there.
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<String, String> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let (mut text, mut wrong) = (String::new(), Vec::new());
    for chunk in error.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        if let Some(byte) = chunk.invalid().first() {
            wrong.push((text.len(), *byte));
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    let parsed = crate::parse(&text);
    let files = parsed.dockerfile.instructions.iter().flat_map(|one| one.command.heredocs());
    let files: Vec<Span> = files.map(|file| file.span).collect();
    let is_comment = |at: usize| {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        // What looks like one in a file of the Dockerfile's own is a line of that.
        text[line..at].trim_start().starts_with('#')
            && !files.iter().any(|file| (file.start..file.end).contains(&at))
    };
    match wrong.into_iter().find(|(at, _)| !is_comment(*at)) {
        None => Ok(text),
        Some((at, byte)) => {
            let place = Source::new(&text).position(at);
            Err(format!("{name}:{place}: error: the byte 0x{byte:02x} is not UTF-8: save it as UTF-8 text"))
        }
    }
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
        let told = decode(
            "Dockerfile",
            b"# caf\xe9 \xe9\nFROM x\nRUN a \\\n  # \xff\n  b\nENV a=\xc3\xa4\xe8\n".to_vec(),
        );
        let expected = "Dockerfile:6:8: error: the byte 0xe8 is not UTF-8: save it as UTF-8 text";
        assert_eq!(told, Err(expected.to_owned()));
    }

    #[test]
    fn comments_may_have_any_bytes() {
        let text = decode("f", b"# caf\xe9\nFROM x\nRUN a \\\n \t# \xff\xfe\n b\n".to_vec());
        assert_eq!(text.as_deref(), Ok("# caf\u{fffd}\nFROM x\nRUN a \\\n \t# \u{fffd}\u{fffd}\n b\n"));
        let file = decode("f", b"FROM x\nRUN <<END\n# \xe9\nEND\n".to_vec());
        assert_eq!(file, Err("f:3:3: error: the byte 0xe9 is not UTF-8: save it as UTF-8 text".to_owned()));
    }

    #[test]
    fn places_are_found() {
        let source = Source::new("ab\nçde\r\n\nx");
        for (at, line, column) in
            [(0, 1, 1), (2, 1, 3), (3, 2, 1), (5, 2, 2), (9, 3, 1), (10, 4, 1), (99, 4, 2)]
        {
            assert_eq!(source.position(at), Position { line, column }, "{at}");
        }
        assert_eq!(source.line(0, 2), Some("çde"));
        assert_eq!(source.line(0, 4), Some("x"));
        assert_eq!(source.line(0, 5), None);
        assert_eq!(source.line(0, 0), None);
    }
}
