//! `GET /images/{name}/attestations`: what builders state about an image, as in-toto statements that lie beside it in its index.

use api::image::AttestationStatement;
use oci::Platform;
use oci::image::{Descriptor, Document, MAX_MANIFEST_BYTES};
use serde_json::value::RawValue;
use storage::Store;

use super::{Images, Shared, find, show};
use crate::blocking;
use crate::error::{Error, Result};

/// What marks an index's entry as an attestation.
const TYPE: &str = "vnd.docker.reference.type";
const ATTESTATION: &str = "attestation-manifest";
/// The manifest that it speaks of.
const SUBJECT: &str = "vnd.docker.reference.digest";
/// What a statement says by itself that it is about.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// The largest statement that is shown: a list of the packages of a large distribution has some megabytes.
const STATEMENT_BYTES_MAX: u64 = 32 << 20;
/// Statements of one image that are shown.
const STATEMENTS_MAX: usize = 256;

/// What statements are asked for.
#[derive(Debug, Clone, Default)]
pub struct AttestationOptions {
    /// Of this platform's image; otherwise of the one for this machine.
    pub platform: Option<Platform>,
    /// Only of these predicate types, if any are named.
    pub types: Vec<String>,
    /// Whether the statements themselves are wanted.
    pub statements: bool,
}

impl Images {
    /// The statements about an image that are here.
    pub async fn attestations(
        &self,
        name: &str,
        options: AttestationOptions,
    ) -> Result<Vec<AttestationStatement>> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        blocking::run("read attestations", move || shared.attestations(&name, &options)).await
    }
}

/// The digest that an attestation speaks of; `None` of an entry that is none.
pub(super) fn subject(entry: &Descriptor) -> Option<&str> {
    let attests = entry.annotations.get(TYPE).is_some_and(|kind| kind == ATTESTATION);
    attests.then(|| entry.annotations.get(SUBJECT).map(String::as_str).unwrap_or_default())
}

impl Shared {
    fn attestations(&self, name: &str, options: &AttestationOptions) -> Result<Vec<AttestationStatement>> {
        let image = find::find(&self.store, name)?.image;
        let manifest = find::choose(&image, name, options.platform.as_ref())?;
        let mut statements = Vec::new();
        let Some(Document::Index(index)) = document(&self.store, image.id(), &image.image.media_type)? else {
            return Ok(statements);
        };
        let about = |entry: &&Descriptor| subject(entry) == Some(manifest.digest.as_str());
        for entry in index.manifests.iter().filter(about) {
            // An attestation that was not fetched is not here: that is no error.
            let Some(Document::Manifest(attestation)) =
                document(&self.store, &entry.digest, &entry.media_type)?
            else {
                continue;
            };
            for layer in &attestation.layers {
                let Some(predicate) = layer.annotations.get(PREDICATE) else { continue };
                if !options.types.is_empty() && !options.types.contains(predicate) {
                    continue;
                }
                if statements.len() >= STATEMENTS_MAX {
                    return Err(Error::system(format!("{name} has more than {STATEMENTS_MAX} attestations")));
                }
                let statement = if options.statements { Some(statement(&self.store, layer)?) } else { None };
                statements.push(AttestationStatement {
                    descriptor: show::full_descriptor(layer),
                    predicate_type: predicate.clone(),
                    statement,
                });
            }
        }
        Ok(statements)
    }
}

/// A document that is here.
fn document(store: &Store, digest: &oci::Digest, media_type: &str) -> Result<Option<Document>> {
    match store.read_blob(digest, MAX_MANIFEST_BYTES) {
        Ok(bytes) => Ok(Document::parse(&bytes, Some(media_type)).ok()),
        Err(storage::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A statement as it was signed, byte for byte.
fn statement(store: &Store, layer: &Descriptor) -> Result<Box<RawValue>> {
    let bytes = store.read_blob(&layer.digest, STATEMENT_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::system(format!("the attestation {} is no JSON", layer.digest)).with_source(error)
    })
}
