//! A file that makes room for a new one when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

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
}

impl Rotating {
    /// Opens `path` for appending. A line that a dead writer left unfinished is ended, so that ours begin on their own.
    pub fn open(path: &str, max_size: u64, max_files: u32) -> io::Result<Self> {
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
        Ok(Self { path: path.to_owned(), file, size, limit, max_size, max_files: max_files.max(1) })
    }

    /// Whether the file is full once `pending` bytes are in it.
    pub fn is_full(&self, pending: usize) -> bool {
        self.size.saturating_add(pending as u64) >= self.limit
    }

    /// Appends whole lines, and returns how many bytes of them were lost. What was written stays whole lines.
    pub fn write(&mut self, lines: &[u8]) -> u64 {
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

    fn replace(&self) -> io::Result<File> {
        let oldest = self.max_files - 1;
        for number in (1..oldest).rev() {
            rename(&self.older(number), &self.older(number + 1))?;
        }
        if oldest > 0 {
            rename(&self.path, &self.older(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        open(&self.path)
    }

    fn older(&self, number: u32) -> String {
        format!("{}.{number}", self.path)
    }
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
