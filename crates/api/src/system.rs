//! The engine itself.

use crate::container;
use crate::{image, volume};
use std::collections::BTreeMap;

/// The headers of an answer to `/_ping`, by which a client learns what it speaks with.
pub mod ping {
    /// The newest API version the engine speaks.
    pub const API_VERSION: &str = "Api-Version";
    /// `true` where experimental features are on.
    pub const EXPERIMENTAL: &str = "Docker-Experimental";
    /// `linux`.
    pub const OS_TYPE: &str = "Ostype";
    /// The builder a client should use: `1` classic, `2` BuildKit.
    pub const BUILDER_VERSION: &str = "Builder-Version";
    /// `inactive`, `pending`, `error`, `locked` or `active/worker`, `active/manager`.
    pub const SWARM: &str = "Swarm";
}

record! {
    /// The answer to `GET /version`.
    pub struct Version {
        /// What this is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub platform: Option<PlatformName>,
        /// Its parts.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub components: Vec<Component>,
        /// The engine's.
        pub version: String,
        /// The newest spoken.
        pub api_version: String,
        /// The oldest spoken.
        #[serde(rename = "MinAPIVersion", skip_serializing_if = "String::is_empty")]
        pub min_api_version: String,
        /// The commit.
        pub git_commit: String,
        /// The compiler's version.
        pub go_version: String,
        /// `linux`.
        pub os: String,
        /// `amd64`, …
        pub arch: String,
        /// Of the host.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub kernel_version: String,
        /// Whether experimental features are on.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub experimental: bool,
        /// RFC 3339.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub build_time: String,
    }

    /// A product's name.
    pub struct PlatformName {
        /// The name.
        pub name: String,
    }

    /// A part of the engine.
    pub struct Component {
        /// The name.
        pub name: String,
        /// The version.
        pub version: String,
        /// More.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub details: BTreeMap<String, String>,
    }

    /// The answer to `GET /info`.
    pub struct Info {
        /// Of this installation.
        #[serde(rename = "ID")]
        pub id: String,
        /// How many there are.
        pub containers: i64,
        /// How many run.
        pub containers_running: i64,
        /// How many are paused.
        pub containers_paused: i64,
        /// How many do not run.
        pub containers_stopped: i64,
        /// How many there are.
        pub images: i64,
        /// The storage driver.
        pub driver: String,
        /// What it tells, as pairs.
        pub driver_status: Vec<[String; 2]>,
        /// The data root.
        pub docker_root_dir: String,
        /// The drivers.
        pub plugins: Plugins,
        /// Whether the host can limit it.
        pub memory_limit: bool,
        /// Whether the host can limit it.
        pub swap_limit: bool,
        /// Whether the host can limit it.
        pub cpu_cfs_period: bool,
        /// Whether the host can limit it.
        pub cpu_cfs_quota: bool,
        /// Whether the host can weigh it.
        #[serde(rename = "CPUShares")]
        pub cpu_shares: bool,
        /// Whether the host can limit it.
        #[serde(rename = "CPUSet")]
        pub cpu_set: bool,
        /// Whether the host can limit it.
        pub pids_limit: bool,
        /// Whether the host can turn it off.
        pub oom_kill_disable: bool,
        /// Whether the host forwards.
        #[serde(rename = "IPv4Forwarding")]
        pub ipv4_forwarding: bool,
        /// Whether the daemon logs more.
        pub debug: bool,
        /// Open descriptors.
        #[serde(rename = "NFd")]
        pub n_fd: i64,
        /// Tasks.
        pub n_goroutines: i64,
        /// RFC 3339.
        pub system_time: String,
        /// The default logging driver.
        pub logging_driver: String,
        /// `cgroupfs`, `systemd` or `none`.
        pub cgroup_driver: String,
        /// `1` or `2`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub cgroup_version: String,
        /// Clients that listen to events.
        pub n_events_listener: i64,
        /// Of the host.
        pub kernel_version: String,
        /// Of the host.
        pub operating_system: String,
        /// Of the host.
        #[serde(rename = "OSVersion")]
        pub os_version: String,
        /// `linux`.
        #[serde(rename = "OSType")]
        pub os_type: String,
        /// `x86_64`, …
        pub architecture: String,
        /// Of the registry searched by default.
        pub index_server_address: String,
        /// What is known of registries.
        pub registry_config: Option<RegistryConfig>,
        /// Processors.
        #[serde(rename = "NCPU")]
        pub n_cpu: i64,
        /// Bytes.
        pub mem_total: i64,
        /// Of swarm.
        pub generic_resources: Option<Vec<serde_json::Value>>,
        /// For pulls.
        pub http_proxy: String,
        /// For pulls.
        pub https_proxy: String,
        /// For pulls.
        pub no_proxy: String,
        /// The host's.
        pub name: String,
        /// The daemon's.
        pub labels: Vec<String>,
        /// Whether experimental features are on.
        pub experimental_build: bool,
        /// The engine's.
        pub server_version: String,
        /// By name.
        pub runtimes: BTreeMap<String, Runtime>,
        /// Its name.
        pub default_runtime: String,
        /// The swarm.
        pub swarm: SwarmInfo,
        /// Whether containers outlive the daemon.
        pub live_restore_enabled: bool,
        /// Windows only.
        pub isolation: String,
        /// The program of `--init`.
        pub init_binary: String,
        /// Of containerd, where there is one.
        pub containerd_commit: Commit,
        /// Of the runtime.
        pub runc_commit: Commit,
        /// Of the program of `--init`.
        pub init_commit: Commit,
        /// `name=seccomp,profile=builtin`, …
        pub security_options: Vec<String>,
        /// A licence of a product.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub product_license: String,
        /// Where bridges get their subnets.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub default_address_pools: Vec<AddressPool>,
        /// What filters packets.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub firewall_backend: Option<Firewall>,
        /// Where CDI devices are described.
        #[serde(rename = "CDISpecDirs")]
        pub cdi_spec_dirs: Vec<String>,
        /// Devices that drivers found.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub discovered_devices: Vec<Device>,
        /// Of containerd, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub containerd: Option<Containerd>,
        /// What the client should tell its user.
        pub warnings: Vec<String>,
    }

    /// The drivers by what they drive.
    pub struct Plugins {
        /// Of volumes.
        pub volume: Vec<String>,
        /// Of networks.
        pub network: Vec<String>,
        /// Of authorization.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub authorization: Vec<String>,
        /// Of logs.
        pub log: Vec<String>,
    }

    /// What is known of registries.
    pub struct RegistryConfig {
        /// Networks whose registries need no TLS.
        #[serde(rename = "InsecureRegistryCIDRs")]
        pub insecure_registry_cidrs: Vec<String>,
        /// By host.
        pub index_configs: BTreeMap<String, IndexInfo>,
        /// Of docker.io.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub mirrors: Vec<String>,
    }

    /// What is known of a registry.
    pub struct IndexInfo {
        /// The host.
        pub name: String,
        /// Its mirrors.
        pub mirrors: Vec<String>,
        /// Whether it needs TLS.
        pub secure: bool,
        /// Whether it is docker.io.
        pub official: bool,
    }

    /// An OCI runtime.
    pub struct Runtime {
        /// The program.
        #[serde(rename = "path", skip_serializing_if = "String::is_empty")]
        pub path: String,
        /// Its arguments.
        #[serde(rename = "runtimeArgs", skip_serializing_if = "Vec::is_empty")]
        pub runtime_args: Vec<String>,
        /// What it tells.
        #[serde(rename = "status", skip_serializing_if = "BTreeMap::is_empty")]
        pub status: BTreeMap<String, String>,
    }

    /// The swarm.
    pub struct SwarmInfo {
        /// Of this node.
        #[serde(rename = "NodeID")]
        pub node_id: String,
        /// Of this node.
        pub node_addr: String,
        /// `inactive`, `pending`, `active`, `error` or `locked`.
        pub local_node_state: String,
        /// Whether this node is a manager.
        pub control_available: bool,
        /// What is wrong.
        pub error: String,
        /// The managers.
        pub remote_managers: Option<Vec<serde_json::Value>>,
        /// How many.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub nodes: i64,
        /// How many.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub managers: i64,
    }

    /// A commit.
    pub struct Commit {
        /// Its id.
        #[serde(rename = "ID")]
        pub id: String,
    }

    /// Where bridges get their subnets.
    pub struct AddressPool {
        /// In CIDR form.
        pub base: String,
        /// The prefix of each subnet.
        pub size: i64,
    }

    /// What filters packets.
    pub struct Firewall {
        /// `nftables`, `iptables`, …
        pub driver: String,
        /// What it tells, as pairs.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub info: Vec<[String; 2]>,
    }

    /// A device that a driver found.
    pub struct Device {
        /// The driver.
        pub source: String,
        /// The device.
        #[serde(rename = "ID")]
        pub id: String,
    }

    /// Of containerd, where there is one.
    pub struct Containerd {
        /// Its socket.
        pub address: String,
        /// Its namespaces.
        pub namespaces: ContainerdNamespaces,
    }

    /// Namespaces of containerd.
    pub struct ContainerdNamespaces {
        /// Of containers.
        pub containers: String,
        /// Of plugins.
        pub plugins: String,
    }

    /// Credentials, in the header `X-Registry-Auth` and in the body of `POST /auth`.
    pub struct AuthConfig {
        /// Who.
        #[serde(rename = "username", skip_serializing_if = "String::is_empty")]
        pub username: String,
        /// The password.
        #[serde(rename = "password", skip_serializing_if = "String::is_empty")]
        pub password: String,
        /// `username:password` in base64.
        #[serde(rename = "auth", skip_serializing_if = "String::is_empty")]
        pub auth: String,
        /// Of old clients.
        #[serde(rename = "email", skip_serializing_if = "String::is_empty")]
        pub email: String,
        /// The registry.
        #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
        pub server_address: String,
        /// An OAuth refresh token.
        #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
        pub identity_token: String,
        /// A bearer token sent as it is.
        #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
        pub registry_token: String,
    }

    /// The answer to `POST /auth`.
    pub struct AuthResponse {
        /// `Login Succeeded`.
        pub status: String,
        /// An OAuth refresh token.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub identity_token: String,
    }

    /// The answer to `GET /system/df`.
    pub struct DiskUsage {
        /// Of images.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_usage: Option<Usage<image::Summary>>,
        /// Of containers.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub container_usage: Option<Usage<container::Summary>>,
        /// Of volumes.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_usage: Option<Usage<volume::Volume>>,
        /// Of the build cache.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub build_cache_usage: Option<Usage<CacheRecord>>,
    }
}

/// How much one kind of thing uses of the disk.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Usage<T> {
    /// How many are used.
    pub active_count: i64,
    /// How many there are.
    pub total_count: i64,
    /// Bytes that a prune would free.
    pub reclaimable: i64,
    /// Bytes.
    pub total_size: i64,
    /// Each, where asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<T>,
}

/// An entry of the build cache.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CacheRecord {
    /// Its name.
    #[serde(rename = "ID")]
    pub id: String,
    /// `regular`: what a step has made; `source.local`: files of a client; `exec.cachemount`: a cache of commands.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What made it.
    pub description: String,
    /// Whether it is being used.
    pub in_use: bool,
    /// Whether somebody else has what it occupies as well.
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last used, RFC 3339.
    pub last_used_at: Option<String>,
    /// How often.
    pub usage_count: i64,
}
