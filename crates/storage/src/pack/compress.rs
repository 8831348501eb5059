//! Compression of whole archives.

use std::io::{self, Write};

use super::Gzip;

/// The level of zstd: its own default.
const ZSTD_LEVEL: i32 = 3;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, on all processors.
    Gzip,
    /// zstd.
    Zstd,
}

/// Compresses what is written to it.
pub enum Compressor<W: Write> {
    /// Not at all.
    None(W),
    /// gzip.
    Gzip(Gzip<W>),
    /// zstd.
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> std::fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None(_) => "None",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl<W: Write> Compressor<W> {
    /// Compresses to `sink`.
    pub fn new(compression: Compression, sink: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(sink),
            Compression::Gzip => Self::Gzip(Gzip::new(sink)?),
            Compression::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(sink, ZSTD_LEVEL)?),
        })
    }

    /// Ends the stream, and gives back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(sink) => Ok(sink),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(sink) => sink.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(zstd) => zstd.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(sink) => sink.flush(),
            // A block that is not full would be ended for nothing.
            Self::Gzip(_) | Self::Zstd(_) => Ok(()),
        }
    }
}
