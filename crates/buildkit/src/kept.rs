//! Directories that were sent, kept for the next build of the same client: it sends what has changed since.
//!
//! A directory is used by one build at a time. Who comes for one that is in use gets an empty one, which goes when the build does.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};
use sys::fsx;
use sys::path::Mode;

use crate::builder::Cached;
use crate::cached::Selection;
use crate::error::{Error, Result};

/// What such directories are among the entries of the build cache.
const KIND: &str = "source.local";
/// Directories that are kept; the one that was not used for longest goes first.
const KEPT_MAX: usize = 32;
/// Bytes that they may have together where the disk is large, and of any disk one part in so many.
const BYTES_MAX: u64 = 10 << 30;
const PART_OF_DISK: u64 = 20;
/// What the names of directories begin with that go with their build.
const ONCE: &str = "once-";
/// The file that tells in which run of the machine the directories were written: what was in memory when the power went is not in
/// the files, though their times say so.
const BOOT: &str = "boot";
/// An id of the kernel's is 37 bytes long.
const BOOT_BYTES_MAX: u64 = 64;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Nobody but the engine looks inside.
const PRIVATE: Mode = Mode::from_raw_mode(0o700);

/// The directories that are kept.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    /// Made when it is needed, where that was not possible before: a full disk has no room for it.
    dir: OnceLock<OwnedFd>,
    used: Mutex<HashSet<String>>,
    next: AtomicU64,
    /// What each occupies, as far as it was measured.
    sizes: Mutex<HashMap<String, u64>>,
    bytes_max: u64,
}

/// A directory that is kept, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDirectory {
    /// Its name.
    pub name: String,
    /// What it occupies.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used_s: i64,
}

impl Kept {
    /// Opens the place where directories are kept, and removes what an ended daemon left half-made. What cannot be done of that,
    /// for want of room above all, is logged: builds that need it fail, and nothing else. Blocks.
    pub fn open(path: &Path) -> Arc<Self> {
        let mut kept = Self {
            path: path.to_owned(),
            dir: OnceLock::new(),
            used: Mutex::default(),
            next: AtomicU64::new(0),
            sizes: Mutex::default(),
            bytes_max: BYTES_MAX,
        };
        match kept.dir().and_then(clear) {
            Ok(disk) => kept.bytes_max = (disk / PART_OF_DISK).min(BYTES_MAX),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cannot prepare the place for build contexts");
            }
        }
        Arc::new(kept)
    }

    /// The place, made if need be.
    fn dir(&self) -> io::Result<&OwnedFd> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let dir = fsx::open_dir(&self.path)?;
        Ok(self.dir.get_or_init(|| dir))
    }

    /// Gives a directory: what was kept under the key if nobody uses it, else an empty one. Blocks.
    pub(crate) fn lease(self: &Arc<Self>, key: Option<&str>) -> Result<Lease> {
        let name = key.map(|key| hex::encode(Sha256::digest(key.as_bytes())));
        let name =
            name.filter(|name| self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()));
        let is_kept = name.is_some();
        let name = name.unwrap_or_else(|| format!("{ONCE}{}", self.next.fetch_add(1, Ordering::Relaxed)));
        // From here on the lease's end gives the name free.
        let lease = Lease { kept: Arc::clone(self), name, is_kept };
        let dir = self.dir().map_err(Error::io("make the place of", "/"))?;
        match fsx::mkdir_at(dir, &lease.name, PRIVATE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_kept => {}
            made => made.map_err(Error::io("make a place for", "/"))?,
        }
        Ok(lease)
    }

    /// What is kept, that first which was not used for longest. Blocks.
    pub fn list(&self) -> Vec<KeptDirectory> {
        let Ok(dir) = self.dir() else { return Vec::new() };
        let mut all: Vec<_> = fsx::list(dir)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|entry| {
                let name = entry.name.into_string().ok()?;
                let is_kept = name != BOOT && !name.starts_with(ONCE);
                let used = is_kept.then(|| fsx::stat_at(dir, &name).ok()).flatten()?;
                Some(((used.st_ctime, used.st_ctime_nsec), name))
            })
            .collect();
        all.sort_unstable();
        all.into_iter()
            .map(|((used_s, _), name)| KeptDirectory { bytes: self.size(&name), name, used_s })
            .collect()
    }

    /// What a directory occupies, measured where that is not known.
    fn size(&self, name: &str) -> u64 {
        let known = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        known.unwrap_or_else(|| self.measure(name))
    }

    fn measure(&self, name: &str) -> u64 {
        let dir = self.dir().and_then(|dir| fsx::open_dir_at(dir, name));
        let bytes = dir.and_then(fsx::usage).map_or(0, |usage| usage.bytes);
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes);
        bytes
    }

    /// Removes a directory, unless a build uses it. Blocks.
    fn remove(&self, name: &str) -> bool {
        if !self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned()) {
            return false;
        }
        let removed = self.dir().and_then(|dir| fsx::remove_tree(dir, name));
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Err(error) = &removed {
            tracing::warn!(%error, name, "cannot remove a build context that was kept");
        }
        removed.is_ok()
    }

    /// Removes the directories that were not used for longest, until no more are left than may be. Blocks.
    fn make_room(&self) {
        let all = self.list();
        let (mut count, mut bytes) = (all.len(), all.iter().map(|one| one.bytes).sum::<u64>());
        for one in all {
            if count <= KEPT_MAX && bytes <= self.bytes_max {
                return;
            }
            if self.remove(&one.name) {
                count -= 1;
                bytes = bytes.saturating_sub(one.bytes);
            }
        }
    }

    /// Removes those of a selection that no build uses, and none has used since `before`, in seconds since 1970; what is gone. Blocks.
    pub fn prune(&self, before: i64, selection: &Selection) -> Vec<KeptDirectory> {
        let is_meant = |one: &KeptDirectory| {
            one.used_s <= before
                && selection.takes(&Cached { kind: KIND, id: one.name.clone(), ..Cached::default() })
        };
        self.list().into_iter().filter(|one| is_meant(one) && self.remove(&one.name)).collect()
    }
}

/// Removes what may not be used again, and marks the rest as of this run of the machine; the size of the disk.
fn clear(dir: &OwnedFd) -> io::Result<u64> {
    let boot = fs::read(BOOT_ID).unwrap_or_default();
    let mark = sys::path::Root::from_fd(dir.try_clone()?);
    let is_known =
        !boot.is_empty() && mark.read_bounded(BOOT, BOOT_BYTES_MAX).is_ok_and(|known| known == boot);
    for entry in fsx::list(dir)? {
        if !is_known || entry.name.to_string_lossy().starts_with(ONCE) {
            fsx::remove_tree(dir, &entry.name)?;
        }
    }
    if !is_known {
        // Without the mark, all goes at the next start: nothing that is wrong is ever believed.
        fsx::write_atomic(dir, BOOT, &boot, Mode::from_raw_mode(0o600))?;
    }
    fsx::space(dir).map(|(_, disk)| disk)
}

/// A directory that one build uses.
#[derive(Debug)]
pub(crate) struct Lease {
    kept: Arc<Kept>,
    name: String,
    is_kept: bool,
}

impl Lease {
    /// The directory.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let opened = self.kept.dir().and_then(|dir| fsx::open_dir_at(dir, &self.name));
        opened.map_err(Error::io("open", "/"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (kept, name, is_kept) = (Arc::clone(&self.kept), std::mem::take(&mut self.name), self.is_kept);
        if is_kept {
            // Its change tells when it was last used. Who comes next finds it free.
            let dir = kept.dir().and_then(|dir| fsx::open_dir_at(dir, &name));
            let _ = dir.and_then(|dir| fsx::chmod(dir.as_fd(), PRIVATE));
            kept.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
        let end = move || {
            if is_kept {
                kept.measure(&name);
                kept.make_room();
            } else if let Err(error) = kept.dir().and_then(|dir| fsx::remove_tree(dir, &name)) {
                tracing::warn!(%error, name, "cannot remove a build context");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != BOOT)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_is_used_by_one_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path());
        let first = kept.lease(Some("web:context")).unwrap();
        fsx::mkdir_at(first.open().unwrap(), "x", PRIVATE).unwrap();
        let second = kept.lease(Some("web:context")).unwrap();
        assert_eq!(fsx::list(second.open().unwrap()).unwrap().len(), 0);
        assert_eq!(names(dir.path()).len(), 2);
        drop((first, second));
        assert_eq!(names(dir.path()).len(), 1);
        let third = kept.lease(Some("web:context")).unwrap();
        assert_eq!(fsx::list(third.open().unwrap()).unwrap().len(), 1);
        drop(kept.lease(None).unwrap());
        assert_eq!(names(dir.path()).len(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_made_fails_those_who_need_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("there");
        fs::write(&path, "in the way").unwrap();
        let kept = Kept::open(&path);
        kept.lease(Some("a")).unwrap_err();
        assert_eq!(kept.list(), []);
        fs::remove_file(&path).unwrap();
        drop(kept.lease(Some("a")).unwrap());
        assert_eq!(kept.list().len(), 1);
    }

    #[test]
    fn what_an_ended_daemon_left_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path());
        drop(kept.lease(Some("a")).unwrap());
        fs::create_dir(dir.path().join("once-7")).unwrap();
        let before = names(dir.path());
        assert_eq!(before.len(), 2);
        drop(kept);
        drop(Kept::open(dir.path()));
        assert_eq!(names(dir.path()).len(), 1);
        // After another start of the machine nothing is believed.
        fs::write(dir.path().join(BOOT), "another").unwrap();
        drop(Kept::open(dir.path()));
        assert_eq!(names(dir.path()).len(), 0);
    }

    #[test]
    fn only_so_many_bytes_are_kept_and_the_rest_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(dir.path());
        Arc::get_mut(&mut kept).unwrap().bytes_max = 100 << 10;
        for number in 0..5 {
            let lease = kept.lease(Some(&number.to_string())).unwrap();
            let directory = sys::path::Root::from_fd(lease.open().unwrap());
            let mut file = directory.create_file("a", PRIVATE).unwrap();
            file.write_all(&[1; 40 << 10]).unwrap();
        }
        let left = kept.list();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|one| one.bytes >= 40 << 10));
        let used = kept.lease(Some("4")).unwrap();
        assert_eq!(kept.prune(0, &Selection::default()), []);
        assert_eq!(kept.prune(i64::MAX, &Selection::default()).len(), 1);
        assert_eq!(kept.list().len(), 1);
        drop(used);
        assert_eq!(kept.prune(i64::MAX, &Selection::default()).len(), 1);
    }

    #[test]
    fn only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path());
        for number in 0..KEPT_MAX + 5 {
            drop(kept.lease(Some(&number.to_string())).unwrap());
        }
        assert_eq!(names(dir.path()).len(), KEPT_MAX);
    }
}
