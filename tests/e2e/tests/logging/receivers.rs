//! Receivers of logs that take nothing that is not in their protocol.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long to wait for what has to come.
fn patience() -> Duration {
    kit::patience()
}

/// What datagrams come to.
pub enum Packets {
    /// Over the network.
    Udp(UdpSocket),
    /// On this machine.
    Unix(UnixDatagram),
}

impl Packets {
    /// On a free port.
    pub fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.set_read_timeout(Some(patience())).expect("timeout");
        Self::Udp(socket)
    }

    /// At a path.
    pub fn unix(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("bind");
        socket.set_read_timeout(Some(patience())).expect("timeout");
        Self::Unix(socket)
    }

    pub fn address(&self) -> String {
        match self {
            Self::Udp(socket) => socket.local_addr().expect("an address").to_string(),
            Self::Unix(_) => unreachable!("the test knows its path"),
        }
    }

    /// The next datagram.
    pub fn packet(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let length = match self {
            Self::Udp(socket) => socket.recv(&mut bytes).expect("a datagram"),
            Self::Unix(socket) => socket.recv(&mut bytes).expect("a datagram"),
        };
        bytes.truncate(length);
        bytes
    }

    /// The next datagram, as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.packet()).expect("text")
    }

    /// The next message of GELF, put together of its chunks and decompressed.
    pub fn message(&self) -> Vec<u8> {
        let mut parts: HashMap<Vec<u8>, BTreeMap<u8, Vec<u8>>> = HashMap::new();
        let whole = loop {
            let packet = self.packet();
            if !packet.starts_with(&[0x1e, 0x0f]) {
                break packet;
            }
            assert!(packet.len() > 12 && packet.len() <= 1420, "a chunk of {} bytes", packet.len());
            let (number, count) = (packet[10], packet[11]);
            assert!(number < count && count <= 128);
            let message = parts.entry(packet[2..10].to_vec()).or_default();
            assert!(message.insert(number, packet[12..].to_vec()).is_none(), "a chunk came twice");
            if message.len() == usize::from(count) {
                break message.values().flatten().copied().collect();
            }
        };
        let packer = match whole.as_slice() {
            [0x1f, 0x8b, ..] => {
                "import sys,gzip;sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))"
            }
            [0x78, ..] => "import sys,zlib;sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))",
            _ => return whole,
        };
        kit::Cmd::new("python3").args(["-c", packer]).stdin(whole).ok().into_bytes()
    }
}

/// What a connection says, piece by piece.
pub struct Lines {
    address: String,
    lines: Receiver<String>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Lines {
    /// Lines.
    pub fn tcp() -> Self {
        Self::at("127.0.0.1:0", b'\n')
    }

    /// Lines, at a place.
    pub fn tcp_at(address: &str) -> Self {
        Self::at(address, b'\n')
    }

    /// Pieces that end with a byte.
    pub fn ended_by(end: u8) -> Self {
        Self::at("127.0.0.1:0", end)
    }

    fn at(address: &str, end: u8) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("an address").to_string();
        let (sender, lines) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for piece in BufReader::new(stream).split(end).map_while(Result::ok) {
                        let _ = sender.send(String::from_utf8(piece).expect("text"));
                    }
                });
            }
        });
        Self { address, lines, over, thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// The next one.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(patience()).expect("a line")
    }

    /// Nobody listens any more.
    pub fn stop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the listener");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `<PRI>1 TIME HOST APP PID MSGID - TEXT`
pub fn rfc5424(message: &str, priority: u32, app: &str, text: &str) {
    let parts: Vec<&str> = message.splitn(8, ' ').collect();
    assert_eq!(parts.len(), 8, "{message}");
    assert_eq!(parts[0], format!("<{priority}>1"), "{message}");
    assert!(parts[1].len() >= 20 && parts[1].contains('T') && parts[1].ends_with('Z'), "{message}");
    assert!(parts[4].parse::<u32>().is_ok() && parts[6] == "-", "{message}");
    assert_eq!((parts[3], parts[7]), (app, text), "{message}");
}

/// `<PRI>Mmm dd hh:mm:ss HOST APP[PID]: TEXT`
pub fn rfc3164(message: &str, priority: u32, app: &str, text: &str) {
    let rest = message.strip_prefix(&format!("<{priority}>")).unwrap_or_else(|| panic!("{message}"));
    let (time, rest) = rest.split_at(16);
    assert!(time.as_bytes()[3] == b' ' && time.as_bytes()[9] == b':' && time.ends_with(' '), "{message}");
    let (_host, rest) = rest.split_once(' ').expect("a host");
    let rest = rest.strip_prefix(&format!("{app}[")).unwrap_or_else(|| panic!("{message}"));
    let (pid, said) = rest.split_once("]: ").expect("a process");
    assert!(pid.parse::<u32>().is_ok(), "{message}");
    assert_eq!(said, text);
}

/// A message of GELF: an object whose further fields begin with an underscore.
pub fn gelf(bytes: &[u8]) -> serde_json::Value {
    let message: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
    for key in message.as_object().expect("an object").keys() {
        let known = ["version", "host", "short_message", "timestamp", "level"].contains(&key.as_str());
        assert!(known || (key.starts_with('_') && key != "_id"), "{key}");
    }
    assert!(message["timestamp"].as_f64().is_some_and(|time| time > 1e9), "{message}");
    message
}

/// A message of the forward protocol.
#[derive(Debug)]
pub struct Said {
    pub tag: String,
    pub precise: bool,
    pub record: BTreeMap<String, String>,
}

/// A receiver of the forward protocol, which acknowledges what asks for it.
pub struct Forward {
    address: String,
    messages: Receiver<Said>,
    connections: Arc<AtomicUsize>,
}

/// Reads what one connection says.
fn forwarded(mut stream: TcpStream, sender: &Sender<Said>) {
    let mut input = stream.try_clone().expect("a copy");
    while let Some(first) = byte(&mut input) {
        assert!(matches!(first, 0x93 | 0x94), "an array of three or four: {first:x}");
        let tag = text(&mut input);
        let precise = match byte(&mut input).expect("a time") {
            0xd7 => {
                assert_eq!(byte(&mut input), Some(0));
                take(&mut input, 8);
                true
            }
            0xce => {
                take(&mut input, 4);
                false
            }
            other => panic!("a time: {other:x}"),
        };
        let record = map(&mut input);
        if first == 0x94 {
            let option = map(&mut input);
            let chunk = &option["chunk"];
            let length = u8::try_from(chunk.len()).expect("short");
            let head: &[u8] = if length < 32 { &[0xa0 | length] } else { &[0xd9, length] };
            stream.write_all(&[b"\x81\xa3ack", head, chunk.as_bytes()].concat()).expect("acknowledge");
        }
        if sender.send(Said { tag, precise, record }).is_err() {
            return;
        }
    }
}

impl Forward {
    pub fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// At an address.
    pub fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("an address").to_string();
        let (sender, messages) = channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let (stream, sender) = (stream.expect("a connection"), sender.clone());
                std::thread::spawn(move || forwarded(stream, &sender));
            }
        });
        Self { address, messages, connections }
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn message(&self) -> Said {
        self.messages.recv_timeout(patience()).expect("a message")
    }
}

fn byte(input: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte).ok().map(|()| byte[0])
}

fn take(input: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).expect("bytes");
    bytes
}

fn text(input: &mut impl Read) -> String {
    let length = match byte(input).expect("a string") {
        short @ 0xa0..=0xbf => usize::from(short & 0x1f),
        0xd9 => usize::from(byte(input).expect("a length")),
        0xda => usize::from(u16::from_be_bytes(take(input, 2).try_into().expect("two"))),
        other => panic!("a string: {other:x}"),
    };
    String::from_utf8(take(input, length)).expect("text")
}

fn map(input: &mut impl Read) -> BTreeMap<String, String> {
    let length = match byte(input).expect("a map") {
        short @ 0x80..=0x8f => usize::from(short & 0x0f),
        0xde => usize::from(u16::from_be_bytes(take(input, 2).try_into().expect("two"))),
        other => panic!("a map: {other:x}"),
    };
    (0..length).map(|_| (text(input), text(input))).collect()
}

/// An entry of the journal: lines of a name and a value, or a name and a length before the value.
pub fn journal(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
        let line = std::str::from_utf8(&bytes[..end]).expect("text");
        bytes = &bytes[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let length = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
                let value = String::from_utf8(bytes[8..8 + length].to_vec()).expect("text");
                assert_eq!(bytes[8 + length], b'\n');
                bytes = &bytes[9 + length..];
                (line, value)
            }
        };
        let good =
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        assert!(good && !name.starts_with('_') && name.len() <= 64, "{name}");
        fields.insert(name.to_owned(), value);
    }
    fields
}
