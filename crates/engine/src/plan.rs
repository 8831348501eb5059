//! From a container's record to the runtime's configuration.
//!
//! ```text
//! record, identity, host ──> resolve (looks at /dev and at this process) ──> plan_start (pure) ──> Plan
//! ```
//!
//! [`plan_start`] decides everything that a container may do: it is a function of its arguments, in Docker's semantics to
//! the letter, and is tested as one. [`check`] finds at creation what it would refuse at a start.

mod devices;
pub mod init;
mod injected;
mod mounts;
mod namespaces;
mod owners;
mod process;
pub(crate) mod realtime;
pub(crate) mod resources;
mod rlimits;
pub(crate) mod security;
mod sysctls;

pub(crate) use sysctls::last_group;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use api::container::HostConfig;
use oci::runtime::{Linux, LinuxResources, Process, Root, Spec};
use runtime::capabilities::CapabilitySet;

use crate::cdi::{self, Injected};
use crate::containers::record::{Identity, Paths, Record};
use crate::error::{Error, Result};
use crate::host::Host;

pub use devices::{Device, Kind};
pub use security::SecurityOptions;

/// The version of the runtime specification that plans are written in.
const OCI_VERSION: &str = "1.1.0";
/// `/dev/shm` of containers that do not say how large it is to be.
const SHM_BYTES: i64 = 64 << 20;
/// Where a container's `--init` is seen inside, as in Docker.
const INIT_INSIDE: &str = "/sbin/docker-init";

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container.
    pub record: &'a Record,
    /// Who runs in it.
    pub identity: &'a Identity,
    /// Where its files are.
    pub paths: &'a Paths,
    /// The machine.
    pub host: &'a Host,
    /// Its cgroup, counted from the root of the hierarchies.
    pub cgroup: &'a Path,
    /// The network namespace that is made for it, if one is.
    pub network: Option<&'a Path>,
    /// The namespace of process numbers that it joins.
    pub pid: Option<&'a Path>,
    /// The namespace of memory and messages that it joins.
    pub ipc: Option<&'a Path>,
}

/// What had to be looked up on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What the engine itself may give.
    pub available: CapabilitySet,
    /// Devices that were asked for, and those of the whole host if the container is privileged.
    pub devices: Vec<Device>,
    /// Numbers of the devices that limits name, by path.
    pub blocks: BTreeMap<String, (u32, u32)>,
    /// The executable that is bound into containers with `--init`.
    pub init: PathBuf,
    /// What devices bring that have names of their own.
    pub injected: Injected,
}

/// What a start needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The configuration for the runtime.
    pub spec: Spec,
    /// Mounts whose sources are opened by the engine.
    pub binds: Vec<Bind>,
}

/// A mount whose source is opened by the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Its index among the configuration's mounts.
    pub index: usize,
    /// On the host.
    pub source: PathBuf,
    /// A path inside the source that is meant instead of it; it must not lead out. Empty for none.
    pub below: String,
    /// Whether mounts below the source come along.
    pub recursive: bool,
    /// Whether it is another container's, which the engine has opened already.
    pub lent: bool,
    /// What is mounted instead of the source, if not that.
    pub instead: Instead,
}

/// What is mounted instead of a path of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Instead {
    /// Nothing: the path.
    #[default]
    Nothing,
    /// An image, by what the container keeps of it in the store.
    Image(String),
    /// The same, to be written to: what is written goes with what is kept.
    ImageToWrite(String),
    /// The container's secrets.
    Secrets,
}

/// Makes the plan of a start; descriptions of devices are in the folders.
pub fn start(request: &Request<'_>, cdi_dirs: &[PathBuf]) -> Result<Plan> {
    plan_start(request, &resolve(&request.record.host, request.paths, cdi_dirs)?)
}

/// The process of an exec, for [`runtime::exec`].
pub fn exec(
    record: &Record,
    identity: &Identity,
    machine: &Host,
    request: &api::exec::CreateRequest,
) -> Result<Process> {
    process::exec(record, identity, machine, request, available())
}

/// The limits of a container that runs, for a change of them: all but its devices.
pub fn limits(host: &HostConfig, machine: &Host) -> Result<LinuxResources> {
    resources::limits(&host.resources, machine, &devices::resolve_limits(host)?)
}

/// Looks up on the host what the configuration names.
pub fn resolve(host: &HostConfig, paths: &Paths, cdi_dirs: &[PathBuf]) -> Result<Resolved> {
    let mut injected = cdi::find(cdi_dirs, &host.resources)?;
    Ok(Resolved {
        available: available(),
        devices: devices::with(devices::resolve(host)?, std::mem::take(&mut injected.devices)),
        injected,
        blocks: devices::resolve_limits(host)?,
        init: init::path(paths),
    })
}

/// What the engine itself may give: it stays the same for the life of the process, which never lowers it.
fn available() -> CapabilitySet {
    static AVAILABLE: OnceLock<CapabilitySet> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let numbers = 0..=sys::caps::last().min(63) as u8;
        numbers
            .filter(|number| sys::caps::bounding_has(u32::from(*number)) == Some(true))
            .filter_map(runtime::capabilities::Capability::from_number)
            .collect()
    })
}

/// Refuses what no start could do, in Docker's words. For use at creation, where the image's files are not looked at yet.
pub fn check(host: &HostConfig, machine: &Host) -> Result<()> {
    security::check(host, machine, available())?;
    devices::check_rules(host)?;
    realtime::check(&host.resources, machine)?;
    sysctls::check(host)?;
    rlimits::convert(&host.resources.ulimits)?;
    Ok(())
}

/// The plan itself: a pure function.
pub fn plan_start(request: &Request<'_>, resolved: &Resolved) -> Result<Plan> {
    let Request { record, paths, host: machine, .. } = *request;
    let host = &record.host;
    let security = SecurityOptions::parse(&host.security_opt)?;
    let capabilities = security::capabilities(host, resolved.available)?;
    let mounts = mounts::plan(record, paths, resolved, &security)?;

    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces::plan(request)))
        .set_devices(Some(devices::nodes(&resolved.devices)))
        .set_resources(Some(resources::plan(host, machine, resolved)?))
        .set_cgroups_path(Some(request.cgroup.to_owned()))
        .set_sysctl(Some(sysctls::plan(host, machine.last_group)?))
        .set_seccomp(security::seccomp(host, &security, machine, capabilities)?)
        .set_rootfs_propagation(mounts.propagation)
        .set_mount_label(Some(record.labels.mount.clone()).filter(|label| !label.is_empty()))
        .set_masked_paths(Some(security::masked(host, &security)))
        .set_readonly_paths(Some(security::readonly(host, &security)));

    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(host.readonly_rootfs));

    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts.mounts))
        .set_process(Some(injected::process(
            process::plan(request, &security, capabilities)?,
            &resolved.injected,
        )))
        .set_hostname(namespaces::hostname(record, machine))
        .set_domainname(namespaces::domainname(record))
        .set_hooks(injected::hooks(&resolved.injected)?)
        .set_annotations(
            (!host.annotations.is_empty())
                .then(|| host.annotations.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
        )
        .set_linux(Some(linux));
    Ok(Plan { spec, binds: mounts.binds })
}

/// The result of one of the specification's builders, which only fail where a field has no default.
fn built<T, E>(result: std::result::Result<T, E>) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    result.map_err(|e| Error::system("cannot write the runtime's configuration").with_source(e))
}

/// A number that is never negative where it gets here, or else the request was not checked.
fn unsigned(what: &str, number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::invalid(format!("{what} must not be negative: {number}")))
}

#[cfg(test)]
mod tests;
