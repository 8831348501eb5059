//! Variables, quotes and escapes in words, as BuildKit's lexer of shell words takes them.
//!
//! `$x`, `${x}`, `${x-y}`, `${x+y}`, `${x?y}` and each with a colon (which takes empty for unset), `${x#p}`, `${x##p}`, `${x%p}`,
//! `${x%%p}`, `${x/p/r}`, `${x//p/r}`. Patterns know `*` and `?`. Everything is bounded: depth, length, and work.

mod command;
mod environment;
mod pattern;

use std::collections::BTreeSet;

pub use command::{Expansion, Failure, command};
pub use environment::Environment;
use pattern::Pattern;

/// Words in words: `${a:-${b:-…}}`. Deeper than this nobody writes, and the stack has to hold it.
const DEPTH_MAX: usize = 64;
/// What a word may grow to: variables that hold variables multiply.
const WORD_BYTES_MAX: usize = 1 << 20;
/// Steps of all pattern matching in a word: a second or so.
const WORK_MAX: usize = 1 << 26;

/// What happens to quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// They group, and are taken away.
    Remove,
    /// They group, and stay.
    Keep,
    /// They are letters as others.
    Plain,
}

/// How words are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexer {
    /// The letter that takes the meaning from the next.
    pub escape: char,
    /// What happens to quotes.
    pub quotes: Quotes,
    /// Whether escapes stay.
    pub keep_escapes: bool,
    /// Whether a variable that is not set is left as it is written.
    pub keep_unset: bool,
}

/// A word with the values of its variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// As one word.
    pub text: String,
    /// Divided at the spaces outside of quotes, those of values included.
    pub words: Vec<String>,
    /// Variables that were asked for and set.
    pub matched: BTreeSet<String>,
    /// Variables that were asked for and not set.
    pub unmatched: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {reason}")]
pub struct Error {
    /// The word, or its beginning.
    pub word: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Error {
    pub(crate) fn too_long(word: &str, what: &str, limit: usize) -> Self {
        let reason = format!("{what} would be longer than {limit} bytes");
        Self { word: word.chars().take(ERROR_LETTERS_MAX).collect(), reason }
    }
}

/// Letters of a word that an error repeats.
const ERROR_LETTERS_MAX: usize = 256;

impl Lexer {
    /// The lexer of a Dockerfile with this escape.
    pub fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Remove, keep_escapes: false, keep_unset: false }
    }

    /// The lexer of the files that are written in a Dockerfile: quotes mean nothing there, and the escape is always the backslash.
    pub fn of_contents() -> Self {
        Self { quotes: Quotes::Plain, ..Self::new('\\') }
    }

    /// Expands a word.
    pub fn process(&self, word: &str, variables: &Environment) -> Result<Expanded, Error> {
        let mut machine = Machine {
            lexer: self,
            variables,
            letters: word.chars().collect(),
            at: 0,
            keep_escapes: self.keep_escapes,
            depth: 0,
            bytes: 0,
            work: WORK_MAX,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        let output = machine
            .run(None, self.keep_escapes)
            .map_err(|reason| Error { word: word.chars().take(ERROR_LETTERS_MAX).collect(), reason })?;
        Ok(Expanded {
            text: output.text,
            words: output.words.finish(),
            matched: machine.matched,
            unmatched: machine.unmatched,
        })
    }
}

struct Machine<'a> {
    lexer: &'a Lexer,
    variables: &'a Environment,
    letters: Vec<char>,
    at: usize,
    keep_escapes: bool,
    depth: usize,
    bytes: usize,
    work: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

#[derive(Default)]
struct Output {
    text: String,
    words: Words,
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    inside: bool,
}

impl Words {
    fn letter(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.raw(letter);
        } else if self.inside && !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
            self.inside = false;
        }
    }

    fn raw(&mut self, letter: char) {
        self.word.push(letter);
        self.inside = true;
    }

    fn quoted(&mut self, text: &str) {
        self.word.push_str(text);
        self.inside = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

type Step<T> = Result<T, String>;

impl Machine<'_> {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek();
        self.at += usize::from(letter.is_some());
        letter
    }

    /// Reads up to a letter, or to the end.
    fn run(&mut self, stop: Option<char>, keep_escapes: bool) -> Step<Output> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("words are nested deeper than {DEPTH_MAX}"));
        }
        let before = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let output = self.letters_to(stop);
        self.keep_escapes = before;
        self.depth -= 1;
        output
    }

    fn letters_to(&mut self, stop: Option<char>) -> Step<Output> {
        let mut output = Output::default();
        let quotes = self.lexer.quotes != Quotes::Plain;
        while let Some(letter) = self.peek() {
            if stop == Some(letter) {
                self.at += 1;
                return Ok(output);
            }
            match letter {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|letter| output.words.letter(letter));
                    output.text.push_str(&value);
                }
                '\'' | '"' if quotes => {
                    let value = if letter == '"' { self.double()? } else { self.single()? };
                    output.words.quoted(&value);
                    output.text.push_str(&value);
                }
                letter if letter == self.lexer.escape => {
                    self.at += 1;
                    if self.keep_escapes {
                        output.words.raw(letter);
                        output.text.push(letter);
                    }
                    let Some(letter) = self.next() else { break };
                    output.words.raw(letter);
                    output.text.push(letter);
                }
                letter => {
                    self.at += 1;
                    output.words.letter(letter);
                    output.text.push(letter);
                }
            }
        }
        match stop {
            None => Ok(output),
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
        }
    }

    fn quote(&mut self, out: &mut String) {
        if let Some(letter) = self.next()
            && self.lexer.quotes == Quotes::Keep
        {
            out.push(letter);
        }
    }

    fn single(&mut self) -> Step<String> {
        let mut out = String::new();
        self.quote(&mut out);
        while let Some(letter) = self.peek() {
            if letter == '\'' {
                self.quote(&mut out);
                return Ok(out);
            }
            self.at += 1;
            out.push(letter);
        }
        Err("unexpected end of statement while looking for matching single-quote".to_owned())
    }

    fn double(&mut self) -> Step<String> {
        let mut out = String::new();
        self.quote(&mut out);
        while let Some(letter) = self.peek() {
            match letter {
                '"' => {
                    self.quote(&mut out);
                    return Ok(out);
                }
                '$' => {
                    let value = self.dollar()?;
                    out.push_str(&value);
                }
                letter if letter == self.lexer.escape => {
                    self.at += 1;
                    if self.keep_escapes {
                        out.push(letter);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if matches!(next, '"' | '$') || next == letter => {
                            self.at += 1;
                            out.push(next);
                        }
                        Some(_) => out.push(letter),
                    }
                }
                letter => {
                    self.at += 1;
                    out.push(letter);
                }
            }
        }
        Err("unexpected end of statement while looking for matching double-quote".to_owned())
    }

    /// What a dollar and the letters behind it stand for.
    fn dollar(&mut self) -> Step<String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(&name)? {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(MISSING_BRACE.to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.value(&name)? {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replace(&name),
            Some(':') => {
                let modifier = self.next();
                self.modify(&name, modifier, true)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => self.modify(&name, Some(modifier), false),
            Some(other) => Err(unsupported(&other.to_string())),
            None => Err(MISSING_BRACE.to_owned()),
        }
    }

    fn modify(&mut self, name: &str, modifier: Option<char>, empty_is_unset: bool) -> Step<String> {
        let Some(modifier) = modifier else { return Err(MISSING_BRACE.to_owned()) };
        let is_pattern = matches!(modifier, '#' | '%');
        let word = self.until('}', is_pattern, MISSING_BRACE)?;
        let value = self.value(name)?;
        let colon = if empty_is_unset { ":" } else { "" };
        let Some(value) = value else {
            return match modifier {
                _ if self.lexer.keep_unset => Ok(format!("${{{name}{colon}{modifier}{word}}}")),
                '-' => Ok(word),
                '+' | '#' | '%' => Ok(String::new()),
                '?' => Err(format!("{name}: {}", or(&word, "is not allowed to be unset"))),
                other => Err(unsupported(&format!("{colon}{other}"))),
            };
        };
        let is_set = !(empty_is_unset && value.is_empty());
        match modifier {
            '-' => Ok(if is_set { value } else { word }),
            '+' => Ok(if is_set { word } else { String::new() }),
            '?' if is_set => Ok(value),
            '?' => Err(format!("{name}: {}", or(&word, "is not allowed to be empty"))),
            '#' | '%' => {
                let (longest, word) = match word.strip_prefix(modifier) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let pattern = Pattern::parse(word)?;
                if modifier == '#' {
                    pattern.without_beginning(&value, longest, &mut self.work)
                } else {
                    pattern.without_end(&value, longest, &mut self.work)
                }
            }
            other => Err(unsupported(&format!("{colon}{other}"))),
        }
    }

    fn replace(&mut self, name: &str) -> Step<String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let wanted = self.until('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.until('}', true, MISSING_BRACE)?;
        let Some(value) = self.value(name)? else {
            let keep = self.lexer.keep_unset;
            return Ok(if keep { format!("${{{name}/{wanted}/{replacement}}}") } else { String::new() });
        };
        let replaced = Pattern::parse(&wanted)?.replace(&value, &replacement, all, &mut self.work)?;
        self.grow(replaced.len())?;
        Ok(replaced)
    }

    /// The word up to a letter; `missing` is said where the text ends before.
    fn until(&mut self, stop: char, keep_escapes: bool, missing: &str) -> Step<String> {
        match self.run(Some(stop), keep_escapes) {
            Ok(output) => Ok(output.text),
            Err(_) if self.peek().is_none() && self.depth < DEPTH_MAX => Err(missing.to_owned()),
            Err(reason) => Err(reason),
        }
    }

    /// A name, a number, or one of the letters that shells have variables of.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(first) if first.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
                    self.at += 1;
                }
            }
        }
        self.letters[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Step<Option<String>> {
        let value = self.variables.get(name).map(str::to_owned);
        if value.is_some() {
            self.matched.insert(name.to_owned());
        } else {
            self.unmatched.insert(name.to_owned());
        }
        self.grow(value.as_ref().map_or(0, String::len))?;
        Ok(value)
    }

    fn grow(&mut self, bytes: usize) -> Step<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > WORD_BYTES_MAX {
            return Err(format!("the values are longer than {WORD_BYTES_MAX} bytes"));
        }
        Ok(())
    }
}

const MISSING_BRACE: &str = "syntax error: missing '}'";

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier ({modifier}) in substitution")
}

fn or<'a>(word: &'a str, other: &'a str) -> &'a str {
    if word.is_empty() { other } else { word }
}

#[cfg(test)]
mod tests;
