//! Layers that a loss of power took.
//!
//! What was not flushed may be incomplete after another boot. A layer in this doubt is as good as not there, until it
//! is unpacked again from its blob (or, a layer of our own making, put together again). It gets the number that it had,
//! since the snapshots of containers know it by that.

use std::time::Duration;

use oci::Digest;
use rusqlite::OptionalExtension;

use crate::error::{Error, Result};
use crate::images::ImageLayer;
use crate::leases::Lease;
use crate::store::Store;
use crate::transaction::{Resource, Tx};

/// How long layers that are being restored are kept if the process dies over it: the next one begins anew.
const RESTORE_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// A layer under a snapshot.
struct Under {
    id: i64,
    key: String,
    doubtful: bool,
}

impl Store {
    /// Makes sure that the layers of an image are unpacked: those that a loss of power took are made again of their blobs.
    pub fn restore_layers(&self, layers: &[ImageLayer]) -> Result<()> {
        let missing = self.transaction(|tx| {
            let mut missing = Vec::new();
            for layer in layers {
                if tx.layer(&layer.diff_id)?.is_none() {
                    missing.push(layer);
                }
            }
            Ok(missing)
        })?;
        if missing.is_empty() {
            return Ok(());
        }
        let _alone = self.restoring();
        let lease = self.lease("restore layers", RESTORE_TIME_MAX)?;
        for layer in missing {
            tracing::info!(layer = %layer.diff_id, "unpacking again");
            self.unpack_blob(&lease, &layer.digest, Some(&layer.diff_id))?;
        }
        Ok(())
    }

    /// The numbers of the layers under a snapshot, the lowest first, each of them whole.
    pub(crate) fn whole_layers_under(&self, snapshot: &str) -> Result<Vec<i64>> {
        let mut under = self.transaction(|tx| tx.layers_under(snapshot))?;
        if under.iter().any(|layer| layer.doubtful) {
            // After a loss of power many containers start at once, and share layers: what another has made meanwhile
            // is not made twice.
            let _alone = self.restoring();
            under = self.transaction(|tx| tx.layers_under(snapshot))?;
            self.restore_under(&under)?;
        }
        Ok(under.into_iter().map(|layer| layer.id).collect())
    }

    fn restore_under(&self, under: &[Under]) -> Result<()> {
        let lease = self.lease("restore layers", RESTORE_TIME_MAX)?;
        let mut diff_ids = Vec::new();
        for layer in under {
            match Digest::parse(&layer.key) {
                Ok(diff_id) => {
                    if layer.doubtful {
                        self.restore_layer(&lease, &diff_id)?;
                    }
                    diff_ids.push(diff_id);
                }
                // One of ours is on top of all that it was made of.
                Err(_) if layer.doubtful => {
                    tracing::info!(layer = layer.key, "making again");
                    self.directory_fix(&self.layer_stack(&diff_ids)?, &lease.owner())?;
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn restore_layer(&self, lease: &Lease, diff_id: &Digest) -> Result<()> {
        let blob = self.transaction(|tx| {
            let blob = tx.blob_of(diff_id)?;
            if let Some(blob) = &blob {
                tx.hold(lease, &Resource::Blob(blob.clone()))?;
            }
            Ok(blob)
        })?;
        let blob = blob.ok_or_else(|| Error::LayerLost { diff_id: diff_id.clone() })?;
        tracing::info!(layer = %diff_id, "unpacking again");
        self.unpack_blob(lease, &blob, Some(diff_id))?;
        Ok(())
    }
}

impl Tx<'_> {
    /// The layers under a snapshot, the lowest first.
    fn layers_under(&self, snapshot: &str) -> Result<Vec<Under>> {
        let found: Option<i64> = self
            .sql
            .prepare_cached("SELECT created_ns FROM snapshots WHERE id = ?")?
            .query_row([snapshot], |row| row.get(0))
            .optional()?;
        found.ok_or_else(|| Error::not_found("snapshot", snapshot))?;
        let mut statement = self.sql.prepare_cached(
            "SELECT layer, diff_id, unsynced_boot IS NOT NULL AND unsynced_boot <> ?2
             FROM snapshot_layers LEFT JOIN layers ON id = layer WHERE snapshot = ?1 ORDER BY position",
        )?;
        let rows = statement.query_map([snapshot, self.store.boot()], |row| {
            Ok((row.get(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?))
        })?;
        rows.map(|row| {
            let (id, key, doubtful): (i64, _, _) = row?;
            let key = key.ok_or_else(|| Error::not_found("layer", id.to_string()))?;
            Ok(Under { id, key, doubtful })
        })
        .collect()
    }

    /// A blob that the layer can be unpacked from.
    fn blob_of(&self, diff_id: &Digest) -> Result<Option<Digest>> {
        let text: Option<String> = self
            .sql
            .prepare_cached("SELECT digest FROM blobs WHERE diff_id = ? LIMIT 1")?
            .query_row([diff_id.as_str()], |row| row.get(0))
            .optional()?;
        Ok(text.and_then(|text| Digest::parse(&text).ok()))
    }
}
