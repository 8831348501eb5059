//! Proving a store whole: every reference leads somewhere, every blob is what it is called, every file has a row and every row its
//! files, and the counters are what there is to be counted.

mod contents;
mod files;
mod repair;
mod repositories;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, Result};
use crate::schema;
use crate::store::{self, Store};

/// Problems of one store that are told: with more it is the store as a whole that is broken, and the rest is only counted.
pub const PROBLEMS_MAX: usize = 10_000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Something refers to what is not there.
    Reference,
    /// A row that cannot be read, or that says something else than the documents it speaks of.
    Record,
    /// A blob's file is not there, has another size, or other content.
    Blob,
    /// A layer's directory is not there.
    Layer,
    /// A snapshot's directories are not there.
    Snapshot,
    /// A file or directory that no row speaks of.
    Orphan,
    /// What the process that was killed has left, and the next start clears away.
    Leftover,
    /// A counter that is wrong.
    Counter,
    /// What nothing refers to, and no collection would find.
    Leak,
}

impl Fault {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Record => "record",
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Snapshot => "snapshot",
            Self::Orphan => "orphan",
            Self::Leftover => "leftover",
            Self::Counter => "counter",
            Self::Leak => "leak",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of wrong.
    pub fault: Fault,
    /// What it is about: a digest, an identifier, a path below the data root.
    pub what: String,
    /// What is wrong with it, in one line.
    pub detail: String,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// What is wrong; empty of a store that is whole.
    pub problems: Vec<Problem>,
    /// Problems that were too many to be told.
    pub untold: u64,
    /// Images that were looked at.
    pub images: u64,
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Layers that were looked at.
    pub layers: u64,
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Bytes that were read and hashed.
    pub bytes: u64,
}

impl Checked {
    pub(crate) fn found(&mut self, fault: Fault, what: impl Into<String>, detail: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { fault, what: what.into(), detail: detail.into() });
        } else {
            self.untold += 1;
        }
    }

    /// Whether nothing is wrong. What the next start clears away by itself is not.
    pub fn is_clean(&self) -> bool {
        self.untold == 0 && self.problems.iter().all(|problem| problem.fault == Fault::Leftover)
    }
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes there are to be read.
    pub total: u64,
}

/// How to check.
pub struct CheckOptions<'a> {
    /// Whether contents are taken on trust: references, sizes and directories alone are looked at.
    pub quick: bool,
    /// Told now and then how far it is; `false` ends the check with [`Error::Interrupted`].
    pub progress: &'a mut dyn FnMut(Progress) -> bool,
}

impl std::fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CheckOptions").field("quick", &self.quick).finish_non_exhaustive()
    }
}

/// What a check looks at.
struct Scene<'a> {
    root: &'a Path,
    boot: &'a str,
    sql: &'a Connection,
    /// The work of the process that has the store open: directories that have no row yet. `None` where nobody has it open.
    work: Option<BTreeSet<String>>,
}

impl Scene<'_> {
    fn column<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<Vec<T>> {
        Ok(self.sql.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    fn pairs(&self, sql: &str) -> Result<Vec<(String, String)>> {
        let mut statement = self.sql.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Store {
    /// Checks the store while it is in use. What is being made at this moment is left alone.
    pub fn check(&self, options: &mut CheckOptions<'_>) -> Result<Checked> {
        // What was thrown away before is to be gone, not to be found.
        self.wait_for_removals();
        let mut checked = Checked::default();
        let (blobs, images) = self.transaction(|tx| {
            let scene =
                Scene { root: self.root(), boot: self.boot(), sql: &tx.sql, work: Some(self.claimed()) };
            tables::check(&scene, &mut checked)?;
            repositories::check(&scene, &mut checked)?;
            Ok((files::check(&scene, &mut checked)?, tables::images(&scene)?))
        })?;
        if !options.quick {
            contents::check(self.root(), &blobs, options, &mut checked, |digest| {
                // It may have been removed since.
                Ok(self.blob_info(digest)?.is_some())
            })?;
            contents::documents(self.root(), &images, &mut checked);
        }
        Ok(checked)
    }

    /// Checks a store that nobody has open, without touching it: what an interrupted process has left is told, not cleared away.
    /// [`Error::Locked`] where somebody has it open.
    pub fn check_closed(root: &Path, options: &mut CheckOptions<'_>) -> Result<Checked> {
        let _lock =
            store::lock(&root.join("lock"))?.ok_or_else(|| Error::Locked { path: root.to_owned() })?;
        let path = root.join(schema::FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        schema::check_version(&connection, &path)?;
        let mut checked = Checked::default();
        let boot = store::boot_id()?;
        let scene = Scene { root, boot: &boot, sql: &connection, work: None };
        tables::check(&scene, &mut checked)?;
        repositories::check(&scene, &mut checked)?;
        let blobs = files::check(&scene, &mut checked)?;
        if !options.quick {
            contents::check(root, &blobs, options, &mut checked, |_| Ok(true))?;
            let images = tables::images(&scene)?;
            contents::documents(root, &images, &mut checked);
        }
        Ok(checked)
    }
}

/// A path as it is told: below the data root.
fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// The file of a blob.
fn blob_path(root: &Path, digest: &oci::Digest) -> PathBuf {
    root.join("content/blobs").join(digest.algorithm().as_str()).join(digest.hex())
}
