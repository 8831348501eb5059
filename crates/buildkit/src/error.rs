//! Why something of BuildKit's API cannot be done.

use std::io;
use std::time::Duration;

use tonic::{Code, Status};

use crate::place::{self, Place};

/// The result of something that may fail so.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something cannot be done. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine does not have it.
    #[error("{0} is not implemented by this engine yet")]
    Absent(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The build has failed, in the engine's words.
    #[error("{0}")]
    Build(String),
    /// The build has failed at an instruction.
    #[error("{message}")]
    At {
        /// In the engine's words.
        message: String,
        /// Where.
        place: Box<Place>,
    },
    /// A name that leads to nothing.
    #[error("{0}")]
    Unknown(String),
    /// Nobody has come for it.
    #[error("{what} has not come within {} s", .within.as_secs())]
    Late {
        /// What.
        what: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The client does nothing any more.
    #[error("{what} has not moved for {} s: the client does nothing about it", .within.as_secs())]
    Still {
        /// What it should do something about.
        what: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// There are as many already as there may be.
    #[error("there are already {count} {what}, which is as many as there may be")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// The client has ended, or nobody wants the build any more.
    #[error("{0}: context canceled")]
    Gone(String),
    /// The client refuses what we ask it for.
    #[error("the client does not give {what}: {}", .status.message())]
    Client {
        /// What was asked for.
        what: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// What the client sends is not what the protocol allows.
    #[error("the client sends files wrongly: {0}")]
    Protocol(String),
    /// A file of a context cannot be taken.
    #[error("cannot take {path:?} of the build context: {reason}")]
    Entry {
        /// Which.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The disk does not take a context.
    #[error("cannot {verb} {path:?} of the build context")]
    Io {
        /// What was done.
        verb: &'static str,
        /// To what.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// An error of the disk.
    pub(crate) fn io(verb: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb, path: path.to_owned(), source }
    }

    /// The line with all its reasons.
    pub fn chain(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::At { message, place } => return place::status(message, place),
            Error::Absent(_) => Code::Unimplemented,
            Error::Invalid(_) | Error::Protocol(_) | Error::Entry { .. } => Code::InvalidArgument,
            Error::Unknown(_) => Code::NotFound,
            Error::Late { .. } => Code::NotFound,
            Error::Full { .. } => Code::ResourceExhausted,
            Error::Gone(_) => Code::Cancelled,
            Error::Client { status, .. } => status.code(),
            Error::Build(_) | Error::Io { .. } | Error::Still { .. } => Code::Unknown,
        };
        Self::new(code, place::short(&error.chain()))
    }
}
