//! Processes from their making to their end.

use std::io;

use sys::epoll::EventFlags;

use crate::creator::{CreateJob, ExecJob, GateNews, read_gate, read_report, report_pair};
use crate::exit;
use crate::process::{Asker, watched};
use crate::source::Token;
use crate::wire::{ExecStatus, Exit, Failure, Message, Stage, State};

use super::{DRAIN_MS, INIT, MAX_ENDED, Shim, failed, libc_signal, refused};

/// Children that end while it is not known whose they are; they are only kept while a creator is at work.
const MAX_UNCLAIMED: usize = 256;
/// The exit code of a command that could not be executed, as shells have it.
const CANNOT_EXECUTE: u8 = 126;

impl Shim {
    /// Makes the container.
    pub(super) fn begin(&mut self, request: u32) {
        if let Some(init) = self.processes.get_mut(INIT) {
            init.asker = Some(Asker { connection: 0, request });
        }
        if let Err(error) = self.make(INIT) {
            self.give_up(INIT, failed(Stage::Create, "start the creator")(error));
        }
        self.settle_connection(0);
    }

    /// Makes the streams of a process and forks its creator.
    pub(super) fn make(&mut self, slot: usize) -> io::Result<()> {
        let Some(process) = self.processes.get_mut(slot) else { return Ok(()) };
        process.state = State::Creating;
        let stdio = process.make_stdio(&self.epoll)?;
        let (gate, their_gate) = sys::socket::packet_pair()?;
        crate::creator::nonblocking(&gate)?;
        let (report, their_report) = report_pair()?;
        // Without a terminal, whose size comes first, the process need not wait for another round of this loop.
        if process.go && !process.tty {
            sys::socket::send(&gate, b"g")?;
        }
        process.gate = Some(watched(gate, Token::Gate(slot), EventFlags::IN, &self.epoll)?);
        process.report = Some(watched(report, Token::Report(slot), EventFlags::IN, &self.epoll)?);
        let (id, dir) = (self.launch.id.clone(), self.launch.dir.clone());
        process.creator = if process.is_init() {
            let indexes = self.launch.binds.iter().map(|index| usize::try_from(*index).unwrap_or(usize::MAX));
            let bind_sources = indexes.zip(std::mem::take(&mut self.binds)).collect();
            let job = CreateJob { id, dir, stdio, bind_sources, gate: their_gate, report: their_report };
            job.fork(self.creator.create)?
        } else {
            let spec = std::mem::take(&mut process.spec);
            let job = ExecJob { id, dir, process: spec, stdio, gate: their_gate, report: their_report };
            job.fork(self.creator.exec)?
        };
        process.flush_input(&self.epoll)?;
        self.settle_clients(slot);
        Ok(())
    }

    pub(super) fn console_ready(&mut self, slot: usize) {
        let Some(process) = self.processes.get_mut(slot) else { return };
        if process.take_console(&self.epoll).is_ok() {
            let _ = process.flush_input(&self.epoll);
            self.settle_clients(slot);
            self.advance(slot);
        }
    }

    pub(super) fn report_ready(&mut self, slot: usize) {
        let Some(process) = self.processes.get_mut(slot) else { return };
        let Some(report) = &process.report else { return };
        let Some(message) = read_report(report) else {
            // Closed without a word, or not ready: the creator's death decides.
            if let Some(report) = &mut process.report {
                let _ = report.watch(&self.epoll, None);
            }
            return;
        };
        process.report = None;
        match message {
            Message::Ready { pid } => self.created(slot, pid),
            Message::Failed(failure) => self.give_up(slot, failure),
            _ => self.give_up(slot, refused(Stage::Create, "the creator said something strange")),
        }
    }

    fn created(&mut self, slot: usize, pid: u32) {
        let Some(process) = self.processes.get_mut(slot) else { return };
        process.pid = i32::try_from(pid).unwrap_or(0);
        process.state = State::Created;
        let Some(number) = rustix::process::Pid::from_raw(process.pid) else {
            return self.give_up(slot, refused(Stage::Create, "the creator named no process"));
        };
        process.pidfd = sys::spawn::pidfd(number).ok();
        let waiting = !process.go;
        let asker = process.asker;
        if slot == INIT {
            // The daemon learns the process from the answer as well; the file is for the next daemon.
            let _ = exit::write_init(&self.dir, pid);
            self.watch_oom();
        }
        if waiting {
            if let Some(process) = self.processes.get_mut(slot) {
                process.asker = None;
            }
            self.answer(asker, Message::Ready { pid });
        }
        self.advance(slot);
        self.claim(slot);
    }

    /// Lets the process execute its program.
    pub(super) fn start(&mut self, slot: usize, asker: Asker) -> Result<(), Failure> {
        let Some(process) = self.processes.get_mut(slot) else { return Ok(()) };
        if process.state != State::Created || process.go {
            return Err(refused(Stage::State, "the container is not waiting for its start"));
        }
        process.go = true;
        process.asker = Some(asker);
        // Its terminal has had its size since it came: no difference to be made here.
        if let Some(gate) = &process.gate {
            sys::socket::send(gate, b"g").map_err(failed(Stage::State, "open the gate"))?;
        }
        Ok(())
    }

    pub(super) fn gate_ready(&mut self, slot: usize) {
        let Some(process) = self.processes.get_mut(slot) else { return };
        let Some(gate) = &process.gate else { return };
        match read_gate(gate) {
            GateNews::Nothing => {}
            GateNews::Closed => {
                process.gate = None;
                process.passed = true;
                self.advance(slot);
            }
            GateNews::Failed { code, text } => {
                process.failure = Some(Failure { stage: Stage::Exec, errno: 0, code, text });
                process.gate = None;
                self.advance(slot);
            }
        }
    }

    /// Goes on from `Created`, when everything for the next step is there.
    fn advance(&mut self, slot: usize) {
        let Some(process) = self.processes.get_mut(slot) else { return };
        if process.state != State::Created || !process.go {
            return;
        }
        // A terminal's start waits for its size; a gate that was already used does not mind a second byte.
        if process.tty
            && process.console.is_none()
            && let Some(gate) = &process.gate
        {
            let _ = sys::socket::send(gate, b"g");
        }
        let pid = u32::try_from(process.pid).unwrap_or(0);
        if process.failure.is_some() {
            let (asker, failure) = (process.asker.take(), process.failure.clone());
            if let Some(failure) = failure {
                self.answer(asker, Message::Failed(failure));
            }
        } else if process.passed {
            process.state = State::Running;
            let asker = process.asker.take();
            if slot == INIT {
                self.started_ns = sys::timer::realtime_ns();
            }
            self.answer(asker, Message::Started { pid });
        }
    }

    /// There will be no process.
    fn give_up(&mut self, slot: usize, mut failure: Failure) {
        // A container that cannot be made is the engine's failure; a command that cannot be is its caller's.
        if slot != INIT && failure.stage == Stage::Create {
            failure.code = CANNOT_EXECUTE;
        }
        let Some(process) = self.processes.get_mut(slot) else { return };
        let asker = process.asker.take();
        process.state = State::Stopped;
        process.report = None;
        process.gate = None;
        let exit =
            Exit { code: i32::from(failure.code), finished_ns: sys::timer::realtime_ns(), ..Exit::default() };
        process.exit = Some(exit);
        process.failure = Some(failure.clone());
        let _ = process.signal(libc_signal::KILL);
        self.answer(asker, Message::Failed(failure));
        self.finish(slot);
    }

    /// Collects the children that have ended.
    pub(super) fn reap(&mut self) {
        while let Ok(Some(ended)) = sys::spawn::reap() {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: sys::spawn::Ended) {
        let pid = ended.pid.as_raw_nonzero().get();
        // A report that has been sent is read before the death of what it names is looked at.
        if let Some(slot) = self.slot_of(|process| process.creator == pid) {
            if let Some(process) = self.processes.get_mut(slot) {
                process.creator = 0;
            }
            self.report_ready(slot);
            let waiting = self.processes.get(slot).is_some_and(|process| process.state == State::Creating);
            if waiting {
                let text = match ended.signal {
                    0 => format!("the creator ended with code {}", ended.code),
                    signal => format!("the creator was killed by signal {signal}"),
                };
                self.give_up(slot, refused(Stage::Create, &text));
            }
            return;
        }
        if let Some(slot) = self.slot_of(|process| process.pid == pid) {
            return self.died(slot, ended);
        }
        let creating = self.slot_of(|process| process.state == State::Creating).is_some();
        if creating && self.unclaimed.len() < MAX_UNCLAIMED {
            self.unclaimed.push(ended);
            for slot in 0..self.processes.end() {
                self.report_ready(slot);
            }
        }
    }

    /// Looks whether a process that has just become known is already dead.
    fn claim(&mut self, slot: usize) {
        let pid = self.processes.get(slot).map_or(0, |process| process.pid);
        let known = self.unclaimed.iter().position(|ended| ended.pid.as_raw_nonzero().get() == pid);
        if let Some(at) = known {
            let ended = self.unclaimed.swap_remove(at);
            self.died(slot, ended);
        }
        if self.slot_of(|process| process.state == State::Creating).is_none() {
            self.unclaimed = Vec::new();
        }
    }

    fn slot_of(&self, matches: impl Fn(&crate::process::Process) -> bool) -> Option<usize> {
        self.processes.iter().find(|(_, process)| matches(process)).map(|(slot, _)| slot)
    }

    /// A process has ended: its last output is taken in, and then its end is told.
    fn died(&mut self, slot: usize, ended: sys::spawn::Ended) {
        self.gate_ready(slot);
        let oom = self.oom_watch.as_mut().is_some_and(crate::oom::Watch::check);
        if oom {
            self.oom = true;
            self.tell(&Message::Oom);
        }
        let Some(process) = self.processes.get_mut(slot) else { return };
        let code = process.failure.as_ref().map_or(ended.code, |failure| i32::from(failure.code));
        let exit = Exit { code, signal: ended.signal, oom: false, finished_ns: sys::timer::realtime_ns() };
        process.exit = Some(exit);
        process.state = State::Stopped;
        process.pidfd = None;
        process.pid = 0;
        process.paused = false;
        process.deadline = Some(sys::timer::monotonic_ms() + DRAIN_MS);
        process.release_slave();
        let asker = process.asker.take();
        // Only a process that was killed before it came to its program still has somebody waiting.
        self.answer(
            asker,
            Message::Failed(refused(Stage::Create, "the process ended before its program was executed")),
        );
        if slot == INIT {
            for (_, process) in self.processes.iter() {
                let _ = process.signal(libc_signal::KILL);
            }
        }
        self.drain(slot);
    }

    /// The end of a process is complete: tells it.
    pub(super) fn finish(&mut self, slot: usize) {
        let stopped = |process: &crate::process::Process| process.exit.is_some();
        if !self.processes.get(slot).is_some_and(stopped) {
            return;
        }
        if slot == INIT {
            return self.finish_init();
        }
        let exit = self.exit_of(slot);
        let Some(process) = self.processes.remove(slot) else { return };
        self.end_clients(slot);
        if let Some(probe) = process.probe {
            self.probed(probe, process.failure, exit);
            return self.after_exec();
        }
        let id = process.exec_id;
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(ExecStatus { id: id.clone(), state: State::Stopped, pid: 0, exit: Some(exit) });
        self.tell(&Message::ExecExited { id, exit });
        self.after_exec();
    }

    /// The init's end may have waited for an exec's.
    fn after_exec(&mut self) {
        let stopped = |process: &crate::process::Process| process.exit.is_some();
        if !self.leaving && self.processes.get(INIT).is_some_and(stopped) {
            self.drain(INIT);
        }
    }

    /// The container's end: the log is whole, then the exit is written, then it is told. Nobody has to wait until the
    /// kernel has written back the writable layer, but who mounts it next.
    fn finish_init(&mut self) {
        let now = sys::timer::monotonic_ms();
        let others = self.processes.len() > 1;
        let overdue = self.processes.get(INIT).and_then(|init| init.deadline).is_none_or(|at| at <= now);
        if self.leaving || (others && !overdue) {
            return;
        }
        self.leaving = true;
        for slot in (1..self.processes.end()).rev() {
            if let Some(process) = self.processes.get_mut(slot) {
                process.exit.get_or_insert(Exit { code: 137, signal: 9, oom: false, finished_ns: 0 });
                self.finish(slot);
            }
        }
        if let Some(log) = &mut self.log {
            log.finish(sys::timer::realtime_ns(), &self.epoll);
        }
        let exit = self.exit_of(INIT);
        self.processes.remove(INIT);
        let _ = exit::write_exit(&self.dir, exit);
        self.listener = None;
        let _ = std::fs::remove_file(self.dir.join(crate::SOCKET));
        self.progress = now;
        self.tell(&Message::Exited(exit));
        self.end_clients(INIT);
        if let Some(rootfs) = self.rootfs.take() {
            // Where the daemon was faster to remove the directory, the mount has gone with it.
            let _ = rootfs.unmount();
        }
    }
}
