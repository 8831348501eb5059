//! Registries, asked from here.

use oci::Reference;
use oci::image::{Document, ImageConfig, Index};
use registry::{Client, Credentials, Options};

use super::lists::{Entry, For};
use crate::error::{Error, Result};
use crate::session::Session;

/// A list with more manifests is none that is worth a question for each.
const MANIFESTS_MAX: usize = 1000;

/// What a name leads to.
pub(super) enum Found {
    /// An image.
    One(Box<Entry>),
    /// Images for several platforms.
    Several(Vec<Entry>),
}

/// Registries as a user sees them.
pub(super) struct Registries<'a> {
    session: &'a Session,
    client: Client,
}

impl<'a> Registries<'a> {
    /// With `insecure`, the registry of `reference` may be spoken to without a certificate that is known.
    pub(super) fn new(session: &'a Session, reference: &Reference, insecure: bool) -> Result<Self> {
        let options = Options {
            insecure: if insecure { vec![reference.domain().to_owned()] } else { Vec::new() },
            user_agent: format!("Corten-Client/{} (linux)", crate::session::VERSION),
            ..Options::default()
        };
        Ok(Self { session, client: Client::new(options).map_err(failed)? })
    }

    fn credentials(&self, reference: &Reference) -> Result<Credentials> {
        let auth = self.session.credentials(reference.domain());
        Ok(if !auth.registrytoken.is_empty() {
            Credentials::Bearer { token: auth.registrytoken }
        } else if !auth.identitytoken.is_empty() {
            Credentials::Identity { token: auth.identitytoken }
        } else if !auth.username.is_empty() {
            Credentials::Basic { username: auth.username, password: auth.password }
        } else {
            Credentials::Anonymous
        })
    }

    /// Where this user may write.
    pub(super) async fn writable(&self, reference: &Reference) -> Result<registry::client::Repository> {
        let credentials = self.credentials(reference)?;
        self.client.push_repository(reference, credentials).await.map_err(failed)
    }

    /// The image that a name leads to.
    pub(super) async fn one(&self, reference: &Reference) -> Result<Entry> {
        match self.find(reference, false).await? {
            Found::One(entry) => Ok(*entry),
            Found::Several(_) => Err(Error::Message(format!("{reference} is a manifest list"))),
        }
    }

    /// What a name leads to; with `all`, also each manifest of a list.
    pub(super) async fn find(&self, reference: &Reference, all: bool) -> Result<Found> {
        let credentials = self.credentials(reference)?;
        let repository = self.client.repository(reference, credentials).await.map_err(failed)?;
        let missing = |err| match err {
            registry::Error::ManifestNotFound { .. }
            | registry::Error::RepositoryNotFound { .. }
            | registry::Error::AccessDenied { .. } => {
                Error::Message(format!("no such manifest: {reference}"))
            }
            other => failed(other),
        };
        let resolved = repository.resolve(reference.target()).await.map_err(missing)?;
        let manifest = match &resolved.document {
            Document::Index(_) if !all => return Ok(Found::Several(Vec::new())),
            Document::Index(index) => {
                return self.entries(&repository, reference, index).await.map(Found::Several);
            }
            Document::Manifest(manifest) => manifest,
        };
        let config = repository.small_blob(&manifest.config).await.map_err(failed)?;
        // What is no image has no platform.
        let platform =
            ImageConfig::parse(&config).map(|config| For::of(&config.platform())).unwrap_or_default();
        let entry = Entry::new(reference, &resolved.descriptor, &resolved.bytes, platform)?;
        Ok(Found::One(Box::new(entry)))
    }

    async fn entries(
        &self,
        repository: &registry::client::Repository,
        reference: &Reference,
        index: &Index,
    ) -> Result<Vec<Entry>> {
        if index.manifests.len() > MANIFESTS_MAX {
            return Err(Error::Message(format!("{reference} has more than {MANIFESTS_MAX} manifests")));
        }
        let mut entries = Vec::new();
        for descriptor in &index.manifests {
            let resolved = repository.manifest(descriptor).await.map_err(failed)?;
            let platform = descriptor.platform.as_ref().map(For::of).unwrap_or_default();
            let named = reference.with_digest(descriptor.digest.clone());
            entries.push(Entry::new(&named, &resolved.descriptor, &resolved.bytes, platform)?);
        }
        Ok(entries)
    }
}

/// A registry's error in one line.
pub(super) fn failed(err: registry::Error) -> Error {
    let mut text = err.to_string();
    let mut cause = std::error::Error::source(&err);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    Error::Message(text)
}
