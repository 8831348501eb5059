//! The forked children that make processes: what they are given, and how they report back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::spawn::{self, Fork};

use crate::wire::{EVENT, Failure, Frame, Message};

/// The code that runs in forked children. It is given from outside, so that the shim knows nothing of bundles.
#[derive(Debug, Clone, Copy)]
pub struct Creator {
    /// Makes a container and its waiting init, reports, and exits.
    pub create: fn(CreateJob) -> !,
    /// Adds a process to the container, reports, and exits.
    pub exec: fn(ExecJob) -> !,
}

/// The standard streams of a new process.
#[derive(Debug)]
pub enum Stdio {
    /// These three.
    Fds([OwnedFd; 3]),
    /// A terminal that the child makes, sending the master over this stream socket (SCM_RIGHTS).
    Console(OwnedFd),
}

/// What is needed to make a container.
#[derive(Debug)]
pub struct CreateJob {
    /// The container's id.
    pub id: String,
    /// The bundle: holds `config.json` and `rootfs`.
    pub dir: String,
    /// The streams of the init.
    pub stdio: Stdio,
    /// Detached mounts, each with the index of its entry in `config.json`.
    pub bind_sources: Vec<(usize, OwnedFd)>,
    /// The packet socket on which the init waits for one byte before it executes the program, and by whose closing, or
    /// a message `E`, exit code, text, it tells how that went.
    pub gate: OwnedFd,
    /// Where the creator says how it went.
    pub report: Report,
}

/// What is needed to add a process to a container.
#[derive(Debug)]
pub struct ExecJob {
    /// The container's id.
    pub id: String,
    /// The container's bundle.
    pub dir: String,
    /// The OCI `process` object, as JSON.
    pub process: Vec<u8>,
    /// The streams of the process.
    pub stdio: Stdio,
    /// As in [`CreateJob::gate`].
    pub gate: OwnedFd,
    /// Where the creator says how it went.
    pub report: Report,
}

/// A creator's way to tell its shim how it went: once.
#[derive(Debug)]
pub struct Report(OwnedFd);

impl Report {
    /// The process is there, waiting at the gate, and becomes the shim's child when the creator exits.
    pub fn created(self, pid: u32) -> io::Result<()> {
        self.send(Message::Ready { pid })
    }

    /// There is no process.
    pub fn failed(self, failure: Failure) -> io::Result<()> {
        self.send(Message::Failed(failure))
    }

    fn send(self, message: Message) -> io::Result<()> {
        let mut packet = Vec::new();
        Frame { id: EVENT, message }
            .encode(&mut packet)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        sys::socket::send(&self.0, &packet).map(|_| ())
    }
}

/// The longest report: a pid, or a failure's text, which a creator keeps to a line or two.
const MAX_REPORT: usize = 16 * 1024;

/// The shim's end of a [`Report`].
pub(crate) fn report_pair() -> io::Result<(OwnedFd, Report)> {
    let (ours, theirs) = sys::socket::packet_pair()?;
    nonblocking(&ours)?;
    Ok((ours, Report(theirs)))
}

/// Reads a report; `None` if there is none yet, or the creator died without one.
pub(crate) fn read_report(socket: impl AsFd) -> Option<Message> {
    let mut packet = vec![0; MAX_REPORT];
    let n = rustix::io::retry_on_intr(|| rustix::io::read(&socket, &mut packet)).ok()?;
    Frame::decode(&packet[..n]).ok().map(|frame| frame.message)
}

/// What came through the gate.
#[derive(Debug)]
pub(crate) enum GateNews {
    /// Nothing yet.
    Nothing,
    /// It is closed: the program runs, or its process is dead.
    Closed,
    /// The program could not be executed.
    Failed {
        /// The exit code that stands for the reason.
        code: u8,
        /// The reason.
        text: String,
    },
}

/// Reads what came through the gate.
pub(crate) fn read_gate(socket: impl AsFd) -> GateNews {
    let mut packet = vec![0; MAX_REPORT];
    match rustix::io::retry_on_intr(|| rustix::io::read(&socket, &mut packet)) {
        Err(rustix::io::Errno::AGAIN) => GateNews::Nothing,
        Ok(0) | Err(_) => GateNews::Closed,
        Ok(n) => match packet[..n].split_first() {
            Some((b'E', rest)) if !rest.is_empty() => {
                GateNews::Failed { code: rest[0], text: String::from_utf8_lossy(&rest[1..]).into_owned() }
            }
            _ => GateNews::Nothing,
        },
    }
}

/// Makes reads and writes of a descriptor return instead of waiting.
pub(crate) fn nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Lets this process end when its parent does: what it makes would be nobody's.
fn end_with(parent: i32) {
    const KILL: i32 = 9;
    let _ = sys::process::set_parent_death_signal(KILL);
    if sys::process::parent_id() != parent {
        spawn::exit_now(1);
    }
}

impl Stdio {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Fds(fds) => fds.iter().map(AsFd::as_fd).collect(),
            Self::Console(socket) => vec![socket.as_fd()],
        }
    }
}

impl CreateJob {
    /// Forks the creator; returns its process.
    pub(crate) fn fork(self, create: fn(Self) -> !) -> io::Result<i32> {
        let parent = sys::process::id();
        match spawn::fork()? {
            Fork::Parent(pid) => Ok(pid.as_raw_nonzero().get()),
            Fork::Child => {
                end_with(parent);
                sys::signal::reset();
                let binds = self.bind_sources.iter().map(|(_, fd)| fd.as_fd());
                let ours = [self.gate.as_fd(), self.report.0.as_fd()];
                spawn::keep_only(self.stdio.fds().into_iter().chain(binds).chain(ours));
                create(self)
            }
        }
    }
}

impl ExecJob {
    /// Forks the creator; returns its process.
    pub(crate) fn fork(self, exec: fn(Self) -> !) -> io::Result<i32> {
        let parent = sys::process::id();
        match spawn::fork()? {
            Fork::Parent(pid) => Ok(pid.as_raw_nonzero().get()),
            Fork::Child => {
                end_with(parent);
                sys::signal::reset();
                let ours = [self.gate.as_fd(), self.report.0.as_fd()];
                spawn::keep_only(self.stdio.fds().into_iter().chain(ours));
                exec(self)
            }
        }
    }
}
