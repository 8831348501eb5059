//! Writes tar archives: single entries, and whole trees as layers or as they are.
//!
//! What is written is deterministic: names in order, times in whole seconds unless asked for otherwise, no names of users, and
//! extended headers only where the plain ones cannot say it.

mod adopt;
mod changes;
mod compress;
mod gzip;
mod header;
mod layer;
mod live;
mod shares;
mod stack;
mod stubs;
mod tree;

pub use changes::{Change, ChangeKind};
pub use compress::{Compression, Compressor};
pub use gzip::Gzip;
pub use layer::LayerSpool;
pub use live::{Fence, Naming};
pub use shares::LayerShare;
pub(crate) use tree::is_opaque;
pub use tree::{Form, Part, Tree};

use std::io::{self, Write};

use crate::archive::{Entry, Kind};

/// Bytes of a block, of which headers and content are made.
const BLOCK: usize = 512;

/// A tar archive that is written from front to back.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    /// Bytes of the current entry's content that are still to come.
    left: u64,
    padding: usize,
    /// The time that all entries get, whatever theirs is.
    time: Option<sys::fsx::Time>,
}

impl<W: Write> Writer<W> {
    /// Writes to `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink, left: 0, padding: 0, time: None }
    }

    /// The same, and all entries get this time where there is one.
    #[must_use]
    pub fn timed(self, time: Option<sys::fsx::Time>) -> Self {
        Self { time, ..self }
    }

    /// Begins an entry. `entry.size` bytes of content have to follow if it is a file: those of its pieces, where it has holes.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_content()?;
        let (blocks, map) = match self.time {
            Some(mtime) => header::encode(&Entry { mtime, ..entry.clone() })?,
            None => header::encode(entry)?,
        };
        self.sink.write_all(&blocks)?;
        self.left = if entry.kind == Kind::File { entry.size } else { 0 };
        let total = self.left + map;
        self.padding = ((BLOCK as u64 - total % BLOCK as u64) % BLOCK as u64) as usize;
        Ok(())
    }

    /// A file with all of its content.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(&plain(path, Kind::File, mode, content.len() as u64))?;
        self.content(content)
    }

    /// A directory of nobody's in particular.
    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.entry(&plain(path, Kind::Directory, mode, 0))
    }

    /// The head of a file whose content follows.
    pub fn head(&mut self, path: &str, mode: u32, size: u64) -> io::Result<()> {
        self.entry(&plain(path, Kind::File, mode, size))
    }

    /// The next bytes of the current entry's content; what is too much is an error.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("more content than the archive's entry was to have"))?;
        self.sink.write_all(bytes)
    }

    /// Bytes of content that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn end_content(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("less content than the archive's entry was to have"));
        }
        self.sink.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
    }

    /// Ends the archive, and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_content()?;
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}

/// An entry of root's, of 1970.
fn plain(path: &str, kind: Kind, mode: u32, size: u64) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        size,
        mtime: sys::fsx::Time::default(),
        atime: None,
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}

#[cfg(test)]
mod tests;
