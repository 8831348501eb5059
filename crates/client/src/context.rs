//! Contexts: named daemons, in Docker's own store.
//!
//! ```text
//! <config>/contexts/meta/<sha256 of the name>/meta.json
//! <config>/contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem
//! ```

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::read_bounded;
use crate::error::{Error, Result};

/// The context that is always there and never stored.
pub const DEFAULT: &str = "default";
/// The files of a context's TLS material, in the order authority, certificate, key.
pub const TLS_NAMES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];
/// The pattern that names must match, as Docker prints it.
const NAME_PATTERN: &str = "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$";
/// One file of an imported archive is not longer than this (Docker's limit is the same).
const IMPORT_BYTES_MAX: u64 = 10 << 20;

/// What is known of a context. Keys that are not understood are kept.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The name.
    pub name: String,
    /// The whole of `meta.json`.
    pub raw: Map<String, Value>,
}

/// A context's Docker endpoint.
#[derive(Debug, Clone)]
pub struct DockerEndpoint {
    /// The address.
    pub host: String,
    /// Whether the daemon's certificate is not looked at.
    pub skip_tls_verify: bool,
}

/// TLS material to be stored: the file's name and its content.
pub type Material = Vec<(&'static str, Vec<u8>)>;

impl Meta {
    /// A context with a description and a Docker endpoint.
    #[must_use]
    pub fn new(name: &str, description: &str, endpoint: Option<&DockerEndpoint>) -> Self {
        let mut meta = Self { name: name.to_owned(), raw: Map::new() };
        meta.raw.insert("Name".into(), json!(name));
        meta.raw.insert("Metadata".into(), json!({}));
        meta.raw.insert("Endpoints".into(), json!({}));
        meta.set_description(description);
        if let Some(endpoint) = endpoint {
            meta.set_docker(endpoint);
        }
        meta
    }

    /// The Docker endpoint.
    #[must_use]
    pub fn docker(&self) -> Option<DockerEndpoint> {
        let docker = self.raw.get("Endpoints")?.get("docker")?;
        Some(DockerEndpoint {
            host: docker.get("Host").and_then(Value::as_str).unwrap_or_default().to_owned(),
            skip_tls_verify: docker.get("SkipTLSVerify").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// The description.
    #[must_use]
    pub fn description(&self) -> &str {
        self.raw.get("Metadata").and_then(|m| m.get("Description")?.as_str()).unwrap_or_default()
    }

    /// Sets the description; an empty one is taken out.
    pub fn set_description(&mut self, text: &str) {
        let metadata = self.raw.entry("Metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            if text.is_empty() {
                metadata.shift_remove("Description");
            } else {
                metadata.insert("Description".into(), json!(text));
            }
        }
    }

    /// Sets the Docker endpoint.
    pub fn set_docker(&mut self, endpoint: &DockerEndpoint) {
        let endpoints = self.raw.entry("Endpoints").or_insert_with(|| json!({}));
        if let Some(endpoints) = endpoints.as_object_mut() {
            let value = json!({ "Host": endpoint.host, "SkipTLSVerify": endpoint.skip_tls_verify });
            endpoints.insert("docker".into(), value);
        }
    }
}

/// The store below a configuration's folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Checks a name that is to be created.
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::Context("context name cannot be empty".into()));
    }
    if name == DEFAULT {
        return Err(Error::Context("\"default\" is a reserved context name".into()));
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || name.len() < 2 || !bytes.all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b)) {
        return Err(Error::Context(format!(
            "context name {name:?} is invalid, names are validated against regexp {NAME_PATTERN:?}"
        )));
    }
    Ok(())
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { verb, path, source }
}

impl Store {
    /// The store of the configuration in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { root: folder.join("contexts") }
    }

    fn id(name: &str) -> String {
        hex::encode(Sha256::digest(name.as_bytes()))
    }

    /// Where a context's `meta.json` lies.
    #[must_use]
    pub fn meta_folder(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(Self::id(name))
    }

    /// Where a context's TLS material lies.
    #[must_use]
    pub fn tls_folder(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(Self::id(name))
    }

    /// The context of a name.
    pub fn load(&self, name: &str) -> Result<Meta> {
        let path = self.meta_folder(name).join("meta.json");
        match read_bounded(&path) {
            Ok(text) => parse(&path, &text),
            Err(err)
                if matches!(err.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Err(Error::NoContext { name: name.to_owned(), path })
            }
            Err(err) => Err(failed("reading", &path)(err)),
        }
    }

    /// All contexts, by name. One that cannot be read is an error: it would vanish silently else.
    pub fn list(&self) -> Result<Vec<Meta>> {
        let folder = self.root.join("meta");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(err)
                if matches!(err.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Ok(Vec::new());
            }
            Err(err) => return Err(failed("reading", &folder)(err)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("reading", &folder))?.path().join("meta.json");
            match read_bounded(&path) {
                Ok(text) => all.push(parse(&path, &text)?),
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                Err(err) => return Err(failed("reading", &path)(err)),
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Whether there is one of that name.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        self.meta_folder(name).join("meta.json").exists()
    }

    /// Creates or replaces a context; TLS material is replaced when given.
    pub fn save(&self, meta: &Meta, material: Option<&Material>) -> Result<()> {
        let folder = self.meta_folder(&meta.name);
        make_folder(&folder, 0o755)?;
        let text = serde_json::to_vec(&meta.raw).unwrap_or_default();
        write_file(&folder.join("meta.json"), &text, 0o644)?;
        if let Some(material) = material {
            self.clear_tls(&meta.name)?;
            let folder = self.tls_folder(&meta.name).join("docker");
            if !material.is_empty() {
                make_folder(&folder, 0o700)?;
            }
            for (name, content) in material {
                write_file(&folder.join(name), content, 0o600)?;
            }
        }
        Ok(())
    }

    fn clear_tls(&self, name: &str) -> Result<()> {
        let folder = self.tls_folder(name);
        match fs::remove_dir_all(&folder) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(failed("removing", &folder)(err)),
            _ => Ok(()),
        }
    }

    /// Removes a context.
    pub fn remove(&self, name: &str) -> Result<()> {
        let folder = self.meta_folder(name);
        self.load(name)?;
        fs::remove_dir_all(&folder).map_err(failed("removing", &folder))?;
        self.clear_tls(name)
    }

    /// The paths of the TLS files that are there: authority, certificate, key.
    #[must_use]
    pub fn tls_files(&self, name: &str) -> [Option<PathBuf>; 3] {
        let folder = self.tls_folder(name).join("docker");
        TLS_NAMES.map(|file| Some(folder.join(file)).filter(|path| path.exists()))
    }

    /// The stored TLS material.
    pub fn material(&self, name: &str) -> Result<Material> {
        let mut material = Material::new();
        for (file, path) in TLS_NAMES.iter().zip(self.tls_files(name)) {
            if let Some(path) = path {
                material.push((file, read_bounded(&path).map_err(failed("reading", &path))?));
            }
        }
        Ok(material)
    }

    /// A context as a tar archive, which Docker can import.
    pub fn export(&self, name: &str) -> Result<Vec<u8>> {
        let meta = self.load(name)?;
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, content: &[u8], mode: u32| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(mode);
            header.set_cksum();
            archive.append_data(&mut header, path, content)
        };
        let packing = |err: std::io::Error| Error::Context(format!("packing context {name:?}: {err}"));
        add("meta.json", &serde_json::to_vec(&meta.raw).unwrap_or_default(), 0o644).map_err(packing)?;
        for (file, content) in self.material(name)? {
            add(&format!("tls/docker/{file}"), &content, 0o600).map_err(packing)?;
        }
        archive.into_inner().map_err(packing)
    }

    /// Reads an exported archive into a new context.
    pub fn import(&self, name: &str, archive: &[u8]) -> Result<()> {
        check_name(name)?;
        if self.exists(name) {
            return Err(Error::Context(format!("context {name:?} already exists")));
        }
        if archive.starts_with(b"PK") {
            return Err(Error::Context(
                "importing a zip archive is not supported yet: export it as tar".into(),
            ));
        }
        let unpacking = |err: std::io::Error| Error::Context(format!("unpacking the archive: {err}"));
        let mut meta = None;
        let mut material = Material::new();
        let mut reader = tar::Archive::new(Cursor::new(archive));
        for entry in reader.entries().map_err(unpacking)? {
            let entry = entry.map_err(unpacking)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map_err(unpacking)?.to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.take(IMPORT_BYTES_MAX).read_to_end(&mut content).map_err(unpacking)?;
            if path == "meta.json" {
                meta = Some(parse(Path::new("meta.json"), &content)?);
            } else if let Some(file) = path.strip_prefix("tls/docker/")
                && let Some(known) = TLS_NAMES.iter().find(|known| **known == file)
            {
                material.push((known, content));
            } else {
                return Err(Error::Context(format!("{path}: unexpected file in the archive")));
            }
        }
        let mut meta = meta.ok_or_else(|| Error::Context("invalid context: no metadata found".into()))?;
        name.clone_into(&mut meta.name);
        meta.raw.insert("Name".into(), json!(name));
        self.save(&meta, Some(&material))
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Meta> {
    let malformed = |detail: String| Error::Malformed { path: path.to_owned(), detail };
    let raw: Map<String, Value> =
        serde_json::from_slice(text).map_err(|err| malformed(format!("parsing the context: {err}")))?;
    let name = raw
        .get("Name")
        .and_then(Value::as_str)
        .ok_or_else(|| malformed("parsing the context: it has no name".into()))?
        .to_owned();
    Ok(Meta { name, raw })
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("creating", path))
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("creating", &temporary))?;
    let written = file.write_all(content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> DockerEndpoint {
        DockerEndpoint { host: host.into(), skip_tls_verify: false }
    }

    #[test]
    fn a_context_goes_round_by_export_and_import() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let meta = Meta::new("one", "about", Some(&endpoint("tcp://h:1")));
        store.save(&meta, Some(&vec![("ca.pem", b"CA".to_vec())])).unwrap();
        let archive = store.export("one").unwrap();
        store.import("two", &archive).unwrap();
        let two = store.load("two").unwrap();
        assert_eq!((two.name.as_str(), two.description()), ("two", "about"));
        assert_eq!(two.docker().unwrap().host, "tcp://h:1");
        assert_eq!(store.material("two").unwrap(), vec![("ca.pem", b"CA".to_vec())]);
        assert_eq!(store.list().unwrap().len(), 2);
        store.remove("one").unwrap();
        assert!(store.load("one").is_err() && !store.tls_folder("one").exists());
    }

    #[test]
    fn the_folder_is_the_names_digest() {
        let store = Store::new(Path::new("/c"));
        let id = "ca3704aa0b06f5954c79ee837faa152d84d6b2d42838f0637a15eda8337dbdce";
        assert_eq!(store.meta_folder("nope"), Path::new("/c/contexts/meta").join(id));
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", "default", "a", ".a", "a/b", "ä1", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        check_name("a1_.+-").unwrap();
    }

    #[test]
    fn an_archive_cannot_place_files_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().unwrap().name[..17].copy_from_slice(b"tls/docker/../../");
        header.set_cksum();
        archive.append(&header, &b"x"[..]).unwrap();
        let err = store.import("evil", &archive.into_inner().unwrap()).unwrap_err().to_string();
        assert!(err.contains("unexpected file"), "{err}");
        assert!(!folder.path().join("contexts").exists());
    }
}
