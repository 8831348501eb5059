//! Load over a container's life: five hundred at once, thousands one after the other, and what watching their health costs.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kit::Host;

use super::measure::{median_ms, memory_kb, processes, run};
use super::peers::{IMAGE, Peer};
use super::{Row, TIMES};
use crate::run::Result;

/// How many run at once.
const CROWD: usize = 500;
/// How many clients start them.
const LANES: usize = 8;
/// How many are made, started and removed one after the other.
const CYCLES: usize = 10_000;
/// After so many the daemon has all that it keeps for work.
const WARM: usize = 200;
/// How many are probed each second.
const PROBED: usize = 100;
/// For how long that is watched.
const WATCH: Duration = Duration::from_secs(20);

fn row(what: &str, promise: &'static str, unit: &'static str, values: Vec<(&'static str, f64)>) -> Row {
    Row { what: what.to_owned(), promise, unit, values }
}

/// Runs `what` for each number below `count`, in as many lanes as there are; the first error is told.
fn in_lanes(count: usize, what: impl Fn(usize) -> Result + Sync) -> Result {
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (what, failed) = (&what, &failed);
            scope.spawn(move || {
                for number in (lane..count).step_by(LANES) {
                    if let Err(error) = what(number)
                        && let Ok(mut failed) = failed.lock()
                    {
                        *failed = Some(error);
                    }
                }
            });
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

fn ours(peers: &[Peer]) -> Option<&Host> {
    peers.iter().find_map(|peer| match peer {
        Peer::Corten(host) => Some(host),
        _ => None,
    })
}

/// Proportional memory of the processes that an engine keeps, in kilobytes.
fn engine_kb(peer: &Peer) -> f64 {
    let pids = match peer {
        Peer::Corten(host) => host.supervisors().into_iter().chain([host.daemon_pid()]).collect(),
        // The shims name the namespace of their containerd, which has the root in its configuration.
        Peer::Docker(dockerd) => {
            let mut pids = dockerd.pids();
            pids.extend(processes("containerd-shim"));
            pids.sort_unstable();
            pids.dedup();
            pids
        }
        Peer::Podman(_) => processes("conmon"),
    };
    pids.iter().filter_map(|pid| memory_kb(*pid, "smaps_rollup", "Pss:")).sum::<u64>() as f64
}

/// Five hundred containers, started by eight clients and removed by one.
pub fn crowd(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    let names: Vec<String> = (0..CROWD).map(|number| format!("many-{number}")).collect();
    let (mut started, mut listed, mut memory, mut removed) = (vec![], vec![], vec![], vec![]);
    for peer in peers.iter().filter(|peer| !matches!(peer, Peer::Podman(_))) {
        let before = engine_kb(peer);
        let begun = Instant::now();
        in_lanes(CROWD, |number| {
            let args = ["run", "-d", "--network", "none", "--name", &names[number], IMAGE, "sleep", "100000"];
            run(&mut peer.command(&args)).map(drop)
        })?;
        started.push((peer.name(), begun.elapsed().as_secs_f64()));
        listed.push((peer.name(), median_ms(TIMES, || run(&mut peer.command(&["ps"])))?));
        memory.push((peer.name(), (engine_kb(peer) - before) / 1024.0 / CROWD as f64));
        let args: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        removed.push((peer.name(), run(&mut peer.command(&args))?.as_secs_f64()));
    }
    if let Some(host) = ours(peers) {
        no_trace(host)?;
    }
    Ok(vec![
        row("500 containers started 8 at a time, no network", "no failure", "s", started),
        row("`ps` of 500, client process", "50 ms", "ms", listed),
        row("memory of the engine for each of 500, PSS", "1.5 MiB", "MiB", memory),
        row("500 removed with one `rm -f`", "60 s, no trace", "s", removed),
    ])
}

/// Fails where anything is left of containers that are gone.
fn no_trace(host: &Host) -> Result {
    let count = |dir: &Path| fs::read_dir(dir).map_or(0, |entries| entries.flatten().count());
    let gone = || {
        let snapshots = count(&host.data_root().join("snapshots"));
        snapshots + count(&host.data_root().join("containers")) + count(&host.exec_root().join("c")) == 0
            && host.supervisors().is_empty()
            && host.mounts().is_empty()
    };
    kit::wait_for("nothing to be left", || gone().then_some(()));
    Ok(())
}

/// Descriptors and resident memory of our daemon.
fn daemon(host: &Host) -> (f64, f64) {
    let pid = host.daemon_pid();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    (open as f64, memory_kb(pid, "status", "VmRSS:").unwrap_or(0) as f64 / 1024.0)
}

/// Ten thousand made, started and removed.
pub fn cycles(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    let Some(host) = ours(peers) else { return Ok(Vec::new()) };
    let once = || -> Result {
        for args in [
            &["create", "--network", "none", "--name", "again", IMAGE, "true"][..],
            &["start", "-a", "again"],
            &["rm", "again"],
        ] {
            run(&mut peers[0].command(args))?;
        }
        Ok(())
    };
    for _ in 0..WARM {
        once()?;
    }
    let before = daemon(host);
    let begun = Instant::now();
    for _ in 0..CYCLES {
        once()?;
    }
    let took = begun.elapsed().as_secs_f64();
    no_trace(host)?;
    let after = daemon(host);
    let ours = |value| vec![("corten", value)];
    Ok(vec![
        row("10,000 times create, start, rm, each", "–", "ms", ours(took * 1e3 / CYCLES as f64)),
        row("descriptors of the daemon more than after 200", "0", "", ours(after.0 - before.0)),
        row("its resident memory more than after 200", "base line", "MB", ours(after.1 - before.1)),
    ])
}

/// Seconds of processor time of a process: its own, and of its children that have ended.
fn seconds(pid: u32) -> (f64, f64) {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = text
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0.0) / 100.0;
    (at(11) + at(12), at(13) + at(14))
}

/// A hundred containers that are probed every second: the processor time of the engine.
pub fn health(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    let Some(host) = ours(peers) else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for (what, probe) in [
        ("nothing", None),
        ("a command", Some(["--health-cmd", "true"])),
        ("a connection", Some(["--health-tcp", "127.0.0.1:80"])),
        ("a page", Some(["--health-http", "http://127.0.0.1:80/"])),
    ] {
        let names: Vec<String> = (0..PROBED).map(|number| format!("probed-{number}")).collect();
        in_lanes(PROBED, |number| {
            let mut args = vec!["run", "-d", "--network", "none", "--name", &names[number]];
            if let Some(probe) = probe {
                args.extend(probe);
                args.extend(["--health-interval", "1s"]);
            }
            // A hundred listeners that answer each: busybox's own.
            args.extend([
                IMAGE,
                "sh",
                "-c",
                "busybox mkdir -p /w; echo yes > /w/index.html; exec busybox httpd -f -p 80 -h /w",
            ]);
            run(&mut peers[0].command(&args)).map(drop)
        })?;
        std::thread::sleep(Duration::from_secs(3));
        let supervisors = host.supervisors();
        let look = || {
            let mut sums = [seconds(host.daemon_pid()).0, 0.0, 0.0];
            for pid in &supervisors {
                let (own, children) = seconds(*pid);
                sums[1] += own;
                sums[2] += children;
            }
            sums
        };
        let before = look();
        std::thread::sleep(WATCH);
        let after = look();
        let share = |index: usize| (after[index] - before[index]) * 100.0 / WATCH.as_secs_f64();
        let part = |of: &str, promise, value| Row {
            what: format!("100 containers, each second {what}: {of}"),
            promise,
            unit: "% of a core",
            values: vec![("corten", value)],
        };
        rows.push(part("daemon", "5 % with supervisors", share(0)));
        rows.push(part("supervisors", "5 % with the daemon", share(1)));
        rows.push(part("processes of the probes", "–", share(2)));
        let args: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        run(&mut peers[0].command(&args))?;
    }
    Ok(rows)
}
