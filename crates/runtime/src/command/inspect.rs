//! `state`, `list`, `ps`, `spec` and `features`.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use sys::proc::Proc;

use super::Global;
use super::arguments::{Arguments, Flag};
use crate::capabilities::CapabilitySet;
use crate::error::{Context as _, Error};
use crate::features;
use crate::lifecycle::{Container, Status};
use crate::state::OCI_VERSION;

fn describe(container: &Container) -> Value {
    let record = &container.record;
    json!({
        "ociVersion": OCI_VERSION,
        "id": record.id,
        "pid": if container.status == Status::Stopped { 0 } else { container.init.pid },
        "status": container.status.word(),
        "bundle": record.bundle,
        "created": record.created,
        "owner": "root",
        "annotations": record.annotations,
    })
}

pub(super) fn state(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let id = Arguments::parse(arguments, &[])?.only("container id")?;
    let container = Container::open(&id, &global.state_dir(&id)?)?;
    println!("{:#}", describe(&container));
    Ok(0)
}

pub(super) fn list(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let flags = [Flag::value("format").short('f'), Flag::switch("quiet").short('q')];
    let mut options = Arguments::parse(arguments, &flags)?;
    let mut containers = Vec::new();
    let entries = match fs::read_dir(&global.root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.on("list", &global.root)?),
    };
    for entry in entries.into_iter().flatten() {
        let entry = entry.on("list", &global.root)?;
        let Ok(id) = entry.file_name().into_string() else { continue };
        match Container::open(&id, &entry.path()) {
            Ok(container) => containers.push(container),
            // Made or deleted at this moment.
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    containers.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    if options.take("quiet") {
        containers.iter().for_each(|c| println!("{}", c.record.id));
        return Ok(0);
    }
    match options.value("format").as_deref() {
        None | Some("table") => print_table(&containers),
        Some("json") => println!("{}", Value::from(containers.iter().map(describe).collect::<Vec<_>>())),
        Some(other) => return Err(Error::Invalid(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

fn print_table(containers: &[Container]) {
    println!("{:<24} {:<8} {:<9} {:<32} {:<32} OWNER", "ID", "PID", "STATUS", "BUNDLE", "CREATED");
    for container in containers {
        let record = &container.record;
        let pid = if container.status == Status::Stopped { 0 } else { container.init.pid };
        let (status, bundle) = (container.status.word(), record.bundle.display().to_string());
        println!("{:<24} {pid:<8} {status:<9} {bundle:<32} {:<32} root", record.id, record.created);
    }
}

pub(super) fn ps(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let options = Arguments::parse(arguments, &[Flag::value("format").short('f')])?;
    let format = options.value("format");
    let id = options.only("container id")?;
    let container = Container::open(&id, &global.state_dir(&id)?)?;
    let mut pids = container.cgroup()?.pids()?;
    pids.sort_unstable();
    match format.as_deref() {
        Some("json") => println!("{}", json!(pids)),
        None | Some("table") => {
            let proc = Proc::open().on("open", "/proc")?;
            println!("{:<8} {:<8} {:<8} {:<5} CMD", "UID", "PID", "PPID", "STATE");
            pids.iter().filter_map(|pid| process_line(&proc, *pid)).for_each(|line| println!("{line}"));
        }
        Some(other) => return Err(Error::Invalid(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

/// A line about a process; none if it has ended meanwhile.
fn process_line(proc: &Proc, pid: i32) -> Option<String> {
    let status = proc.read(format!("{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let command = proc.read(format!("{pid}/cmdline")).ok()?;
    let command = match command.trim_end_matches('\0') {
        "" => format!("[{}]", field("Name:")?),
        // What a program calls itself must not reach the terminal as control sequences.
        line => line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
    };
    Some(format!("{:<8} {pid:<8} {:<8} {:<5} {command}", field("Uid:")?, field("PPid:")?, field("State:")?))
}

pub(super) fn features(arguments: Vec<String>) -> Result<i32, Error> {
    if !Arguments::parse(arguments, &[])?.rest().is_empty() {
        return Err(Error::Invalid("features takes no arguments".into()));
    }
    println!("{:#}", features::document());
    Ok(0)
}

pub(super) fn spec(arguments: Vec<String>) -> Result<i32, Error> {
    let flags = [Flag::value("bundle").short('b'), Flag::switch("rootless")];
    let mut options = Arguments::parse(arguments, &flags)?;
    if options.take("rootless") {
        return Err(Error::Unsupported("--rootless".into()));
    }
    let path = options.value("bundle").map_or_else(PathBuf::new, PathBuf::from).join("config.json");
    let text = format!("{:#}\n", example());
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())).on("create", &path)?;
    Ok(0)
}

/// A configuration to start from: a shell, with little right to anything.
fn example() -> Value {
    let few = CapabilitySet::from_bits(1 << 29 | 1 << 5 | 1 << 10).names();
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": few, "effective": few, "permitted": few},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "corten",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
