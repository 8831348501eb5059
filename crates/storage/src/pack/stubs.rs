//! What a container's start leaves in the directory of its own files, of which nobody is to be told.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use sys::fsx::{self, FileType};

use super::tree::{Found, join};

/// What a container's start makes in an image that does not have it, to mount the engine's own on: empty, it is nobody's change.
const STUBS: [&[u8]; 10] = [
    b".dockerenv",
    b"dev",
    b"proc",
    b"sys",
    b"etc/hostname",
    b"etc/hosts",
    b"etc/resolv.conf",
    b"etc/mtab",
    b"run/secrets",
    b"sbin/docker-init",
];

/// Whether it is only the place of a mount of the engine's, or a directory with nothing but such places.
pub(super) fn is_stub(path: &[u8], found: &Found) -> io::Result<bool> {
    let place = STUBS.contains(&path);
    match fsx::kind(&found.stat) {
        FileType::Directory if place || may_hold_stubs(path) => {
            let mut empty = true;
            for dir in &found.dirs {
                let Some(names) = stubs_in(path, &dir.fd)? else { return Ok(false) };
                empty &= names == 0;
            }
            // One that holds some is the engine's; an empty one may have been made by somebody.
            Ok(place || !empty)
        }
        FileType::RegularFile => Ok(place && found.stat.st_size == 0),
        _ => Ok(false),
    }
}

/// How many places for mounts there are in a directory, if there is nothing else.
fn stubs_in(path: &[u8], dir: &OwnedFd) -> io::Result<Option<usize>> {
    let list = fsx::list(dir)?;
    for entry in &list {
        let known = STUBS.contains(&join(path, entry.name.as_bytes()).as_slice());
        if !known || !is_empty(dir, &entry.name)? {
            return Ok(None);
        }
    }
    Ok(Some(list.len()))
}

/// Whether it is a file or a directory with nothing in it.
fn is_empty(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let stat = fsx::stat_at(dir, name)?;
    match fsx::kind(&stat) {
        FileType::RegularFile => Ok(stat.st_size == 0),
        FileType::Directory => Ok(fsx::list(&fsx::open_dir_at(dir, name)?)?.is_empty()),
        _ => Ok(false),
    }
}

/// Whether such places may be in a directory: then its time says nothing.
pub(super) fn may_hold_stubs(path: &[u8]) -> bool {
    STUBS.iter().any(|stub| stub.len() > path.len() && stub.starts_with(path) && stub[path.len()] == b'/')
}
