//! What is mounted in a container, parents before what lies in them.

use std::path::{Path, PathBuf};

use api::container::HostConfig;
use oci::runtime::Mount;

use super::{Bind, INIT_INSIDE, Instead, Resolved, SHM_BYTES, SecurityOptions, owners, process};
use crate::cdi;
use crate::containers::lender;
use crate::containers::record::{MountKind, MountRecord, Paths, Record};
use crate::error::{Error, Result};
use crate::secrets;

/// What a temporary filesystem has unless its options say otherwise.
const TMPFS: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];

/// The mounts, and which of them need their source opened.
pub(super) struct Mounts {
    pub(super) mounts: Vec<Mount>,
    pub(super) binds: Vec<Bind>,
    /// How the root filesystem's own mounts spread, if a bind needs it.
    pub(super) propagation: Option<String>,
}

/// A mount before its place in the list is known.
struct Planned {
    mount: Mount,
    source: Option<Source>,
}

struct Source {
    path: PathBuf,
    below: String,
    recursive: bool,
    lent: bool,
    instead: Instead,
}

pub(super) fn plan(
    record: &Record,
    paths: &Paths,
    resolved: &Resolved,
    security: &SecurityOptions,
) -> Result<Mounts> {
    let host = &record.host;
    let taken = |path: &str| record.mounts.iter().any(|mount| mount.point.destination == path);
    let mut planned: Vec<Planned> = defaults(host, security)
        .into_iter()
        .filter(|planned| {
            let destination = planned.mount.destination().to_string_lossy();
            let below_dev = destination.starts_with("/dev/") && taken("/dev");
            !taken(&destination) && !below_dev
        })
        .collect();

    let mut further: Vec<Planned> = Vec::new();
    let access = if host.readonly_rootfs { "ro" } else { "rw" };
    for (inside, path) in [
        ("/etc/resolv.conf", paths.resolv_conf()),
        ("/etc/hostname", paths.hostname()),
        ("/etc/hosts", paths.hosts()),
    ] {
        if !taken(inside) {
            further.push(bind(inside, path, true, &["rbind", "rprivate", access]));
        }
    }
    if process::has_init(record) && !taken(INIT_INSIDE) {
        further.push(bind(INIT_INSIDE, resolved.init.clone(), false, &["bind", "rprivate", "ro"]));
    }
    secrets::check_place(&record.host.secrets, &record.mounts)?;
    if !record.host.secrets.is_empty() {
        let mut planned = bind(
            secrets::INSIDE,
            PathBuf::from("secrets"),
            false,
            &["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"],
        );
        if let Some(source) = &mut planned.source {
            source.instead = Instead::Secrets;
        }
        further.push(planned);
    }
    for mount in &record.mounts {
        further.push(asked(mount)?);
    }
    further.extend(resolved.injected.mounts.iter().map(injected));
    // Stable: of two at one depth, the first asked for is made first.
    further.sort_by_key(|planned| planned.mount.destination().components().count());
    planned.append(&mut further);

    let propagation = propagation(&record.mounts);
    let mut binds = Vec::new();
    let mut mounts = Vec::with_capacity(planned.len());
    for (index, planned) in planned.into_iter().enumerate() {
        if let Some(Source { path, below, recursive, lent, instead }) = planned.source {
            binds.push(Bind { index, source: path, below, recursive, lent, instead });
        }
        mounts.push(planned.mount);
    }
    Ok(Mounts { mounts, binds, propagation })
}

/// What every container has.
fn defaults(host: &HostConfig, security: &SecurityOptions) -> Vec<Planned> {
    let shm = if host.shm_size > 0 { host.shm_size } else { SHM_BYTES };
    let shm = format!("size={shm}");
    let sysfs: &[&str] =
        if host.privileged { &["nosuid", "noexec", "nodev"] } else { &["nosuid", "noexec", "nodev", "ro"] };
    let cgroup: &[&str] = if host.privileged || security.writable_cgroups {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["ro", "nosuid", "noexec", "nodev"]
    };
    let mut list = vec![
        filesystem("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        filesystem("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        filesystem(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        filesystem("/sys", "sysfs", "sysfs", sysfs),
        filesystem("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
        filesystem("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    match host.ipc_mode.as_str() {
        "none" => {}
        "host" => list.push(bind("/dev/shm", PathBuf::from("/dev/shm"), true, &["rbind", "rprivate"])),
        mode if lender::named(mode).is_some() => {
            let mut planned = bind("/dev/shm", PathBuf::from("/dev/shm"), false, &["bind", "rprivate"]);
            if let Some(source) = &mut planned.source {
                source.lent = true;
            }
            list.push(planned);
        }
        _ => list.push(filesystem(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        )),
    }
    list
}

fn filesystem(destination: &str, kind: &str, source: &str, options: &[&str]) -> Planned {
    Planned { mount: mount(destination, kind, Path::new(source), options), source: None }
}

fn bind(destination: &str, path: PathBuf, recursive: bool, options: &[&str]) -> Planned {
    let mount = mount(destination, "bind", &path, options);
    let source = Source { path, below: String::new(), recursive, lent: false, instead: Instead::Nothing };
    Planned { mount, source: Some(source) }
}

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

/// A mount that a device brings.
fn injected(mount: &cdi::Mount) -> Planned {
    let options = |word: &str| mount.options.iter().any(|option| option == word);
    let mut words: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    if !mount.is_bind() {
        return filesystem(&mount.container_path, &mount.kind, &mount.host_path, &words);
    }
    let recursive = options("rbind");
    if !recursive && !options("bind") {
        words.insert(0, "bind");
    }
    bind(&mount.container_path, PathBuf::from(&mount.host_path), recursive, &words)
}

/// A mount that the request or the image names.
fn asked(record: &MountRecord) -> Result<Planned> {
    let point = &record.point;
    match &record.kind {
        MountKind::Bind { recursive, read_only_recursive, owners, .. } => {
            let mut options = vec![if *recursive { "rbind" } else { "bind" }];
            options.push(if point.propagation.is_empty() { "rprivate" } else { &point.propagation });
            // Nothing where it may be written: what is read-only on the host stays so.
            options.extend(match (point.rw, read_only_recursive) {
                (true, _) => None,
                (false, true) => Some("rro"),
                (false, false) => Some("ro"),
            });
            let mut planned = bind(&point.destination, PathBuf::from(&point.source), *recursive, &options);
            if let Some([disk, seen]) = owners.as_ref().and_then(|owners| owners.seen) {
                planned
                    .mount
                    .set_uid_mappings(owners::map(disk.0, seen.0)?)
                    .set_gid_mappings(owners::map(disk.1, seen.1)?);
            }
            Ok(planned)
        }
        MountKind::Image { snapshot, subpath } => {
            let access = if point.rw { "rw" } else { "ro" };
            let mut planned =
                bind(&point.destination, PathBuf::from(&point.name), false, &["bind", "rprivate", access]);
            if let Some(source) = &mut planned.source {
                source.below.clone_from(subpath);
                let kept = snapshot.clone();
                source.instead = if point.rw { Instead::ImageToWrite(kept) } else { Instead::Image(kept) };
            }
            Ok(planned)
        }
        MountKind::Volume { subpath, .. } => {
            if point.source.is_empty() {
                return Err(Error::system(format!("volume \"{}\" has no directory", point.name)));
            }
            let options: &[&str] =
                if point.rw { &["rbind", "rprivate"] } else { &["rbind", "rprivate", "rro"] };
            let mut planned = bind(&point.destination, PathBuf::from(&point.source), true, options);
            if let Some(source) = &mut planned.source {
                source.below.clone_from(subpath);
            }
            Ok(planned)
        }
        MountKind::Tmpfs { options } => {
            let merged = merge_tmpfs(options);
            let options: Vec<&str> = merged.iter().map(String::as_str).collect();
            Ok(filesystem(&point.destination, "tmpfs", "tmpfs", &options))
        }
    }
}

/// The default options under those that were asked for: of two that contradict each other the later one counts.
fn merge_tmpfs(asked: &str) -> Vec<String> {
    const OPPOSITES: [(&str, &str); 6] = [
        ("exec", "noexec"),
        ("suid", "nosuid"),
        ("dev", "nodev"),
        ("rw", "ro"),
        ("async", "sync"),
        ("diratime", "nodiratime"),
    ];
    const TIMES: [&str; 7] =
        ["atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime"];
    const SPREADS: [&str; 8] =
        ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];
    let collide = |one: &str, other: &str| {
        let key = |text: &str| text.split_once('=').map(|(key, _)| key.to_owned());
        one == other
            || OPPOSITES.contains(&(one, other))
            || OPPOSITES.contains(&(other, one))
            || TIMES.contains(&one) && TIMES.contains(&other)
            || SPREADS.contains(&one) && SPREADS.contains(&other)
            || key(one).is_some() && key(one) == key(other)
    };
    let mut merged: Vec<String> = Vec::new();
    let asked = asked.split(',').filter(|option| !option.is_empty() && *option != "defaults");
    for option in TMPFS.into_iter().chain(asked) {
        merged.retain(|known| !collide(known, option));
        merged.push(option.to_owned());
    }
    merged
}

/// For mounts to reach the container, or to leave it, its root must let them through as well.
fn propagation(mounts: &[MountRecord]) -> Option<String> {
    let any = |one: &str, other: &str| {
        mounts.iter().any(|mount| mount.point.propagation == one || mount.point.propagation == other)
    };
    if any("shared", "rshared") {
        return Some("shared".to_owned());
    }
    any("slave", "rslave").then(|| "rslave".to_owned())
}
