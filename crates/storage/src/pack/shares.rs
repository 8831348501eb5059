//! What each of several layers brings, and what of it the layers above hide.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::Digest;
use sys::fsx::{self, FileType};

use super::tree::{is_opaque, is_whiteout, join};
use crate::error::{At, Error, Result};
use crate::leases::Lease;
use crate::store::Store;
use crate::transaction::Resource;

/// Files that are remembered at once: an image of several millions is looked at with some hundred megabytes.
const FILES_MAX: usize = 4_000_000;
/// Directories within each other.
const DEPTH_MAX: usize = 512;

/// What a layer brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerShare {
    /// Bytes of its files; one with several names counts once.
    pub bytes: u64,
    /// Files that are in no layer below.
    pub added: u64,
    /// Files in place of those of layers below.
    pub changed: u64,
    /// Files of layers below that are gone with it.
    pub removed: u64,
    /// Bytes of its files that layers above hide.
    pub wasted: u64,
}

/// A file that is seen so far.
struct Seen {
    layer: u16,
    bytes: u64,
}

struct Survey {
    shares: Vec<LayerShare>,
    seen: BTreeMap<Vec<u8>, Seen>,
}

impl Store {
    /// What each of these layers brings, the lowest first.
    pub fn layer_shares(&self, lease: &Lease, diff_ids: &[Digest]) -> Result<Vec<LayerShare>> {
        for diff_id in diff_ids {
            lease.hold(&Resource::Layer(diff_id.clone()))?;
        }
        let layers = self.layer_stack(diff_ids)?;
        let mut survey = Survey { shares: vec![LayerShare::default(); layers.len()], seen: BTreeMap::new() };
        for (number, layer) in layers.iter().enumerate() {
            let path = self.layer_path(layer.id);
            let root = fsx::open_dir(&path).at("open", &path)?;
            survey.layer(u16::try_from(number).unwrap_or(u16::MAX), root)?;
        }
        Ok(survey.shares)
    }
}

struct Level {
    path: Vec<u8>,
    fd: OwnedFd,
    todo: Vec<Vec<u8>>,
}

fn level(path: Vec<u8>, fd: OwnedFd) -> Result<Level> {
    let list = fsx::list(&fd).map_err(|error| failed("list", &path, error))?;
    let todo = list.into_iter().map(|entry| entry.name.as_bytes().to_vec()).collect();
    Ok(Level { path, fd, todo })
}

fn failed(verb: &'static str, path: &[u8], error: std::io::Error) -> Error {
    Error::io(verb, Path::new(OsStr::from_bytes(path)), error)
}

impl Survey {
    fn layer(&mut self, number: u16, root: OwnedFd) -> Result<()> {
        let mut linked = HashSet::new();
        let mut levels = vec![level(Vec::new(), root)?];
        while let Some(here) = levels.last_mut() {
            let Some(name) = here.todo.pop() else {
                levels.pop();
                continue;
            };
            let path = join(&here.path, &name);
            let name = OsStr::from_bytes(&name);
            let error = |error| failed("look at", &path, error);
            let stat = fsx::stat_at(&here.fd, name).map_err(error)?;
            if fsx::kind(&stat) == FileType::Directory {
                let fd = fsx::open_dir_at(&here.fd, name).map_err(error)?;
                // In place of a file, or of all that was in it.
                self.hide(number, &path, false);
                if is_opaque(&fd).map_err(error)? {
                    self.hide_below(number, &path);
                }
                if levels.len() >= DEPTH_MAX {
                    return Err(Error::Limit { what: "depth of a path in a layer", limit: DEPTH_MAX as u64 });
                }
                levels.push(level(path, fd)?);
                continue;
            }
            if is_whiteout(&stat) {
                self.hide(number, &path, false);
                self.hide_below(number, &path);
                continue;
            }
            let once = stat.st_nlink < 2 || linked.insert(stat.st_ino);
            let bytes = if once && fsx::kind(&stat) == FileType::RegularFile { stat.st_size } else { 0 };
            self.file(number, path, u64::try_from(bytes).unwrap_or(0))?;
        }
        Ok(())
    }

    fn share(&mut self, layer: u16) -> &mut LayerShare {
        &mut self.shares[usize::from(layer)]
    }

    fn file(&mut self, layer: u16, path: Vec<u8>, bytes: u64) -> Result<()> {
        let replaced = self.hide(layer, &path, true);
        // A file in place of a directory.
        self.hide_below(layer, &path);
        let share = self.share(layer);
        share.bytes += bytes;
        if replaced {
            share.changed += 1;
        } else {
            share.added += 1;
        }
        if self.seen.len() >= FILES_MAX {
            return Err(Error::Limit { what: "number of files of an image", limit: FILES_MAX as u64 });
        }
        self.seen.insert(path, Seen { layer, bytes });
        Ok(())
    }

    /// A file of a layer below is not seen any more; whether there was one.
    fn hide(&mut self, by: u16, path: &[u8], replaced: bool) -> bool {
        if self.seen.get(path).is_none_or(|seen| seen.layer == by) {
            return false;
        }
        let Some(Seen { layer, bytes }) = self.seen.remove(path) else { return false };
        self.share(layer).wasted += bytes;
        if !replaced {
            self.share(by).removed += 1;
        }
        true
    }

    /// All that is below a path in the layers below is not seen any more.
    fn hide_below(&mut self, by: u16, path: &[u8]) {
        // `0` follows the slash.
        let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below = self.seen.range(from..to).filter(|(_, seen)| seen.layer != by);
        let gone: Vec<Vec<u8>> = below.map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.hide(by, &path, false);
        }
    }
}
