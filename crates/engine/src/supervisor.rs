//! The daemon's side of the conversation with the containers' supervisors.
//!
//! [`Sealed`] starts one for a container; [`connect`] finds one that an earlier daemon started. Either gives a [`Shim`], by
//! which it is asked for things, and [`Events`], by which it tells what happens. Dropping both leaves the container alone.

mod conversation;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use shim::launch::Launch;
use shim::wire::{Frame, HELLO, Hello, Kind, Malformed, Message};
use sys::memfd::Executable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

pub use conversation::{Event, Events};
pub use shim::exit::{Init, is_alive, read_exit, read_init};
pub use shim::wire::{ExecSpec, Exit, Failure, Size, Stage, State, Status, Streams, Target};

/// How long a supervisor may take to answer. Making a container waits for the kernel alone (network namespaces and
/// cgroups take milliseconds); a host that is swapping itself to death may need very much longer.
const ANSWER: Duration = Duration::from_secs(120);

/// Requests that wait to be sent to one supervisor.
const REQUESTS: usize = 64;

/// What can go wrong between daemon and supervisor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host does not let us start a process: try later, or with less load.
    #[error("cannot start a supervisor")]
    Spawn(#[source] io::Error),
    /// Nobody answers there: the supervisor is dead, its `exit` file says more.
    #[error("cannot reach the supervisor in {}", .dir.display())]
    Connect {
        /// The container's directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended while it was asked.
    #[error("the supervisor is gone")]
    Gone,
    /// It did not answer in time.
    #[error("the supervisor does not answer")]
    Silent,
    /// It says things that have no meaning to us.
    #[error("the supervisor speaks another language")]
    Protocol(#[source] Malformed),
    /// It could not do what it was asked for; [`Failure::stage`] says what that means.
    #[error("{}", .0.text)]
    Failed(Failure),
}

/// The supervisor's executable, which nothing can change any more.
#[derive(Debug)]
pub struct Sealed {
    executable: Executable,
    null: File,
}

/// A container as it is when its supervisor answers.
#[derive(Debug)]
pub struct Launched {
    /// To ask for things.
    pub shim: Shim,
    /// To hear what happens.
    pub events: Events,
    /// The init: running if the launch said so, else waiting for [`Shim::start`].
    pub pid: u32,
}

/// A container's supervisor.
#[derive(Debug, Clone)]
pub struct Shim {
    dir: PathBuf,
    version: u16,
    requests: mpsc::Sender<Request>,
}

/// Something to ask, and where the answer goes.
#[derive(Debug)]
struct Request {
    message: Message,
    answer: oneshot::Sender<Message>,
}

impl Sealed {
    /// Copies the executable into memory that cannot be written, or, where the host forbids executing memory, into a file
    /// without a name in `dir`.
    pub fn new(bytes: &[u8], dir: &Path) -> io::Result<Self> {
        let executable =
            Executable::sealed("corten-supervisor", bytes).or_else(|_| Executable::detached(dir, bytes))?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Self { executable, null })
    }

    /// Starts a supervisor. The descriptors are those of `launch.binds`, in order; the sockets, the far ends of those that
    /// are attached from the start, in the order of `launch.attach`.
    pub async fn spawn(
        &self,
        launch: Launch,
        binds: Vec<OwnedFd>,
        attach: Vec<OwnedFd>,
    ) -> Result<Launched, Error> {
        let dir = PathBuf::from(&launch.dir);
        let mut bytes = Hello::new(Kind::Control).encode().to_vec();
        let first = conversation::FIRST;
        Frame { id: first, message: Message::Launch(Box::new(launch)) }
            .encode(&mut bytes)
            .map_err(Error::Protocol)?;
        let (socket, process) = self.start(&bytes, &binds, &attach).map_err(Error::Spawn)?;
        // Only the supervisor has them from here on: the last reference to a bind source decides when it is unmounted.
        drop((binds, attach));
        let launched = Self::begin(dir, socket, first).await;
        if launched.as_ref().is_err_and(|error| !matches!(error, Error::Failed(_))) {
            // It may still be about to make a container, which would be nobody's.
            let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
        }
        launched
    }

    async fn begin(dir: PathBuf, socket: OwnedFd, first: u32) -> Result<Launched, Error> {
        let mut stream = stream_of(socket).map_err(Error::Spawn)?;
        let hello = expect_hello(&mut stream).await?;
        let (shim, events, answer) = conversation::begin(dir, hello.version, stream, Some(first));
        match wait(answer).await? {
            Message::Ready { pid } | Message::Started { pid } => Ok(Launched { shim, events, pid }),
            Message::Failed(failure) => Err(Error::Failed(failure)),
            other => Err(Error::Protocol(Malformed::Unknown(other.tag()))),
        }
    }

    /// Starts the process and gives it its first message; the conversation with it, and the process itself. Takes well under a millisecond: the memory of this process is
    /// borrowed, not copied, and a launch fits the socket's buffer.
    fn start(&self, bytes: &[u8], binds: &[OwnedFd], attach: &[OwnedFd]) -> io::Result<(OwnedFd, OwnedFd)> {
        let (ours, theirs) = sys::socket::stream_pair()?;
        let argv = [c"corten-supervisor", c"shim"];
        let pid = sys::spawn::detached(&self.executable.path(), &argv, &self.null, &theirs)?;
        drop(theirs);
        let process = sys::spawn::pidfd(pid)?;
        bury(pid)?;
        let fds: Vec<BorrowedFd<'_>> = binds.iter().chain(attach).map(AsFd::as_fd).collect();
        send_all(&ours, bytes, &fds)?;
        Ok((ours, process))
    }
}

/// Sees to it that the supervisor does not stay a zombie when it ends while this daemon lives.
#[expect(
    deprecated,
    reason = "the new name is unsafe for types whose descriptor may change; an owned one does not"
)]
fn bury(pid: sys::spawn::Pid) -> io::Result<()> {
    let pidfd =
        tokio::io::unix::AsyncFd::with_interest(sys::spawn::pidfd(pid)?, tokio::io::Interest::READABLE)?;
    tokio::spawn(async move {
        if pidfd.readable().await.is_ok() {
            let _ = sys::spawn::collect(pid);
        }
    });
    Ok(())
}

/// Sends `bytes` with any number of descriptors.
fn send_all(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut rest = bytes;
    let mut groups = fds.chunks(sys::socket::FDS_PER_MESSAGE).peekable();
    while let Some(group) = groups.next() {
        // Each group needs a byte to travel with; the last takes what is left.
        let piece = if groups.peek().is_some() { 1 } else { rest.len() };
        let sent = sys::socket::send_fds(socket, &rest[..piece], group)?;
        rest = &rest[sent..];
    }
    while !rest.is_empty() {
        let sent = sys::socket::send(socket, rest)?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// Finds the supervisor of the container whose directory this is.
pub async fn connect(dir: &Path) -> Result<(Shim, Events, Status), Error> {
    let mut stream = open(dir, Kind::Control).await?;
    let hello = expect_hello(&mut stream).await?;
    let (shim, events, _) = conversation::begin(dir.to_owned(), hello.version, stream, None);
    let status = shim.status().await?;
    Ok((shim, events, status))
}

async fn open(dir: &Path, kind: Kind) -> Result<UnixStream, Error> {
    let failed = |source| Error::Connect { dir: dir.to_owned(), source };
    let socket = sys::socket::connect(dir, shim::SOCKET).map_err(failed)?;
    let mut stream = stream_of(socket).map_err(failed)?;
    stream.write_all(&Hello::new(kind).encode()).await.map_err(failed)?;
    Ok(stream)
}

fn stream_of(socket: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

async fn expect_hello(stream: &mut UnixStream) -> Result<Hello, Error> {
    let mut hello = [0; HELLO];
    let read = tokio::time::timeout(ANSWER, stream.read_exact(&mut hello)).await;
    read.map_err(|_| Error::Silent)?.map_err(|_| Error::Gone)?;
    Hello::decode(hello).map_err(Error::Protocol)
}

async fn wait(answer: oneshot::Receiver<Message>) -> Result<Message, Error> {
    wait_for(ANSWER, answer).await
}

async fn wait_for(patience: Duration, answer: oneshot::Receiver<Message>) -> Result<Message, Error> {
    tokio::time::timeout(patience, answer).await.map_err(|_| Error::Silent)?.map_err(|_| Error::Gone)
}

impl Shim {
    /// The container's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    async fn ask(&self, message: Message) -> Result<Message, Error> {
        self.ask_for(ANSWER, message).await
    }

    async fn ask_for(&self, patience: Duration, message: Message) -> Result<Message, Error> {
        let (answer, receiver) = oneshot::channel();
        self.requests.send(Request { message, answer }).await.map_err(|_| Error::Gone)?;
        match wait_for(patience, receiver).await? {
            Message::Failed(failure) => Err(Error::Failed(failure)),
            other => Ok(other),
        }
    }

    async fn order(&self, message: Message) -> Result<(), Error> {
        match self.ask(message).await? {
            Message::Ok => Ok(()),
            other => Err(Error::Protocol(Malformed::Unknown(other.tag()))),
        }
    }

    async fn started(&self, message: Message) -> Result<u32, Error> {
        match self.ask(message).await? {
            Message::Started { pid } => Ok(pid),
            other => Err(Error::Protocol(Malformed::Unknown(other.tag()))),
        }
    }

    /// Lets the init execute the user's program; returns its process.
    pub async fn start(&self) -> Result<u32, Error> {
        self.started(Message::Start).await
    }

    /// Sends a signal to one process.
    pub async fn signal(&self, target: Target, signal: u32) -> Result<(), Error> {
        self.order(Message::Signal { target, signal }).await
    }

    /// Changes the size of a terminal.
    pub async fn resize(&self, target: Target, size: Size) -> Result<(), Error> {
        self.order(Message::Resize { target, size }).await
    }

    /// Makes an exec known, so that it can be attached to before it starts.
    pub async fn exec_create(&self, spec: ExecSpec) -> Result<(), Error> {
        self.order(Message::ExecCreate(spec)).await
    }

    /// Starts an exec; returns its process.
    pub async fn exec_start(&self, id: &str) -> Result<u32, Error> {
        self.started(Message::ExecStart(id.to_owned())).await
    }

    /// Whether it can be asked to [probe](Shim::probe).
    pub fn probes(&self) -> bool {
        self.version >= shim::wire::PROBES
    }

    /// Runs a command to its end, for so long: its code, and the first `limit` bytes of what it said, with dots where there was more.
    pub async fn probe(
        &self,
        id: &str,
        limit: u32,
        process: Vec<u8>,
        patience: Duration,
    ) -> Result<(i32, String), Error> {
        let message = Message::Probe { id: id.to_owned(), limit, process };
        match self.ask_for(patience, message).await? {
            Message::Probed { exit, output, cut } => {
                let mut output = String::from_utf8_lossy(&output).into_owned();
                if cut {
                    output.push_str("...");
                }
                Ok((exit.code, output))
            }
            other => Err(Error::Protocol(Malformed::Unknown(other.tag()))),
        }
    }

    /// Changes the size of an exec's terminal.
    pub async fn exec_resize(&self, id: &str, size: Size) -> Result<(), Error> {
        self.resize(Target::Exec(id.to_owned()), size).await
    }

    /// Forgets an exec that was never started, or has ended.
    pub async fn exec_remove(&self, id: &str) -> Result<(), Error> {
        self.order(Message::ExecRemove(id.to_owned())).await
    }

    /// What is known of the container and its execs.
    pub async fn status(&self) -> Result<Status, Error> {
        match self.ask(Message::StatusRequest).await? {
            Message::Status(status) => Ok(*status),
            other => Err(Error::Protocol(Malformed::Unknown(other.tag()))),
        }
    }

    /// Whether `pid` still is the container's first process: its supervisor, who buries it, has not done so. What was opened by the number
    /// before this is the container's, if it is.
    pub async fn is_running(&self, pid: i32) -> bool {
        let status = self.status().await;
        status.is_ok_and(|status| status.state == State::Running && status.pid == pid.unsigned_abs())
    }

    /// Attaches to a process. What comes is its output from now on, in Docker's frames or, with a terminal, as it is; what
    /// is sent is its input, and shutting down writing is the input's end. An end by `ECONNRESET` is an end like another.
    pub async fn attach(&self, target: Target, streams: Streams) -> Result<UnixStream, Error> {
        let mut stream = open(&self.dir, Kind::Attach).await?;
        let mut bytes = Vec::new();
        Frame { id: conversation::FIRST, message: Message::Attach { target, streams } }
            .encode(&mut bytes)
            .map_err(Error::Protocol)?;
        stream.write_all(&bytes).await.map_err(|_| Error::Gone)?;
        expect_hello(&mut stream).await?;
        let frame = tokio::time::timeout(ANSWER, read_frame(&mut stream)).await;
        match frame.map_err(|_| Error::Silent)??.message {
            Message::Ok => Ok(stream),
            Message::Failed(failure) => Err(Error::Failed(failure)),
            other => Err(Error::Protocol(Malformed::Unknown(other.tag()))),
        }
    }
}

/// Reads one frame and not a byte more.
async fn read_frame(stream: &mut UnixStream) -> Result<Frame, Error> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).await.map_err(|_| Error::Gone)?;
    let length = Frame::length(&bytes).map_err(Error::Protocol)?.ok_or(Error::Gone)?;
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[4..]).await.map_err(|_| Error::Gone)?;
    Frame::decode(&bytes).map_err(Error::Protocol)
}

#[cfg(test)]
mod tests;
