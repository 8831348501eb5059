//! `--security-opt`, `--cap-add`, `--cap-drop`, `--privileged`: what a container may do.

use api::container::HostConfig;
use oci::runtime::LinuxSeccomp;
use runtime::capabilities::CapabilitySet;
use runtime::seccomp::{self, Conditions, Machine};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::logging::truth;

/// What would tell a container about its host, or let it harm it: hidden.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What may be seen but not changed.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The options of `--security-opt`, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// Whether no program can gain privileges.
    pub no_new_privileges: bool,
    /// `unconfined`, `builtin`, or a profile's JSON; `None` for the default.
    pub seccomp: Option<String>,
    /// The profile's name; `None` for the default.
    pub apparmor: Option<String>,
    /// Options for SELinux, looked at where that is on.
    pub labels: Vec<String>,
    /// Whether nothing of `/proc` and `/sys` is hidden or made read-only.
    pub system_paths_unconfined: bool,
    /// Whether the container may change its own cgroup.
    pub writable_cgroups: bool,
}

impl SecurityOptions {
    /// Reads them; refused in Docker's words.
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            match option.as_str() {
                "no-new-privileges" => parsed.no_new_privileges = true,
                "writable-cgroups" => parsed.writable_cgroups = true,
                // As Docker took it before options had names.
                "disable" => parsed.labels.push("disable".to_owned()),
                _ => parsed.pair(option)?,
            }
        }
        Ok(parsed)
    }

    fn pair(&mut self, option: &str) -> Result<()> {
        let quoted = shorten(option);
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        let (key, value) =
            pair.ok_or_else(|| Error::invalid(format!("invalid --security-opt 1: \"{quoted}\"")))?;
        let wrong = || Error::invalid(format!("invalid --security-opt 2: \"{quoted}\""));
        match key {
            "no-new-privileges" => self.no_new_privileges = truth(value).ok_or_else(wrong)?,
            "writable-cgroups" => self.writable_cgroups = truth(value).ok_or_else(wrong)?,
            "seccomp" => self.seccomp = Some(value.to_owned()),
            "apparmor" => self.apparmor = Some(value.to_owned()),
            "systempaths" if value == "unconfined" => self.system_paths_unconfined = true,
            "label" => self.labels.push(value.to_owned()),
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

/// An option as it may be shown: a whole profile is not.
fn shorten(option: &str) -> String {
    const SHOWN: usize = 80;
    match option.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &option[..end]),
        None => option.to_owned(),
    }
}

/// What can be refused before a start.
pub(super) fn check(host: &HostConfig, machine: &Host, available: CapabilitySet) -> Result<()> {
    let security = SecurityOptions::parse(&host.security_opt)?;
    let capabilities = capabilities(host, available)?;
    let known = matches!(security.apparmor.as_deref(), None | Some("" | "unconfined"));
    if !known && !machine.apparmor {
        return Err(Error::invalid(format!(
            "AppArmor is not enabled on this host: the profile {} cannot be applied",
            security.apparmor.as_deref().unwrap_or_default()
        )));
    }
    if host.privileged && host.userns_mode == "private" {
        return Err(Error::invalid("privileged mode is incompatible with user namespaces"));
    }
    // Our own profile compiles; one that was brought along may not.
    let own = matches!(security.seccomp.as_deref(), None | Some("" | "builtin"));
    if !own && let Some(rules) = seccomp(host, &security, machine, capabilities)? {
        seccomp::compile(&rules).map_err(invalid)?;
    }
    Ok(())
}

/// What the container may have. Unknown names are refused even where privileges make them meaningless.
pub(super) fn capabilities(host: &HostConfig, available: CapabilitySet) -> Result<CapabilitySet> {
    let adjust = |add: &[String], drop: &[String]| CapabilitySet::DEFAULT.adjusted(add, drop, available);
    adjust(&host.cap_add, &[]).map_err(|error| Error::invalid(format!("invalid CapAdd: {error}")))?;
    adjust(&[], &host.cap_drop).map_err(|error| Error::invalid(format!("invalid CapDrop: {error}")))?;
    if host.privileged {
        return Ok(available);
    }
    adjust(&host.cap_add, &host.cap_drop).map_err(|error| Error::invalid(error.to_string()))
}

/// The filter of system calls; none for privileged containers that do not name one.
pub(super) fn seccomp(
    host: &HostConfig,
    security: &SecurityOptions,
    machine: &Host,
    capabilities: CapabilitySet,
) -> Result<Option<LinuxSeccomp>> {
    let conditions = Conditions { machine: Machine::HOST, kernel: kernel(&machine.kernel), capabilities };
    let custom = match security.seccomp.as_deref() {
        Some("unconfined") => return Ok(None),
        None | Some("" | "builtin") => None,
        Some(json) => Some(json),
    };
    if !machine.seccomp {
        return match custom {
            Some(_) => Err(Error::invalid(
                "seccomp is not enabled in your kernel, cannot run a custom seccomp profile",
            )),
            None => Ok(None),
        };
    }
    match custom {
        Some(json) => seccomp::parse_profile(json.as_bytes(), &conditions).map_err(invalid),
        None if host.privileged => Ok(None),
        None => Ok(Some(seccomp::default_profile(&conditions))),
    }
}

fn invalid(error: seccomp::Error) -> Error {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::invalid(format!("{error}{cause}"))
}

/// Major and minor of a kernel's release; of one that cannot be read, as if it were the oldest that is supported.
fn kernel(release: &str) -> (u32, u32) {
    const OLDEST: (u32, u32) = (5, 14);
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => OLDEST,
    }
}

/// What is hidden.
pub(super) fn masked(host: &HostConfig, security: &SecurityOptions) -> Vec<String> {
    choose(host, security, host.masked_paths.as_ref(), &MASKED)
}

/// What is read-only.
pub(super) fn readonly(host: &HostConfig, security: &SecurityOptions) -> Vec<String> {
    choose(host, security, host.readonly_paths.as_ref(), &READONLY)
}

/// The host configuration as it is shown: with the paths that are hidden and read-only where nobody asked for others.
pub fn shown(host: &HostConfig) -> HostConfig {
    let mut shown = host.clone();
    if !host.privileged {
        let options = SecurityOptions::parse(&host.security_opt).unwrap_or_default();
        shown.masked_paths = Some(masked(host, &options));
        shown.readonly_paths = Some(readonly(host, &options));
    }
    shown
}

fn choose(
    host: &HostConfig,
    security: &SecurityOptions,
    asked: Option<&Vec<String>>,
    default: &[&str],
) -> Vec<String> {
    if host.privileged || security.system_paths_unconfined {
        return Vec::new();
    }
    asked.cloned().unwrap_or_else(|| default.iter().map(ToString::to_string).collect())
}
