//! Conversations with the kernel by messages (netlink(7)): their form, and a socket to send them by. What is said in them is known to
//! those who speak: [`route`] here, and whoever else builds messages.

#![expect(unsafe_code, reason = "netlink's socket options have no safe wrapper elsewhere")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

pub mod route;

/// `NLM_F_*`: the message asks for something, which every one that is sent does.
const REQUEST: u16 = 0x1;
/// An answer is wanted even if all is well.
pub const ACK: u16 = 0x4;
/// All that there are of a kind are asked for.
pub const DUMP: u16 = 0x300;
/// What is to be made must not be there yet.
pub const EXCLUSIVE: u16 = 0x200;
/// What is not there is made.
pub const CREATE: u16 = 0x400;
/// What is added comes behind what is there.
pub const APPEND: u16 = 0x800;
/// What is there is replaced.
pub const REPLACE: u16 = 0x100;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// In an error: only the header of the message that it is about is repeated.
const CAPPED: u16 = 0x100;
/// In an error: attributes follow that explain it.
const HAS_TEXT: u16 = 0x200;
/// The attribute that is the explanation (`NLMSGERR_ATTR_MSG`).
const TEXT: u16 = 1;

/// In an attribute's kind: others are inside.
pub const NESTED: u16 = 0x8000;
/// In an attribute's kind: these bits say how it is to be read.
const KIND_FLAGS: u16 = 0xc000;

/// An answer takes no longer, on whatever machine.
const ANSWER: Duration = Duration::from_secs(30);
/// The kernel fills at most this much at once when it lists.
const BUFFER_BYTES: usize = 64 << 10;
const HEADER_BYTES: usize = 16;

/// With whom to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Devices, addresses, routes (rtnetlink(7)).
    Route,
    /// Packet filters (nfnetlink).
    Netfilter,
}

/// A message that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Begins one; `body` is what stands before its attributes.
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Self { bytes }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend(value);
        self.close(start);
    }

    /// Adds an attribute that is a text with a NUL at its end.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        let start = self.open(kind);
        self.bytes.extend(text.bytes().chain([0]));
        self.close(start);
    }

    /// Adds an attribute in which there are others; `kind` has [`NESTED`] in it where the kernel wants that.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.open(kind);
        fill(self);
        self.close(start);
    }

    /// Adds plain bytes, as some attributes have them before those inside.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// So many bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        start
    }

    /// An attribute that is longer than its length can say is cut off there, and the kernel refuses it: callers bound what they put in.
    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The message, complete, with its number.
    fn finish(&mut self, number: u32) -> io::Result<&[u8]> {
        let length = u32::try_from(self.bytes.len()).map_err(|_| Errno::TOOBIG)?;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        Ok(&self.bytes)
    }

    fn wants_answer(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & ACK != 0
    }
}

/// That the kernel refuses a message.
#[derive(Debug)]
pub struct Refusal {
    /// Which of those that were sent together.
    pub index: usize,
    /// The kernel's own words, if it has any.
    pub said: Option<String>,
    error: io::Error,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        self.said.as_ref().map_or(Ok(()), |said| write!(f, " ({said})"))
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal.said {
            // The kind is kept, the number is not.
            Some(_) => Self::new(refusal.error.kind(), refusal),
            None => refusal.error,
        }
    }
}

impl Refusal {
    /// The kernel's number for it.
    pub fn errno(&self) -> Option<i32> {
        self.error.raw_os_error()
    }
}

/// A conversation with the kernel about the network namespace that the caller was in when it began.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// The number of the next message. Answers to older ones, which nobody waited for any more, are nobody's.
    next: AtomicU32,
}

impl Socket {
    /// Opens one.
    pub fn open(family: Family) -> io::Result<Self> {
        let protocol: Option<Protocol> = match family {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        // Kernels that have no words are as old as to have no such option.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _ = switch_on(&fd, option);
        }
        // The kernel answers while it is asked: what does not come was lost.
        rustix::net::sockopt::set_socket_timeout(&fd, rustix::net::sockopt::Timeout::Recv, Some(ANSWER))?;
        Ok(Self { fd, next: AtomicU32::new(1) })
    }

    /// Numbers for `count` messages: the first.
    fn numbers(&self, count: usize) -> u32 {
        self.next.fetch_add(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed)
    }

    /// Sends one message, and gives each of the answer to `take`.
    pub fn ask(
        &self,
        mut message: Message,
        mut take: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let own = self.numbers(1);
        self.send(message.finish(own)?)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let answer = self.receive(&mut buffer)?;
            if let Some(end) = each(answer, own, |kind, message| take(kind, message))? {
                return end.map_err(Into::into);
            }
        }
    }

    /// Sends one message that asks for an answer.
    pub fn tell(&self, message: Message) -> Result<(), Refusal> {
        self.tell_all(vec![message])
    }

    /// Sends messages together, and returns once each that asks for an answer has it. The kernel carries out one after the other, also
    /// those behind one that it refuses; the first refusal is returned.
    pub fn tell_all(&self, mut messages: Vec<Message>) -> Result<(), Refusal> {
        let failed = |error| Refusal { index: 0, said: None, error };
        let mut bytes = Vec::with_capacity(messages.iter().map(Message::size).sum());
        let base = self.numbers(messages.len());
        for (number, message) in (0..).zip(&mut messages) {
            bytes.extend(message.finish(base.wrapping_add(number)).map_err(failed)?);
        }
        self.send(&bytes).map_err(failed)?;
        let mut awaited = messages.iter().filter(|message| message.wants_answer()).count();
        let mut first: Option<Refusal> = None;
        let mut buffer = vec![0; BUFFER_BYTES];
        while awaited > 0 {
            let mut answer = self.receive(&mut buffer).map_err(failed)?;
            while !answer.is_empty() {
                let (rest, end) = next_end(answer).map_err(failed)?;
                answer = rest;
                let Some((number, end)) = end else { continue };
                let index = number.wrapping_sub(base) as usize;
                if index >= messages.len() {
                    continue;
                }
                awaited = awaited.saturating_sub(1);
                if let Err(refusal) = end
                    && first.is_none()
                {
                    first = Some(Refusal { index, ..refusal });
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Sends messages of which the kernel carries out all or none, with what begins and ends such a batch among them. The last but one is
    /// made to ask for an answer, which comes behind the refusals of those before it; the first of these is returned.
    pub fn transact(&self, mut messages: Vec<Message>) -> Result<(), Refusal> {
        let failed = |error| Refusal { index: 0, said: None, error };
        let Some(last) = messages.len().checked_sub(2) else { return Ok(()) };
        messages[last].bytes[6] |= ACK as u8;
        let mut bytes = Vec::with_capacity(messages.iter().map(Message::size).sum());
        let base = self.numbers(messages.len());
        for (number, message) in (0..).zip(&mut messages) {
            bytes.extend(message.finish(base.wrapping_add(number)).map_err(failed)?);
        }
        // A batch goes at once or not at all, and what a socket may send at once is little at first.
        if bytes.len() > BUFFER_BYTES {
            rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len() + BUFFER_BYTES)
                .map_err(|error| failed(error.into()))?;
        }
        self.send(&bytes).map_err(failed)?;
        let mut first: Option<Refusal> = None;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let mut answer = self.receive(&mut buffer).map_err(failed)?;
            while !answer.is_empty() {
                let (rest, end) = next_end(answer).map_err(failed)?;
                answer = rest;
                let Some((number, end)) = end else { continue };
                let index = number.wrapping_sub(base) as usize;
                if index >= messages.len() {
                    continue;
                }
                let refused = end.is_err();
                first = first.or(end.err().map(|refusal| Refusal { index, ..refusal }));
                // A refusal of what begins the batch is one of it all, and nothing follows.
                if index == last || (index == 0 && refused) {
                    return first.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// The number that the kernel knows this end of the conversation by.
    pub fn port(&self) -> io::Result<u32> {
        // It gives one with the first message, or when asked to.
        match rustix::net::bind(&self.fd, &netlink::SocketAddrNetlink::new(0, 0)) {
            // There is one.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        let address = rustix::net::getsockname(&self.fd)?;
        let address = netlink::SocketAddrNetlink::try_from(address).map_err(|_| Errno::AFNOSUPPORT)?;
        Ok(address.pid())
    }

    /// Has this end hear what the kernel tells all in `group`.
    pub fn join(&self, group: i32) -> io::Result<()> {
        // An end without a number hears nothing.
        self.port()?;
        // What is told to all comes when it comes.
        rustix::net::sockopt::set_socket_timeout(&self.fd, rustix::net::sockopt::Timeout::Recv, None)?;
        let size = size_of::<i32>() as libc::socklen_t;
        let (fd, group) = (self.fd.as_raw_fd(), (&raw const group).cast());
        // SAFETY: reads `size` bytes, those of one live `i32`.
        match unsafe { libc::setsockopt(fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group, size) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for what is told to the groups that were joined, and gives each message to `take`: the number of the end whose doing it is
    /// about, its kind and its body. Once some was lost because nobody listened for too long, the error is `ENOBUFS`.
    pub fn hear(&self, mut take: impl FnMut(u32, u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut heard = self.receive(&mut buffer)?;
        while !heard.is_empty() {
            let (rest, message) = next(heard)?;
            take(message.port, message.kind, message.body);
            heard = rest;
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::empty()))?;
        Ok(())
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let (_, length) = retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC))?;
        Ok(buffer.get(..length).ok_or(Errno::MSGSIZE)?)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn switch_on(socket: &OwnedFd, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    let size = size_of::<i32>() as libc::socklen_t;
    let on = (&raw const on).cast();
    // SAFETY: reads `size` bytes, those of one live `i32`.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, on, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of the message that is answered, and how it ended.
type End = (u32, Result<(), Refusal>);

/// Walks the messages in `answer` that are about the one with the number `own`, up to the one that ends the conversation.
fn each(
    mut answer: &[u8],
    own: u32,
    mut take: impl FnMut(u16, &[u8]) -> io::Result<()>,
) -> io::Result<Option<Result<(), Refusal>>> {
    while !answer.is_empty() {
        let (rest, message) = next(answer)?;
        answer = rest;
        if message.number != own {
            continue;
        }
        if let Some(end) = message.end()? {
            return Ok(Some(end));
        }
        take(message.kind, message.body)?;
    }
    Ok(None)
}

fn next_end(answer: &[u8]) -> io::Result<(&[u8], Option<End>)> {
    let (rest, message) = next(answer)?;
    Ok((rest, message.end()?.map(|end| (message.number, end))))
}

/// A message that was received.
struct Received<'a> {
    number: u32,
    port: u32,
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

fn next(answer: &[u8]) -> io::Result<(&[u8], Received<'_>)> {
    let length = u32_at(answer, 0).ok_or(Errno::BADMSG)? as usize;
    let body = answer.get(HEADER_BYTES..length).ok_or(Errno::BADMSG)?;
    let received = Received {
        number: u32_at(answer, 8).ok_or(Errno::BADMSG)?,
        port: u32_at(answer, 12).ok_or(Errno::BADMSG)?,
        kind: u16::from_ne_bytes([answer[4], answer[5]]),
        flags: u16::from_ne_bytes([answer[6], answer[7]]),
        body,
    };
    Ok((answer.get(length.next_multiple_of(4)..).unwrap_or_default(), received))
}

impl Received<'_> {
    /// How the conversation ended, if this is its end.
    fn end(&self) -> io::Result<Option<Result<(), Refusal>>> {
        match self.kind {
            DONE => Ok(Some(Ok(()))),
            ERROR => match u32_at(self.body, 0).ok_or(Errno::BADMSG)? as i32 {
                0 => Ok(Some(Ok(()))),
                number => {
                    let error = io::Error::from_raw_os_error(number.saturating_neg());
                    Ok(Some(Err(Refusal { index: self.number as usize, said: self.text(), error })))
                }
            },
            _ => Ok(None),
        }
    }

    fn text(&self) -> Option<String> {
        if self.flags & HAS_TEXT == 0 {
            return None;
        }
        // Behind the number there is the message that it is about, or its header alone.
        let about = u32_at(self.body, 4)? as usize;
        let about = if self.flags & CAPPED != 0 { HEADER_BYTES } else { about };
        let mut attributes = attributes(self.body.get(4 + about.next_multiple_of(4)..)?);
        let (_, text) = attributes.find(|(kind, _)| *kind == TEXT)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    }
}

/// The attributes in `bytes`: kind, without what says how to read it, and value. What is damaged ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !KIND_FLAGS, value))
    })
}

/// The number at a place, in the network's order.
pub fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    u32_at(bytes, at).map(u32::from_be)
}

/// The number at a place, in the machine's order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_the_kernel_wants_it() {
        let mut message = Message::new(16, ACK, &[1, 2, 3]);
        message.put(3, b"abc");
        message.nest(18 | NESTED, |m| m.put_text(1, "x"));
        let bytes = message.finish(7).unwrap().to_vec();
        assert_eq!(bytes.len(), 40);
        assert_eq!(&bytes[..12], [40, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0]);
        assert_eq!(&bytes[16..20], [1, 2, 3, 0]);
        let inside: Vec<_> = attributes(&bytes[20..]).collect();
        assert_eq!(inside, [(3, &b"abc"[..]), (18, &[6, 0, 1, 0, b'x', 0, 0, 0][..])]);
    }

    #[test]
    fn damaged_answers_end_in_an_error() {
        let end = |bytes: &[u8]| each(bytes, 0, |_, _| Ok(())).map(|end| end.map(|end| end.is_ok()));
        assert!(end(&[255, 0, 0, 0, 16, 0, 0, 0]).is_err());
        assert!(end(&[3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert_eq!(end(&[]).unwrap(), None);
        assert_eq!(end(&[16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap(), Some(true));
        // One to a question that nobody waits for any more.
        assert_eq!(end(&[16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]).unwrap(), None);
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[2, 0, 1, 0, 1]).count(), 0);
    }

    #[test]
    fn what_is_answered_late_is_nobodys() {
        let socket = Socket::open(Family::Route).unwrap();
        let link = |index: u32| Message::new(18, ACK, &[&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat());
        // Nobody reads the refusal.
        let mut gone = link(0x7fff_0000);
        socket.send(gone.finish(socket.numbers(1)).unwrap()).unwrap();
        socket.tell(link(1)).unwrap();
        let mut found = 0;
        socket.send(link(0x7fff_0000).finish(socket.numbers(1)).unwrap()).unwrap();
        socket
            .ask(link(1), |_, _| {
                found += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(found, 1);
    }

    #[test]
    fn a_refusal_has_the_kernels_words_and_says_which_message_it_is_about() {
        let socket = Socket::open(Family::Route).unwrap();
        // RTM_GETLINK of what is there, and of what is not; RTM_NEWLINK with a kind that no kernel has.
        let link = |index: u32| Message::new(18, ACK, &[&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat());
        let refusal = socket.tell_all(vec![link(1), link(0x7fff_0000), link(1)]).unwrap_err();
        assert_eq!((refusal.index, refusal.errno()), (1, Some(19)));
        let mut strange = Message::new(16, ACK | CREATE | EXCLUSIVE, &[0; 16]);
        strange.nest(18 | NESTED, |m| m.put_text(1, "nosuchkind"));
        let refusal = socket.tell(strange).unwrap_err();
        assert!(refusal.said.is_some(), "{refusal}");
        socket.tell(link(1)).unwrap();
    }
}
