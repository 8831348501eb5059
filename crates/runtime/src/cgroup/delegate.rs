//! Handing a group of version 2 over to the container's root user, if that is not the host's.

use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use oci::runtime::{LinuxNamespaceType, Mount, Spec};

use super::is_ordinary;
use crate::error::{Context as _, Error};

/// Where the kernel lists the files of a group that are to belong to whom it is delegated to.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// Those that older kernels, which have no list, had.
const FILES: [&str; 3] = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];

/// Whose the group is to be: the container's root's, if the container sees it as the root of the hierarchy and can write there. That
/// is so with a user namespace and a cgroup namespace of its own and a cgroup mount that is not read-only.
pub(super) fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let new = |kind: LinuxNamespaceType| {
        linux.namespaces().iter().flatten().any(|n| n.typ() == kind && n.path().is_none())
    };
    let writable = spec.mounts().iter().flatten().any(is_writable_cgroup);
    if !new(LinuxNamespaceType::User) || !new(LinuxNamespaceType::Cgroup) || !writable {
        return None;
    }
    let root = linux.uid_mappings().iter().flatten().find(|map| map.container_id() == 0)?;
    Some(root.host_id()).filter(|id| *id != 0)
}

fn is_writable_cgroup(mount: &Mount) -> bool {
    let kind = mount.typ().as_deref();
    let last = mount.options().iter().flatten().rfind(|option| matches!(option.as_str(), "ro" | "rw"));
    matches!(kind, Some("cgroup" | "cgroup2")) && last.is_none_or(|option| option == "rw")
}

/// Hands it over.
pub(super) fn hand_over(directory: &Path, owner: u32) -> Result<(), Error> {
    if owner == sys::process::effective_user() {
        return Ok(());
    }
    let listed = fs::read_to_string(LIST).unwrap_or_else(|_| FILES.join("\n"));
    let names = listed.lines().filter(|name| !name.is_empty() && !name.contains('/'));
    let paths = names.map(|name| directory.join(name)).chain([directory.to_owned()]);
    for path in paths {
        match lchown(&path, Some(owner), None) {
            // A file of a controller that the group has not.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // An ordinary user has nothing to give to somebody else: the container does without.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_ordinary() => return Ok(()),
            other => other.on("hand over", &path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(namespaces: &[&str], options: &[&str]) -> Spec {
        let namespaces: Vec<_> = namespaces.iter().map(|kind| json!({"type": kind})).collect();
        let spec = json!({
            "ociVersion": "1.2.0",
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}],
            "linux": {
                "namespaces": namespaces,
                "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}],
            },
        });
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn only_what_the_container_sees_as_its_own_is_handed_over() {
        assert_eq!(owner(&spec(&["user", "cgroup"], &["ro", "rw"])), Some(100_000));
        assert_eq!(owner(&spec(&["user", "cgroup"], &[])), Some(100_000));
        assert_eq!(owner(&spec(&["user", "cgroup"], &["nosuid", "ro"])), None);
        assert_eq!(owner(&spec(&["user"], &["rw"])), None);
        assert_eq!(owner(&spec(&["cgroup"], &["rw"])), None);
    }
}
