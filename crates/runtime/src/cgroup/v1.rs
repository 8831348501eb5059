//! Limits and the freezer of version 1, where each controller has a hierarchy.

use std::fs;
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::devices;
use super::{read, wait_until, write};
use crate::error::{Context as _, Error};

/// Finds the group's directory in the hierarchy of a controller.
type Find<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// The directory for a controller that the configuration needs: a limit that cannot be set is an error.
fn need(find: Find<'_>, controller: &str) -> Result<PathBuf, Error> {
    find(controller).ok_or_else(|| {
        Error::Unsupported(format!("a {controller} limit on this host (no such cgroup controller)"))
    })
}

/// Sets the limits. Device rules are those of a `fresh` group, or those given.
pub(super) fn set(find: Find<'_>, resources: Option<&LinuxResources>, fresh: bool) -> Result<(), Error> {
    let device_rules = resources.and_then(|r| r.devices().as_deref());
    if fresh || device_rules.is_some_and(|r| !r.is_empty()) {
        set_devices(find, &devices::rules(device_rules.unwrap_or_default())?)?;
    }
    let Some(resources) = resources else { return Ok(()) };
    if let Some(memory) = resources.memory() {
        set_memory(find, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        set_cpu(find, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".into() };
        // No limit is what a new group has.
        if pids.limit() > 0 || !fresh {
            write(&need(find, "pids")?.join("pids.max"), &limit)?;
        }
    }
    if let Some(block_io) = resources.block_io() {
        set_block_io(find, block_io)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", page_size(limit.page_size())?);
        write(&need(find, "hugetlb")?.join(file), &limit.limit().to_string())?;
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            write(&need(find, "net_cls")?.join("net_cls.classid"), &class.to_string())?;
        }
        for priority in network.priorities().iter().flatten() {
            write(&need(find, "net_prio")?.join("net_prio.ifpriomap"), &priority.to_string())?;
        }
    }
    if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(Error::Unsupported("linux.resources.unified on a host with cgroup version 1".into()));
    }
    Ok(())
}

/// A page size is part of a file name.
pub(super) fn page_size(text: &str) -> Result<&str, Error> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(text);
    }
    Err(Error::Invalid(format!("page size {text:?}")))
}

fn set_devices(find: Find<'_>, rules: &[devices::Rule]) -> Result<(), Error> {
    let directory = need(find, "devices")?;
    let (allow, deny) = (directory.join("devices.allow"), directory.join("devices.deny"));
    for rule in rules {
        write(if rule.allows() { &allow } else { &deny }, &rule.text())?;
    }
    Ok(())
}

fn set_memory(find: Find<'_>, memory: &LinuxMemory) -> Result<(), Error> {
    let file = |name: &str| Ok(need(find, "memory")?.join(name));
    let (limit, swap) = (memory.limit().filter(|l| *l != 0), memory.swap().filter(|s| *s != 0));
    let set_limit = || -> Result<(), Error> {
        limit.map_or(Ok(()), |limit| write(&file("memory.limit_in_bytes")?, &limit.to_string()))
    };
    let set_swap = || -> Result<(), Error> {
        swap.map_or(Ok(()), |swap| write(&file("memory.memsw.limit_in_bytes")?, &swap.to_string()))
    };
    // The sum may never be below the limit: whichever grows goes first.
    let current = || -> Result<u64, Error> {
        Ok(read(&file("memory.memsw.limit_in_bytes")?)?.trim().parse().unwrap_or(u64::MAX))
    };
    if let (Some(limit), Some(swap)) = (limit, swap)
        && (swap < 0 || u64::try_from(limit).is_ok_and(|l| current().is_ok_and(|c| l > c)))
    {
        set_swap()?;
        set_limit()?;
    } else {
        set_limit()?;
        set_swap()?;
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        write(&file("memory.soft_limit_in_bytes")?, &reservation.to_string())?;
    }
    // Kernel memory limits were taken out of the kernel: runc ignores them as well, the specification deprecates them.
    if memory.kernel_tcp().is_some_and(|l| l != 0) {
        write(&file("memory.kmem.tcp.limit_in_bytes")?, &memory.kernel_tcp().unwrap_or(-1).to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(Error::Invalid(format!("swappiness {swappiness} is not between 0 and 100")));
        }
        write(&file("memory.swappiness")?, &swappiness.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        write(&file("memory.oom_control")?, "1")?;
    }
    Ok(())
}

fn set_cpu(find: Find<'_>, cpu: &LinuxCpu) -> Result<(), Error> {
    let file = |name: &str| Ok::<_, Error>(need(find, "cpu")?.join(name));
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        write(&file("cpu.shares")?, &shares.to_string())?;
    }
    if let Some(period) = cpu.period().filter(|p| *p != 0) {
        write(&file("cpu.cfs_period_us")?, &period.to_string())?;
    }
    if let Some(quota) = cpu.quota().filter(|q| *q != 0) {
        write(&file("cpu.cfs_quota_us")?, &quota.to_string())?;
    }
    if let Some(burst) = cpu.burst() {
        write(&file("cpu.cfs_burst_us")?, &burst.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        write(&file("cpu.idle")?, &idle.to_string())?;
    }
    if let Some(period) = cpu.realtime_period().filter(|p| *p != 0) {
        write(&file("cpu.rt_period_us")?, &period.to_string())?;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|r| *r != 0) {
        write(&file("cpu.rt_runtime_us")?, &runtime.to_string())?;
    }
    for (value, name) in [(cpu.cpus(), "cpuset.cpus"), (cpu.mems(), "cpuset.mems")] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            write(&need(find, "cpuset")?.join(name), value)?;
        }
    }
    Ok(())
}

fn set_block_io(find: Find<'_>, block_io: &LinuxBlockIo) -> Result<(), Error> {
    let directory = || need(find, "blkio");
    // The weight belongs to the scheduler: CFQ has gone from the kernel, its successor BFQ has a file of its own name.
    let weight_file = |suffix: &str| -> Result<PathBuf, Error> {
        let directory = directory()?;
        let names = [format!("blkio.weight{suffix}"), format!("blkio.bfq.weight{suffix}")];
        let found = names.iter().map(|name| directory.join(name)).find(|path| path.exists());
        found.ok_or_else(|| Error::Unsupported(format!("blkio weight{suffix} on this host")))
    };
    if let Some(weight) = block_io.weight().filter(|w| *w != 0) {
        write(&weight_file("")?, &weight.to_string())?;
    }
    if block_io.leaf_weight().is_some_and(|w| w != 0) {
        return Err(Error::Unsupported("linux.resources.blockIO.leafWeight".into()));
    }
    for device in block_io.weight_device().iter().flatten() {
        let weight = device.weight().unwrap_or(0);
        write(&weight_file("_device")?, &format!("{}:{} {weight}", device.major(), device.minor()))?;
    }
    let throttles = [
        (block_io.throttle_read_bps_device(), "blkio.throttle.read_bps_device"),
        (block_io.throttle_write_bps_device(), "blkio.throttle.write_bps_device"),
        (block_io.throttle_read_iops_device(), "blkio.throttle.read_iops_device"),
        (block_io.throttle_write_iops_device(), "blkio.throttle.write_iops_device"),
    ];
    for (devices, name) in throttles {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            write(&directory()?.join(name), &value)?;
        }
    }
    Ok(())
}

/// A new group of the cpuset controller has no CPUs and no memory, and nobody can enter it: each one on the way to `path` gets
/// those of the one above.
pub(super) fn inherit_cpuset(mountpoint: &Path, path: &Path) -> Result<(), Error> {
    let mut above = mountpoint.to_owned();
    for component in path.components() {
        let here = above.join(component);
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if read(&here.join(name))?.trim().is_empty() {
                write(&here.join(name), read(&above.join(name))?.trim())?;
            }
        }
        above = here;
    }
    Ok(())
}

/// Freezes or thaws, and returns whether it has come to that.
pub(super) fn freeze(directory: &Path, frozen: bool) -> Result<bool, Error> {
    let file = directory.join("freezer.state");
    let goal = if frozen { "FROZEN" } else { "THAWED" };
    // A process that was made while the group was being frozen may have been missed: the kernel looks again at each write.
    let done = wait_until(|| {
        write(&file, goal)?;
        Ok(read(&file)?.trim() == goal)
    })?;
    if frozen && !done {
        write(&file, "THAWED")?;
    }
    Ok(done)
}

pub(super) fn is_frozen(directory: &Path) -> Result<bool, Error> {
    let file = directory.join("freezer.state");
    match fs::read_to_string(&file) {
        Ok(state) => Ok(state.trim() != "THAWED"),
        Err(error) if super::is_gone(&error) => Ok(false),
        Err(error) => Err(error).on("read", &file),
    }
}
