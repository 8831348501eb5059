//! Being told about changes of files (`inotify(7)`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify;
pub use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Bytes of changes that are read at once: some hundred of them.
const BUFFER_BYTES: usize = 16 * 1024;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The number of the watch that saw it; none where the queue was full.
    pub watch: i32,
    /// What it is.
    pub changes: ReadFlags,
    /// The name in the directory that is watched, if it is about one.
    pub name: Option<OsString>,
}

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

    /// Watches a directory that is open, whatever its path has become.
    pub fn watch_open(&self, dir: BorrowedFd<'_>, changes: WatchFlags) -> io::Result<i32> {
        self.watch(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())), changes)
    }

    /// Watches no more. A watch whose directory has gone is gone already.
    pub fn unwatch(&self, watch: i32) -> io::Result<()> {
        match inotify::remove_watch(&self.0, watch) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes some of what is queued; nothing if nothing is.
    pub fn read(&self) -> io::Result<Vec<Event>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    watch: event.wd(),
                    changes: event.events(),
                    name: event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
                }),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(events),
                Err(error) => return Err(error.into()),
            }
            if reader.is_buffer_empty() {
                return Ok(events);
            }
        }
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
    fn changes_are_told_by_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        let queue = Inotify::new().expect("inotify");
        let open = crate::fsx::open_dir(dir.path()).expect("open");
        let watch =
            queue.watch_open(open.as_fd(), WatchFlags::CREATE | WatchFlags::DELETE_SELF).expect("watch");
        assert_eq!(queue.read().expect("read"), []);
        std::fs::create_dir(dir.path().join("a")).expect("create");
        let created = Event { watch, changes: ReadFlags::CREATE | ReadFlags::ISDIR, name: Some("a".into()) };
        assert_eq!(queue.read().expect("read"), [created]);
        queue.unwatch(watch).expect("unwatch");
        queue.unwatch(watch).expect("gone is gone");
        assert!(queue.read().expect("read")[0].changes.contains(ReadFlags::IGNORED));
        std::fs::create_dir(dir.path().join("b")).expect("create");
        assert_eq!(queue.read().expect("read"), []);
    }

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
