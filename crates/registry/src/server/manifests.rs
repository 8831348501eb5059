//! Manifests: put, read, deleted.

use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION};
use hyper::{Method, Response, StatusCode};
use oci::image::{Descriptor, Document, MAX_MANIFEST_BYTES, media_type};
use oci::{Digest, reference};
use serde_json::json;
use storage::{Content, KeptManifest, NewManifest, Store};

use super::blobs::{accepted, matches, name, unchanged};
use super::body::{self, Payload};
use super::refusal::Refusal;
use super::{Answer, Call, blobs};

/// Says that a manifest's subject was understood: clients need not keep a list of their own in a tag.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A manifest by its tag or its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Tag(String),
    Digest(Digest),
}

impl Target {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains(':') {
            return Ok(Self::Digest(blobs::digest(text)?));
        }
        if reference::is_tag(text) {
            return Ok(Self::Tag(text.to_owned()));
        }
        Err(Refusal::bad("TAG_INVALID", "manifest tag did not match URI").about(json!({ "tag": text })))
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag,
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

/// The manifest that a repository has under a tag or digest.
pub fn find(store: &Store, repository: &str, target: &Target) -> storage::Result<Option<KeptManifest>> {
    store.transaction(|tx| {
        let digest = match target {
            Target::Digest(digest) => Some(digest.clone()),
            Target::Tag(tag) => tx.tagged(repository, tag)?,
        };
        digest.map_or(Ok(None), |digest| tx.manifest(repository, &digest))
    })
}

/// What a document means to the store. `required`: whether what it needs has to be there.
pub fn read(
    document: &Document,
    media_type: &str,
    digest: Digest,
    bytes: Vec<u8>,
    required: bool,
) -> NewManifest {
    let content = |descriptor: &Descriptor| Content {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        required: required && !is_elsewhere(&descriptor.media_type),
    };
    let (contents, subject, artifact_type, annotations) = match document {
        Document::Manifest(manifest) => {
            let parts = std::iter::once(&manifest.config).chain(&manifest.layers).map(content).collect();
            let own = manifest.artifact_type.clone().filter(|own| !own.is_empty());
            let artifact_type = own.unwrap_or_else(|| manifest.config.media_type.clone());
            (parts, &manifest.subject, artifact_type, &manifest.annotations)
        }
        Document::Index(index) => {
            let parts = index.manifests.iter().map(content).collect();
            (parts, &index.subject, index.artifact_type.clone().unwrap_or_default(), &index.annotations)
        }
    };
    NewManifest {
        digest,
        media_type: media_type.to_owned(),
        bytes,
        contents,
        subject: subject.as_ref().map(|subject| subject.digest.clone()),
        artifact_type,
        annotations: annotations.clone(),
    }
}

/// Layers that may not be handed on are had from elsewhere.
fn is_elsewhere(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

impl Call<'_> {
    pub(super) async fn get_manifest(&self, repository: String, reference: &str) -> Answer {
        let Ok(target) = Target::parse(reference) else {
            return Err(Refusal::manifest_unknown(reference));
        };
        if self.server.upstream.is_some() {
            self.refresh(&repository, &target).await?;
        }
        let (name_text, wanted) = (repository.clone(), target.clone());
        let Some(kept) = self.server.blocking(move |store| find(store, &name_text, &wanted)).await? else {
            return Err(Refusal::manifest_unknown(reference));
        };
        self.check_accept(&kept)?;
        if matches(self.header(IF_NONE_MATCH), &kept.digest) {
            return Ok(unchanged(&kept.digest));
        }
        let mut response = if self.method == Method::HEAD {
            let mut response = body::document_of(&kept.media_type, StatusCode::OK, Vec::new());
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(kept.size));
            response
        } else {
            let digest = kept.digest.clone();
            let read = self.server.blocking(move |store| store.read_blob(&digest, MAX_MANIFEST_BYTES)).await;
            match read {
                Err(storage::Error::NotFound { .. }) => return Err(Refusal::manifest_unknown(reference)),
                read => body::document_of(&kept.media_type, StatusCode::OK, read?),
            }
        };
        name(&mut response, &kept.digest);
        Ok(response)
    }

    /// Refuses a manifest to a client that lists what it understands, and this is not among it.
    fn check_accept(&self, kept: &KeptManifest) -> Result<(), Refusal> {
        let mut listed = false;
        for header in self.headers.get_all(ACCEPT) {
            for entry in header.to_str().unwrap_or("*/*").split(',') {
                let entry = media_type::essence(entry);
                if entry == kept.media_type || !entry.starts_with("application/vnd.") {
                    return Ok(());
                }
                listed = true;
            }
        }
        if !listed {
            return Ok(());
        }
        let words =
            format!("the manifest is of the type {}, which the client does not accept", kept.media_type);
        Err(Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", words))
    }

    pub(super) async fn put_manifest(
        &self,
        repository: String,
        reference: &str,
        payload: &mut Payload,
    ) -> Answer {
        let target = Target::parse(reference)?;
        let invalid = |words: String| Refusal::bad("MANIFEST_INVALID", words);
        let Some(bytes) = payload.whole(MAX_MANIFEST_BYTES).await? else {
            let words = format!("the manifest is larger than {MAX_MANIFEST_BYTES} bytes");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", words));
        };
        let sent_as = self.header(CONTENT_TYPE).map(media_type::essence).filter(|sent| !sent.is_empty());
        if let Some(sent) = sent_as
            && !media_type::is_manifest(sent)
            && !media_type::is_index(sent)
        {
            return Err(invalid(format!("unsupported manifest media type \"{sent}\"")));
        }
        let document =
            Document::parse(&bytes, sent_as).map_err(|error| invalid(crate::error::chain(&error)))?;
        let media_type = sent_as.unwrap_or(document.media_type()).to_owned();
        let (digest, tag) = match target {
            Target::Tag(tag) => (hash(&bytes), Some(tag)),
            Target::Digest(digest) => (digest, None),
        };
        let manifest = read(&document, &media_type, digest.clone(), bytes, true);
        let subject = manifest.subject.clone();
        let name_text = repository.clone();
        let put = self
            .server
            .blocking(move |store| store.put_manifest(&name_text, &manifest, tag.as_deref()))
            .await;
        put.map_err(|error| match error {
            storage::Error::NotFound { id, .. } => {
                Refusal::bad("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
                    .about(json!({ "digest": id }))
            }
            storage::Error::DigestMismatch { .. } => {
                Refusal::digest_invalid("provided digest did not match uploaded content")
            }
            error @ (storage::Error::SizeMismatch { .. } | storage::Error::TwoMeanings { .. }) => {
                invalid(error.to_string())
            }
            error => error.into(),
        })?;
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::CREATED;
        name(&mut response, &digest);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        if let Ok(location) = HeaderValue::from_str(&format!("/v2/{repository}/manifests/{digest}")) {
            headers.insert(LOCATION, location);
        }
        if let Some(Ok(subject)) = subject.map(|subject| HeaderValue::from_str(subject.as_str())) {
            headers.insert(SUBJECT, subject);
        }
        Ok(response)
    }

    pub(super) async fn delete_manifest(&self, repository: String, reference: &str) -> Answer {
        let target = Target::parse(reference)?;
        let removed = self
            .server
            .blocking(move |store| {
                store.durable_transaction(|tx| match &target {
                    Target::Tag(tag) => tx.remove_tag(&repository, tag),
                    Target::Digest(digest) => tx.remove_manifest(&repository, digest),
                })
            })
            .await?;
        if !removed {
            return Err(Refusal::manifest_unknown(reference));
        }
        self.server.deleted.notify_one();
        Ok(accepted())
    }
}

/// The digest that a manifest gets which is put under a tag.
pub fn hash(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}
