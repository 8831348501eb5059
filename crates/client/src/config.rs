//! `config.json`: Docker's own file, of which keys that are not known here are kept as they are.

use serde_json::{Map, Value};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A configuration longer than this is not one.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The configuration file of a user.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    folder: PathBuf,
    values: Map<String, Value>,
}

/// The folder of the configuration: `DOCKER_CONFIG`, else `~/.docker`.
#[must_use]
pub fn default_folder() -> PathBuf {
    if let Some(folder) = crate::target::environment("DOCKER_CONFIG") {
        return PathBuf::from(folder);
    }
    let home = crate::target::environment("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    home.join(".docker")
}

impl ConfigFile {
    /// A configuration that says nothing.
    #[must_use]
    pub fn empty(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), values: Map::new() }
    }

    /// Reads `folder/config.json`; a missing one says nothing.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(err)
                if matches!(err.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Ok(Self::empty(folder));
            }
            Err(source) => return Err(Error::File { verb: "reading", path, source }),
        };
        if text.trim_ascii().is_empty() {
            return Ok(Self::empty(folder));
        }
        let values = serde_json::from_slice(&text)
            .map_err(|err| Error::Malformed { path, detail: format!("loading config file: {err}") })?;
        Ok(Self { folder: folder.to_owned(), values })
    }

    /// The folder it lies in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text at a key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// The object at a key.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<&Map<String, Value>> {
        self.values.get(key)?.as_object()
    }

    /// The list of texts at a key.
    #[must_use]
    pub fn texts(&self, key: &str) -> Vec<&str> {
        let list = self.values.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Sets a key, or takes it out.
    pub fn set(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => {
                self.values.insert(key.to_owned(), Value::String(value.to_owned()));
            }
            None => {
                self.values.shift_remove(key);
            }
        }
    }

    /// Sets an entry of the object at a key, or takes it out; an object that is empty then goes too.
    pub fn set_entry(&mut self, key: &str, entry: &str, value: Option<Value>) {
        let mut object = match self.values.get_mut(key).map(Value::take) {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        };
        match value {
            Some(value) => object.insert(entry.to_owned(), value),
            None => object.shift_remove(entry),
        };
        if object.is_empty() {
            self.values.shift_remove(key);
        } else {
            self.values.insert(key.to_owned(), Value::Object(object));
        }
    }

    /// Writes the file back: a new file beside it, then a rename, so that no reader sees a half.
    pub fn save(&self) -> Result<()> {
        let path = self.folder.join("config.json");
        let failed = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { verb, path, source }
        };
        std::fs::create_dir_all(&self.folder).map_err(failed("creating", &self.folder))?;
        let text = tabbed(&self.values);
        // A link is written through: people keep this file in a repository of dot files.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let mode = std::fs::metadata(&path).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
        let temporary = path.with_extension(format!("json.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
            .map_err(failed("creating", &temporary))?;
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        if let Err(source) = written.and_then(|()| std::fs::rename(&temporary, &path)) {
            let _ = std::fs::remove_file(&temporary);
            return Err(Error::File { verb: "writing", path, source });
        }
        Ok(())
    }
}

/// JSON indented by tabs, as Docker writes this file.
fn tabbed(values: &Map<String, Value>) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // A map with text keys, written to memory, cannot fail.
    let _ = serde::Serialize::serialize(values, &mut serializer);
    text.push(b'\n');
    text
}

pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_survive_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"zeta":{"x":[1]},"currentContext":"a"}"#).unwrap();
        let mut config = ConfigFile::load(folder.path()).unwrap();
        assert_eq!(config.text("currentContext"), Some("a"));
        config.set("currentContext", None);
        config.save().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::json!({"zeta":{"x":[1]}}));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_says_nothing_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ConfigFile::load(folder.path()).unwrap().text("x"), None);
        std::fs::write(folder.path().join("config.json"), "{").unwrap();
        let err = ConfigFile::load(folder.path()).unwrap_err().to_string();
        assert!(err.contains("config.json") && err.contains("loading config file"), "{err}");
    }
}
