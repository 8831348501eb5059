//! Containers that live in another's network (`--network container:ID`): they have its devices, its addresses, its names and its files
//! about names, and none of their own.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::container::{Config, HostConfig};
use tokio::runtime::Handle as Runtime;

use crate::containers::index::{Handle, Index};
use crate::containers::record::{Paths, Record};
use crate::context::Context;
use crate::error::{Error, Result};

/// What such a network mode begins with.
const PREFIX: &str = "container:";
/// How many containers may be in each other's networks one after the other: whoever goes round in circles is stopped.
const CHAIN_MAX: usize = 32;
/// What is said of a process that ended just now.
const ESRCH: i32 = 3;

/// What is lent.
#[derive(Debug)]
pub(crate) struct Lent {
    namespace: OwnedFd,
    /// Where `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` are.
    pub files: Paths,
    /// The host name inside.
    pub hostname: String,
    /// And what comes behind it.
    pub domainname: String,
}

impl Lent {
    /// The record with the names of whoever lends.
    pub(crate) fn name(&self, record: &Record) -> Record {
        let mut named = record.clone();
        named.config.hostname.clone_from(&self.hostname);
        named.config.domainname.clone_from(&self.domainname);
        named
    }

    /// A path that leads to the namespace, for as long as this is there.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()))
    }
}

/// The container that a network mode names.
pub(crate) fn named(mode: &str) -> Option<&str> {
    mode.strip_prefix(PREFIX)
}

/// Refuses what somebody who lives in another's network cannot have, in Docker's words.
pub(crate) fn check(config: &Config, host: &HostConfig) -> Result<()> {
    let Some(name) = named(&host.network_mode) else {
        let linked_to_host = host.network_mode == "host" && !host.links.is_empty();
        return if linked_to_host {
            Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ))
        } else {
            Ok(())
        };
    };
    if name.is_empty() {
        return Err(Error::invalid("invalid container format container:<name|id>"));
    }
    let conflicts = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (
            !host.links.is_empty(),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (!host.dns.is_empty(), "dns and the network mode"),
        (!host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (!config.mac_address.is_empty(), "mac-address and the network mode"),
        (
            !host.port_bindings.is_empty() || host.publish_all_ports,
            "port publishing and the container type network mode",
        ),
        (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
    ];
    match conflicts.iter().find(|(set, _)| *set) {
        Some((_, what)) => Err(Error::invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// The mode with the full id of the container that it names.
pub(crate) fn resolve(index: &Index, mode: &str) -> Result<Option<String>> {
    let Some(name) = named(mode) else { return Ok(None) };
    // Not a 404: a client would take that for a missing image, and pull it.
    let found = index.find(name).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(Some(format!("{PREFIX}{}", found.id)))
}

/// Where the container's own files about names are: those of whoever lends it its network.
pub(crate) fn files_of(index: &Index, record: &Record, own: Paths, paths: impl Fn(&str) -> Paths) -> Paths {
    match last(index, record) {
        Some(lender) => paths(&lender.id),
        None => own,
    }
}

/// The last container of a chain in which each lives in the next one's network.
fn last(index: &Index, record: &Record) -> Option<Arc<Handle>> {
    let mut mode = record.host.network_mode.clone();
    let mut found = None;
    for _ in 0..CHAIN_MAX {
        let Some(handle) = named(&mode).and_then(|id| index.find(id).ok()) else { break };
        mode.clone_from(&handle.record().host.network_mode);
        found = Some(handle);
    }
    found
}

/// Whether what was opened by the number of a container's first process is the container's: had it ended before that, the number could
/// have been another's by then. For threads that may block.
pub(crate) fn is_running(handle: &Handle, pid: i32) -> bool {
    handle.shim().is_some_and(|shim| Runtime::current().block_on(shim.is_running(pid)))
}

/// What a container that is about to start is lent; `None` if it asks for nothing of the kind.
pub(crate) fn borrow(context: &Context, record: &Record) -> Result<Option<Lent>> {
    let Some(id) = named(&record.host.network_mode) else { return Ok(None) };
    let handle = context.index.find(id)?;
    if handle.id == record.id {
        return Err(Error::invalid("cannot join own network"));
    }
    let still = || Error::conflict(format!("cannot join network of a non running container: {}", handle.id));
    let lender = handle.record();
    let pid = lender.life.pid().ok_or_else(still)?;
    if lender.life.status() == "restarting" {
        return Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            handle.id
        )));
    }
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).map_err(|_| still())?;
    if !is_running(&handle, pid) {
        return Err(still());
    }
    if record.host.sysctls.keys().any(|name| name.starts_with("net.")) && is_own(Path::new(&path))? {
        return Err(Error::invalid(
            "sysctls of the network cannot be set: the network namespace is the host's",
        ));
    }
    Ok(Some(Lent {
        namespace: namespace.into(),
        files: files_of(&context.index, record, context.paths(&record.id), |id| context.paths(id)),
        hostname: lender.hostname().to_owned(),
        domainname: lender.config.domainname.clone(),
    }))
}

/// Whether the file leads to the namespace that the daemon is in.
pub(crate) fn is_own(path: &Path) -> Result<bool> {
    let number = |path: &Path| number(path).map_err(|e| Error::io("look at", path, e));
    Ok(number(path)? == number(Path::new("/proc/self/ns/net"))?)
}

/// The first processes of those that live in a network namespace that outlives the container it was made for; `gone` is a container that
/// has ended, whatever its record says. Who has lent what to whom is not asked: one in between may have been removed, or started again.
pub(crate) fn orphans(index: &Index, gone: Option<&str>) -> Result<Vec<i32>> {
    let running = |of: &dyn Fn(&Record) -> bool| {
        let mut found = Vec::new();
        for handle in index.all().into_iter().filter(|handle| gone != Some(handle.id.as_str())) {
            let record = handle.record();
            let Some(pid) = record.life.pid().filter(|pid| *pid > 0 && of(&record)) else { continue };
            found.extend(namespace(format!("/proc/{pid}"))?.map(|number| (pid, number)));
        }
        Ok::<_, Error>(found)
    };
    let on_host =
        |record: &Record| last(index, record).is_some_and(|last| last.record().host.network_mode == "host");
    let borrows = |record: &Record| named(&record.host.network_mode).is_some();
    // In this order: whoever lent to one of those that are found was there before it.
    let borrowers = running(&|record| borrows(record) && !on_host(record))?;
    let mut owned: HashSet<_> =
        running(&|record| !borrows(record))?.into_iter().map(|(_, number)| number).collect();
    owned.extend(namespace("/proc/self".to_owned())?);
    // The machine's, if it may be looked at and is another.
    owned.extend(number(Path::new("/proc/1/ns/net")).ok());
    Ok(borrowers.into_iter().filter(|(_, number)| !owned.contains(number)).map(|(pid, _)| pid).collect())
}

/// The number of a process's network namespace; `None` if it has ended.
fn namespace(process: String) -> Result<Option<(u64, u64)>> {
    let path = PathBuf::from(process + "/ns/net");
    match number(&path) {
        Ok(number) => Ok(Some(number)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(ESRCH) => Ok(None),
        Err(e) => Err(Error::io("look at", &path, e)),
    }
}

fn number(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config, &mut HostConfig)) -> String {
        let mut host = HostConfig { network_mode: "container:x".into(), ..HostConfig::default() };
        let mut config = Config::default();
        change(&mut config, &mut host);
        check(&config, &host).unwrap_err().to_string()
    }

    #[test]
    fn what_belongs_to_the_lender_is_refused_in_dockers_words() {
        assert!(refused(|_, h| h.network_mode = "container:".into()).contains("container:<name|id>"));
        assert_eq!(
            refused(|c, _| c.hostname = "a".into()),
            "conflicting options: hostname and the network mode"
        );
        assert_eq!(
            refused(|_, h| h.dns = vec!["1.1.1.1".into()]),
            "conflicting options: dns and the network mode"
        );
        assert!(refused(|_, h| h.links = vec!["a:b".into()]).contains("can't be used with links"));
        assert!(refused(|_, h| h.extra_hosts = vec!["a:1.1.1.1".into()]).contains("host-to-IP"));
        assert!(refused(|_, h| h.publish_all_ports = true).contains("port publishing"));
        assert!(refused(|c, _| c.mac_address = "02:00:00:00:00:01".into()).contains("mac-address"));
        let plain = HostConfig { network_mode: "container:x".into(), ..HostConfig::default() };
        check(&Config::default(), &plain).unwrap();
    }
}
