//! Images as the API shows them.

use std::collections::BTreeMap;

use api::container::HealthConfig;
use api::image::{
    AttestationData, Config, Descriptor, ImageData, ManifestSize, ManifestSummary, Platform, UnpackedSize,
};
use oci::Reference;
use oci::image::{ContainerConfig, Document, MAX_MANIFEST_BYTES};
use storage::{Image, Store};

use super::{Use, attestations};
use crate::error::Result;

/// `name:tag` and `name@digest` of an image.
pub(super) fn names(image: &Image) -> (Vec<String>, Vec<String>) {
    let references: Vec<Reference> =
        image.names.iter().filter_map(|name| Reference::parse_named(name).ok()).collect();
    let tags = references.iter().filter(|name| name.digest().is_none()).map(Reference::familiar).collect();
    let mut digests: Vec<String> =
        references.iter().map(|name| format!("{}@{}", name.familiar_name(), image.id())).collect();
    digests.sort();
    digests.dedup();
    (tags, digests)
}

/// Bytes of all its content and of what was unpacked from it.
pub(super) fn size(image: &Image) -> i64 {
    signed(image.content_bytes.saturating_add(image.unpacked_bytes))
}

/// Bytes as the API counts them.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The image's descriptor.
pub(super) fn descriptor(image: &Image) -> Descriptor {
    Descriptor {
        media_type: image.image.media_type.clone(),
        digest: image.id().to_string(),
        size: signed(image.image.size),
        ..Default::default()
    }
}

pub(super) fn full_descriptor(from: &oci::image::Descriptor) -> Descriptor {
    Descriptor {
        media_type: from.media_type.clone(),
        digest: from.digest.to_string(),
        size: signed(from.size),
        urls: from.urls.clone(),
        annotations: from.annotations.clone(),
        platform: from.platform.as_ref().map(platform),
        artifact_type: from.artifact_type.clone().unwrap_or_default(),
        data: None,
    }
}

pub(super) fn platform(from: &oci::Platform) -> Platform {
    Platform {
        architecture: from.architecture.clone(),
        os: from.os.clone(),
        os_version: from.os_version.clone().unwrap_or_default(),
        os_features: from.os_features.clone(),
        variant: from.variant.clone().unwrap_or_default(),
    }
}

/// What the container configuration of an image is in the API.
pub(super) fn config(from: &ContainerConfig) -> Config {
    let keys = |map: &BTreeMap<String, oci::image::config::Empty>| {
        map.keys().map(|key| (key.clone(), Default::default())).collect()
    };
    Config {
        user: from.user.clone(),
        exposed_ports: keys(&from.exposed_ports),
        env: from.env.clone(),
        entrypoint: from.entrypoint.clone().unwrap_or_default(),
        cmd: from.cmd.clone().unwrap_or_default(),
        volumes: keys(&from.volumes),
        working_dir: from.working_dir.clone(),
        labels: from.labels.clone(),
        stop_signal: from.stop_signal.clone(),
        args_escaped: from.args_escaped,
        healthcheck: from.healthcheck.as_ref().map(|check| HealthConfig {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: from.on_build.clone(),
        shell: from.shell.clone().unwrap_or_default(),
    }
}

/// The manifests of an image's index, or its only one.
pub(super) fn manifests(store: &Store, image: &Image, uses: &[Use]) -> Result<Vec<ManifestSummary>> {
    let bytes = store.read_blob(image.id(), MAX_MANIFEST_BYTES)?;
    let entries = match Document::parse(&bytes, Some(&image.image.media_type)) {
        Ok(Document::Index(index)) => index.manifests,
        Ok(Document::Manifest(_)) | Err(_) => Vec::new(),
    };
    if entries.is_empty() {
        return image.image.manifests.iter().map(|here| available(store, here, None, uses)).collect();
    }
    entries
        .iter()
        .map(|entry| match image.image.manifests.iter().find(|here| here.digest == entry.digest) {
            Some(here) => available(store, here, Some(entry), uses),
            None => other(store, entry),
        })
        .collect()
}

fn available(
    store: &Store,
    here: &storage::PlatformManifest,
    entry: Option<&oci::image::Descriptor>,
    uses: &[Use],
) -> Result<ManifestSummary> {
    let parsed = oci::Platform::parse(&here.platform).unwrap_or_default();
    let mut descriptor = match entry {
        Some(entry) => full_descriptor(entry),
        None => Descriptor {
            media_type: here.media_type.clone(),
            digest: here.digest.to_string(),
            size: signed(here.size),
            ..Default::default()
        },
    };
    descriptor.platform.get_or_insert_with(|| platform(&parsed));
    let unpacked = unpacked(store, here)?;
    let content = here.content_size();
    let containers =
        uses.iter().filter(|user| user.manifest == here.digest.as_str()).map(|user| user.container.clone());
    Ok(ManifestSummary {
        id: here.digest.to_string(),
        descriptor,
        available: true,
        size: ManifestSize { total: signed(content + unpacked), content: signed(content) },
        kind: "image".into(),
        image_data: Some(ImageData {
            platform: platform(&parsed),
            containers: containers.collect(),
            size: UnpackedSize { unpacked: signed(unpacked) },
            identity: None,
        }),
        attestation_data: None,
    })
}

/// Bytes that the layers of one platform occupy.
pub(super) fn unpacked(store: &Store, here: &storage::PlatformManifest) -> Result<u64> {
    Ok(store.transaction(|tx| {
        let mut bytes = 0;
        for layer in &here.layers {
            bytes += tx.layer(&layer.diff_id)?.map_or(0, |layer| layer.disk_bytes);
        }
        Ok(bytes)
    })?)
}

/// An entry of an index that no container can be made of: an attestation, or what is not here.
fn other(store: &Store, entry: &oci::image::Descriptor) -> Result<ManifestSummary> {
    let content = content(store, entry)?;
    let (kind, image_data, attestation_data) = match attestations::subject(entry) {
        Some(subject) => ("attestation", None, Some(AttestationData { subject: subject.to_owned() })),
        None if entry.is_image_or_index() => {
            let platform = entry.platform.as_ref().map(platform).unwrap_or_default();
            ("image", Some(ImageData { platform, ..Default::default() }), None)
        }
        None => ("unknown", None, None),
    };
    let (bytes, whole) = content;
    Ok(ManifestSummary {
        id: entry.digest.to_string(),
        descriptor: full_descriptor(entry),
        // An image of which only documents are here cannot be used.
        available: whole && kind != "image",
        size: ManifestSize { total: signed(bytes), content: signed(bytes) },
        kind: kind.into(),
        image_data,
        attestation_data,
    })
}

/// Bytes of a manifest and of what it speaks of as far as they are here, and whether that is all.
fn content(store: &Store, entry: &oci::image::Descriptor) -> Result<(u64, bool)> {
    let Some(info) = store.blob_info(&entry.digest)? else { return Ok((0, false)) };
    let bytes = store.read_blob(&entry.digest, MAX_MANIFEST_BYTES)?;
    let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, Some(&entry.media_type)) else {
        return Ok((info.size, true));
    };
    let (mut sum, mut whole) = (info.size, true);
    for part in manifest.layers.iter().chain([&manifest.config]) {
        match store.blob_info(&part.digest)? {
            Some(part) => sum = sum.saturating_add(part.size),
            None => whole = false,
        }
    }
    Ok((sum, whole))
}
