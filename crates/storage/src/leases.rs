//! Leases keep what work in progress has made from being collected, until a record of it stands.

use std::time::Duration;

use rusqlite::params;

use crate::error::Result;
use crate::store::{Store, now_ns};
use crate::transaction::{Resource, Tx};

pub(crate) const OWNER: &str = "lease";

/// A lease. It lasts until it is dropped, which gives up what it holds. If the process dies instead, it lasts until its time is
/// over, so that a pull that is begun again finds what it had.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: i64,
}

/// What leases begin with that end with their process: nothing goes on with what they keep.
const PASSING: &str = "passing: ";
/// A lease of a living process lasts as long as whoever has it; this is for tools that look into the metadata.
const PASSING_TIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Store {
    /// A lease for `what`, lasting `time` should the process die. It takes over what leases of dead processes for the same hold: who
    /// begins again finds what there was, and gives it up with what is new.
    pub fn lease(&self, what: &str, time: Duration) -> Result<Lease> {
        let id = self.transaction(|tx| tx.begin_lease(what, time))?;
        Ok(Lease { store: self.clone(), id })
    }
}

impl Store {
    /// A lease that ends with this process at the latest, however that ends.
    pub fn passing_lease(&self, what: &str) -> Result<Lease> {
        self.lease(&format!("{PASSING}{what}"), PASSING_TIME)
    }
}

impl Lease {
    /// Keeps one more thing.
    pub fn hold(&self, resource: &Resource) -> Result<()> {
        self.store.transaction(|tx| tx.hold(self, resource))
    }

    pub(crate) fn owner(&self) -> String {
        self.id.to_string()
    }
}

impl Tx<'_> {
    /// Makes a lease keep one more thing.
    pub fn hold(&self, lease: &Lease, resource: &Resource) -> Result<()> {
        self.add_ref(OWNER, &lease.owner(), resource)
    }

    /// Makes a lease keep one thing less.
    pub fn let_go(&self, lease: &Lease, resource: &Resource) -> Result<()> {
        self.remove_ref(OWNER, &lease.owner(), resource)
    }

    /// A lease as a number, for what may be dropped in a transaction: whoever has it ends it.
    pub(crate) fn begin_lease(&self, what: &str, time: Duration) -> Result<i64> {
        let mut dead = self.sql.prepare_cached("SELECT id FROM leases WHERE what = ? AND id <= ?")?;
        let dead: Vec<i64> = dead
            .query_map(params![what, self.store.last_foreign_lease()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let expires = now_ns().saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        self.sql
            .prepare_cached("INSERT INTO leases (what, expires_ns) VALUES (?, ?)")?
            .execute(params![what, expires])?;
        let id = self.sql.last_insert_rowid();
        for dead in dead {
            self.sql
                .prepare_cached("UPDATE OR IGNORE refs SET owner = ?2 WHERE owner_kind = ?3 AND owner = ?1")?
                .execute(params![dead.to_string(), id.to_string(), OWNER])?;
            self.end_lease(dead)?;
        }
        Ok(id)
    }

    pub(crate) fn end_lease(&self, id: i64) -> Result<()> {
        self.clear_refs(OWNER, &id.to_string())?;
        self.sql.prepare_cached("DELETE FROM leases WHERE id = ?")?.execute([id])?;
        Ok(())
    }

    /// Ends the leases that an earlier process should have taken along; whether there were any.
    pub(crate) fn end_passing_leases(&self) -> Result<bool> {
        let mut statement =
            self.sql.prepare("SELECT id FROM leases WHERE substr(what, 1, length(?1)) = ?1")?;
        let ids = statement.query_map([PASSING], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
        ids.iter().try_for_each(|id| self.end_lease(*id))?;
        Ok(!ids.is_empty())
    }

    /// Ends leases of dead processes whose time is over, and those whose end could not be written when it came. One of this process
    /// lasts as long as whoever has it, however slow the work: numbers are never given twice, so those above the last one that
    /// was there at the beginning are its own.
    pub(crate) fn expire_leases(&self, ended: &[i64]) -> Result<()> {
        ended.iter().try_for_each(|id| self.end_lease(*id))?;
        let mut over = self.sql.prepare_cached("SELECT id FROM leases WHERE expires_ns <= ? AND id <= ?")?;
        let over: Vec<i64> = over
            .query_map([now_ns(), self.store.last_foreign_lease()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        over.into_iter().try_for_each(|id| self.end_lease(id))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.store.transaction(|tx| tx.end_lease(self.id)) {
            // On a full disk, say. The next collection makes up for it.
            tracing::debug!(%error, "lease ends later");
            self.store.ended_leases().push(self.id);
        }
    }
}
