//! Caches that are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::output::{CacheOutput, CachePlace};
use oci::Digest;
use oci::image::{Descriptor, media_type};
use serde_json::json;
use storage::{ImageLayer, NewImage};

use super::super::export::{archive, image, layers, typed};
use super::super::result::{Built, Part};
use super::super::solve::Noted;
use super::super::tell::Voice;
use super::{Annotations, CONFIG, Config, Layer, Placed, Record};
use crate::blocking;
use crate::error::{Error, Result};

/// What the client is told of a cache in its own directory.
pub(in crate::builds) const MANIFEST: &str = "cache.manifest";

/// Records of a step, one for each of its keys.
fn records(noted: &Noted, layer: Option<usize>) -> impl Iterator<Item = Record> {
    let created = noted.made.created.clone();
    noted.keys.clone().into_iter().map(move |digest| match layer {
        Some(layer) => {
            Record { digest, results: vec![Placed { layer, created: created.clone() }], empty: None }
        }
        None => Record { digest, results: Vec::new(), empty: Some(created.clone()) },
    })
}

/// The cache of an image's own steps, as its configuration has it; nothing where its layers are not those that the steps have made.
pub(in crate::builds) fn inline(part: &Part, made: &[ImageLayer]) -> Result<String> {
    let mut all = Vec::new();
    for noted in part.noted.iter().filter(|noted| noted.in_result) {
        match &noted.made.layer {
            None => all.extend(records(noted, None)),
            Some(layer) => {
                let at = made.iter().position(|one| one.diff_id == layer.diff_id);
                all.extend(at.into_iter().flat_map(|at| records(noted, Some(at))));
            }
        }
    }
    Ok(STANDARD.encode(encode(&all)?))
}

fn encode<T: serde::Serialize>(what: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(|e| Error::system("cannot write a build cache").with_source(e))
}

/// Writes a cache; what the client is told of it.
pub(in crate::builds) async fn put(
    built: &Arc<Built>,
    output: &CacheOutput,
    voice: &Voice,
) -> Result<BTreeMap<String, String>> {
    let (own, wanted) = (Arc::clone(built), output.clone());
    let laid = blocking::run_long("lay out a build cache", move || lay_out(&own, &wanted)).await?;
    match &output.place {
        // It is in the image already.
        CachePlace::Inline => Ok(BTreeMap::new()),
        CachePlace::Registry(name) => {
            let reference = crate::images::parse_reference(name, "")?.or_latest();
            let top = &laid.manifest;
            let image = NewImage {
                id: top.digest.clone(),
                media_type: top.media_type.clone(),
                size: top.size,
                manifests: Vec::new(),
                other_blobs: Vec::new(),
                parent: None,
            };
            image::push(built, &image, &reference, voice).await?;
            Ok(BTreeMap::new())
        }
        CachePlace::Local { store, .. } => {
            for blob in laid.layers.iter().chain([&laid.config, &laid.manifest]) {
                archive::write(built, store, &blob.digest, blob.size).await?;
            }
            let told = String::from_utf8(encode(&laid.manifest)?)
                .map_err(|_| Error::system("a bug: a descriptor is not text"))?;
            Ok(BTreeMap::from([(MANIFEST.to_owned(), told)]))
        }
    }
}

/// A cache whose documents are in the store.
struct Laid {
    manifest: Descriptor,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

fn lay_out(built: &Built, output: &CacheOutput) -> Result<Laid> {
    let mut config = Config::default();
    let mut blobs: Vec<Descriptor> = Vec::new();
    let mut numbers: BTreeMap<Digest, usize> = BTreeMap::new();
    let noted = built.parts.iter().flat_map(|part| &part.noted);
    for noted in noted.filter(|noted| output.max || noted.in_result) {
        let number = match &noted.made.layer {
            None => None,
            Some(layer) => match numbers.get(&layer.diff_id) {
                Some(number) => Some(*number),
                None => {
                    let layer = match output.packing {
                        Some(packing) => layers::packed(built, layer, packing)?,
                        None => layer.clone(),
                    };
                    let layer = typed(layer, output.docker_types);
                    let number = config.layers.len();
                    numbers.insert(layer.diff_id.clone(), number);
                    config.layers.push(described(&layer, noted));
                    blobs.push(descriptor(&layer, noted));
                    Some(number)
                }
            },
        };
        config.records.extend(records(noted, number));
    }
    // The same cache is the same bytes, in whatever order its steps were made.
    config.records.sort_by(|one, other| one.digest.cmp(&other.digest));
    config.records.dedup_by(|one, other| one.digest == other.digest);
    let put = |kind: &str, bytes: &[u8]| -> Result<Descriptor> {
        let digest = built.context.store.put_blob(&built.lease, kind, bytes)?;
        Ok(Descriptor::new(kind, digest, bytes.len() as u64))
    };
    let written = put(CONFIG, &encode(&config)?)?;
    let kind = match (output.image_manifest, output.docker_types) {
        (true, false) => media_type::OCI_MANIFEST,
        (true, true) => media_type::DOCKER_MANIFEST,
        (false, false) => media_type::OCI_INDEX,
        (false, true) => media_type::DOCKER_INDEX,
    };
    let document = if output.image_manifest {
        json!({"schemaVersion": 2, "mediaType": kind, "config": written, "layers": blobs})
    } else {
        let all: Vec<&Descriptor> = blobs.iter().chain([&written]).collect();
        json!({"schemaVersion": 2, "mediaType": kind, "manifests": all})
    };
    let manifest = put(kind, &encode(&document)?)?;
    Ok(Laid { manifest, config: written, layers: blobs })
}

fn described(layer: &ImageLayer, noted: &Noted) -> Layer {
    Layer {
        blob: layer.digest.clone(),
        parent: -1,
        annotations: Some(Annotations {
            media_type: layer.media_type.clone(),
            diff_id: Some(layer.diff_id.clone()),
            size: layer.size,
            created: noted.made.created.clone(),
        }),
    }
}

fn descriptor(layer: &ImageLayer, noted: &Noted) -> Descriptor {
    let mut descriptor = Descriptor::new(&layer.media_type, layer.digest.clone(), layer.size);
    let told = [
        ("containerd.io/uncompressed", layer.diff_id.to_string()),
        ("buildkit/createdat", noted.made.created.clone()),
    ];
    descriptor.annotations.extend(told.map(|(key, value)| (key.to_owned(), value)));
    descriptor
}
