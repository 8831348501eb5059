//! Bytes between calls that block and clients: what is written in a thread is a stream, and a stream is read in a thread.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blocking;
use crate::error::{Error, Result};

/// Bytes gathered before they are sent.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks on their way: two megabytes in all, so that a slow client fills no memory.
const CHUNKS: usize = 8;
/// How long a client may take none of what is sent to it, or send nothing, until it is given up: it keeps others out.
pub(crate) const STALL_TIME: Duration = Duration::from_secs(5 * 60);

/// Waits in a thread for a client to move.
pub(crate) fn wait<T>(runtime: &Handle, stall: Duration, moved: impl Future<Output = T>) -> io::Result<T> {
    let moved = runtime.block_on(async { tokio::time::timeout(stall, moved).await });
    moved.map_err(|_| {
        let text = format!("the client has not moved for {} seconds", stall.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, text)
    })
}

/// Writes to a stream.
#[derive(Debug)]
pub struct Outlet {
    sender: mpsc::Sender<Result<Bytes>>,
    gathered: Vec<u8>,
    runtime: Handle,
    stall: Duration,
}

impl Outlet {
    fn send(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.gathered, Vec::with_capacity(CHUNK_BYTES));
        // The client has gone.
        wait(&self.runtime, self.stall, self.sender.send(Ok(full.into())))?
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(CHUNK_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..take]);
        if self.gathered.len() == CHUNK_BYTES {
            self.send()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// What a thread writes, as a stream: it ends when the writer returns, with an error if that fails. Dropping it ends the writing.
#[derive(Debug)]
pub struct Flow {
    receiver: mpsc::Receiver<Result<Bytes>>,
}

impl Flow {
    /// Starts `write` in a thread.
    pub fn start<F>(tasks: &TaskTracker, what: &'static str, write: F) -> Self
    where
        F: FnOnce(Outlet) -> Result<()> + Send + 'static,
    {
        Self::start_within(STALL_TIME, tasks, what, write)
    }

    fn start_within<F>(stall: Duration, tasks: &TaskTracker, what: &'static str, write: F) -> Self
    where
        F: FnOnce(Outlet) -> Result<()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        tasks.spawn(async move {
            let gathered = Vec::with_capacity(CHUNK_BYTES);
            let outlet = Outlet { sender: sender.clone(), gathered, runtime: Handle::current(), stall };
            if let Err(error) = blocking::run_paced(what, move || write(outlet)).await {
                // Nobody to be told: the client has gone.
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { receiver }
    }

    /// The next bytes.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        self.receiver.recv().await
    }
}

impl Stream for Flow {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

/// What a feeder sends.
#[derive(Debug)]
enum Sent {
    Bytes(Bytes),
    Failed(io::Error),
    End,
}

/// Feeds an [`Inlet`].
#[derive(Debug)]
pub struct Feeder {
    sender: mpsc::Sender<Sent>,
}

impl Feeder {
    /// Hands on the next bytes; whether anybody still reads.
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.sender.send(Sent::Bytes(bytes)).await.is_ok()
    }

    /// There is no more. A feeder that is dropped without has broken off.
    pub async fn end(self) {
        // Whoever does not read any more has ended already.
        let _ = self.sender.send(Sent::End).await;
    }

    /// There will be no more, for this reason.
    pub async fn fail(self, error: io::Error) {
        let _ = self.sender.send(Sent::Failed(error)).await;
    }
}

/// What a client sends, read in a thread.
#[derive(Debug)]
pub struct Inlet {
    receiver: mpsc::Receiver<Sent>,
    chunk: Bytes,
    ended: bool,
    runtime: Handle,
    stall: Duration,
    given_up: Option<CancellationToken>,
}

impl Inlet {
    /// The same, but there is no more to read when `given_up` says so.
    pub(crate) fn until(mut self, given_up: CancellationToken) -> Self {
        self.given_up = Some(given_up);
        self
    }

    fn next(&mut self) -> io::Result<Option<Sent>> {
        let given_up = self.given_up.clone();
        let receiver = &mut self.receiver;
        wait(&self.runtime, self.stall, async {
            match &given_up {
                None => Ok(receiver.recv().await),
                Some(given_up) => tokio::select! {
                    () = given_up.cancelled() => Err(io::Error::other("the container is being started")),
                    sent = receiver.recv() => Ok(sent),
                },
            }
        })?
    }
}

/// The two ends of what a client sends. To be called where tasks run.
pub fn inlet() -> (Feeder, Inlet) {
    inlet_within(STALL_TIME)
}

fn inlet_within(stall: Duration) -> (Feeder, Inlet) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let runtime = Handle::current();
    (Feeder { sender }, Inlet { receiver, chunk: Bytes::new(), ended: false, runtime, stall, given_up: None })
}

impl Read for Inlet {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.next()? {
                Some(Sent::Bytes(chunk)) => self.chunk = chunk,
                Some(Sent::Failed(error)) => return Err(error),
                Some(Sent::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client has gone"));
                }
            }
        }
        let take = self.chunk.len().min(target.len());
        self.chunk.copy_to_slice(&mut target[..take]);
        Ok(take)
    }
}

/// An error of writing to a client, or of what was to be written.
pub(crate) fn written(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::new(crate::Kind::Cancelled, "the client has gone"),
        io::ErrorKind::TimedOut => Error::new(crate::Kind::Cancelled, error.to_string()),
        _ => Error::system("cannot write the archive").with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_does_not_move_is_given_up() {
        let tasks = TaskTracker::new();
        let (told, ended) = tokio::sync::oneshot::channel();
        let flow = Flow::start_within(SHORT, &tasks, "write for nobody", |mut outlet| {
            let error = loop {
                if let Err(error) = outlet.write_all(&[0; 4096]) {
                    break error;
                }
            };
            let _ = told.send(error.kind());
            Err(written(error))
        });
        assert_eq!(ended.await.unwrap(), io::ErrorKind::TimedOut);
        // Whoever reads after all learns that it is not whole.
        let chunks: Vec<_> = futures_util::StreamExt::collect(flow).await;
        assert!(matches!(chunks.last(), Some(Err(error)) if error.kind() == crate::Kind::Cancelled));

        let (feeder, mut inlet) = inlet_within(SHORT);
        assert!(feeder.send(Bytes::from_static(b"ab")).await);
        let read =
            tokio::task::spawn_blocking(move || (inlet.read(&mut [0; 8]).ok(), inlet.read(&mut [0; 8])));
        let (first, second) = read.await.unwrap();
        assert_eq!((first, second.unwrap_err().kind()), (Some(2), io::ErrorKind::TimedOut));
    }
}
