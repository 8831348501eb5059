//! A snapshot becomes a layer without being copied: what was written on top of some layers is the next one on top of them.
//!
//! Its archive is written as it is, not compressed: the next step of a build needs the layer now, and whoever sends it away can
//! compress it then. The directory itself is moved, so that nothing is unpacked.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::Algorithm;
use oci::image::media_type;
use sys::fsx;
use sys::lock::Lock;
use sys::xattr;

use super::layer::{Hashed, New, wrapped};
use super::live::{Fence, Naming};
use super::tree::Unsaid;
use super::{Tree, Writer};
use crate::apply::OPAQUE;
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
        let (layer, unsaid) = write(&tree, &new)?;
        let root = fsx::open_dir(&upper).at("open", &upper)?;
        clear(&root, &unsaid).at("clear", &upper)?;
        let usage = fsx::usage(&root).at("measure", &upper)?;
        let expected =
            Expected { digest: layer.digest.clone(), size: layer.size, media_type: layer.media_type.clone() };
        let implied = [PathBuf::new()];
        let row = LayerRow {
            key: layer.diff_id.as_str(),
            entries: usage.inodes.saturating_sub(1),
            bytes: layer.size,
            disk_bytes: usage.bytes,
            implied: if unsaid.root { &implied } else { &[] },
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
fn write(tree: &Tree, new: &New) -> Result<(ImageLayer, Unsaid)> {
    let blob = Hashed { file: &new.file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    let writer = Writer::new(io::BufWriter::with_capacity(GATHERED_BYTES, blob));
    let (mut buffer, unsaid) = tree.pack_noting(writer, Naming::AsIs, Fence::default())?;
    buffer.flush().map_err(|error| wrapped(error, &new.path))?;
    let hashed = buffer.into_inner().map_err(|error| wrapped(error.into_error(), &new.path))?;
    let digest = hashed.hasher.finish()?;
    let layer = ImageLayer {
        digest: digest.clone(),
        size: hashed.size,
        media_type: media_type::OCI_LAYER.to_owned(),
        diff_id: digest,
    };
    Ok((layer, unsaid))
}

/// Makes the directories be what the archive says, on whatever they lie: another image may have a layer of the same content.
fn clear(root: &OwnedFd, unsaid: &Unsaid) -> io::Result<()> {
    for path in &unsaid.nodes {
        if let Some((dir, name)) = place(root, path)? {
            fsx::remove_tree(&dir, name)?;
        }
    }
    for path in &unsaid.opaque {
        if let Some((dir, name)) = place(root, path)? {
            xattr::remove(fsx::open_dir_at(&dir, name)?, OsStr::new(OPAQUE))?;
        }
    }
    Ok(())
}

/// The directory of a path, of directories that nobody else changes, and the name in it.
fn place<'a>(root: &OwnedFd, path: &'a [u8]) -> io::Result<Option<(OwnedFd, &'a OsStr)>> {
    let path = Path::new(OsStr::from_bytes(path));
    let Some(name) = path.file_name() else { return Ok(None) };
    let mut dir = fsx::open_dir_at(root, ".")?;
    for step in path.parent().unwrap_or(Path::new("")) {
        dir = fsx::open_dir_at(&dir, step)?;
    }
    Ok(Some((dir, name)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use sys::fsx::{FileType, Mode};

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

    /// A layer is found again by its content: whoever else has one of the same archive has its directories too.
    #[test]
    fn directories_hold_what_the_archive_says_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let lease = store.lease("test", Duration::from_secs(60)).unwrap();
        store.create_snapshot("base", &[], &lease).unwrap();
        let upper = store.mounts("base").unwrap().upper.unwrap();
        std::fs::create_dir_all(upper.join("etc/deep")).unwrap();
        std::fs::set_permissions(&upper, PermissionsExt::from_mode(0o711)).unwrap();
        let base = store.adopt_snapshot(&lease, "base").unwrap();
        store.create_snapshot("next", std::slice::from_ref(&base.diff_id), &lease).unwrap();
        let lower = root.path().join("layers").join(layer_id(&store, &base));
        let upper = store.mounts("next").unwrap().upper.unwrap();
        // What overlay leaves where something was made and removed again below directories that were there.
        for path in ["etc", "etc/deep"] {
            std::fs::create_dir(upper.join(path)).unwrap();
            let time = lower.join(path).metadata().unwrap().modified().unwrap();
            std::fs::File::open(upper.join(path)).unwrap().set_modified(time).unwrap();
        }
        std::fs::create_dir(upper.join("new")).unwrap();
        let opaque = fsx::open_dir(upper.join("new")).unwrap();
        xattr::set(&opaque, OsStr::new(OPAQUE), b"y").unwrap();
        let dir = fsx::open_dir(&upper).unwrap();
        fsx::mknod_at(&dir, "gone", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
        let next = store.adopt_snapshot(&lease, "next").unwrap();
        let dir = root.path().join("layers").join(layer_id(&store, &next));
        let names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names, ["new"]);
        assert!(!super::super::is_opaque(&fsx::open_dir(dir.join("new")).unwrap()).unwrap());
        // Nor does it say what the root is like.
        store.create_snapshot("alone", std::slice::from_ref(&next.diff_id), &lease).unwrap();
        let alone = store.mounts("alone").unwrap().upper.unwrap();
        assert_eq!(alone.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }

    fn layer_id(store: &Store, layer: &ImageLayer) -> String {
        store.layer(&layer.diff_id).unwrap().unwrap().id.to_string()
    }
}
