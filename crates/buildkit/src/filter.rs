//! The language of filters: `key==value`, `key!=value`, `key~=pattern`, or `key` alone. What is between commas holds at once; of several
//! filters one is enough.

use regex::{Regex, RegexBuilder};

/// Filters of one call, words of one, and letters of a word: some hundred ids, which clients put into one.
pub(crate) const FILTERS_MAX: usize = 16;
const WORDS_MAX: usize = 16;
const LETTERS_MAX: usize = 16 << 10;
/// Bytes that a pattern becomes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What a word asks of a value.
#[derive(Debug)]
pub(crate) enum Test {
    /// That there is one.
    There,
    Is(String),
    IsNot(String),
    Matches(Regex),
}

impl Test {
    /// Whether a value is as it is asked for; nothing is a value that is not there.
    pub(crate) fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::There => value.is_some(),
            Self::Is(text) => value == Some(text),
            Self::IsNot(text) => value != Some(text),
            Self::Matches(pattern) => value.is_some_and(|value| pattern.is_match(value)),
        }
    }
}

/// What is between commas; quotes hold what has some, and a quote in them is two.
pub(crate) fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_plain = match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => letters.next().is_some(),
            '"' => {
                is_quoted = !is_quoted;
                false
            }
            ',' if !is_quoted => {
                words.push(String::new());
                false
            }
            _ => true,
        };
        if is_plain && let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    if is_quoted || words.len() > WORDS_MAX || words.iter().any(|word| word.len() > LETTERS_MAX) {
        return Err("a quote has no end, or it is too long");
    }
    Ok(words)
}

/// What a word is about, and what it asks of it.
pub(crate) fn test(word: &str) -> Result<(&str, Test), &'static str> {
    let first = ["==", "!=", "~="].iter().filter_map(|sign| Some((word.find(sign)?, *sign))).min();
    let Some((at, sign)) = first else { return Ok((word, Test::There)) };
    let (key, value) = (&word[..at], &word[at + sign.len()..]);
    let test = match sign {
        "==" => Test::Is(value.to_owned()),
        "!=" => Test::IsNot(value.to_owned()),
        _ => Test::Matches(pattern(value)?),
    };
    Ok((key, test))
}

/// A pattern that does not become too large.
pub(crate) fn pattern(text: &str) -> Result<Regex, &'static str> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().map_err(|_| "invalid pattern")
}

/// A word that holds whatever its letters are.
pub(crate) fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_divided() {
        assert_eq!(words("a==b,c").unwrap(), ["a==b", "c"]);
        assert_eq!(words("\"a,b\",c").unwrap(), ["a,b", "c"]);
        words("\"a").unwrap_err();
    }

    #[test]
    fn values_are_tested() {
        for (word, key, value, holds) in [
            ("a", "a", Some("x"), true),
            ("a", "a", None, false),
            ("a==x", "a", Some("x"), true),
            ("a==x", "a", None, false),
            ("a!=x", "a", None, true),
            ("a!=x~=y", "a", Some("x~=y"), false),
            ("a~=^x.z$", "a", Some("xyz"), true),
            ("a~=^x.z$", "a", Some("xyzz"), false),
        ] {
            let (about, test) = test(word).unwrap();
            assert_eq!((about, test.holds(value)), (key, holds), "{word}");
        }
        test("a~=(").unwrap_err();
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_one_word(text in "[a-z\",= ]{0,20}") {
            prop_assert_eq!(words(&quoted(&text)).unwrap(), [text]);
        }
    }
}
