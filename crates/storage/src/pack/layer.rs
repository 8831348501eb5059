//! Layers whose digest is not known before they are there: what is imported, loaded from old archives, committed, squashed.
//!
//! A blob on its way lies in `content/new`, the directory that it is unpacked into beside the layers: what a process that died leaves
//! of both, the next one removes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci::Algorithm;
use oci::image::media_type;

use super::{Gzip, Tree, Writer};
use crate::content::Expected;
use crate::error::{At, Error, Result};
use crate::hash::Hasher;
use crate::images::ImageLayer;
use crate::layers::Target;
use crate::leases::Lease;
use crate::store::Store;
use crate::unpack::{Pipeline, Start, Unpacked};

/// Bytes that are handed on at once.
const GATHERED_BYTES: usize = 256 * 1024;
/// By how many of its first bytes a layer's compression is known.
const MAGIC_BYTES: usize = 4;

/// A file in `content/new`, removed unless it has become a blob.
pub(super) struct New {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl New {
    pub(super) fn make(store: &Store) -> Result<Self> {
        let path = store.path("content/new").join(store.unique());
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path).at("make", &path)?;
        Ok(Self { path, file })
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // Where it has become a blob it is not here any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A layer that is taken in as it comes, plain or compressed: the bytes become a blob, and at the same time a directory.
pub struct LayerSpool {
    store: Store,
    new: New,
    target: Target,
    pipeline: Option<Pipeline>,
    gathered: Vec<u8>,
    magic: Vec<u8>,
    size: u64,
    owner: String,
}

impl std::fmt::Debug for LayerSpool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerSpool").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins to take in a layer whose digest is not known. As with [`Store::write_layer_ahead`], unpacking follows.
    pub fn spool_layer(&self, lease: &Lease) -> Result<LayerSpool> {
        let new = New::make(self)?;
        let (target, pipeline) = unpack_new(self, Some(&new.path))?;
        Ok(LayerSpool {
            store: self.clone(),
            new,
            target,
            pipeline: Some(pipeline),
            gathered: Vec::with_capacity(GATHERED_BYTES),
            magic: Vec::new(),
            size: 0,
            owner: lease.owner(),
        })
    }

    /// Packs a tree as a layer: a blob, compressed by gzip, and the unpacked layer.
    pub fn pack_layer(&self, lease: &Lease, tree: Tree) -> Result<ImageLayer> {
        let (target, pipeline) = unpack_new(self, None)?;
        let new = New::make(self)?;
        let blob = Hashed { file: &new.file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let both = Both { pipeline: &pipeline, gzip: Gzip::new(blob).at("compress into", &new.path)? };
        let written = Writer::new(io::BufWriter::with_capacity(GATHERED_BYTES, both));
        let packed = tree.pack(written).and_then(|buffer| {
            let both = buffer.into_inner().map_err(|error| wrapped(error.into_error(), &new.path))?;
            both.gzip.finish().at("write", &new.path)
        });
        let Hashed { hasher, size, .. } = match packed {
            Ok(hashed) => hashed,
            // The threads know better why they have given up.
            Err(Error::Interrupted) => return Err(pipeline.finish().err().unwrap_or(Error::Interrupted)),
            Err(error) => {
                pipeline.abort();
                return Err(error);
            }
        };
        let unpacked = pipeline.finish()?;
        let layer = ImageLayer {
            digest: hasher.finish()?,
            size,
            media_type: media_type::OCI_LAYER_GZIP.to_owned(),
            diff_id: unpacked.diff_id.clone(),
        };
        add(self, &lease.owner(), &layer, &unpacked, &target, &new.path)?;
        Ok(layer)
    }
}

/// Unpacks what is sent, or what is written to the file `behind`.
fn unpack_new(store: &Store, behind: Option<&Path>) -> Result<(Target, Pipeline)> {
    let (target, root) = Target::make(store)?;
    let pipeline = Pipeline::start(Start {
        file: behind.unwrap_or(Path::new("/dev/null")),
        file_bytes: 0,
        follow: behind.is_some(),
        algorithm: Algorithm::Sha256,
        target: root,
        limits: store.limits().clone(),
    })?;
    Ok((target, pipeline))
}

/// Makes the blob and the layer, both or neither.
fn add(
    store: &Store,
    owner: &str,
    layer: &ImageLayer,
    unpacked: &Unpacked,
    target: &Target,
    blob: &Path,
) -> Result<()> {
    let expected =
        Expected { digest: layer.digest.clone(), size: layer.size, media_type: layer.media_type.clone() };
    store.transaction(|tx| {
        tx.add_layer(unpacked, target, owner)?;
        tx.add_blob_for(&expected, Some(&layer.diff_id), blob, owner)
    })
}

impl LayerSpool {
    /// Takes the next bytes. Waits while the disk is behind.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let missing = MAGIC_BYTES.saturating_sub(self.magic.len()).min(bytes.len());
        self.magic.extend_from_slice(&bytes[..missing]);
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let take = bytes.len().min(GATHERED_BYTES - self.gathered.len());
            self.gathered.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.gathered.len() == GATHERED_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(pipeline) = &self.pipeline else { return Err(Error::Interrupted) };
        self.new.file.write_all(&self.gathered).at("write", &self.new.path)?;
        let sent = pipeline.send(&self.gathered);
        self.gathered.clear();
        match sent {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure()),
        }
    }

    /// Why the threads gave up.
    fn failure(&mut self) -> Error {
        match self.pipeline.take().map(Pipeline::finish) {
            Some(Err(error)) => error,
            Some(Ok(_)) | None => Error::Interrupted,
        }
    }

    /// All of it has come: makes it a blob and a layer. The media type is that of how it came.
    pub fn commit(mut self) -> Result<ImageLayer> {
        self.flush()?;
        let Some(pipeline) = self.pipeline.take() else { return Err(Error::Interrupted) };
        let unpacked = pipeline.finish()?;
        let media_type = match self.magic.as_slice() {
            [0x1f, 0x8b, ..] => media_type::DOCKER_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => media_type::DOCKER_LAYER_ZSTD,
            _ => media_type::DOCKER_LAYER,
        };
        let layer = ImageLayer {
            digest: unpacked.digest.clone(),
            size: self.size,
            media_type: media_type.to_owned(),
            diff_id: unpacked.diff_id.clone(),
        };
        add(&self.store, &self.owner, &layer, &unpacked, &self.target, &self.new.path)?;
        Ok(layer)
    }
}

impl Drop for LayerSpool {
    fn drop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.abort();
        }
    }
}

/// A file whose bytes are hashed and counted as they are written.
pub(super) struct Hashed<'a> {
    pub(super) file: &'a File,
    pub(super) hasher: Hasher,
    pub(super) size: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written here is unpacked, and compressed.
struct Both<'a> {
    pipeline: &'a Pipeline,
    gzip: Gzip<Hashed<'a>>,
}

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pipeline.send(bytes).map_err(io::Error::other)?;
        self.gzip.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of our own errors that came through a writer, or one of writing `path`.
pub(super) fn wrapped(error: io::Error, path: &Path) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::io("write", path, error),
    }
}

impl ImageLayer {
    /// The same layer with the media type that OCI has for Docker's.
    pub fn in_oci(mut self) -> Self {
        let oci = match self.media_type.as_str() {
            media_type::DOCKER_LAYER => media_type::OCI_LAYER,
            media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
            media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
            _ => return self,
        };
        oci.clone_into(&mut self.media_type);
        self
    }
}
