//! Others who change packet filters.

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

#[test]
fn chains_of_others_that_drop_are_found() {
    apart(|firewall| {
        firewall.apply(&model()).unwrap();
        assert_eq!(firewall.foreign_drops().unwrap(), []);
        let made = nft(&["add table inet fw
            add chain inet fw plain { type filter hook forward priority 10; }
            add rule inet fw plain tcp dport 80 drop
            add chain inet fw input { type filter hook input priority 10; policy drop; }
            add chain inet fw lead { type filter hook forward priority 20; }
            add rule inet fw lead ct state established accept
            add rule inet fw lead counter reject with icmpx admin-prohibited
            add table ip filter
            add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }
            add chain ip filter second { type filter hook forward priority 1; }
            add rule ip filter second counter log drop"]);
        let Some(_) = made else { return };
        let found: Vec<_> = firewall.foreign_drops().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["inet fw lead", "ip filter FORWARD", "ip filter second"]);
        for command in firewall.foreign_drops().unwrap()[1].allow("br-a") {
            nft(&[command.strip_prefix("nft ").unwrap()]);
        }
        let rules = nft(&["list chain ip filter FORWARD"]).unwrap();
        assert!(
            rules.contains("oifname \"br-a\" accept") && rules.contains("iifname \"br-a\" accept"),
            "{rules}"
        );
    });
}
