//! Images.

use crate::container::{GraphDriver, HealthConfig, Unit};
use std::collections::BTreeMap;

record! {
    /// Content by its digest, as the OCI image specification has it.
    pub struct Descriptor {
        /// What it is.
        #[serde(rename = "mediaType")]
        pub media_type: String,
        /// `sha256:…`.
        #[serde(rename = "digest")]
        pub digest: String,
        /// Bytes.
        #[serde(rename = "size")]
        pub size: i64,
        /// Where else it can be had.
        #[serde(rename = "urls", skip_serializing_if = "Vec::is_empty")]
        pub urls: Vec<String>,
        /// Annotations.
        #[serde(rename = "annotations", skip_serializing_if = "BTreeMap::is_empty")]
        pub annotations: BTreeMap<String, String>,
        /// The content itself, in base64.
        #[serde(rename = "data", skip_serializing_if = "Option::is_none")]
        pub data: Option<String>,
        /// The platform an image is for.
        #[serde(rename = "platform", skip_serializing_if = "Option::is_none")]
        pub platform: Option<Platform>,
        /// What kind of artifact it is.
        #[serde(rename = "artifactType", skip_serializing_if = "String::is_empty")]
        pub artifact_type: String,
    }

    /// A platform, as the OCI image specification has it.
    pub struct Platform {
        /// `amd64`, `arm64`, …
        #[serde(rename = "architecture")]
        pub architecture: String,
        /// `linux`, …
        #[serde(rename = "os")]
        pub os: String,
        /// Windows only.
        #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
        pub os_version: String,
        /// Windows only.
        #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
        pub os_features: Vec<String>,
        /// `v7`, `v8`, …
        #[serde(rename = "variant", skip_serializing_if = "String::is_empty")]
        pub variant: String,
    }

    /// One line of `GET /images/search`.
    pub struct SearchResult {
        /// How many users like it.
        #[serde(rename = "star_count")]
        pub star_count: i64,
        /// Whether the registry's owner vouches for it.
        #[serde(rename = "is_official")]
        pub is_official: bool,
        /// Its name, as it is pulled.
        #[serde(rename = "name")]
        pub name: String,
        /// Whether the registry has built it.
        #[serde(rename = "is_automated")]
        pub is_automated: bool,
        /// What it says of itself.
        #[serde(rename = "description")]
        pub description: String,
    }

    /// What a name leads to at its registry: `GET /distribution/{name}/json`.
    pub struct DistributionInspect {
        /// The index or manifest.
        pub descriptor: Descriptor,
        /// The platforms it is for.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub platforms: Vec<Platform>,
    }

    /// One line of `GET /images/json`.
    pub struct Summary {
        /// How many containers use it; −1 where not counted.
        pub containers: i64,
        /// Seconds since 1970.
        pub created: i64,
        /// `sha256:…`.
        pub id: String,
        /// The labels.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub labels: BTreeMap<String, String>,
        /// The image it was built on, where known.
        pub parent_id: String,
        /// The content of the index or manifest.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub descriptor: Option<Descriptor>,
        /// The manifests of its index, where asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub manifests: Vec<ManifestSummary>,
        /// `name@digest`.
        pub repo_digests: Vec<String>,
        /// `name:tag`.
        pub repo_tags: Vec<String>,
        /// Bytes shared with other images; −1 where not counted.
        pub shared_size: i64,
        /// Bytes.
        pub size: i64,
    }

    /// One manifest of an image's index.
    pub struct ManifestSummary {
        /// `sha256:…`.
        #[serde(rename = "ID")]
        pub id: String,
        /// Its content.
        pub descriptor: Descriptor,
        /// Whether all of it is here.
        pub available: bool,
        /// Its sizes.
        pub size: ManifestSize,
        /// `image`, `attestation` or `unknown`.
        pub kind: String,
        /// Of an image.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_data: Option<ImageData>,
        /// Of an attestation.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub attestation_data: Option<AttestationData>,
    }

    /// A manifest's sizes.
    pub struct ManifestSize {
        /// Content and what was unpacked from it, in bytes.
        pub total: i64,
        /// Content, in bytes.
        pub content: i64,
    }

    /// What is known of an image by its manifest.
    pub struct ImageData {
        /// The platform.
        pub platform: Platform,
        /// Containers that use it.
        pub containers: Vec<String>,
        /// What was unpacked.
        pub size: UnpackedSize,
        /// Where it came from, where asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub identity: Option<Identity>,
    }

    /// Where an image came from, as the engine has seen it.
    pub struct Identity {
        /// Repositories that it was pulled from.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub pull: Vec<PullIdentity>,
    }

    /// A repository that an image was pulled from.
    pub struct PullIdentity {
        /// `docker.io/library/debian`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub repository: String,
    }

    /// What was unpacked from an image.
    pub struct UnpackedSize {
        /// Bytes.
        pub unpacked: i64,
    }

    /// What is known of an attestation by its manifest.
    pub struct AttestationData {
        /// The digest of the image it speaks of.
        #[serde(rename = "For")]
        pub subject: String,
    }

    /// The answer to `GET /images/{name}/json`.
    pub struct Inspect {
        /// `sha256:…`.
        pub id: String,
        /// `name:tag`.
        pub repo_tags: Vec<String>,
        /// `name@digest`.
        pub repo_digests: Vec<String>,
        /// Of the last step.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub comment: String,
        /// RFC 3339.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub created: String,
        /// Who made it.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub author: String,
        /// What its containers run.
        pub config: Option<Config>,
        /// `amd64`, …
        pub architecture: String,
        /// `v7`, `v8`, …
        #[serde(skip_serializing_if = "String::is_empty")]
        pub variant: String,
        /// `linux`, …
        pub os: String,
        /// Windows only.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub os_version: String,
        /// Bytes.
        pub size: i64,
        /// Of classic storage drivers.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub graph_driver: Option<GraphDriver>,
        /// The layers.
        #[serde(rename = "RootFS")]
        pub root_fs: RootFs,
        /// What the engine knows beside the image.
        pub metadata: Metadata,
        /// The content of the index or manifest.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub descriptor: Option<Descriptor>,
        /// The manifests of its index, where asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub manifests: Vec<ManifestSummary>,
        /// Where it came from.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub identity: Option<Identity>,
    }

    /// What an image's containers run.
    pub struct Config {
        /// `user[:group]`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub user: String,
        /// `port/protocol` the program listens on.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub exposed_ports: BTreeMap<String, Unit>,
        /// `NAME=value`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub env: Vec<String>,
        /// The program before the arguments.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub entrypoint: Vec<String>,
        /// The arguments.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub cmd: Vec<String>,
        /// Paths that hold anonymous volumes.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub volumes: BTreeMap<String, Unit>,
        /// The working directory.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub working_dir: String,
        /// The labels.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<String, String>,
        /// The signal that asks the program to end.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Windows only.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub args_escaped: bool,
        /// How a container's health is found out.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        /// Dockerfile steps of images built on this one.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub on_build: Vec<String>,
        /// The shell of the shell form.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub shell: Vec<String>,
    }

    /// An image's layers.
    pub struct RootFs {
        /// `layers`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Digests of the layers as tar, lowest first.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub layers: Vec<String>,
    }

    /// What the engine knows beside the image.
    pub struct Metadata {
        /// RFC 3339; the year 1 where it never was.
        pub last_tag_time: String,
    }

    /// One step of `GET /images/{name}/history`.
    pub struct History {
        /// The image's id for its last step, else `<missing>`.
        pub id: String,
        /// Seconds since 1970.
        pub created: i64,
        /// The Dockerfile's step.
        pub created_by: String,
        /// Of the image's last step.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub tags: Vec<String>,
        /// Bytes.
        pub size: i64,
        /// A comment.
        pub comment: String,
    }

    /// One line of the answer to `DELETE /images/{name}`.
    pub struct DeleteItem {
        /// A name that is gone.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub untagged: String,
        /// An image that is gone.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub deleted: String,
    }

    /// One layer of `GET /corten/images/{name}/layers`, the lowest first.
    pub struct LayerReport {
        /// The blob.
        pub digest: String,
        /// What it is unpacked.
        pub diff_id: String,
        /// Bytes of the blob.
        pub size: i64,
        /// Bytes of its files.
        pub unpacked_size: i64,
        /// Files that are in no layer below.
        pub added: i64,
        /// Files in place of those of layers below.
        pub changed: i64,
        /// Files of layers below that it removes.
        pub removed: i64,
        /// Bytes of its files that layers above hide.
        pub wasted: i64,
        /// The step that made it.
        pub created_by: String,
    }

    /// The answer to `POST /corten/images/{name}/squash`.
    pub struct Squashed {
        /// `sha256:…`.
        pub id: String,
    }

    /// The answer to `POST /images/prune`.
    pub struct PruneReport {
        /// What is gone.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub images_deleted: Vec<DeleteItem>,
        /// Bytes.
        pub space_reclaimed: u64,
    }
}

/// One statement of `GET /images/{name}/attestations`.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttestationStatement {
    /// Its content.
    pub descriptor: Descriptor,
    /// What it says: the type of its predicate.
    pub predicate_type: String,
    /// The statement, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<Box<serde_json::value::RawValue>>,
}
