//! Groups that systemd makes and removes: a scope (or slice) for each container, asked for over D-Bus.
//!
//! A scope begins with a process in it, and ends when there is none. The first one in is a *holder*, a child of the creator that
//! does nothing; it goes as soon as the container's init is there. What systemd has no property for is written to the group's files,
//! and everything it has one for is written there as well, exactly; systemd is told so that it does not undo that later.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use sys::process::{self, Child, Clone, Cloned};
use sys::{proc::Proc, spawn};

use super::place::{is_ordinary, relative};
use crate::dbus::{Connection, Failure, Method, Value};
use crate::error::{Context as _, Error};

mod annotation;
mod properties;

use properties::{Host, Property};

/// How long systemd is given to start or stop a unit: as much as it gives itself for most things.
const JOB_WITHIN: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: Method<'_> = Method {
    destination: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};
const BUS: Method<'_> = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// A container's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// The runtime directory of the user whose manager it belongs to; none for the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<PathBuf>,
}

impl Unit {
    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    fn failed(&self, verb: &'static str) -> impl Fn(Failure) -> Error {
        let unit = self.name.clone();
        move |source| Error::Systemd { verb, unit: unit.clone(), source }
    }
}

/// A unit to start, and the slice that it is to lie in.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) unit: Unit,
    slice: String,
    manager: Manager,
    /// Where its group will be.
    pub(super) cgroup: PathBuf,
}

impl Plan {
    /// The unit for `linux.cgroupsPath`, which has the form `slice:prefix:name`.
    pub(super) fn new(id: &str, path: Option<&Path>) -> Result<Self, Error> {
        let user = if is_ordinary() { user_directory() } else { None };
        let (slice, name) = names(id, path.map(|p| p.to_string_lossy()).as_deref(), user.is_some())?;
        let unit = Unit { name, user };
        let mut manager = Manager::connect(&unit)?;
        let root = manager.root(&unit)?;
        let mut cgroup = root.join(expand_slice(&slice)?);
        if unit.is_slice() {
            // Where a slice lies is told by its own name.
            cgroup = root.join(expand_slice(&unit.name)?);
        } else {
            cgroup.push(&unit.name);
        }
        Ok(Self { unit, slice, manager, cgroup: Path::new("/").join(cgroup) })
    }

    /// Starts the unit, with the limits as systemd knows them.
    pub(super) fn start(
        mut self,
        id: &str,
        resources: Option<&LinuxResources>,
        annotations: &HashMap<String, String>,
        unified: bool,
    ) -> Result<Started, Error> {
        let mut list = vec![property("Description", Value::text(format!("corten container {id}")))];
        let holder = if self.unit.is_slice() {
            list.push(property("Wants", texts(&[&self.slice])));
            None
        } else {
            let holder = Holder::start()?;
            list.push(property("Slice", Value::text(&self.slice)));
            list.push(property("Delegate", Value::Bool(true)));
            let pid = Value::U32(u32::try_from(holder.0.pid).unwrap_or_default());
            list.push(property("PIDs", Value::Array("u".into(), vec![pid])));
            Some(holder)
        };
        let io = if unified { "IOAccounting" } else { "BlockIOAccounting" };
        for name in ["MemoryAccounting", "CPUAccounting", "TasksAccounting", io] {
            list.push(property(name, Value::Bool(true)));
        }
        list.push(property("DefaultDependencies", Value::Bool(false)));
        let host = self.manager.host(&self.unit, resources, unified)?;
        let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
        list.extend(properties::device_rules(rules, host)?);
        if let Some(resources) = resources {
            list.extend(properties::limits(resources, host)?);
        }
        list.extend(annotation::properties(annotations.iter())?);
        self.manager.start(&self.unit, list)?;
        let found = match &holder {
            Some(holder) => holder.group(&self.unit),
            None => self.manager.group_of_slice(&self.unit),
        };
        match found {
            Ok(cgroup) => Ok(Started { unit: self.unit, cgroup, holder, manager: self.manager }),
            Err(error) => {
                // The first error is the one to report.
                let _ = self.manager.stop(&self.unit);
                Err(error)
            }
        }
    }
}

/// A unit that has been started and waits for the container's init.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) unit: Unit,
    /// Where its group is.
    pub(super) cgroup: PathBuf,
    holder: Option<Holder>,
    manager: Manager,
}

impl Started {
    /// To be called once init is in the group: the holder goes, and the limit on processes comes, for which it would have counted.
    pub(super) fn settle(mut self, resources: Option<&LinuxResources>) -> Result<(), Error> {
        drop(self.holder.take());
        match resources.and_then(properties::tasks) {
            Some(tasks) => self.manager.set(&self.unit, vec![tasks]),
            None => Ok(()),
        }
    }
}

/// Tells systemd of new limits.
pub(super) fn update(unit: &Unit, resources: &LinuxResources, unified: bool) -> Result<(), Error> {
    let mut manager = Manager::connect(unit)?;
    let host = manager.host(unit, Some(resources), unified)?;
    let mut list = properties::limits(resources, host)?;
    list.extend(properties::tasks(resources));
    if let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) {
        list.extend(properties::device_rules(rules, host)?);
    }
    if list.is_empty() { Ok(()) } else { manager.set(unit, list) }
}

/// Has systemd put a process into the unit.
pub(super) fn attach(unit: &Unit, pid: i32) -> Result<(), Error> {
    let mut manager = Manager::connect(unit)?;
    let pid = Value::U32(u32::try_from(pid).unwrap_or_default());
    let body = vec![Value::text(&unit.name), Value::text(""), Value::Array("u".into(), vec![pid])];
    let attach = Method { member: "AttachProcessesToUnit", ..MANAGER };
    manager.connection.call(attach, body).map(drop).map_err(unit.failed("put a process into"))
}

/// Stops the unit, and has systemd forget that it failed. One that is not there is not an error, nor is a systemd that is not there.
pub(super) fn stop(unit: &Unit) -> Result<(), Error> {
    match Manager::connect(unit) {
        Err(Error::Systemd { source: Failure::Unreachable { source, .. }, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
        Ok(mut manager) => manager.stop(unit),
    }
}

fn property(name: &str, value: Value) -> Property {
    (name.to_owned(), value)
}

fn texts(texts: &[&str]) -> Value {
    Value::Array("s".into(), texts.iter().map(|text| Value::text(*text)).collect())
}

/// The runtime directory of the user that we act for.
fn user_directory() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| {
        let uid = process::effective_user();
        (uid != 0).then(|| PathBuf::from(format!("/run/user/{uid}")))
    })
}

/// The names of slice and unit.
fn names(id: &str, path: Option<&str>, user: bool) -> Result<(String, String), Error> {
    let (slice, prefix, name) = match path {
        None => ("", "corten", id),
        Some(path) => match path.split(':').collect::<Vec<_>>().as_slice() {
            [slice, prefix, name] if !name.is_empty() => (*slice, *prefix, *name),
            _ => {
                return Err(Error::Invalid(format!(
                    "linux.cgroupsPath: expected the form \"slice:prefix:name\" for a cgroup of systemd, got {path:?}"
                )));
            }
        },
    };
    let slice = match slice {
        "" if user => "user.slice",
        "" => "system.slice",
        slice => slice,
    };
    expand_slice(slice)?;
    let unit = match prefix {
        _ if name.ends_with(".slice") => name.to_owned(),
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    // It becomes a path.
    if unit.contains('/') {
        return Err(Error::Invalid(format!("linux.cgroupsPath: {unit:?} is no name of a unit")));
    }
    Ok((slice.to_owned(), unit))
}

/// Where a slice's group lies: `a-b.slice` in `a.slice/a-b.slice`.
fn expand_slice(slice: &str) -> Result<PathBuf, Error> {
    let invalid = || Error::Invalid(format!("linux.cgroupsPath: {slice:?} is no name of a slice"));
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    if name == "-" {
        return Ok(PathBuf::new());
    }
    if name.contains('/') || name.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Ok(ends.map(|end| format!("{}.slice", &name[..end])).collect())
}

/// The process that keeps a scope alive until the container's init is in it.
#[derive(Debug)]
struct Holder(Child);

impl Holder {
    fn start() -> Result<Self, Error> {
        let parent = process::id();
        let what = Clone { flags: process::CLONE_CLEAR_SIGHAND, cgroup: None };
        match process::clone(what).on("clone", "a process to hold the scope")? {
            Cloned::Parent(child) => Ok(Self(child)),
            Cloned::Child => hold(parent),
        }
    }

    /// The group that it has been put into.
    fn group(&self, unit: &Unit) -> Result<PathBuf, Error> {
        let proc = Proc::open().on("open", "/proc")?;
        let file = format!("{}/cgroup", self.0.pid);
        let text = proc.read(&file).on("read", format!("/proc/{file}"))?;
        group_in(&text, &unit.name).ok_or_else(|| {
            Error::Invalid(format!("systemd started {} and did not put a process into its cgroup", unit.name))
        })
    }
}

/// Of the lines of `/proc/PID/cgroup` those of the hierarchies that systemd looks after.
fn group_in(text: &str, unit: &str) -> Option<PathBuf> {
    let mut lines =
        text.lines().filter_map(|line| line.split_once(':').and_then(|(_, rest)| rest.split_once(':')));
    let is_unit = |path: &str| Path::new(path).file_name().is_some_and(|name| name == unit);
    let found = lines.find(|(kind, path)| matches!(*kind, "" | "name=systemd") && is_unit(path));
    found.map(|(_, path)| PathBuf::from(path)).filter(|path| relative(path).is_ok())
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It cannot have ended otherwise, and what ended is waited for just the same.
        let _ = sys::signal::send(&self.0.pidfd, 9);
        let _ = process::wait(&self.0.pidfd);
    }
}

/// The holder's life: until its creator kills it, or ends.
fn hold(parent: i32) -> ! {
    const KILL: i32 = 9;
    let tied = process::set_parent_death_signal(KILL).is_ok() && process::parent_id() == parent;
    spawn::keep_only([]);
    // Its own pidfd is readable when it ends, which is when nobody waits any more.
    if tied && let Ok(own) = process::pidfd(process::id()) {
        let _ = process::wait_ended(&own, -1);
    }
    process::exit(1)
}

/// A systemd that is talked to.
#[derive(Debug)]
struct Manager {
    connection: Connection,
}

impl Manager {
    /// Connects to systemd itself, or to the bus that it is on.
    fn connect(unit: &Unit) -> Result<Self, Error> {
        let (own, bus): ((PathBuf, &str), (PathBuf, String)) = match &unit.user {
            None => (("/run/systemd".into(), "private"), ("/run/dbus".into(), "system_bus_socket".into())),
            Some(directory) => ((directory.join("systemd"), "private"), user_bus(directory)),
        };
        let failed = unit.failed("reach systemd for");
        let first = match Connection::open(&own.0, own.1) {
            Ok(connection) => return Ok(Self { connection }),
            Err(error) => error,
        };
        match Connection::open(&bus.0, &bus.1) {
            Ok(connection) => {
                let mut manager = Self { connection };
                manager.enter_bus().map_err(&failed)?;
                Ok(manager)
            }
            // That it is not where it ought to be says more.
            Err(_) => Err(failed(first)),
        }
    }

    /// On a bus one has to say hello, and what one wants to hear of.
    fn enter_bus(&mut self) -> Result<(), Failure> {
        let rule = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        self.connection.call(Method { member: "Hello", ..BUS }, Vec::new())?;
        self.connection.call(Method { member: "AddMatch", ..BUS }, vec![Value::text(rule)])?;
        self.connection.call(Method { member: "Subscribe", ..MANAGER }, Vec::new())?;
        Ok(())
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<Value, Failure> {
        let get = Method { path, interface: "org.freedesktop.DBus.Properties", member: "Get", ..MANAGER };
        let answer = self.connection.call(get, vec![Value::text(interface), Value::text(name)])?;
        match answer.into_iter().next() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Err(crate::dbus::Malformed("a property without a value").into()),
        }
    }

    /// The group that the manager's slices lie in.
    fn root(&mut self, unit: &Unit) -> Result<PathBuf, Error> {
        let failed = unit.failed("find the cgroup of");
        match self.property(MANAGER.path, MANAGER.interface, "ControlGroup").map_err(failed)? {
            Value::Text(path) => Ok(relative(Path::new(&path)).unwrap_or_default()),
            _ => Ok(PathBuf::new()),
        }
    }

    /// What systemd it is, if that makes a difference.
    fn host(
        &mut self,
        unit: &Unit,
        resources: Option<&LinuxResources>,
        unified: bool,
    ) -> Result<Host, Error> {
        if !resources.is_some_and(properties::needs_version) {
            return Ok(Host { unified, version: 0 });
        }
        let failed = unit.failed("ask the version for");
        let version = match self.property(MANAGER.path, MANAGER.interface, "Version").map_err(failed)? {
            Value::Text(text) => parse_version(&text),
            _ => 0,
        };
        Ok(Host { unified, version })
    }

    fn start(&mut self, unit: &Unit, list: Vec<Property>) -> Result<(), Error> {
        let body = vec![
            Value::text(&unit.name),
            Value::text("replace"),
            Value::Array("(sv)".into(), list.into_iter().map(pair).collect()),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let start = Method { member: "StartTransientUnit", ..MANAGER };
        let failed = unit.failed("start");
        let answer = match self.connection.call(start, body.clone()) {
            // One of that name may have failed, and be kept to be looked at.
            Err(error) if error.is(UNIT_EXISTS) && self.forget(unit).is_ok() => {
                self.connection.call(start, body).map_err(&failed)?
            }
            other => other.map_err(&failed)?,
        };
        match self.wait(answer) {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                let _ = self.forget(unit);
                Err(Error::Invalid(format!("cannot start {}: systemd says {result:?}", unit.name)))
            }
            Err(error) => {
                // It may start yet.
                let _ = self.stop(unit);
                Err(failed(error))
            }
        }
    }

    /// Waits for the job that a call has begun, and returns what became of it.
    fn wait(&mut self, answer: Vec<Value>) -> Result<String, Failure> {
        let Some(Value::Path(job)) = answer.into_iter().next() else {
            return Err(crate::dbus::Malformed("a job without a name").into());
        };
        let deadline = Instant::now() + JOB_WITHIN;
        loop {
            let signal = self.connection.signal(deadline)?;
            if signal.member.as_deref() != Some("JobRemoved")
                || signal.interface.as_deref() != Some(MANAGER.interface)
            {
                continue;
            }
            if let [_, Value::Path(removed), _, Value::Text(result)] = signal.body.as_slice()
                && *removed == job
            {
                return Ok(result.clone());
            }
        }
    }

    fn stop(&mut self, unit: &Unit) -> Result<(), Error> {
        let failed = unit.failed("stop");
        let body = vec![Value::text(&unit.name), Value::text("replace")];
        match self.connection.call(Method { member: "StopUnit", ..MANAGER }, body) {
            Err(error) if error.is(NO_SUCH_UNIT) => return Ok(()),
            answer => {
                let answer = answer.map_err(&failed)?;
                self.wait(answer).map_err(&failed)?;
            }
        }
        match self.forget(unit) {
            Err(error) if error.is(NO_SUCH_UNIT) => Ok(()),
            other => other.map_err(failed),
        }
    }

    fn forget(&mut self, unit: &Unit) -> Result<(), Failure> {
        let reset = Method { member: "ResetFailedUnit", ..MANAGER };
        self.connection.call(reset, vec![Value::text(&unit.name)]).map(drop)
    }

    fn set(&mut self, unit: &Unit, list: Vec<Property>) -> Result<(), Error> {
        let set = Method { member: "SetUnitProperties", ..MANAGER };
        let list = Value::Array("(sv)".into(), list.into_iter().map(pair).collect());
        // Until the next boot only: a scope does not live longer.
        let body = vec![Value::text(&unit.name), Value::Bool(true), list];
        self.connection.call(set, body).map(drop).map_err(unit.failed("set properties of"))
    }

    fn group_of_slice(&mut self, unit: &Unit) -> Result<PathBuf, Error> {
        let failed = unit.failed("find the cgroup of");
        let get = Method { member: "GetUnit", ..MANAGER };
        let answer = self.connection.call(get, vec![Value::text(&unit.name)]).map_err(&failed)?;
        let Some(Value::Path(path)) = answer.into_iter().next() else {
            return Err(failed(crate::dbus::Malformed("a unit without a path").into()));
        };
        match self.property(&path, "org.freedesktop.systemd1.Slice", "ControlGroup").map_err(&failed)? {
            Value::Text(group) if relative(Path::new(&group)).is_ok() => Ok(PathBuf::from(group)),
            _ => Err(Error::Invalid(format!("{} has no cgroup", unit.name))),
        }
    }
}

fn pair((name, value): Property) -> Value {
    Value::Struct(vec![Value::Text(name), Value::Variant(Box::new(value))])
}

/// `252.39-1~deb12u1` or `v245.4-1-arch`.
fn parse_version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

/// The socket of a user's bus, from where it is told or where it usually is.
fn user_bus(directory: &Path) -> (PathBuf, String) {
    let told = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let path = told.split([';', ',']).find_map(|part| part.strip_prefix("unix:path=")).map(PathBuf::from);
    let path = path.filter(|path| path.is_absolute() && fs::metadata(path).is_ok());
    let path = path.unwrap_or_else(|| directory.join("bus"));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("bus").to_owned();
    (path.parent().unwrap_or(directory).to_owned(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_runc_names_them() {
        let name = |path, user| names("id", path, user).unwrap();
        assert_eq!(name(None, false), ("system.slice".into(), "corten-id.scope".into()));
        assert_eq!(name(None, true), ("user.slice".into(), "corten-id.scope".into()));
        assert_eq!(name(Some("a-b.slice:docker:x"), false), ("a-b.slice".into(), "docker-x.scope".into()));
        assert_eq!(name(Some("::x"), false), ("system.slice".into(), "x.scope".into()));
        assert_eq!(name(Some(":p:pod.slice"), false), ("system.slice".into(), "pod.slice".into()));
        for wrong in
            ["/a/b", "a:b", "a:b:c", "a.slice:b:", "a.slice:b:c:d", "a.slice:b/:c", "x:b:c", "a--b.slice:p:n"]
        {
            let error = names("id", Some(wrong), false).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: "), "{wrong}: {error}");
        }
    }

    #[test]
    fn slices_lie_in_each_other() {
        assert_eq!(expand_slice("a-b-c.slice").unwrap(), Path::new("a.slice/a-b.slice/a-b-c.slice"));
        assert_eq!(expand_slice("system.slice").unwrap(), Path::new("system.slice"));
        assert_eq!(expand_slice("-.slice").unwrap(), Path::new(""));
        for wrong in ["", ".slice", "a", "a-.slice", "-a.slice", "a--b.slice", "a/b.slice", "../a.slice"] {
            assert!(expand_slice(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(parse_version("252.39-1~deb12u1"), 252);
        assert_eq!(parse_version("v245.4-1-arch"), 245);
        assert_eq!(parse_version("257"), 257);
        assert_eq!(parse_version("x"), 0);
    }

    #[test]
    fn the_holders_group_must_be_the_units() {
        let text = "3:memory:/\n1:name=systemd:/system.slice/a.scope\n0::/system.slice/a.scope\n";
        assert_eq!(group_in(text, "a.scope"), Some("/system.slice/a.scope".into()));
        assert_eq!(group_in("0::/user.slice/b.scope\n", "a.scope"), None);
        assert_eq!(group_in("0::/../a.scope\n", "a.scope"), None);
    }

    #[test]
    fn a_holder_goes_when_it_is_dropped() {
        // Only a process with one thread may copy itself, and a test has several.
        let error = Holder::start().unwrap_err().to_string();
        assert_eq!(error, "cannot clone a process to hold the scope");
    }
}
