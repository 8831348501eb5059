//! What is wrong with a text, where, and how it is shown.

use std::fmt::Write;

use crate::text::{Source, Span};

/// Letters of a source line that are shown; the rest of a longer one says nothing more.
const EXCERPT_LETTERS_MAX: usize = 120;
/// Letters that stand before the caret at most, if the line is cut.
const EXCERPT_BEFORE: usize = 60;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It can be built.
    Warning,
    /// It cannot.
    Error,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub span: Span,
    /// The instruction that it is in: its first line is the one that scripts look for.
    pub instruction: Option<Span>,
    /// What is wrong, in the words that scripts know.
    pub message: String,
    /// What should be there instead.
    pub expected: Option<String>,
    /// The name of the check that found it.
    pub rule: Option<&'static str>,
    /// Whether it is of what was asked of the text, and nothing in the text can be pointed at.
    pub is_of_no_place: bool,
}

impl Diagnostic {
    /// Something that cannot be built.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span,
            instruction: None,
            message: message.into(),
            expected: None,
            rule: None,
            is_of_no_place: false,
        }
    }

    /// Something that was asked of the text, and that it cannot give.
    pub fn of_request(message: impl Into<String>) -> Self {
        Self { is_of_no_place: true, ..Self::error(Span::default(), message) }
    }

    /// Something that should be otherwise.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Says what should be there instead.
    pub fn expecting(mut self, what: impl Into<String>) -> Self {
        self.expected = Some(what.into());
        self
    }

    /// Says which instruction it is in.
    pub fn within(mut self, instruction: Span) -> Self {
        self.instruction = Some(instruction);
        self
    }

    /// The one line that an API answers: `dockerfile parse error on line 3: unknown instruction: FRMO (did you mean FROM?)`, and
    /// `on line 3 of FILE` where that is a file that the Dockerfile includes.
    pub fn line(&self, source: &Source<'_>) -> String {
        if self.is_of_no_place {
            return self.message.clone();
        }
        let place = source.place(self.instruction.unwrap_or(self.span));
        let of = source.name(place.file).map(|name| format!(" of {}", clean(name))).unwrap_or_default();
        format!("dockerfile parse error on line {}{of}: {}", place.start.line, self.message)
    }

    /// Place (in `file`, if the text was not put together of others), message, the line itself with a caret below it, and what was expected. No letter of the text moves the cursor.
    pub fn render(&self, source: &Source<'_>, file: &str) -> String {
        let place = source.place(self.span);
        let (start, end) = (place.start, place.end);
        let file = source.name(place.file).unwrap_or(file);
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let rule = self.rule.map(|rule| format!("[{rule}]")).unwrap_or_default();
        if self.is_of_no_place {
            let mut out = format!("{}: {severity}{rule}: {}\n", clean(file), clean(&self.message));
            if let Some(expected) = &self.expected {
                let _ = writeln!(out, " = expected {}", clean(expected));
            }
            return out;
        }
        let mut out = format!("{}:{start}: {severity}{rule}: {}\n", clean(file), clean(&self.message));
        let line = source.line(place.file, start.line).unwrap_or_default();
        let letters = line.chars().count();
        let first = start.column - 1;
        // A span of several lines is shown by what is in the first.
        let last = if end.line == start.line { end.column - 1 } else { letters };
        let cut = if letters > EXCERPT_LETTERS_MAX { first.saturating_sub(EXCERPT_BEFORE) } else { 0 };
        let shown: String = line.chars().skip(cut).take(EXCERPT_LETTERS_MAX).collect();
        let width = shown.chars().count();
        let before = (first - cut).min(width);
        let carets = last.saturating_sub(first).clamp(1, (width - before).max(1));
        let number = start.line.to_string();
        let margin = " ".repeat(number.len());
        let mark = format!("{}{}", " ".repeat(before), "^".repeat(carets));
        let _ = writeln!(out, " {number} | {}", clean(&shown).trim_end());
        let _ = writeln!(out, " {margin} | {mark}");
        if let Some(expected) = &self.expected {
            let _ = writeln!(out, " {margin} = expected {}", clean(expected));
        }
        out
    }
}

/// A text in which each letter takes one column and none commands the terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\t' => ' ',
            // Marks that turn the direction of writing show another text than the one that is built.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                '\u{fffd}'
            }
            letter if letter.is_control() => '\u{fffd}',
            letter => letter,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_points_at_the_text() {
        let text = "FROM alpine\n\tFRMO x\n";
        let source = Source::new(text);
        let diagnostic =
            Diagnostic::error(Span::new(13, 17), "unknown instruction: FRMO (did you mean FROM?)")
                .expecting("an instruction");
        assert_eq!(
            diagnostic.render(&source, "Dockerfile"),
            "Dockerfile:2:2: error: unknown instruction: FRMO (did you mean FROM?)\n \
             2 |  FRMO x\n   |  ^^^^\n   = expected an instruction\n"
        );
        assert_eq!(
            diagnostic.line(&source),
            "dockerfile parse error on line 2: unknown instruction: FRMO (did you mean FROM?)"
        );
    }

    #[test]
    fn what_is_of_no_place_points_nowhere() {
        let source = Source::new("FROM a AS b\n");
        let diagnostic =
            Diagnostic::of_request("target stage \"c\" could not be found").expecting("one of b");
        assert_eq!(diagnostic.line(&source), "target stage \"c\" could not be found");
        assert_eq!(
            diagnostic.render(&source, "Dockerfile"),
            "Dockerfile: error: target stage \"c\" could not be found\n = expected one of b\n"
        );
    }

    #[test]
    fn long_lines_and_commands_to_the_terminal_do_no_harm() {
        let text = format!("{}\u{1b}[31m{}", "a".repeat(500), "b".repeat(500));
        let source = Source::new(&text);
        let shown = Diagnostic::warning(Span::new(500, 505), "x").render(&source, "f");
        assert!(shown.lines().all(|line| line.chars().count() < 140), "{shown}");
        assert!(!shown.contains('\u{1b}'));
        let column = |needle| shown.lines().find_map(|line| line.find(needle)).expect("it is there");
        assert_eq!(column('^'), column('\u{fffd}'));
    }
}
