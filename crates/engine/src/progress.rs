//! Work that is told of line by line while it goes on.

use api::stream::Progress;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::blocking;
use crate::error::Result;
use crate::pipe::{self, STALL_TIME};

/// Lines on their way to a client. Counts are left out when the queue is half full, other lines never.
const LINES: usize = 1024;

/// Tells, from a thread.
#[derive(Debug)]
pub struct Lines {
    sender: mpsc::Sender<Result<Progress>>,
    runtime: Handle,
}

impl Lines {
    /// A line that is to arrive.
    pub fn line(&self, line: Progress) {
        // Nobody listens any more: the work goes on all the same.
        let _ = pipe::wait(&self.runtime, STALL_TIME, self.sender.send(Ok(line)));
    }

    /// A count that the next one makes old.
    pub fn count(&self, line: Progress) {
        if self.sender.capacity() > LINES / 2 {
            let _ = self.sender.try_send(Ok(line));
        }
    }
}

/// Lines as they come; an error is the last of them.
#[derive(Debug)]
pub struct Telling {
    lines: mpsc::Receiver<Result<Progress>>,
    sender: mpsc::WeakSender<Result<Progress>>,
}

/// Tells beside the work, as long as that goes on.
#[derive(Debug)]
pub struct Counter {
    sender: mpsc::WeakSender<Result<Progress>>,
}

impl Counter {
    /// A line that may be left out.
    pub fn tell(&self, line: Progress) {
        if let Some(sender) = self.sender.upgrade().filter(|sender| sender.capacity() > LINES / 2) {
            let _ = sender.try_send(Ok(line));
        }
    }
}

impl Telling {
    /// Starts `work` in a thread.
    pub fn start<F>(tasks: &TaskTracker, what: &'static str, work: F) -> Self
    where
        F: FnOnce(Lines) -> Result<()> + Send + 'static,
    {
        let (sender, lines) = mpsc::channel(LINES);
        let weak = sender.downgrade();
        tasks.spawn(async move {
            let own = Lines { sender: sender.clone(), runtime: Handle::current() };
            if let Err(error) = blocking::run_paced(what, move || work(own)).await {
                // Nobody to be told: the client has gone.
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { lines, sender: weak }
    }

    /// For what goes on beside the work.
    pub fn counter(&self) -> Counter {
        Counter { sender: self.sender.clone() }
    }

    /// The next line. An error that comes first is one that no line was told before: an answer's status can say it.
    pub async fn next(&mut self) -> Option<Result<Progress>> {
        self.lines.recv().await
    }
}
