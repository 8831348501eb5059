//! The hierarchies of control groups that this host has mounted.

use std::fs;
use std::path::{Path, PathBuf};

use sys::fsx;

use super::MOUNTPOINT;
use crate::error::{Context as _, Error};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Its directory below the mount point: `cpu,cpuacct`, `memory`, `systemd`; empty for the unified layout.
    pub(crate) name: String,
    /// Whether it is of version 2.
    pub(crate) v2: bool,
}

impl Hierarchy {
    /// Whether it is the one with this controller of version 1.
    pub(crate) fn has(&self, controller: &str) -> bool {
        !self.v2 && self.name.split(',').any(|c| c == controller)
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        Path::new(MOUNTPOINT).join(&self.name)
    }
}

/// The hierarchies of this host, each verified to be one.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let top = fsx::open_dir(MOUNTPOINT).on("open", MOUNTPOINT)?;
    let magic = sys::mount::magic(&top).on("inspect", MOUNTPOINT)?;
    if magic == sys::mount::CGROUP2 {
        return Ok(vec![Hierarchy { name: String::new(), v2: true }]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(MOUNTPOINT).on("list", MOUNTPOINT)? {
        let entry = entry.on("list", MOUNTPOINT)?;
        // Links stand for controllers that share a hierarchy: `cpu` for `cpu,cpuacct`.
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let directory = fsx::open_dir_at(&top, &name).on("open", entry.path())?;
        match sys::mount::magic(&directory).on("inspect", entry.path())? {
            sys::mount::CGROUP => found.push(Hierarchy { name, v2: false }),
            sys::mount::CGROUP2 => found.push(Hierarchy { name, v2: true }),
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(Error::Invalid(format!("no cgroup hierarchy is mounted below {MOUNTPOINT}")));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether `/sys/fs/cgroup` itself is a hierarchy of version 2.
pub(super) fn is_unified_host() -> bool {
    let magic = fsx::open_dir(MOUNTPOINT).and_then(|top| sys::mount::magic(&top));
    magic.is_ok_and(|magic| magic == sys::mount::CGROUP2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_hierarchies_are_found_by_each_controller() {
        let shared = Hierarchy { name: "cpu,cpuacct".into(), v2: false };
        assert!(shared.has("cpu") && shared.has("cpuacct") && !shared.has("cpuset"));
        assert!(!Hierarchy { name: "unified".into(), v2: true }.has("unified"));
    }
}
