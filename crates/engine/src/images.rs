//! Images: pulled, listed, named, looked at, removed.
//!
//! An image's id is the digest of the index or manifest it was pulled as. Its documents lie in the store byte for byte;
//! what is shown is read from them. Who uses an image is asked of a function, so that nothing here knows containers.

pub(crate) mod assemble;
mod attestations;
mod configs;
mod distribution;
mod error;
pub(crate) mod find;
mod hello;
mod identity;
mod import;
mod inspect;
mod layers;
mod list;
pub mod load;
mod login;
mod pattern;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
mod show;
mod squash;
mod tag;
mod usage;

use std::fmt;
use std::sync::Arc;

use oci::{Digest, Platform, Reference};
use registry::{Client, Puller, Pusher};
use storage::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blocking;
use crate::error::{Error, Result};
use crate::events::Events;
pub use attestations::AttestationOptions;
use configs::Configs;
pub use import::ImportOptions;
pub use list::ListOptions;
pub use load::LoadOptions;
pub use pull::{PullOptions, Pulling};
pub use push::PushOptions;
pub use registry::Credentials;
pub use save::{Format, SaveOptions};
pub use squash::SquashOptions;
pub use storage::pack::Compression;

/// A container that was made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The image's id.
    pub image: String,
    /// The digest of the manifest it runs.
    pub manifest: String,
    /// The container's id.
    pub container: String,
    /// Whether it runs (or is paused).
    pub running: bool,
}

/// Who uses images now.
pub type Uses = Arc<dyn Fn() -> Vec<Use> + Send + Sync>;

/// The images of an engine.
pub struct Images {
    shared: Arc<Shared>,
    client: Client,
    puller: Puller,
    pusher: Pusher,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// What blocking work of the service needs.
struct Shared {
    store: Store,
    events: Arc<Events>,
    configs: Configs,
    uses: Uses,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

/// An image as a container is made from it.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The image's id.
    pub id: Digest,
    /// Its manifest for the platform.
    pub manifest: storage::PlatformManifest,
    /// Its configuration.
    pub config: Arc<oci::image::ImageConfig>,
}

impl Images {
    /// The images in `store`, pulled and pushed through `client` with at most `downloads` and `uploads` layers at a time. What goes on in the
    /// background is tracked by `tasks`; pulls are given up when `closing` is cancelled.
    pub fn new(
        store: Store,
        client: Client,
        (downloads, uploads): (usize, usize),
        events: Arc<Events>,
        uses: Uses,
        (tasks, closing): (TaskTracker, CancellationToken),
    ) -> Self {
        let puller = Puller::new(client.clone(), store.clone(), downloads);
        let pusher = Pusher::new(client.clone(), store.clone(), uploads);
        Self {
            shared: Arc::new(Shared { store, events, configs: Configs::default(), uses }),
            client,
            puller,
            pusher,
            tasks,
            closing,
        }
    }

    /// What speaks with registries, and fetches what URLs lead to.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Brings one layer here that a repository has; the lease keeps it.
    pub(crate) async fn fetch_layer(
        &self,
        reference: &Reference,
        credentials: Credentials,
        lease: &Arc<storage::Lease>,
        descriptor: &oci::image::Descriptor,
        diff_id: &Digest,
    ) -> Result<()> {
        Ok(self.puller.layer(reference, credentials, lease, descriptor, diff_id).await?)
    }

    /// The configuration with this digest.
    pub(crate) fn config(&self, digest: &Digest) -> Result<Arc<oci::image::ImageConfig>> {
        self.shared.configs.get(&self.shared.store, digest)
    }

    /// The image that a name or an id's beginning means, for a platform: what `create` asks.
    pub async fn resolve(&self, name: &str, platform: Option<&str>) -> Result<Resolved> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        let platform = parse_platform(platform.unwrap_or_default())?;
        blocking::run("resolve an image", move || {
            let found = find::find(&shared.store, &name)?;
            let manifest = find::choose(&found.image, &name, platform.as_ref())?.clone();
            let config = shared.configs.get(&shared.store, &manifest.config)?;
            Ok(Resolved { id: found.image.id().clone(), manifest, config })
        })
        .await
    }
}

/// Reads a platform as the API passes it: `os/architecture[/variant]`, or nothing.
pub fn parse_platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    Platform::parse(text).map(Some).map_err(|e| Error::invalid(e.to_string()))
}

/// The image a pull is asked for: `fromImage` and `tag` of the API, where a tag may also be a digest.
pub fn parse_reference(from: &str, tag: &str) -> Result<Reference> {
    let invalid = |e: oci::Error| Error::invalid(e.to_string());
    let reference = Reference::parse_named(from).map_err(invalid)?;
    if tag.is_empty() {
        return Ok(reference);
    }
    if tag.contains(':') {
        return Ok(reference.with_digest(Digest::parse(tag).map_err(invalid)?));
    }
    reference.without_digest().with_tag(tag).map_err(invalid)
}
