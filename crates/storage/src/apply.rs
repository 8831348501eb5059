//! Applies a layer's archive to a directory of its own, in the form that overlay wants.
//!
//! A layer is unpacked without the layers below it: a deleted file becomes a character device 0/0, a directory
//! that hides what is below carries the attribute `trusted.overlay.opaque`. So all layers of an image can be
//! unpacked at once, and one directory serves every image that has the layer.
//!
//! The archive is hostile. Names are taken apart here and joined to nothing: parents are opened by the
//! kernel confined to the layer's directory ([`sys::path::Root`]), everything is made relative to the parent's
//! descriptor, and no last component is ever followed. An archive that tries to leave is refused whole.

pub(crate) mod attributes;
pub(crate) mod name;
pub(crate) mod node;
mod whiteout;

pub(crate) use whiteout::OPAQUE;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::fsx::{self, FileType, Mode, Time};
use sys::path::Root;

use crate::archive::{Archive, Entry, Kind};
use crate::error::{At, Error, Result};
use name::Name;

/// What one layer may be. The defaults let every honest image pass that we have seen, and stop the others while the
/// machine is still well.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries of one layer. A large monorepo's modules are some 500,000 files; each costs an inode and memory.
    pub entries_max: u64,
    /// Bytes of one layer's archive. The largest layers in use (models, toolchains) are some 60 GB.
    pub bytes_max: u64,
    /// How many times larger than its compressed form a layer may be, once it is large at all (see `ratio_from`). gzip
    /// cannot do more than 1032 times; text and code are below 20 times, images of empty disks around 1000.
    pub ratio_max: u64,
    /// From how many bytes on the ratio counts: a small layer of zeros harms nobody.
    pub ratio_from: u64,
    /// Components of one path. The deepest trees in use (nested modules) have about 60.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries_max: 1_000_000,
            bytes_max: 256 << 30,
            ratio_max: 200,
            ratio_from: 2 << 30,
            depth_max: 512,
        }
    }
}

/// What a layer turned out to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries in the archive, and directories that have no entry of their own.
    pub entries: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// What the directory occupies, estimated from what was written: blocks of 4 KiB a file.
    pub disk_bytes: u64,
    /// Directories that entries stand in but that have no entry of their own. Their mode and owner are not known
    /// from this layer; the root is the empty path.
    pub implied: Vec<PathBuf>,
}

/// Permissions of a directory that has no entry of its own and is not in a lower layer either.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);

/// Bytes of directories' names that are kept until a layer is done. A hundred thousand directories have some six
/// megabytes; without a limit, long names in a small archive would fill the memory.
const KEPT_NAMES_BYTES_MAX: usize = 64 << 20;

/// The block size that disk usage is estimated with: that of ext4, XFS and Btrfs by default.
const DISK_BLOCK: u64 = 4096;

/// Unpacks `archive` into the directory `root`, which should be empty and of nobody else's concern.
///
/// This is also where a fuzzer comes in: any bytes are an archive or an [`Error`], in bounded time and memory, and nothing
/// outside of `root` is read, made or changed.
pub fn apply<R: BufRead>(archive: R, root: &Root, limits: &Limits) -> Result<Applied> {
    let mut archive = Archive::new(archive);
    let mut applier = Applier::new(root, limits)?;
    while let Some(entry) = archive.next_entry()? {
        applier.entry(&entry, &mut archive)?;
    }
    archive.drain()?;
    applier.finish()
}

/// Unpacks an archive of files as they are, where no name says that another is gone.
pub fn unpack<R: BufRead>(archive: Archive<R>, root: &Root, limits: &Limits) -> Result<Applied> {
    files(archive, Applier { plain: true, ..Applier::new(root, limits)? })
}

/// The same into a directory that is somebody else's: what the archive says of its own root is not for it.
pub fn unpack_below<R: BufRead>(archive: Archive<R>, root: &Root, limits: &Limits) -> Result<Applied> {
    files(archive, Applier { plain: true, spares_root: true, ..Applier::new(root, limits)? })
}

fn files<R: BufRead>(mut archive: Archive<R>, mut applier: Applier<'_>) -> Result<Applied> {
    while let Some(entry) = archive.next_entry()? {
        applier.entry(&entry, &mut archive)?;
    }
    archive.drain()?;
    applier.finish()
}

/// The directory that entries are made in at the moment.
struct Here {
    path: Vec<u8>,
    fd: OwnedFd,
}

struct Applier<'a> {
    root: &'a Root,
    limits: &'a Limits,
    /// Whether no name is a whiteout.
    plain: bool,
    /// Whether the root stays as it is.
    spares_root: bool,
    /// Archives go directory by directory: remembering one saves nearly every look-up.
    here: Option<Here>,
    /// Set at the end, since making files in a directory changes its time.
    directory_times: Vec<(Vec<u8>, Time, Time)>,
    implied: HashSet<Vec<u8>>,
    kept_names_bytes: usize,
    applied: Applied,
}

impl<'a> Applier<'a> {
    fn new(root: &'a Root, limits: &'a Limits) -> Result<Self> {
        Ok(Self {
            root,
            limits,
            plain: false,
            spares_root: false,
            here: None,
            directory_times: Vec::new(),
            implied: HashSet::from([Vec::new()]),
            kept_names_bytes: 0,
            applied: Applied::default(),
        })
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        self.applied.entries += 1;
        if self.applied.entries > self.limits.entries_max {
            return Err(Error::Limit {
                what: "number of entries of a layer",
                limit: self.limits.entries_max,
            });
        }
        let name = Name::parse(&entry.path, self.limits.depth_max)?;
        if name.is_root() {
            return self.root_entry(entry);
        }
        if name.is_whiteout() && !self.plain {
            return self.whiteout(&name);
        }
        let here = self.enter(&name.parent)?;
        match entry.kind {
            Kind::Directory => self.directory(&here, &name, entry)?,
            Kind::File => self.file(&here, &name, entry, archive)?,
            Kind::Hardlink => self.hardlink(&here, &name, entry)?,
            Kind::Symlink => self.symlink(&here, &name, entry)?,
            Kind::Char | Kind::Block | Kind::Fifo => self.node(&here, &name, entry)?,
        }
        // What an entry replaces is a child of this directory, never the directory itself: it stays what it is called.
        self.here = Some(here);
        Ok(())
    }

    /// An entry, or a directory that has none of its own.
    fn count_entry(&mut self) -> Result<()> {
        self.applied.entries += 1;
        if self.applied.entries > self.limits.entries_max {
            return Err(Error::Limit {
                what: "number of entries of a layer",
                limit: self.limits.entries_max,
            });
        }
        Ok(())
    }

    /// A directory's name is to be kept until the end.
    fn count_name(&mut self, name: &[u8]) -> Result<()> {
        self.kept_names_bytes += name.len() + size_of::<Vec<u8>>();
        if self.kept_names_bytes > KEPT_NAMES_BYTES_MAX {
            let limit = KEPT_NAMES_BYTES_MAX as u64;
            return Err(Error::Limit { what: "length of the names of a layer's directories", limit });
        }
        Ok(())
    }

    /// The directory `path`, made with those above it if need be.
    fn enter(&mut self, path: &[u8]) -> Result<Here> {
        if let Some(here) = self.here.take()
            && here.path == path
        {
            return Ok(here);
        }
        let fd = match self.root.open_dir(os(path)) {
            Ok(fd) => fd,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.make_parents(path)?
            }
            Err(error) => return Err(entry_error("open the parent directory of", path, error)),
        };
        Ok(Here { path: path.to_vec(), fd })
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let mut ends: Vec<usize> = (0..path.len()).filter(|at| path[*at] == b'/').collect();
        ends.push(path.len());
        let mut fd = None;
        for end in ends {
            let prefix = &path[..end];
            fd = Some(match self.root.open_dir(os(prefix)) {
                Ok(fd) => fd,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.count_entry()?;
                    self.count_name(prefix)?;
                    self.implied.insert(prefix.to_vec());
                    self.applied.disk_bytes += DISK_BLOCK;
                    self.root
                        .mkdir_all(os(prefix), IMPLIED_MODE)
                        .map_err(|e| entry_error("make", prefix, e))?
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    self.directory_over_whiteout(prefix)?
                }
                Err(error) => return Err(entry_error("open", prefix, error)),
            });
        }
        fd.ok_or_else(|| Error::layer("entry without a name"))
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::layer("the root is not a directory"));
        }
        if self.spares_root {
            return Ok(());
        }
        attributes::set_open(self.root, entry)?;
        self.implied.remove(&[][..]);
        self.directory_times.push((Vec::new(), entry.atime.unwrap_or(entry.mtime), entry.mtime));
        Ok(())
    }

    fn directory(&mut self, here: &Here, name: &Name, entry: &Entry) -> Result<()> {
        let private = Mode::from_raw_mode(0o700);
        let mut opaque = false;
        match fsx::mkdir_at(&here.fd, os(&name.last), private) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let stat = fsx::stat_at(&here.fd, os(&name.last)).map_err(|e| name.error("look at", e))?;
                if fsx::kind(&stat) != FileType::Directory {
                    opaque = whiteout::is_whiteout(&stat);
                    fsx::unlink_at(&here.fd, os(&name.last)).map_err(|e| name.error("replace", e))?;
                    fsx::mkdir_at(&here.fd, os(&name.last), private).map_err(|e| name.error("make", e))?;
                }
            }
            other => {
                other.map_err(|e| name.error("make", e))?;
                self.applied.disk_bytes += DISK_BLOCK;
            }
        }
        let fd = fsx::open_dir_at(&here.fd, os(&name.last)).map_err(|e| name.error("open", e))?;
        if opaque {
            whiteout::set_opaque(&fd).map_err(|e| name.error("hide what is below", e))?;
        }
        attributes::set_open(&fd, entry)?;
        let path = name.path();
        self.implied.remove(&path);
        self.count_name(&path)?;
        self.directory_times.push((path, entry.atime.unwrap_or(entry.mtime), entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        here: &Here,
        name: &Name,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let file = File::from(self.make(here, name, node::create_file)?);
        match &entry.sparse {
            None => node::write(&file, name, archive)?,
            Some(sparse) => node::write_sparse(&file, name, sparse, archive)?,
        }
        self.applied.bytes += entry.size;
        self.applied.disk_bytes += entry.size.next_multiple_of(DISK_BLOCK);
        attributes::set_open(&file, entry)?;
        fsx::set_times(&file, entry.atime.unwrap_or(entry.mtime), entry.mtime)
            .map_err(|e| name.error("set the time of", e))
    }

    fn symlink(&mut self, here: &Here, name: &Name, entry: &Entry) -> Result<()> {
        self.make(here, name, |dir, last| fsx::symlink_at(os(&entry.link), dir, last))?;
        attributes::set_named(&here.fd, name, entry)
    }

    fn node(&mut self, here: &Here, name: &Name, entry: &Entry) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = fsx::makedev(entry.device.0, entry.device.1);
        self.make(here, name, |dir, last| {
            fsx::mknod_at(dir, last, kind, Mode::from_raw_mode(0o600), device)
        })?;
        attributes::set_named(&here.fd, name, entry)
    }

    fn hardlink(&mut self, here: &Here, name: &Name, entry: &Entry) -> Result<()> {
        let target = Name::parse(&entry.link, self.limits.depth_max)?;
        if target.is_root() || (target.is_whiteout() && !self.plain) {
            return Err(name.invalid("hard link to what is no file"));
        }
        if target.path() == name.path() {
            return Ok(());
        }
        let missing = |error| name.error("find the hard link's target of", error);
        let own;
        let dir = if target.parent == here.path {
            &here.fd
        } else {
            own = self.root.open_dir(os(&target.parent)).map_err(missing)?;
            &own
        };
        let stat = fsx::stat_at(dir, os(&target.last)).map_err(missing)?;
        if fsx::kind(&stat) == FileType::Directory || whiteout::is_whiteout(&stat) {
            return Err(name.invalid("hard link to what is no file"));
        }
        self.make(here, name, |parent, last| fsx::link_at(dir, os(&target.last), parent, last))
    }

    /// Makes something called `name`, in place of what may be there.
    fn make<T>(
        &mut self,
        here: &Here,
        name: &Name,
        make: impl Fn(&OwnedFd, &OsStr) -> io::Result<T>,
    ) -> Result<T> {
        match make(&here.fd, os(&name.last)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fsx::remove_tree(&here.fd, os(&name.last)).map_err(|e| name.error("replace", e))?;
                make(&here.fd, os(&name.last))
            }
            other => other,
        }
        .map_err(|e| name.error("make", e))
    }

    fn finish(mut self) -> Result<Applied> {
        for (path, access, modification) in std::mem::take(&mut self.directory_times) {
            // Replaced by something else since, or moved behind a link: then the time is not for it.
            let Ok(fd) = self.root.open_dir(os(&path)) else { continue };
            fsx::set_times(&fd, access, modification)
                .map_err(|e| entry_error("set the time of", &path, e))?;
        }
        let mut implied: Vec<PathBuf> = std::mem::take(&mut self.implied)
            .into_iter()
            .map(|path| PathBuf::from(os(&path)))
            .filter(|path| {
                path.as_os_str().is_empty()
                    || self.root.lstat(path).is_ok_and(|stat| fsx::kind(&stat) == FileType::Directory)
            })
            .collect();
        implied.sort();
        self.applied.implied = implied;
        Ok(self.applied)
    }
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// A failed operation on an entry: on what the archive asks for, unless the disk or the system is to blame.
fn entry_error(verb: &'static str, path: &[u8], error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::TooManyLinks
        | io::ErrorKind::AlreadyExists => {
            Error::layer(format!("cannot {verb} {:?}: {error}", String::from_utf8_lossy(path)))
        }
        _ => Err::<(), _>(error).at(verb, Path::new(os(path))).err().unwrap_or(Error::Interrupted),
    }
}

#[cfg(test)]
mod tests;
