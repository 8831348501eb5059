//! The containers' service: one file for each thing that can be done to a container.

pub mod create;
pub mod options;
pub mod record;
pub mod state;

use api::Filters;
use api::container::{
    CreateRequest, CreateResponse, Inspect, PruneReport, Summary, Top, UpdateRequest, UpdateResponse,
    WaitResponse,
};
use bytes::Bytes;
use tokio::net::UnixStream;

pub use options::{AttachOptions, ListOptions, LogOptions, RemoveOptions, StopOptions, WaitCondition};
pub use record::{Identity, ImageRef, MountKind, MountRecord, Paths, Record};

use crate::{Error, Result};

/// The containers.
#[derive(Debug)]
pub struct Containers {}

/// A registered wait: it was in place before this was returned, so nothing that happens after is missed.
#[derive(Debug)]
pub struct Waiting {}

impl Waiting {
    /// Waits.
    pub async fn done(self) -> WaitResponse {
        WaitResponse::default()
    }
}

/// A client's place at a container's (or an exec's) streams.
#[derive(Debug)]
pub struct Attachment {
    /// Whether there is a terminal: then bytes travel raw, else in Docker's multiplexed frames.
    pub tty: bool,
    /// What was logged before, if it was asked for: to be sent first.
    pub logs: Option<LogStream>,
    /// Whether the streams were asked for; if not, the log alone is sent.
    pub streams: bool,
}

impl Attachment {
    /// The socket to relay to and from, raw both ways: output is framed already, and a half-close is the end of standard
    /// input. At once where the container runs; else when it starts. `None` when it will not.
    pub async fn stream(&mut self) -> Option<UnixStream> {
        None
    }
}

/// Lines of a log, framed for the client: multiplexed, or raw where the container has a terminal.
#[derive(Debug)]
pub struct LogStream {
    /// Whether the bytes are raw.
    pub tty: bool,
}

impl LogStream {
    /// The next bytes to send, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        None
    }
}

fn missing<T>(what: &str) -> Result<T> {
    Err(Error::not_implemented(format!("{what} is not available yet")))
}

impl Containers {
    /// Makes a container; without a name one is made up.
    pub async fn create(
        &self,
        _name: Option<&str>,
        _platform: Option<&str>,
        _body: CreateRequest,
    ) -> Result<CreateResponse> {
        missing("create")
    }

    /// Starts it. Already running is `NotModified`.
    pub async fn start(&self, _name: &str) -> Result<()> {
        missing("start")
    }

    /// Stops it. Not running is `NotModified`.
    pub async fn stop(&self, _name: &str, _options: StopOptions) -> Result<()> {
        missing("stop")
    }

    /// Stops it if it runs, and starts it.
    pub async fn restart(&self, _name: &str, _options: StopOptions) -> Result<()> {
        missing("restart")
    }

    /// Sends its init a signal, by name or number; `None` is SIGKILL.
    pub async fn kill(&self, _name: &str, _signal: Option<&str>) -> Result<()> {
        missing("kill")
    }

    /// Freezes it.
    pub async fn pause(&self, _name: &str) -> Result<()> {
        missing("pause")
    }

    /// Lets it go on.
    pub async fn unpause(&self, _name: &str) -> Result<()> {
        missing("unpause")
    }

    /// Registers a wait; send the response's headers when this returns, the body when `done` does.
    pub async fn wait(&self, _name: &str, _condition: WaitCondition) -> Result<Waiting> {
        missing("wait")
    }

    /// Attaches to its streams.
    pub async fn attach(&self, _name: &str, _options: AttachOptions) -> Result<Attachment> {
        missing("attach")
    }

    /// Reads its log.
    pub async fn logs(&self, _name: &str, _options: LogOptions) -> Result<LogStream> {
        missing("logs")
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, _name: &str, _height: u32, _width: u32) -> Result<()> {
        missing("resize")
    }

    /// Gives it another name.
    pub async fn rename(&self, _name: &str, _new: &str) -> Result<()> {
        missing("rename")
    }

    /// Its processes, in the columns that `ps` with these arguments has.
    pub async fn top(&self, _name: &str, _ps_args: &str) -> Result<Top> {
        missing("top")
    }

    /// Removes it.
    pub async fn remove(&self, _name: &str, _options: RemoveOptions) -> Result<()> {
        missing("remove")
    }

    /// Removes those that do not run.
    pub async fn prune(&self, _filters: &Filters) -> Result<PruneReport> {
        missing("prune")
    }

    /// Lists them, newest first.
    pub async fn list(&self, _options: ListOptions) -> Result<Vec<Summary>> {
        missing("list")
    }

    /// All about one.
    pub async fn inspect(&self, _name: &str, _size: bool) -> Result<Inspect> {
        missing("inspect")
    }

    /// Changes its limits and its restart policy.
    pub async fn update(&self, _name: &str, _body: UpdateRequest) -> Result<UpdateResponse> {
        missing("update")
    }
}
