//! Gives an image of the store to a registry.
//!
//! ```text
//! what the name leads to here  -> index or manifest
//! index                        -> all of its manifests, where all are here or there; else the one that is here
//! blobs                        -> some at a time: there already, mounted from another repository, or uploaded
//! manifests, then the index    -> put, the last under the tag
//! ```
//! A lease keeps the parts from being collected meanwhile. Nothing is written to the store.

mod plan;
mod send;

use std::sync::Arc;

use bytes::Bytes;
use oci::image::Descriptor;
use oci::{Digest, Reference};
use storage::{NewImage, Packing, Store};
use tokio::sync::Semaphore;

use crate::client::{Client, Credentials, Repository};
use crate::error::{Error, Result};
use crate::pull::{Held, blocking};
use plan::Plan;

/// Blobs that are uploaded at once where nobody says otherwise: Docker's number.
pub const UPLOADS_DEFAULT: usize = 5;

/// What to push.
#[derive(Debug, Clone)]
pub struct Request {
    /// The name it gets at the registry.
    pub reference: Reference,
    /// The image.
    pub image: NewImage,
    /// The one manifest of its index that is wanted; else the index.
    pub manifest: Option<Digest>,
    /// Who the user is to the registry.
    pub credentials: Credentials,
    /// How layers are to be compressed; as they are, if nobody says.
    pub recompress: Option<Recompress>,
}

/// How layers are to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recompress {
    /// By what.
    pub packing: Packing,
    /// Also those that are compressed by it already: the level matters.
    pub all: bool,
}

/// What a push tells while it goes on: something happens to a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event(pub Digest, pub Step);

/// What happens to a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is to be looked at.
    Preparing,
    /// Others come first.
    Waiting,
    /// It is compressed otherwise.
    Compressing,
    /// It is there.
    Exists,
    /// It is not given to registries, but had from elsewhere.
    Foreign,
    /// It is there now: another repository had it.
    Mounted(String),
    /// It goes out.
    Pushing {
        /// Bytes that were sent.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is there.
    Pushed,
}

/// What is at the registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// What the name leads to there.
    pub target: Descriptor,
    /// The index in whose place it is, because not all of that is here.
    pub instead_of: Option<Descriptor>,
}

/// Pushes images from a store. Cheap to clone; clones share their turns.
#[derive(Clone)]
pub struct Pusher {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    store: Store,
    uploads: Semaphore,
}

/// Where progress goes.
type Tell<'a> = &'a (dyn Fn(Event) + Send + Sync);

impl Pusher {
    /// Pushes with this client from this store, at most so many blobs at a time.
    pub fn new(client: Client, store: Store, uploads: usize) -> Self {
        Self { inner: Arc::new(Inner { client, store, uploads: Semaphore::new(uploads.max(1)) }) }
    }

    /// Pushes an image. Dropping the future gives it up.
    pub async fn push(&self, request: &Request, tell: Tell<'_>) -> Result<Pushed> {
        let inner = &self.inner;
        let repository =
            inner.client.push_repository(&request.reference, request.credentials.clone()).await?;
        let (store, what) = (inner.store.clone(), format!("push of {}", request.reference));
        let held = Held(Some(Arc::new(blocking(move || store.passing_lease(&what)).await?)));
        let plan = self.plan(request, &repository, held.lease()?).await?;
        for layer in &plan.layers {
            tell(Event(layer.digest.clone(), Step::Preparing));
        }
        // One question alone, so that scheme and token are known when many are asked at once.
        repository.has_manifest(&plan.top.digest).await?;
        let sent = self.send(request, &repository, &plan, tell).await?;
        let target = put(&repository, &plan, &sent, request.reference.target()).await?;
        Ok(Pushed { target, instead_of: plan.instead_of })
    }

    /// What is to be sent: read from the store, and held by the lease.
    async fn plan(
        &self,
        request: &Request,
        repository: &Repository,
        lease: Arc<storage::Lease>,
    ) -> Result<Plan> {
        let (store, image, manifest) =
            (self.inner.store.clone(), request.image.clone(), request.manifest.clone());
        let (mut plan, lease) = blocking(move || {
            let plan = plan::whole(&store, &lease, &image, manifest.as_ref());
            Ok((plan, lease))
        })
        .await
        .and_then(|(plan, lease)| Ok((plan?, lease)))?;
        let mut missing = None;
        for digest in &plan.absent {
            // What the registry has already need not be here.
            if !repository.has_manifest(digest).await? {
                missing = Some(digest.clone());
                break;
            }
        }
        let Some(digest) = missing else { return Ok(plan) };
        let whole = plan.top.clone();
        let (store, image) = (self.inner.store.clone(), request.image.clone());
        let chosen = blocking(move || Ok(plan::only(&store, &lease, &image))).await??;
        plan = chosen.ok_or(Error::Missing { digest, of_index: true })?;
        plan.instead_of = Some(whole);
        Ok(plan)
    }
}

/// Puts the manifests, those that others name first; what the name leads to now is returned.
async fn put(repository: &Repository, plan: &Plan, sent: &send::Sent, tag: &str) -> Result<Descriptor> {
    let documents = plan::rewritten(plan, sent)?;
    let last = documents.len().saturating_sub(1);
    let mut target = plan.top.clone();
    for (at, (descriptor, bytes)) in documents.into_iter().enumerate() {
        let name = if at == last { tag } else { descriptor.digest.as_str() };
        let bytes = Bytes::from(bytes);
        repository.put_manifest(name, &descriptor.media_type, &bytes, &descriptor.digest).await?;
        target = descriptor;
    }
    Ok(target)
}
