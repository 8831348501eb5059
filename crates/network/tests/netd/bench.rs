//! How fast, in what is promised: `cargo test -p network --release --test netd -- --ignored --nocapture bench`.

use std::time::Instant;

use super::host::*;

/// Answers wanted of one core in a second.
const PROMISED: f64 = 20_000.0;
/// How many queries are on their way at once.
const WINDOW: usize = 64;

/// The processor time that a process has used, in seconds.
fn used(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
#[ignore = "a measurement, for a quiet machine and optimised code"]
fn bench_answers_a_second_and_memory() {
    use std::os::fd::AsFd as _;
    Host::run(|host| {
        let started = Instant::now();
        drop(host.daemon());
        println!("netd answers {:?} after it was asked for", started.elapsed());
        let mut daemon = host.daemon();
        let netd = rustix::net::sockopt::socket_peercred(daemon.as_fd()).unwrap().pid.as_raw_pid();
        let mut guests: Vec<Guest> = (0..500).map(|_| Guest::new()).collect();
        let names: Vec<(String, String)> =
            (0..500).map(|n| (format!("web{n}"), format!("10.1.{}.{}", n / 250, n % 250))).collect();
        let ends: Vec<[&str; 1]> = names.iter().map(|(_, address)| [address.as_str()]).collect();
        let table: Vec<(&str, &[&str])> =
            names.iter().zip(&ends).map(|((name, _), end)| (name.as_str(), &end[..])).collect();
        let told = Instant::now();
        for (n, guest) in guests.iter_mut().enumerate() {
            guest.serve(&mut daemon, &format!("c{n}"), &["n1"], &[]);
            daemon.set_names(&network("n1", &table[..=n])).unwrap();
        }
        println!("500 containers told of in {:?}", told.elapsed());
        let rate = measure(&guests[0], netd, "web250", 400_000);
        assert!(rate > PROMISED);
        let upstream = Upstream::new(Manner::Good, 7, 300);
        let mut outside = container("c0", &["n1"]);
        outside.upstreams = vec![upstream.address];
        daemon.serve(&outside, None).unwrap();
        measure(&guests[0], netd, "example.com", 200_000);
        assert_eq!(upstream.asked(), [1, 0]);
        let upstream = Upstream::new(Manner::Good, 7, 0);
        outside.upstreams = vec![upstream.address];
        daemon.serve(&outside, None).unwrap();
        measure(&guests[0], netd, "example.com", 50_000);
    });
}

/// Asks for a name so often, and says how fast it was answered by the processor time that netd has used.
fn measure(guest: &Guest, netd: i32, name: &str, count: usize) -> f64 {
    let socket = guest.datagrams();
    let message = query(name, A, None);
    let (since, before) = (Instant::now(), used(netd));
    let mut answer = [0; 512];
    for asked in 0..count + WINDOW {
        if asked < count {
            socket.send(&message).unwrap();
        }
        if asked >= WINDOW {
            let length = socket.recv(&mut answer).unwrap();
            assert_eq!((length, answer[3] & 15), (message.len() + 16, 0));
        }
    }
    let (wall, processor) = (since.elapsed().as_secs_f64(), used(netd) - before);
    let status = std::fs::read_to_string(format!("/proc/{netd}/status")).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let rate = count as f64 / processor;
    let by_clock = count as f64 / wall;
    println!("{name}: {by_clock:.0} answers a second, {rate:.0} for each second of one core; {resident}");
    rate
}
