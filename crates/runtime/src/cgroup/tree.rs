//! The groups below a group, however deep: who is in a container with a writable view of its own group can make as many as he likes,
//! one in the other. The way goes by descriptors, of which a few are open at a time; no path could be as long.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use sys::fsx::{self, FileType};

use super::is_gone;

/// A group that the walk is in.
struct Level {
    /// Its name in the one above.
    name: OsString,
    /// Device and inode of the one above.
    above: (u64, u64),
    /// Names of those below it that are still to be walked.
    todo: Vec<OsString>,
}

/// Calls `visit` for the group at `top` and for each below it. What is not there (any more) is left out.
pub(super) fn for_each(top: &Path, visit: impl FnMut(&OwnedFd) -> io::Result<()>) -> io::Result<()> {
    match fsx::open_dir(top) {
        Err(error) if is_gone(&error) => Ok(()),
        opened => walk(opened?, visit, |_, _| Ok(())),
    }
}

/// Removes the group at `top` and those below it; what is not there is not an error.
pub(super) fn remove(top: &Path) -> io::Result<()> {
    // Mostly there is nothing below it.
    match std::fs::remove_dir(top) {
        Err(error) if is_gone(&error) => return Ok(()),
        Err(_) => {}
        removed => return removed,
    }
    let opened = match fsx::open_dir(top) {
        Err(error) if is_gone(&error) => return Ok(()),
        other => other?,
    };
    walk(opened, |_| Ok(()), |above, name| unless_gone(fsx::rmdir_at(above, name)))?;
    unless_gone(std::fs::remove_dir(top))
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
}

/// Calls `enter` with each group before those below it, and `leave` with the one above and its name after them.
fn walk(
    top: OwnedFd,
    mut enter: impl FnMut(&OwnedFd) -> io::Result<()>,
    mut leave: impl FnMut(&OwnedFd, &OsStr) -> io::Result<()>,
) -> io::Result<()> {
    enter(&top)?;
    let mut levels = vec![Level { name: OsString::new(), above: (0, 0), todo: below(&top)? }];
    let mut here = top;
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.todo.pop() {
            let lower = match fsx::open_dir_at(&here, &name) {
                Err(error) if is_gone(&error) => continue,
                other => other?,
            };
            enter(&lower)?;
            levels.push(Level { name, above: identity(&here)?, todo: below(&lower)? });
            here = lower;
        } else {
            let Some(done) = levels.pop().filter(|_| !levels.is_empty()) else { break };
            here = fsx::open_dir_at(&here, "..")?;
            if identity(&here)? != done.above {
                // No kernel lets a group be moved; names that were read elsewhere would be taken for those of this one.
                return Err(io::Error::from(io::ErrorKind::ResourceBusy));
            }
            leave(&here, &done.name)?;
        }
    }
    Ok(())
}

fn identity(group: &OwnedFd) -> io::Result<(u64, u64)> {
    fsx::stat(group).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The names of the groups in a group.
fn below(group: &OwnedFd) -> io::Result<Vec<OsString>> {
    let entries = match fsx::list(group) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(entries.into_iter().filter(|e| e.kind == FileType::Directory).map(|e| e.name).collect())
}

#[cfg(test)]
mod tests {
    use sys::fsx::Mode;

    use super::*;

    #[test]
    fn what_is_deeper_than_any_path_is_visited_and_removed() {
        const DEPTH: usize = 2500;
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        std::fs::create_dir(&top).unwrap();
        let mut here = fsx::open_dir(&top).unwrap();
        for level in 0..DEPTH {
            for name in ["a", "b"].iter().take(1 + usize::from(level % 100 == 0)) {
                fsx::mkdir_at(&here, name, Mode::from_raw_mode(0o700)).unwrap();
            }
            here = fsx::open_dir_at(&here, "a").unwrap();
        }
        let mut seen = 0;
        for_each(&top, |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 1 + DEPTH + DEPTH / 100);
        remove(&top).unwrap();
        assert!(!top.exists());
        remove(&top).unwrap();
        for_each(&top, |_| Err(io::ErrorKind::Other.into())).unwrap();
    }
}
