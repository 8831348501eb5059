//! What can go wrong between us and a registry, in the words scripts already match on.

use std::path::PathBuf;
use std::sync::Arc;

/// The registry crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between us and a registry; variants by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry knows the repository's name, but not this tag or digest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestNotFound {
        /// The reference as a user writes it.
        reference: String,
        /// The registry's own words.
        detail: String,
    },
    /// The registry does not know the repository.
    #[error("repository {repository} not found: {detail}")]
    RepositoryNotFound {
        /// The repository as a user writes it.
        repository: String,
        /// The registry's own words.
        detail: String,
    },
    /// The registry does not say whether the repository exists: logging in may help.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {detail}"
    )]
    AccessDenied {
        /// The repository as a user writes it.
        repository: String,
        /// The registry's own words.
        detail: String,
    },
    /// The registry does not let this user write there.
    #[error("{detail}")]
    PushDenied {
        /// The repository as a user writes it.
        repository: String,
        /// The registry's own words.
        detail: String,
    },
    /// Of an image that is to be pushed not everything is here, and the registry does not have it either.
    #[error("missing content: content digest {digest}: not found")]
    Missing {
        /// What is not here.
        digest: oci::Digest,
        /// Whether it is a manifest of an index; else it is what an image consists of.
        of_index: bool,
    },
    /// The credentials were refused, or there were none.
    #[error("{method} \"{url}\": {detail}")]
    Unauthorized {
        /// `Get`, `Head`, `Post` …
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The registry's own words, or ours.
        detail: String,
    },
    /// The image's documents cannot be used: malformed, ambiguous, too old, not for this platform.
    #[error(transparent)]
    Image(Arc<oci::Error>),
    /// No conversation took place: name, route, port or certificate.
    #[error("{method} \"{url}\": {detail}")]
    Unreachable {
        /// `Get`, `Head`, `Post` …
        method: &'static str,
        /// What was asked for.
        url: String,
        /// Why, in the words of Go's network library where it has some.
        detail: String,
    },
    /// The conversation broke off, more often than we are willing to try.
    #[error("{method} \"{url}\": connection lost after {tries} attempts: {detail}")]
    Broken {
        /// `Get`, `Head`, `Post` …
        method: &'static str,
        /// What was asked for.
        url: String,
        /// How often it was tried without progress.
        tries: u32,
        /// How it broke the last time.
        detail: String,
    },
    /// The registry asks us to come back later.
    #[error("toomanyrequests: {detail}")]
    TooManyRequests {
        /// The registry's own words.
        detail: String,
    },
    /// The registry answered with a status that ends the matter.
    #[error("received unexpected HTTP status for {method} \"{url}\": {status}: {detail}")]
    Status {
        /// `Get`, `Head`, `Post` …
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, or the status' reason.
        detail: String,
    },
    /// The registry's answer makes no sense.
    #[error("invalid answer from registry {host}: {what}")]
    Protocol {
        /// The registry.
        host: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// The content is not what its digest or size said.
    #[error("{what} failed verification: expected {expected}, got {found}")]
    Mismatch {
        /// Which content.
        what: String,
        /// The digest or size it should have.
        expected: String,
        /// What it has.
        found: String,
    },
    /// A limit was hit that keeps a hostile registry from using up this machine.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// Something that exists, but that we do not do.
    #[error("{what} is not supported")]
    Unsupported {
        /// Its name.
        what: String,
    },
    /// A layer could not be taken in: it is damaged, breaks a limit, or the disk is full.
    #[error("failed to register layer")]
    Layer(#[source] Arc<storage::Error>),
    /// The local store failed, or refuses a document.
    #[error(transparent)]
    Store(Arc<storage::Error>),
    /// The administrator does not want anything from there.
    #[error("{reference} is blocked by {}", path.display())]
    Blocked {
        /// What was asked for.
        reference: String,
        /// The settings that say so.
        path: PathBuf,
    },
    /// The administrator wants signatures that the image does not have.
    #[error("{reference} may not be pulled by the policy {}: {why}", policy.display())]
    Refused {
        /// What was asked for.
        reference: String,
        /// The policy.
        policy: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Settings of registries cannot be read.
    #[error("cannot use {}: {why}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificates or keys for a registry cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// An option does not mean anything.
    #[error("invalid {option}: {why}")]
    Option {
        /// The option's name and value.
        option: String,
        /// Why.
        why: String,
    },
    /// Nobody waits for the result any more.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Layer(cause) | Self::Store(cause) if cause.is_no_space())
    }
}

impl From<oci::Error> for Error {
    fn from(error: oci::Error) -> Self {
        Self::Image(Arc::new(error))
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// The chain of causes in one line, the way errors that cross a task are kept.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}
