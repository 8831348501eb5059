//! `/dev`: devices, the links that programs expect, and the console.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxDevice, LinuxDeviceType, Mount};
use sys::fsx::{self, FileType, Mode, OFlags};
use sys::mount;
use sys::path::Root;

use crate::error::{Context as _, Error};
use crate::mounts;

/// One node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// The devices that every container has, below `/dev`, with their minor and major numbers.
const DEFAULTS: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("random", 1, 8), ("urandom", 1, 9)];

/// The links that every container has.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Whether `/dev` is ours to fill: not if it is somebody else's tree.
fn is_ours(mounts: &[Mount]) -> bool {
    let dev = mounts.iter().rev().find(|m| sys::path::normalize(m.destination()) == Path::new("dev"));
    dev.is_none_or(|m| {
        let bind = |o: &String| o == "bind" || o == "rbind";
        m.typ().as_deref() != Some("bind") && !m.options().iter().flatten().any(bind)
    })
}

/// Fills `/dev`. In a user namespace nodes cannot be made, and the host's are bound instead.
pub(crate) fn fill(
    root: &Root,
    mounts: &[Mount],
    devices: &[LinuxDevice],
    in_user_namespace: bool,
) -> Result<(), Error> {
    if !is_ours(mounts) {
        return Ok(());
    }
    // Not a link: it could lead into a volume, and what is made there stays on the host.
    let dev = mounts::plain_directory(root, Path::new("/dev"))?;
    for (name, major, minor) in DEFAULTS {
        let path = Path::new("/dev").join(name);
        let kind = FileType::CharacterDevice;
        let node = Node { path, kind, major, minor, mode: 0o666, uid: 0, gid: 0 };
        make(root, &dev, OsStr::new(name), &node, in_user_namespace)?;
    }
    for device in devices {
        let node = parse(device)?;
        let (parent, name) = split(&node.path)?;
        let directory = plain_parent(root, &parent)?;
        make(root, &directory, &name, &node, in_user_namespace)?;
    }
    for (name, target) in LINKS {
        link(&dev, name, target)?;
    }
    if sys::proc::exists("/proc/kcore") {
        link(&dev, "core", "/proc/kcore")?;
    }
    // Not the host's: the one of the container's own devpts.
    match fsx::unlink_at(&dev, "ptmx") {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).on("remove", "/dev/ptmx");
        }
        _ => {}
    }
    link(&dev, "ptmx", "pts/ptmx")
}

/// The directory that a device is to be in, on the way to which there is no link.
fn plain_parent(root: &Root, parent: &Path) -> Result<OwnedFd, Error> {
    let mut way: Vec<&Path> = parent.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    way.reverse();
    for path in way {
        mounts::plain_directory(root, path)?;
    }
    root.mkdir_all(parent, Mode::from_raw_mode(0o755)).on("create", parent)
}

fn split(path: &Path) -> Result<(PathBuf, OsString), Error> {
    let normal = sys::path::normalize(path);
    match (normal.parent(), normal.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), name.to_owned())),
        _ => Err(Error::Invalid(format!("device path {path:?}"))),
    }
}

fn parse(device: &LinuxDevice) -> Result<Node, Error> {
    let path = device.path().clone();
    let invalid = || Error::Invalid(format!("linux.devices: {}", path.display()));
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(invalid()),
    };
    let number = |n: i64| u32::try_from(n).map_err(|_| invalid());
    let (major, minor) = match kind {
        FileType::Fifo => (0, 0),
        _ => (number(device.major())?, number(device.minor())?),
    };
    Ok(Node {
        kind,
        major,
        minor,
        // Docker and others give the type's bits along.
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

fn make(root: &Root, directory: &OwnedFd, name: &OsStr, node: &Node, bound: bool) -> Result<(), Error> {
    let number = fsx::makedev(node.major, node.minor);
    if bound && node.kind != FileType::Fifo {
        return bind(root, node);
    }
    // The umask of this process is 0.
    match fsx::mknod_at(directory, name, node.kind, Mode::from_raw_mode(node.mode), number) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let stat = fsx::stat_at(directory, name).on("inspect", &node.path)?;
            if fsx::kind(&stat) != node.kind || (node.kind != FileType::Fifo && stat.st_rdev != number) {
                let shown = node.path.display();
                return Err(Error::Invalid(format!("{shown} is there already and is something else")));
            }
            return Ok(());
        }
        Err(error) => return Err(error).on("create", &node.path),
    }
    if (node.uid, node.gid) != (0, 0) {
        fsx::chown_at(directory, name, node.uid, node.gid).on("set the owner of", &node.path)?;
    }
    Ok(())
}

/// Binds the device of the host's `/dev` with the same path, after looking whether it is that device. Runs while this
/// process still sees the host's files.
fn bind(root: &Root, node: &Node) -> Result<(), Error> {
    let device = host_device(&node.path, node.kind, node.major, node.minor)?;
    let tree = mount::clone_fd(&device, false).on("mount", &node.path)?;
    let target = mounts::place(root, &node.path, false)?;
    mount::attach(&tree, &target).on("mount", &node.path)
}

/// The device at `path` of the host, by handle, if it is the one with these numbers.
pub(crate) fn host_device(path: &Path, kind: FileType, major: u32, minor: u32) -> Result<OwnedFd, Error> {
    let host = Root::open("/").on("open", "/")?;
    let device = host.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).on("open", path)?;
    verify(device.as_fd(), path, kind, major, minor)?;
    Ok(device)
}

/// Fails unless `fd` is the device with these numbers.
pub(crate) fn verify(
    fd: impl AsFd,
    path: &Path,
    kind: FileType,
    major: u32,
    minor: u32,
) -> Result<(), Error> {
    let stat = fsx::stat(fd).on("inspect", path)?;
    if fsx::kind(&stat) == kind && stat.st_rdev == fsx::makedev(major, minor) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{} is not the device {major}:{minor}", path.display())))
}

/// The host's `/dev/null`.
pub(crate) fn host_null() -> Result<OwnedFd, Error> {
    host_device(Path::new("/dev/null"), FileType::CharacterDevice, 1, 3)
}

fn link(directory: &OwnedFd, name: &str, target: &str) -> Result<(), Error> {
    match fsx::symlink_at(target, directory, name) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).on("create", Path::new("/dev").join(name))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of the tests themselves")]
mod tests {
    use super::*;

    fn mounts(json: serde_json::Value) -> Vec<Mount> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_bound_dev_is_left_alone() {
        assert!(is_ours(&[]));
        assert!(is_ours(&mounts(serde_json::json!([{"destination": "/dev", "type": "tmpfs"}]))));
        let bound = serde_json::json!([{"destination": "/dev/", "source": "/dev", "options": ["rbind"]}]);
        assert!(!is_ours(&mounts(bound)));
    }

    #[test]
    fn what_poses_as_null_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("null");
        std::fs::write(&path, "").unwrap();
        host_device(&path, FileType::CharacterDevice, 1, 3).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        host_device(&path, FileType::CharacterDevice, 1, 3).unwrap_err();
        host_null().unwrap();
    }
}
