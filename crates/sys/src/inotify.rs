//! Being told about changes of files (`inotify(7)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::inotify;
pub use rustix::fs::inotify::WatchFlags;
use rustix::io::Errno;

/// A non-blocking queue of changes.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

impl Inotify {
    /// Makes a queue.
    pub fn new() -> io::Result<Self> {
        Ok(Self(inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?))
    }

    /// Watches `path` for `changes` and returns the watch's number.
    pub fn watch(&self, path: &Path, changes: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(&self.0, path, changes)?)
    }

    /// Removes everything queued; whether there was anything.
    pub fn clear(&self) -> io::Result<bool> {
        let mut buffer = [0_u8; 4096];
        let mut any = false;
        loop {
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut buffer)) {
                Ok(0) => return Ok(any),
                Ok(_) => any = true,
                Err(Errno::AGAIN) => return Ok(any),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Inotify> for OwnedFd {
    fn from(queue: Inotify) -> Self {
        queue.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_noticed_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let queue = Inotify::new().expect("inotify");
        queue.watch(dir.path(), WatchFlags::CREATE).expect("watch");
        assert!(!queue.clear().expect("clear"));
        std::fs::write(dir.path().join("a"), b"").expect("write");
        assert!(queue.clear().expect("clear"));
        assert!(!queue.clear().expect("clear"));
    }
}
