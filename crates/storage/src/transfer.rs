//! Unpacks an archive into a tree that others use, and change, at the same moment: a container's files, or a person's.
//!
//! Archive and tree are both hostile. Every entry's directory is found by the kernel, confined to the tree's root
//! ([`sys::path::Root`]): links lead where they lead for whoever lives in the tree, and never outside. What is made is made
//! relative to that directory's descriptor, under a name that is not followed, and gets its owner and permissions by its own
//! descriptor: whatever is put in its place meanwhile keeps its own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sys::fsx::{self, FileType, Mode, OFlags, Time};
use sys::path::Root;

use crate::apply::attributes;
use crate::apply::name::Name;
use crate::apply::node;
use crate::archive::{Archive, Entry, Kind};
use crate::error::{At, Error, Result};

/// Components of one path: as deep as a layer may be.
const DEPTH_MAX: usize = 512;
/// Directories whose times are set at the end: some hundred bytes each.
const DIRECTORIES_MAX: usize = 1 << 20;
/// Permissions of directories that the archive does not tell of.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);
/// Bits of a mode by which a program runs as its owner.
const SET_ID: u32 = 0o6000;

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whose the archive says that they are.
    Told,
    /// This user's and group's.
    Given(u32, u32),
    /// The caller's own.
    Own,
}

/// Where and how an archive is unpacked.
#[derive(Debug)]
pub struct Target<'a> {
    /// What links lead nowhere out of.
    pub root: &'a Root,
    /// The directory in it that the archive's paths are relative to.
    pub place: &'a Path,
    /// The name that everything in the archive begins with, and what it is to be instead. What begins with another one is refused: who
    /// asked for one thing is not given others.
    pub rename: Option<(&'a [u8], &'a [u8])>,
    /// Whether it is an error where a directory would replace something else, or be replaced.
    pub keep_kinds: bool,
    /// Whose the files become.
    pub owner: Owner,
    /// Whether what could do harm outside of a container is made harmless: no devices are made, and no program runs as
    /// its owner.
    pub tame: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Entries of the archive.
    pub entries: u64,
    /// Devices that were not made.
    pub devices: u64,
}

/// Unpacks what is left of `archive`.
pub fn unpack<R: BufRead>(archive: &mut Archive<R>, target: &Target<'_>) -> Result<Transferred> {
    let mut unpacker = Unpacker { target, here: None, times: Vec::new(), done: Transferred::default() };
    while let Some(entry) = archive.next_entry()? {
        unpacker.entry(&entry, archive)?;
    }
    archive.drain()?;
    unpacker.set_times();
    Ok(unpacker.done)
}

/// The directory that entries are made in at the moment.
struct Here {
    path: Vec<u8>,
    fd: OwnedFd,
}

struct Unpacker<'a> {
    target: &'a Target<'a>,
    here: Option<Here>,
    /// Set at the end, since making files in a directory changes its time.
    times: Vec<(OwnedPath, Time, Time)>,
    done: Transferred,
}

type OwnedPath = Vec<u8>;

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

impl Unpacker<'_> {
    /// A path of the archive, from the root on.
    fn full(&self, path: &[u8]) -> std::path::PathBuf {
        self.target.place.join(os(path))
    }

    /// An archive's path, with the name that it is to begin with.
    fn named(&self, path: &[u8]) -> Result<Name> {
        let name = Name::parse(path, DEPTH_MAX)?;
        let Some((old, new)) = self.target.rename else { return Ok(name) };
        // Empty where what is in a directory was asked for: then everything is of it.
        let old = Name::parse(old, DEPTH_MAX)?.path();
        let path = name.path();
        match path.strip_prefix(old.as_slice()) {
            Some(rest) if old.is_empty() || rest.is_empty() || rest.starts_with(b"/") => {
                Name::parse(&[new, b"/", rest].concat(), DEPTH_MAX)
            }
            _ => Err(name.invalid("it is not of what was asked for")),
        }
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        self.done.entries += 1;
        let name = self.named(&entry.path)?;
        if name.is_root() {
            // The directory itself is somebody's, and stays as it is.
            return Ok(());
        }
        if self.target.tame && matches!(entry.kind, Kind::Char | Kind::Block) {
            self.done.devices += 1;
            return Ok(());
        }
        let here = self.enter(&name.parent)?;
        let merged = self.make_room(&here, &name, entry)?;
        match entry.kind {
            Kind::Directory => self.directory(&here, &name, entry, merged)?,
            Kind::File => self.file(&here, &name, entry, archive)?,
            Kind::Hardlink => self.hardlink(&here, &name, entry)?,
            Kind::Symlink | Kind::Char | Kind::Block | Kind::Fifo => self.special(&here, &name, entry)?,
        }
        self.here = Some(here);
        Ok(())
    }

    /// The directory of an entry; made with those above it if need be.
    fn enter(&mut self, path: &[u8]) -> Result<Here> {
        if let Some(here) = self.here.take()
            && here.path == path
        {
            return Ok(here);
        }
        let full = self.full(path);
        let fd = match self.target.root.open_dir(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.target.root.mkdir_all_with(&full, IMPLIED_MODE, |made| match self.target.owner {
                    Owner::Given(uid, gid) => fsx::chown(made, uid, gid),
                    _ => Ok(()),
                })
            }
            other => other,
        };
        Ok(Here { path: path.to_vec(), fd: fd.at("open the directory", &full)? })
    }

    /// Removes what stands where an entry is to be made; whether a directory is there that the entry is merged with.
    fn make_room(&self, here: &Here, name: &Name, entry: &Entry) -> Result<bool> {
        let last = os(&name.last);
        let stat = match fsx::stat_at(&here.fd, last) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.at("look at", self.full(&name.path()))?,
        };
        let is_directory = fsx::kind(&stat) == FileType::Directory;
        let becomes_one = entry.kind == Kind::Directory;
        if is_directory && becomes_one {
            return Ok(true);
        }
        if self.target.keep_kinds && is_directory != becomes_one {
            let (there, what) =
                if is_directory { ("directory", "non-directory") } else { ("non-directory", "directory") };
            let shown = |path: &Path| path.to_string_lossy().into_owned();
            let (path, into) = (shown(&self.full(&name.path())), shown(self.target.place));
            return Err(Error::Overwrite { there, path, what, into });
        }
        fsx::remove_tree(&here.fd, last).at("replace", self.full(&name.path()))?;
        Ok(false)
    }

    fn directory(&mut self, here: &Here, name: &Name, entry: &Entry, merged: bool) -> Result<()> {
        let (last, path) = (os(&name.last), name.path());
        if !merged {
            fsx::mkdir_at(&here.fd, last, Mode::from_raw_mode(0o700)).at("make", self.full(&path))?;
        }
        let fd = fsx::open_dir_at(&here.fd, last).at("open", self.full(&path))?;
        self.set_open(&fd, entry)?;
        if self.times.len() == DIRECTORIES_MAX {
            let limit = DIRECTORIES_MAX as u64;
            return Err(Error::Limit { what: "number of directories in an archive", limit });
        }
        self.times.push((path, entry.atime.unwrap_or(entry.mtime), entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &self,
        here: &Here,
        name: &Name,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let full = self.full(&name.path());
        let file = File::from(node::create_file(&here.fd, os(&name.last)).at("create", &full)?);
        match &entry.sparse {
            None => node::write(&file, name, archive)?,
            Some(sparse) => node::write_sparse(&file, name, sparse, archive)?,
        }
        self.set_open(&file, entry)?;
        fsx::set_times(&file, entry.atime.unwrap_or(entry.mtime), entry.mtime).at("set the time of", &full)
    }

    fn hardlink(&self, here: &Here, name: &Name, entry: &Entry) -> Result<()> {
        let target = self.named(&entry.link)?;
        if target.is_root() {
            return Err(name.invalid("hard link to what is no file"));
        }
        let full = self.full(&target.path());
        let dir = self.target.root.open_dir(self.full(&target.parent)).at("open", &full)?;
        fsx::link_at(&dir, os(&target.last), &here.fd, os(&name.last)).at("link", &full)
    }

    /// A link, a device or a pipe.
    fn special(&self, here: &Here, name: &Name, entry: &Entry) -> Result<()> {
        let (last, full) = (os(&name.last), self.full(&name.path()));
        let kind = match entry.kind {
            Kind::Symlink => FileType::Symlink,
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let made = if kind == FileType::Symlink {
            fsx::symlink_at(os(&entry.link), &here.fd, last)
        } else {
            let device = fsx::makedev(entry.device.0, entry.device.1);
            fsx::mknod_at(&here.fd, last, kind, Mode::from_raw_mode(0o600), device)
        };
        made.at("make", &full)?;
        // By handle from here on: something else may have its name by now.
        let handle = fsx::open_at(&here.fd, last, OFlags::PATH, Mode::empty()).at("open", &full)?;
        let stat = fsx::stat(&handle).at("look at", &full)?;
        if fsx::kind(&stat) != kind {
            return Ok(());
        }
        let owner = match self.target.owner {
            Owner::Told => (entry.uid, entry.gid),
            Owner::Given(uid, gid) => (uid, gid),
            Owner::Own => (stat.st_uid, stat.st_gid),
        };
        let mode = (kind != FileType::Symlink).then(|| self.mode(entry));
        let times = (entry.atime.unwrap_or(entry.mtime), entry.mtime);
        fsx::set_attributes_of_handle(&handle, owner, mode, times).at("set the attributes of", &full)
    }

    fn mode(&self, entry: &Entry) -> Mode {
        let mode = if self.target.tame { entry.mode & !SET_ID } else { entry.mode };
        Mode::from_raw_mode(mode)
    }

    /// Owner, permissions and attributes of an open file or directory. A new owner clears some of what follows.
    fn set_open(&self, fd: &impl std::os::fd::AsFd, entry: &Entry) -> Result<()> {
        let full = || self.full(&entry.path);
        match self.target.owner {
            Owner::Told => fsx::chown(fd, entry.uid, entry.gid).at("set the owner of", full())?,
            Owner::Given(uid, gid) => fsx::chown(fd, uid, gid).at("set the owner of", full())?,
            Owner::Own => {}
        }
        fsx::chmod(fd, self.mode(entry)).at("set the permissions of", full())?;
        if self.target.tame {
            return Ok(());
        }
        attributes::set_xattrs(entry, |name, value| sys::xattr::set(fd, os(name), value))
    }

    fn set_times(&mut self) {
        for (path, access, modification) in std::mem::take(&mut self.times) {
            // Replaced by something else since: then the time is not for it, and no harm is done without.
            let Ok(fd) = self.target.root.open_dir(self.full(&path)) else { continue };
            let _ = fsx::set_times(&fd, access, modification);
        }
    }
}

#[cfg(test)]
mod tests;
