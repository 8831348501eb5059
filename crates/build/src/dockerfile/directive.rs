//! `# name=value` at the head of a text.

use super::Problem;
use super::instruction::Word;
use super::line::Physical;
use crate::Diagnostic;
use crate::text::Span;

/// What a text says about how it is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: the frontend that is to read it.
    pub syntax: Option<Word>,
    /// `escape`: the letter that takes the meaning from the next.
    pub escape: char,
    /// Where it is said.
    pub escape_word: Option<Word>,
    /// `check`: which checks are made.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', escape_word: None, check: None }
    }
}

impl Directives {
    /// Whether the frontend that is asked for is ours: any version of Docker's.
    pub fn is_known_syntax(&self) -> bool {
        self.syntax.as_ref().is_none_or(|word| {
            let name = word.text.split_whitespace().next().unwrap_or_default();
            let name = name.strip_prefix("docker.io/").unwrap_or(name);
            let name = name.split_once('@').map_or(name, |(name, _)| name);
            let name = name.split_once(':').map_or(name, |(name, _)| name);
            matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
        })
    }

    /// Why the text cannot be built, where it asks for another frontend.
    pub fn foreign(&self) -> Option<Diagnostic> {
        let syntax = self.syntax.as_ref().filter(|_| !self.is_known_syntax())?;
        let message = format!(
            "syntax={}: this engine reads Dockerfiles itself, and no other language: use docker/dockerfile",
            syntax.text
        );
        Some(Diagnostic::error(syntax.span, message).expecting("docker/dockerfile, of any version"))
    }
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Directive,
    Other,
}

/// Reads directives until there are no more.
#[derive(Debug, Default)]
pub struct Reader {
    pub directives: Directives,
    done: bool,
}

impl Reader {
    pub fn line(&mut self, line: &Physical<'_>) -> Result<Seen, Problem> {
        let Some((name, value)) = (if self.done { None } else { divide(line) }) else {
            self.done = true;
            return Ok(Seen::Other);
        };
        let place = match name.as_str() {
            "syntax" => &mut self.directives.syntax,
            "escape" => &mut self.directives.escape_word,
            "check" => &mut self.directives.check,
            _ => {
                self.done = true;
                return Ok(Seen::Other);
            }
        };
        if place.is_some() {
            return Err(Problem::new(line.span(), format!("only one {name} parser directive can be used")));
        }
        *place = Some(value.clone());
        if name == "escape" {
            self.directives.escape = match value.text.as_str() {
                "\\" => '\\',
                "`" => '`',
                other => {
                    let shown: String = other.chars().take(super::ERROR_LETTERS_MAX).collect();
                    let message = format!("invalid escape token '{shown}' does not match ` or \\");
                    return Err(Problem::new(value.span, message).expecting("` or \\"));
                }
            };
        }
        Ok(Seen::Directive)
    }
}

fn divide(line: &Physical<'_>) -> Option<(String, Word)> {
    let text = line.text.trim_start().strip_prefix('#')?;
    let (name, value) = text.split_once('=')?;
    let name = name.trim();
    let mut letters = name.chars();
    let is_name =
        letters.next()?.is_ascii_alphabetic() && letters.all(|letter| letter.is_ascii_alphanumeric());
    let value = value.trim();
    if !is_name || value.is_empty() {
        return None;
    }
    let end = line.start + line.text.trim_end().len();
    let word = Word { text: value.to_owned(), span: Span::new(end - value.len(), end) };
    Some((name.to_ascii_lowercase(), word))
}
