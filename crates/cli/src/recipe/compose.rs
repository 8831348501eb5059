//! As a Compose project of one service.

use std::collections::BTreeSet;

use api::container::{HostConfig, Mount};
use serde_json::{Map, Value, json};

use super::{Recipe, duration, flags, yaml};
use crate::error::Result;

/// Labels that Compose puts on what it makes.
const LABELS_OF_COMPOSE: &str = "com.docker.compose.";

/// The project. Volumes and networks are those that are there.
pub(super) fn write(recipe: &Recipe) -> Result<String> {
    refuse(recipe)?;
    let mut service = Map::new();
    process(&mut service, recipe);
    files(&mut service, recipe);
    network(&mut service, recipe);
    isolation(&mut service, &recipe.host);
    limits(&mut service, &recipe.host);
    health(&mut service, recipe);
    let name: String = recipe
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect();
    let mut project = Map::new();
    project.insert("services".into(), json!({ name: dollars(Value::Object(service)) }));
    let there = |names: BTreeSet<String>| {
        let known = names.into_iter().map(|name| (name.clone(), json!({"external": true, "name": name})));
        Value::Object(known.collect())
    };
    for (key, names) in [("volumes", volumes(recipe)), ("networks", networks(recipe))] {
        if !names.is_empty() {
            project.insert(key.into(), there(names));
        }
    }
    Ok(yaml::write(&Value::Object(project)))
}

fn refuse(recipe: &Recipe) -> Result<()> {
    let host = &recipe.host;
    let mounts = |is: fn(&Mount) -> bool| host.mounts.iter().any(is);
    let is_mapped = mounts(|m| m.bind_options.as_ref().is_some_and(|bind| bind.id_mapping.is_some()));
    let is_tuned = mounts(|m| m.tmpfs_options.as_ref().is_some_and(|tmpfs| !tmpfs.options.is_empty()));
    let has_driver = mounts(|m| m.volume_options.as_ref().is_some_and(|v| v.driver_config.is_some()));
    recipe.refuse(
        "Compose",
        [
            (!host.secrets.is_empty(), "secrets of this engine (--secret)"),
            (recipe.is_asked_for_health(), "health checks of the engine's own (--health-http, --health-tcp)"),
            (host.publish_all_ports, "all ports at once (--publish-all)"),
            (is_mapped, "owners of files that are mapped (bind-idmap)"),
            (is_tuned, "further options of a tmpfs mount (tmpfs-options)"),
            (
                has_driver || !matches!(host.volume_driver.as_str(), "" | "local"),
                "drivers of volumes beside the mount (volume-driver, volume-opt, --volume-driver)",
            ),
            (!host.resources.cpuset_mems.is_empty(), "memory nodes (--cpuset-mems)"),
        ],
    )
}

/// Compose takes `$` for a variable.
fn dollars(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('$', "$$")),
        Value::Array(list) => list.into_iter().map(dollars).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, dollars(value))).collect(),
        other => other,
    }
}

/// Puts what says something.
fn put(service: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let nothing = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) => false,
    };
    if !nothing {
        service.insert(key.to_owned(), value);
    }
}

fn process(service: &mut Map<String, Value>, recipe: &Recipe) {
    let (config, host) = (&recipe.config, &recipe.host);
    put(service, "image", recipe.image.as_str());
    put(service, "container_name", recipe.name.as_str());
    if let Some(entrypoint) = &recipe.entrypoint {
        service.insert("entrypoint".into(), json!(entrypoint));
    }
    put(service, "command", recipe.command.clone());
    put(service, "environment", config.env.clone());
    let labels = config.labels.iter().filter(|(key, _)| !key.starts_with(LABELS_OF_COMPOSE));
    put(service, "labels", labels.map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>());
    put(service, "annotations", json!(host.annotations));
    put(service, "user", config.user.as_str());
    put(service, "group_add", host.group_add.clone());
    put(service, "working_dir", config.working_dir.as_str());
    put(service, "stdin_open", config.open_stdin);
    put(service, "tty", config.tty);
    put(service, "stop_signal", config.stop_signal.as_str());
    if let Some(seconds) = config.stop_timeout {
        service.insert("stop_grace_period".into(), json!(format!("{seconds}s")));
    }
    if let Some(init) = host.resources.init {
        service.insert("init".into(), json!(init));
    }
    let policy = &host.restart_policy;
    match (policy.name.as_str(), policy.maximum_retry_count) {
        ("" | "no", _) => {}
        (name, 0) => put(service, "restart", name),
        (name, count) => put(service, "restart", format!("{name}:{count}")),
    }
    if !matches!(host.runtime.as_str(), "" | "corten" | "runc") {
        put(service, "runtime", host.runtime.as_str());
    }
    let log = &host.log_config;
    if log.driver != "json-file" || !log.config.is_empty() {
        let mut logging = Map::new();
        put(&mut logging, "driver", log.driver.as_str());
        put(&mut logging, "options", json!(log.config));
        put(service, "logging", logging);
    }
}

fn files(service: &mut Map<String, Value>, recipe: &Recipe) {
    let (config, host) = (&recipe.config, &recipe.host);
    put(service, "read_only", host.readonly_rootfs);
    let mut volumes: Vec<Value> = host.binds.iter().map(|bind| json!(bind)).collect();
    volumes.extend(config.volumes.keys().map(|path| json!(path)));
    volumes.extend(host.mounts.iter().map(mount));
    put(service, "volumes", volumes);
    let tmpfs = |(path, options): (&String, &String)| {
        json!(if options.is_empty() { path.clone() } else { format!("{path}:{options}") })
    };
    put(service, "tmpfs", host.tmpfs.iter().map(tmpfs).collect::<Vec<_>>());
    let from: Vec<_> = host.volumes_from.iter().map(|other| format!("container:{other}")).collect();
    put(service, "volumes_from", from);
    put(service, "shm_size", host.shm_size);
    put(service, "storage_opt", json!(host.storage_opt));
}

fn mount(mount: &Mount) -> Value {
    let mut all = Map::new();
    put(&mut all, "type", mount.kind.as_str());
    put(&mut all, "source", mount.source.as_str());
    put(&mut all, "target", mount.target.as_str());
    put(&mut all, "read_only", mount.read_only);
    put(&mut all, "consistency", mount.consistency.as_str());
    if let Some(options) = &mount.bind_options {
        let mut bind = Map::new();
        put(&mut bind, "propagation", options.propagation.as_str());
        // Compose makes a source that is missing unless it is told not to.
        bind.insert("create_host_path".into(), json!(options.create_mountpoint));
        if options.non_recursive {
            put(&mut bind, "recursive", "disabled");
        } else if options.read_only_force_recursive {
            put(&mut bind, "recursive", "readonly");
        } else if options.read_only_non_recursive {
            put(&mut bind, "recursive", "writable");
        }
        put(&mut all, "bind", bind);
    } else if mount.kind == "bind" {
        all.insert("bind".into(), json!({"create_host_path": false}));
    }
    if let Some(options) = &mount.volume_options {
        let mut volume = Map::new();
        put(&mut volume, "nocopy", options.no_copy);
        put(&mut volume, "subpath", options.subpath.as_str());
        put(&mut volume, "labels", json!(options.labels));
        put(&mut all, "volume", volume);
    }
    if let Some(options) = &mount.tmpfs_options {
        let mut tmpfs = Map::new();
        put(&mut tmpfs, "size", options.size_bytes);
        put(&mut tmpfs, "mode", options.mode);
        put(&mut all, "tmpfs", tmpfs);
    }
    if let Some(options) = &mount.image_options {
        put(&mut all, "image", json!({"subpath": options.subpath}));
    }
    Value::Object(all)
}

/// The names of volumes among what is mounted.
fn volumes(recipe: &Recipe) -> BTreeSet<String> {
    let short = recipe.host.binds.iter().filter_map(|bind| bind.split_once(':').map(|(source, _)| source));
    let long =
        recipe.host.mounts.iter().filter(|mount| mount.kind == "volume").map(|mount| mount.source.as_str());
    let named = |name: &&str| !name.is_empty() && !name.starts_with('/');
    short.chain(long).filter(named).map(str::to_owned).collect()
}

/// Whether a network is one that Compose connects with by its name.
fn has_name(network: &str) -> bool {
    !matches!(network, "" | "default" | "bridge" | "host" | "none") && !network.starts_with("container:")
}

fn networks(recipe: &Recipe) -> BTreeSet<String> {
    recipe.networks.iter().map(|(name, _)| name.clone()).filter(|name| has_name(name)).collect()
}

fn network(service: &mut Map<String, Value>, recipe: &Recipe) {
    let (config, host) = (&recipe.config, &recipe.host);
    put(service, "hostname", config.hostname.as_str());
    put(service, "domainname", config.domainname.as_str());
    let mut own = Map::new();
    let count = recipe.networks.len() as i64;
    for (place, (name, settings)) in recipe.networks.iter().enumerate() {
        if !has_name(name) {
            put(service, "network_mode", if name.is_empty() || name == "default" { "bridge" } else { name });
            put(service, "mac_address", settings.mac_address.as_str());
            continue;
        }
        let mut endpoint = Map::new();
        put(&mut endpoint, "aliases", settings.aliases.clone());
        if let Some(ipam) = &settings.ipam_config {
            put(&mut endpoint, "ipv4_address", ipam.ipv4_address.as_str());
            put(&mut endpoint, "ipv6_address", ipam.ipv6_address.as_str());
            put(&mut endpoint, "link_local_ips", ipam.link_local_ips.clone());
        }
        put(&mut endpoint, "mac_address", settings.mac_address.as_str());
        put(&mut endpoint, "driver_opts", json!(settings.driver_opts));
        put(&mut endpoint, "gw_priority", settings.gw_priority);
        // The first one is the one that it was made with.
        if count > 1 {
            put(&mut endpoint, "priority", count - place as i64);
        }
        own.insert(name.clone(), Value::Object(endpoint));
    }
    put(service, "networks", own);
    let links = host.links.iter().map(|link| flags::link_of(link));
    put(service, "external_links", links.collect::<Vec<_>>());
    let mut ports = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let (target, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        for binding in bindings.iter().flatten() {
            let mut one = Map::new();
            one.insert("target".into(), json!(target.parse::<u16>().unwrap_or_default()));
            put(&mut one, "published", binding.host_port.as_str());
            put(&mut one, "host_ip", binding.host_ip.as_str());
            put(&mut one, "protocol", protocol);
            ports.push(Value::Object(one));
        }
    }
    put(service, "ports", ports);
    put(service, "expose", config.exposed_ports.keys().cloned().collect::<Vec<_>>());
    put(service, "extra_hosts", host.extra_hosts.clone());
    put(service, "dns", host.dns.clone());
    put(service, "dns_opt", host.dns_options.clone());
    put(service, "dns_search", host.dns_search.clone());
}

fn isolation(service: &mut Map<String, Value>, host: &HostConfig) {
    put(service, "privileged", host.privileged);
    put(service, "cap_add", host.cap_add.clone());
    put(service, "cap_drop", host.cap_drop.clone());
    let mut options = host.security_opt.clone();
    if host.masked_paths.as_deref() == Some(&[]) && !host.privileged {
        options.push("systempaths=unconfined".to_owned());
    }
    put(service, "security_opt", options);
    put(service, "sysctls", json!(host.sysctls));
    put(service, "cgroup", if host.cgroupns_mode == "private" { "" } else { &host.cgroupns_mode });
    put(service, "ipc", if host.ipc_mode == "private" { "" } else { &host.ipc_mode });
    put(service, "pid", host.pid_mode.as_str());
    put(service, "uts", host.uts_mode.as_str());
    put(service, "userns_mode", host.userns_mode.as_str());
}

fn limits(service: &mut Map<String, Value>, host: &HostConfig) {
    let limits = &host.resources;
    put(service, "mem_limit", limits.memory);
    if limits.memory_swap != limits.memory.saturating_mul(2) {
        put(service, "memswap_limit", limits.memory_swap);
    }
    put(service, "mem_reservation", limits.memory_reservation);
    if let Some(swappiness) = limits.memory_swappiness.filter(|value| *value >= 0) {
        service.insert("mem_swappiness".into(), json!(swappiness));
    }
    put(service, "oom_kill_disable", limits.oom_kill_disable == Some(true));
    put(service, "oom_score_adj", host.oom_score_adj);
    put(service, "cpu_shares", limits.cpu_shares);
    if limits.nano_cpus != 0 {
        put(service, "cpus", flags::cpus(limits.nano_cpus));
    }
    put(service, "cpu_period", limits.cpu_period);
    put(service, "cpu_quota", limits.cpu_quota);
    put(service, "cpu_rt_period", limits.cpu_realtime_period);
    put(service, "cpu_rt_runtime", limits.cpu_realtime_runtime);
    put(service, "cpuset", limits.cpuset_cpus.as_str());
    put(service, "cgroup_parent", limits.cgroup_parent.as_str());
    put(service, "pids_limit", limits.pids_limit.filter(|limit| *limit > 0).unwrap_or(-1));
    let ulimits = limits.ulimits.iter().map(|l| (l.name.clone(), json!({"soft": l.soft, "hard": l.hard})));
    put(service, "ulimits", ulimits.collect::<Map<_, _>>());
    let mut devices: Vec<String> = limits.devices.iter().map(flags::device).collect();
    let cdi = limits.device_requests.iter().filter(|request| request.driver == "cdi");
    devices.extend(cdi.flat_map(|request| request.device_ids.clone()));
    put(service, "devices", devices);
    put(service, "device_cgroup_rules", limits.device_cgroup_rules.clone());
    let gpu = |request: &&api::container::DeviceRequest| request.driver != "cdi";
    let gpus = limits.device_requests.iter().filter(gpu).map(|request| {
        let mut one = Map::new();
        put(&mut one, "driver", request.driver.as_str());
        if request.device_ids.is_empty() {
            one.insert("count".into(), json!(request.count));
        }
        put(&mut one, "device_ids", request.device_ids.clone());
        Value::Object(one)
    });
    put(service, "gpus", gpus.collect::<Vec<_>>());
    let mut block = Map::new();
    put(&mut block, "weight", limits.blkio_weight);
    let weights = limits.blkio_weight_device.iter().map(|d| json!({"path": d.path, "weight": d.weight}));
    put(&mut block, "weight_device", weights.collect::<Vec<_>>());
    for (key, devices) in [
        ("device_read_bps", &limits.blkio_device_read_bps),
        ("device_write_bps", &limits.blkio_device_write_bps),
        ("device_read_iops", &limits.blkio_device_read_iops),
        ("device_write_iops", &limits.blkio_device_write_iops),
    ] {
        let rates = devices.iter().map(|device| json!({"path": device.path, "rate": device.rate}));
        put(&mut block, key, rates.collect::<Vec<_>>());
    }
    put(service, "blkio_config", block);
}

fn health(service: &mut Map<String, Value>, recipe: &Recipe) {
    let Some(health) = &recipe.config.healthcheck else { return };
    let mut check = Map::new();
    put(&mut check, "test", health.test.clone());
    for (key, time) in [
        ("interval", health.interval),
        ("timeout", health.timeout),
        ("start_period", health.start_period),
        ("start_interval", health.start_interval),
    ] {
        if time != 0 {
            put(&mut check, key, duration(time));
        }
    }
    put(&mut check, "retries", health.retries);
    put(service, "healthcheck", check);
}
