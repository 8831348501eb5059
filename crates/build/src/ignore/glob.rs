//! One name against one pattern, by the rules of Go's `filepath.Match`: `*` and `?` stop at slashes, `[a-z]` and `[^a-z]` are sets,
//! a backslash takes the meaning from the next letter.

use super::{Error, PATTERN_LETTERS_MAX};

/// A set of letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    /// Reads what follows the opening bracket, up to the closing one.
    pub(super) fn parse(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Self> {
        let negated = letters.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        while ranges.is_empty() || letters.next_if_eq(&']').is_none() {
            let first = Self::letter(letters)?;
            let last = if letters.next_if_eq(&'-').is_some() { Self::letter(letters)? } else { first };
            ranges.push((first, last));
        }
        Some(Self { negated, ranges })
    }

    fn letter(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
        match letters.next()? {
            '-' | ']' => None,
            '\\' => letters.next(),
            letter => Some(letter),
        }
    }

    pub(super) fn has(&self, letter: char) -> bool {
        self.negated != self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Letter(char),
    Any,
    Star,
    Class(Class),
}

/// A pattern for one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

impl Glob {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > PATTERN_LETTERS_MAX {
            return Err(Error::TooMuch { what: "a pattern is longer than", limit: PATTERN_LETTERS_MAX });
        }
        let mut parts = Vec::new();
        let mut letters = text.chars().peekable();
        let wrong = || Error::Syntax(text.to_owned());
        while let Some(letter) = letters.next() {
            parts.push(match letter {
                '*' if parts.last() == Some(&Part::Star) => continue,
                '*' => Part::Star,
                '?' => Part::Any,
                '[' => Part::Class(Class::parse(&mut letters).ok_or_else(wrong)?),
                '\\' => Part::Letter(letters.next().ok_or_else(wrong)?),
                letter => Part::Letter(letter),
            });
        }
        Ok(Self { parts })
    }

    /// Whether a text has letters that make it a pattern.
    pub fn is_pattern(text: &str) -> bool {
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '*' | '?' | '[' => return true,
                '\\' => drop(letters.next()),
                _ => {}
            }
        }
        false
    }

    /// The pattern of a text that stands for itself alone.
    pub fn escape(text: &str) -> String {
        let special = |letter: char| matches!(letter, '*' | '?' | '[' | '\\');
        text.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter])).collect()
    }

    /// The text that a pattern without wildcards stands for.
    pub fn unescape(pattern: &str) -> String {
        let mut text = String::with_capacity(pattern.len());
        let mut letters = pattern.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => text.extend(letters.next()),
                letter => text.push(letter),
            }
        }
        text
    }

    /// Whether a whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        let mut reached = vec![false; self.parts.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for letter in path.chars() {
            let mut next = vec![false; reached.len()];
            for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match part {
                    Part::Star => next[at] |= letter != '/',
                    Part::Any => next[at + 1] |= letter != '/',
                    Part::Letter(wanted) => next[at + 1] |= *wanted == letter,
                    Part::Class(class) => next[at + 1] |= letter != '/' && class.has(letter),
                }
            }
            self.skip_stars(&mut next);
            reached = next;
        }
        reached[self.parts.len()]
    }

    /// A star may be nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (at, part) in self.parts.iter().enumerate() {
            reached[at + 1] |= reached[at] && *part == Part::Star;
        }
    }
}
