//! What the engine is told when it is opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::networks::Settings;

/// What all containers together have of real-time scheduling, in microseconds; 0 is what the kernel begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RealTime {
    /// The period.
    pub period_us: i64,
    /// How much of it they may run.
    pub runtime_us: i64,
}

/// An OCI runtime of somebody else's, with runc's command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runtime {
    /// The program.
    pub path: PathBuf,
    /// What it is told before everything else.
    pub arguments: Vec<String>,
}

/// What the engine is told when it is opened.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Where what lasts is kept (`/var/lib/corten`).
    pub data_root: PathBuf,
    /// Where what runs is kept (`/run/corten`).
    pub exec_root: PathBuf,
    /// The executable that is started beside every container.
    pub supervisor: &'static [u8],
    /// What is said of registries.
    pub registries: registry::Options,
    /// Layers downloaded at once.
    pub max_concurrent_downloads: usize,
    /// Layers uploaded at a time.
    pub max_concurrent_uploads: usize,
    /// The cgroup that containers' cgroups are made in; `None` for the engine's own default.
    pub cgroup_parent: Option<String>,
    /// The size of `/dev/shm` where a container does not say.
    pub default_shm_size_bytes: Option<i64>,
    /// Whether there is no default bridge network: containers that name no network have none.
    pub no_bridge: bool,
    /// Whether what comes from outside for published ports is left to the host's own rules for what comes in.
    pub respect_firewall: bool,
    /// What is said of networks.
    pub networks: Settings,
    /// Whether containers get labels of SELinux, where the host has it.
    pub selinux: bool,
    /// How many processes a container may have where it does not say; `None` for as many as it likes.
    pub pids_limit: Option<i64>,
    /// What all containers together have of real-time scheduling.
    pub real_time: RealTime,
    /// Runtimes beside the engine's own, by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The one of containers that name none; empty for the engine's own.
    pub default_runtime: String,
    /// Where devices are described that have a name of their own (CDI), the folder that counts least first.
    pub cdi_dirs: Vec<PathBuf>,
    /// Where drivers of volumes are found that are programs of their own.
    pub plugins: crate::volumes::PluginPlaces,
    /// What builds may be allowed.
    pub entitlements: Entitlements,
    /// What builds keep for those that come.
    pub build_cache: BuildCache,
    /// How containers log that do not say it themselves: the driver, empty for json-file, and its options.
    pub log: api::container::LogConfig,
    /// Whether the daemon logs more, for `info`.
    pub debug: bool,
}

/// What builds keep for those that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildCache {
    /// Whether what was not used for longest goes by itself.
    pub is_bounded: bool,
    /// How much may stay; `None` for the engine's own share of the disk.
    pub bytes_max: Option<u64>,
}

impl Default for BuildCache {
    fn default() -> Self {
        Self { is_bounded: true, bytes_max: None }
    }
}

/// What builds may be allowed, where their users ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entitlements {
    /// The host's network.
    pub network_host: bool,
    /// Steps that are confined by nothing.
    pub security_insecure: bool,
}

impl Default for Entitlements {
    /// As Docker has it.
    fn default() -> Self {
        Self { network_host: true, security_insecure: false }
    }
}
