//! Repositories: what the registry serves, and to whom a blob belongs.
//!
//! The bytes are the store's own blobs, each there once, whoever uses it: engine, one repository or ten. A repository has
//! only what was put into it, or mounted into it by somebody who may read it elsewhere; that a blob is in the store tells
//! its clients nothing. Every change keeps rows and `refs` together in one transaction, so that garbage collection, which
//! has its own, never sees one without the other.

mod prune;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use oci::Digest;
use rusqlite::{OptionalExtension, Row, params};

use crate::content::{Class, Expected};
use crate::error::{At, Error, Result};
use crate::store::{Store, now_ns};
use crate::transaction::{Resource, Tx};

pub use prune::{Pruned, Pruning};

const OWNER: &str = "repository";

/// A client that looks whether a blob is there means to use it: then pruning leaves it alone for a while. Looks that come
/// sooner than this after another write nothing.
const SEEN_AGAIN: Duration = Duration::from_secs(60);

/// Annotations up to this size are kept to be listed with a manifest; with more, it is listed without any. They are still in
/// the manifest itself.
pub const LISTED_ANNOTATIONS_BYTES_MAX: usize = 64 << 10;

/// Something that a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Whether it has to be in the repository.
    pub required: bool,
}

/// A manifest to be put into a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewManifest {
    /// What it is called: the digest of `bytes`.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The manifest itself.
    pub bytes: Vec<u8>,
    /// What it needs.
    pub contents: Vec<Content>,
    /// The manifest that it says something about; that need not be here.
    pub subject: Option<Digest>,
    /// What it is, to those who look for what is said about its subject.
    pub artifact_type: String,
    /// Its remarks.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size.
    pub size: u64,
}

/// A manifest that says something about another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest.
    pub manifest: KeptManifest,
    /// What it is.
    pub artifact_type: String,
    /// Its remarks.
    pub annotations: BTreeMap<String, String>,
}

impl Store {
    /// Puts a manifest into a repository, and gives it a tag. What it requires has to be there: [`Error::NotFound`] names the
    /// first that is not. On the disk when this returns, with everything it needs.
    pub fn put_manifest(&self, repository: &str, manifest: &NewManifest, tag: Option<&str>) -> Result<()> {
        let actual = crate::hash::digest_like(&manifest.digest, &manifest.bytes)?;
        if actual != manifest.digest {
            return Err(Error::DigestMismatch { expected: manifest.digest.clone(), actual });
        }
        let temporary = self.path("content/new").join(self.unique());
        let written =
            File::options().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
                file.write_all(&manifest.bytes)?;
                file.sync_data()
            });
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(Error::io("write", &self.blob_path(&manifest.digest), error));
        }
        let put = self.durable_transaction(|tx| {
            tx.check_contents(repository, manifest)?;
            let expected = Expected {
                digest: manifest.digest.clone(),
                size: manifest.bytes.len() as u64,
                media_type: manifest.media_type.clone(),
            };
            tx.take_blob(&expected, None, &temporary)?;
            // Blobs were written when they came; their names, and this one's, are with the directory.
            let directory = self.path("content/blobs").join(manifest.digest.algorithm().as_str());
            File::open(&directory).and_then(|directory| directory.sync_all()).at("write", &directory)?;
            tx.keep_manifest(repository, manifest)?;
            tag.map_or(Ok(()), |tag| tx.set_tag(repository, tag, &manifest.digest))
        });
        if put.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        put
    }
}

impl Tx<'_> {
    fn check_contents(&self, repository: &str, manifest: &NewManifest) -> Result<()> {
        for content in &manifest.contents {
            if !content.required {
                continue;
            }
            let manifest = self.manifest(repository, &content.digest)?.map(|kept| kept.size);
            let size = match manifest {
                Some(size) => Some(size),
                None => self.repository_blob(repository, &content.digest)?,
            };
            match size {
                None => return Err(Error::not_found("blob", content.digest.as_str())),
                Some(actual) if actual != content.size => {
                    return Err(Error::SizeMismatch {
                        digest: content.digest.clone(),
                        expected: content.size,
                        actual,
                    });
                }
                // What is not of this repository is compared with nothing: else clients learned what else is in the store.
                Some(_) => self.check_class(&content.digest, Class::of(&content.media_type))?,
            }
        }
        Ok(())
    }

    fn keep_manifest(&self, repository: &str, manifest: &NewManifest) -> Result<()> {
        let digest = &manifest.digest;
        self.make_repository(repository)?;
        let annotations = serde_json::to_string(&manifest.annotations)
            .map_err(|source| Error::CorruptRecord { what: "manifest", id: digest.to_string(), source })?;
        let annotations =
            if annotations.len() > LISTED_ANNOTATIONS_BYTES_MAX { "{}".to_owned() } else { annotations };
        self.sql
            .prepare_cached(
                "INSERT INTO repository_manifests
                 (repository, digest, media_type, size, artifact_type, subject, annotations, seen_ns)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (repository, digest) DO UPDATE SET media_type = ?3, seen_ns = ?8",
            )?
            .execute(params![
                repository,
                digest.as_str(),
                manifest.media_type,
                stored(manifest.bytes.len() as u64),
                manifest.artifact_type,
                manifest.subject.as_ref().map(Digest::as_str),
                annotations,
                now_ns()
            ])?;
        for content in &manifest.contents {
            self.sql
                .prepare_cached(
                    "INSERT OR IGNORE INTO repository_contents (repository, manifest, digest, size)
                     VALUES (?, ?, ?, ?)",
                )?
                .execute(params![
                    repository,
                    digest.as_str(),
                    content.digest.as_str(),
                    stored(content.size)
                ])?;
        }
        self.add_ref(OWNER, repository, &Resource::Blob(digest.clone()))
    }

    fn make_repository(&self, repository: &str) -> Result<()> {
        self.sql
            .prepare_cached("INSERT OR IGNORE INTO repositories (name, created_ns) VALUES (?, ?)")?
            .execute(params![repository, now_ns()])?;
        Ok(())
    }

    /// Whether there is such a repository.
    pub fn has_repository(&self, repository: &str) -> Result<bool> {
        self.is_there("SELECT 1 FROM repositories WHERE name = ?", &[&repository])
    }

    /// Names of repositories that have something to be had, in order, after `after`.
    pub fn repositories(&self, after: &str, count_max: usize) -> Result<Vec<String>> {
        self.names(
            "SELECT name FROM repositories WHERE name > ?1
             AND EXISTS (SELECT 1 FROM repository_manifests WHERE repository = name) ORDER BY name LIMIT ?2",
            &[&after, &stored(count_max as u64)],
        )
    }

    /// A repository's tags, in order, after `after`.
    pub fn tags(&self, repository: &str, after: &str, count_max: usize) -> Result<Vec<String>> {
        self.names(
            "SELECT tag FROM repository_tags WHERE repository = ?1 AND tag > ?2 ORDER BY tag LIMIT ?3",
            &[&repository, &after, &stored(count_max as u64)],
        )
    }

    /// The manifest that a tag names.
    pub fn tagged(&self, repository: &str, tag: &str) -> Result<Option<Digest>> {
        let text: Option<String> = self
            .sql
            .prepare_cached("SELECT digest FROM repository_tags WHERE repository = ? AND tag = ?")?
            .query_row([repository, tag], |row| row.get(0))
            .optional()?;
        Ok(text.and_then(|text| Digest::parse(&text).ok()))
    }

    /// Gives a manifest of the repository a tag; another one that had it loses it.
    pub fn set_tag(&self, repository: &str, tag: &str, digest: &Digest) -> Result<()> {
        if self.manifest(repository, digest)?.is_none() {
            return Err(Error::not_found("manifest", digest.as_str()));
        }
        self.sql
            .prepare_cached(
                "INSERT INTO repository_tags (repository, tag, digest, updated_ns) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (repository, tag) DO UPDATE SET digest = ?3, updated_ns = ?4",
            )?
            .execute(params![repository, tag, digest.as_str(), now_ns()])?;
        Ok(())
    }

    /// Takes a tag away; whether it was there.
    pub fn remove_tag(&self, repository: &str, tag: &str) -> Result<bool> {
        let removed = self
            .sql
            .prepare_cached("DELETE FROM repository_tags WHERE repository = ? AND tag = ?")?
            .execute([repository, tag])?;
        Ok(removed > 0)
    }

    /// A manifest of a repository.
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Result<Option<KeptManifest>> {
        let row: Option<(String, i64)> = self
            .sql
            .prepare_cached(
                "SELECT media_type, size FROM repository_manifests WHERE repository = ? AND digest = ?",
            )?
            .query_row([repository, digest.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(row.map(|(media_type, size)| KeptManifest {
            digest: digest.clone(),
            media_type,
            size: loaded(size),
        }))
    }

    /// Takes a manifest and its tags from a repository; whether it was there.
    pub fn remove_manifest(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let of_digest = |sql: &str| -> Result<usize> {
            Ok(self.sql.prepare_cached(sql)?.execute([repository, digest.as_str()])?)
        };
        let removed = of_digest("DELETE FROM repository_manifests WHERE repository = ? AND digest = ?")?;
        of_digest("DELETE FROM repository_tags WHERE repository = ? AND digest = ?")?;
        of_digest("DELETE FROM repository_contents WHERE repository = ? AND manifest = ?")?;
        self.release(repository, digest)?;
        Ok(removed > 0)
    }

    /// What is said in a repository about a manifest, in the order of digests, after `after`. With `artifact_type`, only
    /// what is of that type. Ends where they are more than `count_max`, or together larger than `bytes_max`: with the first that
    /// is too many.
    pub fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: &str,
        (count_max, bytes_max): (usize, usize),
    ) -> Result<Vec<Referrer>> {
        let mut statement = self.sql.prepare_cached(
            "SELECT digest, media_type, size, artifact_type,
             CASE WHEN length(CAST(annotations AS BLOB)) > ?6 THEN '{}' ELSE annotations END
             FROM repository_manifests
             WHERE repository = ?1 AND subject = ?2 AND (?3 IS NULL OR artifact_type = ?3) AND digest > ?4
             ORDER BY digest LIMIT ?5",
        )?;
        let parameters = params![
            repository,
            subject.as_str(),
            artifact_type,
            after,
            stored((count_max as u64).saturating_add(1)),
            stored(LISTED_ANNOTATIONS_BYTES_MAX as u64)
        ];
        let rows = statement.query_map(parameters, |row| {
            let digest: String = row.get(0)?;
            let annotations: String = row.get(4)?;
            Ok((digest, row.get(1)?, row.get(2)?, row.get(3)?, annotations))
        })?;
        let (mut referrers, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let (digest, media_type, size, artifact_type, annotations): (_, String, _, String, _) = row?;
            bytes += digest.len() + media_type.len() + artifact_type.len() + annotations.len();
            let Ok(digest) = Digest::parse(&digest) else { continue };
            let annotations = serde_json::from_str(&annotations).map_err(|source| Error::CorruptRecord {
                what: "manifest",
                id: digest.to_string(),
                source,
            })?;
            let manifest = KeptManifest { digest, media_type, size: loaded(size) };
            referrers.push(Referrer { manifest, artifact_type, annotations });
            if bytes > bytes_max {
                break;
            }
        }
        Ok(referrers)
    }

    /// The size of a blob that a repository has, for somebody who may count on it: garbage collection leaves it alone for a while.
    pub fn repository_blob(&self, repository: &str, digest: &Digest) -> Result<Option<u64>> {
        let Some((size, seen)) = self.repository_blob_seen(repository, digest)? else { return Ok(None) };
        if now_ns().saturating_sub(seen) > i64::try_from(SEEN_AGAIN.as_nanos()).unwrap_or(i64::MAX) {
            self.link_blob(repository, digest)?;
        }
        Ok(Some(size))
    }

    /// The size of a blob that a repository has; nothing is written, which a full disk could not.
    pub fn repository_blob_size(&self, repository: &str, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.repository_blob_seen(repository, digest)?.map(|(size, _)| size))
    }

    fn repository_blob_seen(&self, repository: &str, digest: &Digest) -> Result<Option<(u64, i64)>> {
        let row: Option<(i64, i64)> = self
            .sql
            .prepare_cached(
                "SELECT blobs.size, seen_ns FROM repository_blobs JOIN blobs USING (digest)
                 WHERE repository = ? AND digest = ?",
            )?
            .query_row([repository, digest.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(row.map(|(size, seen)| (loaded(size), seen)))
    }

    /// Makes a blob of the store one of a repository.
    pub fn link_blob(&self, repository: &str, digest: &Digest) -> Result<()> {
        self.make_repository(repository)?;
        self.sql
            .prepare_cached(
                "INSERT INTO repository_blobs (repository, digest, seen_ns) VALUES (?1, ?2, ?3)
                 ON CONFLICT (repository, digest) DO UPDATE SET seen_ns = ?3",
            )?
            .execute(params![repository, digest.as_str(), now_ns()])?;
        self.add_ref(OWNER, repository, &Resource::Blob(digest.clone()))
    }

    /// Takes a blob from a repository; whether it was there.
    pub fn unlink_blob(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let removed = self
            .sql
            .prepare_cached("DELETE FROM repository_blobs WHERE repository = ? AND digest = ?")?
            .execute([repository, digest.as_str()])?;
        self.release(repository, digest)?;
        Ok(removed > 0)
    }

    /// Gives a blob up, unless the repository has it also as the other of the two: a manifest, a blob.
    fn release(&self, repository: &str, digest: &Digest) -> Result<()> {
        let kept = self.is_there(
            "SELECT 1 FROM repository_blobs WHERE repository = ?1 AND digest = ?2
             UNION ALL SELECT 1 FROM repository_manifests WHERE repository = ?1 AND digest = ?2",
            &[&repository, &digest.as_str()],
        )?;
        if kept { Ok(()) } else { self.remove_ref(OWNER, repository, &Resource::Blob(digest.clone())) }
    }

    /// Repositories that have a blob.
    pub fn repositories_with(&self, digest: &Digest, count_max: usize) -> Result<Vec<String>> {
        self.names(
            "SELECT repository FROM repository_blobs WHERE digest = ?1 ORDER BY repository LIMIT ?2",
            &[&digest.as_str(), &stored(count_max as u64)],
        )
    }

    /// A manifest of the repository that needs `digest`.
    pub fn needed_by(&self, repository: &str, digest: &Digest) -> Result<Option<String>> {
        let sql = "SELECT manifest FROM repository_contents WHERE repository = ?1 AND digest = ?2 LIMIT 1";
        Ok(self.names(sql, &[&repository, &digest.as_str()])?.pop())
    }

    /// The size that a manifest of the repository gives for `digest`, whether that is here or not.
    pub fn promised(&self, repository: &str, digest: &Digest) -> Result<Option<u64>> {
        let size: Option<i64> = self
            .sql
            .prepare_cached(
                "SELECT size FROM repository_contents WHERE repository = ? AND digest = ? LIMIT 1",
            )?
            .query_row([repository, digest.as_str()], |row| row.get(0))
            .optional()?;
        Ok(size.map(loaded))
    }

    fn is_there(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<bool> {
        Ok(self.sql.prepare_cached(sql)?.exists(parameters)?)
    }

    fn names(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<Vec<String>> {
        let mut statement = self.sql.prepare_cached(sql)?;
        let names = statement.query_map(parameters, |row: &Row<'_>| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    }
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn loaded(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
