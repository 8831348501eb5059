//! `--cpu-rt-period`, `--cpu-rt-runtime`: how long programs with real-time scheduling may run. A group has only what the one
//! above it has, and those that the engine makes begin with nothing.

use std::fs;
use std::path::Path;

use api::container::Resources;

use crate::config::RealTime;
use crate::error::{Error, Result};
use crate::host::Host;

/// Where the controller is mounted.
const CONTROLLER: &str = "/sys/fs/cgroup/cpu";

/// Refuses what the kernel does not have, and what contradicts itself, in Docker's words.
pub(super) fn check(limits: &Resources, machine: &Host) -> Result<()> {
    let (period, runtime) = (limits.cpu_realtime_period, limits.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !machine.realtime {
        return Err(Error::invalid("kernel does not support CPU real-time scheduler"));
    }
    if period != 0 && runtime > period {
        return Err(Error::invalid("cpu real-time runtime cannot be higher than cpu real-time period"));
    }
    Ok(())
}

/// Gives the groups above a container's what the daemon was told that all containers may have together.
pub(crate) fn prepare(cgroup: &Path, limits: &Resources, all: RealTime) -> Result<()> {
    if limits.cpu_realtime_runtime == 0 || all.runtime_us == 0 {
        return Ok(());
    }
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let mut directory = Path::new(CONTROLLER).to_owned();
    for part in below.parent().into_iter().flat_map(Path::components) {
        directory.push(part);
        fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        let mut files = vec![("cpu.rt_runtime_us", all.runtime_us)];
        if all.period_us != 0 {
            files.insert(0, ("cpu.rt_period_us", all.period_us));
        }
        for (name, value) in files {
            let file = directory.join(name);
            fs::write(&file, value.to_string()).map_err(|e| Error::io("write", &file, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_and_what_makes_no_sense_is_refused() {
        let with = Host { realtime: true, ..Host::default() };
        let limits = |period, runtime| Resources {
            cpu_realtime_period: period,
            cpu_realtime_runtime: runtime,
            ..Resources::default()
        };
        check(&limits(0, 0), &Host::default()).unwrap();
        check(&limits(1000, 1000), &with).unwrap();
        let text = |limits, host: &Host| check(&limits, host).unwrap_err().to_string();
        assert_eq!(
            text(limits(5000, 0), &Host::default()),
            "kernel does not support CPU real-time scheduler"
        );
        assert_eq!(
            text(limits(5000, 6000), &with),
            "cpu real-time runtime cannot be higher than cpu real-time period"
        );
    }
}
