//! Output to the log and the clients, input from them.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use sys::epoll::EventFlags;

use crate::attach::{Client, MAX_LAST_WORDS};
use crate::log::Source as Stream;
use crate::process::Process;
use crate::source::{Source, Token};
use crate::wire::Streams;

use super::{CHUNK, INIT, Shim};

/// How many reads of one output in a row, before the others get their turn.
const TURNS: usize = 8;

/// How much input is read at a time: more than a terminal takes, and small enough to be held for every client.
const INPUT_CHUNK: usize = 16 * 1024;

/// What reading an output has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// There may be more.
    More,
    /// There is nothing at the moment.
    Dry,
    /// There is no more.
    Ended,
}

impl Shim {
    pub(super) fn output_ready(&mut self, slot: usize, token: Token, flags: EventFlags) {
        if matches!(token, Token::Terminal(_)) && flags.contains(EventFlags::OUT) {
            self.input_ready(slot);
        }
        for _ in 0..TURNS {
            match self.pump(slot, token) {
                Flow::More => {}
                Flow::Dry => break,
                Flow::Ended => {
                    self.close_output(slot, token);
                    break;
                }
            }
            if self.processes.get(slot).is_none_or(|process| process.paused) {
                break;
            }
        }
    }

    /// Moves one piece of output to the log and the clients.
    fn pump(&mut self, slot: usize, token: Token) -> Flow {
        let Some(process) = self.processes.get(slot) else { return Flow::Dry };
        let (source, stream) = match token {
            Token::Errors(_) => (&process.outputs[1], Stream::Stderr),
            Token::Output(_) => (&process.outputs[0], Stream::Stdout),
            _ => (&process.terminal, Stream::Stdout),
        };
        let Some(source) = source else { return Flow::Dry };
        if self.buffer.len() != CHUNK {
            self.buffer.resize(CHUNK, 0);
        }
        let n = match rustix::io::retry_on_intr(|| rustix::io::read(source, &mut *self.buffer)) {
            Ok(0) => return Flow::Ended,
            Ok(n) => n,
            Err(Errno::AGAIN) => return Flow::Dry,
            // A terminal that everybody has let go of: the end of a dead process's output.
            Err(_) => return Flow::Ended,
        };
        if slot == INIT
            && let Some(log) = &mut self.log
        {
            log.write(stream, &self.buffer[..n], sys::timer::realtime_ns(), &self.epoll);
        }
        if let Some(probe) = self.processes.get_mut(slot).and_then(|process| process.probe.as_mut()) {
            probe.keep(&self.buffer[..n]);
        }
        self.spread(slot, stream, n);
        Flow::More
    }

    /// Gives the first `n` bytes of the buffer to every client of the process, which waits if one does not keep up.
    fn spread(&mut self, slot: usize, stream: Stream, n: usize) {
        let mut behind = false;
        for number in 0..self.clients.end() {
            let Some(client) = self.clients.get_mut(number) else { continue };
            if client.process != Some(slot) {
                continue;
            }
            client.offer(stream, &self.buffer[..n]);
            if !client.is_flushed() || client.deaf {
                behind |= !client.is_flushed();
                self.settle_client(number);
            }
        }
        let Some(process) = self.processes.get_mut(slot) else { return };
        if behind && process.exit.is_none() && !process.paused {
            process.paused = true;
            let _ = process.watch(&self.epoll);
        }
    }

    /// Lets a process go on that waited for its clients, if none is behind any more.
    fn resume(&mut self, slot: usize) {
        let behind = self.clients.iter().any(|(_, c)| c.process == Some(slot) && !c.is_flushed());
        let Some(process) = self.processes.get_mut(slot) else { return };
        if process.paused && !behind {
            process.paused = false;
            let _ = process.watch(&self.epoll);
        }
    }

    fn close_output(&mut self, slot: usize, token: Token) {
        let Some(process) = self.processes.get_mut(slot) else { return };
        match token {
            Token::Output(_) => process.outputs[0] = None,
            Token::Errors(_) => process.outputs[1] = None,
            _ if process.exit.is_none() && process.reopen_slave() => return,
            _ => process.terminal = None,
        }
        if process.is_silent() && process.exit.is_some() {
            self.finish(slot);
        }
    }

    /// Takes in all that a dead process has said, whether its clients keep up or not: it is not much. What comes after
    /// can only be from others who hold its streams.
    pub(super) fn drain(&mut self, slot: usize) {
        for token in [Token::Output(slot), Token::Errors(slot), Token::Terminal(slot)] {
            loop {
                let held = self.clients.iter().map(|(_, c)| c.held()).max().unwrap_or(0);
                let flow = if held < MAX_LAST_WORDS { self.pump(slot, token) } else { Flow::Dry };
                match flow {
                    Flow::More => {}
                    Flow::Dry => break,
                    Flow::Ended => {
                        self.drop_output(slot, token);
                        break;
                    }
                }
            }
        }
        let Some(process) = self.processes.get_mut(slot) else { return };
        // A terminal is drained when it is dry: it has no end as long as others hold it.
        process.terminal = None;
        if process.is_silent() {
            self.finish(slot);
        } else {
            let _ = process.watch(&self.epoll);
        }
    }

    fn drop_output(&mut self, slot: usize, token: Token) {
        if let Some(process) = self.processes.get_mut(slot) {
            match token {
                Token::Output(_) => process.outputs[0] = None,
                Token::Errors(_) => process.outputs[1] = None,
                _ => process.terminal = None,
            }
        }
    }

    pub(super) fn add_client(
        &mut self,
        fd: OwnedFd,
        process: usize,
        streams: Streams,
        greeting: Vec<u8>,
    ) -> usize {
        let source = Source::new(fd, Token::Client(self.clients.next()));
        let framed = !self.processes.get(process).is_some_and(|p| p.tty);
        let number = self.clients.insert(Client::new(source, process, streams, framed, greeting));
        if let Some(client) = self.clients.get_mut(number) {
            client.flush();
        }
        self.settle_client(number);
        number
    }

    pub(super) fn client_ready(&mut self, number: usize, flags: EventFlags) {
        let Some(client) = self.clients.get_mut(number) else { return };
        if self.leaving {
            self.progress = sys::timer::monotonic_ms();
        }
        client.flush();
        let process = client.process;
        if flags.contains(EventFlags::HUP) && client.input_ended {
            client.deaf = true;
        }
        if !client.input_ended && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read_input(number);
        }
        self.settle_client(number);
        if let Some(slot) = process {
            self.resume(slot);
        }
    }

    fn read_input(&mut self, number: usize) {
        let Some(client) = self.clients.get(number) else { return };
        let blocked = client.process.and_then(|p| self.processes.get(p)).is_some_and(Process::is_blocked);
        if blocked && client.streams.stdin {
            return;
        }
        let mut input = [0_u8; INPUT_CHUNK];
        match rustix::io::retry_on_intr(|| rustix::io::read(&client.source, &mut input)) {
            Ok(n) if n > 0 => self.take_input(number, &input[..n]),
            Err(Errno::AGAIN) => {}
            Ok(_) | Err(_) => self.input_ended(number),
        }
    }

    /// Gives what a client sent to its process.
    pub(super) fn take_input(&mut self, number: usize, bytes: &[u8]) {
        let Some(client) = self.clients.get(number) else { return };
        if !client.streams.stdin || bytes.is_empty() {
            return;
        }
        let Some(slot) = client.process else { return };
        let Some(process) = self.processes.get_mut(slot) else { return };
        let _ = process.give(bytes, &self.epoll);
        if process.is_blocked() {
            self.settle_clients(slot);
        }
    }

    /// A client has sent all that it wanted to send.
    fn input_ended(&mut self, number: usize) {
        let Some(client) = self.clients.get_mut(number) else { return };
        client.input_ended = true;
        let (slot, sends) = (client.process, client.streams.stdin);
        if sends
            && let Some(process) = slot.and_then(|slot| self.processes.get_mut(slot))
            && process.stdin_once
        {
            let _ = process.close_input(&self.epoll);
        }
    }

    /// The process takes input again.
    pub(super) fn input_ready(&mut self, slot: usize) {
        let Some(process) = self.processes.get_mut(slot) else { return };
        let _ = process.flush_input(&self.epoll);
        if !process.is_blocked() {
            self.settle_clients(slot);
        }
    }

    /// Watches all clients of a process for what they need now.
    pub(super) fn settle_clients(&mut self, slot: usize) {
        for number in 0..self.clients.end() {
            if self.clients.get(number).is_some_and(|client| client.process == Some(slot)) {
                self.settle_client(number);
            }
        }
    }

    /// Watches a client for what it needs now, or lets it go.
    fn settle_client(&mut self, number: usize) {
        let Some(client) = self.clients.get_mut(number) else { return };
        let process = client.process.and_then(|slot| self.processes.get(slot));
        let blocked = process.is_some_and(Process::is_blocked) && client.streams.stdin;
        let gone = client.deaf && (client.input_ended || !client.streams.stdin);
        let over = client.process.is_none() && client.is_flushed();
        let watched = client.watch(&self.epoll, blocked).is_ok();
        if gone || over || !watched {
            let slot = client.process;
            if let Some(client) = self.clients.remove(number) {
                client.close();
            }
            if let Some(slot) = slot {
                self.resume(slot);
            }
        }
    }

    /// The process is gone: its clients get the end of their stream after all that was said.
    pub(super) fn end_clients(&mut self, slot: usize) {
        for number in (0..self.clients.end()).rev() {
            if let Some(client) = self.clients.get_mut(number)
                && client.process == Some(slot)
            {
                client.process = None;
                client.flush();
                self.settle_client(number);
            }
        }
    }
}
