//! Packs directories: a root filesystem as it is, or as a layer the directories that overlay keeps.
//!
//! A layer's directories are merged as overlay would, without mounting them; what deletes something in the layers below (`base`) becomes a
//! whiteout of OCI. The trees are hostile and may change meanwhile: they are walked by descriptor, nothing is followed, only regular
//! files are opened, and an entry has the size that its header says.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sys::fsx::{self, FileType, Mode, OFlags, Stat, Time};
use sys::xattr;

use super::Writer;
use super::layer::wrapped;
use super::live::{Fence, Naming};
use super::stubs::{is_stub, may_hold_stubs};
use crate::apply::OPAQUE;
use crate::archive::{Entry, Kind, Segment, Sparse};
use crate::error::{Error, Result};

/// Directories within each other: as deep as a layer may be.
const DEPTH_MAX: usize = 512;
/// Directories that are open at once: each level of a merged tree has one for each layer.
const OPEN_MAX: usize = 8192;
/// Files with several names that are remembered: some fifty bytes each.
const LINKS_MAX: usize = 1 << 20;
/// From how many bytes of holes on a file is packed as one with holes: below, readers that do not know them matter more.
const HOLES_FROM: u64 = 1 << 20;
/// Pieces of such a file: of the map's lines, which stay in memory.
const PIECES_MAX: usize = 1 << 16;
/// Bytes of content read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Mode, owner and group of a root of which no layer says anything.
const ROOT: (u32, u32, u32) = (0o755, 0, 0);
/// What whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of everything below its directory.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// Extended attributes, by name.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// How a tree is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A root filesystem as it is seen, with times in whole seconds.
    Plain,
    /// A layer, with times in whole seconds, as other engines write them.
    Layer,
    /// A layer, with times as they are: what was unpacked from it cannot be told from what was packed.
    Exact,
}

/// One of the directories that make up a tree.
#[derive(Debug)]
pub struct Part {
    dir: OwnedFd,
    implied: HashSet<PathBuf>,
}

impl Part {
    /// A directory, and those in it of which it does not say mode and owner.
    pub fn new(dir: OwnedFd, implied: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { dir, implied: implied.into_iter().collect() }
    }
}

/// What is packed.
#[derive(Debug)]
pub struct Tree {
    /// The directories, topmost first.
    pub parts: Vec<Part>,
    /// The layers below, topmost first: what is deleted of them has to be said.
    pub base: Vec<Part>,
    /// How.
    pub form: Form,
}

/// A directory of one part.
pub(super) struct Dir {
    part: usize,
    pub(super) fd: OwnedFd,
}

/// A directory that is being packed.
struct Level {
    path: Vec<u8>,
    dirs: Vec<Dir>,
    base: Vec<Dir>,
    /// What is still to be done, the last first.
    todo: Vec<Vec<u8>>,
    /// The directory's own entry, while nothing in it has made it worth one.
    head: Option<Entry>,
}

/// What a name is in directories that are merged.
pub(super) struct Found {
    pub(super) stat: Stat,
    /// Where it is described; the last that has it, if none does.
    at: usize,
    described: bool,
    /// The directories, where it is one.
    pub(super) dirs: Vec<Dir>,
    /// Whether it hides the directories below.
    pub(super) opaque: bool,
}

impl Found {
    /// The directory that says mode, owner and attributes, where it is one.
    fn describing(&self) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.part == self.at).or(self.dirs.first())
    }
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    fsx::kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn failed(verb: &'static str, path: &[u8], error: io::Error) -> Error {
    Error::io(verb, Path::new(os(path)), error)
}

pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

pub(super) struct Packer<'a, W> {
    tree: &'a Tree,
    pub(super) out: Writer<W>,
    naming: Naming,
    fence: Fence,
    levels: Vec<Level>,
    open: usize,
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    unsaid: Unsaid,
}

/// What is in the directories of a layer, and not in its archive.
#[derive(Debug, Default)]
pub(super) struct Unsaid {
    /// What only the engine has made, directories that are as those below, what hides nothing, sockets: what is inside comes first.
    pub(super) nodes: Vec<Vec<u8>>,
    /// Directories that hide what is below them, where nothing is.
    pub(super) opaque: Vec<Vec<u8>>,
    /// Whether nothing is said of the root.
    pub(super) root: bool,
}

impl Tree {
    /// Packs all of it, and ends the archive.
    pub fn pack<W: Write>(&self, out: Writer<W>) -> Result<W> {
        self.pack_as(out, Naming::AsIs, Fence::default())
    }

    /// Packs all of it, or one thing in it, under another name, and ends the archive.
    pub fn pack_as<W: Write>(&self, out: Writer<W>, naming: Naming, fence: Fence) -> Result<W> {
        self.pack_noting(out, naming, fence).map(|(out, _)| out)
    }

    /// The same; and what is not in the archive.
    pub(super) fn pack_noting<W: Write>(
        &self,
        out: Writer<W>,
        naming: Naming,
        fence: Fence,
    ) -> Result<(W, Unsaid)> {
        let (out, unsaid) = self.pack_some(out, naming, fence)?;
        Ok((out.finish().map_err(|error| wrapped(error, Path::new("archive")))?, unsaid))
    }

    /// Packs all of it under another name, and lets the archive go on.
    pub fn pack_into<W: Write>(&self, out: Writer<W>, naming: Naming) -> Result<Writer<W>> {
        self.pack_some(out, naming, Fence::default()).map(|(out, _)| out)
    }

    fn pack_some<W: Write>(
        &self,
        out: Writer<W>,
        naming: Naming,
        fence: Fence,
    ) -> Result<(Writer<W>, Unsaid)> {
        let mut packer = Packer {
            tree: self,
            out,
            naming,
            fence,
            levels: Vec::new(),
            open: 0,
            links: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
            unsaid: Unsaid::default(),
        };
        packer.root()?;
        while !packer.levels.is_empty() {
            packer.step()?;
        }
        Ok((packer.out, packer.unsaid))
    }
}

pub(super) fn open_parts(parts: &[Part]) -> io::Result<Vec<Dir>> {
    let open = |(part, of): (usize, &Part)| Ok(Dir { part, fd: fsx::open_dir_at(&of.dir, ".")? });
    parts.iter().enumerate().map(open).collect()
}

/// What describes a tree's root.
fn root_of(parts: &[Part]) -> io::Result<Option<(usize, Stat)>> {
    let described = parts.iter().position(|part| !part.implied.contains(Path::new("")));
    described.map(|at| Ok((at, fsx::stat(&parts[at].dir)?))).transpose()
}

impl<W: Write> Packer<'_, W> {
    fn write(&mut self, entry: &Entry) -> Result<()> {
        for at in 0..self.levels.len() {
            if let Some(head) = self.levels[at].head.take() {
                self.put(&head)?;
            }
        }
        self.put(entry)
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        let named = self.naming.name(entry);
        self.out.entry(&named).map_err(|error| wrapped(error, Path::new(os(&entry.path))))
    }

    fn root(&mut self) -> Result<()> {
        let error = |error| failed("look at", b".", error);
        let own = root_of(&self.tree.parts).map_err(error)?;
        let below = root_of(&self.tree.base).map_err(error)?;
        let attributes = |stat: &Stat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
        // A root that is as that below need not be spoken of: its time changes with whatever is made in it.
        let known = below.as_ref().map_or(ROOT, |(_, below)| attributes(below));
        let same = |stat: &Stat| attributes(stat) == known;
        let told = match self.tree.form {
            Form::Plain => self.naming.tells_root(),
            Form::Layer => own.as_ref().is_some_and(|(_, stat)| !same(stat)),
            Form::Exact => true,
        };
        self.unsaid.root = !told;
        let dirs = open_parts(&self.tree.parts).map_err(error)?;
        if let Some((at, stat)) = own
            && told
        {
            // A description of its own: what was only found cannot be asked for its attributes.
            let entry = self.described(b"./", &stat, Kind::Directory, &dirs[at].fd)?;
            self.write(&entry)?;
            if self.fence.stops(&stat, Some(&dirs[at].fd)).map_err(error)? {
                return Ok(());
            }
        }
        let base = open_parts(&self.tree.base).map_err(error)?;
        self.enter(Vec::new(), dirs, base, None)?;
        Ok(())
    }

    fn enter(&mut self, path: Vec<u8>, dirs: Vec<Dir>, base: Vec<Dir>, head: Option<Entry>) -> Result<()> {
        self.open += dirs.len() + base.len();
        if self.levels.len() >= DEPTH_MAX {
            return Err(Error::Limit { what: "depth of a path in a layer", limit: DEPTH_MAX as u64 });
        }
        if self.open > OPEN_MAX {
            return Err(Error::Limit { what: "number of directories open at once", limit: OPEN_MAX as u64 });
        }
        let mut names = BTreeSet::new();
        // The directory that one thing is wanted of may hold any number of others.
        let only = self.naming.only().filter(|_| self.levels.is_empty());
        if let Some(only) = only
            && dirs.iter().any(|dir| fsx::stat_at(&dir.fd, OsStr::from_bytes(only)).is_ok())
        {
            names.insert(only.to_vec());
        }
        for dir in dirs.iter().filter(|_| only.is_none()) {
            let list = fsx::list(&dir.fd).map_err(|error| failed("list", &path, error))?;
            names.extend(list.into_iter().map(|entry| entry.name.as_bytes().to_vec()));
        }
        let todo = names.into_iter().rev().collect();
        self.levels.push(Level { path, dirs, base, todo, head });
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let Some(name) = level.todo.pop() else {
            self.open -= level.dirs.len() + level.base.len();
            let level = self.levels.pop();
            self.unsaid.nodes.extend(level.filter(|level| level.head.is_some()).map(|level| level.path));
            return Ok(());
        };
        let path = join(&level.path, &name);
        let error = |error| failed("look at", &path, error);
        let Some(found) = look(&level.dirs, &self.tree.parts, &name, &path).map_err(error)? else {
            // Gone meanwhile.
            return Ok(());
        };
        let below = look(&level.base, &self.tree.base, &name, &path).map_err(error)?;
        let below = below.filter(|below| !is_whiteout(&below.stat));
        if is_whiteout(&found.stat) {
            if below.is_some() {
                let whiteout = join(&level.path, &[WHITEOUT, &name[..]].concat());
                self.write(&empty(whiteout))?;
            } else {
                self.unsaid.nodes.push(path);
            }
            return Ok(());
        }
        if self.tree.form != Form::Plain && name.starts_with(WHITEOUT) {
            return Err(Error::layer(format!(
                "{:?}: no layer can hold a file of this name",
                String::from_utf8_lossy(&path)
            )));
        }
        if self.tree.form == Form::Layer && below.is_none() && is_stub(&path, &found).map_err(error)? {
            self.unsaid.nodes.push(path);
            return Ok(());
        }
        if fsx::kind(&found.stat) == FileType::Directory {
            return self.directory(path, found, below);
        }
        self.node(&name, path, &found)
    }

    fn directory(&mut self, path: Vec<u8>, found: Found, below: Option<Found>) -> Result<()> {
        let below = below.filter(|below| fsx::kind(&below.stat) == FileType::Directory);
        let mut head = None;
        // A directory of which nothing is said keeps what the layers below say of it.
        if (found.described || below.is_none() || found.opaque)
            && let Some(at) = found.describing()
        {
            let fd = at.fd.try_clone().map_err(|error| failed("open", &path, error))?;
            let entry = self.described(&path, &found.stat, Kind::Directory, &fd)?;
            let same = match &below {
                Some(below) if self.tree.form == Form::Layer && !found.opaque => {
                    let same = same_directory(&path, &found, below);
                    same.map_err(|error| failed("read the attributes of", &path, error))?
                }
                _ => false,
            };
            if same {
                head = Some(entry);
            } else {
                self.write(&entry)?;
            }
        }
        let mut base = Vec::new();
        if let Some(below) = below {
            if found.opaque {
                self.write(&empty(join(&path, OPAQUE_NAME)))?;
            } else {
                base = below.dirs;
            }
        } else if found.opaque {
            self.unsaid.opaque.push(path.clone());
        }
        let first = found.dirs.first().map(|dir| &dir.fd);
        if self.fence.stops(&found.stat, first).map_err(|error| failed("look at", &path, error))? {
            return Ok(());
        }
        self.enter(path, found.dirs, base, head)
    }

    /// What is no directory.
    fn node(&mut self, name: &[u8], path: Vec<u8>, found: &Found) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let Some(dir) = level.dirs.iter().find(|dir| dir.part == found.at) else { return Ok(()) };
        let kind = match fsx::kind(&found.stat) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            // A socket means nothing without who listens on it: archives have none.
            _ => {
                self.unsaid.nodes.push(path);
                return Ok(());
            }
        };
        if found.stat.st_nlink > 1 {
            let key = (found.stat.st_dev, found.stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let mut entry = self.attributes(&path, &found.stat, Kind::Hardlink);
                entry.link.clone_from(first);
                return self.write(&entry);
            }
            if self.links.len() == LINKS_MAX {
                return Err(Error::Limit {
                    what: "number of files with several names",
                    limit: LINKS_MAX as u64,
                });
            }
            self.links.insert(key, path.clone());
        }
        let fd = dir.fd.try_clone().map_err(|error| failed("open", &path, error))?;
        match kind {
            Kind::File => self.file(&fd, name, &path, found),
            _ => self.special(&fd, name, &path, found, kind),
        }
    }

    fn special(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], found: &Found, kind: Kind) -> Result<()> {
        let mut entry = self.attributes(path, &found.stat, kind);
        match special_of(dir, os(name), kind) {
            Ok((link, xattrs)) => (entry.link, entry.xattrs) = (link, xattrs),
            // Gone meanwhile, or no link any more.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                return Ok(());
            }
            Err(error) => return Err(failed("read", path, error)),
        }
        self.write(&entry)
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], found: &Found) -> Result<()> {
        let opened = open_seen(dir, os(name), &found.stat).map_err(|error| failed("open", path, error))?;
        let Some(file) = opened else { return Ok(()) };
        let stat = fsx::stat(&file).map_err(|error| failed("look at", path, error))?;
        let mut entry = self.described(path, &stat, Kind::File, &file)?;
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.sparse = holes(&file, &stat).map_err(|error| failed("read", path, error))?;
        let Some(sparse) = entry.sparse.clone() else {
            self.write(&entry)?;
            return self.content(&file, path);
        };
        entry.size = sparse.segments.iter().map(|segment| segment.length).sum();
        self.write(&entry)?;
        for segment in sparse.segments {
            self.piece(&file, path, segment)?;
        }
        Ok(())
    }

    /// As much content as the header has said: what has been cut off meanwhile is zeros.
    fn content(&mut self, mut file: &File, path: &[u8]) -> Result<()> {
        while self.out.left() > 0 {
            let want = usize::try_from(self.out.left()).unwrap_or(usize::MAX).min(self.buffer.len());
            let got = match file.read(&mut self.buffer[..want]) {
                Ok(0) => {
                    self.buffer[..want].fill(0);
                    want
                }
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read", path, error)),
            };
            self.give(got, path)?;
        }
        Ok(())
    }

    fn piece(&mut self, file: &File, path: &[u8], segment: Segment) -> Result<()> {
        let mut done = 0;
        while done < segment.length {
            let want = usize::try_from(segment.length - done).unwrap_or(usize::MAX).min(self.buffer.len());
            let mut got = file
                .read_at(&mut self.buffer[..want], segment.offset + done)
                .map_err(|error| failed("read", path, error))?;
            if got == 0 {
                self.buffer[..want].fill(0);
                got = want;
            }
            self.give(got, path)?;
            done += got as u64;
        }
        Ok(())
    }

    fn give(&mut self, length: usize, path: &[u8]) -> Result<()> {
        self.out.content(&self.buffer[..length]).map_err(|error| wrapped(error, Path::new(os(path))))
    }

    /// An entry with what `fd` has of attributes.
    fn described(&self, path: &[u8], stat: &Stat, kind: Kind, fd: impl AsFd) -> Result<Entry> {
        let mut entry = self.attributes(path, stat, kind);
        entry.xattrs = attributes_at(fd).map_err(|error| failed("read the attributes of", path, error))?;
        Ok(entry)
    }

    fn attributes(&self, path: &[u8], stat: &Stat, kind: Kind) -> Entry {
        #[expect(
            clippy::unnecessary_cast,
            reason = "the width of these fields differs between architectures"
        )]
        let (seconds, nanoseconds) = (stat.st_mtime as i64, stat.st_mtime_nsec as u64);
        let exact = self.tree.form == Form::Exact;
        let nanoseconds = if exact { u32::try_from(nanoseconds).unwrap_or(0) } else { 0 };
        let device = matches!(kind, Kind::Char | Kind::Block);
        Entry {
            path: path.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: 0,
            mtime: Time { seconds, nanoseconds },
            atime: None,
            link: Vec::new(),
            device: if device { (fsx::major(stat.st_rdev), fsx::minor(stat.st_rdev)) } else { (0, 0) },
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

/// The text of a link, and the attributes of what cannot be opened.
fn special_of(dir: &OwnedFd, name: &OsStr, kind: Kind) -> io::Result<(Vec<u8>, Attributes)> {
    let mut link = Vec::new();
    if kind == Kind::Symlink {
        link = sys::path::read_link_at(dir.as_fd(), name)?.into_os_string().into_vec();
    }
    let names = xattr::list_at(dir, name).or_else(unsupported)?;
    Ok((link, attributes_of(names, |key| xattr::get_at(dir, name, key))?))
}

/// Opens the regular file that `name` was when it was `seen`. `None` where it is gone or has become something else: then nothing is
/// opened, since opening a device alone may have effects on the host.
pub(super) fn open_seen(dir: &OwnedFd, name: &OsStr, seen: &Stat) -> io::Result<Option<File>> {
    let handle = match fsx::open_at(dir, name, OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let stat = fsx::stat(&handle)?;
    let same = (stat.st_dev, stat.st_ino) == (seen.st_dev, seen.st_ino);
    if !same || fsx::kind(&stat) != FileType::RegularFile {
        return Ok(None);
    }
    fsx::open_regular_handle(&handle).map(Some)
}

/// A file without content: what whiteouts are.
fn empty(path: Vec<u8>) -> Entry {
    Entry { path, mode: 0o600, ..super::plain("", Kind::File, 0, 0) }
}

/// The attributes of what is open, those that belong to the files.
fn attributes_at(fd: impl AsFd) -> io::Result<Attributes> {
    let names = xattr::list(&fd).or_else(unsupported)?;
    attributes_of(names, |key| xattr::get(&fd, key))
}

fn unsupported(error: io::Error) -> io::Result<Vec<std::ffi::OsString>> {
    match error.kind() {
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        _ => Err(error),
    }
}

/// The attributes that belong to the files: overlay's own and those of the host's policy do not. Nor do those that overlay takes for its
/// own where it is mounted with `userxattr`: a container may have set them, but engines without root's rights would hide files by them.
fn attributes_of(
    names: Vec<std::ffi::OsString>,
    get: impl Fn(&OsStr) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<Attributes> {
    let mut kept = Vec::new();
    for name in names {
        let bytes = name.as_bytes();
        let overlay = bytes.starts_with(b"trusted.overlay.") || bytes.starts_with(b"user.overlay.");
        let known = bytes == b"security.capability"
            || bytes.starts_with(b"system.posix_acl_")
            || bytes.starts_with(b"user.")
            || bytes.starts_with(b"trusted.");
        if known
            && !overlay
            && let Some(value) = get(&name)?
        {
            kept.push((bytes.to_vec(), value));
        }
    }
    kept.sort();
    Ok(kept)
}

/// Where a file has content, if its holes are worth leaving out.
fn holes(file: &File, stat: &Stat) -> io::Result<Option<Sparse>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let stored = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    if size < stored.saturating_add(HOLES_FROM) {
        return Ok(None);
    }
    let Some(pieces) = fsx::data_pieces(file, size, PIECES_MAX)? else { return Ok(None) };
    let segments = pieces.into_iter().map(|(offset, length)| Segment { offset, length }).collect();
    Ok(Some(Sparse { size, segments }))
}

/// What `name` is in these directories, as overlay merges them.
pub(super) fn look(dirs: &[Dir], parts: &[Part], name: &[u8], path: &[u8]) -> io::Result<Option<Found>> {
    let mut found: Option<Found> = None;
    for dir in dirs {
        let stat = match fsx::stat_at(&dir.fd, os(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let is_directory = fsx::kind(&stat) == FileType::Directory;
        if !is_directory {
            // Below a directory it is hidden by that, and hides what is still below.
            return Ok(Some(match found {
                Some(mut above) => {
                    above.opaque = true;
                    above
                }
                None => Found { stat, at: dir.part, described: true, dirs: Vec::new(), opaque: false },
            }));
        }
        let fd = match fsx::open_dir_at(&dir.fd, os(name)) {
            // Gone meanwhile, or become something else.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            other => other?,
        };
        let opaque = is_opaque(&fd)?;
        let described = !parts[dir.part].implied.contains(Path::new(os(path)));
        let here = Dir { part: dir.part, fd };
        match &mut found {
            Some(above) => {
                if described && !above.described {
                    (above.stat, above.at, above.described) = (stat, dir.part, true);
                }
                above.opaque |= opaque;
                above.dirs.push(here);
            }
            None => found = Some(Found { stat, at: dir.part, described, dirs: vec![here], opaque }),
        }
        if opaque {
            break;
        }
    }
    Ok(found)
}

/// Whether a directory hides those of the same name below. This store's overlays are mounted without `userxattr`: what a container sets
/// itself, `user.overlay.opaque`, says nothing to them.
pub(crate) fn is_opaque(fd: &OwnedFd) -> io::Result<bool> {
    Ok(xattr::get(fd, OPAQUE)?.is_some_and(|value| value == b"y"))
}

/// Whether these are directories of which one is only the place of what was changed in it.
pub(super) fn same_directory(path: &[u8], upper: &Found, below: &Found) -> io::Result<bool> {
    let (Some(above), Some(under)) = (upper.describing(), below.describing()) else { return Ok(false) };
    let (upper, below) = (&upper.stat, &below.stat);
    let same = (upper.st_mode, upper.st_uid, upper.st_gid) == (below.st_mode, below.st_uid, below.st_gid)
        && (upper.st_mtime == below.st_mtime || may_hold_stubs(path));
    Ok(same && attributes_at(&above.fd)? == attributes_at(&under.fd)?)
}
