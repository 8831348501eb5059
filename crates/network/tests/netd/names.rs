//! Names of containers.

use std::io::Write as _;
use std::process::Command;

use network::dns::{Container, Name};

use super::host::*;

#[test]
fn names_are_answered_by_datagrams_and_streams() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        guest.serve(&mut daemon, "c1", &["n1"], &[]);
        daemon
            .set_names(&network("n1", &[("web", &["10.1.0.2", "fd01::2"]), ("old", &["10.1.0.3"])]))
            .unwrap();
        assert_eq!(guest.ask("web", A).records(), [("10.1.0.2".parse().unwrap(), 600)]);
        assert_eq!(guest.ask("web.front", AAAA).addresses(), ["fd01::2"]);
        let empty = guest.ask("old", AAAA);
        assert_eq!((empty.code(), empty.addresses().len()), (0, 0));
        // Several on one connection, all of them before the first answer is read; the first in two pieces.
        let mut stream = guest.stream();
        let first = framed(&query("web", A, None));
        stream.write_all(&first[..7]).unwrap();
        let rest =
            [&first[7..], &framed(&query("old", A, None)), &framed(&query("web", AAAA, Some(1232)))].concat();
        stream.write_all(&rest).unwrap();
        for expected in ["10.1.0.2", "10.1.0.3", "fd01::2"] {
            assert_eq!(Answer(read_framed(&mut stream).unwrap()).addresses(), [expected]);
        }
        // What is told is the whole of it.
        daemon.set_names(&network("n1", &[("web", &["10.1.0.9"])])).unwrap();
        assert_eq!(guest.ask("web", A).addresses(), ["10.1.0.9"]);
        assert_eq!(guest.ask("old", A).code(), 2);
        daemon.forget_network("n1").unwrap();
        assert_eq!(guest.ask("web", A).code(), 2);
    });
}

#[test]
fn what_is_too_long_for_a_datagram_comes_by_a_stream() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        guest.serve(&mut daemon, "c1", &["n1"], &[]);
        let many: Vec<String> = (0..200).map(|n| format!("10.1.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        daemon.set_names(&network("n1", &[("many", &many)])).unwrap();
        let plain = guest.ask("many", A);
        assert!(plain.is_cut() && plain.0.len() <= 512 && plain.addresses().len() == 30);
        let longer = guest.try_ask(&query("many", A, Some(1232))).unwrap();
        assert!(longer.is_cut() && longer.0.len() <= 1232 && longer.addresses().len() == 74);
        let whole = guest.try_ask(&query("many", A, Some(4096))).unwrap();
        assert!(!whole.is_cut() && whole.addresses().len() == 200);
        let mut stream = guest.stream();
        stream.write_all(&framed(&query("many", A, None))).unwrap();
        let whole = Answer(read_framed(&mut stream).unwrap());
        assert!(!whole.is_cut() && whole.addresses().len() == 200);
    });
}

#[test]
fn a_container_sees_its_own_networks_alone_and_may_move() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let (mut one, mut two) = (Guest::new(), Guest::new());
        one.serve(&mut daemon, "c1", &["n1"], &[]);
        two.serve(&mut daemon, "c2", &["n2"], &[]);
        daemon.set_names(&network("n1", &[("web", &["10.1.0.2"])])).unwrap();
        daemon.set_names(&network("n2", &[("db", &["10.2.0.2"])])).unwrap();
        assert_eq!((one.ask("web", A).code(), two.ask("web", A).code()), (0, 2));
        assert_eq!((one.ask("db", A).code(), two.ask("db", A).code()), (2, 0));
        let link = Name { name: "link".into(), addresses: vec!["10.2.0.2".parse().unwrap()] };
        let both = Container { own: vec![link], ..container("c1", &["n1", "n2"]) };
        daemon.serve(&both, None).unwrap();
        assert_eq!(one.ask("db", A).addresses(), ["10.2.0.2"]);
        assert_eq!(one.ask("link", A).addresses(), ["10.2.0.2"]);
        assert_eq!(two.ask("link", A).code(), 2);
        let refused = daemon.serve(&container("c3", &[]), None).unwrap_err();
        assert_eq!(refused.to_string(), "netd: container c3 has no sockets here yet");
    });
}

/// The resolver of another's making.
#[test]
fn nslookup_understands_all_of_it() {
    if Command::new("busybox").arg("true").status().is_err() {
        println!("skipped: there is no busybox");
        return;
    }
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::at(53);
        let upstream = Upstream::new(Manner::Good, 7, 60);
        guest.serve(&mut daemon, "c1", &["n1"], &[&upstream]);
        daemon.set_names(&network("n1", &[("web", &["10.1.0.2", "10.1.0.3", "fd01::2"])])).unwrap();
        let look_up = |arguments: &[&str]| {
            let run = || Command::new("busybox").arg("nslookup").args(arguments).arg("127.0.0.11").output();
            let output = guest.namespace.run(run).unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let (ok, said) = look_up(&["web"]);
        assert!(
            ok && ["10.1.0.2", "10.1.0.3", "fd01::2"].iter().all(|address| said.contains(address)),
            "{said}"
        );
        for address in ["10.1.0.3", "fd01::2"] {
            let (ok, said) = look_up(&[address]);
            assert!(ok && said.contains("name = web.front"), "{said}");
        }
        let (ok, said) = look_up(&["-type=a", "example.com"]);
        assert!(ok && said.contains("192.0.2.7"), "{said}");
        let inside = Container { outside: false, ..container("c1", &["n1"]) };
        daemon.serve(&inside, None).unwrap();
        let (ok, said) = look_up(&["-type=a", "example.com"]);
        assert!(!ok && said.contains("SERVFAIL"), "{said}");
        let (ok, said) = look_up(&["-type=a", "nobody"]);
        assert!(!ok && said.contains("NXDOMAIN"), "{said}");
    });
}
