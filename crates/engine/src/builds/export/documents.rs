//! The documents of an image: a configuration and a manifest for each platform, what is stated of them, and the index of all.

use std::collections::BTreeMap;

use build::output::{CachePlace, Export, Form, Subject};
use oci::image::{Descriptor, ImageConfig, media_type};
use oci::{Digest, Platform, Reference};
use serde::Serialize;
use storage::{ImageLayer, NewImage, PlatformManifest};

use super::super::remote;
use super::super::result::{Built, Part};
use super::{attest, layers};
use super::{encode, put};
use crate::error::Result;

/// An image all of which is in the store, and none of which is visible.
#[derive(Debug)]
pub(super) struct Assembled {
    /// What leads to it.
    pub top: Descriptor,
    /// The image.
    pub image: NewImage,
    /// What belongs to it beside the images of its platforms, with sizes.
    pub others: Vec<(Digest, u64)>,
    /// What an archive's own index says of it.
    pub remarks: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ConfigOut<'a> {
    #[serde(flatten)]
    config: &'a ImageConfig,
    #[serde(rename = "moby.buildkit.cache.v0", skip_serializing_if = "Option::is_none")]
    cache: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOut<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexOut<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The annotations of a document; those that are of one platform alone come last, and win.
fn annotations(form: &Form, subject: Subject, platform: Option<&Platform>) -> BTreeMap<String, String> {
    let of = |own: bool| {
        form.annotations
            .iter()
            .filter(move |one| one.subject == subject && one.platform.is_some() == own)
            .filter(move |one| one.platform.is_none() || one.platform.as_ref() == platform)
            .map(|one| (one.key.clone(), one.value.clone()))
    };
    of(false).chain(of(true)).collect()
}

/// What is to be assembled.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub form: Form,
    /// Names that statements are about.
    pub names: Vec<Reference>,
    /// Whether statements are beside it.
    pub statements: bool,
}

/// Makes the documents, and the layers in the form that is asked for.
pub(super) fn assemble(built: &Built, wanted: &Wanted, export: &Export) -> Result<Assembled> {
    let form = &attest::form_for(&wanted.form, wanted.statements);
    let mut manifests = Vec::new();
    let mut entries = Vec::new();
    let mut stated = Vec::new();
    let mut others = Vec::new();
    for part in &built.parts {
        let (manifest, remarks) = manifest(built, part, form, export)?;
        let mut entry = Descriptor::new(&manifest.media_type, manifest.digest.clone(), manifest.size);
        entry.annotations = remarks;
        entry.platform = Some(part.config.platform());
        if wanted.statements {
            let (statements, blobs) = attest::manifest(built, part, &entry, &wanted.names)?;
            stated.push(statements);
            others.extend(blobs);
        }
        manifests.push(manifest);
        entries.push(entry);
    }
    let index_annotations = annotations(form, Subject::Index, None);
    let remarks = annotations(form, Subject::IndexDescriptor, None);
    // Statements come behind what they are about, as readers expect it.
    entries.extend(stated);
    let is_index = !index_annotations.is_empty() || built.request.multi_platform;
    if let ([manifest], [entry], false) = (manifests.as_slice(), entries.as_slice(), is_index) {
        let top = Descriptor { platform: None, ..entry.clone() };
        let image = NewImage {
            id: manifest.digest.clone(),
            media_type: manifest.media_type.clone(),
            size: manifest.size,
            manifests: vec![manifest.clone()],
            other_blobs: Vec::new(),
            parent: built.parts.first().and_then(|part| part.parent.clone()),
        };
        return Ok(Assembled { top, image, others: Vec::new(), remarks });
    }
    let kind = if form.docker_types { media_type::DOCKER_INDEX } else { media_type::OCI_INDEX };
    let out =
        IndexOut { schema_version: 2, media_type: kind, manifests: entries, annotations: index_annotations };
    let top = put(built, kind, &encode(&out)?)?;
    let parent = match built.parts.as_slice() {
        [only] => only.parent.clone(),
        _ => None,
    };
    let image = NewImage {
        id: top.digest.clone(),
        media_type: kind.to_owned(),
        size: top.size,
        manifests,
        other_blobs: others.iter().map(|(digest, _)| digest.clone()).collect(),
        parent,
    };
    Ok(Assembled { top, image, others, remarks })
}

/// The manifest of one platform, and what is said of it where it is named.
fn manifest(
    built: &Built,
    part: &Part,
    form: &Form,
    export: &Export,
) -> Result<(PlatformManifest, BTreeMap<String, String>)> {
    let made = layers::formed(built, part, form)?;
    let mut config = part.config.clone();
    config.rootfs.diff_ids = made.iter().map(|layer| layer.diff_id.clone()).collect();
    let made: Vec<ImageLayer> = made.into_iter().map(|layer| typed(layer, form.docker_types)).collect();
    let inline = export.caches.iter().any(|cache| cache.place == CachePlace::Inline);
    let cache = if inline { Some(remote::inline(part, &made)?) } else { None };
    let (config_kind, kind) = if form.docker_types {
        (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST)
    } else {
        (media_type::OCI_CONFIG, media_type::OCI_MANIFEST)
    };
    let config = put(built, config_kind, &encode(&ConfigOut { config: &config, cache })?)?;
    let platform = Some(&part.platform);
    let described = |layer: &ImageLayer| Descriptor::new(&layer.media_type, layer.digest.clone(), layer.size);
    let out = ManifestOut {
        schema_version: 2,
        media_type: kind,
        config: config.clone(),
        layers: made.iter().map(described).collect(),
        annotations: annotations(form, Subject::Manifest, platform),
    };
    let written = put(built, kind, &encode(&out)?)?;
    let manifest = PlatformManifest {
        digest: written.digest,
        size: written.size,
        media_type: kind.to_owned(),
        platform: part.config.platform().to_string(),
        config: config.digest,
        config_size: config.size,
        layers: made,
    };
    Ok((manifest, annotations(form, Subject::ManifestDescriptor, platform)))
}

/// The layer with a media type of one family.
pub(in crate::builds) fn typed(layer: ImageLayer, docker: bool) -> ImageLayer {
    let layer = layer.in_oci();
    if !docker {
        return layer;
    }
    let kind = match layer.media_type.as_str() {
        media_type::OCI_LAYER => media_type::DOCKER_LAYER,
        media_type::OCI_LAYER_GZIP => media_type::DOCKER_LAYER_GZIP,
        media_type::OCI_LAYER_ZSTD => media_type::DOCKER_LAYER_ZSTD,
        _ => return layer,
    };
    ImageLayer { media_type: kind.to_owned(), ..layer }
}
