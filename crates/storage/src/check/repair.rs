//! Mending what a check has found, as far as it can be mended without losing anything.

use std::fs;
use std::os::unix::fs::MetadataExt;

use oci::Digest;

use super::{CheckOptions, Checked, Fault, Problem, Scene, files, tables};
use crate::error::Result;
use crate::store::Store;
use crate::transaction::Tx;

/// Counters, from what there is to be counted.
const COUNT: &str = include_str!("count.sql");

/// What marks a layer whose directory is lost as one to be made again: no boot is called so.
const LOST: &str = "lost";

impl Store {
    /// As [`Store::check`], and mends what can be: counters are counted, files that nothing speaks of are thrown away, blobs that are not
    /// what they are called are forgotten, so that the next pull brings them, and layers without a directory are unpacked again
    /// when they are needed. Returns what it found, and what is left.
    pub fn repair(&self, options: &mut CheckOptions<'_>) -> Result<(Checked, Checked)> {
        let found = self.check(options)?;
        if !found.problems.is_empty() {
            // A large store is read for hours: what was damaged then may have been replaced since, so it is read again.
            let damaged: Vec<(Digest, Option<u64>)> = found
                .problems
                .iter()
                .filter(|problem| problem.fault == Fault::Blob)
                .filter_map(|problem| Digest::parse(&problem.what).ok())
                .map(|digest| (digest.clone(), self.blob_inode(&digest)))
                .filter(|(digest, _)| !self.is_whole(digest))
                .collect();
            self.transaction(|tx| {
                // Looked for again: now nothing moves until it is mended.
                let mut now = Checked::default();
                let scene =
                    Scene { root: self.root(), boot: self.boot(), sql: &tx.sql, work: Some(self.claimed()) };
                tables::check(&scene, &mut now)?;
                files::check(&scene, &mut now)?;
                now.problems.iter().try_for_each(|problem| tx.mend(problem))?;
                for (digest, inode) in &damaged {
                    // Not one that has come in the meantime.
                    if self.blob_inode(digest) == *inode {
                        tx.forget_blob(digest)?;
                    }
                }
                tx.sql.execute_batch(COUNT)?;
                Ok(())
            })?;
        }
        // Contents were read a moment ago.
        let left = self.check(&mut CheckOptions { quick: true, progress: &mut |_| true })?;
        Ok((found, left))
    }

    fn blob_inode(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().map(|file| file.ino())
    }
}

impl Tx<'_> {
    fn mend(&self, problem: &Problem) -> Result<()> {
        match problem.fault {
            Fault::Orphan | Fault::Leftover => self.discard_after(self.store.path(&problem.what)),
            Fault::Blob => {
                if let Ok(digest) = Digest::parse(&problem.what) {
                    self.forget_blob(&digest)?;
                }
            }
            Fault::Layer => {
                self.sql.execute(
                    "DELETE FROM layers WHERE diff_id = ?1 AND id NOT IN (SELECT layer FROM snapshot_layers)",
                    [&problem.what],
                )?;
                self.sql.execute(
                    "UPDATE layers SET unsynced_boot = ?2 WHERE diff_id = ?1",
                    [problem.what.as_str(), LOST],
                )?;
            }
            Fault::Leak => {
                if let Some((kind, target)) = problem.what.split_once(' ') {
                    self.sql.execute("INSERT OR IGNORE INTO loose VALUES (?, ?)", [kind, target])?;
                }
            }
            // What somebody who is gone has kept.
            Fault::Reference => {
                if let Some((kind, owner)) = problem.what.split_once(' ')
                    && !self.owner_is_there(kind, owner)?
                {
                    self.clear_refs(kind, owner)?;
                }
                self.sql.execute(
                    "DELETE FROM names WHERE name = ? AND image NOT IN (SELECT id FROM images)",
                    [&problem.what],
                )?;
            }
            // Counters are all counted anew; the rest nobody can mend here.
            Fault::Counter | Fault::Record | Fault::Snapshot => {}
        }
        Ok(())
    }

    fn owner_is_there(&self, kind: &str, owner: &str) -> Result<bool> {
        let sql = match kind {
            "image" => "SELECT EXISTS (SELECT 1 FROM images WHERE id = ?)",
            "lease" => "SELECT EXISTS (SELECT 1 FROM leases WHERE CAST(id AS TEXT) = ?)",
            "record" => "SELECT EXISTS (SELECT 1 FROM records WHERE kind || '/' || id = ?)",
            _ => return Ok(true),
        };
        Ok(self.sql.query_row(sql, [owner], |row| row.get(0))?)
    }

    /// Gives up a blob that is not what it is called. Whoever refers to it lacks it until it is fetched again.
    fn forget_blob(&self, digest: &Digest) -> Result<()> {
        self.sql.execute("DELETE FROM blobs WHERE digest = ?", [digest.as_str()])?;
        self.discard_after(self.store.blob_path(digest));
        Ok(())
    }
}
