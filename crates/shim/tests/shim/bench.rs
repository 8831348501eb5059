//! Memory and speed, printed; with bounds that only a mistake exceeds.

use std::io::{Read, Write};
use std::time::Instant;

use shim::wire::{Message, Streams, Target};

use crate::host::{Host, able};

#[test]
fn memory_of_an_idle_shim() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |_| {});
    host.control.status();
    let active = (host.memory("Rss"), host.memory("Private_Dirty"));
    // It gives memory back by itself a second later; there is no event to wait for.
    let mut rounds = 0;
    while host.memory("Rss") >= active.0 && rounds < 100 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        rounds += 1;
    }
    let idle = (host.memory("Rss"), host.memory("Private_Dirty"));
    println!("shim, KiB (resident, private): at work {active:?}, idle {idle:?}");
    // The stand-in is a debug build; the promise is kept by the supervisor's own profile.
    assert!(idle.0 < 4096 && idle.1 < 1024, "{idle:?}");
}

#[test]
fn speed_of_logging() {
    if !able() {
        return;
    }
    let line = "yes 'a line of sixty-four bytes, which is what programs tend to write'";
    let script = format!("{line} | head -c 200000000; echo done >&2; read x");
    let (mut host, answer) = Host::launch(&["/bin/sh", "-c", &script], |launch| {
        launch.start_now = false;
        launch.open_stdin = true;
        let log = launch.log.as_mut().expect("log");
        log.max_size = 20 << 20;
        log.max_files = 5;
    });
    assert!(matches!(answer, Message::Ready { .. }), "{answer:?}");
    let mut client = host.attach(Target::Init, Streams { stdin: true, stdout: false, stderr: true });
    let begin = Instant::now();
    host.control.ask(Message::Start);
    let mut done = [0; 13];
    client.read_exact(&mut done).expect("done");
    let seconds = begin.elapsed().as_secs_f64();
    // What the shim itself used, which other work on the machine does not change.
    let used =
        std::fs::read_to_string(format!("/proc/{}/schedstat", host.pid.as_raw_nonzero())).expect("schedstat");
    let used = used.split(' ').next().expect("first").parse::<f64>().expect("number") / 1e9;
    println!(
        "logged 200 MB: {:.0} MB/s by the clock, {:.0} MB/s by the shim's own time",
        200.0 / seconds,
        200.0 / used
    );
    client.write_all(b"\n").expect("input");
    assert_eq!(host.exit().code, 0);
    host.gone();
}

/// What the children of this process, and theirs, have used of a processor, in milliseconds.
fn children_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("name").1.split(' ').collect();
    // Fields 16 and 17, counted in hundredths of a second.
    [fields[13], fields[14]].iter().map(|field| field.parse::<u64>().expect("ticks") * 10).sum()
}

#[test]
fn speed_of_starting() {
    const ROUNDS: u64 = 100;
    if !able() {
        return;
    }
    let (begin, before) = (Instant::now(), children_ms());
    for _ in 0..ROUNDS {
        let mut host = Host::running(&["/bin/true"], |_| {});
        assert_eq!(host.exit().code, 0);
        host.gone();
    }
    let milliseconds = begin.elapsed().as_secs_f64() * 1000.0 / ROUNDS as f64;
    let used = (children_ms() - before) as f64 / ROUNDS as f64;
    println!("from launch to end: {milliseconds:.2} ms by the clock, {used:.2} ms of a processor");
}
