//! Where a container's group is to be, and what is remembered of it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use oci::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use super::systemd::{Plan, Unit};
use super::{MOUNTPOINT, delegate};
use crate::error::Error;

/// Who makes the groups of containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// This runtime, as directories.
    #[default]
    Files,
    /// Systemd, as scopes.
    Systemd,
}

/// What is remembered of a container's group, so that later commands find it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its path, counted from the root of the hierarchies. Empty if the container has no group of its own.
    pub cgroup: PathBuf,
    /// The hierarchies of version 1 in which it has none, because the user who made it may not make one there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// Its unit, if systemd has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

/// A group to make.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(super) id: &'a str,
    /// `linux.cgroupsPath`, unless it is empty.
    path: Option<&'a Path>,
    /// `linux.resources`.
    pub(super) resources: Option<&'a LinuxResources>,
    pub(super) annotations: HashMap<String, String>,
    /// To whom a group of version 2 is handed over.
    pub(super) owner: Option<u32>,
    driver: Driver,
}

impl<'a> Order<'a> {
    pub(crate) fn new(id: &'a str, spec: &'a Spec, driver: Driver) -> Self {
        let linux = spec.linux().as_ref();
        let path = linux.and_then(|l| l.cgroups_path().as_deref()).filter(|p| !p.as_os_str().is_empty());
        let annotations = match driver {
            Driver::Files => HashMap::new(),
            Driver::Systemd => spec.annotations().clone().unwrap_or_default(),
        };
        let resources = linux.and_then(|l| l.resources().as_ref());
        Self { id, path, resources, annotations, owner: delegate::owner(spec), driver }
    }

    /// Where it is to be, and the unit to start for it.
    pub(super) fn place(&self) -> Result<(Place, Option<Plan>), Error> {
        match self.driver {
            Driver::Files => {
                let cgroup = match self.path {
                    Some(path) => path.to_owned(),
                    None if is_ordinary() => own_neighbourhood().join(self.id),
                    None => PathBuf::from(self.id),
                };
                let cgroup = Path::new("/").join(relative(&cgroup)?);
                Ok((Place { cgroup, ..Place::default() }, None))
            }
            Driver::Systemd => {
                let plan = Plan::new(self.id, self.path)?;
                let place =
                    Place { cgroup: plan.cgroup.clone(), unit: Some(plan.unit.clone()), ..Place::default() };
                Ok((place, Some(plan)))
            }
        }
    }

    /// Whether limits are asked for, which cannot be without a group. Device rules do not count: who has no right to a group has
    /// none to a device either.
    pub(super) fn has_limits(&self) -> bool {
        let Some(resources) = self.resources else { return false };
        let mut others = resources.clone();
        others.set_devices(None);
        serde_json::to_value(&others).map_or(true, |value| !says_nothing(&value))
    }
}

/// Whether there is no limit in it: zero stands for one that is not given.
fn says_nothing(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::String(_) => false,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(list) => list.iter().all(says_nothing),
        Value::Object(map) => map.values().all(says_nothing),
    }
}

/// `path` without its root, if it is fit to be a cgroup's.
pub(super) fn relative(path: &Path) -> Result<PathBuf, Error> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Invalid(format!("linux.cgroupsPath {path:?} contains \"..\"")));
            }
        }
    }
    if relative.as_os_str().is_empty() {
        return Err(Error::Invalid("linux.cgroupsPath is the root of the hierarchy".into()));
    }
    Ok(relative)
}

/// Whether this process is not the host's root: another user, or root of a user namespace only.
pub(crate) fn is_ordinary() -> bool {
    if sys::process::effective_user() != 0 {
        return true;
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = ["0", "0", "4294967295"];
    !map.split_whitespace().eq(whole)
}

/// Whether an error says that there is no right to a group, and not that something is wrong with it.
pub(super) fn is_denied(error: &Error) -> bool {
    const EROFS: i32 = 30;
    matches!(error, Error::Io { source, .. } | Error::Limit { source, .. }
        if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
            || source.raw_os_error() == Some(EROFS))
}

/// The caller's group in each hierarchy, by the list of controllers (empty for version 2), without the root.
pub(super) fn own() -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    parse_own(&text)
}

fn parse_own(text: &str) -> Vec<(String, PathBuf)> {
    let line = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let controllers = controllers.strip_prefix("name=").unwrap_or(controllers);
        // One outside the cgroup namespace is shown with `..`: nobody here can name it.
        Some((controllers.to_owned(), relative(Path::new(path)).unwrap_or_default()))
    };
    text.lines().filter_map(line).collect()
}

/// Where an ordinary user may make a group, if anywhere: beside the own one, as there are processes in that, so that it cannot pass
/// on controllers; or else in it.
fn own_neighbourhood() -> PathBuf {
    let own = own().into_iter().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| path);
    let own = own.unwrap_or_default();
    let root = if super::is_unified_host() {
        Path::new(MOUNTPOINT).into()
    } else {
        Path::new(MOUNTPOINT).join("unified")
    };
    match own.parent() {
        Some(parent) if sys::process::may_write(&root.join(parent)).is_ok() => parent.to_owned(),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        assert_eq!(relative(Path::new("/corten//a/./b")).unwrap(), Path::new("corten/a/b"));
        relative(Path::new("/a/../b")).unwrap_err();
        relative(Path::new("/")).unwrap_err();
        relative(Path::new("")).unwrap_err();
    }

    #[test]
    fn the_own_group_of_each_hierarchy_is_known() {
        let own = parse_own("4:memory:/a/b\n1:name=systemd:/\n0::/user.slice/x:y.scope\n");
        let expected = [("memory", "a/b"), ("systemd", ""), ("", "user.slice/x:y.scope")];
        assert_eq!(own, expected.map(|(a, b)| (a.to_owned(), PathBuf::from(b))));
        assert_eq!(parse_own("0::/../x\n"), [(String::new(), PathBuf::new())]);
    }

    #[test]
    fn device_rules_alone_are_no_limits() {
        let spec = |resources: serde_json::Value| -> Spec {
            serde_json::from_value(
                serde_json::json!({"ociVersion": "1.2.0", "linux": {"resources": resources}}),
            )
            .unwrap()
        };
        let none = spec(serde_json::json!({"devices": [{"allow": false, "access": "rwm"}], "cpu": {}}));
        assert!(!Order::new("x", &none, Driver::Files).has_limits());
        let some = spec(serde_json::json!({"pids": {"limit": 5}}));
        assert!(Order::new("x", &some, Driver::Files).has_limits());
    }
}
