//! gzip on all processors: one stream, whose blocks are compressed side by side.
//!
//! Blocks are independent of each other and of how many processors there are, so the same input gives the same output on
//! every machine. What does not compress is stored: images are full of archives.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes that are compressed at once: thirty-two times the window, so that beginning anew costs nothing.
const BLOCK_BYTES: usize = 1 << 20;
/// What of a block is tried before the whole is.
const SAMPLE_BYTES: usize = 16 << 10;
/// The level: the highest that keeps up with a disk.
const LEVEL: u32 = 3;
/// More threads than this do not make the disk faster.
const THREADS_MAX: usize = 8;

/// Magic, deflate, no flags, no time, no hints, an unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

struct Job {
    block: Vec<u8>,
    last: bool,
    done: SyncSender<Done>,
}

struct Done {
    bytes: Vec<u8>,
    crc: Crc,
}

/// Compresses what is written to it.
pub struct Gzip<W> {
    sink: W,
    block: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    pending: VecDeque<Receiver<Done>>,
    threads: Vec<JoinHandle<()>>,
    crc: Crc,
    begun: bool,
}

impl<W> std::fmt::Debug for Gzip<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gzip").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl<W: Write> Gzip<W> {
    /// Compresses to `sink`.
    pub fn new(sink: W) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let (jobs, queue) = sync_channel::<Job>(count);
        let queue = Arc::new(Mutex::new(queue));
        let thread = |_| {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("layer-deflate".into()).spawn(move || work(&queue))
        };
        let threads = (0..count).map(thread).collect::<io::Result<_>>()?;
        Ok(Self {
            sink,
            block: Vec::with_capacity(BLOCK_BYTES),
            jobs: Some(jobs),
            pending: VecDeque::new(),
            threads,
            crc: Crc::new(),
            begun: false,
        })
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        // Two blocks a thread keep all of them busy.
        if self.pending.len() >= 2 * self.threads.len() {
            self.take()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        let (done, receiver) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job { block, last, done }).map_err(|_| gone())?;
        self.pending.push_back(receiver);
        Ok(())
    }

    /// Writes the oldest block that is under way.
    fn take(&mut self) -> io::Result<()> {
        let Some(receiver) = self.pending.pop_front() else { return Ok(()) };
        let done = receiver.recv().map_err(|_| gone())?;
        if !std::mem::replace(&mut self.begun, true) {
            self.sink.write_all(&HEAD)?;
        }
        self.crc.combine(&done.crc);
        self.sink.write_all(&done.bytes)
    }

    /// Ends the stream, and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.send(true)?;
        while !self.pending.is_empty() {
            self.take()?;
        }
        self.jobs = None;
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| gone())?;
        }
        self.sink.write_all(&self.crc.sum().to_le_bytes())?;
        self.sink.write_all(&self.crc.amount().to_le_bytes())?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..take]);
        if self.block.len() == BLOCK_BYTES {
            self.send(false)?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("a bug: a thread that compresses has ended")
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mut crc = Crc::new();
        crc.update(&job.block);
        let bytes = deflate(&job.block, job.last);
        // Nobody waits for it any more: it was given up.
        let _ = job.done.send(Done { bytes, crc });
    }
}

/// A block of the stream that ends at a byte's boundary.
fn deflate(block: &[u8], last: bool) -> Vec<u8> {
    let sample = &block[..block.len().min(SAMPLE_BYTES)];
    let level = if sample.len() == SAMPLE_BYTES && run(sample, 1, true).len() > SAMPLE_BYTES / 16 * 15 {
        0
    } else {
        LEVEL
    };
    run(block, level, last)
}

fn run(block: &[u8], level: u32, last: bool) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let at = usize::try_from(compress.total_in()).unwrap_or(block.len());
        let before = out.len();
        out.reserve(16 << 10);
        let status = compress.compress_vec(&block[at..], &mut out, flush);
        match status {
            Ok(Status::StreamEnd) => return out,
            // With room left over, everything has been written.
            Ok(_) if !last && out.len() < out.capacity() => return out,
            Ok(Status::BufError) if !last && out.len() == before => return out,
            Ok(_) => {}
            // Only inflating can fail.
            Err(_) => return out,
        }
    }
}
