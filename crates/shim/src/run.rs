//! The shim itself: its start, and its loop.

mod lifecycle;
mod probes;
mod requests;
mod rest;
mod streams;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use sys::epoll::{Epoll, EventFlags};
use sys::signal::SignalFd;

use crate::attach::Client;
use crate::connection::Connection;
use crate::creator::Creator;
use crate::launch::{Launch, Rootfs};
use crate::log::Keeper;
use crate::oom::Watch;
use crate::process::{Process, watched};
use crate::rootfs::{self, Mounted};
use crate::source::{Slots, Source, Token};
use crate::wire::{ExecStatus, Exit, Failure, Frame, HELLO, Hello, Message, Stage};

use rest::Rest;

/// One read of output: what a pipe holds by default.
const CHUNK: usize = 64 * 1024;

/// How long a dead init's or exec's output may stay open in the hands of others before its end is assumed.
const DRAIN_MS: u64 = 1000;

/// How long, after the container's end, a client may make no progress before the shim leaves without it.
const STALL_MS: u64 = 300_000;

/// How many execs there may be at a time, dead ones not counted.
const MAX_EXECS: usize = 1024;

/// How many dead execs are remembered for a daemon that was not there when they ended.
const MAX_ENDED: usize = 128;

/// How many connections there may be at a time, attached clients included: well within the default limit of a
/// process's open files.
const MAX_CONNECTIONS: usize = 400;

/// The slot of the init.
const INIT: usize = 0;

/// All that one shim knows.
struct Shim {
    creator: Creator,
    launch: Launch,
    dir: PathBuf,
    epoll: Epoll,
    signals: SignalFd,
    listener: Option<Source>,
    connections: Slots<Connection>,
    clients: Slots<Client>,
    processes: Slots<Process>,
    /// The last execs that ended.
    ended: VecDeque<ExecStatus>,
    /// Children that ended before it was known what they are.
    unclaimed: Vec<sys::spawn::Ended>,
    binds: Vec<OwnedFd>,
    rootfs: Option<Mounted>,
    log: Option<Keeper>,
    oom_watch: Option<Watch>,
    oom: bool,
    started_ns: i64,
    buffer: Vec<u8>,
    /// The container has ended: only what is already said is still sent.
    leaving: bool,
    /// When that last made progress.
    progress: u64,
}

/// Looks after one container, described on the inherited descriptor `control`, and returns at its end.
pub fn main(creator: Creator, control: OwnedFd) {
    for signal in [libc_signal::HUP, libc_signal::INT, libc_signal::QUIT, libc_signal::PIPE] {
        sys::signal::ignore(signal);
    }
    // Else the kernel shows the number of the descriptor that the program was executed from.
    let _ = sys::process::set_name(c"corten-shim");
    let Ok(signals) = SignalFd::block(&[libc_signal::CHLD, libc_signal::TERM]) else { return };
    // Both fail only where they are already so.
    let _ = rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1));
    let _ = rustix::process::setsid();
    let Some(received) = receive(&control) else { return };
    let Ok(epoll) = Epoll::new() else { return };
    let mut connection = Connection::new(Source::new(control, Token::Connection(0)));
    connection.hello = Some(received.hello);
    connection.prefill(received.rest);
    match Shim::new(creator, received.launch, received.fds, epoll, signals) {
        Ok(mut shim) => {
            shim.connections.insert(connection);
            shim.begin(received.id);
            shim.run();
        }
        Err(failure) => connection.say(received.id, Message::Failed(failure)),
    }
}

/// The numbers of the signals that are looked at.
mod libc_signal {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const KILL: i32 = 9;
    pub(super) const PIPE: i32 = 13;
    pub(super) const TERM: i32 = 15;
    pub(super) const CHLD: i32 = 17;
}

/// What the first bytes on the inherited descriptor say.
struct Received {
    hello: Hello,
    id: u32,
    launch: Launch,
    fds: Vec<OwnedFd>,
    /// What came after.
    rest: Vec<u8>,
}

/// Waits for the launch; `None` when there is none to come.
fn receive(control: &OwnedFd) -> Option<Received> {
    let mut bytes = Vec::new();
    let mut fds = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        if let Some((hello, rest)) = bytes.split_first_chunk::<HELLO>() {
            let hello = Hello::decode(*hello).ok()?;
            if let Some(length) = Frame::length(rest).ok()?.filter(|length| rest.len() >= *length) {
                let frame = Frame::decode(&rest[..length]).ok()?;
                let Message::Launch(launch) = frame.message else { return None };
                crate::creator::nonblocking(control).ok()?;
                sys::socket::send(control, &Hello::new(hello.kind).encode()).ok()?;
                return Some(Received {
                    hello,
                    id: frame.id,
                    launch: *launch,
                    fds,
                    rest: rest[length..].to_vec(),
                });
            }
        }
        match sys::socket::recv_fds(control, &mut chunk, &mut fds) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}

/// Says at which step an error happened, in words.
fn failed(stage: Stage, what: &str) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure {
        stage,
        errno: error.raw_os_error().unwrap_or(0),
        code: 125,
        text: format!("{what}: {error}"),
    }
}

fn refused(stage: Stage, text: &str) -> Failure {
    Failure { stage, errno: 0, code: 125, text: text.to_owned() }
}

impl Shim {
    fn new(
        creator: Creator,
        launch: Launch,
        mut fds: Vec<OwnedFd>,
        epoll: Epoll,
        signals: SignalFd,
    ) -> Result<Self, Failure> {
        if fds.len() != launch.binds.len() + launch.attach.len() {
            return Err(refused(Stage::Request, "the launch and its descriptors do not match"));
        }
        let attached = fds.split_off(launch.binds.len());
        let dir = PathBuf::from(&launch.dir);
        rootfs::enter().map_err(failed(Stage::Namespace, "make a mount namespace"))?;
        let rootfs = match &launch.rootfs {
            Rootfs::Overlay(overlay) => Some(
                rootfs::mount(overlay, &dir.join("rootfs"))
                    .map_err(failed(Stage::Rootfs, "mount the root filesystem"))?,
            ),
            _ => None,
        };
        let log = launch.log.as_ref().map(Keeper::open).transpose();
        let log = log.map_err(failed(Stage::Log, "open the log"))?;
        let own = |what| failed(Stage::Shim, what);
        let listener = sys::socket::listen(&dir, crate::SOCKET).map_err(own("listen"))?;
        let listener = watched(listener, Token::Listener, EventFlags::IN, &epoll).map_err(own("watch"))?;
        epoll.add(&signals, Token::Signals.encode(), EventFlags::IN).map_err(own("watch"))?;
        let mut shim = Self {
            creator,
            dir,
            epoll,
            signals,
            listener: Some(listener),
            connections: Slots::new(),
            clients: Slots::new(),
            processes: Slots::new(),
            ended: VecDeque::new(),
            unclaimed: Vec::new(),
            binds: fds,
            rootfs,
            log,
            oom_watch: None,
            oom: false,
            started_ns: 0,
            buffer: Vec::new(),
            leaving: false,
            progress: 0,
            launch,
        };
        shim.add_init();
        for (fd, streams) in attached.into_iter().zip(shim.launch.attach.clone()) {
            crate::creator::nonblocking(&fd).map_err(own("attach"))?;
            shim.add_client(fd, INIT, streams, Vec::new());
        }
        Ok(shim)
    }

    fn add_init(&mut self) {
        let mut init = Process::new(INIT, String::new());
        init.tty = self.launch.tty;
        init.open_stdin = self.launch.open_stdin;
        init.stdin_once = self.launch.stdin_once;
        init.size = self.launch.size;
        init.go = self.launch.start_now;
        self.processes.insert(init);
    }

    /// Waits and works until the container has ended and everybody knows.
    fn run(&mut self) {
        let mut events = Epoll::events();
        let mut rest = Rest::default();
        while !self.is_done() {
            let timeout = self.timeout(rest);
            let Ok(count) = self.epoll.wait(&mut events, timeout) else { return };
            if count == 0 && timeout.is_some() && timeout == rest.due() {
                rest.begin(sys::timer::monotonic_ms());
                self.relax();
            } else if count > 0 {
                rest.end(sys::timer::monotonic_ms());
            }
            for event in &events[..count] {
                let (data, flags) = (event.data, event.flags);
                if let Some(token) = Token::decode(data.u64()) {
                    self.handle(token, flags);
                }
            }
            self.check_deadlines();
        }
    }

    /// How long to wait: for ever, unless something is to be done at a time.
    fn timeout(&self, rest: Rest) -> Option<u64> {
        let deadlines = self.processes.iter().filter_map(|(_, process)| process.deadline);
        let stall = self.leaving.then_some(self.progress + STALL_MS);
        let next = deadlines.chain(stall).min().map(|at| at.saturating_sub(sys::timer::monotonic_ms()) + 1);
        next.or_else(|| rest.due())
    }

    fn handle(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Signals => self.take_signals(),
            Token::Listener => self.accept(),
            Token::Oom => self.check_oom(),
            Token::Log => {
                if let Some(log) = &mut self.log {
                    log.ready(&self.epoll);
                }
            }
            Token::Connection(slot) => self.connection_ready(slot),
            Token::Client(slot) => self.client_ready(slot, flags),
            Token::Output(slot) | Token::Errors(slot) | Token::Terminal(slot) => {
                self.output_ready(slot, token, flags);
            }
            Token::Input(slot) => self.input_ready(slot),
            Token::Report(slot) => self.report_ready(slot),
            Token::Gate(slot) => self.gate_ready(slot),
            Token::Console(slot) => self.console_ready(slot),
        }
    }

    fn take_signals(&mut self) {
        let mut children = false;
        while let Ok(Some(signal)) = self.signals.next() {
            match signal {
                libc_signal::CHLD => children = true,
                // Whoever wants the shim to end wants its container to end; the shim follows it.
                libc_signal::TERM => {
                    if let Some(init) = self.processes.get(INIT) {
                        let _ = init.signal(libc_signal::TERM);
                    }
                }
                _ => {}
            }
        }
        if children {
            self.reap();
        }
    }

    fn check_oom(&mut self) {
        if self.oom_watch.as_mut().is_some_and(Watch::check) {
            self.oom = true;
            self.tell(&Message::Oom);
        }
    }

    /// Says something to every connection that hears events.
    fn tell(&mut self, message: &Message) {
        for slot in 0..self.connections.end() {
            if let Some(connection) = self.connections.get_mut(slot)
                && connection.is_control()
            {
                connection.say(crate::wire::EVENT, message.clone());
                self.settle_connection(slot);
            }
        }
    }

    /// Gives back the memory that only work needs.
    fn relax(&mut self) {
        self.buffer = Vec::new();
        if let Some(log) = &mut self.log {
            log.relax();
        }
        sys::memory::drop_text();
    }

    fn is_done(&self) -> bool {
        self.leaving && self.clients.is_empty() && self.connections.iter().all(|(_, c)| c.is_flushed())
    }

    fn check_deadlines(&mut self) {
        let now = sys::timer::monotonic_ms();
        for slot in (0..self.processes.end()).rev() {
            let due = |process: &Process| process.deadline.is_some_and(|at| at <= now);
            if self.processes.get(slot).is_some_and(due) {
                self.finish(slot);
            }
        }
        if self.leaving && now >= self.progress + STALL_MS {
            self.clients = Slots::new();
            self.connections = Slots::new();
        }
    }

    fn watch_oom(&mut self) {
        // Without the notice everything else still works.
        if let Ok(Some(watch)) = Watch::new(&self.launch.oom)
            && self.epoll.add(watch.as_fd(), Token::Oom.encode(), EventFlags::IN).is_ok()
        {
            self.oom_watch = Some(watch);
        }
    }

    /// How the init or an exec ended, as it is told.
    fn exit_of(&self, slot: usize) -> Exit {
        let mut exit = self.processes.get(slot).and_then(|process| process.exit).unwrap_or_default();
        exit.oom = self.oom;
        exit
    }
}
