//! Limits and the freezer of version 2, where one hierarchy has all controllers.

use std::fs;
use std::path::Path;

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use sys::fsx;

use super::devices;
use super::{field, read, wait_until, write, write_if_there};
use crate::error::{Context as _, Error};

/// The controllers whose limits can be asked for.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// Lets the groups below `directory` use the controllers that it has itself. One that is refused is noticed when its limit is set.
pub(super) fn enable_controllers(directory: &Path) -> Result<(), Error> {
    let available = read(&directory.join("cgroup.controllers"))?;
    let enabled = read(&directory.join("cgroup.subtree_control"))?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    for controller in CONTROLLERS {
        if has(&available, controller) && !has(&enabled, controller) {
            let file = directory.join("cgroup.subtree_control");
            // Refused where processes are in the group itself: then a limit that needs it fails by its own name.
            let _ = write(&file, &format!("+{controller}"));
        }
    }
    Ok(())
}

/// Sets the limits. Device rules are those of a `fresh` group; they cannot be changed later.
pub(super) fn set(directory: &Path, resources: Option<&LinuxResources>, fresh: bool) -> Result<(), Error> {
    let device_rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
    if fresh {
        let rules = devices::rules(device_rules)?;
        if !(rules.len() == 1 && rules[0].allows()) {
            let fd = fsx::open_dir(directory).on("open", directory)?;
            devices::attach(fd, &rules).on("attach the device program to", directory)?;
        }
    } else if !device_rules.is_empty() {
        return Err(Error::Unsupported("changing device rules of a running container".into()));
    }
    let Some(resources) = resources else { return Ok(()) };
    if let Some(memory) = resources.memory() {
        set_memory(directory, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        set_cpu(directory, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".into() };
        if pids.limit() > 0 || !fresh {
            write(&directory.join("pids.max"), &limit)?;
        }
    }
    if let Some(block_io) = resources.block_io() {
        set_block_io(directory, block_io)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", super::v1::page_size(limit.page_size())?);
        write(&directory.join(file), &limit.limit().to_string())?;
    }
    let network = resources.network().as_ref();
    if network
        .is_some_and(|n| n.class_id().is_some() || n.priorities().as_ref().is_some_and(|p| !p.is_empty()))
    {
        return Err(Error::Unsupported("linux.resources.network on a host with cgroup version 2".into()));
    }
    for (name, value) in resources.unified().iter().flatten() {
        if name.contains('/') || !name.contains('.') || name.starts_with("cgroup.") {
            return Err(Error::Invalid(format!("linux.resources.unified: {name:?} is not a limit")));
        }
        for line in value.lines() {
            write(&directory.join(name), line)?;
        }
    }
    Ok(())
}

/// A limit as version 2 writes it.
fn bytes(limit: i64) -> String {
    if limit < 0 { "max".into() } else { limit.to_string() }
}

/// Version 1 and the specification count swap together with memory; version 2 counts it alone.
fn swap_alone(limit: Option<i64>, sum: i64) -> Result<String, Error> {
    match (limit, sum) {
        (_, sum) if sum < 0 => Ok("max".into()),
        (Some(limit), sum) if limit >= 0 && sum >= limit => Ok((sum - limit).to_string()),
        (Some(limit), sum) if limit >= 0 => {
            Err(Error::Invalid(format!("memory and swap ({sum}) is below memory ({limit})")))
        }
        _ => Err(Error::Invalid("a limit on swap needs one on memory".into())),
    }
}

fn set_memory(directory: &Path, memory: &LinuxMemory) -> Result<(), Error> {
    let (limit, swap) = (memory.limit().filter(|l| *l != 0), memory.swap().filter(|s| *s != 0));
    if let Some(swap) = swap {
        let value = swap_alone(limit, swap)?;
        let written = write_if_there(&directory.join("memory.swap.max"), &value)?;
        // Without swap accounting there is no file; then nobody has swap, unless there should be a limit on it.
        if !written && value != "0" && value != "max" {
            return Err(Error::Unsupported("a limit on swap on this host".into()));
        }
    }
    if let Some(limit) = limit {
        write(&directory.join("memory.max"), &bytes(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        write(&directory.join("memory.low"), &bytes(reservation))?;
    }
    if memory.swappiness().is_some() {
        return Err(Error::Unsupported("memory swappiness on a host with cgroup version 2".into()));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(Error::Unsupported("disabling the OOM killer on a host with cgroup version 2".into()));
    }
    Ok(())
}

/// Shares of version 1 (2 to 262144, 1024 by default) as a weight of version 2 (1 to 10000, 100 by default), so that minimum,
/// default and maximum meet: the curve that the runtimes agreed on in 2025.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

fn set_cpu(directory: &Path, cpu: &LinuxCpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        write(&directory.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        write(&directory.join("cpu.idle"), &idle.to_string())?;
    }
    let (quota, period) = (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0));
    if quota.is_some() || period.is_some() {
        const PERIOD_DEFAULT: u64 = 100_000;
        let quota = quota.filter(|q| *q > 0).map_or("max".to_owned(), |q| q.to_string());
        write(&directory.join("cpu.max"), &format!("{quota} {}", period.unwrap_or(PERIOD_DEFAULT)))?;
    }
    if let Some(burst) = cpu.burst() {
        write(&directory.join("cpu.max.burst"), &burst.to_string())?;
    }
    let realtime =
        cpu.realtime_runtime().is_some_and(|r| r != 0) || cpu.realtime_period().is_some_and(|p| p != 0);
    if realtime {
        return Err(Error::Unsupported("real-time scheduling on a host with cgroup version 2".into()));
    }
    for (value, name) in [(cpu.cpus(), "cpuset.cpus"), (cpu.mems(), "cpuset.mems")] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            write(&directory.join(name), value)?;
        }
    }
    Ok(())
}

/// The weight of version 1 (10 to 1000) on the scale of version 2 (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

fn set_block_io(directory: &Path, block_io: &LinuxBlockIo) -> Result<(), Error> {
    if let Some(weight) = block_io.weight().filter(|w| *w != 0)
        && !write_if_there(&directory.join("io.bfq.weight"), &weight.to_string())?
    {
        write(&directory.join("io.weight"), &format!("default {}", io_weight(weight)))?;
    }
    if block_io.leaf_weight().is_some_and(|w| w != 0) {
        return Err(Error::Unsupported("linux.resources.blockIO.leafWeight".into()));
    }
    for device in block_io.weight_device().iter().flatten() {
        let weight = device.weight().unwrap_or(0);
        let line = |weight: u64| format!("{}:{} {weight}", device.major(), device.minor());
        if !write_if_there(&directory.join("io.bfq.weight"), &line(weight.into()))? {
            write(&directory.join("io.weight"), &line(io_weight(weight)))?;
        }
    }
    let throttles = [
        (block_io.throttle_read_bps_device(), "rbps"),
        (block_io.throttle_write_bps_device(), "wbps"),
        (block_io.throttle_read_iops_device(), "riops"),
        (block_io.throttle_write_iops_device(), "wiops"),
    ];
    for (devices, key) in throttles {
        for device in devices.iter().flatten() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let line = format!("{}:{} {key}={rate}", device.major(), device.minor());
            write(&directory.join("io.max"), &line)?;
        }
    }
    Ok(())
}

/// Freezes or thaws, and returns whether it has come to that.
pub(super) fn freeze(directory: &Path, frozen: bool) -> Result<bool, Error> {
    let goal = u64::from(frozen);
    write(&directory.join("cgroup.freeze"), &goal.to_string())?;
    let events = directory.join("cgroup.events");
    wait_until(|| Ok(field(&read(&events)?, "frozen") == Some(goal)))
}

pub(super) fn is_frozen(directory: &Path) -> Result<bool, Error> {
    let file = directory.join("cgroup.freeze");
    match fs::read_to_string(&file) {
        Ok(state) => Ok(state.trim() == "1"),
        Err(error) if super::is_gone(&error) => Ok(false),
        Err(error) => Err(error).on("read", &file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_meet_weights_at_both_ends_and_the_default() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert!(weight_of_shares(512) < 100 && weight_of_shares(2048) > 100);
    }

    #[test]
    fn swap_is_counted_alone() {
        assert_eq!(swap_alone(Some(100), 150).unwrap(), "50");
        assert_eq!(swap_alone(Some(100), 100).unwrap(), "0");
        assert_eq!(swap_alone(Some(100), -1).unwrap(), "max");
        swap_alone(Some(100), 50).unwrap_err();
        swap_alone(None, 50).unwrap_err();
    }

    #[test]
    fn the_weight_of_io_keeps_its_ends() {
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }
}
