//! The log file: Docker's json-file format, one JSON object a line, written without a JSON library.
//!
//! `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}`
//!
//! Output is taken in batches: all lines that one read brought get one time stamp and, mostly, one write.

mod apart;
mod escape;
mod file;
mod packing;
mod time;

pub use apart::Apart;
pub use escape::escape;
pub use file::Rotating;
pub use packing::{ORIGIN, SUFFIX};
pub use time::rfc3339_nano;

use std::io;
use std::os::fd::BorrowedFd;

use sys::epoll::Epoll;

use crate::launch;

/// The longest piece of a line that is one entry, as in Docker: a longer line becomes several entries, of which only
/// the last ends with a line feed.
pub const MAX_ENTRY: usize = 16 * 1024;

/// How much is collected before it is written: large enough that the system call costs little against the copy, small
/// enough to stay in the processor's second-level cache.
const FLUSH_AT: usize = 64 * 1024;

/// The most that one entry adds: every byte escaped to six, the attributes and what is around them.
const MAX_ENCODED: usize = MAX_ENTRY * 6 + launch::MAX_ATTRS + 256;

const PREFIX: &[u8] = b"{\"log\":\"";

/// Which output an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output, or a terminal.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
}

/// Who writes a container's log.
#[derive(Debug)]
pub enum Keeper {
    /// The supervisor: the container waits for it.
    Own(Box<Log>),
    /// A process of its own, that nobody waits for.
    Apart(Box<Apart>),
}

impl Keeper {
    /// Opens the log.
    pub fn open(config: &launch::Log) -> io::Result<Self> {
        if config.buffer == 0 {
            return Ok(Self::Own(Box::new(Log::open(config)?)));
        }
        Ok(Self::Apart(Box::new(Apart::start(config)?)))
    }

    /// Takes what a source said.
    pub fn write(&mut self, source: Source, bytes: &[u8], now_ns: i64, epoll: &Epoll) {
        match self {
            Self::Own(log) => log.write(source, bytes, now_ns),
            Self::Apart(apart) => apart.write(source, bytes, now_ns, epoll),
        }
    }

    /// What waits to be written can be.
    pub fn ready(&mut self, epoll: &Epoll) {
        if let Self::Apart(apart) = self {
            apart.flush(epoll);
        }
    }

    /// Nothing more comes: all is written when this returns.
    pub fn finish(&mut self, now_ns: i64, epoll: &Epoll) {
        match self {
            Self::Own(log) => {
                log.finish(Source::Stdout, now_ns);
                log.finish(Source::Stderr, now_ns);
                log.close();
            }
            Self::Apart(apart) => apart.finish(epoll, now_ns),
        }
    }

    /// Gives memory back that only work needs.
    pub fn relax(&mut self) {
        match self {
            Self::Own(log) => log.relax(),
            Self::Apart(apart) => apart.relax(),
        }
    }

    /// How many bytes could not be written.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Own(log) => log.lost(),
            Self::Apart(apart) => apart.dropped(),
        }
    }
}

/// A container's log.
#[derive(Debug)]
pub struct Log {
    file: Rotating,
    out: Vec<u8>,
    attrs: Vec<u8>,
    /// What follows an entry's text, beginning with an escaped line feed that a partial entry leaves out.
    suffix: Vec<u8>,
    /// The beginnings of lines whose ends have not come yet, one for each source.
    partial: [Vec<u8>; 2],
    lost: u64,
}

impl Log {
    /// Opens the log for appending.
    pub fn open(config: &launch::Log) -> io::Result<Self> {
        Ok(Self {
            file: Rotating::open(config)?,
            out: Vec::new(),
            attrs: config.attrs.clone(),
            suffix: Vec::new(),
            partial: [Vec::new(), Vec::new()],
            lost: 0,
        })
    }

    /// The file that is written to.
    fn file(&self) -> BorrowedFd<'_> {
        self.file.file()
    }

    /// How many bytes of entries could not be written, because the disk was full or broken.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes what a source said at `now_ns`. The lines that are complete are in the file when this returns.
    pub fn write(&mut self, source: Source, bytes: &[u8], now_ns: i64) {
        self.prepare(source, now_ns);
        let mut rest = self.complete_partial(source, bytes);
        while !rest.is_empty() {
            self.make_room();
            let window = &rest[..rest.len().min(MAX_ENTRY)];
            let begin = self.out.len();
            self.out.extend_from_slice(PREFIX);
            match escape::line(window, &mut self.out) {
                Some(taken) => {
                    self.out.extend_from_slice(&self.suffix);
                    rest = &rest[taken..];
                }
                None if window.len() == MAX_ENTRY => {
                    self.out.truncate(begin);
                    let whole = &window[..whole_characters(window)];
                    self.entry(whole);
                    rest = &rest[whole.len()..];
                }
                None => {
                    self.out.truncate(begin);
                    self.partial[source as usize].extend_from_slice(window);
                    rest = &[];
                }
            }
        }
        self.flush();
    }

    /// Writes what a source left without a line feed, at its end.
    pub fn finish(&mut self, source: Source, now_ns: i64) {
        let partial = std::mem::take(&mut self.partial[source as usize]);
        if partial.is_empty() {
            return;
        }
        self.prepare(source, now_ns);
        self.make_room();
        self.entry(&partial);
        self.flush();
    }

    /// Ends the line that a source is in, if it is in one.
    fn end_line(&mut self, source: Source, now_ns: i64) {
        if !self.partial[source as usize].is_empty() {
            self.write(source, b"\n", now_ns);
        }
    }

    /// Waits, as long as that may take, until the files are what they are to be.
    pub fn close(&mut self) {
        self.file.finish();
    }

    /// Gives the memory of the buffers back; they are made anew when there is output again.
    pub fn relax(&mut self) {
        self.out = Vec::new();
        self.file.relax();
        for partial in &mut self.partial {
            partial.shrink_to_fit();
        }
    }

    /// Adds to an unfinished line, and returns what comes after it.
    fn complete_partial<'a>(&mut self, source: Source, bytes: &'a [u8]) -> &'a [u8] {
        let held = self.partial[source as usize].len();
        if held == 0 {
            return bytes;
        }
        let window = &bytes[..bytes.len().min(MAX_ENTRY - held)];
        let end = window.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(window.len());
        let mut partial = std::mem::take(&mut self.partial[source as usize]);
        partial.extend_from_slice(&window[..taken]);
        if end.is_some() {
            self.make_room();
            self.entry(&partial);
            partial.clear();
        } else if partial.len() == MAX_ENTRY {
            self.make_room();
            let whole = whole_characters(&partial);
            self.entry(&partial[..whole]);
            partial.drain(..whole);
        }
        self.partial[source as usize] = partial;
        // A character that was kept back continues the line with what follows.
        if self.partial[source as usize].is_empty() || taken == bytes.len() {
            return &bytes[taken..];
        }
        self.complete_partial(source, &bytes[taken..])
    }

    /// Appends one entry with all of `text`, which has a line feed at its end or none.
    fn entry(&mut self, text: &[u8]) {
        self.out.extend_from_slice(PREFIX);
        let (text, suffix) = match text.strip_suffix(b"\n") {
            Some(line) => (line, &self.suffix[..]),
            None => (text, &self.suffix[2..]),
        };
        escape(text, &mut self.out);
        self.out.extend_from_slice(suffix);
    }

    fn prepare(&mut self, source: Source, now_ns: i64) {
        self.suffix.clear();
        self.suffix.extend_from_slice(match source {
            Source::Stdout => b"\\n\",\"stream\":\"stdout\"",
            Source::Stderr => b"\\n\",\"stream\":\"stderr\"",
        });
        if !self.attrs.is_empty() {
            self.suffix.extend_from_slice(b",\"attrs\":");
            self.suffix.extend_from_slice(&self.attrs);
        }
        self.suffix.extend_from_slice(b",\"time\":\"");
        rfc3339_nano(now_ns, &mut self.suffix);
        self.suffix.extend_from_slice(b"\"}\n");
    }

    /// Makes sure that one more entry fits the buffer, and that it goes to the right file.
    fn make_room(&mut self) {
        if self.file.is_full(self.out.len()) {
            self.flush();
            self.file.rotate();
        }
        if self.out.len() >= FLUSH_AT {
            self.flush();
        }
        if self.out.capacity() == 0 {
            self.out.reserve_exact(FLUSH_AT + MAX_ENCODED);
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.lost += self.file.write(&self.out);
            self.out.clear();
        }
    }
}

/// The length of `bytes` without a character that only begins at their end; all of it where there is no UTF-8.
fn whole_characters(bytes: &[u8]) -> usize {
    // A character has at most four bytes: look for the first byte of one among the last three.
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        let expected = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        return if expected > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests;
