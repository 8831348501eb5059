//! Real packets: who reaches whom.

use network::firewall::{Inward, Outward, Port, Protocol};

use super::world::{again, lead_loopback_to, model, world};
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
                    assert_eq!(inside.asks(&at(9, 2, 80)), Some(format!("lan {}", address(version, 9, 1))));
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
                    w.i1.is_cut_from(&at(3, 1, port));
                    w.i1.is_cut_from(&at(9, 1, port));
                }
                for machine in [&w.b1, &w.a2, &w.a1] {
                    assert_eq!(machine.asks(&at(9, 1, 8080)), Some(own(1, 1)));
                }
                assert_eq!(w.lan.asks(&at(9, 1, 8080)), Some(own(2, 9)));
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
