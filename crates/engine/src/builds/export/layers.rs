//! Layers in the form that an output asks for: compressed otherwise, or with files that are no newer than they may be.

use std::io::{self, Read, Write};

use build::output::{Form, Packer, Packing};
use jiff::Timestamp;
use oci::Digest;
use oci::image::media_type;
use storage::pack::{Gzip, LayerSpool, Writer};
use storage::{Expected, ImageLayer, archive};
use sys::fsx::Time;

use super::super::result::{Built, Part, epoch};
use crate::error::{Error, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// How hard compressors try where nobody says.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// The layers of a platform, as they are to be.
pub(super) fn formed(built: &Built, part: &Part, form: &Form) -> Result<Vec<ImageLayer>> {
    let mut layers = part.layers.clone();
    if form.rewrite_timestamps
        && let Some(latest) = epoch(&built.request)?
    {
        for layer in layers.iter_mut().skip(part.below) {
            *layer = clamped(built, layer, latest)?;
        }
    }
    if let Some(packing) = form.packing {
        for (at, layer) in layers.iter_mut().enumerate() {
            // What is inherited stays what its own image has, unless it is asked for.
            if at >= part.below || packing.force {
                *layer = packed(built, layer, packing)?;
            }
        }
    }
    Ok(layers)
}

/// A layer compressed otherwise.
pub(in crate::builds) fn packed(built: &Built, layer: &ImageLayer, packing: Packing) -> Result<ImageLayer> {
    let (kind, how) = match packing.by {
        Packer::Plain => (media_type::OCI_LAYER, storage::Packing::Plain),
        Packer::Gzip => {
            (media_type::OCI_LAYER_GZIP, storage::Packing::Gzip(packing.level.unwrap_or(GZIP_LEVEL)))
        }
        Packer::Zstd => {
            let level = packing.level.map_or(Ok(ZSTD_LEVEL), i32::try_from);
            let level = level.map_err(|_| Error::invalid("the level of zstd is a small number"))?;
            (media_type::OCI_LAYER_ZSTD, storage::Packing::Zstd(level))
        }
    };
    let is_so = layer.clone().in_oci().media_type == kind;
    let is_settled = packing.by == Packer::Plain || !packing.force && packing.level.is_none();
    if is_so && is_settled {
        return Ok(layer.clone());
    }
    let store = &built.context.store;
    let closing = built.context.closing.clone();
    let mut repacked = store.repack(&layer.digest, &layer.diff_id, how, &|| closing.is_cancelled())?;
    let expected =
        Expected { digest: repacked.digest.clone(), size: repacked.size, media_type: kind.to_owned() };
    match store.ingest(&built.lease, expected) {
        Err(storage::Error::Exists { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(mut ingest) => {
            let unreadable =
                |error| Error::system("cannot read a layer that was compressed").with_source(error);
            io::Seek::seek(&mut repacked.file, io::SeekFrom::Start(ingest.offset())).map_err(unreadable)?;
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                match repacked.file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => ingest.write(&buffer[..length])?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(unreadable(error)),
                }
            }
            ingest.commit()?;
        }
    }
    let (digest, size) = (repacked.digest, repacked.size);
    Ok(ImageLayer { digest, size, media_type: kind.to_owned(), diff_id: layer.diff_id.clone() })
}

/// Where a layer is written to; what goes wrong there is kept, for writers know no errors of the store.
struct Spool(LayerSpool);

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The layer with no file newer than `latest`.
fn clamped(built: &Built, layer: &ImageLayer, latest: Timestamp) -> Result<ImageLayer> {
    let store = &built.context.store;
    let what = |digest: &Digest| format!("cannot write {digest} with other times");
    let failed = |error: io::Error| Error::system(what(&layer.digest)).with_source(error);
    let mut source = archive::open(store.open_blob(&layer.digest)?, store.limits())?;
    let mut out = Writer::new(Gzip::new(Spool(store.spool_layer(&built.lease)?)).map_err(failed)?);
    let limit = Time { seconds: latest.as_second(), nanoseconds: 0 };
    while let Some(mut entry) = source.next_entry()? {
        if (entry.mtime.seconds, entry.mtime.nanoseconds) > (limit.seconds, limit.nanoseconds) {
            entry.mtime = limit;
        }
        entry.atime = None;
        if let Some(sparse) = &entry.sparse {
            entry.size = sparse.segments.iter().map(|segment| segment.length).sum();
        }
        out.entry(&entry).map_err(failed)?;
        source.data(|bytes| {
            out.content(bytes).map_err(|error| storage::Error::InvalidLayer { reason: error.to_string() })
        })?;
    }
    let spool = out.finish().and_then(Gzip::finish).map_err(failed)?;
    Ok(spool.0.commit()?.in_oci())
}
