//! Archives as they come from outside: compressed or not.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use super::Archive;
use crate::apply::Limits;
use crate::decompress::{Counted, MAGIC_BYTES, decompress};
use crate::error::{Error, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Opens an archive that may be compressed. One that grows too much is refused while it is read.
pub fn open<'a>(source: impl Read + 'a, limits: &Limits) -> Result<Archive<Box<dyn BufRead + 'a>>> {
    let (mut source, taken) = Counted::new(source);
    let mut magic = Vec::new();
    source.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(super::unwrap_io)?;
    let whole = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(magic.clone()).chain(source));
    let source = decompress(whole, &magic).map_err(super::unwrap_io)?;
    let bounded = Bounded { source, taken, given: 0, limits: limits.clone() };
    Ok(Archive::new(Box::new(BufReader::with_capacity(BUFFER_BYTES, bounded))))
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
