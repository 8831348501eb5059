//! Content keys: a digest of the files that an instruction means, their names, modes and content, by which the cache knows them again
//! wherever they came from.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use oci::Digest;
use sha2::{Digest as _, Sha256};
use sys::fsx::{self, FileType, Stat, Time};
use sys::path::Root;

use super::digests::{Clock, Digests, FileDigest};
use super::select::{Item, Picked, Sieve, Visitor, attributes, walk_with_a_look_ahead};
use crate::error::{Error, Result};

/// Bytes read at once.
const BUFFER_BYTES: usize = 128 * 1024;
/// How long it is waited until a change of a file would show in its stamp, and how often: the kernel's clock has steps of one to ten
/// milliseconds.
const SETTLING: Duration = Duration::from_millis(12);
const SETTLINGS_MAX: usize = 3;

/// What was found of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    /// The digest of what was picked.
    pub key: Digest,
    /// The digest of when each was last changed.
    stamp: FileDigest,
    /// Whether any change since would show in the stamp.
    settled: bool,
}

impl Survey {
    /// Whether the files are certainly as they were at an earlier survey, and were all the time between.
    pub(super) fn confirms(&self, earlier: &Self) -> bool {
        earlier.settled && self.stamp == earlier.stamp && self.key == earlier.key
    }
}

/// The digest of what was picked. `owners`: whether it matters whose they are.
pub(super) fn key(root: &Root, picked: &[Picked], sieve: &Sieve, owners: bool) -> Result<Digest> {
    Ok(look(root, picked, sieve, owners, None)?.key)
}

/// The same of files that somebody else may change meanwhile, who has changed none of them a moment ago; and by which it is known later
/// whether they are still the same.
pub(super) fn survey(root: &Root, picked: &[Picked], sieve: &Sieve, digests: &Digests) -> Result<Survey> {
    let mut survey = look(root, picked, sieve, false, Some(digests))?;
    for _ in 0..SETTLINGS_MAX {
        if survey.settled {
            break;
        }
        std::thread::sleep(SETTLING);
        survey = look(root, picked, sieve, false, Some(digests))?;
    }
    Ok(survey)
}

fn look(
    root: &Root,
    picked: &[Picked],
    sieve: &Sieve,
    owners: bool,
    digests: Option<&Digests>,
) -> Result<Survey> {
    let memory = match digests {
        None => None,
        Some(digests) => {
            let clock = Clock::of(root).map_err(|error| Error::io("look at", Path::new("."), error))?;
            let now = sys::timer::file_time();
            Some(Memory { digests, clock, now, stamps: Sha256::new(), settled: true })
        }
    };
    let mut keys = Keys { hasher: Sha256::new(), owners, buffer: Vec::new(), memory };
    for one in picked {
        let failed = |error| Error::io("read", &one.path, error);
        let name = one.path.file_name().unwrap_or_default();
        keys.text(name.as_bytes());
        if let Some(only) = &one.only {
            keys.text(only.as_bytes());
        }
        if one.is_directory {
            // What is in it is copied, and nothing of itself.
            keys.text(b"directory");
            if let Some(memory) = &mut keys.memory {
                let at = if one.path.as_os_str().is_empty() { Path::new(".") } else { &one.path };
                memory.stamp(&root.stat(at).map_err(failed)?);
            }
            walk_with_a_look_ahead(root, one, sieve, &mut keys)?;
            keys.leave().map_err(failed)?;
        } else {
            let handle = root.open_path(&one.path).map_err(failed)?;
            let stat = fsx::stat(&handle).map_err(failed)?;
            keys.head(letter(&stat), Path::new(""), &stat);
            if fsx::kind(&stat) == FileType::RegularFile {
                keys.file(&stat, || fsx::open_regular_handle(handle)).map_err(failed)?;
            }
        }
    }
    let (stamp, settled) = match keys.memory {
        None => (FileDigest::default(), true),
        Some(memory) => (memory.stamps.finalize().into(), memory.settled),
    };
    Ok(Survey { key: Digest::from_sha256(keys.hasher.finalize().into()), stamp, settled })
}

fn letter(stat: &Stat) -> u8 {
    match fsx::kind(stat) {
        FileType::RegularFile => b'f',
        FileType::Directory => b'd',
        FileType::Symlink => b'l',
        FileType::Fifo => b'p',
        FileType::CharacterDevice => b'c',
        FileType::BlockDevice => b'b',
        _ => b'?',
    }
}

/// What is known of files that may change meanwhile.
struct Memory<'a> {
    digests: &'a Digests,
    clock: Clock,
    /// When the look at them began.
    now: Time,
    stamps: Sha256,
    settled: bool,
}

impl Memory<'_> {
    fn stamp(&mut self, stat: &Stat) {
        self.settled &= self.clock.is_settled(stat, self.now);
        let mut stamp = [0; 48];
        let parts: [[u8; 8]; 6] = [
            stat.st_ino.to_le_bytes(),
            stat.st_ctime.to_le_bytes(),
            stat.st_ctime_nsec.to_le_bytes(),
            stat.st_mtime.to_le_bytes(),
            stat.st_mtime_nsec.to_le_bytes(),
            stat.st_size.to_le_bytes(),
        ];
        stamp.copy_from_slice(parts.as_flattened());
        self.stamps.update(stamp);
    }
}

struct Keys<'a> {
    hasher: Sha256,
    owners: bool,
    buffer: Vec<u8>,
    memory: Option<Memory<'a>>,
}

impl Keys<'_> {
    /// With its length, so that no two texts are one.
    fn text(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    fn head(&mut self, kind: u8, path: &Path, stat: &Stat) {
        self.hasher.update([kind]);
        self.text(path.as_os_str().as_bytes());
        self.hasher.update((stat.st_mode & 0o7777).to_le_bytes());
        if self.owners {
            self.hasher.update(stat.st_uid.to_le_bytes());
            self.hasher.update(stat.st_gid.to_le_bytes());
        }
        if matches!(kind, b'c' | b'b') {
            self.hasher.update(stat.st_rdev.to_le_bytes());
        }
        if let Some(memory) = &mut self.memory {
            memory.stamp(stat);
        }
    }

    /// The digest of a file that was looked at and is opened only if it is not known.
    fn file(&mut self, stat: &Stat, open: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        if let Some(memory) = &self.memory
            && let Some(known) = memory.digests.find(stat)
        {
            self.hasher.update(known);
            return Ok(());
        }
        let file = open()?;
        let now = sys::timer::file_time();
        let before = fsx::stat(&file)?;
        let digest = digest(&file, &mut self.buffer)?;
        self.hasher.update(digest);
        let Some(memory) = &mut self.memory else { return Ok(()) };
        let after = fsx::stat(&file)?;
        if !is_same(stat, &before) || !is_same(&before, &after) {
            memory.settled = false;
        } else if memory.clock.is_settled(&after, now) {
            memory.digests.put(&after, digest);
        }
        Ok(())
    }
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    let state = |stat: &Stat| {
        (
            stat.st_dev,
            stat.st_ino,
            stat.st_size,
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_ctime,
            stat.st_ctime_nsec,
        )
    };
    state(one) == state(other)
}

/// The digest of a file's attributes and its content.
fn digest(mut file: &File, buffer: &mut Vec<u8>) -> io::Result<FileDigest> {
    buffer.resize(BUFFER_BYTES, 0);
    let mut hasher = Sha256::new();
    for (name, value) in attributes(file.as_fd())? {
        for text in [name.as_bytes(), &value] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
    }
    hasher.update(u64::MAX.to_le_bytes());
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Visitor for Keys<'_> {
    fn enter(&mut self, item: &Item<'_>, fd: &OwnedFd) -> io::Result<()> {
        self.head(b'd', item.path, item.stat);
        // They are copied with it.
        for (name, value) in attributes(fd)? {
            self.hasher.update(b"@");
            self.text(name.as_bytes());
            self.text(&value);
        }
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        self.hasher.update(b")");
        Ok(())
    }

    fn node(&mut self, item: &Item<'_>) -> io::Result<()> {
        let kind = letter(item.stat);
        self.head(kind, item.path, item.stat);
        match kind {
            b'f' => self.file(item.stat, || fsx::open_regular_at(item.dir, item.name)),
            b'l' => {
                let link = sys::path::read_link_at(item.dir.as_fd(), item.name)?;
                self.text(link.as_os_str().as_bytes());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::select::pick_one;
    use super::*;

    #[test]
    fn what_is_copied_with_a_directory_is_in_its_key() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("files/sub")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let sieve = Sieve::default();
        let keyed = |owners| {
            let picked = pick_one(&root, "files", &sieve).unwrap();
            key(&root, &[picked], &sieve, owners).unwrap()
        };
        let before = keyed(false);
        let sub = root.open_dir("files/sub").unwrap();
        if sys::xattr::set(&sub, std::ffi::OsStr::new("user.told"), b"x").is_ok() {
            assert_ne!(keyed(false), before);
        }
        let (told, owned) = (keyed(false), keyed(true));
        if fsx::chown(&sub, 7, 8).is_ok() {
            assert_eq!(keyed(false), told);
            assert_ne!(keyed(true), owned);
        }
    }
}
