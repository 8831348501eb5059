//! What a build tells while it runs. The classic stream, BuildKit's status and our own screen are drawn from it.

use std::time::SystemTime;

use oci::Digest;
use tokio::sync::mpsc;

use crate::diagnostic::Diagnostic;

/// Events that wait for whoever draws them: a build waits for a slow reader, and does not fill the memory.
pub const EVENTS_MAX: usize = 256;
/// Bytes of output in one event.
pub const LOG_BYTES_MAX: usize = 32 * 1024;

/// The end that a build tells to.
pub type Teller = mpsc::Sender<Event>;
/// The same, of whoever tells only as long as the build does.
pub type WeakTeller = mpsc::WeakSender<Event>;
/// The end that draws.
pub type Listener = mpsc::Receiver<Event>;

/// A channel for the events of one build.
pub fn channel() -> (Teller, Listener) {
    mpsc::channel(EVENTS_MAX)
}

/// Which output of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A step: of the Dockerfile, or one that the build makes for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// What it is, and what it is done to.
    pub digest: Digest,
    /// What it is called: `[builder 2/3] RUN make`.
    pub name: String,
    /// The steps before it.
    pub inputs: Vec<Digest>,
}

/// An instruction of the Dockerfile, in the order of the text: what the classic stream counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The instruction as it is shown: `RUN make`.
    pub text: String,
    /// The step that it became; nothing for what only changes the configuration.
    pub vertex: Option<Digest>,
    /// The stage, for a `FROM`: its number.
    pub from: Option<usize>,
}

/// How far a part of a step is: a layer that is pulled, files that are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The step.
    pub vertex: Digest,
    /// The part.
    pub id: String,
    /// What is done, or to what.
    pub name: String,
    /// Bytes that are done.
    pub current: u64,
    /// Bytes of all of it, 0 where that is not known.
    pub total: u64,
    /// When it began.
    pub started: SystemTime,
    /// When it was done.
    pub completed: Option<SystemTime>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was run.
    Ran,
    /// The cache had it.
    Cached,
    /// It failed.
    Failed(String),
    /// Nobody wants it any more.
    Canceled,
}

/// One thing that a build tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The instructions of the stages that are built, in the order of the text. Told once.
    Plan(Vec<Line>),
    /// A step is known.
    Vertex(Vertex),
    /// A step begins.
    Started {
        /// The step.
        vertex: Digest,
        /// When.
        at: SystemTime,
    },
    /// A step has said something.
    Log {
        /// The step.
        vertex: Digest,
        /// Where to.
        stream: Stream,
        /// What, at most [`LOG_BYTES_MAX`].
        bytes: Vec<u8>,
        /// When.
        at: SystemTime,
    },
    /// A part of a step has gone on.
    Status(Status),
    /// A step has ended.
    Done {
        /// The step.
        vertex: Digest,
        /// How.
        end: End,
        /// When.
        at: SystemTime,
    },
    /// The Dockerfile could be better.
    Warning {
        /// What is wrong, and where in the text.
        diagnostic: Diagnostic,
        /// A page that says more; empty for none.
        url: String,
    },
}
