//! This machine's side of `cp`.

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use storage::pack::{Fence, Form, Naming, Part, Tree, Writer};
use storage::transfer::{self, Owner, Target};
use sys::path::Root;

use super::file_failed;
use super::paths::{self, Placed, There};
use crate::error::{Error, Result};

/// Bytes gathered before they are written to the pipe.
const BUFFER_BYTES: usize = 256 * 1024;

/// What is copied into a container.
#[derive(Debug)]
pub struct Source {
    /// The last part of its path: `.` where its contents are meant.
    pub base: String,
    /// What it was asked for by, where following links has changed that.
    pub shown: Option<String>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The directory; or the one that it is in, with its name there.
    dir: OwnedFd,
    name: Option<String>,
}

impl Source {
    /// Opens what is at a path of this machine. Links before its last part are followed, that one if it is asked for.
    pub fn open(path: &str, follow: bool) -> Result<Self> {
        let failed = |error: io::Error| lstat(path, &error);
        let mut led = paths::Led { path: path.to_owned(), name: None };
        if follow {
            let to = fs::canonicalize(path).map_err(failed)?;
            led = paths::rebased(path, &to.to_string_lossy());
        }
        // A slash at the end means what a link leads to.
        let stat = fs::symlink_metadata(&led.path).map_err(failed)?;
        let base = paths::base(&led.path);
        let is_directory = stat.is_dir();
        let (dir, name) = if is_directory {
            (Path::new(&led.path).to_owned(), None)
        } else {
            let (dir, name) = paths::parts(&led.path);
            (dir.into(), Some(name))
        };
        let dir = fs::File::open(&dir).map_err(|error| file_failed("open", &dir, error))?;
        Ok(Self { base, shown: led.name, is_directory, dir: dir.into(), name })
    }

    /// What it is called in its archive where nothing else was asked for.
    pub fn name(&self) -> String {
        self.shown.clone().unwrap_or_else(|| self.base.clone())
    }

    /// Packs it under a name; how much was written.
    pub fn pack(self, name: &str, sink: impl Write) -> Result<u64> {
        let shown = name.as_bytes().to_vec();
        let naming = match self.name {
            Some(name) => Naming::Only { name: name.into_bytes(), shown },
            None => Naming::Below(shown),
        };
        let tree = Tree { parts: vec![Part::new(self.dir, None)], base: Vec::new(), form: Form::Plain };
        let sink = BufWriter::with_capacity(BUFFER_BYTES, Counted { sink, count: 0 });
        let packed = tree.pack_as(Writer::new(sink), naming, Fence::default());
        let sink = packed.map_err(|error| Error::Message(chain(&error)))?;
        let counted =
            sink.into_inner().map_err(|error| file_failed("write", "the archive", error.into_error()))?;
        Ok(counted.count)
    }
}

struct Counted<W> {
    sink: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.sink.write(bytes)?;
        self.count += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn lstat(path: &str, error: &io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    };
    Error::Message(format!("lstat {path}: {why}"))
}

/// What is at the destination, links followed. Its directory has to be there.
pub fn destination(path: &str) -> Result<There> {
    let failed = |error: io::Error| lstat(path, &error);
    match fs::metadata(path) {
        Ok(stat) => Ok(There {
            path: fs::canonicalize(path).map_err(failed)?,
            exists: true,
            is_directory: stat.is_dir(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (directory, _) = paths::parts(path);
            if !fs::metadata(&directory).map_err(|error| lstat(&directory, &error))?.is_dir() {
                return Err(Error::say("not a directory"));
            }
            Ok(There { path: path.into(), exists: false, is_directory: false })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Unpacks what came out of a container: what is called `base`, or is in it. Nothing in it leads out of the directory, devices are left out (how many is told), nothing
/// runs as its owner, and everything becomes the caller's.
pub fn unpack(archive: impl Read, base: &str, placed: &Placed) -> Result<u64> {
    let root = Root::from_fd(
        fs::File::open(&placed.directory)
            .map_err(|error| file_failed("open", &placed.directory, error))?
            .into(),
    );
    let name = placed.name.as_deref().unwrap_or(base);
    let target = Target {
        root: &root,
        place: Path::new(""),
        rename: Some((base.as_bytes(), name.as_bytes())),
        keep_kinds: true,
        owner: Owner::Own,
        tame: true,
    };
    let unpacked = storage::archive::open(archive, &storage::Limits::default())
        .and_then(|mut archive| transfer::unpack(&mut archive, &target));
    unpacked.map(|done| done.devices).map_err(|error| Error::Message(chain(&error)))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
