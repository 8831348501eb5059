//! Writing to a repository: blobs in one piece or in several, taken up again where a connection broke; manifests.
//!
//! ```text
//! small blob                     large blob
//! POST  blobs/uploads/           POST  blobs/uploads/                       202, Location
//! PUT   <location>?digest=…      PATCH <location>, Content-Range: 0-…       202, Location, Range: 0-…
//!                                  (broken)  GET <location>                 204, Range: 0-…: go on behind it
//!                                PUT   <location>?digest=…                  201
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use oci::{Digest, Reference};
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, Response};
use url::Url;

use super::endpoint::Endpoint;
use super::exchange::{self, Failure};
use super::{CONTENT_DIGEST, Client, Credentials, Repository, challenges, header, mismatch};
use crate::error::{Error, Result};

/// Bytes that are read from a file at a time.
const READ_BYTES: usize = 256 << 10;
/// After this much progress the number of tries starts anew, as for downloads.
const PROGRESS_BYTES: u64 = 1 << 20;
/// As many redirects of a request with a body are followed as of one without.
const REDIRECTS_MAX: usize = 10;
/// How often a blob is sent anew because the registry says that what arrived is something else.
const SPOILED_MAX: u32 = 1;
/// The header in which a registry says how small a piece may be.
const CHUNK_MIN: &str = "oci-chunk-min-length";

/// The bytes of a blob: a file, read piece by piece, as often as need be.
#[derive(Debug, Clone)]
pub struct Content {
    file: Arc<File>,
    /// Their digest.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
}

impl Content {
    /// These bytes are this file's.
    pub fn new(file: File, digest: Digest, size: u64) -> Self {
        Self { file: Arc::new(file), digest, size }
    }

    /// So many bytes from `offset` on as a body, counted by `tell`.
    fn body(&self, offset: u64, length: u64, tell: &Tell) -> reqwest::Body {
        let end = offset + length;
        let state = (self.file.clone(), offset, tell.clone());
        reqwest::Body::wrap_stream(futures_util::stream::try_unfold(
            state,
            move |(file, at, tell)| async move {
                let left = usize::try_from(end - at).unwrap_or(usize::MAX).min(READ_BYTES);
                if left == 0 {
                    return Ok(None);
                }
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; left];
                    file.read_exact_at(&mut piece, at).map(|()| (Bytes::from(piece), file))
                });
                let (piece, file) = read.await.map_err(std::io::Error::other)??;
                let at = at + piece.len() as u64;
                tell(at);
                Ok::<_, std::io::Error>(Some((piece, (file, at, tell))))
            },
        ))
    }
}

/// Is told how many bytes of a blob have been sent.
type Tell = Arc<dyn Fn(u64) + Send + Sync>;

/// An upload that a registry has begun.
#[derive(Debug, Clone)]
pub struct Session {
    at: Url,
    offset: u64,
    chunk_min: u64,
}

/// What came of asking for another repository's blob.
#[derive(Debug)]
pub enum Started {
    /// It is there now.
    Mounted,
    /// It has to be sent.
    Upload(Session),
}

/// What goes with a request.
enum Payload<'a> {
    Nothing,
    Bytes(&'a Bytes),
    Part(&'a Content, u64, u64, &'a Tell),
}

/// Why an upload does not go on.
enum Trouble {
    /// It may go on later, from where the registry says it is.
    Passing { error: Error, pause: Option<Duration> },
    /// It has to begin anew: the registry does not know it any more.
    Forgotten(Error),
    /// What has arrived is not what was sent.
    Spoiled(Error),
    /// It is over.
    Fatal(Error),
}

impl Client {
    /// The repository of a reference as one user writes to it: no mirror is asked.
    pub async fn push_repository(
        &self,
        reference: &Reference,
        credentials: Credentials,
    ) -> Result<Repository> {
        let mut repository = self.repository(reference, credentials).await?;
        repository.endpoints.retain(|endpoint| endpoint.capabilities.push && !endpoint.mirror);
        if repository.endpoints.is_empty() {
            return Err(Error::Option {
                option: format!("settings of registry {}", repository.host),
                why: "no place may be given images".into(),
            });
        }
        repository.writes = true;
        Ok(repository)
    }
}

impl Repository {
    /// The registry's host, as it is asked.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoints[self.chosen.load(Ordering::Relaxed).min(self.endpoints.len() - 1)]
    }

    /// Asks the endpoints in turn until one answers, whatever it answers. `more` is added to the scope.
    async fn reach(&self, more: &str, method: Method, path: &str) -> Result<Response> {
        let mut at = self.chosen.load(Ordering::Relaxed);
        loop {
            let endpoint = &self.endpoints[at];
            let scope = self.scope(endpoint) + more;
            match self.ask_for(&scope, endpoint, method.clone(), path, None).await {
                Ok(answer) => {
                    self.remember(at);
                    return Ok(answer);
                }
                Err(Error::Unreachable { .. }) if at + 1 < self.endpoints.len() => at += 1,
                Err(error) => return Err(denied(error)),
            }
        }
    }

    /// Whether a blob of this size is there.
    pub async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let path = format!("blobs/{digest}");
        self.has(&path, digest, Some(size)).await
    }

    /// Whether a manifest or index is there.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let path = format!("manifests/{digest}");
        self.has(&path, digest, None).await
    }

    async fn has(&self, path: &str, digest: &Digest, size: Option<u64>) -> Result<bool> {
        let answer = self.reach("", Method::HEAD, path).await?;
        if answer.status().is_success() {
            // What a registry calls by another digest or length is not what is wanted.
            let length = header(&answer, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
            let other = size.is_some_and(|size| length.is_some_and(|length: u64| length != size));
            let named = header(&answer, CONTENT_DIGEST).is_none_or(|named| named == digest.as_str());
            return Ok(named && !other);
        }
        match answer.status().as_u16() {
            404 => Ok(false),
            _ => Err(denied(self.translate(answer, &Method::HEAD, digest.as_str()).await)),
        }
    }

    /// Begins an upload.
    pub async fn begin(&self) -> Result<Session> {
        let answer = self.reach("", Method::POST, "blobs/uploads/").await?;
        self.begun(answer).await
    }

    /// Asks for a blob that another repository of this registry has. Where the registry does not know it there, or does
    /// not let us read there, an upload has begun.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Started> {
        let path = format!("blobs/uploads/?mount={digest}&from={from}");
        match self.reach(&format!(" repository:{from}:pull"), Method::POST, &path).await {
            Ok(answer) if answer.status().as_u16() == 201 => Ok(Started::Mounted),
            Ok(answer) if answer.status().as_u16() == 202 => self.begun(answer).await.map(Started::Upload),
            Err(error @ (Error::Unreachable { .. } | Error::Broken { .. })) => Err(error),
            // Whatever keeps us from reading there: writing here is another question.
            _ => self.begin().await.map(Started::Upload),
        }
    }

    /// Gives an upload up. The registry would find out by itself, later.
    pub async fn abandon(&self, session: Session) {
        let parcel = Parcel { method: Method::DELETE, url: session.at, headers: HeaderMap::new() };
        let _ =
            tokio::time::timeout(self.client.limits().pause_max, self.carry(&parcel, Payload::Nothing)).await;
    }

    async fn begun(&self, answer: Response) -> Result<Session> {
        if answer.status().as_u16() != 202 {
            return Err(denied(self.translate(answer, &Method::POST, "").await));
        }
        let at = self.location(&answer)?.ok_or_else(|| Error::Protocol {
            host: self.endpoint().host().to_owned(),
            what: "an upload without a location".into(),
        })?;
        let chunk_min = header(&answer, CHUNK_MIN).and_then(|length| length.parse().ok()).unwrap_or(0);
        Ok(Session { at, offset: 0, chunk_min })
    }

    /// Where an upload goes on, relative to what was asked.
    fn location(&self, answer: &Response) -> Result<Option<Url>> {
        let Some(location) = answer.headers().get(LOCATION) else { return Ok(None) };
        let wrong = |what: String| Error::Protocol { host: self.endpoint().host().to_owned(), what };
        let url = location.to_str().ok().and_then(|text| answer.url().join(text).ok());
        let url = url.ok_or_else(|| wrong("the upload's location is no URL".into()))?;
        match url.scheme() {
            "https" => Ok(Some(url)),
            "http" if self.endpoint().is_plain() => Ok(Some(url)),
            other => Err(wrong(format!("refusing to upload to a location over {other}"))),
        }
    }

    /// Sends a blob, in the upload that has begun or in one of its own. `tell` hears how many bytes were sent.
    pub async fn upload(
        &self,
        content: &Content,
        mut session: Option<Session>,
        tell: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<()> {
        let limits = self.client.limits();
        let (mut tries, mut marked, mut spoiled) = (0, 0, 0);
        loop {
            let trouble = match self.advance(content, &mut session, &tell).await {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            let offset = session.as_ref().map_or(0, |session| session.offset);
            if offset.saturating_sub(marked) >= PROGRESS_BYTES {
                (marked, tries) = (offset, 0);
            }
            tries += 1;
            let (error, pause) = match trouble {
                Trouble::Spoiled(error) if spoiled < SPOILED_MAX => {
                    spoiled += 1;
                    session = None;
                    (error, None)
                }
                Trouble::Fatal(error) | Trouble::Spoiled(error) => {
                    if let Some(session) = session {
                        self.abandon(session).await;
                    }
                    return Err(denied(error));
                }
                Trouble::Forgotten(error) => {
                    session = None;
                    (error, None)
                }
                Trouble::Passing { error, pause } => (error, pause),
            };
            if tries >= limits.tries_max {
                return Err(denied(tried(error, tries)));
            }
            tracing::info!(digest = %content.digest, offset, %error, "resuming an upload");
            tokio::time::sleep(pause.unwrap_or_else(|| exchange::pause_after(limits, tries))).await;
            // The answer may be what was lost.
            if self.has_blob(&content.digest, content.size).await.unwrap_or(false) {
                return Ok(());
            }
            if let Some(known) = session.take() {
                session = self.state(known, content.size).await;
            }
        }
    }

    /// Where the registry is with an upload; none if it does not say.
    async fn state(&self, session: Session, size: u64) -> Option<Session> {
        if session.offset == 0 && size <= self.client.limits().monolith_bytes_max {
            return None;
        }
        let parcel = Parcel { method: Method::GET, url: session.at.clone(), headers: HeaderMap::new() };
        let answer = self.carry(&parcel, Payload::Nothing).await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        // `0-0` is what some say of nothing, and all of one byte: not worth finding out.
        let offset = taken(&answer).filter(|offset| *offset > 1 && *offset <= size)?;
        let at = self.location(&answer).ok()?.unwrap_or(session.at);
        Some(Session { at, offset, chunk_min: session.chunk_min })
    }

    /// Sends what is left, as far as it goes.
    async fn advance(
        &self,
        content: &Content,
        session: &mut Option<Session>,
        tell: &Tell,
    ) -> std::result::Result<(), Trouble> {
        let session = match session {
            Some(session) => session,
            None => session.insert(self.begin().await.map_err(|error| match error {
                // It answered a moment ago.
                error @ Error::Unreachable { .. } => Trouble::Passing { error, pause: None },
                other => Trouble::Fatal(other),
            })?),
        };
        tell(session.offset);
        if session.offset == 0 && content.size <= self.client.limits().monolith_bytes_max {
            return self.finish(content, session, Payload::Part(content, 0, content.size, tell)).await;
        }
        while session.offset < content.size {
            self.patch(content, session, tell).await?;
        }
        self.finish(content, session, Payload::Nothing).await
    }

    /// Sends one piece.
    async fn patch(
        &self,
        content: &Content,
        session: &mut Session,
        tell: &Tell,
    ) -> std::result::Result<(), Trouble> {
        let length =
            self.client.limits().chunk_bytes.max(session.chunk_min).min(content.size - session.offset);
        let end = session.offset + length;
        let mut headers = octets();
        let range = format!("{}-{}", session.offset, end - 1);
        headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).map_err(|_| unsendable())?);
        let parcel = Parcel { method: Method::PATCH, url: session.at.clone(), headers };
        let answer = self.carry(&parcel, Payload::Part(content, session.offset, length, tell)).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer, &Method::PATCH).await);
        }
        if let Some(at) = self.location(&answer).map_err(Trouble::Fatal)? {
            session.at = at;
        }
        // A registry may take less than it was sent.
        let taken = taken(&answer).unwrap_or(end);
        if taken <= session.offset || taken > end {
            let what = format!("after bytes {range} of an upload it has {taken}");
            return Err(Trouble::Forgotten(Error::Protocol {
                host: self.endpoint().host().to_owned(),
                what,
            }));
        }
        session.offset = taken;
        Ok(())
    }

    /// Ends an upload: the registry compares the digest.
    async fn finish(
        &self,
        content: &Content,
        session: &Session,
        payload: Payload<'_>,
    ) -> std::result::Result<(), Trouble> {
        let mut url = session.at.clone();
        url.query_pairs_mut().append_pair("digest", content.digest.as_str());
        let parcel = Parcel { method: Method::PUT, url, headers: octets() };
        let answer = self.carry(&parcel, payload).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer, &Method::PUT).await);
        }
        same_digest(&answer, "blob", &content.digest).map_err(Trouble::Fatal)
    }

    /// What a status other than success means for an upload.
    async fn refused(&self, answer: Response, method: &Method) -> Trouble {
        let status = answer.status().as_u16();
        let error = self.translate(answer, method, "").await;
        let detail = error.to_string();
        match status {
            // The upload has been forgotten, or is elsewhere than we think.
            404 | 416 => Trouble::Forgotten(error),
            400 if detail.contains("digest") || detail.contains("blob upload invalid") => {
                Trouble::Spoiled(error)
            }
            _ => Trouble::Fatal(error),
        }
    }

    /// Puts a manifest or an index under a tag, or under its digest.
    pub async fn put_manifest(
        &self,
        target: &str,
        media_type: &str,
        bytes: &Bytes,
        digest: &Digest,
    ) -> Result<()> {
        let limits = self.client.limits();
        let path = format!("manifests/{target}");
        if self.endpoints.len() > 1 && !self.reached.load(Ordering::Relaxed) {
            // Where and how it is to be spoken to is found out by a question.
            self.reach("", Method::HEAD, &path).await?;
        }
        let url = self.endpoint().url(&path);
        let kind = HeaderValue::from_str(media_type).map_err(|_| Error::Option {
            option: format!("media type {media_type:?}"),
            why: "it cannot be sent".into(),
        })?;
        let parcel =
            Parcel { method: Method::PUT, url, headers: HeaderMap::from_iter([(CONTENT_TYPE, kind)]) };
        let mut tries = 0;
        loop {
            let (error, pause) = match self.carry(&parcel, Payload::Bytes(bytes)).await {
                Ok(answer) if answer.status().is_success() => {
                    return same_digest(&answer, "manifest", digest);
                }
                Ok(answer) => return Err(denied(self.translate(answer, &Method::PUT, target).await)),
                Err(Trouble::Passing { error, pause }) => (error, pause),
                Err(Trouble::Forgotten(error) | Trouble::Fatal(error) | Trouble::Spoiled(error)) => {
                    return Err(denied(error));
                }
            };
            tries += 1;
            if tries >= limits.tries_max {
                return Err(denied(tried(error, tries)));
            }
            tokio::time::sleep(pause.unwrap_or_else(|| exchange::pause_after(limits, tries))).await;
        }
    }

    /// Sends a request with what goes with it, once: shows who we are where that is asked, follows redirects.
    async fn carry(&self, parcel: &Parcel, payload: Payload<'_>) -> std::result::Result<Response, Trouble> {
        let endpoint = self.endpoint();
        let key = (endpoint.base.to_string(), self.scope(endpoint), self.credentials.clone());
        let grants = &self.client.inner.grants;
        let (mut url, mut answered) = (parcel.url.clone(), false);
        for _ in 0..=REDIRECTS_MAX {
            // Who we are is for the registry alone, not for where it keeps its blobs.
            let grant = same_origin(&url, &endpoint.base).then(|| grants.get(&key)).flatten();
            let mut headers = HeaderMap::new();
            if same_origin(&url, &endpoint.base) {
                headers.clone_from(&endpoint.headers);
            }
            headers.extend(parcel.headers.clone());
            if let Some(grant) = &grant {
                headers.insert(AUTHORIZATION, grant.clone());
            }
            let body = payload.body(&mut headers);
            let call = endpoint.http.request(parcel.method.clone(), url.clone()).headers(headers).body(body);
            let mut answer = call.send().await.map_err(|error| {
                let failure = Failure::of(&error, &url);
                if failure.settled {
                    return Trouble::Fatal(failure.into_error(&parcel.method, &url, 1));
                }
                let failure = Failure { transient: true, ..failure };
                Trouble::Passing { error: failure.into_error(&parcel.method, &url, 1), pause: None }
            })?;
            match answer.status().as_u16() {
                301 | 302 | 307 | 308 if answer.headers().contains_key(LOCATION) => {
                    url = self.location(&answer).map_err(Trouble::Fatal)?.unwrap_or(url);
                }
                401 => {
                    if let Some(grant) = &grant {
                        grants.refused(&key, grant);
                    }
                    let challenges = challenges(&answer);
                    let said = exchange::complaint(&mut answer).await;
                    let mut shown = grant.is_some();
                    if !answered && same_origin(&url, &endpoint.base) {
                        // Tokens expire in the middle of long uploads.
                        answered = true;
                        let grant = grants.answer(endpoint, key.clone(), &challenges).await;
                        if grant.map_err(Trouble::Fatal)?.is_some() {
                            continue;
                        }
                        shown = false;
                    }
                    let request = exchange::Request {
                        method: parcel.method.clone(),
                        url,
                        headers: HeaderMap::new(),
                        body: None,
                    };
                    return Err(Trouble::Fatal(self.refusal(&request, &challenges, &said, shown)));
                }
                _ if exchange::passing(answer.status()) => {
                    let pause = exchange::retry_after(&answer);
                    let error = self.translate(answer, &parcel.method, "").await;
                    // Nobody waits here for hours.
                    return Err(match pause.is_some_and(|pause| pause > endpoint.limits.retry_after_max) {
                        true => Trouble::Fatal(error),
                        false => Trouble::Passing { error, pause },
                    });
                }
                _ => return Ok(answer),
            }
        }
        let failure = Failure::fatal(&format!("stopped after {REDIRECTS_MAX} redirects"));
        Err(Trouble::Fatal(failure.into_error(&parcel.method, &parcel.url, 1)))
    }
}

/// A request, without what goes with it.
struct Parcel {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

impl Payload<'_> {
    fn body(&self, headers: &mut HeaderMap) -> reqwest::Body {
        let (length, body) = match self {
            Self::Nothing => (0, reqwest::Body::from(Bytes::new())),
            Self::Bytes(bytes) => (bytes.len() as u64, reqwest::Body::from((*bytes).clone())),
            Self::Part(content, offset, length, tell) => (*length, content.body(*offset, *length, tell)),
        };
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        body
    }
}

fn octets() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))])
}

fn unsendable() -> Trouble {
    Trouble::Fatal(Error::Option { option: "range".into(), why: "it cannot be sent".into() })
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// What is said in the end of what was tried so often.
fn tried(error: Error, tries: u32) -> Error {
    match error {
        Error::Broken { method, url, detail, .. } => Error::Broken { method, url, tries, detail },
        other => other,
    }
}

/// How many bytes a registry says it has: `Range: 0-<last>`, with or without a unit.
fn taken(answer: &Response) -> Option<u64> {
    let range = header(answer, RANGE.as_str())?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.trim().parse().ok()?;
    last.checked_add(1)
}

fn same_digest(answer: &Response, what: &str, digest: &Digest) -> Result<()> {
    match header(answer, CONTENT_DIGEST) {
        Some(named) if named != digest.as_str() && Digest::parse(&named).is_ok() => {
            Err(mismatch(&format!("{what} at the registry"), digest.as_str(), &exchange::plain(&named)))
        }
        _ => Ok(()),
    }
}

/// Access that is denied to one who writes.
fn denied(error: Error) -> Error {
    match error {
        Error::AccessDenied { repository, detail } => Error::PushDenied { repository, detail },
        other => other,
    }
}
