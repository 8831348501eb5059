//! What blobs contain: each is hashed again, and the documents among them are held against what the metadata says of their image.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use oci::Digest;
use oci::image::{Document, MAX_MANIFEST_BYTES};

use super::files::Blob;
use super::{CheckOptions, Checked, Fault, Progress, blob_path};
use crate::error::{Error, Result};
use crate::hash::{self, Hasher};
use crate::images::{Image, PlatformManifest};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Reads all blobs. `still_there` says whether one that is damaged has not just been removed.
pub(super) fn check(
    root: &Path,
    blobs: &[Blob],
    options: &mut CheckOptions<'_>,
    checked: &mut Checked,
    still_there: impl Fn(&Digest) -> Result<bool>,
) -> Result<()> {
    let total = blobs.iter().map(|blob| blob.size).sum();
    let mut buffer = vec![0; PIECE_BYTES];
    for blob in blobs {
        let mut progress = |bytes: u64| {
            checked.bytes += bytes;
            (options.progress)(Progress { bytes: checked.bytes, total })
        };
        let wrong = match hashed(root, &blob.digest, &mut buffer, &mut progress) {
            Ok(actual) if actual == blob.digest => continue,
            Ok(actual) => format!("its content is {actual}"),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(Error::Io { source, .. }) => format!("cannot be read: {source}"),
            Err(error) => return Err(error),
        };
        if still_there(&blob.digest)? {
            checked.found(Fault::Blob, blob.digest.as_str(), wrong);
        }
    }
    Ok(())
}

fn hashed(
    root: &Path,
    digest: &Digest,
    buffer: &mut [u8],
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Digest> {
    let path = blob_path(root, digest);
    let failed = |error| Error::io("read", &path, error);
    let mut file = File::open(&path).map_err(failed)?;
    let mut hasher = Hasher::new(digest.algorithm());
    loop {
        match file.read(buffer).map_err(failed)? {
            0 => return hasher.finish(),
            length => {
                hasher.update(&buffer[..length]);
                if !progress(length as u64) {
                    return Err(Error::Interrupted);
                }
            }
        }
    }
}

/// What an image's manifests say against what is written down of it. Blobs that are damaged were told before.
pub(super) fn documents(root: &Path, images: &[Image], checked: &mut Checked) {
    for image in images {
        for manifest in &image.image.manifests {
            let Some(Document::Manifest(document)) = read(root, &manifest.digest, &manifest.media_type)
            else {
                continue;
            };
            if differs(manifest, &document) {
                checked.found(
                    Fault::Record,
                    format!("image {}", image.id()),
                    format!("its manifest {} speaks of other content", manifest.digest),
                );
            }
        }
    }
}

fn differs(manifest: &PlatformManifest, document: &oci::image::Manifest) -> bool {
    let written = manifest.layers.iter().map(|layer| &layer.digest);
    document.config.digest != manifest.config
        || !written.eq(document.layers.iter().map(|layer| &layer.digest))
}

fn read(root: &Path, digest: &Digest, media_type: &str) -> Option<Document> {
    let mut bytes = Vec::new();
    File::open(blob_path(root, digest)).ok()?.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).ok()?;
    let actual = hash::digest_like(digest, &bytes).ok()?;
    (actual == *digest).then(|| Document::parse(&bytes, Some(media_type)).ok())?
}
