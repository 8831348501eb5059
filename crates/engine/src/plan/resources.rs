//! The limits of a container's cgroup.

use std::collections::BTreeMap;

use api::container::{HostConfig, Resources, ThrottleDevice};
use oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

use super::{Resolved, built, devices, realtime, unsigned};
use crate::error::{Error, Result};
use crate::host::Host;

/// The period in which `--cpus` is counted, in microseconds, as in Docker.
const CPU_PERIOD_US: i64 = 100_000;
const NANOS: i64 = 1_000_000_000;

/// Numbers of devices by path.
type Blocks = BTreeMap<String, (u32, u32)>;

pub(super) fn plan(host: &HostConfig, machine: &Host, resolved: &Resolved) -> Result<LinuxResources> {
    let mut resources = limits(&host.resources, machine, &resolved.blocks)?;
    // A new group has none.
    if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        resources.set_pids(None);
    }
    resources.set_devices(Some(devices::rules(host, &resolved.devices)?));
    Ok(resources)
}

/// All but the devices.
pub(super) fn limits(limits: &Resources, machine: &Host, blocks: &Blocks) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources
        .set_devices(None)
        .set_memory(memory(limits, machine)?)
        .set_cpu(cpu(limits, machine)?)
        .set_pids(pids(limits))
        .set_block_io(block_io(limits, blocks)?);
    Ok(resources)
}

fn memory(limits: &Resources, machine: &Host) -> Result<Option<LinuxMemory>> {
    let mut memory = LinuxMemory::default();
    if limits.memory > 0 {
        memory.set_limit(Some(limits.memory));
    }
    if limits.memory_reservation > 0 {
        memory.set_reservation(Some(limits.memory_reservation));
    }
    if machine.swap_limit && limits.memory > 0 {
        let swap = match limits.memory_swap {
            // Nothing said: as much swap as memory.
            0 => limits.memory.saturating_mul(2),
            given => given,
        };
        memory.set_swap(Some(swap));
    }
    if let Some(swappiness) = limits.memory_swappiness.filter(|value| *value != -1) {
        // The unified hierarchy has no such thing, and refuses it.
        if machine.cgroup_version == 2 {
            return Err(Error::invalid("memory swappiness is not supported by cgroup v2"));
        }
        memory.set_swappiness(Some(unsigned("memory swappiness", swappiness)?));
    }
    if limits.oom_kill_disable == Some(true) && machine.cgroup_version != 2 {
        memory.set_disable_oom_killer(Some(true));
    }
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

fn cpu(limits: &Resources, machine: &Host) -> Result<Option<LinuxCpu>> {
    let mut cpu = LinuxCpu::default();
    realtime::check(limits, machine)?;
    if limits.cpu_realtime_period != 0 {
        cpu.set_realtime_period(Some(unsigned("cpu real-time period", limits.cpu_realtime_period)?));
    }
    if limits.cpu_realtime_runtime != 0 {
        cpu.set_realtime_runtime(Some(limits.cpu_realtime_runtime));
    }
    if limits.cpu_shares > 0 {
        cpu.set_shares(Some(unsigned("cpu shares", limits.cpu_shares)?));
    }
    if limits.nano_cpus > 0 {
        let quota = i128::from(limits.nano_cpus) * i128::from(CPU_PERIOD_US) / i128::from(NANOS);
        cpu.set_period(Some(unsigned("cpu period", CPU_PERIOD_US)?));
        cpu.set_quota(Some(i64::try_from(quota).unwrap_or(i64::MAX)));
    }
    if limits.cpu_period != 0 {
        cpu.set_period(Some(unsigned("cpu period", limits.cpu_period)?));
    }
    if limits.cpu_quota != 0 {
        cpu.set_quota(Some(limits.cpu_quota));
    }
    sets(limits)?;
    let set = |text: &String| (!text.is_empty()).then(|| text.clone());
    cpu.set_cpus(set(&limits.cpuset_cpus)).set_mems(set(&limits.cpuset_mems));
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

/// Refuses what is no list of numbers, in Docker's words.
pub fn sets(limits: &Resources) -> Result<()> {
    for (text, what) in [(&limits.cpuset_cpus, "cpuset cpus"), (&limits.cpuset_mems, "cpuset mems")] {
        if !is_list(text) {
            return Err(Error::invalid(format!("invalid value {text} for {what}")));
        }
    }
    Ok(())
}

/// Refuses processors and memory nodes that the machine does not have, in Docker's words.
pub fn available(limits: &Resources) -> Result<()> {
    for (text, file, what) in
        [(&limits.cpuset_cpus, "cpu", "CPUs"), (&limits.cpuset_mems, "node", "memory nodes")]
    {
        if text.is_empty() {
            continue;
        }
        // Without nodes the kernel says what is wrong, when it is started.
        let Ok(online) = std::fs::read_to_string(format!("/sys/devices/system/{file}/online")) else {
            continue;
        };
        let online = online.trim();
        if !ranges(text).all(|wanted| ranges(online).any(|range| range.0 <= wanted.0 && wanted.1 <= range.1))
        {
            return Err(Error::invalid(format!(
                "Requested {what} are not available - requested {text}, available: {online}"
            )));
        }
    }
    Ok(())
}

/// The ranges of a list of numbers, each with its first and its last.
fn ranges(list: &str) -> impl Iterator<Item = (u32, u32)> {
    let number = |text: &str| text.parse().unwrap_or(u32::MAX);
    list.split(',').map(move |part| match part.split_once('-') {
        Some((first, last)) => (number(first), number(last)),
        None => (number(part), number(part)),
    })
}

/// `0-2,7`, or nothing.
fn is_list(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    text.is_empty()
        || text.split(',').all(|part| match part.split_once('-') {
            Some((first, last)) => number(first) && number(last),
            None => number(part),
        })
}

/// 0 and -1 are no limit, and take one away; nothing leaves it as it is.
fn pids(limits: &Resources) -> Option<LinuxPids> {
    limits.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(if limit > 0 { limit } else { -1 });
        pids
    })
}

fn block_io(limits: &Resources, blocks: &Blocks) -> Result<Option<LinuxBlockIo>> {
    let mut block = LinuxBlockIo::default();
    if limits.blkio_weight > 0 {
        block.set_weight(Some(limits.blkio_weight));
    }
    let mut weights = Vec::new();
    for asked in &limits.blkio_weight_device {
        if asked.weight != 0 && !(10..=1000).contains(&asked.weight) {
            return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
        }
        let (major, minor) = numbers(&asked.path, blocks)?;
        let weight = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(asked.weight);
        weights.push(built(weight.build())?);
    }
    if !weights.is_empty() {
        block.set_weight_device(Some(weights));
    }
    block
        .set_throttle_read_bps_device(throttles(&limits.blkio_device_read_bps, blocks)?)
        .set_throttle_write_bps_device(throttles(&limits.blkio_device_write_bps, blocks)?)
        .set_throttle_read_iops_device(throttles(&limits.blkio_device_read_iops, blocks)?)
        .set_throttle_write_iops_device(throttles(&limits.blkio_device_write_iops, blocks)?);
    Ok((block != LinuxBlockIo::default()).then_some(block))
}

fn throttles(asked: &[ThrottleDevice], blocks: &Blocks) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    if asked.is_empty() {
        return Ok(None);
    }
    let convert = |limit: &ThrottleDevice| {
        let (major, minor) = numbers(&limit.path, blocks)?;
        built(LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(limit.rate).build())
    };
    asked.iter().map(convert).collect::<Result<_>>().map(Some)
}

fn numbers(path: &str, blocks: &Blocks) -> Result<(i64, i64)> {
    let (major, minor) =
        blocks.get(path).ok_or_else(|| Error::invalid(format!("stat {path}: no such file or directory")))?;
    Ok((i64::from(*major), i64::from(*minor)))
}
