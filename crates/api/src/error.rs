//! Errors: those of this crate, and the body by which the engine tells of its own.

record! {
    /// The body of every answer that is an error.
    pub struct Message {
        /// One line.
        #[serde(rename = "message")]
        pub message: String,
    }
}

/// What can be wrong with what a client sends. All of it is the client's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A version that is not of the form `1.2`.
    #[error("invalid API version '{0}'")]
    Version(String),
    /// A version before the oldest one spoken.
    #[error(
        "client version {0} is too old. Minimum supported API version is {min}, please upgrade your client to a newer version",
        min = crate::version::MIN
    )]
    TooOld(crate::ApiVersion),
    /// A version after the newest one spoken.
    #[error("client version {0} is too new. Maximum supported API version is {max}", max = crate::version::MAX)]
    TooNew(crate::ApiVersion),
    /// The `filters` query is not JSON of the known forms.
    #[error("invalid filter")]
    FilterSyntax,
    /// A filter that this list does not have.
    #[error("invalid filter '{0}'")]
    UnknownFilter(String),
    /// A filter's value that means nothing.
    #[error("invalid filter '{name}={value}'")]
    FilterValue {
        /// The filter.
        name: String,
        /// Its value.
        value: String,
    },
    /// Detach keys that cannot be typed.
    #[error("Invalid escape keys ({0}) provided")]
    DetachKeys(String),
    /// A point in time that cannot be understood.
    #[error("failed to parse value as time or duration: \"{0}\"")]
    Timestamp(String),
    /// A duration that cannot be understood.
    #[error("time: invalid duration \"{0}\"")]
    Duration(String),
    /// A frame of a kind that does not exist.
    #[error("unrecognized stream: {0}")]
    Stream(u8),
}
