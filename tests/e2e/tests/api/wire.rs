//! HTTP by hand, on the engine's socket.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kit::Host;
use serde_json::{Value, json};

/// No answer takes longer.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A connection to the engine.
pub struct Wire {
    pub stream: BufReader<UnixStream>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().expect("a message").to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Wire {
    pub fn open(host: &Host) -> Self {
        let stream = UnixStream::connect(host.socket()).expect("connect");
        stream.set_read_timeout(Some(LIMIT)).expect("timeout");
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.get_mut().write_all(bytes) {
            // A server may answer and close before it has read a body that it refuses; the answer is what counts.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            sent => sent.expect("send"),
        }
    }

    /// Reads an answer's head.
    pub fn head(&mut self) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a status line");
        let mut words = line.trim_end().splitn(3, ' ');
        assert_eq!(words.next(), Some("HTTP/1.1"), "{line:?}");
        let status = words.next().and_then(|word| word.parse().ok()).expect("a status");
        let reason = words.next().unwrap_or("").to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a header");
            match line.trim_end().split_once(':') {
                Some((name, value)) => {
                    headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                }
                None => break,
            }
        }
        Answer { status, reason, headers, body: Vec::new() }
    }

    /// Reads a whole answer.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if let Ok(length) = answer.header("content-length").parse() {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body).expect("the body");
        } else if answer.header("transfer-encoding") == "chunked" {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        }
        answer
    }

    /// Reads one chunk; `None` at the end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a chunk's length");
        let length = usize::from_str_radix(line.trim(), 16).expect("hexadecimal");
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).expect("a chunk");
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the rest");
        rest
    }

    pub fn close_input(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("shutdown");
    }
}

pub fn request(host: &Host, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut wire = Wire::open(host);
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    wire.send(head.as_bytes());
    wire.send(body);
    wire.answer()
}

pub fn get(host: &Host, path: &str) -> Answer {
    request(host, "GET", path, &[], b"")
}

pub fn post(host: &Host, path: &str, body: &Value) -> Answer {
    request(host, "POST", path, &["Content-Type: application/json"], body.to_string().as_bytes())
}

/// Makes a container and gives its id.
pub fn create(host: &Host, more: &Value) -> String {
    let mut body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none"}});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let answer = post(host, "/v1.47/containers/create", &body);
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

pub fn start(host: &Host, id: &str) {
    let answer = request(host, "POST", &format!("/containers/{id}/start"), &[], b"");
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
}

pub fn remove(host: &Host, id: &str) {
    let answer = request(host, "DELETE", &format!("/containers/{id}?force=1&v=1"), &[], b"");
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
}

/// Takes the frames off multiplexed output: what was written to standard output, and to standard error.
pub fn unframe(mut bytes: &[u8]) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        let payload = &bytes[8..8 + length];
        match bytes[0] {
            1 => out.extend_from_slice(payload),
            2 => err.extend_from_slice(payload),
            other => panic!("a frame of stream {other}"),
        }
        bytes = &bytes[8 + length..];
    }
    (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}
