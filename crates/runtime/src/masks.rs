//! Paths hidden from the container, and paths it can only read.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use sys::fsx::{self, FileType};
use sys::mount::{self, Change};
use sys::path::Root;

use crate::error::{Context as _, Error};
use crate::nodes;

/// What covers hidden files and directories. Both come from descriptors that were verified, never from a path inside the
/// container (CVE-2025-31133).
pub(crate) struct Cover {
    null: OwnedFd,
    empty: Option<OwnedFd>,
}

impl Cover {
    /// Runs while this process still sees the host's files.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { null: nodes::host_null()?, empty: None })
    }

    /// Hides `path`; one that does not exist needs no hiding.
    pub(crate) fn hide(&mut self, root: &Root, path: &Path) -> Result<(), Error> {
        let Some(target) = open(root, path)? else { return Ok(()) };
        let stat = fsx::stat(&target).on("inspect", path)?;
        if fsx::kind(&stat) != FileType::Directory {
            let cover = mount::clone_fd(&self.null, false).on("mask", path)?;
            return mount::attach(cover, &target).on("mask", path);
        }
        // One empty directory for all: a further filesystem costs the kernel more than a further mount of it.
        let cover = match &self.empty {
            Some(empty) => mount::clone_fd(empty, false),
            None => {
                let data = [("size", Some("0")), ("nr_inodes", Some("1")), ("mode", Some("555"))];
                let attributes = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;
                mount::filesystem("tmpfs", Some("tmpfs"), &data, attributes)
            }
        };
        let cover = cover.on("mask", path)?;
        mount::attach(&cover, &target).on("mask", path)?;
        self.empty.get_or_insert(cover);
        Ok(())
    }
}

/// Makes `path`, and all mounted below it, read-only; one that does not exist needs nothing.
pub(crate) fn make_read_only(root: &Root, path: &Path) -> Result<(), Error> {
    let Some(target) = open(root, path)? else { return Ok(()) };
    let tree = mount::clone_fd(&target, true).on("make read-only", path)?;
    let change = Change { set: mount::RDONLY, ..Change::default() };
    mount::change(&tree, true, change).on("make read-only", path)?;
    mount::attach(tree, target).on("make read-only", path)
}

fn open(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Error> {
    if !path.is_absolute() {
        return Err(Error::Invalid(format!("{} is not an absolute path", path.display())));
    }
    match root.open_path(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).on("open", path),
    }
}
