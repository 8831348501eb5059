//! A file that makes room for a new one when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::packing::{self, Packing};
use crate::launch;

/// How long a full file waits until the one before is compressed, before that is given up: much longer than any takes.
const PACKING_MS: i32 = 60_000;
/// How long the end of a container waits for that: what is not compressed by then is when it starts again.
const LAST_PACKING_MS: i32 = 10_000;

/// A log file and its older siblings `.1`, `.2`, ….
#[derive(Debug)]
pub struct Rotating {
    path: String,
    file: File,
    size: u64,
    /// From which size on the file counts as full.
    limit: u64,
    max_size: u64,
    max_files: u32,
    /// Whether older files are compressed.
    compress: bool,
    /// Whether a file waits to be, since somebody was killed while it was.
    unpacked: bool,
    packing: Option<Packing>,
}

impl Rotating {
    /// Opens `path` for appending. A line that a dead writer left unfinished is ended, so that ours begin on their own.
    pub fn open(config: &launch::Log) -> io::Result<Self> {
        let (path, max_size) = (&config.path, config.max_size);
        let file = open(path)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0_u8];
            file.read_exact_at(&mut last, size - 1)?;
            if last != *b"\n" && (&file).write_all(b"\n").is_ok() {
                size += 1;
            }
        }
        let limit = if max_size == 0 { u64::MAX } else { max_size };
        let unpacked = config.compress && packing::clean(&older(path, 1))?;
        Ok(Self {
            path: path.clone(),
            file,
            size,
            limit,
            max_size,
            max_files: config.max_files.max(1),
            compress: config.compress,
            unpacked,
            packing: None,
        })
    }

    /// The newest file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether the file is full once `pending` bytes are in it.
    pub fn is_full(&self, pending: usize) -> bool {
        self.size.saturating_add(pending as u64) >= self.limit
    }

    /// Appends whole lines, and returns how many bytes of them were lost. What was written stays whole lines.
    pub fn write(&mut self, lines: &[u8]) -> u64 {
        if self.unpacked {
            self.pack();
        }
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if written < lines.len() {
            let whole = lines[..written].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            // If even that fails, the next opener ends the line, and readers skip it.
            let _ = self.file.set_len(self.size + whole as u64);
            written = whole;
        }
        self.size += written as u64;
        (lines.len() - written) as u64
    }

    /// Renames the file away and begins a new one. Where that is impossible the old one goes on, until it has grown by
    /// as much again.
    pub fn rotate(&mut self) {
        match self.replace() {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                self.limit = self.max_size;
            }
            Err(_) => self.limit = self.size.saturating_add(self.max_size),
        }
    }

    fn replace(&mut self) -> io::Result<File> {
        // Names are changed by one at a time.
        self.settle(PACKING_MS);
        let oldest = self.max_files - 1;
        if oldest == 0 {
            fs::remove_file(&self.path)?;
            return open(&self.path);
        }
        // Somebody who was killed here may have left a number free: then nothing has to go.
        let free = (1..oldest).find(|number| !self.is_taken(*number)).unwrap_or(oldest);
        for name in self.names(free) {
            packing::remove(&name)?;
        }
        for number in (1..free).rev() {
            for (from, to) in self.names(number).iter().zip(self.names(number + 1)) {
                rename(from, &to)?;
            }
        }
        rename(&self.path, &older(&self.path, 1))?;
        let file = open(&self.path)?;
        if self.compress {
            self.pack();
        }
        Ok(file)
    }

    /// Begins to compress the newest of the older files. Where that cannot be it stays as it is.
    fn pack(&mut self) {
        self.unpacked = false;
        self.packing = Packing::start(&older(&self.path, 1)).ok();
    }

    /// Waits until nothing is being compressed.
    fn settle(&mut self, milliseconds: i32) {
        if let Some(packing) = self.packing.take() {
            packing.wait(milliseconds);
        }
    }

    /// Nothing more is written for now, or at all.
    pub fn finish(&mut self) {
        self.settle(LAST_PACKING_MS);
    }

    /// Gives back what a compression that is over holds.
    pub fn relax(&mut self) {
        if self.packing.as_ref().is_some_and(Packing::is_over) {
            self.settle(0);
        }
    }

    /// The names that an older file may have.
    fn names(&self, number: u32) -> [String; 2] {
        let plain = older(&self.path, number);
        let packed = format!("{plain}{}", packing::SUFFIX);
        [plain, packed]
    }

    fn is_taken(&self, number: u32) -> bool {
        self.names(number).iter().any(|name| fs::symlink_metadata(name).is_ok())
    }
}

fn older(path: &str, number: u32) -> String {
    format!("{path}.{number}")
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

fn rename(from: &str, to: &str) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
