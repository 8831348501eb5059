//! Many containers at once, and many after each other: small versions of `cargo xtask bench many cycles`.

use std::fs;
use std::path::Path;
use std::thread;

use kit::{Host, wait_for};

/// How many run at once.
const CROWD: usize = 64;
/// How many clients start them.
const LANES: usize = 8;
/// How many are made, started and removed one after the other, and after how many the daemon has all it keeps for work.
const CYCLES: usize = 150;
const WARM: usize = 50;

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, |entries| entries.flatten().count())
}

/// Nothing is left of containers that are gone.
fn assert_no_trace(host: &Host) {
    for dir in
        [host.data_root().join("containers"), host.data_root().join("snapshots"), host.exec_root().join("c")]
    {
        wait_for("nothing to be left", || (count(&dir) == 0).then_some(()));
    }
    wait_for("the supervisors to be gone", || host.supervisors().is_empty().then_some(()));
    wait_for("the cgroups to be gone", || {
        host.cgroups().iter().all(|parent| children(parent) == 0).then_some(())
    });
    assert_eq!(host.mounts(), Vec::<String>::new());
}

fn children(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, |entries| entries.flatten().filter(|entry| entry.path().is_dir()).count())
}

/// Proportional memory in kilobytes.
fn proportional(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or(0)
}

/// Memory of its own in kilobytes: what it shares with other daemons of the program varies with their number.
fn anonymous(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or(0)
}

#[test]
fn a_crowd_is_started_by_eight_and_leaves_no_trace() {
    let host = Host::with_busybox();
    host.corten(["run", "--rm", "--network", "none", "busybox", "true"]).ok();
    let daemon = anonymous(host.daemon_pid());
    thread::scope(|scope| {
        for lane in 0..LANES {
            let host = &host;
            scope.spawn(move || {
                for number in (lane..CROWD).step_by(LANES) {
                    let name = format!("crowd-{number}");
                    host.corten([
                        "run",
                        "-d",
                        "--network",
                        "none",
                        "--name",
                        &name,
                        "busybox",
                        "sleep",
                        "1000",
                    ])
                    .ok();
                }
            });
        }
    });
    assert_eq!(host.corten(["ps", "-q"]).ok().lines().count(), CROWD);
    let supervisors = host.supervisors();
    assert_eq!(supervisors.len(), CROWD);
    // A second after the last work a supervisor gives back what work needs.
    let each = || {
        let supervisors: u64 = supervisors.iter().map(|pid| proportional(*pid)).sum();
        (supervisors + anonymous(host.daemon_pid()).saturating_sub(daemon)) / CROWD as u64
    };
    wait_for("the engine to need less than 1.5 MiB for each", || (each() < 1536).then_some(()));
    let names: Vec<String> = (0..CROWD).map(|number| format!("crowd-{number}")).collect();
    host.corten(["rm", "-f"]).args(&names).ok();
    assert_no_trace(&host);
}

#[test]
fn many_after_each_other_leave_the_daemon_as_it_was() {
    let host = Host::with_busybox();
    let once = || {
        host.corten(["create", "--network", "none", "--name", "again", "busybox", "true"]).ok();
        host.corten(["start", "-a", "again"]).ok();
        host.corten(["rm", "again"]).ok();
    };
    let descriptors = || count(Path::new(&format!("/proc/{}/fd", host.daemon_pid())));
    for _ in 0..WARM {
        once();
    }
    assert_no_trace(&host);
    let before = (descriptors(), anonymous(host.daemon_pid()));
    for _ in 0..CYCLES {
        once();
    }
    assert_no_trace(&host);
    // A connection that has just been closed may still be there for a moment.
    wait_for("the descriptors to be as many as before", || (descriptors() <= before.0).then_some(()));
    let after = anonymous(host.daemon_pid());
    // 20 kB for each would be 3 MB: what an allocator keeps varies by less.
    assert!(after < before.1 + 20 * CYCLES as u64, "{} kB, before {} kB", after, before.1);
}
