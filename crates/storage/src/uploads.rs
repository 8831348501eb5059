//! Uploads: what clients of the registry send before they say what it is.
//!
//! Unlike an [`Ingest`](crate::Ingest) an upload has no digest until its end; it is called by a random number, which only who
//! began it knows. Its bytes and its row survive the process, so that a client goes on where it was after a restart.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use oci::{Algorithm, Digest};
use rusqlite::{OptionalExtension, params};

use crate::content::Expected;
use crate::error::{At, Error, Result};
use crate::hash::Hasher;
use crate::store::{Claim, Store, now_ns};
use crate::transaction::Tx;

/// How many uploads there may be at a time: each is a file that somebody may never end.
pub const UPLOADS_MAX: usize = 1024;
/// How many of them may be of one repository: who pushes there keeps nobody else from pushing elsewhere. A client sends a
/// handful at a time.
pub const REPOSITORY_UPLOADS_MAX: usize = 64;
/// Where there are that many, one that nobody has written to for this long makes room: clients try again within minutes.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// Bytes of an identifier: as many as nobody guesses.
const ID_BYTES: usize = 16;
/// How much is read at a time where an upload is hashed anew.
const BUFFER_BYTES: usize = 1 << 20;

/// A blob that a client sends in pieces. Dropped, it stays for the next piece.
pub struct Upload {
    store: Store,
    id: String,
    repository: String,
    file: File,
    offset: u64,
    /// Of all that is there; `None` after a restart, then it is read once more at the end.
    hasher: Option<Hasher>,
    _claim: Claim,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Upload")
            .field("id", &self.id)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn upload_path(&self, id: &str) -> PathBuf {
        self.path("content/uploads").join(id)
    }

    /// Begins an upload to a repository.
    pub fn begin_upload(&self, repository: &str) -> Result<Upload> {
        let id = random_id()?;
        let path = self.upload_path(&id);
        let claim = self.claim(&claim_key(&id)).ok_or_else(|| in_use(&id))?;
        self.make_room(repository)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .at("make", &path)?;
        let begun = self.transaction(|tx| {
            if count(tx, Some(repository))? >= REPOSITORY_UPLOADS_MAX {
                let limit = REPOSITORY_UPLOADS_MAX as u64;
                return Err(Error::Limit { what: "number of uploads to a repository", limit });
            }
            if count(tx, None)? >= UPLOADS_MAX {
                return Err(Error::Limit { what: "number of uploads", limit: UPLOADS_MAX as u64 });
            }
            tx.sql
                .prepare_cached(
                    "INSERT INTO repository_uploads (id, repository, created_ns) VALUES (?, ?, ?)",
                )?
                .execute(params![id, repository, now_ns()])?;
            Ok(())
        });
        if let Err(error) = begun {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Upload {
            store: self.clone(),
            id,
            repository: repository.to_owned(),
            file,
            offset: 0,
            hasher: Some(Hasher::new(Algorithm::Sha256)),
            _claim: claim,
        })
    }

    /// Goes on with an upload to this repository. [`Error::InUse`] where somebody else writes to it.
    pub fn resume_upload(&self, repository: &str, id: &str) -> Result<Upload> {
        self.upload_size(repository, id)?;
        let claim = self.claim(&claim_key(id)).ok_or_else(|| in_use(id))?;
        let path = self.upload_path(id);
        let opened = File::options().read(true).write(true).open(&path);
        let file = match opened {
            // Its end came between the look and the claim.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(unknown(id)),
            other => other.at("open", &path)?,
        };
        let offset = file.metadata().at("look at", &path)?.len();
        let hasher = (offset == 0).then(|| Hasher::new(Algorithm::Sha256));
        Ok(Upload {
            store: self.clone(),
            id: id.to_owned(),
            repository: repository.to_owned(),
            file,
            offset,
            hasher,
            _claim: claim,
        })
    }

    /// Bytes that an upload to this repository has so far.
    pub fn upload_size(&self, repository: &str, id: &str) -> Result<u64> {
        if self.transaction(|tx| tx.upload_repository(id))?.as_deref() != Some(repository) {
            return Err(unknown(id));
        }
        let path = self.upload_path(id);
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(unknown(id)),
            other => Ok(other.at("look at", &path)?.len()),
        }
    }

    /// Removes uploads that nobody has written to for this long; how many.
    pub fn expire_uploads(&self, idle: Duration) -> Result<u64> {
        let ids: Vec<String> = self.transaction(ids)?;
        let mut expired = 0;
        for id in ids {
            let modified = fs::metadata(self.upload_path(&id)).and_then(|data| data.modified());
            let age = modified.ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age <= idle) {
                continue;
            }
            // Somebody may be about to write to it.
            let Some(_claim) = self.claim(&claim_key(&id)) else { continue };
            self.forget_upload(&id)?;
            expired += 1;
        }
        Ok(expired)
    }

    /// Where all places are taken, tries to free one for an upload to this repository.
    fn make_room(&self, repository: &str) -> Result<()> {
        for (of, limit) in [(Some(repository), REPOSITORY_UPLOADS_MAX), (None, UPLOADS_MAX)] {
            if self.transaction(|tx| count(tx, of))? >= limit && !self.evict_empty(of)? {
                self.expire_uploads(IDLE_MAX)?;
            }
        }
        Ok(())
    }

    /// Removes the upload that has waited longest for its first byte, of a repository or of all; whether there was one. Whose
    /// it is loses nothing by beginning again.
    fn evict_empty(&self, repository: Option<&str>) -> Result<bool> {
        let ids: Vec<String> = self.transaction(|tx| ids_of(tx, repository))?;
        let is_empty = |id: &str| fs::metadata(self.upload_path(id)).is_ok_and(|data| data.len() == 0);
        for id in ids {
            if !is_empty(&id) {
                continue;
            }
            // Bytes may come at last.
            let Some(_claim) = self.claim(&claim_key(&id)) else { continue };
            if is_empty(&id) {
                self.forget_upload(&id)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn forget_upload(&self, id: &str) -> Result<()> {
        self.transaction(|tx| tx.remove_upload(id))?;
        self.discard(&self.upload_path(id))
    }

    /// Brings rows and files of uploads in line after a process has died between the two.
    pub(crate) fn recover_uploads(&self) -> Result<()> {
        let known = self.transaction(ids)?;
        for id in &known {
            if !self.upload_path(id).exists() {
                self.transaction(|tx| tx.remove_upload(id))?;
            }
        }
        let directory = self.path("content/uploads");
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let entry = entry.at("list", &directory)?;
            if !known.iter().any(|id| entry.file_name() == id.as_str()) {
                self.discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn count(tx: &Tx<'_>, repository: Option<&str>) -> Result<usize> {
    let count: i64 = tx
        .sql
        .prepare_cached("SELECT count(*) FROM repository_uploads WHERE ?1 IS NULL OR repository = ?1")?
        .query_row([repository], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn ids(tx: &Tx<'_>) -> Result<Vec<String>> {
    ids_of(tx, None)
}

fn ids_of(tx: &Tx<'_>, repository: Option<&str>) -> Result<Vec<String>> {
    let mut statement = tx.sql.prepare_cached(
        "SELECT id FROM repository_uploads WHERE ?1 IS NULL OR repository = ?1 ORDER BY created_ns",
    )?;
    let ids = statement.query_map([repository], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(ids)
}

impl Tx<'_> {
    fn upload_repository(&self, id: &str) -> Result<Option<String>> {
        let repository = self
            .sql
            .prepare_cached("SELECT repository FROM repository_uploads WHERE id = ?")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        Ok(repository)
    }

    fn remove_upload(&self, id: &str) -> Result<()> {
        self.sql.prepare_cached("DELETE FROM repository_uploads WHERE id = ?")?.execute([id])?;
        Ok(())
    }
}

impl Upload {
    /// What it is called.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The repository it goes to.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Bytes that are there.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Another descriptor of its file, to read while it is written; it stays readable when the upload ends.
    pub fn reader(&self) -> Result<File> {
        let path = self.store.upload_path(&self.id);
        File::open(&path).at("open", &path)
    }

    /// Takes the next bytes. Where that fails, it is as long as it was.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.store.upload_path(&self.id);
        if let Err(error) = self.file.write_all_at(bytes, self.offset) {
            let _ = self.file.set_len(self.offset);
            return Err(Error::io("write", &path, error));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Verifies it, makes it a blob and links that to the repository. With a wrong digest everything is thrown away.
    /// When this returns, the bytes are on the disk; their place and row are as soon as a durable transaction is.
    pub fn commit(mut self, digest: &Digest) -> Result<u64> {
        let actual = self.finish(digest.algorithm())?;
        if actual != *digest {
            self.cancel()?;
            return Err(Error::DigestMismatch { expected: digest.clone(), actual });
        }
        let path = self.store.upload_path(&self.id);
        self.file.sync_data().at("write", &path)?;
        let expected = Expected { digest: digest.clone(), size: self.offset, media_type: String::new() };
        self.store.transaction(|tx| {
            tx.take_blob(&expected, None, &path)?;
            tx.link_blob(&self.repository, digest)?;
            tx.remove_upload(&self.id)
        })?;
        Ok(self.offset)
    }

    /// Throws it away.
    pub fn cancel(self) -> Result<()> {
        self.store.forget_upload(&self.id)
    }

    fn finish(&mut self, algorithm: Algorithm) -> Result<Digest> {
        if algorithm == Algorithm::Sha256
            && let Some(hasher) = self.hasher.take()
        {
            return hasher.finish();
        }
        let path = self.store.upload_path(&self.id);
        let mut hasher = Hasher::new(algorithm);
        let mut file = self.reader()?.take(self.offset);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer).at("read", &path)? {
                0 => return hasher.finish(),
                length => hasher.update(&buffer[..length]),
            }
        }
    }
}

fn claim_key(id: &str) -> String {
    format!("upload {id}")
}

fn in_use(id: &str) -> Error {
    Error::InUse { what: "upload", id: id.to_owned() }
}

fn unknown(id: &str) -> Error {
    Error::not_found("upload", id)
}

fn random_id() -> Result<String> {
    let path = "/dev/urandom";
    let mut bytes = [0; ID_BYTES];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).at("read", path)?;
    Ok(hex::encode(bytes))
}
