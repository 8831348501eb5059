//! How what follows an instruction's name is divided.

use serde_json::Value;

use super::instruction::Word;
use super::line::Part;

/// Words between spaces.
pub fn plain(part: Part<'_>) -> Vec<Word> {
    let mut rest = part.trim();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (word, next) = rest.split();
        if !word.is_empty() {
            words.push(word.word());
        }
        rest = next;
    }
    words
}

/// Words between spaces that are not in quotes; the quotes stay.
pub fn quoted(part: Part<'_>, escape: char) -> Vec<Word> {
    let text = part.text();
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            if let Some(start) = start.take() {
                words.push(part.range(start, at).word());
            }
            continue;
        }
        start.get_or_insert(at);
        if letter == escape && quote != Some('\'') {
            if letters.next().is_none() {
                // It has nothing to escape, and is no part of the word.
                if let Some(start) = start.take().filter(|start| *start < at) {
                    words.push(part.range(start, at).word());
                }
            }
        } else if quote == Some(letter) {
            quote = None;
        } else if quote.is_none() && matches!(letter, '\'' | '"') {
            quote = Some(letter);
        }
    }
    if let Some(start) = start {
        words.push(part.range(start, text.len()).word());
    }
    words
}

/// Options before the arguments, without their quotes and escapes, and what follows them.
pub fn flags(part: Part<'_>) -> (Vec<Word>, Part<'_>) {
    let text = part.text();
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, part.from(at).trim());
        }
        let (word, length) = flag(&text[at..]);
        let span = part.range(at, at + length).span();
        at += length;
        if word == "--" {
            return (flags, part.from(at).trim());
        }
        flags.push(Word { text: word, span });
    }
}

/// One option, and how long it is in the text.
fn flag(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (letter, quote) {
            (letter, None) if letter.is_whitespace() => return (word, at),
            ('\\', _) => match letters.next() {
                Some((_, letter)) => word.push(letter),
                None => break,
            },
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, _) => word.push(letter),
        }
    }
    (word, text.len())
}

/// What a part that may be JSON is.
pub enum Json {
    /// A list of strings.
    Strings(Vec<Word>),
    /// A list with something else in it.
    Mixed,
    /// No list.
    None,
}

/// Reads a list of strings.
pub fn json(part: Part<'_>) -> Json {
    let part = part.trim();
    if !part.text().starts_with('[') {
        return Json::None;
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(part.text()) else { return Json::None };
    let span = part.span();
    let strings: Option<Vec<Word>> = values
        .into_iter()
        .map(|value| match value {
            Value::String(text) => Some(Word { text, span }),
            _ => None,
        })
        .collect();
    strings.map_or(Json::Mixed, Json::Strings)
}
