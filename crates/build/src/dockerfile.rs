//! Reads Dockerfiles.
//!
//! Whatever the text is, there is a tree and a list of what is wrong with it, each with its place. What is read, and how, is what
//! BuildKit's frontend reads: directives, comments, continued lines, heredocs, options, JSON forms, and the words of its errors.

mod directive;
mod health;
mod heredoc;
pub mod instruction;
mod line;
pub mod mount;
mod options;
mod read;
mod words;

pub use directive::Directives;
pub use instruction::{Command, Instruction, Word};

use crate::diagnostic::{Diagnostic, Severity};
use crate::request::Document;
use crate::text::{Part, Span};
use instruction::{Heredoc, NAMES};
use line::{Line, Lines, Physical};
use read::Reader;

/// Bytes of a text: files in it are small, and what is bigger is no Dockerfile.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Bytes of a line, the limit of BuildKit's reader.
pub const LINE_BYTES_MAX: usize = 65_535;
/// Instructions of a text: images have fewer layers by two orders of magnitude.
pub const INSTRUCTIONS_MAX: usize = 10_000;
/// Files that one instruction may begin: each is looked for in the rest of the text.
pub const HEREDOCS_MAX: usize = 256;
/// Diagnostics of a text: nobody reads more.
pub const DIAGNOSTICS_MAX: usize = 100;
/// Letters of the text that a message repeats.
const ERROR_LETTERS_MAX: usize = 64;

/// A text, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// What the comments at its head say about how it is to be read.
    pub directives: Directives,
    /// Its instructions, those that were not understood included.
    pub instructions: Vec<Instruction>,
}

/// A tree, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The tree.
    pub dockerfile: Dockerfile,
    /// What is wrong, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The first thing that cannot be built.
    pub fn error(&self) -> Option<&Diagnostic> {
        self.diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Why an instruction is not understood.
#[derive(Debug, Clone)]
struct Problem {
    span: Span,
    message: String,
    expected: Option<String>,
}

impl Problem {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), expected: None }
    }

    fn expecting(mut self, what: impl Into<String>) -> Self {
        self.expected = Some(what.into());
        self
    }
}

/// An `INCLUDE` of a file, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inclusion {
    /// The file that it names.
    pub path: Word,
    /// The instruction.
    pub span: Span,
    /// Its lines, with the end of the last one.
    pub whole: Span,
}

/// The `INCLUDE`s of a file that name one, and the letter that takes the meaning from the next: the one that is given, or else what the
/// file says.
pub(crate) fn inclusions(text: &str, escape: Option<char>) -> (Vec<Inclusion>, char) {
    let is_readable = text.len() <= TEXT_BYTES_MAX && !text.contains('\0');
    let text = if is_readable { text } else { "" };
    let mut parser = Parser::new(text);
    parser.finds = true;
    let whole = Part { start: 0, file: usize::from(escape.is_some()), offset: 0 };
    parser.parsed.dockerfile.directives.escape = escape.unwrap_or('\\');
    parser.run(&[whole]);
    let of = |instruction: Instruction| match instruction.command {
        Command::Include(path) => {
            let span = instruction.span;
            let first = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
            let last = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at + 1);
            // What stands before it in its line is spaces, or the mark of the byte order.
            let start = if first == 0 { span.start } else { first };
            Some(Inclusion { path, span, whole: Span::new(start, last) })
        }
        _ => None,
    };
    let Dockerfile { directives, instructions } = parser.parsed.dockerfile;
    (instructions.into_iter().filter_map(of).collect(), directives.escape)
}

/// Reads a text, which includes nothing. Never fails, never panics.
pub fn parse(text: &str) -> Parsed {
    parse_parts(text, &[])
}

/// Reads a text with all that it includes. Never fails, never panics.
pub fn parse_document(document: &Document) -> Parsed {
    parse_parts(&document.text, &document.origins.parts)
}

fn parse_parts(text: &str, parts: &[Part]) -> Parsed {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("dockerfile is longer than {TEXT_BYTES_MAX} bytes");
        return Parsed {
            diagnostics: vec![Diagnostic::error(Span::default(), message)],
            ..Parsed::default()
        };
    }
    if let Some(at) = text.find('\0') {
        // Nothing that is made of a text can hold one: no path, no argument, no variable.
        let nul = Diagnostic::error(Span::new(at, at + 1), "a NUL byte").expecting("text");
        return Parsed { diagnostics: vec![nul], ..Parsed::default() };
    }
    let mut parser = Parser::new(text);
    let whole = [Part { start: 0, file: 0, offset: 0 }];
    parser.run(if parts.is_empty() { &whole } else { parts });
    let mut parsed = parser.parsed;
    let end = Span::new(text.len(), text.len());
    if parsed.error().is_none() {
        let is_from = |instruction: &Instruction| matches!(instruction.command, Command::From(_));
        if parsed.dockerfile.instructions.is_empty() {
            parsed.diagnostics.push(Diagnostic::error(end, "file with no instructions").expecting("FROM"));
        } else if !parsed.dockerfile.instructions.iter().any(is_from) {
            let message = "dockerfile contains no stages to build";
            parsed.diagnostics.push(Diagnostic::error(end, message).expecting("FROM"));
        }
    }
    parsed
}

struct Parser<'a> {
    lines: Lines<'a>,
    parsed: Parsed,
    seen_from: bool,
    /// Whether it is read for what it includes alone.
    finds: bool,
}

/// What is gathered of an instruction.
struct Gathered {
    line: Line,
    span: Span,
    empty_continuation: Option<Span>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { lines: Lines::new(text), parsed: Parsed::default(), seen_from: false, finds: false }
    }

    /// Reads part by part: no instruction goes on in another file.
    fn run(&mut self, parts: &[Part]) {
        for (at, part) in parts.iter().enumerate() {
            self.lines.enter(part.start, parts.get(at + 1).map(|next| next.start), part.offset == 0);
            if !self.part(part) {
                return;
            }
        }
    }

    /// Reads a part; whether there may be more.
    fn part(&mut self, part: &Part) -> bool {
        let mut directives = directive::Reader::default();
        let mut has_directives = part.offset == 0;
        let mut comments: Vec<String> = Vec::new();
        while let Some(physical) = self.next_line() {
            if has_directives {
                match directives.line(&physical) {
                    Ok(directive::Seen::Directive) => {
                        self.directive(part, &directives.directives, &physical);
                        continue;
                    }
                    Ok(directive::Seen::Other) => has_directives = false,
                    Err(problem) => {
                        self.report(problem, physical.span());
                        continue;
                    }
                }
            }
            if physical.is_comment() {
                let comment = physical.text.trim_start()[1..].trim();
                if comment.is_empty() {
                    comments.clear();
                } else {
                    comments.push(comment.to_owned());
                }
                continue;
            }
            let escape = self.parsed.dockerfile.directives.escape;
            let Some(gathered) = self.gather(&physical, escape) else {
                comments.clear();
                continue;
            };
            if self.parsed.dockerfile.instructions.len() >= INSTRUCTIONS_MAX {
                let message = format!("dockerfile has more than {INSTRUCTIONS_MAX} instructions");
                self.report(Problem::new(gathered.span, message), gathered.span);
                return false;
            }
            let instruction = self.instruction(gathered, escape, std::mem::take(&mut comments));
            self.parsed.dockerfile.instructions.push(instruction);
        }
        true
    }

    /// Takes a directive of the Dockerfile's own; those of what it includes may say the same, or nothing.
    fn directive(&mut self, part: &Part, seen: &Directives, line: &Physical<'_>) {
        if part.file == 0 {
            self.parsed.dockerfile.directives = seen.clone();
            return;
        }
        let is_here = |word: &&Word| line.span().start <= word.span.start && word.span.end <= line.span().end;
        let problem = if let Some(word) = seen.check.as_ref().filter(is_here) {
            let message = "check in an included file: it counts for the whole build";
            Problem::new(word.span, message).expecting("check in the Dockerfile that includes this one")
        } else if let Some(word) = seen.escape_word.as_ref().filter(is_here)
            && seen.escape != self.parsed.dockerfile.directives.escape
        {
            let message = "escape in an included file differs from that of the Dockerfile that includes it";
            Problem::new(word.span, message).expecting(self.parsed.dockerfile.directives.escape)
        } else if let Some(word) = seen.syntax.as_ref().filter(is_here)
            && !seen.is_known_syntax()
        {
            let message =
                format!("syntax={} in an included file: this engine reads no other language", word.text);
            Problem::new(word.span, message).expecting("docker/dockerfile, of any version")
        } else {
            return;
        };
        self.report(problem, line.span());
    }

    /// The next line that is not too long.
    fn next_line(&mut self) -> Option<Physical<'a>> {
        loop {
            let line = self.lines.next()?;
            if line.whole.len() <= LINE_BYTES_MAX {
                return Some(line);
            }
            let message = format!("dockerfile line greater than max allowed size of {LINE_BYTES_MAX}");
            self.report(Problem::new(line.span(), message), line.span());
        }
    }

    /// A line and those that continue it; nothing if it is empty.
    fn gather(&mut self, first: &Physical<'a>, escape: char) -> Option<Gathered> {
        let mut line = Line::default();
        let begin = first.text.trim_start();
        let start = first.start + (first.text.len() - begin.len());
        let (text, mut goes_on) = continued(begin, escape);
        if text.is_empty() && !goes_on {
            return None;
        }
        line.push(text, start);
        let mut span = Span::new(start, first.span().end);
        let mut empty_continuation = None;
        while goes_on && let Some(next) = self.next_line() {
            span.end = next.span().end;
            if next.is_comment() {
                continue;
            }
            if next.text.trim().is_empty() {
                empty_continuation.get_or_insert(next.span());
                continue;
            }
            let (text, more) = continued(next.text, escape);
            line.push(text, next.start);
            goes_on = more;
        }
        Some(Gathered { line, span, empty_continuation })
    }

    fn instruction(&mut self, gathered: Gathered, escape: char, comments: Vec<String>) -> Instruction {
        let Gathered { line, mut span, empty_continuation } = gathered;
        let (name, rest) = line.all().split();
        let name = name.word();
        let heredocs = self.heredocs(&line, &name, &mut span);
        let result =
            heredocs.and_then(|heredocs| Reader { escape, heredocs: &heredocs }.command(&name, rest));
        let upper = name.text.to_ascii_uppercase();
        let known = NAMES.contains(&upper.as_str());
        if known && !self.seen_from && !matches!(upper.as_str(), "FROM" | "ARG" | "INCLUDE") {
            let problem =
                Problem::new(name.span, "no build stage in current context").expecting("FROM before it");
            self.report(problem, span);
        }
        self.seen_from |= upper == "FROM";
        let result = match result {
            // What could be included stands in its place already.
            Ok(Command::Include(word)) if !self.finds => {
                Err(Problem::new(word.span, "INCLUDE isn't allowed here: there are no files to include"))
            }
            other => other,
        };
        let command = result.unwrap_or_else(|problem| {
            self.report(problem, span);
            Command::Invalid
        });
        Instruction { name, span, original: line.text, comments, empty_continuation, command }
    }

    /// The files that follow a line, if it is one that can have some.
    fn heredocs(&mut self, line: &Line, name: &Word, span: &mut Span) -> Result<Vec<Heredoc>, Problem> {
        if !takes_heredocs(line, name) {
            return Ok(Vec::new());
        }
        let mut files = heredoc::find(&line.text);
        if files.len() > HEREDOCS_MAX {
            return Err(Problem::new(
                name.span,
                format!("an instruction has more than {HEREDOCS_MAX} heredocs"),
            ));
        }
        for file in &mut files {
            let start = self.lines.clone().next().map_or(span.end, |next| next.start);
            let mut ended = false;
            let mut end = start;
            while let Some(next) = self.next_line() {
                span.end = next.span().end;
                let text = if file.chomps { next.text.trim_start_matches('\t') } else { next.text };
                if text == file.name {
                    ended = true;
                    end = next.start;
                    break;
                }
                file.content.push_str(next.whole);
                end = next.start + next.whole.len();
            }
            file.span = Span::new(start, end);
            if !ended {
                let expected = format!("a line that is {}", file.name);
                return Err(Problem::new(line.all().span(), "unterminated heredoc").expecting(expected));
            }
        }
        Ok(files)
    }

    fn report(&mut self, problem: Problem, instruction: Span) {
        if self.parsed.diagnostics.len() < DIAGNOSTICS_MAX {
            let mut diagnostic = Diagnostic::error(problem.span, problem.message).within(instruction);
            diagnostic.expected = problem.expected;
            self.parsed.diagnostics.push(diagnostic);
        }
    }
}

/// A line without the escape at its end, and whether it had one.
fn continued(text: &str, escape: char) -> (&str, bool) {
    let end = text.trim_end_matches([' ', '\t']);
    match end.strip_suffix(escape) {
        // Escaped itself, it is a letter.
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (text, false),
    }
}

fn takes_heredocs(line: &Line, name: &Word) -> bool {
    let mut name = name.text.to_ascii_uppercase();
    let (_, mut rest) = words::flags(line.all().split().1);
    if name == "ONBUILD" {
        let (inner, arguments) = rest.split();
        name = inner.text().to_ascii_uppercase();
        rest = words::flags(arguments).1;
    }
    let takes = matches!(name.as_str(), "ADD" | "COPY" | "RUN");
    takes && line.text.contains("<<") && !matches!(words::json(rest), words::Json::Strings(_))
}

#[cfg(test)]
mod tests;
