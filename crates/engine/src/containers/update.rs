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
    // A number of CPUs and a quota say the same. Of both, only one without effect is let pass.
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

/// Refuses what contradicts the limits that are there: CPUs by number and by quota, and a limit of memory above that of memory and swap
/// together, where somebody has set that one.
pub(crate) fn check(have: &Resources, asked: &Resources, swap_given: bool) -> Result<()> {
    for (conflict, what, other) in [
        (asked.nano_cpus > 0 && have.cpu_period > 0, "Nano CPUs", "CPU Period"),
        (asked.nano_cpus > 0 && have.cpu_quota > 0, "Nano CPUs", "CPU Quota"),
        (asked.cpu_period > 0 && have.nano_cpus > 0, "CPU Period", "NanoCPUs"),
        (asked.cpu_quota > 0 && have.nano_cpus > 0, "CPU Quota", "NanoCPUs"),
    ] {
        if conflict {
            return Err(Error::conflict(format!(
                "Conflicting options: {what} cannot be updated as {other} has already been set"
            )));
        }
    }
    let is_default = !swap_given && have.memory_swap == have.memory.saturating_mul(2);
    if exceeds_swap(have, asked) && !is_default {
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
        let asked = Resources { memory: 3 << 30, ..Default::default() };
        // Who has said how much swap there is is asked, and who has not is not.
        check(&have, &asked, true).unwrap_err();
        check(&have, &asked, false).unwrap();
        merge(&mut have, &asked);
        assert_eq!((have.memory, have.memory_swap), (3 << 30, 6 << 30));
        assert_eq!((have.nano_cpus, have.cpu_quota), (0, 5000));
        merge(&mut have, &Resources::default());
        assert_eq!(have.memory, 3 << 30);
        // Who has forbidden swap is asked.
        have.memory_swap = have.memory;
        check(&have, &Resources { memory: 4 << 30, ..Default::default() }, false).unwrap_err();
        check(&have, &Resources { memory: 2 << 30, ..Default::default() }, false).unwrap();
        check(&have, &Resources { memory: 4 << 30, memory_swap: -1, ..Default::default() }, false).unwrap();
    }

    #[test]
    fn cpus_are_told_by_number_or_by_quota() {
        let number = Resources { nano_cpus: 500_000_000, ..Default::default() };
        let period = Resources { cpu_period: 50_000, ..Default::default() };
        let quota = Resources { cpu_quota: 20_000, ..Default::default() };
        for (have, asked, what) in [
            (&number, &period, "CPU Period cannot be updated as NanoCPUs has"),
            (&number, &quota, "CPU Quota cannot be updated as NanoCPUs has"),
            (&period, &number, "Nano CPUs cannot be updated as CPU Period has"),
            (&quota, &number, "Nano CPUs cannot be updated as CPU Quota has"),
        ] {
            let error = check(have, asked, false).unwrap_err();
            assert_eq!(error.to_string(), format!("Conflicting options: {what} already been set"));
        }
        check(&period, &quota, false).unwrap();
        check(&number, &number, false).unwrap();
    }
}
