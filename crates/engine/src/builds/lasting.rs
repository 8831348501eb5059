//! Directories that `RUN --mount=type=cache` keeps from build to build: who has them, what they hold, and which go.
//!
//! ```text
//!  <data-root>/build/caches/<name>        the directory, which steps see
//!  <data-root>/build/caches/<name>.used   beside it: who has a lock on it uses the directory; its time is that of the last use,
//!                                         its text what the cache is called
//! ```
//!
//! What is removed is moved away first, to where an engine that starts removes it: a cache is there as a whole or not at all.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sys::fsx;
use sys::lock::Lock;

use super::cache::{CacheEntry, EntryKind, PruneOptions};
use crate::error::{Error, Result};
use crate::names;

/// Where they are, in the engine's root.
const PLACE: &str = "build/caches";
/// What the names of the files beside them end with.
const USED: &str = ".used";
/// What a cache is called, in bytes.
const TITLE_BYTES_MAX: u64 = 4096;
/// How often a file is opened anew because another was put in its place meanwhile.
const TRIES_MAX: usize = 100;

/// The caches of an engine.
#[derive(Debug, Clone)]
pub(super) struct Lasting {
    data_root: PathBuf,
}

/// A directory that somebody uses.
#[derive(Debug)]
pub(super) struct Used {
    /// Where it is, or is to be made.
    pub path: PathBuf,
    /// As long as this is held, nobody removes it.
    pub lock: Lock,
}

/// A directory, and what is known of it.
struct Found {
    name: String,
    title: String,
    bytes: u64,
    in_use: bool,
    used: SystemTime,
    made: SystemTime,
}

impl Lasting {
    /// Those below a root.
    pub fn new(data_root: &Path) -> Self {
        Self { data_root: data_root.to_owned() }
    }

    fn place(&self) -> PathBuf {
        self.data_root.join(PLACE)
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.place().join(format!("{name}{USED}"))
    }

    /// Begins to use a cache, whether it is there or is to be made; `title` is what people call it.
    pub fn enter(&self, name: &str, title: &str) -> Result<Used> {
        let (place, beside) = (self.place(), self.beside(name));
        let failed = |e| Error::io("make the cache", &beside, e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(failed)?;
        for _ in 0..TRIES_MAX {
            let lock = Lock::shared(&beside).map_err(failed)?;
            let mut file = lock.file().map_err(failed)?;
            // Who removed the cache has removed the file with it.
            if !is_at(&file, &beside) {
                continue;
            }
            if file.metadata().map_err(failed)?.len() == 0 {
                file.write_all(title.as_bytes()).map_err(failed)?;
            }
            file.set_modified(SystemTime::now()).map_err(failed)?;
            return Ok(Used { path: place.join(name), lock });
        }
        Err(Error::system(format!("cannot use the cache {title}: it is removed again and again")))
    }

    /// Ends the use of a cache that could not be made: where it is still not there, nothing is left of it.
    pub fn give_up(&self, used: Used, name: &str) {
        drop(used.lock);
        self.forget(name);
    }

    /// Removes what is beside a cache that is not there, unless somebody is about to make it.
    fn forget(&self, name: &str) {
        let beside = self.beside(name);
        if let Ok(Some(lock)) = Lock::try_exclusive(&beside)
            && lock.file().is_ok_and(|file| is_at(&file, &beside))
            && !self.place().join(name).exists()
        {
            // An empty file that is left harms nobody.
            let _ = fs::remove_file(&beside);
        }
    }

    /// Forgets caches that an engine which died was about to make.
    fn forget_missing(&self) {
        let Ok(entries) = fs::read_dir(self.place()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(USED))
                && !self.place().join(name).exists()
            {
                self.forget(name);
            }
        }
    }

    fn found(&self) -> Result<Vec<Found>> {
        let place = self.place();
        let entries = match fs::read_dir(&place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io("list", &place, e))?,
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(fd) = fsx::open_dir(entry.path()) else { continue };
            // A cache that somebody is at work in is measured as far as it stands still.
            let bytes = fsx::usage(fd.as_fd()).map_or(0, |usage| usage.bytes);
            let epoch = SystemTime::UNIX_EPOCH;
            let beside = File::open(self.beside(&name)).ok();
            let known = beside.as_ref().and_then(|file| file.metadata().ok());
            let is_free = || matches!(Lock::try_exclusive(self.beside(&name)), Ok(Some(_)));
            let in_use = beside.is_some() && !is_free();
            let mut title = String::new();
            if let Some(file) = beside {
                // Without its name it is shown by its number.
                let _ = file.take(TITLE_BYTES_MAX).read_to_string(&mut title);
            }
            found.push(Found {
                name,
                title,
                bytes,
                in_use,
                used: known.as_ref().and_then(|known| known.modified().ok()).unwrap_or(epoch),
                made: known.and_then(|known| known.created().ok()).unwrap_or(epoch),
            });
        }
        found.sort_by_key(|one| one.used);
        Ok(found)
    }

    /// All of them, as they are shown.
    pub fn list(&self) -> Result<Vec<CacheEntry>> {
        Ok(self.found()?.into_iter().map(shown).collect())
    }

    /// Removes those that nobody uses, the least recently used first; which, and how many bytes that makes. `keep_bytes` is what
    /// all of them may occupy then.
    pub fn prune(&self, options: &PruneOptions, keep_bytes: u64) -> Result<(Vec<String>, u64)> {
        let found = self.found()?;
        let mut total: u64 = found.iter().map(|one| one.bytes).sum();
        let (mut gone, mut freed) = (Vec::new(), 0);
        for one in found {
            let is_named = options.only.as_ref().is_none_or(|only| only.contains(&one.name));
            let age = one.used.elapsed().map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            let is_old = options.unused_s.is_none_or(|seconds| age >= seconds);
            let fits = keep_bytes > 0 && total <= keep_bytes;
            if !is_named || !is_old || fits || !self.remove(&one.name)? {
                continue;
            }
            total = total.saturating_sub(one.bytes);
            freed += one.bytes;
            gone.push(one.name);
        }
        self.forget_missing();
        Ok((gone, freed))
    }

    /// Removes one, unless somebody uses it.
    fn remove(&self, name: &str) -> Result<bool> {
        let (path, beside) = (self.place().join(name), self.beside(name));
        let failed = |e| Error::io("remove the cache", &path, e);
        let Some(lock) = Lock::try_exclusive(&beside).map_err(failed)? else { return Ok(false) };
        if !is_at(&lock.file().map_err(failed)?, &beside) {
            return Ok(false);
        }
        let away = self.data_root.join(super::context::PLACE);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&away).map_err(failed)?;
        let id = names::new_id()?;
        let moved = fs::rename(&path, away.join(&id));
        let is_gone = moved.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        if is_gone || moved.is_ok() {
            fs::remove_file(&beside).map_err(failed)?;
        }
        if is_gone {
            // Somebody else has removed it: the file beside it was made anew by our looking at it.
            return Ok(false);
        }
        moved.map_err(failed)?;
        drop(lock);
        let away = fsx::open_dir(&away).map_err(failed)?;
        fsx::remove_tree(&away, &id).map_err(failed)?;
        Ok(true)
    }
}

/// Whether an open file is the one that is at a path.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn shown(found: Found) -> CacheEntry {
    let seconds = |at: SystemTime| {
        at.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    };
    let made = jiff::Timestamp::from_second(seconds(found.made)).unwrap_or_default();
    CacheEntry {
        kind: EntryKind::Lasting,
        description: format!("cached mount {}", found.title),
        id: found.name,
        bytes: found.bytes,
        created: made.to_string(),
        used_s: seconds(found.used),
        uses: 0,
        shared: false,
        in_use: found.in_use,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(lasting: &Lasting, name: &str) -> Used {
        let used = lasting.enter(name, &format!("/{name}")).unwrap();
        fs::create_dir_all(&used.path).unwrap();
        fs::write(used.path.join("file"), vec![1; 40 << 10]).unwrap();
        used
    }

    #[test]
    fn what_is_used_stays_and_the_oldest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let lasting = Lasting::new(dir.path());
        assert!(lasting.list().unwrap().is_empty());
        let old = SystemTime::now() - std::time::Duration::from_secs(100);
        drop(filled(&lasting, "a"));
        File::open(lasting.beside("a")).unwrap().set_modified(old).unwrap();
        let used = filled(&lasting, "b");
        drop(filled(&lasting, "c"));
        let names = || -> Vec<String> {
            let mut names: Vec<_> = lasting.list().unwrap().into_iter().map(|one| one.id).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(), ["a", "b", "c"]);
        assert_eq!(lasting.list().unwrap()[0].description, "cached mount /a");
        // Room for two.
        lasting.prune(&PruneOptions::default(), 100 << 10).unwrap();
        assert_eq!(names(), ["b", "c"]);
        let (gone, bytes) = lasting.prune(&PruneOptions::default(), 0).unwrap();
        assert_eq!((gone, names()), (vec!["c".to_owned()], vec!["b".to_owned()]));
        assert!(bytes >= 40 << 10);
        drop(used);
        let young = PruneOptions { unused_s: Some(50), ..PruneOptions::default() };
        assert!(lasting.prune(&young, 0).unwrap().0.is_empty());
        lasting.prune(&PruneOptions::default(), 1 << 30).unwrap();
        assert_eq!(names(), ["b"]);
        lasting.prune(&PruneOptions::default(), 1 << 10).unwrap();
        assert!(names().is_empty());
        // Nothing is left of them, and they can be made again.
        assert_eq!(fs::read_dir(lasting.place()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(dir.path().join(super::super::context::PLACE)).unwrap().count(), 0);
        drop(filled(&lasting, "a"));
        assert_eq!(names(), ["a"]);
    }

    #[test]
    fn two_that_remove_at_once_are_both_right() {
        let dir = tempfile::tempdir().unwrap();
        let lasting = Lasting::new(dir.path());
        drop(filled(&lasting, "a"));
        assert!(lasting.remove("a").unwrap());
        // The second has seen it before the first was done.
        assert!(!lasting.remove("a").unwrap());
        assert_eq!(fs::read_dir(lasting.place()).unwrap().count(), 0);
        for _ in 0..20 {
            (0..8).for_each(|number| drop(filled(&lasting, &number.to_string())));
            let prune = || lasting.prune(&PruneOptions::default(), 0).unwrap().0.len();
            let gone: usize = std::thread::scope(|scope| {
                let others: Vec<_> = (0..3).map(|_| scope.spawn(prune)).collect();
                others.into_iter().map(|other| other.join().unwrap()).sum()
            });
            assert!(gone <= 8);
            lasting.prune(&PruneOptions::default(), 0).unwrap();
            assert_eq!(fs::read_dir(lasting.place()).unwrap().count(), 0);
        }
    }

    #[test]
    fn of_a_cache_that_could_not_be_made_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let lasting = Lasting::new(dir.path());
        let other = lasting.enter("a", "/a").unwrap();
        let used = lasting.enter("a", "/a").unwrap();
        // Another one is about to make it.
        lasting.give_up(used, "a");
        assert!(lasting.beside("a").exists());
        lasting.give_up(other, "a");
        assert!(!lasting.beside("a").exists());
        // An engine has died over it.
        drop(lasting.enter("a", "/a").unwrap());
        lasting.prune(&PruneOptions::default(), 0).unwrap();
        assert!(!lasting.beside("a").exists());
        let used = filled(&lasting, "a");
        lasting.give_up(used, "a");
        assert!(lasting.beside("a").exists());
    }
}
