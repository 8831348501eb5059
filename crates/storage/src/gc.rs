//! Garbage collection, and the clearing up after a process that died.
//!
//! What nothing refers to is found and forgotten in one transaction; then its files are moved away, and removed in
//! the background. A process that dies in between leaves files without a row, never a row without files, and the
//! next start moves those away too. While a store is open nobody looks for such files: work in progress has no rows
//! yet. A transaction that fails moves back itself what it has moved.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use oci::Digest;

use crate::content::Class;
use crate::error::{At, Error, Result};
use crate::fix;
use crate::hash::Hasher;
use crate::store::Store;
use crate::transaction::Tx;

/// What a collection has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of blobs and layers; what is on the disk for snapshots is not counted, which would need a walk.
    pub bytes: u64,
}

/// What the store holds, from counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes they occupy, each counted once.
    pub layer_bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Images.
    pub images: u64,
    /// Bytes of the blobs and the unpacked layers that images have, each counted once.
    pub image_bytes: u64,
}

impl Store {
    /// Removes everything that no image, record or lease refers to.
    pub fn gc(&self) -> Result<Collected> {
        let ended = self.ended_leases().clone();
        let mut collected = self.transaction(|tx| {
            tx.expire_leases(&ended)?;
            tx.sweep()
        })?;
        self.ended_leases().retain(|id| !ended.contains(id));
        collected.bytes += self.expire_old_ingests()?;
        Ok(collected)
    }

    /// What the store holds.
    pub fn totals(&self) -> Result<Totals> {
        self.transaction(|tx| {
            let (blobs, blob_bytes) = tx.total("blobs")?;
            let (layers, layer_bytes) = tx.total("layers")?;
            let (snapshots, _) = tx.total("snapshots")?;
            let (images, _) = tx.total("images")?;
            let image_bytes = tx.total("image blobs")?.1 + tx.total("image layers")?.1;
            Ok(Totals { blobs, blob_bytes, layers, layer_bytes, snapshots, images, image_bytes })
        })
    }

    /// Writes everything to the disk, and remembers that it is there. Worth a call when work has come to a rest, after a
    /// pull: what was not written before a loss of power is checked after it, and fetched again where it was lost.
    pub fn flush(&self) -> Result<()> {
        let root = self.root_dir()?;
        // Rows first: what comes after the list was made is not claimed to be written. What an earlier kernel left is not
        // made whole by writing it.
        let (blobs, layers) = self.transaction(|tx| {
            let blobs: Vec<String> = tx
                .sql
                .prepare("SELECT digest FROM blobs WHERE unsynced_boot = ?")?
                .query_map([self.boot()], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let layers: Vec<i64> = tx
                .sql
                .prepare("SELECT id FROM layers WHERE unsynced_boot = ?")?
                .query_map([self.boot()], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok((blobs, layers))
        })?;
        if blobs.is_empty() && layers.is_empty() {
            return Ok(());
        }
        sys::fsx::sync_filesystem(&root).at("write", self.root())?;
        self.transaction(|tx| {
            for digest in &blobs {
                tx.sql
                    .prepare_cached("UPDATE blobs SET unsynced_boot = NULL WHERE digest = ?")?
                    .execute([digest])?;
            }
            for id in &layers {
                tx.sql
                    .prepare_cached("UPDATE layers SET unsynced_boot = NULL WHERE id = ?")?
                    .execute([id])?;
            }
            Ok(())
        })
    }

    /// Puts right what an earlier process has left.
    pub(crate) fn recover(&self) -> Result<()> {
        match self.recover_all() {
            Err(Error::NoSpace { .. }) => {}
            recovered => return recovered,
        }
        // What was thrown away may have made the room that the metadata need. Where it has not, whoever makes room needs a store
        // that is open: what is left is garbage, which the next start finds again.
        self.wait_for_removals();
        match self.recover_all() {
            Err(error @ Error::NoSpace { .. }) => {
                tracing::warn!(%error, "what an ended process has left stays until there is room");
                Ok(())
            }
            recovered => recovered,
        }
    }

    fn recover_all(&self) -> Result<()> {
        self.discard_new()?;
        self.recover_uploads()?;
        // What only an earlier process kept.
        self.transaction(|tx| if tx.end_passing_leases()? { tx.sweep().map(drop) } else { Ok(()) })?;
        self.check_unsynced()?;
        let orphans = self.transaction(|tx| tx.orphans(self))?;
        for path in orphans {
            self.discard(&path)?;
        }
        Ok(())
    }

    /// After a reboot: what the earlier kernel may not have written. Blobs are read and checked. Layers can be made again
    /// of their blobs: those that no snapshot stands on are given up, the others keep their number and are made again
    /// when they are needed (see [`crate::restore`]).
    fn check_unsynced(&self) -> Result<()> {
        let boot = self.boot().to_owned();
        let doubtful: Vec<String> = self.transaction(|tx| {
            tx.sql.execute(
                "DELETE FROM layers WHERE unsynced_boot IS NOT NULL AND unsynced_boot <> ?
                 AND id NOT IN (SELECT layer FROM snapshot_layers)",
                [&boot],
            )?;
            let digests = tx
                .sql
                .prepare("SELECT digest FROM blobs WHERE unsynced_boot IS NOT NULL AND unsynced_boot <> ?")?
                .query_map([&boot], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(digests)
        })?;
        for text in doubtful {
            let whole = Digest::parse(&text).ok().filter(|digest| self.is_whole(digest));
            self.transaction(|tx| {
                let sql = if whole.is_some() {
                    "UPDATE blobs SET unsynced_boot = NULL WHERE digest = ?"
                } else {
                    "DELETE FROM blobs WHERE digest = ?"
                };
                tx.sql.execute(sql, [&text])?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether a blob is what it is called.
    pub(crate) fn is_whole(&self, digest: &Digest) -> bool {
        use std::io::Read;
        let Ok(mut file) = self.open_blob(digest) else { return false };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return hasher.finish().is_ok_and(|actual| actual == *digest),
                Ok(length) => hasher.update(&buffer[..length]),
                Err(_) => return false,
            }
        }
    }
}

impl Tx<'_> {
    /// A counter: how many, and how many bytes.
    pub(crate) fn total(&self, what: &str) -> Result<(u64, u64)> {
        let (count, bytes): (i64, i64) = self
            .sql
            .prepare_cached("SELECT count, bytes FROM totals WHERE what = ?")?
            .query_row([what], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((u64::try_from(count).unwrap_or(0), u64::try_from(bytes).unwrap_or(0)))
    }

    /// Sweeps what nothing refers to. Only what came or was let go since the last time is looked at (the table `loose`), so that
    /// this takes as long as there is garbage, however large the store is. A snapshot keeps its layers.
    fn sweep(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        for id in self.garbage(
            "SELECT id FROM loose JOIN snapshots ON id = target WHERE loose.kind = 'snapshot'
             AND NOT EXISTS (SELECT 1 FROM refs WHERE kind = 'snapshot' AND target = loose.target)",
            |row| row.get::<_, String>(0),
        )? {
            self.remove_snapshot(&id)?;
            collected.snapshots += 1;
        }
        for (id, diff_id, bytes) in self.garbage(
            "SELECT id, diff_id, disk_bytes FROM loose JOIN layers ON diff_id = target WHERE loose.kind = 'layer'
             AND NOT EXISTS (SELECT 1 FROM refs WHERE kind = 'layer' AND target = loose.target)
             AND NOT EXISTS (SELECT 1 FROM snapshot_layers WHERE layer = layers.id)",
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)),
        )? {
            self.sql.prepare_cached("DELETE FROM layers WHERE id = ?")?.execute([id])?;
            self.discard_after(self.store.layer_path(id));
            if !fix::is_fix(&diff_id) {
                collected.layers += 1;
                collected.bytes += u64::try_from(bytes).unwrap_or(0);
            }
        }
        for (digest, size) in self.garbage(
            "SELECT digest, size FROM loose JOIN blobs ON digest = target WHERE loose.kind = 'blob'
             AND NOT EXISTS (SELECT 1 FROM refs WHERE kind = 'blob' AND target = loose.target)",
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
        )? {
            self.sql.prepare_cached("DELETE FROM blobs WHERE digest = ?")?.execute([&digest])?;
            if let Ok(digest) = Digest::parse(&digest) {
                self.discard_after(self.store.blob_path(&digest));
            }
            collected.blobs += 1;
            collected.bytes += u64::try_from(size).unwrap_or(0);
        }
        // All of them were looked at: what stays will be loose again when it loses one that keeps it.
        self.sql.prepare_cached("DELETE FROM loose")?.execute([])?;
        Ok(collected)
    }

    fn garbage<T>(
        &self,
        sql: &str,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        Ok(self.sql.prepare_cached(sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
    }

    /// Files and directories that no row speaks of. Only while nobody else uses the store: work in progress has no rows.
    fn orphans(&self, store: &Store) -> Result<Vec<PathBuf>> {
        let mut orphans = Vec::new();
        let layers = self.column("SELECT CAST(id AS TEXT) FROM layers")?;
        let snapshots = self.column("SELECT id FROM snapshots")?;
        let blobs = self.column("SELECT digest FROM blobs")?;
        for (directory, prefix, known) in [
            ("layers", "", &layers),
            ("snapshots", "", &snapshots),
            ("content/blobs/sha256", "sha256:", &blobs),
            ("content/blobs/sha384", "sha384:", &blobs),
            ("content/blobs/sha512", "sha512:", &blobs),
        ] {
            let directory = store.path(directory);
            for entry in fs::read_dir(&directory).at("list", &directory)? {
                let entry = entry.at("list", &directory)?;
                if !known.contains(&format!("{prefix}{}", entry.file_name().to_string_lossy())) {
                    orphans.push(entry.path());
                }
            }
        }
        Ok(orphans)
    }

    fn column(&self, sql: &str) -> Result<HashSet<String>> {
        let values = self.sql.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(values)
    }
}

impl Class {
    /// Whether content of this kind is read as a document, and so has to be small.
    pub fn is_document(self) -> bool {
        matches!(self, Self::Index | Self::Manifest | Self::Config)
    }
}
