//! The ends of the channels between the threads, as readers that hash what they give.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

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

/// The compressed bytes: first those of a file, then those of a channel.
pub struct Feed {
    file: io::Take<File>,
    pieces: Receiver<Piece>,
    hasher: Hasher,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Feed {
    /// Reads `file_bytes` of the file, then the channel.
    pub fn new(file: &Path, file_bytes: u64, pieces: Receiver<Piece>, hasher: Hasher) -> Result<Self> {
        let file = File::open(file).at("open", file)?.take(file_bytes);
        Ok(Self { file, pieces, hasher, buffer: Vec::new(), at: 0, ended: false })
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
        if self.file.limit() > 0 {
            self.buffer.resize(FILE_BUFFER_BYTES, 0);
            let length = self.file.read(&mut self.buffer)?;
            self.buffer.truncate(length);
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        } else {
            match self.pieces.recv() {
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
