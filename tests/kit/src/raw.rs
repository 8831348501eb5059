//! HTTP by hand, for what no client would send.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use crate::command::patience;

/// What a server answered.
#[derive(Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What it carried.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:?} {}", self.status, self.headers, self.text())
    }
}

impl Reply {
    /// A header's value; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// What it carried, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of its first error, in a registry's form.
    #[must_use]
    pub fn code(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        document["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Reads an answer to its end.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A server that closes with something unread resets the connection; what it said before counts.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        Self { status: status.expect("a status"), headers, body: bytes[end + 4..].to_vec() }
    }
}

/// A connection to a port of loopback that gives up in time.
///
/// # Panics
/// Nobody listens there.
#[must_use]
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
    stream.set_read_timeout(Some(patience())).expect("a limit");
    stream
}

/// Sends a request by a connection of its own, and reads the answer. `target` may be a whole URL: its host is passed over.
/// Where no length is among the headers, it is the body's.
///
/// # Panics
/// Nobody listens there, or there is no answer.
#[must_use]
pub fn ask(port: u16, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = connect(port);
    let head = head(method, target, headers, body.len());
    // A refusal may come before all is sent.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    Reply::read(&mut stream)
}

/// The head of a request in HTTP 1.0: then no answer comes in chunks.
#[must_use]
pub fn head(method: &str, target: &str, headers: &[(&str, &str)], length: usize) -> String {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}
