//! `state`, `list`, `ps` and `features`.

use std::fs;
use std::io;

use serde_json::{Value, json};
use sys::proc::Proc;

use super::arguments::{Arguments, Flag};
use super::{Global, show};
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
    show(format_args!("{:#}", describe(&container)))
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
            // One that is damaged must not hide the others.
            Err(error) => super::warn(global, &error),
        }
    }
    containers.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    if options.take("quiet") {
        return containers.iter().try_fold(0, |_, c| show(&c.record.id));
    }
    match options.value("format").as_deref() {
        None | Some("table") => show_table(&containers),
        Some("json") => show(Value::from(containers.iter().map(describe).collect::<Vec<_>>())),
        Some(other) => Err(Error::Invalid(format!("invalid format option {other:?}"))),
    }
}

fn show_table(containers: &[Container]) -> Result<i32, Error> {
    let [id, pid, status, bundle, created] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED"];
    show(format_args!("{id:<24} {pid:<8} {status:<9} {bundle:<32} {created:<32} OWNER"))?;
    for container in containers {
        let record = &container.record;
        let pid = if container.status == Status::Stopped { 0 } else { container.init.pid };
        let (status, bundle) = (container.status.word(), record.bundle.display().to_string());
        let (id, created) = (&record.id, &record.created);
        show(format_args!("{id:<24} {pid:<8} {status:<9} {bundle:<32} {created:<32} root"))?;
    }
    Ok(0)
}

pub(super) fn ps(global: &Global, arguments: Vec<String>) -> Result<i32, Error> {
    let options = Arguments::parse(arguments, &[Flag::value("format").short('f')])?;
    let format = options.value("format");
    let id = options.only("container id")?;
    let container = Container::open(&id, &global.state_dir(&id)?)?;
    let mut pids = container.cgroup()?.pids()?;
    pids.sort_unstable();
    match format.as_deref() {
        Some("json") => show(json!(pids)),
        None | Some("table") => {
            let proc = Proc::open().on("open", "/proc")?;
            show(format_args!("{:<8} {:<8} {:<8} {:<5} CMD", "UID", "PID", "PPID", "STATE"))?;
            pids.iter().filter_map(|pid| process_line(&proc, *pid)).try_fold(0, |_, line| show(line))
        }
        Some(other) => Err(Error::Invalid(format!("invalid format option {other:?}"))),
    }
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
    show(format_args!("{:#}", features::document()))
}
