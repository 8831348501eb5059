//! What a container's init and those outside say to each other.
//!
//! ```text
//! creator                      init                            starter
//!    |<---- 'U' ---------------| in a new user namespace          |
//!    |----- 'u' -------------->| it has its id maps               |
//!    |<---- 'T' ---------------| in a new time namespace          |
//!    |----- 't' -------------->| it has its offsets               |
//!    |<---- 'N' ---------------| waits for network devices        |
//!    |----- 'n' -------------->| they are there                   |
//!    |<---- 'H' ---------------| mounted, hooks to be run         |
//!    |----- 'h' -------------->|                                  |
//!    |<---- 'L' number --------| has a seccomp listener           |
//!    |----- 'l' -------------->| it has been handed over          |
//!    |<---- 'R' ---------------| ready                            |
//!    |----- 'r' -------------->| it has its limits (the socket is closed)
//!    |                         |<---------------- one byte -------|
//!    |                         | execve                           |
//!    |                         |----- end, or 'E' code text ----->|
//! ```
//!
//! At each point init may send `E`, an exit code and a text, and end.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use sys::socket;

use crate::error::{Context as _, Error, FAILED};

/// From the creator, before all else, if init could not be made in its cgroup: it has been put there.
pub(crate) const ADMITTED: u8 = b'C';
pub(crate) const NEEDS_MAPS: u8 = b'U';
pub(crate) const HAS_MAPS: u8 = b'u';
pub(crate) const NEEDS_OFFSETS: u8 = b'T';
pub(crate) const HAS_OFFSETS: u8 = b't';
pub(crate) const NEEDS_DEVICES: u8 = b'N';
pub(crate) const HAS_DEVICES: u8 = b'n';
pub(crate) const NEEDS_HOOKS: u8 = b'H';
pub(crate) const HAD_HOOKS: u8 = b'h';
pub(crate) const READY: u8 = b'R';
pub(crate) const HAS_LIMITS: u8 = b'r';
const GO: u8 = b'G';
const BORN: u8 = b'B';
const LISTENER: u8 = b'L';
pub(crate) const HAS_LISTENER: u8 = b'l';
const FAILURE: u8 = b'E';

/// The longest message: a failure's text with a path or two in it.
const MESSAGE_BYTES_MAX: usize = 8192;

/// What was received.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// One of the bytes above.
    Step(u8),
    /// The process with this number waits for the word to go on.
    Born(i32),
    /// The sender has the listener of its seccomp filter at this descriptor's number, to be taken there.
    Listener(i32),
    /// The other side has failed.
    Failure {
        /// The exit code that stands for it.
        code: u8,
        /// The whole chain of causes.
        text: String,
    },
    /// The other side has closed the socket: it has ended, or executed a program.
    End,
}

impl Message {
    /// Reads what came in one message of the socket.
    pub fn parse(message: &[u8]) -> Self {
        match message {
            [] => Self::End,
            [FAILURE, code, text @ ..] => {
                Self::Failure { code: *code, text: String::from_utf8_lossy(text).into_owned() }
            }
            [BORN, a, b, c, d] => Self::Born(i32::from_le_bytes([*a, *b, *c, *d])),
            [LISTENER, a, b, c, d] => Self::Listener(i32::from_le_bytes([*a, *b, *c, *d])),
            [FAILURE] => Self::Failure { code: FAILED, text: "unknown failure".into() },
            [step, ..] => Self::Step(*step),
        }
    }
}

/// Receives one message of a packet socket.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Message, Error> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    match socket::recv_fds(socket, &mut buffer, &mut Vec::new()) {
        Ok(length) => Ok(Message::parse(&buffer[..length])),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Message::End),
        Err(error) => Err(error).on("receive from", "the container's init"),
    }
}

/// Receives what is there until the end of a stream, as one message. A stream that is cut off was never read at its other end.
pub(crate) fn receive_all(socket: &OwnedFd) -> Result<Message, Error> {
    let mut message = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match socket::recv_fds(socket, &mut buffer, &mut Vec::new()) {
            Ok(0) => return Ok(Message::parse(&message)),
            Ok(length) if message.len() + length <= MESSAGE_BYTES_MAX => message.extend(&buffer[..length]),
            Ok(_) => return Ok(Message::parse(&message)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && message.is_empty() => {
                return Err(killed());
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Message::parse(&message));
            }
            Err(error) => return Err(error).on("receive from", "the container's init"),
        }
    }
}

fn killed() -> Error {
    Error::Setup { text: "the process that waited to be started has been killed".into() }
}

/// Answers a process that waits for this. That it has ended is no error here: it is what is received next.
pub(crate) fn answer(socket: impl AsFd, step: u8) -> Result<(), Error> {
    match socket::send(socket, &[step]) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.on("send to", "the container's init").map(drop),
    }
}

/// Gives the word to go on.
pub(crate) fn send_go(socket: impl AsFd) -> Result<(), Error> {
    match socket::send(socket, &[GO]) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(killed()),
        other => other.on("send to", "the process that waits to be started").map(drop),
    }
}

/// Sends one byte.
pub(crate) fn send(socket: impl AsFd, step: u8) -> Result<(), Error> {
    socket::send(socket, &[step]).on("send to", "the other side").map(drop)
}

/// Says which process was made.
pub(crate) fn send_born(socket: impl AsFd, pid: i32) -> Result<(), Error> {
    let [a, b, c, d] = pid.to_le_bytes();
    socket::send(socket, &[BORN, a, b, c, d]).on("send to", "the other side").map(drop)
}

/// Says at which number the listener is, and waits until it has been taken there. By `write(2)`, the one call that the specification
/// keeps from being listened to; whatever comes after it may have to wait for whoever has the listener then.
pub(crate) fn send_listener(socket: &OwnedFd, listener: OwnedFd) -> Result<(), Error> {
    let [a, b, c, d] = listener.as_raw_fd().to_le_bytes();
    sys::proc::write_once(socket, &[LISTENER, a, b, c, d]).on("send to", "the other side")?;
    let answer = receive(socket)?;
    drop(listener);
    expect(&answer, HAS_LISTENER)
}

fn expect(message: &Message, step: u8) -> Result<(), Error> {
    if *message == Message::Step(step) {
        return Ok(());
    }
    Err(Error::Setup { text: "the creator has gone".into() })
}

/// Asks the other side for something, and waits until it is done.
pub(crate) fn ask(socket: &OwnedFd, need: u8, answer: u8) -> Result<(), Error> {
    send(socket, need)?;
    expect(&receive(socket)?, answer)
}

/// Reports an error. That nobody listens any more is no further error.
pub(crate) fn send_failure(socket: impl AsFd, error: &Error) {
    let mut message = vec![FAILURE, error.exit_code()];
    message.extend(error.chain().bytes().take(MESSAGE_BYTES_MAX - 2));
    let _ = socket::send(socket, &message);
}

/// The error that a failure message stands for.
pub(crate) fn failure(code: u8, text: String) -> Error {
    if code == FAILED { Error::Setup { text } } else { Error::Program { code, text } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_with_its_code() {
        let (left, right) = socket::packet_pair().unwrap();
        send_failure(&left, &Error::Program { code: 127, text: "exec: gone".into() });
        assert_eq!(receive(&right).unwrap(), Message::Failure { code: 127, text: "exec: gone".into() });
        send_born(&left, 70_000).unwrap();
        assert_eq!(receive(&right).unwrap(), Message::Born(70_000));
        send(&left, READY).unwrap();
        assert_eq!(receive(&right).unwrap(), Message::Step(READY));
        drop(left);
        assert_eq!(receive(&right).unwrap(), Message::End);
    }

    #[test]
    fn a_stream_is_read_to_its_end() {
        let (left, right) = socket::stream_pair().unwrap();
        send_failure(&left, &Error::Setup { text: "x".repeat(3000) });
        drop(left);
        let Message::Failure { code: FAILED, text } = receive_all(&right).unwrap() else { panic!() };
        assert_eq!(text.len(), 3000);
    }

    #[test]
    fn a_word_that_nobody_read_has_started_nothing() {
        let (left, right) = socket::stream_pair().unwrap();
        send_go(&left).unwrap();
        drop(right);
        receive_all(&left).unwrap_err();
    }
}
