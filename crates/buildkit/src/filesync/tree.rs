//! A directory that becomes what the client has: entries come in the order of a walk, and what is here already is not sent again.
//!
//! ```text
//!  client                                we
//!    | STAT a ------------------------->  the same as here: nothing to do
//!    | STAT b ------------------------->  other: made anew, empty
//!    |    <------------------------ REQ 1
//!    | STAT b/c, …                        (entries and content come mixed)
//!    | DATA 1 "…", DATA 1 "" ---------->  the content of b, and its end
//!    | STAT without an entry ---------->  there are no more: what was not told of is removed
//!    |    <------------------------ FIN   when all content is there
//!    | FIN ---------------------------->
//! ```
//!
//! Nothing is opened by a path that the client names: each directory is held open from its entry to the last one in it, and each entry
//! is one name in it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use sys::fsx::{self, Time};
use sys::path::{FileType, Mode, OFlags, Root};

use super::entry::{CAPABILITY, Entry, Kind};
use crate::error::{Error, Result};

/// Entries of a context. Each costs the daemon its path in memory while it is sent.
pub const ENTRIES_MAX: u32 = 2_000_000;
/// Bytes of a context that are taken: more than any build copies, less than what fills a machine's disk unnoticed.
pub const BYTES_MAX: u64 = 1 << 40;
/// Bytes of the names of all entries together, which are in memory while they are sent: sixty for each of as many as there may be.
pub const NAMES_BYTES_MAX: usize = 128 << 20;
/// Files whose content is asked for at once. Clients queue 128 requests before they stop reading, and stop sending then.
pub const REQUESTS_MAX: usize = 64;
/// Permissions of what is not complete.
const UNFINISHED: Mode = Mode::from_raw_mode(0o600);

/// A directory whose entries are coming.
#[derive(Debug)]
struct Frame {
    /// Its path, empty for the top.
    path: String,
    dir: OwnedFd,
    /// Whether there can be entries that the client does not have.
    is_old: bool,
    seen: HashSet<OsString>,
}

/// A file whose content is not here yet.
#[derive(Debug)]
struct Awaited {
    id: u32,
    entry: Entry,
}

/// A file whose content is coming.
#[derive(Debug)]
struct Coming {
    file: File,
    entry: Entry,
    bytes: u64,
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// That the content of a file is wanted.
    Want(u32),
    /// That all is here.
    Finish,
}

impl From<Answer> for Packet {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Want(id) => Self { r#type: PacketType::PacketReq.into(), id, ..Self::default() },
            Answer::Finish => Self { r#type: PacketType::PacketFin.into(), ..Self::default() },
        }
    }
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Entries are coming.
    Entries,
    /// Content is coming.
    Content,
    /// All is here, and the client was told.
    Told,
    /// The client has said that it is done too.
    Done,
}

/// A directory that becomes what the client has.
#[derive(Debug)]
pub struct Tree {
    root: Root,
    /// Whether what is not told of stays.
    keeps: bool,
    frames: Vec<Frame>,
    stage: Stage,
    /// The number of the next entry.
    next: u32,
    awaited: VecDeque<Awaited>,
    coming: HashMap<u32, Coming>,
    /// Further names of files, which are made when the files are here.
    links: Vec<(String, String)>,
    /// Directories with their modes and times: what is made in them needs the one and changes the other.
    directories: Vec<(String, u32, i64)>,
    bytes: u64,
    /// Bytes of the names that have come.
    names: usize,
}

impl Tree {
    /// Begins with a directory that nobody else changes.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new(dir: OwnedFd) -> Result<Self> {
        let root = Root::from_fd(dir);
        let top = root.open_dir("").map_err(Error::io("open", "/"))?;
        Ok(Self {
            root,
            keeps: false,
            frames: vec![Frame { path: String::new(), dir: top, is_old: true, seen: HashSet::new() }],
            stage: Stage::Entries,
            next: 0,
            awaited: VecDeque::new(),
            coming: HashMap::new(),
            links: Vec::new(),
            directories: Vec::new(),
            bytes: 0,
            names: 0,
        })
    }

    /// The same, of a directory in which stays what is not told of.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn beside(dir: OwnedFd) -> Result<Self> {
        Ok(Self { keeps: true, ..Self::new(dir)? })
    }

    /// Takes what the client sends, and gives what it is to be told.
    ///
    /// # Errors
    /// It is not allowed, or the disk does not take it.
    pub fn take(&mut self, packet: Packet) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) => match packet.stat {
                Some(stat) => self.take_stat(stat)?,
                None => self.end_entries()?,
            },
            Ok(PacketType::PacketData) => self.take_content(packet.id, &packet.data)?,
            Ok(PacketType::PacketErr) => {
                let said = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(Error::Build(format!("the client cannot send the build context: {said}")));
            }
            Ok(PacketType::PacketFin) if self.stage == Stage::Told => self.stage = Stage::Done,
            Ok(PacketType::PacketFin) => return Err(protocol("it ends before all was sent")),
            Ok(PacketType::PacketReq) | Err(_) => return Err(protocol("a packet that only we send")),
        }
        self.want(&mut answers)?;
        if self.stage == Stage::Content && self.awaited.is_empty() && self.coming.is_empty() {
            self.settle()?;
            self.stage = Stage::Told;
            answers.push(Answer::Finish);
        }
        Ok(answers)
    }

    /// Whether both sides are done.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Bytes of content that have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn take_stat(&mut self, stat: Stat) -> Result<()> {
        if self.stage != Stage::Entries {
            return Err(protocol("an entry behind the last one"));
        }
        let id = self.next;
        self.next += 1;
        if self.next > ENTRIES_MAX {
            return Err(Error::Invalid(format!(
                "the build context has more than {ENTRIES_MAX} files: name what is not needed in .dockerignore"
            )));
        }
        let entry = Entry::read(stat)?;
        self.names += entry.path.len();
        if let Kind::Link(target) = &entry.kind {
            self.names += target.len();
        }
        if self.names > NAMES_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the names of the build context's files are longer than {NAMES_BYTES_MAX} bytes together: name what is not needed in \
                 .dockerignore"
            )));
        }
        let (above, name) = entry.place();
        let name = OsString::from(name);
        while self.frames.last().is_some_and(|frame| frame.path != above) {
            self.leave()?;
        }
        let Some(frame) = self.frames.last_mut() else {
            return Err(protocol(&format!("{:?} comes without its directory", entry.path)));
        };
        if entry.kind == Kind::Socket {
            return Ok(());
        }
        if !frame.seen.insert(name.clone()) {
            return Err(protocol(&format!("{:?} comes twice", entry.path)));
        }
        match &entry.kind {
            Kind::Directory => self.make_directory(name, entry),
            Kind::File => self.make_file(id, &name, entry),
            Kind::Link(target) => {
                self.links.push((entry.path.clone(), target.clone()));
                Ok(())
            }
            Kind::Symlink(target) => make_symlink(frame, &name, target, &entry),
            Kind::Fifo => make_fifo(frame, &name, &entry),
            Kind::Socket => Ok(()),
        }
    }

    /// Makes a directory, or keeps the one that is there.
    fn make_directory(&mut self, name: OsString, entry: Entry) -> Result<()> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let fail = |verb| Error::io(verb, &entry.path);
        let there = fsx::stat_at(&frame.dir, &name).ok();
        let is_old = there.is_some_and(|stat| fsx::kind(&stat) == FileType::Directory);
        if !is_old {
            fsx::remove_tree(&frame.dir, &name).map_err(fail("remove"))?;
            fsx::mkdir_at(&frame.dir, &name, Mode::from_raw_mode(0o700)).map_err(fail("make"))?;
        }
        let dir = fsx::open_dir_at(&frame.dir, &name).map_err(fail("open"))?;
        // Who is not root writes into it as its owner alone.
        fsx::chmod(&dir, Mode::from_raw_mode(entry.mode | 0o700)).map_err(fail("change"))?;
        self.set_attributes(&dir, &entry)?;
        self.directories.push((entry.path.clone(), entry.mode, entry.modified));
        self.frames.push(Frame { path: entry.path, dir, is_old, seen: HashSet::new() });
        Ok(())
    }

    /// Makes a file that is to be filled, or keeps the one that is there.
    fn make_file(&mut self, id: u32, name: &OsString, entry: Entry) -> Result<()> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let fail = |verb| Error::io(verb, &entry.path);
        if let Ok(there) = fsx::stat_at(&frame.dir, name) {
            let is_same = fsx::kind(&there) == FileType::RegularFile
                && there.st_mode & 0o7777 == entry.mode
                && u64::try_from(there.st_size) == Ok(entry.size)
                && time_of(&there) == time(entry.modified);
            if is_same {
                if !entry.attributes.is_empty() {
                    let file = fsx::open_regular_at(&frame.dir, name).map_err(fail("open"))?;
                    self.set_attributes(&file, &entry)?;
                }
                return Ok(());
            }
            // Other names of the file keep what they have.
            fsx::remove_tree(&frame.dir, name).map_err(fail("remove"))?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = File::from(fsx::open_at(&frame.dir, name, flags, UNFINISHED).map_err(fail("make"))?);
        if entry.size == 0 {
            return self.finish(&file, &entry);
        }
        // They do not wait in memory for the content, but for the one that content takes away again.
        self.set_attributes(&file, &entry)?;
        let mut entry = entry;
        entry.attributes.retain(|(name, _)| name == CAPABILITY);
        self.awaited.push_back(Awaited { id, entry });
        Ok(())
    }

    /// Asks for as much content as may be on its way.
    fn want(&mut self, answers: &mut Vec<Answer>) -> Result<()> {
        while self.coming.len() < REQUESTS_MAX {
            let Some(Awaited { id, entry }) = self.awaited.pop_front() else { break };
            let file = self
                .root
                .open_at(&entry.path, OFlags::WRONLY | OFlags::NOFOLLOW, Mode::empty())
                .map_err(Error::io("open", &entry.path))?;
            self.coming.insert(id, Coming { file: File::from(file), entry, bytes: 0 });
            answers.push(Answer::Want(id));
        }
        Ok(())
    }

    fn take_content(&mut self, id: u32, data: &[u8]) -> Result<()> {
        let Some(coming) = self.coming.get_mut(&id) else {
            return Err(protocol("content that was not asked for"));
        };
        if data.is_empty() {
            let Some(coming) = self.coming.remove(&id) else { return Ok(()) };
            if coming.bytes == 0 {
                // Clients say nothing of files that they cannot read.
                return Err(Error::Entry {
                    path: coming.entry.path,
                    reason: "the client cannot read it; name it in .dockerignore if it is not needed"
                        .to_owned(),
                });
            }
            return self.finish(&coming.file, &coming.entry);
        }
        let length = data.len() as u64;
        self.bytes += length;
        if self.bytes > BYTES_MAX {
            return Err(Error::Invalid(format!("the build context is larger than {BYTES_MAX} bytes")));
        }
        coming.bytes += length;
        coming.file.write_all(data).map_err(Error::io("write", &coming.entry.path))
    }

    fn end_entries(&mut self) -> Result<()> {
        if self.stage != Stage::Entries {
            return Err(protocol("the entries end twice"));
        }
        while !self.frames.is_empty() {
            self.leave()?;
        }
        self.stage = Stage::Content;
        Ok(())
    }

    /// Leaves the directory that entries came of: what the client does not have goes.
    fn leave(&mut self) -> Result<()> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        if !frame.is_old || self.keeps {
            return Ok(());
        }
        for entry in fsx::list(&frame.dir).map_err(Error::io("list", &frame.path))? {
            if !frame.seen.contains(&entry.name) {
                let path = format!("{}/{}", frame.path, entry.name.to_string_lossy());
                fsx::remove_tree(&frame.dir, &entry.name).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Makes what all content must be there for: further names, and modes and times of directories.
    fn settle(&mut self) -> Result<()> {
        for (path, target) in std::mem::take(&mut self.links) {
            let first = self.root.lstat(&target).map_err(Error::io("find", &target))?;
            if fsx::kind(&first) != FileType::RegularFile {
                let reason = format!("it is a further name of {target:?}, which is no file");
                return Err(Error::Entry { path, reason });
            }
            let is_there = self
                .root
                .lstat(&path)
                .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (first.st_dev, first.st_ino));
            if !is_there {
                let (dir, name) = self.root.parent(&path).map_err(Error::io("find", &path))?;
                fsx::remove_tree(&dir, &name).map_err(Error::io("remove", &path))?;
                self.root.link(&target, &path).map_err(Error::io("link", &path))?;
            }
        }
        // What is inside first: behind some modes nobody but root gets in.
        for (path, mode, modified) in std::mem::take(&mut self.directories).into_iter().rev() {
            let dir = self.root.open_dir(&path).map_err(Error::io("open", &path))?;
            let there = fsx::stat(&dir).map_err(Error::io("look at", &path))?;
            if there.st_mode & 0o7777 != mode {
                fsx::chmod(&dir, Mode::from_raw_mode(mode)).map_err(Error::io("change", &path))?;
            }
            if time_of(&there) != time(modified) {
                let at = time(modified);
                fsx::set_times(&dir, at, at).map_err(Error::io("change", &path))?;
            }
        }
        Ok(())
    }

    /// Gives a complete file what makes it equal to the client's. The time is last: a file without it is made anew the next time.
    fn finish(&self, file: &File, entry: &Entry) -> Result<()> {
        let fail = || Error::io("change", &entry.path);
        self.set_attributes(file, entry)?;
        fsx::chmod(file, Mode::from_raw_mode(entry.mode)).map_err(fail())?;
        let at = time(entry.modified);
        fsx::set_times(file, at, at).map_err(fail())
    }

    fn set_attributes(&self, file: impl AsFd, entry: &Entry) -> Result<()> {
        for (name, value) in &entry.attributes {
            match sys::xattr::set(&file, name, value) {
                // A result is the user's to have, as far as the user may.
                Err(error) if self.keeps && is_beyond(&error) => {}
                other => other.map_err(Error::io("set an attribute of", &entry.path))?,
            }
        }
        Ok(())
    }
}

/// Whether the user may not do it, or the disk cannot.
fn is_beyond(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

fn make_symlink(frame: &Frame, name: &OsString, target: &str, entry: &Entry) -> Result<()> {
    let fail = |verb| Error::io(verb, &entry.path);
    let there = sys::path::read_link_at(frame.dir.as_fd(), name);
    if there.is_ok_and(|there| there.as_os_str() == target) {
        return Ok(());
    }
    fsx::remove_tree(&frame.dir, name).map_err(fail("remove"))?;
    fsx::symlink_at(target, &frame.dir, name).map_err(fail("make"))?;
    let at = time(entry.modified);
    fsx::set_times_at(&frame.dir, name, at, at).map_err(fail("change"))
}

fn make_fifo(frame: &Frame, name: &OsString, entry: &Entry) -> Result<()> {
    let fail = |verb| Error::io(verb, &entry.path);
    let is_there = fsx::stat_at(&frame.dir, name).is_ok_and(|stat| {
        fsx::kind(&stat) == FileType::Fifo
            && stat.st_mode & 0o7777 == entry.mode
            && time_of(&stat) == time(entry.modified)
    });
    if is_there {
        return Ok(());
    }
    fsx::remove_tree(&frame.dir, name).map_err(fail("remove"))?;
    let mode = Mode::from_raw_mode(entry.mode);
    fsx::mknod_at(&frame.dir, name, FileType::Fifo, UNFINISHED, 0).map_err(fail("make"))?;
    fsx::chmod_at(&frame.dir, name, mode).map_err(fail("change"))?;
    let at = time(entry.modified);
    fsx::set_times_at(&frame.dir, name, at, at).map_err(fail("change"))
}

/// Nanoseconds as files carry them.
fn time(nanoseconds: i64) -> Time {
    let rest = nanoseconds.rem_euclid(1_000_000_000);
    Time {
        seconds: nanoseconds.div_euclid(1_000_000_000),
        nanoseconds: u32::try_from(rest).unwrap_or_default(),
    }
}

fn time_of(stat: &sys::path::Stat) -> Time {
    Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
}

fn protocol(what: &str) -> Error {
    Error::Protocol(what.to_owned())
}

#[cfg(test)]
mod tests;
