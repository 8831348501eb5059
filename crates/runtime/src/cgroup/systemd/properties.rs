//! What systemd is to know of a container's limits, so that it does not set others when it looks at its units again.

use std::fs;

use oci::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxPids, LinuxResources};

use super::super::devices::{self, Rule, letters};
use super::super::v2;
use crate::dbus::Value;
use crate::error::Error;

/// A property and its value.
pub(super) type Property = (String, Value);

/// The word of systemd for "no limit".
const INFINITY: u64 = u64::MAX;

/// The versions that brought properties.
const HAS_QUOTA_PERIOD: u32 = 242;
const HAS_ALLOWED_CPUS: u32 = 244;
const HAS_IDLE_WEIGHT: u32 = 252;

/// What it takes to put limits in systemd's words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    /// Whether controllers are those of version 2.
    pub(super) unified: bool,
    /// Systemd's version.
    pub(super) version: u32,
}

/// Whether there are limits whose words depend on systemd's version.
pub(super) fn needs_version(resources: &LinuxResources) -> bool {
    resources.cpu().is_some() || resources.unified().is_some()
}

fn add(list: &mut Vec<Property>, name: &str, value: Value) {
    list.push((name.to_owned(), value));
}

/// A limit of ours in systemd's words: below zero is none.
fn limit(value: i64) -> Value {
    Value::U64(u64::try_from(value).unwrap_or(INFINITY))
}

/// Limits but for that on processes, which [`tasks`] has.
pub(super) fn limits(resources: &LinuxResources, host: Host) -> Result<Vec<Property>, Error> {
    let mut list = Vec::new();
    if let Some(memory) = resources.memory() {
        let (max, swap) = (memory.limit().filter(|l| *l != 0), memory.swap().filter(|s| *s != 0));
        if let Some(max) = max {
            add(&mut list, if host.unified { "MemoryMax" } else { "MemoryLimit" }, limit(max));
        }
        if host.unified {
            if let Some(low) = memory.reservation().filter(|r| *r != 0) {
                add(&mut list, "MemoryLow", limit(low));
            }
            match (max, swap) {
                (Some(-1), None) => add(&mut list, "MemorySwapMax", limit(-1)),
                (_, Some(sum)) if sum < 0 => add(&mut list, "MemorySwapMax", limit(-1)),
                (Some(max), Some(sum)) if max > 0 && sum >= max => {
                    add(&mut list, "MemorySwapMax", limit(sum - max));
                }
                // That goes to the file only, or is refused there.
                _ => {}
            }
        }
    }
    if let Some(cpu) = resources.cpu() {
        processor(&mut list, cpu, host)?;
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(LinuxBlockIo::weight).filter(|w| *w != 0) {
        let (name, weight) = if host.unified {
            ("IOWeight", v2::io_weight("blockIO.weight", weight)?)
        } else {
            ("BlockIOWeight", weight.into())
        };
        add(&mut list, name, Value::U64(weight));
    }
    for (name, value) in resources.unified().iter().flatten() {
        unified(&mut list, name, value.trim(), host)?;
    }
    Ok(list)
}

/// The limit on processes.
pub(super) fn tasks(resources: &LinuxResources) -> Option<Property> {
    let value = match resources.pids().as_ref().map(LinuxPids::limit) {
        Some(pids) if pids > 0 => limit(pids),
        Some(_) => limit(-1),
        None => match resources.unified().as_ref()?.get("pids.max")?.trim() {
            "max" => limit(-1),
            number => Value::U64(number.parse().ok()?),
        },
    };
    Some(("TasksMax".to_owned(), value))
}

fn processor(list: &mut Vec<Property>, cpu: &LinuxCpu, host: Host) -> Result<(), Error> {
    let shares = cpu.shares().filter(|s| *s != 0);
    if host.unified && cpu.idle() == Some(1) && host.version >= HAS_IDLE_WEIGHT {
        add(list, "CPUWeight", Value::U64(0));
    } else if let Some(shares) = shares {
        let (name, value) =
            if host.unified { ("CPUWeight", v2::weight_of_shares(shares)) } else { ("CPUShares", shares) };
        add(list, name, Value::U64(value));
    }
    quota(list, cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0), host);
    if host.unified && host.version >= HAS_ALLOWED_CPUS {
        for (value, name) in [(cpu.cpus(), "AllowedCPUs"), (cpu.mems(), "AllowedMemoryNodes")] {
            if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
                add(list, name, mask(value)?);
            }
        }
    }
    Ok(())
}

/// Systemd knows the quota per second, in hundredths of a processor: rounded up, so that the exact one fits below it.
fn quota(list: &mut Vec<Property>, quota: i64, period: u64, host: Host) {
    const PERIOD_DEFAULT: u64 = 100_000;
    const HUNDREDTH: u64 = 10_000;
    if period != 0 && host.version >= HAS_QUOTA_PERIOD {
        add(list, "CPUQuotaPeriodUSec", Value::U64(period));
    }
    if quota != 0 {
        let period = if period == 0 { PERIOD_DEFAULT } else { period };
        let per_second = match u64::try_from(quota) {
            Ok(quota) => (quota.saturating_mul(1_000_000) / period).next_multiple_of(HUNDREDTH),
            Err(_) => INFINITY,
        };
        add(list, "CPUQuotaPerSecUSec", Value::U64(per_second));
    }
}

/// The most processors or memory nodes that a list can name: more than the kernel can be built for.
const LISTED_MAX: usize = 8192;

/// A list like `0-3,7` as the bytes of a mask, the lowest first.
fn mask(list: &str) -> Result<Value, Error> {
    let invalid =
        || Error::Invalid(format!("linux.resources.cpu: {list:?} is no list of processors or nodes"));
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < LISTED_MAX);
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(invalid()) };
        if first > last {
            return Err(invalid());
        }
        if bytes.len() <= last / 8 {
            bytes.resize(last / 8 + 1, 0);
        }
        (first..=last).for_each(|n| bytes[n / 8] |= 1 << (n % 8));
    }
    Ok(Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()))
}

/// Files of version 2 that systemd has a property for. What is wrong with a value is for the kernel to say.
fn unified(list: &mut Vec<Property>, name: &str, value: &str, host: Host) -> Result<(), Error> {
    let property = match name {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" | "cpuset.mems" if host.version >= HAS_ALLOWED_CPUS => {
            let name = if name == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            add(list, name, mask(value)?);
            return Ok(());
        }
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let max = words.next().and_then(|word| if word == "max" { Some(-1) } else { word.parse().ok() });
            let period = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            quota(list, max.unwrap_or(0), period, host);
            return Ok(());
        }
        "cpu.idle" if value == "1" && host.version >= HAS_IDLE_WEIGHT => {
            add(list, "CPUWeight", Value::U64(0));
            return Ok(());
        }
        _ => return Ok(()),
    };
    let value = if value == "max" { Some(INFINITY) } else { value.parse().ok() };
    if let Some(value) = value {
        add(list, property, Value::U64(value));
    }
    Ok(())
}

/// Device rules. What systemd has no word for it is told more loosely of with version 2, where our own program decides as well, and
/// not at all with version 1, where what it sets is what is so after it has been reloaded.
pub(super) fn device_rules(configured: &[LinuxDeviceCgroup], host: Host) -> Result<Vec<Property>, Error> {
    let rules = devices::rules(configured)?;
    let open = rules.first().is_some_and(Rule::allows);
    let known = fs::read_to_string("/proc/devices").unwrap_or_default();
    let entry =
        |(path, access): (String, u8)| Value::Struct(vec![Value::Text(path), Value::Text(letters(access))]);
    let allowed = if open { Vec::new() } else { allowed(&rules, &known, host.unified) };
    Ok(vec![
        ("DevicePolicy".to_owned(), Value::text(if open { "auto" } else { "strict" })),
        // Those of before go first.
        ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), Vec::new())),
        ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), allowed.into_iter().map(entry).collect())),
    ])
}

fn allowed(rules: &[Rule], known: &str, loosely: bool) -> Vec<(String, u8)> {
    let mut allowed: Vec<(String, u8)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.allows()) {
        let kind = if rule.block == Some(true) { "block" } else { "char" };
        let path = match (rule.major, rule.minor) {
            (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
            (None, None) => Some(format!("{kind}-*")),
            (Some(major), None) => driver(known, kind, major).map(|name| format!("{kind}-{name}")),
            (None, Some(_)) => None,
        };
        let path = path.or_else(|| loosely.then(|| format!("{kind}-*")));
        let Some(path) = path else { continue };
        match allowed.iter_mut().find(|(other, _)| *other == path) {
            Some((_, access)) => *access |= rule.access,
            None => allowed.push((path, rule.access)),
        }
    }
    allowed
}

/// The driver that has a major number, in the words of `/proc/devices`.
fn driver<'a>(known: &'a str, kind: &str, major: u32) -> Option<&'a str> {
    let heading = if kind == "block" { "Block devices:" } else { "Character devices:" };
    let section = known.lines().skip_while(|line| *line != heading).skip(1);
    let mut lines =
        section.take_while(|line| !line.is_empty()).filter_map(|line| line.trim().split_once(' '));
    lines.find(|(number, _)| number.parse() == Ok(major)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const V2: Host = Host { unified: true, version: 252 };
    const V1: Host = Host { unified: false, version: 252 };

    fn of(resources: serde_json::Value, host: Host) -> Vec<(String, Value)> {
        limits(&serde_json::from_value(resources).unwrap(), host).unwrap()
    }

    fn named(list: &[(&str, Value)]) -> Vec<(String, Value)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn limits_in_the_words_of_systemd() {
        let resources = json!({
            "memory": {"limit": 100, "swap": 150, "reservation": 50},
            "cpu": {"shares": 1024, "quota": 12_345, "period": 50_000, "cpus": "0-1,9"},
        });
        assert_eq!(
            of(resources.clone(), V2),
            named(&[
                ("MemoryMax", Value::U64(100)),
                ("MemoryLow", Value::U64(50)),
                ("MemorySwapMax", Value::U64(50)),
                ("CPUWeight", Value::U64(100)),
                ("CPUQuotaPeriodUSec", Value::U64(50_000)),
                ("CPUQuotaPerSecUSec", Value::U64(250_000)),
                ("AllowedCPUs", Value::Array("y".into(), vec![Value::Byte(3), Value::Byte(2)])),
            ])
        );
        assert_eq!(
            of(resources, V1),
            named(&[
                ("MemoryLimit", Value::U64(100)),
                ("CPUShares", Value::U64(1024)),
                ("CPUQuotaPeriodUSec", Value::U64(50_000)),
                ("CPUQuotaPerSecUSec", Value::U64(250_000)),
            ])
        );
        assert_eq!(
            of(json!({"memory": {"limit": -1}, "cpu": {"quota": -1, "idle": 1}}), V2),
            named(&[
                ("MemoryMax", Value::U64(u64::MAX)),
                ("MemorySwapMax", Value::U64(u64::MAX)),
                ("CPUWeight", Value::U64(0)),
                ("CPUQuotaPerSecUSec", Value::U64(u64::MAX)),
            ])
        );
    }

    #[test]
    fn files_of_version_2_in_the_words_of_systemd() {
        let one = |name: &str, value: &str| of(json!({"unified": {name: value}}), V2);
        assert_eq!(one("memory.high", "max"), named(&[("MemoryHigh", Value::U64(u64::MAX))]));
        assert_eq!(
            one("cpu.max", "5000 10000"),
            named(
                &[("CPUQuotaPeriodUSec", Value::U64(10_000)), ("CPUQuotaPerSecUSec", Value::U64(500_000)),]
            )
        );
        assert_eq!(one("io.max", "8:0 rbps=1"), []);
        let tasks_of = |resources| tasks(&serde_json::from_value(resources).unwrap());
        assert_eq!(tasks_of(json!({"pids": {"limit": 5}})), Some(("TasksMax".into(), Value::U64(5))));
        assert_eq!(tasks_of(json!({"pids": {"limit": 0}})), Some(("TasksMax".into(), Value::U64(u64::MAX))));
        assert_eq!(tasks_of(json!({"unified": {"pids.max": "7"}})), Some(("TasksMax".into(), Value::U64(7))));
        assert_eq!(tasks_of(json!({})), None);
    }

    #[test]
    fn lists_of_processors() {
        for wrong in ["x", "1-", "3-1", "9999", "-1"] {
            assert!(mask(wrong).is_err(), "{wrong}");
        }
        assert_eq!(mask("").unwrap(), Value::Array("y".into(), vec![]));
    }

    #[test]
    fn device_rules_in_the_words_of_systemd() {
        let known = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  1 ramdisk\n  8 sd\n";
        let json = json!([
            {"allow": true, "type": "b", "major": 8, "access": "r"},
            {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"},
            {"allow": true, "type": "c", "major": 99, "access": "r"},
        ]);
        let rules = devices::rules(&serde_json::from_value::<Vec<_>>(json).unwrap()).unwrap();
        let strictly = allowed(&rules, known, false);
        let has = |path: &str| strictly.iter().find(|(p, _)| p == path).map(|(_, access)| letters(*access));
        assert_eq!(has("block-sd").as_deref(), Some("r"));
        assert_eq!(has("/dev/char/10:200").as_deref(), Some("rw"));
        assert_eq!(has("/dev/char/1:3").as_deref(), Some("rwm"));
        assert_eq!(has("char-pts").as_deref(), Some("rwm"));
        assert_eq!(has("char-*").as_deref(), Some("m"), "no word for all of driver 99");
        let loosely = allowed(&rules, known, true);
        assert!(loosely.contains(&("char-*".to_owned(), devices::parse_letters("rm").unwrap())));
        let all = serde_json::from_value::<Vec<_>>(json!([{"allow": true, "access": "rwm"}])).unwrap();
        assert_eq!(device_rules(&all, V2).unwrap()[0].1, Value::text("auto"));
    }
}
