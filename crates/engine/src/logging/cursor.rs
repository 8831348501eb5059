//! How far a log has been shipped, written down after every piece that its receiver took.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::Entry;
use crate::logs::files::Piece;
use crate::logs::{Error, files};

/// The cursor's file, beside the log's.
const FILE: &str = "shipped.json";
/// Bytes that are read at once of a first line: most fit.
const FIRST_BLOCK: usize = 4096;
/// Bytes that are read at once.
const BLOCK: usize = 256 * 1024;
/// The longest line; longer ones, which no supervisor writes, are passed over.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Entries that are shipped at once.
pub const ENTRIES: usize = 1000;
/// An entry without any text.
const ENTRY_BYTES_MIN: u64 = 60;

/// A place in a log. A file's number may be given to another one after rotation: its first line, at whose end is a time, tells
/// them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    inode: u64,
    /// The digest of the whole first line; empty where nothing is known of it.
    #[serde(default)]
    first: String,
    offset: u64,
}

/// Reads a log from where the last daemon stopped.
#[derive(Debug)]
pub struct Cursor {
    log: PathBuf,
    file: Option<Piece>,
    place: Place,
    /// What was read and is not acknowledged yet ends there.
    next: u64,
    /// Where each of the entries that were read last ends.
    ends: Vec<u64>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Batch {
    /// The entries; more may follow even where there are none.
    pub entries: Vec<Entry>,
    /// Whether all that is there has been read.
    pub caught_up: bool,
}

/// The digest of a file's first line; empty where that is not whole yet, or longer than any line is.
fn first_line(file: &File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut block = vec![0; FIRST_BLOCK];
    let mut read = 0;
    while read < LINE_BYTES_MAX {
        let got = file.read_at(&mut block, read as u64)?;
        if let Some(end) = block[..got].iter().position(|byte| *byte == b'\n') {
            digest.update(&block[..end]);
            return Ok(hex::encode(digest.finalize()));
        }
        if got == 0 {
            break;
        }
        digest.update(&block[..got]);
        read += got;
    }
    Ok(String::new())
}

fn reading(log: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = log.to_owned();
    move |source| Error { verb: "read", path, source }
}

/// How long the line is that begins at `from` and is too long; as much of it as is there.
fn long_line(file: &File, from: u64) -> io::Result<u64> {
    let mut bytes = vec![0; LINE_BYTES_MAX];
    let got = file.read_at(&mut bytes, from)?;
    let end = bytes[..got].iter().position(|byte| *byte == b'\n').map_or(got, |at| at + 1);
    Ok(end as u64)
}

impl Place {
    /// Whether this is a place in that file.
    fn is_in(&self, piece: &mut Piece) -> bool {
        // Asked first: what is compressed is not unpacked for nothing.
        if piece.inode() != self.inode {
            return false;
        }
        let Ok(file) = piece.file() else { return false };
        let same = self.first.is_empty() || first_line(file).is_ok_and(|first| first == self.first);
        same && file.metadata().is_ok_and(|metadata| metadata.len() >= self.offset)
    }
}

impl Cursor {
    /// Finds the place that was written down, or the beginning; whether what came in between was thrown away.
    pub fn open(log: &Path) -> Result<(Self, bool), Error> {
        let written = std::fs::read(log.with_file_name(FILE)).ok();
        let written: Option<Place> = written.and_then(|json| serde_json::from_slice(&json).ok());
        let mut cursor = Self::at_beginning(log);
        let mut files = files::open_all(log)?.into_iter().peekable();
        let Some(written) = written else {
            cursor.begin(files.next());
            return Ok((cursor, false));
        };
        let mut all: Vec<Piece> = files.collect();
        // Of those with the same number the newest is it.
        match all.iter_mut().rposition(|piece| written.is_in(piece)) {
            Some(at) => {
                cursor.file = Some(all.swap_remove(at));
                cursor.next = written.offset;
                cursor.place = written;
                Ok((cursor, false))
            }
            None => {
                let gap = !all.is_empty();
                cursor.begin(all.into_iter().next());
                Ok((cursor, gap))
            }
        }
    }

    fn begin(&mut self, file: Option<Piece>) {
        self.place = Place::default();
        self.next = 0;
        self.ends.clear();
        self.file = file;
    }

    /// Of a log whose place cannot be told.
    pub fn at_beginning(log: &Path) -> Self {
        Self { log: log.to_owned(), file: None, place: Place::default(), next: 0, ends: Vec::new() }
    }

    /// Passes over the oldest of what waits, so that no more than `most` do; how many it passed over.
    pub fn keep_last(&mut self, log: &Path, most: u64) -> Result<u64, Error> {
        // No entry is shorter than this: where fewer bytes wait, fewer entries do.
        if files::bytes(log).is_some_and(|bytes| bytes / ENTRY_BYTES_MIN <= most) {
            return Ok(0);
        }
        let (mut ahead, _) = Self::open(log)?;
        let mut waiting = 0;
        loop {
            let batch = ahead.read()?;
            waiting += batch.entries.len() as u64;
            if batch.caught_up {
                break;
            }
        }
        let surplus = waiting.saturating_sub(most);
        let mut left = surplus;
        while left > 0 {
            let batch = self.read_most(usize::try_from(left).unwrap_or(ENTRIES).min(ENTRIES))?;
            left -= batch.entries.len() as u64;
            if batch.caught_up {
                break;
            }
            if !batch.entries.is_empty() {
                self.acknowledge()?;
            }
        }
        Ok(surplus - left)
    }

    /// Reads on. What was read before and not acknowledged is not read again.
    pub fn read(&mut self) -> Result<Batch, Error> {
        self.read_most(ENTRIES)
    }

    /// As [`Self::read`], but no more entries than so many.
    pub fn read_most(&mut self, most: usize) -> Result<Batch, Error> {
        self.ends.clear();
        if self.file.is_none() {
            let first = files::open_all(&self.log)?.into_iter().next();
            self.begin(first);
        }
        let failed = reading(&self.log);
        let Some(piece) = &mut self.file else { return Ok(Batch { caught_up: true, ..Batch::default() }) };
        // Asked first: what was written until a rename is read before the next file is begun.
        let newest = files::is_newest(piece, &self.log);
        let file = piece.file()?;
        let mut bytes = vec![0; BLOCK];
        let got = file.read_at(&mut bytes, self.next).map_err(failed)?;
        bytes.truncate(got);
        let mut batch = Batch::default();
        let mut used = 0;
        while let Some(end) = bytes[used..].iter().position(|byte| *byte == b'\n') {
            let entry = Entry::parse(&bytes[used..used + end]);
            used += end + 1;
            if let Some(entry) = entry {
                batch.entries.push(entry);
                self.ends.push(self.next + used as u64);
            }
            if batch.entries.len() == most {
                break;
            }
        }
        if used == 0 && got == BLOCK {
            self.next += long_line(file, self.next).map_err(reading(&self.log))?;
            return Ok(batch);
        }
        self.next += used as u64;
        if used == 0 {
            if newest {
                batch.caught_up = true;
                return Ok(batch);
            }
            let after = files::open_after(piece, &self.log)?.into_iter().next();
            batch.caught_up = after.is_none();
            if after.is_some() {
                self.begin(after);
            }
        }
        Ok(batch)
    }

    /// What was read has been taken.
    pub fn acknowledge(&mut self) -> Result<(), Error> {
        let failed = reading(&self.log);
        let Some(piece) = &mut self.file else { return Ok(()) };
        if self.place.first.is_empty() {
            self.place.inode = piece.inode();
            self.place.first = first_line(piece.file()?).map_err(failed)?;
        }
        self.place.offset = self.next;
        let json = serde_json::to_vec(&self.place).unwrap_or_default();
        let path = self.log.with_file_name(FILE);
        sys::proc::replace_file(&path, &json, 0o600).map_err(|source| Error { verb: "write", path, source })
    }

    /// Of the entries that were read last only so many have been taken: the others are read again.
    pub fn acknowledge_first(&mut self, entries: usize) -> Result<(), Error> {
        if entries < self.ends.len() {
            let Some(last) = entries.checked_sub(1) else {
                self.go_back();
                return Ok(());
            };
            self.next = self.ends[last];
        }
        self.acknowledge()
    }

    /// What was read has not been taken: it is read again.
    pub fn go_back(&mut self) {
        self.next = self.place.offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn line(number: u32) -> String {
        format!(
            "{{\"log\":\"line {number}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.{number:09}Z\"}}\n"
        )
    }

    fn texts(batch: &Batch) -> Vec<String> {
        batch.entries.iter().map(|entry| entry.text.clone()).collect()
    }

    #[test]
    fn what_was_acknowledged_is_not_read_again_across_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("json.log");
        let (mut cursor, gap) = Cursor::open(&log).unwrap();
        assert!(!gap && cursor.read().unwrap().caught_up);
        fs::write(&log, line(1) + &line(2) + "{\"log\":\"half").unwrap();
        assert_eq!(texts(&cursor.read().unwrap()), ["line 1", "line 2"]);
        // Not taken: once more.
        cursor.go_back();
        assert_eq!(texts(&cursor.read().unwrap()), ["line 1", "line 2"]);
        cursor.acknowledge().unwrap();
        fs::write(&log, line(1) + &line(2) + &line(3)).unwrap();
        fs::rename(&log, dir.path().join("json.log.1")).unwrap();
        fs::write(&log, line(4)).unwrap();
        let (mut cursor, gap) = Cursor::open(&log).unwrap();
        assert!(!gap);
        let mut all = Vec::new();
        loop {
            let batch = cursor.read().unwrap();
            all.extend(texts(&batch));
            cursor.acknowledge().unwrap();
            if batch.caught_up {
                break;
            }
        }
        assert_eq!(all, ["line 3", "line 4"]);
        let (mut cursor, _) = Cursor::open(&log).unwrap();
        assert!(cursor.read().unwrap().caught_up);
    }

    #[test]
    fn of_what_was_taken_in_part_the_rest_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("json.log");
        fs::write(&log, line(1) + "no entry\n" + &line(2) + &line(3) + "no entry\n").unwrap();
        let (mut cursor, _) = Cursor::open(&log).unwrap();
        for (taken, left) in [(0, 3), (1, 2), (0, 2), (1, 1)] {
            cursor.read().unwrap();
            cursor.acknowledge_first(taken).unwrap();
            assert_eq!(cursor.read().unwrap().entries.len(), left);
            cursor.go_back();
        }
        let (mut cursor, _) = Cursor::open(&log).unwrap();
        assert_eq!(texts(&cursor.read_most(1).unwrap()), ["line 3"]);
        cursor.acknowledge_first(1).unwrap();
        assert!(Cursor::open(&log).unwrap().0.read().unwrap().entries.is_empty());
    }

    #[test]
    fn of_too_many_that_wait_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("json.log");
        fs::write(dir.path().join("json.log.1"), (0..40).map(line).collect::<String>()).unwrap();
        fs::write(&log, (40..50).map(line).collect::<String>()).unwrap();
        let (mut cursor, _) = Cursor::open(&log).unwrap();
        assert_eq!(cursor.keep_last(&log, 5000).unwrap(), 0);
        assert_eq!(cursor.keep_last(&log, 12).unwrap(), 38);
        assert_eq!(texts(&cursor.read().unwrap()), ["line 38", "line 39"]);
        cursor.go_back();
        assert_eq!(cursor.keep_last(&log, 12).unwrap(), 0);
        assert_eq!(cursor.keep_last(&log, 3).unwrap(), 9);
        assert_eq!(texts(&cursor.read().unwrap()), ["line 47", "line 48", "line 49"]);
    }

    /// A file may get the number of one that rotation threw away: here it is the same one, written anew.
    #[test]
    fn a_file_with_the_number_of_another_and_lines_as_long_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("json.log");
        let text = "x".repeat(20_000);
        let line = |nanos: u32| {
            format!(
                "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.{nanos:09}Z\"}}\n"
            )
        };
        fs::write(&log, line(1)).unwrap();
        let (mut cursor, _) = Cursor::open(&log).unwrap();
        assert_eq!(cursor.read().unwrap().entries.len(), 1);
        cursor.acknowledge().unwrap();
        fs::write(&log, line(1) + &line(2)).unwrap();
        let (mut cursor, gap) = Cursor::open(&log).unwrap();
        assert_eq!((gap, cursor.read().unwrap().entries.len()), (false, 1));
        fs::write(&log, line(3) + &line(4)).unwrap();
        let (mut cursor, gap) = Cursor::open(&log).unwrap();
        assert_eq!((gap, cursor.read().unwrap().entries.len()), (true, 2));
    }

    #[test]
    fn what_rotation_threw_away_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("json.log");
        fs::write(&log, line(1)).unwrap();
        let (mut cursor, _) = Cursor::open(&log).unwrap();
        cursor.read().unwrap();
        cursor.acknowledge().unwrap();
        fs::remove_file(&log).unwrap();
        fs::write(&log, line(8) + &line(9)).unwrap();
        let (mut cursor, gap) = Cursor::open(&log).unwrap();
        assert!(gap);
        assert_eq!(texts(&cursor.read().unwrap()), ["line 8", "line 9"]);
    }
}
