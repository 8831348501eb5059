//! Takes an image from a registry into the store.
//!
//! ```text
//! resolve the name      -> index or manifest       \
//! index, platform       -> manifest                 > bytes kept as they came, under the pull's lease
//! manifest              -> configuration           /
//! configuration         -> diff ids: what the layers have to be
//! layers                -> flights, some at a time; one flight a layer, however many pulls want it
//! ```
//! Nothing is visible before the caller writes the image's record; the lease in [`Pulled`] keeps the parts until then.
//! A pull that is dropped leaves half-finished layers in the store, where the next one goes on.

mod flight;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::try_join_all;
use oci::image::{Descriptor, Document, ImageConfig, Manifest, media_type};
use oci::{Digest, Platform, Reference};
use storage::{Expected, ImageLayer, Lease, NewImage, PlatformManifest, Resource, Store};
use tokio::sync::Semaphore;

use crate::client::{Client, Credentials, Repository, Resolved};
use crate::error::{Error, Result};
use crate::policy::Policy;
use flight::{Flight, Phase};

/// Layers that are downloaded at once where nobody says otherwise: Docker's number.
pub const DOWNLOADS_DEFAULT: usize = 3;
/// How long the parts of a pull are kept if this process dies before it is done: the next daemon's pull finds them.
const LEASE_TIME: Duration = Duration::from_secs(24 * 3600);
/// How long a pull that failed waits for its threads: they are in the middle of a write, unless another pull wants the same.
const GIVING_UP: Duration = Duration::from_secs(2);
/// How often it is looked whether a lease is held by nobody else: the wait is for a thread's last instructions.
const LEASE_PAUSE: Duration = Duration::from_millis(1);
/// An index may lead to an index, but not for ever.
const INDEX_DEPTH_MAX: usize = 4;
/// How often progress is told while a layer comes in: a terminal shows no more.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// What to pull.
#[derive(Debug, Clone)]
pub struct Request {
    /// The image's name, with a tag or a digest.
    pub reference: Reference,
    /// The platform, if the user named one; else the one of this machine.
    pub platform: Option<Platform>,
    /// Who the user is to the registry.
    pub credentials: Credentials,
    /// What the name leads to here, now: then the registry is asked first whether that is still so.
    pub known: Option<Digest>,
}

/// What a pull tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The image was found, with this digest, and can be used here: layers follow.
    Found(Digest),
    /// Something happens to a layer.
    Layer(Digest, Step),
}

/// What happens to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is here.
    Exists,
    /// It is wanted.
    Pending,
    /// Others come first.
    Waiting,
    /// It comes in.
    Downloading {
        /// Bytes that are here.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All bytes are here; their digest is looked at.
    Verifying,
    /// The digest is right.
    Downloaded,
    /// Files are written.
    Extracting {
        /// Bytes that are unpacked.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is here.
    Complete,
}

/// An image whose parts are all in the store, kept by a lease.
#[derive(Debug)]
pub struct Pulled {
    /// The record to be put: its id is what the name led to; it has one platform.
    pub image: NewImage,
    /// The configuration.
    pub config: ImageConfig,
    /// What keeps the parts until the record stands. Dropping it blocks for a moment.
    pub lease: Lease,
    /// Whether anything had to be fetched.
    pub fetched: bool,
}

/// Pulls images into a store. Cheap to clone; clones share their downloads.
#[derive(Clone)]
pub struct Puller {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    store: Store,
    downloads: Semaphore,
    flights: Mutex<HashMap<Digest, Weak<Flight>>>,
}

/// Runs blocking work of the store.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, storage::Error> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::Cancelled),
    }
}

/// A lease that is given up where it may block, also when a pull is dropped.
pub(crate) struct Held(pub(crate) Option<Arc<Lease>>);

impl Drop for Held {
    fn drop(&mut self) {
        let Some(lease) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(lease))),
            Err(_) => drop(lease),
        }
    }
}

impl Held {
    pub(crate) fn lease(&self) -> Result<Arc<Lease>> {
        self.0.clone().ok_or(Error::Cancelled)
    }
}

/// One pull on its way through the documents.
struct Walk<'a> {
    inner: &'a Arc<Inner>,
    repository: &'a Arc<Repository>,
    lease: &'a Arc<Lease>,
    /// Indexes between the first and the manifest.
    between: Vec<Digest>,
    fetched: bool,
}

impl Puller {
    /// The client that pulls.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Pulls with this client into this store, at most so many layers at a time.
    pub fn new(client: Client, store: Store, downloads: usize) -> Self {
        let inner =
            Inner { client, store, downloads: Semaphore::new(downloads.max(1)), flights: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// All tags of a reference's repository.
    pub async fn tags(&self, reference: &Reference, credentials: Credentials) -> Result<Vec<String>> {
        self.inner.client.repository(reference, credentials).await?.tags().await
    }

    /// Brings one layer in that a repository has, and keeps it by the lease. Dropping the future gives up what nobody else wants.
    pub async fn layer(
        &self,
        reference: &Reference,
        credentials: Credentials,
        lease: &Arc<Lease>,
        descriptor: &Descriptor,
        diff_id: &Digest,
    ) -> Result<()> {
        if media_type::layer_compression(media_type::essence(&descriptor.media_type)).is_none() {
            return Err(Error::Unsupported {
                what: format!("media type {} of a layer", descriptor.media_type),
            });
        }
        let repository = Arc::new(self.inner.client.repository(reference, credentials).await?);
        let walk =
            Walk { inner: &self.inner, repository: &repository, lease, between: Vec::new(), fetched: false };
        if walk.missing(&[(descriptor.clone(), diff_id.clone())]).await?.contains(&true) {
            let (descriptor, diff_id) = (descriptor.clone(), diff_id.clone());
            arrive(self.inner.clone(), repository.clone(), lease.clone(), descriptor, diff_id, &|_| {})
                .await?;
        }
        Ok(())
    }

    /// Pulls an image. Dropping the future gives up what no other pull wants.
    pub async fn pull(&self, request: &Request, tell: &(dyn Fn(Event) + Send + Sync)) -> Result<Pulled> {
        let inner = &self.inner;
        let repository =
            Arc::new(inner.client.repository(&request.reference, request.credentials.clone()).await?);
        let (store, what) = (inner.store.clone(), format!("pull of {}", request.reference));
        let held = Held(Some(Arc::new(blocking(move || store.lease(&what, LEASE_TIME)).await?)));
        let begun = Mutex::default();
        // The walk's own handle has to be gone before the lease can be alone.
        let outcome = {
            let lease = held.lease()?;
            self.walk(request, &repository, &lease, &begun, tell).await
        };
        match outcome {
            Ok((image, config, fetched)) => {
                let lease = unshare(held).await?;
                Ok(Pulled { image, config, lease, fetched })
            }
            Err(error) => {
                // What was given up ends first, so that the caller can clear away what is left.
                if let Ok(Ok(lease)) = tokio::time::timeout(GIVING_UP, unshare(held)).await {
                    let (store, full) = (inner.store.clone(), error.is_disk_full());
                    let begun = begun.into_inner().unwrap_or_else(PoisonError::into_inner);
                    blocking(move || {
                        drop(lease);
                        // Half a layer is worth keeping, but not on a disk that has no room for the other half.
                        begun.iter().filter(|_| full).try_for_each(|layer| store.forget_ingest(layer))
                    })
                    .await?;
                }
                Err(error)
            }
        }
    }

    /// From the name to all layers.
    async fn walk(
        &self,
        request: &Request,
        repository: &Arc<Repository>,
        lease: &Arc<Lease>,
        begun: &Mutex<Vec<Digest>>,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<(NewImage, ImageConfig, bool)> {
        let mut walk = Walk { inner: &self.inner, repository, lease, between: Vec::new(), fetched: false };
        let host = Platform::host();
        let platform = request.platform.as_ref().unwrap_or(&host);
        let policy = blocking_policy(&self.inner.client).await?;
        let (target, manifest, document) = walk.manifest(request, platform).await?;
        if let Some(policy) = policy {
            policy.check(&request.reference, repository, &[&target.digest, &manifest.digest]).await?;
        }
        let config = walk.config(&document).await?;
        if request.platform.is_some() && target.digest == manifest.digest {
            let own = config.platform();
            if platform.rank(&own).is_none() {
                return Err(oci::Error::NoMatchingPlatform { platform: platform.to_string() }.into());
            }
        }
        tell(Event::Found(target.digest.clone()));
        begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(document.layers.iter().map(|layer| layer.digest.clone()));
        walk.layers(&document, &config, tell).await?;
        let image = NewImage {
            id: target.digest,
            media_type: target.media_type,
            size: target.size,
            manifests: vec![platform_manifest(&manifest, &document, &config)],
            other_blobs: walk.between,
            parent: None,
        };
        Ok((image, config, walk.fetched))
    }
}

/// Reads the policy, which may be a file anywhere.
async fn blocking_policy(client: &Client) -> Result<Option<Policy>> {
    let client = client.clone();
    tokio::task::spawn_blocking(move || client.policy()).await.map_err(|_| Error::Cancelled)?
}

fn platform_manifest(manifest: &Descriptor, document: &Manifest, config: &ImageConfig) -> PlatformManifest {
    let pairs = document.layers.iter().zip(&config.rootfs.diff_ids);
    let layers = pairs.map(|(layer, diff_id)| ImageLayer {
        digest: layer.digest.clone(),
        size: layer.size,
        media_type: layer.media_type.clone(),
        diff_id: diff_id.clone(),
    });
    PlatformManifest {
        digest: manifest.digest.clone(),
        size: manifest.size,
        media_type: manifest.media_type.clone(),
        platform: config.platform().to_string(),
        config: document.config.digest.clone(),
        config_size: document.config.size,
        layers: layers.collect(),
    }
}

/// The lease alone: its last other holders are threads that are just ending.
async fn unshare(mut held: Held) -> Result<Lease> {
    loop {
        let lease = held.0.take().ok_or(Error::Cancelled)?;
        match Arc::try_unwrap(lease) {
            Ok(lease) => return Ok(lease),
            Err(shared) => held.0 = Some(shared),
        }
        tokio::time::sleep(LEASE_PAUSE).await;
    }
}

impl Walk<'_> {
    /// Follows the name to a manifest for the platform.
    async fn manifest(
        &mut self,
        request: &Request,
        platform: &Platform,
    ) -> Result<(Descriptor, Descriptor, Manifest)> {
        let found = self.resolve(request).await?;
        self.keep(&found).await?;
        let target = found.descriptor.clone();
        let mut current = found;
        for _ in 0..INDEX_DEPTH_MAX {
            let index = match current.document {
                Document::Manifest(manifest) => return Ok((target, current.descriptor, *manifest)),
                Document::Index(index) => index,
            };
            if current.descriptor.digest != target.digest {
                self.between.push(current.descriptor.digest.clone());
            }
            let chosen = index.select(platform)?.clone();
            current = match self.stored(&chosen.digest, Some(&chosen.media_type)).await? {
                Some(resolved) if resolved.descriptor.size == chosen.size => resolved,
                Some(resolved) => {
                    return Err(Error::Mismatch {
                        what: format!("size of {}", chosen.digest),
                        expected: chosen.size.to_string(),
                        found: resolved.descriptor.size.to_string(),
                    });
                }
                None => {
                    self.fetched = true;
                    self.repository.manifest(&chosen).await?
                }
            };
            current.descriptor.media_type.clone_from(&chosen.media_type);
            self.keep(&current).await?;
        }
        Err(Error::Unsupported { what: format!("an index {INDEX_DEPTH_MAX} levels deep") })
    }

    /// The document the name leads to: from the store where that is known to be right.
    async fn resolve(&mut self, request: &Request) -> Result<Resolved> {
        let target = request.reference.target();
        // Whose content is here may still never have been there: a name is not lent to what its registry does not have.
        let known = match request.reference.digest() {
            Some(digest) if request.known.as_ref() == Some(digest) => Some(digest.clone()),
            Some(digest) if self.stored(digest, None).await?.is_none() => None,
            None if request.known.is_none() => None,
            _ => self.repository.head(target).await?.map(|head| head.digest),
        };
        if let Some(digest) = known
            && let Some(resolved) = self.stored(&digest, None).await?
        {
            return Ok(resolved);
        }
        self.fetched = true;
        self.repository.resolve(target).await
    }

    /// A document that is in the store already.
    async fn stored(&self, digest: &Digest, media_type: Option<&str>) -> Result<Option<Resolved>> {
        let (store, lease, wanted) = (self.inner.store.clone(), self.lease.clone(), digest.clone());
        let limit = self.inner.client.limits().manifest_bytes_max;
        let bytes = blocking(move || {
            lease.hold(&Resource::Blob(wanted.clone()))?;
            match store.blob_info(&wanted)? {
                Some(_) => store.read_blob(&wanted, limit).map(Some),
                None => Ok(None),
            }
        })
        .await?;
        let Some(bytes) = bytes else { return Ok(None) };
        let document = Document::parse(&bytes, media_type)?;
        let descriptor = Descriptor::new(document.media_type(), digest.clone(), bytes.len() as u64);
        Ok(Some(Resolved { descriptor, bytes, document }))
    }

    async fn keep(&mut self, document: &Resolved) -> Result<()> {
        self.put(&document.descriptor, document.bytes.clone()).await
    }

    /// Puts a verified document into the store, unless it is there.
    async fn put(&mut self, descriptor: &Descriptor, bytes: Vec<u8>) -> Result<()> {
        let (store, lease, expected) = (self.inner.store.clone(), self.lease.clone(), expected(descriptor));
        blocking(move || {
            store.transaction(|tx| {
                tx.hold(&lease, &Resource::Blob(expected.digest.clone()))?;
                tx.check_class(&expected.digest, storage::Class::of(&expected.media_type))
            })?;
            match store.blob_info(&expected.digest)? {
                Some(_) => Ok(()),
                None => store.put_expected_blob(&lease, &expected, &bytes),
            }
        })
        .await
    }

    async fn config(&mut self, manifest: &Manifest) -> Result<ImageConfig> {
        let descriptor = &manifest.config;
        let kind = media_type::essence(&descriptor.media_type);
        // Docker's first registries called everything an octet stream.
        if !media_type::is_config(kind) && !matches!(kind, "" | "application/octet-stream") {
            return Err(Error::Unsupported {
                what: format!("media type {kind} of an image's configuration"),
            });
        }
        let (store, lease, digest) =
            (self.inner.store.clone(), self.lease.clone(), descriptor.digest.clone());
        let limit = self.inner.client.limits().config_bytes_max;
        let stored = blocking(move || {
            lease.hold(&Resource::Blob(digest.clone()))?;
            match store.blob_info(&digest)? {
                Some(_) => store.read_blob(&digest, limit).map(Some),
                None => Ok(None),
            }
        })
        .await?;
        let bytes = match stored {
            Some(bytes) => bytes,
            None => {
                self.fetched = true;
                self.repository.small_blob(descriptor).await?
            }
        };
        let config = ImageConfig::parse(&bytes)?;
        self.put(descriptor, bytes).await?;
        config.diff_ids(manifest)?;
        Ok(config)
    }

    /// Brings all layers in.
    async fn layers(
        &mut self,
        manifest: &Manifest,
        config: &ImageConfig,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<()> {
        for descriptor in &manifest.layers {
            if media_type::layer_compression(media_type::essence(&descriptor.media_type)).is_none() {
                return Err(Error::Unsupported {
                    what: format!("media type {} of a layer", descriptor.media_type),
                });
            }
        }
        let mut wanted: Vec<(Descriptor, Digest)> = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            match wanted.iter().find(|(other, _)| other.digest == descriptor.digest) {
                None => wanted.push((descriptor.clone(), diff_id.clone())),
                Some((other, id)) if id == diff_id && other.size == descriptor.size => {}
                Some((_, id)) => {
                    return Err(Error::Mismatch {
                        what: format!("layer {}", descriptor.digest),
                        expected: id.to_string(),
                        found: diff_id.to_string(),
                    });
                }
            }
        }
        let missing = self.missing(&wanted).await?;
        for ((descriptor, _), missing) in wanted.iter().zip(&missing) {
            let step = if *missing { Step::Pending } else { Step::Exists };
            tell(Event::Layer(descriptor.digest.clone(), step));
        }
        let absent: Vec<_> = wanted.into_iter().zip(missing).filter(|(_, missing)| *missing).collect();
        self.fetched |= !absent.is_empty();
        let arrivals = absent.into_iter().map(|((descriptor, diff_id), _)| {
            arrive(self.inner.clone(), self.repository.clone(), self.lease.clone(), descriptor, diff_id, tell)
        });
        try_join_all(arrivals).await?;
        Ok(())
    }

    /// Holds the layers by the lease, and says which of them have to be fetched or unpacked.
    async fn missing(&self, wanted: &[(Descriptor, Digest)]) -> Result<Vec<bool>> {
        let (store, lease, wanted) = (self.inner.store.clone(), self.lease.clone(), wanted.to_vec());
        let found = blocking(move || {
            store.transaction(|tx| {
                wanted
                    .iter()
                    .map(|(descriptor, diff_id)| {
                        tx.check_class(&descriptor.digest, storage::Class::Layer)?;
                        tx.hold(&lease, &Resource::Blob(descriptor.digest.clone()))?;
                        tx.hold(&lease, &Resource::Layer(diff_id.clone()))?;
                        let blob = tx.blob_info(&descriptor.digest)?;
                        let layer = tx.layer(diff_id)?;
                        Ok((descriptor.clone(), diff_id.clone(), blob, layer.is_some()))
                    })
                    .collect::<std::result::Result<Vec<_>, storage::Error>>()
            })
        })
        .await?;
        found
            .into_iter()
            .map(|(descriptor, diff_id, blob, unpacked)| {
                let Some(blob) = blob else { return Ok(true) };
                let lies = |expected: String, found: String| Error::Mismatch {
                    what: format!("layer {}", descriptor.digest),
                    expected,
                    found,
                };
                if blob.size != descriptor.size {
                    return Err(lies(format!("{} bytes", descriptor.size), format!("{} bytes", blob.size)));
                }
                match blob.diff_id {
                    Some(known) if known != diff_id => Err(lies(diff_id.to_string(), known.to_string())),
                    Some(_) => Ok(!unpacked),
                    None => Ok(true),
                }
            })
            .collect()
    }
}

fn expected(descriptor: &Descriptor) -> Expected {
    Expected {
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
    }
}

/// Brings one layer in, together with every other pull that wants it, and tells how it goes.
async fn arrive(
    inner: Arc<Inner>,
    repository: Arc<Repository>,
    lease: Arc<Lease>,
    descriptor: Descriptor,
    diff_id: Digest,
    tell: &(dyn Fn(Event) + Send + Sync),
) -> Result<()> {
    let total = descriptor.size;
    let layer = descriptor.digest.clone();
    let tell = |step| tell(Event::Layer(layer.clone(), step));
    loop {
        let (flight, own) = Flight::join(&inner, &repository, &lease, &descriptor, &diff_id);
        let mut told = Phase::Pending;
        let mut states = flight.watch();
        loop {
            let phase = states.borrow_and_update().clone();
            let outcome = match &phase {
                Phase::Done(outcome) => Some(outcome.clone()),
                _ => None,
            };
            match outcome {
                Some(Ok(())) => {
                    told.rest(total).into_iter().for_each(tell);
                    return Ok(());
                }
                // It was another pull's, with that one's credentials and connection: now our own try.
                Some(Err(_)) if !own => break,
                Some(Err(error)) => return Err(error),
                None => {}
            }
            told.steps_to(&phase, total).into_iter().for_each(tell);
            told = phase;
            if states.changed().await.is_err() {
                break;
            }
            if matches!(told, Phase::Downloading(_)) {
                // What happens within a blink is told at its end.
                let passed = states.wait_for(|phase| !matches!(phase, Phase::Downloading(_)));
                let _ = tokio::time::timeout(PROGRESS_PAUSE, passed).await;
            }
        }
    }
}
