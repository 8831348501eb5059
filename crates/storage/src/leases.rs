//! Leases keep what work in progress has made from being collected, until a record of it stands.

use std::time::Duration;

use rusqlite::params;

use crate::error::Result;
use crate::store::{Store, now_ns};
use crate::transaction::{Resource, Tx};

pub(crate) const OWNER: &str = "lease";

/// A lease. Dropping it gives up what it holds. If the process dies instead, it lasts until its time is
/// over, so that a pull that is begun again finds what it had.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: i64,
}

impl Store {
    /// A lease for `what` (said in logs), lasting `time` if it is not dropped before.
    pub fn lease(&self, what: &str, time: Duration) -> Result<Lease> {
        let id = self.transaction(|tx| tx.begin_lease(what, time))?;
        Ok(Lease { store: self.clone(), id })
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

    /// A lease as a number, for what may be dropped in a transaction: whoever has it ends it.
    pub(crate) fn begin_lease(&self, what: &str, time: Duration) -> Result<i64> {
        let expires = now_ns().saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        self.sql
            .prepare_cached("INSERT INTO leases (what, expires_ns) VALUES (?, ?)")?
            .execute(params![what, expires])?;
        Ok(self.sql.last_insert_rowid())
    }

    pub(crate) fn end_lease(&self, id: i64) -> Result<()> {
        self.clear_refs(OWNER, &id.to_string())?;
        self.sql.prepare_cached("DELETE FROM leases WHERE id = ?")?.execute([id])?;
        Ok(())
    }

    /// Ends leases whose time is over, and those whose end could not be written when it came.
    pub(crate) fn expire_leases(&self, ended: &[i64]) -> Result<()> {
        ended.iter().try_for_each(|id| self.end_lease(*id))?;
        let now = now_ns();
        self.sql.execute(
            "DELETE FROM refs WHERE owner_kind = ?1 AND owner IN
             (SELECT CAST(id AS TEXT) FROM leases WHERE expires_ns <= ?2)",
            params![OWNER, now],
        )?;
        self.sql.execute("DELETE FROM leases WHERE expires_ns <= ?", [now])?;
        Ok(())
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
