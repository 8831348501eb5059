//! What can go wrong between a command and a daemon.

use std::io;
use std::path::PathBuf;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed. Display is one line, in Docker's words where scripts match on them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon answered with an error.
    #[error("Error response from daemon: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The daemon's message.
        message: String,
    },
    /// Nobody listens there.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Unreachable {
        /// The address as it was named.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is there, but not for this user.
    #[error("permission denied while trying to connect to the Docker daemon socket at {host}")]
    Denied {
        /// The address as it was named.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection could be opened, but not used.
    #[error("error during connect: {host}: {detail}")]
    Connect {
        /// The address as it was named.
        host: String,
        /// What was wrong with it.
        detail: String,
    },
    /// The address of a daemon, a context, or an environment variable is not usable.
    #[error("{0}")]
    Address(String),
    /// A context is missing or damaged.
    #[error("{0}")]
    Context(String),
    /// No context of that name. The text carries the path that was looked for, as Docker's does.
    #[error("context {name:?}: context not found: open {}: no such file or directory", path.display())]
    NoContext {
        /// The context's name.
        name: String,
        /// The file that would describe it.
        path: PathBuf,
    },
    /// A file of the client's configuration could not be used.
    #[error("{verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Keys or certificates cannot be used.
    #[error("{0}")]
    Tls(String),
    /// A credential helper failed.
    #[error("error getting credentials - err: {0}")]
    Credentials(String),
    /// The connection broke in the middle of a conversation.
    #[error("{0}")]
    Broken(String),
    /// The daemon answered something that is not what the API promises.
    #[error("{0}")]
    Protocol(String),
    /// The daemon is too old for what was asked.
    #[error("\"{feature}\" requires API version {needs}, but the Docker daemon API version is {has}")]
    TooOld {
        /// What was asked.
        feature: String,
        /// The version that has it.
        needs: String,
        /// The daemon's version.
        has: String,
    },
}

impl Error {
    /// The HTTP status, when a daemon answered with one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon said that the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether no daemon could be reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The daemon's message without any prefix, or the whole text for another error.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Status { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}
