//! What a container sees of its own, and what of the host's; and the names it has.

use std::path::Path;

use api::container::HostConfig;
use oci::runtime::{LinuxNamespace, LinuxNamespaceType as Type};

use super::Request;
use crate::containers::record::Record;
use crate::host::Host;

/// The namespaces that are made, and those that are joined; a network that is made has a loopback that is up.
pub(super) fn plan(request: &Request<'_>) -> Vec<LinuxNamespace> {
    let Request { record, host: machine, network, pid, ipc, .. } = *request;
    let host = &record.host;
    let mut types = vec![Type::Mount];
    for (typ, mode) in [
        (Type::Pid, &host.pid_mode),
        (Type::Ipc, &host.ipc_mode),
        (Type::Uts, &host.uts_mode),
        (Type::Network, &host.network_mode),
    ] {
        if mode != "host" {
            types.push(typ);
        }
    }
    if has_cgroup_namespace(host, machine) {
        types.push(Type::Cgroup);
    }
    types
        .into_iter()
        .map(|typ| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(typ);
            let joined = match typ {
                Type::Network => network,
                Type::Pid => pid,
                Type::Ipc => ipc,
                _ => None,
            };
            namespace.set_path(joined.map(Path::to_owned));
            namespace
        })
        .collect()
}

/// Private on hosts with version 2, where it is safe to see; the host's with version 1, and for privileged containers
/// there, unless asked for: as in Docker.
fn has_cgroup_namespace(host: &HostConfig, machine: &Host) -> bool {
    match host.cgroupns_mode.as_str() {
        "private" => true,
        "host" => false,
        _ => machine.cgroup_version == 2 && !host.privileged,
    }
}

/// The host name to set; none where it is the host's own.
pub(super) fn hostname(record: &Record, machine: &Host) -> Option<String> {
    if record.host.uts_mode == "host" {
        return None;
    }
    // A container in the host's network has the host's name, by which it can be reached.
    let on_host = record.host.network_mode == "host" && record.config.hostname.is_empty();
    let name = if on_host && !machine.name.is_empty() { &machine.name } else { record.hostname() };
    Some(name.to_owned())
}

/// The NIS domain name to set.
pub(super) fn domainname(record: &Record) -> Option<String> {
    let name = &record.config.domainname;
    (!name.is_empty() && record.host.uts_mode != "host").then(|| name.clone())
}
