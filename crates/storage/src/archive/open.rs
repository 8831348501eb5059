//! Archives as they come from outside: compressed or not.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use super::Archive;
use crate::apply::Limits;
use crate::decompress::{Counted, MAGIC_BYTES, decompress, has_no_media_type};
use crate::error::{Error, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Opens an archive that may be compressed. One that grows too much is refused while it is read.
pub fn open<'a>(source: impl Read + 'a, limits: &Limits) -> Result<Archive<Box<dyn BufRead + 'a>>> {
    let bounded = read(source, limits, |_| true)?;
    Ok(Archive::new(Box::new(BufReader::with_capacity(BUFFER_BYTES, bounded))))
}

/// Reads an archive that is to become a layer: as it is, but for the compressions that the specifications have no media type for (xz and
/// bzip2), which are taken away.
pub fn layer_source<'a>(source: impl Read + 'a, limits: &Limits) -> Result<impl Read + 'a> {
    read(source, limits, has_no_media_type)
}

/// Reads an archive, decompressed where its first bytes are `wanted`.
fn read<'a>(source: impl Read + 'a, limits: &Limits, wanted: impl Fn(&[u8]) -> bool) -> Result<Bounded<'a>> {
    let (mut source, taken) = Counted::new(source);
    let mut magic = Vec::new();
    source.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(super::unwrap_io)?;
    let whole = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(magic.clone()).chain(source));
    let how = if wanted(&magic) { magic.as_slice() } else { &[] };
    let source = decompress(whole, how).map_err(super::unwrap_io)?;
    Ok(Bounded { source, taken, given: 0, limits: limits.clone() })
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
