//! What the daemon asks for.

use crate::connection::{Connection, Next};
use crate::process::{Asker, Process, watched};
use crate::source::Token;
use crate::wire::{ExecSpec, ExecStatus, Failure, Frame, Kind, Message, Size, Stage, State, Status, Target};

use super::{CHUNK, INIT, MAX_CONNECTIONS, MAX_EXECS, Shim, failed, refused};

impl Shim {
    pub(super) fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok(Some(fd)) = sys::socket::accept(listener) {
            let root = sys::socket::peer_uid(&fd).is_ok_and(|uid| uid == 0);
            if !root || self.connections.len() + self.clients.len() >= MAX_CONNECTIONS {
                continue;
            }
            let token = Token::Connection(self.connections.next());
            if let Ok(source) = watched(fd, token, sys::epoll::EventFlags::IN, &self.epoll) {
                self.connections.insert(Connection::new(source));
            }
        }
    }

    pub(super) fn connection_ready(&mut self, slot: usize) {
        self.buffer.resize(CHUNK, 0);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.flush();
        connection.receive(&mut self.buffer);
        if self.leaving {
            self.progress = sys::timer::monotonic_ms();
        }
        self.take_frames(slot);
        self.settle_connection(slot);
    }

    /// Answers everything that a connection has said so far.
    fn take_frames(&mut self, slot: usize) {
        while let Some(connection) = self.connections.get_mut(slot) {
            match connection.next() {
                Ok(Next::Frame(frame)) => {
                    if connection.hello.is_some_and(|hello| hello.kind == Kind::Attach) {
                        return self.attach(slot, frame);
                    }
                    self.request(slot, frame);
                }
                Ok(Next::Wait) => return,
                Err(malformed) => {
                    let failure = refused(Stage::Request, &malformed.to_string());
                    connection.say(crate::wire::EVENT, Message::Failed(failure));
                    connection.broken = true;
                    return;
                }
            }
        }
    }

    /// Watches a connection for what it needs now, or drops it when it is broken.
    pub(super) fn settle_connection(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.flush();
        connection.watch(&self.epoll);
        if connection.broken {
            self.connections.remove(slot);
            // Nobody waits for these answers any more, and the slot will be somebody else's.
            for process in 0..self.processes.end() {
                if let Some(process) = self.processes.get_mut(process)
                    && process.asker.is_some_and(|asker| asker.connection == slot)
                {
                    process.asker = None;
                }
            }
            self.forsake(slot);
        }
    }

    /// Gives an answer to whoever waits for it.
    pub(super) fn answer(&mut self, asker: Option<Asker>, message: Message) {
        let Some(asker) = asker else { return };
        if let Some(connection) = self.connections.get_mut(asker.connection) {
            connection.say(asker.request, message);
        }
        self.settle_connection(asker.connection);
    }

    fn request(&mut self, slot: usize, frame: Frame) {
        let asker = Asker { connection: slot, request: frame.id };
        let done = match frame.message {
            Message::Start => match self.start(INIT, asker) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Message::ExecStart(id) => match self.start_exec(&id, asker) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Message::Probe { id, limit, process } => match self.probe(id, limit, process, asker) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Message::StatusRequest => Ok(Message::Status(Box::new(self.status()))),
            Message::Signal { target, signal } => self.signal(&target, signal).map(|()| Message::Ok),
            Message::Resize { target, size } => self.resize(&target, size).map(|()| Message::Ok),
            Message::ExecCreate(spec) => self.create_exec(spec).map(|()| Message::Ok),
            Message::ExecRemove(id) => self.remove_exec(&id).map(|()| Message::Ok),
            _ => Err(refused(Stage::Request, "not a request")),
        };
        self.answer(Some(asker), done.unwrap_or_else(Message::Failed));
    }

    pub(super) fn find(&self, target: &Target) -> Result<usize, Failure> {
        let slot = match target {
            Target::Init => self.processes.get(INIT).map(|_| INIT),
            Target::Exec(id) => self
                .processes
                .iter()
                .find(|(slot, p)| *slot != INIT && p.exec_id == *id)
                .map(|(slot, _)| slot),
        };
        slot.ok_or_else(|| refused(Stage::NotFound, "no such process"))
    }

    fn signal(&mut self, target: &Target, signal: u32) -> Result<(), Failure> {
        let slot = self.find(target)?;
        let Some(process) = self.processes.get(slot) else { return Ok(()) };
        let signal = i32::try_from(signal).unwrap_or(i32::MAX);
        process.signal(signal).map_err(failed(Stage::State, "send a signal"))
    }

    fn resize(&mut self, target: &Target, size: Size) -> Result<(), Failure> {
        let slot = self.find(target)?;
        let Some(process) = self.processes.get_mut(slot) else { return Ok(()) };
        if !process.tty {
            return Err(refused(Stage::State, "the process has no terminal"));
        }
        process.size = Some(size);
        match &process.terminal {
            Some(terminal) => {
                let resized = sys::pty::set_size(terminal, size.rows, size.columns);
                resized.map_err(failed(Stage::State, "resize the terminal"))
            }
            // It gets this size when it comes.
            None => Ok(()),
        }
    }

    pub(super) fn create_exec(&mut self, spec: ExecSpec) -> Result<(), Failure> {
        if spec.id.is_empty() || self.find(&Target::Exec(spec.id.clone())).is_ok() {
            return Err(refused(Stage::Request, "an exec needs an id of its own"));
        }
        if self.leaving || self.processes.get(INIT).is_none_or(|init| init.exit.is_some()) {
            return Err(refused(Stage::State, "the container is not running"));
        }
        if self.processes.len() > MAX_EXECS {
            return Err(refused(Stage::State, "too many execs"));
        }
        self.ended.retain(|ended| ended.id != spec.id);
        let mut process = Process::new(self.processes.next(), spec.id);
        process.tty = spec.tty;
        process.open_stdin = spec.stdin;
        process.stdin_once = true;
        process.size = spec.size;
        process.spec = spec.process;
        process.go = true;
        self.processes.insert(process);
        Ok(())
    }

    fn start_exec(&mut self, id: &str, asker: Asker) -> Result<(), Failure> {
        let slot = self.find(&Target::Exec(id.to_owned()))?;
        let Some(process) = self.processes.get_mut(slot) else { return Ok(()) };
        if process.state != State::Defined {
            return Err(refused(Stage::State, "the exec has been started"));
        }
        process.asker = Some(asker);
        self.make(slot).map_err(|error| {
            let failure = failed(Stage::Create, "start the creator")(error);
            self.forget(slot);
            failure
        })
    }

    fn remove_exec(&mut self, id: &str) -> Result<(), Failure> {
        let before = self.ended.len();
        self.ended.retain(|ended| ended.id != id);
        if self.ended.len() != before {
            return Ok(());
        }
        let slot = self.find(&Target::Exec(id.to_owned()))?;
        if self.processes.get(slot).is_some_and(|process| process.state != State::Defined) {
            return Err(refused(Stage::State, "the exec is running"));
        }
        self.forget(slot);
        Ok(())
    }

    pub(super) fn forget(&mut self, slot: usize) {
        self.processes.remove(slot);
        self.end_clients(slot);
    }

    fn status(&self) -> Status {
        let init = self.processes.get(INIT);
        let execs = self.processes.iter().filter(|(slot, exec)| *slot != INIT && exec.probe.is_none());
        let running = execs.map(|(_, exec)| ExecStatus {
            id: exec.exec_id.clone(),
            state: exec.state,
            pid: u32::try_from(exec.pid).unwrap_or(0),
            exit: exec.exit,
        });
        Status {
            id: self.launch.id.clone(),
            state: init.map_or(State::Stopped, |init| init.state),
            pid: init.map_or(0, |init| u32::try_from(init.pid).unwrap_or(0)),
            started_ns: self.started_ns,
            oom: self.oom,
            log_lost: self.log.as_ref().map_or(0, crate::log::Keeper::lost),
            execs: running.chain(self.ended.iter().cloned()).collect(),
        }
    }

    /// Turns a connection into an attached client.
    fn attach(&mut self, slot: usize, frame: Frame) {
        let Message::Attach { target, streams } = frame.message else {
            let failure = refused(Stage::Request, "an attach connection is for attaching");
            self.answer(Some(Asker { connection: slot, request: frame.id }), Message::Failed(failure));
            return self.end_connection(slot);
        };
        let found = self.find(&target).and_then(|process| {
            let alive = self.processes.get(process).is_some_and(|p| p.exit.is_none());
            if alive { Ok(process) } else { Err(refused(Stage::State, "the process has ended")) }
        });
        let process = match found {
            Ok(process) => process,
            Err(failure) => {
                self.answer(Some(Asker { connection: slot, request: frame.id }), Message::Failed(failure));
                return self.end_connection(slot);
            }
        };
        let Some(connection) = self.connections.remove(slot) else { return };
        let (source, input, mut greeting) = connection.into_parts();
        // An `Ok` has no fields that could be too long.
        let _ = Frame { id: frame.id, message: Message::Ok }.encode(&mut greeting);
        if let Ok(fd) = source.into_fd(&self.epoll) {
            let client = self.add_client(fd, process, streams, greeting);
            self.take_input(client, &input);
        }
    }

    fn end_connection(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.broken = true;
        }
    }
}
