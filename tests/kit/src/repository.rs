//! A repository of a registry, spoken to by hand.

use serde_json::{Value, json};

use crate::fixtures::digest;
use crate::raw::{self, Reply};

/// OCI's media type of manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI's media type of indexes.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI's media type of configurations.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI's media type of layers that are not compressed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A repository of a registry on loopback.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The registry's port.
    pub port: u16,
    /// The repository's name.
    pub name: String,
}

impl Repository {
    /// The repository of this name.
    #[must_use]
    pub fn new(port: u16, name: &str) -> Self {
        Self { port, name: name.to_owned() }
    }

    /// Asks for something below `/v2/<name>/`, or at a location as it came.
    #[must_use]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let target = if target.starts_with('/') || target.contains("://") {
            target.to_owned()
        } else {
            format!("/v2/{}/{target}", self.name)
        };
        raw::ask(self.port, method, &target, headers, body)
    }

    /// Begins an upload; its location.
    ///
    /// # Panics
    /// It does not begin.
    #[must_use]
    pub fn begin(&self) -> String {
        let reply = self.ask("POST", "blobs/uploads/", &[], b"");
        assert_eq!(reply.status, 202, "{reply:?}");
        reply.header("location").to_owned()
    }

    /// Ends an upload.
    #[must_use]
    pub fn finish(&self, location: &str, digest: &str, rest: &[u8]) -> Reply {
        let mark = if location.contains('?') { '&' } else { '?' };
        self.ask("PUT", &format!("{location}{mark}digest={digest}"), &[], rest)
    }

    /// Pushes a blob; its digest.
    ///
    /// # Panics
    /// It is not taken.
    pub fn push_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let reply = self.finish(&self.begin(), &digest, bytes);
        assert_eq!(reply.status, 201, "{reply:?}");
        digest
    }

    /// Pushes a manifest under a tag or digest.
    #[must_use]
    pub fn put(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Reply {
        self.ask("PUT", &format!("manifests/{reference}"), &[("Content-Type", media_type)], bytes)
    }

    /// A descriptor of these bytes.
    #[must_use]
    pub fn describe(media_type: &str, bytes: &[u8]) -> Value {
        json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
    }

    /// A manifest of a configuration and a layer that hold `word`; nothing is pushed.
    #[must_use]
    pub fn manifest(word: &str) -> Value {
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": Self::describe(CONFIG, config(word).as_bytes()),
            "layers": [Self::describe(LAYER, layer(word).as_bytes())],
        })
    }

    /// Pushes what [`Repository::manifest`] needs.
    pub fn push_parts(&self, word: &str) {
        self.push_blob(config(word).as_bytes());
        self.push_blob(layer(word).as_bytes());
    }

    /// Pushes a whole image under a tag; the manifest.
    ///
    /// # Panics
    /// It is not taken.
    pub fn push(&self, tag: &str, word: &str) -> Vec<u8> {
        self.push_parts(word);
        let manifest = Self::manifest(word).to_string().into_bytes();
        let reply = self.put(tag, MANIFEST, &manifest);
        assert_eq!(reply.status, 201, "{reply:?}");
        manifest
    }

    /// Reads an image whole, as a client that pulls does; false where something of it is not there.
    #[must_use]
    pub fn is_whole(&self, tag: &str) -> bool {
        let reply = self.ask("GET", &format!("manifests/{tag}"), &[], b"");
        let Ok(manifest) = serde_json::from_slice::<Value>(&reply.body) else { return false };
        let parts = manifest["layers"].as_array().into_iter().flatten().chain([&manifest["config"]]);
        reply.status == 200
            && parts.into_iter().all(|part| {
                let wanted = part["digest"].as_str().unwrap_or_default();
                let blob = self.ask("GET", &format!("blobs/{wanted}"), &[], b"");
                blob.status == 200 && digest(&blob.body) == wanted
            })
    }
}

fn config(word: &str) -> String {
    json!({"architecture": "amd64", "os": "linux", "comment": word, "rootfs": {"type": "layers", "diff_ids": []}})
        .to_string()
}

fn layer(word: &str) -> String {
    format!("layer {word}")
}
