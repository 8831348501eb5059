//! What a request may not ask for: what is wrong whatever the state, and what this engine does not have, by its name.

use std::path::{Component, Path};

use api::container::{Config, CreateRequest, HostConfig, Resources};

use crate::containers::{joins, lender, linked};
use crate::error::{Error, Result};
use crate::restart::Policy;
use crate::signals;

/// Docker's lower bound: less does not hold the program that is started.
const MEMORY_MIN_BYTES: i64 = 6 * 1024 * 1024;
/// The kernel's bound on a host name.
const HOSTNAME_MAX_BYTES: usize = 64;
/// What the kernel takes as argument and environment strings is bounded too; this much is never right.
const STRINGS_MAX_BYTES: usize = 4 << 20;

/// Refuses what cannot be right or is not there; the first reason found is told.
pub fn check(body: &CreateRequest, cpus: u32) -> Result<()> {
    let host = body.host_config.clone().unwrap_or_default();
    lender::check(&body.config, &host)?;
    config(&body.config)?;
    absent(&host)?;
    modes(&host)?;
    if host.uts_mode == "host" && !body.config.hostname.is_empty() {
        return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
    }
    limits(&host.resources, cpus)?;
    policy(&host)?;
    crate::secrets::check(&host.secrets)?;
    hosts_and_sysctls(&host)
}

fn unavailable<T>(what: &str) -> Result<T> {
    Err(Error::not_implemented(format!("{what} not available yet")))
}

/// Refuses strings that no program can be given. An image brings some too, so that what was merged is looked at again.
pub fn strings(config: &Config) -> Result<()> {
    let strings = || {
        config
            .env
            .iter()
            .chain(config.cmd.iter().flatten())
            .chain(config.entrypoint.iter().flatten())
            .chain([&config.user, &config.working_dir, &config.hostname, &config.domainname])
    };
    if strings().any(|s| s.contains('\0')) {
        return Err(Error::invalid("invalid configuration: a string contains a NUL byte"));
    }
    if strings().map(String::len).sum::<usize>() > STRINGS_MAX_BYTES {
        return Err(Error::invalid("invalid configuration: arguments and environment are too large"));
    }
    Ok(())
}

fn config(config: &Config) -> Result<()> {
    strings(config)?;
    for entry in &config.env {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
    }
    for (what, name) in [("hostname", &config.hostname), ("domainname", &config.domainname)] {
        let odd = name.bytes().any(|c| !(c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')));
        if name.len() > HOSTNAME_MAX_BYTES || odd || name.starts_with(['-', '.']) {
            return Err(Error::invalid(format!("invalid {what}: {name}")));
        }
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !config.stop_signal.is_empty() {
        signals::parse(&config.stop_signal)?;
    }
    config.healthcheck.as_ref().map_or(Ok(()), crate::health::check)
}

/// Fields that this engine has nothing behind.
fn absent(host: &HostConfig) -> Result<()> {
    if !host.cgroup.is_empty() {
        return unavailable("cgroups of other containers (Cgroup) are");
    }
    storage(host)?;
    if !host.isolation.is_empty() && !host.isolation.eq_ignore_ascii_case("default") {
        let given = &host.isolation;
        return Err(Error::invalid(format!("invalid isolation ({given}): linux only supports 'default'")));
    }
    let r = &host.resources;
    for (set, what) in [
        (r.cpu_count != 0, "CpuCount is"),
        (r.cpu_percent != 0, "CpuPercent is"),
        (r.io_maximum_iops != 0, "IOMaximumIOps is"),
        (r.io_maximum_bandwidth != 0, "IOMaximumBandwidth is"),
        (r.kernel_memory != 0, "a limit of kernel memory (KernelMemory, --kernel-memory) is"),
        (r.kernel_memory_tcp != 0, "a limit of TCP buffers (KernelMemoryTCP) is"),
    ] {
        if set {
            return unavailable(what);
        }
    }
    Ok(())
}

/// How much the container's own layer may occupy, if it may not be as much as there is room for.
pub fn storage(host: &HostConfig) -> Result<Option<u64>> {
    let mut bytes = None;
    for (key, value) in &host.storage_opt {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("unknown option {key}")));
        }
        let size = size(value).filter(|size| *size > 0);
        bytes = Some(size.ok_or_else(|| Error::invalid(format!("invalid size: '{value}'")))?);
    }
    Ok(bytes)
}

/// The namespaces' modes.
fn modes(host: &HostConfig) -> Result<()> {
    let check = |what: &str, mode: &str, known: &[&str]| {
        if known.contains(&mode) {
            Ok(())
        } else {
            Err(Error::invalid(format!("invalid {what} mode: {mode}")))
        }
    };
    joins::check(host)?;
    let own = |mode: &String| if lender::named(mode).is_some() { "" } else { mode.as_str() }.to_owned();
    check("IPC", &own(&host.ipc_mode), &["", "none", "private", "shareable", "host"])?;
    check("PID", &own(&host.pid_mode), &["", "host"])?;
    check("UTS", &host.uts_mode, &["", "host"])?;
    check("user", &host.userns_mode, &["", "host"])?;
    check("cgroup namespace", &host.cgroupns_mode, &["", "private", "host"])?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    Ok(())
}

/// Limits that contradict themselves or the host. Also used where limits are changed.
pub fn limits(r: &Resources, cpus: u32) -> Result<()> {
    let refuse = |text: String| Err(Error::invalid(text));
    crate::plan::resources::sets(r)?;
    crate::plan::resources::available(r)?;
    if Path::new(&r.cgroup_parent).components().any(|part| part == Component::ParentDir) {
        return refuse(format!("invalid cgroup-parent: {}: it must not contain \"..\"", r.cgroup_parent));
    }
    if r.memory != 0 && r.memory < MEMORY_MIN_BYTES {
        return refuse("Minimum memory limit allowed is 6MB".into());
    }
    if r.memory_swap > 0 && r.memory == 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage".into(),
        );
    }
    if r.memory_swap > 0 && r.memory_swap < r.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage".into());
    }
    if r.memory_swap < -1 {
        return refuse(format!("Invalid value: {}, memory-swap cannot be less than -1", r.memory_swap));
    }
    if r.memory_swappiness.is_some_and(|s| !(-1..=100).contains(&s)) {
        return refuse(format!(
            "Invalid value: {}, valid memory swappiness range is 0-100",
            r.memory_swappiness.unwrap_or_default()
        ));
    }
    if r.memory_reservation != 0 && r.memory_reservation < MEMORY_MIN_BYTES {
        return refuse("Minimum memory reservation allowed is 6MB".into());
    }
    if r.memory > 0 && r.memory_reservation > r.memory {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage".into(),
        );
    }
    if r.nano_cpus > 0 && (r.cpu_period > 0 || r.cpu_quota > 0) {
        let other = if r.cpu_period > 0 { "CPU Period" } else { "CPU Quota" };
        return refuse(format!("Conflicting options: Nano CPUs and {other} cannot both be set"));
    }
    if r.nano_cpus < 0 || r.nano_cpus > i64::from(cpus) * 1_000_000_000 {
        return refuse(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if r.cpu_shares < 0 {
        return refuse(format!("invalid CPU shares ({}): value must be a positive integer", r.cpu_shares));
    }
    if r.cpu_period != 0 && !(1_000..=1_000_000).contains(&r.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into(),
        );
    }
    if r.cpu_quota > 0 && r.cpu_quota < 1_000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    if r.blkio_weight != 0 && !(10..=1000).contains(&r.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000".into());
    }
    if r.pids_limit.is_some_and(|n| n < -1) {
        return refuse("pids limit cannot be less than -1".into());
    }
    for limit in &r.ulimits {
        if limit.soft > limit.hard && limit.hard != -1 {
            return refuse(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            ));
        }
    }
    Ok(())
}

fn policy(host: &HostConfig) -> Result<()> {
    let policy = Policy::parse(&host.restart_policy.name, host.restart_policy.maximum_retry_count)
        .map_err(Error::invalid)?;
    if host.auto_remove && policy != Policy::No {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

/// Reads a size as Docker's `units.RAMInBytes` does: a number with an optional `b`, `k`, `m`, `g`, `t` (with an
/// optional `b` or `ib`); `-1` is no limit, given as 0.
pub fn size(text: &str) -> Option<u64> {
    size_by(1024, text)
}

/// The same where Docker counts by thousands, whatever the unit is called.
pub fn decimal_size(text: &str) -> Option<u64> {
    size_by(1000, text)
}

fn size_by(thousand: u64, text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    if lower == "-1" {
        return Some(0);
    }
    let digits = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor = match unit.trim() {
        "" | "b" => 1u64,
        "k" | "kb" | "kib" => thousand,
        "m" | "mb" | "mib" => thousand.pow(2),
        "g" | "gb" | "gib" => thousand.pow(3),
        "t" | "tb" | "tib" => thousand.pow(4),
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        Err(_) => {
            let value = number.parse::<f64>().ok()? * factor as f64;
            (0.0..9e18).contains(&value).then_some(value as u64)
        }
    }
}

fn hosts_and_sysctls(host: &HostConfig) -> Result<()> {
    for entry in &host.extra_hosts {
        let Some((name, address)) = entry.split_once([':', '=']) else {
            return Err(Error::invalid(format!("bad format for add-host: \"{entry}\"")));
        };
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        let odd = name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
        let known = address == linked::HOST_GATEWAY || bare.parse::<std::net::IpAddr>().is_ok();
        if odd || !known {
            return Err(Error::invalid(format!("invalid IP address in add-host: \"{address}\"")));
        }
    }
    for server in &host.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid DNS address: \"{server}\"")));
        }
    }
    let odd = |text: &String| text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control());
    if let Some(wrong) = host.dns_search.iter().chain(&host.dns_options).find(|text| odd(text)) {
        return Err(Error::invalid(format!("invalid DNS search domain or option: \"{wrong}\"")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::container::HealthConfig;
    use api::container::RestartPolicy;

    fn body(change: impl FnOnce(&mut Config, &mut HostConfig)) -> CreateRequest {
        let mut body = CreateRequest { host_config: Some(HostConfig::default()), ..Default::default() };
        let mut host = HostConfig::default();
        change(&mut body.config, &mut host);
        body.host_config = Some(host);
        body
    }

    #[test]
    fn what_the_docker_command_sends_without_flags_is_accepted() {
        let json = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,
            "AttachStderr":true,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":["true"],
            "Image":"busybox","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},
            "HostConfig":{"Binds":null,"LogConfig":{"Type":"","Config":{}},"NetworkMode":"default",
            "PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"MemorySwappiness":-1,
            "ConsoleSize":[0,0],"BlkioWeightDevice":[],"Devices":[],"Ulimits":[],"PidsLimit":0,
            "OomKillDisable":false,"MaskedPaths":null},
            "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"MacAddress":""}}}}"#;
        let body: CreateRequest = serde_json::from_str(json).unwrap();
        check(&body, 2).unwrap();
    }

    #[test]
    fn what_is_not_there_is_refused_by_its_name() {
        let refused = |named: &str, change: fn(&mut Config, &mut HostConfig)| {
            let error = check(&body(change), 2).unwrap_err();
            assert!(error.to_string().contains(named), "{named}: {error}");
        };
        refused("health check of type 'CMD'", |c, _| {
            c.healthcheck = Some(HealthConfig { test: vec!["CMD".into()], ..Default::default() });
        });
        for parent in ["..", "../../x", "a/../../y", "/a/.."] {
            let odd = body(|_, h| h.resources.cgroup_parent = parent.into());
            let said = check(&odd, 2).unwrap_err().to_string();
            assert_eq!(said, format!("invalid cgroup-parent: {parent}: it must not contain \"..\""));
        }
        refused("invalid isolation (hyperv): linux only supports 'default'", |_, h| {
            h.isolation = "hyperv".into();
        });
        refused("6MB", |_, h| h.resources.memory = 1024);
        refused("range of CPUs is from 0.01 to 2.00", |_, h| h.resources.nano_cpus = 3_000_000_000);
        refused("'AutoRemove' container with restart", |_, h| {
            h.auto_remove = true;
            h.restart_policy = RestartPolicy { name: "always".into(), maximum_retry_count: 0 };
        });
        refused("absolute path", |c, _| c.working_dir = "tmp".into());
        refused("invalid environment variable: =x", |c, _| c.env = vec!["=x".into()]);
        refused("invalid signal: FOO", |c, _| c.stop_signal = "FOO".into());
        refused("NUL", |c, _| c.cmd = Some(vec!["a\0b".into()]));
        refused("invalid hostname", |c, _| c.hostname = "-x".into());
    }

    #[test]
    fn a_health_check_that_is_off_is_accepted() {
        let body = body(|c, _| {
            c.healthcheck = Some(HealthConfig { test: vec!["NONE".into()], ..Default::default() });
        });
        assert!(check(&body, 2).is_ok());
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("10m", 10 << 20), ("1.5k", 1536), ("20", 20), ("1GB", 1 << 30), ("-1", 0)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "x", "1x", "1..5k", "-2", "99999999999t"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!((decimal_size("10k"), decimal_size("1.5MiB")), (Some(10_000), Some(1_500_000)));
    }
}
