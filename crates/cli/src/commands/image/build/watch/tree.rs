//! Watches directories and all that is below them.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use build::ignore::Above;
use rustix::io::Errno;
use sys::fsx::{self, FileType};
use sys::inotify::{Event, Inotify, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::place::{Own, Place};
use crate::error::{Error, Result};

/// Directories that are watched: what is below a megabyte each in the kernel is far above that for more.
const DIRECTORIES_MAX: usize = 1_000_000;
/// Directories within each other: as deep as a context is read.
const DEPTH_MAX: usize = 512;
/// Changes that are gathered: nobody reads more names.
pub(super) const CHANGED_MAX: usize = 1000;
/// What the kernel tells of its bound.
const WATCHES_MAX: &str = "/proc/sys/fs/inotify/max_user_watches";
/// What a change is.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

/// Who is told of changes.
pub(super) struct Watcher {
    queue: AsyncFd<Inotify>,
    places: Vec<Place>,
    /// What is not watched, with all that is below.
    outputs: Vec<PathBuf>,
    own: Own,
    /// The directories, by the numbers of their watches.
    directories: HashMap<i32, Directory>,
    /// Whether all has to be looked at again: rules may have changed, or changes were lost.
    is_stale: bool,
    /// Whether a file was found in a new directory that is not hidden.
    has_found: bool,
}

/// A directory that is watched.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// As whose part: the number of the place, and what of its rules matched so far. A place may be within another.
    trees: Vec<(usize, Above)>,
}

impl Watcher {
    /// Watches nothing yet.
    #[expect(
        deprecated,
        reason = "the new name is unsafe for types whose descriptor may change; an owned one does not"
    )]
    pub(super) fn new(places: Vec<Place>, outputs: Vec<PathBuf>) -> Result<Self> {
        let queue = Inotify::new().and_then(|queue| AsyncFd::with_interest(queue, Interest::READABLE));
        let queue = queue.map_err(|source| match source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) {
            true => Error::say(
                "cannot watch anything: all of this user's queues are taken: raise fs.inotify.max_user_instances (sudo sysctl -w fs.inotify.max_user_instances=512)",
            ),
            false => Error::File { verb: "watch", path: "files".to_owned(), source },
        })?;
        let directories = HashMap::new();
        Ok(Self {
            queue,
            places,
            outputs,
            own: Own::default(),
            directories,
            is_stale: true,
            has_found: false,
        })
    }

    /// Takes what is watched by name, and rules. What is new of either is looked at before it returns.
    pub(super) fn read_files(&mut self, own: Own) -> Result<()> {
        let is_same = self.own.files == own.files && !self.is_stale;
        self.own = own;
        if is_same {
            return Ok(());
        }
        self.is_stale = false;
        let old: Vec<i32> = self.directories.drain().map(|(watch, _)| watch).collect();
        for number in 0..self.places.len() {
            let path = self.places[number].path.clone();
            let opened = fsx::open_dir(&path).map_err(|source| file("watch", &path, source))?;
            self.add(&opened, &path, Some((number, Above::default())), 0)?;
        }
        let above: BTreeSet<PathBuf> =
            self.own.files.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        for path in above {
            // That there is no such directory the build tells.
            if let Ok(opened) = fsx::open_dir(&path) {
                self.add(&opened, &path, None, 0)?;
            }
        }
        for watch in old {
            if !self.directories.contains_key(&watch) {
                self.queue
                    .get_ref()
                    .unwatch(watch)
                    .map_err(|source| file("watch", Path::new("files"), source))?;
            }
        }
        Ok(())
    }

    /// What has changed that a build may read. It may be given up at any time: what was not told stays in the queue.
    pub(super) async fn changed(&mut self) -> Result<BTreeSet<String>> {
        loop {
            let mut ready = self.queue.readable().await.map_err(|e| file("watch", Path::new("files"), e))?;
            let events = ready.get_inner().read().map_err(|e| file("watch", Path::new("files"), e))?;
            if events.is_empty() {
                ready.clear_ready();
                continue;
            }
            drop(ready);
            let mut changed = BTreeSet::new();
            for event in events {
                self.take(&event, &mut changed)?;
            }
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    fn take(&mut self, event: &Event, changed: &mut BTreeSet<String>) -> Result<()> {
        if event.changes.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.is_stale = true;
            changed.insert("more than can be told".to_owned());
            return Ok(());
        }
        if event.changes.contains(ReadFlags::IGNORED) {
            self.directories.remove(&event.watch);
            return Ok(());
        }
        let Some(directory) = self.directories.get(&event.watch) else { return Ok(()) };
        let Some(name) = &event.name else {
            return self.changed_itself(event);
        };
        let path = directory.path.join(name);
        if self.outputs.iter().any(|output| path.starts_with(output) || is_unfinished(&path, output)) {
            return Ok(());
        }
        let (parent, trees) = (directory.path.clone(), directory.trees.clone());
        let is_directory = event.changes.contains(ReadFlags::ISDIR);
        if self.own.files.contains(&path) {
            // What it includes, and what it hides, may be others now.
            self.is_stale = true;
            tell(&path, &self.places, changed);
        }
        if is_directory && event.changes.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) {
            self.forget(&path)?;
        }
        for (number, above) in trees {
            let (is_hidden, matched) = self.hides(number, &path, &above);
            if !is_hidden {
                tell(&path, &self.places, changed);
            }
            let is_new = event.changes.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            if is_directory && is_new && (!is_hidden || self.own.ignore.has_exceptions()) {
                // It may be gone already, or be a link by now.
                let opened = fsx::open_dir(&parent).and_then(|above| fsx::open_dir_at(&above, name));
                if let Ok(opened) = opened {
                    self.has_found = false;
                    self.add(&opened, &path, Some((number, matched)), 0)?;
                    // What was brought back of what is hidden, and was made in it before it was watched.
                    if is_hidden && self.has_found {
                        tell(&path, &self.places, changed);
                    }
                }
            }
        }
        // A directory that a file is to be in.
        if is_directory && self.own.files.iter().any(|file| file.starts_with(&path)) {
            self.is_stale = true;
            tell(&path, &self.places, changed);
        }
        Ok(())
    }

    /// A directory itself has changed. Of those below another that one tells more.
    fn changed_itself(&mut self, event: &Event) -> Result<()> {
        let is_gone = event.changes.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF);
        let path = self.directories.get(&event.watch).map(|directory| directory.path.clone());
        match path.filter(|path| is_gone && self.places.iter().any(|place| place.path == *path)) {
            Some(path) => {
                Err(Error::Message(format!("{} is gone: there is nothing to watch any more", path.display())))
            }
            None => Ok(()),
        }
    }

    /// Whether a path of a place is hidden.
    fn hides(&self, number: usize, path: &Path, above: &Above) -> (bool, Above) {
        let place = &self.places[number];
        if !place.is_context {
            return (false, Above::default());
        }
        let below = path.strip_prefix(&place.path).unwrap_or(path);
        self.own.hides(&below.to_string_lossy(), above)
    }

    /// Watches a directory, and those below it if it is part of a place.
    fn add(
        &mut self,
        opened: &OwnedFd,
        path: &Path,
        tree: Option<(usize, Above)>,
        depth: usize,
    ) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::Message(format!(
                "cannot watch {}: it is more than {DEPTH_MAX} deep",
                path.display()
            )));
        }
        if self.outputs.iter().any(|output| path == output) {
            return Ok(());
        }
        let watch = self.queue.get_ref().watch_open(opened.as_fd(), CHANGES);
        let watch = watch.map_err(|source| refused(path, source))?;
        let directory = self
            .directories
            .entry(watch)
            .or_insert_with(|| Directory { path: path.to_owned(), trees: Vec::new() });
        path.clone_into(&mut directory.path);
        let Some((number, above)) = tree else { return Ok(()) };
        directory.trees.retain(|(other, _)| *other != number);
        directory.trees.push((number, above.clone()));
        if self.directories.len() > DIRECTORIES_MAX {
            return Err(Error::Message(format!(
                "cannot watch {}: there are more than {DIRECTORIES_MAX} directories: hide some in .dockerignore",
                path.display()
            )));
        }
        // The watch is there: what is made from here on is told.
        let Ok(entries) = fsx::list(opened) else { return Ok(()) };
        for entry in entries {
            let path = path.join(&entry.name);
            let is_directory = matches!(entry.kind, FileType::Directory | FileType::Unknown);
            if !is_directory && self.has_found {
                continue;
            }
            let (is_hidden, matched) = self.hides(number, &path, &above);
            self.has_found |= !is_hidden;
            if !is_directory {
                continue;
            }
            if is_hidden && !self.own.ignore.has_exceptions() {
                continue;
            }
            match fsx::open_dir_at(opened, &entry.name) {
                Ok(below) => self.add(&below, &path, Some((number, matched)), depth + 1)?,
                // Gone meanwhile, no directory, or nothing that the build could read.
                Err(_) => continue,
            }
        }
        Ok(())
    }

    /// Watches no more what is below a path that has gone from there.
    fn forget(&mut self, path: &Path) -> Result<()> {
        let gone: Vec<i32> = self
            .directories
            .iter()
            .filter(|(_, directory)| directory.path.starts_with(path))
            .map(|(watch, _)| *watch)
            .collect();
        for watch in gone {
            self.directories.remove(&watch);
            self.queue.get_ref().unwatch(watch).map_err(|source| file("watch", path, source))?;
        }
        Ok(())
    }
}

/// Notes a change, by a name that people know it by.
fn tell(path: &Path, places: &[Place], changed: &mut BTreeSet<String>) {
    if changed.len() < CHANGED_MAX {
        let context = places.first().and_then(|place| path.strip_prefix(&place.path).ok());
        changed.insert(context.unwrap_or(path).display().to_string());
    }
}

/// Whether it is an archive that has not its name yet.
fn is_unfinished(path: &Path, output: &Path) -> bool {
    let name =
        |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.parent() == output.parent() && {
        let name_of_path = name(path);
        name_of_path.starts_with(&format!(".{}.", name(output))) && name_of_path.ends_with(".part")
    }
}

fn file(verb: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { verb, path: path.display().to_string(), source }
}

/// Why a directory cannot be watched.
fn refused(path: &Path, source: io::Error) -> Error {
    if source.raw_os_error() != Some(Errno::NOSPC.raw_os_error()) {
        return file("watch", path, source);
    }
    let now = std::fs::read_to_string(WATCHES_MAX).unwrap_or_default();
    Error::Message(format!(
        "cannot watch {}: this user may watch no more directories: raise fs.inotify.max_user_watches, which is {} (sudo sysctl -w fs.inotify.max_user_watches=1048576), or hide directories in .dockerignore",
        path.display(),
        now.trim()
    ))
}
