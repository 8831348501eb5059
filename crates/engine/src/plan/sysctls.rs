//! `--sysctl`: parameters of the kernel that belong to a container's own namespaces.

use std::collections::HashMap;

use api::container::HostConfig;

use crate::error::{Error, Result};

/// Of the IPC namespace.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// So that nobody needs a capability to ping, or to listen below 1024: both harm nobody in a network of one's own.
const DEFAULTS: [(&str, &str); 1] = [("net.ipv4.ip_unprivileged_port_start", "0")];
/// Which groups may ping; both ends must be groups of the user namespace.
const PING: &str = "net.ipv4.ping_group_range";
/// The highest group there can be for it.
const GROUP_MAX: u32 = 2_147_483_647;

/// The highest group of this process's user namespace, from `/proc/self/gid_map` (user_namespaces(7)): its groups are one range from 0.
pub(crate) fn last_group(map: &str) -> u32 {
    let mut next: u64 = 0;
    for line in map.lines() {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), _, Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next()) else {
            break;
        };
        if first != next {
            break;
        }
        next = first + count;
    }
    u32::try_from(next.saturating_sub(1)).map_or(GROUP_MAX, |last| last.min(GROUP_MAX))
}

/// Refuses what is the host's.
pub(super) fn check(host: &HostConfig) -> Result<()> {
    for (name, value) in &host.sysctls {
        let odd = |text: &str| text.contains('\0') || text.contains("..") || text.contains('\n');
        let dotted = name.replace('/', ".");
        let is_ipc = IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
        let is_net = dotted.starts_with("net.");
        if odd(name) || odd(value) || !(is_ipc || is_net) {
            return Err(Error::invalid(format!("sysctl '{name}={value}' is not allowed")));
        }
        if is_ipc && host.ipc_mode == "host" {
            return Err(Error::invalid(format!(
                "sysctl '{name}' cannot be set: the IPC namespace is the host's"
            )));
        }
        if is_net && host.network_mode == "host" {
            return Err(Error::invalid(format!(
                "sysctl '{name}' cannot be set: the network namespace is the host's"
            )));
        }
    }
    Ok(())
}

/// `last_group` is the highest group of the engine's own user namespace.
pub(super) fn plan(host: &HostConfig, last_group: u32) -> Result<HashMap<String, String>> {
    check(host)?;
    let mut sysctls = HashMap::new();
    // What another lends has them already.
    if host.network_mode != "host" && !host.network_mode.starts_with("container:") {
        sysctls.extend(DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        sysctls.insert(PING.to_owned(), format!("0 {last_group}"));
    }
    sysctls.extend(host.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(sysctls)
}
