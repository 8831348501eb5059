//! Memory and speed, printed; with bounds that only a mistake exceeds.

use std::time::Instant;

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
    let begin = Instant::now();
    let script = "yes 'a line of sixty-four bytes, which is what programs tend to write' | head -c 50000000";
    let mut host = Host::running(&["/bin/sh", "-c", script], |launch| {
        let log = launch.log.as_mut().expect("log");
        log.max_size = 20 << 20;
        log.max_files = 5;
    });
    assert_eq!(host.exit().code, 0);
    let seconds = begin.elapsed().as_secs_f64();
    println!("logged 50 MB in {seconds:.3} s, {:.0} MB/s", 50.0 / seconds);
    host.gone();
}
