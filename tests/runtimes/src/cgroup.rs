//! A container's cgroup, seen from the host: version 1, hybrid or unified.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether the host has the unified hierarchy alone.
#[must_use]
pub fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Whether the host has both versions, and the second has controllers.
#[must_use]
pub fn hybrid_with_controllers() -> bool {
    let list = fs::read_to_string(Path::new(ROOT).join("unified/cgroup.controllers")).unwrap_or_default();
    !list.trim().is_empty()
}

/// The hierarchy of a controller.
fn hierarchy(controller: &str) -> PathBuf {
    if unified() { PathBuf::from(ROOT) } else { Path::new(ROOT).join(controller) }
}

/// Whether the host can limit by this controller.
#[must_use]
pub fn has(controller: &str) -> bool {
    if unified() {
        let list = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
        return list.split_whitespace().any(|name| name == controller);
    }
    hierarchy(controller).join("cgroup.procs").exists()
}

/// The content of a control file of `group`, without the newline.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn read(controller: &str, group: &str, file: &str) -> String {
    let path = hierarchy(controller).join(group.trim_start_matches('/')).join(file);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => panic!("cannot read {}: {error}", path.display()),
    }
}

/// Whether `group` has this control file.
#[must_use]
pub fn exists(controller: &str, group: &str, file: &str) -> bool {
    hierarchy(controller).join(group.trim_start_matches('/')).join(file).exists()
}

/// The directories of all hierarchies whose path ends with `group`.
#[must_use]
pub fn directories(group: &str) -> Vec<PathBuf> {
    let group = group.trim_start_matches('/');
    let single = PathBuf::from(ROOT).join(group);
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join(group)).chain([single]).filter(|path| path.is_dir()).collect()
}
