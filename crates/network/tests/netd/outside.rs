//! Names that servers outside know.

use std::io::Write as _;
use std::time::{Duration, Instant};

use network::dns::Container;

use super::host::*;

#[test]
fn other_names_go_outside_and_are_kept() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let (mut one, mut two) = (Guest::new(), Guest::new());
        let upstream = Upstream::new(Manner::Good, 7, 60);
        let other = Upstream::new(Manner::Good, 8, 60);
        one.serve(&mut daemon, "c1", &["n1"], &[&upstream]);
        two.serve(&mut daemon, "c2", &["n1"], &[&other]);
        let answer = one.ask("example.com", A);
        assert_eq!((answer.code(), answer.addresses()), (0, vec!["192.0.2.7".to_owned()]));
        let again = one.ask("EXAMPLE.com", A);
        assert!(again.records()[0].1 <= 60 && again.0[12..24] == *b"\x07EXAMPLE\x03com");
        assert_eq!(upstream.asked(), [1, 0], "the second time it was known");
        assert_eq!(
            two.ask("example.com", A).addresses(),
            ["192.0.2.8"],
            "what another server has said is not its word"
        );
        let brief = Upstream::new(Manner::Good, 9, 0);
        daemon.serve(&Container { upstreams: vec![brief.address], ..container("c1", &[]) }, None).unwrap();
        assert_eq!(one.ask("example.com", A).addresses(), ["192.0.2.9"]);
        assert_eq!(one.ask("example.com", A).addresses(), ["192.0.2.9"]);
        assert_eq!(brief.asked(), [2, 0], "what holds for no time is not kept");
    });
}

#[test]
fn streams_are_asked_by_streams_and_where_datagrams_are_too_short() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        let upstream = Upstream::new(Manner::Cut, 7, 0);
        guest.serve(&mut daemon, "c1", &[], &[&upstream]);
        let mut stream = guest.stream();
        stream.write_all(&framed(&query("example.com", A, None))).unwrap();
        assert_eq!(Answer(read_framed(&mut stream).unwrap()).addresses(), ["192.0.2.7"]);
        assert_eq!(upstream.asked(), [0, 1]);
        let answer = guest.ask("example.org", A);
        assert!(!answer.is_cut());
        assert_eq!(answer.addresses(), ["192.0.2.7"]);
        assert_eq!(upstream.asked(), [1, 2]);
    });
}

#[test]
fn lies_are_not_believed() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        let upstream = Upstream::new(Manner::Lying, 7, 60);
        guest.serve(&mut daemon, "c1", &[], &[&upstream]);
        for _ in 0..2 {
            assert_eq!(guest.ask("example.com", A).addresses(), ["192.0.2.7"]);
        }
    });
}

#[test]
fn all_servers_are_tried() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        let failing = Upstream::new(Manner::Failing, 1, 0);
        let silent = Upstream::new(Manner::Silent, 2, 0);
        let good = Upstream::new(Manner::Good, 7, 0);
        guest.serve(&mut daemon, "c1", &[], &[&failing, &silent, &good]);
        let since = Instant::now();
        assert_eq!(guest.ask("example.com", A).addresses(), ["192.0.2.7"]);
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        assert_eq!((failing.asked()[0], silent.asked()[0]), (1, 1));
        // One that was silent is not waited for a second time.
        let since = Instant::now();
        assert_eq!(guest.ask("example.org", A).addresses(), ["192.0.2.7"]);
        assert!(since.elapsed() < Duration::from_millis(900), "{:?}", since.elapsed());
        assert_eq!((failing.asked()[0], silent.asked()[0]), (2, 1));
        // That there is no such name is an answer, and nobody else is asked.
        let empty = Upstream::new(Manner::Empty, 3, 0);
        let upstreams = vec![empty.address, good.address];
        daemon.serve(&Container { upstreams, ..container("c1", &[]) }, None).unwrap();
        let before = good.asked();
        assert_eq!(guest.ask("example.net", A).code(), 3);
        assert_eq!(good.asked(), before);
    });
}

#[test]
fn where_nobody_answers_it_is_said_before_the_asker_gives_up() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        let silent = Upstream::new(Manner::Silent, 2, 0);
        guest.serve(&mut daemon, "c1", &[], &[&silent]);
        let since = Instant::now();
        assert_eq!(guest.ask("example.com", A).code(), 2);
        assert!(since.elapsed() < Duration::from_secs(7) && silent.asked()[0] == 2, "{:?}", since.elapsed());
        // Where nothing listens that is known at once; and what has failed is said as it was.
        let failing = Upstream::new(Manner::Failing, 1, 0);
        let upstreams = vec!["127.0.0.1:1".parse().unwrap(), failing.address];
        daemon.serve(&Container { upstreams, ..container("c1", &[]) }, None).unwrap();
        let since = Instant::now();
        assert_eq!(guest.ask("example.com", A).code(), 2);
        assert!(since.elapsed() < Duration::from_millis(900), "{:?}", since.elapsed());
    });
}

#[test]
fn nothing_leaves_an_internal_network() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        let upstream = Upstream::new(Manner::Good, 7, 60);
        let inside =
            Container { outside: false, upstreams: vec![upstream.address], ..container("c1", &["n1"]) };
        daemon.serve(&inside, guest.sockets.take().as_ref()).unwrap();
        daemon.set_names(&network("n1", &[("web", &["10.1.0.2"])])).unwrap();
        assert_eq!(guest.ask("web", A).addresses(), ["10.1.0.2"]);
        assert_eq!(guest.ask("nobody", A).code(), 3);
        assert_eq!(guest.ask("example.com", A).code(), 2);
        assert_eq!(guest.ask("2.0.0.10.in-addr.arpa", 12).code(), 3);
        let mut stream = guest.stream();
        stream.write_all(&framed(&query("secret.example.com", 16, Some(4096)))).unwrap();
        assert_eq!(Answer(read_framed(&mut stream).unwrap()).code(), 2);
        assert_eq!(upstream.asked(), [0, 0]);
    });
}

#[test]
fn what_is_being_asked_is_not_asked_again() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let (mut one, mut two) = (Guest::new(), Guest::new());
        let late = Upstream::new(Manner::Late, 7, 60);
        one.serve(&mut daemon, "c1", &[], &[&late]);
        two.serve(&mut daemon, "c2", &[], &[&late]);
        // Who asked first goes, and each of the others has its answer all the same.
        let (first, second) = (one.datagrams(), two.datagrams());
        first.send(&query("example.com", A, None)).unwrap();
        let since = Instant::now();
        while late.asked() != [1, 0] {
            assert!(since.elapsed() < LONG);
        }
        for number in 0..10 {
            let mut message = query("Example.com", A, None);
            message[1] = number;
            second.send(&message).unwrap();
        }
        // They have been taken when this is answered.
        second.send(&query("example.com", 252, None)).unwrap();
        let mut answer = [0; 512];
        second.recv(&mut answer).unwrap();
        assert_eq!((late.asked(), answer[3] & 15), ([1, 0], 5));
        daemon.forget("c1").unwrap();
        let mut numbers: Vec<u8> = (0..10)
            .map(|_| {
                let length = second.recv(&mut answer).unwrap();
                assert_eq!(answer[length - 4..length], [192, 0, 2, 7]);
                assert_eq!(&answer[13..20], b"Example");
                answer[1]
            })
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10));
        assert_eq!(late.asked(), [2, 0]);
    });
}

#[test]
fn who_asks_too_much_keeps_nobody_else_waiting() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let (mut greedy, mut modest) = (Guest::new(), Guest::new());
        let silent = Upstream::new(Manner::Silent, 1, 0);
        let good = Upstream::new(Manner::Good, 7, 0);
        greedy.serve(&mut daemon, "c1", &[], &[&silent]);
        modest.serve(&mut daemon, "c2", &[], &[&good]);
        let socket = greedy.datagrams();
        // More than it may have out; the first beyond that is told so.
        let mut refused = [0; 512];
        for n in 0..500 {
            socket.send(&query(&format!("x{n}.example.com"), A, None)).unwrap();
        }
        assert!(socket.recv(&mut refused).unwrap() > 12 && refused[3] & 15 == 2);
        let since = Instant::now();
        for n in 0..20 {
            assert_eq!(modest.ask(&format!("y{n}.example.com"), A).addresses(), ["192.0.2.7"]);
        }
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        assert!(silent.asked()[0] <= 128);
    });
}

#[test]
fn connections_are_bounded_and_damage_ends_them() {
    Host::run(|host| {
        let mut daemon = host.daemon();
        let mut guest = Guest::new();
        guest.serve(&mut daemon, "c1", &["n1"], &[]);
        daemon.set_names(&network("n1", &[("web", &["10.1.0.2"])])).unwrap();
        for damage in [framed(b"short"), vec![0xFF, 0xFF, 0], framed(&[0x80; 40])] {
            let mut stream = guest.stream();
            stream.write_all(&damage).unwrap();
            assert!(read_framed(&mut stream).is_err());
        }
        let ask = |stream: &mut std::net::TcpStream| {
            stream.write_all(&framed(&query("web", A, None)))?;
            read_framed(stream)
        };
        let mut open: Vec<_> = (0..40).map(|_| guest.stream()).collect();
        let answered = open.iter_mut().filter_map(|stream| ask(stream).ok()).count();
        assert_eq!(answered, 32);
        // Datagrams go on, and connections too once there is room.
        assert_eq!(guest.ask("web", A).addresses(), ["10.1.0.2"]);
        drop(open);
        let since = Instant::now();
        while ask(&mut guest.stream()).is_err() {
            assert!(since.elapsed() < LONG);
        }
    });
}
