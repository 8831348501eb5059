//! Bodies that are read as they come.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

use crate::error::{Error, Result};

/// One JSON value of a stream may be this long. Docker's own longest are build messages and a
/// list of a thousand containers; a daemon that sends more than this in one value is broken.
const JSON_VALUE_BYTES_MAX: usize = 64 << 20;

/// A response's body, chunk by chunk.
#[derive(Debug)]
pub struct Streaming {
    incoming: Incoming,
}

impl Streaming {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming }
    }

    /// The next bytes; none at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.incoming.frame().await {
            let frame = frame.map_err(|err| Error::Broken(describe(&err)))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body, refused when it is longer than `bytes_max`.
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut whole = BytesMut::with_capacity(first.len() + second.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(next) = self.chunk().await? {
            if whole.len() + next.len() > bytes_max {
                return Err(Error::Protocol(format!("the answer is longer than {bytes_max} bytes")));
            }
            whole.extend_from_slice(&next);
        }
        Ok(whole.freeze())
    }

    /// The body as a sequence of JSON values.
    #[must_use]
    pub fn json<T: DeserializeOwned>(self) -> Json<T> {
        Json { body: self, buffer: BytesMut::new(), scan: Scan::default(), ended: false, of: PhantomData }
    }
}

/// A body that is a sequence of JSON values, as `/events` and `/images/create` send.
#[derive(Debug)]
pub struct Json<T> {
    body: Streaming,
    buffer: BytesMut,
    scan: Scan,
    ended: bool,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Json<T> {
    /// The next value; none at the end.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(end) = self.scan.advance(&self.buffer) {
                let value = self.buffer.split_to(end);
                self.scan = Scan::default();
                let text = value.trim_ascii();
                if text.is_empty() {
                    continue;
                }
                return serde_json::from_slice(text).map(Some).map_err(|err| {
                    Error::Protocol(format!("the daemon's answer is not what it should be: {err}"))
                });
            }
            if self.ended {
                if self.buffer.has_remaining() && !self.buffer.trim_ascii().is_empty() {
                    return Err(Error::Protocol("unexpected EOF".into()));
                }
                return Ok(None);
            }
            if self.buffer.len() > JSON_VALUE_BYTES_MAX {
                return Err(Error::Protocol(format!(
                    "a JSON value is longer than {JSON_VALUE_BYTES_MAX} bytes"
                )));
            }
            match self.body.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }
}

/// Finds where a JSON object or array ends, each byte looked at once.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    depth: usize,
    text: bool,
    escaped: bool,
}

impl Scan {
    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            if self.text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                b'\n' if self.depth == 0 => return Some(self.at),
                // RFC 7464 record separators, which newer daemons can be asked to send.
                0x1e if self.depth == 0 => return Some(self.at - 1).filter(|&n| n > 0),
                _ => {}
            }
        }
        None
    }
}

/// hyper's error with the cause that says something.
pub(crate) fn describe(err: &hyper::Error) -> String {
    let cut = |source: &(dyn std::error::Error + 'static)| {
        source.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof)
    };
    if err.is_incomplete_message() || std::error::Error::source(err).is_some_and(cut) {
        // In Go's words, as Docker's command says it.
        return "unexpected EOF".to_owned();
    }
    let mut text = err.to_string();
    let mut source = std::error::Error::source(err);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut rest = BytesMut::from(text);
        let mut out = Vec::new();
        let mut scan = Scan::default();
        while let Some(end) = scan.advance(&rest) {
            out.push(String::from_utf8(rest.split_to(end).to_vec()).unwrap());
            scan = Scan::default();
        }
        out
    }

    #[test]
    fn values_end_where_their_brackets_do() {
        assert_eq!(split(r#"{"a":"}"}{"b":["\"]"]}"#), [r#"{"a":"}"}"#, r#"{"b":["\"]"]}"#]);
        assert_eq!(split("{\"a\":1}\r\n{\"a\":2}\r\n"), ["{\"a\":1}", "\r\n", "{\"a\":2}", "\r\n"]);
        assert!(split("{\"a\":").is_empty());
    }
}
