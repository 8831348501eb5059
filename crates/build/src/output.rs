//! Where a build's result goes: into the store, to a registry, to the client; and what of the cache goes with it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use oci::{Digest, Platform, Reference};
use tokio::sync::mpsc;

use crate::request::{SourceError, Task};
use crate::suggest;

/// Pieces of an archive on their way to the client, each of some hundred kilobytes.
pub const PIECES_MAX: usize = 4;

/// What compresses a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packer {
    /// Nothing.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// By what.
    pub by: Packer,
    /// How hard; what is usual if nothing is said.
    pub level: Option<u32>,
    /// Whether layers that are compressed by it already, those of the base image among them, are compressed again.
    pub force: bool,
}

/// What an annotation is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The manifest of a platform.
    Manifest,
    /// The index.
    Index,
    /// What the index says of a manifest.
    ManifestDescriptor,
    /// What an archive's `index.json` says of the index.
    IndexDescriptor,
}

/// A remark in an image's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// What it is of.
    pub subject: Subject,
    /// The platform whose document it is in; every one's if there is none.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// How an image's documents and layers are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Whether media types are Docker's instead of OCI's.
    pub docker_types: bool,
    /// How layers are compressed; as they are if nothing is said.
    pub packing: Option<Packing>,
    /// Remarks.
    pub annotations: Vec<Annotation>,
    /// Whether files that are newer than `SOURCE_DATE_EPOCH` get its time.
    pub rewrite_timestamps: bool,
}

/// A name that an image is to have, with a tag.
///
/// # Errors
/// It cannot be one; what is wrong with it, and what it may be called instead.
pub fn image_name(tag: &str) -> Result<Reference, String> {
    let parsed = Reference::parse_named(tag).map_err(|error| {
        let lower = suggest::image_name(tag);
        let hint = lower.map(|name| format!(": names of repositories are in small letters: {name}"));
        format!("invalid tag {tag:?}: {error}{}", hint.unwrap_or_default())
    })?;
    if parsed.digest().is_some() {
        return Err("refusing to create a tag with a digest reference".to_owned());
    }
    Ok(parsed.or_latest())
}

/// An image in the engine's store, or at a registry, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOutput {
    /// Its names.
    pub names: Vec<Reference>,
    /// How it is written.
    pub form: Form,
    /// Whether it is kept in the store, also if it has no name.
    pub store: bool,
    /// What a name begins with that it gets where it has none; its digest is the rest.
    pub dangling_prefix: Option<String>,
    /// Whether it gets names with its digest as well.
    pub name_canonical: bool,
    /// Whether it is pushed to the registries of its names.
    pub push: bool,
    /// Whether it is pushed without a tag.
    pub push_by_digest: bool,
}

/// An image as an archive, or as blobs in a store of the client's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveOutput {
    /// Whether Docker's documents are in it as well.
    pub docker: bool,
    /// Names that the archive's image gets when it is loaded.
    pub names: Vec<Reference>,
    /// How it is written.
    pub form: Form,
    /// Whether it is a directory of the client, by the session's store of this output, instead of an archive.
    pub directory: bool,
}

/// The files of the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesOutput {
    /// Whether they go as one archive.
    pub archive: bool,
    /// Whether each platform has a directory of its own; only where there are several if nothing is said.
    pub split: Option<bool>,
    /// What the names of attestations begin with.
    pub attestation_prefix: String,
}

/// One place that the result goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image.
    Image(ImageOutput),
    /// An archive.
    Archive(ArchiveOutput),
    /// Files.
    Files(FilesOutput),
}

/// Where a cache lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// In an image's own configuration.
    Inline,
    /// At a registry, under this name.
    Registry(String),
    /// In a directory of the client, which it calls so.
    Local {
        /// What the client calls it.
        store: String,
        /// The manifest in it that is read; the one of the tag if there is none.
        digest: Option<String>,
        /// The tag in its `index.json`.
        tag: String,
    },
}

/// A cache that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOutput {
    /// Where to.
    pub place: CachePlace,
    /// Whether all steps are in it: of a build of several stages, also those whose files are not in the result.
    pub max: bool,
    /// Whether it is an image's manifest, as registries want it, instead of an index.
    pub image_manifest: bool,
    /// Whether media types are Docker's instead of OCI's.
    pub docker_types: bool,
    /// How layers are compressed.
    pub packing: Option<Packing>,
    /// Whether the build succeeds though this fails.
    pub ignore_error: bool,
}

/// All that is to be done with a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    /// Where it goes.
    pub outputs: Vec<Output>,
    /// Caches that are written.
    pub caches: Vec<CacheOutput>,
}

/// How a provenance is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Whether all is said: arguments, the Dockerfile, the steps.
    pub max: bool,
    /// Whether it is of SLSA's version 1.
    pub v1: bool,
    /// Who has built, as a URI.
    pub builder_id: String,
    /// Whether whoever asks says that the build can be repeated.
    pub reproducible: bool,
    /// Whether only images have it, not files: what clients ask for where nobody has said anything.
    pub inline_only: bool,
}

/// What is to be stated of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attestations {
    /// How it came to be.
    pub provenance: Option<Provenance>,
    /// What packages are in it.
    pub sbom: bool,
    /// Where the context came from: `source`, `revision`, and directories in it.
    pub vcs: BTreeMap<String, String>,
    /// The options that the client has given, for a provenance.
    pub options: BTreeMap<String, String>,
}

/// A file that exists nowhere yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its name, without directories.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Files of one platform on their way to the client.
#[derive(Debug)]
pub struct Directory {
    /// The directory that they get; none for the top.
    pub name: Option<String>,
    /// The files.
    pub files: OwnedFd,
    /// Further files beside them.
    pub written: Vec<Written>,
    /// When all of them were changed, in seconds since 1970; nothing where each has a time of its own.
    pub changed_s: Option<i64>,
}

/// A piece of an archive; an error ends it.
pub type Piece = Result<Vec<u8>, SourceError>;

/// What a client takes of a build, and the stores of blobs that it has. Each output has a number: its place among those that were asked
/// for.
pub trait Client: Send + Sync {
    /// Takes an archive, of which something is told beside it.
    fn archive<'a>(
        &'a self,
        output: usize,
        about: BTreeMap<String, String>,
        pieces: mpsc::Receiver<Piece>,
    ) -> Task<'a, Result<(), SourceError>>;

    /// Takes files.
    fn files<'a>(&'a self, output: usize, directories: Vec<Directory>) -> Task<'a, Result<(), SourceError>>;

    /// Gives a blob of one of its stores, which has to be of this size: whoever reads it looks whether it is what it is called by.
    fn read_blob<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
        size: u64,
    ) -> Task<'a, Result<mpsc::Receiver<Piece>, SourceError>>;

    /// The size of a blob in one of its stores; nothing if it is not there.
    fn blob_size<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
    ) -> Task<'a, Result<Option<u64>, SourceError>>;

    /// Takes a blob into one of its stores.
    fn write_blob<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
        size: u64,
        pieces: mpsc::Receiver<Piece>,
    ) -> Task<'a, Result<(), SourceError>>;
}
