//! Packing part of a tree that is in use, under the name that it was asked for by.

use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;

use sys::fsx::{self, Stat};

use crate::archive::{Entry, Kind};

/// How what is packed is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Naming {
    /// By the paths below the tree's root, which itself has no entry.
    #[default]
    AsIs,
    /// The root by this name, and everything else below it.
    Below(Vec<u8>),
    /// This one thing in the root, by this name.
    Only {
        /// What it is called there.
        name: Vec<u8>,
        /// What it is called in the archive.
        shown: Vec<u8>,
    },
}

impl Naming {
    /// Whether the root has an entry.
    pub(super) fn tells_root(&self) -> bool {
        matches!(self, Self::Below(_))
    }

    /// The one name that is packed.
    pub(super) fn only(&self) -> Option<&[u8]> {
        match self {
            Self::Only { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The entry by its name.
    pub(super) fn name<'a>(&self, entry: &'a Entry) -> Cow<'a, Entry> {
        let root = match self {
            Self::AsIs => return Cow::Borrowed(entry),
            Self::Only { shown, .. } => return Cow::Owned(Entry { path: shown.clone(), ..entry.clone() }),
            Self::Below(root) => root,
        };
        let mut named = entry.clone();
        named.path = below(root, &entry.path);
        if entry.kind == Kind::Hardlink {
            named.link = below(root, &entry.link);
        }
        Cow::Owned(named)
    }
}

fn below(root: &[u8], path: &[u8]) -> Vec<u8> {
    match path {
        b"./" => root.to_vec(),
        _ if root.ends_with(b"/") => [root, path].concat(),
        _ => [root, b"/", path].concat(),
    }
}

/// Directories that are told of but not entered: those of the kernel's own filesystems, in which files have neither an end nor
/// a meaning elsewhere, and a few that are named.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    /// Filesystems that are not entered, by their magic numbers.
    pub filesystems: &'static [u64],
    /// Directories that are not entered, by device and inode.
    pub directories: Vec<(u64, u64)>,
}

impl Fence {
    /// Whether a directory is told of only.
    pub(super) fn stops(&self, stat: &Stat, dir: Option<&OwnedFd>) -> io::Result<bool> {
        if self.directories.contains(&(stat.st_dev, stat.st_ino)) {
            return Ok(true);
        }
        let Some(dir) = dir.filter(|_| !self.filesystems.is_empty()) else { return Ok(false) };
        let magic = u64::try_from(fsx::filesystem_magic(dir)?).unwrap_or(0);
        Ok(self.filesystems.contains(&magic))
    }
}
