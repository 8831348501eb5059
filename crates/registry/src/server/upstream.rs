//! A cache of another registry: what is asked for and not here is fetched, stored and handed on at the same time.
//!
//! Tags are asked for anew each time; while the other registry does not answer, what is here is good enough. Blobs are
//! fetched only where a manifest that is here needs them: nobody can fill the disk by asking for digests.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use oci::image::Descriptor;
use oci::{Digest, Reference};
use storage::Upload;
use tokio::sync::watch;
use url::Url;

use super::body::{self, Body};
use super::manifests::{self, Target};
use super::refusal::Refusal;
use super::{Answer, Call, Inner};
use crate::client::{Client, Credentials, Limits, Options, Repository};
use crate::error::Error;

/// While the other registry does not answer it is left alone for this long: clients do not wait for what will not come.
const DOWN_TIME: Duration = Duration::from_secs(10);
/// How long a connection to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Clients wait meanwhile, and try again themselves.
const TRIES_MAX: u32 = 3;
/// Blobs that are fetched at a time.
const FLIGHTS_MAX: usize = 64;
/// Bytes that are gathered before they are written.
const GATHERED_BYTES: usize = 512 * 1024;

/// Which registry, and as whom.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    /// `https://host[:port]`, or with `http`.
    pub url: String,
    /// Who the cache is to it.
    pub credentials: Credentials,
}

/// Another registry that this one is a cache of.
pub struct Upstream {
    client: Client,
    host: String,
    credentials: Credentials,
    down_since: Mutex<Option<Instant>>,
    flights: Mutex<HashMap<Wanted, Flight>>,
}

/// A blob of a repository. Not only the blob: that it is on its way for one repository says nothing about what another has.
type Wanted = (String, Digest);

/// A blob on its way.
#[derive(Clone)]
struct Flight {
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// These many bytes may be handed on. The last one may not before all are verified.
    Bytes(u64),
    Whole,
    Failed,
}

impl Upstream {
    /// A cache of the registry at this URL.
    pub fn new(options: UpstreamOptions) -> Result<Self, Error> {
        let wrong =
            |why: &str| Error::Option { option: format!("registry {}", options.url), why: why.to_owned() };
        let url = Url::parse(&options.url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !matches!(url.path(), "" | "/") {
            return Err(wrong("it should be https://host[:port] or http://host[:port]"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it must not hold credentials"));
        }
        let name = url.host_str().ok_or_else(|| wrong("it names no host"))?;
        let default = if url.scheme() == "http" { Some(80) } else { None };
        let host = url.port().or(default).map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let insecure = if url.scheme() == "http" { vec![host.clone()] } else { Vec::new() };
        let limits = Limits { connect_timeout: CONNECT_TIMEOUT, tries_max: TRIES_MAX, ..Limits::default() };
        let client = Client::new(Options { insecure, limits, ..Options::default() })?;
        let (down_since, flights) = (Mutex::default(), Mutex::default());
        Ok(Self { client, host, credentials: options.credentials, down_since, flights })
    }

    async fn repository(&self, name: &str) -> Result<Repository, Error> {
        let reference = Reference::parse_named(&format!("{}/{name}", self.host))?;
        self.client.repository(&reference, self.credentials.clone()).await
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Wanted, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self) -> bool {
        let since = self.down_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < DOWN_TIME)
    }

    /// Remembers whether it answers, and gives the answer back.
    fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let down = result.as_ref().is_err_and(is_passing);
        *self.down_since.lock().unwrap_or_else(PoisonError::into_inner) = down.then(Instant::now);
        result
    }
}

/// Whether an error says nothing about what was asked for.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Broken { .. } | Error::TooManyRequests { .. } => true,
        Error::Status { status, .. } => *status >= 500,
        _ => false,
    }
}

fn refusal(error: &Error) -> Refusal {
    let words = error.to_string();
    match error {
        Error::ManifestNotFound { .. } => Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", words),
        Error::RepositoryNotFound { .. } => Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", words),
        Error::AccessDenied { .. } | Error::Unauthorized { .. } => {
            Refusal::new(StatusCode::FORBIDDEN, "DENIED", words)
        }
        _ => Refusal::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", words),
    }
}

impl Call<'_> {
    /// Brings a manifest here, if it is not, or if its tag names another one by now.
    pub(super) async fn refresh(&self, repository: &str, target: &Target) -> Result<(), Refusal> {
        let Some(upstream) = &self.server.upstream else { return Ok(()) };
        let (name, wanted) = (repository.to_owned(), target.clone());
        let kept = self.server.blocking(move |store| manifests::find(store, &name, &wanted)).await?;
        if kept.is_some() && (matches!(target, Target::Digest(_)) || upstream.is_down()) {
            return Ok(());
        }
        let known = kept.as_ref().map(|kept| kept.digest.clone());
        match upstream.note(self.fetch_manifest(upstream, repository, target, known).await) {
            Ok(()) => Ok(()),
            Err(error) if kept.is_some() && is_passing(&error) => {
                tracing::warn!(repository, %error, "the other registry does not answer; serving what is here");
                Ok(())
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    async fn fetch_manifest(
        &self,
        upstream: &Upstream,
        repository: &str,
        target: &Target,
        known: Option<Digest>,
    ) -> Result<(), Error> {
        let remote = upstream.repository(repository).await?;
        if let Some(known) = known
            && remote.head(target.as_str()).await?.is_some_and(|found| found.digest == known)
        {
            return Ok(());
        }
        let resolved = remote.resolve(target.as_str()).await?;
        let descriptor = resolved.descriptor;
        let manifest = manifests::read(
            &resolved.document,
            &descriptor.media_type,
            descriptor.digest,
            resolved.bytes,
            false,
        );
        let (name, tag) = (
            repository.to_owned(),
            match target {
                Target::Tag(tag) => Some(tag.clone()),
                Target::Digest(_) => None,
            },
        );
        let put = move |store: &storage::Store| store.put_manifest(&name, &manifest, tag.as_deref());
        Ok(self.server.blocking(put).await?)
    }

    /// The tags of the other registry; `None` where it does not answer, or there is none.
    pub(super) async fn upstream_tags(&self, repository: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(upstream) = self.server.upstream.as_ref().filter(|upstream| !upstream.is_down()) else {
            return Ok(None);
        };
        let tags = match upstream.repository(repository).await {
            Ok(remote) => remote.tags().await,
            Err(error) => Err(error),
        };
        match upstream.note(tags) {
            Ok(mut tags) => {
                tags.sort();
                Ok(Some(tags))
            }
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Answers with a blob that is not here but at the other registry, where there is one.
    pub(super) async fn fetch_blob(&self, repository: String, digest: Digest) -> Answer {
        let unknown = || Refusal::blob_unknown(digest.as_str());
        let upstream = self.server.upstream.as_ref().ok_or_else(unknown)?;
        let (name, wanted) = (repository.clone(), digest.clone());
        let size = self
            .server
            .blocking(move |store| store.transaction(|tx| tx.promised(&name, &wanted)))
            .await?
            .ok_or_else(unknown)?;
        if self.method == hyper::Method::HEAD {
            return self.send(&digest, size, |_, _| body::empty());
        }
        let wanted = (repository, digest);
        let known = upstream.flights().get(&wanted).cloned();
        let flight = match known {
            Some(flight) => flight,
            None => self.take_off(upstream, &wanted, size).await?,
        };
        let (_, digest) = wanted;
        self.send(&digest, size, |start, length| flight.body(start, length))
    }

    async fn take_off(&self, upstream: &Upstream, wanted: &Wanted, size: u64) -> Result<Flight, Refusal> {
        let repository = wanted.0.clone();
        let remote = upstream.repository(&repository).await.map_err(|error| refusal(&error))?;
        let begin = move |store: &storage::Store| {
            let upload = store.begin_upload(&repository)?;
            let reader = upload.reader()?;
            Ok((upload, reader))
        };
        let (upload, reader) = self.server.blocking(begin).await?;
        let (sender, progress) = watch::channel(Progress::Bytes(0));
        let flight = Flight { file: Arc::new(reader), progress };
        let taken = {
            let mut flights = upstream.flights();
            let full = flights.len() >= FLIGHTS_MAX;
            match flights.get(wanted) {
                Some(other) => Some(Ok(other.clone())),
                None if full => {
                    let words = "too many blobs are being fetched";
                    Some(Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", words)))
                }
                None => {
                    flights.insert(wanted.clone(), flight.clone());
                    None
                }
            }
        };
        if let Some(taken) = taken {
            tokio::task::spawn_blocking(move || upload.cancel());
            return taken;
        }
        let landing = Landing { server: Arc::clone(self.server), wanted: wanted.clone() };
        tokio::spawn(async move {
            let digest = &landing.wanted.1;
            let end = match fetch(&remote, upload, digest, size, &sender).await {
                Ok(()) => Progress::Whole,
                Err(error) => {
                    tracing::warn!(%digest, error = crate::error::chain(&error), "cannot fetch a blob");
                    Progress::Failed
                }
            };
            sender.send_replace(end);
        });
        Ok(flight)
    }
}

/// Takes a flight off the list when it is over, however it ends.
struct Landing {
    server: Arc<Inner>,
    wanted: Wanted,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(upstream) = &self.server.upstream {
            upstream.flights().remove(&self.wanted);
        }
    }
}

async fn fetch(
    remote: &Repository,
    upload: Upload,
    digest: &Digest,
    size: u64,
    progress: &watch::Sender<Progress>,
) -> Result<(), Error> {
    let mut blob = remote.blob(&Descriptor::new("", digest.clone(), size), 0)?;
    let mut upload = upload;
    let mut gathered = Vec::new();
    loop {
        let chunk = match blob.chunk().await {
            Ok(chunk) => chunk,
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || upload.cancel()).await;
                return Err(error);
            }
        };
        let end = chunk.is_none();
        gathered.extend_from_slice(&chunk.unwrap_or_default());
        if end || gathered.len() >= GATHERED_BYTES {
            let pieces = std::mem::take(&mut gathered);
            let work = move || {
                let written = upload.write(&pieces);
                (upload, written)
            };
            let written;
            (upload, written) = tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)?;
            written?;
            progress.send_replace(Progress::Bytes(upload.offset().min(size.saturating_sub(1))));
        }
        if end {
            break;
        }
    }
    let wanted = digest.clone();
    let committed = tokio::task::spawn_blocking(move || upload.commit(&wanted)).await;
    committed.map_err(|_| Error::Cancelled)??;
    Ok(())
}

impl Flight {
    /// Bytes of the blob, as they come.
    fn body(self, start: u64, length: u64) -> Body {
        let end = start.saturating_add(length);
        let pieces = stream::try_unfold((self, start), move |(mut flight, at)| async move {
            if at >= end {
                return Ok(None);
            }
            let there = flight.wait(at, end).await?;
            let file = Arc::clone(&flight.file);
            let read = tokio::task::spawn_blocking(move || body::piece(&file, at, there - at));
            let piece = read.await.map_err(io::Error::other)??;
            let next = at + piece.len() as u64;
            Ok(Some((Frame::data(piece), (flight, next))))
        });
        StreamBody::new(pieces).boxed_unsync()
    }

    /// Waits until there are bytes after `at`; up to where.
    async fn wait(&mut self, at: u64, end: u64) -> io::Result<u64> {
        loop {
            let now = *self.progress.borrow_and_update();
            match now {
                Progress::Whole => return Ok(end),
                Progress::Bytes(there) if there > at => return Ok(there.min(end)),
                Progress::Bytes(_) => {}
                Progress::Failed => return Err(io::Error::other("the blob could not be fetched")),
            }
            self.progress.changed().await.map_err(io::Error::other)?;
        }
    }
}
