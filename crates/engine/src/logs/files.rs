//! The files of one log: the newest, and those that rotation renamed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Error;

/// More rotated files than anybody keeps open for one log.
const MAX_FILES: u32 = 1000;

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

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn open(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error { verb: "open", path: path.to_owned(), source }),
    }
}

/// Opens all files of a log, oldest first, as they were at one moment.
pub(super) fn open_all(path: &Path) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    for _ in 0..TRIES {
        files.clear();
        let mut same = true;
        for number in 0..MAX_FILES {
            let Some(file) = open(&name(path, number))? else {
                // Between two renames there may be no newest file.
                if number == 0 {
                    continue;
                }
                break;
            };
            files.push((number, file));
        }
        for (number, file) in &files {
            same &= identity(file).ok() == identity_of(&name(path, *number));
        }
        if same {
            break;
        }
    }
    Ok(files.into_iter().rev().map(|(_, file)| file).collect())
}

/// Whether `file` is still the newest of the log.
pub(super) fn is_newest(file: &File, path: &Path) -> bool {
    // A missing name is a rotation in its middle: the new file is about to come.
    identity_of(path).is_none_or(|newest| identity(file).is_ok_and(|own| own == newest))
}

/// Opens the files that come after `file`, oldest first; all there are if it is gone.
pub(super) fn open_after(file: &File, path: &Path) -> Result<Vec<File>, Error> {
    let own = identity(file).ok();
    let all = open_all(path)?;
    let at = all.iter().position(|other| identity(other).ok() == own);
    Ok(all.into_iter().skip(at.map_or(0, |at| at + 1)).collect())
}

/// Finds where the last `lines` of the files begin: which file, and at which byte.
pub(super) fn find_tail(files: &[File], lines: u64) -> io::Result<(usize, u64)> {
    let mut missing = lines;
    for (index, file) in files.iter().enumerate().rev() {
        let mut end = whole_lines(file)?;
        if missing == 0 {
            return Ok((index, end));
        }
        // The line feed at the end belongs to the last line.
        let mut block = vec![0; BLOCK];
        let mut last = end.saturating_sub(1);
        while last > 0 {
            let length = usize::try_from(last).unwrap_or(BLOCK).min(BLOCK);
            let begin = last - length as u64;
            file.read_exact_at(&mut block[..length], begin)?;
            for at in (0..length).rev().filter(|at| block[*at] == b'\n') {
                missing -= 1;
                if missing == 0 {
                    return Ok((index, begin + at as u64 + 1));
                }
            }
            last = begin;
        }
        if end > 0 {
            missing -= 1;
            end = 0;
            if missing == 0 {
                return Ok((index, end));
            }
        }
    }
    Ok((0, 0))
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
        let files = open_all(&path).expect("open");
        let tail = |lines| find_tail(&files, lines).expect("find");
        assert_eq!(tail(0), (1, 11));
        assert_eq!(tail(1), (1, 6));
        assert_eq!(tail(2), (1, 0));
        assert_eq!(tail(3), (0, 4));
        assert_eq!(tail(4), (0, 0));
        assert_eq!(tail(100), (0, 0));
        let long: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        fs::write(&path, &long).expect("write");
        let files = open_all(&path).expect("open");
        let (index, at) = find_tail(&files, 49_999).expect("find");
        assert_eq!((index, at), (1, 7));
        assert_eq!(find_tail(&files, 50_001).expect("find"), (0, 4));
    }

    #[test]
    fn what_comes_after_a_file_that_was_renamed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("l");
        fs::write(&path, "a").expect("write");
        let file = File::open(&path).expect("open");
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
}
