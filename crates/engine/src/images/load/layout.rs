//! Images of an OCI layout.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oci::Digest;
use oci::image::media_type::layer_compression;
use oci::image::{
    Descriptor, Document, ImageConfig, Index, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest, media_type,
};
use storage::{ImageLayer, Lease, NewImage, PlatformManifest, Store};

use super::Loaded;
use super::archive::Piece;
use super::documents;
use super::intake::{Intake, refused};
use crate::error::{Error, Result};

/// Indexes within each other.
const DEPTH_MAX: usize = 4;
/// Documents that are looked at for one archive.
const DOCUMENTS_MAX: usize = 100_000;
/// How long somebody else who writes the same layer is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(600);

/// All images of the layout.
pub(super) fn images(store: &Store, lease: &Lease, intake: &Intake) -> Result<Vec<Loaded>> {
    let document = |name: &str| intake.documents.get(name).map(Vec::as_slice).unwrap_or_default();
    documents::layout(document("oci-layout"))?;
    let index = documents::index(document("index.json"))?;
    let mut reader = Reader { store, lease, intake, looked: 0 };
    let mut loaded: BTreeMap<Digest, Loaded> = BTreeMap::new();
    let mut order = Vec::new();
    for entry in &index.manifests {
        let name = documents::annotated(&entry.annotations)?;
        let image = match loaded.entry(entry.digest.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                order.push(entry.digest.clone());
                new.insert(Loaded { image: reader.image(entry)?, names: BTreeSet::new() })
            }
        };
        image.names.extend(name.map(|name| name.to_string()));
    }
    Ok(order.iter().filter_map(|digest| loaded.remove(digest)).collect())
}

struct Reader<'a> {
    store: &'a Store,
    lease: &'a Lease,
    intake: &'a Intake,
    looked: usize,
}

/// What an image consists of.
#[derive(Default)]
struct Parts {
    manifests: Vec<PlatformManifest>,
    others: BTreeSet<Digest>,
}

impl Reader<'_> {
    fn image(&mut self, root: &Descriptor) -> Result<NewImage> {
        let document = self.document(root)?;
        let mut parts = Parts::default();
        match &document {
            Document::Manifest(manifest) => parts.manifests.push(self.manifest(root, manifest)?),
            Document::Index(index) => self.index(index, &mut parts, 1)?,
        }
        if parts.manifests.is_empty() {
            return Err(Error::invalid(format!("the archive has none of the platforms of {}", root.digest)));
        }
        parts.others.remove(&root.digest);
        Ok(NewImage {
            id: root.digest.clone(),
            media_type: document.media_type().to_owned(),
            size: root.size,
            manifests: parts.manifests,
            other_blobs: parts.others.into_iter().collect(),
            parent: None,
        })
    }

    /// A document of the archive, which has to be as large as whoever leads here says.
    fn document(&mut self, descriptor: &Descriptor) -> Result<Document> {
        self.looked += 1;
        if self.looked > DOCUMENTS_MAX {
            return Err(Error::invalid(format!("the archive leads to more than {DOCUMENTS_MAX} documents")));
        }
        let Some(Piece::Document { size, .. }) = self.intake.blob(&descriptor.digest) else {
            return Err(Error::invalid(format!("the archive has no document {}", descriptor.digest)));
        };
        same_size(descriptor, *size)?;
        let bytes = self.store.read_blob(&descriptor.digest, MAX_MANIFEST_BYTES).map_err(refused)?;
        Document::parse(
            &bytes,
            Some(&descriptor.media_type).filter(|kind| !kind.is_empty()).map(String::as_str),
        )
        .map_err(|e| {
            Error::invalid(format!("{} in the archive cannot be read", descriptor.digest)).with_source(e)
        })
    }

    /// What of an index is in the archive: platforms may be missing.
    fn index(&mut self, index: &Index, parts: &mut Parts, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::invalid("the archive has indexes within indexes that do not end"));
        }
        for entry in &index.manifests {
            if self.intake.blob(&entry.digest).is_none() {
                continue;
            }
            if !entry.is_image_or_index() {
                self.other(entry, parts)?;
                continue;
            }
            match self.document(entry)? {
                Document::Manifest(manifest) => {
                    let manifest = self.manifest(entry, &manifest)?;
                    if !parts.manifests.iter().any(|known| known.digest == manifest.digest) {
                        parts.manifests.push(manifest);
                    }
                }
                Document::Index(below) => {
                    parts.others.insert(entry.digest.clone());
                    self.index(&below, parts, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// An attestation, say: kept with what it leads to.
    fn other(&mut self, entry: &Descriptor, parts: &mut Parts) -> Result<()> {
        parts.others.insert(entry.digest.clone());
        if !media_type::is_manifest(&entry.media_type) {
            return Ok(());
        }
        if let Document::Manifest(manifest) = self.document(entry)? {
            let below = manifest.layers.iter().chain([&manifest.config]).map(|part| &part.digest);
            parts.others.extend(below.filter(|digest| self.intake.blob(digest).is_some()).cloned());
        }
        Ok(())
    }

    fn manifest(&mut self, descriptor: &Descriptor, manifest: &Manifest) -> Result<PlatformManifest> {
        let config = self.config(&manifest.config)?;
        let diff_ids = config.diff_ids(manifest).map_err(|e| Error::invalid(e.to_string()))?;
        let layers = manifest.layers.iter().zip(diff_ids);
        let layers = layers.map(|(layer, diff_id)| self.layer(layer, diff_id)).collect::<Result<_>>()?;
        let kind = manifest.media_type.clone().filter(|kind| !kind.is_empty());
        Ok(PlatformManifest {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            media_type: kind.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned()),
            platform: config.platform().to_string(),
            config: manifest.config.digest.clone(),
            config_size: manifest.config.size,
            layers,
        })
    }

    fn config(&mut self, descriptor: &Descriptor) -> Result<ImageConfig> {
        let Some(Piece::Document { size, .. }) = self.intake.blob(&descriptor.digest) else {
            return Err(Error::invalid(format!("the archive has no configuration {}", descriptor.digest)));
        };
        if !media_type::is_config(&descriptor.media_type) {
            let text =
                format!("unsupported media type {:?} of an image's configuration", descriptor.media_type);
            return Err(Error::invalid(text));
        }
        same_size(descriptor, *size)?;
        let bytes = self.store.read_blob(&descriptor.digest, MAX_CONFIG_BYTES).map_err(refused)?;
        ImageConfig::parse(&bytes).map_err(|e| Error::invalid(e.to_string()))
    }

    fn layer(&mut self, descriptor: &Descriptor, diff_id: &Digest) -> Result<ImageLayer> {
        if layer_compression(&descriptor.media_type).is_none() {
            return Err(Error::invalid(format!(
                "unsupported media type {:?} of a layer",
                descriptor.media_type
            )));
        }
        let piece = self.intake.blob(&descriptor.digest);
        let piece =
            piece.ok_or_else(|| Error::invalid(format!("the archive has no layer {}", descriptor.digest)))?;
        let layer = unpacked(self.store, self.lease, piece, diff_id)?;
        same_size(descriptor, layer.size)?;
        Ok(ImageLayer { media_type: descriptor.media_type.clone(), ..layer })
    }
}

fn same_size(descriptor: &Descriptor, size: u64) -> Result<()> {
    if descriptor.size == size {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} in the archive has {size} bytes, and is said to have {}",
        descriptor.digest, descriptor.size
    )))
}

/// A layer that has to be what the configuration says of it.
pub(super) fn unpacked(store: &Store, lease: &Lease, piece: &Piece, diff_id: &Digest) -> Result<ImageLayer> {
    let (digest, size, media_type) = match piece {
        Piece::Layer(layer) => {
            if layer.diff_id != *diff_id {
                return Err(Error::invalid(format!(
                    "layer {} of the archive is not what the configuration says: expected {diff_id}, got {}",
                    layer.digest, layer.diff_id
                )));
            }
            return Ok(layer.clone());
        }
        Piece::Blob { digest, size, media_type: Some(media_type) } => (digest, *size, *media_type),
        Piece::Document { digest, .. } | Piece::Blob { digest, .. } => {
            return Err(Error::invalid(format!("{digest} in the archive is no layer")));
        }
    };
    store.wait_until_idle(digest, BUSY_WAIT);
    let known = store.blob_info(digest)?.map(|info| info.size);
    if known != Some(size) {
        return Err(Error::invalid(format!(
            "layer {digest} of the archive has another size than its digest's"
        )));
    }
    store.unpack_blob(lease, digest, Some(diff_id)).map_err(refused)?;
    let layer = ImageLayer {
        digest: digest.clone(),
        size,
        media_type: media_type.to_owned(),
        diff_id: diff_id.clone(),
    };
    Ok(layer)
}
