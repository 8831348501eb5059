//! Directories as a client is told of them: each entry in the order of names, and the content of those that it asks for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use build::output::{Directory, Written};
use sys::fsx::{self, FileType};
use sys::path::{Root, read_link_at};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::filesync::bits;

/// Bytes of content in one packet.
const DATA_BYTES: usize = 32 << 10;
/// Directories in one another, as clients have them.
const DEPTH_MAX: usize = 512;
/// Entries that are told of, as a client counts them.
const ENTRIES_MAX: usize = 1 << 24;
/// Files with several names that are remembered: some fifty bytes each.
const LINKS_MAX: usize = 1 << 20;
/// Of a second.
const NANOSECONDS: i64 = 1_000_000_000;

/// What can be asked for by its number.
#[derive(Debug, Clone)]
enum Content {
    /// A file of a directory.
    File(usize, PathBuf),
    /// A file that was written beside them.
    Written(usize, usize),
    /// Nothing.
    None,
}

/// A directory that is sent.
#[derive(Debug)]
struct Open {
    /// The name that the client gives it.
    name: Option<String>,
    root: Root,
    /// What is written beside what is in it.
    written: Vec<Written>,
    /// When all of it was changed, in nanoseconds, where that was said.
    changed_ns: Option<i64>,
}

/// Directories that are sent.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    directories: Arc<Vec<Open>>,
    told: Arc<Mutex<Vec<Content>>>,
}

/// One walk through a directory.
struct Telling<'a> {
    walk: &'a Walk,
    at: usize,
    packets: &'a mpsc::Sender<Packet>,
    links: HashMap<(u64, u64), String>,
}

impl Walk {
    pub(super) fn new(mut directories: Vec<Directory>) -> Self {
        directories.sort_by(|one, other| one.name.cmp(&other.name));
        let all = directories.into_iter().map(|one| {
            let mut written = one.written;
            written.sort_by(|one, other| one.name.cmp(&other.name));
            let changed_ns = one.changed_s.map(|seconds| seconds.saturating_mul(NANOSECONDS));
            Open { name: one.name, root: Root::from_fd(one.files), written, changed_ns }
        });
        Self { directories: Arc::new(all.collect()), told: Arc::default() }
    }

    /// Tells of all entries.
    pub(super) fn tell(&self, packets: &mpsc::Sender<Packet>) -> Result<()> {
        for (at, Open { name, root, .. }) in self.directories.iter().enumerate() {
            let mut telling = Telling { walk: self, at, packets, links: HashMap::new() };
            let top = root.open_dir(".").map_err(Error::io("open", "."))?;
            let path = name.clone().unwrap_or_default();
            if name.is_some() {
                let stat = Stat { path: path.clone(), mode: bits::DIRECTORY | 0o755, ..Stat::default() };
                telling.stat(stat, Content::None)?;
            }
            telling.directory(&top, &path, "", 0)?;
        }
        let end = Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() };
        // Who takes them no more has said why.
        let _ = packets.blocking_send(end);
        Ok(())
    }

    /// Sends what is asked for, until nothing more can be.
    pub(super) fn send(&self, mut wanted: mpsc::Receiver<u32>, packets: &mpsc::Sender<Packet>) -> Result<()> {
        while let Some(id) = wanted.blocking_recv() {
            let content = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(id as usize).cloned();
            let data = |data: Vec<u8>| Packet { r#type: PacketType::PacketData.into(), id, data, stat: None };
            let done = match content {
                Some(Content::File(at, path)) => {
                    let shown = path.display().to_string();
                    let failed = |error| Error::io("read", &shown)(error);
                    let root = self.directories.get(at).map(|open| &open.root);
                    let root = root.ok_or_else(|| Error::Unknown(format!("no directory of {shown:?}")))?;
                    let mut file = root.open_regular(&path).map_err(failed)?;
                    let mut buffer = vec![0; DATA_BYTES];
                    loop {
                        let length = match file.read(&mut buffer) {
                            Ok(0) => break packets.blocking_send(data(Vec::new())),
                            Ok(length) => length,
                            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                            Err(error) => return Err(failed(error)),
                        };
                        if let Err(gone) = packets.blocking_send(data(buffer[..length].to_vec())) {
                            break Err(gone);
                        }
                    }
                }
                Some(Content::Written(at, number)) => {
                    let written = self.directories.get(at).and_then(|open| open.written.get(number));
                    let content = written.map(|written| written.content.as_slice()).unwrap_or_default();
                    let mut pieces = content.chunks(DATA_BYTES).map(<[u8]>::to_vec).chain([Vec::new()]);
                    loop {
                        let Some(piece) = pieces.next() else { break Ok(()) };
                        if let Err(gone) = packets.blocking_send(data(piece)) {
                            break Err(gone);
                        }
                    }
                }
                _ => return Err(Error::Protocol(format!("file {id} is asked for, and there is none"))),
            };
            if done.is_err() {
                // The client has gone, or has said what is wrong.
                return Ok(());
            }
        }
        Ok(())
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// A mode as Go has it; nothing for what is not sent.
pub(crate) fn mode(stat: &fsx::Stat) -> Option<u32> {
    let kind = match fsx::kind(stat) {
        FileType::RegularFile => 0,
        FileType::Directory => bits::DIRECTORY,
        FileType::Symlink => bits::SYMLINK,
        FileType::Fifo => bits::FIFO,
        // Only root could make a device, and a socket means nothing without who listens on it.
        _ => return None,
    };
    let special = [(bits::SETUID, 0o4000), (bits::SETGID, 0o2000), (bits::STICKY, 0o1000)];
    let special = special.iter().filter(|(_, bit)| stat.st_mode & bit != 0).map(|(go, _)| go).sum::<u32>();
    Some(kind | special | (stat.st_mode & 0o777))
}

impl Telling<'_> {
    fn stat(&self, mut stat: Stat, content: Content) -> Result<()> {
        if let Some(changed) = self.walk.directories[self.at].changed_ns {
            stat.mod_time = changed;
        }
        let mut told = self.walk.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= ENTRIES_MAX {
            return Err(Error::Full { what: "files in the result", count: ENTRIES_MAX });
        }
        told.push(content);
        drop(told);
        let packet = Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() };
        let gone = |_| Error::Gone("the client".to_owned());
        self.packets.blocking_send(packet).map_err(gone)
    }

    /// A directory's entries, and what is written beside those of the top. `path` is where the client has it, `own` where it is here.
    fn directory(&mut self, dir: &OwnedFd, path: &str, own: &str, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::Invalid(format!("{path:?} lies deeper than {DEPTH_MAX} directories")));
        }
        let list = fsx::list(dir).map_err(Error::io("list", path))?;
        let mut names: Vec<(String, Option<usize>)> = Vec::with_capacity(list.len());
        for entry in list {
            // The protocol has text alone.
            let name = entry.name.into_string().map_err(|name| {
                Error::Invalid(format!(
                    "{name:?} in {path:?} is not UTF-8, and cannot be sent: take type=tar"
                ))
            })?;
            names.push((name, None));
        }
        if depth == 0 {
            let directories = Arc::clone(&self.walk.directories);
            for (number, written) in directories[self.at].written.iter().enumerate() {
                names.retain(|(name, _)| *name != written.name);
                names.push((written.name.clone(), Some(number)));
            }
        }
        names.sort();
        for (name, written) in names {
            let shown = join(path, &name);
            match written {
                Some(number) => self.written(shown, number)?,
                None => self.entry(dir, &name, shown, &join(own, &name), depth)?,
            }
        }
        Ok(())
    }

    fn written(&self, path: String, number: usize) -> Result<()> {
        let length = self.walk.directories[self.at].written[number].content.len();
        let stat =
            Stat { path, mode: 0o644, size: i64::try_from(length).unwrap_or(i64::MAX), ..Stat::default() };
        self.stat(stat, Content::Written(self.at, number))
    }

    fn entry(&mut self, dir: &OwnedFd, name: &str, path: String, own: &str, depth: usize) -> Result<()> {
        let found = fsx::stat_at(dir, name).map_err(Error::io("look at", &path))?;
        let Some(mode) = mode(&found) else { return Ok(()) };
        let mut stat = Stat {
            path: path.clone(),
            mode,
            uid: found.st_uid,
            gid: found.st_gid,
            mod_time: found
                .st_mtime
                .saturating_mul(NANOSECONDS)
                .saturating_add(i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
            ..Stat::default()
        };
        match fsx::kind(&found) {
            FileType::Directory => {
                self.stat(stat, Content::None)?;
                let below = fsx::open_dir_at(dir, name).map_err(Error::io("open", &path))?;
                self.directory(&below, &path, own, depth + 1)
            }
            FileType::Symlink => {
                let target = {
                    use std::os::fd::AsFd as _;
                    read_link_at(dir.as_fd(), OsStr::new(name)).map_err(Error::io("read", &path))?
                };
                stat.linkname = String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned();
                self.stat(stat, Content::None)
            }
            FileType::RegularFile => {
                let key = (found.st_dev, found.st_ino);
                if found.st_nlink > 1 {
                    if let Some(first) = self.links.get(&key) {
                        stat.linkname.clone_from(first);
                        return self.stat(stat, Content::None);
                    }
                    if self.links.len() < LINKS_MAX {
                        self.links.insert(key, path);
                    }
                }
                stat.size = found.st_size;
                self.stat(stat, Content::File(self.at, PathBuf::from(own)))
            }
            _ => self.stat(stat, Content::None),
        }
    }
}
