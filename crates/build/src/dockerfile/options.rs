//! `--name=value` before an instruction's arguments.

use super::Problem;
use super::instruction::Word;
use crate::suggest;
use crate::text::Span;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// True or false; true where nothing is said.
    Bool,
    /// A text, any number of times.
    List,
}

/// Options that were given.
#[derive(Debug, Default)]
pub struct Options {
    given: Vec<(&'static str, Word)>,
}

/// Reads the options that an instruction has.
pub fn read(flags: &[Word], known: &[(&'static str, Kind)]) -> Result<Options, Problem> {
    let mut given: Vec<(&'static str, Word)> = Vec::new();
    for flag in flags {
        let (name, value) = match flag.text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.text.as_str(), None),
        };
        let bare = name.strip_prefix("--").unwrap_or(name);
        let Some((key, kind)) = known.iter().find(|(key, _)| *key == bare) else {
            let hint = suggest::hint(suggest::nearest(bare, known.iter().map(|(key, _)| *key), true));
            let names: Vec<String> = known.iter().map(|(key, _)| format!("--{key}")).collect();
            let expected = if names.is_empty() { "no option".to_owned() } else { names.join(", ") };
            return Err(Problem::new(flag.span, format!("unknown flag: {name}{hint}")).expecting(expected));
        };
        if *kind != Kind::List && given.iter().any(|(known, _)| known == key) {
            return Err(Problem::new(flag.span, format!("duplicate flag specified: {name}")));
        }
        let missing = || {
            Problem::new(flag.span, format!("missing a value on flag: {name}")).expecting(format!("{name}=…"))
        };
        let text = match (kind, value) {
            (Kind::Bool, None) => "true".to_owned(),
            (Kind::Bool, Some("")) => return Err(missing()),
            (Kind::Bool, Some(value)) => match value.to_ascii_lowercase().as_str() {
                word @ ("true" | "false") => word.to_owned(),
                _ => {
                    let message = format!("expecting boolean value for flag {bare}, not: {value}");
                    return Err(Problem::new(flag.span, message).expecting("true or false"));
                }
            },
            (_, Some(value)) => value.to_owned(),
            (_, None) => return Err(missing()),
        };
        // Behind the equals sign, where the option stands in the text as it is.
        let whole = flag.span.end - flag.span.start == flag.text.len();
        let start = flag.span.end.saturating_sub(if whole { value.map_or(0, str::len) } else { usize::MAX });
        given.push((key, Word { text, span: Span::new(start.max(flag.span.start), flag.span.end) }));
    }
    Ok(Options { given })
}

impl Options {
    /// The text of an option; one that is empty is as one that is not given.
    pub fn text(&self, name: &str) -> Option<Word> {
        self.given
            .iter()
            .find(|(key, word)| *key == name && !word.text.is_empty())
            .map(|(_, word)| word.clone())
    }

    /// Whether an option is on, if it is given.
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.given.iter().find(|(key, _)| *key == name).map(|(_, word)| word.text == "true")
    }

    /// All texts of an option.
    pub fn list(&self, name: &str) -> Vec<Word> {
        self.given.iter().filter(|(key, _)| *key == name).map(|(_, word)| word.clone()).collect()
    }
}
