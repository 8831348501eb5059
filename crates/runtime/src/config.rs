//! The bundle's configuration: read, bounded, and refused where it asks for what is not there.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use oci::runtime::{Linux, LinuxNamespaceType, Mount, Process, Spec};
use sys::fsx::OFlags;

use crate::error::{Context as _, Error};
use crate::{netdevices, scheduling};

/// The longest `config.json` accepted: Docker's largest are around 100 kB.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// Mounts of one container: the kernel's own limit per namespace is 100,000, and each costs a few descriptors here.
const MOUNTS_MAX: usize = 4096;

/// The longest container id: it becomes a file name, with room for suffixes.
const ID_BYTES_MAX: usize = 200;

/// Reads `config.json` of `bundle`.
pub fn load(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join("config.json");
    let text = read(&path, CONFIG_BYTES_MAX)?;
    oci::runtime::parse_spec(&text).map_err(|error| invalid(&path, &error))
}

/// Opens a file that a caller names, without waiting for anybody: a FIFO's other end may never come.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32).open(path)
}

/// The content of a regular file.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let file = open(path, OpenOptions::new().read(true)).on("open", path)?;
    if !file.metadata().on("inspect", path)?.is_file() {
        return Err(Error::Invalid(format!("{} is not a regular file", path.display())));
    }
    read_all(file, path, bytes_max)
}

/// The same, or of standard input if `path` is `-`.
pub(crate) fn read_given(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    if path == Path::new("-") {
        return read_all(io::stdin(), Path::new("standard input"), bytes_max);
    }
    read(path, bytes_max)
}

fn read_all(from: impl Read, path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    from.take(bytes_max + 1).read_to_end(&mut text).on("read", path)?;
    if text.len() as u64 > bytes_max {
        return Err(Error::Invalid(format!("{} is larger than {bytes_max} bytes", path.display())));
    }
    Ok(text)
}

fn invalid(path: &Path, error: &oci::Error) -> Error {
    let cause = std::error::Error::source(error).map(|c| format!(": {c}")).unwrap_or_default();
    Error::Invalid(format!("{}: {error}{cause}", path.display()))
}

/// Reads an OCI `process` object from `path`, or from standard input for `-`.
pub fn load_process(path: &Path) -> Result<Process, Error> {
    let text = read_given(path, CONFIG_BYTES_MAX)?;
    oci::runtime::parse_process(&text).map_err(|error| invalid(path, &error))
}

/// Checks that `id` can name a container.
pub fn check_id(id: &str) -> Result<(), Error> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > ID_BYTES_MAX || id == "." || id == ".." || !id.chars().all(valid) {
        return Err(Error::Invalid(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

/// Checks what can be checked before anything is made.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    if !spec.version().starts_with("1.") {
        return Err(Error::Invalid(format!("unsupported ociVersion {:?}", spec.version())));
    }
    let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
    if root.path().as_os_str().is_empty() {
        return Err(missing("root.path"));
    }
    check_process(spec.process().as_ref().ok_or_else(|| missing("process"))?)?;
    let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    check_linux(linux)?;
    check_namespaces(spec, linux)?;
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    if mounts.len() > MOUNTS_MAX {
        return Err(Error::Invalid(format!("more than {MOUNTS_MAX} mounts")));
    }
    mounts.iter().try_for_each(check_mount)
}

fn missing(what: &str) -> Error {
    Error::Invalid(format!("config.json: {what} is missing"))
}

/// Checks a process, of a container or of an exec.
pub(crate) fn check_process(process: &Process) -> Result<(), Error> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(missing("process.args"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::Invalid("Cwd must be an absolute path".into()));
    }
    let strings = process.args().iter().chain(process.env()).flatten();
    if strings.into_iter().any(|s| s.contains('\0')) {
        return Err(Error::Invalid("a NUL byte in process.args or process.env".into()));
    }
    // -1 means "leave as it is" to the kernel, so it would run as root.
    let groups = process.user().additional_gids().iter().flatten();
    if process.user().uid() == u32::MAX || groups.chain([&process.user().gid()]).any(|id| *id == u32::MAX) {
        return Err(Error::Invalid(format!("invalid user or group id {}", u32::MAX)));
    }
    scheduling::check(process)?;
    let profile = process.apparmor_profile().as_ref().is_some_and(|p| !p.is_empty());
    let apparmor = || std::fs::read_to_string(APPARMOR).is_ok_and(|on| on.trim_end() == "Y");
    refuse("process.apparmorProfile on a host without AppArmor", profile && !apparmor())?;
    let mut seen = HashSet::new();
    for limit in process.rlimits().iter().flatten() {
        if !seen.insert(limit.typ().to_string()) {
            return Err(Error::Invalid(format!("{} is given twice", limit.typ())));
        }
        let (name, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
        if soft > hard {
            return Err(Error::Invalid(format!("{name}: soft limit {soft} is above hard limit {hard}")));
        }
    }
    Ok(())
}

fn refuse(name: &str, given: bool) -> Result<(), Error> {
    if given { Err(Error::Unsupported(name.into())) } else { Ok(()) }
}

fn check_linux(linux: &Linux) -> Result<(), Error> {
    if let Some(policy) = linux.memory_policy() {
        scheduling::memory_nodes(policy)?;
    }
    if let Some(devices) = linux.net_devices() {
        netdevices::check(devices)?;
    }
    let label = linux.mount_label().as_ref().is_some_and(|l| !l.is_empty());
    refuse("linux.mountLabel on a host without SELinux", label && !sys::proc::exists(SELINUX))
}

/// `Y` where AppArmor is on.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// Where the kernel shows its SELinux policy, if it has one.
const SELINUX: &str = "/sys/fs/selinux/enforce";

fn check_namespaces(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let mut seen = HashSet::new();
    for namespace in namespaces {
        if !seen.insert(namespace.typ()) {
            return Err(Error::Invalid(format!("namespace {} is given twice", namespace.typ())));
        }
    }
    let own = |typ| namespaces.iter().any(|n| n.typ() == typ);
    let joined = |typ| namespaces.iter().any(|n| n.typ() == typ && n.path().is_some());
    if !own(LinuxNamespaceType::Mount) {
        check_without_mounts(spec, linux)?;
    }
    let asks = |given: bool, typ| given && !own(typ);
    let offsets = linux.time_offsets().iter().flatten();
    for (clock, _) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::Invalid(format!("linux.timeOffsets: {clock:?} is not monotonic or boottime")));
        }
        if !own(LinuxNamespaceType::Time) || joined(LinuxNamespaceType::Time) {
            return Err(Error::Invalid("linux.timeOffsets without a new time namespace".into()));
        }
    }
    let devices = linux.net_devices().as_ref().is_some_and(|d| !d.is_empty());
    if asks(devices, LinuxNamespaceType::Network) {
        return Err(Error::Invalid("linux.netDevices without a network namespace".into()));
    }
    let named = |name: &Option<String>| name.as_ref().is_some_and(|n| !n.is_empty());
    if (named(spec.hostname()) || named(spec.domainname())) && !own(LinuxNamespaceType::Uts) {
        return Err(Error::Invalid("unable to set hostname without a private UTS namespace".into()));
    }
    let user = own(LinuxNamespaceType::User) && !joined(LinuxNamespaceType::User);
    let maps = [linux.uid_mappings(), linux.gid_mappings()];
    for (map, name) in maps.into_iter().zip(["uidMappings", "gidMappings"]) {
        let map = map.as_deref().unwrap_or_default();
        if user && !map.iter().any(|m| m.container_id() == 0 && m.size() > 0) {
            return Err(Error::Invalid(format!("{name}: a new user namespace needs a mapping of id 0")));
        }
        if !map.is_empty() && !own(LinuxNamespaceType::User) {
            return Err(Error::Invalid(format!("{name} without a user namespace")));
        }
    }
    Ok(())
}

/// Without a mount namespace of its own a container sees the host's mounts, and nothing may be mounted for it.
fn check_without_mounts(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let mounts = spec.mounts().as_ref().is_some_and(|m| !m.is_empty());
    let read_only = spec.root().as_ref().is_some_and(|r| r.readonly() == Some(true));
    let propagation = linux.rootfs_propagation().as_ref().is_some_and(|p| !p.is_empty());
    for (name, given) in [
        ("mounts", mounts),
        ("root.readonly", read_only),
        ("linux.maskedPaths", some(linux.masked_paths())),
        ("linux.readonlyPaths", some(linux.readonly_paths())),
        ("linux.rootfsPropagation", propagation),
    ] {
        if given {
            return Err(Error::Invalid(format!("{name} without a mount namespace")));
        }
    }
    Ok(())
}

fn check_mount(mount: &Mount) -> Result<(), Error> {
    let name = mount.destination().display();
    if mount.destination().as_os_str().is_empty() {
        return Err(missing("the destination of a mount"));
    }
    let mapped = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|m| !m.is_empty());
    if mapped(mount.uid_mappings()) != mapped(mount.gid_mappings()) {
        return Err(Error::Invalid(format!("mount {name}: uidMappings and gidMappings go together")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut serde_json::Value)) -> Spec {
        let mut value = serde_json::json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn refusal(change: impl FnOnce(&mut serde_json::Value)) -> String {
        check(&spec(change)).unwrap_err().to_string()
    }

    #[test]
    fn the_least_configuration_passes() {
        check(&spec(|_| {})).unwrap();
    }

    #[test]
    fn what_is_not_there_is_refused_by_its_name() {
        let text = refusal(|v| {
            v["linux"]["namespaces"] = serde_json::json!([{"type": "pid"}]);
            v["linux"]["maskedPaths"] = serde_json::json!(["/proc/kcore"]);
        });
        assert_eq!(text, "linux.maskedPaths without a mount namespace");
        let text = refusal(|v| v["linux"]["timeOffsets"] = serde_json::json!({"monotonic": {"secs": 1}}));
        assert_eq!(text, "linux.timeOffsets without a new time namespace");
    }

    #[test]
    fn wrong_values_are_refused() {
        assert!(refusal(|v| v["process"]["cwd"] = "tmp".into()).contains("absolute"));
        assert!(refusal(|v| v["process"]["args"] = serde_json::json!([])).contains("process.args"));
        assert!(refusal(|v| v["process"]["user"]["uid"] = u32::MAX.into()).contains("invalid user"));
        assert!(refusal(|v| v["hostname"] = "x".into()).contains("UTS"));
        assert!(refusal(|v| v["ociVersion"] = "2.0.0".into()).contains("ociVersion"));
        let twice = serde_json::json!([{"type": "mount"}, {"type": "mount"}]);
        assert!(refusal(|v| v["linux"]["namespaces"] = twice).contains("twice"));
        let user = serde_json::json!([{"type": "mount"}, {"type": "user"}]);
        assert!(refusal(|v| v["linux"]["namespaces"] = user).contains("uidMappings"));
    }

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        for id in ["", ".", "..", "a/b", "a b", "ü", &"x".repeat(201)] {
            check_id(id).unwrap_err();
        }
        check_id("a-1_b+c.d").unwrap();
    }
}
