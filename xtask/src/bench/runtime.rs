//! The runtime alone, by its command line, beside crun and runc: time, memory and system calls of the same bundle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::measure::run;
use super::peers::{IMAGE, Peer};
use super::{Row, TIMES};
use crate::run::Result;

const PROMISE: &str = "at most crun's";

/// A runtime with the words that call it.
struct Runtime {
    name: &'static str,
    words: Vec<String>,
    root: PathBuf,
}

impl Runtime {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg("--root").arg(&self.root).args(args);
        command
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// All of it. The bundle's root is the one that the peers' image was made from.
pub fn bench(peers: &[Peer], directory: &Path) -> Result<Vec<Row>> {
    let bundle = directory.join("bundle");
    fs::create_dir_all(&bundle).map_err(text)?;
    let corten = kit::binary().display().to_string();
    let words = [
        ("corten", vec![corten, "runtime".into()]),
        ("crun", vec!["crun".into()]),
        ("runc", vec!["runc".into()]),
    ];
    let runtimes =
        words.map(|(name, words)| Runtime { name, words, root: directory.join(format!("{name}.state")) });
    let plain = plain_config(&bundle, &directory.join("rootfs"))?;
    let limited = with_limits(plain.clone());
    let filtered = with_seccomp(limited.clone(), peers)?;
    let mut rows = Vec::new();
    for (what, config) in [
        ("`runtime run` of a bundle", &plain),
        ("the same with every namespace and limits", &limited),
        ("the same with the default seccomp profile as well", &filtered),
    ] {
        write(&bundle, config)?;
        rows.push(row(what, "ms", times(&runtimes, |runtime, number| once(runtime, &bundle, number))?));
    }
    rows.push(row("… its memory at most", "MB", memory(&runtimes, &bundle)?));
    rows.push(row("… system calls in all", "calls", calls(&runtimes, &bundle)?));
    rows.push(row("`runtime exec` of `true` in that container", "ms", exec(&runtimes, &bundle, filtered)?));
    Ok(rows)
}

fn row(what: &str, unit: &'static str, values: Vec<(&'static str, f64)>) -> Row {
    Row { what: what.to_owned(), promise: PROMISE, unit, values }
}

fn write(bundle: &Path, config: &Value) -> Result<()> {
    fs::write(bundle.join("config.json"), config.to_string()).map_err(text)
}

/// What crun writes as an example, so that it is nobody's own idea of what is fast.
fn plain_config(bundle: &Path, rootfs: &Path) -> Result<Value> {
    run(Command::new("crun").arg("spec").current_dir(bundle))?;
    let example = fs::read_to_string(bundle.join("config.json")).map_err(text)?;
    let mut config: Value = serde_json::from_str(&example).map_err(text)?;
    config["root"]["path"] = rootfs.display().to_string().into();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["/bin/true"]);
    Ok(config)
}

/// A user and a cgroup namespace beside those of the example; a time namespace is beyond Debian's runc and crun.
fn with_limits(mut config: Value) -> Value {
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|n| n["type"] != "user" && n["type"] != "cgroup");
        namespaces.extend([json!({"type": "user"}), json!({"type": "cgroup"})]);
    }
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["resources"] = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 100},
    });
    config
}

/// The profile that the engine gives its containers: read from the configuration of one.
fn with_seccomp(mut config: Value, peers: &[Peer]) -> Result<Value> {
    let own = peers.iter().find_map(|peer| match peer {
        Peer::Corten(host) => Some((peer, host)),
        _ => None,
    });
    let (peer, host) = own.ok_or("our own engine is not among the peers")?;
    let name = "bench-profile";
    run(&mut peer.command(&["run", "-d", "--network", "none", "--name", name, IMAGE, "sleep", "1000"]))?;
    let containers = fs::read_dir(host.exec_root().join("c")).map_err(text)?;
    let configs = containers.flatten().filter_map(|entry| fs::read(entry.path().join("config.json")).ok());
    let profile = configs
        .filter_map(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .map(|config| config["linux"]["seccomp"].clone())
        .find(Value::is_object);
    run(&mut peer.command(&["rm", "-f", name]))?;
    config["linux"]["seccomp"] = profile.ok_or("the engine's container has no seccomp profile")?;
    Ok(config)
}

fn id(runtime: &Runtime, number: usize) -> String {
    format!("bench-{}-{number}", runtime.name)
}

fn once(runtime: &Runtime, bundle: &Path, number: usize) -> Result<Duration> {
    run(runtime.command(&["run", "--bundle"]).arg(bundle).arg(id(runtime, number)))
}

/// Medians in milliseconds; the runtimes take turns, so that what else the machine does falls on all alike.
fn times(
    runtimes: &[Runtime],
    once: impl Fn(&Runtime, usize) -> Result<Duration>,
) -> Result<Vec<(&'static str, f64)>> {
    let mut taken: Vec<Vec<Duration>> = runtimes.iter().map(|_| Vec::new()).collect();
    for number in 0..TIMES {
        for (runtime, taken) in runtimes.iter().zip(&mut taken) {
            taken.push(once(runtime, number)?);
        }
    }
    let median = |mut taken: Vec<Duration>| {
        taken.sort_unstable();
        taken[taken.len() / 2].as_secs_f64() * 1e3
    };
    Ok(runtimes.iter().zip(taken).map(|(runtime, taken)| (runtime.name, median(taken))).collect())
}

/// The most memory that the runtime, or a process that it made and waited for, had resident. Measured by a small program between: a child
/// begins with what its parent has, and that counts as its own.
fn memory(runtimes: &[Runtime], bundle: &Path) -> Result<Vec<(&'static str, f64)>> {
    let measure = |runtime: &Runtime| {
        let peak = bundle.join("peak");
        let plain = runtime.command(&["run", "--bundle"]);
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%M", "-o"]).arg(&peak).arg(plain.get_program()).args(plain.get_args());
        run(command.arg(bundle).arg(id(runtime, 0)))?;
        let kilobytes: f64 = fs::read_to_string(&peak).map_err(text)?.trim().parse().map_err(text)?;
        Ok((runtime.name, kilobytes / 1024.0))
    };
    runtimes.iter().map(measure).collect()
}

/// All system calls of all its processes, as strace counts them.
fn calls(runtimes: &[Runtime], bundle: &Path) -> Result<Vec<(&'static str, f64)>> {
    let measure = |runtime: &Runtime| {
        let counts = bundle.join("counts");
        let plain = runtime.command(&["run", "--bundle"]);
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&counts).arg(plain.get_program()).args(plain.get_args());
        run(command.arg(bundle).arg(id(runtime, 0)))?;
        let table = fs::read_to_string(&counts).map_err(text)?;
        let total =
            table.lines().rev().find(|line| line.ends_with("total")).ok_or("strace counted nothing")?;
        let calls = total.split_whitespace().nth(3).and_then(|n| n.parse().ok());
        Ok((runtime.name, calls.ok_or_else(|| format!("strace says {total:?}"))?))
    };
    runtimes.iter().map(measure).collect()
}

fn exec(runtimes: &[Runtime], bundle: &Path, mut config: Value) -> Result<Vec<(&'static str, f64)>> {
    config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    write(bundle, &config)?;
    for runtime in runtimes {
        // Not through pipes: the container keeps them, and their end would be waited for.
        let mut command = runtime.command(&["run", "--detach", "--bundle"]);
        command.arg(bundle).arg(id(runtime, 0)).stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.stderr(Stdio::null()).status().map_err(text)?;
        if !status.success() {
            return Err(format!("{command:?}: {status}"));
        }
    }
    let measured = times(runtimes, |runtime, _| {
        let started = Instant::now();
        run(&mut runtime.command(&["exec", &id(runtime, 0), "/bin/true"]))?;
        Ok(started.elapsed())
    });
    for runtime in runtimes {
        run(&mut runtime.command(&["delete", "--force", &id(runtime, 0)]))?;
    }
    measured
}
