//! Blobs on their way out: there already, mounted, or uploaded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use oci::image::{Descriptor, media_type};
use oci::{Digest, Reference};
use storage::Packing;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::plan::{Part, Plan};
use super::{Event, Pusher, Recompress, Request, Step, Tell};
use crate::client::{Content, Repository, Session, Started};
use crate::error::Result;
use crate::pull::blocking;

/// How often progress is told while a blob goes out: a terminal shows no more.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// How many other repositories are asked for a blob: each costs a round trip, and most often the first has it.
const MOUNTS_MAX: usize = 3;

/// What was sent in another form than it is here.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By the digest of the layer as it is here.
    pub(super) layers: BTreeMap<String, Descriptor>,
    /// Whether documents have to be OCI's: Docker's own have no zstd.
    pub(super) oci: bool,
}

/// Tells a thread that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Pusher {
    /// Sends all blobs of a plan, some at a time.
    pub(super) async fn send(
        &self,
        request: &Request,
        repository: &Repository,
        plan: &Plan,
        tell: Tell<'_>,
    ) -> Result<Sent> {
        let silent = |_: Step| ();
        let configs = plan.configs.iter().map(|config| async move {
            let _turn = self.inner.uploads.acquire().await.map_err(|_| crate::Error::Cancelled)?;
            self.part(request, repository, config, None, &silent).await
        });
        let layers = plan.layers.iter().map(|layer| async move {
            let tell = |step| tell(Event(layer.digest.clone(), step));
            if layer.foreign {
                tell(Step::Foreign);
                return Ok(None);
            }
            if self.inner.uploads.available_permits() == 0 {
                tell(Step::Waiting);
            }
            let _turn = self.inner.uploads.acquire().await.map_err(|_| crate::Error::Cancelled)?;
            self.part(request, repository, layer, other(layer, request.recompress), &tell).await
        });
        let (_, layers) = futures_util::try_join!(try_join_all(configs), try_join_all(layers))?;
        let layers: BTreeMap<String, Descriptor> = plan
            .layers
            .iter()
            .zip(layers)
            .filter_map(|(layer, other)| Some((layer.digest.to_string(), other?)))
            .collect();
        let oci = request.recompress.is_some_and(|how| matches!(how.packing, Packing::Zstd(_)))
            && !layers.is_empty();
        Ok(Sent { layers, oci })
    }

    /// Sends one blob; if it was compressed otherwise, what it is now.
    async fn part(
        &self,
        request: &Request,
        repository: &Repository,
        part: &Part,
        packing: Option<(Packing, &'static str, Digest)>,
        tell: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Option<Descriptor>> {
        let Some((packing, kind, diff_id)) = packing else {
            let (store, digest) = (self.inner.store.clone(), part.digest.clone());
            let file = blocking(move || store.open_blob(&digest)).await?;
            let content = Content::new(file, part.digest.clone(), part.size);
            self.blob(request, repository, &content, tell).await?;
            return Ok(None);
        };
        tell(Step::Compressing);
        let (store, digest) = (self.inner.store.clone(), part.digest.clone());
        let given_up = Arc::new(AtomicBool::new(false));
        let _waiting = Waiting(given_up.clone());
        let repacked =
            blocking(move || store.repack(&digest, &diff_id, packing, &|| given_up.load(Ordering::Relaxed)))
                .await?;
        let descriptor = Descriptor::new(kind, repacked.digest.clone(), repacked.size);
        let content = Content::new(repacked.file, repacked.digest, repacked.size);
        self.blob(request, repository, &content, tell).await?;
        Ok(Some(descriptor))
    }

    async fn blob(
        &self,
        request: &Request,
        repository: &Repository,
        content: &Content,
        tell: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<()> {
        if repository.has_blob(&content.digest, content.size).await? {
            tell(Step::Exists);
            return Ok(());
        }
        let mut session = None;
        for source in self.sources(&request.reference, &content.digest).await? {
            if let Some(session) = Option::take(&mut session) {
                repository.abandon(session).await;
            }
            match repository.mount(&content.digest, source.path()).await? {
                Started::Mounted => {
                    tell(Step::Mounted(source.path().to_owned()));
                    return Ok(());
                }
                Started::Upload(begun) => session = Some(begun),
            }
        }
        self.upload(repository, content, session, tell).await?;
        tell(Step::Pushed);
        Ok(())
    }

    /// Other repositories of the same registry that have a blob, going by what images are called here.
    async fn sources(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Reference>> {
        let (store, digest) = (self.inner.store.clone(), digest.clone());
        let names = blocking(move || store.transaction(|tx| tx.names_with_blob(&digest))).await?;
        let mut sources: Vec<Reference> = Vec::new();
        for name in names.iter().filter_map(|name| Reference::parse_named(name).ok()) {
            let elsewhere = name.domain() == reference.domain() && name.path() != reference.path();
            if elsewhere && sources.iter().all(|known| known.path() != name.path()) {
                sources.push(name);
            }
        }
        sources.truncate(MOUNTS_MAX);
        Ok(sources)
    }

    /// Uploads, and tells how it goes.
    async fn upload(
        &self,
        repository: &Repository,
        content: &Content,
        session: Option<Session>,
        tell: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<()> {
        let (sender, sent) = watch::channel(0);
        let count = Arc::new(move |bytes| {
            sender.send_replace(bytes);
        });
        let upload = repository.upload(content, session, count);
        tokio::pin!(upload);
        let mut ticks = tokio::time::interval(PROGRESS_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                biased;
                done = &mut upload => {
                    done?;
                    tell(Step::Pushing { current: content.size, total: content.size });
                    return Ok(());
                }
                _ = ticks.tick() => {
                    let current = *sent.borrow();
                    if told != Some(current) {
                        told = Some(current);
                        tell(Step::Pushing { current, total: content.size });
                    }
                }
            }
        }
    }
}

/// How a layer is to be compressed, if that is not how it is: packing, media type, what it unpacks to.
fn other(layer: &Part, recompress: Option<Recompress>) -> Option<(Packing, &'static str, Digest)> {
    let Recompress { packing, all } = recompress?;
    let wanted = match packing {
        Packing::Plain => media_type::Compression::None,
        Packing::Gzip(_) => media_type::Compression::Gzip,
        Packing::Zstd(_) => media_type::Compression::Zstd,
    };
    let own = media_type::layer_compression(media_type::essence(&layer.media_type))?;
    if own == wanted && !all {
        return None;
    }
    let diff_id = layer.diff_id.clone()?;
    let docker = layer.media_type.contains("docker");
    let kind = match packing {
        Packing::Plain if docker => media_type::DOCKER_LAYER,
        Packing::Plain => media_type::OCI_LAYER,
        Packing::Gzip(_) if docker => media_type::DOCKER_LAYER_GZIP,
        Packing::Gzip(_) => media_type::OCI_LAYER_GZIP,
        Packing::Zstd(_) => media_type::OCI_LAYER_ZSTD,
    };
    Some((packing, kind, diff_id))
}
