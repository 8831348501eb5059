//! A host of its own for each test: a network namespace with netd, containers and servers outside.

use std::ffi::CString;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use network::dns::{ADDRESS, Container, Name, Network, Sockets};
use network::link;
use network::namespace::Namespace;
use network::netd::Client;

/// Longer than anything here takes: it is never waited for if all is well.
pub const LONG: Duration = Duration::from_secs(20);

pub const A: u16 = 1;
pub const AAAA: u16 = 28;

/// netd's own command line: an example that is built with the tests.
pub fn program() -> CString {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples/netd");
    assert!(program.exists(), "{} is missing: cargo build -p network --examples", program.display());
    CString::new(program.as_os_str().as_bytes()).unwrap()
}

pub struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    /// Does a test on one.
    pub fn run(test: impl FnOnce(&Self) + Send + 'static) {
        let host = move || {
            if let Err(error) = sys::namespace::unshare(sys::namespace::NETWORK) {
                println!("skipped: a network namespace ({error})");
                return;
            }
            Namespace::own().unwrap().route().tell(link::up(1)).unwrap();
            test(&Self { directory: tempfile::tempdir().unwrap() });
        };
        thread::spawn(host).join().unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("netd.sock")
    }

    /// As a daemon does when it starts.
    pub fn daemon(&self) -> Client {
        Client::connect_or_start(&self.socket(), &program()).unwrap()
    }

    /// Waits until netd has ended.
    pub fn wait_ended(&self) {
        drop(sys::lock::Lock::exclusive(self.directory.path().join("netd.sock.lock")).unwrap());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.socket().exists() {
            return;
        }
        let stopped = Client::connect_or_start(&self.socket(), &program()).and_then(Client::stop);
        if !thread::panicking() {
            stopped.unwrap();
            self.wait_ended();
        }
    }
}

/// A container: its namespace, and where to ask in it.
pub struct Guest {
    pub namespace: Namespace,
    pub sockets: Option<Sockets>,
    ports: [u16; 2],
}

impl Guest {
    pub fn new() -> Self {
        Self::at(0)
    }

    /// One whose server is at a port of choice.
    pub fn at(port: u16) -> Self {
        let namespace = Namespace::create().unwrap();
        namespace.route().tell(link::up(1)).unwrap();
        let open = || match port {
            0 => Sockets::open(),
            port => {
                let (datagrams, streams) =
                    (UdpSocket::bind((ADDRESS, port))?, TcpListener::bind((ADDRESS, port))?);
                Ok(Sockets::new(datagrams.into(), streams.into()))
            }
        };
        let sockets = namespace.run(open).unwrap();
        let ports = sockets.ports().unwrap();
        Self { namespace, sockets: Some(sockets), ports }
    }

    /// Has netd serve it, in these networks and with these servers outside.
    pub fn serve(&mut self, daemon: &mut Client, id: &str, networks: &[&str], upstreams: &[&Upstream]) {
        let mut container = container(id, networks);
        container.upstreams = upstreams.iter().map(|upstream| upstream.address).collect();
        daemon.serve(&container, self.sockets.take().as_ref()).unwrap();
    }

    pub fn datagrams(&self) -> UdpSocket {
        let open = || {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect((ADDRESS, self.ports[0]))?;
            socket.set_read_timeout(Some(LONG))?;
            Ok(socket)
        };
        self.namespace.run(open).unwrap()
    }

    pub fn stream(&self) -> TcpStream {
        let open = || {
            let stream = TcpStream::connect((ADDRESS, self.ports[1]))?;
            stream.set_read_timeout(Some(LONG))?;
            Ok(stream)
        };
        self.namespace.run(open).unwrap()
    }

    /// Asks by a datagram.
    pub fn try_ask(&self, message: &[u8]) -> io::Result<Answer> {
        let socket = self.datagrams();
        socket.send(message)?;
        let mut answer = vec![0; 1 << 16];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(Answer(answer))
    }

    pub fn ask(&self, name: &str, kind: u16) -> Answer {
        self.try_ask(&query(name, kind, None)).unwrap()
    }
}

/// What the records say of a container that may ask outside.
pub fn container(id: &str, networks: &[&str]) -> Container {
    Container {
        id: id.into(),
        networks: networks.iter().map(|&id| id.into()).collect(),
        own: Vec::new(),
        outside: true,
        upstreams: Vec::new(),
    }
}

/// A network `id` named `front`, with names.
pub fn network(id: &str, names: &[(&str, &[&str])]) -> Network {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let names =
        names.iter().map(|(name, addresses)| Name { name: (*name).into(), addresses: parse(addresses) });
    Network { id: id.into(), domain: "front".into(), names: names.collect() }
}

/// A query, and the longest datagram that it says it takes.
pub fn query(name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
    let mut message = vec![0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(size.is_some())];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some(size) = size {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
    }
    message
}

/// Puts the length before a message, as streams have it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// The next message of a stream.
pub fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// What was answered, read in another way than netd writes it.
#[derive(Debug)]
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn code(&self) -> u8 {
        assert_eq!(self.0[..2], [0xAB, 0xCD], "another's answer");
        self.0[3] & 15
    }

    pub fn is_cut(&self) -> bool {
        self.0[2] & 2 != 0
    }

    /// The addresses and for how long they hold.
    pub fn records(&self) -> Vec<(IpAddr, u32)> {
        let mut at = 12;
        while self.0[at] != 0 {
            at += 1 + usize::from(self.0[at]);
        }
        at += 5;
        let count = u16::from_be_bytes([self.0[6], self.0[7]]);
        let mut records = Vec::new();
        for _ in 0..count {
            assert_eq!(self.0[at..at + 2], [0xC0, 12]);
            let ttl = u32::from_be_bytes(self.0[at + 6..at + 10].try_into().unwrap());
            let length = usize::from(self.0[at + 11]);
            let data = &self.0[at + 12..at + 12 + length];
            let address = match length {
                4 => <[u8; 4]>::try_from(data).unwrap().into(),
                _ => <[u8; 16]>::try_from(data).unwrap().into(),
            };
            records.push((address, ttl));
            at += 12 + length;
        }
        records
    }

    pub fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<_> = self.records().into_iter().map(|(address, _)| address).collect();
        addresses.sort_unstable();
        addresses.iter().map(ToString::to_string).collect()
    }
}

/// How a server outside behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers.
    Good,
    /// Answers, but by streams alone with more than that it was too long.
    Cut,
    /// Takes queries, and answers none.
    Silent,
    /// Answers none but the second and those that follow.
    Late,
    /// Lets wrong numbers and wrong questions go before its answer.
    Lying,
    /// Answers that it cannot.
    Failing,
    /// Knows no names.
    Empty,
}

/// A server outside.
pub struct Upstream {
    pub address: SocketAddr,
    asked: Arc<[AtomicUsize; 2]>,
}

impl Upstream {
    /// One that says that every name has the address 192.0.2.`last`, for `ttl` seconds.
    pub fn new(manner: Manner, last: u8, ttl: u32) -> Self {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = datagrams.local_addr().unwrap();
        let streams = TcpListener::bind(address).unwrap();
        let asked: Arc<[AtomicUsize; 2]> = Arc::default();
        let counts = asked.clone();
        thread::spawn(move || {
            let mut query = [0; 4096];
            while let Ok((length, peer)) = datagrams.recv_from(&mut query) {
                if length == 0 {
                    return;
                }
                let before = counts[0].fetch_add(1, Ordering::SeqCst);
                if manner == Manner::Late && before == 0 {
                    continue;
                }
                for answer in said(manner, &query[..length], last, ttl) {
                    datagrams.send_to(&answer, peer).unwrap();
                }
            }
        });
        let counts = asked.clone();
        thread::spawn(move || {
            for mut stream in streams.incoming().flatten() {
                let Ok(query) = read_framed(&mut stream) else { return };
                counts[1].fetch_add(1, Ordering::SeqCst);
                let manner = if manner == Manner::Cut { Manner::Good } else { manner };
                for answer in said(manner, &query, last, ttl) {
                    let _ = stream.write_all(&framed(&answer));
                }
            }
        });
        Self { address, asked }
    }

    /// How many queries have come by datagrams and by streams.
    pub fn asked(&self) -> [usize; 2] {
        [0, 1].map(|by: usize| self.asked[by].load(Ordering::SeqCst))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.address));
        drop(TcpStream::connect(self.address));
    }
}

fn said(manner: Manner, query: &[u8], last: u8, ttl: u32) -> Vec<Vec<u8>> {
    let mut plain = query.to_vec();
    (plain[2], plain[3]) = (0x81, 0x80);
    // What stands behind the question of a query is left out.
    let mut end = 12;
    while plain[end] != 0 {
        end += 1 + usize::from(plain[end]);
    }
    plain.truncate(end + 5);
    plain[11] = 0;
    let with = |last: u8| {
        let mut answer = plain.clone();
        answer[7] = 1;
        answer.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1]);
        answer.extend_from_slice(&ttl.to_be_bytes());
        answer.extend_from_slice(&[0, 4, 192, 0, 2, last]);
        answer
    };
    let coded = |code: u8| {
        let mut answer = plain.clone();
        answer[3] |= code;
        answer
    };
    match manner {
        Manner::Good | Manner::Late => vec![with(last)],
        Manner::Silent => vec![],
        Manner::Failing => vec![coded(2)],
        Manner::Empty => vec![coded(3)],
        Manner::Cut => {
            let mut answer = plain;
            answer[2] |= 2;
            vec![answer]
        }
        Manner::Lying => {
            let (mut number, mut question, mut asking) = (with(66), with(66), with(66));
            number[0] ^= 1;
            question[13] ^= 1;
            asking[2] &= 0x7F;
            vec![number, question, asking, vec![0; 5], with(last)]
        }
    }
}
