//! Uploads: begun, gone on with, ended, given up; and blobs mounted from one repository into another without any.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE};
use hyper::{Response, StatusCode};
use oci::Digest;
use storage::Upload;
use tokio::task::JoinHandle;

use super::access::{Action, Identity};
use super::blobs::digest;
use super::body::{self, Body, Payload};
use super::range;
use super::refusal::Refusal;
use super::{Answer, CONTENT_DIGEST, Call, Query, route};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Bytes that are gathered before they are written: the network's pieces are small. While they are, as many more come in.
const GATHERED_BYTES: usize = 1 << 20;
/// Uploads that are kept open between two requests; others are hashed once more at their end.
const IDLE_MAX: usize = 128;
/// How long they are.
const IDLE_TIME: Duration = Duration::from_secs(10 * 60);
/// Repositories that are looked at for a blob which may be mounted from anywhere.
const MOUNT_SOURCES_MAX: usize = 64;

/// An upload between two requests.
pub struct Idle {
    upload: Upload,
    since: Instant,
}

impl super::Inner {
    /// Closes uploads that nobody goes on with; their bytes stay.
    pub(super) fn close_idle(&self) {
        self.idle().retain(|_, idle| idle.since.elapsed() < IDLE_TIME);
    }

    fn rest(&self, upload: Upload) {
        // There is nothing to remember of it, and kept open it could not make room for others.
        if upload.offset() == 0 {
            return;
        }
        let mut idle = self.idle();
        if idle.len() >= IDLE_MAX {
            let oldest = idle.iter().min_by_key(|(_, idle)| idle.since).map(|(id, _)| id.clone());
            oldest.and_then(|id| idle.remove(&id));
        }
        idle.insert(upload.id().to_owned(), Idle { upload, since: Instant::now() });
    }

    async fn resume(&self, repository: String, id: &str) -> Result<Upload, Refusal> {
        let idle = self.idle().remove(id);
        if let Some(Idle { upload, since }) = idle {
            if upload.repository() == repository {
                return Ok(upload);
            }
            self.idle().insert(id.to_owned(), Idle { upload, since });
            return Err(Refusal::upload_unknown());
        }
        let id = id.to_owned();
        self.blocking(move |store| store.resume_upload(&repository, &id)).await.map_err(unknown)
    }
}

fn unknown(error: storage::Error) -> Refusal {
    if error.is_not_found() { Refusal::upload_unknown() } else { error.into() }
}

impl Call<'_> {
    pub(super) async fn begin(
        &self,
        repository: String,
        query: &Query,
        payload: &mut Payload,
        identity: &Identity,
    ) -> Answer {
        if let Some(mount) = query.get("mount") {
            let mount = digest(mount)?;
            if let Some(from) = query.get("from")
                && !route::is_name(from)
            {
                return Err(Refusal::bad("NAME_INVALID", "invalid repository name"));
            }
            if self.mount(&repository, &mount, query.get("from"), identity).await? {
                return Ok(created(&repository, &mount));
            }
        }
        let wanted = query.get("digest").map(digest).transpose()?;
        let begun = {
            let repository = repository.clone();
            self.server.blocking(move |store| store.begin_upload(&repository)).await?
        };
        let Some(wanted) = wanted else {
            let response = status(StatusCode::ACCEPTED, &begun);
            self.server.rest(begun);
            return Ok(response);
        };
        let (upload, received) = receive(begun, payload, None).await?;
        if let Err(refusal) = received {
            // Its id was told to nobody.
            tokio::task::spawn_blocking(move || upload.cancel());
            return Err(refusal);
        }
        commit(upload, wanted).await
    }

    /// Mounts a blob, if there is a repository to mount it from that the client may read.
    async fn mount(
        &self,
        repository: &str,
        digest: &Digest,
        from: Option<&str>,
        identity: &Identity,
    ) -> Result<bool, Refusal> {
        let sources = match from {
            Some(from) => vec![from.to_owned()],
            None => {
                let digest = digest.clone();
                let work = move |store: &storage::Store| {
                    store.transaction(|tx| tx.repositories_with(&digest, MOUNT_SOURCES_MAX))
                };
                self.server.blocking(work).await?
            }
        };
        let readable: Vec<String> =
            sources.into_iter().filter(|source| identity.may(source, Action::Pull)).collect();
        let (repository, digest) = (repository.to_owned(), digest.clone());
        let work = move |store: &storage::Store| {
            store.transaction(|tx| {
                for source in &readable {
                    if tx.repository_blob(source, &digest)?.is_some() {
                        tx.link_blob(&repository, &digest)?;
                        return Ok(true);
                    }
                }
                Ok(false)
            })
        };
        Ok(self.server.blocking(work).await?)
    }

    pub(super) async fn progress(&self, repository: String, id: &str) -> Answer {
        let id_text = id.to_owned();
        let name = repository.clone();
        let size =
            self.server.blocking(move |store| store.upload_size(&name, &id_text)).await.map_err(unknown)?;
        Ok(status_of(StatusCode::NO_CONTENT, &repository, id, size))
    }

    pub(super) async fn append(&self, repository: String, id: &str, payload: &mut Payload) -> Answer {
        let upload = self.server.resume(repository, id).await?;
        let expected = match self.check_range(&upload) {
            Ok(expected) => expected,
            Err(refusal) => {
                self.server.rest(upload);
                return Err(refusal);
            }
        };
        let (upload, received) = receive(upload, payload, expected).await?;
        let response = status(StatusCode::ACCEPTED, &upload);
        self.server.rest(upload);
        received.map(|()| response)
    }

    pub(super) async fn finish(
        &self,
        repository: String,
        id: &str,
        query: &Query,
        payload: &mut Payload,
    ) -> Answer {
        let wanted = digest(query.get("digest").unwrap_or(""))?;
        let upload = self.server.resume(repository, id).await?;
        let expected = match self.check_range(&upload) {
            Ok(expected) => expected,
            Err(refusal) => {
                self.server.rest(upload);
                return Err(refusal);
            }
        };
        let (upload, received) = receive(upload, payload, expected).await?;
        if let Err(refusal) = received {
            self.server.rest(upload);
            return Err(refusal);
        }
        commit(upload, wanted).await
    }

    pub(super) async fn cancel(&self, repository: String, id: &str) -> Answer {
        let upload = self.server.resume(repository, id).await?;
        tokio::task::spawn_blocking(move || upload.cancel()).await.map_err(ended)??;
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// How many bytes are to come, where the client says where they belong; which has to be the end.
    fn check_range(&self, upload: &Upload) -> Result<Option<u64>, Refusal> {
        let Some(header) = self.header(CONTENT_RANGE) else { return Ok(None) };
        let wrong = |words: &str| {
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", words);
            let refusal = refusal.with(LOCATION, &location(upload.repository(), upload.id()));
            refusal.with(RANGE, &reached(upload.offset())).with(UPLOAD_ID, upload.id())
        };
        let Some((first, last)) = range::sent(header) else {
            return Err(wrong("the content range is malformed"));
        };
        if first != upload.offset() {
            return Err(wrong("the piece does not begin where the upload ends"));
        }
        let length = (last - first).saturating_add(1);
        let declared = self.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if declared.is_some_and(|declared| declared != length) {
            return Err(wrong("the piece is not as long as its content range"));
        }
        Ok(Some(length))
    }
}

/// Takes what a request carries. The upload comes back also where that fails, with what did come.
async fn receive(
    upload: Upload,
    payload: &mut Payload,
    expected: Option<u64>,
) -> Result<(Upload, Result<(), Refusal>), Refusal> {
    let mut writer = Writer::Ready(upload);
    let mut gathered = Vec::new();
    let mut size = 0;
    let before = payload.received();
    let received = loop {
        let bytes = match payload.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break Ok(()),
            Err(refusal) => break Err(refusal),
        };
        if expected.is_some_and(|expected| payload.received() - before > expected) {
            break Err(Refusal::bad("SIZE_INVALID", "more bytes came than the content range has"));
        }
        size += bytes.len();
        gathered.push(bytes);
        if size >= GATHERED_BYTES {
            size = 0;
            writer = match writer.write(std::mem::take(&mut gathered)).await? {
                (writer, None) => writer,
                (writer, Some(refusal)) => return Ok((writer.end().await?.0, Err(refusal))),
            };
        }
    };
    let (writer, failed) = writer.write(gathered).await?;
    let (upload, last) = writer.end().await?;
    let came = payload.received() - before;
    let short = expected.filter(|expected| received.is_ok() && came < *expected);
    let short = short.map(|_| Refusal::bad("SIZE_INVALID", "fewer bytes came than the content range has"));
    match failed.or(last).or(short) {
        Some(refusal) => Ok((upload, Err(refusal))),
        None => Ok((upload, received)),
    }
}

/// An upload, here or on a thread that writes to it.
enum Writer {
    Ready(Upload),
    Writing(JoinHandle<(Upload, storage::Result<()>)>),
}

impl Writer {
    /// Waits for the pieces before, and begins to write these. Also says how writing the ones before has failed: then these
    /// are not written.
    async fn write(self, pieces: Vec<Bytes>) -> Result<(Self, Option<Refusal>), Refusal> {
        let (mut upload, failed) = self.end().await?;
        if failed.is_some() {
            return Ok((Self::Ready(upload), failed));
        }
        let work = move || {
            let written = pieces.iter().try_for_each(|piece| upload.write(piece));
            (upload, written)
        };
        Ok((Self::Writing(tokio::task::spawn_blocking(work)), None))
    }

    async fn end(self) -> Result<(Upload, Option<Refusal>), Refusal> {
        match self {
            Self::Ready(upload) => Ok((upload, None)),
            Self::Writing(thread) => {
                let (upload, written) = thread.await.map_err(ended)?;
                Ok((upload, written.err().map(Refusal::from)))
            }
        }
    }
}

fn ended(_: tokio::task::JoinError) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN", "the registry is ending")
}

async fn commit(upload: Upload, digest: Digest) -> Answer {
    let repository = upload.repository().to_owned();
    let wanted = digest.clone();
    let committed = tokio::task::spawn_blocking(move || upload.commit(&wanted)).await.map_err(ended)?;
    match committed {
        Ok(_) => Ok(created(&repository, &digest)),
        Err(storage::Error::DigestMismatch { expected, actual }) => {
            let words = "provided digest did not match uploaded content";
            let detail = serde_json::json!({ "digest": expected.as_str(), "content": actual.as_str() });
            Err(Refusal::digest_invalid(words).about(detail))
        }
        Err(error) => Err(error.into()),
    }
}

fn location(repository: &str, id: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// `0-<last byte>`; with nothing there the same as with one byte, as everywhere.
fn reached(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn status(status: StatusCode, upload: &Upload) -> Response<Body> {
    status_of(status, upload.repository(), upload.id(), upload.offset())
}

fn status_of(status: StatusCode, repository: &str, id: &str, size: u64) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    for (name, value) in
        [(LOCATION, location(repository, id)), (RANGE, reached(size)), (UPLOAD_ID, id.to_owned())]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

fn created(repository: &str, digest: &Digest) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    let location = format!("/v2/{repository}/blobs/{digest}");
    for (name, value) in [(LOCATION, location.as_str()), (CONTENT_DIGEST, digest.as_str())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}
