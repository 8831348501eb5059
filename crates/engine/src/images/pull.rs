//! `POST /images/create`: a pull, told line by line as Docker tells it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::stream::{Progress, ProgressDetail};
use futures_util::Stream;
use oci::{Digest, Platform, Reference};
use registry::pull::{Event, Pulled, Step};
use registry::{Credentials, Puller, Request};
use storage::{Image, NewImage};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::{Images, Shared, find, hello, identity, show};
use crate::blocking;
use crate::error::{Error, Kind, Result};
use crate::events::Subject;

/// Lines on their way to a client: what the steps of the most layers an image may have need. Counts of bytes are left out
/// when the queue is half full, steps never.
pub(super) const LINES: usize = 8192;

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The image, with a tag or a digest; a repository alone means all its tags.
    pub reference: Reference,
    /// The platform, where the user names one.
    pub platform: Option<Platform>,
    /// Who the user is to the registry.
    pub credentials: Credentials,
}

/// A pull or a push that goes on while this is held. Its lines come as a stream; an error is the last of it.
#[derive(Debug)]
pub struct Pulling {
    pub(super) lines: mpsc::Receiver<Result<Progress>>,
    pub(super) task: JoinHandle<()>,
}

impl Pulling {
    /// The next line. An error that comes first is one that no line was told before: an answer's status can say it.
    pub async fn next(&mut self) -> Option<Result<Progress>> {
        self.lines.recv().await
    }
}

impl Stream for Pulling {
    type Item = Result<Progress>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_recv(context)
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Images {
    /// Pulls an image. Dropping what is returned gives the pull up, unless others wait for the same layers.
    pub fn pull(&self, options: PullOptions) -> Pulling {
        let (pull, lines) = self.prepare(options);
        let closing = self.closing.clone();
        let task = self.tasks.spawn(async move {
            let outcome = closing.run_until_cancelled(pull.run()).await;
            let closed = || Err(Error::new(Kind::Cancelled, "the daemon is shutting down"));
            if let Err(error) = outcome.unwrap_or_else(closed) {
                pull.clear_away().await;
                let _ = pull.lines.try_send(Err(error));
            }
        });
        Pulling { lines, task }
    }

    fn prepare(&self, options: PullOptions) -> (Pull, mpsc::Receiver<Result<Progress>>) {
        let (sender, lines) = mpsc::channel(LINES);
        let pull = Pull {
            shared: self.shared.clone(),
            puller: self.puller.clone(),
            tasks: self.tasks.clone(),
            options,
            lines: sender,
        };
        (pull, lines)
    }
}

/// One pull.
struct Pull {
    shared: Arc<Shared>,
    puller: Puller,
    tasks: TaskTracker,
    options: PullOptions,
    lines: mpsc::Sender<Result<Progress>>,
}

impl Pull {
    async fn run(&self) -> Result<()> {
        let mut newer = false;
        for reference in self.references().await? {
            newer |= self.one(&reference).await?;
        }
        let shown = self.options.reference.familiar();
        self.status(match newer {
            true => format!("Status: Downloaded newer image for {shown}"),
            false => format!("Status: Image is up to date for {shown}"),
        })
        .await;
        Ok(())
    }

    /// What is to be pulled: a repository alone means all its tags.
    async fn references(&self) -> Result<Vec<Reference>> {
        let PullOptions { reference, credentials, .. } = &self.options;
        if !reference.is_name_only() {
            return Ok(vec![reference.clone()]);
        }
        let tags = self.puller.tags(reference, credentials.clone()).await?;
        if tags.is_empty() {
            return Err(Error::not_found(format!("no tags in repository {}", reference.familiar_name())));
        }
        let tagged = |tag: &String| reference.with_tag(tag).map_err(|e| Error::invalid(e.to_string()));
        tags.iter().map(tagged).collect()
    }

    /// Pulls one image; whether anything of it is new.
    async fn one(&self, reference: &Reference) -> Result<bool> {
        let name = stored_name(reference);
        let (shared, wanted) = (self.shared.clone(), name.clone());
        let before = blocking::run("look for an image", move || {
            Ok(shared.store.transaction(|tx| tx.image_by_name(&wanted))?)
        })
        .await?;
        let head = head(reference);
        let pulled = if hello::is_wanted(reference) {
            let (shared, lines) = (self.shared.clone(), self.lines.clone());
            let wanted = self.options.platform.clone();
            blocking::run("make the embedded image", move || {
                hello::put(&shared.store, wanted.as_ref(), &|event| tell(&lines, &head, event))
            })
            .await?
        } else {
            let request = Request {
                reference: reference.clone(),
                platform: self.options.platform.clone(),
                credentials: self.options.credentials.clone(),
                known: before.as_ref().map(|image| image.id().clone()),
            };
            self.puller.pull(&request, &|event| tell(&self.lines, &head, event)).await?
        };
        let (id, fetched) = (pulled.image.id.clone(), pulled.fetched);
        let new = self.record(pulled, reference.clone(), name).await?;
        self.status(format!("Digest: {id}")).await;
        Ok(fetched || new)
    }

    /// Makes the image visible, and gives up the lease; whether it was not before.
    async fn record(&self, pulled: Pulled, reference: Reference, name: String) -> Result<bool> {
        let shared = self.shared.clone();
        let new = blocking::run("record an image", move || {
            let Pulled { image, lease, .. } = pulled;
            // It is looked for here, not before: what was there then may have been removed since.
            let new = shared.store.durable_transaction(|tx| {
                let new = !tx.image_by_name(&name)?.is_some_and(|here| holds(&here, &image));
                if new {
                    tx.put_image(&image)?;
                    tx.tag_image(&name, &image.id)?;
                    if !hello::is_wanted(&reference) {
                        identity::pulled(tx, &image.id, &reference)?;
                    }
                }
                Ok(new)
            })?;
            drop(lease);
            let attributes = BTreeMap::from([("name".to_owned(), reference.familiar_name())]);
            shared.events.emit(Subject::Image, "pull", &reference.familiar(), attributes);
            Ok(new)
        })
        .await?;
        let store = self.shared.store.clone();
        self.tasks.spawn(async move {
            let flushed = blocking::run("write an image to the disk", move || Ok(store.flush()?)).await;
            if let Err(error) = flushed {
                tracing::warn!(error = error.chain(), "an image may be lost if the machine loses power now");
            }
        });
        Ok(new)
    }

    /// Removes what a pull that failed has brought and nobody else has. Half a layer stays for the next try.
    async fn clear_away(&self) {
        let store = self.shared.store.clone();
        if let Err(error) = blocking::run("clear away a failed pull", move || Ok(store.gc()?)).await {
            tracing::warn!(error = error.chain(), "left for the next collection");
        }
    }

    async fn status(&self, status: String) {
        let _ = self.lines.send(Ok(Progress { status, ..Default::default() })).await;
    }
}

/// Whether an image that is here is the one that was pulled, with the platform that was pulled.
fn holds(here: &Image, pulled: &NewImage) -> bool {
    let manifest = pulled.manifests.first().map(|manifest| &manifest.digest);
    *here.id() == pulled.id && here.image.manifests.iter().any(|kept| Some(&kept.digest) == manifest)
}

/// The first line: what is pulled from where.
fn head(reference: &Reference) -> Progress {
    Progress {
        id: reference.target().to_owned(),
        status: format!("Pulling from {}", reference.path()),
        ..Default::default()
    }
}

/// The name under which a pulled image is kept: a digest says more than a tag beside it.
fn stored_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => find::by_digest(reference, digest).to_string(),
        None => reference.to_string(),
    }
}

/// Tells what happens, if there is room.
fn tell(lines: &mpsc::Sender<Result<Progress>>, head: &Progress, event: Event) {
    match event {
        Event::Found(_) => {
            let _ = lines.try_send(Ok(head.clone()));
        }
        Event::Layer(_, Step::Downloading { .. }) if lines.capacity() < LINES / 2 => {}
        Event::Layer(layer, step) => {
            let _ = lines.try_send(Ok(layer_line(&layer, step)));
        }
    }
}

fn layer_line(layer: &Digest, step: Step) -> Progress {
    let counted = |current, total| ProgressDetail {
        current: show::signed(current),
        total: show::signed(total),
        ..Default::default()
    };
    let (status, detail) = match step {
        Step::Exists => ("Already exists", ProgressDetail::default()),
        Step::Pending => ("Pulling fs layer", ProgressDetail::default()),
        Step::Waiting => ("Waiting", ProgressDetail::default()),
        Step::Downloading { current, total } => ("Downloading", counted(current, total)),
        Step::Verifying => ("Verifying Checksum", ProgressDetail::default()),
        Step::Downloaded => ("Download complete", ProgressDetail::default()),
        Step::Extracting { current, total } => ("Extracting", counted(current, total)),
        Step::Complete => ("Pull complete", ProgressDetail::default()),
    };
    Progress {
        id: layer.short().to_owned(),
        status: status.to_owned(),
        progress_detail: Some(detail),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;
    use storage::Store;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn what_is_removed_while_it_is_pulled_is_there_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let client = registry::Client::new(registry::Options::default()).unwrap();
        let background = (TaskTracker::new(), CancellationToken::new());
        let images = Images::new(
            store.clone(),
            client,
            (1, 1),
            Arc::new(Events::default()),
            Arc::new(Vec::new),
            background,
        );
        let reference = crate::images::parse_reference("hello-world:latest", "").unwrap();
        let options =
            PullOptions { reference: reference.clone(), platform: None, credentials: Credentials::Anonymous };
        let (pull, _lines) = images.prepare(options);
        let name = stored_name(&reference);
        let fetch = || hello::put(&store, None, &|_| ()).unwrap();
        let record = |pulled| pull.record(pulled, reference.clone(), name.clone());
        let there = || store.transaction(|tx| tx.image_by_name(&name)).unwrap().is_some();

        assert!(record(fetch()).await.unwrap());
        assert!(!record(fetch()).await.unwrap(), "it is up to date");
        let pulled = fetch();
        images.remove(&name, false).await.unwrap();
        assert!(!there());
        assert!(record(pulled).await.unwrap(), "it is new again");
        assert!(there());
    }
}
