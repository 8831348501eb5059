//! What a pod's container has mounted, and what that is.

use api::container::{Mount, TmpfsOptions};
use serde_json::{Map, Value, json};

use super::{label, refusal};
use crate::error::{Error, Result};
use crate::flags::ram_bytes;
use crate::recipe::Recipe;
use crate::recipe::flags::SHM_BYTES;

/// Mounts, and the volumes behind them.
#[derive(Default)]
pub(super) struct Volumes {
    pub(super) mounts: Vec<Value>,
    pub(super) volumes: Vec<Value>,
}

/// How one of them is mounted.
#[derive(Default)]
struct How<'a> {
    read_only: bool,
    sub_path: &'a str,
    propagation: &'a str,
    recursive_read_only: bool,
}

impl Volumes {
    /// All that a container has.
    pub(super) fn of(recipe: &Recipe) -> Result<Self> {
        let host = &recipe.host;
        let mut all = Self::default();
        for bind in &host.binds {
            all.short(recipe, bind)?;
        }
        for mount in &host.mounts {
            all.long(recipe, mount)?;
        }
        for (path, options) in &host.tmpfs {
            all.tmpfs(recipe, path, options)?;
        }
        for path in recipe.config.volumes.keys() {
            all.add(path, &How::default(), source(""));
        }
        if host.shm_size > 0 && host.shm_size != SHM_BYTES && host.ipc_mode != "host" {
            all.add("/dev/shm", &How::default(), memory(host.shm_size));
        }
        Ok(all)
    }

    fn add(&mut self, target: &str, how: &How<'_>, what: Value) {
        let name = format!("volume-{}", self.volumes.len());
        let mut mount =
            Map::from_iter([("name".to_owned(), json!(name)), ("mountPath".to_owned(), json!(target))]);
        for (key, value, given) in [
            ("readOnly", json!(true), how.read_only),
            ("recursiveReadOnly", json!("Enabled"), how.recursive_read_only),
            ("subPath", json!(how.sub_path), !how.sub_path.is_empty()),
            ("mountPropagation", json!(how.propagation), !how.propagation.is_empty()),
        ] {
            if given {
                mount.insert(key.to_owned(), value);
            }
        }
        self.mounts.push(Value::Object(mount));
        let mut volume = Map::from_iter([("name".to_owned(), json!(name))]);
        volume.extend(what.as_object().cloned().unwrap_or_default());
        self.volumes.push(Value::Object(volume));
    }

    /// `--volume`.
    fn short(&mut self, recipe: &Recipe, bind: &str) -> Result<()> {
        let parts: Vec<&str> = bind.split(':').collect();
        let (from, target, mode) = match parts[..] {
            [target] => ("", target, ""),
            [from, target] => (from, target, ""),
            [from, target, mode] => (from, target, mode),
            _ => return Err(Error::Message(format!("{}: cannot read the mount {bind}", recipe.name))),
        };
        let mut how = How::default();
        for word in mode.split(',') {
            match word {
                "ro" => how.read_only = true,
                // A claim is never filled from the image, and labels are the node's to set.
                "" | "rw" | "z" | "Z" | "nocopy" => {}
                word => how.propagation = propagation(recipe, word)?,
            }
        }
        self.add(target, &how, source(from));
        Ok(())
    }

    /// `--mount`.
    fn long(&mut self, recipe: &Recipe, mount: &Mount) -> Result<()> {
        let mut how = How { read_only: mount.read_only, ..How::default() };
        match mount.kind.as_str() {
            "bind" => {
                let mut what = source(&mount.source);
                if let Some(bind) = &mount.bind_options {
                    recipe.refuse(
                        refusal::FORM,
                        [
                            (bind.id_mapping.is_some(), "owners of files that are mapped (bind-idmap)"),
                            (
                                bind.non_recursive,
                                "a folder without the mounts in it (bind-recursive=disabled)",
                            ),
                        ],
                    )?;
                    how.propagation = propagation(recipe, &bind.propagation)?;
                    how.recursive_read_only = bind.read_only_force_recursive;
                    if bind.create_mountpoint {
                        what["hostPath"]["type"] = json!("DirectoryOrCreate");
                    }
                }
                self.add(&mount.target, &how, what);
            }
            "volume" => {
                if let Some(volume) = &mount.volume_options {
                    let is_new = mount.source.is_empty() && volume.driver_config.is_some();
                    recipe.refuse(
                        refusal::FORM,
                        [(is_new, "drivers of new volumes (volume-driver, volume-opt)")],
                    )?;
                    how.sub_path = &volume.subpath;
                }
                self.add(&mount.target, &how, source(&mount.source));
            }
            "image" => {
                how.read_only = true;
                how.sub_path = mount.image_options.as_ref().map_or("", |image| image.subpath.as_str());
                self.add(&mount.target, &how, json!({"image": {"reference": mount.source}}));
            }
            "tmpfs" => {
                let tmpfs = mount.tmpfs_options.clone().unwrap_or_default();
                tuned(recipe, &tmpfs)?;
                self.add(&mount.target, &how, memory(tmpfs.size_bytes));
            }
            other => {
                let what = format!("mounts of type {other}");
                recipe.refuse(refusal::FORM, [(true, what.as_str())])?;
            }
        }
        Ok(())
    }

    /// `--tmpfs`.
    fn tmpfs(&mut self, recipe: &Recipe, path: &str, options: &str) -> Result<()> {
        let (mut how, mut bytes) = (How::default(), 0);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                // Anything is run from memory in a pod.
                None if matches!(option, "rw" | "exec") => {}
                None if option == "ro" => how.read_only = true,
                Some(("size", size)) if ram_bytes(size).is_some_and(|size| size > 0) => {
                    bytes = ram_bytes(size).unwrap_or_default();
                }
                _ => {
                    let what = format!("the option {option} of a filesystem in memory (--tmpfs {path})");
                    recipe.refuse(refusal::FORM, [(true, what.as_str())])?;
                }
            }
        }
        self.add(path, &how, memory(bytes));
        Ok(())
    }
}

fn tuned(recipe: &Recipe, tmpfs: &TmpfsOptions) -> Result<()> {
    recipe.refuse(
        refusal::FORM,
        [
            (tmpfs.mode != 0, "who may enter a filesystem in memory (tmpfs-mode)"),
            (!tmpfs.options.is_empty(), "options of a filesystem in memory (tmpfs-options)"),
        ],
    )
}

fn source(source: &str) -> Value {
    match source {
        "" => json!({"emptyDir": {}}),
        path if path.starts_with('/') => json!({"hostPath": {"path": path}}),
        name => json!({"persistentVolumeClaim": {"claimName": label(name)}}),
    }
}

/// A filesystem in memory; 0 for as much as there is.
fn memory(bytes: i64) -> Value {
    if bytes > 0 {
        json!({"emptyDir": {"medium": "Memory", "sizeLimit": bytes.to_string()}})
    } else {
        json!({"emptyDir": {"medium": "Memory"}})
    }
}

/// Where mounts made later are seen.
fn propagation(recipe: &Recipe, word: &str) -> Result<&'static str> {
    match word {
        "" | "private" | "rprivate" => Ok(""),
        "rslave" => Ok("HostToContainer"),
        // Kubernetes allows it to the privileged alone.
        "rshared" if recipe.host.privileged => Ok("Bidirectional"),
        other => {
            let what = format!("mounts that are {other} (bind-propagation)");
            recipe.refuse(refusal::FORM, [(true, what.as_str())]).map(|()| "")
        }
    }
}
