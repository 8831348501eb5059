//! Limits and the freezer of version 2, where one hierarchy has all controllers.

use std::fs;
use std::path::Path;

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};
use sys::fsx;

use super::limits::{Writer, check_usage, is_invalid, page_size, rdma_line};
use super::{MOUNTPOINT, devices, processes};
use super::{field, read, wait_until, write};
use crate::error::{Context as _, Error};

/// The controllers whose limits can be asked for.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma"];

/// Lets the groups below `directory` use the controllers that it has itself. One that is refused is noticed when its limit is set.
pub(super) fn enable_controllers(directory: &Path) -> Result<(), Error> {
    let available = read(&directory.join("cgroup.controllers"))?;
    let file = directory.join("cgroup.subtree_control");
    let enabled = read(&file)?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    let missing: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| has(&available, name) && !has(&enabled, name)).collect();
    // With processes in the group itself the kernel refuses some, and with the others it would make threads' groups of those
    // below, in which no process can be. The root is different.
    if missing.is_empty() || (directory != Path::new(MOUNTPOINT) && !processes::read(directory)?.is_empty()) {
        return Ok(());
    }
    for controller in missing {
        // Then a limit that needs it fails by its own name.
        let _ = write(&file, &format!("+{controller}"));
    }
    Ok(())
}

/// Sets the limits. Device rules are those of a fresh group, or those given.
pub(super) fn set(
    directory: &Path,
    resources: Option<&LinuxResources>,
    writer: &mut Writer,
) -> Result<(), Error> {
    let device_rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
    if writer.is_fresh() {
        set_devices(directory, device_rules, writer)?;
    }
    let Some(resources) = resources else { return Ok(()) };
    refuse_what_is_gone(resources)?;
    if let Some(memory) = resources.memory() {
        set_memory(directory, memory, writer)?;
    }
    if let Some(cpu) = resources.cpu() {
        set_cpu(directory, cpu, writer)?;
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".into() };
        if pids.limit() > 0 || !writer.is_fresh() {
            writer.write("pids.limit", &directory.join("pids.max"), &limit)?;
        }
    }
    if let Some(block_io) = resources.block_io() {
        set_block_io(directory, block_io, writer)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let (field, size) = ("hugepageLimits", page_size(limit.page_size())?);
        writer.write(field, &directory.join(format!("hugetlb.{size}.max")), &bytes(limit.limit()))?;
        // Also of pages that are set aside and not used yet; kernels before 5.7 do not count them.
        let file = directory.join(format!("hugetlb.{size}.rsvd.max"));
        writer.write_if_there(field, &file, &bytes(limit.limit()))?;
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        let line = rdma_line(device, *limits)?;
        let file = directory.join("rdma.max");
        writer.write_entry("rdma", &file, device, &line, "hca_handle=max hca_object=max")?;
    }
    for (name, value) in resources.unified().iter().flatten() {
        if name.contains('/') || !name.contains('.') || name.starts_with("cgroup.") {
            return Err(Error::Invalid(format!("linux.resources.unified: {name:?} is not a limit")));
        }
        for line in value.lines() {
            writer.write(&format!("unified.{name}"), &directory.join(name), line)?;
        }
    }
    // Last of all: the kernel does not say what the rules were, so they cannot be taken back.
    if !writer.is_fresh() && !device_rules.is_empty() {
        set_devices(directory, device_rules, writer)?;
    }
    Ok(())
}

fn set_devices(directory: &Path, configured: &[LinuxDeviceCgroup], writer: &Writer) -> Result<(), Error> {
    const EPERM: i32 = 1;
    let rules = devices::rules(configured)?;
    let open = devices::allow_everything(&rules);
    if open && writer.is_fresh() {
        return Ok(());
    }
    let fd = fsx::open_dir(directory).on("open", directory)?;
    match if open { devices::detach(fd) } else { devices::attach(fd, &rules) } {
        // Where an ordinary user may not do that, there is no device either that only rules would keep from them.
        Err(error) if error.raw_os_error() == Some(EPERM) && super::is_ordinary() => Ok(()),
        other => other.on("attach the device program to", directory),
    }
}

/// What version 1 had and version 2 has not: silence would be a promise.
fn refuse_what_is_gone(resources: &LinuxResources) -> Result<(), Error> {
    let memory = resources.memory().as_ref();
    let cpu = resources.cpu().as_ref();
    let network = resources.network().as_ref();
    for (field, given) in [
        ("memory.swappiness", memory.is_some_and(|m| m.swappiness().is_some())),
        ("memory.disableOOMKiller", memory.is_some_and(|m| m.disable_oom_killer() == Some(true))),
        ("memory.kernelTCP", memory.is_some_and(|m| m.kernel_tcp().is_some_and(|l| l > 0))),
        ("memory.useHierarchy", memory.is_some_and(|m| m.use_hierarchy() == Some(false))),
        ("cpu.realtimeRuntime", cpu.is_some_and(|c| c.realtime_runtime().is_some_and(|r| r != 0))),
        ("cpu.realtimePeriod", cpu.is_some_and(|c| c.realtime_period().is_some_and(|p| p != 0))),
        ("network.classID", network.is_some_and(|n| n.class_id().is_some_and(|c| c != 0))),
        (
            "network.priorities",
            network.is_some_and(|n| n.priorities().as_ref().is_some_and(|p| !p.is_empty())),
        ),
        ("blockIO.leafWeight", resources.block_io().as_ref().is_some_and(has_leaf_weight)),
    ] {
        if given {
            return Err(Error::Unsupported(format!(
                "linux.resources.{field} on a host with cgroup version 2"
            )));
        }
    }
    Ok(())
}

fn has_leaf_weight(block_io: &LinuxBlockIo) -> bool {
    let given = |weight: Option<u16>| weight.is_some_and(|w| w != 0);
    given(block_io.leaf_weight()) || block_io.weight_device().iter().flatten().any(|d| given(d.leaf_weight()))
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
        (Some(limit), sum) if limit >= 0 => Err(Error::Invalid(format!(
            "linux.resources.memory.swap: memory and swap together ({sum}) are below memory alone ({limit})"
        ))),
        _ => Err(Error::Invalid("linux.resources.memory.swap: a limit on swap needs one on memory".into())),
    }
}

fn set_memory(directory: &Path, memory: &LinuxMemory, writer: &mut Writer) -> Result<(), Error> {
    let (limit, mut swap) = (memory.limit().filter(|l| *l != 0), memory.swap().filter(|s| *s != 0));
    if memory.check_before_update() == Some(true) && (limit.is_some() || swap.is_some()) {
        let usage = read(&directory.join("memory.current"))?.trim().parse().unwrap_or(u64::MAX);
        check_usage(limit, swap, usage)?;
    }
    // No limit on memory is none on swap either, unless one is given.
    if limit == Some(-1) && swap.is_none() {
        swap = Some(-1);
    }
    if let Some(swap) = swap {
        let limit = match limit {
            None if swap > 0 => current_limit(directory)?,
            given => given,
        };
        let value = swap_alone(limit, swap)?;
        let written = writer.write_if_there("memory.swap", &directory.join("memory.swap.max"), &value)?;
        // Without swap accounting there is no file; then nobody has swap, unless there should be a limit on it.
        if !written && value != "0" && value != "max" {
            return Err(Error::Unsupported("linux.resources.memory.swap on this host".into()));
        }
    }
    if let Some(limit) = limit {
        writer.write("memory.limit", &directory.join("memory.max"), &bytes(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        writer.write("memory.reservation", &directory.join("memory.low"), &bytes(reservation))?;
    }
    Ok(())
}

/// The limit that the group has.
pub(super) fn current_limit(directory: &Path) -> Result<Option<i64>, Error> {
    Ok(read(&directory.join("memory.max"))?.trim().parse().ok())
}

/// Shares of version 1 (2 to 262144, 1024 by default) as a weight of version 2 (1 to 10000, 100 by default), so that minimum,
/// default and maximum meet: the curve that the runtimes agreed on in 2025.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
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

fn set_cpu(directory: &Path, cpu: &LinuxCpu, writer: &mut Writer) -> Result<(), Error> {
    // The weight of a group that is idle cannot be set: out of that state first, into it last.
    let idle = |writer: &mut Writer, idle: i64| {
        writer.write("cpu.idle", &directory.join("cpu.idle"), &idle.to_string())
    };
    if let Some(value) = cpu.idle().filter(|i| *i == 0) {
        idle(writer, value)?;
    }
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        writer.write("cpu.shares", &directory.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
    }
    if let Some(value) = cpu.idle().filter(|i| *i != 0) {
        idle(writer, value)?;
    }
    set_bandwidth(directory, cpu, writer)?;
    for (value, field, name) in
        [(cpu.cpus(), "cpu.cpus", "cpuset.cpus"), (cpu.mems(), "cpu.mems", "cpuset.mems")]
    {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            writer.write(field, &directory.join(name), value)?;
        }
    }
    Ok(())
}

/// Quota, period and burst. What is not given stays as it is.
fn set_bandwidth(directory: &Path, cpu: &LinuxCpu, writer: &mut Writer) -> Result<(), Error> {
    let (quota, period) = (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0));
    let burst = |writer: &mut Writer, burst: u64| {
        writer.write("cpu.burst", &directory.join("cpu.max.burst"), &burst.to_string())
    };
    let mut waiting = cpu.burst();
    // A burst may not be above the quota: one that does not fit the old quota is tried again with the new one.
    if let Some(value) = waiting {
        match burst(writer, value) {
            Err(Error::Limit { source, .. }) if quota.is_some() && is_invalid(&source) => {}
            other => {
                other?;
                waiting = None;
            }
        }
    }
    if quota.is_some() || period.is_some() {
        let file = directory.join("cpu.max");
        let quota_text = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            Some(_) => "max".to_owned(),
            None => read(&file)?.split_whitespace().next().unwrap_or("max").to_owned(),
        };
        let value = period.map_or(quota_text.clone(), |period| format!("{quota_text} {period}"));
        writer.write(if quota.is_some() { "cpu.quota" } else { "cpu.period" }, &file, &value)?;
    }
    waiting.map_or(Ok(()), |value| burst(writer, value))
}

/// Quota (below zero for none) and period as they are.
pub(super) fn bandwidth(directory: &Path) -> (Option<i64>, Option<u64>) {
    let text = read(&directory.join("cpu.max")).unwrap_or_default();
    let mut words = text.split_whitespace();
    let quota = words.next().map(|word| word.parse().unwrap_or(-1));
    (quota, words.next().and_then(|word| word.parse().ok()))
}

/// The weight of version 1 (10 to 1000) on the scale of version 2 (1 to 10000).
pub(super) fn io_weight(field: &str, weight: u16) -> Result<u64, Error> {
    if !(10..=1000).contains(&weight) {
        return Err(Error::Invalid(format!("linux.resources.{field}: {weight} is not between 10 and 1000")));
    }
    Ok(1 + u64::from(weight - 10) * 9999 / 990)
}

fn set_block_io(directory: &Path, block_io: &LinuxBlockIo, writer: &mut Writer) -> Result<(), Error> {
    let (bfq, plain) = (directory.join("io.bfq.weight"), directory.join("io.weight"));
    if let Some(weight) = block_io.weight().filter(|w| *w != 0) {
        let field = "blockIO.weight";
        if !writer.write_if_there(field, &bfq, &weight.to_string())? {
            writer.write_entry(field, &plain, "default", &io_weight(field, weight)?.to_string(), "100")?;
        }
    }
    for device in block_io.weight_device().iter().flatten() {
        let Some(weight) = device.weight() else { continue };
        let field = "blockIO.weightDevice";
        let key = format!("{}:{}", device.major(), device.minor());
        if bfq.exists() {
            writer.write_entry(field, &bfq, &key, &weight.to_string(), "default")?;
        } else {
            writer.write_entry(field, &plain, &key, &io_weight(field, weight)?.to_string(), "default")?;
        }
    }
    let throttles = [
        (block_io.throttle_read_bps_device(), "blockIO.throttleReadBpsDevice", "rbps"),
        (block_io.throttle_write_bps_device(), "blockIO.throttleWriteBpsDevice", "wbps"),
        (block_io.throttle_read_iops_device(), "blockIO.throttleReadIOPSDevice", "riops"),
        (block_io.throttle_write_iops_device(), "blockIO.throttleWriteIOPSDevice", "wiops"),
    ];
    for (devices, field, name) in throttles {
        for device in devices.iter().flatten() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let key = format!("{}:{}", device.major(), device.minor());
            writer.write_entry(
                field,
                &directory.join("io.max"),
                &key,
                &format!("{name}={rate}"),
                "rbps=max wbps=max riops=max wiops=max",
            )?;
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
        assert_eq!(io_weight("w", 10).unwrap(), 1);
        assert_eq!(io_weight("w", 1000).unwrap(), 10_000);
        io_weight("w", 9).unwrap_err();
    }
}
