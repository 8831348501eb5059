//! Digests of files that are remembered from build to build: what was not changed is not read again.
//!
//! A file is known by its place on the disk, its size, and when its content and its attributes were last changed: the kernel stamps
//! each change (`ctime`), and nobody can set that stamp. It goes on in steps, so that a change in the very moment in which a file was
//! read may leave the stamp as it was: a digest is kept only where the stamp is older than that moment (git calls the others racily
//! clean). What a program writes to a mapping of memory is stamped when it first touches the page, and may be missed.
//!
//! All may be lost: then files are read again.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use sys::fsx::{self, Mode, Stat, Time};

use crate::error::{Error, Result};

/// Files that are remembered: about a hundred bytes of memory each.
const FILES_MAX: usize = 200_000;
/// How many of them stay when there are more: some room, so that not each build makes room anew.
const FILES_KEPT: usize = FILES_MAX / 4 * 3;
/// The file that they are kept in, below the data root.
const PLACE: &str = "build";
const NAME: &str = "digests";
/// What it begins with: another version of the engine does not read it.
const HEAD: &[u8; 8] = b"corten\x00\x01";
/// Bytes of a record, and of the digest of all at the end.
const RECORD_BYTES: usize = 80;
const DIGEST_BYTES: usize = 32;
/// Bytes of the file.
const FILE_BYTES_MAX: u64 = (HEAD.len() + FILES_MAX * RECORD_BYTES + DIGEST_BYTES) as u64;
/// How coarse stamps are of filesystems that are not known to be finer: FAT has two seconds, and others' clocks may differ from ours.
const COARSE_SECONDS: i64 = 2;
/// Filesystems whose stamps are those of our own clock, as fine as that: ext4, XFS, Btrfs, tmpfs, overlay, F2FS, bcachefs.
const FINE: [i64; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0xca45_1a4e];

/// A digest of a file: its attributes and its content.
pub(super) type FileDigest = [u8; DIGEST_BYTES];

/// What a file is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    size: i64,
    modified: Time,
    changed: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    state: State,
    digest: FileDigest,
    /// In which build it was last of use.
    used: u32,
}

#[derive(Debug, Default)]
struct Table {
    /// By device and inode.
    files: HashMap<(u64, u64), Known>,
    /// Counts builds.
    build: u32,
    is_changed: bool,
}

/// Digests that are remembered.
#[derive(Debug)]
pub(super) struct Digests {
    place: PathBuf,
    /// Nothing until the first build.
    table: Mutex<Option<Table>>,
}

#[expect(clippy::unnecessary_cast, reason = "the width of these fields differs between architectures")]
fn state(stat: &Stat) -> State {
    let time = |seconds: i64, nanoseconds: i64| Time {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    };
    State {
        size: stat.st_size as i64,
        modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    }
}

/// Says of which files it is certain that a later change shows in their stamp.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    is_fine: bool,
    device: u64,
}

impl Clock {
    /// Of the filesystem of a directory.
    pub(super) fn of(directory: impl AsFd) -> io::Result<Self> {
        let is_fine = FINE.contains(&fsx::filesystem_magic(&directory)?);
        Ok(Self { is_fine, device: fsx::stat(&directory)?.st_dev })
    }

    /// Whether a change from `now` on shows.
    pub(super) fn is_settled(self, stat: &Stat, now: Time) -> bool {
        let changed = state(stat).changed;
        // The clock was set back: what changes now gets another stamp.
        if changed.seconds > now.seconds + COARSE_SECONDS {
            return true;
        }
        if self.is_fine && stat.st_dev == self.device && changed.nanoseconds != 0 {
            return changed < now;
        }
        Time { seconds: changed.seconds + COARSE_SECONDS, ..changed } < now
    }
}

impl Digests {
    pub(super) fn new(data_root: &Path) -> Self {
        Self { place: data_root.join(PLACE), table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A build begins: what earlier ones have left is read.
    pub(super) fn begin(&self) {
        let mut table = self.lock();
        let table = table.get_or_insert_with(|| load(&self.place).unwrap_or_default());
        table.build = table.build.wrapping_add(1);
    }

    /// The digest of a file, if it is known and the file is as it was.
    pub(super) fn find(&self, stat: &Stat) -> Option<FileDigest> {
        let mut table = self.lock();
        let table = table.as_mut()?;
        let known = table.files.get_mut(&(stat.st_dev, stat.st_ino))?;
        if known.state != state(stat) {
            return None;
        }
        known.used = table.build;
        Some(known.digest)
    }

    /// Remembers a digest.
    pub(super) fn put(&self, stat: &Stat, digest: FileDigest) {
        let mut table = self.lock();
        let Some(table) = table.as_mut() else { return };
        let known = Known { state: state(stat), digest, used: table.build };
        table.files.insert((stat.st_dev, stat.st_ino), known);
        table.is_changed = true;
        if table.files.len() > FILES_MAX {
            table.make_room();
        }
    }

    /// Writes what has changed for the next daemon.
    pub(super) fn save(&self) -> Result<()> {
        let bytes = {
            let mut table = self.lock();
            let Some(table) = table.as_mut().filter(|table| table.is_changed) else { return Ok(()) };
            table.is_changed = false;
            table.encode()
        };
        let failed = |error| Error::io("write", &self.place.join(NAME), error);
        std::fs::create_dir_all(&self.place).map_err(failed)?;
        let place = fsx::open_dir(&self.place).map_err(failed)?;
        fsx::write_atomic(&place, NAME, &bytes, Mode::from_raw_mode(0o600)).map_err(failed)
    }
}

impl Table {
    /// Forgets what was of no use for longest.
    fn make_room(&mut self) {
        let mut ages: Vec<u32> =
            self.files.values().map(|known| self.build.wrapping_sub(known.used)).collect();
        let (_, oldest, _) = ages.select_nth_unstable(FILES_KEPT.min(self.files.len() - 1));
        let (oldest, build) = (*oldest, self.build);
        if oldest == 0 {
            // One build alone has more: none of them is better than another.
            let mut left = FILES_KEPT;
            self.files.retain(|_, _| {
                left = left.saturating_sub(1);
                left > 0
            });
        } else {
            self.files.retain(|_, known| build.wrapping_sub(known.used) < oldest);
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD.len() + self.files.len() * RECORD_BYTES + DIGEST_BYTES);
        bytes.extend_from_slice(HEAD);
        for ((device, inode), known) in &self.files {
            let State { size, modified, changed } = known.state;
            for number in [*device, *inode] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&size.to_le_bytes());
            for time in [modified, changed] {
                bytes.extend_from_slice(&time.seconds.to_le_bytes());
                bytes.extend_from_slice(&time.nanoseconds.to_le_bytes());
            }
            bytes.extend_from_slice(&known.digest);
        }
        let whole = Sha256::digest(&bytes);
        bytes.extend_from_slice(&whole);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, whole) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if Sha256::digest(body).as_slice() != whole {
            return None;
        }
        let mut files = HashMap::with_capacity(body.len() / RECORD_BYTES);
        for record in body.strip_prefix(HEAD)?.chunks(RECORD_BYTES) {
            let mut rest = record;
            let place = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
            let size = i64::from_le_bytes(take(&mut rest)?);
            let mut time = || {
                let seconds = i64::from_le_bytes(take(&mut rest)?);
                Some(Time { seconds, nanoseconds: u32::from_le_bytes(take(&mut rest)?) })
            };
            let (modified, changed) = (time()?, time()?);
            let digest = take(&mut rest)?;
            files.insert(place, Known { state: State { size, modified, changed }, digest, used: 0 });
        }
        Some(Self { files, ..Self::default() })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

/// What an earlier daemon has left, if it is whole.
fn load(place: &Path) -> Option<Table> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(place.join(NAME)).ok()?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    Table::decode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn stat(path: &Path) -> Stat {
        fsx::stat(fs::File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn what_was_not_changed_is_known_also_to_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "one").unwrap();
        let digests = Digests::new(dir.path());
        digests.begin();
        let before = stat(&file);
        assert_eq!(digests.find(&before), None);
        digests.put(&before, [7; 32]);
        assert_eq!(digests.find(&before), Some([7; 32]));
        digests.save().unwrap();
        let next = Digests::new(dir.path());
        next.begin();
        assert_eq!(next.find(&before), Some([7; 32]));
        fs::write(&file, "two more").unwrap();
        assert_eq!(next.find(&stat(&file)), None);
        // What is torn is not read.
        let kept = dir.path().join(PLACE).join(NAME);
        let mut bytes = fs::read(&kept).unwrap();
        bytes[20] ^= 1;
        fs::write(&kept, bytes).unwrap();
        let torn = Digests::new(dir.path());
        torn.begin();
        assert_eq!(torn.find(&before), None);
    }

    #[test]
    fn a_stamp_that_may_stay_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "one").unwrap();
        let clock = Clock::of(fsx::open_dir(dir.path()).unwrap()).unwrap();
        let stat = stat(&file);
        let changed = state(&stat).changed;
        let later = |seconds| Time { seconds: changed.seconds + seconds, ..changed };
        assert!(!clock.is_settled(&stat, changed));
        assert!(clock.is_settled(&stat, later(1)) == clock.is_fine);
        assert!(clock.is_settled(&stat, later(COARSE_SECONDS + 1)));
        assert!(clock.is_settled(&stat, later(-3600)));
        let other = Clock { is_fine: false, ..clock };
        assert!(!other.is_settled(&stat, later(1)));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut table = Table { build: 3, ..Table::default() };
        let state = State { size: 0, modified: Time::default(), changed: Time::default() };
        for inode in 0..FILES_MAX as u64 + 1 {
            let used = if inode % 2 == 0 { 3 } else { 1 };
            table.files.insert((1, inode), Known { state, digest: [0; 32], used });
        }
        table.make_room();
        assert!(table.files.len() <= FILES_KEPT && table.files.len() >= FILES_MAX / 2);
        assert!(table.files.values().all(|known| known.used == 3));
        for inode in 0..FILES_MAX as u64 + 1 {
            table.files.insert((1, inode), Known { state, digest: [0; 32], used: 3 });
        }
        table.make_room();
        assert!(table.files.len() <= FILES_KEPT);
    }
}
