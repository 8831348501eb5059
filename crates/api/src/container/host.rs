//! How a container stands on its host: the part of its configuration that is not portable.

use super::mount::Mount;
use std::collections::BTreeMap;

record! {
    /// The part of a container's configuration that depends on the host.
    pub struct HostConfig {
        /// `source:target[:options]`.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub binds: Vec<String>,
        /// Where the client wrote the id.
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        /// Of this engine: files below `/run/secrets`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub secrets: Vec<crate::secret::SecretMount>,
        /// The logging driver.
        pub log_config: LogConfig,
        /// `none`, `host`, `bridge`, `default`, `container:ID` or a network's name.
        pub network_mode: String,
        /// `port/protocol` to the host's ports.
        pub port_bindings: PortMap,
        /// When the container is started again.
        pub restart_policy: RestartPolicy,
        /// Whether it is removed when it has ended.
        pub auto_remove: bool,
        /// The driver of the volumes in `binds`.
        pub volume_driver: String,
        /// `container[:ro|rw]` whose volumes are mounted too.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub volumes_from: Vec<String>,
        /// Mounts in the long form.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mounts: Vec<Mount>,
        /// Height and width of the client's terminal at creation.
        pub console_size: [u32; 2],
        /// Annotations for the OCI runtime.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub annotations: BTreeMap<String, String>,
        /// Capabilities added to the default ones.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub cap_add: Vec<String>,
        /// Capabilities taken from the default ones.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub cap_drop: Vec<String>,
        /// `private`, `host` or empty for the daemon's default.
        pub cgroupns_mode: String,
        /// Name servers.
        pub dns: Vec<String>,
        /// Options of `resolv.conf`.
        pub dns_options: Vec<String>,
        /// Search domains.
        pub dns_search: Vec<String>,
        /// `name:address` lines of `/etc/hosts`.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub extra_hosts: Vec<String>,
        /// Supplementary groups, by name or number.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub group_add: Vec<String>,
        /// `none`, `private`, `shareable`, `container:ID`, `host` or empty.
        pub ipc_mode: String,
        /// A container whose cgroup is joined (`container:ID`).
        pub cgroup: String,
        /// `container:alias`.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub links: Vec<String>,
        /// −1000 to 1000.
        pub oom_score_adj: i64,
        /// `host`, `container:ID` or empty.
        pub pid_mode: String,
        /// Whether the container is confined hardly at all.
        pub privileged: bool,
        /// Whether all exposed ports are published.
        pub publish_all_ports: bool,
        /// Whether the root filesystem is read-only.
        pub readonly_rootfs: bool,
        /// `seccomp=…`, `apparmor=…`, `label=…`, `no-new-privileges`, `systempaths=unconfined`.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub security_opt: Vec<String>,
        /// Options of the storage driver.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub storage_opt: BTreeMap<String, String>,
        /// Target to options of temporary filesystems.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub tmpfs: BTreeMap<String, String>,
        /// `host` or empty.
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        /// `host` or empty.
        pub userns_mode: String,
        /// Bytes of `/dev/shm`; 0 for the default.
        pub shm_size: i64,
        /// Namespaced kernel parameters.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub sysctls: BTreeMap<String, String>,
        /// The OCI runtime's name; empty for the default.
        pub runtime: String,
        /// Windows only.
        pub isolation: String,
    }
    apart {
        /// The limits.
        #[serde(flatten)]
        pub resources: Resources,
    }
    then {
        /// Paths hidden inside; `null` for the default ones, an empty list for none.
        pub masked_paths: Option<Vec<String>>,
        /// Paths made read-only inside; `null` for the default ones, an empty list for none.
        pub readonly_paths: Option<Vec<String>>,
    }

    /// A container's limits. 0 means that nothing was asked for, unless said otherwise.
    pub struct Resources {
        /// Relative weight.
        pub cpu_shares: i64,
        /// Bytes.
        pub memory: i64,
        /// Billionths of a processor.
        pub nano_cpus: i64,
        /// The cgroup to make the container's in.
        pub cgroup_parent: String,
        /// 10 to 1000.
        pub blkio_weight: u16,
        /// Weights of devices.
        pub blkio_weight_device: Vec<WeightDevice>,
        /// Read limits in bytes a second.
        pub blkio_device_read_bps: Vec<ThrottleDevice>,
        /// Write limits in bytes a second.
        pub blkio_device_write_bps: Vec<ThrottleDevice>,
        /// Read limits in operations a second.
        #[serde(rename = "BlkioDeviceReadIOps")]
        pub blkio_device_read_iops: Vec<ThrottleDevice>,
        /// Write limits in operations a second.
        #[serde(rename = "BlkioDeviceWriteIOps")]
        pub blkio_device_write_iops: Vec<ThrottleDevice>,
        /// Microseconds.
        pub cpu_period: i64,
        /// Microseconds in each period.
        pub cpu_quota: i64,
        /// Microseconds.
        pub cpu_realtime_period: i64,
        /// Microseconds.
        pub cpu_realtime_runtime: i64,
        /// `0-2,7`.
        pub cpuset_cpus: String,
        /// `0-2,7`.
        pub cpuset_mems: String,
        /// Devices of the host.
        pub devices: Vec<DeviceMapping>,
        /// `c 7:* rwm`.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub device_cgroup_rules: Vec<String>,
        /// Devices asked of drivers (`--gpus`).
        #[serde(serialize_with = "crate::null::if_empty")]
        pub device_requests: Vec<DeviceRequest>,
        /// The limit of kernel memory, of API versions before 1.42.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub kernel_memory: i64,
        /// The limit of TCP buffers, of API versions before 1.54.
        #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "crate::null::is_default")]
        pub kernel_memory_tcp: i64,
        /// Bytes, soft.
        pub memory_reservation: i64,
        /// Bytes of memory and swap together; −1 for no limit of swap.
        pub memory_swap: i64,
        /// 0 to 100; `null` or −1 for the kernel's default.
        pub memory_swappiness: Option<i64>,
        /// Whether the out-of-memory killer is off.
        pub oom_kill_disable: Option<bool>,
        /// Whether a small init runs as the first process; `null` for the daemon's default.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
        /// The most processes; `null`, 0 or −1 for no limit.
        pub pids_limit: Option<i64>,
        /// Resource limits of processes.
        pub ulimits: Vec<Ulimit>,
        /// Windows only.
        pub cpu_count: i64,
        /// Windows only.
        pub cpu_percent: i64,
        /// Windows only.
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        /// Windows only.
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,
    }

    /// The logging driver of a container.
    pub struct LogConfig {
        /// Its name; empty for the daemon's default.
        #[serde(rename = "Type")]
        pub driver: String,
        /// Its options.
        pub config: BTreeMap<String, String>,
    }

    /// When a container is started again.
    pub struct RestartPolicy {
        /// Empty or `no`, `always`, `unless-stopped`, `on-failure`.
        pub name: String,
        /// Attempts of `on-failure`; 0 for no end.
        pub maximum_retry_count: i64,
    }

    /// A device of the host in a container.
    pub struct DeviceMapping {
        /// On the host.
        pub path_on_host: String,
        /// In the container.
        pub path_in_container: String,
        /// Of `r`, `w`, `m`.
        pub cgroup_permissions: String,
    }

    /// Devices asked of a driver.
    pub struct DeviceRequest {
        /// The driver.
        pub driver: String,
        /// How many; −1 for all.
        pub count: i64,
        /// Which.
        #[serde(rename = "DeviceIDs")]
        pub device_ids: Vec<String>,
        /// An OR of ANDs.
        pub capabilities: Vec<Vec<String>>,
        /// The driver's options.
        pub options: BTreeMap<String, String>,
    }

    /// A device's weight.
    pub struct WeightDevice {
        /// On the host.
        pub path: String,
        /// 10 to 1000.
        pub weight: u16,
    }

    /// A device's limit.
    pub struct ThrottleDevice {
        /// On the host.
        pub path: String,
        /// A second.
        pub rate: u64,
    }

    /// A resource limit of processes.
    pub struct Ulimit {
        /// `nofile`, `nproc`, …
        pub name: String,
        /// The hard limit; −1 for none.
        pub hard: i64,
        /// The soft limit; −1 for none.
        pub soft: i64,
    }

    /// A port of the host.
    pub struct PortBinding {
        /// Empty for all addresses.
        pub host_ip: String,
        /// Empty for any port; may be a range.
        pub host_port: String,
    }
}

/// `port/protocol` to the host's ports; `null` where the port is exposed and not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;
