//! The files of one log: the newest, and those that rotation renamed and, where that was asked for, compressed.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use rustix::fs::OFlags;

use super::Error;

/// More rotated files than anybody keeps open for one log.
const MAX_FILES: u32 = 1000;

/// How many numbers may be free before a file.
const MISSING: u32 = 1;

/// How often a set of files is opened anew when rotation comes in between.
const TRIES: u32 = 20;

/// How much is read backwards at a time.
const BLOCK: usize = 64 * 1024;

fn name(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn packed_name(path: &Path, number: u32) -> PathBuf {
    let mut name = name(path, number).into_os_string();
    name.push(shim::log::SUFFIX);
    PathBuf::from(name)
}

/// One file of a log. What is compressed is unpacked when it is first read.
#[derive(Debug)]
pub(crate) struct Piece {
    /// What is read.
    plain: Option<File>,
    /// What it is unpacked from.
    packed: Option<File>,
    path: PathBuf,
    /// The number of the file as it was written, also of one that is compressed.
    inode: u64,
    device: u64,
}

impl Piece {
    fn plain(file: File, path: PathBuf) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (inode, device) = (metadata.ino(), metadata.dev());
        Ok(Self { plain: Some(file), packed: None, path, inode, device })
    }

    fn packed(file: File, path: PathBuf) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // One of another writer has no such comment, and is as new to whoever reads on.
        let inode = origin(&file).unwrap_or(0);
        Ok(Self { plain: None, packed: Some(file), path, inode, device: metadata.dev() })
    }

    /// The number of the file as it was written.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// The lines.
    pub(crate) fn file(&mut self) -> Result<&File, Error> {
        if self.plain.is_none() {
            let unpacked = self.packed.as_ref().map(|packed| unpack(packed, &self.path)).transpose();
            let unpacked =
                unpacked.map_err(|source| Error { verb: "unpack", path: self.path.clone(), source })?;
            self.plain = unpacked;
        }
        let missing =
            || Error { verb: "read", path: self.path.clone(), source: io::ErrorKind::NotFound.into() };
        self.plain.as_ref().ok_or_else(missing)
    }

    /// Whether `other`, found later, has the same lines as this one, which was held open meanwhile: so long its number is
    /// nobody else's. Of those that were compressed from a file of that number the newest is it.
    fn is(&self, other: &Self) -> bool {
        match (&self.packed, &other.packed) {
            (Some(own), Some(other)) => identity(own).ok() == identity(other).ok(),
            (Some(_), None) => false,
            (None, _) => self.inode == other.inode && self.device == other.device,
        }
    }

    /// Whether it is there at the same place as when it was opened.
    fn stays(&self, path: &Path, number: u32) -> bool {
        let (file, path) = match &self.packed {
            Some(packed) => (Some(packed), packed_name(path, number)),
            None => (self.plain.as_ref(), name(path, number)),
        };
        file.and_then(|file| identity(file).ok()) == identity_of(&path)
    }
}

/// The number of the file that a compressed one was made from.
fn origin(packed: &File) -> Option<u64> {
    let mut decoder = GzDecoder::new(io::BufReader::new(packed));
    io::Read::read(&mut decoder, &mut []).ok()?;
    let comment = decoder.header()?.comment()?.to_vec();
    std::str::from_utf8(&comment).ok()?.strip_prefix(shim::log::ORIGIN)?.parse().ok()
}

/// Unpacks into a file without a name beside it: a log may be larger than what a daemon may hold in memory.
fn unpack(packed: &File, path: &Path) -> io::Result<File> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let flags = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let mut plain = OpenOptions::new().read(true).write(true).custom_flags(flags).mode(0o600).open(dir)?;
    (&*packed).rewind()?;
    io::copy(&mut GzDecoder::new(io::BufReader::new(packed)), &mut plain)?;
    Ok(plain)
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens what has a number. Where both are there the plain one is whole, and the other not needed yet.
fn open_number(path: &Path, number: u32) -> Result<Option<Piece>, Error> {
    let plain = name(path, number);
    let failed = |source| Error { verb: "open", path: plain.clone(), source };
    if let Some(file) = open(&plain).map_err(failed)? {
        return Piece::plain(file, plain.clone()).map(Some).map_err(failed);
    }
    if number == 0 {
        return Ok(None);
    }
    let packed = packed_name(path, number);
    let Some(file) = open(&packed).map_err(failed)? else { return Ok(None) };
    Piece::packed(file, packed).map(Some).map_err(failed)
}

/// Opens all files of a log, oldest first, as they were at one moment.
pub(crate) fn open_all(path: &Path) -> Result<Vec<Piece>, Error> {
    let mut files = Vec::new();
    for _ in 0..TRIES {
        files.clear();
        // Whoever was killed between two renames left a number free.
        let mut missing = 0;
        for number in 0..MAX_FILES {
            match open_number(path, number)? {
                Some(piece) => files.push((number, piece)),
                // Between two renames there may be no newest file.
                None if number == 0 => {}
                None => missing += 1,
            }
            if missing > MISSING {
                break;
            }
        }
        if files.iter().all(|(number, piece)| piece.stays(path, *number)) {
            break;
        }
    }
    Ok(files.into_iter().rev().map(|(_, piece)| piece).collect())
}

/// How long the files of a log are together; not told where one is compressed.
pub(crate) fn bytes(path: &Path) -> Option<u64> {
    let files = open_all(path).ok()?;
    files.iter().map(|piece| piece.plain.as_ref()?.metadata().ok().map(|metadata| metadata.len())).sum()
}

/// Whether `piece` is still the newest of the log.
pub(crate) fn is_newest(piece: &Piece, path: &Path) -> bool {
    // A missing name is a rotation in its middle: the new file is about to come.
    identity_of(path).is_none_or(|newest| piece.packed.is_none() && newest == (piece.device, piece.inode))
}

/// Opens the files that come after `piece`, oldest first; all there are if it is gone.
pub(crate) fn open_after(piece: &Piece, path: &Path) -> Result<Vec<Piece>, Error> {
    let all = open_all(path)?;
    let at = all.iter().rposition(|other| piece.is(other));
    Ok(all.into_iter().skip(at.map_or(0, |at| at + 1)).collect())
}

/// Finds where the last `lines` of the files begin: which file, and at which byte.
pub(crate) fn find_tail(files: &mut [Piece], lines: u64) -> Result<(usize, u64), Error> {
    let mut missing = lines;
    for (index, piece) in files.iter_mut().enumerate().rev() {
        let path = piece.path.clone();
        let file = piece.file()?;
        let found = tail_of(file, &mut missing);
        if let Some(at) = found.map_err(|source| Error { verb: "read", path, source })? {
            return Ok((index, at));
        }
    }
    Ok((0, 0))
}

/// Where in one file the last lines begin, of which `missing` are wanted; counts those that it has.
fn tail_of(file: &File, missing: &mut u64) -> io::Result<Option<u64>> {
    let end = whole_lines(file)?;
    if *missing == 0 {
        return Ok(Some(end));
    }
    // The line feed at the end belongs to the last line.
    let mut block = vec![0; BLOCK];
    let mut last = end.saturating_sub(1);
    while last > 0 {
        let length = usize::try_from(last).unwrap_or(BLOCK).min(BLOCK);
        let begin = last - length as u64;
        file.read_exact_at(&mut block[..length], begin)?;
        for at in (0..length).rev().filter(|at| block[*at] == b'\n') {
            *missing -= 1;
            if *missing == 0 {
                return Ok(Some(begin + at as u64 + 1));
            }
        }
        last = begin;
    }
    if end > 0 {
        *missing -= 1;
    }
    Ok((end > 0 && *missing == 0).then_some(0))
}

/// The length of a file without a line that is still being written.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let length = usize::try_from(end).unwrap_or(BLOCK).min(BLOCK);
        let begin = end - length as u64;
        file.read_exact_at(&mut block[..length], begin)?;
        if let Some(at) = block[..length].iter().rposition(|b| *b == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn tails_over_files() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("l");
        fs::write(dir.path().join("l.1"), "one\ntwo\n").expect("write");
        fs::write(&path, "three\nfour\nto").expect("write");
        let mut files = open_all(&path).expect("open");
        let mut tail = |lines| find_tail(&mut files, lines).expect("find");
        assert_eq!(tail(0), (1, 11));
        assert_eq!(tail(1), (1, 6));
        assert_eq!(tail(2), (1, 0));
        assert_eq!(tail(3), (0, 4));
        assert_eq!(tail(4), (0, 0));
        assert_eq!(tail(100), (0, 0));
        let long: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        fs::write(&path, &long).expect("write");
        let mut files = open_all(&path).expect("open");
        let (index, at) = find_tail(&mut files, 49_999).expect("find");
        assert_eq!((index, at), (1, 7));
        assert_eq!(find_tail(&mut files, 50_001).expect("find"), (0, 4));
    }

    #[test]
    fn what_comes_after_a_file_that_was_renamed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("l");
        fs::write(&path, "a").expect("write");
        let file = open_number(&path, 0).expect("open").expect("there");
        assert!(is_newest(&file, &path));
        fs::rename(&path, dir.path().join("l.1")).expect("rename");
        assert!(is_newest(&file, &path));
        fs::write(&path, "b").expect("write");
        assert!(!is_newest(&file, &path));
        let after = open_after(&file, &path).expect("open");
        assert_eq!(after.len(), 1);
        fs::remove_file(dir.path().join("l.1")).expect("remove");
        assert_eq!(open_after(&file, &path).expect("open").len(), 1);
    }

    fn pack(dir: &Path, number: u32) {
        let from = dir.join(format!("l.{number}"));
        let inode = fs::metadata(&from).expect("metadata").ino();
        let to = File::create(dir.join(format!("l.{number}.gz"))).expect("create");
        let comment = format!("{}{inode}", shim::log::ORIGIN);
        let mut packed = flate2::GzBuilder::new().comment(comment).write(to, flate2::Compression::fast());
        io::copy(&mut File::open(&from).expect("open"), &mut packed).expect("copy");
        packed.finish().expect("finish");
        fs::remove_file(from).expect("remove");
    }

    #[test]
    fn a_file_that_is_compressed_while_it_is_read_is_not_read_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("l");
        fs::write(dir.path().join("l.2"), "a\n").expect("write");
        fs::write(dir.path().join("l.1"), "b\n").expect("write");
        fs::write(&path, "c\n").expect("write");
        let mut all = open_all(&path).expect("open");
        let held = all.remove(1);
        pack(dir.path(), 2);
        pack(dir.path(), 1);
        assert_eq!(open_after(&held, &path).expect("open").len(), 1);
        let mut all = open_all(&path).expect("open");
        assert_eq!(open_after(&all[1], &path).expect("open").len(), 1);
        let texts: Vec<String> =
            all.iter_mut().map(|piece| io::read_to_string(piece_start(piece)).expect("read")).collect();
        assert_eq!(texts, ["a\n", "b\n", "c\n"]);
        assert_eq!(find_tail(&mut all, 3).expect("find"), (0, 0));
        // Where both are there, the lines are not there twice; and a number may be free.
        fs::write(dir.path().join("l.1"), "b\n").expect("write");
        assert_eq!(open_all(&path).expect("open").len(), 3);
        fs::remove_file(dir.path().join("l.1")).expect("remove");
        fs::remove_file(dir.path().join("l.1.gz")).expect("remove");
        assert_eq!(open_all(&path).expect("open").len(), 2);
    }

    fn piece_start(piece: &mut Piece) -> &File {
        let mut file = piece.file().expect("unpack");
        file.rewind().expect("rewind");
        file
    }
}
