//! A directory as a context: packed while it is sent, without what `.dockerignore` hides.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use build::ignore::{Above, Ignore};
use client::Upload;
use storage::archive::{Entry, Kind};
use storage::pack::Writer;
use sys::fsx::{self, FileType, Stat, Time};

use crate::error::{Error, Result};

/// What hides files.
const IGNORE: &str = ".dockerignore";
/// Directories within each other: as deep as the engine unpacks.
const DEPTH_MAX: usize = 512;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

struct Packer<W> {
    out: Writer<W>,
    ignore: Ignore,
    /// Paths that are sent though they are hidden: the engine reads them.
    always: Vec<String>,
    /// The first names of files that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// Sends a directory; `outside` is the text of a Dockerfile that is not in it.
pub(super) fn upload(directory: &Path, dockerfile: &str, outside: Option<String>) -> Result<Upload> {
    let wrong = |verb| super::failed(verb, directory);
    let own = directory.join(format!("{dockerfile}{IGNORE}"));
    let file = if own.is_file() { own } else { directory.join(IGNORE) };
    let text = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(super::failed("read", &file))?,
    };
    let ignore =
        Ignore::parse(&text).map_err(|error| Error::Message(format!("{}: {error}", file.display())))?;
    let root = fsx::open_dir(directory).map_err(wrong("open"))?;
    if outside.is_none() && fsx::stat_at(&root, Path::new(dockerfile)).is_err() && dockerfile == "Dockerfile"
    {
        // Older ones are written in small letters; the engine looks for both.
        if fsx::stat_at(&root, "dockerfile").is_err() {
            return Err(Error::Message(format!(
                "unable to prepare context: unable to evaluate symlinks in Dockerfile path: {}/Dockerfile: no such file or directory",
                directory.display()
            )));
        }
    }
    let (reader, writer) = io::pipe().map_err(wrong("send"))?;
    let mut always = vec![IGNORE.to_owned(), format!("{dockerfile}{IGNORE}")];
    always.push(dockerfile.to_owned());
    let name = dockerfile.to_owned();
    let why = Arc::new(Mutex::new(None));
    let failed = Arc::clone(&why);
    let packing = move || {
        let out = Writer::new(io::BufWriter::with_capacity(BUFFER_BYTES, writer));
        let mut packer = Packer { out, ignore, always, links: HashMap::new(), buffer: vec![0; BUFFER_BYTES] };
        let packed = packer
            .directory(&root, Path::new(""), &Above::default(), 0)
            .and_then(|()| outside.map_or(Ok(()), |text| packer.out.file(&name, 0o644, text.as_bytes())));
        match packed {
            // Of a pipe that is closed, who read it says why.
            Ok(()) => drop(packer.out.finish()),
            // The pipe ends behind what is said of it.
            Err(error) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
        }
    };
    std::thread::Builder::new().name("context".into()).spawn(packing).map_err(wrong("send"))?;
    Upload::new(Packed { reader, why }).map_err(wrong("send"))
}

/// What is packed by a thread: it ends as that ends.
struct Packed {
    reader: io::PipeReader,
    /// Why the thread has given up, if it has.
    why: Arc<Mutex<Option<io::Error>>>,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if got > 0 || buffer.is_empty() {
            return Ok(got);
        }
        // An archive that only ends here would be one without the rest of the files.
        match self.why.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(0),
        }
    }
}

impl<W: Write> Packer<W> {
    fn directory(&mut self, fd: &OwnedFd, path: &Path, above: &Above, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!("directories are deeper than {DEPTH_MAX}")));
        }
        let mut entries = fsx::list(fd)?;
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        for entry in entries {
            self.entry(fd, &entry.name, &path.join(&entry.name), above, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        path: &Path,
        above: &Above,
        depth: usize,
    ) -> io::Result<()> {
        let text = path.to_string_lossy();
        let (rule, matched) = self.ignore.hides_below(&text, above);
        let wanted = self.always.iter().any(|always| *always == text);
        let leads = self.always.iter().any(|always| Path::new(always).starts_with(path));
        let hidden = rule.is_some() && !wanted;
        if hidden && !leads && !self.ignore.has_exceptions() {
            return Ok(());
        }
        let stat = match fsx::stat_at(dir, name) {
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if fsx::kind(&stat) == FileType::Directory {
            if !hidden {
                self.out.entry(&described(path, &stat, Kind::Directory))?;
            }
            let below = fsx::open_dir_at(dir, name).map_err(|error| unread(path, &error))?;
            return self.directory(&below, path, &matched, depth + 1);
        }
        if hidden {
            return Ok(());
        }
        self.node(dir, name, path, &stat)
    }

    fn node(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path, stat: &Stat) -> io::Result<()> {
        match fsx::kind(stat) {
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    let own = path.as_os_str().as_bytes();
                    let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| own.to_vec());
                    if *first != own {
                        let mut entry = described(path, stat, Kind::Hardlink);
                        entry.link.clone_from(first);
                        return self.out.entry(&entry);
                    }
                }
                let file = fsx::open_regular_at(dir, name).map_err(|error| unread(path, &error))?;
                let mut entry = described(path, stat, Kind::File);
                entry.size = file.metadata()?.len();
                self.out.entry(&entry)?;
                self.content(file)
            }
            FileType::Symlink => {
                let mut entry = described(path, stat, Kind::Symlink);
                entry.link = sys::path::read_link_at(dir.as_fd(), name)?.into_os_string().into_vec();
                self.out.entry(&entry)
            }
            FileType::Fifo => self.out.entry(&described(path, stat, Kind::Fifo)),
            // Sockets mean nothing without who listens on them, devices are the machine's.
            _ => Ok(()),
        }
    }

    /// As much as was said: what has been cut off meanwhile is zeros.
    fn content(&mut self, mut file: File) -> io::Result<()> {
        while self.out.left() > 0 {
            let want = usize::try_from(self.out.left()).unwrap_or(usize::MAX).min(self.buffer.len());
            let got = match file.read(&mut self.buffer[..want])? {
                0 => {
                    self.buffer[..want].fill(0);
                    want
                }
                got => got,
            };
            self.out.content(&self.buffer[..got])?;
        }
        Ok(())
    }
}

/// Says which file of the context cannot be read.
fn unread(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {} of the build context: {error}", path.display()))
}

/// An entry that is nobody's in particular: whose the files are on this machine means nothing in an image.
fn described(path: &Path, stat: &Stat, kind: Kind) -> Entry {
    #[expect(clippy::unnecessary_cast, reason = "the width of these fields differs between architectures")]
    let (seconds, nanoseconds) = (stat.st_mtime as i64, stat.st_mtime_nsec as u64);
    Entry {
        path: path.as_os_str().as_bytes().to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) },
        atime: None,
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}
