//! Unpacked layers: one directory each, `layers/<number>`, called by diff id.
//!
//! A layer's directory is independent of the layers below it, so one serves every image that has the layer, and the layers
//! of an image are unpacked side by side. The number is short because the kernel wants all lower directories
//! of a mount in one page; it is never given twice.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci::Digest;
use rusqlite::{OptionalExtension, params};
use sys::path::Root;

use crate::content::{Class, Expected, RawIngest};
use crate::error::{At, Error, Result};
use crate::leases::Lease;
use crate::store::{Store, now_ns};
use crate::transaction::{Resource, Tx};
use crate::unpack::{Pipeline, Start, Unpacked};

/// Layers of one image: overlay takes 500 lower directories, of which we may need one ourselves.
pub const IMAGE_LAYERS_MAX: usize = 499;

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its number, which is its directory's name.
    pub id: i64,
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes on the disk, as estimated while it was written.
    pub disk_bytes: u64,
    /// Directories whose mode and owner the layer does not say.
    pub implied: Vec<PathBuf>,
}

/// A directory that a layer is being unpacked into, removed unless it becomes one and so is elsewhere.
pub(crate) struct Target {
    store: Store,
    pub(crate) path: PathBuf,
}

impl Target {
    pub(crate) fn make(store: &Store) -> Result<(Self, Root)> {
        let path = store.path("layers").join(format!("new-{}", store.unique()));
        fs::DirBuilder::new().mode(0o700).create(&path).at("make", &path)?;
        let target = Self { store: store.clone(), path };
        let root = Root::open(&target.path).at("open", &target.path)?;
        // What the root is when the layer does not say.
        sys::fsx::chmod(&root, sys::path::Mode::from_raw_mode(0o755)).at("protect", &target.path)?;
        Ok((target, root))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Err(error) = self.store.discard(&self.path) {
            tracing::warn!(%error, "left behind");
        }
    }
}

/// A layer that is coming in: its bytes become a blob, and at the same time a directory.
///
/// Dropped without [`LayerWriter::commit`], the directory goes and the blob's bytes stay for the next try.
pub struct LayerWriter {
    raw: RawIngest,
    pipeline: Option<Pipeline>,
    target: Target,
    lease_owner: String,
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LayerWriter").field("expected", &self.raw.expected).finish_non_exhaustive()
    }
}

impl Store {
    /// The unpacked layer with this diff id, if it is here.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        self.transaction(|tx| tx.layer(diff_id))
    }

    /// Begins to take in a layer, or goes on with it. [`Error::Exists`] where the blob is here: then
    /// [`Store::unpack_blob`] makes the layer of it. [`Error::Busy`] where somebody else takes it in.
    pub fn write_layer(&self, lease: &Lease, expected: Expected) -> Result<LayerWriter> {
        self.layer_writer(lease, expected, false)
    }

    /// As [`Store::write_layer`]; bytes are taken as fast as the disk takes them, and what unpacks them follows in the file. So layers that come
    /// one after the other are unpacked side by side, if the next is begun before [`LayerWriter::commit`] of this one.
    pub fn write_layer_ahead(&self, lease: &Lease, expected: Expected) -> Result<LayerWriter> {
        self.layer_writer(lease, expected, true)
    }

    fn layer_writer(&self, lease: &Lease, expected: Expected, follow: bool) -> Result<LayerWriter> {
        check_media_type(&expected.media_type)?;
        let raw = RawIngest::open(self, lease, expected)?;
        let (target, root) = Target::make(self)?;
        let pipeline = start(&raw, root, follow)?;
        Ok(LayerWriter { raw, pipeline: Some(pipeline), target, lease_owner: lease.owner() })
    }

    /// Unpacks a layer whose blob is here, unless it is unpacked already. `expected` is the diff id that the image's
    /// configuration promises.
    pub fn unpack_blob(&self, lease: &Lease, blob: &Digest, expected: Option<&Digest>) -> Result<Layer> {
        let info = self.blob_info(blob)?.ok_or_else(|| Error::not_found("blob", blob.as_str()))?;
        if let Some(diff_id) = expected.or(info.diff_id.as_ref())
            && let Some(layer) = self.layer(diff_id)?
        {
            lease.hold(&Resource::Layer(diff_id.clone()))?;
            return Ok(layer);
        }
        let (target, root) = Target::make(self)?;
        let pipeline = Pipeline::start(Start {
            file: &self.blob_path(blob),
            file_bytes: info.size,
            follow: false,
            algorithm: blob.algorithm(),
            target: root,
            limits: self.limits().clone(),
        })?;
        let unpacked = pipeline.finish()?;
        check(blob, &unpacked.digest)?;
        if let Some(expected) = expected {
            check(expected, &unpacked.diff_id)?;
        }
        self.transaction(|tx| {
            tx.sql.execute(
                "UPDATE blobs SET diff_id = ? WHERE digest = ?",
                params![unpacked.diff_id.as_str(), blob.as_str()],
            )?;
            tx.add_layer(&unpacked, &target, &lease.owner())
        })
    }

    /// Unpacks an archive that is no blob: what comes from `import` or `load`, say. Returns the layer.
    pub fn unpack_archive(&self, lease: &Lease, mut archive: impl Read) -> Result<Layer> {
        let (target, root) = Target::make(self)?;
        let pipeline = Pipeline::start(Start {
            file: Path::new("/dev/null"),
            file_bytes: 0,
            follow: false,
            algorithm: oci::Algorithm::Sha256,
            target: root,
            limits: self.limits().clone(),
        })?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if pipeline.send(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    pipeline.abort();
                    return Err(Error::io("read", Path::new("archive"), error));
                }
            }
        }
        let unpacked = pipeline.finish()?;
        self.transaction(|tx| tx.add_layer(&unpacked, &target, &lease.owner()))
    }
}

fn start(raw: &RawIngest, target: Root, follow: bool) -> Result<Pipeline> {
    Pipeline::start(Start {
        file: &raw.data_path(),
        file_bytes: raw.offset(),
        follow,
        algorithm: raw.expected.digest.algorithm(),
        target,
        limits: raw.store.limits().clone(),
    })
}

fn check(expected: &Digest, actual: &Digest) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::DigestMismatch { expected: expected.clone(), actual: actual.clone() })
}

/// The content says by itself how it is compressed; the media type is only asked whether it is a layer at all.
fn check_media_type(media_type: &str) -> Result<()> {
    let encrypted = media_type.contains("encrypted");
    if encrypted || !matches!(Class::of(media_type), Class::Layer | Class::Other) {
        return Err(Error::UnsupportedMediaType { media_type: media_type.to_owned() });
    }
    Ok(())
}

impl LayerWriter {
    /// Ends it for good: what it began nobody goes on with.
    pub fn give_up(mut self) {
        self.raw.give_up();
    }

    /// Bytes that are already there: ask the source for what follows.
    pub fn offset(&self) -> u64 {
        self.raw.offset()
    }

    /// Takes the next bytes. Waits while decompression and the disk are behind.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(pipeline) = &self.pipeline else { return Err(Error::Interrupted) };
        match self.raw.write(bytes, |piece| pipeline.send(piece)) {
            Err(Error::Interrupted) => Err(self.failure()),
            other => other,
        }
    }

    /// Why the threads gave up. What was downloaded is to blame, so it goes as well, unless the disk is full.
    fn failure(&mut self) -> Error {
        let outcome = self.pipeline.take().map(Pipeline::finish);
        let error = match outcome {
            Some(Err(error)) => error,
            Some(Ok(_)) | None => Error::Interrupted,
        };
        if matches!(
            error,
            Error::InvalidLayer { .. } | Error::Limit { .. } | Error::UnsupportedMediaType { .. }
        ) {
            self.raw.spoil();
        }
        error
    }

    /// Throws away what is there and begins anew: the source cannot go on in the middle.
    pub fn restart(self, lease: &Lease) -> Result<Self> {
        let mut this = self;
        let (store, expected) = (this.raw.store.clone(), this.raw.expected.clone());
        this.raw.spoil();
        drop(this);
        store.write_layer(lease, expected)
    }

    /// Verifies everything, and makes it a blob and a layer. `diff_id` is what the image's configuration promises.
    /// With bytes missing, the blob stays for the next try; with a wrong digest, nothing does.
    pub fn commit(mut self, diff_id: Option<&Digest>) -> Result<Layer> {
        self.raw.check_complete()?;
        let Some(pipeline) = self.pipeline.take() else { return Err(Error::Interrupted) };
        let unpacked = match self.raw.flush(|piece| pipeline.send(piece)) {
            Ok(()) | Err(Error::Interrupted) => pipeline.finish(),
            Err(error) => {
                pipeline.abort();
                return Err(error);
            }
        };
        let verified = unpacked.and_then(|unpacked| {
            check(&self.raw.expected.digest, &unpacked.digest)?;
            diff_id.map_or(Ok(()), |expected| check(expected, &unpacked.diff_id))?;
            Ok(unpacked)
        });
        let unpacked = match verified {
            Ok(unpacked) => unpacked,
            Err(error) => {
                if !matches!(error, Error::NoSpace { .. } | Error::Io { .. } | Error::ReadOnly { .. }) {
                    self.raw.spoil();
                }
                return Err(error);
            }
        };
        let (raw, target, owner) = (&self.raw, &self.target, &self.lease_owner);
        let layer = raw.store.transaction(|tx| {
            let layer = tx.add_layer(&unpacked, target, owner)?;
            tx.add_blob_for(&raw.expected, Some(&unpacked.diff_id), &raw.data_path(), owner)?;
            Ok(layer)
        });
        if layer.is_ok() {
            raw.clear();
        }
        layer
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.abort();
        }
    }
}

impl Tx<'_> {
    /// The unpacked layer with this diff id, if it is here. One that a loss of power may have damaged is not.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let row: Option<(i64, i64, i64, i64, Vec<u8>)> = self
            .sql
            .prepare_cached(
                "SELECT id, entries, bytes, disk_bytes, implied FROM layers
                 WHERE diff_id = ? AND (unsynced_boot IS NULL OR unsynced_boot = ?)",
            )?
            .query_row([diff_id.as_str(), self.store.boot()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()?;
        let Some((id, entries, bytes, disk_bytes, implied)) = row else { return Ok(None) };
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(Some(Layer {
            id,
            diff_id: diff_id.clone(),
            entries: unsigned(entries),
            bytes: unsigned(bytes),
            disk_bytes: unsigned(disk_bytes),
            implied: split_paths(&implied),
        }))
    }

    pub(crate) fn add_layer(&self, unpacked: &Unpacked, target: &Target, lease_owner: &str) -> Result<Layer> {
        self.add_ref(crate::leases::OWNER, lease_owner, &Resource::Layer(unpacked.diff_id.clone()))?;
        if let Some(layer) = self.layer(&unpacked.diff_id)? {
            return Ok(layer);
        }
        let applied = &unpacked.applied;
        let row = LayerRow {
            key: unpacked.diff_id.as_str(),
            entries: applied.entries,
            bytes: applied.bytes,
            disk_bytes: applied.disk_bytes,
            implied: &applied.implied,
        };
        let id = self.place_layer(&row, &target.path)?;
        Ok(Layer {
            id,
            diff_id: unpacked.diff_id.clone(),
            entries: applied.entries,
            bytes: applied.bytes,
            disk_bytes: applied.disk_bytes,
            implied: applied.implied.clone(),
        })
    }

    /// Gives the directory `from` its number and its row. Where a loss of power has left a row in doubt, that one's
    /// number: snapshots know the layer by it.
    pub(crate) fn place_layer(&self, row: &LayerRow<'_>, from: &Path) -> Result<i64> {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let id = self
            .sql
            .prepare_cached(
                "INSERT INTO layers (diff_id, entries, bytes, disk_bytes, implied, created_ns, unsynced_boot)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (diff_id) DO UPDATE SET entries = ?2, bytes = ?3, disk_bytes = ?4, implied = ?5,
                 unsynced_boot = ?7 RETURNING id",
            )?
            .query_row(
                params![
                    row.key,
                    signed(row.entries),
                    signed(row.bytes),
                    signed(row.disk_bytes),
                    join_paths(row.implied),
                    now_ns(),
                    self.store.boot()
                ],
                |row| row.get(0),
            )?;
        let path = self.store.layer_path(id);
        // What is in doubt, or what a transaction that failed could not move back.
        self.store.discard(&path)?;
        self.move_to(from, &path)?;
        Ok(id)
    }
}

/// A layer's row but for its number.
pub(crate) struct LayerRow<'a> {
    /// The diff id, or what a layer of our own is called by.
    pub key: &'a str,
    pub entries: u64,
    pub bytes: u64,
    pub disk_bytes: u64,
    pub implied: &'a [PathBuf],
}

/// Paths are bytes and have no zero byte.
fn join_paths(paths: &[PathBuf]) -> Vec<u8> {
    paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect()
}

pub(crate) fn split_paths(joined: &[u8]) -> Vec<PathBuf> {
    let Some(joined) = joined.strip_suffix(b"\0") else { return Vec::new() };
    joined.split(|byte| *byte == 0).map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
}

impl Store {
    pub(crate) fn layer_path(&self, id: i64) -> PathBuf {
        self.path("layers").join(id.to_string())
    }
}
