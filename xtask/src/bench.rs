//! `cargo xtask bench`: the promises of SPECIFICATION.md beside what is measured now, and the peers in the same run.
//!
//! It prints and never asserts: times on shared machines drift, ratios in one run hardly do.

mod builds;
mod images;
mod life;
mod measure;
mod network;
mod peers;
mod runtime;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kit::Host;

use measure::{median_ms, memory_kb, run};
use peers::{IMAGE, Peer};

use crate::machine;
use crate::run::{Result, cargo, root, show};

/// How often short things are repeated.
const TIMES: usize = 41;
/// How many containers the crowd has.
const CROWD: usize = 100;

/// One line of the table.
struct Row {
    what: String,
    promise: &'static str,
    unit: &'static str,
    values: Vec<(&'static str, f64)>,
}

/// A benchmark of all engines, with a directory for what it needs.
type Measure = fn(&[Peer], &Path) -> Result<Vec<Row>>;

/// Runs the benchmarks whose name contains one of `names`, or all.
pub fn bench(names: &[String]) -> Result {
    machine::install(machine::FOR_TESTS)?;
    machine::install(machine::FOR_BENCH)?;
    show(&cargo(), &["build", "--release", "--package", "corten"])?;
    let binary = target_dir().join("release/corten");
    // The tests' host runs the binary that is named here; this process has no other threads yet.
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = if Path::new("/sys/fs/cgroup/unified").exists() {
        // crun refuses a hybrid hierarchy whose second half has controllers. All engines are measured without it.
        println!("/sys/fs/cgroup/unified is taken away for the engines measured, which crun asks for");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"");
        command.arg(this);
        command
    } else {
        Command::new(this)
    };
    let status = command
        .arg("bench-with")
        .args(names)
        .env("CORTEN_BIN", binary)
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err("a benchmark failed".to_owned()) }
}

pub use network::turns;

/// The second half of [`bench`], with `CORTEN_BIN` in the environment.
pub fn bench_with(names: &[String]) -> Result {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| name.contains(given.as_str()));
    println!("| what | promise | corten | peers (ratio of corten to them) |\n| --- | --- | --- | --- |");
    let all: [(&str, Measure); 10] = [
        ("run", bench_run),
        ("client", bench_client),
        ("exec", bench_exec),
        ("runtime", runtime::bench),
        ("crowd", bench_crowd),
        ("memory", bench_memory),
        ("logs", bench_logs),
        ("health", life::health),
        ("many", life::crowd),
        ("cycles", life::cycles),
    ];
    let chosen: Vec<Measure> =
        all.iter().filter(|(name, _)| wanted(name)).map(|(_, measure)| *measure).collect();
    if !chosen.is_empty() {
        let peers = peers::start(directory.path())?;
        for measure in chosen {
            print(&measure(&peers, directory.path())?);
        }
    }
    if wanted("network") {
        network::bench(directory.path())?;
    }
    if wanted("restart") {
        print(&bench_restart()?);
    }
    if wanted("build") {
        builds::bench(directory.path())?;
    }
    if wanted("images") {
        let of: Vec<String> =
            names.iter().filter(|name| !"images".contains(name.as_str())).cloned().collect();
        images::bench(directory.path(), &of)?;
    }
    Ok(())
}

fn target_dir() -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    base.join("x86_64-unknown-linux-gnu")
}

/// Prints rows of a table in Markdown, ready for SPECIFICATION.md.
fn print(rows: &[Row]) {
    for row in rows {
        let own = row.values.iter().find(|(name, _)| *name == "corten").map_or(f64::NAN, |(_, value)| *value);
        let peers = row.values.iter().filter(|(name, _)| *name != "corten");
        let peers: Vec<String> = peers
            .map(|(name, value)| format!("{name} {value:.1} {} ({:.2})", row.unit, own / value))
            .collect();
        println!("| {} | {} | {own:.1} {} | {} |", row.what, row.promise, row.unit, peers.join(", "));
    }
}

/// The same command line on each engine.
fn each(
    peers: &[Peer],
    what: impl Into<String>,
    promise: &'static str,
    mut measure: impl FnMut(&Peer) -> Result<f64>,
) -> Result<Row> {
    let values = peers.iter().map(|peer| Ok((peer.name(), measure(peer)?))).collect::<Result<Vec<_>>>()?;
    Ok(Row { what: what.into(), promise, unit: "ms", values })
}

fn bench_run(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    let args = ["run", "--rm", "--network", "none", IMAGE, "true"];
    let row = each(peers, "`run --rm --network none IMAGE true`, whole client process", "5.4 ms", |peer| {
        median_ms(TIMES, || run(&mut peer.command(&args)))
    })?;
    Ok(vec![row])
}

fn bench_client(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in ["ps", "version"] {
        let what = format!("`{name}`, client process");
        rows.push(each(peers, what, "1 ms", |peer| median_ms(TIMES, || run(&mut peer.command(&[name]))))?);
    }
    Ok(rows)
}

fn bench_exec(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    let row = each(peers, "`exec` of `true`", "3.3 ms", |peer| {
        run(&mut peer.command(&[
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            "bench-exec",
            IMAGE,
            "sleep",
            "1000",
        ]))?;
        let median = median_ms(TIMES, || run(&mut peer.command(&["exec", "bench-exec", "true"])));
        run(&mut peer.command(&["rm", "-f", "bench-exec"]))?;
        median
    })?;
    Ok(vec![row])
}

fn bench_crowd(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    crowd(peers, &["--network", "none"], "no network")
}

/// A hundred containers, started eight at a time and removed by one command.
fn crowd(peers: &[Peer], flags: &[&str], what: &str) -> Result<Vec<Row>> {
    let names: Vec<String> = (0..CROWD).map(|number| format!("crowd-{number}")).collect();
    let mut removed = Vec::new();
    let mut memory = Vec::new();
    let started = each(peers, format!("100 containers started 8 at a time, {what}"), "0.6 s", |peer| {
        let started = Instant::now();
        let failed = std::sync::Mutex::new(None);
        std::thread::scope(|scope| {
            for lane in 0..8 {
                let (names, failed) = (&names, &failed);
                scope.spawn(move || {
                    for name in names.iter().skip(lane).step_by(8) {
                        let mut args = vec!["run", "-d", "--name", name];
                        args.extend(flags);
                        args.extend([IMAGE, "sleep", "1000"]);
                        if let Err(error) = run(&mut peer.command(&args))
                            && let Ok(mut failed) = failed.lock()
                        {
                            *failed = Some(error);
                        }
                    }
                });
            }
        });
        if let Ok(Some(error)) = failed.into_inner() {
            return Err(error);
        }
        let took = started.elapsed();
        if let Peer::Corten(host) = peer {
            memory = crowd_memory(host);
        }
        let mut args = vec!["rm", "-f"];
        args.extend(names.iter().map(String::as_str));
        // podman gives each its ten seconds to stop unless told otherwise.
        if matches!(peer, Peer::Podman(_)) {
            args.extend(["-t", "0"]);
        }
        removed.push((peer.name(), run(&mut peer.command(&args))?.as_secs_f64() * 1e3));
        Ok(took.as_secs_f64() * 1e3)
    })?;
    let removed = Row {
        what: "the same removed with one `rm -f`".to_owned(),
        promise: "0.6 s",
        unit: "ms",
        values: removed,
    };
    let mut rows = vec![started, removed];
    rows.extend(memory);
    Ok(rows)
}

/// What each of our supervisors costs while all run.
fn crowd_memory(host: &Host) -> Vec<Row> {
    let pids = host.supervisors();
    let mean = |file, field| {
        let values: Vec<u64> = pids.iter().filter_map(|pid| memory_kb(*pid, file, field)).collect();
        values.iter().sum::<u64>() as f64 / values.len().max(1) as f64
    };
    let row = |what: &str, promise, value| Row {
        what: what.to_owned(),
        promise,
        unit: "kB",
        values: vec![("corten", value)],
    };
    vec![
        row("supervisor of a running container, RSS", "1 MB", mean("smaps_rollup", "Rss:")),
        row(
            "the same, private",
            "0.5 MB",
            mean("smaps_rollup", "Private_Dirty:") + mean("smaps_rollup", "Private_Clean:"),
        ),
        row("the same, PSS", "–", mean("smaps_rollup", "Pss:")),
    ]
}

fn bench_memory(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    let values = peers.iter().filter_map(|peer| {
        let pids = match peer {
            Peer::Corten(host) => vec![host.daemon_pid()],
            Peer::Docker(dockerd) => dockerd.pids(),
            Peer::Podman(_) => return None,
        };
        let sum: u64 = pids.iter().filter_map(|pid| memory_kb(*pid, "status", "VmRSS:")).sum();
        Some((peer.name(), sum as f64 / 1024.0))
    });
    let values = values.collect();
    Ok(vec![Row {
        what: "daemon after the runs above, RSS".to_owned(),
        promise: "15 MB idle",
        unit: "MB",
        values,
    }])
}

/// 200 MB of short lines written by a container, and read back.
fn bench_logs(peers: &[Peer], _: &Path) -> Result<Vec<Row>> {
    // `yes` alone takes longer than the engine: fifty times the same four megabytes cost the writer next to nothing.
    const SCRIPT: &str = "yes 'a line as long as log lines are, more or less' | head -c 4000000 > /dev/shm/lines; \
        for i in $(seq 50); do cat /dev/shm/lines; done";
    let rate = |took: Duration| 200.0 / took.as_secs_f64();
    let (mut written, mut read) = (Vec::new(), Vec::new());
    for peer in peers {
        let mut args = vec!["run", "--network", "none", "--name", "bench-logs"];
        args.extend(match peer {
            Peer::Podman(_) => ["--log-driver", "k8s-file"],
            _ => ["--log-opt", "max-size=1g"],
        });
        args.extend(["-d", IMAGE, "sh", "-c", SCRIPT]);
        let started = Instant::now();
        run(&mut peer.command(&args))?;
        run(&mut peer.command(&["wait", "bench-logs"]))?;
        written.push((peer.name(), rate(started.elapsed())));
        read.push((peer.name(), rate(run(&mut peer.command(&["logs", "bench-logs"]))?)));
        run(&mut peer.command(&["rm", "-f", "bench-logs"]))?;
    }
    let row = |what: &str, values| Row { what: what.to_owned(), promise: "500 MB/s", unit: "MB/s", values };
    Ok(vec![row("a container writing 200 MB of short log lines", written), row("reading them back", read)])
}

/// The daemon killed with a hundred containers running: how long until the next one answers, with all of them there.
fn bench_restart() -> Result<Vec<Row>> {
    let mut host = Host::new();
    host.give(&kit::fixtures::busybox(), IMAGE);
    for _ in 0..CROWD {
        host.corten(["run", "-d", "--network", "none", IMAGE, "sleep", "1000"]).ok();
    }
    host.kill_daemon();
    let started = Instant::now();
    host.start_daemon();
    let running = host.corten(["ps", "-q"]).ok().lines().count();
    let took = started.elapsed();
    if running != CROWD {
        return Err(format!("{running} of {CROWD} containers were adopted"));
    }
    let values = vec![("corten", took.as_secs_f64() * 1e3)];
    Ok(vec![Row {
        what: "daemon killed with 100 running, until `ps` lists them".to_owned(),
        promise: "1 s",
        unit: "ms",
        values,
    }])
}
