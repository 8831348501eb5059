//! A container's log, as a client wants it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::containers::index::Handle;
use crate::containers::options::LogOptions;
use crate::context::Context;
use crate::logs::{self, Query};
use crate::{Error, Result};

/// Lines of a log, framed for the client: multiplexed, or raw where the container has a terminal.
pub struct LogStream {
    /// Whether the bytes are raw.
    pub tty: bool,
    lines: Pin<Box<dyn Stream<Item = Result<Bytes, logs::Error>> + Send>>,
}

impl fmt::Debug for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStream").field("tty", &self.tty).finish_non_exhaustive()
    }
}

impl LogStream {
    /// The next bytes to send, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        let next = self.lines.next().await?;
        Some(next.map_err(|error| {
            let text = error.to_string();
            Error::system(text).with_source(error.source)
        }))
    }
}

/// Opens the log of a container.
pub(crate) async fn open(context: &Arc<Context>, handle: &Handle, options: LogOptions) -> Result<LogStream> {
    let record = handle.record();
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    if record.host.log_config.driver == "none" || !crate::logging::cached(&record.host.log_config) {
        return Err(Error::invalid("configured logging driver does not support reading"));
    }
    let query = Query {
        stdout: options.stdout,
        stderr: options.stderr,
        since: options.since,
        until: options.until,
        tail: options.tail,
        timestamps: options.timestamps,
        details: options.details,
        follow: options.follow,
        framed: !record.config.tty,
    };
    let lines = logs::stream(context.paths(&record.id).log(), query, handle.ended());
    Ok(LogStream { tty: record.config.tty, lines: Box::pin(lines) })
}
