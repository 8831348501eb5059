//! A snapshot becomes a layer without being copied: what was written on top of some layers is the next one on top of them.
//!
//! Its archive is written as it is, not compressed: the next step of a build needs the layer now, and whoever sends it away can
//! compress it then. The directory itself is moved, so that nothing is unpacked.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::Algorithm;
use oci::image::media_type;
use sys::fsx;
use sys::lock::Lock;

use super::layer::{Hashed, New, wrapped};
use super::live::{Fence, Naming};
use super::{Tree, Writer};
use crate::content::Expected;
use crate::error::{At, Error, Result};
use crate::hash::Hasher;
use crate::images::ImageLayer;
use crate::layers::LayerRow;
use crate::leases::{Lease, OWNER};
use crate::store::Store;
use crate::transaction::Resource;

/// Bytes that are handed on at once.
const GATHERED_BYTES: usize = 256 * 1024;

impl Store {
    /// Makes a layer of what a snapshot holds, which is gone then; nothing mounts it any more, or is about to end doing so. The lease
    /// keeps the layer.
    pub fn adopt_snapshot(&self, lease: &Lease, id: &str) -> Result<ImageLayer> {
        let mounts = self.mounts(id)?;
        let missing = || Error::not_found("snapshot", id);
        let (upper, work) = (mounts.upper.ok_or_else(missing)?, mounts.work.ok_or_else(missing)?);
        // Whoever mounts it holds this lock until the mount has ended.
        let _ended = fsx::open_dir(&work).and_then(Lock::exclusive_fd).at("lock", &work)?;
        let tree = self.snapshot_tree(lease, id)?;
        let new = New::make(self)?;
        let (layer, stubs) = write(&tree, &new)?;
        let root = fsx::open_dir(&upper).at("open", &upper)?;
        for stub in &stubs {
            remove(&root, stub).at("clear", &upper)?;
        }
        let usage = fsx::usage(&root).at("measure", &upper)?;
        let expected =
            Expected { digest: layer.digest.clone(), size: layer.size, media_type: layer.media_type.clone() };
        let row = LayerRow {
            key: layer.diff_id.as_str(),
            entries: usage.inodes.saturating_sub(1),
            bytes: layer.size,
            disk_bytes: usage.bytes,
            implied: &[],
        };
        self.transaction(|tx| {
            tx.hold(lease, &Resource::Layer(layer.diff_id.clone()))?;
            if tx.layer(&layer.diff_id)?.is_none() {
                tx.place_layer(&row, &upper)?;
            }
            tx.add_blob_for(&expected, Some(&layer.diff_id), &new.path, &lease.owner())?;
            tx.remove_ref(OWNER, &lease.owner(), &Resource::Snapshot(id.to_owned()))?;
            tx.remove_snapshot(id)
        })?;
        Ok(layer)
    }
}

/// Writes the archive; what it is as a layer, and what of the tree is not in it.
fn write(tree: &Tree, new: &New) -> Result<(ImageLayer, Vec<Vec<u8>>)> {
    let blob = Hashed { file: &new.file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    let writer = Writer::new(io::BufWriter::with_capacity(GATHERED_BYTES, blob));
    let (mut buffer, stubs) = tree.pack_noting(writer, Naming::AsIs, Fence::default())?;
    buffer.flush().map_err(|error| wrapped(error, &new.path))?;
    let hashed = buffer.into_inner().map_err(|error| wrapped(error.into_error(), &new.path))?;
    let digest = hashed.hasher.finish()?;
    let layer = ImageLayer {
        digest: digest.clone(),
        size: hashed.size,
        media_type: media_type::OCI_LAYER.to_owned(),
        diff_id: digest,
    };
    Ok((layer, stubs))
}

/// Removes what is at a path of directories that nobody else changes.
fn remove(root: impl AsFd, path: &[u8]) -> io::Result<()> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let Some(name) = path.file_name() else { return Ok(()) };
    let parent = path.parent().unwrap_or(Path::new(""));
    let mut dir = fsx::open_dir_at(&root, ".")?;
    for step in parent {
        dir = fsx::open_dir_at(&dir, step)?;
    }
    fsx::remove_tree(&dir, name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_written_is_a_layer_and_its_archive_says_the_same() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let lease = store.lease("test", Duration::from_secs(60)).unwrap();
        store.create_snapshot("one", &[], &lease).unwrap();
        let upper = store.mounts("one").unwrap().upper.unwrap();
        std::fs::create_dir_all(upper.join("etc")).unwrap();
        std::fs::write(upper.join("etc/hosts"), "").unwrap();
        std::fs::write(upper.join("etc/own"), "content").unwrap();
        let layer = store.adopt_snapshot(&lease, "one").unwrap();
        assert!(!upper.exists());
        let unpacked = store.layer(&layer.diff_id).unwrap().unwrap();
        let dir = root.path().join("layers").join(unpacked.id.to_string());
        assert_eq!(std::fs::read(dir.join("etc/own")).unwrap(), b"content");
        assert!(!dir.join("etc/hosts").exists());
        assert_eq!(store.blob_info(&layer.digest).unwrap().unwrap().size, layer.size);
        // Nothing written: always the same layer, once.
        for id in ["two", "three"] {
            store.create_snapshot(id, std::slice::from_ref(&layer.diff_id), &lease).unwrap();
            let empty = store.adopt_snapshot(&lease, id).unwrap();
            assert_eq!(empty.size, 1024);
        }
        assert_eq!(std::fs::read_dir(root.path().join("content/new")).unwrap().count(), 0);
        drop(lease);
        let collected = store.gc().unwrap();
        assert_eq!((collected.layers, collected.snapshots, collected.blobs), (2, 0, 2));
    }
}
