//! Files of `/proc`, reached so that nothing else can be in their place.
//!
//! An attacker who has a say in a mount namespace can put another filesystem, or a link, where a file of procfs is
//! expected, and so divert what is written (a label, an id map, a sysctl) into another file. Here the root of
//! procfs is opened once and verified, every path is resolved below it without leaving the filesystem or following a
//! link, and each file is verified again before it is written.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::mount;

/// Inode number of the root of every instance of procfs.
const PROC_ROOT_INODE: u64 = 1;

/// The content of a file of procfs is refused beyond this: none that we read is larger.
const CONTENT_BYTES_MAX: u64 = 1 << 20;

/// A verified procfs.
#[derive(Debug)]
pub struct Proc {
    root: OwnedFd,
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Proc {
    /// The procfs at `/proc`.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::verified(retry_on_intr(|| rustix::fs::openat(CWD, c"/proc", flags, Mode::empty()))?)
    }

    /// A directory that is said to be the root of a procfs.
    pub fn verified(root: OwnedFd) -> io::Result<Self> {
        if mount::magic(&root)? != mount::PROC || rustix::fs::fstat(&root)?.st_ino != PROC_ROOT_INODE {
            return Err(io::Error::other("not a procfs"));
        }
        Ok(Self { root })
    }

    /// Opens `rel`, which is no link and lies on this very filesystem.
    pub fn open_at(&self, rel: impl AsRef<Path>, oflags: OFlags) -> io::Result<OwnedFd> {
        let fd = open_beneath(self.root.as_fd(), rel.as_ref(), oflags)?;
        if mount::magic(&fd)? != mount::PROC {
            return Err(io::Error::other("not a file of procfs"));
        }
        Ok(fd)
    }

    /// Writes `content` to the file `rel` in one call.
    pub fn write(&self, rel: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
        let fd = self.open_at(rel, OFlags::WRONLY)?;
        write_once(&fd, content.as_ref())
    }

    /// The content of the file `rel`.
    pub fn read(&self, rel: impl AsRef<Path>) -> io::Result<String> {
        let fd = self.open_at(rel, OFlags::RDONLY)?;
        let mut content = String::new();
        File::from(fd).take(CONTENT_BYTES_MAX).read_to_string(&mut content)?;
        Ok(content)
    }

    /// The caller's number in the PID namespace that this procfs shows.
    pub fn own_pid(&self) -> io::Result<i32> {
        let target = rustix::fs::readlinkat(&self.root, c"self", Vec::new())?;
        target.to_str().ok().and_then(|pid| pid.parse().ok()).ok_or_else(|| Errno::INVAL.into())
    }

    /// When process `pid` was started, in clock ticks since boot: with the number, what makes a process unmistakable.
    pub fn start_time(&self, pid: i32) -> io::Result<u64> {
        let stat = self.read(format!("{pid}/stat"))?;
        Stat::parse(&stat).map(|stat| stat.start).ok_or_else(|| Errno::INVAL.into())
    }

    /// The state letter of process `pid`: `Z` for one that has ended and was not reaped.
    pub fn state(&self, pid: i32) -> io::Result<char> {
        let stat = self.read(format!("{pid}/stat"))?;
        Stat::parse(&stat).map(|stat| stat.state).ok_or_else(|| Errno::INVAL.into())
    }
}

/// What `/proc/<pid>/stat` says (proc_pid_stat(5)), as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The state's letter.
    pub state: char,
    /// When the process was started, in clock ticks since boot.
    pub start: u64,
}

impl Stat {
    /// Reads the line; `None` if it is none. The second field is the program's name in brackets, and may itself contain brackets,
    /// spaces and line ends: a program gives itself its name.
    pub fn parse(line: &str) -> Option<Self> {
        const STATE: usize = 3;
        const START: usize = 22;
        let (_, rest) = line.rsplit_once(") ")?;
        let start = rest.split(' ').nth(START - STATE)?.parse().ok()?;
        Some(Self { state: rest.chars().next()?, start })
    }
}

/// Opens `rel` below `dir` without following any link and without entering another filesystem.
pub fn open_beneath(dir: BorrowedFd<'_>, rel: &Path, oflags: OFlags) -> io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = oflags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(retry_on_intr(|| rustix::fs::openat2(dir, rel, flags, Mode::empty(), how))?)
}

/// Writes `content` in one call, as the kernel's files want it.
pub fn write_once(fd: impl AsFd, content: &[u8]) -> io::Result<()> {
    let written = retry_on_intr(|| rustix::io::write(fd.as_fd(), content))?;
    if written == content.len() { Ok(()) } else { Err(Errno::IO.into()) }
}

/// Whether `path`, of the host, exists.
pub fn exists(path: impl AsRef<Path>) -> bool {
    rustix::fs::accessat(CWD, path.as_ref(), Access::EXISTS, AtFlags::empty()).is_ok()
}

/// Replaces the file at `path`, of the host, by one with this content: a reader sees the old or the new, never a part. Nothing else
/// beside it is touched, and what somebody else has put there is not written to.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = OsString::from(".new-");
    name.push(path.file_name().ok_or(Errno::INVAL)?);
    let temporary = path.with_file_name(name);
    match rustix::fs::unlink(&temporary) {
        Err(error) if error != Errno::NOENT => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(CWD, &temporary, flags, Mode::from_raw_mode(mode))?);
    let replaced = file.write_all(content).and_then(|()| Ok(rustix::fs::rename(&temporary, path)?));
    if replaced.is_err() {
        let _ = rustix::fs::unlink(&temporary);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_none_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("one.new"), "another's").unwrap();
        // Left by one that was killed, or put there by a stranger.
        fs::hard_link(at("one.new"), at(".new-one.pid")).unwrap();
        for content in ["1", "2"] {
            replace_file(&at("one.pid"), content.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(at("one.pid")).unwrap(), content);
        }
        assert_eq!(fs::read_to_string(at("one.new")).unwrap(), "another's");
        fs::create_dir(at("taken")).unwrap();
        replace_file(&at("taken"), b"", 0o600).unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }
}
