//! The bytes of a blob, through broken connections.

use bytes::Bytes;
use oci::image::Descriptor;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response};

use super::{Repository, exchange, header, mismatch};
use crate::error::{Error, Result};

/// After this much progress the number of tries starts anew: a long download over a bad line is not given up, while
/// a server that sends a byte per connection is.
const PROGRESS_BYTES: u64 = 1 << 20;

/// The bytes of a blob from an offset on, as they come. Broken connections are taken up again where they broke.
/// Length is checked here; the digest is the reader's to check, as it sees all the bytes.
pub struct Blob<'a> {
    repository: &'a Repository,
    descriptor: Descriptor,
    offset: u64,
    answer: Option<Response>,
    /// Bytes of the present answer that are not wanted: a server that ignores `Range` starts from the beginning.
    skip: u64,
    /// Tries since `marked`.
    tries: u32,
    marked: u64,
}

impl<'a> Blob<'a> {
    pub(super) fn new(repository: &'a Repository, descriptor: Descriptor, offset: u64) -> Self {
        Self { repository, descriptor, offset, answer: None, skip: 0, tries: 0, marked: offset }
    }

    /// How many bytes have been given out, the offset at the start included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; `None` when there were as many as the descriptor says.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.offset >= self.descriptor.size {
                self.answer = None;
                return Ok(None);
            }
            let mut answer = match self.answer.take() {
                Some(answer) => answer,
                None => self.open().await?,
            };
            match answer.chunk().await {
                Ok(Some(mut bytes)) => {
                    self.answer = Some(answer);
                    let skipped = self.skip.min(bytes.len() as u64);
                    self.skip -= skipped;
                    let _ = bytes.split_to(usize::try_from(skipped).unwrap_or(bytes.len()));
                    if bytes.is_empty() {
                        continue;
                    }
                    if bytes.len() as u64 > self.descriptor.size - self.offset {
                        return Err(self.wrong_size("more"));
                    }
                    self.offset += bytes.len() as u64;
                    if self.offset - self.marked >= PROGRESS_BYTES {
                        (self.marked, self.tries) = (self.offset, 0);
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) => self.broken(&answer, "unexpected EOF".into()).await?,
                Err(error) => {
                    let words = exchange::Failure::of(&error, answer.url()).words;
                    self.broken(&answer, words).await?;
                }
            }
        }
    }

    /// Counts a broken connection, and waits before the next.
    async fn broken(&mut self, answer: &Response, detail: String) -> Result<()> {
        let limits = self.repository.client.limits();
        self.tries += 1;
        if self.tries >= limits.tries_max {
            let url = exchange::shown(answer.url());
            return Err(Error::Broken { method: "Get", url, tries: self.tries, detail });
        }
        tracing::info!(digest = %self.descriptor.digest, offset = self.offset, detail, "resuming a download");
        tokio::time::sleep(exchange::pause_after(limits, self.tries)).await;
        Ok(())
    }

    async fn open(&mut self) -> Result<Response> {
        loop {
            let error = match self.request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // In the middle of a download a registry that is gone may be restarting.
            let passing = matches!(error, Error::Unreachable { .. }) && self.offset > 0;
            let limits = self.repository.client.limits();
            self.tries += 1;
            if !passing || self.tries >= limits.tries_max {
                return Err(error);
            }
            tokio::time::sleep(exchange::pause_after(limits, self.tries)).await;
        }
    }

    /// Asks for the rest, of the endpoint that served the manifest and then of those after it.
    async fn request(&mut self) -> Result<Response> {
        let digest = &self.descriptor.digest;
        let path = format!("blobs/{digest}");
        let start = self.repository.chosen.load(std::sync::atomic::Ordering::Relaxed);
        let mut last = None;
        let after = &self.repository.endpoints[start + 1..];
        // Whoever served the manifest serves what is in it.
        let places = after.iter().filter(|endpoint| endpoint.capabilities.digests);
        for endpoint in std::iter::once(&self.repository.endpoints[start]).chain(places) {
            let answer = match self.repository.ask(endpoint, Method::GET, &path, Some(self.offset)).await {
                Ok(answer) => answer,
                Err(error) => {
                    let next = endpoint.mirror || matches!(error, Error::Unreachable { .. });
                    last = Some(error);
                    if next {
                        continue;
                    }
                    break;
                }
            };
            if answer.status().is_success() {
                return self.accept(answer);
            }
            last = Some(match answer.status().as_u16() {
                404 => Error::Status {
                    method: "Get",
                    url: exchange::shown(answer.url()),
                    status: 404,
                    detail: "blob unknown to registry".into(),
                },
                _ => self.repository.translate(answer, &Method::GET, digest.as_str()).await,
            });
            if !endpoint.mirror {
                break;
            }
        }
        Err(last.unwrap_or(Error::Cancelled))
    }

    /// Looks at what the answer's head says about the bytes to come.
    fn accept(&mut self, answer: Response) -> Result<Response> {
        let start = match answer.status().as_u16() {
            206 => {
                let range = header(&answer, CONTENT_RANGE.as_str()).unwrap_or_default();
                let start = range
                    .strip_prefix("bytes ")
                    .and_then(|range| range.split_once('-'))
                    .and_then(|(start, _)| start.parse::<u64>().ok());
                start.filter(|start| *start <= self.offset).ok_or_else(|| Error::Protocol {
                    host: answer.url().host_str().unwrap_or_default().to_owned(),
                    what: format!(
                        "asked for bytes from {} on, got \"{}\"",
                        self.offset,
                        exchange::plain(&range)
                    ),
                })?
            }
            _ => 0,
        };
        if let Some(length) = answer.content_length()
            && start.checked_add(length) != Some(self.descriptor.size)
        {
            return Err(self.wrong_size(&start.saturating_add(length).to_string()));
        }
        self.skip = self.offset - start;
        Ok(answer)
    }

    fn wrong_size(&self, found: &str) -> Error {
        mismatch(
            &format!("size of {}", self.descriptor.digest),
            &format!("{} bytes", self.descriptor.size),
            &format!("{found} bytes"),
        )
    }
}
