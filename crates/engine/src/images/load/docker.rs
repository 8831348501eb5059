//! Images of Docker's own archives, which have no manifest that a registry would take: it is made here, always the same of the same.

use std::collections::BTreeSet;

use oci::image::{Descriptor, ImageConfig, MAX_CONFIG_BYTES, media_type};
use storage::{Lease, Store};

use super::Loaded;
use super::archive::Piece;
use super::documents::{self, DockerEntry};
use super::intake::{Intake, refused};
use super::layout::unpacked;
use crate::error::{Error, Result};
use crate::images::assemble;

/// All images of the archive.
pub(super) fn images(store: &Store, lease: &Lease, intake: &Intake) -> Result<Vec<Loaded>> {
    let Some(bytes) = intake.documents.get("manifest.json") else {
        if intake.documents.contains_key("repositories") {
            return Err(Error::invalid(
                "the archive has no manifest.json: archives of Docker before 1.10 are not supported",
            ));
        }
        return Err(Error::invalid(
            "unrecognized image format: the archive has neither index.json with oci-layout nor manifest.json",
        ));
    };
    let mut loaded: Vec<Loaded> = Vec::new();
    for entry in documents::docker(bytes)? {
        let image = image(store, lease, intake, &entry)?;
        let names = entry.repo_tags.unwrap_or_default();
        let names = names.iter().map(|name| Ok(documents::named(name)?.to_string()));
        let names: BTreeSet<String> = names.collect::<Result<_>>()?;
        match loaded.iter_mut().find(|known| known.image.id == image.id) {
            Some(known) => known.names.extend(names),
            None => loaded.push(Loaded { image, names }),
        }
    }
    Ok(loaded)
}

fn image(store: &Store, lease: &Lease, intake: &Intake, entry: &DockerEntry) -> Result<storage::NewImage> {
    let missing =
        |what: &str| Error::invalid(format!("manifest.json names {what:?}, which the archive does not have"));
    let Some(Piece::Document { digest, size }) = intake.piece(&entry.config) else {
        return Err(missing(&entry.config));
    };
    let bytes = store.read_blob(digest, MAX_CONFIG_BYTES).map_err(refused)?;
    let config = ImageConfig::parse(&bytes).map_err(|e| Error::invalid(e.to_string()))?;
    let paths = entry.layers.as_deref().unwrap_or_default();
    if paths.len() != config.rootfs.diff_ids.len() {
        return Err(Error::invalid(format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            config.rootfs.diff_ids.len(),
            paths.len()
        )));
    }
    let layers = paths.iter().zip(&config.rootfs.diff_ids).map(|(path, diff_id)| {
        unpacked(store, lease, intake.piece(path).ok_or_else(|| missing(path))?, diff_id)
    });
    let layers = layers.collect::<Result<_>>()?;
    let descriptor = Descriptor::new(media_type::DOCKER_CONFIG, digest.clone(), *size);
    assemble::manifest(store, lease, media_type::DOCKER_MANIFEST, descriptor, layers, &config.platform())
}
