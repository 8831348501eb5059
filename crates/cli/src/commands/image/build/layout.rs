//! Directories that blobs of a build are in: what their `index.json` leads to, and how it comes to lead to what was written.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::failed;
use crate::error::{Error, Result};

/// What an index calls a tag, and a whole name.
const TAG: &str = "org.opencontainers.image.ref.name";
const NAME: &str = "io.containerd.image.name";
const INDEX: &str = "index.json";
/// Bytes of an index.
const INDEX_BYTES_MAX: u64 = 4 << 20;

fn read(folder: &Path) -> Result<Option<Value>> {
    let path = folder.join(INDEX);
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
        Ok(metadata) if metadata.len() > INDEX_BYTES_MAX => {
            return Err(Error::Message(format!("{} is larger than {INDEX_BYTES_MAX} bytes", path.display())));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(&path).map_err(failed("read", &path))?;
    let index = serde_json::from_slice(&bytes);
    index.map(Some).map_err(|error| Error::Message(format!("{} is no index: {error}", path.display())))
}

/// The digest that a tag leads to.
pub(super) fn find(folder: &Path, tag: &str) -> Result<Option<String>> {
    let Some(index) = read(folder)? else { return Ok(None) };
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let entry = entries.iter().find(|entry| entry["annotations"][TAG] == tag);
    Ok(entry.and_then(|entry| entry["digest"].as_str()).map(str::to_owned))
}

/// Whether a blob is there.
pub(super) fn has(folder: &Path, digest: &str) -> bool {
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        is_name(algorithm) && is_name(hex) && folder.join("blobs").join(algorithm).join(hex).is_file()
    })
}

/// Makes a tag lead to something.
pub(super) fn tag(folder: &Path, descriptor: &Value, tag: &str) -> Result<()> {
    let mut entry = descriptor.clone();
    entry["annotations"][TAG] = tag.into();
    add(folder, vec![entry], |entry| entry["annotations"][TAG] == tag)
}

/// Makes names lead to an image, or makes it be there where it has none.
pub(super) fn put(folder: &Path, descriptor: &Value, names: &[&str]) -> Result<()> {
    let mut entries: Vec<Value> = Vec::new();
    for name in names {
        let mut entry = descriptor.clone();
        // The tag is what comes behind the last colon, unless that is a port's.
        let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
        entry["annotations"][TAG] = tag.unwrap_or("latest").into();
        entry["annotations"][NAME] = (*name).into();
        entries.push(entry);
    }
    if entries.is_empty() {
        entries.push(descriptor.clone());
    }
    let digest = &descriptor["digest"];
    add(folder, entries, |entry| {
        let name = &entry["annotations"][NAME];
        names.iter().any(|own| name == own) || name.is_null() && entry["digest"] == *digest
    })
}

/// Adds entries to the index in the place of others.
fn add(folder: &Path, new: Vec<Value>, replaces: impl Fn(&Value) -> bool) -> Result<()> {
    let mut index = read(folder)?.unwrap_or_else(
        || json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}),
    );
    let mut entries = index["manifests"].as_array().cloned().unwrap_or_default();
    entries.retain(|entry| !replaces(entry));
    entries.extend(new);
    index["manifests"] = entries.into();
    write(folder, "oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    write(folder, INDEX, &index)
}

/// Writes a document whole, or not at all.
fn write(folder: &Path, name: &str, document: &Value) -> Result<()> {
    let unfinished = folder.join(format!(".{name}.{}.part", std::process::id()));
    fs::write(&unfinished, document.to_string()).map_err(failed("write", &unfinished))?;
    let path = folder.join(name);
    fs::rename(&unfinished, &path).map_err(failed("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_leads_to_what_was_written_last() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(folder.path(), "latest").unwrap(), None);
        for digest in ["sha256:1", "sha256:2"] {
            tag(folder.path(), &json!({"digest": digest, "size": 1}), "latest").unwrap();
        }
        tag(folder.path(), &json!({"digest": "sha256:3"}), "other").unwrap();
        assert_eq!(find(folder.path(), "latest").unwrap().as_deref(), Some("sha256:2"));
        assert_eq!(find(folder.path(), "other").unwrap().as_deref(), Some("sha256:3"));
        for digest in ["sha256:4", "sha256:5"] {
            put(folder.path(), &json!({"digest": digest}), &["e.com:5000/x:v1", "e.com:5000/y"]).unwrap();
            put(folder.path(), &json!({"digest": "sha256:6"}), &[]).unwrap();
        }
        let index = read(folder.path()).unwrap().unwrap();
        let entries = index["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), 5, "{index}");
        assert_eq!(find(folder.path(), "v1").unwrap().as_deref(), Some("sha256:5"));
        fs::write(folder.path().join(INDEX), "{").unwrap();
        assert!(find(folder.path(), "latest").is_err());
    }
}
