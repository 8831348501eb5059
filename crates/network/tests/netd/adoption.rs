//! One netd, and daemons that come and go.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use network::link;
use network::namespace::Namespace;
use network::netd::wire::{self, Reply, Request};
use network::netd::{Client, Error, Served};

use super::host::*;

#[test]
fn names_resolve_without_a_daemon_and_the_next_goes_on() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let (mut one, mut two) = (Guest::new(), Guest::new());
        let ports = one.sockets.as_ref().unwrap().ports().unwrap();
        one.serve(&mut daemon, "c1", &["n1"], &[]);
        two.serve(&mut daemon, "c2", &["n1"], &[]);
        daemon.set_names(&network("n1", &[("web", &["10.1.0.2"])])).unwrap();
        assert!(matches!(Client::connect(&host.socket()), Err(Error::Busy)));
        drop(daemon);
        assert_eq!(one.ask("web", A).addresses(), ["10.1.0.2"]);
        let mut next = host.daemon();
        let serving = next.list().unwrap();
        assert_eq!(serving.containers.len(), 2);
        assert_eq!(serving.containers[0], Served { id: "c1".into(), datagrams: ports[0], streams: ports[1] });
        assert_eq!(serving.networks, ["n1"]);
        next.forget("c2").unwrap();
        next.forget("c2").unwrap();
        assert_eq!(next.list().unwrap().containers.len(), 1);
        assert_eq!(one.ask("web", A).addresses(), ["10.1.0.2"]);
        let gone = two.try_ask(&query("web", A, None)).unwrap_err();
        assert_eq!(gone.kind(), std::io::ErrorKind::ConnectionRefused);
        // A container that was started again has other sockets.
        let mut again = Guest::new();
        again.serve(&mut next, "c1", &["n1"], &[]);
        assert_eq!(again.ask("web", A).addresses(), ["10.1.0.2"]);
        assert!(one.try_ask(&query("web", A, None)).is_err());
    });
}

#[test]
fn a_container_is_forgotten_with_its_process() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let (mut one, mut two) = (Guest::new(), Guest::new());
        one.serve(&mut daemon, "c1", &[], &[]);
        two.serve(&mut daemon, "c2", &[], &[]);
        // Each lives until its input ends.
        let start = || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (mut first, mut second) = (start(), start());
        let pidfd = |child: &std::process::Child| sys::process::pidfd(child.id() as i32).unwrap();
        daemon.until("c1", pidfd(&first).as_fd()).unwrap();
        daemon.until("c2", pidfd(&second).as_fd()).unwrap();
        assert!(matches!(daemon.until("c3", pidfd(&first).as_fd()), Err(Error::Refused(_))));
        // The second is started again before its first process has ended.
        let mut again = Guest::new();
        again.serve(&mut daemon, "c2", &[], &[]);
        drop(daemon);
        for child in [&mut first, &mut second] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        let mut daemon = host.daemon();
        let since = Instant::now();
        loop {
            let served: Vec<_> =
                daemon.list().unwrap().containers.into_iter().map(|served| served.id).collect();
            if served == ["c2"] {
                break;
            }
            assert!(served == ["c1", "c2"] && since.elapsed() < LONG, "{served:?}");
        }
        assert_eq!(again.ask("example.com", A).code(), 2);
    });
}

/// Sockets keep a namespace, and it keeps its cable: but for no longer than the container lives, even if answers are waited for.
#[test]
fn nothing_of_a_container_is_left_when_it_ends_without_a_daemon() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        let here = Namespace::own().unwrap();
        let find = |name: &str| {
            let mut found = None;
            let take = |kind, message: &[u8]| {
                found =
                    found.take().or(link::read_device(kind, message).filter(|device| device.name == name));
                Ok(())
            };
            here.route().ask(link::list(), take).unwrap();
            found
        };
        here.route().tell(link::bridge("b0", [2, 0, 0, 0, 0, 1], None)).unwrap();
        let bridge = find("b0").unwrap().index;
        let inside = link::Inside { name: "eth0", mac: [2, 0, 0, 0, 0, 2] };
        here.route().tell(link::veth("v0", bridge, None, inside, &guest.namespace)).unwrap();
        let silent = Upstream::new(Manner::Silent, 1, 0);
        guest.serve(&mut daemon, "c1", &[], &[&silent]);
        let mut process = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        daemon.until("c1", sys::process::pidfd(process.id() as i32).unwrap().as_fd()).unwrap();
        drop(daemon);
        let mut stream = guest.stream();
        stream.write_all(&framed(&query("example.com", A, None))).unwrap();
        guest.datagrams().send(&query("example.org", A, None)).unwrap();
        let since = Instant::now();
        while silent.asked() != [1, 1] {
            assert!(since.elapsed() < LONG);
        }
        drop((guest, stream));
        assert!(find("v0").is_some(), "it is needed yet");
        drop(process.stdin.take());
        process.wait().unwrap();
        while find("v0").is_some() {
            assert!(
                since.elapsed() < Duration::from_secs(4),
                "an answer that nobody waits for is waited for"
            );
        }
    });
}

#[test]
fn one_that_was_killed_is_started_anew() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        guest.serve(&mut daemon, "c1", &[], &[]);
        let peer = rustix::net::sockopt::socket_peercred(daemon.as_fd()).unwrap().pid;
        // The first connection was made by this process itself: another tells who is at the other end.
        drop(daemon);
        let mut daemon = host.daemon();
        let netd = rustix::net::sockopt::socket_peercred(daemon.as_fd()).unwrap().pid;
        assert_ne!(netd, peer);
        rustix::process::kill_process(netd, rustix::process::Signal::KILL).unwrap();
        assert!(matches!(daemon.list(), Err(Error::Broken(_))));
        let mut daemon = host.daemon();
        assert!(daemon.list().unwrap().containers.is_empty());
        let mut again = Guest::new();
        again.serve(&mut daemon, "c1", &[], &[]);
        assert_eq!(again.ask("example.com", A).code(), 2);
    });
}

#[test]
fn it_ends_when_nobody_is_there_and_nothing_is_served() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        guest.serve(&mut daemon, "c1", &[], &[]);
        daemon.forget("c1").unwrap();
        drop(daemon);
        host.wait_ended();
        assert!(!host.socket().exists());
    });
}

#[test]
fn two_daemons_that_start_one_have_one() {
    Host::run(|host| {
        let socket = host.socket();
        let start = |_| {
            let socket = socket.clone();
            thread::spawn(move || {
                Client::connect_or_start(&socket, &program()).and_then(|mut client| client.list())
            })
        };
        let threads: Vec<_> = (0..4).map(start).collect();
        let went: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(went.iter().any(Result::is_ok), "{went:?}");
        assert!(
            went.iter().all(|went| !matches!(went, Err(Error::Unexpected | Error::Malformed(_)))),
            "{went:?}"
        );
        let mut daemon = host.daemon();
        assert!(daemon.list().unwrap().containers.is_empty());
    });
}

/// What speaks another version is told to stop, and replaced.
#[test]
fn one_of_another_version_is_replaced() {
    Host::run(|host| {
        let listener = UnixListener::bind(host.socket()).unwrap();
        let other = thread::spawn(move || {
            let mut heard = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = Vec::new();
                let mut piece = [0; 4096];
                loop {
                    while let Some(request) = wire::take::<Request>(&mut bytes).unwrap() {
                        heard.push(request.clone());
                        if request == Request::Stop {
                            return heard;
                        }
                        stream.write_all(&wire::encode(&Reply::Hello { version: 99 }).unwrap()).unwrap();
                    }
                    match stream.read(&mut piece).unwrap() {
                        0 => break,
                        length => bytes.extend_from_slice(&piece[..length]),
                    }
                }
            }
            heard
        });
        assert!(matches!(Client::connect(&host.socket()), Err(Error::Version(99))));
        let mut daemon = host.daemon();
        assert!(daemon.list().unwrap().containers.is_empty());
        let hello = Request::Hello { version: wire::VERSION };
        assert_eq!(other.join().unwrap(), [hello.clone(), hello, Request::Stop]);
    });
}

#[test]
fn damage_ends_a_conversation_and_nothing_else() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        guest.serve(&mut daemon, "c1", &["n1"], &[]);
        daemon.set_names(&network("n1", &[("web", &["10.1.0.2"])])).unwrap();
        drop(daemon);
        let frame = |request: &Request| wire::encode(request).unwrap();
        let hello = frame(&Request::Hello { version: wire::VERSION });
        let too_long = (wire::FRAME_MAX as u32 + 1).to_le_bytes().to_vec();
        let without_sockets = frame(&Request::Serve { container: container("c1", &[]), sockets: true });
        for damage in [too_long, without_sockets, frame(&Request::Until { id: "c1".into() })] {
            let (bytes, mut said) = ([hello.clone(), damage].concat(), [0; 256]);
            let stream = connect(host);
            sys::process::write_all(&stream, &bytes).unwrap();
            while sys::process::read(&stream, &mut said).is_ok_and(|length| length > 0) {}
        }
        // What is not understood is said, and who does not greet is not obeyed.
        let mut stream = UnixStream::from(connect(host));
        stream.write_all(&[frame(&Request::List), wire::encode(&"else").unwrap()].concat()).unwrap();
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let reply = next(&mut stream, &mut bytes);
            assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
        }
        drop(stream);
        let mut daemon = host.daemon();
        assert_eq!(daemon.list().unwrap().containers.len(), 1);
        assert_eq!(guest.ask("web", A).addresses(), ["10.1.0.2"]);
    });
}

/// A connection without a greeting.
fn connect(host: &Host) -> OwnedFd {
    let path = host.socket();
    sys::socket::connect(path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap()).unwrap()
}

fn next(stream: &mut UnixStream, bytes: &mut Vec<u8>) -> Reply {
    let mut piece = [0; 4096];
    loop {
        if let Some(reply) = wire::take(bytes).unwrap() {
            return reply;
        }
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0);
        bytes.extend_from_slice(&piece[..length]);
    }
}
