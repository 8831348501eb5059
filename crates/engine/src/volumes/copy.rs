//! An image's files at the place where an empty volume is mounted are copied into it.
//!
//! Image and volume are both hostile ground: the image was made by a stranger, and a container that shares the volume may
//! rename in it while we write. Both are walked by descriptor; no name is resolved twice, and none is followed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::fsx::{self, FileType, Mode, OFlags, Stat, Time};
use sys::path::Root;
use sys::xattr;

use super::{image, open_root};
use crate::error::{Error, Result};

/// Directories within each other that are copied: as deep as a layer may be.
const DEPTH_MAX: usize = 512;

/// Files with several names that are remembered; of more, each name becomes a file of its own.
const LINKS_MAX: usize = 1 << 20;

/// Where the image's files are gathered before the volume shows them. One that is found was left by an interrupted copy.
pub const FILLING: &str = ".corten-filling";

/// What it is called when all of them are there: what is found in it has still to be moved into the volume.
pub const FILLED: &str = ".corten-filled";

/// Where a volume's files are, and where they are gathered: on the same filesystem, so that they can be moved.
#[derive(Debug)]
pub struct Place {
    /// The directory that containers see.
    pub data: PathBuf,
    /// The directory beside it; `data` itself where something is mounted there.
    pub stage: PathBuf,
}

/// Copies all that is in one directory into another, which is empty.
pub fn copy_all(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    copy_tree(fsx::open_dir_at(source, ".")?, fsx::open_dir_at(target, ".")?)
}

/// Whether there may be something to copy: the volume is empty, or a copy into it goes on or was interrupted.
pub fn may_be_due(place: &Place) -> Result<bool> {
    let error = |e| Error::io("look into", &place.data, e);
    // In this order: a copy's last traces go when everything is in its place.
    if is_empty(&open_root(&place.data)?).map_err(error)? {
        return Ok(true);
    }
    let stage = open_root(&place.stage)?;
    Ok(is_there(&stage, FILLING).map_err(error)? || is_there(&stage, FILLED).map_err(error)?)
}

/// Copies what `image` has at `destination` into the volume, if that is empty.
///
/// All of it or nothing: the files are gathered out of the containers' sight, and moved when they are complete. Where that is
/// interrupted, the next call goes on; where it fails, nothing but its own files is removed.
pub fn copy_up(place: &Place, image: &storage::Mounts, destination: &str, scratch: &Path) -> Result<()> {
    let error = |e: io::Error| Error::io("copy the image's files into", &place.data, e);
    let (target, stage) = (open_root(&place.data)?, open_root(&place.stage)?);
    if !is_directory(&stage, FILLED).map_err(error)? {
        clear(&stage).map_err(error)?;
        if image.lower.is_empty() || !is_empty(&target).map_err(error)? {
            return Ok(());
        }
        let Some(source) = source(place, image, destination, scratch)? else { return Ok(()) };
        gather(source, &stage).map_err(error)?;
    }
    hand_over(&stage, &target).map_err(error)
}

/// The image's directory at `destination`, if it has one.
fn source(
    place: &Place,
    files: &storage::Mounts,
    destination: &str,
    scratch: &Path,
) -> Result<Option<OwnedFd>> {
    let root = image::merged(files, &scratch.join(image::SCRATCH))
        .map_err(|e| Error::io("mount the image for", &place.data, e))?;
    match root.open_dir(sys::path::normalize(Path::new(destination))) {
        Ok(source) => Ok(Some(source)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            Err(Error::invalid(format!("cannot mount volume over existing file, file exists {destination}")))
        }
        Err(e) => Err(Error::io("copy the image's files into", &place.data, e)),
    }
}

/// Copies everything to where nobody looks; half of the files would look like all of them to a container.
fn gather(source: OwnedFd, stage: &Root) -> io::Result<()> {
    fsx::mkdir_at(stage, FILLING, Mode::from_raw_mode(0o700))?;
    let gathered = fsx::open_dir_at(stage, FILLING)
        .and_then(|filling| copy_tree(source, filling))
        .and_then(|()| fsx::rename_at(stage, FILLING, stage, FILLED));
    if gathered.is_err() {
        // What cannot be removed now, the next start removes.
        let _ = fsx::remove_tree(stage, FILLING);
    }
    gathered
}

/// Moves what was gathered into the volume. What a container has put there meanwhile stays.
fn hand_over(stage: &Root, target: &Root) -> io::Result<()> {
    let filled = fsx::open_dir_at(stage, FILLED)?;
    // As it is now: moving files out of it changes its times.
    let stat = fsx::stat(&filled)?;
    for entry in fsx::list(&filled)? {
        match move_new(&filled, &entry.name, target) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    copy_attributes(&filled, &stat, target)?;
    fsx::remove_tree(stage, FILLED)
}

fn move_new(from: &OwnedFd, name: &OsString, to: &Root) -> io::Result<()> {
    match fsx::rename_new_at(from, name, to, name) {
        // Filesystems of other machines cannot do it in one step.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => match is_there(to, name)? {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => fsx::rename_at(from, name, to, name),
        },
        other => other,
    }
}

/// Removes what a copy left that was interrupted. What is not there is not touched: the filesystem may be read-only.
fn clear(stage: &Root) -> io::Result<()> {
    for name in [FILLING, FILLED] {
        if is_there(stage, name)? {
            fsx::remove_tree(stage, name)?;
        }
    }
    Ok(())
}

fn is_empty(data: &Root) -> io::Result<bool> {
    Ok(fsx::list(data)?.iter().all(|entry| entry.name == FILLING || entry.name == FILLED))
}

fn is_there(dir: &Root, name: impl AsRef<OsStr>) -> io::Result<bool> {
    match fsx::stat_at(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|_| true),
    }
}

fn is_directory(dir: &Root, name: &str) -> io::Result<bool> {
    Ok(is_there(dir, name)? && fsx::kind(&fsx::stat_at(dir, name)?) == FileType::Directory)
}

/// A directory of the source that is being copied, and what of it is still to be done.
struct Level {
    source: OwnedFd,
    target: OwnedFd,
    /// Where it is, from the top.
    path: PathBuf,
    todo: Vec<OsString>,
}

impl Level {
    fn new(source: OwnedFd, target: OwnedFd, path: PathBuf) -> io::Result<Self> {
        let todo = fsx::list(&source)?.into_iter().map(|entry| entry.name).collect();
        Ok(Self { source, target, path, todo })
    }
}

fn copy_tree(source: OwnedFd, target: OwnedFd) -> io::Result<()> {
    let root = Root::from_fd(target.try_clone()?);
    // By path, not by descriptor: there may be more of them than a process may have open. The target is nobody else's yet.
    let mut linked: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut levels = vec![Level::new(source, target, PathBuf::from("."))?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.todo.pop() else {
            // Last, since making files in it changed its times.
            copy_attributes(&level.source, &fsx::stat(&level.source)?, &level.target)?;
            levels.pop();
            continue;
        };
        let stat = fsx::stat_at(&level.source, &name)?;
        if fsx::kind(&stat) == FileType::Directory {
            fsx::mkdir_at(&level.target, &name, Mode::from_raw_mode(0o700))?;
            let source = fsx::open_dir_at(&level.source, &name)?;
            let below = Level::new(source, fsx::open_dir_at(&level.target, &name)?, level.path.join(&name))?;
            if levels.len() >= DEPTH_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "directories are too deep"));
            }
            levels.push(below);
            continue;
        }
        let known = linked.get(&(stat.st_dev, stat.st_ino));
        if let Some(first) = known {
            let (dir, first) = root.parent(first)?;
            fsx::link_at(dir, first, &level.target, &name)?;
            continue;
        }
        copy_node(level, &name, &stat)?;
        if stat.st_nlink > 1 && linked.len() < LINKS_MAX {
            linked.insert((stat.st_dev, stat.st_ino), level.path.join(&name));
        }
    }
    Ok(())
}

fn copy_node(level: &Level, name: &OsString, stat: &Stat) -> io::Result<()> {
    match fsx::kind(stat) {
        FileType::RegularFile => {
            let from = fsx::open_regular_at(&level.source, name)?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let to = fsx::open_at(&level.target, name, flags, Mode::from_raw_mode(0o600))?;
            let to = File::from(to);
            fsx::copy_data(&from, &to)?;
            return copy_attributes(&from, &fsx::stat(&from)?, &to);
        }
        FileType::Symlink => {
            let text = sys::path::read_link_at(level.source.as_fd(), name)?;
            fsx::symlink_at(text.as_os_str(), &level.target, name)?;
        }
        kind @ (FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice) => {
            fsx::mknod_at(&level.target, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?;
        }
        _ => return Ok(()),
    }
    // By handle from here on: a container that shares the volume may put something else in the name's place.
    let handle = fsx::open_at(&level.target, name, OFlags::PATH, Mode::empty())?;
    if fsx::kind(&fsx::stat(&handle)?) != fsx::kind(stat) {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let mode = (fsx::kind(stat) != FileType::Symlink).then_some(mode);
    fsx::set_attributes_of_handle(&handle, (stat.st_uid, stat.st_gid), mode, times(stat))
}

fn times(stat: &Stat) -> (Time, Time) {
    let time = |seconds: i64, nanoseconds: u64| Time {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    };
    (time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec))
}

/// Owner, permissions, extended attributes and times of an open file or directory.
fn copy_attributes(from: impl AsFd, stat: &Stat, to: impl AsFd) -> io::Result<()> {
    fsx::chown(&to, stat.st_uid, stat.st_gid)?;
    fsx::chmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in xattr::list(&from)? {
        // Those of overlay speak of layers; labels belong to the host's policy.
        let text = name.to_string_lossy();
        if text.starts_with("trusted.") || (text.starts_with("security.") && text != "security.capability") {
            continue;
        }
        if let Some(value) = xattr::get(&from, &name)? {
            match xattr::set(&to, &name, &value) {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
                other => other?,
            }
        }
    }
    let (access, modification) = times(stat);
    fsx::set_times(&to, access, modification)
}
