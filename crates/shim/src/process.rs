//! A process that the shim looks after: the container's init, or an exec.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use sys::epoll::{Epoll, EventFlags};

use crate::creator::{Stdio, nonblocking};
use crate::source::{Source, Token};
use crate::wire::{Exit, Failure, Size, State};

/// Who asked for a process to be made or started, and waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The slot of the connection.
    pub(crate) connection: usize,
    /// The request.
    pub(crate) request: u32,
}

/// The output of a command that runs to its end for who asked for it.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) asker: Asker,
    pub(crate) limit: usize,
    pub(crate) output: Vec<u8>,
    /// There was more.
    pub(crate) cut: bool,
}

impl Probe {
    /// Keeps the beginning of what is said.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(self.limit.saturating_sub(self.output.len()));
        self.output.extend_from_slice(&bytes[..take]);
        self.cut |= take < bytes.len();
    }
}

/// One process and its streams.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) slot: usize,
    /// The daemon's name for it; empty for the init.
    pub(crate) exec_id: String,
    pub(crate) state: State,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) size: Option<Size>,
    /// The OCI `process` object of an exec that has not been started.
    pub(crate) spec: Vec<u8>,
    /// Whether the program is to be executed as soon as the process is there.
    pub(crate) go: bool,
    pub(crate) asker: Option<Asker>,
    /// What is kept of a probe's output, for who asked for it.
    pub(crate) probe: Option<Probe>,
    pub(crate) creator: i32,
    pub(crate) pid: i32,
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) report: Option<Source>,
    pub(crate) gate: Option<Source>,
    /// The gate has closed: the program has been executed, or there is nobody to do it.
    pub(crate) passed: bool,
    pub(crate) failure: Option<Failure>,
    pub(crate) console: Option<Source>,
    /// Standard output, and standard error.
    pub(crate) outputs: [Option<Source>; 2],
    pub(crate) input: Option<Source>,
    pub(crate) terminal: Option<Source>,
    /// The shim's own hold on the terminal, so that a container that closes it can open it again.
    slave: Option<OwnedFd>,
    pub(crate) input_held: Vec<u8>,
    /// The input is to be closed once what is held is written.
    pub(crate) input_closing: bool,
    /// A client has not taken all output yet: nothing more is read.
    pub(crate) paused: bool,
    pub(crate) exit: Option<Exit>,
    /// When to stop waiting for the end of a dead process's output.
    pub(crate) deadline: Option<u64>,
}

impl Process {
    pub(crate) fn new(slot: usize, exec_id: String) -> Self {
        Self {
            slot,
            exec_id,
            state: State::Defined,
            tty: false,
            open_stdin: false,
            stdin_once: false,
            size: None,
            spec: Vec::new(),
            go: false,
            asker: None,
            probe: None,
            creator: 0,
            pid: 0,
            pidfd: None,
            report: None,
            gate: None,
            passed: false,
            failure: None,
            console: None,
            outputs: [None, None],
            input: None,
            terminal: None,
            slave: None,
            input_held: Vec::new(),
            input_closing: false,
            paused: false,
            exit: None,
            deadline: None,
        }
    }

    pub(crate) fn is_init(&self) -> bool {
        self.exec_id.is_empty()
    }

    /// Makes the streams: keeps one side, returns the other.
    pub(crate) fn make_stdio(&mut self, epoll: &Epoll) -> io::Result<Stdio> {
        let slot = self.slot;
        if self.tty {
            let (ours, theirs) = sys::socket::stream_pair()?;
            nonblocking(&ours)?;
            self.console = Some(watched(ours, Token::Console(slot), EventFlags::IN, epoll)?);
            return Ok(Stdio::Console(theirs));
        }
        let stdin = if self.open_stdin {
            let (read, write) = pipe()?;
            nonblocking(&write)?;
            self.input = Some(Source::new(write, Token::Input(slot)));
            read
        } else {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?
        };
        let (out_read, stdout) = pipe()?;
        let (err_read, stderr) = pipe()?;
        nonblocking(&out_read)?;
        nonblocking(&err_read)?;
        let output = watched(out_read, Token::Output(slot), EventFlags::IN, epoll)?;
        let errors = watched(err_read, Token::Errors(slot), EventFlags::IN, epoll)?;
        self.outputs = [Some(output), Some(errors)];
        Ok(Stdio::Fds([stdin, stdout, stderr]))
    }

    /// Takes the terminal's master when it has arrived on the console socket.
    pub(crate) fn take_console(&mut self, epoll: &Epoll) -> io::Result<()> {
        let Some(console) = &self.console else { return Ok(()) };
        let (mut buffer, mut fds) = ([0_u8; 64], Vec::new());
        match sys::socket::recv_fds(console, &mut buffer, &mut fds) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => {
                self.console = None;
                return Err(e);
            }
            Ok(_) => {}
        }
        self.console = None;
        // None means that the creator died; its report, or its death, says why.
        let Some(master) = fds.into_iter().next() else { return Ok(()) };
        nonblocking(&master)?;
        if let Some(size) = self.size {
            sys::pty::set_size(&master, size.rows, size.columns)?;
        }
        self.slave = sys::pty::open_slave(&master).ok();
        self.terminal = Some(watched(master, Token::Terminal(self.slot), EventFlags::IN, epoll)?);
        Ok(())
    }

    /// The terminal was hung up under the living: its slave can be opened anew.
    pub(crate) fn reopen_slave(&mut self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        self.slave = None;
        self.slave = sys::pty::open_slave(terminal).ok();
        self.slave.is_some()
    }

    /// Lets go of the terminal's slave, so that its end is seen when the last user is gone.
    pub(crate) fn release_slave(&mut self) {
        self.slave = None;
    }

    /// Whether no more output can come.
    pub(crate) fn is_silent(&self) -> bool {
        self.outputs.iter().all(Option::is_none) && self.terminal.is_none()
    }

    /// Whether input has to wait.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.input_held.is_empty()
    }

    /// Whether there is somewhere for input to go.
    pub(crate) fn takes_input(&self) -> bool {
        self.open_stdin
            && !self.input_closing
            && (self.input.is_some() || self.terminal.is_some() || !self.started())
    }

    fn started(&self) -> bool {
        !matches!(self.state, State::Defined | State::Creating)
    }

    /// Gives input to the process; what it does not take is held.
    pub(crate) fn give(&mut self, bytes: &[u8], epoll: &Epoll) -> io::Result<()> {
        if self.takes_input() {
            self.input_held.extend_from_slice(bytes);
            self.flush_input(epoll)?;
        }
        Ok(())
    }

    /// Gives what is held to the process, as far as it goes.
    pub(crate) fn flush_input(&mut self, epoll: &Epoll) -> io::Result<()> {
        let target = self.input.as_ref().or(self.terminal.as_ref());
        let Some(target) = target else { return Ok(()) };
        let mut written = 0;
        while written < self.input_held.len() {
            match rustix::io::write(target, &self.input_held[written..]) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    // Nobody reads: what is sent from now on is lost, as in any pipe.
                    self.input = None;
                    self.input_held = Vec::new();
                    return Ok(());
                }
            }
        }
        self.input_held.drain(..written);
        if self.input_held.is_empty() {
            self.input_held = Vec::new();
            if self.input_closing {
                self.input = None;
            }
        }
        self.watch(epoll)
    }

    /// Closes the input once everything held is written. A terminal stays open.
    pub(crate) fn close_input(&mut self, epoll: &Epoll) -> io::Result<()> {
        if self.tty {
            return Ok(());
        }
        self.input_closing = true;
        self.flush_input(epoll)
    }

    /// Watches the streams for what matters now.
    pub(crate) fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        let reading = if self.paused { EventFlags::empty() } else { EventFlags::IN };
        let writing = if self.is_blocked() { EventFlags::OUT } else { EventFlags::empty() };
        let some = |flags: EventFlags| if flags.is_empty() { None } else { Some(flags) };
        for output in self.outputs.iter_mut().flatten() {
            output.watch(epoll, some(reading))?;
        }
        if let Some(input) = &mut self.input {
            input.watch(epoll, some(writing))?;
        }
        if let Some(terminal) = &mut self.terminal {
            terminal.watch(epoll, some(reading | writing))?;
        }
        Ok(())
    }

    /// Sends a signal; a probe's reaches all that it has started, unless that has left its session.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        if self.probe.is_some() && self.state == State::Running {
            // It leads a group of its own, and its number is taken until it is reaped.
            return sys::signal::send_to_group(self.pid, signal);
        }
        match &self.pidfd {
            Some(pidfd) => sys::signal::send(pidfd.as_fd(), signal),
            None => Err(Errno::SRCH.into()),
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

pub(crate) fn watched(fd: OwnedFd, token: Token, flags: EventFlags, epoll: &Epoll) -> io::Result<Source> {
    let mut source = Source::new(fd, token);
    source.watch(epoll, Some(flags))?;
    Ok(source)
}
