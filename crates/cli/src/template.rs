//! Go's `text/template`, as far as `--format` goes: everything but templates that define others.
//!
//! ```text
//! text --lex--> tokens --parse--> nodes --eval(value)--> text
//! ```
//! Messages are Go's, to the letter, because people search for them and scripts match on them.

mod eval;
mod funcs;
mod lex;
mod parse;
mod printf;
mod value;

pub use value::{Map, Record, Shape, Value};

use std::fmt;

/// Nested parentheses, blocks and pipelines beyond this are refused rather than followed.
pub(crate) const DEPTH_MAX: usize = 100;
/// The text that one execution may produce. `{{range}}` over `{{printf "%1000000s"}}` must end somewhere.
pub(crate) const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It cannot be read.
    Parse(String),
    /// It does not fit the value.
    Exec(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(text) | Self::Exec(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// A template ready to be executed.
#[derive(Debug)]
pub struct Template {
    name: String,
    source: String,
    nodes: Vec<parse::Node>,
}

/// How an execution behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mode {
    /// Whether this is the line of titles: functions that would shape a value leave them alone.
    pub header: bool,
}

impl Template {
    /// Reads a template; `name` shows in messages.
    pub fn parse(name: &str, source: &str) -> Result<Self, Error> {
        let tokens = lex::lex(source).map_err(|(line, text)| Error::Parse(at(name, line, &text)))?;
        let nodes =
            parse::parse(source, &tokens).map_err(|(line, text)| Error::Parse(at(name, line, &text)))?;
        Ok(Self { name: name.to_owned(), source: source.to_owned(), nodes })
    }

    /// Executes it on a value.
    pub fn render(&self, value: &Value, mode: Mode) -> Result<String, Error> {
        eval::Run::new(&self.source, mode).render(&self.nodes, value).map_err(|fault| {
            let (line, column) = position(&self.source, fault.span.0);
            let context = fault.context(&self.source);
            Error::Exec(format!(
                "template: {name}:{line}:{column}: executing {name:?} at <{context}>: {text}",
                name = self.name,
                text = fault.text
            ))
        })
    }
}

fn at(name: &str, line: usize, text: &str) -> String {
    format!("template: {name}:{line}: {text}")
}

fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..offset.min(source.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rfind('\n').map_or(before.len(), |newline| before.len() - newline - 1);
    (line, column)
}

/// A value as `{{json .}}` prints it: compact. Rows have the escapes meant for web pages, as Docker's have.
pub(crate) fn value_json(value: &Value) -> String {
    let text = value.to_json().to_string();
    if !matches!(value, Value::Record(_)) {
        return text;
    }
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// `text` in Go's quotes.
pub(crate) fn quoted(text: &str) -> String {
    printf::quoted(text)
}

#[cfg(test)]
mod tests;
