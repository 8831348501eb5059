//! Images that are made here: of a configuration and layers that are in the store.

use std::collections::BTreeMap;

use oci::image::{Descriptor, ImageConfig, media_type};
use oci::{Digest, Platform, Reference};
use serde::Serialize;
use storage::{ImageLayer, Lease, NewImage, PlatformManifest, Store};

use crate::error::{Error, Result};

/// A layer without anything in it: two empty blocks. It changes nothing, and images do without.
const EMPTY_LAYER: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Whether a layer has nothing in it.
pub(crate) fn is_empty(layer: &ImageLayer) -> bool {
    layer.diff_id.as_str() == EMPTY_LAYER
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOut<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

fn encode<T: Serialize>(what: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(|e| Error::system("cannot write an image's documents").with_source(e))
}

/// An image of this configuration and these layers, whose manifest and configuration are put into the store.
pub(crate) fn assemble(
    store: &Store,
    lease: &Lease,
    config: &ImageConfig,
    layers: Vec<ImageLayer>,
) -> Result<NewImage> {
    let layers: Vec<ImageLayer> = layers.into_iter().map(ImageLayer::in_oci).collect();
    let bytes = encode(config)?;
    let digest = store.put_blob(lease, media_type::OCI_CONFIG, &bytes)?;
    let config_of = Descriptor::new(media_type::OCI_CONFIG, digest, bytes.len() as u64);
    manifest(store, lease, media_type::OCI_MANIFEST, config_of, layers, &config.platform())
}

/// An image of a configuration that is in the store, and these layers.
pub(crate) fn manifest(
    store: &Store,
    lease: &Lease,
    kind: &str,
    config: Descriptor,
    layers: Vec<ImageLayer>,
    platform: &Platform,
) -> Result<NewImage> {
    let described = |layer: &ImageLayer| Descriptor::new(&layer.media_type, layer.digest.clone(), layer.size);
    let out = ManifestOut {
        schema_version: 2,
        media_type: kind,
        config: config.clone(),
        layers: layers.iter().map(described).collect(),
    };
    let bytes = encode(&out)?;
    let digest = store.put_blob(lease, kind, &bytes)?;
    let size = bytes.len() as u64;
    Ok(NewImage {
        id: digest.clone(),
        media_type: kind.to_owned(),
        size,
        manifests: vec![PlatformManifest {
            digest,
            size,
            media_type: kind.to_owned(),
            platform: platform.to_string(),
            config: config.digest,
            config_size: config.size,
            layers,
        }],
        other_blobs: Vec::new(),
        parent: None,
    })
}

/// Makes an image visible, under a name if it has one.
pub(crate) fn record(store: &Store, image: &NewImage, name: Option<&Reference>) -> Result<()> {
    store.durable_transaction(|tx| {
        tx.put_image(image)?;
        match name {
            Some(name) => tx.tag_image(&name.to_string(), &image.id).map(drop),
            None => Ok(()),
        }
    })?;
    Ok(())
}

/// The name of `repo` and `tag`, as requests give them; none without a repository.
pub(crate) fn name(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let invalid = |e: oci::Error| Error::invalid(e.to_string());
    let reference = Reference::parse_named(repo).map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    let reference = if tag.is_empty() { reference } else { reference.with_tag(tag).map_err(invalid)? };
    Ok(Some(reference.or_latest()))
}

/// What an event says of an image.
pub(crate) fn told(name: Option<&Reference>, id: &Digest) -> BTreeMap<String, String> {
    let shown = name.map_or_else(|| id.to_string(), Reference::familiar);
    BTreeMap::from([("name".to_owned(), shown)])
}
