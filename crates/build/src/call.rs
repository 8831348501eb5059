//! Questions about a Dockerfile that need no build: what is wrong with it, which targets it has, what it takes.
//!
//! The answers have BuildKit's forms (`frontend.lint`, `frontend.targets`, `frontend.outline`), so that its clients can show them.

mod lint;
mod outline;
mod targets;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::dockerfile::Dockerfile;
use crate::dockerfile::instruction::Instruction;
use crate::ignore::Ignore;
use crate::request::Document;
use crate::stages::{self, Stages};
use crate::text::{self, Source, Span};
use crate::{Diagnostic, Severity, parse_document};

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What is wrong with it.
    Lint,
    /// Which targets it has.
    Targets,
    /// What a target takes: variables, secrets.
    Outline,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// For programs.
    pub json: String,
    /// For people.
    pub text: String,
    /// Whether nothing is wrong.
    pub is_fine: bool,
}

/// The version of the forms that answers have.
pub const VERSION: &str = "1.0.0";

impl Question {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lint, Self::Targets, Self::Outline];

    /// What BuildKit calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lint => "frontend.lint",
            Self::Targets => "frontend.targets",
            Self::Outline => "frontend.outline",
        }
    }

    /// The question of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|question| question.name() == name)
    }

    /// What is asked, in one line.
    pub fn description(self) -> &'static str {
        match self {
            Self::Lint => "Lint a Dockerfile",
            Self::Targets => "List all targets current build supports",
            Self::Outline => "List all parameters current build target supports",
        }
    }

    /// The answer. What the context hides counts, if it is known.
    ///
    /// # Errors
    /// The text is none that can be answered about; a picture of what is wrong with it.
    pub fn ask(
        self,
        document: &Document,
        request: &stages::Request,
        ignore: Option<&Ignore>,
    ) -> Result<Answer, String> {
        let subject = Subject::read(document, request);
        if self == Self::Lint {
            return lint::answer(&subject, ignore);
        }
        match subject.error {
            Some(error) => Err(error.render(&subject.source, &document.name)),
            None if self == Self::Targets => Ok(targets::answer(&subject)),
            None => Ok(outline::answer(&subject)),
        }
    }
}

/// What is asked about.
struct Subject<'a> {
    document: &'a Document,
    request: &'a stages::Request,
    source: Source<'a>,
    file: Dockerfile,
    stages: Stages,
    /// The first thing that keeps it from being built.
    error: Option<Diagnostic>,
}

impl<'a> Subject<'a> {
    fn read(document: &'a Document, request: &'a stages::Request) -> Self {
        let parsed = parse_document(document);
        let error = parsed.dockerfile.directives.foreign().or_else(|| parsed.error().cloned());
        let file = parsed.dockerfile;
        let (stages, found) = stages::resolve(&file, request);
        let error = error.or_else(|| found.into_iter().find(|one| one.severity == Severity::Error));
        Self { document, request, source: document.source(), file, stages, error }
    }

    /// The lines of a part of the text.
    fn location(&self, span: Span) -> Location {
        let last = span.end.saturating_sub(1).max(span.start);
        let place = self.source.place(Span::new(span.start, last));
        let line = |position: text::Position| Position { line: position.line };
        Location {
            source: place.file,
            ranges: vec![Range { start: line(place.start), end: line(place.end) }],
        }
    }

    /// What the comment right above says of a name: `# name is what it is for`.
    fn described(instruction: &Instruction, name: &str) -> String {
        let Some(comment) = instruction.comments.last() else { return String::new() };
        let words = comment.trim().strip_prefix(name);
        words.and_then(|rest| rest.strip_prefix(char::is_whitespace)).unwrap_or_default().trim().to_owned()
    }

    /// The files themselves, as answers carry them: places name them by their number.
    fn sources(&self) -> Vec<String> {
        self.document.files().iter().map(|(_, text)| STANDARD.encode(text)).collect()
    }
}

#[derive(Debug, Serialize)]
struct Location {
    #[serde(rename = "sourceIndex", skip_serializing_if = "is_first")]
    source: usize,
    ranges: Vec<Range>,
}

/// Whether it is the Dockerfile itself, which is not said.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_first(source: &usize) -> bool {
    *source == 0
}

#[derive(Debug, Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Debug, Serialize)]
struct Position {
    line: usize,
}

/// As JSON: strings, numbers and lists can always be written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Rows under each other.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests;
