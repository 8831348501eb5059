//! Docker's profiles, as `--security-opt seccomp=` gives them: the runtime configuration's rules with conditions.

use oci::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::Deserialize;

use super::{Conditions, Error};
use crate::capabilities::Capability;

/// The largest profile that is read: seventy times Docker's default.
pub const PROFILE_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    default_action: Option<LinuxSeccompAction>,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchitectureGroup>>,
    #[serde(default)]
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureGroup {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Reads a profile and keeps the rules whose conditions are met. `None` if the profile says nothing at all, which is no
/// confinement.
pub fn parse_profile(json: &[u8], conditions: &Conditions) -> Result<Option<LinuxSeccomp>, Error> {
    if json.len() > PROFILE_BYTES_MAX {
        return Err(Error::TooLarge { size: json.len() });
    }
    let profile: Profile = serde_json::from_slice(json).map_err(Error::Json)?;
    let entries = profile.syscalls.unwrap_or_default();
    let Some(default_action) = profile.default_action else {
        if entries.is_empty() {
            return Ok(None);
        }
        return Err(invalid("seccomp profile has no defaultAction"));
    };
    let listed = profile.architectures.filter(|list| !list.is_empty());
    let groups = profile.arch_map.filter(|list| !list.is_empty());
    let architectures = match (listed, groups) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "both 'architectures' and 'archMap' are specified in the seccomp profile, \
                 use either 'architectures' or 'archMap'",
            ));
        }
        (listed, None) => listed,
        (None, Some(groups)) => {
            let native = conditions.machine.architectures()[0];
            groups.into_iter().find(|group| group.architecture == native).map(|group| {
                let mut list = vec![group.architecture];
                list.extend(group.sub_architectures.unwrap_or_default());
                list
            })
        }
    };
    let mut syscalls = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(syscall) = entry.resolve(conditions)? {
            syscalls.push(syscall);
        }
    }
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(default_action)
        .set_default_errno_ret(profile.default_errno_ret)
        .set_architectures(architectures)
        .set_flags(profile.flags)
        .set_listener_path(profile.listener_path.map(Into::into))
        .set_listener_metadata(profile.listener_metadata)
        .set_syscalls(Some(syscalls));
    Ok(Some(seccomp))
}

impl Entry {
    /// The rule, if its conditions are met.
    fn resolve(self, conditions: &Conditions) -> Result<Option<LinuxSyscall>, Error> {
        let names = match (self.name.filter(|name| !name.is_empty()), self.names.unwrap_or_default()) {
            (Some(_), names) if !names.is_empty() => {
                return Err(invalid(
                    "both 'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'",
                ));
            }
            (Some(name), _) => vec![name],
            (None, names) => names,
        };
        if self.excludes.unwrap_or_default().any(conditions)?
            || !self.includes.unwrap_or_default().all(conditions)?
        {
            return Ok(None);
        }
        let mut syscall = LinuxSyscall::default();
        syscall.set_names(names).set_action(self.action).set_errno_ret(self.errno_ret).set_args(self.args);
        Ok(Some(syscall))
    }
}

impl Filter {
    /// Whether any of what is written is met.
    fn any(&self, conditions: &Conditions) -> Result<bool, Error> {
        let arch = self.arches.iter().flatten().any(|arch| arch == conditions.machine.profile_name());
        let capability = self.caps.iter().flatten().any(|name| has(conditions, name));
        let kernel = match &self.min_kernel {
            Some(version) => conditions.kernel >= parse_kernel(version)?,
            None => false,
        };
        Ok(arch || capability || kernel)
    }

    /// Whether all of what is written is met.
    fn all(&self, conditions: &Conditions) -> Result<bool, Error> {
        let arch = match self.arches.as_deref() {
            None | Some([]) => true,
            Some(arches) => arches.iter().any(|arch| arch == conditions.machine.profile_name()),
        };
        let capabilities = self.caps.iter().flatten().all(|name| has(conditions, name));
        let kernel = match &self.min_kernel {
            Some(version) => conditions.kernel >= parse_kernel(version)?,
            None => true,
        };
        Ok(arch && capabilities && kernel)
    }
}

fn has(conditions: &Conditions, name: &str) -> bool {
    Capability::parse(name).is_some_and(|capability| conditions.capabilities.contains(capability))
}

/// `major.minor`.
fn parse_kernel(version: &str) -> Result<(u32, u32), Error> {
    let parts = version.split_once('.').and_then(|(major, minor)| {
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)).filter(|(major, _)| *major > 0)
    });
    parts.ok_or_else(|| Error::Invalid { reason: format!("invalid kernel version: \"{version}\"") })
}

fn invalid(reason: &str) -> Error {
    Error::Invalid { reason: reason.to_owned() }
}
