//! Putting files into a root filesystem, as `COPY` and `ADD` do.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sys::fsx::{self, FileType, Mode, OFlags, Stat, Time};
use sys::path::Root;

use super::select::{Item, Picked, Sieve, Visitor, attributes, walk};
use crate::error::{Error, Result};

/// Directories on the way to a destination that are not there.
const DIRECTORY_MODE: u32 = 0o755;
/// Files of the Dockerfile.
const INLINE_MODE: u32 = 0o644;
/// Files from elsewhere on the net.
const FETCHED_MODE: u32 = 0o600;
/// Links that are followed to a destination: as many as the kernel follows.
const LINKS_FOLLOWED_MAX: usize = 40;
/// Files with several names that are remembered: some hundred bytes each.
const LINKS_MAX: usize = 1 << 20;

/// What becomes of what is copied.
#[derive(Debug, Clone, Default)]
pub(super) struct Wishes {
    /// Whose it becomes; `None` for whose it was.
    pub owner: Option<(u32, u32)>,
    /// What becomes of its permissions; `None` for those that it had.
    pub mode: Option<build::mode::Mode>,
}

impl Wishes {
    fn owner_of(&self, stat: &Stat) -> (u32, u32) {
        self.owner.unwrap_or((stat.st_uid, stat.st_gid))
    }

    fn mode_of(&self, stat: &Stat) -> Mode {
        self.changed(stat.st_mode & 0o7777, fsx::kind(stat) == FileType::Directory)
    }

    fn changed(&self, own: u32, is_directory: bool) -> Mode {
        Mode::from_raw_mode(self.mode.as_ref().map_or(own, |mode| mode.apply(own, is_directory)))
    }
}

/// Where things are put.
pub(super) struct Placing<'a> {
    /// The root filesystem.
    pub root: &'a Root,
    /// From the root of it, with a slash at its end where it is a directory in any case.
    pub destination: &'a str,
    /// What becomes of them.
    pub wishes: Wishes,
}

fn relative_path(path: &Path) -> PathBuf {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}

fn relative(path: &str) -> &Path {
    let path = path.trim_start_matches('/');
    Path::new(if path.is_empty() { "." } else { path })
}

fn time(seconds: i64, nanoseconds: u64) -> Time {
    Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) }
}

#[expect(clippy::unnecessary_cast, reason = "the width of these fields differs between architectures")]
fn modified(stat: &Stat) -> Time {
    time(stat.st_mtime as i64, stat.st_mtime_nsec as u64)
}

impl Placing<'_> {
    fn failed(&self, error: io::Error) -> Error {
        let path = Path::new(self.destination);
        match error.kind() {
            io::ErrorKind::NotADirectory => {
                Error::invalid(format!("cannot copy to non-directory: {}", path.display()))
            }
            _ => Error::io("copy to", path, error),
        }
    }

    /// The directory, which is made with those above it where it is not there.
    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        self.make(path).map_err(|error| self.failed(error))
    }

    fn make(&self, path: &Path) -> io::Result<OwnedFd> {
        let (uid, gid) = self.wishes.owner.unwrap_or((0, 0));
        let mode = Mode::from_raw_mode(DIRECTORY_MODE);
        self.root.mkdir_all_with(path, mode, |fd| fsx::chown(fd, uid, gid))
    }

    /// The directory and the name that something that is no directory gets.
    fn spot(&self, name: &OsStr) -> Result<(OwnedFd, OsString)> {
        let mut path = relative(self.destination).to_owned();
        // What is at the end of links is replaced, not they.
        for _ in 0..LINKS_FOLLOWED_MAX {
            let into = self.destination.ends_with('/')
                || self.root.stat(&path).is_ok_and(|stat| fsx::kind(&stat) == FileType::Directory);
            let (true, Some(own)) = (!into, path.file_name()) else {
                return Ok((self.directory(&path)?, name.to_owned()));
            };
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            let dir = self.directory(parent)?;
            let is_link = fsx::stat_at(&dir, own).is_ok_and(|stat| fsx::kind(&stat) == FileType::Symlink);
            if !is_link {
                return Ok((dir, own.to_owned()));
            }
            let target = sys::path::read_link_at(dir.as_fd(), own).map_err(|error| self.failed(error))?;
            path = relative_path(&parent.join(target));
        }
        Err(Error::invalid(format!("cannot copy to {}: too many links", self.destination)))
    }

    /// Copies what was picked: of a directory, what is in it.
    pub fn copy(&self, from: &Root, picked: &Picked, sieve: &Sieve) -> Result<()> {
        if !picked.is_directory {
            let name = picked.path.file_name().unwrap_or_default();
            let (dir, name) = self.spot(name)?;
            return self.file(from, picked, &dir, &name).map_err(|error| self.failed(error));
        }
        // What is made for it is as any directory on the way: BuildKit copies what is in a directory, and nothing of itself.
        let dir = self.directory(relative(self.destination))?;
        let mut copier = Copier {
            wishes: self.wishes.clone(),
            destination: Path::new(self.destination),
            stack: vec![Level { fd: Rc::new(dir), of: None }],
            links: HashMap::new(),
        };
        walk(from, picked, sieve, &mut copier)
    }

    fn file(&self, from: &Root, picked: &Picked, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        // The path that was named is followed, inside its root.
        let handle = from.open_path(&picked.path)?;
        let stat = fsx::stat(&handle)?;
        if fsx::kind(&stat) == FileType::RegularFile {
            let file = fsx::open_regular_handle(handle)?;
            return copy_file(&self.wishes, &file, &stat, dir, name);
        }
        make_node(&self.wishes, &stat, None, dir, name)
    }

    /// A file whose content is known.
    pub fn inline(&self, name: &str, content: &str, now: Time) -> Result<()> {
        let (dir, name) = self.spot(OsStr::new(name))?;
        let mode = self.wishes.changed(INLINE_MODE, false);
        let (uid, gid) = self.wishes.owner.unwrap_or((0, 0));
        let write = || {
            let mut file = create(&dir, &name)?;
            file.write_all(content.as_bytes())?;
            fsx::chown(&file, uid, gid)?;
            fsx::chmod(&file, mode)?;
            fsx::set_times(&file, now, now)
        };
        write().map_err(|error| self.failed(error))
    }

    /// A file that was fetched.
    pub fn fetched(&self, name: &str, content: &std::fs::File, modified: Time) -> Result<()> {
        let (dir, name) = self.spot(OsStr::new(name))?;
        let mode = self.wishes.changed(FETCHED_MODE, false);
        let (uid, gid) = self.wishes.owner.unwrap_or((0, 0));
        let write = || {
            let file = create(&dir, &name)?;
            fsx::copy_data(content, &file)?;
            fsx::chown(&file, uid, gid)?;
            fsx::chmod(&file, mode)?;
            fsx::set_times(&file, modified, modified)
        };
        write().map_err(|error| self.failed(error))
    }

    /// The destination as a root of its own, for an archive.
    pub fn unpacked(&self) -> Result<Root> {
        Ok(Root::from_fd(self.directory(relative(self.destination))?))
    }

    /// The destination as a directory that is to be there.
    pub fn made(&self) -> Result<()> {
        match self.make(relative(self.destination)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(Error::invalid(format!("mkdir {}: not a directory", self.destination)))
            }
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// A new file of this name, in place of what is no directory.
fn create(dir: &OwnedFd, name: &OsStr) -> io::Result<std::fs::File> {
    clear(dir, name)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    Ok(fsx::open_at(dir, name, flags, Mode::from_raw_mode(0o600))?.into())
}

fn clear(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match fsx::stat_at(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(stat) if fsx::kind(&stat) == FileType::Directory => {
            let text = format!("cannot overwrite directory {:?} with a file", name.to_string_lossy());
            Err(io::Error::new(io::ErrorKind::IsADirectory, text))
        }
        Ok(_) => fsx::unlink_at(dir, name),
    }
}

fn copy_file(
    wishes: &Wishes,
    from: &std::fs::File,
    stat: &Stat,
    dir: &OwnedFd,
    name: &OsStr,
) -> io::Result<()> {
    let file = create(dir, name)?;
    fsx::copy_data(from, &file)?;
    let (uid, gid) = wishes.owner_of(stat);
    fsx::chown(&file, uid, gid)?;
    fsx::chmod(&file, wishes.mode_of(stat))?;
    for (name, value) in attributes(from)? {
        sys::xattr::set(&file, &name, &value)?;
    }
    fsx::set_times(&file, modified(stat), modified(stat))
}

/// A link, a FIFO or a device.
fn make_node(
    wishes: &Wishes,
    stat: &Stat,
    link: Option<PathBuf>,
    dir: &OwnedFd,
    name: &OsStr,
) -> io::Result<()> {
    clear(dir, name)?;
    let kind = fsx::kind(stat);
    match (&link, kind) {
        (Some(target), _) => fsx::symlink_at(target, dir, name)?,
        (None, FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
            fsx::mknod_at(dir, name, kind, wishes.mode_of(stat), stat.st_rdev)?;
        }
        // A socket means nothing without who listens on it.
        _ => return Ok(()),
    }
    let (uid, gid) = wishes.owner_of(stat);
    fsx::chown_at(dir, name, uid, gid)?;
    if link.is_none() {
        // It was just made, in a root filesystem that nobody else changes.
        fsx::chmod_at(dir, name, wishes.mode_of(stat))?;
    }
    fsx::set_times_at(dir, name, modified(stat), modified(stat))
}

fn describe_directory(wishes: &Wishes, from: impl AsFd, stat: &Stat, to: &OwnedFd) -> io::Result<()> {
    let (uid, gid) = wishes.owner_of(stat);
    fsx::chown(to, uid, gid)?;
    fsx::chmod(to, wishes.mode_of(stat))?;
    for (name, value) in attributes(from)? {
        sys::xattr::set(to, &name, &value)?;
    }
    fsx::set_times(to, modified(stat), modified(stat))
}

/// A directory that things are put into.
struct Level {
    fd: Rc<OwnedFd>,
    /// What it is a copy of.
    of: Option<(OwnedFd, Stat)>,
}

struct Copier<'a> {
    wishes: Wishes,
    destination: &'a Path,
    stack: Vec<Level>,
    /// The first name that a file with several got.
    links: HashMap<(u64, u64), (Rc<OwnedFd>, OsString)>,
}

impl Copier<'_> {
    fn here(&self) -> io::Result<Rc<OwnedFd>> {
        let level = self.stack.last().ok_or_else(|| io::Error::other("a bug: no directory is open"))?;
        Ok(Rc::clone(&level.fd))
    }
}

impl Visitor for Copier<'_> {
    fn enter(&mut self, item: &Item<'_>, fd: &OwnedFd) -> io::Result<()> {
        let here = self.here()?;
        match fsx::mkdir_at(&here, item.name, Mode::from_raw_mode(0o700)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let made = fsx::open_dir_at(&here, item.name).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => {
                let path = self.destination.join(item.path);
                io::Error::other(format!("cannot copy to non-directory: {}", path.display()))
            }
            _ => error,
        })?;
        self.stack.push(Level { fd: Rc::new(made), of: Some((fd.try_clone()?, *item.stat)) });
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        let Some(Level { fd, of: Some((source, stat)) }) = self.stack.pop() else { return Ok(()) };
        describe_directory(&self.wishes, &source, &stat, &fd)
    }

    fn node(&mut self, item: &Item<'_>) -> io::Result<()> {
        let here = self.here()?;
        if fsx::kind(item.stat) == FileType::Symlink {
            let link = sys::path::read_link_at(item.dir.as_fd(), item.name)?;
            return make_node(&self.wishes, item.stat, Some(link), &here, item.name);
        }
        if fsx::kind(item.stat) != FileType::RegularFile {
            return make_node(&self.wishes, item.stat, None, &here, item.name);
        }
        if item.stat.st_nlink > 1 {
            let key = (item.stat.st_dev, item.stat.st_ino);
            if let Some((dir, name)) = self.links.get(&key) {
                clear(&here, item.name)?;
                return fsx::link_at(dir, name, &here, item.name);
            }
            if self.links.len() < LINKS_MAX {
                self.links.insert(key, (Rc::clone(&here), item.name.to_owned()));
            }
        }
        let file = fsx::open_regular_at(item.dir, item.name)?;
        let stat = fsx::stat(&file)?;
        copy_file(&self.wishes, &file, &stat, &here, item.name)
    }
}
