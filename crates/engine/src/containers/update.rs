//! Changing the limits of a container.

use std::path::Path;

use api::container::Resources;
use oci::runtime::LinuxResources;

use crate::error::{Error, Result};

/// Whether something was asked for: neither 0 nor nothing.
fn given<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}

/// Takes over what was asked for; 0 and nothing leave the limit as it is.
pub(crate) fn merge(have: &mut Resources, asked: &Resources) {
    macro_rules! take {
        ($($field:ident),*) => {$(
            if given(&asked.$field) {
                have.$field.clone_from(&asked.$field);
            }
        )*};
    }
    // A number of CPUs and a quota say the same: the newer one counts.
    if asked.nano_cpus != 0 {
        have.cpu_period = 0;
        have.cpu_quota = 0;
    }
    if asked.cpu_period != 0 || asked.cpu_quota != 0 {
        have.nano_cpus = 0;
    }
    // Where nobody set the limit of memory and swap together, it goes with that of memory.
    if exceeds_swap(have, asked) {
        have.memory_swap = asked.memory.saturating_mul(2);
    }
    take!(
        cpu_shares,
        memory,
        nano_cpus,
        blkio_weight,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        memory_reservation,
        memory_swap,
        pids_limit
    );
}

/// Whether the limit of memory that is asked for is above that of memory and swap together.
fn exceeds_swap(have: &Resources, asked: &Resources) -> bool {
    asked.memory > 0 && asked.memory_swap == 0 && have.memory_swap > 0 && asked.memory > have.memory_swap
}

/// Refuses a limit of memory above that of memory and swap together, where somebody has set that one.
pub(crate) fn check(have: &Resources, asked: &Resources) -> Result<()> {
    if exceeds_swap(have, asked) && have.memory_swap != have.memory.saturating_mul(2) {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    Ok(())
}

/// Refuses what cannot be changed while a container exists.
pub(crate) fn refuse(asked: &Resources) -> Result<()> {
    for (set, what) in [
        (!asked.cgroup_parent.is_empty(), "CgroupParent"),
        (!asked.devices.is_empty(), "Devices"),
        (!asked.device_cgroup_rules.is_empty(), "DeviceCgroupRules"),
        (!asked.device_requests.is_empty(), "DeviceRequests"),
        (!asked.ulimits.is_empty(), "Ulimits"),
        (asked.oom_kill_disable == Some(true), "OomKillDisable"),
        (asked.init.is_some(), "Init"),
        (asked.memory_swappiness.is_some_and(|s| s != -1), "MemorySwappiness"),
        (!asked.blkio_weight_device.is_empty(), "BlkioWeightDevice"),
        (!asked.blkio_device_read_bps.is_empty(), "BlkioDeviceReadBps"),
        (!asked.blkio_device_write_bps.is_empty(), "BlkioDeviceWriteBps"),
        (!asked.blkio_device_read_iops.is_empty(), "BlkioDeviceReadIOps"),
        (!asked.blkio_device_write_iops.is_empty(), "BlkioDeviceWriteIOps"),
        (asked.kernel_memory != 0, "KernelMemory"),
    ] {
        if set {
            return Err(Error::invalid(format!("{what} of a container cannot be changed by update")));
        }
    }
    Ok(())
}

/// Sets the limits on a container that runs.
pub(crate) fn apply(cgroup: &Path, resources: &LinuxResources) -> Result<()> {
    let group = runtime::cgroup::Cgroup::open(cgroup).map_err(Error::runtime)?;
    group.update(resources).map_err(Error::runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_stays() {
        let mut have =
            Resources { memory: 1 << 30, memory_swap: 2 << 30, cpu_quota: 5000, ..Default::default() };
        let asked = Resources { memory: 3 << 30, nano_cpus: 1_000_000_000, ..Default::default() };
        check(&have, &asked).unwrap();
        merge(&mut have, &asked);
        assert_eq!((have.memory, have.memory_swap), (3 << 30, 6 << 30));
        assert_eq!((have.nano_cpus, have.cpu_quota), (1_000_000_000, 0));
        merge(&mut have, &Resources::default());
        assert_eq!(have.memory, 3 << 30);
        // Who has forbidden swap is asked.
        have.memory_swap = have.memory;
        check(&have, &Resources { memory: 4 << 30, ..Default::default() }).unwrap_err();
        check(&have, &Resources { memory: 2 << 30, ..Default::default() }).unwrap();
        check(&have, &Resources { memory: 4 << 30, memory_swap: -1, ..Default::default() }).unwrap();
    }
}
