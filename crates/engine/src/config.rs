//! What the engine is told when it is opened.

use std::path::PathBuf;

use crate::networks::Settings;

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
    /// Whether the daemon logs more, for `info`.
    pub debug: bool,
}
