//! Drivers of volumes that are programs of their own, by Docker's plugin protocol: JSON over HTTP on a socket.
//!
//! A plugin is found by its name: a socket `NAME.sock` (or `NAME/NAME.sock`) in the directory of sockets, or a file
//! `NAME.spec` or `NAME.json` in one of the directories of specifications. Nothing that it says is trusted to be short,
//! quick or right.

pub mod http;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use http::Address;

/// How long a plugin may take to answer: it may have to wait for a disk that is being attached elsewhere.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one may take to answer where others wait for a list.
const LIST_PATIENCE: Duration = Duration::from_secs(5);
/// Volumes of one plugin that are listed.
const LISTED_MAX: usize = 10_000;
/// A file that says where a plugin is holds one address.
const SPEC_BYTES_MAX: u64 = 64 << 10;
/// Plugins that are looked for in all: each costs a call for a list.
const PLUGINS_MAX: usize = 64;
/// A path of the kernel is not longer.
const PATH_BYTES_MAX: usize = 4096;

/// Where plugins are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The directories of sockets.
    pub sockets: Vec<PathBuf>,
    /// The directories of specifications.
    pub specs: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            sockets: vec!["/run/docker/plugins".into()],
            specs: vec!["/etc/docker/plugins".into(), "/usr/lib/docker/plugins".into()],
        }
    }
}

/// A driver.
#[derive(Debug, Clone)]
pub struct Plugin {
    name: String,
    address: Address,
}

/// A volume as its driver tells of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Where it is mounted, if it is.
    #[serde(deserialize_with = "null_as_default")]
    pub mountpoint: String,
    /// When it was made, as the plugin has it.
    #[serde(deserialize_with = "null_as_default")]
    pub created_at: String,
    /// What else there is to tell.
    #[serde(deserialize_with = "null_as_default")]
    pub status: BTreeMap<String, serde_json::Value>,
}

fn null_as_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    #[serde(deserialize_with = "null_as_default")]
    err: String,
    #[serde(deserialize_with = "null_as_default")]
    mountpoint: String,
    volume: Option<Told>,
    #[serde(deserialize_with = "null_as_default")]
    volumes: Vec<Told>,
    #[serde(deserialize_with = "null_as_default")]
    capabilities: Capabilities,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Capabilities {
    #[serde(deserialize_with = "null_as_default")]
    scope: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Manifest {
    #[serde(deserialize_with = "null_as_default")]
    implements: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ask<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<&'a BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SpecFile {
    addr: String,
    #[serde(default, rename = "TLSConfig")]
    tls: Option<serde_json::Value>,
}

impl Places {
    /// Finds a plugin and asks what it is.
    pub fn find(&self, name: &str) -> Result<Plugin> {
        self.look_up(name, PATIENCE)
    }

    /// The same for who asks all of them, one after the other.
    pub fn find_for_list(&self, name: &str) -> Result<Plugin> {
        self.look_up(name, LIST_PATIENCE)
    }

    fn look_up(&self, name: &str, patience: Duration) -> Result<Plugin> {
        let missing = |why: String| Error::not_found(format!("error looking up volume plugin {name}: {why}"));
        let absent = || missing(format!("plugin \"{name}\" not found"));
        // A name is no path.
        if !is_name(name) {
            return Err(absent());
        }
        let address = self.address(name).map_err(|error| missing(error.to_string()))?.ok_or_else(absent)?;
        let plugin = Plugin { name: name.to_owned(), address };
        let manifest: Manifest = plugin
            .post("Plugin.Activate", &Ask::default(), patience)
            .map_err(|error| missing(error.to_string()))?;
        if !manifest.implements.iter().any(|what| what == "VolumeDriver") {
            return Err(missing(format!("plugin {name} does not implement the requested interface")));
        }
        Ok(plugin)
    }

    fn address(&self, name: &str) -> Result<Option<Address>> {
        for directory in &self.sockets {
            for path in
                [directory.join(format!("{name}.sock")), directory.join(name).join(format!("{name}.sock"))]
            {
                if path.exists() {
                    return Ok(Some(Address::Unix(path)));
                }
            }
        }
        for directory in &self.specs {
            let plain = directory.join(format!("{name}.spec"));
            if let Some(text) = read(&plain)? {
                return Address::parse(text.trim()).map(Some);
            }
            let path = directory.join(format!("{name}.json"));
            if let Some(text) = read(&path)? {
                let spec: SpecFile = serde_json::from_str(&text)
                    .map_err(|e| Error::invalid(format!("cannot read {}: {e}", path.display())))?;
                if spec.tls.is_some_and(|tls| !tls.is_null()) {
                    return Err(Error::not_implemented("plugins over TLS (TLSConfig) are not supported yet"));
                }
                return Address::parse(&spec.addr).map(Some);
            }
        }
        Ok(None)
    }

    /// The names of all plugins there are, whatever they do.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let ends = [(&self.sockets, &[".sock", ""][..]), (&self.specs, &[".spec", ".json"])];
        for (directories, ends) in ends {
            for entry in
                directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten()
            {
                let Ok(file) = entry.file_name().into_string() else { continue };
                let Some(name) = ends.iter().find_map(|end| file.strip_suffix(end)) else { continue };
                let inner = entry.path().join(format!("{name}.sock"));
                if is_name(name) && names.len() < PLUGINS_MAX && (file != name || inner.exists()) {
                    names.insert(name.to_owned());
                }
            }
        }
        names
    }
}

fn is_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() <= 200
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn read(path: &Path) -> Result<Option<String>> {
    let mut text = String::new();
    match fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
        Ok(file) => {
            file.take(SPEC_BYTES_MAX).read_to_string(&mut text).map_err(|e| Error::io("read", path, e))?
        }
    };
    Ok(Some(text))
}

impl Plugin {
    fn post<T: DeserializeOwned>(&self, method: &str, ask: &Ask<'_>, patience: Duration) -> Result<T> {
        let name = &self.name;
        let body =
            serde_json::to_vec(ask).map_err(|e| Error::system(format!("cannot ask plugin {name}: {e}")))?;
        let answer = http::post(&self.address, method, &body, patience)
            .map_err(|e| Error::system(format!("plugin {name}: {method}: {e}")))?;
        // What a plugin refuses it says in JSON too, or in plain text.
        if answer.status != 200 {
            let told =
                serde_json::from_slice::<Answer>(&answer.body).map(|answer| answer.err).unwrap_or_default();
            let text =
                if told.is_empty() { String::from_utf8_lossy(&answer.body).trim().to_owned() } else { told };
            let text = clipped(&text);
            return Err(Error::system(format!("{method}: {text}")));
        }
        serde_json::from_slice(&answer.body).map_err(|e| {
            Error::system(format!("plugin {name}: {method}: what it says is not understood: {e}"))
        })
    }

    fn call(&self, method: &str, ask: &Ask<'_>, patience: Duration) -> Result<Answer> {
        let answer: Answer = self.post(method, ask, patience)?;
        if answer.err.is_empty() {
            Ok(answer)
        } else {
            Err(Error::system(format!("{method}: {}", clipped(&answer.err))))
        }
    }

    /// Makes a volume.
    pub fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let ask = Ask { name, opts: Some(options), ..Ask::default() };
        self.call("VolumeDriver.Create", &ask, PATIENCE).map(drop)
    }

    /// Removes a volume.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.call("VolumeDriver.Remove", &Ask { name, ..Ask::default() }, PATIENCE).map(drop)
    }

    /// Mounts a volume for `id`.
    pub fn mount(&self, name: &str, id: &str) -> Result<PathBuf> {
        let answer = self.call("VolumeDriver.Mount", &Ask { name, id, opts: None }, PATIENCE)?;
        self.directory(answer.mountpoint)
    }

    /// A path that a plugin says is taken if it can be one.
    fn directory(&self, path: String) -> Result<PathBuf> {
        if !path.starts_with('/') || path.len() >= PATH_BYTES_MAX || path.contains('\0') {
            let (name, path) = (&self.name, clipped(&path));
            return Err(Error::system(format!(
                "plugin {name}: VolumeDriver.Mount: {path:?} is no path of a directory"
            )));
        }
        Ok(path.into())
    }

    /// `id` does not need it any more.
    pub fn unmount(&self, name: &str, id: &str) -> Result<()> {
        self.call("VolumeDriver.Unmount", &Ask { name, id, opts: None }, PATIENCE).map(drop)
    }

    /// What there is to tell of a volume; `None` if there is no such one.
    pub fn get(&self, name: &str) -> Result<Option<Told>> {
        let told = self.call("VolumeDriver.Get", &Ask { name, ..Ask::default() }, LIST_PATIENCE)?.volume;
        let Some(mut told) = told else { return Ok(None) };
        if told.mountpoint.is_empty() {
            let path = self.call("VolumeDriver.Path", &Ask { name, ..Ask::default() }, LIST_PATIENCE);
            told.mountpoint = path.map(|answer| answer.mountpoint).unwrap_or_default();
        }
        Ok(Some(told))
    }

    /// All volumes that the plugin knows of.
    pub fn list(&self) -> Result<Vec<Told>> {
        let mut volumes = self.call("VolumeDriver.List", &Ask::default(), LIST_PATIENCE)?.volumes;
        volumes.truncate(LISTED_MAX);
        Ok(volumes)
    }

    /// `local` or `global`: an old plugin that does not say is local.
    pub fn scope(&self) -> String {
        let told = self.call("VolumeDriver.Capabilities", &Ask::default(), LIST_PATIENCE);
        match told.map(|answer| answer.capabilities.scope.to_lowercase()).as_deref() {
            Ok("global") => "global".to_owned(),
            _ => "local".to_owned(),
        }
    }
}

/// As much of a text as fits a line.
fn clipped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for name in ["", "../x", "a/b", ".x", "a\0b"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("rexray.v1-2"));
        let error = Places { sockets: vec![], specs: vec![] }.find("../x").unwrap_err();
        assert_eq!(error.to_string(), "error looking up volume plugin ../x: plugin \"../x\" not found");
    }

    #[test]
    fn specifications_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("one.spec"), "unix:///x/one.sock\n").unwrap();
        fs::write(dir.path().join("two.json"), r#"{"Name":"two","Addr":"tcp://127.0.0.1:9"}"#).unwrap();
        fs::write(dir.path().join("tls.json"), r#"{"Addr":"https://h:1","TLSConfig":{"CAFile":"x"}}"#)
            .unwrap();
        let places = Places { sockets: vec![dir.path().join("none")], specs: vec![dir.path().to_owned()] };
        assert_eq!(places.address("one").unwrap(), Some(Address::Unix("/x/one.sock".into())));
        assert_eq!(places.address("two").unwrap(), Some(Address::Tcp("127.0.0.1:9".parse().unwrap())));
        assert!(places.address("tls").unwrap_err().to_string().contains("TLS"));
        assert_eq!(places.address("three").unwrap(), None);
        assert_eq!(places.names().into_iter().collect::<Vec<_>>(), ["one", "tls", "two"]);
    }

    #[test]
    fn what_a_plugin_says_may_be_null() {
        let answer: Answer =
            serde_json::from_str(r#"{"Volumes":null,"Err":null,"Capabilities":null}"#).unwrap();
        assert!(answer.volumes.is_empty() && answer.err.is_empty());
    }
}
