//! A client's place at the streams of a container or a command.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::net::UnixStream;

use crate::containers::logs::LogStream;
use crate::containers::record::Record;
use crate::context::Context;

/// A client's place at the streams of a container or a command.
#[derive(Debug)]
pub struct Attachment {
    /// Whether there is a terminal: then bytes travel raw, else in Docker's multiplexed frames.
    pub tty: bool,
    /// What was logged before, if it was asked for: to be sent first.
    pub logs: Option<LogStream>,
    /// Whether the streams were asked for; if not, the log alone is sent.
    pub streams: bool,
    stream: Option<UnixStream>,
    leaving: Option<Leaving>,
}

/// What is told when a client types the keys that detach it.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub context: Arc<Context>,
    pub record: Arc<Record>,
    pub action: String,
    pub more: BTreeMap<String, String>,
}

impl Attachment {
    /// An attachment to streams alone.
    pub(crate) fn of_stream(tty: bool, stream: UnixStream) -> Self {
        Self { tty, logs: None, streams: true, stream: Some(stream), leaving: None }
    }

    /// An attachment to a log, and to streams if they were asked for.
    pub(crate) fn new(tty: bool, logs: Option<LogStream>, stream: Option<UnixStream>) -> Self {
        Self { tty, logs, streams: stream.is_some(), stream, leaving: None }
    }

    /// With what is to be told of a client that detaches.
    pub(crate) fn leaving(mut self, leaving: Leaving) -> Self {
        self.leaving = Some(leaving);
        self
    }

    /// The client has typed the keys: the world is told.
    pub fn detached(&mut self) {
        if let Some(Leaving { context, record, action, more }) = self.leaving.take() {
            context.tell(&record, &action, more);
        }
    }

    /// The socket to relay to and from, raw both ways: output is framed already, and a half-close is the end of standard
    /// input. It ends when the process has ended (`ECONNRESET` is an end like another). Where the container does not run yet,
    /// the stream begins when it does. `None` where only the log was asked for, and after the first call.
    pub async fn stream(&mut self) -> Option<UnixStream> {
        self.stream.take()
    }
}
