//! As much of HTTP/1.1 as a call of a plugin needs: one request, one answer, and the connection's end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::error::{Error, Result};

/// The longest answer: a list of ten thousand volumes is shorter.
const BODY_BYTES_MAX: u64 = 8 << 20;
/// The longest head of an answer.
const HEAD_BYTES_MAX: u64 = 32 << 10;
/// What the bodies are, as Docker's plugins are told.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// Where a plugin listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// On a socket in the file system.
    Unix(PathBuf),
    /// On a port.
    Tcp(SocketAddr),
}

impl Address {
    /// Reads `unix://PATH` or `tcp://ADDRESS:PORT`.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://"));
        let address = address.map(|rest| rest.trim_end_matches('/').replace("localhost:", "127.0.0.1:"));
        address.and_then(|address| address.parse().ok()).map(Self::Tcp).ok_or_else(|| {
            Error::invalid(format!("{text:?} is no address of a plugin (unix://PATH, tcp://ADDRESS:PORT)"))
        })
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Calls `method`, and waits at most `patience` for all of the answer.
pub fn post(address: &Address, method: &str, body: &[u8], patience: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + patience;
    let head = format!(
        "POST /{method} HTTP/1.1\r\nHost: plugin\r\nContent-Type: {CONTENT_TYPE}\r\nAccept: {CONTENT_TYPE}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _call = Call::begin(address, deadline)?;
    let stream = connect(address, patience)?;
    set_socket_timeout(&stream, Timeout::Send, Some(patience))?;
    let mut stream = File::from(stream);
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let wait = |left| Ok(set_socket_timeout(&stream, Timeout::Recv, Some(left))?);
    answer(&mut BufReader::new(Patient { inner: &stream, wait: &wait, deadline }))
}

/// Connects, or gives up: a plugin that hangs accepts nobody, and its queue is full some time.
fn connect(address: &Address, patience: Duration) -> io::Result<OwnedFd> {
    match address {
        Address::Unix(path) => {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // This is how long `connect(2)` waits for a place in the queue of such a socket.
            set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(socket)
        }
        Address::Tcp(address) => Ok(TcpStream::connect_timeout(address, patience)?.into()),
    }
}

/// How many calls of one plugin go on at once: one that hangs is not to keep those of others out.
const CALLS_MAX: usize = 8;
/// How many go on, by the address of the plugin.
static CALLS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
/// Told when one has ended.
static ENDED: Condvar = Condvar::new();

/// A call that goes on.
struct Call {
    to: String,
}

impl Call {
    /// Waits for a place until `deadline`.
    fn begin(address: &Address, deadline: Instant) -> io::Result<Self> {
        let to = format!("{address:?}");
        let mut calls = calls();
        while calls.get(&to).is_some_and(|count| *count >= CALLS_MAX) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "too many calls wait for it already"));
            }
            calls = ENDED.wait_timeout(calls, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *calls.entry(to.clone()).or_default() += 1;
        Ok(Self { to })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = calls();
        if let Some(count) = calls.get_mut(&self.to) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.to);
            }
        }
        ENDED.notify_all();
    }
}

/// A panic leaves no number half-changed.
fn calls() -> MutexGuard<'static, BTreeMap<String, usize>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that is read until a moment, however slowly it comes.
struct Patient<'a, R> {
    inner: R,
    wait: &'a dyn Fn(Duration) -> io::Result<()>,
    deadline: Instant,
}

impl<R: Read> Read for Patient<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time"));
        }
        (self.wait)(left)?;
        self.inner.read(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time")
            }
            _ => e,
        })
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its answer is no HTTP: {what}"))
}

/// Reads an answer: fuzzed, since plugins are other people's programs.
pub fn answer(stream: &mut impl BufRead) -> io::Result<Answer> {
    let mut left = HEAD_BYTES_MAX;
    let first = line(stream, &mut left)?;
    let status =
        first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| odd("its first line"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(stream, &mut left)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| odd("a header"))?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>().map_err(|_| odd("Content-Length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let body = match (chunked, length) {
        (true, _) => chunks(stream)?,
        (false, Some(length)) if length > BODY_BYTES_MAX => return Err(odd("it is too long")),
        (false, Some(length)) => {
            let mut body = Vec::new();
            stream.take(length).read_to_end(&mut body)?;
            if (body.len() as u64) < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            body
        }
        (false, None) => {
            let mut body = Vec::new();
            stream.take(BODY_BYTES_MAX + 1).read_to_end(&mut body)?;
            if body.len() as u64 > BODY_BYTES_MAX {
                return Err(odd("it is too long"));
            }
            body
        }
    };
    Ok(Answer { status, body })
}

fn chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut left = HEAD_BYTES_MAX;
        let size = line(stream, &mut left)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| odd("a chunk"))?;
        if size == 0 {
            return Ok(body);
        }
        if size.saturating_add(body.len() as u64) > BODY_BYTES_MAX {
            return Err(odd("it is too long"));
        }
        let before = body.len() as u64;
        stream.take(size).read_to_end(&mut body)?;
        if body.len() as u64 - before < size || !line(stream, &mut left)?.is_empty() {
            return Err(odd("a chunk"));
        }
    }
}

fn line(stream: &mut impl BufRead, left: &mut u64) -> io::Result<String> {
    let mut line = Vec::new();
    let read = stream.take(*left).read_until(b'\n', &mut line)? as u64;
    *left -= read;
    if line.pop() != Some(b'\n') {
        return Err(odd("its head is cut off, or too long"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| odd("its head"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> io::Result<Answer> {
        answer(&mut bytes.as_bytes())
    }

    #[test]
    fn bodies_have_a_length_or_chunks_or_an_end() {
        let body = |bytes| String::from_utf8(read(bytes).unwrap().body).unwrap();
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}xx"), "{}");
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\n{}"), "{}");
        assert_eq!(
            body("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
            "{}"
        );
        assert_eq!(read("HTTP/1.1 500 X\r\n\r\n").unwrap().status, 500);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for bytes in [
            "",
            "SSH-2.0\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
        ] {
            assert!(read(bytes).is_err(), "{bytes}");
        }
        assert!(read(&format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(70_000))).is_err());
    }
}
