//! Patterns by which labels and variables are chosen for every line of a log.

use regex::{Regex, RegexBuilder};

use crate::error::{Error, Result};

/// The longest pattern.
const PATTERN_BYTES_MAX: usize = 1024;
/// What a pattern may become in memory.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// A pattern; matching takes time linear in what is looked at.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: String| Error::invalid(format!("error parsing regexp: {text}: {why}"));
        if text.len() > PATTERN_BYTES_MAX {
            return Err(refused(format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let built =
            RegexBuilder::new(text).size_limit(PROGRAM_BYTES_MAX).dfa_size_limit(PROGRAM_BYTES_MAX).build();
        // The last line says what is wrong; those before show where.
        built
            .map(Self)
            .map_err(|e| refused(e.to_string().lines().last().unwrap_or_default().trim().to_owned()))
    }

    /// Whether it is somewhere in `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}
