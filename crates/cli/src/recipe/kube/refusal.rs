//! What a pod has no word for: it would be another container without it.

use api::container::{HostConfig, Resources};

use crate::error::Result;
use crate::recipe::Recipe;

/// The most processes where nobody says: the engine's.
const PIDS_DEFAULT: i64 = 4096;

/// Who says it.
pub(super) const FORM: &str = "a pod of Kubernetes";

/// Refuses the first of them that is given.
pub(super) fn check(recipe: &Recipe) -> Result<()> {
    recipe.refuse(FORM, others(&recipe.host))?;
    recipe.refuse(FORM, process(recipe))?;
    recipe.refuse(FORM, network(recipe))?;
    recipe.refuse(FORM, isolation(&recipe.host))?;
    recipe.refuse(FORM, limits(&recipe.host.resources))?;
    recipe.refuse(FORM, rates(&recipe.host.resources))
}

type Given = (bool, &'static str);

fn others(host: &HostConfig) -> [Given; 4] {
    let joined = [&host.network_mode, &host.pid_mode, &host.ipc_mode]
        .into_iter()
        .any(|mode| mode.starts_with("container:"));
    [
        (joined, "namespaces of other containers"),
        (!host.volumes_from.is_empty(), "volumes of other containers (--volumes-from)"),
        (!host.links.is_empty(), "links (--link)"),
        (!host.secrets.is_empty(), "secrets of this engine (--secret)"),
    ]
}

fn process(recipe: &Recipe) -> [Given; 7] {
    let (config, host) = (&recipe.config, &recipe.host);
    [
        (host.resources.init == Some(true), "an init of the engine's (--init)"),
        (!config.stop_signal.is_empty(), "the signal that stops it (--stop-signal)"),
        (host.restart_policy.maximum_retry_count > 0, "a number of restarts (--restart on-failure:N)"),
        (!matches!(host.runtime.as_str(), "" | "corten" | "runc"), "the runtime (--runtime)"),
        (!matches!(host.log_config.driver.as_str(), "" | "json-file"), "where its log goes (--log-driver)"),
        (!host.log_config.config.is_empty(), "how it is logged (--log-opt)"),
        (!host.storage_opt.is_empty(), "options of its storage (--storage-opt)"),
    ]
}

fn network(recipe: &Recipe) -> [Given; 7] {
    let (config, host) = (&recipe.config, &recipe.host);
    let is_fixed = recipe.networks.iter().any(|(_, settings)| settings.ipam_config.is_some());
    let has_mac = recipe.networks.iter().any(|(_, settings)| !settings.mac_address.is_empty());
    let has_options = recipe.networks.iter().any(|(_, settings)| !settings.driver_opts.is_empty());
    let by_gateway = host
        .extra_hosts
        .iter()
        .any(|entry| entry.split_once(':').is_some_and(|(_, ip)| ip == "host-gateway"));
    [
        (host.network_mode == "none", "no network (--network none)"),
        (is_fixed, "addresses of its own (--ip, --ip6, --link-local-ip)"),
        (has_mac, "hardware addresses (--mac-address)"),
        (has_options, "options of a network's driver (--network driver-opt)"),
        (host.publish_all_ports, "all ports at once (--publish-all)"),
        (!config.domainname.is_empty(), "a domain of its own (--domainname)"),
        (by_gateway, "the host's address as a name (--add-host NAME:host-gateway)"),
    ]
}

fn isolation(host: &HostConfig) -> [Given; 6] {
    let is_open = host.masked_paths.as_deref() == Some(&[]) && !host.privileged;
    let has_uts = !host.uts_mode.is_empty() && host.network_mode != "host";
    [
        (has_uts, "the host's name (--uts)"),
        (!matches!(host.cgroupns_mode.as_str(), "" | "private"), "the host's cgroups (--cgroupns)"),
        (host.ipc_mode == "none", "no memory that is shared (--ipc none)"),
        (!matches!(host.userns_mode.as_str(), "" | "host"), "user namespaces as they are here (--userns)"),
        (host.oom_score_adj != 0, "who is killed first (--oom-score-adj)"),
        (is_open, "files of the system that are not hidden (--security-opt systempaths=unconfined)"),
    ]
}

fn limits(limits: &Resources) -> [Given; 13] {
    let has_swap = limits.memory_swap != 0 && limits.memory_swap != limits.memory.saturating_mul(2);
    let has_pids = limits.pids_limit.is_some_and(|limit| limit > 0 && limit != PIDS_DEFAULT);
    let has_devices = !limits.devices.is_empty() || !limits.device_requests.is_empty();
    [
        (has_devices, "devices of the host (--device, --gpus)"),
        (!limits.device_cgroup_rules.is_empty(), "rules for devices (--device-cgroup-rule)"),
        (has_pids, "the most processes (--pids-limit)"),
        (!limits.ulimits.is_empty(), "limits of processes (--ulimit)"),
        (has_swap, "swap (--memory-swap)"),
        (limits.memory_swappiness.is_some_and(|value| value >= 0), "swap (--memory-swappiness)"),
        (limits.oom_kill_disable == Some(true), "not being killed (--oom-kill-disable)"),
        (!limits.cpuset_cpus.is_empty(), "processors by number (--cpuset-cpus)"),
        (!limits.cpuset_mems.is_empty(), "memory nodes (--cpuset-mems)"),
        (limits.cpu_period != 0, "periods of processors (--cpu-period)"),
        (limits.cpu_quota != 0, "parts of a period (--cpu-quota); --cpus says the same"),
        (
            limits.cpu_realtime_period != 0 || limits.cpu_realtime_runtime != 0,
            "times of realtime (--cpu-rt-period, --cpu-rt-runtime)",
        ),
        (!limits.cgroup_parent.is_empty(), "the cgroup above it (--cgroup-parent)"),
    ]
}

fn rates(limits: &Resources) -> [Given; 6] {
    [
        (limits.blkio_weight != 0, "shares of disks (--blkio-weight)"),
        (!limits.blkio_weight_device.is_empty(), "shares of disks (--blkio-weight-device)"),
        (!limits.blkio_device_read_bps.is_empty(), "rates of disks (--device-read-bps)"),
        (!limits.blkio_device_write_bps.is_empty(), "rates of disks (--device-write-bps)"),
        (!limits.blkio_device_read_iops.is_empty(), "rates of disks (--device-read-iops)"),
        (!limits.blkio_device_write_iops.is_empty(), "rates of disks (--device-write-iops)"),
    ]
}
