//! Limits and the freezer of version 1, where each controller has a hierarchy.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources};
use sys::fsx::{self, Mode, OFlags};

use super::device_list::List;
use super::devices;
use super::limits::{Writer, page_size, rdma_line};
use super::{read, tree, wait_until, write};
use crate::error::{Context as _, Error};

/// Finds the group's directory in the hierarchy of a controller.
type Find<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// The file for a limit that the configuration asks for: one that cannot be set is an error.
fn need(find: Find<'_>, field: &str, controller: &str, file: &str) -> Result<PathBuf, Error> {
    let directory = find(controller).ok_or_else(|| {
        Error::Invalid(format!(
            "linux.resources.{field}: there is no cgroup controller {controller:?} to set it"
        ))
    })?;
    Ok(directory.join(file))
}

/// Sets the limits. Device rules are those of a fresh group, or those given.
pub(super) fn set(
    find: Find<'_>,
    resources: Option<&LinuxResources>,
    writer: &mut Writer,
) -> Result<(), Error> {
    let device_rules = resources.and_then(|r| r.devices().as_deref());
    if writer.is_fresh() || device_rules.is_some_and(|r| !r.is_empty()) {
        set_devices(find, &devices::rules(device_rules.unwrap_or_default())?, writer)?;
    }
    let Some(resources) = resources else { return Ok(()) };
    if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(Error::Unsupported("linux.resources.unified on a host with cgroup version 1".into()));
    }
    if let Some(memory) = resources.memory() {
        set_memory(find, memory, writer)?;
    }
    if let Some(cpu) = resources.cpu() {
        set_cpu(find, cpu, writer)?;
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".into() };
        // No limit is what a new group has.
        if pids.limit() > 0 || !writer.is_fresh() {
            writer.write("pids.limit", &need(find, "pids.limit", "pids", "pids.max")?, &limit)?;
        }
    }
    if let Some(block_io) = resources.block_io() {
        set_block_io(find, block_io, writer)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = page_size(limit.page_size())?;
        let field = "hugepageLimits";
        let file = |suffix: &str| need(find, field, "hugetlb", &format!("hugetlb.{size}.{suffix}"));
        let value = limit.limit().to_string();
        writer.write(field, &file("limit_in_bytes")?, &value)?;
        // Also of pages that are set aside and not used yet; kernels before 5.7 do not count them.
        writer.write_if_there(field, &file("rsvd.limit_in_bytes")?, &value)?;
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        let (file, line) = (need(find, "rdma", "rdma", "rdma.max")?, rdma_line(device, *limits)?);
        writer.write_entry("rdma", &file, device, &line, "hca_handle=max hca_object=max")?;
    }
    if let Some(network) = resources.network() {
        set_network(find, network, writer)?;
    }
    set_oom_killer(find, resources.memory().as_ref(), writer)
}

fn set_network(find: Find<'_>, network: &LinuxNetwork, writer: &mut Writer) -> Result<(), Error> {
    if let Some(class) = network.class_id() {
        let field = "network.classID";
        writer.write(field, &need(find, field, "net_cls", "net_cls.classid")?, &class.to_string())?;
    }
    for priority in network.priorities().iter().flatten() {
        let field = "network.priorities";
        let file = need(find, field, "net_prio", "net_prio.ifpriomap")?;
        writer.write_entry(field, &file, priority.name(), &priority.priority().to_string(), "0")?;
    }
    Ok(())
}

/// A fresh group has the rules from nothing. One that lives goes from those it has to the new ones without a moment in which
/// something is refused that both of them allow.
fn set_devices(find: Find<'_>, rules: &[devices::Rule], writer: &mut Writer) -> Result<(), Error> {
    let Some(directory) = find("devices") else {
        // Where an ordinary user may not make a group, there is no device either that only rules would keep from them.
        return if super::is_ordinary() { Ok(()) } else { need(find, "devices", "devices", "").map(|_| ()) };
    };
    let list = List::of(rules)?;
    let (forward, back) = if writer.is_fresh() {
        (list.lines(), Vec::new())
    } else {
        let current = List::parse(&read(&directory.join("devices.list"))?);
        (current.to(&list), list.to(&current))
    };
    let file = |allows: bool| directory.join(if allows { "devices.allow" } else { "devices.deny" });
    for (allows, text) in back.iter().rev() {
        writer.take_back_with(&file(*allows), text);
    }
    for (allows, text) in &forward {
        writer.write_only("devices", &file(*allows), text)?;
    }
    Ok(())
}

fn set_memory(find: Find<'_>, memory: &LinuxMemory, writer: &mut Writer) -> Result<(), Error> {
    let file = |field: &str, name: &str| need(find, field, "memory", name);
    if let Some(asked) = memory.use_hierarchy() {
        let path = file("memory.useHierarchy", "memory.use_hierarchy")?;
        // Newer kernels have the one way only, and refuse to be told.
        if read(&path)?.trim() != u8::from(asked).to_string() {
            writer.write("memory.useHierarchy", &path, &u8::from(asked).to_string())?;
        }
    }
    set_memory_and_swap(find, memory, writer)?;
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        let field = "memory.reservation";
        writer.write(field, &file(field, "memory.soft_limit_in_bytes")?, &reservation.to_string())?;
    }
    // Kernel memory limits were taken out of the kernel: runc ignores them as well, the specification deprecates them.
    if let Some(limit) = memory.kernel_tcp().filter(|l| *l != 0) {
        let field = "memory.kernelTCP";
        writer.write(field, &file(field, "memory.kmem.tcp.limit_in_bytes")?, &limit.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(Error::Invalid(format!(
                "linux.resources.memory.swappiness: {swappiness} is not between 0 and 100"
            )));
        }
        let field = "memory.swappiness";
        writer.write(field, &file(field, "memory.swappiness")?, &swappiness.to_string())?;
    }
    Ok(())
}

fn set_memory_and_swap(find: Find<'_>, memory: &LinuxMemory, writer: &mut Writer) -> Result<(), Error> {
    let file = |field: &str, name: &str| need(find, field, "memory", name);
    let limit = memory.limit().filter(|l| *l != 0);
    let mut swap = memory.swap().filter(|s| *s != 0);
    let number =
        |path: PathBuf| -> Result<u64, Error> { Ok(read(&path)?.trim().parse().unwrap_or(u64::MAX)) };
    if limit.is_none() && swap.is_none() {
        return Ok(());
    }
    if memory.check_before_update() == Some(true) {
        super::limits::check_usage(limit, swap, number(file("memory.limit", "memory.usage_in_bytes")?)?)?;
    }
    let sum = file("memory.swap", "memory.memsw.limit_in_bytes")?;
    // No limit on memory is none on swap either, unless one is given.
    if limit == Some(-1) && swap.is_none() && sum.exists() {
        swap = Some(-1);
    }
    // The sum may never be below the limit: whichever grows goes first.
    let sum_first = match (limit, swap) {
        (Some(limit), Some(swap)) => {
            swap < 0 || u64::try_from(limit).is_ok_and(|l| number(sum.clone()).is_ok_and(|c| l > c))
        }
        _ => false,
    };
    if sum_first && let Some(swap) = swap {
        writer.write("memory.swap", &sum, &swap.to_string())?;
    }
    if let Some(limit) = limit {
        let field = "memory.limit";
        writer.write(field, &file(field, "memory.limit_in_bytes")?, &limit.to_string())?;
    }
    if !sum_first && let Some(swap) = swap {
        writer.write("memory.swap", &sum, &swap.to_string())?;
    }
    Ok(())
}

/// Last of all: the file reads differently from how it is written, so this is not taken back.
fn set_oom_killer(find: Find<'_>, memory: Option<&LinuxMemory>, writer: &mut Writer) -> Result<(), Error> {
    let field = "memory.disableOOMKiller";
    let Some(disable) = memory.and_then(LinuxMemory::disable_oom_killer) else { return Ok(()) };
    // It is enabled in a new group.
    if !disable && writer.is_fresh() {
        return Ok(());
    }
    writer.write_only(
        field,
        &need(find, field, "memory", "memory.oom_control")?,
        if disable { "1" } else { "0" },
    )
}

fn set_cpu(find: Find<'_>, cpu: &LinuxCpu, writer: &mut Writer) -> Result<(), Error> {
    let file = |field: &str, name: &str| need(find, field, "cpu", name);
    // The weight of a group that is idle cannot be set: out of that state first, into it last.
    let idle = |writer: &mut Writer, idle: i64| {
        writer.write("cpu.idle", &file("cpu.idle", "cpu.idle")?, &idle.to_string())
    };
    if let Some(value) = cpu.idle().filter(|i| *i == 0) {
        idle(writer, value)?;
    }
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        writer.write("cpu.shares", &file("cpu.shares", "cpu.shares")?, &shares.to_string())?;
    }
    if let Some(value) = cpu.idle().filter(|i| *i != 0) {
        idle(writer, value)?;
    }
    set_bandwidth(find, cpu, writer)?;
    let (period, runtime) =
        (cpu.realtime_period().filter(|p| *p != 0), cpu.realtime_runtime().filter(|r| *r != 0));
    if let Some(period) = period {
        let field = "cpu.realtimePeriod";
        writer.write(field, &file(field, "cpu.rt_period_us")?, &period.to_string())?;
    }
    if let Some(runtime) = runtime {
        let field = "cpu.realtimeRuntime";
        writer.write(field, &file(field, "cpu.rt_runtime_us")?, &runtime.to_string())?;
    }
    for (value, field, name) in
        [(cpu.cpus(), "cpu.cpus", "cpuset.cpus"), (cpu.mems(), "cpu.mems", "cpuset.mems")]
    {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            writer.write(field, &need(find, field, "cpuset", name)?, value)?;
        }
    }
    Ok(())
}

/// Period, burst and quota. Each is checked against the others as they are at the moment, so one that the old quota does not
/// fit is tried again once the new one is set.
fn set_bandwidth(find: Find<'_>, cpu: &LinuxCpu, writer: &mut Writer) -> Result<(), Error> {
    let quota = cpu.quota().filter(|q| *q != 0);
    let mut waiting = Vec::new();
    let asked = [
        ("cpu.period", "cpu.cfs_period_us", cpu.period().filter(|p| *p != 0)),
        ("cpu.burst", "cpu.cfs_burst_us", cpu.burst()),
    ];
    for (field, name, value) in asked {
        let Some(value) = value else { continue };
        let (path, value) = (need(find, field, "cpu", name)?, value.to_string());
        match writer.write(field, &path, &value) {
            Err(Error::Limit { source, .. }) if quota.is_some() && super::limits::is_invalid(&source) => {
                waiting.push((field, path, value));
            }
            other => other?,
        }
    }
    if let Some(quota) = quota {
        writer.write(
            "cpu.quota",
            &need(find, "cpu.quota", "cpu", "cpu.cfs_quota_us")?,
            &quota.to_string(),
        )?;
    }
    waiting.iter().try_for_each(|(field, path, value)| writer.write(field, path, value))
}

/// Quota (below zero for none) and period as they are.
pub(super) fn bandwidth(directory: &Path) -> (Option<i64>, Option<u64>) {
    let value = |name: &str| read(&directory.join(name)).ok();
    let quota = value("cpu.cfs_quota_us").and_then(|text| text.trim().parse().ok());
    (quota, value("cpu.cfs_period_us").and_then(|text| text.trim().parse().ok()))
}

fn set_block_io(find: Find<'_>, block_io: &LinuxBlockIo, writer: &mut Writer) -> Result<(), Error> {
    // The weight belongs to the scheduler: CFQ has gone from the kernel, its successor BFQ has a file of its own name.
    let weight_file = |field: &str, names: &[&str]| -> Result<PathBuf, Error> {
        let directory = need(find, field, "blkio", "")?;
        let found = names.iter().map(|name| directory.join(name)).find(|path| path.exists());
        found.ok_or_else(|| Error::Unsupported(format!("linux.resources.{field} on this host")))
    };
    if let Some(weight) = block_io.weight().filter(|w| *w != 0) {
        let field = "blockIO.weight";
        let path = weight_file(field, &["blkio.weight", "blkio.bfq.weight"])?;
        writer.write(field, &path, &weight.to_string())?;
    }
    if let Some(weight) = block_io.leaf_weight().filter(|w| *w != 0) {
        let field = "blockIO.leafWeight";
        writer.write(field, &weight_file(field, &["blkio.leaf_weight"])?, &weight.to_string())?;
    }
    for device in block_io.weight_device().iter().flatten() {
        let key = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            let field = "blockIO.weightDevice";
            let path = weight_file(field, &["blkio.weight_device", "blkio.bfq.weight_device"])?;
            writer.write_entry(field, &path, &key, &weight.to_string(), "0")?;
        }
        if let Some(weight) = device.leaf_weight().filter(|w| *w != 0) {
            let field = "blockIO.weightDevice.leafWeight";
            let path = weight_file(field, &["blkio.leaf_weight_device"])?;
            writer.write_entry(field, &path, &key, &weight.to_string(), "0")?;
        }
    }
    let throttles = [
        (block_io.throttle_read_bps_device(), "blockIO.throttleReadBpsDevice", "read_bps"),
        (block_io.throttle_write_bps_device(), "blockIO.throttleWriteBpsDevice", "write_bps"),
        (block_io.throttle_read_iops_device(), "blockIO.throttleReadIOPSDevice", "read_iops"),
        (block_io.throttle_write_iops_device(), "blockIO.throttleWriteIOPSDevice", "write_iops"),
    ];
    for (devices, field, name) in throttles {
        for device in devices.iter().flatten() {
            let path = need(find, field, "blkio", &format!("blkio.throttle.{name}_device"))?;
            let key = format!("{}:{}", device.major(), device.minor());
            writer.write_entry(field, &path, &key, &device.rate().to_string(), "0")?;
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

/// Thaws the group and all those made below it: one that was frozen by itself stays so when only the one above is thawed.
pub(super) fn thaw_all(directory: &Path) -> Result<(), Error> {
    tree::for_each(directory, thaw).on("thaw", directory)
}

fn thaw(group: &OwnedFd) -> io::Result<()> {
    let thawed = fsx::open_at(group, "freezer.state", OFlags::RDWR, Mode::empty()).and_then(|state| {
        let mut state = File::from(state);
        let mut text = String::new();
        state.read_to_string(&mut text)?;
        if text.trim() == "THAWED" { Ok(()) } else { sys::proc::write_once(&state, b"THAWED") }
    });
    thawed.or_else(|error| if super::is_gone(&error) { Ok(()) } else { Err(error) })
}

pub(super) fn is_frozen(directory: &Path) -> Result<bool, Error> {
    let file = directory.join("freezer.state");
    match fs::read_to_string(&file) {
        Ok(state) => Ok(state.trim() != "THAWED"),
        Err(error) if super::is_gone(&error) => Ok(false),
        Err(error) => Err(error).on("read", &file),
    }
}
