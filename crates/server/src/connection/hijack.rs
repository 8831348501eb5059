//! A call takes the connection over: after its answer's head the stream belongs to it, both ways.
//!
//! Clients ask for it with `Upgrade: tcp` and get status 101. Old ones do not ask and get status 200 with a body that
//! ends with the connection; HTTP libraries do not have that form, so both are written here.

use super::Transport;
use super::hangup::{self, Hangup};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::sync::Notify;

/// How long a client is given to read the answer's head before the stream begins. Clients read it at once, as soon as a busy
/// machine lets them.
const HEAD_READ_MAX: Duration = Duration::from_secs(1);

/// What is done with the stream.
type Work = Box<dyn FnOnce(Client) -> BoxFuture<'static, ()> + Send>;

/// Where a call leaves its wish to take the connection over.
#[derive(Clone, Default)]
pub(crate) struct Hijack {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    job: Mutex<Option<Job>>,
    left: Notify,
}

/// A call's wish: the answer's head, and what follows.
pub(crate) struct Job {
    head: String,
    work: Work,
}

impl Hijack {
    /// Takes the connection over. Does not return: the call ends here, the work goes on.
    pub(crate) async fn take<F>(&self, upgrade: bool, content_type: &str, work: F) -> crate::reply::Answer
    where
        F: FnOnce(Client) -> BoxFuture<'static, ()> + Send + 'static,
    {
        let head = if upgrade {
            format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            )
        } else {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n")
        };
        self.leave(&head, work).await
    }

    /// As [`Hijack::take`], for a client that asks to go on in another protocol by HTTP's means.
    pub(crate) async fn upgrade<F>(&self, protocol: &str, work: F) -> crate::reply::Answer
    where
        F: FnOnce(Client) -> BoxFuture<'static, ()> + Send + 'static,
    {
        let head = format!("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n");
        self.leave(&head, work).await
    }

    /// Leaves the wish to take the connection over, and waits for what comes of it.
    async fn leave<F>(&self, head: &str, work: F) -> crate::reply::Answer
    where
        F: FnOnce(Client) -> BoxFuture<'static, ()> + Send + 'static,
    {
        let head = format!(
            "{head}{}: {}\r\n{}: false\r\n{}: linux\r\nServer: Corten/{} (linux)\r\n\r\n",
            api::system::ping::API_VERSION,
            api::version::MAX,
            api::system::ping::EXPERIMENTAL,
            api::system::ping::OS_TYPE,
            env!("CARGO_PKG_VERSION"),
        );
        let job = Job { head, work: Box::new(work) };
        *self.shared.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
        self.shared.left.notify_one();
        std::future::pending().await
    }

    /// Waits until a call wants the connection.
    pub(super) async fn wanted(&self) -> Job {
        loop {
            if let Some(job) = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return job;
            }
            self.shared.left.notified().await;
        }
    }
}

impl Job {
    /// Sends the head and does the work.
    pub(super) async fn run(self, mut client: Client) {
        match client.introduce(self.head.as_bytes()).await {
            Ok(()) => (self.work)(client).await,
            Err(error) => tracing::debug!(%error, "the client left before its stream began"),
        }
    }
}

/// A client whose connection was taken over.
pub(crate) struct Client {
    stream: Box<dyn Transport>,
    early: Bytes,
    /// When its connection was there, since boot.
    begun: Duration,
    /// Tells when it has gone.
    pub hangup: Arc<Hangup>,
}

impl Client {
    /// The client at a stream, with what it has sent already.
    pub(super) fn new(stream: impl Transport, early: Bytes, begun: Duration) -> Self {
        let hangup = Arc::new(Hangup::new(stream.socket()));
        Self { stream: Box::new(stream), early, begun, hangup }
    }

    /// The process that has made the connection, where that is known.
    pub(crate) fn process(&self) -> std::io::Result<OwnedFd> {
        self.stream.process(self.begun)
    }

    /// Sends the answer's head, and waits a moment until it has been read. Clients that read it with a buffer and what
    /// follows without one (docker-py) lose output that comes with the head; with an engine that is slow to start a
    /// command that does not happen to them.
    async fn introduce(&mut self, head: &[u8]) -> std::io::Result<()> {
        let socket = if self.stream.tells_of_reads() { self.stream.socket() } else { None };
        let reads = socket.and_then(|socket| hangup::watch(socket, Interest::WRITABLE).ok());
        if let Some(reads) = &reads {
            // The socket is writable now; what counts is that it becomes so anew.
            reads.writable().await?.clear_ready();
        }
        self.write_all(head).await?;
        if let Some(reads) = &reads
            && tokio::time::timeout(HEAD_READ_MAX, reads.writable()).await.is_err()
        {
            tracing::debug!("the client has not read the answer's head");
        }
        Ok(())
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(out.remaining());
            out.put_slice(&self.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
