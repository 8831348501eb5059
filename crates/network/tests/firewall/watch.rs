//! Others who change packet filters.

use std::process::Command;
use std::sync::LazyLock;

use network::firewall::{Fate, Packet};

use super::listing::{apart, nft};
use super::tcp;
use super::world::model;

#[test]
fn what_others_do_to_the_table_is_seen_and_put_right() {
    apart(|firewall| {
        let Some(_) = nft(&["--version"]) else { return };
        assert!(!firewall.is_intact().unwrap());
        let watch = firewall.watch().unwrap();
        let port = tcp("0.0.0.0:8080", "10.1.0.2:80");
        // Ours is not told; this is the first of somebody else.
        firewall.apply(&model()).unwrap();
        firewall.publish(&[port]).unwrap();
        nft(&["add table ip other"]);
        let change = watch.next().unwrap();
        assert_eq!((change.ours, change.process.as_str()), (false, "nft"));
        assert!(firewall.is_intact().unwrap());
        for (done, intact) in [
            ("flush ruleset", false),
            ("flush chain inet corten forward", false),
            ("add rule inet corten into accept", false),
            ("add chain inet corten more", false),
            ("delete table inet corten; add table inet corten", false),
            ("delete element inet corten ports4 { tcp . 8080 }", true),
        ] {
            nft(&[done]);
            assert!(watch.next().unwrap().ours, "{done}");
            assert_eq!(firewall.is_intact().unwrap(), intact, "{done}");
            let mut model = model();
            model.ports.push(port);
            model.closed = done.starts_with('d');
            firewall.apply(&model).unwrap();
            assert!(firewall.is_intact().unwrap());
        }
        nft(&["delete table inet corten"]);
        assert_eq!(
            firewall.publish(&[port]).unwrap_err().to_string(),
            "the packet filters were changed by someone else"
        );
        firewall.withdraw(&[port]).unwrap_err();
    });
}

/// What comes from outside for a published port, and what begins within.
fn packets(bridge: &str) -> [Packet<'_>; 2] {
    static OURS: LazyLock<Vec<String>> = LazyLock::new(|| vec!["br-a".to_owned(), "br-b".to_owned()]);
    let into = Packet {
        v6: false,
        from: None,
        to: Some(bridge),
        new: true,
        dnat: true,
        port: Some((6, 80)),
        ours: &OURS,
    };
    [into, Packet { from: Some(bridge), to: None, dnat: false, port: None, ..into }]
}

#[test]
fn chains_of_others_that_drop_are_found_and_let_through_what_they_are_told_to() {
    apart(|firewall| {
        firewall.apply(&model()).unwrap();
        let drops = || {
            let foreign = firewall.foreign().unwrap();
            packets("br-a").map(|packet| {
                foreign.drops(&packet).into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            })
        };
        assert_eq!(drops(), ["", ""]);
        let made = nft(&["add table inet fw
            add chain inet fw plain { type filter hook forward priority 10; }
            add rule inet fw plain tcp dport 81 drop
            add chain inet fw input { type filter hook input priority 10; policy drop; }
            add chain inet fw lead { type filter hook forward priority 20; }
            add chain inet fw further
            add rule inet fw lead ct state established,related accept
            add rule inet fw lead jump further
            add rule inet fw further counter reject with icmpx admin-prohibited
            add table ip filter
            add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }
            add table ip6 filter
            add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }
            add table ip raw
            add chain ip raw last { type filter hook forward priority 1; }
            add rule ip raw last counter log drop"]);
        let Some(_) = made else { return };
        let all = "inet fw lead, ip filter FORWARD, ip raw last";
        assert_eq!(drops(), [all, all]);
        for chain in firewall.foreign().unwrap().drops(&packets("br-a")[0]) {
            for command in chain.allow("br-a") {
                let mut words = command.split(' ');
                match words.next().unwrap() {
                    "nft" => drop(nft(&[command.strip_prefix("nft ").unwrap()]).unwrap()),
                    program => assert!(Command::new(program).args(words).status().unwrap().success()),
                }
            }
        }
        assert_eq!(drops(), ["", ""], "{:?}", nft(&["list ruleset"]));
        // What is for another network is not let through, nor is what is of the other version.
        let foreign = firewall.foreign().unwrap();
        assert_eq!(foreign.drops(&packets("br-b")[0]).len(), 3);
        let six = Packet { v6: true, ..packets("br-a")[0] };
        assert_eq!(foreign.drops(&six).len(), 1);
        // What goes on is let through by the chain's first rule, which it finds whatever it is written in.
        let more = Packet { new: false, ..packets("br-b")[1] };
        let still: Vec<_> = foreign.drops(&more).into_iter().map(ToString::to_string).collect();
        assert_eq!(still, ["ip filter FORWARD", "ip raw last"]);
    });
}

#[test]
fn what_depends_on_more_than_is_known_is_not_called_dropped() {
    apart(|firewall| {
        firewall.apply(&model()).unwrap();
        let [into, out] = packets("br-a");
        for (rules, expected) in [
            ("ip saddr 10.0.0.0/8 accept", Fate::Depends),
            ("iifname \"eth0\" accept", Fate::Depends),
            ("iifname != \"br-a\" oifname \"br-*\" accept", Fate::Passes),
            ("tcp dport 80 accept", Fate::Passes),
            ("tcp dport 81 accept", Fate::Drops),
            ("ct status dnat accept", Fate::Passes),
            ("ct state vmap { established : accept, related : accept, invalid : drop }", Fate::Drops),
            ("ct state vmap { new : accept, established : accept, invalid : drop }", Fate::Passes),
            ("ct state { new, established } accept", Fate::Passes),
            ("ct state { established, related } accept", Fate::Drops),
            ("ct state != { established, related } accept", Fate::Passes),
            ("meta nfproto ipv6 accept", Fate::Drops),
            ("oifname { br-x, br-y } accept", Fate::Depends),
            ("limit rate 1/second accept", Fate::Depends),
            ("ip saddr 10.0.0.0/8 return; accept", Fate::Depends),
        ] {
            let made = nft(&[&format!(
                "table inet fw {{ chain it {{ type filter hook forward priority 0; policy drop; {rules}; }}; }}"
            )]);
            let Some(_) = made else { return };
            let foreign = firewall.foreign().unwrap();
            assert_eq!(foreign.fate(&into).map(|(fate, _)| fate), Some(expected), "{rules}");
            nft(&["delete table inet fw"]);
        }
        assert_eq!(firewall.foreign().unwrap().fate(&out), None);
    });
}

/// Chains as `iptables` makes them, and as Docker and ufw have them.
#[test]
fn chains_of_iptables_are_read_and_their_makers_known() {
    apart(|firewall| {
        firewall.apply(&model()).unwrap();
        let run = |line: &str| {
            let mut words = line.split(' ');
            Command::new(words.next().unwrap()).args(words).status().is_ok_and(|status| status.success())
        };
        if !run("iptables-nft -P FORWARD DROP") {
            println!("SKIPPED [iptables-nft]");
            return;
        }
        let [into, out] = packets("br-a");
        let allow = |packet: &Packet<'_>| {
            let foreign = firewall.foreign().unwrap();
            foreign.drops(packet).first().map(|chain| chain.allow("br-a"))
        };
        assert_eq!(allow(&into).unwrap()[0], "iptables -I FORWARD -o br-a -j ACCEPT");
        assert!(run("iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
        let more = Packet { new: false, ..out };
        assert_eq!(firewall.foreign().unwrap().fate(&more).map(|(fate, _)| fate), Some(Fate::Passes));
        assert!(allow(&into).is_some());
        assert!(run("iptables-nft -N DOCKER-USER") && run("iptables-nft -I FORWARD -j DOCKER-USER"));
        assert_eq!(allow(&into).unwrap()[0], "iptables -I DOCKER-USER -o br-a -j ACCEPT");
        assert!(run("iptables-nft -F FORWARD") && run("iptables-nft -N ufw-before-forward"));
        assert!(run("iptables-nft -A FORWARD -j ufw-before-forward"));
        let ufw = ["ufw route allow out on br-a", "ufw route allow in on br-a"].map(str::to_owned);
        assert_eq!(allow(&into).unwrap(), ufw);
        // As `ufw route allow` writes it.
        assert!(run("iptables-nft -A ufw-before-forward -o br-a -j ACCEPT"));
        assert_eq!(allow(&into), None);
        assert_eq!(allow(&out).unwrap(), ufw);
    });
}
