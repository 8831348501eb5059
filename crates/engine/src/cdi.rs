//! Devices that have a name of their own, `vendor.com/class=name`: what a container needs to use one is written by its vendor
//! into folders of the host (CDI, the container device interface), and is put into the container's plan here.

mod document;
mod spec;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use api::container::{DeviceRequest, Resources};

use crate::error::{Error, Result};
use crate::plan::{Device, Kind};

pub use spec::{Edits, Hook, Mount, Spec};

/// A description of all devices of a large machine is some 100 KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// More files than any vendor writes.
const FILES_MAX: usize = 1000;
/// What a container may ask for.
const ASKED_MAX: usize = 1000;
/// The kinds that `--gpus` means, whichever is there first.
const GPUS: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];
/// The device of a kind that stands for all of them.
const ALL: &str = "all";
/// The driver of requests that name devices themselves.
const DRIVER: &str = "cdi";

/// What a plan gets beside what was asked for by other means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injected {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// What the runtime calls.
    pub hooks: Vec<Hook>,
    /// Further groups of the first process.
    pub groups: Vec<u32>,
}

/// The descriptions of a host.
#[derive(Debug, Default)]
struct Catalogue {
    specs: Vec<Spec>,
    /// By full name, the description that has it.
    devices: BTreeMap<String, usize>,
    /// What could not be read.
    broken: Vec<String>,
}

/// The devices that are asked for, from the folders' descriptions. Nothing is looked at where nothing is asked for.
pub fn find(folders: &[PathBuf], resources: &Resources) -> Result<Injected> {
    if resources.device_requests.is_empty() {
        return Ok(Injected::default());
    }
    let catalogue = Catalogue::read(folders);
    let mut names: Vec<String> = Vec::new();
    for request in &resources.device_requests {
        for name in catalogue.names(request)? {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > ASKED_MAX {
            return Err(Error::invalid(format!("more than {ASKED_MAX} devices are asked for")));
        }
    }
    catalogue.inject(&names)
}

/// All devices that are described, by their full names, for `info`.
pub fn names(folders: &[PathBuf]) -> Vec<String> {
    Catalogue::read(folders).devices.into_keys().collect()
}

impl Catalogue {
    fn read(folders: &[PathBuf]) -> Self {
        let mut catalogue = Self::default();
        for folder in folders {
            // Of a device that two files of one folder describe nobody knows which one is meant.
            let mut here: BTreeMap<String, usize> = BTreeMap::new();
            let mut doubtful = Vec::new();
            for path in files(folder) {
                let spec = match read(&path) {
                    Ok(spec) => spec,
                    Err(why) => {
                        let text = format!("{}: {why}", path.display());
                        tracing::warn!("a description of devices cannot be used: {text}");
                        catalogue.broken.push(text);
                        continue;
                    }
                };
                let number = catalogue.specs.len();
                for device in spec.names() {
                    if here.insert(device.clone(), number).is_some() {
                        catalogue.broken.push(format!("{device} is described twice in {}", folder.display()));
                        doubtful.push(device);
                    }
                }
                catalogue.specs.push(spec);
            }
            here.retain(|device, _| !doubtful.contains(device));
            catalogue.devices.extend(here);
        }
        catalogue
    }

    /// The full names of what a request asks for.
    fn names(&self, request: &DeviceRequest) -> Result<Vec<String>> {
        if request.driver == DRIVER {
            return Ok(request.device_ids.clone());
        }
        let nobody = || {
            let sets = request.capabilities.iter().map(|set| format!("[{}]", set.join(" ")));
            Error::invalid(format!(
                "could not select device driver \"{}\" with capabilities: [{}]",
                request.driver,
                sets.collect::<Vec<_>>().join(" ")
            ))
        };
        let is_gpu = request.capabilities.iter().any(|set| set.iter().any(|word| word == "gpu"));
        if !is_gpu || !matches!(request.driver.as_str(), "" | "nvidia" | "amd") {
            return Err(nobody());
        }
        let kind = GPUS
            .into_iter()
            .filter(|kind| request.driver.is_empty() || kind.starts_with(&request.driver))
            .find(|kind| self.of_kind(kind).next().is_some())
            .ok_or_else(nobody)?;
        let full = |name: &dyn std::fmt::Display| format!("{kind}={name}");
        if request.count != 0 && !request.device_ids.is_empty() {
            return Err(Error::invalid("cannot set both Count and DeviceIDs on device request"));
        }
        if !request.device_ids.is_empty() {
            return Ok(request.device_ids.iter().map(|id| full(id)).collect());
        }
        match usize::try_from(request.count) {
            Ok(count) if count > ASKED_MAX => {
                Err(Error::invalid(format!("more than {ASKED_MAX} devices are asked for")))
            }
            Ok(count) => Ok((0..count).map(|number| full(&number)).collect()),
            Err(_) if self.devices.contains_key(&full(&ALL)) => Ok(vec![full(&ALL)]),
            Err(_) => Ok(self.of_kind(kind).cloned().collect()),
        }
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a String> {
        self.devices
            .keys()
            .filter(move |name| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('=')))
    }

    /// What the devices bring: what is common to all of a description once, and before the devices' own.
    fn inject(&self, names: &[String]) -> Result<Injected> {
        let missing: Vec<&str> =
            names.iter().filter(|name| !self.devices.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            let mut text =
                format!("CDI device injection failed: unresolvable CDI devices {}", missing.join(", "));
            if let Some(first) = self.broken.first() {
                text.push_str(&format!(" ({first})"));
            }
            return Err(Error::invalid(text));
        }
        let mut injected = Injected::default();
        let mut begun = Vec::new();
        for name in names {
            let Some(number) = self.devices.get(name) else { continue };
            let Some(spec) = self.specs.get(*number) else { continue };
            if !begun.contains(number) {
                begun.push(*number);
                injected.add(&spec.container_edits)?;
            }
            if let Some(edits) = spec.device(name) {
                injected.add(edits)?;
            }
        }
        Ok(injected)
    }
}

impl Injected {
    fn add(&mut self, edits: &Edits) -> Result<()> {
        self.env.extend(edits.env.iter().cloned());
        for node in &edits.device_nodes {
            let device = look_up(node)?;
            self.devices.retain(|known| known.path != device.path);
            self.devices.push(device);
        }
        self.mounts.extend(edits.mounts.iter().cloned());
        self.hooks.extend(edits.hooks.iter().cloned());
        self.groups.extend(edits.additional_gids.iter().filter(|gid| **gid != 0));
        Ok(())
    }
}

/// The files of a folder that may be descriptions, in their order. A folder that is not there has none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let described =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json" || extension == "yaml");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(described).take(FILES_MAX).collect();
    files.sort();
    files
}

fn read(path: &Path) -> std::result::Result<Spec, String> {
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    if !file.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    Spec::parse(&bytes)
}

/// A node as the host has it, where the description leaves that open.
fn look_up(node: &spec::DeviceNode) -> Result<Device> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
    let source = node.host_path.as_ref().unwrap_or(&node.path);
    let found = fs::metadata(source);
    let (kind, major, minor) = match (node.kind.as_deref(), node.major) {
        (Some("c" | "u"), Some(major)) => (Kind::Character, major, node.minor.unwrap_or(0)),
        (Some("b"), Some(major)) => (Kind::Block, major, node.minor.unwrap_or(0)),
        _ => {
            let metadata = found.as_ref().map_err(|e| {
                Error::invalid(format!(
                    "CDI device injection failed: cannot look at {}: {e}",
                    source.display()
                ))
            })?;
            let kind = match metadata.file_type() {
                kind if kind.is_char_device() => Kind::Character,
                kind if kind.is_block_device() => Kind::Block,
                _ => {
                    return Err(Error::invalid(format!(
                        "CDI device injection failed: {} is not a device node",
                        source.display()
                    )));
                }
            };
            (kind, rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))
        }
    };
    let found = found.ok();
    let mode = found.as_ref().map_or(0o666, |metadata| metadata.permissions().mode() & 0o7777);
    Ok(Device {
        path: node.path.clone(),
        kind,
        major,
        minor,
        mode: node.file_mode.unwrap_or(mode),
        uid: node.uid.unwrap_or_else(|| found.as_ref().map_or(0, fs::Metadata::uid)),
        gid: node.gid.unwrap_or_else(|| found.as_ref().map_or(0, fs::Metadata::gid)),
        access: node.permissions.clone().unwrap_or_else(|| "rwm".to_owned()),
    })
}

#[cfg(test)]
mod tests;
