//! What `.dockerignore` hides, and the wildcards of `COPY`.
//!
//! The rules are those of Docker's pattern matcher: the last pattern that matches a path or a directory above it decides, `!` brings
//! back, `**` is any number of directories. Matching follows all ways at once: no pattern makes it slow.

mod clean;
mod glob;
mod pattern;

pub use clean::clean;
pub use glob::Glob;

use pattern::Pattern;

/// Bytes of a file of patterns.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Patterns of a file: each is compared with each path of the context.
pub const PATTERNS_MAX: usize = 10_000;
/// Letters of a pattern: paths are not longer.
pub const PATTERN_LETTERS_MAX: usize = 4096;

/// Why patterns cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `!` and nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    Exclusion,
    /// A bracket without end and the like.
    #[error("syntax error in pattern: {0:?}")]
    Syntax(String),
    /// Too much.
    #[error("{what} {limit}")]
    TooMuch {
        /// What is too much.
        what: &'static str,
        /// How much would do.
        limit: usize,
    },
}

/// A pattern of `.dockerignore`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which line it is on.
    pub line: usize,
    /// What stands there.
    pub text: String,
    /// Whether it brings back.
    pub includes: bool,
    /// The pattern, clean.
    path: String,
    pattern: Pattern,
}

/// The patterns of a file, in order.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    includes: bool,
}

/// Which rules matched a directory; what is below it begins with them.
#[derive(Debug, Clone, Default)]
pub struct Above(Vec<bool>);

impl Ignore {
    /// Reads a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::TooMuch { what: "the patterns are longer than", limit: TEXT_BYTES_MAX });
        }
        let mut ignore = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.split('\n').enumerate() {
            // A hash behind spaces is a pattern.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let (includes, path) = match line.strip_prefix('!') {
                Some(path) => (true, path.trim()),
                None => (false, line),
            };
            if path.is_empty() {
                return Err(Error::Exclusion);
            }
            let path = clean(path);
            let path = path.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&path);
            ignore.push(number + 1, line, path, includes)?;
        }
        Ok(ignore)
    }

    fn push(&mut self, line: usize, text: &str, path: &str, includes: bool) -> Result<(), Error> {
        if self.rules.len() >= PATTERNS_MAX {
            return Err(Error::TooMuch { what: "there are more patterns than", limit: PATTERNS_MAX });
        }
        let pattern = Pattern::parse(path)?;
        self.includes |= includes;
        self.rules.push(Rule { line, text: text.to_owned(), includes, path: path.to_owned(), pattern });
        Ok(())
    }

    /// Reads patterns that are not from a file: those of `--exclude`.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut ignore = Self::default();
        for (number, text) in patterns.into_iter().enumerate() {
            let trimmed = text.trim();
            if trimmed.is_empty() {
                continue;
            }
            let path = clean(trimmed);
            let (includes, path) = match path.strip_prefix('!') {
                Some("") => return Err(Error::Exclusion),
                Some(path) => (true, path),
                None => (false, path.as_str()),
            };
            ignore.push(number + 1, text, path, includes)?;
        }
        Ok(ignore)
    }

    /// The patterns as others read them, clean and without comments: those that bring back with `!` before them.
    pub fn patterns(&self) -> Vec<String> {
        let shown = |rule: &Rule| format!("{}{}", if rule.includes { "!" } else { "" }, rule.path);
        self.rules.iter().map(shown).collect()
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether some pattern brings back: then what is below a hidden directory has to be looked at.
    pub fn has_exceptions(&self) -> bool {
        self.includes
    }

    /// The rule that hides a path, if one does. The path is relative, with slashes, and clean.
    pub fn hides(&self, path: &str) -> Option<&Rule> {
        let letters: Vec<char> = path.chars().collect();
        let ends: Vec<usize> = letters
            .iter()
            .enumerate()
            .filter(|(at, letter)| **letter == '/' && *at > 0)
            .map(|(at, _)| at)
            .chain([letters.len()])
            .collect();
        let mut hidden: Option<&Rule> = None;
        for rule in &self.rules {
            // Only what would change something is asked.
            if rule.includes == hidden.is_some()
                && ends.iter().rev().any(|end| rule.pattern.matches(&letters[..*end]))
            {
                hidden = Some(rule).filter(|rule| !rule.includes);
            }
        }
        hidden
    }

    /// The same for a walk: the directory above was asked before, and told what matched it.
    pub fn hides_below(&self, path: &str, above: &Above) -> (Option<&Rule>, Above) {
        let letters: Vec<char> = path.chars().collect();
        let mut hidden: Option<&Rule> = None;
        let mut matched = Vec::with_capacity(self.rules.len());
        for (at, rule) in self.rules.iter().enumerate() {
            // Also where it changes nothing here: below, another rule may have been overruled.
            let hit = above.0.get(at).copied().unwrap_or_default() || rule.pattern.matches(&letters);
            if hit {
                hidden = Some(rule).filter(|rule| !rule.includes);
            }
            matched.push(hit);
        }
        (hidden, Above(matched))
    }
}

#[cfg(test)]
mod tests;
