//! The documents of archives, and names in them: pure functions over what strangers have written.

use std::collections::BTreeMap;

use oci::image::{Document, Index, MAX_MANIFEST_BYTES, media_type};
use oci::{Digest, Reference};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Images that one archive may hold.
const IMAGES_MAX: usize = 10_000;
/// Names that one image may have there.
const NAMES_MAX: usize = 10_000;
/// Bytes of a path: the kernel's own limit.
const PATH_BYTES_MAX: usize = 4096;
/// Symbolic links followed from one name: an archive needs one.
const LINKS_MAX: usize = 8;

/// One image of Docker's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DockerEntry {
    /// The configuration's path.
    #[serde(rename = "Config")]
    pub config: String,
    /// The image's names.
    #[serde(rename = "RepoTags", default)]
    pub repo_tags: Option<Vec<String>>,
    /// The layers' paths, the lowest first.
    #[serde(rename = "Layers", default)]
    pub layers: Option<Vec<String>>,
}

/// Reads `manifest.json`.
pub fn docker(bytes: &[u8]) -> Result<Vec<DockerEntry>> {
    let invalid = |e| Error::invalid("manifest.json of the archive cannot be read").with_source(e);
    let entries: Vec<DockerEntry> = serde_json::from_slice(bytes).map_err(invalid)?;
    if entries.is_empty() {
        return Err(Error::invalid("manifest.json of the archive names no image"));
    }
    let layers = |entry: &DockerEntry| entry.layers.as_ref().map_or(0, Vec::len);
    for (what, count, limit) in [
        ("images", entries.len(), IMAGES_MAX),
        ("layers of an image", entries.iter().map(layers).max().unwrap_or(0), oci::image::MAX_LAYERS),
        (
            "names of an image",
            entries.iter().map(|entry| entry.repo_tags.as_ref().map_or(0, Vec::len)).max().unwrap_or(0),
            NAMES_MAX,
        ),
    ] {
        if count > limit {
            return Err(Error::invalid(format!(
                "manifest.json of the archive has {count} {what}, limit {limit}"
            )));
        }
    }
    Ok(entries)
}

/// Reads `index.json`.
pub fn index(bytes: &[u8]) -> Result<Index> {
    let invalid = |e| Error::invalid("index.json of the archive cannot be read").with_source(e);
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(Error::invalid(format!(
            "index.json of the archive is larger than {MAX_MANIFEST_BYTES} bytes"
        )));
    }
    match Document::parse(bytes, Some(media_type::OCI_INDEX)).map_err(invalid)? {
        Document::Index(index) if index.manifests.is_empty() => {
            Err(Error::invalid("index.json of the archive names no image"))
        }
        Document::Index(index) if index.manifests.len() > IMAGES_MAX => {
            Err(Error::invalid(format!("index.json of the archive has more than {IMAGES_MAX} images")))
        }
        Document::Index(index) => Ok(*index),
        Document::Manifest(_) => Err(Error::invalid("index.json of the archive is no index")),
    }
}

/// Reads `oci-layout`.
pub fn layout(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Layout {
        #[serde(rename = "imageLayoutVersion")]
        version: String,
    }
    let invalid = |e| Error::invalid("oci-layout of the archive cannot be read").with_source(e);
    let layout: Layout = serde_json::from_slice(bytes).map_err(invalid)?;
    if layout.version.split('.').next() != Some("1") {
        return Err(Error::invalid(format!("OCI layouts of version {:?} are not known", layout.version)));
    }
    Ok(())
}

/// The name that the annotations of an entry of `index.json` give an image, if it is a whole one: a tag alone does not say of what.
pub fn annotated(annotations: &BTreeMap<String, String>) -> Result<Option<Reference>> {
    if let Some(name) = annotations.get("io.containerd.image.name") {
        return named(name).map(Some);
    }
    let short = annotations.get("org.opencontainers.image.ref.name");
    Ok(short.filter(|name| name.contains(['/', ':'])).and_then(|name| named(name).ok()))
}

/// A name that an image is to have.
pub fn named(text: &str) -> Result<Reference> {
    let invalid =
        |e: oci::Error| Error::invalid(format!("the archive calls an image {text:?}")).with_source(e);
    let reference = Reference::parse_named(text).map_err(invalid)?;
    Ok(reference.or_latest())
}

/// A path in the archive without `.` and doubled slashes. One that leads out is refused.
pub fn path(raw: &[u8]) -> Result<String> {
    let shown = || String::from_utf8_lossy(&raw[..raw.len().min(100)]).into_owned();
    let invalid = |what: &str| Error::invalid(format!("{:?} in the archive: {what}", shown()));
    if raw.len() > PATH_BYTES_MAX {
        return Err(invalid("the name is too long"));
    }
    let text = std::str::from_utf8(raw).map_err(|_| invalid("the name is not text"))?;
    if text.contains('\0') {
        return Err(invalid("the name has a zero byte"));
    }
    resolve(&[], text).ok_or_else(|| invalid("the name leads out of the archive"))
}

/// Where a symbolic link at `from` leads. One that leads out is refused.
pub fn link(from: &str, target: &[u8]) -> Result<String> {
    let invalid = |what: &str| Error::invalid(format!("{from:?} in the archive: {what}"));
    let text = std::str::from_utf8(target).map_err(|_| invalid("the link's target is not text"))?;
    if text.len() > PATH_BYTES_MAX || text.starts_with('/') {
        return Err(invalid("the link leads out of the archive"));
    }
    let mut directory: Vec<&str> = from.split('/').collect();
    directory.pop();
    resolve(&directory, text).ok_or_else(|| invalid("the link leads out of the archive"))
}

fn resolve(directory: &[&str], text: &str) -> Option<String> {
    let mut parts = directory.to_vec();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// What a path means, links followed.
pub fn follow<'a, T>(
    path: &str,
    links: &'a BTreeMap<String, String>,
    files: &'a BTreeMap<String, T>,
) -> Option<&'a T> {
    let mut at = resolve(&[], path)?;
    for _ in 0..=LINKS_MAX {
        match links.get(&at) {
            Some(next) => at.clone_from(next),
            None => return files.get(&at),
        }
    }
    None
}

/// The digest that a blob's path says, if it is one.
pub fn blob(path: &str) -> Result<Option<Digest>> {
    let Some(rest) = path.strip_prefix("blobs/") else { return Ok(None) };
    let digest = rest.split_once('/').and_then(|(kind, hex)| Digest::parse(&format!("{kind}:{hex}")).ok());
    match digest {
        Some(digest) => Ok(Some(digest)),
        None => Err(Error::invalid(format!("{path:?} in the archive is not called by a digest"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(path(b"./blobs//sha256/x").unwrap(), "blobs/sha256/x");
        assert_eq!(path(b"a/../b").unwrap(), "b");
        assert_eq!(path(b"/abs").unwrap(), "abs");
        for bad in [&b"../x"[..], b"a/../../x", b"a\0b", b"\xff", &[b'a'; 5000]] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert_eq!(link("one/layer.tar", b"../two/layer.tar").unwrap(), "two/layer.tar");
        for bad in [&b"/etc/passwd"[..], b"../../etc/passwd"] {
            assert!(link("one/layer.tar", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links_end() {
        let links = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())]);
        let files = BTreeMap::from([("c".to_owned(), 1)]);
        assert_eq!(follow("a", &links, &files), None);
        let links = BTreeMap::from([("a".to_owned(), "c".to_owned())]);
        assert_eq!(follow("./a", &links, &files), Some(&1));
    }

    #[test]
    fn documents_are_read_or_refused() {
        assert!(docker(br#"[{"Config":"x.json","RepoTags":null,"Layers":["a"]}]"#).is_ok());
        for bad in [&b"[]"[..], b"{}", b"[{}]", b"[{\"Config\":7}]", b"null"] {
            assert!(docker(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(layout(br#"{"imageLayoutVersion":"1.0.0"}"#).is_ok());
        assert!(layout(br#"{"imageLayoutVersion":"2.0.0"}"#).is_err());
        assert!(index(br#"{"schemaVersion":2,"manifests":[]}"#).is_err());
        let name = |key: &str, text: &str| {
            annotated(&BTreeMap::from([(key.to_owned(), text.to_owned())]))
                .map(|name| name.map(|name| name.to_string()))
        };
        let full = "io.containerd.image.name";
        assert_eq!(name(full, "docker.io/library/x:1").unwrap().unwrap(), "docker.io/library/x:1");
        assert!(name(full, "../x").is_err());
        let short = "org.opencontainers.image.ref.name";
        assert_eq!(name(short, "localhost/x:2").unwrap().unwrap(), "localhost/x:2");
        assert_eq!(name(short, "latest").unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_name_stays_inside(raw in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a')], 0..30)) {
            if let Ok(name) = path(&raw) {
                prop_assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".." || part == "."));
            }
        }
    }
}
