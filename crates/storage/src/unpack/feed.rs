//! The ends of the channels between the threads, as readers that hash what they give.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use oci::Digest;

use super::give_back;
use crate::decompress::MAGIC_BYTES;
use crate::error::{At, Error, Result};
use crate::hash::Hasher;

/// Bytes read at once from what an earlier try has left.
const FILE_BUFFER_BYTES: usize = 128 * 1024;

/// What goes through a channel. A channel that closes without `End` was given up.
#[derive(Debug)]
pub enum Piece {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// There is no more.
    End,
    /// There will be no more.
    Failed(Error),
}

/// How much there is of a file that one writes and another reads behind them.
#[derive(Debug, Default)]
pub struct Growth {
    state: Mutex<Grown>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Grown {
    bytes: u64,
    /// Whether it is whole, once nothing more is written.
    ended: Option<bool>,
    unread: bool,
}

impl Growth {
    fn state(&self) -> MutexGuard<'_, Grown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes more are there. Says whether anybody reads them.
    pub fn grow(&self, bytes: u64) -> bool {
        let mut state = self.state();
        state.bytes += bytes;
        self.changed.notify_all();
        !state.unread
    }

    /// Nothing more is written: all is there, or it was given up. The first word counts.
    pub fn end(&self, whole: bool) {
        self.state().ended.get_or_insert(whole);
        self.changed.notify_all();
    }

    /// Waits until there is more than `seen`; says how much there is, or `None` where that is all.
    fn more_than(&self, seen: u64) -> io::Result<Option<u64>> {
        let mut state = self.state();
        loop {
            match state.ended {
                Some(false) => return Err(io::Error::other(Error::Interrupted)),
                _ if state.bytes > seen => return Ok(Some(state.bytes)),
                Some(true) => return Ok(None),
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Where bytes come from that are not in the file at the beginning.
pub enum Source {
    /// One channel.
    Pieces(Receiver<Piece>),
    /// They are written to the file.
    Growth(Follower),
}

/// Who reads behind; dropped, who writes is told.
pub struct Follower(pub Arc<Growth>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.state().unread = true;
    }
}

/// The compressed bytes: first those of a file, then those of a channel or what is added to the file.
pub struct Feed {
    file: io::Take<File>,
    source: Source,
    /// How much of what was added has been read or is being read.
    grown: u64,
    hasher: Hasher,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Feed {
    /// Reads `file_bytes` of the file, then the source.
    pub fn new(file: &Path, file_bytes: u64, source: Source, hasher: Hasher) -> Result<Self> {
        let file = File::open(file).at("open", file)?.take(file_bytes);
        Ok(Self { file, source, grown: 0, hasher, buffer: Vec::new(), at: 0, ended: false })
    }

    /// The first bytes, which stay to be read.
    pub fn peek(&mut self) -> Result<&[u8]> {
        while self.buffer.len() < MAGIC_BYTES && !self.ended {
            let before = std::mem::take(&mut self.buffer);
            self.refill().map_err(super::broken)?;
            self.buffer.splice(0..0, before);
        }
        Ok(&self.buffer[..self.buffer.len().min(MAGIC_BYTES)])
    }

    /// Reads what the decoder has left, and gives the digest of everything.
    pub fn finish(mut self) -> Result<Digest> {
        while !self.fill_buf().map_err(super::broken)?.is_empty() {
            self.at = self.buffer.len();
        }
        self.hasher.finish()
    }

    fn refill(&mut self) -> io::Result<()> {
        self.at = 0;
        self.buffer.clear();
        if self.file.limit() == 0
            && let Source::Growth(growth) = &self.source
        {
            match growth.0.more_than(self.grown)? {
                Some(grown) => {
                    self.file.set_limit(grown - self.grown);
                    self.grown = grown;
                }
                None => self.ended = true,
            }
        }
        if self.file.limit() > 0 {
            self.buffer.resize(FILE_BUFFER_BYTES, 0);
            let length = self.file.read(&mut self.buffer)?;
            self.buffer.truncate(length);
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        } else if let Source::Pieces(pieces) = &self.source {
            match pieces.recv() {
                Ok(Piece::Bytes(bytes)) => self.buffer = bytes,
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed(error)) => return Err(io::Error::other(error)),
                Err(_) => return Err(io::Error::other(Error::Interrupted)),
            }
        }
        self.hasher.update(&self.buffer);
        Ok(())
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.buffer.len() && !self.ended {
            self.refill()?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Feed {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(target.len());
        target[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// The uncompressed bytes.
pub struct Channel {
    pieces: Receiver<Piece>,
    used: SyncSender<Vec<u8>>,
    hasher: Hasher,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Channel {
    /// Reads the channel, and gives used buffers back.
    pub fn new(pieces: Receiver<Piece>, used: SyncSender<Vec<u8>>, hasher: Hasher) -> Self {
        Self { pieces, used, hasher, buffer: Vec::new(), at: 0, ended: false }
    }

    /// The digest of all that was read.
    pub fn digest(self) -> Result<Digest> {
        self.hasher.finish()
    }
}

impl BufRead for Channel {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.buffer.len() && !self.ended {
            give_back(&self.used, std::mem::take(&mut self.buffer));
            self.at = 0;
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => {
                    self.hasher.update(&bytes);
                    self.buffer = bytes;
                }
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed(error)) => return Err(io::Error::other(error)),
                Err(_) => return Err(io::Error::other(Error::Interrupted)),
            }
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Channel {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(target.len());
        target[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
