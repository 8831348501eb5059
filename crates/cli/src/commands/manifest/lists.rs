//! Lists that are being put together: a folder each below the user's configuration, a file for each of its manifests, both
//! called as Docker's command calls them.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::config::ConfigFile;
use oci::image::{Descriptor, Document, Manifest, media_type};
use oci::{Platform, Reference};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// A file is a manifest twice, once of it in base64: a manifest is no longer than 4 MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// A list with more manifests is none that somebody has put together.
const FILES_MAX: usize = 4096;

/// A manifest of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where it was found.
    #[serde(rename = "Ref")]
    pub(super) reference: String,
    /// What it is, and for which platform.
    #[serde(rename = "Descriptor")]
    pub(super) descriptor: Named,
    /// Its bytes, in base64.
    #[serde(rename = "Raw", default)]
    raw: String,
    /// What its bytes say, where they are Docker's.
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    docker: Option<Value>,
    /// What its bytes say, where they are OCI's.
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<Value>,
}

/// A descriptor in the order in which files have it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<For>,
}

/// A platform in the order in which files have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct For {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub(super) os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub(super) os_features: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) variant: String,
}

impl For {
    pub(super) fn of(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone().unwrap_or_default(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
        }
    }
}

impl Entry {
    /// A manifest as a registry sent it.
    pub(super) fn new(
        reference: &Reference,
        descriptor: &Descriptor,
        bytes: &[u8],
        platform: For,
    ) -> Result<Self> {
        let unreadable = |err| Error::Message(format!("cannot read the manifest of {reference}: {err}"));
        let document: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
        let oci = descriptor.media_type == media_type::OCI_MANIFEST;
        Ok(Self {
            reference: reference.to_string(),
            descriptor: Named {
                media_type: descriptor.media_type.clone(),
                digest: descriptor.digest.to_string(),
                size: descriptor.size,
                platform: Some(platform),
            },
            raw: STANDARD.encode(bytes),
            docker: Some(document.clone()).filter(|_| !oci),
            oci: Some(document).filter(|_| oci),
        })
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let bytes = STANDARD.decode(&self.raw).ok().filter(|bytes| !bytes.is_empty());
        bytes.ok_or_else(|| Error::Message(format!("the local manifest of {} is damaged", self.reference)))
    }

    /// What its bytes say.
    pub(super) fn manifest(&self) -> Result<Manifest> {
        match Document::parse(&self.bytes()?, Some(&self.descriptor.media_type)) {
            Ok(Document::Manifest(manifest)) => Ok(*manifest),
            Ok(Document::Index(_)) => Err(Error::Message(format!("{} is a manifest list", self.reference))),
            Err(err) => Err(Error::Message(format!("cannot read the manifest of {}: {err}", self.reference))),
        }
    }

    pub(super) fn named(&self) -> Result<Reference> {
        super::reference(&self.reference)
    }
}

/// The lists of a user.
pub(super) struct Lists {
    folder: PathBuf,
}

/// A reference as the name of a file.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

/// What is said of a list or a manifest that is not here.
pub(super) fn missing(reference: &Reference) -> Error {
    Error::Message(format!("No such manifest: {reference}"))
}

impl Lists {
    pub(super) fn of(config: &ConfigFile) -> Self {
        Self { folder: config.folder().join("manifests") }
    }

    fn failed<'a>(verb: &'static str, path: &'a std::path::Path) -> impl Fn(std::io::Error) -> Error + 'a {
        move |source| Error::File { verb, path: path.display().to_string(), source }
    }

    /// A manifest of a list; none if it is not in there.
    pub(super) fn entry(&self, list: &Reference, of: &Reference) -> Result<Option<Entry>> {
        self.read(&self.folder.join(file_name(list)).join(file_name(of)))
    }

    fn read(&self, path: &std::path::Path) -> Result<Option<Entry>> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Self::failed("opening", path)(err)),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(Self::failed("reading", path))?;
        match serde_json::from_slice(&text) {
            Ok(entry) => Ok(Some(entry)),
            Err(err) => Err(Error::Message(format!("cannot read {}: {err}", path.display()))),
        }
    }

    /// All manifests of a list, in the order of their files' names; none if there is no such list.
    pub(super) fn all(&self, list: &Reference) -> Result<Option<Vec<Entry>>> {
        let folder = self.folder.join(file_name(list));
        let found = match fs::read_dir(&folder) {
            Ok(found) => found,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Self::failed("reading", &folder)(err)),
        };
        let mut files = Vec::new();
        for file in found.take(FILES_MAX) {
            files.push(file.map_err(Self::failed("reading", &folder))?.path());
        }
        files.sort();
        files.iter().filter_map(|path| self.read(path).transpose()).collect::<Result<Vec<_>>>().map(Some)
    }

    /// Puts a manifest into a list, which is made if need be.
    pub(super) fn save(&self, list: &Reference, of: &Reference, entry: &Entry) -> Result<()> {
        let folder = self.folder.join(file_name(list));
        fs::create_dir_all(&folder).map_err(Self::failed("making", &folder))?;
        // Beside the lists, not in one, and not in the way of another invocation.
        let half = self.folder.join(format!(".half-{}", std::process::id()));
        let path = folder.join(file_name(of));
        let text = serde_json::to_vec(entry).unwrap_or_default();
        fs::File::create(&half)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&half, &path))
            .map_err(Self::failed("writing", &path))
    }

    /// Removes a list.
    pub(super) fn remove(&self, list: &Reference) -> Result<()> {
        let folder = self.folder.join(file_name(list));
        match fs::remove_dir_all(&folder) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(missing(list)),
            other => other.map_err(Self::failed("removing", &folder)),
        }
    }
}

/// An index as it is shown and pushed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Listed<'a>>,
}

/// One of its manifests.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a str,
    platform: For,
}

/// An index of these manifests, with its media type: Docker's, unless the first is OCI's.
pub(super) fn index(entries: &[Entry]) -> Result<(&'static str, Vec<u8>)> {
    let oci = entries.first().is_some_and(|entry| entry.descriptor.media_type == media_type::OCI_MANIFEST);
    let media_type = if oci { media_type::OCI_INDEX } else { media_type::DOCKER_INDEX };
    let manifests = entries.iter().map(|entry| Listed {
        media_type: &entry.descriptor.media_type,
        size: entry.descriptor.size,
        digest: &entry.descriptor.digest,
        platform: entry.descriptor.platform.clone().unwrap_or_default(),
    });
    let list = List { schema_version: 2, media_type, manifests: manifests.collect() };
    Ok((media_type, pretty(&list, "   ")?))
}

/// JSON as Go indents it.
pub(super) fn pretty(value: &impl Serialize, indent: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|err| Error::Message(format!("cannot write JSON: {err}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Reference {
        Reference::parse_named(text).unwrap()
    }

    #[test]
    fn files_are_called_as_docker_calls_them() {
        assert_eq!(file_name(&named("x:1")), "docker.io_library_x-1");
        let digest = "980dbce6a3ca63a499c221d1c22123f0a32580902d10932ef4f7b4945876f0dd";
        assert_eq!(
            file_name(&named(&format!("127.0.0.1:5917/multi@sha256:{digest}"))),
            format!("127.0.0.1-5917_multi@sha256-{digest}")
        );
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let lists = Lists::of(&ConfigFile::empty(folder.path()));
        let (list, one) = (named("list:1"), named("r.example/one:1"));
        assert!(lists.all(&list).unwrap().is_none() && lists.entry(&list, &one).unwrap().is_none());
        let bytes = br#"{"schemaVersion":2,"config":{"mediaType":"","digest":"sha256:980dbce6a3ca63a499c221d1c22123f0a32580902d10932ef4f7b4945876f0dd","size":1},"layers":[]}"#;
        let digest =
            "sha256:980dbce6a3ca63a499c221d1c22123f0a32580902d10932ef4f7b4945876f0dd".parse().unwrap();
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
        let platform = For { architecture: "arm64".into(), os: "linux".into(), ..For::default() };
        let entry = Entry::new(&one, &descriptor, bytes, platform).unwrap();
        lists.save(&list, &one, &entry).unwrap();
        let all = lists.all(&list).unwrap().unwrap();
        assert_eq!((all.len(), all[0].bytes().unwrap()), (1, bytes.to_vec()));
        assert_eq!(all[0].manifest().unwrap().layers.len(), 0);
        let (kind, text) = index(&all).unwrap();
        assert_eq!(kind, media_type::OCI_INDEX);
        assert!(
            String::from_utf8(text).unwrap().starts_with("{\n   \"schemaVersion\": 2,\n   \"mediaType\"")
        );
        lists.remove(&list).unwrap();
        assert_eq!(
            lists.remove(&list).unwrap_err().to_string(),
            "No such manifest: docker.io/library/list:1"
        );
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let lists = Lists::of(&ConfigFile::empty(folder.path()));
        let place = folder.path().join("manifests/docker.io_library_list-1");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("x"), "{").unwrap();
        assert!(lists.all(&named("list:1")).unwrap_err().to_string().starts_with("cannot read "));
        let text = r#"{"Ref":"x:1","Descriptor":{"mediaType":"","digest":"","size":0},"Raw":"!"}"#;
        fs::write(place.join("x"), text).unwrap();
        let all = lists.all(&named("list:1")).unwrap().unwrap();
        assert!(all[0].bytes().is_err() && all[0].manifest().is_err());
    }
}
