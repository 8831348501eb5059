//! A host with networks, each machine a network namespace with a thread in it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use network::firewall::{Firewall, Inward, Model, Network, Outward, Subnet, host};
use network::link;
use sys::netlink::{ACK, Family, Message, Socket};

/// What is to come comes in this time, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What has not come in this time is held back. Nothing is lost between these machines but by packet filters.
pub const SILENCE: Duration = Duration::from_millis(200);

/// The port that all machines answer at.
pub const WEB: u16 = 80;

type Job = Box<dyn FnOnce() + Send>;

/// A machine.
pub struct Machine {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: File,
}

impl Machine {
    fn new() -> Self {
        let (jobs, received) = channel::<Job>();
        let (sender, namespace) = channel();
        let thread = std::thread::spawn(move || {
            sys::namespace::unshare(sys::namespace::NETWORK).unwrap();
            sys::net::loopback_up().unwrap();
            sender.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
            received.into_iter().for_each(|job| job());
        });
        Self { jobs: Some(jobs), thread: Some(thread), namespace: namespace.recv().unwrap() }
    }

    /// Does something there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let job = move || drop(sender.send(job()));
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        result.recv().expect("the job panicked")
    }

    /// Connects from there, and says what the other side answered: its name, and the address that it saw. The connection is kept.
    pub fn connect(&self, to: &str) -> Result<(TcpStream, String), String> {
        let to: SocketAddr = to.parse().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.run(move || ask(to, PATIENCE)) {
                // On a busy machine the kernel takes its time to notice that cables are there.
                Err(_) if Instant::now() < until => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    /// What is answered there, of which it is certain that it is.
    pub fn reaches(&self, to: &str) -> String {
        self.connect(to).unwrap_or_else(|error| panic!("{to}: {error}")).1
    }

    /// Nothing gets there.
    pub fn is_cut_from(&self, to: &str) {
        let target: SocketAddr = to.parse().unwrap();
        if let Ok((_, answer)) = self.run(move || ask(target, SILENCE)) {
            panic!("{to} answered: {answer}");
        }
    }

    /// What is answered to one datagram, if anything is.
    pub fn asks(&self, to: &str) -> Option<String> {
        self.asks_from(to, 0)
    }

    fn asks_from(&self, to: &str, port: u16) -> Option<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
            answer(&UdpSocket::bind((any, port)).unwrap(), to, b"?")
        })
    }

    /// What is answered to a datagram from a port of ours. The first of them may be lost, while machines look for each other.
    pub fn hears(&self, to: &str, port: u16) -> String {
        let mut tries = PATIENCE.as_millis() / SILENCE.as_millis();
        loop {
            if let Some(answer) = self.asks_from(to, port) {
                return answer;
            }
            tries = tries.checked_sub(1).unwrap_or_else(|| panic!("{to} does not answer"));
        }
    }

    /// Whether an echo comes from there.
    pub fn echoes(&self, to: &str) -> bool {
        let to: IpAddr = to.parse().unwrap();
        self.run(move || {
            use rustix::net::{AddressFamily, SocketType, ipproto, socket};
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
            let (family, protocol, kind) = match to {
                IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8),
                IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128),
            };
            let socket = UdpSocket::from(socket(family, SocketType::DGRAM, Some(protocol)).unwrap());
            // The first may be lost, while machines look for each other.
            (0..3).any(|_| answer(&socket, (to, 0).into(), &[kind, 0, 0, 0, 0, 0, 0, 1]).is_some())
        })
    }

    /// Answers at a port, by TCP and UDP, of all its addresses or of one.
    pub fn serves(&self, name: &'static str, address: &str, port: u16) {
        let address: IpAddr = address.parse().unwrap();
        self.run(move || {
            let listener = TcpListener::bind((address, port)).unwrap();
            let socket = UdpSocket::bind((address, port)).unwrap();
            let seen = move |client: SocketAddr| format!("{name} {}", client.ip().to_canonical());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let answer = seen(stream.peer_addr().unwrap());
                    std::thread::spawn(move || {
                        let mut byte = [0];
                        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&line(&answer)).is_ok()
                        {
                        }
                    });
                }
            });
            std::thread::spawn(move || {
                let mut question = [0; 10];
                while let Ok((_, client)) = socket.recv_from(&mut question) {
                    let _ = socket.send_to(seen(client).as_bytes(), client);
                }
            });
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(socket: &UdpSocket, to: SocketAddr, question: &[u8]) -> Option<String> {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    // What is dropped on the way out is refused at once.
    socket.send_to(question, to).ok()?;
    let mut answer = [0; 200];
    let (length, _) = socket.recv_from(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// An answer in a size that is known.
fn line(answer: &str) -> Vec<u8> {
    format!("{answer:<60}").into_bytes()
}

fn ask(to: SocketAddr, patience: Duration) -> Result<(TcpStream, String), String> {
    let mut stream = TcpStream::connect_timeout(&to, patience).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let answer = again(&mut stream)?;
    Ok((stream, answer))
}

/// Asks once more, by a connection that is there.
pub fn again(stream: &mut TcpStream) -> Result<String, String> {
    let mut answer = [0; 60];
    stream.write_all(b"?").map_err(|error| error.to_string())?;
    stream.read_exact(&mut answer).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

/// A host with two networks of two containers and one, one that is internal, and a neighbour.
///
/// | | address | |
/// | --- | --- | --- |
/// | host | 10.N.0.1, fd00:N::1 | on each of its networks |
/// | a1, a2 | 10.1.0.2 and .3, fd00:1::2 and ::3 | on `br-a` |
/// | b1 | 10.2.0.2, fd00:2::2 | on `br-b` |
/// | i1 | 10.3.0.2, fd00:3::2 | on `br-i`, with a way out by the host |
/// | lan | 10.9.0.2, fd00:9::2 | on `lan0`, with a way to all the others by the host |
pub struct World {
    pub a1: Machine,
    pub a2: Machine,
    pub b1: Machine,
    pub i1: Machine,
    pub lan: Machine,
    pub host: Machine,
}

/// Runs a test in a world of its own. Bridged packets meet packet filters or do not, as the host has it.
pub fn world(bridged: bool, test: impl FnOnce(&World, &Firewall)) {
    let possible = std::thread::spawn(|| sys::namespace::unshare(sys::namespace::NETWORK)).join().unwrap();
    if let Err(error) = possible {
        println!("skipped: a network namespace ({error})");
        return;
    }
    let [host, a1, a2, b1, i1, lan] = std::array::from_fn(|_| Machine::new());
    host.run(move || {
        host::forward_v4().unwrap();
        host::forward_v6().unwrap();
        for version in ["ip", "ip6"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{version}tables");
            match std::fs::write(&path, if bridged { "1" } else { "0" }) {
                Ok(()) => {}
                Err(error) => println!("skipped: {path} ({error})"),
            }
        }
        let socket = Socket::open(Family::Route).unwrap();
        for (number, name) in [(1, "br-a"), (2, "br-b"), (3, "br-i"), (9, "lan0")] {
            socket.tell(link::bridge(name, [2, 0, 0, 0, 0, number], None)).unwrap();
            let bridge = index(&socket, name);
            let addresses = addresses(number, 1).map(|net| link::address(bridge, net));
            socket.tell_all(addresses.into()).unwrap();
        }
        for bridge in ["br-a", "br-b", "br-i"] {
            host::allow_loopback(bridge).unwrap();
        }
    });
    let places = [
        (&a1, "br-a", 1, 2, "a1"),
        (&a2, "br-a", 1, 3, "a2"),
        (&b1, "br-b", 2, 2, "b1"),
        (&i1, "br-i", 3, 2, "i1"),
        (&lan, "lan0", 9, 2, "lan"),
    ];
    for (machine, bridge, network, number, name) in places {
        let namespace = machine.namespace.try_clone().unwrap();
        host.run(move || {
            let socket = Socket::open(Family::Route).unwrap();
            let inside = link::Inside { name: "eth0", mac: [2, 0, 0, 0, network, number] };
            socket.tell(link::veth(name, index(&socket, bridge), None, inside, &namespace)).unwrap();
            socket.tell(link::port(index(&socket, name), false)).unwrap();
        });
        machine.run(move || {
            let socket = Socket::open(Family::Route).unwrap();
            let eth0 = index(&socket, "eth0");
            let mut messages = vec![link::without_own_v6(eth0), link::up(eth0)];
            messages.extend(addresses(network, number).map(|net| link::address(eth0, net)));
            let gateways = addresses(network, 1).map(|net| net.addr());
            for (all, gateway) in ["0.0.0.0/0", "::/0"].into_iter().zip(gateways) {
                messages.push(link::route(all.parse().unwrap(), Some(gateway), eth0, None));
            }
            socket.tell_all(messages).unwrap();
        });
        machine.serves(name, "::", WEB);
    }
    let firewall = host.run(|| Firewall::open().unwrap());
    test(&World { a1, a2, b1, i1, lan, host }, &firewall);
}

fn addresses(network: u8, machine: u8) -> [IpNet; 2] {
    [format!("10.{network}.0.{machine}/24"), format!("fd00:{network}::{machine}/64")]
        .map(|text| text.parse().unwrap())
}

/// The number of the device `name`.
fn index(socket: &Socket, name: &str) -> u32 {
    let mut found = None;
    let take = |kind, message: &[u8]| {
        found = found.or(link::read_device(kind, message).map(|device| device.index));
        Ok(())
    };
    socket.ask(link::find(name), take).unwrap();
    found.unwrap()
}

/// The networks of that host.
pub fn model() -> Model {
    let network = |bridge: &str, number: u8| Network {
        bridge: bridge.to_owned(),
        subnets: addresses(number, 1)
            .map(|net| Subnet { net: net.trunc(), inward: Inward::Published, outward: Outward::Masquerade })
            .into(),
        internal: false,
        icc: true,
    };
    let internal = Network { internal: true, ..network("br-i", 3) };
    Model { networks: vec![network("br-a", 1), network("br-b", 2), internal], ..Model::default() }
}

/// Has this machine send what is for 127.0.0.1 to `gateway`.
pub fn lead_loopback_to(gateway: &str) {
    let socket = Socket::open(Family::Route).unwrap();
    std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
    // It is no address of its own any more (RTM_DELADDR; IFA_LOCAL of the first device).
    let body = [2, 8, 0, 0, 1, 0, 0, 0];
    socket.tell(Message::new(21, ACK, &body).with(2, &[127, 0, 0, 1])).unwrap();
    let eth0 = index(&socket, "eth0");
    let to = "127.0.0.1/32".parse().unwrap();
    socket.tell(link::route(to, Some(gateway.parse().unwrap()), eth0, None)).unwrap();
}
