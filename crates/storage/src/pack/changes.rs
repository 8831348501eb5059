//! What a container has changed: found in its own files alone, with a look at the same names in the layers below.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sys::fsx::{self, FileType};

use super::stubs::is_stub;
use super::tree::{Dir, Found, is_whiteout, join, look, open_parts, same_directory};
use super::{Part, Tree};
use crate::error::{Error, Result};

/// Changes that are told of: they are answered in one document.
const CHANGES_MAX: usize = 2_000_000;
/// What their paths may come to: a container makes names as long as it likes, and whole paths are much longer than what it has on the
/// disk. A million ordinary paths.
const PATHS_BYTES_MAX: usize = 64 << 20;
/// Directories within each other.
const DEPTH_MAX: usize = 512;

/// What has become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A file that a container has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path, beginning with a slash.
    pub path: Vec<u8>,
    /// What has become of it.
    pub kind: ChangeKind,
}

struct Level {
    path: Vec<u8>,
    upper: Dir,
    base: Vec<Dir>,
    todo: Vec<Vec<u8>>,
    /// Where in the list the directory itself is, if it is there.
    told: bool,
    /// Where it would be.
    at: usize,
}

impl Tree {
    /// What the topmost part changes of the base, in the order of names. As with Docker, a directory counts as changed if
    /// something in it was made or removed.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let mut walk =
            Walk { base: &self.base, upper: &self.parts, found: Vec::new(), bytes: 0, levels: Vec::new() };
        let error = |error| Error::io("list", Path::new("/"), error);
        let upper = open_parts(&self.parts).map_err(error)?;
        let base = open_parts(&self.base).map_err(error)?;
        let Some(upper) = upper.into_iter().next() else { return Ok(Vec::new()) };
        walk.enter(Vec::new(), upper, base, true)?;
        while !walk.levels.is_empty() {
            walk.step()?;
        }
        let mut changes: Vec<Change> = walk.found.into_iter().flatten().collect();
        for change in &mut changes {
            change.path.insert(0, b'/');
        }
        Ok(changes)
    }
}

struct Walk<'a> {
    upper: &'a [Part],
    base: &'a [Part],
    /// With room for each directory before what is in it.
    found: Vec<Option<Change>>,
    /// What the paths of these come to.
    bytes: usize,
    levels: Vec<Level>,
}

impl Walk<'_> {
    fn enter(&mut self, path: Vec<u8>, upper: Dir, base: Vec<Dir>, told: bool) -> Result<()> {
        if self.levels.len() >= DEPTH_MAX {
            return Err(Error::Limit { what: "depth of a path in a container", limit: DEPTH_MAX as u64 });
        }
        let list = fsx::list(&upper.fd)
            .map_err(|error| Error::io("list", Path::new(OsStr::from_bytes(&path)), error))?;
        let names: BTreeSet<Vec<u8>> = list.into_iter().map(|entry| entry.name.as_bytes().to_vec()).collect();
        let todo = names.into_iter().rev().collect();
        let at = self.found.len().saturating_sub(1);
        self.levels.push(Level { path, upper, base, todo, told, at });
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let Some(name) = level.todo.pop() else {
            self.levels.pop();
            return Ok(());
        };
        let path = join(&level.path, &name);
        let error = |error| Error::io("look at", Path::new(OsStr::from_bytes(&path)), error);
        let own = std::slice::from_ref(&level.upper);
        let Some(found) = look(own, self.upper, &name, &path).map_err(error)? else { return Ok(()) };
        let below = look(&level.base, self.base, &name, &path).map_err(error)?;
        let below = below.filter(|below| !is_whiteout(&below.stat));
        if below.is_none() && is_stub(&path, &found).map_err(error)? {
            return Ok(());
        }
        let kind = match (&below, is_whiteout(&found.stat)) {
            (None, true) => return Ok(()),
            (Some(_), true) => Some(ChangeKind::Deleted),
            (None, false) => Some(ChangeKind::Added),
            (Some(below), false)
                if !found.opaque && same_directory(&path, &found, below).map_err(error)? =>
            {
                None
            }
            (Some(_), false) => Some(ChangeKind::Modified),
        };
        if matches!(kind, Some(ChangeKind::Added | ChangeKind::Deleted)) && !level.told {
            level.told = true;
            let path = level.path.clone();
            if let Some(place) = self.found.get_mut(level.at) {
                *place = Some(Change { path, kind: ChangeKind::Modified });
            }
        }
        if self.found.len() >= CHANGES_MAX {
            return Err(Error::Limit { what: "number of changed files", limit: CHANGES_MAX as u64 });
        }
        self.bytes += if kind.is_some() { path.len() } else { 0 };
        if self.bytes > PATHS_BYTES_MAX {
            return Err(Error::Limit {
                what: "bytes of the paths of changed files",
                limit: PATHS_BYTES_MAX as u64,
            });
        }
        self.found.push(kind.map(|kind| Change { path: path.clone(), kind }));
        let Found { stat, mut dirs, opaque, .. } = found;
        if fsx::kind(&stat) == FileType::Directory
            && let Some(upper) = dirs.pop()
        {
            let base = below.filter(|_| !opaque).map(|below| below.dirs).unwrap_or_default();
            return self.enter(path, upper, base, kind.is_some());
        }
        Ok(())
    }
}
