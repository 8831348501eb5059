//! What repositories have and nobody needs.

use std::time::Duration;

use oci::Digest;

use super::stored;
use crate::error::Result;
use crate::store::{Store, now_ns};
use crate::transaction::Tx;

/// How much is pruned in one transaction: others wait for it.
const BATCH: usize = 256;

/// What is to be pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruning {
    /// Also manifests that have no tag, are in no index, and say nothing about another manifest.
    pub untagged: bool,
    /// What came or was looked at in this time stays: a push puts the tag last.
    pub grace: Duration,
}

/// What was pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Manifests.
    pub manifests: u64,
    /// Blobs, each counted in every repository.
    pub blobs: u64,
    /// Repositories in which nothing was left.
    pub repositories: u64,
}

impl Store {
    /// Takes from the repositories what nobody needs. The bytes go with the next collection: [`Store::gc`].
    pub fn prune_repositories(&self, what: Pruning) -> Result<Pruned> {
        let grace = i64::try_from(what.grace.as_nanos()).unwrap_or(i64::MAX);
        let before = now_ns().saturating_sub(grace);
        let mut pruned = Pruned::default();
        // A manifest that goes may leave others behind that only it needed.
        if what.untagged {
            loop {
                let removed = self.transaction(|tx| tx.prune_manifests(before))?;
                pruned.manifests += removed;
                if removed == 0 {
                    break;
                }
            }
        }
        loop {
            let removed = self.transaction(|tx| tx.prune_blobs(before))?;
            pruned.blobs += removed;
            if removed == 0 {
                break;
            }
        }
        pruned.repositories = self.transaction(prune_empty)?;
        Ok(pruned)
    }
}

fn prune_empty(tx: &Tx<'_>) -> Result<u64> {
    let removed = tx.sql.execute(
        "DELETE FROM repositories WHERE NOT EXISTS (SELECT 1 FROM repository_manifests WHERE repository = name)
         AND NOT EXISTS (SELECT 1 FROM repository_blobs WHERE repository = name)",
        [],
    )?;
    Ok(removed as u64)
}

impl Tx<'_> {
    fn prune_manifests(&self, before: i64) -> Result<u64> {
        let list = self.pairs(
            "SELECT repository, digest FROM repository_manifests AS one WHERE seen_ns < ?1
             AND NOT EXISTS (SELECT 1 FROM repository_tags AS tag
                             WHERE tag.repository = one.repository AND tag.digest = one.digest)
             AND NOT EXISTS (SELECT 1 FROM repository_contents AS content
                             WHERE content.repository = one.repository AND content.digest = one.digest)
             AND NOT EXISTS (SELECT 1 FROM repository_manifests AS subject
                             WHERE subject.repository = one.repository AND subject.digest = one.subject)
             LIMIT ?2",
            before,
        )?;
        for (repository, digest) in &list {
            self.remove_manifest(repository, digest)?;
        }
        Ok(list.len() as u64)
    }

    fn prune_blobs(&self, before: i64) -> Result<u64> {
        let list = self.pairs(
            "SELECT repository, digest FROM repository_blobs AS one WHERE seen_ns < ?1
             AND NOT EXISTS (SELECT 1 FROM repository_contents AS content
                             WHERE content.repository = one.repository AND content.digest = one.digest)
             LIMIT ?2",
            before,
        )?;
        for (repository, digest) in &list {
            self.unlink_blob(repository, digest)?;
        }
        Ok(list.len() as u64)
    }

    fn pairs(&self, sql: &str, before: i64) -> Result<Vec<(String, Digest)>> {
        let mut statement = self.sql.prepare_cached(sql)?;
        let rows = statement.query_map([before, stored(BATCH as u64)], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let mut pairs = Vec::new();
        for row in rows {
            let (repository, digest) = row?;
            if let Ok(digest) = Digest::parse(&digest) {
                pairs.push((repository, digest));
            }
        }
        Ok(pairs)
    }
}
