//! Limits on what directories may occupy: project quotas of XFS.
//!
//! A project is a number that files have and hand down to what is made in them. Which numbers are free the filesystem knows: a project
//! that has files or a limit is somebody's, ours or not. So nothing has to be written down, and what a kill leaves is taken for somebody's.
//! Other filesystems know project quotas as well, but hold nobody to them who has `CAP_SYS_RESOURCE`, and overlay writes as who
//! mounted it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sys::{fsx, quota};

/// XFS, as `statfs(2)` calls it.
const XFS: i64 = 0x5846_5342;
/// Far from the numbers that people choose.
const FIRST: u32 = 1 << 24;
/// How many numbers are tried before none is believed to be free.
const TRIES_MAX: u32 = 1 << 16;

/// One at a time looks for a number, until it is taken.
static CHOOSING: Mutex<u32> = Mutex::new(FIRST);

/// Whether the filesystem of a directory has quotas of projects, and they are on.
pub fn is_on(directory: &Path) -> bool {
    fsx::open_dir(directory).is_ok_and(|directory| has(&directory))
}

/// Whether the filesystem of an open directory has them.
pub(crate) fn has(directory: &OwnedFd) -> bool {
    fsx::filesystem_magic(directory).is_ok_and(|kind| kind == XFS) && quota::usage(directory, 0).is_ok()
}

/// Lets empty directories of one filesystem, and all that will be in them, occupy `bytes` together. An error of the kind
/// `Unsupported` where the filesystem has no quotas of projects.
pub fn confine(directories: &[&Path], bytes: u64) -> io::Result<()> {
    let directories = directories.iter().map(fsx::open_dir).collect::<io::Result<Vec<_>>>()?;
    let Some(on) = directories.first().filter(|directory| has(directory)) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let mut next = CHOOSING.lock().unwrap_or_else(PoisonError::into_inner);
    let project = free(on, *next)?;
    quota::set_limit(on, project, bytes)?;
    *next = project.checked_add(1).unwrap_or(FIRST);
    drop(next);
    directories.iter().try_for_each(|directory| quota::set_project(directory, project))
}

/// A number from `first` on that nobody has.
fn free(on: impl AsFd, first: u32) -> io::Result<u32> {
    for project in (first..u32::MAX).take(TRIES_MAX as usize) {
        match quota::usage(&on, project) {
            Ok(usage) if usage.limit == 0 && usage.inodes == 0 => return Ok(project),
            Ok(_) => {}
            // XFS has no record of a project that never was.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(project),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no number is free for a project quota"))
}

/// Takes the limit of a directory that is about to be removed away, if it has one. Its number is free when its files are gone.
pub fn release(directory: &OwnedFd) -> io::Result<()> {
    if !has(directory) {
        return Ok(());
    }
    match quota::project(directory)? {
        0..FIRST => Ok(()),
        project => quota::set_limit(directory, project, 0),
    }
}
