//! Filling a tmpfs with what lies below it (`tmpcopyup`). Both sides are descriptors; links are copied, never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use sys::fsx::{self, FileType, Mode, OFlags, Stat, Time};
use sys::xattr;

use crate::error::{Context as _, Error};

/// How deep directories are followed: more than any image has, and each level costs descriptors.
const DEPTH_MAX: usize = 128;

/// Objects copied at most: what is in memory is meant to be small, and the tmpfs has a size besides.
const OBJECTS_MAX: usize = 1 << 20;

/// A copy that is going on.
struct Copy<'a> {
    destination: &'a Path,
    objects: usize,
}

/// Copies what is in the directory `from` to the directory `to`, with owners, modes, times and extended attributes.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd, destination: &Path) -> Result<(), Error> {
    let mut copy = Copy { destination, objects: 0 };
    copy.directory(from, to, Path::new(""), 0)
}

impl Copy<'_> {
    fn at(&self, path: &Path) -> PathBuf {
        self.destination.join(path)
    }

    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            let shown = self.at(path);
            return Err(Error::Invalid(format!("tmpcopyup: {} is too deep", shown.display())));
        }
        for entry in fsx::list(from).on("list", self.at(path))? {
            let path = path.join(&entry.name);
            self.objects += 1;
            if self.objects > OBJECTS_MAX {
                let shown = self.destination.display();
                return Err(Error::Invalid(format!(
                    "tmpcopyup: {shown} holds more than {OBJECTS_MAX} files"
                )));
            }
            self.object(from, to, &entry.name, &path, depth)?;
        }
        let stat = fsx::stat(from).on("inspect", self.at(path))?;
        self.attributes(from, to, path, &stat)
    }

    fn object(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &OsStr,
        path: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        let stat = fsx::stat_at(from, name).on("inspect", self.at(path))?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match fsx::kind(&stat) {
            FileType::Directory => {
                let below = fsx::open_dir_at(from, name).on("open", self.at(path))?;
                fsx::mkdir_at(to, name, mode).on("copy", self.at(path))?;
                let copy = fsx::open_dir_at(to, name).on("open", self.at(path))?;
                self.directory(&below, &copy, path, depth + 1)
            }
            FileType::RegularFile => {
                // What it was a moment ago; should it be a FIFO or a device now, opening it must neither wait nor act.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = fsx::open_at(from, name, flags, Mode::empty()).on("open", self.at(path))?;
                let stat = fsx::stat(&file).on("inspect", self.at(path))?;
                if fsx::kind(&stat) != FileType::RegularFile {
                    return Err(Error::Invalid(format!("{} changed while it was copied", path.display())));
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let copy = fsx::open_at(to, name, flags, mode).on("copy", self.at(path))?;
                let (file, copy) = (File::from(file), File::from(copy));
                fsx::copy_data(&file, &copy).on("copy", self.at(path))?;
                self.attributes(&file.into(), &copy.into(), path, &stat)
            }
            FileType::Symlink => {
                let target = sys::path::read_link_at(std::os::fd::AsFd::as_fd(from), name);
                let target = target.on("read", self.at(path))?;
                fsx::symlink_at(target.as_os_str(), to, name).on("copy", self.at(path))?;
                fsx::chown_at(to, name, stat.st_uid, stat.st_gid).on("set the owner of", self.at(path))
            }
            kind => {
                fsx::mknod_at(to, name, kind, mode, stat.st_rdev).on("copy", self.at(path))?;
                fsx::chown_at(to, name, stat.st_uid, stat.st_gid).on("set the owner of", self.at(path))
            }
        }
    }

    /// The owner first: changing it takes away set-user-ID bits.
    fn attributes(&self, from: &OwnedFd, to: &OwnedFd, path: &Path, stat: &Stat) -> Result<(), Error> {
        let shown = self.at(path);
        fsx::chown(to, stat.st_uid, stat.st_gid).on("set the owner of", &shown)?;
        fsx::chmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).on("set the mode of", &shown)?;
        for name in xattr::list(from).on("list the attributes of", &shown)? {
            if let Some(value) = xattr::get(from, &name).on("read an attribute of", &shown)? {
                match xattr::set(to, &name, &value) {
                    // Not every attribute has a place in memory (`user.` before Linux 6.6): runc leaves those out as well.
                    Err(error) if error.raw_os_error() == Some(EOPNOTSUPP) => {}
                    other => other.on("copy an attribute of", &shown)?,
                }
            }
        }
        let access = Time { seconds: stat.st_atime, nanoseconds: stat.st_atime_nsec as u32 };
        let modification = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        fsx::set_times(to, access, modification).on("set the times of", shown)
    }
}

const EOPNOTSUPP: i32 = 95;
