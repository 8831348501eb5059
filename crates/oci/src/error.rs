//! What can be wrong with a document or a name.

use crate::digest::Digest;

/// What can be wrong with a document or a name. Messages that scripts match on are Docker's, to the letter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no reference.
    #[error("invalid reference format")]
    InvalidReference,
    /// The repository's name has capital letters.
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    UppercaseName {
        /// The repository's name as it was normalised.
        name: String,
    },
    /// The name looks like an image id.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    HexName {
        /// The name as given.
        name: String,
    },
    /// The repository's name is too long.
    #[error("repository name must not be more than 255 characters")]
    NameTooLong,
    /// The tag does not match the grammar.
    #[error("invalid tag format")]
    InvalidTag,
    /// The text is no digest.
    #[error("invalid checksum digest format")]
    InvalidDigest,
    /// The digest's hash function is not known.
    #[error("unsupported digest algorithm")]
    UnsupportedAlgorithm,
    /// The digest is too short or too long for its hash function.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// The text is no platform.
    #[error("\"{text}\": {reason}")]
    InvalidPlatform {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The document is larger than any honest one.
    #[error("{what} is too large: {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A field of the document does not hold what it should.
    #[error("invalid {what}: {field}")]
    Field {
        /// Which document.
        what: &'static str,
        /// The path to the field.
        field: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The document is not the JSON that it should be.
    #[error("invalid {what}")]
    Json {
        /// Which document.
        what: &'static str,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The document could be read as two different things.
    #[error("ambiguous manifest: {reason}")]
    Ambiguous {
        /// What contradicts what.
        reason: String,
    },
    /// The document's media type is not one that is understood.
    #[error("unsupported manifest media type \"{media_type}\"")]
    UnsupportedMediaType {
        /// The media type.
        media_type: String,
    },
    /// A manifest of a format that was given up years ago.
    #[error(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed; \
         suggest the author to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2"
    )]
    SchemaOne,
    /// The image has more layers than the kernel can stack.
    #[error("max depth exceeded")]
    TooManyLayers {
        /// How many it has.
        layers: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The manifest's layers and the configuration's do not belong together.
    #[error("image has {layers} layers, but its configuration names {diff_ids}")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Uncompressed digests in the configuration.
        diff_ids: usize,
    },
    /// No entry of an index suits the platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoMatchingPlatform {
        /// The platform that was asked for.
        platform: String,
    },
    /// The digest of a document is not the one that was asked for.
    #[error("unexpected digest {actual}, expected {expected}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
}
