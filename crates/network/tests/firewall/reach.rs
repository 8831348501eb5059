//! Real packets: who reaches whom.

use std::net::UdpSocket;

use network::firewall::{Inward, Outward, Port, Protocol};

use super::listing::nft;
use super::world::{SILENCE, again, lead_loopback_to, model, world};
use super::{port, tcp};

/// Each version's networks are numbered as the other's.
const VERSIONS: [fn(u8, u8, u16) -> String; 2] = [
    |network, machine, port| format!("10.{network}.0.{machine}:{port}"),
    |network, machine, port| format!("[fd00:{network}::{machine}]:{port}"),
];

fn any(version: usize, port: u16) -> String {
    format!("{}:{port}", ["0.0.0.0", "[::]"][version])
}

fn address(version: usize, network: u8, machine: u8) -> String {
    [format!("10.{network}.0.{machine}"), format!("fd00:{network}::{machine}")][version].clone()
}

/// As the host has it, bridged packets meet packet filters, or not.
fn both(test: fn(bool)) {
    [false, true].into_iter().for_each(test);
}

#[test]
fn networks_are_apart_from_each_other_and_from_outside() {
    both(|bridged| {
        world(bridged, |w, firewall| {
            // Without the table all is one.
            for at in VERSIONS {
                w.a1.reaches(&at(2, 2, 80));
                w.lan.reaches(&at(1, 2, 80));
                w.lan.reaches(&at(3, 2, 80));
                w.i1.reaches(&at(9, 2, 80));
            }
            firewall.apply(&model()).unwrap();
            for (version, at) in VERSIONS.into_iter().enumerate() {
                assert_eq!(w.a1.reaches(&at(1, 3, 80)), format!("a2 {}", address(version, 1, 2)));
                w.a1.is_cut_from(&at(2, 2, 80));
                w.b1.is_cut_from(&at(1, 2, 80));
                w.lan.is_cut_from(&at(1, 2, 80));
                w.lan.is_cut_from(&at(3, 2, 80));
                assert_eq!(w.lan.asks(&at(1, 2, 80)), None);
                for inside in [&w.a1, &w.b1] {
                    inside.is_cut_from(&at(3, 2, 80));
                    // Outside it is the host who speaks.
                    assert_eq!(inside.reaches(&at(9, 2, 80)), format!("lan {}", address(version, 9, 1)));
                    assert_eq!(inside.hears(&at(9, 2, 80), 0), format!("lan {}", address(version, 9, 1)));
                }
                for outside in [at(9, 2, 80), at(1, 2, 80)] {
                    w.i1.is_cut_from(&outside);
                }
                // The host itself is let in.
                assert_eq!(w.host.reaches(&at(1, 2, 80)), format!("a1 {}", address(version, 1, 1)));
                assert_eq!(w.host.reaches(&at(3, 2, 80)), format!("i1 {}", address(version, 3, 1)));
            }
        });
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    both(|bridged| {
        world(bridged, |w, firewall| {
            firewall.apply(&model()).unwrap();
            for (version, at) in VERSIONS.into_iter().enumerate() {
                w.lan.is_cut_from(&at(9, 1, 8080));
                let ports = [
                    tcp(&any(version, 8080), &at(1, 2, 80)),
                    port(Protocol::Udp, &any(version, 8080), &at(1, 2, 80), 1),
                    port(Protocol::Tcp, &any(version, 79), &at(1, 2, 79), 3),
                    port(Protocol::Tcp, &any(version, 7000), &at(1, 2, 79), 3),
                ];
                firewall.publish(&ports).unwrap();
                let own = |machine: u8, network: u8| format!("a1 {}", address(version, network, machine));
                for port in [8080, 80, 7001] {
                    // From outside, with the address that it has.
                    assert_eq!(w.lan.reaches(&at(9, 1, port)), own(2, 9));
                    // From the host, at all its addresses.
                    assert_eq!(w.host.reaches(&at(9, 1, port)), own(1, 9));
                    assert_eq!(w.host.reaches(&at(1, 1, port)), own(1, 1));
                    // From another network, from the same and from itself, by all the host's addresses.
                    for network in [9, 1, 2] {
                        assert_eq!(w.b1.reaches(&at(network, 1, port)), own(1, 1));
                        assert_eq!(w.a2.reaches(&at(network, 1, port)), own(1, 1));
                        assert_eq!(w.a1.reaches(&at(network, 1, port)), own(1, 1));
                    }
                }
                w.i1.is_cut_from(&at(3, 1, 8080));
                w.i1.is_cut_from(&at(9, 1, 8080));
                for machine in [&w.b1, &w.a2, &w.a1] {
                    assert_eq!(machine.hears(&at(9, 1, 8080), 0), own(1, 1));
                }
                assert_eq!(w.lan.hears(&at(9, 1, 8080), 0), own(2, 9));
                // It is the host's port that is open and not the container's.
                w.lan.is_cut_from(&at(1, 2, 80));
                w.b1.is_cut_from(&at(1, 2, 80));
                let (mut open, _) = w.lan.connect(&at(9, 1, 8080)).unwrap();
                firewall.withdraw(&ports).unwrap();
                w.lan.is_cut_from(&at(9, 1, 8080));
                assert_eq!(again(&mut open), Ok(own(2, 9)));
                // Made anew while somebody speaks: nothing is cut off.
                firewall.apply(&model()).unwrap();
                assert_eq!(again(&mut open), Ok(own(2, 9)));
            }
        });
    });
}

#[test]
fn loopback_is_the_hosts_own() {
    both(|bridged| {
        world(bridged, |w, firewall| {
            let mut model = model();
            model.ports = vec![tcp("127.0.0.1:8081", "10.1.0.2:80"), tcp("0.0.0.0:8082", "10.1.0.2:80")];
            w.host.serves("host", "127.0.0.1", 7000);
            // A neighbour, and a container, who send what is for 127.0.0.1 by way of the host.
            for (machine, gateway) in [(&w.lan, "10.9.0.1"), (&w.a2, "10.1.0.1")] {
                machine.run(move || lead_loopback_to(gateway));
            }
            // Without the table a container gets in: the bridge takes such packets.
            assert_eq!(w.a2.connect("127.0.0.1:7000").map(|(_, answer)| answer), Ok("host 10.1.0.3".into()));
            firewall.apply(&model).unwrap();
            w.a2.is_cut_from("127.0.0.1:7000");
            for machine in [&w.lan, &w.a2] {
                machine.is_cut_from("127.0.0.1:8081");
                machine.is_cut_from("127.0.0.1:8082");
            }
            for at in ["10.9.0.1:8081", "10.1.0.1:8081"] {
                w.lan.is_cut_from(at);
                w.host.is_cut_from(at);
                w.b1.is_cut_from(at);
            }
            assert_eq!(w.host.reaches("127.0.0.1:8081"), "a1 10.1.0.1");
            assert_eq!(w.host.reaches("127.0.0.1:8082"), "a1 10.1.0.1");
            assert_eq!(w.host.reaches("127.0.0.1:7000"), "host 127.0.0.1");
        });
    });
}

#[test]
fn the_sixth_versions_loopback_is_left_to_who_listens_there() {
    world(true, |w, firewall| {
        let mut model = model();
        model.ports = vec![tcp("[::]:8080", "[fd00:1::2]:80"), tcp("[::1]:8081", "[fd00:1::2]:80")];
        firewall.apply(&model).unwrap();
        for port in [8080, 8081] {
            w.host.serves("host", "::1", port);
            assert_eq!(w.host.reaches(&format!("[::1]:{port}")), "host ::1");
        }
        w.lan.is_cut_from("[fd00:9::1]:8081");
    });
}

#[test]
fn datagrams_follow_the_port_and_not_the_first_of_them() {
    world(true, |w, firewall| {
        firewall.apply(&model()).unwrap();
        for (version, at) in VERSIONS.into_iter().enumerate() {
            let ask = || w.lan.hears(&at(9, 1, 5353), 4000);
            let answer = |name| format!("{name} {}", address(version, 9, 2));
            let to = |machine| [port(Protocol::Udp, &any(version, 5353), &at(1, machine, 80), 1)];
            // Something of the host's own answers at first.
            w.host.serves("host", &address(version, 9, 1), 5353);
            assert_eq!(ask(), answer("host"));
            firewall.publish(&to(2)).unwrap();
            assert_eq!(ask(), answer("host"));
            firewall.redirect(&to(2)).unwrap();
            assert_eq!(ask(), answer("a1"));
            firewall.redirect(&to(2)).unwrap();
            firewall.withdraw(&to(2)).unwrap();
            firewall.publish(&to(3)).unwrap();
            assert_eq!(ask(), answer("a1"));
            firewall.forget(address(version, 1, 2).parse().unwrap()).unwrap();
            assert_eq!(ask(), answer("a2"));
        }
    });
}

#[test]
fn a_port_published_at_one_address_is_there_alone() {
    world(true, |w, firewall| {
        let mut model = model();
        for at in VERSIONS {
            model.ports.push(tcp(&at(9, 1, 8082), &at(1, 2, 80)));
            model.ports.push(port(Protocol::Tcp, &at(9, 1, 79), &at(1, 2, 79), 2));
            // A host with this address alone has it.
            model.ports.push(tcp(&at(8, 1, 8083), &at(1, 2, 80)));
        }
        firewall.apply(&model).unwrap();
        for (version, at) in VERSIONS.into_iter().enumerate() {
            for port in [8082, 80] {
                assert_eq!(w.lan.reaches(&at(9, 1, port)), format!("a1 {}", address(version, 9, 2)));
                w.b1.reaches(&at(9, 1, port));
                w.lan.is_cut_from(&at(1, 1, port));
                w.host.is_cut_from(&at(1, 1, port));
                w.b1.is_cut_from(&at(2, 1, port));
            }
            w.lan.is_cut_from(&at(8, 1, 8083));
        }
        w.host.is_cut_from("127.0.0.1:8082");
    });
}

#[test]
fn a_port_that_leads_into_an_internal_network_leads_nowhere() {
    world(true, |w, firewall| {
        let mut model = model();
        for (version, at) in VERSIONS.into_iter().enumerate() {
            model.ports.push(tcp(&any(version, 8080), &at(3, 2, 80)));
        }
        firewall.apply(&model).unwrap();
        for at in VERSIONS {
            w.lan.is_cut_from(&at(9, 1, 8080));
            w.a1.is_cut_from(&at(9, 1, 8080));
        }
    });
}

#[test]
fn what_says_that_it_is_from_loopback_is_dropped() {
    world(true, |w, firewall| {
        w.a1.run(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap());
        let socket = w.host.run(|| UdpSocket::bind("10.1.0.1:7000").unwrap());
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let sends = || {
            let sender = w.a1.run(|| UdpSocket::bind("127.0.0.2:0").unwrap());
            sender.send_to(b"?", "10.1.0.1:7000").unwrap();
            socket.recv_from(&mut [0; 9]).map(|(_, from)| from.ip().to_string()).ok()
        };
        assert_eq!(sends().as_deref(), Some("127.0.0.2"));
        firewall.apply(&model()).unwrap();
        assert_eq!(sends(), None);
    });
}

#[test]
fn nothing_leaves_with_an_address_that_nobody_knows() {
    world(true, |w, firewall| {
        firewall.apply(&model()).unwrap();
        // What goes on in the middle belongs to no conversation.
        w.host.run(|| std::fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", "0").unwrap());
        for (version, at) in VERSIONS.into_iter().enumerate() {
            let (mut stream, _) = w.a1.connect(&at(9, 2, 80)).unwrap();
            firewall.forget(address(version, 1, 2).parse().unwrap()).unwrap();
            stream.set_read_timeout(Some(SILENCE)).unwrap();
            again(&mut stream).unwrap_err();
        }
        let Some(rules) = w.host.run(|| nft(&["list", "chain", "inet", "corten", "out"])) else { return };
        for set in ["@masquerade4", "@masquerade6"] {
            let rule = rules.lines().find(|line| line.contains(set)).unwrap();
            assert!(rule.contains("counter packets ") && !rule.contains("packets 0 "), "{rules}");
        }
    });
}

#[test]
fn containers_that_may_not_speak_to_each_other_speak_by_published_ports() {
    world(true, |w, firewall| {
        let mut model = model();
        model.networks[0].icc = false;
        for (version, at) in VERSIONS.into_iter().enumerate() {
            model.ports.push(tcp(&any(version, 8080), &at(1, 2, 80)));
        }
        firewall.apply(&model).unwrap();
        for at in VERSIONS {
            w.a2.is_cut_from(&at(1, 2, 80));
            assert!(w.a2.reaches(&at(9, 1, 8080)).starts_with("a1"));
            assert!(w.a2.reaches(&at(9, 2, 80)).starts_with("lan"));
        }
    });
}

#[test]
fn networks_that_are_routed_or_not_protected() {
    world(true, |w, firewall| {
        let mut model = model();
        for (version, at) in VERSIONS.into_iter().enumerate() {
            model.networks[0].subnets[version].inward = Inward::Routed;
            model.networks[0].subnets[version].outward = Outward::Own;
            model.networks[1].subnets[version].inward = Inward::Unprotected;
            model.networks[1].subnets[version].outward = Outward::As(address(version, 3, 1).parse().unwrap());
            model.ports.push(Port { host: None, ..port(Protocol::Tcp, &any(version, 1), &at(1, 2, 79), 2) });
        }
        firewall.apply(&model).unwrap();
        for (version, at) in VERSIONS.into_iter().enumerate() {
            assert_eq!(w.lan.reaches(&at(1, 2, 80)), format!("a1 {}", address(version, 9, 2)));
            w.lan.is_cut_from(&at(1, 3, 80));
            assert_eq!(w.lan.asks(&at(1, 2, 80)), None);
            assert!(w.lan.echoes(&address(version, 1, 2)));
            assert!(!w.lan.echoes(&address(version, 3, 2)));
            w.lan.reaches(&at(2, 2, 80));
            assert_eq!(w.a1.reaches(&at(9, 2, 80)), format!("lan {}", address(version, 1, 2)));
            assert_eq!(w.b1.reaches(&at(9, 2, 80)), format!("lan {}", address(version, 3, 1)));
        }
    });
}

#[test]
fn a_closed_host_passes_on_only_ours() {
    world(true, |w, firewall| {
        let mut model = model();
        model.networks.truncate(1);
        firewall.apply(&model).unwrap();
        for at in VERSIONS {
            w.lan.reaches(&at(2, 2, 80));
        }
        model.closed = true;
        firewall.apply(&model).unwrap();
        for at in VERSIONS {
            w.lan.is_cut_from(&at(2, 2, 80));
            w.a1.reaches(&at(9, 2, 80));
        }
    });
}
