//! Probes that the engine makes itself, with sockets of the container's network namespace: they go where a program of the container
//! would, and are answered by the container alone.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::OUTPUT_BYTES_MAX;
use super::address::Address;
use crate::blocking;
use crate::error::{Error, Result};

/// Bytes of an answer's head: beyond, no server means well.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A container's network namespace.
#[derive(Debug, Clone)]
pub(super) struct Network(Arc<OwnedFd>);

impl Network {
    /// That of the process with this number.
    pub fn open(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).map_err(|e| Error::io("open", std::path::Path::new(&path), e))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// A socket of the namespace: it stays where it was made.
    async fn socket(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        let namespace = Arc::clone(&self.0);
        let made = blocking::run("make a socket for a probe", move || {
            let made = network::namespace::inside(&*namespace, || {
                use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
                let family = if to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                Ok(socket_with(family, SocketType::STREAM, flags, None)?)
            });
            made.map_err(|e| Error::system("cannot make a socket in the container's network").with_source(e))
        });
        let socket = made.await.map_err(|error| io::Error::other(error.chain()))?;
        Ok(TcpSocket::from_std_stream(TcpStream::from(socket)))
    }

    async fn connect(&self, address: &Address) -> io::Result<tokio::net::TcpStream> {
        let mut failed = io::Error::from(io::ErrorKind::InvalidInput);
        for to in &address.sockets {
            match self.socket(*to).await?.connect(*to).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    failed = io::Error::new(error.kind(), format!("cannot connect to {to}: {error}"));
                }
            }
        }
        Err(failed)
    }

    /// Connects; the code, and what is to be said.
    pub async fn tcp(&self, address: &Address) -> (i32, String) {
        match self.connect(address).await {
            Ok(_) => (0, format!("connected to {}", address.host)),
            Err(error) => (1, error.to_string()),
        }
    }

    /// Asks for a page; the code, and the answer. An answer from 200 to 399 is healthy.
    pub async fn http(&self, address: &Address) -> (i32, String) {
        match self.ask(address).await {
            Ok((status, said)) => (i32::from(!(200..400).contains(&status)), said),
            Err(error) => (1, error.to_string()),
        }
    }

    async fn ask(&self, address: &Address) -> io::Result<(u16, String)> {
        let mut stream = self.connect(address).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Corten-Health/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            address.page,
            address.host,
            env!("CARGO_PKG_VERSION"),
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        let head = loop {
            if let Some(head) = head_of(&answer) {
                break head;
            }
            if answer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the answer's head has no end"));
            }
            match stream.read(&mut piece).await? {
                0 => return Err(io::Error::other("the connection was closed before the answer was whole")),
                length => answer.extend_from_slice(&piece[..length]),
            }
        };
        let (status, line) = status_of(&answer[..head])?;
        let mut said = line;
        let _ = writeln!(said);
        // Nobody waits for what is only to be shown.
        while status >= 400 && answer.len() - head < OUTPUT_BYTES_MAX {
            match stream.read(&mut piece).await {
                Ok(length) if length > 0 => answer.extend_from_slice(&piece[..length]),
                _ => break,
            }
        }
        said.push_str(&String::from_utf8_lossy(&answer[head..]));
        Ok((status, said))
    }
}

/// Where the head of an answer ends, if all of it is there.
fn head_of(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The status of an answer, and its first line.
pub(super) fn status_of(head: &[u8]) -> io::Result<(u16, String)> {
    let odd = || io::Error::other("the answer is not HTTP");
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| odd())?;
    let rest = line.strip_prefix("HTTP/1.").ok_or_else(odd)?;
    let status = rest.split(' ').nth(1).filter(|code| code.len() == 3).ok_or_else(odd)?;
    Ok((status.parse().map_err(|_| odd())?, line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_or_refused() {
        let status = |head: &[u8]| status_of(head).map(|(status, _)| status).ok();
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n\r\n"), Some(503));
        for odd in
            [&b"SSH-2.0-x\r\n"[..], b"HTTP/2 200 OK\r\n", b"HTTP/1.1 20 x\r\n", b"HTTP/1.1 \xff\r\n", b""]
        {
            assert_eq!(status(odd), None, "{odd:?}");
        }
        assert_eq!(head_of(b"a\r\n\r\nb"), Some(5));
        assert_eq!(head_of(b"a\r\n\r"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_not(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = (head_of(&bytes), status_of(&bytes));
        }
    }
}
