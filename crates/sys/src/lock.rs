//! Advisory locks on files (`flock`): who holds one is the only one, and the kernel releases it when the holder dies.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

/// A lock that is held until this value is dropped. It belongs to the open file, so a descriptor inherited by a child
/// keeps it; ours is close-on-exec.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

impl Lock {
    /// Takes the exclusive lock on the file at `path` (made with mode 0600 if need be); `None` if somebody else has it.
    pub fn try_exclusive(path: impl AsRef<Path>) -> io::Result<Option<Self>> {
        Self::try_exclusive_fd(open(path.as_ref())?)
    }

    /// As [`Lock::try_exclusive`], but waits.
    pub fn exclusive(path: impl AsRef<Path>) -> io::Result<Self> {
        let fd = open(path.as_ref())?;
        retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::LockExclusive))?;
        Ok(Self { fd })
    }

    /// Takes the lock that many can have at once, and nobody beside one who has the exclusive one, for whom it waits.
    pub fn shared(path: impl AsRef<Path>) -> io::Result<Self> {
        let fd = open(path.as_ref())?;
        retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::LockShared))?;
        Ok(Self { fd })
    }

    /// Takes the exclusive lock on an open file or directory, waiting for whoever has it.
    pub fn exclusive_fd(fd: OwnedFd) -> io::Result<Self> {
        retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::LockExclusive))?;
        Ok(Self { fd })
    }

    /// Takes the exclusive lock on an open file or directory; `None` if somebody else has it.
    pub fn try_exclusive_fd(fd: OwnedFd) -> io::Result<Option<Self>> {
        match retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(Some(Self { fd })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The locked file, to read or write what it says (a process id, say).
    pub fn file(&self) -> io::Result<File> {
        Ok(File::from(self.fd.try_clone()?))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o600)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::try_exclusive(&path).unwrap().unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn many_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::shared(&path).unwrap();
        let second = Lock::shared(&path).unwrap();
        drop(first);
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(second);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }
}
