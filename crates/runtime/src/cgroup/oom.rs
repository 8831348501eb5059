//! Hearing of it when memory has run out.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::eventfd;
use sys::inotify::{Inotify, WatchFlags};

use super::{Cgroup, field, is_gone, open_and_write, read_bounded};
use crate::error::{Context as _, Error};

/// The longest of the two files: each has a handful of lines.
const COUNTER_BYTES_MAX: u64 = 4096;

/// What becomes readable when the kernel has killed for want of memory, and what tells whether it has.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    counter: PathBuf,
    seen: u64,
}

#[derive(Debug)]
enum Source {
    V1(OwnedFd),
    V2(Inotify),
}

impl Cgroup {
    /// Begins to watch; `None` where there is nothing that would tell. What was counted before is known already.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, Error> {
        let (source, counter) = match (self.v1("memory"), self.v2()) {
            (Some(directory), _) => watch_v1(&directory)?,
            (None, Some(directory)) if self.is_unified() => {
                let counter = directory.join("memory.events");
                let queue = Inotify::new().on("watch", &counter)?;
                match queue.watch(&counter, WatchFlags::MODIFY) {
                    Err(error) if is_gone(&error) => return Ok(None),
                    other => other.on("watch", &counter)?,
                };
                (Source::V2(queue), counter)
            }
            _ => return Ok(None),
        };
        let mut watch = OomWatch { source, counter, seen: 0 };
        watch.check()?;
        Ok(Some(watch))
    }
}

fn watch_v1(directory: &Path) -> Result<(Source, PathBuf), Error> {
    let (counter, registry) = (directory.join("memory.oom_control"), directory.join("cgroup.event_control"));
    let event = eventfd::new().on("watch", &counter)?;
    let control = File::open(&counter).on("open", &counter)?;
    let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    open_and_write(&registry, &registration).on("write", &registry)?;
    Ok((Source::V1(event), counter))
}

impl OomWatch {
    /// Whether memory has run out since this was asked last.
    pub fn check(&mut self) -> Result<bool, Error> {
        let told = match &self.source {
            Source::V1(event) => eventfd::clear(event),
            Source::V2(queue) => queue.clear(),
        };
        let told = told.on("watch", &self.counter)?;
        let text = match read_bounded(&self.counter, COUNTER_BYTES_MAX) {
            // Its end is told as well.
            Err(error) if is_gone(&error) => return Ok(false),
            other => other.on("read", &self.counter)?,
        };
        let count = field(&text, "oom_kill").unwrap_or(0);
        let more = count > self.seen;
        self.seen = count;
        // With the killer disabled, processes wait instead.
        Ok(more || (told && field(&text, "under_oom") == Some(1)))
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1(event) => event.as_fd(),
            Source::V2(queue) => queue.as_fd(),
        }
    }
}
