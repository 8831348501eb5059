//! Published ports that netd holds and serves.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use network::firewall::Protocol;
use network::netd::{Client, Error};
use network::relay::Port;

use super::host::*;

/// What holds a port, as a daemon makes it.
enum Socket {
    Streams(TcpListener),
    Datagrams(UdpSocket),
}

impl Socket {
    fn bind(protocol: Protocol, at: &str) -> io::Result<Self> {
        Ok(match protocol {
            Protocol::Udp => Self::Datagrams(UdpSocket::bind(at)?),
            _ => Self::Streams(TcpListener::bind(at)?),
        })
    }

    fn at(&self) -> SocketAddr {
        match self {
            Self::Streams(socket) => socket.local_addr().unwrap(),
            Self::Datagrams(socket) => socket.local_addr().unwrap(),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Streams(socket) => socket.as_fd(),
            Self::Datagrams(socket) => socket.as_fd(),
        }
    }
}

/// Publishes `at`, leading to `to` or only held; the daemon keeps nothing of it.
fn publish(daemon: &mut Client, id: &str, protocol: Protocol, at: &str, to: Option<SocketAddr>) -> Port {
    let socket = Socket::bind(protocol, at).unwrap();
    let port = Port { protocol, at: socket.at(), to, as_client: false };
    daemon.ports(id, &[(port.clone(), socket.as_fd())], false).unwrap();
    port
}

/// A server of streams that says all again, once it has heard all.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all);
                let _ = stream.write_all(&all);
            });
        }
    });
    at
}

/// A server of datagrams that says who asked, and what.
fn answering(prefix: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let answer = [prefix.as_bytes(), b" ", &buffer[..length]].concat();
            let _ = socket.send_to(&answer, client);
        }
    });
    at
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

#[test]
fn streams_are_passed_on_whole_and_closed_side_by_side() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let port = publish(&mut daemon, "c1", Protocol::Tcp, "[::1]:0", Some(echo()));
        // More than fits into any buffer on the way: nothing comes back before all was said.
        let sent: Vec<u8> = (0..8 << 20_u32).map(|number| (number % 251) as u8).collect();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (mut stream, sent) = (connect(port.at), sent.clone());
                thread::spawn(move || {
                    stream.write_all(&sent).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).unwrap();
                    assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

#[test]
fn a_stream_that_breaks_off_breaks_off_for_the_other_side() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let server = TcpListener::bind("127.0.0.2:0").unwrap();
        let to = server.local_addr().unwrap();
        let port = publish(&mut daemon, "c1", Protocol::Tcp, "[::1]:0", Some(to));
        let mut client = connect(port.at);
        client.write_all(b"x").unwrap();
        let (mut stream, _) = server.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        // And nobody there is as if the port were closed.
        drop(server);
        let refused = connect(port.at).read(&mut [0]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn datagrams_are_answered_by_the_address_that_was_asked() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let all = publish(&mut daemon, "c1", Protocol::Udp, "[::]:0", Some(answering("one")));
        let other = publish(&mut daemon, "c2", Protocol::Udp, "127.0.0.9:0", Some(answering("two")));
        let ask = |client: &UdpSocket, to: &str, port: u16, text: &str| {
            client.set_read_timeout(Some(LONG)).unwrap();
            client.send_to(text.as_bytes(), (to, port)).unwrap();
            let (mut buffer, to) = ([0; 2000], to.parse::<std::net::IpAddr>().unwrap());
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((from.ip(), from.port()), (to, port));
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        for number in 0..50 {
            let client = UdpSocket::bind("[::1]:0").unwrap();
            for text in [format!("a{number}"), format!("b{number}")] {
                assert_eq!(ask(&client, "::1", all.at.port(), &text), format!("one {text}"));
            }
        }
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(ask(&client, "127.0.0.9", other.at.port(), "x"), "two x");
    });
}

#[test]
fn more_clients_than_are_remembered_are_answered() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let port = publish(&mut daemon, "c1", Protocol::Udp, "[::1]:0", Some(answering("one")));
        for number in 0..1200 {
            let client = UdpSocket::bind("[::1]:0").unwrap();
            client.set_read_timeout(Some(LONG)).unwrap();
            client.connect(port.at).unwrap();
            client.send(b"x").unwrap();
            let mut buffer = [0; 10];
            let length = client.recv(&mut buffer).unwrap_or_else(|error| panic!("client {number}: {error}"));
            assert_eq!(&buffer[..length], b"one x");
        }
        // None of them costs more than a descriptor, and there is a bound.
        let pid = rustix::net::sockopt::socket_peercred(daemon.as_fd()).unwrap().pid.as_raw_pid();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert!(open < 1100, "{open} descriptors");
    });
}

#[test]
fn ports_are_held_and_served_without_a_daemon_and_adopted_by_the_next() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let held = publish(&mut daemon, "c1", Protocol::Tcp, "127.0.0.1:0", None);
        let served = publish(&mut daemon, "c1", Protocol::Tcp, "[::1]:0", Some(echo()));
        let datagrams = publish(&mut daemon, "c2", Protocol::Udp, "127.0.0.1:0", None);
        drop(daemon);
        let taken = |port: &Port| Socket::bind(port.protocol, &port.at.to_string()).is_err();
        assert!([&held, &served, &datagrams].into_iter().all(taken));
        let answers = || {
            let mut stream = connect(served.at);
            stream.write_all(b"x").and_then(|()| stream.shutdown(Shutdown::Write)).unwrap();
            stream.read_to_string(&mut String::new()).unwrap() == 1
        };
        assert!(answers(), "without a daemon");
        let mut next = host.daemon();
        let listed = next.list().unwrap().ports;
        assert_eq!(listed.len(), 2);
        assert_eq!((listed[0].id.as_str(), listed[0].ports.len()), ("c1", 2));
        assert_eq!(listed[1].ports, std::slice::from_ref(&datagrams));
        // What was only held is served from now on, by the socket that is there.
        let now = Port { to: Some(echo()), ..held.clone() };
        next.change_ports("c1", &[now.clone(), served.clone()]).unwrap();
        let mut stream = connect(held.at);
        stream.write_all(b"now").and_then(|()| stream.shutdown(Shutdown::Write)).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "now");
        assert!(answers());
        let nowhere = Port { at: "127.0.0.1:9".parse().unwrap(), ..held.clone() };
        assert!(matches!(next.change_ports("c1", &[nowhere]), Err(Error::Refused(_))));
        next.close_ports("c1", &[now]).unwrap();
        assert!(!taken(&held) && taken(&served));
        next.forget("c1").unwrap();
        assert!(!taken(&served) && taken(&datagrams));
        // One that is started again has no port of before.
        next.ports("c2", &[], true).unwrap();
        let again = publish(&mut next, "c2", Protocol::Udp, "127.0.0.1:0", None);
        assert_eq!(next.list().unwrap().ports[0].ports.last(), Some(&again));
    });
}

#[test]
fn ports_are_closed_with_the_process_that_they_lead_to() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let port = publish(&mut daemon, "c1", Protocol::Tcp, "127.0.0.1:0", None);
        let mut process = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        daemon.until("c1", sys::process::pidfd(process.id() as i32).unwrap().as_fd()).unwrap();
        let hangup = daemon.hangup().unwrap();
        drop(daemon);
        // The end of a conversation is heard, whoever ends it.
        hangup.wait().unwrap();
        assert!(TcpListener::bind(port.at).is_err());
        drop(process.stdin.take());
        process.wait().unwrap();
        let since = Instant::now();
        while TcpListener::bind(port.at).is_err() {
            assert!(since.elapsed() < LONG);
            thread::yield_now();
        }
    });
}

#[test]
fn what_comes_by_an_internal_networks_device_is_not_served_whatever_it_says_who_it_is() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let datagrams = publish(&mut daemon, "c1", Protocol::Udp, "127.0.0.1:0", Some(answering("one")));
        for (devices, served) in
            [(vec![], true), (vec!["lo".to_owned()], false), (vec!["eth9".to_owned()], true)]
        {
            daemon.refuse(&[], &devices, &[]).unwrap();
            let client = UdpSocket::bind("127.0.3.1:0").unwrap();
            client.send_to(b"x", datagrams.at).unwrap();
            let wait = if served { LONG } else { Duration::from_millis(300) };
            client.set_read_timeout(Some(wait)).unwrap();
            assert_eq!(client.recv(&mut [0; 9]).is_ok(), served, "{devices:?}");
        }
    });
}

#[test]
fn a_connection_that_is_broken_off_ends_though_nobody_reads() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        // It accepts nobody: what is said waits, and so does who passes it on.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port =
            publish(&mut daemon, "c1", Protocol::Tcp, "127.0.0.1:0", Some(silent.local_addr().unwrap()));
        let socket = host.socket().display().to_string();
        let is_netd = |line: Vec<u8>| String::from_utf8_lossy(&line).contains(&socket);
        let mut all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let netd = all.find(|path| std::fs::read(path.join("cmdline")).is_ok_and(is_netd)).unwrap();
        let descriptors = || std::fs::read_dir(netd.join("fd")).map_or(0, Iterator::count);
        let before = descriptors();
        for _ in 0..6 {
            let mut stream = TcpStream::connect(port.at).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            // Until all that is between them is full.
            stream.write_all(&vec![0; 32 << 20]).unwrap_err();
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        let since = Instant::now();
        // Pipes are kept for the next.
        while descriptors() > before + 13 {
            assert!(since.elapsed() < LONG, "{} descriptors, {before} before", descriptors());
            thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn clients_of_internal_networks_are_not_served() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let streams = publish(&mut daemon, "c1", Protocol::Tcp, "127.0.0.1:0", Some(echo()));
        let datagrams = publish(&mut daemon, "c1", Protocol::Udp, "127.0.0.1:0", Some(answering("one")));
        let mut hears = |from: &str, refused: &[&str], served: bool| {
            let refused: Vec<ipnet::IpNet> = refused.iter().map(|text| text.parse().unwrap()).collect();
            daemon.refuse(&refused, &[], &[]).unwrap();
            let from: SocketAddr = format!("{from}:0").parse().unwrap();
            let client = UdpSocket::bind(from).unwrap();
            client.send_to(b"x", datagrams.at).unwrap();
            let mut stream = connect_from(from, streams.at);
            let _ = stream.write_all(b"x").and_then(|()| stream.shutdown(Shutdown::Write));
            let by_stream = stream.read(&mut [0]).is_ok_and(|length| length == 1);
            // By now the datagram has been seen to.
            let wait = if served { LONG } else { Duration::from_millis(200) };
            client.set_read_timeout(Some(wait)).unwrap();
            assert_eq!((by_stream, client.recv(&mut [0; 9]).is_ok()), (served, served));
        };
        hears("127.0.3.1", &[], true);
        hears("127.0.3.1", &["fd00::/8", "127.0.3.0/24"], false);
        hears("127.0.4.1", &["127.0.3.0/24"], true);
        hears("127.0.3.1", &[], true);
    });
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &from).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

#[test]
fn sockets_that_are_none_of_these_ports_are_refused() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let streams = Socket::bind(Protocol::Tcp, "127.0.0.1:0").unwrap();
        let port = Port { protocol: Protocol::Tcp, at: streams.at(), to: None, as_client: false };
        let other = |at: &str| Port { at: at.parse().unwrap(), ..port.clone() };
        let file = std::fs::File::open("/dev/null").unwrap();
        for (port, socket) in [
            (Port { protocol: Protocol::Udp, ..port.clone() }, streams.as_fd()),
            (other("127.0.0.1:1"), streams.as_fd()),
            (other("[::1]:1"), streams.as_fd()),
            (port.clone(), file.as_fd()),
            (Port { at: "127.0.0.1:0".parse().unwrap(), ..port.clone() }, streams.as_fd()),
            (Port { to: Some("127.0.0.1:0".parse().unwrap()), ..port.clone() }, streams.as_fd()),
        ] {
            assert!(matches!(daemon.ports("c1", &[(port, socket)], true), Err(Error::Refused(_))));
        }
        assert!(daemon.list().unwrap().ports.is_empty());
        daemon.ports("c1", &[(port, streams.as_fd())], true).unwrap();
    });
}

/// What a thousand published ports cost: printed.
#[test]
#[ignore = "a measurement: prints"]
fn bench() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let pid = rustix::net::sockopt::socket_peercred(daemon.as_fd()).unwrap().pid.as_raw_pid();
        let first = publish(&mut daemon, "c0", Protocol::Tcp, "[::1]:0", Some(echo()));
        connect(first.at).shutdown(Shutdown::Write).unwrap();
        let memory = || {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let field = |name: &str| {
                let line = text.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
            };
            let slab = std::fs::read_to_string("/proc/meminfo").unwrap();
            let slab = slab.lines().find(|line| line.starts_with("SUnreclaim:")).unwrap();
            (field("Private_Dirty:"), slab.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        };
        let sockets = |at: &str| -> Vec<Socket> {
            (0..1000).map(|_| Socket::bind(Protocol::Tcp, at).unwrap()).collect()
        };
        let to = echo();
        for (at, to) in [("0.0.0.0:0", None), ("[::]:0", Some(to))] {
            let before = memory();
            let sockets = sockets(at);
            let ports: Vec<_> = sockets
                .iter()
                .map(|socket| {
                    let port = Port { protocol: Protocol::Tcp, at: socket.at(), to, as_client: false };
                    (port, socket.as_fd())
                })
                .collect();
            let since = Instant::now();
            daemon.ports(at, &ports, true).unwrap();
            let took = since.elapsed();
            drop(sockets);
            let after = memory();
            println!(
                "1000 ports at {at}, served: {}: {took:?}; netd {} KiB more of its own, the kernel {} KiB more",
                to.is_some(),
                after.0.saturating_sub(before.0),
                after.1.saturating_sub(before.1)
            );
        }
    });
}
