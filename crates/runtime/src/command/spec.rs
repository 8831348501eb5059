//! `spec`: an example of a configuration, to start from.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use sys::process;

use super::arguments::{Arguments, Flag};
use crate::capabilities::CapabilitySet;
use crate::error::{Context as _, Error};
use crate::state::OCI_VERSION;

pub(super) fn spec(arguments: Vec<String>) -> Result<i32, Error> {
    let flags = [Flag::value("bundle").short('b'), Flag::switch("rootless")];
    let mut options = Arguments::parse(arguments, &flags)?;
    let mut example = example();
    if options.take("rootless") {
        make_rootless(&mut example);
    }
    let path = options.value("bundle").map_or_else(PathBuf::new, PathBuf::from).join("config.json");
    let text = format!("{example:#}\n");
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

/// What an ordinary user can have: his own ids, the host's network (he could set up no other), no limits.
fn make_rootless(example: &mut Value) {
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut example["linux"];
    linux["uidMappings"] = map(process::effective_user());
    linux["gidMappings"] = map(process::effective_group());
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    let Some(mounts) = example["mounts"].as_array_mut() else { return };
    // A sysfs can be mounted only by whoever owns the network it shows; so the host's is bound.
    mounts.retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
    for mount in mounts.iter_mut() {
        if let Some(options) = mount["options"].as_array_mut() {
            // No other group than his own is there.
            options.retain(|option| {
                option.as_str().is_some_and(|o| !o.starts_with("gid=") && !o.starts_with("uid="))
            });
        }
    }
    let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
    mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys", "options": options}));
}
