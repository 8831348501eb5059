//! Directories that a layer uses but does not describe.
//!
//! An archive may contain `tmp/x` and no `tmp`. Unpacked by itself, the layer then has a `tmp` of default mode and
//! owner, and overlay shows the attributes of the topmost directory: the sticky `tmp` of the layer below would be gone. For an
//! image with such layers a small layer of our own goes on top, with nothing but these directories as the topmost layer that
//! does describe them has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci::Digest;
use rusqlite::OptionalExtension;
use sys::fsx::{self, FileType, Stat};
use sys::path::{Mode, Root};

use crate::error::{At, Result};
use crate::hash;
use crate::layers::{Layer, LayerRow};
use crate::leases;
use crate::pack::is_opaque;
use crate::snapshots::copy_attributes;
use crate::store::Store;
use crate::transaction::Tx;

impl Store {
    /// The number of the layer that goes on top of `layers` (lowest first), if one is needed. Layers numbered so are
    /// known by the digest of the diff ids below them. The lease keeps it, as no image does.
    pub(crate) fn directory_fix(&self, layers: &[Layer], lease_owner: &str) -> Result<Option<i64>> {
        if !may_need_fix(layers) {
            return Ok(None);
        }
        let chain: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let key = format!("fix:{}", hash::digest(chain.join(" ").as_bytes()));
        if let Some(id) = self.transaction(|tx| tx.take_fix(&key, lease_owner))? {
            return Ok(Some(id));
        }
        let wrong = self.wrong_directories(layers)?;
        if wrong.is_empty() {
            return Ok(None);
        }
        self.make_fix(&key, &wrong, lease_owner).map(Some)
    }

    /// The directories whose topmost layer does not describe them while one below does, with what that one says.
    fn wrong_directories(&self, layers: &[Layer]) -> Result<BTreeMap<PathBuf, Stat>> {
        let mut roots = Vec::new();
        for layer in layers {
            let path = self.layer_path(layer.id);
            roots.push(Root::open(&path).at("open", &path)?);
        }
        let mut wrong = BTreeMap::new();
        for path in layers.iter().skip(1).flat_map(|layer| &layer.implied) {
            if path.as_os_str().is_empty() || wrong.contains_key(path) {
                continue;
            }
            if let Some(stat) = described(layers, &roots, path) {
                // The directories above are made on the way and need their attributes too.
                for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                    if let Some(stat) = described(layers, &roots, above).or_else(|| topmost(&roots, above)) {
                        wrong.entry(above.to_owned()).or_insert(stat);
                    }
                }
                wrong.insert(path.clone(), stat);
            }
        }
        Ok(wrong)
    }

    fn make_fix(&self, key: &str, directories: &BTreeMap<PathBuf, Stat>, lease_owner: &str) -> Result<i64> {
        let path = self.path("layers").join(format!("new-{}", self.unique()));
        std::fs::create_dir(&path).at("make", &path)?;
        let made = fill(&path, directories);
        let added = made.and_then(|()| {
            self.transaction(|tx| {
                if let Some(id) = tx.take_fix(key, lease_owner)? {
                    tx.discard_after(path.clone());
                    return Ok(id);
                }
                let entries = directories.len() as u64;
                tx.place_layer(&LayerRow { key, entries, bytes: 0, disk_bytes: 0, implied: &[] }, &path)
            })
        });
        if added.is_err() {
            self.discard(&path)?;
        }
        added
    }
}

impl Tx<'_> {
    /// The number of a layer of this kind, unless a loss of power has left it in doubt. From now on the lease keeps it,
    /// also if it is yet to be made.
    fn take_fix(&self, key: &str, lease_owner: &str) -> Result<Option<i64>> {
        self.add_layer_ref(leases::OWNER, lease_owner, key)?;
        let mut statement = self.sql.prepare_cached(
            "SELECT id FROM layers WHERE diff_id = ? AND (unsynced_boot IS NULL OR unsynced_boot = ?)",
        )?;
        Ok(statement.query_row([key, self.store.boot()], |row| row.get(0)).optional()?)
    }
}

/// Whether there is a directory that a layer below may say more about. The lowest layer's have nothing below them.
pub(crate) fn may_need_fix(layers: &[Layer]) -> bool {
    let implied = |layer: &Layer| layer.implied.iter().any(|path| !path.as_os_str().is_empty());
    layers.iter().skip(1).any(implied)
}

fn fill(path: &Path, directories: &BTreeMap<PathBuf, Stat>) -> Result<()> {
    let root = Root::open(path).at("open", path)?;
    for directory in directories.keys() {
        root.mkdir_all(directory, Mode::from_raw_mode(0o755)).at("make", directory)?;
    }
    // From below: setting a directory's times comes after making what is in it.
    for (directory, stat) in directories.iter().rev() {
        let fd = root.open_dir(directory).at("open", directory)?;
        copy_attributes(stat, fd).at("set the attributes of", directory)?;
    }
    Ok(())
}

/// What the topmost layer that describes the directory `path` says, if a higher one has it without describing it.
fn described(layers: &[Layer], roots: &[Root], path: &Path) -> Option<Stat> {
    let mut shadowed = false;
    for (layer, root) in layers.iter().zip(roots).rev() {
        let above = above(root, path);
        if above == Above::Replaced {
            return None;
        }
        if let Ok(stat) = root.lstat(path) {
            if fsx::kind(&stat) != FileType::Directory {
                // Deleted or replaced here: what is below does not show.
                return None;
            }
            if !layer.implied.iter().any(|implied| implied == path) {
                return shadowed.then_some(stat);
            }
            shadowed = true;
        }
        if above == Above::Opaque {
            return None;
        }
    }
    None
}

/// What a layer makes of the directories that something is in.
#[derive(Debug, PartialEq, Eq)]
enum Above {
    /// They are merged with those of the layers below, or not there.
    Merged,
    /// One of them hides what is in it in the layers below.
    Opaque,
    /// One of them is none here: what would be in it is seen neither of this layer nor of those below.
    Replaced,
}

fn above(root: &Root, path: &Path) -> Above {
    let mut seen = Above::Merged;
    // From the top: below what is no directory, nothing is asked for, as it might be a link.
    let mut directories: Vec<&Path> = path.ancestors().skip(1).collect();
    directories.pop();
    for directory in directories.into_iter().rev() {
        let Ok(stat) = root.lstat(directory) else { break };
        if fsx::kind(&stat) != FileType::Directory {
            return Above::Replaced;
        }
        if root.open_dir(directory).is_ok_and(|fd| is_opaque(&fd).unwrap_or(false)) {
            seen = Above::Opaque;
        }
    }
    seen
}

fn topmost(roots: &[Root], path: &Path) -> Option<Stat> {
    roots
        .iter()
        .rev()
        .find_map(|root| root.lstat(path).ok())
        .filter(|stat| fsx::kind(stat) == FileType::Directory)
}

/// Layers of this kind are not images' own.
pub(crate) fn is_fix(diff_id: &str) -> bool {
    Digest::parse(diff_id).is_err()
}
