//! Archives as they come from outside: compressed or not.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::Archive;
use crate::apply::Limits;
use crate::error::{Error, Result};
use crate::unpack::ZSTD_WINDOW_LOG_MAX;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// By how many of its first bytes a compression is known.
const MAGIC_BYTES: usize = 6;

/// Opens an archive that may be compressed. One that grows too much is refused while it is read.
pub fn open<'a>(source: impl Read + 'a, limits: &Limits) -> Result<Archive<Box<dyn BufRead + 'a>>> {
    let taken = Rc::new(Cell::new(0));
    let mut source = Counted { source, taken: Rc::clone(&taken) };
    let mut magic = Vec::new();
    source.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(super::unwrap_io)?;
    let whole = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(magic.clone()).chain(source));
    let bounded = |source: Box<dyn Read + 'a>| {
        let bounded = Bounded { source, taken: Rc::clone(&taken), given: 0, limits: limits.clone() };
        Box::new(BufReader::with_capacity(BUFFER_BYTES, bounded)) as Box<dyn BufRead + 'a>
    };
    let source: Box<dyn BufRead + 'a> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => bounded(Box::new(MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(super::unwrap_io)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(super::unwrap_io)?;
            bounded(Box::new(decoder))
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Err(Error::Compressed { by: "xz" }),
        [b'B', b'Z', b'h', ..] => return Err(Error::Compressed { by: "bzip2" }),
        _ => Box::new(whole),
    };
    Ok(Archive::new(source))
}

/// Counts what is read.
struct Counted<R> {
    source: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(target)?;
        self.taken.set(self.taken.get() + length as u64);
        Ok(length)
    }
}

/// What is decompressed, as long as it is in proportion.
struct Bounded<'a> {
    source: Box<dyn Read + 'a>,
    taken: Rc<Cell<u64>>,
    given: u64,
    limits: Limits,
}

impl Read for Bounded<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(target)?;
        self.given += length as u64;
        let limit = self.limits.ratio_max;
        if self.given > self.limits.ratio_from && self.given / limit > self.taken.get() {
            return Err(io::Error::other(Error::Limit { what: "compression ratio of an archive", limit }));
        }
        Ok(length)
    }
}
