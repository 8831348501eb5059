//! Lines: those of the file, and the one that continued lines are together.

use super::instruction::Word;
use crate::text::Span;

/// A line of the file.
#[derive(Debug, Clone, Copy)]
pub struct Physical<'a> {
    /// Where it begins.
    pub start: usize,
    /// Without its end.
    pub text: &'a str,
    /// With its end.
    pub whole: &'a str,
}

impl Physical<'_> {
    pub fn span(&self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }

    pub fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }
}

/// The lines of a text.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    text: &'a str,
    at: usize,
    end: usize,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, end: text.len() }
    }

    /// Goes to a part of it, which may begin a file.
    pub fn enter(&mut self, start: usize, end: Option<usize>, begins_file: bool) {
        self.at = start;
        self.end = end.unwrap_or(self.text.len());
        // A mark of the byte order, as some editors begin a file with.
        if begins_file && self.text.get(start..self.end).is_some_and(|part| part.starts_with('\u{feff}')) {
            self.at += '\u{feff}'.len_utf8();
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Physical<'a>;

    fn next(&mut self) -> Option<Physical<'a>> {
        let rest = self.text.get(self.at..self.end).filter(|rest| !rest.is_empty())?;
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let whole = &rest[..end];
        let start = self.at;
        self.at += end;
        Some(Physical { start, text: whole.trim_end_matches(['\n', '\r']), whole })
    }
}

/// Continued lines as one, each letter of which knows where it comes from.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pub text: String,
    /// Where each piece begins: here, and in the file.
    pieces: Vec<(usize, usize)>,
}

impl Line {
    pub fn push(&mut self, text: &str, source: usize) {
        self.pieces.push((self.text.len(), source));
        self.text.push_str(text);
    }

    fn source(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(here, _)| *here <= at).saturating_sub(1);
        self.pieces.get(piece).map_or(0, |(here, source)| source + at.saturating_sub(*here))
    }

    /// Where a range comes from.
    pub fn span(&self, start: usize, end: usize) -> Span {
        let first = self.source(start);
        if end <= start {
            return Span::new(first, first);
        }
        Span::new(first, self.source(end - 1) + 1)
    }

    pub fn all(&self) -> Part<'_> {
        Part { line: self, start: 0, end: self.text.len() }.trim()
    }
}

/// A range of a line.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    pub line: &'a Line,
    pub start: usize,
    pub end: usize,
}

impl<'a> Part<'a> {
    pub fn text(&self) -> &'a str {
        self.line.text.get(self.start..self.end).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub fn span(&self) -> Span {
        self.line.span(self.start, self.end)
    }

    pub fn word(&self) -> Word {
        Word { text: self.text().to_owned(), span: self.span() }
    }

    /// A range of this.
    pub fn range(&self, start: usize, end: usize) -> Self {
        let end = (self.start + end).min(self.end);
        Self { line: self.line, start: (self.start + start).min(end), end }
    }

    pub fn from(&self, start: usize) -> Self {
        self.range(start, self.end - self.start)
    }

    pub fn trim(&self) -> Self {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        self.range(start, start + text.trim().len())
    }

    /// Divides before and behind the first run of spaces.
    pub fn split(&self) -> (Self, Self) {
        let text = self.text();
        let end = text.find(is_space).unwrap_or(text.len());
        let rest = &text[end..];
        let next = end + (rest.len() - rest.trim_start_matches(is_space).len());
        (self.range(0, end), self.from(next))
    }
}

/// What divides words where quotes mean nothing.
pub fn is_space(letter: char) -> bool {
    matches!(letter, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}
