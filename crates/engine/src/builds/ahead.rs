//! A second look at a tree, from its end, while somebody walks over it from its beginning: where they meet, each has done a half.
//!
//! What a walk over known files waits for is what the kernel says of each. A directory is looked at by one of the two, and what was seen
//! ahead is taken when the walk gets there.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use build::ignore::Above;
use sys::fsx::{self, FileType, Stat};

use super::select::Sieve;

/// Entries that are seen ahead and not taken yet: some two hundred bytes of memory each.
const ENTRIES_MAX: usize = 50_000;
/// Directories that are known, of either: beyond, the walk goes on alone.
const PLACES_MAX: usize = 100_000;
/// Directories within each other that are looked at ahead.
const DEPTH_MAX: usize = 64;

/// Names in a directory, in their order, and what each is.
pub(super) type Seen = Vec<(OsString, Stat)>;

/// Who looks at a directory.
#[derive(Debug)]
enum Place {
    /// The walk.
    Walked,
    /// Who looks ahead, just now.
    Looking,
    /// It was looked at.
    Seen(Seen),
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<PathBuf, Place>,
    /// Where the walk is.
    at: PathBuf,
    /// Entries that wait.
    entries: usize,
}

/// What is seen ahead of a walk.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    is_over: AtomicBool,
}

/// Ends the look ahead with the walk, also with one that fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A walk, and who looks ahead of it in the same directory. `whole` is its path from the root of what the patterns count from, `above`
/// what of them has matched the directories above.
pub(super) fn beside<T>(
    dir: &OwnedFd,
    sieve: &Sieve,
    whole: &Path,
    above: &Above,
    walk: impl FnOnce(Option<&Ahead>) -> T,
) -> T {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    let processors = PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
    let own = dir.try_clone();
    let (1.., Ok(own)) = (processors.saturating_sub(1), own) else { return walk(None) };
    let ahead = Ahead::default();
    std::thread::scope(|scope| {
        let mut looker =
            Looker { ahead: &ahead, sieve, whole: whole.to_owned(), path: PathBuf::new(), depth: 0 };
        let look = move || {
            // What it cannot look at the walk will, and tells.
            let _ = looker.directory(&own, above, &Above::default());
        };
        // Without a thread the walk does all.
        let _ = std::thread::Builder::new().name("look ahead".into()).spawn_scoped(scope, look);
        let _ends = Ends(&ahead.is_over);
        walk(Some(&ahead))
    })
}

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The walk comes to a directory: what was seen in it, if it was looked at.
    pub(super) fn take(&self, path: &Path) -> Option<Seen> {
        let mut state = self.lock();
        path.clone_into(&mut state.at);
        if state.places.len() >= PLACES_MAX {
            self.is_over.store(true, Ordering::Relaxed);
        }
        let known = if self.is_over.load(Ordering::Relaxed) {
            state.places.remove(path)
        } else {
            state.places.insert(path.to_owned(), Place::Walked)
        };
        match known {
            Some(Place::Seen(seen)) => {
                state.entries -= seen.len();
                Some(seen)
            }
            _ => None,
        }
    }

    /// Whether the walk has left a directory behind, and all that is before it.
    fn is_behind(&self, path: &Path) -> bool {
        let state = self.lock();
        matches!(state.places.get(path), Some(Place::Walked)) && !state.at.starts_with(path)
    }

    /// Takes a directory for the look ahead, if it is still free and there is room for what is in it.
    fn claim(&self, path: &Path, entries: usize) -> ControlFlow<(), bool> {
        let mut state = self.lock();
        if self.is_over.load(Ordering::Relaxed) || state.entries + entries > ENTRIES_MAX {
            return ControlFlow::Break(());
        }
        if state.places.contains_key(path) {
            return ControlFlow::Continue(false);
        }
        state.places.insert(path.to_owned(), Place::Looking);
        ControlFlow::Continue(true)
    }

    fn give(&self, path: &Path, seen: Seen) {
        let mut state = self.lock();
        let count = seen.len();
        // The walk was not to wait for it.
        if let Some(place @ Place::Looking) = state.places.get_mut(path) {
            *place = Place::Seen(seen);
            state.entries += count;
        }
    }
}

struct Looker<'a> {
    ahead: &'a Ahead,
    sieve: &'a Sieve,
    /// Where it is: from the root of all, and from where the walk begins.
    whole: PathBuf,
    path: PathBuf,
    depth: usize,
}

impl Looker<'_> {
    /// Directories first, the last first; then what is in this one.
    fn directory(&mut self, fd: &OwnedFd, ignored: &Above, excluded: &Above) -> io::Result<ControlFlow<()>> {
        let mut entries = fsx::list(fd)?;
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for entry in entries.iter().rev() {
            if entry.kind != FileType::Directory || self.depth >= DEPTH_MAX {
                continue;
            }
            self.whole.push(&entry.name);
            self.path.push(&entry.name);
            let judged = self.sieve.judge(&self.whole, &self.path, (ignored, excluded));
            if !judged.is_buried {
                if self.ahead.is_behind(&self.path) {
                    return Ok(ControlFlow::Break(()));
                }
                let below = fsx::open_dir_at(fd.as_fd(), &entry.name)?;
                self.depth += 1;
                if self.directory(&below, &judged.ignored, &judged.excluded)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.depth -= 1;
            }
            self.whole.pop();
            self.path.pop();
        }
        match self.ahead.claim(&self.path, entries.len()) {
            ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
            ControlFlow::Continue(false) => return Ok(ControlFlow::Continue(())),
            ControlFlow::Continue(true) => {}
        }
        let mut seen = Seen::with_capacity(entries.len());
        for entry in entries {
            match fsx::stat_at(fd, &entry.name) {
                Ok(stat) => seen.push((entry.name, stat)),
                // Gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.ahead.give(&self.path, seen);
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::select::{Item, Picked, Visitor, pick_one, walk, walk_with_a_look_ahead};
    use super::*;
    use build::ignore::Ignore;
    use sys::path::Root;

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Visitor for Told {
        fn enter(&mut self, item: &Item<'_>, _: &OwnedFd) -> io::Result<()> {
            self.0.push(format!("enter {} {:o}", item.path.display(), item.stat.st_mode));
            Ok(())
        }

        fn leave(&mut self) -> io::Result<()> {
            self.0.push("leave".to_owned());
            Ok(())
        }

        fn node(&mut self, item: &Item<'_>) -> io::Result<()> {
            self.0.push(format!("{} {}", item.path.display(), item.stat.st_size));
            Ok(())
        }
    }

    #[test]
    fn both_tell_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            let path = dir.path().join(format!("tree/{}/{}/{number}", number % 7, number % 31));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x".repeat(number % 5)).unwrap();
        }
        std::os::unix::fs::symlink("tree", dir.path().join("link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for patterns in [&[][..], &["tree/3", "**/2*"], &["tree", "!tree/5/*/1*"]] {
            let ignore = Ignore::from_patterns(patterns.iter().copied()).unwrap();
            let sieve = Sieve { ignore, ..Sieve::default() };
            let picked: Picked = pick_one(&root, "", &sieve).unwrap();
            let (mut one, mut other) = (Told::default(), Told::default());
            walk(&root, &picked, &sieve, &mut one).unwrap();
            for _ in 0..20 {
                other.0.clear();
                walk_with_a_look_ahead(&root, &picked, &sieve, &mut other).unwrap();
                assert_eq!(one.0, other.0);
            }
        }
    }

    #[test]
    fn each_directory_is_looked_at_by_one() {
        let ahead = Ahead::default();
        let path = Path::new("a/b");
        assert_eq!(ahead.claim(path, 1), ControlFlow::Continue(true));
        assert!(ahead.take(path).is_none());
        // The walk has not waited.
        ahead.give(path, Seen::new());
        assert!(ahead.take(path).is_none());
        assert_eq!(ahead.claim(path, 1), ControlFlow::Continue(false));
        assert!(!ahead.is_behind(Path::new("a")) && !ahead.is_behind(path));
        assert!(ahead.take(Path::new("c")).is_none());
        assert!(ahead.is_behind(path));
        assert_eq!(ahead.claim(Path::new("d"), ENTRIES_MAX + 1), ControlFlow::Break(()));
        // What was seen is still taken where nothing more is looked at.
        assert_eq!(ahead.claim(Path::new("e"), 1), ControlFlow::Continue(true));
        ahead.give(Path::new("e"), Seen::new());
        ahead.is_over.store(true, Ordering::Relaxed);
        assert!(ahead.take(Path::new("e")).is_some() && ahead.take(Path::new("f")).is_none());
        assert_eq!(ahead.claim(Path::new("g"), 1), ControlFlow::Break(()));
    }
}
