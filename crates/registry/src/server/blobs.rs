//! Blobs: read, and taken from a repository.

use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use hyper::{Method, Response, StatusCode};
use oci::Digest;
use serde_json::json;

use super::body::{self, Body};
use super::range::{self, Wanted};
use super::refusal::Refusal;
use super::{Answer, CONTENT_DIGEST, Call};

/// What has a digest for its name does not change.
const FOR_EVER: &str = "max-age=31536000";

/// Reads a digest that a client names.
pub fn digest(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text)
        .map_err(|error| Refusal::digest_invalid(error.to_string()).about(json!({ "digest": text })))
}

/// Whether a header of validators (RFC 9110, 13.1) names this digest.
pub fn matches(header: Option<&str>, digest: &Digest) -> bool {
    header.is_some_and(|header| {
        header
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'))
            .any(|tag| tag == "*" || tag == digest.as_str())
    })
}

/// The headers of content that is called by its digest.
pub fn name(response: &mut Response<Body>, digest: &Digest) {
    let headers = response.headers_mut();
    if let (Ok(plain), Ok(quoted)) =
        (HeaderValue::from_str(digest.as_str()), HeaderValue::from_str(&format!("\"{digest}\"")))
    {
        headers.insert(CONTENT_DIGEST, plain);
        headers.insert(ETAG, quoted);
    }
}

/// 304.
pub fn unchanged(digest: &Digest) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    name(&mut response, digest);
    response
}

impl Call<'_> {
    pub(super) async fn get_blob(&self, repository: String, digest_text: &str) -> Answer {
        let digest = digest(digest_text)?;
        let Some(size) = self.blob_size(&repository, &digest).await? else {
            return self.fetch_blob(repository, digest).await;
        };
        if matches(self.header(IF_NONE_MATCH), &digest) {
            return Ok(unchanged(&digest));
        }
        let wanted = digest.clone();
        let opened = self.server.blocking(move |store| store.open_blob(&wanted)).await;
        let file = match opened {
            Err(storage::Error::NotFound { .. }) => return Err(Refusal::blob_unknown(digest.as_str())),
            other => other?,
        };
        self.send(&digest, size, |start, length| body::file(file, start, length))
    }

    /// Answers with a blob, or the part of it that was asked for.
    pub(super) fn send(&self, digest: &Digest, size: u64, content: impl FnOnce(u64, u64) -> Body) -> Answer {
        let ranged = self.header(IF_RANGE).is_none_or(|tag| matches(Some(tag), digest));
        let (status, first, length) = match range::wanted(self.header(RANGE).filter(|_| ranged), size) {
            Wanted::All => (StatusCode::OK, 0, size),
            Wanted::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            Wanted::Nothing => {
                return Err(Refusal::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "SIZE_INVALID",
                    "the blob does not have these bytes",
                )
                .with(CONTENT_RANGE, &format!("bytes */{size}")));
            }
        };
        let body = if self.method == Method::HEAD { body::empty() } else { content(first, length) };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        name(&mut response, digest);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(FOR_EVER));
        if status == StatusCode::PARTIAL_CONTENT
            && let Ok(range) = HeaderValue::from_str(&format!("bytes {first}-{}/{size}", first + length - 1))
        {
            headers.insert(CONTENT_RANGE, range);
        }
        Ok(response)
    }

    async fn blob_size(&self, repository: &str, digest: &Digest) -> Result<Option<u64>, Refusal> {
        let (repository, digest) = (repository.to_owned(), digest.clone());
        // Who asks only whether it is here will not send it.
        let counts_on_it = self.method == Method::HEAD && !self.server.options.read_only;
        let size = self
            .server
            .blocking(move |store| {
                let size = store.transaction(|tx| tx.repository_blob_size(&repository, &digest))?;
                if size.is_some()
                    && counts_on_it
                    && let Err(error) = store.transaction(|tx| tx.repository_blob(&repository, &digest))
                {
                    tracing::debug!(%error, "cannot remember that a blob was asked for");
                }
                Ok(size)
            })
            .await?;
        Ok(size)
    }

    pub(super) async fn delete_blob(&self, repository: String, digest_text: &str) -> Answer {
        let digest = digest(digest_text)?;
        let unlinked = {
            let digest = digest.clone();
            let work = move |store: &storage::Store| {
                store.durable_transaction(|tx| {
                    if let Some(manifest) = tx.needed_by(&repository, &digest)? {
                        return Ok(Err(manifest));
                    }
                    Ok(Ok(tx.unlink_blob(&repository, &digest)?))
                })
            };
            self.server.blocking(work).await?
        };
        match unlinked {
            Err(manifest) => {
                Err(Refusal::unsupported("a manifest of the repository needs this blob: delete that first")
                    .about(json!({ "manifest": manifest })))
            }
            Ok(false) => Err(Refusal::blob_unknown(digest.as_str())),
            Ok(true) => {
                self.server.deleted.notify_one();
                Ok(accepted())
            }
        }
    }
}

/// 202 with nothing to say.
pub fn accepted() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    response
}
