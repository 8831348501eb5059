//! Layers and archives as they come from outside, decompressed: what is in them says how, not what they are called.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

/// By how many of its first bytes a compression is known.
pub(crate) const MAGIC_BYTES: usize = 6;

/// The largest window that a zstd stream may ask for, as a power of two: what `zstd` itself takes without being told otherwise.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The most memory that an xz stream may ask for: what `xz -9` needs, and a little.
const XZ_MEMORY_KIB_MAX: u32 = 68 << 10;

/// Reads what is in `source`, which begins with `magic`: gzip, zstd, xz or bzip2, in one piece or several; anything else is read as it is.
pub(crate) fn decompress<'a>(source: impl BufRead + 'a, magic: &[u8]) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(source)),
        // A frame of zstd, or one of those that carry no data and may stand before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB_MAX))
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        _ => Box::new(source),
    })
}

/// Whether it is compressed as no layer of an image may be: by xz or bzip2.
pub(crate) fn has_no_media_type(magic: &[u8]) -> bool {
    matches!(magic, [0xfd, b'7', b'z', b'X', b'Z', 0, ..] | [b'B', b'Z', b'h', b'1'..=b'9', ..])
}

/// Counts what a decoder takes.
pub(crate) struct Counted<R> {
    source: R,
    taken: Rc<Cell<u64>>,
}

impl<R> Counted<R> {
    /// Counts from nothing; the second sees how far it is.
    pub(crate) fn new(source: R) -> (Self, Rc<Cell<u64>>) {
        let taken = Rc::new(Cell::new(0));
        (Self { source, taken: Rc::clone(&taken) }, taken)
    }

    fn count(&self, length: usize) {
        self.taken.set(self.taken.get() + length as u64);
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(target)?;
        self.count(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.source.consume(amount);
        self.count(amount);
    }
}
