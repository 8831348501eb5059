//! firewalld: where it runs, the bridges are in a zone of ours, which lets everything through: who gets into a network is decided by our
//! own packet filters. It is told over D-Bus, again whenever it starts or loads its rules anew.
//!
//! The zone `corten`, and the policy `corten-forwarding` for what is routed into it, are in its permanent configuration, as it has no
//! others; which bridges are in the zone is said at run time alone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use network::bridge;
use runtime::dbus::{Connection, Failure, Method, Value};

use super::{Networks, join};

/// Where the bus is, if nobody says otherwise.
const BUS: &str = "/run/dbus/system_bus_socket";
/// Who says otherwise, as for all programs that speak D-Bus.
const BUS_VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";
const FIREWALLD: &str = "org.fedoraproject.FirewallD1";
const ZONE: &str = "corten";
const POLICY: &str = "corten-forwarding";
/// How long it is waited until the bus is asked for again, after it went or where it is not there yet.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How long a signal is waited for in one go.
const LISTEN_FOR: Duration = Duration::from_secs(3600);

/// What firewalld was told.
#[derive(Debug, Default)]
pub(super) struct Firewalld {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody listens to it.
    begun: bool,
    /// It runs, and has our zone.
    there: bool,
    /// The bridges in the zone.
    joined: BTreeSet<String>,
}

impl Firewalld {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to listen, in a thread that ends with the process: it only ever waits for the bus.
    pub(super) fn begin(&self, networks: Weak<Networks>) {
        if std::mem::replace(&mut self.state().begun, true) {
            return;
        }
        let started = thread::Builder::new().name("firewalld".into()).spawn(move || {
            while networks.strong_count() > 0 {
                match follow(&networks) {
                    Ok(()) => {}
                    Err(Failure::Unreachable { .. }) => {
                        tracing::debug!("there is no bus to ask for firewalld");
                    }
                    Err(error) => tracing::warn!(%error, "firewalld cannot be asked"),
                }
                if let Some(networks) = networks.upgrade() {
                    networks.firewalld.gone();
                }
                thread::sleep(AGAIN_AFTER);
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot listen to firewalld");
        }
    }

    fn gone(&self) {
        let mut state = self.state();
        state.there = false;
        state.joined.clear();
    }

    /// A bridge is there: it joins the zone, if there is one.
    pub(super) fn join(&self, bridge: &str) {
        let mut state = self.state();
        if !state.there || state.joined.contains(bridge) {
            return;
        }
        match connect().and_then(|mut bus| put(&mut bus, bridge)) {
            Ok(()) => drop(state.joined.insert(bridge.to_owned())),
            Err(error) => tracing::warn!(bridge, %error, "firewalld does not take a bridge into our zone"),
        }
    }

    /// A bridge is no more.
    pub(super) fn leave(&self, bridge: &str) {
        let mut state = self.state();
        if !state.joined.remove(bridge) {
            return;
        }
        let arguments = vec![Value::text(ZONE), Value::text(bridge)];
        let left = connect().and_then(|mut bus| bus.call(method("zone", "removeInterface"), arguments));
        if let Err(error) = left {
            tracing::warn!(bridge, %error, "firewalld keeps a bridge in our zone that is no more");
        }
    }
}

/// Listens until there is nobody to listen to any more, and has all bridges in the zone whenever firewalld comes or begins anew.
fn follow(networks: &Weak<Networks>) -> Result<(), Failure> {
    let mut bus = connect()?;
    for rule in [
        format!("type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{FIREWALLD}'"),
        format!("type='signal',sender='{FIREWALLD}',interface='{FIREWALLD}',member='Reloaded'"),
    ] {
        bus.call(of_bus("AddMatch"), vec![Value::text(rule)])?;
    }
    // Anybody on the bus may send a signal to us: it is firewalld's if it has the name that the bus knows firewalld by.
    let mut owner = match bus.call(of_bus("GetNameOwner"), vec![Value::text(FIREWALLD)]) {
        Ok(body) => text(body.first()),
        Err(Failure::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    let mut tell = owner.is_some();
    loop {
        let Some(all) = networks.upgrade() else { return Ok(()) };
        if tell && let Err(error) = settle(&mut bus, &all) {
            tracing::warn!(%error, "firewalld does not take our zone");
        }
        drop(all);
        tell = match bus.signal(Instant::now() + LISTEN_FOR) {
            Ok(signal) => match signal.member.as_deref() {
                Some("Reloaded") => {
                    owner.is_some()
                        && signal.sender == owner
                        && signal.interface.as_deref() == Some(FIREWALLD)
                }
                Some("NameOwnerChanged")
                    if signal.sender.as_deref() == Some(BUS)
                        && text(signal.body.first()).as_deref() == Some(FIREWALLD) =>
                {
                    owner = text(signal.body.get(2));
                    if let (None, Some(all)) = (&owner, networks.upgrade()) {
                        all.firewalld.gone();
                    }
                    owner.is_some()
                }
                _ => false,
            },
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::TimedOut => false,
            Err(error) => return Err(error),
        };
    }
}

/// A text that is not empty.
fn text(value: Option<&Value>) -> Option<String> {
    match value {
        Some(Value::Text(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// Sees to it that firewalld has our zone and our policy, and has the bridges of all networks in it.
fn settle(bus: &mut Connection, networks: &Networks) -> Result<(), Failure> {
    // Nobody else joins while it is not known whether there is a zone.
    let mut state = networks.firewalld.state();
    (state.there, state.joined) = (false, BTreeSet::new());
    if !is_ours(bus)? {
        tracing::debug!("firewalld is in another network namespace, and none of our concern");
        return Ok(());
    }
    let zones = bus.call(method("zone", "getZones"), vec![])?;
    let policies = bus.call(method("policy", "getPolicies"), vec![])?;
    let mut added = false;
    if !names(&zones, ZONE) {
        added |= add(bus, "addZone2", ZONE, vec![])?;
    }
    if !names(&policies, POLICY) {
        let from = ("ingress_zones", list("ANY"));
        added |= add(bus, "addPolicy", POLICY, vec![from, ("egress_zones", list(ZONE))])?;
    }
    if added {
        // What is permanent is there once it has begun anew: it tells so, and then this is done again.
        bus.call(method("", "reload"), vec![])?;
        return Ok(());
    }
    state.there = true;
    for bridge in networks.bridges().into_iter().filter(|bridge| is_device(bridge)) {
        match put(bus, &bridge) {
            Ok(()) => drop(state.joined.insert(bridge)),
            Err(error) => tracing::warn!(bridge, %error, "firewalld does not take a bridge into our zone"),
        }
    }
    tracing::info!(bridges = state.joined.len(), "firewalld has our bridges in its zone {ZONE}");
    Ok(())
}

/// Whether what firewalld does is done in the daemon's own network namespace.
fn is_ours(bus: &mut Connection) -> Result<bool, Failure> {
    let answer = bus.call(of_bus("GetConnectionUnixProcessID"), vec![Value::text(FIREWALLD)])?;
    let Some(Value::U32(pid)) = answer.first() else { return Ok(false) };
    let inode = |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    // Of one that may not be looked at (it is another user's) it is taken to be the host's.
    let theirs = inode(&format!("/proc/{pid}/ns/net"));
    Ok(theirs.is_none() || theirs == inode("/proc/self/ns/net"))
}

/// Not by sysfs: that is of the network namespace that it was mounted in.
fn is_device(name: &str) -> bool {
    join::route().is_ok_and(|socket| bridge::device(&socket, name).is_ok_and(|device| device.is_some()))
}

/// Adds something to the permanent configuration; whether it was not there.
fn add(bus: &mut Connection, member: &str, name: &str, more: Vec<(&str, Value)>) -> Result<bool, Failure> {
    let text = |text: &str| Value::text(text);
    let mut settings = vec![
        ("target", text("ACCEPT")),
        ("short", text(name)),
        ("description", text("Networks of containers: who gets in is decided by the table inet corten.")),
    ];
    settings.extend(more);
    let entry = |(key, value): (&str, Value)| {
        Value::Entry(Box::new((Value::text(key), Value::Variant(Box::new(value)))))
    };
    let settings = Value::Array("{sv}".into(), settings.into_iter().map(entry).collect());
    match bus.call(method("config", member), vec![Value::text(name), settings]) {
        // It was added before, and firewalld has not begun anew since: it has to.
        Err(Failure::Refused { text, .. }) if text.contains("NAME_CONFLICT") => Ok(true),
        other => other.map(|_| true),
    }
}

/// Puts a bridge in our zone.
fn put(bus: &mut Connection, bridge: &str) -> Result<(), Failure> {
    let arguments = vec![Value::text(ZONE), Value::text(bridge)];
    match bus.call(method("zone", "changeZoneOfInterface"), arguments) {
        Err(Failure::Refused { text, .. }) if text.contains("ZONE_ALREADY_SET") => Ok(()),
        other => other.map(drop),
    }
}

fn list(text: &str) -> Value {
    Value::Array("s".into(), vec![Value::text(text)])
}

/// Whether a list of texts that was answered has this one.
fn names(answer: &[Value], wanted: &str) -> bool {
    matches!(answer.first(), Some(Value::Array(_, names)) if names.contains(&Value::text(wanted)))
}

/// A method of firewalld's, of the interface of one of its parts.
fn method<'a>(part: &str, member: &'a str) -> Method<'a> {
    let (path, interface) = match part {
        "zone" => ("/org/fedoraproject/FirewallD1", "org.fedoraproject.FirewallD1.zone"),
        "policy" => ("/org/fedoraproject/FirewallD1", "org.fedoraproject.FirewallD1.policy"),
        "config" => ("/org/fedoraproject/FirewallD1/config", "org.fedoraproject.FirewallD1.config"),
        _ => ("/org/fedoraproject/FirewallD1", FIREWALLD),
    };
    Method { destination: FIREWALLD, path, interface, member }
}

fn of_bus(member: &str) -> Method<'_> {
    Method {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member,
    }
}

/// The bus's socket, of an address as D-Bus has it (`unix:path=…`, several separated by semicolons).
fn socket(address: Option<OsString>) -> PathBuf {
    let address = address.and_then(|address| address.into_string().ok()).unwrap_or_default();
    let path = address.split(';').find_map(|one| {
        one.strip_prefix("unix:")?.split(',').find_map(|pair| pair.strip_prefix("path=")).map(PathBuf::from)
    });
    path.unwrap_or_else(|| PathBuf::from(BUS))
}

fn connect() -> Result<Connection, Failure> {
    let path = socket(std::env::var_os(BUS_VARIABLE));
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(directory), Some(name)) = (path.parent(), name) else {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(Failure::Unreachable { path, source });
    };
    let mut bus = Connection::open(directory, name)?;
    bus.call(of_bus("Hello"), vec![])?;
    Ok(bus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_bus_is_where_its_address_says() {
        let of = |text: &str| socket(Some(text.into()));
        assert_eq!(of("unix:path=/run/x,guid=1"), Path::new("/run/x"));
        assert_eq!(of("tcp:host=a;unix:guid=1,path=/y"), Path::new("/y"));
        assert_eq!(of("unix:abstract=x"), Path::new(BUS));
        assert_eq!(socket(None), Path::new(BUS));
    }
}
