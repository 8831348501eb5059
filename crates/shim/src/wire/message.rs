//! The messages.

use crate::launch::Launch;

use super::codec::{Malformed, Reader, Writer};

/// Which process of a container is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The container's init.
    Init,
    /// The exec with this id.
    Exec(String),
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Which streams an attached client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// The client sends standard input.
    pub stdin: bool,
    /// The client gets standard output (a terminal's only output).
    pub stdout: bool,
    /// The client gets standard error.
    pub stderr: bool,
}

impl Streams {
    /// All three.
    pub const ALL: Self = Self { stdin: true, stdout: true, stderr: true };
    /// Both outputs.
    pub const OUTPUT: Self = Self { stdin: false, stdout: true, stderr: true };
}

/// A process to add to a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// The daemon's name for it.
    pub id: String,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether clients may send it standard input.
    pub stdin: bool,
    /// The terminal's size at the start.
    pub size: Option<Size>,
    /// The OCI `process` object, as JSON that the shim does not read.
    pub process: Vec<u8>,
}

/// At which step something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The request makes no sense, or is not understood.
    Request = 1,
    /// The mount namespace.
    Namespace = 2,
    /// The root filesystem.
    Rootfs = 3,
    /// The log file.
    Log = 4,
    /// The shim's own socket, descriptors or memory.
    Shim = 5,
    /// The container around the process: namespaces, cgroup, mounts, …
    Create = 6,
    /// The program itself could not be executed.
    Exec = 7,
    /// The process is not in a state in which that can be done.
    State = 8,
    /// There is no such exec.
    NotFound = 9,
}

impl Stage {
    fn decode(tag: u8) -> Result<Self, Malformed> {
        Ok(match tag {
            1 => Self::Request,
            2 => Self::Namespace,
            3 => Self::Rootfs,
            4 => Self::Log,
            5 => Self::Shim,
            6 => Self::Create,
            7 => Self::Exec,
            8 => Self::State,
            9 => Self::NotFound,
            other => return Err(Malformed::Unknown(other)),
        })
    }
}

/// Something that did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// At which step.
    pub stage: Stage,
    /// The kernel's error number, 0 if it was not the kernel.
    pub errno: i32,
    /// The exit code that Docker gives to it: 125, 126 or 127.
    pub code: u8,
    /// What happened, in one line.
    pub text: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exit {
    /// Its exit code; 128 plus the number of the signal that killed it.
    pub code: i32,
    /// The signal that killed it, or 0.
    pub signal: i32,
    /// Whether the kernel killed something in the container for want of memory.
    pub oom: bool,
    /// When, in nanoseconds since the epoch.
    pub finished_ns: i64,
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Known, but not there yet.
    Defined = 0,
    /// Being made.
    Creating = 1,
    /// There, and waiting for its start.
    Created = 2,
    /// Running the user's program.
    Running = 3,
    /// Dead.
    Stopped = 4,
}

impl State {
    fn decode(tag: u8) -> Result<Self, Malformed> {
        Ok(match tag {
            0 => Self::Defined,
            1 => Self::Creating,
            2 => Self::Created,
            3 => Self::Running,
            4 => Self::Stopped,
            other => return Err(Malformed::Unknown(other)),
        })
    }
}

/// What is known of an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecStatus {
    /// Which.
    pub id: String,
    /// What it is doing.
    pub state: State,
    /// Its process, 0 before it has one.
    pub pid: u32,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The container's id.
    pub id: String,
    /// What its init is doing.
    pub state: State,
    /// Its init, 0 before there is one.
    pub pid: u32,
    /// When it was started, in nanoseconds since the epoch; 0 before.
    pub started_ns: i64,
    /// Whether the kernel has killed something in it for want of memory.
    pub oom: bool,
    /// Bytes of output that could not be written to the log.
    pub log_lost: u64,
    /// Its execs, the last ones that ended included.
    pub execs: Vec<ExecStatus>,
}

/// Everything that can be said in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// To the shim, first: what it is to look after.
    Launch(Box<Launch>),
    /// To the shim: let the created init execute the user's program.
    Start,
    /// To the shim: send a signal.
    Signal {
        /// To whom.
        target: Target,
        /// Which.
        signal: u32,
    },
    /// To the shim: change a terminal's size.
    Resize {
        /// Whose terminal.
        target: Target,
        /// The new size.
        size: Size,
    },
    /// To the shim: remember an exec, so that clients can attach before it starts.
    ExecCreate(ExecSpec),
    /// To the shim: start an exec.
    ExecStart(String),
    /// To the shim: forget an exec that was not started, or has ended.
    ExecRemove(String),
    /// To the shim: ask for [`Message::Status`].
    StatusRequest,
    /// To the shim, on an attach connection.
    Attach {
        /// Whose streams.
        target: Target,
        /// Which streams.
        streams: Streams,
    },
    /// To the shim: run a command to its end and answer with [`Message::Probed`]. It dies with the connection.
    Probe {
        /// The daemon's name for it, by which it can be sent a signal: with all that it has started.
        id: String,
        /// How many bytes of its output are wanted.
        limit: u32,
        /// The OCI `process` object, as JSON that the shim does not read.
        process: Vec<u8>,
    },
    /// Answer: done.
    Ok,
    /// Answer: not done.
    Failed(Failure),
    /// Answer to a launch without start: the init, waiting.
    Ready {
        /// Its process.
        pid: u32,
    },
    /// Answer to what starts a process.
    Started {
        /// Its process.
        pid: u32,
    },
    /// Answer to [`Message::StatusRequest`].
    Status(Box<Status>),
    /// Answer to [`Message::Probe`].
    Probed {
        /// How it ended.
        exit: Exit,
        /// The beginning of what it said, on both outputs.
        output: Vec<u8>,
        /// Whether it said more.
        cut: bool,
    },
    /// Event: the init has ended; the last thing that is said.
    Exited(Exit),
    /// Event: an exec has ended.
    ExecExited {
        /// Which.
        id: String,
        /// How.
        exit: Exit,
    },
    /// Event: the kernel killed something in the container for want of memory.
    Oom,
}

impl Message {
    /// The message's type on the wire.
    pub fn tag(&self) -> u8 {
        match self {
            Self::Launch(_) => 1,
            Self::Start => 2,
            Self::Signal { .. } => 3,
            Self::Resize { .. } => 4,
            Self::ExecCreate(_) => 5,
            Self::ExecStart(_) => 6,
            Self::ExecRemove(_) => 7,
            Self::StatusRequest => 8,
            Self::Attach { .. } => 9,
            Self::Probe { .. } => 10,
            Self::Ok => 64,
            Self::Failed(_) => 65,
            Self::Ready { .. } => 66,
            Self::Started { .. } => 67,
            Self::Status(_) => 68,
            Self::Probed { .. } => 69,
            Self::Exited(_) => 96,
            Self::ExecExited { .. } => 97,
            Self::Oom => 98,
        }
    }

    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Launch(launch) => launch.encode(w),
            Self::Start | Self::StatusRequest | Self::Ok | Self::Oom => {}
            Self::Signal { target, signal } => {
                put_target(w, target);
                w.u32(*signal);
            }
            Self::Resize { target, size } => {
                put_target(w, target);
                put_size(w, *size);
            }
            Self::ExecCreate(spec) => {
                w.text(&spec.id);
                w.bool(spec.tty);
                w.bool(spec.stdin);
                put_option(w, spec.size, put_size);
                w.bytes(&spec.process);
            }
            Self::ExecStart(id) | Self::ExecRemove(id) => w.text(id),
            Self::Attach { target, streams } => {
                put_target(w, target);
                put_streams(w, *streams);
            }
            Self::Probe { id, limit, process } => {
                w.text(id);
                w.u32(*limit);
                w.bytes(process);
            }
            Self::Probed { exit, output, cut } => {
                put_exit(w, *exit);
                w.bytes(output);
                w.bool(*cut);
            }
            Self::Failed(failure) => {
                w.u8(failure.stage as u8);
                w.i32(failure.errno);
                w.u8(failure.code);
                w.text(&failure.text);
            }
            Self::Ready { pid } | Self::Started { pid } => w.u32(*pid),
            Self::Status(status) => put_status(w, status),
            Self::Exited(exit) => put_exit(w, *exit),
            Self::ExecExited { id, exit } => {
                w.text(id);
                put_exit(w, *exit);
            }
        }
    }

    pub(super) fn decode(tag: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match tag {
            1 => Self::Launch(Box::new(Launch::decode(r)?)),
            2 => Self::Start,
            3 => Self::Signal { target: get_target(r)?, signal: r.u32()? },
            4 => Self::Resize { target: get_target(r)?, size: get_size(r)? },
            5 => Self::ExecCreate(ExecSpec {
                id: r.text()?.to_owned(),
                tty: r.bool()?,
                stdin: r.bool()?,
                size: get_option(r, get_size)?,
                process: r.bytes()?.to_vec(),
            }),
            6 => Self::ExecStart(r.text()?.to_owned()),
            7 => Self::ExecRemove(r.text()?.to_owned()),
            8 => Self::StatusRequest,
            9 => Self::Attach { target: get_target(r)?, streams: get_streams(r)? },
            10 => Self::Probe { id: r.text()?.to_owned(), limit: r.u32()?, process: r.bytes()?.to_vec() },
            64 => Self::Ok,
            65 => Self::Failed(Failure {
                stage: Stage::decode(r.u8()?)?,
                errno: r.i32()?,
                code: r.u8()?,
                text: r.text()?.to_owned(),
            }),
            66 => Self::Ready { pid: r.u32()? },
            67 => Self::Started { pid: r.u32()? },
            68 => Self::Status(Box::new(get_status(r)?)),
            69 => Self::Probed { exit: get_exit(r)?, output: r.bytes()?.to_vec(), cut: r.bool()? },
            96 => Self::Exited(get_exit(r)?),
            97 => Self::ExecExited { id: r.text()?.to_owned(), exit: get_exit(r)? },
            98 => Self::Oom,
            other => return Err(Malformed::Unknown(other)),
        })
    }
}

fn put_target(w: &mut Writer<'_>, target: &Target) {
    match target {
        Target::Init => w.u8(0),
        Target::Exec(id) => {
            w.u8(1);
            w.text(id);
        }
    }
}

fn get_target(r: &mut Reader<'_>) -> Result<Target, Malformed> {
    match r.u8()? {
        0 => Ok(Target::Init),
        1 => Ok(Target::Exec(r.text()?.to_owned())),
        other => Err(Malformed::Unknown(other)),
    }
}

pub(crate) fn put_streams(w: &mut Writer<'_>, streams: Streams) {
    w.bool(streams.stdin);
    w.bool(streams.stdout);
    w.bool(streams.stderr);
}

pub(crate) fn get_streams(r: &mut Reader<'_>) -> Result<Streams, Malformed> {
    Ok(Streams { stdin: r.bool()?, stdout: r.bool()?, stderr: r.bool()? })
}

pub(crate) fn put_size(w: &mut Writer<'_>, size: Size) {
    w.u16(size.rows);
    w.u16(size.columns);
}

pub(crate) fn get_size(r: &mut Reader<'_>) -> Result<Size, Malformed> {
    Ok(Size { rows: r.u16()?, columns: r.u16()? })
}

pub(crate) fn put_option<T>(w: &mut Writer<'_>, value: Option<T>, put: impl FnOnce(&mut Writer<'_>, T)) {
    w.bool(value.is_some());
    if let Some(value) = value {
        put(w, value);
    }
}

pub(crate) fn get_option<'a, T>(
    r: &mut Reader<'a>,
    get: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if r.bool()? { Ok(Some(get(r)?)) } else { Ok(None) }
}

fn put_exit(w: &mut Writer<'_>, exit: Exit) {
    w.i32(exit.code);
    w.i32(exit.signal);
    w.bool(exit.oom);
    w.i64(exit.finished_ns);
}

fn get_exit(r: &mut Reader<'_>) -> Result<Exit, Malformed> {
    Ok(Exit { code: r.i32()?, signal: r.i32()?, oom: r.bool()?, finished_ns: r.i64()? })
}

fn put_status(w: &mut Writer<'_>, status: &Status) {
    w.text(&status.id);
    w.u8(status.state as u8);
    w.u32(status.pid);
    w.i64(status.started_ns);
    w.bool(status.oom);
    w.u64(status.log_lost);
    w.count(status.execs.len());
    for exec in &status.execs {
        w.text(&exec.id);
        w.u8(exec.state as u8);
        w.u32(exec.pid);
        put_option(w, exec.exit, put_exit);
    }
}

/// An exec's status has at least its id's length, state, pid and whether it ended.
const LEAST_EXEC_STATUS: usize = 10;

fn get_status(r: &mut Reader<'_>) -> Result<Status, Malformed> {
    let mut status = Status {
        id: r.text()?.to_owned(),
        state: State::decode(r.u8()?)?,
        pid: r.u32()?,
        started_ns: r.i64()?,
        oom: r.bool()?,
        log_lost: r.u64()?,
        execs: Vec::new(),
    };
    for _ in 0..r.count(LEAST_EXEC_STATUS)? {
        status.execs.push(ExecStatus {
            id: r.text()?.to_owned(),
            state: State::decode(r.u8()?)?,
            pid: r.u32()?,
            exit: get_option(r, get_exit)?,
        });
    }
    Ok(status)
}
