//! What `nft` shows of the table.

use std::process::Command;

use network::firewall::{Firewall, Inward, Model, Outward, Port, Protocol};

use super::world::model;
use super::{port, tcp};

/// Runs a test in a network namespace of its own.
pub fn apart(test: impl FnOnce(&Firewall) + Send + 'static) {
    std::thread::spawn(|| match sys::namespace::unshare(sys::namespace::NETWORK) {
        Ok(()) => test(&Firewall::open().unwrap()),
        Err(error) => println!("skipped: a network namespace ({error})"),
    })
    .join()
    .unwrap();
}

/// What `nft` says, in the caller's network namespace; `None` where there is none.
pub fn nft(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("nft").args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: nft (not installed)");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn listed() -> Option<String> {
    nft(&["--stateless", "list", "table", "inet", "corten"])
}

/// The networks and ports of the guide.
fn example() -> Model {
    let mut model = model();
    model.networks[1].icc = false;
    model.networks[1].subnets[0].inward = Inward::Unprotected;
    model.networks[1].subnets[0].outward = Outward::As("10.9.0.1".parse().unwrap());
    model.networks[1].subnets[1].inward = Inward::Routed;
    model.networks[1].subnets[1].outward = Outward::Own;
    model.ports = vec![
        tcp("0.0.0.0:8080", "10.1.0.2:80"),
        tcp("[::]:8080", "[fd00:1::2]:80"),
        tcp("127.0.0.1:5432", "10.1.0.3:5432"),
        port(Protocol::Udp, "10.9.0.1:53", "10.1.0.3:53", 1),
        port(Protocol::Tcp, "0.0.0.0:9000", "10.1.0.2:9000", 1000),
        port(Protocol::Sctp, "[fd00:9::1]:7000", "[fd00:1::2]:7000", 2),
        Port { host: None, ..port(Protocol::Tcp, "[::]:1", "[fd00:2::2]:80", 4) },
    ];
    model
}

#[test]
fn the_guide_shows_the_table_as_it_is() {
    apart(|firewall| {
        let Some(_) = nft(&["--version"]) else { return };
        firewall.apply(&example()).unwrap();
        let is = listed().unwrap();
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/firewall.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let shown = guide.contains(&format!("```nft\n{is}```"));
        assert!(shown, "docs/guide/firewall.md shows another table than this one:\n{is}");
    });
}

#[test]
fn what_begins_and_ends_changes_elements_alone() {
    apart(|firewall| {
        firewall.apply(&Model::default()).unwrap();
        let Some(empty) = listed() else { return };
        let model = example();
        for network in &model.networks {
            firewall.add_network(network).unwrap();
            firewall.add_network(network).unwrap();
        }
        firewall.publish(&model.ports).unwrap();
        firewall.publish(&model.ports).unwrap();
        let full = listed();
        firewall.apply(&model).unwrap();
        assert_eq!(full, listed());
        for _ in 0..2 {
            firewall.withdraw(&model.ports).unwrap();
            model.networks.iter().for_each(|network| firewall.remove_network(network).unwrap());
            assert_eq!(listed().as_ref(), Some(&empty));
        }
        assert!(firewall.is_intact().unwrap());
    });
}

#[test]
fn subnets_beside_each_other_and_at_the_end_of_all_come_and_go() {
    apart(|firewall| {
        firewall.apply(&Model::default()).unwrap();
        let Some(empty) = listed() else { return };
        let nets =
            ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "255.255.255.0/24", "0.0.0.0/30", "ffff::/16"];
        let networks: Vec<_> = nets
            .iter()
            .enumerate()
            .map(|(number, net)| {
                let mut network = model().networks[0].clone();
                network.bridge = format!("br{number}");
                network.subnets.truncate(1);
                network.subnets[0].net = net.parse().unwrap();
                network
            })
            .collect();
        networks.iter().for_each(|network| firewall.add_network(network).unwrap());
        let shown = || listed().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let end = "10.0.2.0/24, 255.255.255.0/24 }";
        let all = format!("{{ 0.0.0.0/30, 10.0.0.0/24, 10.0.1.0/24, {end}");
        assert!(shown().contains(&all), "{}", shown());
        firewall.remove_network(&networks[1]).unwrap();
        let others = format!("{{ 0.0.0.0/30, 10.0.0.0/24, {end}");
        assert!(shown().contains(&others), "{}", shown());
        networks.iter().for_each(|network| firewall.remove_network(network).unwrap());
        assert_eq!(listed(), Some(empty));
    });
}

#[test]
fn a_port_that_is_taken_is_refused_and_nothing_of_the_rest_is_done() {
    apart(|firewall| {
        firewall.apply(&example()).unwrap();
        let before = listed();
        for taken in [
            tcp("0.0.0.0:8080", "10.1.0.9:80"),
            tcp("127.0.0.1:5432", "10.1.0.9:80"),
            port(Protocol::Tcp, "0.0.0.0:9500", "10.1.0.9:9500", 1000),
        ] {
            let refused = firewall.publish(&[tcp("0.0.0.0:1", "10.1.0.9:1"), taken]).unwrap_err();
            assert_eq!(refused.to_string(), "a port is published already");
            assert_eq!(listed(), before);
        }
    });
}

#[test]
fn a_thousand_ports_are_elements_and_many_thousands_go_at_once() {
    apart(|firewall| {
        let mut model = example();
        model.ports.push(port(Protocol::Tcp, "0.0.0.0:20000", "10.1.0.2:30000", 20000));
        model.ports.push(port(Protocol::Udp, "[::]:1", "[fd00:1::2]:1", 65535));
        firewall.apply(&model).unwrap();
        firewall.withdraw(&model.ports).unwrap();
        assert!(firewall.is_intact().unwrap());
        let Some(is) = listed() else { return };
        assert!(!is.contains("30000"), "{is}");
        for beyond in [
            port(Protocol::Tcp, "0.0.0.0:65535", "10.1.0.2:1", 2),
            port(Protocol::Tcp, "0.0.0.0:1", "10.1.0.2:65535", 2),
            port(Protocol::Tcp, "0.0.0.0:1", "10.1.0.2:1", 0),
        ] {
            assert!(firewall.publish(&[beyond]).unwrap_err().to_string().contains("65535"));
        }
        let mixed = firewall.publish(&[tcp("[::]:80", "10.1.0.2:80")]).unwrap_err();
        assert_eq!(mixed.to_string(), "publish :: for 10.1.0.2: an address of each version");
    });
}
