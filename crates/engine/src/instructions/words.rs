//! Quotes and variables of a word.

use super::Error;
use crate::error::Result;

/// Words of defaults in words: `${a:-${b:-…}}` as deep as nobody writes it.
const DEPTH_MAX: usize = 16;
/// What a word may grow to: variables that hold variables multiply.
const WORD_BYTES_MAX: usize = 1 << 20;

/// The word without its quotes and with the values of its variables.
pub fn process(word: &str, env: &[String]) -> Result<String> {
    let mut lexer = Lexer { letters: word.chars().collect(), at: 0, word, env, depth: 0, taken: 0 };
    Ok(lexer.run(None)?.into_iter().map(|(letter, _)| letter).collect())
}

/// The same, divided at the spaces that come from variables outside of quotes.
pub fn expand(word: &str, env: &[String]) -> Result<Vec<String>> {
    let mut lexer = Lexer { letters: word.chars().collect(), at: 0, word, env, depth: 0, taken: 0 };
    let letters = lexer.run(None)?;
    let mut words = Vec::new();
    let mut current = String::new();
    for (letter, splits) in letters {
        if splits && letter.is_whitespace() {
            if !current.is_empty() {
                words.push(std::mem::take(&mut current));
            }
        } else {
            current.push(letter);
        }
    }
    if !current.is_empty() {
        words.push(current);
    }
    Ok(words)
}

struct Lexer<'a> {
    letters: Vec<char>,
    at: usize,
    word: &'a str,
    env: &'a [String],
    depth: usize,
    /// Bytes of variables.
    taken: usize,
}

/// A letter, and whether it came from a variable outside of quotes.
type Letters = Vec<(char, bool)>;

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.letters.get(self.at).copied();
        self.at += usize::from(letter.is_some());
        letter
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn error(&self, what: &str) -> Error {
        Error::invalid(format!("failed to process {:?}: {what}", self.word))
    }

    fn run(&mut self, stop: Option<char>) -> Result<Letters> {
        let mut out = Letters::new();
        loop {
            let Some(letter) = self.next() else {
                return match stop {
                    None => Ok(out),
                    Some(_) => Err(self.error("syntax error: missing '}'")),
                };
            };
            match letter {
                letter if Some(letter) == stop => return Ok(out),
                '\'' => loop {
                    match self.next() {
                        None => {
                            return Err(self.error(
                                "unexpected end of statement while looking for matching single-quote",
                            ));
                        }
                        Some('\'') => break,
                        Some(letter) => out.push((letter, false)),
                    }
                },
                '"' => self.double(&mut out)?,
                '$' => {
                    let value = self.variable()?;
                    out.extend(value.chars().map(|letter| (letter, true)));
                }
                '\\' => out.extend(self.next().map(|letter| (letter, false))),
                letter => out.push((letter, false)),
            }
        }
    }

    fn double(&mut self, out: &mut Letters) -> Result<()> {
        loop {
            match self.next() {
                None => {
                    return Err(
                        self.error("unexpected end of statement while looking for matching double-quote")
                    );
                }
                Some('"') => return Ok(()),
                Some('$') => {
                    let value = self.variable()?;
                    out.extend(value.chars().map(|letter| (letter, false)));
                }
                Some('\\') => match self.next() {
                    Some(letter @ ('"' | '$' | '\\')) => out.push((letter, false)),
                    Some(letter) => out.extend([('\\', false), (letter, false)]),
                    None => {
                        return Err(
                            self.error("unexpected end of statement while looking for matching double-quote")
                        );
                    }
                },
                Some(letter) => out.push((letter, false)),
            }
        }
    }

    /// What follows a dollar.
    fn variable(&mut self) -> Result<String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name)?.unwrap_or_default() });
        }
        self.at += 1;
        if self.peek() == Some('}') {
            return Err(self.error("syntax error: bad substitution"));
        }
        let name = self.name();
        let mut modifier = self.next();
        let value = self.value(&name)?;
        let mut set = value.is_some();
        if modifier == Some(':') {
            modifier = self.next();
            set = value.as_ref().is_some_and(|value| !value.is_empty());
        } else if modifier == Some('}') {
            return Ok(value.unwrap_or_default());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("too deep"));
        }
        match modifier {
            Some('-' | '+' | '?') => {}
            Some(other) => return Err(self.error(&format!("unsupported modifier ({other}) in substitution"))),
            None => return Err(self.error("syntax error: missing '}'")),
        }
        let word: String = self.run(Some('}'))?.into_iter().map(|(letter, _)| letter).collect();
        self.depth -= 1;
        match (modifier, set) {
            (Some('-' | '?'), true) => Ok(value.unwrap_or_default()),
            (Some('-'), false) | (Some('+'), true) => Ok(word),
            (Some('?'), false) => {
                let told = if word.is_empty() { "is not allowed to be unset".to_owned() } else { word };
                Err(self.error(&format!("{name}: {told}")))
            }
            _ => Ok(String::new()),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self.peek() {
            let first = name.is_empty();
            if !(letter.is_ascii_alphabetic() || letter == '_' || (letter.is_ascii_digit() && !first)) {
                break;
            }
            name.push(letter);
            self.at += 1;
        }
        name
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let mut pairs = self.env.iter().filter_map(|entry| entry.split_once('='));
        let value = pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
        self.taken += value.as_ref().map_or(0, String::len);
        if self.taken > WORD_BYTES_MAX {
            return Err(self.error("too long"));
        }
        Ok(value)
    }
}
