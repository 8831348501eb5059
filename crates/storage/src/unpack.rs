//! One pass over a layer's bytes, spread over threads.
//!
//! ```text
//!  caller                 "layer-inflate"                         "layer-apply"
//!  write(bytes)  ----->   sha256 (the blob's digest)
//!   | to the file         decompress             ------------>    sha256 (the diff id)
//!   v                                                             untar into layers/new-…
//!  content/ingest
//! ```
//! The arrows are bounded channels: a slow disk slows the download, and memory per layer stays at a few
//! buffers. What an earlier try has left of the blob is read from the file first, by the second thread.

mod feed;

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use oci::{Algorithm, Digest};
use sys::path::Root;

use crate::apply::{self, Applied, Limits};
use crate::decompress::{Counted, decompress};
use crate::error::{At, Error, Result};
use crate::hash::Hasher;
pub(crate) use feed::Piece;
use feed::{Channel, Feed, Follower, Growth, Source};

/// Bytes of one buffer on its way to the last thread: large enough that switching threads costs nothing, small enough for
/// the second-level cache.
const BUFFER_BYTES: usize = 256 * 1024;

/// Buffers on the way between two threads.
const BUFFERS: usize = 4;

/// What the threads need; most of it is SQLite's and zstd's, on the heap.
const STACK_BYTES: usize = 512 * 1024;

/// What a layer turned out to be.
#[derive(Debug)]
pub struct Unpacked {
    /// The digest of the bytes as they came.
    pub digest: Digest,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// What was made.
    pub applied: Applied,
}

/// The threads that unpack one layer.
pub struct Pipeline {
    feed: Sink,
    inflate: JoinHandle<Result<Digest>>,
    apply: JoinHandle<Result<(Digest, Applied)>>,
}

/// Where the bytes go. Dropped before its end, the threads give up.
enum Sink {
    Pieces(SyncSender<Piece>),
    Growth(Arc<Growth>),
}

impl Sink {
    fn new(follow: bool) -> (Self, Source) {
        if follow {
            let growth = Arc::new(Growth::default());
            return (Self::Growth(Arc::clone(&growth)), Source::Growth(Follower(growth)));
        }
        let (pieces, source) = sync_channel(BUFFERS);
        (Self::Pieces(pieces), Source::Pieces(source))
    }

    fn end(&self) {
        match self {
            Self::Pieces(pieces) => drop(pieces.send(Piece::End)),
            Self::Growth(growth) => growth.end(true),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Self::Growth(growth) = self {
            growth.end(false);
        }
    }
}

/// What the threads start with.
pub struct Start<'a> {
    /// A file whose first bytes come before all that is sent.
    pub file: &'a Path,
    /// How many of its bytes.
    pub file_bytes: u64,
    /// Whether what is sent is in the file when it is sent, behind those: it is read from there, and nobody waits for the threads.
    pub follow: bool,
    /// The function of the blob's digest.
    pub algorithm: Algorithm,
    /// The directory to unpack into.
    pub target: Root,
    /// What the layer may be.
    pub limits: Limits,
}

impl Pipeline {
    /// Starts the threads.
    pub fn start(start: Start<'_>) -> Result<Self> {
        let (feed, source) = Sink::new(start.follow);
        let (output, input) = sync_channel(BUFFERS);
        let (used, spare) = sync_channel(BUFFERS + 1);
        let source = Feed::new(start.file, start.file_bytes, source, Hasher::new(start.algorithm))?;
        let limits = start.limits.clone();
        let inflate = spawn("layer-inflate", move || {
            let result = inflate(source, &limits, &output, &spare);
            // The next thread has to know that this is not the archive's end.
            match result {
                Ok(digest) => {
                    let _ = output.send(Piece::End);
                    Ok(digest)
                }
                Err(error) => {
                    let _ = output.send(Piece::Failed(error));
                    Err(Error::Interrupted)
                }
            }
        })?;
        let (target, limits) = (start.target, start.limits);
        let apply = spawn("layer-apply", move || {
            let mut source = Channel::new(input, used, Hasher::new(Algorithm::Sha256));
            let applied = apply::apply(&mut source, &target, &limits)?;
            Ok((source.digest()?, applied))
        })?;
        Ok(Self { feed, inflate, apply })
    }

    /// Sends the next bytes; waits while the threads are behind, unless they follow in the file. An error means that they have given
    /// up: [`Pipeline::finish`] says why.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        let taken = match &self.feed {
            Sink::Pieces(pieces) => pieces.send(Piece::Bytes(bytes.to_vec())).is_ok(),
            Sink::Growth(growth) => growth.grow(bytes.len() as u64),
        };
        if taken { Ok(()) } else { Err(Error::Interrupted) }
    }

    /// All bytes have been sent: waits for the threads.
    pub fn finish(self) -> Result<Unpacked> {
        self.feed.end();
        drop(self.feed);
        let apply = join(self.apply);
        let inflate = join(self.inflate);
        let (diff_id, applied) = apply?;
        Ok(Unpacked { digest: inflate?, diff_id, applied })
    }

    /// Gives up: the threads end without having finished.
    pub fn abort(self) {
        drop(self.feed);
        let _ = join(self.apply);
        let _ = join(self.inflate);
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(work).at("start thread", name)
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    // A panic is a bug in this crate; it has been reported by the thread, and is not to take the caller along.
    thread.join().unwrap_or(Err(Error::Interrupted))
}

/// The second thread: decompresses what the feed gives, and hashes the feed.
fn inflate(
    mut feed: Feed,
    limits: &Limits,
    output: &SyncSender<Piece>,
    spare: &Receiver<Vec<u8>>,
) -> Result<Digest> {
    let magic = feed.peek()?.to_vec();
    let (source, taken) = Counted::new(&mut feed);
    pump(decompress(source, &magic).map_err(broken)?, &taken, limits, output, spare)?;
    feed.finish()
}

fn broken(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::layer(format!("cannot be decompressed: {error}")),
    }
}

/// Reads all of `source` into buffers and sends them on.
fn pump(
    mut source: impl Read,
    taken: &Cell<u64>,
    limits: &Limits,
    output: &SyncSender<Piece>,
    spare: &Receiver<Vec<u8>>,
) -> Result<()> {
    let mut total = 0u64;
    loop {
        let mut buffer = spare.try_recv().unwrap_or_else(|_| vec![0; BUFFER_BYTES]);
        buffer.resize(BUFFER_BYTES, 0);
        let mut filled = 0;
        while filled < buffer.len() {
            match source.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        if filled == 0 {
            return Ok(());
        }
        total += filled as u64;
        check_size(total, taken.get(), limits)?;
        buffer.truncate(filled);
        output.send(Piece::Bytes(buffer)).map_err(|_| Error::Interrupted)?;
    }
}

fn check_size(total: u64, compressed: u64, limits: &Limits) -> Result<()> {
    if total > limits.bytes_max {
        return Err(Error::Limit { what: "uncompressed size of a layer", limit: limits.bytes_max });
    }
    if total > limits.ratio_from && total / limits.ratio_max > compressed {
        return Err(Error::Limit { what: "compression ratio of a layer", limit: limits.ratio_max });
    }
    Ok(())
}

/// Gives a used buffer back, unless enough are on their way.
fn give_back(used: &SyncSender<Vec<u8>>, buffer: Vec<u8>) {
    match used.try_send(buffer) {
        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
    }
}
