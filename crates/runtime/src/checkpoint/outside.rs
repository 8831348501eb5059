//! What in a container's mount namespace comes from the host. Each such mount has a key, which is in the images, and by which a source
//! is given at restore. The keys are those of runc: the destination, or `/dev/null` for what hides a file.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use oci::runtime::{Mount, Spec};
use sys::fsx::{self, FileType};
use sys::path::Root;
use sys::proc::Proc;

use super::streams::mount_id;
use crate::error::{Context as _, Error};
use crate::mounts::Options;

/// What hides files, on the host and as a key.
const NULL: &str = "/dev/null";

/// A mount of the container.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    id: u64,
    path: PathBuf,
    kind: String,
}

/// All mounts of a container.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Entry>);

impl Mounts {
    /// Those that process `pid` sees.
    pub(super) fn of(proc: &Proc, pid: i32) -> Result<Self, Error> {
        let file = format!("{pid}/mountinfo");
        let text = proc.read(&file).on("read", format!("/proc/{file}"))?;
        Ok(Self(text.lines().filter_map(parse).collect()))
    }

    /// Whether the mount with this number is among them.
    pub(super) fn has(&self, id: u64) -> bool {
        self.0.iter().any(|entry| entry.id == id)
    }

    fn get(&self, id: u64) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.id == id)
    }
}

/// A line of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).
fn parse(line: &str) -> Option<Entry> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    Some(Entry { id, path: unescape(fields.nth(3)?), kind: filesystem.split(' ').next()?.to_owned() })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

pub(super) fn is_bind(mount: &Mount) -> Option<bool> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    options.bind.or((mount.typ().as_deref() == Some("bind")).then_some(false))
}

fn is_cgroup(mount: &Mount) -> bool {
    matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
}

/// criu's word for a mount of the container at `path`, whose source has the name `key`.
fn at_dump(path: &Path, key: &Path) -> String {
    format!("mnt[{}]:{}", path.display(), key.display())
}

/// criu's word for the source of what has the name `key`.
fn at_restore(key: &Path, source: &Path) -> String {
    format!("mnt[{}]:{}", key.display(), source.display())
}

/// What of the mounts of a living container, which `root` is the root of, comes from the host.
pub(super) fn of_container(root: &Root, mounts: &Mounts, spec: &Spec) -> Result<Vec<String>, Error> {
    let configured = spec.mounts().as_deref().unwrap_or_default();
    let mut places: Vec<Option<PathBuf>> = Vec::with_capacity(configured.len());
    for mount in configured {
        places.push(mounted_at(root, mounts, mount.destination())?);
    }
    let mut said = Vec::new();
    for (mount, place) in configured.iter().zip(&places) {
        let Some(place) = place else { continue };
        let bind = is_bind(mount);
        if bind.is_some() {
            said.push(at_dump(place, mount.destination()));
        }
        // What lies below it came along; unless it is a mount of the configuration itself.
        for below in mounts.0.iter().filter(|m| m.path != *place && m.path.starts_with(place)) {
            let is_own = places
                .iter()
                .flatten()
                .any(|p| below.path.starts_with(p) && p.starts_with(place) && p != place);
            let came = bind == Some(true) && !is_own;
            let group = is_cgroup(mount) && below.kind.starts_with("cgroup");
            if let Ok(rest) = below.path.strip_prefix(place)
                && (came || group)
            {
                said.push(at_dump(&below.path, &mount.destination().join(rest)));
            }
        }
        let is_group = |entry: &Entry| entry.path == *place && entry.kind.starts_with("cgroup");
        if is_cgroup(mount) && mounts.0.iter().any(is_group) {
            said.push(at_dump(place, mount.destination()));
        }
    }
    let masked = spec.linux().as_ref().and_then(|l| l.masked_paths().as_deref()).unwrap_or_default();
    for path in masked.iter().map(Path::new) {
        if let Some(place) = mounted_at(root, mounts, path)?
            && !is_directory(root, path)?
        {
            said.push(at_dump(&place, Path::new(NULL)));
        }
    }
    Ok(said)
}

/// Where the mount is that `path` leads into, if that is where it begins.
fn mounted_at(root: &Root, mounts: &Mounts, path: &Path) -> Result<Option<PathBuf>, Error> {
    let handle = match root.open_path(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.on("open", path)?,
    };
    let info = format!("/proc/self/fdinfo/{}", handle.as_raw_fd());
    let info = std::fs::read_to_string(&info).on("read", &info)?;
    let entry = mount_id(&info).and_then(|id| mounts.get(id));
    Ok(entry.filter(|_| is_top(&handle, root, path)).map(|entry| entry.path.clone()))
}

/// Whether the handle is where a mount begins: what is above it is on another.
fn is_top(handle: &OwnedFd, root: &Root, path: &Path) -> bool {
    let Some(parent) = path.parent().and_then(|parent| root.open_path(parent).ok()) else { return false };
    let id = |fd: &OwnedFd| {
        let info = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
        mount_id(&std::fs::read_to_string(info).ok()?)
    };
    id(handle) != id(&parent)
}

fn is_directory(root: &Root, path: &Path) -> Result<bool, Error> {
    let stat = root.stat(path).on("inspect", path)?;
    Ok(fsx::kind(&stat) == FileType::Directory)
}

/// The sources for a container that is to be made again; `groups` are its groups, by the names of their hierarchies.
pub(super) fn of_bundle(
    bundle: &Path,
    spec: &Spec,
    groups: &[(String, PathBuf)],
) -> Result<Vec<String>, Error> {
    let host = std::fs::read_to_string("/proc/self/mountinfo").on("read", "/proc/self/mountinfo")?;
    let host = Mounts(host.lines().filter_map(parse).collect());
    let mut said = Vec::new();
    for mount in spec.mounts().as_deref().unwrap_or_default() {
        let destination = mount.destination();
        if is_cgroup(mount) {
            for (name, directory) in groups {
                let key = if name.is_empty() { destination.clone() } else { destination.join(name) };
                said.push(at_restore(&key, directory));
            }
        }
        let Some(recursive) = is_bind(mount) else { continue };
        let missing = || Error::Invalid(format!("the bind mount {} has no source", destination.display()));
        let source = bundle.join(mount.source().as_ref().ok_or_else(missing)?);
        let source = std::fs::canonicalize(&source).on("find", &source)?;
        said.push(at_restore(destination, &source));
        for below in host.0.iter().filter(|m| recursive && m.path != source) {
            if let Ok(rest) = below.path.strip_prefix(&source) {
                said.push(at_restore(&destination.join(rest), &below.path));
            }
        }
    }
    said.push(at_restore(Path::new(NULL), Path::new(NULL)));
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read() {
        let line = "36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let expected = Entry { id: 36, path: "/mnt two".into(), kind: "ext3".into() };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("36 35"), None);
        assert_eq!(unescape("a\\134b\\04"), Path::new("a\\b\\04"));
    }
}
