//! Published ports that the host's own rules decide on: what comes from outside ends at netd, which speaks to containers by its clients'
//! addresses.

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use network::firewall::{Firewall, Model, Port, Protocol};
use network::netd::Client;
use network::policy;
use network::ports::{Wish, hold};
use network::relay;

use super::listing::nft;
use super::world::{World, model, world};
use super::{port, tcp};

/// netd, in the host's namespace, and who speaks with it.
struct Netd {
    daemon: Option<Client>,
    _directory: tempfile::TempDir,
}

impl Netd {
    fn start(w: &World) -> Self {
        let own = std::env::current_exe().unwrap();
        let program = own.parent().unwrap().parent().unwrap().join("examples/netd");
        let program = CString::new(program.as_os_str().as_bytes()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("netd.sock");
        let daemon = w.host.run(move || Client::connect_or_start(&socket, &program).unwrap());
        Self { daemon: Some(daemon), _directory: directory }
    }

    /// Has it serve a port, at all addresses of one version.
    fn serve(&mut self, w: &World, protocol: Protocol, at: &str, to: &str) {
        let [at, to]: [SocketAddr; 2] = [at, to].map(|text| text.parse().unwrap());
        let wish = Wish {
            protocol,
            container: to.port(),
            address: Some(at.ip()),
            host: Some(at.port()..=at.port()),
        };
        let sockets: Vec<(IpAddr, OwnedFd)> = w.host.run(move || hold(&wish, true, true).unwrap().sockets);
        let port = relay::Port { protocol, at, to: Some(to), as_client: true };
        let ports: Vec<(relay::Port, BorrowedFd<'_>)> =
            sockets.iter().map(|(_, socket)| (port.clone(), socket.as_fd())).collect();
        self.daemon.as_mut().unwrap().ports("a1", &ports, false).unwrap();
    }
}

impl Drop for Netd {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let _ = daemon.stop();
        }
    }
}

/// The published ports of `a1`, at all addresses, by both protocols and both versions.
fn published() -> Vec<Port> {
    let mut all = vec![tcp("0.0.0.0:8080", "10.1.0.2:80"), tcp("[::]:8080", "[fd00:1::2]:80")];
    all.push(port(Protocol::Udp, "0.0.0.0:8080", "10.1.0.2:80", 1));
    all.push(port(Protocol::Udp, "[::]:8080", "[fd00:1::2]:80", 1));
    all
}

/// A world where the ports of `a1` are left to the host.
fn respecting(bridged: bool, test: fn(&World, &Firewall)) {
    world(bridged, |w, firewall| {
        let mut netd = Netd::start(w);
        firewall.apply(&Model { respect: true, ports: published(), ..model() }).unwrap();
        w.host.run(|| policy::deliver().unwrap());
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            netd.serve(w, protocol, "0.0.0.0:8080", "10.1.0.2:80");
            netd.serve(w, protocol, "[::]:8080", "[fd00:1::2]:80");
        }
        test(w, firewall);
    });
}

const AT: [(&str, &str); 2] = [("10.9.0.1:8080", "a1 10.9.0.2"), ("[fd00:9::1]:8080", "a1 fd00:9::2")];

#[test]
fn the_container_sees_the_clients_address() {
    for bridged in [false, true] {
        respecting(bridged, |w, _| {
            for (at, answer) in AT {
                assert_eq!(w.lan.reaches(at), answer);
                assert_eq!(w.lan.hears(at, 0), answer);
                // By a port of its own, and again by the same.
                assert_eq!(w.lan.hears(at, 7000), answer);
                assert_eq!(w.lan.hears(at, 7000), answer);
            }
            // Others of the host's addresses are as good, and answer by themselves.
            assert_eq!(w.lan.reaches("10.2.0.1:8080"), "a1 10.9.0.2");
            assert_eq!(w.lan.hears("10.2.0.1:8080", 7000), "a1 10.9.0.2");
            // The host and other containers go where they always went.
            assert!(w.host.reaches("10.9.0.1:8080").starts_with("a1 "));
            assert!(w.host.reaches("127.0.0.1:8080").starts_with("a1 "));
            assert!(w.host.reaches("[::1]:8080").starts_with("a1 "));
            assert_eq!(w.b1.reaches("10.9.0.1:8080"), "a1 10.1.0.1");
            assert_eq!(w.a2.reaches("10.9.0.1:8080"), "a1 10.1.0.1");
            // What else containers send goes out as before.
            assert_eq!(w.a1.reaches("10.9.0.2:80"), "lan 10.9.0.1");
            assert_eq!(w.a1.hears("10.9.0.2:80", 0), "lan 10.9.0.1");
        });
    }
}

#[test]
fn who_says_to_be_in_a_network_of_ours_is_not_spoken_for() {
    world(false, |w, firewall| {
        let mut netd = Netd::start(w);
        firewall.apply(&Model { respect: true, ports: published(), ..model() }).unwrap();
        w.host.run(|| policy::deliver().unwrap());
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            netd.serve(w, protocol, "0.0.0.0:8080", "10.1.0.2:80");
        }
        let seen = || [w.lan.reaches("10.9.0.1:8080"), w.lan.hears("10.9.0.1:8080", 7000)];
        assert_eq!(seen(), ["a1 10.9.0.2", "a1 10.9.0.2"]);
        let daemon = netd.daemon.as_mut().unwrap();
        daemon.refuse(&[], &[], &["10.9.0.0/24".parse().unwrap()]).unwrap();
        let seen = || [w.lan.reaches("10.9.0.1:8080"), w.lan.hears("10.9.0.1:8080", 7001)];
        assert_eq!(seen(), ["a1 10.1.0.1", "a1 10.1.0.1"]);
    });
}

#[test]
fn the_hosts_own_rules_decide() {
    respecting(false, |w, firewall| {
        let rules = |text: &'static str| w.host.run(move || nft(&[text]));
        let made = rules(
            "add table inet fw
            add chain inet fw input { type filter hook input priority 0; policy drop; }
            add rule inet fw input ct state established,related accept
            add rule inet fw input iifname lo accept
            add rule inet fw input meta l4proto { icmp, ipv6-icmp } accept",
        );
        let Some(_) = made else { return };
        for (at, _) in AT {
            w.lan.is_cut_from(at);
            assert_eq!(w.lan.asks(at), None);
        }
        rules("add rule inet fw input ip saddr 10.9.0.2 tcp dport 8080 accept");
        rules("add rule inet fw input ip6 saddr fd00:9::2 udp dport 8080 accept");
        assert_eq!(w.lan.reaches(AT[0].0), AT[0].1);
        assert_eq!(w.lan.asks(AT[0].0), None);
        w.lan.is_cut_from(AT[1].0);
        assert_eq!(w.lan.hears(AT[1].0, 0), AT[1].1);
        // As is the default, they do not.
        firewall.apply(&Model { ports: published(), ..model() }).unwrap();
        w.lan.reaches(AT[1].0);
    });
}

#[test]
fn marks_that_count_in_looking_back_are_no_hindrance() {
    respecting(false, |w, _| {
        w.host.run(|| {
            for name in ["all", "default", "br-a", "lan0"] {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/src_valid_mark"), "1").unwrap();
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "1").unwrap();
            }
        });
        assert_eq!(w.lan.reaches(AT[0].0), AT[0].1);
        assert_eq!(w.lan.hears(AT[0].0, 0), AT[0].1);
    });
}

#[test]
fn a_client_that_comes_again_by_its_port_is_served() {
    respecting(false, |w, _| {
        for _ in 0..3 {
            let answer = w.lan.run(|| {
                use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
                let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
                sockopt::set_socket_reuseaddr(&socket, true).unwrap();
                bind(&socket, &"10.9.0.2:7100".parse::<SocketAddr>().unwrap()).unwrap();
                connect(&socket, &"10.9.0.1:8080".parse::<SocketAddr>().unwrap()).unwrap();
                let mut stream = std::net::TcpStream::from(socket);
                let answer = super::world::again(&mut stream).unwrap();
                // It goes without a trace, so that it can come again at once; what speaks for it has one.
                rustix::net::shutdown(&stream, rustix::net::Shutdown::Write).unwrap();
                let _ = std::io::Read::read(&mut stream, &mut [0]);
                sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
                answer
            });
            assert_eq!(answer, "a1 10.9.0.2");
        }
    });
}

#[test]
fn the_guide_shows_the_chains() {
    world(false, |w, firewall| {
        firewall.apply(&Model { respect: true, ..model() }).unwrap();
        assert!(firewall.is_intact().unwrap());
        let guide = include_str!("../../../../docs/guide/firewall.md");
        for chain in ["arriving", "answers"] {
            let Some(listed) = w.host.run(move || nft(&["list", "chain", "inet", "corten", chain])) else {
                return;
            };
            let body = listed.split_once("chain ").and_then(|(_, rest)| rest.split_once("\n\t}")).unwrap().0;
            let body = body.replace("\n\t", "\n");
            assert!(guide.contains(&format!("chain {body}\n}}")), "{body}");
        }
    });
}

#[test]
fn a_proxy_of_somebody_elses_is_left_alone() {
    respecting(false, |w, _| {
        let proxy = w.host.run(|| {
            let proxy = std::net::TcpListener::bind("0.0.0.0:80").unwrap();
            sys::inet::set_transparent(&proxy, false).unwrap();
            proxy
        });
        assert_eq!(w.a1.reaches("10.9.0.2:80"), "lan 10.9.0.1");
        drop(proxy);
    });
}

#[test]
fn rules_of_routing_are_made_put_back_and_removed() {
    world(false, |w, _| {
        let listed = |w: &World| {
            w.host.run(|| {
                let show = |args: &[&str]| {
                    let output = std::process::Command::new("ip").args(args).output().unwrap();
                    String::from_utf8(output.stdout).unwrap()
                };
                let rules = show(&["rule"]) + &show(&["-6", "rule"]);
                let routes = show(&["route", "show", "table", "17230"])
                    + &show(&["-6", "route", "show", "table", "17230"]);
                (rules.matches("0x434e0000").count(), routes.matches("local default dev lo").count())
            })
        };
        let before = listed(w);
        assert_eq!(before, (0, 0));
        let watch = w.host.run(|| policy::Watch::open().unwrap());
        w.host.run(|| policy::deliver().and_then(|()| policy::deliver()).unwrap());
        assert_eq!(listed(w), (4, 2));
        for done in [&["rule", "del", "priority", "41"][..], &["-6", "route", "flush", "table", "17230"]] {
            w.host.run(move || {
                let status = std::process::Command::new("ip").args(done).status().unwrap();
                assert!(status.success());
            });
            assert_ne!(listed(w), (4, 2));
            let since = Instant::now();
            watch.next().unwrap();
            assert!(since.elapsed().as_secs() < 5);
            w.host.run(|| policy::deliver().unwrap());
            assert_eq!(listed(w), (4, 2));
        }
        w.host.run(|| policy::deliver_no_more().and_then(|()| policy::deliver_no_more()).unwrap());
        assert_eq!(listed(w), (0, 0));
    });
}

/// What it costs that netd stands between: printed beside the way by packet filters.
#[test]
#[ignore = "a measurement: prints, and needs iperf3"]
fn bench() {
    world(false, |w, firewall| {
        let mut netd = Netd::start(w);
        let ports = vec![
            tcp("0.0.0.0:8080", "10.1.0.2:80"),
            tcp("0.0.0.0:5201", "10.1.0.2:5201"),
            port(Protocol::Udp, "0.0.0.0:8080", "10.1.0.2:80", 1),
        ];
        let server = w.a1.run(|| {
            let mut iperf = std::process::Command::new("iperf3");
            iperf.args(["-s"]).stdout(std::process::Stdio::null()).spawn().unwrap()
        });
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            netd.serve(w, protocol, "0.0.0.0:8080", "10.1.0.2:80");
        }
        netd.serve(w, Protocol::Tcp, "0.0.0.0:5201", "10.1.0.2:5201");
        w.host.run(|| policy::deliver().unwrap());
        for respect in [false, true, false, true] {
            firewall.apply(&Model { respect, ports: ports.clone(), ..model() }).unwrap();
            w.lan.reaches(AT[0].0);
            println!("respect: {respect}");
            for parallel in ["1", "8"] {
                let throughput = w.lan.run(move || {
                    let mut iperf = std::process::Command::new("iperf3");
                    iperf.args(["-c", "10.9.0.1", "-t", "3", "-f", "g", "-P", parallel]);
                    String::from_utf8(iperf.output().unwrap().stdout).unwrap()
                });
                let line = throughput.lines().rfind(|line| line.contains("receiver")).unwrap_or_default();
                println!("  {parallel} streams: {line}");
            }
            let (mut stream, _) = w.lan.connect(AT[0].0).unwrap();
            let (turns, connections, datagrams) = w.lan.run(move || {
                let each = |times: u32, mut what: Box<dyn FnMut()>| {
                    let since = Instant::now();
                    (0..times).for_each(|_| what());
                    since.elapsed() / times
                };
                let turns = each(20_000, Box::new(move || drop(super::world::again(&mut stream).unwrap())));
                let connections = each(
                    3_000,
                    Box::new(|| {
                        let mut stream = std::net::TcpStream::connect(AT[0].0).unwrap();
                        super::world::again(&mut stream).unwrap();
                    }),
                );
                let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect(AT[0].0).unwrap();
                let datagrams = each(
                    20_000,
                    Box::new(move || {
                        socket.send(b"?").unwrap();
                        socket.recv(&mut [0; 99]).unwrap();
                    }),
                );
                (turns, connections, datagrams)
            });
            println!(
                "  a word and its answer {turns:?}, a connection with one {connections:?}, a datagram and its answer {datagrams:?}"
            );
        }
        let mut server = server;
        server.kill().unwrap();
        server.wait().unwrap();
    });
}
