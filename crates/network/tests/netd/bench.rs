//! How fast, in what is promised: `cargo test -p network --release --test netd -- --ignored --nocapture bench`.

use std::time::Instant;

use super::host::*;

/// Answers wanted of one core in a second.
const PROMISED: f64 = 20_000.0;

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
    const ASKED: usize = 400_000;
    const WINDOW: usize = 64;
    Host::run(|host| {
        drop(host.daemon());
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
        let socket = guests[0].datagrams();
        let message = query("web250", A, None);
        let (since, before) = (Instant::now(), used(netd));
        let mut answer = [0; 512];
        for asked in 0..ASKED + WINDOW {
            if asked < ASKED {
                socket.send(&message).unwrap();
            }
            if asked >= WINDOW {
                assert_eq!(socket.recv(&mut answer).unwrap(), 40);
            }
        }
        let (wall, processor) = (since.elapsed().as_secs_f64(), used(netd) - before);
        let status = std::fs::read_to_string(format!("/proc/{netd}/status")).unwrap();
        let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        let rate = ASKED as f64 / processor;
        println!(
            "{:.0} answers a second, {rate:.0} for each second of one core; {resident}",
            ASKED as f64 / wall
        );
        assert!(rate > PROMISED);
    });
}
