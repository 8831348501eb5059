//! Which image a name, a digest or an identifier's beginning means.

use oci::{AnyReference, Digest, Platform, Reference};
use storage::{Image, PlatformManifest, Store, Tx};

use crate::error::{Error, Result};

/// How an image was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// By this name.
    Name(Reference),
    /// By its id, or the beginning of it.
    Id,
}

/// An image, and how it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The image.
    pub image: Image,
    /// How it was asked for.
    pub by: By,
}

/// Finds what `text` means.
pub(crate) fn find(store: &Store, text: &str) -> Result<Found> {
    store.transaction(|tx| Ok(find_in(tx, text)))?
}

/// The same within a transaction.
pub(crate) fn find_in(tx: &Tx<'_>, text: &str) -> Result<Found> {
    let missing = |shown: String| Error::not_found(format!("No such image: {shown}"));
    let reference = match AnyReference::parse(text) {
        Ok(AnyReference::Digest(digest)) => {
            // The digest of a platform's manifest means the image that has it.
            let found = match tx.image(&digest)? {
                Some(image) => Some(image),
                None => prefix(tx, digest.hex())?,
            };
            return found.map(|image| Found { image, by: By::Id }).ok_or_else(|| missing(text.to_owned()));
        }
        Ok(AnyReference::Named(reference)) => reference.or_latest(),
        Err(error) => {
            // `sha256:` and the beginning of a digest is no name.
            return prefix(tx, text)?
                .map(|image| Found { image, by: By::Id })
                .ok_or_else(|| Error::invalid(error.to_string()));
        }
    };
    if let Some(image) = named(tx, &reference)? {
        return Ok(Found { image, by: By::Name(reference) });
    }
    match prefix(tx, text)? {
        Some(image) => Ok(Found { image, by: By::Id }),
        None => Err(missing(reference.familiar())),
    }
}

/// By name: a tag, `name@digest`, or both, which have to agree.
fn named(tx: &Tx<'_>, reference: &Reference) -> Result<Option<Image>> {
    let Some(digest) = reference.digest() else {
        return Ok(tx.image_by_name(&reference.to_string())?);
    };
    let of_repository = |name: &str| {
        Reference::parse_named(name).is_ok_and(|known| known.repository() == reference.repository())
    };
    Ok(tx.image(digest)?.filter(|image| image.names.iter().any(|name| of_repository(name))))
}

/// By the beginning of an identifier.
fn prefix(tx: &Tx<'_>, text: &str) -> Result<Option<Image>> {
    match tx.image_by_prefix(text) {
        Err(storage::Error::Ambiguous { id, .. }) => {
            Err(Error::invalid(format!("multiple IDs found with provided prefix: {id}")))
        }
        other => Ok(other?),
    }
}

/// The image's manifest for a platform; without one, for this machine, or else the only one there is.
pub(crate) fn choose<'a>(
    image: &'a Image,
    name: &str,
    platform: Option<&Platform>,
) -> Result<&'a PlatformManifest> {
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    if let Some(manifest) = best(image, wanted) {
        return Ok(manifest);
    }
    match (platform, image.image.manifests.as_slice()) {
        (None, [first, ..]) => Ok(first),
        (_, []) => Err(Error::not_found(format!("image with reference {name} has no content here"))),
        (Some(_), [first, ..]) => Err(Error::not_found(format!(
            "image with reference {name} was found but does not provide the specified platform ({wanted}): it provides {}",
            first.platform
        ))),
    }
}

/// The manifest that runs best on a platform.
pub(crate) fn best<'a>(image: &'a Image, wanted: &Platform) -> Option<&'a PlatformManifest> {
    let rank = |manifest: &PlatformManifest| {
        Platform::parse(&manifest.platform).ok().and_then(|have| wanted.rank(&have))
    };
    let ranked = image.image.manifests.iter().filter_map(|manifest| Some((rank(manifest)?, manifest)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, manifest)| manifest)
}

/// What stands for an image in lists and histories: the manifest for this machine, or else any.
pub(crate) fn shown(image: &Image) -> Option<&PlatformManifest> {
    best(image, &Platform::host()).or_else(|| image.image.manifests.first())
}

/// A digest's name of an image in a repository.
pub(crate) fn by_digest(reference: &Reference, digest: &Digest) -> Reference {
    reference.name_only().with_digest(digest.clone())
}
