//! The flags of `run` that make a container.

use api::container::{DeviceMapping, HostConfig, Mount, Resources, ThrottleDevice};
use api::network::EndpointSettings;
use api::secret::SecretMount;

use super::{Recipe, duration, quoted};

/// `/dev/shm` where nobody says: Docker's.
pub(super) const SHM_BYTES: i64 = 64 << 20;

/// A flag and its value, if it takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) flag: &'static str,
    pub(super) value: Option<String>,
}

/// Flags in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) Vec<Word>);

impl Words {
    fn on(&mut self, flag: &'static str, given: bool) {
        if given {
            self.0.push(Word { flag, value: None });
        }
    }

    fn text(&mut self, flag: &'static str, value: &str) {
        if !value.is_empty() {
            self.put(flag, value.to_owned());
        }
    }

    fn number<T: PartialEq + Default + ToString>(&mut self, flag: &'static str, value: T) {
        if value != T::default() {
            self.put(flag, value.to_string());
        }
    }

    fn put(&mut self, flag: &'static str, value: String) {
        self.0.push(Word { flag, value: Some(value) });
    }

    fn each<T: ToString>(&mut self, flag: &'static str, values: impl IntoIterator<Item = T>) {
        values.into_iter().for_each(|value| self.put(flag, value.to_string()));
    }
}

/// All flags but those that only a terminal has a use for.
pub(super) fn all(recipe: &Recipe) -> Words {
    let mut words = Words::default();
    words.text("name", &recipe.name);
    process(&mut words, recipe);
    life(&mut words, recipe);
    files(&mut words, recipe);
    network(&mut words, recipe);
    isolation(&mut words, &recipe.host);
    limits(&mut words, &recipe.host.resources);
    health(&mut words, recipe);
    words
}

fn process(words: &mut Words, recipe: &Recipe) {
    let (config, host) = (&recipe.config, &recipe.host);
    words.on("interactive", config.open_stdin);
    words.on("tty", config.tty);
    words.each("env", &config.env);
    words.text("user", &config.user);
    words.each("group-add", &host.group_add);
    words.text("workdir", &config.working_dir);
    if let (Some(program), _) = recipe.program() {
        words.put("entrypoint", program);
    }
    words.text("stop-signal", &config.stop_signal);
    if let Some(seconds) = config.stop_timeout {
        words.put("stop-timeout", seconds.to_string());
    }
    if let Some(init) = host.resources.init {
        words.0.push(Word { flag: "init", value: (!init).then(|| "false".to_owned()) });
    }
}

fn life(words: &mut Words, recipe: &Recipe) {
    let (config, host) = (&recipe.config, &recipe.host);
    let pair = |(key, value): (&String, &String)| format!("{key}={value}");
    words.each("label", config.labels.iter().map(pair));
    words.each("annotation", host.annotations.iter().map(pair));
    let policy = &host.restart_policy;
    if !matches!(policy.name.as_str(), "" | "no") {
        let count = policy.maximum_retry_count;
        let count = if count > 0 { format!(":{count}") } else { String::new() };
        words.put("restart", format!("{}{count}", policy.name));
    }
    words.on("rm", host.auto_remove);
    if !matches!(host.runtime.as_str(), "" | "corten" | "runc") {
        words.text("runtime", &host.runtime);
    }
    if host.log_config.driver != "json-file" {
        words.text("log-driver", &host.log_config.driver);
    }
    words.each("log-opt", host.log_config.config.iter().map(pair));
}

fn files(words: &mut Words, recipe: &Recipe) {
    let (config, host) = (&recipe.config, &recipe.host);
    words.on("read-only", host.readonly_rootfs);
    words.each("volume", &host.binds);
    words.each("volume", config.volumes.keys());
    words.text("volume-driver", if host.volume_driver == "local" { "" } else { &host.volume_driver });
    words.each("mount", host.mounts.iter().map(mount));
    let tmpfs = |(path, options): (&String, &String)| {
        if options.is_empty() { path.clone() } else { format!("{path}:{options}") }
    };
    words.each("secret", host.secrets.iter().map(secret));
    words.each("tmpfs", host.tmpfs.iter().map(tmpfs));
    words.each("volumes-from", &host.volumes_from);
    if host.shm_size != SHM_BYTES {
        words.number("shm-size", host.shm_size);
    }
    words.each("storage-opt", host.storage_opt.iter().map(|(key, value)| format!("{key}={value}")));
}

/// A secret, as `--secret` has it.
fn secret(secret: &SecretMount) -> String {
    let mut text = format!("source={}", secret.source);
    let mut add = |key: &str, value: String| text.push_str(&format!(",{key}={value}"));
    if !secret.target.is_empty() {
        add("target", secret.target.clone());
    }
    if secret.uid != 0 {
        add("uid", secret.uid.to_string());
    }
    if secret.gid != 0 {
        add("gid", secret.gid.to_string());
    }
    if let Some(mode) = secret.mode {
        add("mode", format!("{mode:04o}"));
    }
    text
}

/// A mount in the long form, as `--mount` has it.
pub(super) fn mount(mount: &Mount) -> String {
    let mut fields = vec![format!("type={}", mount.kind)];
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            fields.push(format!("{key}={value}"));
        }
    };
    add("source", &mount.source);
    add("target", &mount.target);
    add("consistency", &mount.consistency);
    let yes = |given: bool| if given { "true" } else { "" };
    add("readonly", yes(mount.read_only));
    if let Some(bind) = &mount.bind_options {
        add("bind-propagation", &bind.propagation);
        let recursive = match bind {
            bind if bind.non_recursive => "disabled",
            bind if bind.read_only_non_recursive => "writable",
            bind if bind.read_only_force_recursive => "readonly",
            _ => "",
        };
        add("bind-recursive", recursive);
        add("bind-create-src", yes(bind.create_mountpoint));
        if let Some(mapping) = &bind.id_mapping {
            let source = if mapping.source.is_empty() { "match-user" } else { &mapping.source };
            let user = if mapping.user.is_empty() { String::new() } else { format!(":{}", mapping.user) };
            add("bind-idmap", &format!("{source}{user}"));
        }
    }
    if let Some(volume) = &mount.volume_options {
        add("volume-nocopy", yes(volume.no_copy));
        add("volume-subpath", &volume.subpath);
        for (key, value) in &volume.labels {
            add("volume-label", &format!("{key}={value}"));
        }
        if let Some(driver) = &volume.driver_config {
            add("volume-driver", &driver.name);
            for (key, value) in &driver.options {
                add("volume-opt", &format!("{key}={value}"));
            }
        }
    }
    if let Some(image) = &mount.image_options {
        add("image-subpath", &image.subpath);
    }
    if let Some(tmpfs) = &mount.tmpfs_options {
        add("tmpfs-size", &if tmpfs.size_bytes > 0 { tmpfs.size_bytes.to_string() } else { String::new() });
        add("tmpfs-mode", &if tmpfs.mode > 0 { format!("{:o}", tmpfs.mode) } else { String::new() });
        let options: Vec<String> = tmpfs.options.iter().map(|option| option.join("=")).collect();
        add("tmpfs-options", &options.join(","));
    }
    fields.iter().map(|field| csv(field)).collect::<Vec<_>>().join(",")
}

/// A field of comma-separated values.
pub(super) fn csv(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn network(words: &mut Words, recipe: &Recipe) {
    let (config, host) = (&recipe.config, &recipe.host);
    words.text("hostname", &config.hostname);
    words.text("domainname", &config.domainname);
    for (name, settings) in &recipe.networks {
        if !(recipe.networks.len() == 1
            && matches!(name.as_str(), "" | "default" | "bridge")
            && *settings == EndpointSettings::default())
        {
            words.put("network", endpoint(name, settings));
        }
    }
    for (port, bindings) in &host.port_bindings {
        for binding in bindings.iter().flatten() {
            let ip = match binding.host_ip.as_str() {
                "" => String::new(),
                ip if ip.contains(':') => format!("[{ip}]:"),
                ip => format!("{ip}:"),
            };
            let on_host = if binding.host_port.is_empty() && ip.is_empty() {
                String::new()
            } else {
                format!("{}:", binding.host_port)
            };
            words.put("publish", format!("{ip}{on_host}{port}"));
        }
    }
    words.each("expose", config.exposed_ports.keys());
    words.on("publish-all", host.publish_all_ports);
    words.each("add-host", &host.extra_hosts);
    words.each("dns", &host.dns);
    words.each("dns-option", &host.dns_options);
    words.each("dns-search", &host.dns_search);
    words.each("link", host.links.iter().map(|link| link_of(link)));
}

/// `/other:/own/alias` as it is shown is `other:alias` as it is asked for.
pub(super) fn link_of(link: &str) -> String {
    match link.split_once(':') {
        Some((other, alias)) => {
            let alias = alias.rsplit('/').next().unwrap_or(alias);
            format!("{}:{alias}", other.trim_start_matches('/'))
        }
        None => link.trim_start_matches('/').to_owned(),
    }
}

fn endpoint(name: &str, settings: &EndpointSettings) -> String {
    let mut fields = vec![format!("name={name}")];
    fields.extend(settings.aliases.iter().map(|alias| format!("alias={alias}")));
    if let Some(ipam) = &settings.ipam_config {
        for (key, value) in [("ip", &ipam.ipv4_address), ("ip6", &ipam.ipv6_address)] {
            if !value.is_empty() {
                fields.push(format!("{key}={value}"));
            }
        }
        fields.extend(ipam.link_local_ips.iter().map(|address| format!("link-local-ip={address}")));
    }
    if !settings.mac_address.is_empty() {
        fields.push(format!("mac-address={}", settings.mac_address));
    }
    fields.extend(settings.driver_opts.iter().map(|(key, value)| format!("driver-opt={key}={value}")));
    if settings.gw_priority != 0 {
        fields.push(format!("gw-priority={}", settings.gw_priority));
    }
    match fields.as_slice() {
        [_] => name.to_owned(),
        fields => fields.iter().map(|field| csv(field)).collect::<Vec<_>>().join(","),
    }
}

fn isolation(words: &mut Words, host: &HostConfig) {
    words.on("privileged", host.privileged);
    words.each("cap-add", &host.cap_add);
    words.each("cap-drop", &host.cap_drop);
    for option in &host.security_opt {
        words.put("security-opt", option.clone());
    }
    if host.masked_paths.as_deref() == Some(&[])
        && host.readonly_paths.as_deref() == Some(&[])
        && !host.privileged
    {
        words.put("security-opt", "systempaths=unconfined".to_owned());
    }
    words.each("sysctl", host.sysctls.iter().map(|(key, value)| format!("{key}={value}")));
    if host.cgroupns_mode != "private" {
        words.text("cgroupns", &host.cgroupns_mode);
    }
    if host.ipc_mode != "private" {
        words.text("ipc", &host.ipc_mode);
    }
    words.number("oom-score-adj", host.oom_score_adj);
    words.text("pid", &host.pid_mode);
    words.text("uts", &host.uts_mode);
    words.text("userns", &host.userns_mode);
}

/// A device of the host, as `--device` has it.
pub(super) fn device(device: &DeviceMapping) -> String {
    let mut text = device.path_on_host.clone();
    let access = &device.cgroup_permissions;
    if device.path_in_container != device.path_on_host && !device.path_in_container.is_empty() {
        text.push_str(&format!(":{}", device.path_in_container));
    }
    if !matches!(access.as_str(), "" | "rwm") {
        text.push_str(&format!(":{access}"));
    }
    text
}

fn limits(words: &mut Words, limits: &Resources) {
    words.number("memory", limits.memory);
    // Twice the memory is what nobody had to ask for.
    if limits.memory_swap != 0 && limits.memory_swap != limits.memory.saturating_mul(2) {
        words.number("memory-swap", limits.memory_swap);
    }
    words.number("memory-reservation", limits.memory_reservation);
    if let Some(swappiness) = limits.memory_swappiness.filter(|value| *value >= 0) {
        words.put("memory-swappiness", swappiness.to_string());
    }
    words.on("oom-kill-disable", limits.oom_kill_disable == Some(true));
    words.number("cpu-shares", limits.cpu_shares);
    if limits.nano_cpus != 0 {
        words.put("cpus", cpus(limits.nano_cpus));
    }
    words.number("cpu-period", limits.cpu_period);
    words.number("cpu-quota", limits.cpu_quota);
    words.number("cpu-rt-period", limits.cpu_realtime_period);
    words.number("cpu-rt-runtime", limits.cpu_realtime_runtime);
    words.text("cpuset-cpus", &limits.cpuset_cpus);
    words.text("cpuset-mems", &limits.cpuset_mems);
    words.text("cgroup-parent", &limits.cgroup_parent);
    words.number("blkio-weight", limits.blkio_weight);
    words.each(
        "blkio-weight-device",
        limits.blkio_weight_device.iter().map(|device| format!("{}:{}", device.path, device.weight)),
    );
    let rate = |device: &ThrottleDevice| format!("{}:{}", device.path, device.rate);
    words.each("device-read-bps", limits.blkio_device_read_bps.iter().map(rate));
    words.each("device-write-bps", limits.blkio_device_write_bps.iter().map(rate));
    words.each("device-read-iops", limits.blkio_device_read_iops.iter().map(rate));
    words.each("device-write-iops", limits.blkio_device_write_iops.iter().map(rate));
    words.put("pids-limit", limits.pids_limit.filter(|limit| *limit > 0).unwrap_or(-1).to_string());
    words.each(
        "ulimit",
        limits.ulimits.iter().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard)),
    );
    words.each("device", limits.devices.iter().map(device));
    words.each("device-cgroup-rule", &limits.device_cgroup_rules);
    for request in &limits.device_requests {
        if request.driver == "cdi" {
            words.each("device", &request.device_ids);
            continue;
        }
        let mut fields = Vec::new();
        if request.device_ids.is_empty() {
            fields.push(if request.count < 0 {
                "all".to_owned()
            } else {
                format!("count={}", request.count)
            });
        } else {
            fields.push(csv(&format!("device={}", request.device_ids.join(","))));
        }
        if !request.driver.is_empty() {
            fields.push(format!("driver={}", request.driver));
        }
        let wishes: Vec<&str> =
            request.capabilities.iter().flatten().map(String::as_str).filter(|word| *word != "gpu").collect();
        if !wishes.is_empty() {
            fields.push(csv(&format!("capabilities={}", wishes.join(","))));
        }
        words.put("gpus", fields.join(","));
    }
}

/// Billionths of a processor as a number of processors.
pub(super) fn cpus(nano: i64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn health(words: &mut Words, recipe: &Recipe) {
    let Some(health) = &recipe.config.healthcheck else { return };
    match health.test.as_slice() {
        [word, ..] if word == "NONE" => return words.on("no-healthcheck", true),
        [word, line] if word == "CMD-SHELL" => words.put("health-cmd", line.clone()),
        [word, program @ ..] if word == "CMD" => {
            let line: Vec<String> = program.iter().map(|word| quoted(word)).collect();
            words.put("health-cmd", line.join(" "));
        }
        [word, address] if word == "HTTP" => words.put("health-http", address.clone()),
        [word, address] if word == "TCP" => words.put("health-tcp", address.clone()),
        _ => {}
    }
    for (flag, time) in [
        ("health-interval", health.interval),
        ("health-timeout", health.timeout),
        ("health-start-period", health.start_period),
        ("health-start-interval", health.start_interval),
    ] {
        if time != 0 {
            words.put(flag, duration(time));
        }
    }
    words.number("health-retries", health.retries);
}
