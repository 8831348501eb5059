//! Patterns of `.dockerignore`: those of names, and `**`.

use super::glob::{Class, Glob};
use super::{Error, PATTERN_LETTERS_MAX};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Letter(char),
    /// Any letter of a name.
    Any,
    /// Any letters of a name.
    Star,
    /// Any number of directories, with the slash behind them.
    Directories,
    /// Anything: `**` at the end.
    Rest,
    Class(Class),
}

#[derive(Debug, Clone)]
enum Kind {
    Exact(Vec<char>),
    Prefix(Vec<char>),
    Suffix(Vec<char>),
    Parts(Vec<Part>),
}

/// A clean pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    kind: Kind,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > PATTERN_LETTERS_MAX {
            return Err(Error::TooMuch { what: "a pattern is longer than", limit: PATTERN_LETTERS_MAX });
        }
        // What is wrong in a name's pattern is wrong here.
        Glob::parse(text)?;
        let wrong = || Error::Syntax(text.to_owned());
        let mut parts = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            parts.push(match letter {
                '*' if letters.next_if_eq(&'*').is_some() => {
                    letters.next_if_eq(&'/');
                    if letters.peek().is_none() { Part::Rest } else { Part::Directories }
                }
                '*' => Part::Star,
                '?' => Part::Any,
                '[' => Part::Class(Class::parse(&mut letters).ok_or_else(wrong)?),
                '\\' => Part::Letter(letters.next().ok_or_else(wrong)?),
                letter => Part::Letter(letter),
            });
        }
        Ok(Self { kind: Self::kind(text, parts) })
    }

    /// Patterns without anything special but `**` at one end mean their text, also where that divides a name.
    fn kind(text: &str, parts: Vec<Part>) -> Kind {
        let plain = |parts: &[Part]| -> Option<Vec<char>> {
            let letter = |part: &Part| match part {
                Part::Letter(letter) => Some(*letter),
                _ => None,
            };
            // An escape makes a pattern of it; so does a bracket without another.
            if text.contains(['\\', ']']) { None } else { parts.iter().map(letter).collect() }
        };
        if let Some(letters) = plain(&parts) {
            return Kind::Exact(letters);
        }
        match parts.as_slice() {
            [Part::Rest] => return Kind::Prefix(Vec::new()),
            [before @ .., Part::Rest] => {
                if let Some(letters) = plain(before) {
                    return Kind::Prefix(letters);
                }
            }
            [Part::Directories, behind @ ..] => {
                if let Some(letters) = plain(behind) {
                    let slash = text.starts_with("**/").then_some('/');
                    return Kind::Suffix(slash.into_iter().chain(letters).collect());
                }
            }
            _ => {}
        }
        Kind::Parts(parts)
    }

    pub fn matches(&self, path: &[char]) -> bool {
        match &self.kind {
            Kind::Exact(text) => path == text.as_slice(),
            Kind::Prefix(text) => path.starts_with(text),
            Kind::Suffix(text) => path.ends_with(text) || (text.first() == Some(&'/') && path == &text[1..]),
            Kind::Parts(parts) => follow(parts, path),
        }
    }
}

/// Follows all ways at once.
fn follow(parts: &[Part], path: &[char]) -> bool {
    let mut reached = vec![false; parts.len() + 1];
    // Inside of directories that `**` stands for.
    let mut inside = vec![false; parts.len()];
    reached[0] = true;
    skip(parts, &mut reached);
    for letter in path.iter().copied() {
        let mut next = vec![false; reached.len()];
        let mut next_inside = vec![false; inside.len()];
        for (at, part) in parts.iter().enumerate() {
            let here = reached[at];
            match part {
                Part::Letter(wanted) => next[at + 1] |= here && *wanted == letter,
                Part::Any => next[at + 1] |= here && letter != '/',
                Part::Class(class) => next[at + 1] |= here && class.has(letter),
                Part::Star => next[at] |= here && letter != '/',
                Part::Rest => next[at] |= here && letter != '\n',
                Part::Directories if here || inside[at] => {
                    next_inside[at] = letter != '\n';
                    next[at + 1] |= letter == '/';
                }
                Part::Directories => {}
            }
        }
        skip(parts, &mut next);
        reached = next;
        inside = next_inside;
    }
    reached[parts.len()]
}

/// Some parts may be nothing.
fn skip(parts: &[Part], reached: &mut [bool]) {
    for (at, part) in parts.iter().enumerate() {
        reached[at + 1] |= reached[at] && matches!(part, Part::Star | Part::Rest | Part::Directories);
    }
}
