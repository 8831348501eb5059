//! Hearing of the kernel's kills for want of memory, from either version of the memory controller.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use sys::inotify::{Inotify, WatchFlags};

use crate::launch::Oom;

/// A container's count of kills, and what becomes readable when it changes.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
    counter: PathBuf,
    seen: u64,
}

impl Watch {
    /// Begins to watch; `None` if there is nothing to.
    pub fn new(place: &Oom) -> io::Result<Option<Self>> {
        let (fd, counter) = match place {
            Oom::Unknown => return Ok(None),
            Oom::V1(dir) => (watch_v1(Path::new(dir))?, Path::new(dir).join("memory.oom_control")),
            Oom::V2(dir) => {
                let counter = Path::new(dir).join("memory.events");
                let queue = Inotify::new()?;
                queue.watch(&counter, WatchFlags::MODIFY)?;
                (queue.into(), counter)
            }
        };
        // The group was made for this run: what it counts already happened before anybody could watch.
        Ok(Some(Self { fd, counter, seen: 0 }))
    }

    /// Whether there were kills since the last time this was asked.
    pub fn check(&mut self) -> bool {
        // What is read (an event count, or records) only says that the counter is to be looked at.
        let mut drain = [0_u8; 4096];
        while matches!(rustix::io::read(&self.fd, &mut drain), Ok(n) if n > 0) {}
        match count(&self.counter) {
            Some(now) if now > self.seen => {
                self.seen = now;
                true
            }
            _ => false,
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn watch_v1(dir: &Path) -> io::Result<OwnedFd> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(dir.join("memory.oom_control"))?;
    let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    fs::write(dir.join("cgroup.event_control"), registration)?;
    Ok(event)
}

/// The `oom_kill` line, which both versions' files have.
fn count(counter: &Path) -> Option<u64> {
    parse(&fs::read_to_string(counter).ok()?)
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_both_versions() {
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse("low 0\nhigh 0\nmax 5\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse("low 0\n"), None);
    }

    #[test]
    fn a_change_of_the_counter_is_noticed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let events = dir.path().join("memory.events");
        fs::write(&events, "oom 0\noom_kill 0\n").expect("write");
        let place = Oom::V2(dir.path().to_str().expect("utf8").to_owned());
        let mut watch = Watch::new(&place).expect("watch").expect("some");
        assert!(!watch.check());
        fs::write(&events, "oom 1\noom_kill 1\n").expect("write");
        assert!(watch.check());
        assert!(!watch.check());
        assert!(Watch::new(&Oom::Unknown).expect("none").is_none());
    }
}
