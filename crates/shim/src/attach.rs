//! Clients that see a process's output and may send it input.

use std::io::{self, IoSlice};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use sys::epoll::{Epoll, EventFlags};

use crate::log::Source as Stream;
use crate::source::Source;
use crate::wire::Streams;

/// How much a dead process's last words may pile up for one slow client: the pipes of both outputs, many times over.
/// While the process lives, not more than what one read brought is held: the process waits instead.
pub(crate) const MAX_LAST_WORDS: usize = 1 << 20;

/// An attached client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) source: Source,
    /// The slot of its process; `None` once that has ended.
    pub(crate) process: Option<usize>,
    pub(crate) streams: Streams,
    /// Whether output goes out in frames that tell the streams apart.
    framed: bool,
    pending: Vec<u8>,
    /// How much of `pending` is sent.
    sent: usize,
    /// The client has sent all it wants to send.
    pub(crate) input_ended: bool,
    /// The client does not take output any more.
    pub(crate) deaf: bool,
}

impl Client {
    pub(crate) fn new(
        source: Source,
        process: usize,
        streams: Streams,
        framed: bool,
        greeting: Vec<u8>,
    ) -> Self {
        Self {
            source,
            process: Some(process),
            streams,
            framed,
            pending: greeting,
            sent: 0,
            input_ended: false,
            deaf: false,
        }
    }

    /// Whether everything said to the client so far is on its way.
    pub(crate) fn is_flushed(&self) -> bool {
        self.sent == self.pending.len()
    }

    /// How much is held for the client.
    pub(crate) fn held(&self) -> usize {
        self.pending.len() - self.sent
    }

    /// Gives the client a piece of output, as far as it takes it now; the rest is held.
    pub(crate) fn offer(&mut self, stream: Stream, bytes: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        };
        if !wanted || self.deaf {
            return;
        }
        let number = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        let [l0, l1, l2, l3] = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        let header = [number, 0, 0, 0, l0, l1, l2, l3];
        let header: &[u8] = if self.framed { &header } else { &[] };
        let mut taken = 0;
        if self.is_flushed() {
            match self.send(&[IoSlice::new(header), IoSlice::new(bytes)]) {
                Ok(n) => taken = n,
                Err(Errno::AGAIN) => {}
                Err(_) => return self.turn_deaf(),
            }
        }
        if taken < header.len() {
            self.hold(&header[taken..]);
            taken = header.len();
        }
        self.hold(&bytes[taken - header.len()..]);
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.is_flushed() {
            self.pending.clear();
            self.sent = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Sends what is held, as far as it goes.
    pub(crate) fn flush(&mut self) {
        while !self.is_flushed() {
            let sent = self.sent;
            match self.send(&[IoSlice::new(&self.pending[sent..])]) {
                Ok(n) => self.sent += n,
                Err(Errno::AGAIN) => return,
                Err(_) => return self.turn_deaf(),
            }
        }
        // The memory goes back: a client that is slow once need not be slow again.
        self.pending = Vec::new();
        self.sent = 0;
    }

    fn turn_deaf(&mut self) {
        self.deaf = true;
        self.pending = Vec::new();
        self.sent = 0;
    }

    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| {
            let mut control = SendAncillaryBuffer::default();
            rustix::net::sendmsg(&self.source, slices, &mut control, SendFlags::NOSIGNAL)
        })
    }

    /// Watches for what matters now. `blocked` says that the process does not take input at the moment.
    pub(crate) fn watch(&mut self, epoll: &Epoll, blocked: bool) -> io::Result<()> {
        let mut flags = EventFlags::empty();
        if !self.input_ended && !blocked {
            flags |= EventFlags::IN;
        }
        if !self.is_flushed() {
            flags |= EventFlags::OUT;
        }
        // A hang-up is reported whether it is asked for or not. While the client's last input has to wait it would be
        // reported without end, so then only writing tells that the client is gone.
        let silent = flags.is_empty() && !self.input_ended;
        let hung_up = self.deaf && blocked && !self.input_ended;
        self.source.watch(epoll, if silent || hung_up { None } else { Some(flags) })
    }

    /// Ends the conversation so that the client reads all that was sent, and then the end.
    pub(crate) fn close(self) {
        let mut drain = [0_u8; 4096];
        let _ = rustix::net::shutdown(&self.source, rustix::net::Shutdown::Write);
        // Closing with unread input would tell the client of a broken connection; bounded, as it may go on sending.
        for _ in 0..64 {
            if !matches!(rustix::io::read(&self.source, &mut drain), Ok(n) if n > 0) {
                break;
            }
        }
    }
}
