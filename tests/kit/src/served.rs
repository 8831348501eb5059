//! Images served from memory: what a registry is to tests that want an image and not a registry.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::OnceLock;

use crate::Output;
use crate::fixtures::{self, Image};
use crate::host::Host;
use crate::http::{Answer, Head, Server};

/// A read-only registry over plain HTTP that has one tag, `latest`, of some images.
#[derive(Debug)]
pub struct Served {
    server: Server,
}

struct Content {
    /// By name.
    manifests: HashMap<String, Vec<u8>>,
    /// By digest.
    blobs: HashMap<String, Vec<u8>>,
}

impl Served {
    /// Serves these images by these names.
    pub fn start(images: &[(&str, &Image)]) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, images)
    }

    /// The same at another address of the caller's network namespace.
    pub fn at(address: Ipv4Addr, images: &[(&str, &Image)]) -> Self {
        let mut content = Content { manifests: HashMap::new(), blobs: HashMap::new() };
        for (name, image) in images {
            let (manifest, config) = (image.manifest_bytes(), image.config_bytes());
            content.blobs.insert(fixtures::digest(&manifest), manifest.clone());
            content.blobs.insert(fixtures::digest(&config), config);
            for layer in &image.layers {
                content.blobs.insert(layer.digest(), layer.bytes.clone());
            }
            content.manifests.insert((*name).to_owned(), manifest);
        }
        Self { server: Server::at(address, move |head, _| content.answer(head)) }
    }

    /// `127.0.0.1:<port>`, or at the other address.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }
}

impl Content {
    fn answer(&self, head: &Head) -> Answer {
        let unknown = || {
            Answer::json(
                404,
                &serde_json::json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}),
            )
        };
        let path = head.path().trim_start_matches("/v2/");
        if let Some((name, target)) = path.rsplit_once("/manifests/") {
            let found = if target == "latest" { self.manifests.get(name) } else { self.blobs.get(target) };
            let Some(bytes) = found else { return unknown() };
            return Answer::new(200, "application/vnd.oci.image.manifest.v1+json", bytes.clone())
                .with("Docker-Content-Digest", &fixtures::digest(bytes));
        }
        let blob = path.rsplit_once("/blobs/").and_then(|(_, digest)| self.blobs.get(digest));
        blob.map_or_else(unknown, |bytes| Answer::new(200, "application/octet-stream", bytes.clone()))
    }
}

/// busybox, packed once a process.
fn busybox() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(fixtures::busybox)
}

impl Host {
    /// Gives the engine an image by this name (`name` or `name:tag`), pulled from a registry in memory.
    ///
    /// # Panics
    /// It cannot be pulled or tagged.
    pub fn give(&self, image: &Image, name: &str) {
        let output = self.try_give(image, name);
        assert_eq!(output.code, 0, "cannot pull {name}: {}", output.stderr);
    }

    /// The same for an image that may be refused: what the pull said.
    ///
    /// # Panics
    /// It was pulled, and cannot be tagged.
    #[must_use]
    pub fn try_give(&self, image: &Image, name: &str) -> Output {
        let served = Served::start(&[("fixture", image)]);
        let pulled = format!("{}/fixture:latest", served.host());
        let output = self.corten(["pull", "--quiet", &pulled]).run();
        if output.code == 0 {
            let _ = self.corten(["tag", &pulled, name]).ok();
            let _ = self.corten(["rmi", &pulled]).ok();
        }
        output
    }

    /// Gives the engine the image `busybox`.
    ///
    /// # Panics
    /// It cannot be pulled.
    pub fn pull_busybox(&self) {
        self.give(busybox(), "busybox");
    }
}
