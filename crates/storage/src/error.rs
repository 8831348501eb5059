//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the data root open.
    #[error("data root {path} is in use by another daemon", path = path.display())]
    Locked {
        /// The data root.
        path: PathBuf,
    },
    /// The filesystem cannot be written to.
    #[error("cannot {verb} {path}: the file system is read-only", path = path.display())]
    ReadOnly {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The disk, or our quota on it, is full.
    #[error("cannot {verb} {path}: no space left on device", path = path.display())]
    NoSpace {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The filesystem cannot limit what a directory occupies.
    #[error("the file system has no project quotas, or they are off")]
    NoQuota,
    /// Any other failure of a file operation.
    #[error("cannot {verb} {path}", path = path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The metadata cannot be read as such: it has to be restored or moved away.
    #[error("metadata {path} is damaged", path = path.display())]
    CorruptMetadata {
        /// The database's file.
        path: PathBuf,
        /// What the database said.
        source: Option<rusqlite::Error>,
    },
    /// The metadata was written by a newer version of this program.
    #[error("metadata {path} has version {found}, this program knows versions up to {known}", path = path.display())]
    NewerMetadata {
        /// The database's file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Any other failure of the database.
    #[error("metadata cannot be read or written")]
    Database {
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// A stored document is not what was put there.
    #[error("stored {what} {id} cannot be read")]
    CorruptRecord {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no such thing.
    #[error("no such {what}: {id}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// The identifier's beginning fits several.
    #[error("multiple {what}s found with provided prefix: {id}")]
    Ambiguous {
        /// What kind of thing.
        what: &'static str,
        /// The beginning that was given.
        id: String,
    },
    /// The identifier or name is taken.
    #[error("{what} {id} already exists")]
    Exists {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
        /// Who has it, where it is a name.
        holder: Option<String>,
    },
    /// A loss of power may have damaged a layer, and the blob that it came from is gone as well. It is whole again when an
    /// image that has it is pulled.
    #[error(
        "layer {diff_id} may be damaged by a loss of power and its blob is not here: pull its image again"
    )]
    LayerLost {
        /// The layer.
        diff_id: Digest,
    },
    /// Somebody else is writing the same content at this moment: wait and look again.
    #[error("{digest} is being written by another operation")]
    Busy {
        /// What is being written.
        digest: Digest,
    },
    /// Somebody else uses it at this moment, and only one may.
    #[error("{what} {id} is in use")]
    InUse {
        /// What kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// The content is not what its name says.
    #[error("unexpected digest of content: expected {expected}, got {actual}")]
    DigestMismatch {
        /// The digest promised.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The content is shorter or longer than promised.
    #[error("unexpected size of {digest}: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// Which content.
        digest: Digest,
        /// The size promised.
        expected: u64,
        /// What came; at least, where it was cut off.
        actual: u64,
    },
    /// One digest is claimed to be two different things.
    #[error("{digest} is used as {one} and as {other}")]
    TwoMeanings {
        /// The digest.
        digest: Digest,
        /// The one meaning.
        one: String,
        /// The other.
        other: String,
    },
    /// The layer is no valid archive, or one that is not to be unpacked.
    #[error("invalid layer: {reason}")]
    InvalidLayer {
        /// What is wrong, with the name of the entry.
        reason: String,
    },
    /// A limit that protects this machine was hit.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// The layer's compression or kind is not known here.
    #[error("unsupported layer media type: {media_type}")]
    UnsupportedMediaType {
        /// What was given.
        media_type: String,
    },
    /// A directory would have to give way to something else, or the other way round.
    #[error("cannot overwrite {there} {path:?} with {what} {into:?}")]
    Overwrite {
        /// What is there.
        there: &'static str,
        /// Where.
        path: String,
        /// What was to come.
        what: &'static str,
        /// Into which directory.
        into: String,
    },
    /// The operation was given up by the caller.
    #[error("interrupted")]
    Interrupted,
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says of a failed file operation what was tried, and where.
pub(crate) trait At<T> {
    /// Names verb and path.
    fn at(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::io(verb, path.as_ref(), source))
    }
}

impl Error {
    /// The error for a failed file operation.
    pub(crate) fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { verb, path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { verb, path },
            _ => Self::Io { verb, path, source },
        }
    }

    pub(crate) fn layer(reason: impl Into<String>) -> Self {
        Self::InvalidLayer { reason: reason.into() }
    }

    pub(crate) fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }

    /// Whether the thing asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = || PathBuf::from(crate::schema::FILE);
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::CorruptMetadata { path: path(), source: Some(source) }
            }
            Some(ErrorCode::DiskFull) => Self::NoSpace { verb: "write", path: path() },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { verb: "write", path: path() },
            _ => Self::Database { source },
        }
    }
}
