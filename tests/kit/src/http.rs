//! Just enough HTTP/1.1 to play a server that misbehaves: one thread a connection, one request a connection.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A peer that is silent for this long in the middle of a message has gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The first line and the headers of a request or an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Of a request: the method. Of an answer: the protocol.
    pub method: String,
    /// Of a request: path and query. Of an answer: the status.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one; `None` at the end of the stream.
    pub fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let line = line.trim_end();
            if line.is_empty() {
                return Some(Self { method, target, headers });
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The length of the body, if it is said.
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers; the length of the body is added.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer of these parts.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".into(), content_type.into())], body: body.into() }
    }

    /// A JSON document.
    pub fn json(status: u16, document: &serde_json::Value) -> Self {
        Self::new(status, "application/json", document.to_string())
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Writes it; a peer that went away is none of our business.
    pub fn send(&self, head: &Head, stream: &mut TcpStream) {
        let mut text = format!("HTTP/1.1 {} Answer\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len()));
        let _ = stream.write_all(text.as_bytes());
        if head.method != "HEAD" {
            let _ = stream.write_all(&self.body);
        }
    }
}

/// A server on a free port of loopback; it ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each request with what `handler` returns.
    pub fn start(handler: impl Fn(&Head, &[u8]) -> Answer + Send + Sync + 'static) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, handler)
    }

    /// The same at another address of the caller's network namespace.
    pub fn at(address: Ipv4Addr, handler: impl Fn(&Head, &[u8]) -> Answer + Send + Sync + 'static) -> Self {
        Self::raw_at(address, move |head, mut reader| {
            let length = usize::try_from(head.content_length().unwrap_or(0)).unwrap_or(0).min(1 << 20);
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_ok() {
                handler(&head, &body).send(&head, reader.get_mut());
            }
        })
    }

    /// Gives each connection to `handler` once its request's head was read.
    pub fn raw(handler: impl Fn(Head, BufReader<TcpStream>) + Send + Sync + 'static) -> Self {
        Self::raw_at(Ipv4Addr::LOCALHOST, handler)
    }

    fn raw_at(
        address: Ipv4Addr,
        handler: impl Fn(Head, BufReader<TcpStream>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("bind a port");
        let address = listener.local_addr().expect("a bound address");
        let stopping = Arc::new(AtomicBool::new(false));
        let flag = stopping.clone();
        let handler = Arc::new(handler);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let handler = handler.clone();
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(SILENCE_MAX));
                    let _ = stream.set_write_timeout(Some(SILENCE_MAX));
                    let mut reader = BufReader::new(stream);
                    if let Some(head) = Head::read(&mut reader) {
                        handler(head, reader);
                    }
                });
            }
        });
        Self { address, stopping, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // One more connection wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
