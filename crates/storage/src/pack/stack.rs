//! Trees of what the store has: a container's own files on their layers, and some layers of an image on others.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci::Digest;
use sys::fsx;

use super::{Form, Part, Tree};
use crate::error::{At, Result};
use crate::images::ImageLayer;
use crate::layers::split_paths;
use crate::leases::Lease;
use crate::store::Store;
use crate::transaction::{Resource, Tx};

impl Store {
    /// A container's own files, and the layers that they are over. The lease keeps all of them, also if the container is removed: let it
    /// live for as long as the tree is read.
    pub fn snapshot_tree(&self, lease: &Lease, id: &str) -> Result<Tree> {
        self.transaction(|tx| tx.keep_snapshot(lease, id))?;
        // Made whole first, where a loss of power has damaged them.
        let upper = self.mounts(id)?.upper.ok_or_else(|| crate::Error::not_found("snapshot", id))?;
        let under = self.transaction(|tx| tx.described_under(id))?;
        let dir = fsx::open_dir(&upper).at("open", &upper)?;
        Ok(Tree { parts: vec![Part::new(dir, None)], base: self.parts(under)?, form: Form::Layer })
    }

    /// All that is seen of a container: its own files, and those of the layers that they do not hide. It needs no mount, and a container
    /// that runs does not notice.
    pub fn seen_tree(&self, lease: &Lease, id: &str) -> Result<Tree> {
        let Tree { mut parts, base, .. } = self.snapshot_tree(lease, id)?;
        parts.extend(base);
        Ok(Tree { parts, base: Vec::new(), form: Form::Plain })
    }

    /// Makes one layer of several, those of `flatten`, which are over those of `keep`; the lowest first in both.
    pub fn squash_layers(&self, lease: &Lease, keep: &[Digest], flatten: &[Digest]) -> Result<ImageLayer> {
        self.transaction(|tx| {
            let mut all = keep.iter().chain(flatten);
            all.try_for_each(|diff_id| tx.hold(lease, &Resource::Layer(diff_id.clone())))
        })?;
        let parts = |diff_ids: &[Digest]| {
            let layers = self.layer_stack(diff_ids)?;
            self.parts(layers.into_iter().rev().map(|layer| (layer.id, layer.implied)).collect())
        };
        let tree = Tree { parts: parts(flatten)?, base: parts(keep)?, form: Form::Exact };
        self.pack_layer(lease, tree)
    }

    /// All that is seen of some layers, the lowest first. The lease keeps them: let it live for as long as the tree is read.
    pub fn layers_tree(&self, lease: &Lease, diff_ids: &[Digest]) -> Result<Tree> {
        let keep = |tx: &Tx<'_>| {
            diff_ids.iter().try_for_each(|diff_id| tx.hold(lease, &Resource::Layer(diff_id.clone())))
        };
        self.transaction(keep)?;
        let layers = self.layer_stack(diff_ids)?;
        let parts = self.parts(layers.into_iter().rev().map(|layer| (layer.id, layer.implied)).collect())?;
        Ok(Tree { parts, base: Vec::new(), form: Form::Plain })
    }

    /// The directory of an unpacked layer, which is only to be read. The lease keeps it.
    pub fn layer_directory(&self, lease: &Lease, diff_id: &Digest) -> Result<OwnedFd> {
        self.transaction(|tx| tx.hold(lease, &Resource::Layer(diff_id.clone())))?;
        let layer = self.layer(diff_id)?.ok_or_else(|| crate::Error::not_found("layer", diff_id.as_str()))?;
        let path = self.layer_path(layer.id);
        fsx::open_dir(&path).at("open", &path)
    }

    fn parts(&self, layers: Vec<(i64, Vec<PathBuf>)>) -> Result<Vec<Part>> {
        let open = |(id, implied): (i64, Vec<PathBuf>)| {
            let path = self.layer_path(id);
            Ok(Part::new(fsx::open_dir(&path).at("open", &path)?, implied))
        };
        layers.into_iter().map(open).collect()
    }
}

impl Tx<'_> {
    /// Makes the lease a keeper of a snapshot that is there.
    fn keep_snapshot(&self, lease: &Lease, id: &str) -> Result<()> {
        let there: bool = self
            .sql
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM snapshots WHERE id = ?)")?
            .query_row([id], |row| row.get(0))?;
        if !there {
            return Err(crate::Error::not_found("snapshot", id));
        }
        self.hold(lease, &Resource::Snapshot(id.to_owned()))
    }

    /// The layers under a snapshot, topmost first, each with the directories that it says nothing of.
    fn described_under(&self, snapshot: &str) -> Result<Vec<(i64, Vec<PathBuf>)>> {
        let mut statement = self.sql.prepare_cached(
            "SELECT id, implied FROM snapshot_layers JOIN layers ON id = layer WHERE snapshot = ? ORDER BY position DESC",
        )?;
        let rows = statement.query_map([snapshot], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        rows.map(|row| {
            let (id, implied) = row?;
            Ok((id, split_paths(&implied)))
        })
        .collect()
    }
}
