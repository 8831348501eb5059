//! Blobs: bytes called by their digest, kept exactly as they came.
//!
//! A blob is written as an [`Ingest`] under `content/ingest/<digest>/`, which survives the process: begun again, it goes on
//! where it was. Only [`Ingest::commit`], which has verified size and digest, moves it to `content/blobs/<function>/<digits>`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::Digest;
use rusqlite::{OptionalExtension, params};

use crate::error::{At, Error, Result};
use crate::hash::{self, Hasher};
use crate::leases::Lease;
use crate::store::{Claim, Store, now_ns};
use crate::transaction::{Resource, Tx};

/// How long an abandoned download may be gone on with: a week of holidays, not for ever.
const INGEST_AGE_MAX: Duration = Duration::from_secs(8 * 24 * 60 * 60);
/// From when on somebody who wants room does not want it: one that waits for a network to come back is younger.
const INGEST_AGE_PRUNED: Duration = Duration::from_secs(60 * 60);

/// Bytes gathered before they are written: network reads are small.
const GATHERED_BYTES: usize = 128 * 1024;

/// What content is used as. One digest cannot be two of these: whoever finds a manifest that is
/// also said to be a layer is being lied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An image index.
    Index,
    /// An image manifest.
    Manifest,
    /// An image configuration.
    Config,
    /// A layer.
    Layer,
    /// Anything else.
    Other,
}

impl Class {
    /// What content of this media type is used as.
    pub fn of(media_type: &str) -> Self {
        match media_type {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Self::Manifest,
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
                Self::Config
            }
            layer
                if layer.starts_with("application/vnd.oci.image.layer.")
                    || layer.starts_with("application/vnd.docker.image.rootfs.") =>
            {
                Self::Layer
            }
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Other => "other",
        }
    }
}

/// Content that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// Its media type; may be empty.
    pub media_type: String,
}

/// A blob in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// If it is a layer that has been unpacked, the digest of its uncompressed archive.
    pub diff_id: Option<Digest>,
}

impl Store {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("content/blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    fn ingest_path(&self, digest: &Digest) -> PathBuf {
        self.path("content/ingest").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Size and kind of a blob, if it is here.
    pub fn blob_info(&self, digest: &Digest) -> Result<Option<BlobInfo>> {
        self.transaction(|tx| tx.blob_info(digest))
    }

    /// Opens a blob for reading. It stays readable while open, whatever happens to the store.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found("blob", digest.as_str()))
            }
            other => other.at("open", &path),
        }
    }

    /// The content of a blob that is expected to be small, verified. Larger than `bytes_max` is an error.
    pub fn read_blob(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let mut content = Vec::new();
        self.open_blob(digest)?
            .take(bytes_max.saturating_add(1))
            .read_to_end(&mut content)
            .at("read", &path)?;
        if content.len() as u64 > bytes_max {
            return Err(Error::Limit { what: "size of a document", limit: bytes_max });
        }
        let actual = hash::digest_like(digest, &content)?;
        if actual != *digest {
            return Err(Error::DigestMismatch { expected: digest.clone(), actual });
        }
        Ok(content)
    }

    /// Puts a small blob whose content is at hand: a manifest, a configuration. Its digest is returned.
    pub fn put_blob(&self, lease: &Lease, media_type: &str, content: &[u8]) -> Result<Digest> {
        let digest = hash::digest(content);
        self.put_expected_blob(
            lease,
            &Expected { digest: digest.clone(), size: content.len() as u64, media_type: media_type.into() },
            content,
        )?;
        Ok(digest)
    }

    /// Puts a small blob that came from elsewhere: it must be what was expected.
    pub fn put_expected_blob(&self, lease: &Lease, expected: &Expected, content: &[u8]) -> Result<()> {
        if content.len() as u64 != expected.size {
            return Err(size_mismatch(expected, content.len() as u64));
        }
        let actual = hash::digest_like(&expected.digest, content)?;
        if actual != expected.digest {
            return Err(Error::DigestMismatch { expected: expected.digest.clone(), actual });
        }
        let temporary = self.path("content/new").join(self.unique());
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(content));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(Error::io("write", &self.blob_path(&expected.digest), error));
        }
        let added = self.transaction(|tx| tx.add_blob(expected, None, &temporary, lease));
        if added.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        added
    }

    /// Begins to write a blob, or goes on with it. Where it is already here, [`Error::Exists`], and the lease keeps it; where somebody else is
    /// writing it, [`Error::Busy`].
    pub fn ingest(&self, lease: &Lease, expected: Expected) -> Result<Ingest> {
        let raw = RawIngest::open(self, lease, expected)?;
        let mut hasher = Hasher::new(raw.expected.digest.algorithm());
        raw.replay(|piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(Ingest { raw, hasher, lease_owner: lease.owner() })
    }

    /// Removes the small blobs that an interrupted process was writing.
    pub(crate) fn discard_new(&self) -> Result<()> {
        let directory = self.path("content/new");
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            self.discard(&entry.at("list", &directory)?.path())?;
        }
        Ok(())
    }

    /// Removes downloads that nobody has gone on with for long.
    pub(crate) fn expire_ingests(&self, age_max: Duration) -> Result<u64> {
        let directory = self.path("content/ingest");
        let mut freed = 0;
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let entry = entry.at("list", &directory)?;
            let name = entry.file_name().to_string_lossy().replacen('-', ":", 1);
            if self.is_claimed(&name) {
                continue;
            }
            let data = fs::metadata(entry.path().join("data"));
            let age =
                data.as_ref().ok().and_then(|data| data.modified().ok()).and_then(|time| time.elapsed().ok());
            if age.is_none_or(|age| age > age_max) {
                freed += data.map_or(0, |data| data.len());
                self.discard(&entry.path())?;
            }
        }
        Ok(freed)
    }

    /// Removes the downloads that nobody has gone on with for an hour, and says how many bytes they had: by themselves they stay for longer.
    pub fn prune_ingests(&self) -> Result<u64> {
        self.expire_ingests(INGEST_AGE_PRUNED)
    }

    pub(crate) fn expire_old_ingests(&self) -> Result<u64> {
        self.expire_ingests(INGEST_AGE_MAX)
    }
}

fn size_mismatch(expected: &Expected, actual: u64) -> Error {
    Error::SizeMismatch { digest: expected.digest.clone(), expected: expected.size, actual }
}

impl Tx<'_> {
    /// Size and kind of a blob, if it is here.
    pub fn blob_info(&self, digest: &Digest) -> Result<Option<BlobInfo>> {
        let row: Option<(i64, Option<String>)> = self
            .sql
            .prepare_cached("SELECT size, diff_id FROM blobs WHERE digest = ?")?
            .query_row([digest.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(row.map(|(size, diff_id)| BlobInfo {
            digest: digest.clone(),
            size: u64::try_from(size).unwrap_or(0),
            diff_id: diff_id.and_then(|text| Digest::parse(&text).ok()),
        }))
    }

    /// Takes the verified file `from` as a blob. The file is moved inside the transaction, so that garbage collection, which
    /// has its own, sees both or nothing.
    pub(crate) fn add_blob(
        &self,
        expected: &Expected,
        diff_id: Option<&Digest>,
        from: &Path,
        lease: &Lease,
    ) -> Result<()> {
        self.add_blob_for(expected, diff_id, from, &lease.owner())
    }

    pub(crate) fn add_blob_for(
        &self,
        expected: &Expected,
        diff_id: Option<&Digest>,
        from: &Path,
        lease_owner: &str,
    ) -> Result<()> {
        self.take_blob(expected, diff_id, from)?;
        self.add_ref(crate::leases::OWNER, lease_owner, &Resource::Blob(expected.digest.clone()))
    }

    /// As [`Tx::add_blob`], for a keeper that the caller names in the same transaction.
    pub(crate) fn take_blob(&self, expected: &Expected, diff_id: Option<&Digest>, from: &Path) -> Result<()> {
        let class = Class::of(&expected.media_type);
        self.check_class(&expected.digest, class)?;
        let path = self.store.blob_path(&expected.digest);
        let known = self.blob_info(&expected.digest)?.is_some();
        if known && self.is_on_disk(expected, &path)? {
            // What comes again is no surer than what is there.
            self.discard_after(from.to_owned());
            self.sql
                .prepare_cached("UPDATE blobs SET diff_id = coalesce(?2, diff_id) WHERE digest = ?1")?
                .execute(params![expected.digest.as_str(), diff_id.map(Digest::as_str)])?;
            return Ok(());
        }
        self.sql
            .prepare_cached(
                "INSERT INTO blobs (digest, size, class, diff_id, created_ns, unsynced_boot)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (digest) DO UPDATE SET diff_id = coalesce(?4, diff_id), unsynced_boot = ?6",
            )?
            .execute(params![
                expected.digest.as_str(),
                i64::try_from(expected.size).unwrap_or(i64::MAX),
                class.as_str(),
                diff_id.map(Digest::as_str),
                now_ns(),
                self.store.boot()
            ])?;
        if known {
            // The same bytes: the row that was there before has its file also if this transaction fails.
            fs::rename(from, &path).at("make", &path)
        } else {
            self.move_to(from, &path)
        }
    }

    /// Whether a blob is known to have been written to the disk, and has its file.
    fn is_on_disk(&self, expected: &Expected, path: &Path) -> Result<bool> {
        let synced: bool = self
            .sql
            .prepare_cached("SELECT unsynced_boot IS NULL FROM blobs WHERE digest = ?")?
            .query_row([expected.digest.as_str()], |row| row.get(0))?;
        Ok(synced && fs::metadata(path).is_ok_and(|file| file.len() == expected.size))
    }

    /// Says what a blob is that was of no known kind when it came; refuses one that is known as something else.
    pub fn classify(&self, digest: &Digest, class: Class) -> Result<()> {
        self.check_class(digest, class)?;
        self.sql
            .prepare_cached("UPDATE blobs SET class = ? WHERE digest = ? AND class = 'other'")?
            .execute(params![class.as_str(), digest.as_str()])?;
        Ok(())
    }

    /// Refuses a digest that is known as something else. What was of no known kind may become one.
    pub fn check_class(&self, digest: &Digest, class: Class) -> Result<()> {
        let known: Option<String> = self
            .sql
            .prepare_cached("SELECT class FROM blobs WHERE digest = ?")?
            .query_row([digest.as_str()], |row| row.get(0))
            .optional()?;
        match known {
            Some(known) if class != Class::Other && known != "other" && known != class.as_str() => {
                Err(Error::TwoMeanings {
                    digest: digest.clone(),
                    one: known,
                    other: class.as_str().to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// The file of a blob that is being written. It stays for the next try when this is dropped.
pub(crate) struct RawIngest {
    pub(crate) store: Store,
    pub(crate) expected: Expected,
    directory: PathBuf,
    file: File,
    /// Bytes that are there, written or gathered.
    offset: u64,
    /// Whether nothing was there before.
    fresh: bool,
    /// Bytes in the file. Gathered ones belong behind them, also if writing them failed half-way before.
    written: u64,
    gathered: Vec<u8>,
    // Released after everything else.
    _claim: Claim,
}

impl RawIngest {
    pub(crate) fn open(store: &Store, lease: &Lease, expected: Expected) -> Result<Self> {
        let digest = &expected.digest;
        let claim = store.claim(digest.as_str()).ok_or_else(|| Error::Busy { digest: digest.clone() })?;
        let known = store.transaction(|tx| {
            tx.check_class(digest, Class::of(&expected.media_type))?;
            tx.hold(lease, &Resource::Blob(digest.clone()))?;
            tx.blob_info(digest)
        })?;
        match known {
            Some(known) if known.size != expected.size => return Err(size_mismatch(&expected, known.size)),
            // It is kept by the lease from here on.
            Some(_) => return Err(Error::Exists { what: "blob", id: digest.to_string(), holder: None }),
            None => {}
        }
        let directory = store.ingest_path(digest);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.at("make", &directory)?,
        }
        let path = directory.join("data");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .at("open", &path)?;
        let mut offset = file.metadata().at("look at", &path)?.len();
        if offset > expected.size {
            // Of another claim about the same digest: one of the two is wrong about the size, so begin anew.
            file.set_len(0).at("empty", &path)?;
            offset = 0;
        }
        Ok(Self {
            store: store.clone(),
            expected,
            directory,
            file,
            offset,
            fresh: offset == 0,
            written: offset,
            gathered: Vec::with_capacity(GATHERED_BYTES),
            _claim: claim,
        })
    }

    pub(crate) fn data_path(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Bytes that are there, written or gathered.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads what is there from an earlier try.
    pub(crate) fn replay(&self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let path = self.data_path();
        let mut file = File::open(&path).at("open", &path)?.take(self.offset);
        let mut buffer = vec![0; GATHERED_BYTES];
        loop {
            match file.read(&mut buffer).at("read", &path)? {
                0 => return Ok(()),
                length => sink(&buffer[..length])?,
            }
        }
    }

    /// Takes the next bytes; a full buffer is written and returned, with an empty one in its place.
    pub(crate) fn write(
        &mut self,
        mut bytes: &[u8],
        mut full: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let total = self.offset + bytes.len() as u64;
        if total > self.expected.size {
            return Err(size_mismatch(&self.expected, total));
        }
        self.offset = total;
        while !bytes.is_empty() {
            let take = bytes.len().min(GATHERED_BYTES - self.gathered.len());
            self.gathered.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.gathered.len() == GATHERED_BYTES {
                self.flush(&mut full)?;
            }
        }
        Ok(())
    }

    /// Writes what is gathered.
    pub(crate) fn flush(&mut self, mut full: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if !self.gathered.is_empty() {
            let path = self.data_path();
            self.file.write_all_at(&self.gathered, self.written).at("write", &path)?;
            self.written += self.gathered.len() as u64;
            let sent = full(&self.gathered);
            self.gathered.clear();
            return sent;
        }
        Ok(())
    }

    pub(crate) fn check_complete(&self) -> Result<()> {
        if self.offset != self.expected.size {
            return Err(size_mismatch(&self.expected, self.offset));
        }
        Ok(())
    }

    /// Throws away what is there: it was not what it should be.
    pub(crate) fn spoil(&mut self) {
        self.gathered.clear();
        if let Err(error) = self.store.discard(&self.directory) {
            tracing::warn!(%error, "cannot remove a spoiled download");
        }
    }

    /// Throws away what nobody will go on with. What was there before is of somebody else, who may.
    pub(crate) fn give_up(&mut self) {
        if self.fresh {
            self.spoil();
        }
    }

    /// Removes what is left once the data has been moved to its place.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Drop for RawIngest {
    fn drop(&mut self) {
        // For the next try; on a full disk there is nothing to be done.
        let _ = self.file.write_all_at(&self.gathered, self.written);
    }
}

/// A blob that is being written.
pub struct Ingest {
    raw: RawIngest,
    hasher: Hasher,
    lease_owner: String,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ingest").field("expected", &self.raw.expected).finish_non_exhaustive()
    }
}

impl Ingest {
    /// Bytes that are already there: ask the source for what follows.
    pub fn offset(&self) -> u64 {
        self.raw.offset()
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.raw.write(bytes, |_| Ok(()))
    }

    /// Throws away what is there: the source cannot go on in the middle.
    pub fn restart(&mut self) -> Result<()> {
        let path = self.raw.data_path();
        self.raw.gathered.clear();
        self.raw.file.set_len(0).at("empty", &path)?;
        (self.raw.offset, self.raw.written) = (0, 0);
        self.hasher = Hasher::new(self.raw.expected.digest.algorithm());
        Ok(())
    }

    /// Ends it for good: what it began nobody goes on with.
    pub fn give_up(mut self) {
        self.raw.give_up();
    }

    /// Verifies size and digest and makes it a blob. With a wrong digest everything is thrown away; with bytes missing it
    /// stays for the next try.
    pub fn commit(mut self) -> Result<()> {
        self.raw.check_complete()?;
        self.raw.flush(|_| Ok(()))?;
        let actual = self.hasher.finish()?;
        if actual != self.raw.expected.digest {
            self.raw.spoil();
            return Err(Error::DigestMismatch { expected: self.raw.expected.digest.clone(), actual });
        }
        let raw = &self.raw;
        raw.store
            .transaction(|tx| tx.add_blob_for(&raw.expected, None, &raw.data_path(), &self.lease_owner))?;
        raw.clear();
        Ok(())
    }
}
