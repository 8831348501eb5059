//! Reading a log piece by piece.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::entry::{Formatter, Outcome};
use super::files::Piece;
use super::{Error, Query, files};

/// How much is read at a time.
const BLOCK: usize = 256 * 1024;

/// The longest line that is waited for; longer ones, which no writer of this format makes, are passed over.
const MAX_LINE: usize = 1 << 20;

/// What one piece of work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There may be more at once.
    More,
    /// All that is there has been read.
    CaughtUp,
    /// Nothing that comes is wanted any more.
    Finished,
}

/// A position in a log, and what is wanted of it.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    follow: bool,
    formatter: Formatter,
    current: Option<Piece>,
    offset: u64,
    later: VecDeque<Piece>,
    /// What was read and not yet understood is `input[begin..]`.
    input: Vec<u8>,
    begin: usize,
    /// A line that is too long is being passed over.
    skipping: bool,
}

impl Reader {
    /// Opens the files and finds the first entry that is wanted.
    pub fn open(path: PathBuf, query: Query) -> Result<Self, Error> {
        let mut later: VecDeque<Piece> = files::open_all(&path)?.into();
        let mut offset = 0;
        if let Some(lines) = query.tail {
            let (index, at) = files::find_tail(later.make_contiguous(), lines)?;
            later.drain(..index.min(later.len()));
            offset = at;
        }
        Ok(Self {
            path,
            follow: query.follow,
            formatter: Formatter::new(query),
            current: later.pop_front(),
            offset,
            later,
            input: Vec::new(),
            begin: 0,
            skipping: false,
        })
    }

    /// Reads one block and appends what its entries become.
    pub fn fill(&mut self, out: &mut Vec<u8>) -> Result<Step, Error> {
        if self.current.is_none() {
            self.later = files::open_all(&self.path)?.into();
            self.current = self.later.pop_front();
        }
        let Some(piece) = &mut self.current else { return Ok(Step::CaughtUp) };
        // Asked before reading: what was written until a rename is read before the next file is begun.
        let superseded = !self.later.is_empty() || (self.follow && !files::is_newest(piece, &self.path));
        let held = self.input.len() - self.begin;
        self.input.copy_within(self.begin.., 0);
        self.begin = 0;
        self.input.resize(held + BLOCK, 0);
        let read = piece.file()?.read_at(&mut self.input[held..], self.offset);
        let read = read.map_err(|source| Error { verb: "read", path: self.path.clone(), source })?;
        self.input.truncate(held + read);
        self.offset += read as u64;
        if read == 0 {
            return if superseded { self.advance() } else { Ok(self.caught_up()) };
        }
        out.reserve(BLOCK);
        Ok(self.take(out))
    }

    /// Understands all whole lines that are there.
    fn take(&mut self, out: &mut Vec<u8>) -> Step {
        if self.skipping && !self.skip() {
            return Step::More;
        }
        while self.begin < self.input.len() {
            match self.formatter.line(&self.input[self.begin..], out) {
                Outcome::Taken(length) => self.begin += length,
                Outcome::Late => return Step::Finished,
                Outcome::Incomplete => {
                    self.skipping = self.input.len() - self.begin > MAX_LINE;
                    if self.skipping {
                        self.skip();
                    }
                    break;
                }
            }
        }
        Step::More
    }

    /// Passes over a line that is too long; whether its end has come.
    fn skip(&mut self) -> bool {
        let end = self.input[self.begin..].iter().position(|b| *b == b'\n');
        self.begin = end.map_or(self.input.len(), |at| self.begin + at + 1);
        self.skipping = end.is_none();
        end.is_some()
    }

    /// Begins the next file. A line that this one leaves unfinished has no end anywhere.
    fn advance(&mut self) -> Result<Step, Error> {
        if self.later.is_empty()
            && let Some(piece) = &self.current
        {
            self.later = files::open_after(piece, &self.path)?.into();
        }
        let Some(next) = self.later.pop_front() else { return Ok(self.caught_up()) };
        self.current = Some(next);
        self.offset = 0;
        self.input.clear();
        self.begin = 0;
        self.skipping = false;
        Ok(Step::More)
    }

    /// Gives memory back that a follower would hold for as long as it waits.
    fn caught_up(&mut self) -> Step {
        self.input.shrink_to_fit();
        Step::CaughtUp
    }
}
