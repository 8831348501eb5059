//! Reads tar archives as a stream: ustar, GNU and PAX, with everything that layers are known to contain.
//!
//! Only the archive's own structure is understood here; what an entry may do to a directory is [`crate::apply`]'s
//! business. Input is hostile: every number is bounded before it is used, and nothing is allocated by a size
//! that the archive claims.

mod header;
mod open;
mod pax;
mod sparse;

use std::io::{self, BufRead};

use sys::fsx::Time;

use crate::error::{Error, Result};
use header::{BLOCK, Header};
pub use open::{layer_source, open};
use pax::Pax;
pub use sparse::{Segment, Sparse};

/// Bytes of one extended header or long name: Go's `archive/tar`, which made nearly every layer there is, has the same limit.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// Extended headers in a row before one entry: four kinds exist, and each is there once in an honest archive.
const EXTENDED_IN_A_ROW_MAX: u32 = 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A further name of an earlier file.
    Hardlink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry of an archive; a file's content follows through [`Archive::data`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as it stands there.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with the set-user-id, set-group-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of content in the archive.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Access time, where there is one.
    pub atime: Option<Time>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// A device's major and minor number.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content belongs, for a file with holes.
    pub sparse: Option<Sparse>,
}

/// A tar archive that is read from front to back.
#[derive(Debug)]
pub struct Archive<R> {
    source: R,
    /// Bytes of the current entry's content not yet read.
    content: u64,
    /// Zero bytes that fill the content's last block.
    padding: u64,
    ended: bool,
}

impl<R: BufRead> Archive<R> {
    /// Reads the archive that `source` gives.
    pub fn new(source: R) -> Self {
        Self { source, content: 0, padding: 0, ended: false }
    }

    /// The next entry; `None` at the end. What is left of the previous one's content is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_content()?;
        let mut extended = Extended::default();
        for _ in 0..EXTENDED_IN_A_ROW_MAX {
            let Some(header) = self.read_header()? else {
                return if extended.is_empty() {
                    Ok(None)
                } else {
                    Err(Error::layer("the archive ends after an extended header"))
                };
            };
            self.begin_content(header.size()?);
            match header.kind_byte() {
                b'x' | b'X' => extended.pax = Some(Pax::parse(&self.read_small()?)?),
                b'L' => extended.path = Some(c_string(self.read_small()?)),
                b'K' => extended.link = Some(c_string(self.read_small()?)),
                // Defaults for all that follows (git's archives have a comment there), and a volume's label: as
                // other engines, we do without.
                b'g' | b'V' => self.skip_content()?,
                _ => return self.entry(&header, extended).map(Some),
            }
        }
        Err(Error::layer("too many extended headers in a row"))
    }

    fn entry(&mut self, header: &Header, extended: Extended) -> Result<Entry> {
        let pax = extended.pax.unwrap_or_default();
        let path = pax.path.clone().or(extended.path).unwrap_or_else(|| header.path());
        let link = pax.link.clone().or(extended.link).unwrap_or_else(|| header.link());
        let shown = String::from_utf8_lossy(&path).into_owned();
        let invalid = |what: &str| Error::layer(format!("{shown:?}: {what}"));
        let kind = match header.kind_byte() {
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(invalid(&format!("unsupported kind of entry 0x{other:02x}"))),
        };
        if kind != Kind::File {
            // Some writers repeat the file's size at a hard link, without the content.
            self.begin_content(0);
        } else if let Some(size) = pax.size {
            self.begin_content(size);
        }
        let id = |value: i64, what: &str| {
            // The highest number is the kernel's "no change".
            u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or_else(|| invalid(what))
        };
        let mut entry = Entry {
            kind,
            mode: u32::try_from(header.mode()? & 0o7777).unwrap_or(0),
            uid: id(pax.uid.map_or_else(|| header.uid(), Ok)?, "owner out of range")?,
            gid: id(pax.gid.map_or_else(|| header.gid(), Ok)?, "group out of range")?,
            size: self.content,
            mtime: pax.mtime.map_or_else(|| header.mtime(), Ok)?,
            atime: pax.atime,
            link,
            device: header.device(kind)?,
            sparse: None,
            xattrs: Vec::new(),
            path,
        };
        if header.kind_byte() == b'S' {
            entry.sparse = Some(self.gnu_sparse(header)?);
        } else if let Some(map) = &pax.sparse {
            self.pax_sparse(map, &mut entry)?;
        }
        entry.xattrs = pax.xattrs;
        Ok(entry)
    }

    /// Gives the current entry's content to `sink`, piece by piece.
    pub fn data(&mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.content > 0 {
            let buffer = fill(&mut self.source)?;
            if buffer.is_empty() {
                return Err(truncated());
            }
            let take = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
            sink(&buffer[..take])?;
            self.source.consume(take);
            self.content -= take as u64;
        }
        Ok(())
    }

    /// Reads what follows the archive's end, so that whoever sits under it sees all bytes.
    pub fn drain(&mut self) -> Result<()> {
        loop {
            let length = fill(&mut self.source)?.len();
            if length == 0 {
                return Ok(());
            }
            self.source.consume(length);
        }
    }

    fn begin_content(&mut self, size: u64) {
        self.content = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<()> {
        self.data(|_| Ok(()))?;
        self.content = std::mem::take(&mut self.padding);
        // Some writers leave the last block's filling away.
        while self.content > 0 {
            let buffer = fill(&mut self.source)?;
            if buffer.is_empty() {
                self.content = 0;
                self.ended = true;
                return Ok(());
            }
            let take = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
            self.source.consume(take);
            self.content -= take as u64;
        }
        Ok(())
    }

    /// The content of an extended header.
    fn read_small(&mut self) -> Result<Vec<u8>> {
        if self.content > EXTENDED_BYTES_MAX {
            return Err(Error::Limit { what: "size of an extended header", limit: EXTENDED_BYTES_MAX });
        }
        let mut small = Vec::new();
        self.data(|piece| {
            small.extend_from_slice(piece);
            Ok(())
        })?;
        self.skip_content()?;
        Ok(small)
    }

    fn read_header(&mut self) -> Result<Option<Header>> {
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block.iter().any(|byte| *byte != 0) {
            return Header::new(block).map(Some);
        }
        self.read_end()?;
        Ok(None)
    }

    /// The archive ends with two blocks of zeros, of which the second may be missing.
    fn read_end(&mut self) -> Result<()> {
        let second = self.read_block()?;
        self.ended = true;
        match second {
            Some(block) if block.iter().any(|byte| *byte != 0) => {
                Err(Error::layer("entries follow the archive's end"))
            }
            _ => Ok(()),
        }
    }

    /// The next block of 512 bytes, `None` at the end of the stream.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = fill(&mut self.source)?;
            if buffer.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(truncated()) };
            }
            let take = buffer.len().min(BLOCK - filled);
            block[filled..filled + take].copy_from_slice(&buffer[..take]);
            self.source.consume(take);
            filled += take;
        }
        Ok(Some(block))
    }

    /// One block of the current entry's content.
    fn read_content_block(&mut self) -> Result<[u8; BLOCK]> {
        if self.content < BLOCK as u64 {
            return Err(Error::layer("map of a sparse file is cut off"));
        }
        let block = self.read_block()?.ok_or_else(truncated)?;
        self.content -= BLOCK as u64;
        Ok(block)
    }
}

#[derive(Default)]
struct Extended {
    pax: Option<Pax>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.path.is_none() && self.link.is_none()
    }
}

/// The source's own errors come through as what they are: [`crate::unpack`] wraps ours into `io::Error` on the way.
fn fill<R: BufRead>(source: &mut R) -> Result<&[u8]> {
    // Asked twice, since the borrow of a loop's result cannot be returned.
    while let Err(error) = source.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(unwrap_io(error));
        }
    }
    source.fill_buf().map_err(unwrap_io)
}

fn unwrap_io(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::layer(error.to_string()),
    }
}

fn truncated() -> Error {
    Error::layer("the archive is cut off")
}

fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
pub(crate) mod tests;
