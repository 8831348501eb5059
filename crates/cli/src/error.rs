//! What ends a command early, and the one place where it becomes text and an exit code.

use std::process::ExitCode;

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command ended. What is shown is Docker's layout, because people and scripts know it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag that is unknown or has a bad value: shown with the usage.
    #[error("{0}")]
    Flag(String),
    /// Too many or too few arguments, or an unknown command.
    #[error("{message}")]
    Arguments {
        /// What is wrong.
        message: String,
        /// The word that begins the last line: `Run` or `See`.
        verb: &'static str,
    },
    /// A failure of `run` and its like, with an exit code of its own.
    #[error("{message}")]
    Start {
        /// What went wrong.
        message: String,
        /// 125, 126 or 127.
        code: u8,
    },
    /// The daemon, or the way to it.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A format that cannot be read.
    #[error("{0}")]
    Format(String),
    /// Anything that one line says.
    #[error("{0}")]
    Message(String),
    /// A file, and what could not be done with it.
    #[error("{verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// All has been said: only the code is left.
    #[error("exit status {0}")]
    Exit(u8),
}

/// The exit code of a bad flag, and of what the daemon refuses to `run`.
pub const CODE_REFUSED: u8 = 125;
/// The exit code of a template that cannot be read (`EX_USAGE`, as Docker has it).
const CODE_USAGE: u8 = 64;
/// The exit code of a program that cannot be invoked.
pub const CODE_NOT_INVOKED: u8 = 126;
/// The exit code of a program that is not there.
pub const CODE_NOT_FOUND: u8 = 127;

impl Error {
    /// A one-line error.
    pub fn say(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// The error of `run`, `create` and `start`: the code depends on what the daemon says of the program.
    #[must_use]
    pub fn at_start(err: Self) -> Self {
        match err {
            Self::Client(err) => {
                Self::Start { code: start_code(&err.message()), message: told(&Self::Client(err)) }
            }
            Self::Message(message) => Self::Start { message, code: CODE_REFUSED },
            other @ Self::File { .. } => Self::Start { message: told(&other), code: CODE_REFUSED },
            other => other,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Flag(_) => CODE_REFUSED,
            Self::Format(_) => CODE_USAGE,
            Self::Start { code, .. } | Self::Exit(code) => *code,
            _ => 1,
        }
    }
}

/// 126 or 127 when the daemon says why the program did not start, 125 for all else: Docker's own table.
fn start_code(message: &str) -> u8 {
    let message = message.to_ascii_lowercase();
    let not_found =
        ["executable file not found", "no such file or directory", "system cannot find the file specified"];
    let not_invoked = ["permission denied", "is a directory"];
    if not_found.iter().any(|text| message.contains(text)) {
        CODE_NOT_FOUND
    } else if not_invoked.iter().any(|text| message.contains(text)) {
        CODE_NOT_INVOKED
    } else {
        CODE_REFUSED
    }
}

/// An error with the causes that its own text leaves out.
#[must_use]
pub fn told(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    // Docker's sentence about a daemon that is not there stands alone; the address says enough.
    if text.starts_with("Cannot connect") {
        return text;
    }
    let mut cause = err.source();
    while let Some(inner) = cause {
        let inner_text = system_text(&inner.to_string());
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The system's own words, as C programs say them: without the number, in lower case.
fn system_text(text: &str) -> String {
    let Some((words, _)) = text.split_once(" (os error ") else { return text.to_owned() };
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl From<Error> for ExitCode {
    fn from(err: Error) -> Self {
        Self::from(err.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_what_became_of_the_program() {
        let code = |text: &str| start_code(text);
        assert_eq!(code("exec: \"nope\": executable file not found in $PATH: unknown"), 127);
        assert_eq!(code("exec: \"/etc\": permission denied: unknown"), 126);
        assert_eq!(code("exec: \"/etc\": is a directory"), 126);
        assert_eq!(code("Conflict. The container name is in use"), 125);
    }
}
