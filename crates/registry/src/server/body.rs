//! Bodies of requests and responses. Neither is ever held whole, except documents, which are small.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::refusal::Refusal;

/// What a response carries.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// How much of a file is read at a time; twice this is what one download holds.
const PIECE_BYTES: u64 = 256 * 1024;
/// A client that sends less than this in [`super::Options::pace`] is not sending.
const PACE_BYTES: u64 = 64 * 1024;
/// How much of a refused request is read on, so that the client comes to read why.
const DRAIN_BYTES: u64 = 4 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Nothing.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A document.
pub fn json(status: StatusCode, document: Vec<u8>) -> Response<Body> {
    document_of("application/json; charset=utf-8", status, document)
}

/// A document of some type; where the type is none, it is left out.
pub fn document_of(media_type: &str, status: StatusCode, document: Vec<u8>) -> Response<Body> {
    let length = document.len();
    let body = Full::new(Bytes::from(document)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(media_type) = HeaderValue::from_str(media_type) {
        response.headers_mut().insert(CONTENT_TYPE, media_type);
    }
    response
}

/// `length` bytes of a file from `start` on. The next piece is read while the client takes the one before.
pub fn file(file: File, start: u64, length: u64) -> Body {
    let file = Arc::new(file);
    let end = start.saturating_add(length);
    let first = read_piece(&file, start, end);
    let pieces = stream::try_unfold((first, start), move |(reading, at)| {
        let file = Arc::clone(&file);
        async move {
            let Some(reading) = reading else { return Ok(None) };
            let piece = reading.await.map_err(io::Error::other)??;
            let at = at + piece.len() as u64;
            Ok(Some((Frame::data(piece), (read_piece(&file, at, end), at))))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn read_piece(file: &Arc<File>, at: u64, end: u64) -> Option<JoinHandle<io::Result<Bytes>>> {
    let length = end.saturating_sub(at).min(PIECE_BYTES);
    let file = Arc::clone(file);
    (length > 0).then(|| tokio::task::spawn_blocking(move || piece(&file, at, length)))
}

/// Bytes of a file that has them.
pub fn piece(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(length.min(PIECE_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut buffer, at)?;
    Ok(Bytes::from(buffer))
}

/// What a request carries.
pub struct Payload {
    body: Incoming,
    received: u64,
    pace_time: Duration,
    /// How long may still be waited for the next [`PACE_BYTES`], and what was there before them.
    pace: Option<(Duration, u64)>,
}

impl Payload {
    pub fn new(body: Incoming, pace_time: Duration) -> Self {
        Self { body, received: 0, pace_time, pace: None }
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let (left, marked) = self.pace.unwrap_or((self.pace_time, self.received));
            let began = Instant::now();
            let frame = tokio::time::timeout(left, self.body.frame()).await;
            // Only waiting for the client counts, not for our own disk.
            self.pace = Some((left.saturating_sub(began.elapsed()), marked));
            let frame = match frame {
                Err(_) => {
                    let words = "the client sends too slowly";
                    return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", words));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "a request broke off");
                    return Err(Refusal::bad("BLOB_UPLOAD_INVALID", "the request broke off"));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            self.received += bytes.len() as u64;
            if self.received - marked >= PACE_BYTES {
                self.pace = None;
            }
            return Ok(Some(bytes));
        }
    }

    /// All of it, if it is not too long.
    pub async fn whole(&mut self, bytes_max: u64) -> Result<Option<Vec<u8>>, Refusal> {
        if self.body.size_hint().lower() > bytes_max {
            return Ok(None);
        }
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if (whole.len() + bytes.len()) as u64 > bytes_max {
                return Ok(None);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(Some(whole))
    }

    /// Passes over what is left, if that is not much.
    pub async fn drain(&mut self) {
        if self.body.is_end_stream() || self.body.size_hint().lower() > DRAIN_BYTES {
            return;
        }
        let end = self.received.saturating_add(DRAIN_BYTES);
        let _ = tokio::time::timeout(DRAIN_TIME, async {
            while self.received < end && matches!(self.next().await, Ok(Some(_))) {}
        })
        .await;
    }
}
