//! Requests as people type them: `curl -g '…/containers/json?filters={"status":["exited"]}'`. Docker takes quotes and angle
//! brackets in a request's first line as they are; hyper refuses them before anybody is asked. So they are escaped on their way in,
//! in the first line of a connection: programs, which send several requests on one, escape by themselves.

use crate::connection::Transport;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once while the first line lasts. How long it may be is hyper's to say.
const PIECE: usize = 4096;

/// A stream whose first line is escaped.
pub(super) struct Typed<S> {
    stream: S,
    /// Whether the first line has not ended.
    in_line: bool,
    /// What was read and not handed on.
    ready: Bytes,
}

impl<S> Typed<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, in_line: true, ready: Bytes::new() }
    }
}

/// A piece of the first line, escaped; and whether the line goes on.
fn escape(piece: &[u8]) -> (Bytes, bool) {
    let end = piece.iter().position(|byte| *byte == b'\n');
    let (line, rest) = piece.split_at(end.unwrap_or(piece.len()));
    let mut escaped = BytesMut::with_capacity(piece.len());
    for byte in line {
        match byte {
            b'"' => escaped.put_slice(b"%22"),
            b'<' => escaped.put_slice(b"%3C"),
            b'>' => escaped.put_slice(b"%3E"),
            other => escaped.put_u8(*other),
        }
    }
    escaped.put_slice(rest);
    (escaped.freeze(), end.is_none())
}

impl<S: Transport> AsyncRead for Typed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ready.is_empty() {
            if !self.in_line {
                return Pin::new(&mut self.stream).poll_read(cx, out);
            }
            let mut bytes = [0; PIECE];
            let mut piece = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
            (self.ready, self.in_line) = escape(piece.filled());
        }
        let length = self.ready.len().min(out.remaining());
        out.put_slice(&self.ready[..length]);
        self.ready.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for Typed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Transport> Transport for Typed<S> {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.socket()
    }

    fn tells_of_reads(&self) -> bool {
        self.stream.tells_of_reads()
    }

    fn process(&self, begun: Duration) -> io::Result<OwnedFd> {
        self.stream.process(begun)
    }

    fn is_open_to_browsers(&self) -> bool {
        self.stream.is_open_to_browsers()
    }

    fn prepare(&self) -> io::Result<()> {
        self.stream.prepare()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_is_escaped() {
        let escaped = |piece: &str| {
            let (bytes, goes_on) = escape(piece.as_bytes());
            (String::from_utf8_lossy(&bytes).into_owned(), goes_on)
        };
        assert_eq!(escaped("GET /x?f={\"a\":"), ("GET /x?f={%22a%22:".to_owned(), true));
        assert_eq!(
            escaped("<b>} HTTP/1.1\r\nIf-Match: \"x\"\r\n\r\n{\"a\": 1}"),
            ("%3Cb%3E} HTTP/1.1\r\nIf-Match: \"x\"\r\n\r\n{\"a\": 1}".to_owned(), false)
        );
        assert_eq!(escaped("\n\"\n"), ("\n\"\n".to_owned(), false));
        assert_eq!(escaped(""), (String::new(), true));
    }
}
