//! The flags of `run` and `create`, and the request that they make.

mod change;
mod device;
mod environment;
mod flagset;
mod limit;
mod mount;
mod network;
mod port;
mod security;
pub mod socket;

pub use change::{UPDATE_FLAGS, changes};
pub use environment::env_file_list;
pub use flagset::{CREATE_FLAGS, RUN_FLAGS};

use api::container::{Config, CreateRequest, HealthConfig, HostConfig, LogConfig, RestartPolicy};
use client::config::ConfigFile;
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::flags::Parsed;

/// A container as asked for.
#[derive(Debug)]
pub struct Wanted {
    /// The request's body.
    pub request: CreateRequest,
    /// `--name`.
    pub name: String,
    /// `--platform`.
    pub platform: String,
    /// `--cidfile`.
    pub cidfile: String,
}

/// Reads the flags and arguments of `run` and `create`.
pub fn wanted(parsed: &Parsed, config_file: &ConfigFile) -> Result<Wanted> {
    let [image, command @ ..] = parsed.args.as_slice() else {
        return Err(Error::say("an image is required"));
    };
    refuse(parsed)?;
    let volumes = mount::volumes(parsed)?;
    let ports = port::collect(parsed)?;
    let auto_remove = parsed.on("rm");
    let restart_policy = restart_policy(parsed.text("restart").unwrap_or("no"))?;
    if auto_remove && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err(Error::say("conflicting options: cannot specify both --restart and --rm"));
    }
    let security = security::collect(parsed)?;
    let network = network::collect(parsed)?;
    let platform = parsed
        .text("platform")
        .map(str::to_owned)
        .or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok())
        .unwrap_or_default();
    if !platform.is_empty() {
        oci::Platform::parse(&platform)
            .map_err(|err| Error::Message(format!("error parsing specified platform: {err}")))?;
    }

    let attach: Vec<String> = parsed.list("attach").map(str::to_lowercase).collect();
    let attached = |name: &str| attach.iter().any(|stream| stream == name);
    let open_stdin = parsed.on("interactive");
    let config = Config {
        hostname: parsed.or_empty("hostname"),
        domainname: parsed.or_empty("domainname"),
        user: parsed.or_empty("user"),
        attach_stdin: open_stdin || attached("stdin"),
        attach_stdout: attach.is_empty() || attached("stdout"),
        attach_stderr: attach.is_empty() || attached("stderr"),
        exposed_ports: ports.exposed,
        tty: parsed.on("tty"),
        open_stdin,
        stdin_once: open_stdin,
        env: environment::collect(parsed, config_file)?,
        cmd: (!command.is_empty()).then(|| command.to_vec()),
        healthcheck: health(parsed)?,
        image: image.clone(),
        volumes: volumes.anonymous,
        working_dir: parsed.or_empty("workdir"),
        entrypoint: parsed.text("entrypoint").map(|program| vec![program.to_owned()]),
        labels: environment::labels(parsed)?,
        stop_signal: parsed.or_empty("stop-signal"),
        stop_timeout: parsed.int("stop-timeout"),
        ..Config::default()
    };
    let host_config = HostConfig {
        binds: volumes.binds,
        container_id_file: parsed.or_empty("cidfile"),
        log_config: log_config(parsed)?,
        network_mode: network.mode,
        port_bindings: ports.bindings,
        restart_policy,
        auto_remove,
        volume_driver: parsed.or_empty("volume-driver"),
        volumes_from: parsed.owned("volumes-from"),
        mounts: mount::mounts(parsed)?,
        secrets: mount::secrets(parsed)?,
        console_size: console_size(),
        annotations: pairs(parsed, "annotation"),
        cap_add: security::capabilities(parsed.list("cap-add")),
        cap_drop: security::capabilities(parsed.list("cap-drop")),
        cgroupns_mode: mode(parsed, "cgroupns", "CGROUP", &["host", "private"])?,
        dns: parsed.owned("dns"),
        dns_options: parsed.owned("dns-option"),
        dns_search: parsed.owned("dns-search"),
        extra_hosts: network::extra_hosts(parsed),
        group_add: parsed.owned("group-add"),
        ipc_mode: parsed.or_empty("ipc"),
        links: parsed.owned("link"),
        oom_score_adj: parsed.int("oom-score-adj").unwrap_or(0),
        pid_mode: mode(parsed, "pid", "PID", &["host"])?,
        privileged: parsed.on("privileged"),
        publish_all_ports: parsed.on("publish-all"),
        readonly_rootfs: parsed.on("read-only"),
        security_opt: security.options,
        storage_opt: storage_options(parsed)?,
        tmpfs: mount::tmpfs(parsed),
        uts_mode: mode(parsed, "uts", "UTS", &["host"])?,
        userns_mode: mode(parsed, "userns", "USER", &["host"])?,
        shm_size: parsed.bytes("shm-size").unwrap_or(0),
        sysctls: pairs(parsed, "sysctl"),
        runtime: parsed.or_empty("runtime"),
        isolation: parsed.or_empty("isolation"),
        masked_paths: security.masked_paths,
        readonly_paths: security.readonly_paths,
        resources: limit::collect(parsed)?,
        ..HostConfig::default()
    };
    Ok(Wanted {
        request: CreateRequest {
            config,
            host_config: Some(host_config),
            networking_config: Some(network.config),
        },
        name: parsed.or_empty("name"),
        platform,
        cidfile: parsed.or_empty("cidfile"),
    })
}

/// Flags that Docker's command line does by itself, with means that are not here.
fn refuse(parsed: &Parsed) -> Result<()> {
    if parsed.given("kernel-memory") {
        return Err(Error::say("--kernel-memory is not supported: the kernel has no such limit any more"));
    }
    for flag in ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"] {
        if parsed.given(flag) {
            return Err(Error::Message(format!(
                "\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
            )));
        }
    }
    if parsed.given("disable-content-trust") && !parsed.on("disable-content-trust") {
        return Err(Error::say(
            "--disable-content-trust=false is not supported yet by this version of corten",
        ));
    }
    Ok(())
}

fn pairs(parsed: &Parsed, name: &str) -> BTreeMap<String, String> {
    parsed
        .list(name)
        .map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

fn storage_options(parsed: &Parsed) -> Result<BTreeMap<String, String>> {
    if parsed.list("storage-opt").any(|text| !text.contains('=')) {
        return Err(Error::say("invalid storage option"));
    }
    Ok(pairs(parsed, "storage-opt"))
}

fn mode(parsed: &Parsed, flag: &str, kind: &str, plain: &[&str]) -> Result<String> {
    let text = parsed.or_empty(flag);
    let container = flag == "pid" && text.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if text.is_empty() || container || plain.contains(&text.as_str()) {
        return Ok(text);
    }
    Err(Error::Message(format!("--{flag}: invalid {kind} mode")))
}

fn console_size() -> [u32; 2] {
    crate::terminal::size().map_or([0, 0], |(height, width)| [height.into(), width.into()])
}

fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let Some((name, count)) = text.split_once(':') else {
        return Ok(RestartPolicy { name: text.to_owned(), maximum_retry_count: 0 });
    };
    let maximum_retry_count = count
        .parse()
        .map_err(|_| Error::say("invalid restart policy format: maximum retry count must be an integer"))?;
    if name.is_empty() {
        return Err(Error::say("invalid restart policy format: no policy provided before colon"));
    }
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn log_config(parsed: &Parsed) -> Result<LogConfig> {
    let driver = parsed.or_empty("log-driver");
    let config = pairs(parsed, "log-opt");
    if driver == "none" && !config.is_empty() {
        return Err(Error::Message(format!("invalid logging opts for driver {driver}")));
    }
    Ok(LogConfig { driver, config })
}

fn health(parsed: &Parsed) -> Result<Option<HealthConfig>> {
    let time = |flag: &str| match parsed.text(flag) {
        None => Ok(0),
        Some(text) => match api::duration::parse(text) {
            Ok(value) if value >= 0 => Ok(value),
            _ => Err(Error::Message(format!("--{flag} cannot be negative"))),
        },
    };
    let probes: Vec<(&str, String)> =
        [("health-cmd", "CMD-SHELL"), ("health-http", "HTTP"), ("health-tcp", "TCP")]
            .into_iter()
            .map(|(flag, kind)| (kind, parsed.or_empty(flag)))
            .filter(|(_, text)| !text.is_empty())
            .collect();
    if probes.len() > 1 {
        return Err(Error::say(
            "conflicting options: only one of --health-cmd, --health-http and --health-tcp can be given",
        ));
    }
    let test = probes.into_iter().flat_map(|(kind, text)| [kind.to_owned(), text]).collect();
    let retries = parsed.int("health-retries").unwrap_or(0);
    let config = HealthConfig {
        test,
        interval: time("health-interval")?,
        timeout: time("health-timeout")?,
        start_period: time("health-start-period")?,
        start_interval: time("health-start-interval")?,
        retries,
    };
    let asked = config != HealthConfig::default();
    if parsed.on("no-healthcheck") {
        if asked {
            return Err(Error::say("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".into()], ..HealthConfig::default() }));
    }
    if retries < 0 {
        return Err(Error::say("--health-retries cannot be negative"));
    }
    Ok(asked.then_some(config))
}

#[cfg(test)]
mod tests;
