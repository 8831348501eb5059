//! Everything that is written to the metadata is written in a transaction: all of it, or nothing.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::params;

use crate::error::{At, Error, Result};
use crate::schema;
use crate::snapshots::PreparedSnapshot;
use crate::store::Store;

/// A transaction under way. It sees its own writes; others see all of them once it is committed, or none.
pub struct Tx<'a> {
    pub(crate) store: &'a Store,
    pub(crate) sql: rusqlite::Transaction<'a>,
    discarded: RefCell<Vec<PathBuf>>,
    // After the SQL: what was moved goes back when the rows that spoke of it are gone.
    moves: Moves,
    snapshots: RefCell<Vec<PreparedSnapshot>>,
}

/// Files and directories that were moved to their places in a transaction. They go back unless it is committed: on a
/// full disk it is the commit that fails, when everything else has been done.
#[derive(Default)]
struct Moves {
    list: RefCell<Vec<(PathBuf, PathBuf)>>,
}

impl Moves {
    fn stay(self) {
        self.list.borrow_mut().clear();
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        for (from, to) in self.list.get_mut().drain(..).rev() {
            // A name that was free a moment ago needs no room.
            if let Err(error) = fs::rename(&to, &from).at("move back", &to) {
                tracing::warn!(%error, "left behind");
            }
        }
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tx").finish_non_exhaustive()
    }
}

/// How sure a commit is to survive a loss of power. All of them survive the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It may be lost with the last seconds before.
    Relaxed,
    /// It is on the disk when the call returns, and with it every commit before.
    Full,
}

/// Something that garbage collection keeps as long as somebody refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A blob.
    Blob(oci::Digest),
    /// An unpacked layer, by its diff id.
    Layer(oci::Digest),
    /// A snapshot, and with it the layers under it.
    Snapshot(String),
}

impl Resource {
    fn columns(&self) -> (&'static str, &str) {
        match self {
            Self::Blob(digest) => ("blob", digest.as_str()),
            Self::Layer(digest) => ("layer", digest.as_str()),
            Self::Snapshot(id) => ("snapshot", id),
        }
    }
}

impl Store {
    /// Runs `work` in a transaction, and commits it if it succeeds. Keep it short: one runs at a time. Inside, use
    /// what [`Tx`] offers: the store's own methods, and the end of a [`Lease`](crate::Lease), would wait for it for ever.
    pub fn transaction<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.transaction_with(Durability::Relaxed, work)
    }

    /// As [`Store::transaction`], with the commit on the disk when it returns: for what a user was told is done and cannot
    /// be had again from elsewhere (names, volumes).
    pub fn durable_transaction<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.transaction_with(Durability::Full, work)
    }

    fn transaction_with<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection();
        let full = durability == Durability::Full;
        if full {
            connection.pragma_update(None, "synchronous", "FULL")?;
        }
        let run = || -> Result<(T, Vec<PathBuf>)> {
            let tx = Tx {
                store: self,
                sql: connection.transaction()?,
                discarded: RefCell::default(),
                moves: Moves::default(),
                snapshots: RefCell::default(),
            };
            let value = work(&tx)?;
            let Tx { sql, discarded, moves, snapshots, .. } = tx;
            sql.commit()?;
            moves.stay();
            snapshots.into_inner().into_iter().for_each(PreparedSnapshot::keep);
            Ok((value, discarded.into_inner()))
        };
        let outcome = run();
        if matches!(outcome, Err(Error::NoSpace { .. })) {
            schema::shrink(&connection);
        }
        if full {
            connection.pragma_update(None, "synchronous", "NORMAL")?;
        }
        let (value, discarded) = outcome?;
        // Still under the connection's lock: nobody can make something of the same name before the old is out of the way.
        for path in discarded {
            if let Err(error) = self.discard(&path) {
                // The next start finds it without a row, and tries again.
                tracing::warn!(%error, "left behind");
            }
        }
        Ok(value)
    }
}

impl Tx<'_> {
    /// Throws `path` away once the transaction is committed.
    pub(crate) fn discard_after(&self, path: PathBuf) {
        self.discarded.borrow_mut().push(path);
    }

    /// Moves `from` to its place `to`, where nothing is; back again if the transaction fails.
    pub(crate) fn move_to(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).at("make", to)?;
        self.moves.list.borrow_mut().push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Keeps the directories of a snapshot if the transaction is committed, and removes them if it fails.
    pub(crate) fn keep_after(&self, prepared: PreparedSnapshot) {
        self.snapshots.borrow_mut().push(prepared);
    }

    /// Makes `owner` the keeper of exactly these.
    pub(crate) fn set_refs(&self, owner_kind: &str, owner: &str, resources: &[Resource]) -> Result<()> {
        self.clear_refs(owner_kind, owner)?;
        resources.iter().try_for_each(|resource| self.add_ref(owner_kind, owner, resource))
    }

    /// Makes `owner` the keeper of one more.
    pub(crate) fn add_ref(&self, owner_kind: &str, owner: &str, resource: &Resource) -> Result<()> {
        let (kind, target) = resource.columns();
        self.insert_ref(owner_kind, owner, kind, target)
    }

    /// As [`Tx::add_ref`], for a layer of our own making, which has no diff id.
    pub(crate) fn add_layer_ref(&self, owner_kind: &str, owner: &str, key: &str) -> Result<()> {
        self.insert_ref(owner_kind, owner, "layer", key)
    }

    fn insert_ref(&self, owner_kind: &str, owner: &str, kind: &str, target: &str) -> Result<()> {
        self.sql
            .prepare_cached(
                "INSERT OR IGNORE INTO refs (owner_kind, owner, kind, target) VALUES (?, ?, ?, ?)",
            )?
            .execute(params![owner_kind, owner, kind, target])?;
        Ok(())
    }

    /// Makes `owner` the keeper of one less.
    pub(crate) fn remove_ref(&self, owner_kind: &str, owner: &str, resource: &Resource) -> Result<()> {
        let (kind, target) = resource.columns();
        self.sql
            .prepare_cached(
                "DELETE FROM refs WHERE owner_kind = ? AND owner = ? AND kind = ? AND target = ?",
            )?
            .execute(params![owner_kind, owner, kind, target])?;
        Ok(())
    }

    /// Makes `owner` the keeper of nothing.
    pub(crate) fn clear_refs(&self, owner_kind: &str, owner: &str) -> Result<()> {
        self.sql
            .prepare_cached("DELETE FROM refs WHERE owner_kind = ? AND owner = ?")?
            .execute(params![owner_kind, owner])?;
        Ok(())
    }
}
