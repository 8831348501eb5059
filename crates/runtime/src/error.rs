//! What can go wrong, by what the caller can do about it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Exit code for a program that was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit code for a program that was not found.
pub const NOT_FOUND: u8 = 127;
/// Exit code for everything else.
pub const FAILED: u8 = 1;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration, or an argument, is wrong: change it.
    #[error("{0}")]
    Invalid(String),
    /// The configuration asks for what this runtime does not do.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// No such container.
    #[error("container \"{0}\" does not exist")]
    NotFound(String),
    /// The name is taken.
    #[error("container with id \"{0}\" already exists")]
    Exists(String),
    /// The container is not in the state that the operation needs.
    #[error("cannot {verb} container \"{id}\": it is {state}")]
    State {
        /// Which container.
        id: String,
        /// What was asked for.
        verb: &'static str,
        /// What it is.
        state: &'static str,
    },
    /// The program to run cannot be run.
    #[error("{text}")]
    Program {
        /// The exit code that stands for it: 126 or 127.
        code: u8,
        /// In the words that scripts match on.
        text: String,
    },
    /// Setting up the container failed inside it.
    #[error("{text}")]
    Setup {
        /// The whole chain of causes, as the child reported it.
        text: String,
    },
    /// The kernel refused.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A limit could not be set.
    #[error("{field}: cannot write {value:?} to {path}")]
    Limit {
        /// The field of the configuration that asks for it.
        field: String,
        /// What was written.
        value: String,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Systemd did not do it, or was not reached.
    #[error("cannot {verb} {unit}")]
    Systemd {
        /// What was tried.
        verb: &'static str,
        /// On which unit.
        unit: String,
        /// Why not.
        source: crate::dbus::Failure,
    },
    /// A file is not the JSON it should be.
    #[error("cannot parse {path}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Error {
    /// The exit code that stands for this error: 126 and 127 as shells use them, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Program { code, .. } => *code,
            _ => FAILED,
        }
    }

    /// The whole chain of causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {}", plain(error));
            cause = error.source();
        }
        text
    }
}

/// The text of an error of the operating system as C programs print it, without Rust's number behind it.
fn plain(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) if text.ends_with(')') => {
            let (head, number) = text.split_at(end);
            let mut head = head.to_owned();
            // Only the first letter: "No such file" but not an errno's rarely capital remainder.
            if number.len() < " (os error 9999)".len()
                && let Some(first) = head.get_mut(0..1)
                && head_is_word(first)
            {
                first.make_ascii_lowercase();
            }
            head
        }
        _ => text,
    }
}

fn head_is_word(first: &str) -> bool {
    first.chars().all(|c| c.is_ascii_uppercase())
}

/// Names verb and object of a failed system call.
pub(crate) trait Context<T> {
    fn on(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn on(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { verb, path: path.as_ref().to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_line_in_the_words_of_c() {
        let source = io::Error::from_raw_os_error(2);
        let error = Error::Io { verb: "open", path: "/x".into(), source };
        assert_eq!(error.chain(), "cannot open /x: no such file or directory");
        assert_eq!(error.exit_code(), FAILED);
    }

    #[test]
    fn a_missing_program_has_the_code_of_shells() {
        let error = Error::Program { code: NOT_FOUND, text: "exec: \"x\": gone".into() };
        assert_eq!(error.exit_code(), 127);
    }
}
