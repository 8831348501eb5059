//! `--device`, `--device-cgroup-rule`, and the devices of privileged containers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use api::container::HostConfig;
use oci::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Result};

/// A host has a few hundred; this many would make a start take seconds.
const DEVICES_MAX: usize = 4096;
/// How deep `/dev` is walked: `/dev/bus/usb/001/002` is four.
const DEPTH_MAX: usize = 8;
/// Places in `/dev` that are filesystems of their own or belong to the host alone.
const NOT_WALKED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
/// All that may be done with a device.
const ALL: &str = "rwm";

/// What kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes in a row.
    Character,
    /// Blocks at any place.
    Block,
}

/// A device of the host, and how it appears in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The path inside.
    pub path: PathBuf,
    /// What kind it is.
    pub kind: Kind,
    /// The driver's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
    /// Permission bits of the node.
    pub mode: u32,
    /// The node's owner.
    pub uid: u32,
    /// The node's group.
    pub gid: u32,
    /// Of `r`, `w`, `m`.
    pub access: String,
}

/// Looks up the devices that are asked for, and all of the host's for a privileged container.
pub(super) fn resolve(host: &HostConfig) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    if host.privileged {
        walk(Path::new("/dev"), Path::new("/dev"), ALL, 0, &mut devices)
            .map_err(|e| Error::io("list the devices in", Path::new("/dev"), e))?;
    }
    for asked in &host.resources.devices {
        let inside =
            if asked.path_in_container.is_empty() { &asked.path_on_host } else { &asked.path_in_container };
        let access = if asked.cgroup_permissions.is_empty() { ALL } else { &asked.cgroup_permissions };
        if access.len() > ALL.len() || !access.chars().all(|c| ALL.contains(c)) {
            return Err(Error::invalid(format!("invalid device mode: {access}")));
        }
        let refuse = |why: &str| {
            Error::invalid(format!(
                "error gathering device information while adding custom device \"{}\": {why}",
                asked.path_on_host
            ))
        };
        if !inside.starts_with('/') || Path::new(inside).components().any(|c| c.as_os_str() == "..") {
            return Err(refuse("the path in the container is not absolute"));
        }
        let before = devices.len();
        let source = Path::new(&asked.path_on_host);
        walk(source, Path::new(inside), access, 0, &mut devices).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => refuse("no such file or directory"),
            _ => refuse(&e.to_string()),
        })?;
        if devices.len() == before {
            return Err(refuse("not a device node"));
        }
    }
    // The last one asked for at a path is the one that is seen there.
    let mut unique: BTreeMap<PathBuf, Device> = BTreeMap::new();
    unique.extend(devices.into_iter().map(|device| (device.path.clone(), device)));
    Ok(unique.into_values().collect())
}

/// These and those, of which the latter count at a path that both have.
pub(super) fn with(devices: Vec<Device>, further: Vec<Device>) -> Vec<Device> {
    if further.is_empty() {
        return devices;
    }
    let all = devices.into_iter().chain(further).map(|device| (device.path.clone(), device));
    all.collect::<BTreeMap<PathBuf, Device>>().into_values().collect()
}

/// Adds the device at `source`, or those below it; links below are not followed.
fn walk(
    source: &Path,
    inside: &Path,
    access: &str,
    depth: usize,
    devices: &mut Vec<Device>,
) -> io::Result<()> {
    let metadata = if depth == 0 { fs::metadata(source)? } else { fs::symlink_metadata(source)? };
    if metadata.is_dir() {
        if depth == DEPTH_MAX {
            return Ok(());
        }
        for entry in fs::read_dir(source)? {
            let name = entry?.file_name();
            let skipped = NOT_WALKED.iter().any(|known| name == **known) || (depth == 0 && name == "console");
            if skipped {
                continue;
            }
            match walk(&source.join(&name), &inside.join(&name), access, depth + 1, devices) {
                // It went away while it was looked at.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        return Ok(());
    }
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => Kind::Character,
        kind if kind.is_block_device() => Kind::Block,
        _ => return Ok(()),
    };
    if devices.len() == DEVICES_MAX {
        return Err(io::Error::other(format!("more than {DEVICES_MAX} devices")));
    }
    devices.push(Device {
        path: inside.to_owned(),
        kind,
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.permissions().mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    });
    Ok(())
}

/// The numbers of the devices that limits name.
pub(super) fn resolve_limits(host: &HostConfig) -> Result<BTreeMap<String, (u32, u32)>> {
    let limits = &host.resources;
    let weights = limits.blkio_weight_device.iter().map(|device| &device.path);
    let throttles = [
        &limits.blkio_device_read_bps,
        &limits.blkio_device_write_bps,
        &limits.blkio_device_read_iops,
        &limits.blkio_device_write_iops,
    ];
    let paths = weights.chain(throttles.into_iter().flatten().map(|device| &device.path));
    let mut numbers = BTreeMap::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::invalid(format!("stat {path}: no such file or directory")),
            _ => Error::io("stat", Path::new(path), e),
        })?;
        if !metadata.file_type().is_block_device() {
            return Err(Error::invalid(format!("{path}: not a block device")));
        }
        let device = metadata.rdev();
        numbers.insert(path.clone(), (rustix::fs::major(device), rustix::fs::minor(device)));
    }
    Ok(numbers)
}

/// The nodes to make.
pub(super) fn nodes(devices: &[Device]) -> Vec<LinuxDevice> {
    devices
        .iter()
        .map(|device| {
            let mut node = LinuxDevice::default();
            node.set_path(device.path.clone())
                .set_typ(kind(device.kind))
                .set_major(i64::from(device.major))
                .set_minor(i64::from(device.minor))
                .set_file_mode(Some(device.mode))
                .set_uid(Some(device.uid))
                .set_gid(Some(device.gid));
            node
        })
        .collect()
}

fn kind(kind: Kind) -> LinuxDeviceType {
    match kind {
        Kind::Character => LinuxDeviceType::C,
        Kind::Block => LinuxDeviceType::B,
    }
}

/// What the cgroup lets through: nothing but what every program needs and what was asked for; everything for a
/// privileged container.
pub(super) fn rules(host: &HostConfig, devices: &[Device]) -> Result<Vec<LinuxDeviceCgroup>> {
    if host.privileged {
        return Ok(vec![rule(true, None, None, None, ALL)]);
    }
    let mut rules = vec![rule(false, None, None, None, ALL)];
    // Nodes may be made of anything; it is their opening that counts.
    rules.push(rule(true, Some(LinuxDeviceType::C), None, None, "m"));
    rules.push(rule(true, Some(LinuxDeviceType::B), None, None, "m"));
    // null, zero, full, random, urandom; tty, console, ptmx.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, Some(LinuxDeviceType::C), Some(major), Some(minor), ALL));
    }
    // Terminals.
    rules.push(rule(true, Some(LinuxDeviceType::C), Some(136), None, ALL));
    for device in devices {
        let (major, minor) = (i64::from(device.major), i64::from(device.minor));
        rules.push(rule(true, Some(kind(device.kind)), Some(major), Some(minor), &device.access));
    }
    for text in &host.resources.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// Refuses rules that cannot be read.
pub(super) fn check_rules(host: &HostConfig) -> Result<()> {
    host.resources.device_cgroup_rules.iter().try_for_each(|text| parse_rule(text).map(drop))
}

/// `c 7:* rwm`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let wrong = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let parts: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = parts[..] else { return Err(wrong()) };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(wrong()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse::<u32>().map(|number| Some(i64::from(number))).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    if access.is_empty() || access.len() > ALL.len() || !access.chars().all(|c| ALL.contains(c)) {
        return Err(wrong());
    }
    Ok(rule(true, Some(kind), number(major)?, number(minor)?, access))
}

fn rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(kind).set_major(major).set_minor(minor).set_access(Some(access.to_owned()));
    rule
}
