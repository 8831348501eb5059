//! What can go wrong in the engine, by what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it. The text is what a person reads and, where scripts match on it,
/// Docker's own to the letter.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The thing that was named is not there.
    #[error(transparent)]
    NotFound(Detail),
    /// The thing is there, but its state or another thing stands in the way.
    #[error(transparent)]
    Conflict(Detail),
    /// The request cannot be right, whatever the state.
    #[error(transparent)]
    InvalidParameter(Detail),
    /// The request asks for what is already so.
    #[error(transparent)]
    NotModified(Detail),
    /// The request is understood and refused.
    #[error(transparent)]
    Forbidden(Detail),
    /// Somebody else (a registry) wants other credentials.
    #[error(transparent)]
    Unauthorized(Detail),
    /// Something that is needed does not answer now; trying again later may help.
    #[error(transparent)]
    Unavailable(Detail),
    /// The request is for something that this engine does not have.
    #[error(transparent)]
    NotImplemented(Detail),
    /// The operation was given up because its caller went away or the daemon is stopping.
    #[error(transparent)]
    Cancelled(Detail),
    /// The machine failed: an I/O error, a broken record, a supervisor that does not answer.
    #[error(transparent)]
    System(Detail),
}

/// The sort of an [`Error`], for tables that turn it into a status or an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// See [`Error::NotFound`].
    NotFound,
    /// See [`Error::Conflict`].
    Conflict,
    /// See [`Error::InvalidParameter`].
    InvalidParameter,
    /// See [`Error::NotModified`].
    NotModified,
    /// See [`Error::Forbidden`].
    Forbidden,
    /// See [`Error::Unauthorized`].
    Unauthorized,
    /// See [`Error::Unavailable`].
    Unavailable,
    /// See [`Error::NotImplemented`].
    NotImplemented,
    /// See [`Error::Cancelled`].
    Cancelled,
    /// See [`Error::System`].
    System,
}

/// The text of an [`Error`], what may help against it, and where it came from.
#[derive(Debug, Clone)]
pub struct Detail {
    text: String,
    hint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Detail {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

impl Error {
    /// An error of `kind` that says `text`.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let detail = Detail { text: text.into(), hint: None, source: None };
        match kind {
            Kind::NotFound => Self::NotFound(detail),
            Kind::Conflict => Self::Conflict(detail),
            Kind::InvalidParameter => Self::InvalidParameter(detail),
            Kind::NotModified => Self::NotModified(detail),
            Kind::Forbidden => Self::Forbidden(detail),
            Kind::Unauthorized => Self::Unauthorized(detail),
            Kind::Unavailable => Self::Unavailable(detail),
            Kind::NotImplemented => Self::NotImplemented(detail),
            Kind::Cancelled => Self::Cancelled(detail),
            Kind::System => Self::System(detail),
        }
    }

    /// The thing that was named is not there.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, text)
    }

    /// State stands in the way.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, text)
    }

    /// The request cannot be right.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::InvalidParameter, text)
    }

    /// Already so.
    pub fn not_modified(text: impl Into<String>) -> Self {
        Self::new(Kind::NotModified, text)
    }

    /// Refused.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, text)
    }

    /// Does not answer now.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, text)
    }

    /// Not there in this engine; `what` is the name of the thing as the caller gave it.
    pub fn not_implemented(what: impl Into<String>) -> Self {
        Self::new(Kind::NotImplemented, what)
    }

    /// The machine failed.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Kind::System, text)
    }

    /// An I/O error, with what was being done to which path.
    pub fn io(verb: &str, path: &Path, source: std::io::Error) -> Self {
        Self::system(format!("cannot {verb} {}", path.display())).with_source(source)
    }

    /// What the runtime could not do. A value that the kernel does not take is the caller's, not the machine's.
    pub(crate) fn runtime(source: runtime::Error) -> Self {
        use std::io::ErrorKind;
        let kind = match &source {
            runtime::Error::Invalid(_) | runtime::Error::Unsupported(_) => Kind::InvalidParameter,
            runtime::Error::Limit { source, .. } => match source.kind() {
                ErrorKind::InvalidInput | ErrorKind::Unsupported => Kind::InvalidParameter,
                // A limit below what is used already.
                ErrorKind::ResourceBusy => Kind::Conflict,
                // The standard library has no name for a number that is too large.
                _ if source.raw_os_error() == Some(rustix::io::Errno::RANGE.raw_os_error()) => {
                    Kind::InvalidParameter
                }
                _ => Kind::System,
            },
            _ => Kind::System,
        };
        Self::new(kind, "cannot change the container's cgroup").with_source(source)
    }

    /// What a supervisor could not do. A process that is not in the state for it is a conflict.
    pub(crate) fn supervisor(source: crate::supervisor::Error) -> Self {
        use crate::supervisor::{Error as Supervisor, Stage};
        match &source {
            Supervisor::Gone | Supervisor::Connect { .. } => {
                Self::conflict("the container has just ended").with_source(source)
            }
            Supervisor::Failed(failure) if failure.stage == Stage::State => {
                Self::conflict(failure.text.clone())
            }
            Supervisor::Failed(failure) if failure.stage == Stage::NotFound => {
                Self::not_found(failure.text.clone())
            }
            Supervisor::Failed(failure) => Self::system(failure.text.clone()),
            _ => Self::system("cannot ask the container's supervisor").with_source(source),
        }
    }

    /// The same error, with what may help against it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.detail_mut().hint = Some(hint.into());
        self
    }

    /// The same error, with where it came from.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.detail_mut().source = Some(Arc::from(source.into()));
        self
    }

    /// The sort of this error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Conflict(_) => Kind::Conflict,
            Self::InvalidParameter(_) => Kind::InvalidParameter,
            Self::NotModified(_) => Kind::NotModified,
            Self::Forbidden(_) => Kind::Forbidden,
            Self::Unauthorized(_) => Kind::Unauthorized,
            Self::Unavailable(_) => Kind::Unavailable,
            Self::NotImplemented(_) => Kind::NotImplemented,
            Self::Cancelled(_) => Kind::Cancelled,
            Self::System(_) => Kind::System,
        }
    }

    /// What may help against it, if anything is known.
    pub fn hint(&self) -> Option<&str> {
        self.detail().hint.as_deref()
    }

    /// The text with those of its sources, as one line: what a client is shown.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            line.push_str(": ");
            line.push_str(plain(&cause.to_string()));
            next = cause.source();
        }
        line
    }

    /// The same, with what may help behind it.
    pub fn chain_with_hint(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{} ({hint})", self.chain()),
            None => self.chain(),
        }
    }

    fn detail(&self) -> &Detail {
        match self {
            Self::NotFound(d)
            | Self::Conflict(d)
            | Self::InvalidParameter(d)
            | Self::NotModified(d)
            | Self::Forbidden(d)
            | Self::Unauthorized(d)
            | Self::Unavailable(d)
            | Self::NotImplemented(d)
            | Self::Cancelled(d)
            | Self::System(d) => d,
        }
    }

    fn detail_mut(&mut self) -> &mut Detail {
        match self {
            Self::NotFound(d)
            | Self::Conflict(d)
            | Self::InvalidParameter(d)
            | Self::NotModified(d)
            | Self::Forbidden(d)
            | Self::Unauthorized(d)
            | Self::Unavailable(d)
            | Self::NotImplemented(d)
            | Self::Cancelled(d)
            | Self::System(d) => d,
        }
    }
}

/// Most of what goes wrong in the store is the machine's; what the caller named and is not there is told apart.
impl From<storage::Error> for Error {
    fn from(source: storage::Error) -> Self {
        use storage::Error as Storage;
        let kind = match &source {
            Storage::NotFound { .. } => Kind::NotFound,
            Storage::Ambiguous { .. } => Kind::InvalidParameter,
            Storage::Exists { .. } => Kind::Conflict,
            Storage::Busy { .. } | Storage::NoSpace { .. } | Storage::ReadOnly { .. } => Kind::Unavailable,
            Storage::Interrupted => Kind::Cancelled,
            Storage::Locked { .. } => Kind::Conflict,
            _ => Kind::System,
        };
        let mut error = Self::new(kind, source.to_string());
        // Its own text is ours; only what is below it remains a source.
        if let Some(below) = StdError::source(&source) {
            error.detail_mut().source = Some(Arc::new(Below(below.to_string())));
        }
        error
    }
}

/// The text of a cause that cannot be kept itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Below(String);

/// The text of an error of the operating system without Rust's number behind it.
fn plain(text: &str) -> &str {
    match text.rfind(" (os error ") {
        Some(end) if text.ends_with(')') => &text[..end],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let e = Error::io("write", Path::new("/x"), io).with_hint("buy another");
        assert_eq!(e.kind(), Kind::System);
        assert_eq!(e.to_string(), "cannot write /x");
        assert_eq!(e.chain(), "cannot write /x: disk on fire");
        assert_eq!(e.hint(), Some("buy another"));
        let none = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            Error::io("open", Path::new("/x"), none).chain(),
            "cannot open /x: No such file or directory"
        );
    }
}
