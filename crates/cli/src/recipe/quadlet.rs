//! As a unit for Quadlet, the generator of Podman's services.

use api::network::EndpointSettings;

use super::{Recipe, flags};
use crate::error::Result;

/// Flags that have a key of their own.
const KEYS: [(&str, &str); 32] = [
    ("name", "ContainerName"),
    ("env", "Environment"),
    ("user", "User"),
    ("group-add", "GroupAdd"),
    ("workdir", "WorkingDir"),
    ("entrypoint", "Entrypoint"),
    ("stop-signal", "StopSignal"),
    ("stop-timeout", "StopTimeout"),
    ("label", "Label"),
    ("annotation", "Annotation"),
    ("log-driver", "LogDriver"),
    ("log-opt", "LogOpt"),
    ("volume", "Volume"),
    ("mount", "Mount"),
    ("secret", "Secret"),
    ("tmpfs", "Tmpfs"),
    ("shm-size", "ShmSize"),
    ("hostname", "HostName"),
    ("publish", "PublishPort"),
    ("expose", "ExposeHostPort"),
    ("add-host", "AddHost"),
    ("dns", "DNS"),
    ("dns-option", "DNSOption"),
    ("dns-search", "DNSSearch"),
    ("cap-add", "AddCapability"),
    ("cap-drop", "DropCapability"),
    ("sysctl", "Sysctl"),
    ("userns", "UserNS"),
    ("memory", "Memory"),
    ("pids-limit", "PidsLimit"),
    ("ulimit", "Ulimit"),
    ("device", "AddDevice"),
];

/// Flags that a service does without: systemd holds it, and starts it again.
const NOT_OF_A_SERVICE: [&str; 2] = ["rm", "restart"];

/// Flags of `run` that Podman's does not have.
const NOT_OF_PODMAN: [&str; 8] = [
    "domainname",
    "health-http",
    "health-start-interval",
    "health-tcp",
    "link",
    "runtime",
    "storage-opt",
    "volume-driver",
];

/// The unit, `NAME.container`.
pub(super) fn write(recipe: &Recipe) -> Result<String> {
    refuse(recipe)?;
    let mut unit = format!("[Unit]\nDescription={}\n", plain(&recipe.name));
    let policy = &recipe.host.restart_policy;
    if policy.name == "on-failure" && policy.maximum_retry_count > 0 {
        // The first start counts, and none is forgotten.
        let starts = policy.maximum_retry_count.saturating_add(1);
        unit.push_str(&format!("StartLimitIntervalSec=infinity\nStartLimitBurst={starts}\n"));
    }
    unit.push_str("\n[Container]\n");
    unit.push_str(&format!("Image={}\n", escaped(&recipe.image)));
    let words = flags::all(recipe);
    for word in &words.0 {
        if NOT_OF_A_SERVICE.contains(&word.flag) || word.flag == "network" {
            continue;
        }
        let key = KEYS.iter().find(|(flag, _)| *flag == word.flag).map(|(_, key)| *key);
        let line = match (word.flag, key, &word.value) {
            ("read-only", _, None) => "ReadOnly=true".to_owned(),
            ("init", _, None) => "RunInit=true".to_owned(),
            ("secret", Some(key), Some(value)) => {
                format!("{key}={}", escaped(value.strip_prefix("source=").unwrap_or(value)))
            }
            ("env" | "label" | "annotation", Some(key), Some(value)) => format!("{key}={}", word_of(value)),
            (_, Some(key), Some(value)) => format!("{key}={}", escaped(value)),
            (flag, _, None) => format!("PodmanArgs=--{flag}"),
            (flag, _, Some(value)) => format!("PodmanArgs={}", word_of(&format!("--{flag}={value}"))),
        };
        unit.push_str(&line);
        unit.push('\n');
    }
    if words.0.iter().any(|word| word.flag == "network") {
        for (name, settings) in &recipe.networks {
            unit.push_str(&format!("Network={}\n", escaped(&network(name, settings))));
        }
    }
    let (_, arguments) = recipe.program();
    if !arguments.is_empty() {
        let arguments: Vec<String> = arguments.iter().map(|word| word_of(word)).collect();
        unit.push_str(&format!("Exec={}\n", arguments.join(" ")));
    }
    let restart = match recipe.host.restart_policy.name.as_str() {
        "always" | "unless-stopped" => Some("always"),
        "on-failure" => Some("on-failure"),
        _ => None,
    };
    if let Some(restart) = restart {
        unit.push_str(&format!("\n[Service]\nRestart={restart}\n"));
    }
    if matches!(restart, Some("always")) {
        unit.push_str("\n[Install]\nWantedBy=default.target\n");
    }
    Ok(unit)
}

fn refuse(recipe: &Recipe) -> Result<()> {
    let words = flags::all(recipe);
    for flag in NOT_OF_PODMAN {
        let given = words.0.iter().any(|word| word.flag == flag);
        recipe.refuse("Podman", [(given, format!("--{flag}").as_str())])?;
    }
    for mount in &recipe.host.mounts {
        let bind = mount.bind_options.as_ref();
        let tmpfs = mount.tmpfs_options.as_ref();
        recipe.refuse(
            "Podman",
            [
                (bind.is_some_and(|b| b.id_mapping.is_some()), "the owners of files by name (bind-idmap)"),
                (
                    bind.is_some_and(|b| b.create_mountpoint),
                    "sources of mounts that are made (bind-create-src)",
                ),
                (
                    tmpfs.is_some_and(|t| !t.options.is_empty()),
                    "these options of a tmpfs mount (tmpfs-options)",
                ),
            ],
        )?;
    }
    for (_, settings) in &recipe.networks {
        let has_local = settings.ipam_config.as_ref().is_some_and(|ipam| !ipam.link_local_ips.is_empty());
        recipe.refuse(
            "Podman",
            [
                (has_local, "addresses of the link (--link-local-ip)"),
                (!settings.driver_opts.is_empty(), "options of a network's driver (driver-opt)"),
                (settings.gw_priority != 0, "which network gives the gateway (gw-priority)"),
            ],
        )?;
    }
    Ok(())
}

/// A network and what is asked for of it, as Podman's `--network` has it.
fn network(name: &str, settings: &EndpointSettings) -> String {
    let mut fields: Vec<String> = settings.aliases.iter().map(|alias| format!("alias={alias}")).collect();
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    for (key, value) in
        [("ip", &ipam.ipv4_address), ("ip6", &ipam.ipv6_address), ("mac", &settings.mac_address)]
    {
        if !value.is_empty() {
            fields.push(format!("{key}={value}"));
        }
    }
    if fields.is_empty() { name.to_owned() } else { format!("{name}:{}", fields.join(",")) }
}

fn plain(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A value that is not cut into words: `%` begins a specifier of systemd.
fn escaped(text: &str) -> String {
    plain(text).replace('%', "%%")
}

/// A word of a line that systemd cuts into words.
fn word_of(text: &str) -> String {
    let text = text.replace('%', "%%").replace('$', "$$");
    if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "\"'\\;".contains(c)) {
        return text;
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{text}\"")
}
