//! A layer compressed otherwise: what it unpacks to stays the same, the blob becomes another.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use oci::{Algorithm, Digest};

use crate::decompress::{MAGIC_BYTES, decompress};
use crate::error::{At, Error, Result};
use crate::hash::Hasher;
use crate::store::Store;

/// Bytes that are read or written at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// How a layer is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, at a level from 1 to 9.
    Gzip(u32),
    /// zstd, at a level from 1 to 19.
    Zstd(i32),
}

/// A layer that was compressed otherwise. It lies in a file without a name, which goes away with it.
#[derive(Debug)]
pub struct Repacked {
    /// The file.
    pub file: File,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
}

/// Counts and hashes what is written through it.
struct Counted<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Store {
    /// Compresses a layer's blob otherwise. It has to unpack to `diff_id`. `cancelled` is asked now and then.
    pub fn repack(
        &self,
        blob: &Digest,
        diff_id: &Digest,
        packing: Packing,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Repacked> {
        let source = BufReader::with_capacity(BUFFER_BYTES, self.open_blob(blob)?);
        let file = self.nameless()?;
        let copy = file.try_clone().at("open", "a temporary file")?;
        let mut out = Counted {
            inner: BufWriter::with_capacity(BUFFER_BYTES, copy),
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        };
        let mut hasher = Hasher::new(diff_id.algorithm());
        let limit = self.limits().bytes_max;
        let mut tally = |bytes: &[u8], total: u64| {
            hasher.update(bytes);
            match total {
                _ if cancelled() => Err(Error::Interrupted),
                total if total > limit => Err(Error::Limit { what: "uncompressed size of a layer", limit }),
                _ => Ok(()),
            }
        };
        let full = |error| Error::io("write", &self.path("content/new"), error);
        match packing {
            Packing::Plain => unpack(source, &mut out, &mut tally)?,
            Packing::Gzip(level) => {
                let level = flate2::Compression::new(level.clamp(1, 9));
                let mut encoder = flate2::write::GzEncoder::new(&mut out, level);
                unpack(source, &mut encoder, &mut tally)?;
                encoder.finish().map_err(full)?;
            }
            Packing::Zstd(level) => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(&mut out, level.clamp(1, 19)).map_err(full)?;
                unpack(source, &mut encoder, &mut tally)?;
                encoder.finish().map_err(full)?;
            }
        }
        out.flush().map_err(full)?;
        let actual = hasher.finish()?;
        if actual != *diff_id {
            return Err(Error::DigestMismatch { expected: diff_id.clone(), actual });
        }
        Ok(Repacked { file, digest: out.hasher.finish()?, size: out.size })
    }

    /// A file for a while. If the process dies between the two steps, the next one clears it away.
    fn nameless(&self) -> Result<File> {
        let path = self.path("content/new").join(self.unique());
        let options = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = options.at("make", &path)?;
        std::fs::remove_file(&path).at("remove", &path)?;
        Ok(file)
    }
}

/// Writes what a blob unpacks to.
fn unpack(
    mut source: BufReader<File>,
    sink: &mut impl Write,
    tally: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let broken = |error: io::Error| Error::layer(format!("cannot be decompressed: {error}"));
    let magic = io::BufRead::fill_buf(&mut source).map_err(broken)?;
    let magic = magic[..magic.len().min(MAGIC_BYTES)].to_vec();
    pump(decompress(source, &magic).map_err(broken)?, sink, tally)
}

fn pump(
    mut source: impl Read,
    sink: &mut impl Write,
    tally: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let (mut buffer, mut total) = (vec![0; BUFFER_BYTES], 0_u64);
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::layer(format!("cannot be decompressed: {error}"))),
        };
        total += length as u64;
        tally(&buffer[..length], total)?;
        sink.write_all(&buffer[..length]).at("write", "a layer that is compressed otherwise")?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_it_unpacks_to_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let lease = store.lease("test", Duration::from_secs(60)).unwrap();
        let content: Vec<u8> = (0..600_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let diff_id = crate::hash::digest(&content);
        let mut blob = store.put_blob(&lease, "", &content).unwrap();
        for packing in [Packing::Gzip(1), Packing::Zstd(3), Packing::Gzip(9), Packing::Zstd(19)] {
            let repacked = store.repack(&blob, &diff_id, packing, &|| false).unwrap();
            let mut bytes = vec![0; usize::try_from(repacked.size).unwrap()];
            repacked.file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(repacked.digest, crate::hash::digest(&bytes));
            assert!(bytes.len() < content.len() / 2, "{packing:?}: {}", bytes.len());
            blob = store.put_blob(&lease, "", &bytes).unwrap();
        }
        let other = crate::hash::digest(b"other");
        let error = store.repack(&blob, &other, Packing::Zstd(1), &|| false).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        let error = store.repack(&blob, &diff_id, Packing::Zstd(1), &|| true).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!(std::fs::read_dir(root.path().join("content/new")).unwrap().count(), 0);
    }
}
