//! The description of devices, by the names of the specification.

use std::path::PathBuf;

use serde::Deserialize;

use super::document;

/// The versions of the specification that are understood.
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];
/// What one description, or one device, may bring of each kind of thing.
const LIST_MAX: usize = 10_000;
/// The places in a container's life at which hooks are called.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A description: a kind, and devices of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    devices: Vec<DeviceSpec>,
    /// What a container gets with any of them.
    #[serde(default)]
    pub container_edits: Edits,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeviceSpec {
    name: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

/// What a container gets with a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Nodes.
    pub(super) device_nodes: Vec<DeviceNode>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Hooks.
    pub hooks: Vec<Hook>,
    /// Further groups.
    #[serde(rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
}

/// A node in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DeviceNode {
    pub(super) path: PathBuf,
    pub(super) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A mount in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mount {
    /// On the host, or the source of a filesystem.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As in `config.json`.
    pub options: Vec<String>,
    /// The filesystem; a bind where it is not said.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A program of the host that the runtime calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hook {
    /// When.
    pub hook_name: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Seconds that it may take.
    pub timeout: Option<i64>,
}

impl Mount {
    /// Whether it shows a place of the host.
    pub fn is_bind(&self) -> bool {
        matches!(self.kind.as_str(), "" | "bind" | "none")
    }
}

impl Spec {
    /// Reads a description, and looks whether it can be followed.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value = document::parse(bytes)?;
        let spec: Self = serde_path_to_error::deserialize(value).map_err(|error| error.to_string())?;
        if !VERSIONS.contains(&spec.cdi_version.as_str()) {
            return Err(format!("unknown version {:?}", spec.cdi_version));
        }
        let (vendor, class) = spec.kind.split_once('/').unwrap_or(("", ""));
        if !is_name(vendor, b"_-.")
            || !is_name(class, b"_-.")
            || !vendor.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            return Err(format!("invalid kind {:?}", spec.kind));
        }
        if spec.devices.is_empty() || spec.devices.len() > LIST_MAX {
            return Err(format!("{} devices", spec.devices.len()));
        }
        check(&spec.container_edits)?;
        for (number, device) in spec.devices.iter().enumerate() {
            if !is_name(&device.name, b"_-.:") {
                return Err(format!("invalid device name {:?}", device.name));
            }
            if spec.devices[..number].iter().any(|known| known.name == device.name) {
                return Err(format!("the device {} is described twice", device.name));
            }
            check(&device.container_edits)?;
        }
        Ok(spec)
    }

    /// The full names of its devices.
    pub fn names(&self) -> Vec<String> {
        self.devices.iter().map(|device| format!("{}={}", self.kind, device.name)).collect()
    }

    /// What a device of it brings, by its full name.
    pub fn device(&self, name: &str) -> Option<&Edits> {
        let name = name.strip_prefix(&self.kind)?.strip_prefix('=')?;
        self.devices.iter().find(|device| device.name == name).map(|device| &device.container_edits)
    }
}

/// Letters and digits, and between them these.
fn is_name(text: &str, between: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let plain = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    plain(bytes.first())
        && plain(bytes.last())
        && bytes.len() <= 255
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || between.contains(byte))
}

fn check(edits: &Edits) -> Result<(), String> {
    let lengths = [
        edits.env.len(),
        edits.device_nodes.len(),
        edits.mounts.len(),
        edits.hooks.len(),
        edits.additional_gids.len(),
    ];
    if lengths.into_iter().any(|length| length > LIST_MAX) {
        return Err(format!("a list is longer than {LIST_MAX}"));
    }
    let odd = |text: &str| text.contains('\0');
    let inside = |path: &std::path::Path| {
        path.is_absolute() && path.components().all(|part| part != std::path::Component::ParentDir)
    };
    for variable in &edits.env {
        if odd(variable) || variable.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(format!("invalid variable {variable:?}"));
        }
    }
    for node in &edits.device_nodes {
        if !inside(&node.path) || node.host_path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(format!("invalid path of a device {:?}", node.path));
        }
        if node
            .permissions
            .as_ref()
            .is_some_and(|p| p.is_empty() || p.len() > 3 || !p.chars().all(|c| "rwm".contains(c)))
        {
            return Err(format!("invalid permissions of {}", node.path.display()));
        }
        if !matches!(node.kind.as_deref(), None | Some("" | "b" | "c" | "u")) {
            return Err(format!("invalid type of {}", node.path.display()));
        }
        if node.file_mode.is_some_and(|mode| mode > 0o7777) {
            return Err(format!("invalid mode of {}", node.path.display()));
        }
    }
    for mount in &edits.mounts {
        let source = mount.host_path.starts_with('/') || !mount.is_bind();
        let texts = mount.options.iter().chain([&mount.host_path, &mount.container_path, &mount.kind]);
        if !inside(std::path::Path::new(&mount.container_path))
            || !source
            || texts.into_iter().any(|text| odd(text))
        {
            return Err(format!("invalid mount at {:?}", mount.container_path));
        }
    }
    for hook in &edits.hooks {
        if !HOOKS.contains(&hook.hook_name.as_str()) || !hook.path.is_absolute() {
            return Err(format!("invalid hook {:?}", hook.hook_name));
        }
        if hook.args.iter().chain(&hook.env).any(|text| odd(text)) {
            return Err(format!("invalid hook {:?}", hook.hook_name));
        }
    }
    Ok(())
}
