//! Reading containers' logs: Docker's json-file format, with the files that rotation left.
//!
//! The reading itself is blocking and bounded ([`Reader`]); [`stream`] drives it from async code and waits, when it
//! follows, for the kernel's word that the files changed.

mod entry;
pub(crate) mod files;
mod reader;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Stream;
use sys::inotify::{Inotify, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use entry::nanoseconds;
pub use reader::{Reader, Step};

/// How often to look where the kernel cannot tell of changes, because all its queues are taken.
const LOOK: Duration = Duration::from_millis(250);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}", .path.display())]
pub struct Error {
    /// What was tried.
    pub verb: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// Why not.
    pub source: std::io::Error,
}

/// Which entries are wanted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Entries of standard output.
    pub stdout: bool,
    /// Entries of standard error.
    pub stderr: bool,
    /// Not before this time, in nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Not after this time.
    pub until: Option<i64>,
    /// Only the last entries, of both outputs together.
    pub tail: Option<u64>,
    /// Each entry begins with its time.
    pub timestamps: bool,
    /// Each entry begins with its attributes.
    pub details: bool,
    /// Wait for more, until the container has ended.
    pub follow: bool,
    /// In frames that tell the outputs apart, as for containers without a terminal; else as plain text.
    pub framed: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            stdout: true,
            stderr: true,
            since: None,
            until: None,
            tail: None,
            timestamps: false,
            details: false,
            follow: false,
            framed: true,
        }
    }
}

/// The log whose newest file is `path`, as `query` wants it. `ended` says when the container is not running: then nothing
/// more is waited for. No file is an empty log.
pub fn stream(
    path: PathBuf,
    query: Query,
    ended: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let state = State { path, query, reader: None, ahead: None, ended, changes: None };
    futures_util::stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct State {
    path: PathBuf,
    query: Query,
    reader: Option<Reader>,
    /// What is read while the piece before it is on its way to the client.
    ahead: Option<Ahead>,
    ended: watch::Receiver<bool>,
    changes: Option<AsyncFd<Inotify>>,
}

/// A piece of work that has begun.
struct Ahead {
    /// Whether nothing more was to come when it began: then what it reads is all.
    over: bool,
    work: JoinHandle<Result<(Reader, Bytes, Step), Error>>,
}

impl State {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.query.follow && self.changes.is_none() {
            // Before the first look, so that nothing falls in between.
            self.changes = watch_changes(&self.path);
        }
        loop {
            match self.read().await? {
                (bytes, ..) if !bytes.is_empty() => return Ok(Some(bytes)),
                (_, Step::More, _) => {}
                (_, Step::Finished, _) | (_, Step::CaughtUp, true) => return Ok(None),
                (_, Step::CaughtUp, false) => self.wait().await,
            }
        }
    }

    fn is_over(&self) -> bool {
        let late = self.query.until.is_some_and(|until| sys::timer::realtime_ns() > until);
        // Without its sender nobody would ever say that the container has ended.
        late || *self.ended.borrow() || self.ended.has_changed().is_err()
    }

    /// What one piece of work gave, and whether nothing more was to come when it began. Where there may be more the next one begins.
    async fn read(&mut self) -> Result<(Bytes, Step, bool), Error> {
        let Ahead { over, work } = self.ahead.take().unwrap_or_else(|| self.begin());
        let failed = |source| Error { verb: "read", path: self.path.clone(), source };
        let (reader, bytes, step) = work.await.map_err(|e| failed(std::io::Error::other(e)))??;
        self.reader = Some(reader);
        if step == Step::More {
            self.ahead = Some(self.begin());
        }
        Ok((bytes, step, over))
    }

    /// Begins one piece of bounded work on a thread that may block.
    fn begin(&mut self) -> Ahead {
        // Asked before reading: what an ended container wrote is there to be read.
        let over = !self.query.follow || self.is_over();
        let (path, query, reader) = (self.path.clone(), self.query, self.reader.take());
        let work = tokio::task::spawn_blocking(move || {
            let mut reader = match reader {
                Some(reader) => reader,
                None => Reader::open(path, query)?,
            };
            let mut out = Vec::new();
            let step = reader.fill(&mut out)?;
            Ok((reader, Bytes::from(out), step))
        });
        Ahead { over, work }
    }

    /// Waits until there may be more, or it is over.
    async fn wait(&mut self) {
        let now = sys::timer::realtime_ns();
        let until = self.query.until.map(|until| u64::try_from(until.saturating_sub(now)).unwrap_or(0));
        let more = wait_for_changes(self.changes.as_ref(), &mut self.ended);
        match until {
            // Whether there is more or the time is over: the next look tells.
            Some(left) => drop(tokio::time::timeout(Duration::from_nanos(left), more).await),
            None => more.await,
        }
    }
}

#[expect(
    deprecated,
    reason = "the new name is unsafe for types whose descriptor may change; an owned one does not"
)]
pub(crate) fn watch_changes(path: &std::path::Path) -> Option<AsyncFd<Inotify>> {
    let queue = Inotify::new().ok()?;
    let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    queue.watch(path.parent()?, changes).ok()?;
    AsyncFd::with_interest(queue, tokio::io::Interest::READABLE).ok()
}

/// Waits until there may be more in a log, or its container has ended.
pub(crate) async fn wait_for_changes(changes: Option<&AsyncFd<Inotify>>, ended: &mut watch::Receiver<bool>) {
    let changed = async {
        match changes {
            Some(queue) => {
                if let Ok(mut ready) = queue.readable().await {
                    let _ = queue.get_ref().clear();
                    ready.clear_ready();
                }
            }
            None => tokio::time::sleep(LOOK).await,
        }
    };
    tokio::select! {
        () = changed => {}
        _ = ended.changed() => {}
    }
}

#[cfg(test)]
mod tests;
