//! Connections on which frames are exchanged.

use rustix::io::Errno;
use sys::epoll::{Epoll, EventFlags};

use crate::source::Source;
use crate::wire::{Frame, HELLO, Hello, Kind, Malformed, Message};

/// A peer that does not read its answers and events is given up when this much waits for it.
const MAX_WAITING: usize = 1 << 20;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) source: Source,
    pub(crate) hello: Option<Hello>,
    input: Vec<u8>,
    output: Vec<u8>,
    pub(crate) broken: bool,
}

/// What the next bytes of a connection say.
#[derive(Debug)]
pub(crate) enum Next {
    /// A whole frame.
    Frame(Frame),
    /// Nothing yet.
    Wait,
}

impl Connection {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, hello: None, input: Vec::new(), output: Vec::new(), broken: false }
    }

    /// Takes in what has arrived, using `buffer`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.source, &mut *buffer)) {
            Ok(0) => self.broken = true,
            Ok(n) => self.input.extend_from_slice(&buffer[..n]),
            Err(Errno::AGAIN) => {}
            Err(_) => self.broken = true,
        }
    }

    /// Puts bytes at the start of what has arrived.
    pub(crate) fn prefill(&mut self, bytes: Vec<u8>) {
        self.input = bytes;
    }

    /// Understands the next frame, and before the first one the hello, which is answered.
    pub(crate) fn next(&mut self) -> Result<Next, Malformed> {
        if self.hello.is_none() {
            let Some(bytes) = self.input.first_chunk::<HELLO>() else { return Ok(Next::Wait) };
            let hello = Hello::decode(*bytes)?;
            self.input.drain(..HELLO);
            self.hello = Some(hello);
            self.output.extend_from_slice(&Hello::new(hello.kind).encode());
        }
        let Some(length) = Frame::length(&self.input)? else { return Ok(Next::Wait) };
        if self.input.len() < length {
            return Ok(Next::Wait);
        }
        let frame = Frame::decode(&self.input[..length])?;
        self.input.drain(..length);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(Next::Frame(frame))
    }

    /// Whether it asked for frames, and thereby for events.
    pub(crate) fn is_control(&self) -> bool {
        self.hello.is_some_and(|hello| hello.kind == Kind::Control)
    }

    /// Says something, as far as the peer takes it now.
    pub(crate) fn say(&mut self, id: u32, message: Message) {
        if (Frame { id, message }).encode(&mut self.output).is_err() || self.output.len() > MAX_WAITING {
            self.broken = true;
        }
        self.flush();
    }

    /// Sends what waits, as far as it goes.
    pub(crate) fn flush(&mut self) {
        while !self.output.is_empty() {
            match sys::socket::send(&self.source, &self.output) {
                Ok(n) => {
                    self.output.drain(..n);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
        self.output = Vec::new();
    }

    /// Whether everything said is on its way.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Watches for what matters now.
    pub(crate) fn watch(&mut self, epoll: &Epoll) {
        let mut flags = EventFlags::IN;
        if !self.output.is_empty() {
            flags |= EventFlags::OUT;
        }
        if self.source.watch(epoll, Some(flags)).is_err() {
            self.broken = true;
        }
    }

    /// The parts of a connection that becomes a stream: its descriptor, what has arrived, and what is not yet sent.
    pub(crate) fn into_parts(self) -> (Source, Vec<u8>, Vec<u8>) {
        (self.source, self.input, self.output)
    }
}
