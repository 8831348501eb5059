//! Lines, and the words in them.

use super::Error;
use crate::error::Result;

/// An instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name, as it was typed.
    pub name: String,
    /// `--flag=value` before its arguments.
    pub flags: Vec<String>,
    /// What follows.
    pub rest: String,
    /// Which line of the text.
    pub number: usize,
}

/// Divides a text into instructions.
pub fn parse(text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut gathered = String::new();
    let mut begun = 0;
    for (number, raw) in text.lines().enumerate() {
        let line = raw.trim_start();
        if line.starts_with('#') || (line.trim().is_empty() && !gathered.is_empty()) {
            continue;
        }
        if gathered.is_empty() {
            begun = number + 1;
        }
        let end = line.trim_end_matches([' ', '\t']);
        if let Some(part) = end.strip_suffix('\\') {
            gathered.push_str(part);
            continue;
        }
        gathered.push_str(line);
        push(&mut lines, &std::mem::take(&mut gathered), begun)?;
    }
    push(&mut lines, &gathered, begun)?;
    Ok(lines)
}

fn push(lines: &mut Vec<Line>, text: &str, number: usize) -> Result<()> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(());
    }
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let mut rest = rest.trim_start();
    let mut flags = Vec::new();
    // What an instruction to come begins with is its own business.
    if !name.eq_ignore_ascii_case("onbuild") {
        while let Some(flag) = rest.split_whitespace().next().filter(|word| word.starts_with("--")) {
            rest = rest[flag.len()..].trim_start();
            if flag == "--" {
                break;
            }
            flags.push(flag.to_owned());
        }
    }
    lines.push(Line { name: name.to_owned(), flags, rest: rest.to_owned(), number });
    Ok(())
}

impl Line {
    /// The name in capital letters.
    pub fn upper(&self) -> String {
        self.name.to_ascii_uppercase()
    }

    /// An error of how the line is written.
    pub fn error(&self, what: &str) -> Error {
        Error::invalid(format!("dockerfile parse error on line {}: {what}", self.number))
    }

    /// Refuses flags.
    pub fn no_flags(&self) -> Result<()> {
        match self.flags.first() {
            None => Ok(()),
            Some(flag) => {
                let name = flag.split('=').next().unwrap_or(flag);
                Err(Error::invalid(format!("unknown flag: {name}")))
            }
        }
    }

    /// Refuses a line without arguments.
    pub fn at_least_one(&self, words: &[String]) -> Result<()> {
        if words.is_empty() {
            return Err(Error::invalid(format!("{} requires at least one argument", self.upper())));
        }
        Ok(())
    }

    /// The list of strings that the arguments are, if they are one.
    pub fn json(&self) -> Option<Vec<String>> {
        if !self.rest.starts_with('[') {
            return None;
        }
        serde_json::from_str(&self.rest).ok()
    }

    /// A command: its words, or a line for the shell.
    pub fn command(&self, shell: &[String]) -> Vec<String> {
        if let Some(words) = self.json() {
            return words;
        }
        if self.rest.is_empty() {
            return Vec::new();
        }
        shell.iter().cloned().chain([self.rest.clone()]).collect()
    }

    /// The arguments, with their quotes.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quote = None;
        let mut letters = self.rest.chars();
        while let Some(letter) = letters.next() {
            match (letter, quote) {
                (space, None) if space.is_whitespace() => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                    continue;
                }
                ('\'' | '"', None) => quote = Some(letter),
                (end, Some(open)) if end == open => quote = None,
                ('\\', open) if open != Some('\'') => {
                    word.push(letter);
                    word.extend(letters.next());
                    continue;
                }
                _ => {}
            }
            word.push(letter);
        }
        if !word.is_empty() {
            words.push(word);
        }
        words
    }
}
