//! The engine itself: what it is, what it runs on, what it uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::system::{
    Commit, Component, Containerd, DiskUsage, IndexInfo, Info, PlatformName, Plugins, RegistryConfig,
    Runtime, SwarmInfo, Usage, Version,
};
use api::{ApiVersion, timestamp};
use futures_util::StreamExt as _;

use crate::Result;
use crate::containers::runtimes;
use crate::containers::show::SNAPSHOTTER;
use crate::containers::state::Phase;
use crate::context::Context;

/// What images are kept in: by this, buildx and Compose decide what an engine can do.
const DRIVER_TYPE: &str = "io.containerd.snapshotter.v1";
/// The engine's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How many containers' files are walked over at once: more seeks than that do not make a disk faster.
const MEASURED_AT_ONCE: usize = 8;
/// The file with this installation's identifier.
const ID_FILE: &str = "engine-id";

/// The engine itself.
#[derive(Debug)]
pub struct System {
    context: Arc<Context>,
    id: String,
}

#[derive(Debug, Default)]
struct Counts {
    running: i64,
    paused: i64,
    stopped: i64,
}

impl System {
    pub(crate) fn new(context: Arc<Context>, id: String) -> Self {
        Self { context, id }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What `info` shows.
    pub async fn info(&self) -> Result<Info> {
        let images = self.images().await?;
        let (context, host) = (&self.context, &self.context.host);
        let counts = self.counts();
        let folders = self.context.config.cdi_dirs.clone();
        let devices =
            crate::blocking::run("look for devices", move || Ok(crate::cdi::names(&folders))).await?;
        let devices =
            devices.into_iter().map(|id| api::system::Device { source: "cdi".to_owned(), id }).collect();
        let v1 = host.cgroup_version == 1;
        let cpu = host.can("cpu");
        let proxies = self.context.config.registries.proxies.of_environment();
        Ok(Info {
            id: self.id.clone(),
            containers: counts.running + counts.paused + counts.stopped,
            containers_running: counts.running,
            containers_paused: counts.paused,
            containers_stopped: counts.stopped,
            images,
            driver: SNAPSHOTTER.to_owned(),
            driver_status: vec![["driver-type".to_owned(), DRIVER_TYPE.to_owned()]],
            docker_root_dir: context.config.data_root.to_string_lossy().into_owned(),
            plugins: plugins(),
            memory_limit: host.can("memory"),
            swap_limit: host.swap_limit,
            cpu_cfs_period: cpu,
            cpu_cfs_quota: cpu,
            cpu_shares: cpu,
            cpu_set: host.can("cpuset"),
            pids_limit: host.can("pids"),
            oom_kill_disable: v1 && host.can("memory"),
            ipv4_forwarding: host.ipv4_forwarding,
            debug: context.config.debug,
            n_fd: open_descriptors(),
            n_goroutines: i64::try_from(context.tasks.len()).unwrap_or(0),
            system_time: timestamp::format(timestamp::now()),
            logging_driver: crate::logging::over_defaults(Default::default(), &context.config.log).driver,
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: host.cgroup_version.to_string(),
            n_events_listener: i64::try_from(context.events.listeners()).unwrap_or(0),
            kernel_version: host.kernel.clone(),
            operating_system: host.os.clone(),
            os_version: host.os_version.clone(),
            os_type: "linux".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: Some(self.registries()),
            n_cpu: i64::from(host.cpus),
            mem_total: i64::try_from(host.memory_bytes).unwrap_or(i64::MAX),
            name: host.name.clone(),
            server_version: VERSION.to_owned(),
            runtimes: self.runtimes(),
            cdi_spec_dirs: self.context.config.cdi_dirs.iter().map(|dir| dir.display().to_string()).collect(),
            discovered_devices: devices,
            default_runtime: runtimes::default(&context.config).to_owned(),
            swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
            live_restore_enabled: true,
            init_binary: "corten-supervisor".to_owned(),
            runc_commit: Commit { id: VERSION.to_owned() },
            init_commit: Commit { id: VERSION.to_owned() },
            security_options: self.security_options(),
            containerd: None::<Containerd>,
            warnings: self.warnings(),
            http_proxy: masked(proxies.http),
            https_proxy: masked(proxies.https),
            no_proxy: proxies.except.unwrap_or_default(),
            ..Info::default()
        })
    }

    async fn images(&self) -> Result<i64> {
        Ok(i64::try_from(self.context.images.count().await?).unwrap_or(i64::MAX))
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for handle in self.context.index.all() {
            match handle.record().life.phase {
                Phase::Running { .. } | Phase::Restarting => counts.running += 1,
                Phase::Paused { .. } => counts.paused += 1,
                _ => counts.stopped += 1,
            }
        }
        counts
    }

    fn registries(&self) -> RegistryConfig {
        let config = &self.context.config;
        RegistryConfig {
            insecure_registry_cidrs: config
                .registries
                .insecure
                .iter()
                .filter(|entry| entry.contains('/'))
                .cloned()
                .chain(["::1/128".to_owned(), "127.0.0.0/8".to_owned()])
                .collect(),
            // As Docker shows them: with a slash at the end.
            mirrors: config
                .registries
                .mirrors
                .iter()
                .map(|url| format!("{}/", url.trim_end_matches('/')))
                .collect(),
            index_configs: self.indexes(),
        }
    }

    /// Docker Hub, and the registries that need no TLS.
    fn indexes(&self) -> BTreeMap<String, IndexInfo> {
        const HUB: &str = "docker.io";
        let named = |name: &str, hub: bool| {
            let info = IndexInfo { name: name.to_owned(), mirrors: Vec::new(), secure: hub, official: hub };
            (name.to_owned(), info)
        };
        let insecure = self.context.config.registries.insecure.iter().filter(|entry| !entry.contains('/'));
        insecure.map(|name| named(name, false)).chain([named(HUB, true)]).collect()
    }

    /// The engine's own, and those that the daemon was told of.
    fn runtimes(&self) -> BTreeMap<String, Runtime> {
        let others = self.context.config.runtimes.iter().map(|(name, runtime)| {
            let shown = Runtime {
                path: runtime.path.display().to_string(),
                runtime_args: runtime.arguments.clone(),
                ..Runtime::default()
            };
            (name.clone(), shown)
        });
        others.chain([(runtimes::OWN.to_owned(), Runtime::default())]).collect()
    }

    fn security_options(&self) -> Vec<String> {
        let mut options = Vec::new();
        if self.context.host.apparmor {
            options.push("name=apparmor".to_owned());
        }
        if self.context.host.seccomp {
            options.push("name=seccomp,profile=builtin".to_owned());
        }
        if self.context.host.selinux.is_some() {
            options.push("name=selinux".to_owned());
        }
        if self.context.host.rootless {
            options.push("name=rootless".to_owned());
        }
        options.push("name=cgroupns".to_owned());
        options
    }

    fn warnings(&self) -> Vec<String> {
        let host = &self.context.host;
        [
            (host.can("memory"), "WARNING: No memory limit support"),
            (host.swap_limit, "WARNING: No swap limit support"),
            (host.can("cpu"), "WARNING: No cpu cfs quota support"),
            (host.can("cpuset"), "WARNING: No cpuset support"),
            (host.can("pids"), "WARNING: No pids limit support"),
            (host.seccomp, "WARNING: No seccomp support"),
        ]
        .iter()
        .filter(|(there, _)| !there)
        .map(|(_, text)| (*text).to_owned())
        .collect()
    }

    /// What `version` shows.
    pub async fn version(&self) -> Result<Version> {
        let host = &self.context.host;
        let component = |name: &str, details: BTreeMap<String, String>| Component {
            name: name.to_owned(),
            version: VERSION.to_owned(),
            details,
        };
        let details = BTreeMap::from(
            [
                ("ApiVersion", api::version::MAX.to_string()),
                ("MinAPIVersion", api::version::MIN.to_string()),
                ("Os", "linux".to_owned()),
                ("Arch", architecture().to_owned()),
                ("KernelVersion", host.kernel.clone()),
                ("Experimental", "false".to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        Ok(Version {
            platform: Some(PlatformName { name: format!("Corten {VERSION}") }),
            components: vec![
                component("Engine", details),
                component("corten-runtime", BTreeMap::new()),
                component("corten-supervisor", BTreeMap::new()),
            ],
            version: VERSION.to_owned(),
            api_version: ApiVersion::default().to_string(),
            min_api_version: api::version::MIN.to_string(),
            os: "linux".to_owned(),
            arch: architecture().to_owned(),
            kernel_version: host.kernel.clone(),
            ..Version::default()
        })
    }

    /// What `system df` shows of containers; images and volumes are told by their own services. From counters and indexes; with `verbose`
    /// the containers are measured one by one.
    pub async fn disk_usage(&self, verbose: bool) -> Result<DiskUsage> {
        let measured = futures_util::stream::iter(self.context.index.all())
            .map(|handle| {
                let record = handle.record();
                async move {
                    let sizes = crate::containers::list::sizes(&self.context, &record).await;
                    // One that is being removed occupies nothing any more.
                    (record, sizes.unwrap_or_default())
                }
            })
            .buffered(MEASURED_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let mut usage = Usage::default();
        let now = jiff::Timestamp::now();
        for (record, sizes) in measured {
            usage.total_count += 1;
            let alive = record.life.pid().is_some();
            usage.active_count += i64::from(alive);
            usage.total_size += sizes.rw;
            if !alive {
                usage.reclaimable += sizes.rw;
            }
            if verbose {
                usage.items.push(crate::containers::show::summary(&record, now, Some(sizes)));
            }
        }
        Ok(DiskUsage { container_usage: Some(usage), ..DiskUsage::default() })
    }
}

fn plugins() -> Plugins {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Plugins {
        volume: list(&["local"]),
        network: list(&["bridge", "host", "ipvlan", "macvlan", "null"]),
        authorization: Vec::new(),
        log: crate::logging::Driver::ALL.map(|driver| driver.name().to_owned()).to_vec(),
    }
}

/// Go's word for the processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A proxy's URL without the name and the password that it may hold, as Docker shows it.
fn masked(url: Option<String>) -> String {
    let url = url.unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url };
    match rest.split_once('@') {
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => url,
    }
}

fn open_descriptors() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(-1, |dir| i64::try_from(dir.count()).unwrap_or(-1))
}

/// This installation's identifier: made once.
pub(crate) fn installation_id(data_root: &std::path::Path) -> Result<String> {
    let path = data_root.join(ID_FILE);
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(crate::Error::io("read", &path, e)),
    }
    let digits = crate::names::new_id()?;
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..32]];
    let id = parts.join("-");
    std::fs::write(&path, format!("{id}\n")).map_err(|e| crate::Error::io("write", &path, e))?;
    Ok(id)
}
