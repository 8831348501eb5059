//! Ways to reach a daemon.

pub(crate) mod names;
mod ssh;
mod tls;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::error::{Error, Result};
use crate::target::{Endpoint, Target};

/// A host that does not answer is given up after this long, as Docker's own client does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What all transports give.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection.
pub(crate) type Stream = Box<dyn Duplex>;

/// Opens a connection to `target`.
pub(crate) async fn connect(target: &Target) -> Result<Stream> {
    match &target.endpoint {
        Endpoint::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => Err(refused(target, source)),
        },
        Endpoint::Tcp { host, port } => {
            let stream = tcp(target, host, *port).await?;
            match &target.tls {
                None => Ok(Box::new(stream)),
                Some(files) => tls::wrap(target, files, host, stream).await,
            }
        }
        Endpoint::Ssh(destination) => ssh::connect(target, destination),
    }
}

async fn tcp(target: &Target, host: &str, port: u16) -> Result<TcpStream> {
    let addresses = names::resolve(host, port)
        .await
        .map_err(|detail| Error::Connect { host: target.to_string(), detail })?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Terminal input goes out a key at a time; failing to say so only makes it slower.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(err)) => last = err,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(refused(target, last))
}

fn refused(target: &Target, source: io::Error) -> Error {
    let host = target.to_string();
    match source.kind() {
        io::ErrorKind::PermissionDenied => Error::Denied { host, source },
        _ => Error::Unreachable { host, source },
    }
}

/// A reader and a writer as one connection.
pub(crate) struct Pair<R, W> {
    read: R,
    /// Dropped when it is shut down: a pipe has no other way to tell its reader that it has ended.
    write: Option<W>,
}

impl<R, W> Pair<R, W> {
    pub(crate) fn new(read: R, write: W) -> Self {
        Self { read, write: Some(write) }
    }
}

/// What a write gets after the end was told.
fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection was shut down")
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Pair<R, W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(cx, buf)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Pair<R, W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().write {
            Some(write) => Pin::new(write).poll_write(cx, buf),
            None => Poll::Ready(Err(ended())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().write {
            Some(write) => Pin::new(write).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(write) = &mut this.write else { return Poll::Ready(Ok(())) };
        let done = std::task::ready!(Pin::new(write).poll_shutdown(cx));
        this.write = None;
        Poll::Ready(done)
    }
}
