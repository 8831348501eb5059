//! cosign's signatures beside an image: `<repository>:sha256-<digits>.sig`, a manifest whose layers are what was signed ("simple
//! signing"), each with its signature as an annotation (sigstore, `SIGNATURE_SPEC.md`).

use base64::Engine as _;
use oci::Digest;
use oci::image::Document;
use serde::Deserialize;

use super::key::Key;
use crate::client::Repository;
use crate::error::{Error, Result};

const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// The only kind of statement that is one about an image.
const KIND: &str = "cosign container image signature";
/// More signatures of one image than this are not looked at.
const SIGNATURES_MAX: usize = 32;
/// What is signed is a few hundred bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 << 10;

/// Something signed about an image.
pub(super) struct Signature {
    /// What it has to be about.
    digest: Digest,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What was signed.
#[derive(Deserialize)]
pub(super) struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

impl Payload {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// All signatures of any of these.
pub(super) async fn all(repository: &Repository, digests: &[&Digest]) -> Result<Vec<Signature>> {
    let mut found = Vec::new();
    for (at, digest) in digests.iter().enumerate() {
        if !digests[..at].contains(digest) {
            of(repository, digest, &mut found).await?;
        }
    }
    Ok(found)
}

async fn of(repository: &Repository, digest: &Digest, found: &mut Vec<Signature>) -> Result<()> {
    let tag = format!("{}-{}.sig", digest.algorithm(), digest.hex());
    let resolved = match repository.resolve(&tag).await {
        Ok(resolved) => resolved,
        Err(Error::ManifestNotFound { .. } | Error::RepositoryNotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Document::Manifest(manifest) = &resolved.document else { return Ok(()) };
    for layer in manifest.layers.iter().filter(|layer| layer.media_type == MEDIA_TYPE).take(SIGNATURES_MAX) {
        let signature = layer
            .annotations
            .get(ANNOTATION)
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok());
        let Some(signature) = signature.filter(|_| layer.size <= PAYLOAD_BYTES_MAX) else { continue };
        let payload = repository.small_blob(layer).await?;
        found.push(Signature { digest: (*digest).clone(), payload, signature });
    }
    Ok(())
}

impl Signature {
    /// Whether one of the keys has signed that it is this image, under a name that is taken; why not.
    pub(super) fn check(
        &self,
        keys: &[Key],
        taken: impl Fn(&str) -> bool,
    ) -> std::result::Result<(), String> {
        // Nothing of it is believed, or even read, before.
        if !keys.iter().any(|key| key.has_signed(&self.payload, &self.signature)) {
            return Err("none of its signatures is by a key that is wanted".to_owned());
        }
        let payload = Payload::parse(&self.payload).ok_or("what was signed cannot be read")?;
        let Critical { identity, image, kind } = payload.critical;
        if kind != KIND || image.docker_manifest_digest != self.digest.as_str() {
            return Err("what was signed is another image".to_owned());
        }
        let name: String = identity.docker_reference.chars().filter(|c| !c.is_control()).take(300).collect();
        if !taken(&name) {
            return Err(format!("what was signed is called {name:?}"));
        }
        Ok(())
    }
}
