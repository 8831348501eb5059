//! Ports of another network namespace: that of the host, for an engine of an ordinary user, who may join namespaces but not come back.
//!
//! Who stays there is told over a pair of sockets what to bind, and hands the socket over. A question is a line of text, as `tcp 0.0.0.0:8080`;
//! the answer is the kernel's number of the error, or 0 with a socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::io::Errno;

use crate::firewall::Protocol;

/// A protocol's name, an address of version 6 with its zone, and a port are shorter.
const QUESTION_BYTES_MAX: usize = 128;

/// Whom this process asks.
static OUTSIDE: OnceLock<Mutex<OwnedFd>> = OnceLock::new();

/// From now on has ports of this process held by whoever is at the other end of `socket`, and runs [`serve`]. The first call counts: a process
/// is in one network namespace.
pub fn hold_by(socket: OwnedFd) {
    let _ = OUTSIDE.set(Mutex::new(socket));
}

/// Whether ports are held elsewhere.
pub fn is_used() -> bool {
    OUTSIDE.get().is_some()
}

/// Asks for a socket; `None` where ports are held by this process itself.
pub(super) fn bind(protocol: Protocol, at: SocketAddr) -> Option<Result<OwnedFd, Errno>> {
    let socket = OUTSIDE.get()?.lock().unwrap_or_else(PoisonError::into_inner);
    Some(
        ask(&*socket, protocol, at)
            .unwrap_or_else(|error| Err(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))),
    )
}

fn ask(socket: impl AsFd, protocol: Protocol, at: SocketAddr) -> io::Result<Result<OwnedFd, Errno>> {
    let socket = socket.as_fd();
    sys::socket::send(socket, format!("{} {at}", super::name(protocol)).as_bytes())?;
    let (mut answer, mut fds) = ([0; 4], Vec::new());
    let length = sys::socket::recv_fds(socket, &mut answer, &mut fds)?;
    if length != answer.len() {
        // Whoever held ports has ended.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    match (i32::from_ne_bytes(answer), fds.pop()) {
        (0, Some(fd)) => Ok(Ok(fd)),
        (0, None) => Err(io::ErrorKind::InvalidData.into()),
        (number, _) => Ok(Err(Errno::from_raw_os_error(number))),
    }
}

/// Binds in this process's network namespace what is asked for over `socket`, until nobody is at its other end.
pub fn serve(socket: impl AsFd) -> io::Result<()> {
    let mut question = [0; QUESTION_BYTES_MAX];
    loop {
        let length = sys::socket::recv_fds(&socket, &mut question, &mut Vec::new())?;
        if length == 0 {
            return Ok(());
        }
        let bound = match question.get(..length).and_then(parse) {
            Some((protocol, at)) => super::bind_here(protocol, at),
            None => Err(Errno::INVAL),
        };
        let number = bound.as_ref().map_or_else(|error| error.raw_os_error(), |_| 0);
        let fds: Vec<_> = bound.iter().map(AsFd::as_fd).collect();
        sys::socket::send_fds(&socket, &number.to_ne_bytes(), &fds)?;
    }
}

fn parse(question: &[u8]) -> Option<(Protocol, SocketAddr)> {
    let (name, at) = std::str::from_utf8(question).ok()?.split_once(' ')?;
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = all.into_iter().find(|protocol| super::name(*protocol) == name)?;
    Some((protocol, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_handed_over_or_the_kernels_error() {
        let (here, there) = sys::socket::packet_pair().unwrap();
        let server = std::thread::spawn(move || serve(there));
        let any = "127.0.0.1:0".parse().unwrap();
        let socket = std::net::TcpListener::from(ask(&here, Protocol::Tcp, any).unwrap().unwrap());
        let taken = ask(&here, Protocol::Tcp, socket.local_addr().unwrap()).unwrap();
        assert_eq!(taken.unwrap_err(), Errno::ADDRINUSE);
        sys::socket::send(&here, b"tcp nowhere").unwrap();
        let mut answer = [0; 4];
        sys::socket::recv_fds(&here, &mut answer, &mut Vec::new()).unwrap();
        assert_eq!(i32::from_ne_bytes(answer), Errno::INVAL.raw_os_error());
        drop(here);
        server.join().unwrap().unwrap();
    }
}
