//! Containers: what is asked for, what is listed, what is inspected.

pub mod change;
pub mod config;
pub mod host;
pub mod mount;
pub mod state;

pub use change::{Changed, Changes, FileChange, PortChoice};
pub use config::{Config, HealthConfig, Unit};
pub use host::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, PortMap, Resources, RestartPolicy,
    ThrottleDevice, Ulimit, WeightDevice,
};
pub use mount::{
    BindOptions, Driver, IdMapping, ImageOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions,
};
pub use state::{Health, HealthSummary, HealthcheckResult, State};

use crate::image::Descriptor;
use crate::network::EndpointSettings;
use std::collections::BTreeMap;

record! {
    /// The body of `POST /containers/create`.
    pub struct CreateRequest {
        /// The part that depends on the host.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub host_config: Option<HostConfig>,
        /// The networks.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub networking_config: Option<NetworkingConfig>,
    }
    apart {
        /// The portable part.
        #[serde(flatten)]
        pub config: Config,
    }

    /// The networks a new container joins.
    pub struct NetworkingConfig {
        /// By the network's name.
        pub endpoints_config: BTreeMap<String, EndpointSettings>,
    }

    /// The answer to `POST /containers/create`.
    pub struct CreateResponse {
        /// The new container's id.
        pub id: String,
        /// What the client should tell its user.
        pub warnings: Vec<String>,
    }

    /// One line of `GET /containers/json`.
    pub struct Summary {
        /// The id.
        pub id: String,
        /// Each with a slash before it.
        pub names: Vec<String>,
        /// The image as it was named, or its id where that name means another image now.
        pub image: String,
        /// The image's id.
        #[serde(rename = "ImageID")]
        pub image_id: String,
        /// The manifest of the platform that runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_manifest_descriptor: Option<Descriptor>,
        /// Program and arguments.
        pub command: String,
        /// Seconds since 1970.
        pub created: i64,
        /// Exposed and published ports.
        pub ports: Vec<PortSummary>,
        /// Bytes written, where the size was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes of the image and what was written, where the size was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        /// The labels.
        pub labels: BTreeMap<String, String>,
        /// As in `State::status`.
        pub state: String,
        /// `Up 3 minutes`, `Exited (0) 2 hours ago`.
        pub status: String,
        /// A small part of the host configuration.
        pub host_config: SummaryHostConfig,
        /// A small part of the network's state.
        pub network_settings: SummaryNetworkSettings,
        /// What is mounted.
        pub mounts: Vec<MountPoint>,
        /// The health.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<HealthSummary>,
    }

    /// The part of the host configuration that is listed.
    pub struct SummaryHostConfig {
        /// The network mode.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub network_mode: String,
        /// The annotations.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub annotations: BTreeMap<String, String>,
    }

    /// The part of the network's state that is listed.
    pub struct SummaryNetworkSettings {
        /// By the network's name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }

    /// A port in lists.
    pub struct PortSummary {
        /// The host's address.
        #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
        pub ip: String,
        /// In the container.
        pub private_port: u16,
        /// On the host.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub public_port: u16,
        /// `tcp`, `udp` or `sctp`.
        #[serde(rename = "Type")]
        pub protocol: String,
    }

    /// The answer to `GET /containers/{id}/json`.
    pub struct Inspect {
        /// The id.
        pub id: String,
        /// RFC 3339.
        pub created: String,
        /// The program.
        pub path: String,
        /// Its arguments.
        pub args: Vec<String>,
        /// How it is doing.
        pub state: State,
        /// The image's id.
        pub image: String,
        /// On the host.
        pub resolv_conf_path: String,
        /// On the host.
        pub hostname_path: String,
        /// On the host.
        pub hosts_path: String,
        /// On the host.
        pub log_path: String,
        /// With a slash before it.
        pub name: String,
        /// How often the restart policy has started it.
        pub restart_count: i64,
        /// The storage driver.
        pub driver: String,
        /// The operating system.
        pub platform: String,
        /// The manifest of the platform that runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_manifest_descriptor: Option<Descriptor>,
        /// Of SELinux.
        pub mount_label: String,
        /// Of SELinux.
        pub process_label: String,
        /// The profile's name.
        pub app_armor_profile: String,
        /// Commands that run in it.
        #[serde(rename = "ExecIDs", serialize_with = "crate::null::if_empty")]
        pub exec_ids: Vec<String>,
        /// The part that depends on the host.
        pub host_config: HostConfig,
        /// Of classic storage drivers.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub graph_driver: Option<GraphDriver>,
        /// Of snapshotters.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub storage: Option<Storage>,
        /// Bytes written, where the size was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes of the image and what was written, where the size was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        /// What is mounted.
        pub mounts: Vec<MountPoint>,
        /// The portable part.
        pub config: Config,
        /// The networks.
        pub network_settings: NetworkSettings,
    }

    /// A storage driver's data.
    pub struct GraphDriver {
        /// The driver.
        pub name: String,
        /// Its data.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub data: BTreeMap<String, String>,
    }

    /// Where a snapshotter keeps a container's files.
    pub struct Storage {
        /// The root filesystem.
        #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
        pub root_fs: Option<RootFsStorage>,
    }

    /// Where a snapshotter keeps a container's root filesystem.
    pub struct RootFsStorage {
        /// The snapshot.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub snapshot: Option<SnapshotStorage>,
    }

    /// A snapshot.
    pub struct SnapshotStorage {
        /// The snapshotter.
        pub name: String,
    }

    /// A container's networks.
    pub struct NetworkSettings {
        /// The sandbox's id.
        #[serde(rename = "SandboxID")]
        pub sandbox_id: String,
        /// The network namespace's path.
        pub sandbox_key: String,
        /// Exposed and published ports.
        pub ports: PortMap,
        /// By the network's name.
        pub networks: BTreeMap<String, EndpointSettings>,
    }

    /// The answer to `POST /containers/{id}/wait`.
    pub struct WaitResponse {
        /// The exit code.
        pub status_code: i64,
        /// Why waiting failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<WaitError>,
    }

    /// Why waiting failed.
    pub struct WaitError {
        /// One line.
        pub message: String,
    }

    /// The answer to `GET /containers/{id}/top`.
    pub struct Top {
        /// One line each, by columns.
        pub processes: Vec<Vec<String>>,
        /// The columns.
        pub titles: Vec<String>,
    }

    /// The body of `POST /containers/{id}/update`.
    pub struct UpdateRequest {
        /// The new restart policy.
        pub restart_policy: RestartPolicy,
        /// What this engine alone can change; Docker's clients never send it, and its daemon does not know it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub corten: Option<Changes>,
    }
    apart {
        /// The new limits.
        #[serde(flatten)]
        pub resources: Resources,
    }

    /// The answer to `POST /containers/{id}/update`.
    pub struct UpdateResponse {
        /// What the client should tell its user.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub warnings: Vec<String>,
        /// Where the request had such a field.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub corten: Option<Changed>,
    }

    /// The answer to `POST /containers/prune`.
    pub struct PruneReport {
        /// The ids.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub containers_deleted: Vec<String>,
        /// Bytes.
        pub space_reclaimed: u64,
    }

    /// One path of `GET /containers/{id}/changes`.
    pub struct Change {
        /// The path.
        pub path: String,
        /// 0 changed, 1 added, 2 deleted.
        pub kind: u8,
    }
}
