//! A smaller program to go on as.
//!
//! The runtime is one part of a large program, of which each process takes memory for more than it needs. Where processes are made
//! it goes on as a small one, from a file that the first to need it writes, once for each boot, and all share.

use std::os::fd::OwnedFd;
use std::path::Path;

use sys::fsx::{self, FileType, Mode, OFlags};
use sys::lock::Lock;

/// Where the file is: on a filesystem in memory, where none but root can write.
const DIRECTORY: [&str; 2] = ["corten", "program"];
const PARENT: &str = "/run";

/// A program that calls [`super::main`] if its first argument is `runtime`.
#[derive(Debug, Clone, Copy)]
pub struct Small {
    /// The program itself.
    pub content: &'static [u8],
    /// A name that no other content has.
    pub name: &'static str,
}

impl Small {
    /// The file, written if it is not there; `None` where that is not possible, which costs memory and nothing else.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        if sys::process::effective_user() != 0 {
            return None;
        }
        let directory = directory(Path::new(PARENT))?;
        self.find(&directory).or_else(|| {
            self.write(&directory)?;
            self.find(&directory)
        })
    }

    fn find(&self, directory: &OwnedFd) -> Option<OwnedFd> {
        let file =
            fsx::open_at(directory, self.name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).ok()?;
        let stat = fsx::stat(&file).ok()?;
        let whole = usize::try_from(stat.st_size).is_ok_and(|size| size == self.content.len());
        (whole && fsx::kind(&stat) == FileType::RegularFile && is_roots_alone(&stat)).then_some(file)
    }

    fn write(&self, directory: &OwnedFd) -> Option<()> {
        let again = fsx::open_dir_at(directory, ".").ok()?;
        let _lock = Lock::exclusive_fd(again).ok()?;
        // Those of other versions: whoever is about to execute one has it open.
        for entry in fsx::list(directory).ok()? {
            if entry.name != self.name {
                let _ = fsx::unlink_at(directory, &entry.name);
            }
        }
        fsx::write_atomic(directory, self.name, self.content, Mode::from_raw_mode(0o500)).ok()
    }
}

/// The directory below `parent`, made if it is not there; each step of the way must be root's alone.
fn directory(parent: &Path) -> Option<OwnedFd> {
    let mut directory = fsx::open_dir(parent).ok()?;
    for name in DIRECTORY {
        let _ = fsx::mkdir_at(&directory, name, Mode::from_raw_mode(0o700));
        directory = fsx::open_dir_at(&directory, name).ok()?;
        if !is_roots_alone(&fsx::stat(&directory).ok()?) {
            return None;
        }
    }
    Some(directory)
}

fn is_roots_alone(stat: &fsx::Stat) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    stat.st_uid == 0 && stat.st_mode & WRITABLE_BY_OTHERS == 0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const SMALL: Small = Small { content: b"#!/bin/true\n", name: "one" };

    #[test]
    fn it_is_written_once_and_taken_from_nobody_else() {
        if sys::process::effective_user() != 0 {
            println!("skipped: root");
            return;
        }
        let parent = tempfile::tempdir().unwrap();
        let way = directory(parent.path()).unwrap();
        let path = parent.path().join("corten/program");
        fs::write(path.join("old"), "").unwrap();
        assert!(SMALL.find(&way).is_none());
        SMALL.write(&way).unwrap();
        assert!(SMALL.find(&way).is_some() && !path.join("old").exists());
        // Another's, a shortened one, and a link are as if they were not there.
        fs::set_permissions(path.join("one"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(SMALL.find(&way).is_none());
        SMALL.write(&way).unwrap();
        assert!(SMALL.find(&way).is_some());
        fs::write(path.join("one"), "#!").unwrap();
        assert!(SMALL.find(&way).is_none());
        fs::remove_file(path.join("one")).unwrap();
        symlink("/bin/true", path.join("one")).unwrap();
        assert!(SMALL.find(&way).is_none());
        fs::set_permissions(parent.path().join("corten"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(directory(parent.path()).is_none());
    }
}
